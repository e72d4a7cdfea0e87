"""How recently, or how often, each key was used: for the policies that evict by that, and for OBJECT.

Databases keep it only while the setting maxmemory-policy asks for it; the doors of the keyspace are others
then (see `keyspace.with_doors`). Of each key they keep a mark, one number. Keys that were there before have
none, and are taken for as idle as their slot, or for as new.
"""

from __future__ import annotations

import random
from typing import Any

from shardkv.keyspace import Database
from shardkv.slots import SLOTS, slot_of
from shardkv.values import Value

_MS_PER_MINUTE = 60_000

FIRST_FREQUENCY = 5
MOST_FREQUENT = 255
"""Where the counter of accesses begins, so that a new key is not evicted at once, and where it ends (as
Redis)."""


class _MarkingDatabase(Database):
    """What the two kinds have in common: when a key is used, and when it is gone."""

    __slots__ = ()

    def begin_marks(self) -> None:
        self.marks = [{} for _ in range(SLOTS)]

    def read(self, key: bytes, slot: int = -1) -> Value | None:
        if slot < 0:
            slot = slot_of(key)
        value = super().read(key, slot)
        if value is not None:
            self.note_use(key, slot)
        return value

    def edit(self, key: bytes, slot: int = -1) -> Value | None:
        if slot < 0:
            slot = slot_of(key)
        value = super().edit(key, slot)
        if value is not None:
            self.note_use(key, slot)
        return value

    def remove(self, key: bytes, slot: int = -1) -> Value | None:
        if slot < 0:
            slot = slot_of(key)
        self.marks[slot].pop(key, None)
        return super().remove(key, slot)

    def take(self, key: bytes, slot: int = -1) -> Value | None:
        if slot < 0:
            slot = slot_of(key)
        self.marks[slot].pop(key, None)
        return super().take(key, slot)

    def note_use(self, key: bytes, slot: int) -> None:
        """A key that is there is used."""
        raise NotImplementedError


class TimedDatabase(_MarkingDatabase):
    """Keeps when each key was last used, in ms since 1970."""

    # All keys that are used in one turn of the worker share one number, so that a mark takes no memory but
    # its place in the table.

    __slots__ = ()

    def note_use(self, key: bytes, slot: int) -> None:
        if now_ms := self.shard.now_ms:
            # While requests are replayed, time stands still.
            self.marks[slot][key] = now_ms

    def put(
        self, key: bytes, value: Value, event: str, slot: int = -1, *, keep_deadline: bool = False
    ) -> None:
        if slot < 0:
            slot = slot_of(key)
        super().put(key, value, event, slot, keep_deadline=keep_deadline)
        self.note_use(key, slot)

    def idle_s(self, key: bytes) -> int:
        slot = slot_of(key)
        used_ms = self.marks[slot].get(key)
        if used_ms is None:
            return self.slot_idle_s(slot)
        return max(0, self.shard.now_s - used_ms // 1000)

    def seem_idle(self, key: bytes, idle_s: int) -> None:
        """Has a key seem not to have been used for so long."""
        self.marks[slot_of(key)][key] = self.shard.now_ms - idle_s * 1000


class CountedDatabase(_MarkingDatabase):
    """Keeps for each key a counter of accesses, which grows ever more slowly, and the minute in which it was
    last brought up to date: the counter in the lowest 8 bits of the mark."""

    __slots__ = ()

    def note_use(self, key: bytes, slot: int) -> None:
        marks = self.marks[slot]
        minute = self.shard.now_ms // _MS_PER_MINUTE
        mark = marks.get(key)
        if not minute:
            return
        if mark is None:
            frequency = FIRST_FREQUENCY
        elif mark >> 8 == minute:
            frequency = mark & MOST_FREQUENT
        else:
            frequency = self._decayed(mark)
        if frequency < MOST_FREQUENT:
            above = frequency - FIRST_FREQUENCY
            # It counts the more rarely the more it has counted already.
            if above <= 0 or random.random() * (above * self.shard.config.lfu_log_factor + 1) < 1:  # noqa: S311
                frequency += 1
        new = minute << 8 | frequency
        if new != mark:
            marks[key] = _shared(new)

    def put(
        self, key: bytes, value: Value, event: str, slot: int = -1, *, keep_deadline: bool = False
    ) -> None:
        if slot < 0:
            slot = slot_of(key)
        known = key in self.slots[slot]
        super().put(key, value, event, slot, keep_deadline=keep_deadline)
        if not known:
            self.seem_used(key, FIRST_FREQUENCY)
        elif event == "set":
            # Others have looked at what they replace, which has counted.
            self.note_use(key, slot)

    def frequency(self, key: bytes, slot: int = -1) -> int:
        """A key's counter as it is by now."""
        mark = self.marks[slot if slot >= 0 else slot_of(key)].get(key)
        return FIRST_FREQUENCY if mark is None else self._decayed(mark)

    def _decayed(self, mark: int) -> int:
        minutes = self.shard.config.lfu_decay_time
        periods = (self.shard.now_ms // _MS_PER_MINUTE - (mark >> 8)) // minutes if minutes else 0
        return max(0, (mark & MOST_FREQUENT) - periods)

    def seem_used(self, key: bytes, frequency: int) -> None:
        """Has a key's counter stand at that number."""
        if minute := self.shard.now_ms // _MS_PER_MINUTE:
            self.marks[slot_of(key)][key] = _shared(minute << 8 | frequency)


_SHARED: dict[int, int] = {}
_MOST_SHARED = 4096


def _shared(mark: int) -> int:
    """The one object for equal marks, of which there are few at a time and thousands of keys for each."""
    if len(_SHARED) > _MOST_SHARED:
        _SHARED.clear()
    return _SHARED.setdefault(mark, mark)


def door_of(policy: str) -> type[_MarkingDatabase] | None:
    """The kind of database that a policy needs; None if a plain one will do."""
    kind: Any = {"lru": TimedDatabase, "lfu": CountedDatabase}.get(policy.rsplit("-", 1)[-1])
    return kind  # type: ignore[no-any-return]
