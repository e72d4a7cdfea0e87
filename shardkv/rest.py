"""Packs small collections that nobody has touched for a while.

A small dict or list costs many times the bytes of what it holds. So a shard goes round its slots, a few at a
time, and puts the collections of those at rest into one piece of memory each; the doors of the keyspace
unpack them again when they are touched. Where nothing has happened since the last round there is nothing to
do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from shardkv import clock
from shardkv.keyspace import Database
from shardkv.slots import SLOTS
from shardkv.values import Collection

if TYPE_CHECKING:
    from shardkv.shard import Shard

REST_S = 10
"""How long a slot must not have been touched."""

_ROUND_S = 5
"""Rounds do not begin more often: looking at all slots takes some ms."""

_SLOTS_AT_A_TIME = 64
_COLLECTIONS_AT_A_TIME = 32
"""So much is done between two looks at the clock."""


class Rest:
    """The rounds of one shard."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.packed = 0
        """Collections packed since the start."""
        self._round: Iterator[None] | None = None
        self._begun_s = -_ROUND_S

    def step(self, budget_s: float) -> bool:
        """Goes on with the round for about so many seconds, or begins one if something has been touched;
        whether it has more to do."""
        if self._round is None:
            if not any(db.has_collections for db in self.shard.databases.values()):
                return False
            if (
                self.shard.last_batch_s < self._begun_s - REST_S
                or self.shard.now_s < self._begun_s + _ROUND_S
            ):
                return False
            self._begun_s = self.shard.now_s
            self._round = self._go_round()
        until = clock.monotonic() + budget_s
        for _ in self._round:
            if clock.monotonic() >= until:
                return True
        self._round = None
        return False

    def _go_round(self) -> Iterator[None]:
        for db in list(self.shard.databases.values()):
            if not db.has_collections:
                continue
            for first in range(0, SLOTS, _SLOTS_AT_A_TIME):
                before_s = self.shard.now_s - REST_S
                for number in range(first, first + _SLOTS_AT_A_TIME):
                    if db.slots[number] and db.touched_s[number] <= before_s:
                        yield from self._pack(db, number)
                yield

    def _pack(self, db: Database, number: int) -> Iterator[None]:
        """Packs the collections of a slot, as long as nobody touches it."""
        slot, touched_s = db.slots[number], db.touched_s[number]
        keys = iter([key for key, value in slot.items() if isinstance(value, Collection)])
        while some := list(islice(keys, _COLLECTIONS_AT_A_TIME)):
            if db.slots[number] is not slot or db.touched_s[number] != touched_s:
                return
            for key in some:
                value = slot.get(key)
                if isinstance(value, Collection) and (packed := value.pack()) is not None:
                    slot[key] = packed
                    self.packed += 1
            yield
