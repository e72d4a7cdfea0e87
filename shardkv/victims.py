"""Which keys to evict, by the setting maxmemory-policy.

The keys of a shard are looked at in turn, some hundred at a time, from all databases in proportion to their
sizes. Of these, those that the policy finds the least worth keeping are evicted next, a tenth of them with
the default of maxmemory-samples: what is among the least used tenth of all keys goes when its turn comes. For
each key that costs far less than drawing a few keys at random each time, and it comes nearer to the order of
all keys.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from shardkv import limits
from shardkv.keyspace import Database
from shardkv.recency import CountedDatabase
from shardkv.slots import SLOTS, slot_of

if TYPE_CHECKING:
    from shardkv.shard import Shard

_STRIDE = 4973
"""From one slot to the next that is looked at: neighbours may have been filled together. Odd, so that it
leads to all of them."""


Candidate = tuple[int, int, bytes]
"""What a key is worth (see `Victim`), its slot, and the key."""


class Victim(NamedTuple):
    """A key that may go, and its mark (see shardkv.recency) when it was looked at."""

    db: Database
    slot: int
    key: bytes
    mark: int | None
    worth: int
    """The lower the sooner it goes: the time of its last use, the counter of its uses, its deadline, each in
    its own unit."""


class Victims:
    """What one shard evicts next, by the policy that is set when this is made."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.policy: str = shard.config.maxmemory_policy
        self._volatile = self.policy.startswith("volatile-")
        self._next: deque[Victim] = deque()
        self._walks: dict[int, Iterator[tuple[int, list[bytes]]]] = {}
        """Where in each database it is, by index."""

    def take(self) -> Victim | None:
        """The key that is to go next and is still what it was when it was looked at; None if there is none
        that may."""
        if self.policy == "noeviction":
            return None
        for trial in range(_TRIES + 1):
            while self._next:
                victim = self._next.popleft()
                if self._is_fit(victim):
                    return victim
            if trial < _TRIES:
                # Those that were found may all be locked: then more of them have to be taken.
                self._look_for_more(4**trial)
        return None

    def _is_fit(self, victim: Victim) -> bool:
        db, slot, key, mark, _ = victim
        if key not in db.slots[slot] or self.shard.databases.get(db.index) is not db:
            return False
        if self._volatile and key not in db.expires:
            return False
        if db.marks and db.marks[slot].get(key) != mark:
            return False
        return not self.shard.locks.must_wait([(db.index, key)], whole=False, writes=True)

    # -- looking --------------------------------------------------------------------------------

    def _look_for_more(self, factor: int) -> None:
        """Looks at the keys whose turn it is, and keeps those that are worth the least; so many times as many
        as usual."""
        count = limits.EVICTION_KEYS_LOOKED_AT
        candidates: list[tuple[int, int, bytes, int]] = []
        for index, its_count in self._counts(count).items():
            db = self.shard.databases[index]
            if self.policy == "volatile-ttl":
                found = [(db.expires[key], slot_of(key), key) for key in db.deadlines.soonest(its_count)]
            else:
                found = self._some(db, its_count)
            candidates += [(*one, index) for one in found]
        candidates.sort()
        share = max(1, len(candidates) * factor // (2 * self.shard.config.maxmemory_samples))
        for worth, slot, key, index in candidates[:share]:
            db = self.shard.databases[index]
            self._next.append(Victim(db, slot, key, db.marks[slot].get(key) if db.marks else None, worth))

    def _counts(self, count: int) -> dict[int, int]:
        """How many keys to look at in each database, by index: so many in all."""
        sizes = {
            index: len(db.expires) if self._volatile else db.sizes().keys
            for index, db in self.shard.databases.items()
        }
        total = sum(sizes.values())
        return {index: -(-count * size // total) for index, size in sizes.items() if size}

    def _some(self, db: Database, count: int) -> list[Candidate]:
        """About so many keys, those whose turn it is; fewer at the end of a round."""
        walk = self._walks.get(db.index)
        found: list[Candidate] = []
        while len(found) < count:
            if walk is None:
                if found:
                    break
                walk = self._walks[db.index] = _volatile_keys(db) if self._volatile else _all_keys(db)
            keys = next(walk, None)
            if keys is None:
                walk = None
                if self._walks.pop(db.index, None) is None or self._is_empty(db):
                    break
                continue
            found += self._judged(db, *keys)
        return found

    def _is_empty(self, db: Database) -> bool:
        return not (db.expires if self._volatile else any(db.slots))

    def _judged(self, db: Database, slot: int, keys: list[bytes]) -> list[Candidate]:
        """Keys of a slot, or of several if it is negative, and what each of them is worth."""
        if slot < 0:
            return [one for key in keys for one in self._judged(db, slot_of(key), [key])]
        if self.policy.endswith("-random"):
            return [(random.getrandbits(32), slot, key) for key in keys]
        if isinstance(db, CountedDatabase):
            frequency = db.frequency
            return [(frequency(key, slot), slot, key) for key in keys]
        used_ms, slot_used_ms = db.marks[slot].get, db.touched_s[slot] * 1000
        return [(used_ms(key, slot_used_ms), slot, key) for key in keys]


def _volatile_keys(db: Database) -> Iterator[tuple[int, list[bytes]]]:
    """The keys that have a deadline: slot by slot, or where they are few, of all slots together."""
    expires = db.expires
    if len(expires) * _FEW > db.sizes().keys:
        for slot, keys in _all_keys(db):
            yield slot, [key for key in keys if key in expires]
    else:
        for keys in _parts(list(expires)):
            yield -1, [key for key in keys if key in expires]


def _all_keys(db: Database) -> Iterator[tuple[int, list[bytes]]]:
    """The keys of one slot after the other."""
    first = random.randrange(SLOTS)  # noqa: S311 - no secret
    for number in range(SLOTS):
        slot = (first + number * _STRIDE) % SLOTS
        if db.slots[slot]:
            for keys in _parts(list(db.slots[slot])):
                yield slot, keys


def _parts(keys: list[bytes]) -> Iterator[list[bytes]]:
    """The keys in parts that are not too large, each of them from everywhere: neighbours are of the same
    age."""
    count = -(-len(keys) // limits.EVICTION_KEYS_LOOKED_AT)
    for number in range(count):
        yield keys[number::count]


_FEW = 16
"""If less than this part of all keys have a deadline, the others are not looked at."""

_TRIES = 5
"""How often it is looked for keys that may go, if none of those that were found may."""
