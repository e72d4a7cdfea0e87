"""A pass over a shard's keyspace as it was at one moment, made in small slices while the shard goes on
working.

The pass goes through the databases slot by slot. A key that is about to change and has not been passed yet
is emitted first, as it still is; so what is emitted is the state at the moment the pass began, without a
fork and without a copy of the keyspace. A collection too large for one slice is copied when its turn (or its
change) comes, which is fast, and its copy is emitted bit by bit.

What is emitted of a key is up to the form: requests for an append-only file, records for an RDB file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from shardkv import clock
from shardkv.aof.record import record
from shardkv.keyspace import Database
from shardkv.slots import SLOTS
from shardkv.values import LARGE_COLLECTION, Collection, Value, recreate

_CHUNK_BYTES = 64 * 1024


class Form(Protocol):
    """How a pass writes down what it finds."""

    divides: bool
    """Whether something else may stand between the pieces of one key."""

    def select(self, index: int) -> bytes:
        """Says that what follows belongs to the database of that number."""

    def pieces(self, key: bytes, value: Value, expire_at_ms: int | None) -> Iterator[bytes]:
        """What is written for a key, bit by bit; the value does not change meanwhile."""


class Requests:
    """The form of an append-only file."""

    divides = True

    def select(self, index: int) -> bytes:
        return record([b"SELECT", b"%d" % index])

    def pieces(self, key: bytes, value: Value, expire_at_ms: int | None) -> Iterator[bytes]:
        return map(record, recreate(key, value, expire_at_ms))


REQUESTS = Requests()


class Walk:
    """One pass over some databases. `write` takes what is emitted, some tens of KiB at a time; each time it
    stands by itself, unless it goes on within a key (see `midway`)."""

    def __init__(
        self,
        databases: list[Database],
        write: Callable[[bytes], None],
        first: Iterable[bytes] = (),
        form: Form = REQUESTS,
    ) -> None:
        """`first` is emitted before any key."""
        self._databases = sorted(databases, key=lambda db: db.index)
        self._order = {id(db): number for number, db in enumerate(self._databases)}
        self._write = write
        self._form = form
        self._place = (0, -1)
        """The slot the pass is in: (number of the database, slot)."""
        self._remaining: dict[bytes, None] = {}
        """The keys of that slot that are still to be emitted."""
        self._early: dict[tuple[int, int], set[bytes]] = {}
        """Keys of slots still ahead that have changed, or come into being, since the pass began."""
        self._large: deque[tuple[Database, Collection, Iterator[bytes]]] = deque()
        """Copies of large collections, and what is still to be emitted of each."""
        self._records: list[bytes] = []
        self._bytes = 0
        self._selected = -1
        self.midway = False
        """Whether what `write` gets, or got last, ends within a key, in a form that does not divide."""
        self.keys = 0
        self.done = False
        for db in self._databases:
            db.join(self)
        for piece in first:
            self._add(0, piece)

    # -- changes --------------------------------------------------------------------------------

    def before_change(self, db: Database, slot: int, key: bytes) -> None:
        """Emits a key that is about to change, unless the pass has been there."""
        place = (self._order[id(db)], slot) if id(db) in self._order else (-1, -1)
        if place < self._place:
            return
        if place == self._place:
            if key in self._remaining:
                del self._remaining[key]
                self._emit(db, key, db.slots[slot][key])
            return
        early = self._early.setdefault(place, set())
        if key not in early:
            early.add(key)
            value = db.slots[slot].get(key)
            if value is not None:
                self._emit(db, key, value)

    # -- the pass -------------------------------------------------------------------------------

    def step(self, budget_s: float) -> bool:
        """Goes on for about so many seconds; whether the pass is complete."""
        until = clock.monotonic() + budget_s
        while not self.done:
            if self._large:
                self._emit_large()
            elif self._remaining:
                self._emit_remaining()
            elif not self._next_slot():
                self._flush()
                self.stop()
                self.done = True
            if clock.monotonic() >= until:
                break
        return self.done

    def stop(self) -> None:
        """Ends the pass, complete or not: changes are not watched any more."""
        for db in self._databases:
            db.leave(self)

    def _next_slot(self) -> bool:
        """Moves on to the next slot that holds keys; False at the end."""
        number, slot = self._place
        while number < len(self._databases):
            slots = self._databases[number].slots
            slot += 1
            while slot < SLOTS and not slots[slot]:
                slot += 1
            if slot < SLOTS:
                self._place = (number, slot)
                early = self._early.pop(self._place, set())
                self._remaining = {key: None for key in slots[slot] if key not in early}
                return True
            number, slot = number + 1, -1
        self._place = (number, -1)
        return False

    def _emit_remaining(self) -> None:
        """Emits some keys of the slot the pass is in."""
        number, slot = self._place
        db = self._databases[number]
        remaining, values = self._remaining, db.slots[slot]
        for _ in range(min(len(remaining), 50)):
            key, _nothing = remaining.popitem()
            self._emit(db, key, values[key])

    # -- records --------------------------------------------------------------------------------

    def _emit(self, db: Database, key: bytes, value: Value) -> None:
        self.keys += 1
        expire_at_ms = db.expires.get(key)
        if isinstance(value, Collection) and len(value) > LARGE_COLLECTION:
            copied = value.copy()
            self._large.append((db, copied, self._form.pieces(key, copied, expire_at_ms)))
            return
        self._add(db.index, b"".join(self._form.pieces(key, value, expire_at_ms)))

    def _emit_large(self) -> None:
        db, copied, pieces = self._large[0]
        piece = next(pieces, None)
        if piece is None:
            self._large.popleft()
            # If the key has changed since, this frees all that the copy held.
            db.shard.graveyard.append(copied)
            if self.midway:
                self.midway = False
                self._write(b"")
        elif self._form.divides:
            self._add(db.index, piece)
        else:
            if not self.midway:
                self._flush()
                self.midway = True
                piece = self._form.select(db.index) + piece
            self._write(piece)

    def _add(self, index: int, piece: bytes) -> None:
        if index != self._selected:
            self._records.append(self._form.select(index))
            self._selected = index
        self._records.append(piece)
        self._bytes += len(piece)
        # What has changed while a large collection is on its way waits until all of that is written.
        if self._bytes >= _CHUNK_BYTES and not self.midway:
            self._flush()

    def _flush(self) -> None:
        if self._records:
            self._write(b"".join(self._records))
            self._records.clear()
            self._bytes = 0
            self._selected = -1
