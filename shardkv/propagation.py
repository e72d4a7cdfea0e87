"""What a shard's log says of the changes that commands make, and carrying out again what it says.

The log holds effects, as requests: a command's own request, or what it has said instead. Here they are only
collected; writing them is up to the journal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import hiredis

from shardkv import errors
from shardkv.aof.record import START_OF_FILE, record
from shardkv.command import Command, Handler, lookup
from shardkv.errors import CommandError
from shardkv.keyspace import Database, Observer
from shardkv.locks import Transaction
from shardkv.resp.replies import raw, resp2
from shardkv.slots import slot_of
from shardkv.wire import Batch, Reply

if TYPE_CHECKING:
    from shardkv.serving import Serving
    from shardkv.transactions import Late

COMMITTED = b"COMMIT"
PLEDGED = b"PREPARE"
"""What stands in the first place of a COMMIT that has logged something, and of a PREPARE that has pledged
something."""

TRANSACTION = b"tx="
"""The key of a batch that carries out a transaction; its number follows."""

Effects = list[tuple[int, list[Any]]]
"""Requests that the log is to hold, each with its database."""


_SELECT = b"*2\r\n$6\r\nSELECT\r\n"
_MULTI = record([b"MULTI"])
_EXEC = record([b"EXEC"])


class Propagation(ABC):
    """The side of a shard that knows its log."""

    ready: Collection[object]
    """Changed keys that somebody waits for."""
    serving: Serving

    def __init__(self) -> None:
        self.now_ms = self.now_s = self.loaded_s = 0
        self.dirty = 0
        """Changes made by the command that runs now."""
        self.changes_since_save = 0
        self.records: list[bytes] | None = None
        """Where the log of this batch is collected; None while there is no append-only file."""
        self.log_batch: Callable[[list[bytes], bytes], None] = self._log_batch
        """Logs records as a batch of their own, with keys (see shardkv.aof.batch)."""
        self._effects: Effects = []
        self.logged_db = START_OF_FILE
        """The database that the log has selected last."""
        self.together = False
        """Whether what is logged now will stand between MULTI and EXEC anyway."""
        self.refusal: bytes | None = None
        """Why writing commands are refused now, if they are."""
        self.standing_refusal: bytes | None = None
        """Why they are refused though the log can be written, if they are."""
        self.observers: list[Observer] = []
        self.replaying = False
        """Whether what happens has happened before, and only data is loaded."""
        self._replayed: dict[bytes, tuple[Handler, bool]] = {}

    @abstractmethod
    def database(self, index: int) -> Database:
        """The database of that number, made when first used."""

    @abstractmethod
    def tick(self) -> None:
        """Takes the time by which keys expire; it stands still while a batch runs."""

    # -- the log --------------------------------------------------------------------------------

    def propagate(self, db: Database, *args: Any) -> None:
        """Has the log say this instead of the running command's own request; may be called several times."""
        self._effects.append((db.index, list(args)))

    def propagate_removal(self, db: Database, key: bytes, fields: list[bytes] | None = None) -> None:
        """Logs the removal of an expired key, or of expired fields of a hash, ahead of what the running
        command logs."""
        if self.records is not None:
            self.append(db.index, [b"HDEL", key, *fields] if fields else [b"DEL", key])

    def log_change(self, db: Database, command: Command, args: list[Any]) -> None:
        """Logs what the command has changed: its own request, unless it has said something else."""
        self.changes_since_save += self.dirty
        self.dirty = 0
        records = self.records
        effects = self._effects
        args[0] = command.propagated_name
        if records is None:
            effects.clear()
        elif effects:
            as_one = len(effects) > 1 and not self.together
            if as_one:
                records.append(_MULTI)
            for index, effect in effects:
                self.append(index, effect)
            if as_one:
                records.append(_EXEC)
            effects.clear()
        elif not command.internal:
            if db.index == self.logged_db:
                records.append(record(args))
            else:
                self.append(db.index, args)
        if self.ready and not self.together:
            self.serving.serve()

    def append(self, index: int, args: list[Any]) -> None:
        """Logs a request for a database."""
        assert self.records is not None
        if index != self.logged_db:
            self.records.append(record([b"SELECT", b"%d" % index]))
            self.logged_db = index
        self.records.append(record(args))

    def start_of_file(self) -> None:
        """What is logged next must not rely on a database that is selected, as at the start of a file."""
        self.logged_db = START_OF_FILE

    def refuse_logged(self, batch: Batch, replies: list[Reply], *, only_pledges: bool = False) -> None:
        """Puts the refusal in the place of the replies of those requests of a batch that were to be logged,
        or of those that have pledged something."""
        assert self.refusal is not None
        for number, args in enumerate(batch):
            # A logged request has its name in the first place.
            if only_pledges and args[0] != PLEDGED:
                continue
            if isinstance(args[0], bytes) and replies[number] is not None:
                between_processes = args[0] in (COMMITTED, PLEDGED)
                refuse = raw if between_processes else resp2
                replies[number] = refuse(CommandError(self.refusal))

    def refuse_late(self, late: Late) -> Late:
        """The same for the reply of a request that had to wait."""
        if late.encode is None or self.refusal is None:
            return late
        return late._replace(reply=late.encode(CommandError(self.refusal)))

    def log_script(self, effects: Effects) -> None:
        """Has the log say what the script that is done now has changed."""
        self._effects = effects
        self.dirty = len(effects)

    def log_together(self, records: list[bytes], transaction: Transaction | None) -> None:
        """Logs records as one MULTI … EXEC; those of a transaction over several shards, even if there are
        none, as a batch with its number."""
        if self.records is None:
            return
        if len(records) > (2 if records and records[0].startswith(_SELECT) else 1):
            records = [_MULTI, *records, _EXEC]
        if transaction is not None:
            self.log_batch(records, TRANSACTION + b"%x" % transaction[1])
        else:
            self.records += records

    def _log_batch(self, records: list[bytes], keys: bytes) -> None:
        assert self.records is not None
        self.records += records

    # -- carrying it out again ------------------------------------------------------------------

    def rebuild(self, db: Database, requests: list[list[Any]]) -> None:
        """Runs requests that build keys anew, as `replay` does, where nothing expires; what to log of it and
        whom to tell is up to the caller."""
        observers, self.observers = self.observers, []
        now_ms, self.now_ms = self.now_ms, 0
        self._replay_db = db
        try:
            for args in requests:
                self.replay(list(args))
        finally:
            self.observers, self.now_ms = observers, now_ms

    def begin_replay(self) -> None:
        """Called before requests are replayed: nothing is logged, and nothing expires."""
        self.now_ms = self.now_s = 0
        self._replay_db = self.database(0)
        self.replaying = True

    def replay(self, args: list[Any]) -> None:
        """Runs a request from the append-only file. Raises CommandError if it cannot be run."""
        known = self._replayed.get(args[0])
        if known is None:
            known = self._learn(args)
            if known is None:
                return
        handler, one_key = known
        args[0] = slot_of(args[1]) if one_key else 0
        handler(self._replay_db, args)
        self._effects.clear()

    def _learn(self, args: list[Any]) -> tuple[Handler, bool] | None:
        """What a name in the log stands for; None if it was not a command for a database."""
        name = args[0].lower()
        if name == b"select":
            self._replay_db = self.database(int(args[1]))
            return None
        if name in (b"multi", b"exec"):
            return None
        command = lookup(args)
        if command is None or command.internal or not command.fits(len(args)):
            raise CommandError(errors.unknown_command(args[0], args[1:]))
        known = (command.handler, command.one_key)
        if command.container is None:
            self._replayed[args[0]] = known
        return known

    def end_replay(self) -> None:
        """The shard is loaded; its figures begin at zero."""
        self.replaying = False
        self.tick()
        self.last_batch_s = self.loaded_s = self.now_s
        self.dirty = self.hits = self.misses = self.expired_keys = 0

    def redo(self, records: bytes, transaction: Transaction) -> list[Reply]:
        """Carries out and logs what a transaction had done, as records, before the shard died."""
        reader = hiredis.Reader()
        reader.feed(records)
        now_ms, self.now_ms = self.now_ms, 0
        self._replay_db = self.database(0)
        while (args := reader.gets()) is not False:
            self.replay(args)
        self.now_ms = now_ms
        # Or the next command would be taken for having made these changes, and be logged even if it fails.
        self.changes_since_save += self.dirty
        self.dirty = 0
        self.log_together([_MULTI + records + _EXEC], transaction)
        self.start_of_file()
        return []
