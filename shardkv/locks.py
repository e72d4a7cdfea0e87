"""Which keys of a shard are locked by transactions that span shards, and which requests wait for them.

Pure bookkeeping. A transaction locks keys, alone or shared with other readers; a request for a locked key
waits in arrival order. A later request that touches a key of a waiting one waits as well, so that a client's
requests are never run out of order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Group
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from shardkv.slots import slot_of

LockKey = tuple[int, bytes]
"""(database, key)"""

Transaction = tuple[int, int]
"""(proxy, number): the identity of a transaction."""


@dataclass
class Held:
    """What one transaction holds."""

    exclusive: bool
    whole: bool
    """The whole shard, whatever the keys."""
    keys: set[LockKey] = field(default_factory=set)


class Locks:
    """The locks of one shard, and the keys of the requests that wait for them."""

    def __init__(self) -> None:
        self.held: dict[Transaction, Held] = {}
        self._exclusive: dict[LockKey, Transaction] = {}
        self._shared: Counter[LockKey] = Counter()
        self._waiting: Counter[LockKey] = Counter()
        self._whole_waiting = 0
        self._whole_held = 0
        """How many hold the whole shard."""

    def __bool__(self) -> bool:
        """Whether any request must be looked at at all."""
        return bool(self.held) or bool(self._waiting) or self._whole_waiting > 0

    # -- requests -------------------------------------------------------------------------------

    def must_wait(self, keys: Group[LockKey], *, whole: bool, writes: bool) -> bool:
        """Whether a request for these keys (or for the whole shard) has to wait."""
        if self._whole_waiting or (whole and self._waiting):
            return True
        if self._whole_held and any(held.whole and (writes or held.exclusive) for held in self.held.values()):
            return True
        if whole:
            return any(writes or held.exclusive for held in self.held.values())
        exclusive, shared, waiting = self._exclusive, self._shared, self._waiting
        return any(key in exclusive or key in waiting or (writes and shared[key] > 0) for key in keys)

    def is_locked(self, keys: Group[LockKey], *, writes: bool) -> bool:
        """Whether a transaction is in the way of a request for these keys that came before all waiting
        requests."""
        exclusive, shared = self._exclusive, self._shared
        return any(held.whole and (writes or held.exclusive) for held in self.held.values()) or any(
            key in exclusive or (writes and shared[key] > 0) for key in keys
        )

    def concern(self, slots: frozenset[int]) -> bool:
        """Whether any key of these slots is locked or waited for, or the whole shard is."""
        if self._whole_waiting or any(held.whole for held in self.held.values()):
            return True
        names = chain(self._exclusive, self._shared, self._waiting)
        return any(slot_of(key) in slots for _, key in names)

    def enter(self, keys: Group[LockKey], *, whole: bool) -> None:
        """A request begins to wait."""
        self._waiting.update(keys)
        self._whole_waiting += whole

    def leave(self, keys: Group[LockKey], *, whole: bool) -> None:
        """A request no longer waits."""
        self._whole_waiting -= whole
        for key in keys:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    # -- transactions ---------------------------------------------------------------------------

    def lock_first(self, owner: Transaction, key: LockKey) -> None:
        """Locks a key alone, which no other has locked, for a transaction that came before all waiting
        requests."""
        held = self.held.setdefault(owner, Held(exclusive=True, whole=False))
        held.keys.add(key)
        self._exclusive[key] = owner

    def lock(self, owner: Transaction, keys: Group[LockKey], *, whole: bool, exclusive: bool) -> bool:
        """Locks keys, or the whole shard, for a transaction, on top of what it holds; all of them or none.

        False if another has any of them, or a request waits for one: it came first. But one that holds
        something here does not wait for requests, since those may be waiting for it.
        """
        mine = self.held.get(owner)
        if self._blocked(owner, keys, whole=whole, exclusive=exclusive):
            return False
        if mine is None:
            mine = self.held[owner] = Held(exclusive, whole=False)
        if whole and not mine.whole:
            mine.whole = True
            self._whole_held += 1
        for key in keys:
            if key in mine.keys:
                continue
            mine.keys.add(key)
            if mine.exclusive:
                self._exclusive[key] = owner
            else:
                self._shared[key] += 1
        return True

    def _blocked(self, owner: Transaction, keys: Group[LockKey], *, whole: bool, exclusive: bool) -> bool:
        ahead = owner in self.held
        if not ahead and (self._whole_waiting or (whole and self._waiting)):
            return True
        if (whole or self._whole_held) and any(
            holder != owner and (held.whole or whole) and (held.exclusive or exclusive)
            for holder, held in self.held.items()
        ):
            return True
        for key in keys:
            if (key in self._waiting and not ahead) or self._exclusive.get(key, owner) != owner:
                return True
            if exclusive and self._shared[key] > 0:
                return True
        return False

    def release(self, owner: Transaction) -> bool:
        """Gives up all that a transaction holds; whether it held anything."""
        held = self.held.pop(owner, None)
        if held is None:
            return False
        self._whole_held -= held.whole
        for key in held.keys:
            if held.exclusive:
                del self._exclusive[key]
                continue
            self._shared[key] -= 1
            if not self._shared[key]:
                del self._shared[key]
        return True

    def held_by(self, proxy: int) -> list[Transaction]:
        """The transactions of one proxy that hold locks here."""
        return [owner for owner in self.held if owner[0] == proxy]


def keys_of(db: int, args: list[Any], positions: list[int]) -> list[LockKey]:
    """The lock keys of a request, given the positions of its keys."""
    return [(db, args[position]) for position in positions]
