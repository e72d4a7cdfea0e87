"""Sorted sets: members with scores, in the order of the scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from random import sample
from typing import Any, ClassVar, Self

import msgspec

from shardkv import limits
from shardkv.structures.hash import merged
from shardkv.structures.hashtable import PIECE_KEYS, HashTable
from shardkv.structures.ranking import Ranking
from shardkv.values import Collection, Packed

LISTPACK, SKIPLIST = ENCODINGS = ("listpack", "skiplist")

_EXACT = 2.0**53
"""Below this, scores that are integers are packed as such."""


class PackedSortedSet(Packed):
    """The number of its encoding and the members with their scores, in MessagePack."""

    __slots__ = ()


class SortedSet(HashTable[float], Collection):
    """A table of the members' scores, and beside it their ranking.

    A small set has no ranking until one is asked for. `form` is the encoding that Redis would have given the
    set by now: one that was converted to a larger one keeps it when it shrinks.
    """

    __slots__ = ("_ranking", "form")

    type_name: ClassVar[str] = "zset"
    packed_kind: ClassVar[type[Packed]] = PackedSortedSet

    def __init__(self, form: str = LISTPACK, scores: dict[bytes, float] | None = None) -> None:
        """Takes the members and their scores; they are the set's own from then on."""
        small = scores is None or len(scores) <= PIECE_KEYS
        HashTable.__init__(self, scores if small else None)
        self.form = form
        self._ranking: Ranking | None = None
        if scores is not None and not small:
            self._fill(scores)

    @classmethod
    def holding(cls, scores: dict[bytes, float], config: Any) -> Self:
        """The sorted set of members with these scores, which are its own from then on, in the smallest
        encoding."""
        most, longest = config.zset_max_listpack_entries, config.zset_max_listpack_value
        fits = len(scores) <= most and all(len(member) <= longest for member in scores)
        if fits:
            # A listpack of Redis has no negative zero.
            scores = {member: score + 0.0 for member, score in scores.items()}
        return cls(LISTPACK if fits else SKIPLIST, scores)

    def _fill(self, scores: dict[bytes, float]) -> None:
        if len(scores) > limits.ZSET_UNRANKED_MEMBERS:
            self._ranking = Ranking.of(scores)
        for member, score in scores.items():
            piece = self.pieces[hash(member) >> self.shift]
            piece[member] = score
            self.added(member, piece)

    # -- scores -----------------------------------------------------------------------------------

    def __getitem__(self, member: bytes) -> float:
        return self.pieces[hash(member) >> self.shift][member]

    def get(self, member: bytes) -> float | None:
        """The score of a member; None if there is no such member."""
        return self.pieces[hash(member) >> self.shift].get(member)

    def items(self) -> Iterator[tuple[bytes, float]]:
        """All members and their scores, in no order."""
        return chain.from_iterable(piece.items() for piece in self.distinct_pieces())

    def scores(self) -> dict[bytes, float]:
        """The same as a dict, which the caller does not change."""
        return merged(self.distinct_pieces())

    def make_room(self, given: list[bytes], config: Any) -> None:
        """Changes the encoding to what it is when these members are given to be added, whether they will be
        or not."""
        if self.form is LISTPACK and (
            len(given) > config.zset_max_listpack_entries
            or max(map(len, given)) > config.zset_max_listpack_value
        ):
            self.form = SKIPLIST

    def put(self, member: bytes, score: float, config: Any) -> float | None:
        """Gives a member its score and adds it if it is not there; returns the score it had, or None."""
        piece = self.pieces[hash(member) >> self.shift]
        before = piece.get(member)
        if before == score:
            return before
        if self.form is LISTPACK:
            if before is None and self.count >= config.zset_max_listpack_entries:
                self.form = SKIPLIST
            else:
                # A listpack of Redis has no negative zero.
                score += 0.0
        if self._shared:
            piece = self.piece_to_change(member)
        piece[member] = score
        if before is None:
            self.added(member, piece)
        ranking = self._ranking
        if ranking is not None:
            if before is not None:
                ranking.remove(before, member)
            ranking.add(score, member)
        elif self.count > limits.ZSET_UNRANKED_MEMBERS:
            self._ranking = Ranking.of(self.scores())
        return before

    def remove(self, member: bytes) -> bool:
        """Removes a member; whether it was there."""
        score = self._take(member)
        if score is None:
            return False
        if self._ranking is not None:
            self._ranking.remove(score, member)
        return True

    def _take(self, member: bytes) -> float | None:
        """Takes a member out of the table."""
        piece = self.pieces[hash(member) >> self.shift]
        score = piece.get(member)
        if score is not None:
            if self._shared:
                piece = self.piece_to_change(member)
            del piece[member]
            self.removed(member, piece)
        return score

    # -- ranks ------------------------------------------------------------------------------------

    @property
    def ranking(self) -> Ranking:
        """The members in order. Whoever changes them does so through the set."""
        if self._ranking is None:
            self._ranking = Ranking.of(self.scores())
        return self._ranking

    def remove_between(self, start: int, stop: int) -> tuple[list[bytes], list[float]]:
        """Removes the members with the ranks from `start` up to `stop`, of which there are some; returns them
        and their scores."""
        ranking = self.ranking
        members, scores = ranking.between(start, stop)
        for member in members:
            self._take(member)
        ranking.remove_between(start, stop)
        return members, scores

    def choose(self, count: int) -> list[bytes]:
        """So many different members at random."""
        if count * 3 > self.count:
            return sample(list(self), count)
        chosen: dict[bytes, None] = {}
        while len(chosen) < count:
            chosen[self.draw()] = None
        return list(chosen)

    # -- as a value -------------------------------------------------------------------------------

    def encoding(self, config: Any) -> str:
        return self.form

    def commands(self, key: bytes) -> Iterator[list[bytes]]:
        return requests(key, self.items())

    def copy(self) -> Self:
        made = super().copy()
        made.form = self.form
        if self._ranking is not None:
            made._ranking = self._ranking.copy()
        return made

    def shed(self, count: int) -> None:
        super().shed(count)
        if self._ranking is not None:
            self._ranking.shed(count)

    def pack(self) -> PackedSortedSet | None:
        if self.count > limits.ZSET_PACKED_MEMBERS:
            return None
        scores = {member: _short(score) for member, score in self.items()}
        packed = _encode((ENCODINGS.index(self.form), scores))
        return PackedSortedSet(packed) if len(packed) <= limits.ZSET_PACKED_BYTES else None

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        form, scores = _decode(packed)
        return cls(ENCODINGS[form], scores)


PackedSortedSet.kind = SortedSet

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, dict[bytes, float]]).decode


def _short(score: float) -> float:
    """The same number as an integer, if that is exact: it takes fewer bytes."""
    if -_EXACT < score < _EXACT and score.is_integer() and (score or math.copysign(1, score) > 0):
        return int(score)
    return score


def spelled(score: float) -> bytes:
    """A short text that is read as the same score."""
    return (b"%r" % score).removesuffix(b".0")


def requests(key: bytes, scores: Iterable[tuple[bytes, float]]) -> Iterator[list[bytes]]:
    """The ZADD requests for members, of which there may be many."""
    rest = iter(scores)
    while some := list(islice(rest, limits.ZSET_REQUEST_MEMBERS)):
        words = [b"ZADD", key]
        for member, score in some:
            words += (spelled(score), member)
        yield words
