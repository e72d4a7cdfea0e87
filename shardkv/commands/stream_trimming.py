"""What XADD and XTRIM cut off a stream, and what deleting an entry does to the groups that know it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from shardkv import errors
from shardkv.errors import CommandError
from shardkv.limits import STREAM_REQUEST_IDS, STREAM_TRIMMED_ENTRIES, STREAM_TRIMMED_NODES
from shardkv.numbers import integer
from shardkv.structures.stream import Stream
from shardkv.structures.stream_id import GREATEST, LEAST, StreamID, parse


class References(enum.Enum):
    """What becomes of pending entries that are deleted (Redis 8.2)."""

    KEEP = b"KEEPREF"
    """They stay pending."""
    DELETE = b"DELREF"
    """They are no longer pending in any group."""
    ACKED = b"ACKED"
    """Only entries that all groups were given and have acknowledged are deleted."""


REFERENCES = {kind.value: kind for kind in References}

Requests = list[list[bytes]]


class Trim(NamedTuple):
    """What is to be cut off."""

    most: int | None
    """How many entries may remain; None if `least` counts."""
    least: StreamID
    """The least ID that may remain."""
    whole_nodes: bool
    limit: int
    """How many entries go at most, if only whole nodes go; 0 for any number."""
    references: References


@dataclass
class Options:
    """The options of an XADD or XTRIM, as they are read."""

    adding: bool
    make: bool = True
    """Whether XADD makes a stream where there is none."""
    _strategy: tuple[int | None, StreamID, bool] | None = None
    _limit: int | None = None
    _references: References | None = None

    def read(self, args: list[Any], at: int) -> int:
        """Reads the options from a place on; returns the place after them. Raises CommandError."""
        last = len(args) - 1
        while at <= last:
            option = args[at].upper()
            if option in (b"MAXLEN", b"MINID") and at < last:
                at = self._read_strategy(option, args, at + 1)
            elif option == b"LIMIT" and at < last:
                at += 1
                self._limit = _not_negative(args[at], errors.NEGATIVE_TRIM_LIMIT)
            elif option in REFERENCES and self._references is None:
                self._references = REFERENCES[option]
            elif option == b"NOMKSTREAM" and self.adding:
                self.make = False
            else:
                break
            at += 1
        return at

    def _read_strategy(self, option: bytes, args: list[Any], at: int) -> int:
        if self._strategy is not None:
            raise CommandError(errors.TRIMMED_TWICE)
        sign = args[at] if at + 1 < len(args) else b""
        if sign in (b"~", b"="):
            at += 1
        if option == b"MAXLEN":
            self._strategy = (_not_negative(args[at], errors.NEGATIVE_TRIM_MAXLEN), LEAST, sign == b"~")
        else:
            self._strategy = (None, parse(args[at]), sign == b"~")
        return at

    def trim(self, config: Any) -> Trim | None:
        """What was read, as a whole; None if nothing is to be cut off. Raises CommandError."""
        limit, strategy = self._limit, self._strategy
        if limit and strategy is None:
            raise CommandError(errors.LIMIT_WITHOUT_TRIM)
        if strategy is None and not self.adding:
            raise CommandError(errors.NO_TRIM_STRATEGY)
        if limit is not None and (strategy is None or not strategy[2]):
            raise CommandError(errors.LIMIT_OF_EXACT_TRIM)
        if strategy is None:
            return None
        if limit is None:
            limit = _usual_limit(config) if strategy[2] else 0
        return Trim(*strategy, limit, self._references or References.KEEP)


def _not_negative(text: bytes, error: bytes) -> int:
    number = integer(text)
    if number < 0:
        raise CommandError(error)
    return number


def _usual_limit(config: Any) -> int:
    """So many entries as some nodes may have."""
    limit = STREAM_TRIMMED_NODES * int(config.stream_node_max_entries)
    return min(limit, STREAM_TRIMMED_ENTRIES) if limit else STREAM_TRIMMED_NODES * 100


# -- trimming -----------------------------------------------------------------------------------


class Trimmed(NamedTuple):
    """What was cut off."""

    entries: int
    """How many."""
    arguments: list[bytes]
    """The options by which it is logged: none if the entries were not the first ones."""
    requests: Requests
    """What else is to be logged."""


def trim(key: bytes, stream: Stream, asked: Trim, config: Any) -> Trimmed:
    """Cuts entries off a stream.

    With `~` and DELREF or ACKED, what makes whole nodes is looked at (Redis 8.2 cuts nothing off then).
    """
    count = stream.excess(
        config, most=asked.most, least=asked.least, whole_nodes=asked.whole_nodes, limit=asked.limit
    )
    requests: Requests = []
    if asked.references is References.ACKED:
        acked = _acked_of(stream, asked, count)
        count = len(acked)
        if acked and acked != _first_ids(stream, count):
            for stream_id in acked:
                stream.delete(stream_id, config)
            return Trimmed(count, [], list(id_requests((b"XDEL", key), acked)))
    elif asked.references is References.DELETE and count:
        requests = forget(key, stream, _first_ids(stream, count))
    if not count:
        return Trimmed(0, [], [])
    stream.drop(count, config)
    return Trimmed(count, [b"MAXLEN", b"=", b"%d" % stream.length], requests)


def _acked_of(stream: Stream, asked: Trim, count: int) -> list[StreamID]:
    """What goes of the entries that no group needs any more, instead of the first so many entries."""
    entries: Iterator[StreamID] = (stream_id for stream_id, _ in stream)
    if asked.whole_nodes or asked.most is None:
        entries = islice(entries, count)
    return list(islice((stream_id for stream_id in entries if is_acked(stream, stream_id)), count))


def _first_ids(stream: Stream, count: int) -> list[StreamID]:
    return [stream_id for stream_id, _ in stream.between(LEAST, GREATEST, count)]


# -- references -----------------------------------------------------------------------------------


def is_acked(stream: Stream, stream_id: StreamID) -> bool:
    """Whether all groups were given an entry and have acknowledged it."""
    return all(group.has_done_with(stream_id) for group in stream.groups.values())


def forget(key: bytes, stream: Stream, stream_ids: Iterable[StreamID]) -> Requests:
    """Entries are no longer pending in any group; returns what is to be logged."""
    stream_ids = list(stream_ids)
    requests: Requests = []
    for name, group in stream.groups.items():
        if group.pending:
            requests += id_requests((b"XACK", key, name), filter(group.acknowledge, stream_ids))
    return requests


def id_requests(head: tuple[bytes, ...], stream_ids: Iterable[StreamID]) -> Iterator[list[bytes]]:
    """Requests that end in IDs, of which there may be many."""
    rest = iter(stream_ids)
    while some := list(islice(rest, STREAM_REQUEST_IDS)):
        yield [*head, *(b"%d-%d" % stream_id for stream_id in some)]
