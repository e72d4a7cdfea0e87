"""The order of a sorted set: members by score, and by their bytes where scores are the same.

Members and scores stand in blocks of some hundred, so that one more or less moves little, and finding a place
is a binary search among the blocks and one within. How many members stand before each block is kept in a
Fenwick tree (Fenwick, 1994), which is built when a rank is first asked for: sets that are only filled do
without.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate, groupby, islice, pairwise
from operator import eq
from typing import Self

BLOCK_MEMBERS = 512
"""A block with more members is cut in two."""

_FEW_MEMBERS = BLOCK_MEMBERS // 4
"""A block with at most so many is joined with a neighbour, if both together fill at most half a block."""


class Ranking:
    """Members in their order, each with its score. Ranks count from 0."""

    __slots__ = ("_bound_members", "_bound_scores", "_counts", "_members", "_scores", "_shared")

    def __init__(self) -> None:
        self._members: list[list[bytes]] = [[]]
        self._scores: list[array[float]] = [array("d")]
        # All before a block is less than its bound, and what is in it, or after it, is not.
        self._bound_scores = array("d", (-math.inf,))
        self._bound_members = [b""]
        self._counts: list[int] | None = None
        """The Fenwick tree. Entry i counts the members of the blocks before block i, as many blocks as the
        lowest bit of i says."""
        self._shared: set[int] | None = None
        """The ids of the lists of members of those blocks that a copy has as well."""

    @classmethod
    def of(cls, scores: Mapping[bytes, float]) -> Self:
        """The ranking of members that have these scores."""
        made = cls()
        if not scores:
            return made
        members = in_order(scores)
        own_scores = array("d", map(scores.__getitem__, members))
        starts = range(0, len(members), BLOCK_MEMBERS)
        made._members = [members[start : start + BLOCK_MEMBERS] for start in starts]
        made._scores = [own_scores[start : start + BLOCK_MEMBERS] for start in starts]
        made._bound_scores.extend(own_scores[start] for start in starts[1:])
        made._bound_members.extend(members[start] for start in starts[1:])
        return made

    def __iter__(self) -> Iterator[tuple[bytes, float]]:
        for members, scores in zip(self._members, self._scores, strict=True):
            yield from zip(members, scores, strict=True)

    # -- changing -------------------------------------------------------------------------------

    def add(self, score: float, member: bytes) -> None:
        """Adds a member that is not there."""
        block, place = self._find(score, member)
        if self._shared:
            self._own(block)
        members = self._members[block]
        members.insert(place, member)
        self._scores[block].insert(place, score)
        if self._counts is not None:
            self._count(block, 1)
        if len(members) > BLOCK_MEMBERS:
            # What only grows at its end is cut so that full blocks are left behind.
            at_end = block == len(self._members) - 1 and place == BLOCK_MEMBERS
            self._cut(block, BLOCK_MEMBERS if at_end else BLOCK_MEMBERS // 2)

    def remove(self, score: float, member: bytes) -> None:
        """Removes a member that is there, with that score."""
        block, place = self._find(score, member)
        self._drop(block, place, place + 1)
        if len(self._members[block]) <= _FEW_MEMBERS:
            self._join(block)

    def remove_between(self, start: int, stop: int) -> None:
        """Removes the members with the ranks from `start` up to `stop`, of which there are some."""
        block, place = self._locate(start)
        end = place + stop - start
        if end <= len(self._members[block]):
            self._drop(block, place, end)
        else:
            last, end = self._locate(stop)
            if end:
                self._drop(last, 0, end)
            self._drop(block, place, len(self._members[block]))
            self._forget(block + 1, last)
            if block + 1 < len(self._members):
                self._join(block + 1)
        if len(self._members[block]) <= _FEW_MEMBERS:
            self._join(block)

    def _find(self, score: float, member: bytes) -> tuple[int, int]:
        """The block that a member is in, or belongs in, and its place there."""
        bounds = self._bound_scores
        block = bisect_right(bounds, score)
        if block > 1 and bounds[block - 1] == score:
            block = bisect_right(self._bound_members, member, bisect_left(bounds, score, 0, block), block)
        block -= 1
        scores = self._scores[block]
        place = bisect_left(scores, score)
        if place < len(scores) and scores[place] == score:
            place = bisect_left(self._members[block], member, place, bisect_right(scores, score, place))
        return block, place

    def _drop(self, block: int, place: int, end: int) -> None:
        """Removes some of a block's members."""
        if self._shared:
            self._own(block)
        del self._members[block][place:end]
        del self._scores[block][place:end]
        if self._counts is not None:
            self._count(block, place - end)

    def _forget(self, block: int, stop: int) -> None:
        """Removes whole blocks, not the first one."""
        if block < stop:
            del self._members[block:stop], self._scores[block:stop]
            del self._bound_scores[block:stop], self._bound_members[block:stop]
            self._counts = None

    def _cut(self, block: int, place: int) -> None:
        members, scores = self._members[block], self._scores[block]
        self._members.insert(block + 1, members[place:])
        self._scores.insert(block + 1, scores[place:])
        self._bound_members.insert(block + 1, members[place])
        self._bound_scores.insert(block + 1, scores[place])
        del members[place:], scores[place:]
        self._counts = None

    def _join(self, block: int) -> None:
        """Joins a block that has few members with a neighbour, unless there are many in that."""
        blocks = self._members
        if len(blocks) == 1 or len(blocks[block]) > _FEW_MEMBERS:
            return
        first = block if block + 1 < len(blocks) else block - 1
        if len(blocks[first]) + len(blocks[first + 1]) > BLOCK_MEMBERS // 2 and blocks[block]:
            return
        if self._shared:
            self._own(first)
        blocks[first] += blocks[first + 1]
        self._scores[first] += self._scores[first + 1]
        self._forget(first + 1, first + 2)

    def _own(self, block: int) -> None:
        """Makes sure that no copy has the same block."""
        assert self._shared is not None
        members = self._members[block]
        if id(members) in self._shared:
            self._shared.remove(id(members))
            self._members[block] = members.copy()
            self._scores[block] = self._scores[block][:]

    # -- ranks ----------------------------------------------------------------------------------

    def rank(self, score: float, member: bytes) -> int:
        """The rank of a member that is there, with that score."""
        block, place = self._find(score, member)
        return self._before(block) + place

    def below(self, score: float, *, inclusive: bool = False) -> int:
        """How many members have a lower score (or that score, too)."""
        bisect = bisect_right if inclusive else bisect_left
        block = bisect(self._bound_scores, score) - 1
        if block < 0:
            return 0
        return self._before(block) + bisect(self._scores[block], score)

    def before(self, member: bytes, *, inclusive: bool = False) -> int:
        """How many members stand before one with these bytes (or are that one), if all have the same score.

        If they have not, the number depends on nothing but the members and their scores.
        """
        bisect: Callable[..., int] = bisect_right if inclusive else bisect_left
        if self._scores[0][0] == self._scores[-1][-1]:
            block = bisect(self._bound_members, member) - 1
            if block < 0:
                return 0
            return self._before(block) + bisect(self._members[block], member)
        return bisect(range(self._before(len(self._members))), member, key=self._at)

    def between(self, start: int, stop: int) -> tuple[list[bytes], list[float]]:
        """The members with the ranks from `start` up to `stop`, and their scores."""
        if start >= stop:
            return [], []
        block, place = self._locate(start)
        end = place + stop - start
        members = self._members[block][place:end]
        scores = self._scores[block][place:end].tolist()
        while len(members) < stop - start:
            block += 1
            end = stop - start - len(members)
            members += self._members[block][:end]
            scores += self._scores[block][:end]
        return members, scores

    def _at(self, rank: int) -> bytes:
        block, place = self._locate(rank)
        return self._members[block][place]

    def _locate(self, rank: int) -> tuple[int, int]:
        """The block and the place in it of a rank; of the rank after the last, the end of the last block."""
        last = len(self._members) - 1
        if not last or rank < len(self._members[0]):
            return 0, rank
        counts = self._counts or self._count_all()
        block, step = 0, 1 << last.bit_length()
        while step:
            further = block + step
            if further <= last and counts[further] <= rank:
                block = further
                rank -= counts[further]
            step >>= 1
        return block, rank

    def _before(self, block: int) -> int:
        """How many members stand before a block."""
        if not block:
            return 0
        counts = self._counts or self._count_all()
        before = 0
        while block:
            before += counts[block]
            block &= block - 1
        return before

    def _count(self, block: int, more: int) -> None:
        """Notes that there are so many more members in a block."""
        counts = self._counts
        assert counts is not None
        block += 1
        while block < len(counts):
            counts[block] += more
            block += block & -block

    def _count_all(self) -> list[int]:
        before = list(accumulate(map(len, self._members), initial=0))
        self._counts = [count - before[index & (index - 1)] for index, count in enumerate(before)]
        return self._counts

    # -- as a whole -----------------------------------------------------------------------------

    def copy(self) -> Self:
        """A ranking of its own. The two share their blocks until one of them is to change a block."""
        other = type(self)()
        other._members, other._scores = self._members.copy(), self._scores.copy()
        other._bound_members, other._bound_scores = self._bound_members.copy(), self._bound_scores[:]
        self._shared = set(map(id, self._members))
        other._shared = self._shared.copy()
        return other

    def shed(self, count: int) -> None:
        """Frees at least so many members, of a ranking that is not used any more."""
        freed = 0
        while self._members and freed < count:
            self._scores.pop()
            freed += len(self._members.pop())


def in_order(scores: Mapping[bytes, float]) -> list[bytes]:
    """Members that have these scores, in their order."""
    members = sorted(scores, key=scores.__getitem__)
    ordered = list(map(scores.__getitem__, members))
    if True in map(eq, ordered, islice(ordered, 1, None)):
        # Scores alone are sorted much faster than pairs. Where some are the same, their members are to be.
        ends = accumulate((_length(run) for _, run in groupby(ordered)), initial=0)
        for start, end in pairwise(ends):
            if end - start > 1:
                members[start:end] = sorted(members[start:end])
    return members


def _length(items: Iterable[float]) -> int:
    return sum(1 for _ in items)
