"""Which clients wait for data of which keys of a shard, first come first served.

Pure bookkeeping. `look_at` is an observer of changed keys; it is installed only while anybody waits. A key
that somebody waits for and that has changed is ready: whoever runs commands then tries those again that wait
for it, in order.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shardkv.locks import LockKey, Transaction
from shardkv.slots import slot_of
from shardkv.values import Collection, Packed, Value

if TYPE_CHECKING:
    from shardkv.keyspace import Database


_NO_NEWS = "xgroup-setid"
"""A group that is set back may have entries before it that it has not read; as in Redis, who waits for them
hears of that with the next entry."""


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits."""

    identity: Transaction
    """(proxy, number), by which it can be withdrawn."""
    db: int
    keys: list[bytes]
    kind: type[Collection]
    """What has to come into being under one of the keys."""
    on_loss: bool = False
    """Whether it has to be tried again as well when a key is gone, or holds something of another kind."""
    request: Any = None
    """What its shard needs to try it again and to answer it."""
    places: list[LockKey] = field(init=False)

    def __post_init__(self) -> None:
        self.places = [(self.db, key) for key in dict.fromkeys(self.keys)]

    def is_for(self, value: Value | None) -> bool:
        """Whether it is to be tried again when a key of its own has this value now."""
        return self.on_loss or (value is not None and is_kind(value, self.kind))


def is_kind(value: Value, kind: type[Collection]) -> bool:
    """Whether a value is a collection of that kind, packed or not."""
    return value.__class__ is kind or (isinstance(value, Packed) and value.kind is kind)


class Waiters:
    """The waiting requests of one shard, in a queue for each key."""

    def __init__(self) -> None:
        self.ready: dict[LockKey, None] = {}
        """The keys that have changed since they were looked at, in the order of their changes."""
        self.on_loss: Counter[LockKey] = Counter()
        """How many of those that wait for a key want to know when it is gone."""
        self._queues: dict[LockKey, OrderedDict[Waiter, None]] = {}
        self._by_identity: dict[Transaction, Waiter] = {}

    def __len__(self) -> int:
        return len(self._by_identity)

    @property
    def keys(self) -> int:
        """How many keys are waited for."""
        return len(self._queues)

    def enter(self, waiter: Waiter) -> None:
        """A request begins to wait, behind all others."""
        self._by_identity[waiter.identity] = waiter
        for place in waiter.places:
            queue = self._queues.get(place)
            if queue is None:
                queue = self._queues[place] = OrderedDict()
            queue[waiter] = None
            if waiter.on_loss:
                self.on_loss[place] += 1

    def leave(self, waiter: Waiter) -> None:
        """A request no longer waits."""
        del self._by_identity[waiter.identity]
        for place in waiter.places:
            queue = self._queues[place]
            del queue[waiter]
            if not queue:
                del self._queues[place]
                self.ready.pop(place, None)
            if waiter.on_loss:
                self.on_loss[place] -= 1
                if not self.on_loss[place]:
                    del self.on_loss[place]

    def wait_for_any(self, places: list[LockKey]) -> bool:
        """Whether anybody waits for any of these keys."""
        return bool(self._queues) and not self._queues.keys().isdisjoint(places)

    def find(self, identity: Transaction) -> Waiter | None:
        """The waiting request of that identity, if it is there."""
        return self._by_identity.get(identity)

    def of_proxy(self, proxy: int) -> list[Waiter]:
        """The waiting requests of one proxy."""
        return [waiter for waiter in self._by_identity.values() if waiter.identity[0] == proxy]

    def of_slots(self, slots: frozenset[int]) -> list[Waiter]:
        """The requests that wait for keys of these slots, the first one first."""
        return [
            waiter
            for waiter in self._by_identity.values()
            if any(slot_of(key) in slots for key in waiter.keys)
        ]

    # -- changes --------------------------------------------------------------------------------

    def look_at(self, db: Database, key: bytes, event: str) -> None:
        """A key has changed."""
        place = (db.index, key)
        if place in self._queues and event != _NO_NEWS:
            self.ready[place] = None

    def look_at_all(self, db: int) -> None:
        """A database was emptied, or has other contents now."""
        self.ready.update(dict.fromkeys(place for place in self._queues if place[0] == db))

    def in_order(self, place: LockKey) -> Iterator[Waiter]:
        """Those who wait for a key, the first one first. They may leave meanwhile."""
        queue = self._queues.get(place)
        while queue:
            # As long as each is served, the queue is not copied, however long it is.
            waiter = next(iter(queue))
            yield waiter
            if waiter in queue:
                for waiter in list(queue)[1:]:
                    if waiter in queue:
                        yield waiter
                return
