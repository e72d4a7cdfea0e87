"""Which keys expire when, so that the due ones are found without looking at the others.

Keys stand in buckets by their deadline: narrow ones for what is due soon, wide ones for the rest, whose keys
move to narrow ones as their time comes near. Setting, changing and removing a deadline is O(1), and so is
finding the next due key; a key due in a month costs no more than one due in a minute.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice

_NEAR_BITS = 7
"""A narrow bucket spans 128 ms."""

_FAR_BITS = 16
"""A wide bucket spans 65.5 s."""


class _Buckets:
    """Sets of keys by number, and the numbers in order."""

    __slots__ = ("keys", "order")

    def __init__(self) -> None:
        self.keys: dict[int, set[bytes]] = {}
        self.order: list[int] = []

    def add(self, number: int, key: bytes) -> None:
        bucket = self.keys.get(number)
        if bucket is None:
            bucket = self.keys[number] = set()
            heapq.heappush(self.order, number)
        bucket.add(key)

    def discard(self, number: int, key: bytes) -> bool:
        """Takes a key out; its bucket stays, empty, until its turn comes."""
        bucket = self.keys.get(number)
        if bucket is None or key not in bucket:
            return False
        bucket.remove(key)
        return True

    def take(self, before: int) -> bytes | None:
        """Takes out a key of the earliest bucket numbered below `before`."""
        while self.order and self.order[0] < before:
            bucket = self.keys[self.order[0]]
            if bucket:
                return bucket.pop()
            del self.keys[heapq.heappop(self.order)]
        return None


class Deadlines:
    """The expiry times of one database, in ms since 1970."""

    __slots__ = ("_far", "_near", "at_ms")

    def __init__(self) -> None:
        self.at_ms: dict[bytes, int] = {}
        """The deadline of each key that has one. Read it directly; change it by the methods only."""
        self._near = _Buckets()
        self._far = _Buckets()

    def set(self, key: bytes, at_ms: int, now_ms: int) -> None:
        """Gives a key a deadline, in place of any it had."""
        self.remove(key)
        self.at_ms[key] = at_ms
        if at_ms >> _FAR_BITS > (now_ms >> _FAR_BITS) + 1:
            self._far.add(at_ms >> _FAR_BITS, key)
        else:
            self._near.add(at_ms >> _NEAR_BITS, key)

    def remove(self, key: bytes) -> bool:
        """Takes a key's deadline away; whether it had one."""
        at_ms = self.at_ms.pop(key, None)
        if at_ms is None:
            return False
        if not self._near.discard(at_ms >> _NEAR_BITS, key):
            self._far.discard(at_ms >> _FAR_BITS, key)
        return True

    def __len__(self) -> int:
        """The number of keys that have a deadline."""
        return len(self.at_ms)

    def shed(self, count: int) -> None:
        """Frees about so many, of a database that has been emptied."""
        for _ in range(min(count, len(self.at_ms))):
            self.remove(next(reversed(self.at_ms)))

    def soonest(self, count: int) -> list[bytes]:
        """About so many of the keys whose deadlines come first, in their order. Of keys with about the same
        deadline not all are looked at."""
        found: list[bytes] = []
        for buckets in (self._near, self._far):
            for number in heapq.nsmallest(count, buckets.order):
                found += islice(buckets.keys[number], 4 * count)
                if len(found) >= count:
                    break
            if found:
                break
        return heapq.nsmallest(count, found, key=self.at_ms.__getitem__)

    def due(self, now_ms: int) -> Iterator[bytes]:
        """Yields keys whose deadline has passed by more than a bucket's width, until there are no more.

        The caller removes each from the database (which removes its deadline), and may stop at any time.
        """
        near, far, at_ms = self._near, self._far, self.at_ms
        while (key := far.take((now_ms >> _FAR_BITS) + 2)) is not None:
            near.add(at_ms[key] >> _NEAR_BITS, key)
            # Moving keys nearer is work as well, so the caller gets its chance to stop.
            if (due := near.take(now_ms >> _NEAR_BITS)) is not None:
                yield self._returned(due)
        while (key := near.take(now_ms >> _NEAR_BITS)) is not None:
            yield self._returned(key)

    def _returned(self, key: bytes) -> bytes:
        # `remove` will look for the key in its bucket, so a caller that stops here loses nothing.
        self._near.add(self.at_ms[key] >> _NEAR_BITS, key)
        return key
