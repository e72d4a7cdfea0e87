"""The way of each key from a source to where it is put, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.transfer.connection import TransferError
from proxy.transfer.sources import Source
from shardkv import limits
from shardkv.rdb.file_reader import Fact, Function, Key, Note, ValueRefused

_KEYS_BETWEEN_REPORTS = 512


@dataclass
class Summary:
    """What has come of a copy: keys by database, libraries, and what was left out.

    existing   keys that were there already and were left as they are
    expired    keys whose time was over
    refused    (database, key, why) of keys that could not be taken, as many as are named; refusals says how
               many there were
    notes      what else was passed over
    """

    keys: Counter[int] = field(default_factory=Counter)
    functions: int = 0
    expired: int = 0
    existing: int = 0
    refusals: int = 0
    refused: list[tuple[int, bytes, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether nothing was left out that is still of any worth."""
        return not self.refusals and not self.existing

    def refuse(self, db: int, key: bytes, why: str) -> None:
        """Takes down that a key could not be taken."""
        self.refusals += 1
        if len(self.refused) < limits.TRANSFER_NAMED_KEYS:
            self.refused.append((db, key, why))

    def add(self, other: Summary) -> None:
        """Takes in what has come of another part of the same copy, which sees all notes and libraries too."""
        self.keys += other.keys
        self.functions = max(self.functions, other.functions)
        self.expired += other.expired
        self.existing += other.existing
        self.refusals += other.refusals
        self.refused = (self.refused + other.refused)[: limits.TRANSFER_NAMED_KEYS]
        self.notes = list(dict.fromkeys(self.notes + other.notes))


@dataclass(frozen=True)
class Choice:
    """What of a source is taken.

    now_ms      keys that expire until then are left out
    only_db     the only database to take, None for all
    databases   how many databases there are room for
    skip        whether to go on after a key that cannot be taken
    """

    now_ms: int
    only_db: int | None = None
    databases: int = 16
    skip: bool = False


class Sink(Protocol):
    """Where keys are put."""

    def owns(self, key: bytes) -> bool:
        """Whether a key belongs here; another sink takes the others. It is asked before each `put`."""

    def put(self, key: Key, source: Source) -> None:
        """Puts a key, whose value the source gives. Raises ValueRefused."""

    def function(self, code: bytes) -> None:
        """Puts a library. Raises TransferError."""


def nothing(at: int) -> None:
    """A report that nobody wants."""


def copy(
    source: Source, sink: Sink, summary: Summary, choice: Choice, report: Callable[[int], None] = nothing
) -> None:
    """Puts everything from a source that is chosen into a sink. `report` is told now and then how far the
    source is.

    Raises TransferError, naming the key, at the first one that cannot be taken, unless such are skipped.
    """
    owns, put, keys = sink.owns, sink.put, summary.keys
    until_report = _KEYS_BETWEEN_REPORTS
    for event in source:
        if event.__class__ is Key:
            db, key, expire_at_ms, _, _ = event
            if not owns(key) or (choice.only_db is not None and db != choice.only_db):
                continue
            if expire_at_ms is not None and expire_at_ms <= choice.now_ms:
                summary.expired += 1
                continue
            try:
                if db >= choice.databases:
                    raise ValueRefused(f"there are only {choice.databases} databases")
                put(event, source)
            except ValueRefused as refusal:
                if not choice.skip:
                    raise TransferError(f"{_named(event)}: {refusal}") from None
                summary.refuse(db, key, str(refusal))
                continue
            keys[db] += 1
            until_report -= 1
            if not until_report:
                until_report = _KEYS_BETWEEN_REPORTS
                report(source.at)
        elif isinstance(event, Function):
            sink.function(event.code)
            summary.functions += 1
        elif isinstance(event, Note):
            summary.notes.append(event.text)
        else:
            assert isinstance(event, Fact | Key)
    report(source.total)


def _named(key: Key) -> str:
    place = f" at byte {key.at}" if key.at else ""
    return f"key {key.key!r:.200} of database {key.db}{place}"
