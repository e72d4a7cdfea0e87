"""Stream IDs in order, each with a value: what pending entries are kept in.

IDs and values stand in blocks of some hundred. New IDs nearly always come last, where they cost an append;
finding one is a binary search among the blocks and one within.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Generic, Self, TypeVar

from shardkv.structures.stream_id import LEAST, StreamID

BLOCK_IDS = 512
"""A block that gets more in its middle is cut in two."""

V = TypeVar("V")


class IdMap(Generic[V]):
    """IDs, each with a value."""

    __slots__ = ("_bounds", "_ids", "_values", "count")

    def __init__(self) -> None:
        self._ids: list[list[StreamID]] = [[]]
        self._values: list[list[V]] = [[]]
        # No ID of a block is below its bound, and those of the blocks before are.
        self._bounds = [LEAST]
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[StreamID]:
        return chain.from_iterable(self._ids)

    @property
    def first(self) -> StreamID:
        """The least ID. There must be one."""
        return self._ids[0][0]

    @property
    def last(self) -> StreamID:
        """The greatest ID. There must be one."""
        return self._ids[-1][-1]

    # -- one ID ---------------------------------------------------------------------------------

    def get(self, stream_id: StreamID) -> V | None:
        """The value of an ID; None if it is not there."""
        number = bisect_right(self._bounds, stream_id) - 1
        ids = self._ids[number]
        place = bisect_left(ids, stream_id)
        return self._values[number][place] if place < len(ids) and ids[place] == stream_id else None

    def set(self, stream_id: StreamID, value: V) -> None:
        """Gives an ID a value, in place of any it had."""
        number = bisect_right(self._bounds, stream_id) - 1
        ids, values = self._ids[number], self._values[number]
        place = bisect_left(ids, stream_id)
        if place == len(ids) and number == len(self._ids) - 1:
            self.extend((stream_id,), value)
        elif place < len(ids) and ids[place] == stream_id:
            values[place] = value
        else:
            ids.insert(place, stream_id)
            values.insert(place, value)
            self.count += 1
            if len(ids) > BLOCK_IDS:
                self._cut(number)

    def pop(self, stream_id: StreamID) -> V | None:
        """Takes an ID out; returns its value, or None if it is not there."""
        number = bisect_right(self._bounds, stream_id) - 1
        ids = self._ids[number]
        place = bisect_left(ids, stream_id)
        if place == len(ids) or ids[place] != stream_id:
            return None
        del ids[place]
        self.count -= 1
        value = self._values[number].pop(place)
        if not ids and len(self._ids) > 1:
            del self._ids[number], self._values[number], self._bounds[number]
            self._bounds[0] = LEAST
        return value

    def _cut(self, number: int) -> None:
        ids, values = self._ids[number], self._values[number]
        middle = len(ids) // 2
        self._ids.insert(number + 1, ids[middle:])
        self._values.insert(number + 1, values[middle:])
        self._bounds.insert(number + 1, ids[middle])
        del ids[middle:], values[middle:]

    # -- many IDs -------------------------------------------------------------------------------

    def extend(self, stream_ids: Sequence[StreamID], value: V) -> None:
        """Adds IDs, in order and greater than all that are there, with one value for all."""
        self.count += len(stream_ids)
        while stream_ids:
            room = BLOCK_IDS - len(self._ids[-1])
            if room <= 0:
                self._ids.append([])
                self._values.append([])
                self._bounds.append(stream_ids[0])
                room = BLOCK_IDS
            some = stream_ids[:room]
            self._ids[-1] += some
            self._values[-1] += repeat(value, len(some))
            stream_ids = stream_ids[room:]

    def since(self, start: StreamID) -> Iterator[tuple[StreamID, V]]:
        """The IDs from `start` on and their values. Nothing may change meanwhile."""
        number = bisect_right(self._bounds, start) - 1
        place = bisect_left(self._ids[number], start)
        yield from zip(self._ids[number][place:], self._values[number][place:], strict=True)
        for later in range(number + 1, len(self._ids)):
            yield from zip(self._ids[later], self._values[later], strict=True)

    def copy(self) -> Self:
        """A map of its own with the same IDs and values."""
        made = type(self).__new__(type(self))
        made._ids = list(map(list.copy, self._ids))
        made._values = list(map(list.copy, self._values))
        made._bounds = self._bounds.copy()
        made.count = self.count
        return made

    def shed(self, count: int) -> int:
        """Frees about so many IDs, of a map that nobody uses any more; returns how many."""
        freed = 0
        while freed < count and self.count:
            freed += len(self._ids[-1])
            self.count -= len(self._ids[-1])
            if len(self._ids) > 1:
                self._ids.pop()
                self._values.pop()
                self._bounds.pop()
            else:
                self._ids[0].clear()
                self._values[0].clear()
        return freed
