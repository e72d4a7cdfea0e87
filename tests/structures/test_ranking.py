"""Rankings, beside a sorted list."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv.structures.ranking import BLOCK_MEMBERS, Ranking, in_order

MANY = 4 * BLOCK_MEMBERS


def ranked(pairs: dict[bytes, float]) -> list[tuple[float, bytes]]:
    return sorted((score, member) for member, score in pairs.items())


class Model:
    """A ranking and what it should be."""

    def __init__(self, scores: dict[bytes, float]) -> None:
        self.ranking = Ranking.of(scores)
        self.pairs = ranked(scores)

    def add(self, score: float, member: bytes) -> None:
        self.ranking.add(score, member)
        insort(self.pairs, (score, member))

    def remove(self, place: int) -> None:
        self.ranking.remove(*self.pairs.pop(place))

    def remove_between(self, start: int, stop: int) -> None:
        self.ranking.remove_between(start, stop)
        del self.pairs[start:stop]

    def check(self) -> None:
        assert [(score, member) for member, score in self.ranking] == self.pairs

    def check_ranks(self) -> None:
        count = len(self.pairs)
        for _ in range(8):
            start = random.randrange(count)
            stop = min(count, start + random.choice((1, 5, BLOCK_MEMBERS, count)))
            members, scores = self.ranking.between(start, stop)
            assert list(zip(scores, members, strict=True)) == self.pairs[start:stop]
            assert self.ranking.rank(*self.pairs[start]) == start
            score = self.pairs[start][0] + random.choice((0, 0.5, -math.inf, math.inf))
            if not math.isnan(score):
                only_scores = [pair[0] for pair in self.pairs]
                assert self.ranking.below(score) == bisect_left(only_scores, score)
                assert self.ranking.below(score, inclusive=True) == bisect_right(only_scores, score)


SCORES: dict[str, Callable[[], float]] = {
    "many": lambda: random.uniform(-1e9, 1e9),
    "few": lambda: float(random.randrange(-3, 3)),
    "one": lambda: 0.0,
    "infinite": lambda: random.choice((-math.inf, math.inf, 0.0)),
}


def name(number: int) -> bytes:
    return b"%d" % (number * 2654435761 % 1000003)


@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("asking", [False, True])
def test_growing_and_shrinking(scores: str, asking: bool) -> None:
    draw = SCORES[scores]
    model = Model({})
    for number in range(MANY):
        model.add(draw(), name(number))
        if asking and number % 199 == 0:
            model.check_ranks()
    model.check()
    while model.pairs:
        model.remove(random.randrange(len(model.pairs)))
        if asking and model.pairs and len(model.pairs) % 199 == 0:
            model.check_ranks()
    model.check()
    assert len(model.ranking._members) == 1


@pytest.mark.parametrize("from_the_end", [False, True])
def test_at_the_ends(from_the_end: bool) -> None:
    model = Model({})
    for number in range(MANY):
        model.add(float(number), name(number))
    assert len(model.ranking._members) == MANY // BLOCK_MEMBERS
    while model.pairs:
        model.remove(len(model.pairs) - 1 if from_the_end else 0)
    model.check()


def test_removing_ranges() -> None:
    for _ in range(10):
        model = Model({name(number): float(number // 7) for number in range(MANY)})
        while model.pairs:
            start = random.choice((0, random.randrange(len(model.pairs))))
            stop = random.choice((len(model.pairs), start + 1, random.randrange(start, len(model.pairs)) + 1))
            model.remove_between(start, stop)
            model.check()
            if model.pairs:
                model.check_ranks()


def test_full_blocks_are_removed_as_a_whole() -> None:
    model = Model({name(number): float(number) for number in range(MANY)})
    model.remove_between(BLOCK_MEMBERS, 3 * BLOCK_MEMBERS)
    model.check()
    model.check_ranks()
    model.remove_between(0, BLOCK_MEMBERS)
    model.check()
    model.check_ranks()


def test_blocks_do_not_stay_small() -> None:
    model = Model({name(number): float(number) for number in range(MANY)})
    for place in range(0, MANY // 10 * 9, 1):
        model.remove(place * 7919 % len(model.pairs))
    assert len(model.ranking._members) < 6
    model.check()


@pytest.mark.parametrize("scores", SCORES)
def test_copies_share_nothing_that_changes(scores: str) -> None:
    draw = SCORES[scores]
    model = Model({name(number): draw() for number in range(MANY)})
    before = list(model.pairs)
    copied = model.ranking.copy()
    other = Model({})
    other.ranking, other.pairs = copied.copy(), list(before)
    for number in range(MANY // 2):
        model.remove(random.randrange(len(model.pairs)))
        other.add(draw(), b"more %d" % number)
    model.remove_between(3, MANY // 3)
    model.check()
    other.check()
    assert [(score, member) for member, score in copied] == before


def test_shedding() -> None:
    ranking = Ranking.of({name(number): 1.0 for number in range(MANY)})
    left = MANY
    while left:
        ranking.shed(100)
        now = sum(map(len, ranking._members))
        assert now == 0 or left - BLOCK_MEMBERS <= now <= left - 100
        left = now


members_by_bytes = st.lists(st.binary(max_size=3), unique=True, min_size=1, max_size=50)


@given(members_by_bytes, st.binary(max_size=3))
def test_members_of_one_score(members: list[bytes], member: bytes) -> None:
    ranking = Ranking.of(dict.fromkeys(members, 1.0))
    members.sort()
    assert ranking.before(member) == bisect_left(members, member)
    assert ranking.before(member, inclusive=True) == bisect_right(members, member)


def test_members_of_one_score_in_many_blocks() -> None:
    members = sorted(name(number) for number in range(MANY))
    ranking = Ranking.of(dict.fromkeys(members, 1.0))
    for member in [b"", b"5", b"500000", b"x", *random.sample(members, 50)]:
        assert ranking.before(member) == bisect_left(members, member)
        assert ranking.before(member, inclusive=True) == bisect_right(members, member)


def test_members_of_several_scores_depend_on_nothing_else() -> None:
    """So that a log that is replayed does the same again."""
    scores = {name(number): float(number % 3) for number in range(MANY)}
    grown = Ranking()
    for member, score in scores.items():
        grown.add(score, member)
    made = Ranking.of(scores)
    assert [len(block) for block in grown._members] != [len(block) for block in made._members]
    for member in [b"", b"3", b"x", *random.sample(list(scores), 50)]:
        for inclusive in (False, True):
            assert grown.before(member, inclusive=inclusive) == made.before(member, inclusive=inclusive)


@given(
    st.dictionaries(
        st.binary(max_size=3), st.one_of(st.integers(0, 3).map(float), st.floats(allow_nan=False))
    )
)
def test_in_order(scores: dict[bytes, float]) -> None:
    assert in_order(scores) == [member for _, member in ranked(scores)]
