"""Packs small collections that nobody has touched for a while.

A small dict or list costs many times the bytes of what it holds. So a shard goes round its slots, a few at a
time, and puts the collections of those at rest into one piece of memory each; the doors of the keyspace
unpack them again when they are touched. Where nothing has happened since the last round there is nothing to
do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from shardkv import clock
from shardkv.keyspace import Database
from shardkv.slots import SLOTS
from shardkv.values import Collection

if TYPE_CHECKING:
    from shardkv.shard import Shard

REST_S = 10
"""How long a slot must not have been touched."""

_SLOTS_AT_A_TIME = 64


class Rest:
    """The rounds of one shard."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.packed = 0
        """Collections packed since the start."""
        self._round: Iterator[None] | None = None
        self._begun_s = -1

    def step(self, budget_s: float) -> None:
        """Goes on with the round for about so many seconds, or begins one if something has been touched."""
        if self._round is None:
            if not any(db.has_collections for db in self.shard.databases.values()):
                return
            if self.shard.last_batch_s < self._begun_s - REST_S:
                return
            self._begun_s = self.shard.now_s
            self._round = self._go_round()
        until = clock.monotonic() + budget_s
        for _ in self._round:
            if clock.monotonic() >= until:
                return
        self._round = None

    def _go_round(self) -> Iterator[None]:
        for db in list(self.shard.databases.values()):
            if not db.has_collections:
                continue
            for first in range(0, SLOTS, _SLOTS_AT_A_TIME):
                self._pack(db, first, first + _SLOTS_AT_A_TIME)
                yield

    def _pack(self, db: Database, first: int, end: int) -> None:
        before_s = self.shard.now_s - REST_S
        slots, touched_s = db.slots, db.touched_s
        for number in range(first, end):
            slot = slots[number]
            if slot and touched_s[number] <= before_s:
                for key, value in slot.items():
                    if isinstance(value, Collection) and (packed := value.pack()) is not None:
                        # Replacing the value of a key that is there does not disturb the iteration.
                        slot[key] = packed
                        self.packed += 1
