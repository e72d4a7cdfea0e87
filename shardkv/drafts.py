"""What a transaction has changed on a shard before it is known whether it will be carried out.

A transaction whose later steps depend on what its earlier ones have found (a script, an EXEC with commands
that go from shard to shard) changes the data at once, under its locks, so that it sees its own changes and
nobody else does. Until it is committed they are a draft: what is to be logged of them is kept apart, nobody
is told of them, and all can be undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shardkv.aof.record import START_OF_FILE
from shardkv.keyspace import Database
from shardkv.values import Value, copy

if TYPE_CHECKING:
    from shardkv.shard import Shard


class Draft:
    """The changes of one transaction on one shard."""

    def __init__(self, shard: Shard) -> None:
        self.records: list[bytes] = []
        """What is to be logged."""
        self.events: list[tuple[Database, bytes, str]] = []
        """The changes that others are to be told of: database, key, event."""
        self.messages: list[tuple[int, bytes, bytes]] = []
        """What is to be published: kind and name of a channel, and the message."""
        self.flushes = False
        """Whether clients that track keys have to hear that databases were emptied."""
        self._shard = shard
        self._logged_db = START_OF_FILE
        self._undo: list[Callable[[], None]] = []
        self._kept: set[tuple[int, bytes]] = set()
        """Keys, with the number of their database, whose value before is kept already."""
        self._emptied: list[Database] = []
        """What databases held that were emptied."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been changed."""
        return not (self.records or self.events or self.messages or self.flushes)

    @contextmanager
    def open(self) -> Iterator[None]:
        """While it lasts, what the shard changes goes into the draft."""
        shard = self._shard
        outer = shard.records, shard.logged_db, shard.observers
        shard.records, shard.logged_db, shard.observers = self.records, self._logged_db, [self._observe]
        shard.draft, shard.together = self, True
        for db in shard.databases.values():
            db.join(self)
        try:
            yield
        finally:
            for db in shard.databases.values():
                db.leave(self)
            self._logged_db = shard.logged_db
            shard.records, shard.logged_db, shard.observers = outer
            shard.draft, shard.together = None, False

    def publish(self) -> None:
        """Lets the changes count: tells those who want to hear of them, and lets go what is gone."""
        for content in self._emptied:
            self._shard.graveyard += content.clear()
        if self.flushes:
            self._shard.tracking.flushed()
        for db, key, event in self.events:
            self._shard.observe(db, key, event)
        for kind, channel, message in self.messages:
            self._shard.channels.publish(kind, channel, message)

    def undo(self) -> None:
        """Makes everything as it was."""
        while self._undo:
            self._undo.pop()()

    # -- changes --------------------------------------------------------------------------------

    def before_change(self, db: Database, slot: int, key: bytes) -> None:
        """Keeps the value of a key that is about to change for the first time."""
        name = (db.index, key)
        if name in self._kept:
            return
        self._kept.add(name)
        value = db.slots[slot].get(key)
        kept = None if value is None else copy(value)
        at_ms = db.expires.get(key)
        self._undo.append(lambda: _restore(db, slot, key, kept, at_ms))

    def empty(self, db: Database) -> None:
        """Empties a database, and keeps its content."""
        content = type(db)(self._shard, db.index)
        content.exchange(db)
        self._emptied.append(content)
        self._kept.clear()
        self._undo.append(lambda: _refill(db, content))

    def before_swap(self, one: Database, other: Database) -> None:
        """Keeps in mind that two databases are about to exchange their contents."""
        self._kept.clear()
        self._undo.append(lambda: one.exchange(other))

    def _observe(self, db: Database, key: bytes, event: str) -> None:
        self.events.append((db, key, event))


def _refill(db: Database, content: Database) -> None:
    db.exchange(content)
    if content.__class__ is not db.__class__:
        # What is kept of the use of keys is something else now.
        db.begin_marks()


def _restore(db: Database, slot: int, key: bytes, value: Value | None, at_ms: int | None) -> None:
    db.field_deadlines.remove(key)
    db.deadlines.remove(key)
    if value is None:
        db.slots[slot].pop(key, None)
        if db.marks:
            db.marks[slot].pop(key, None)
        return
    db.slots[slot][key] = value
    db.watch_fields(key, value)
    if at_ms is not None:
        db.deadlines.set(key, at_ms, db.shard.now_ms)
