"""Sorted sets: the table and the ranking agree, their encodings, their form at rest."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv import limits
from shardkv.settings import Config
from shardkv.structures.zset import (
    ENCODINGS,
    LISTPACK,
    SKIPLIST,
    PackedSortedSet,
    SortedSet,
    requests,
    spelled,
)
from shardkv.values import encoding, type_name, unpacked

CONFIG = Config()
MANY = 3000

scores = st.one_of(
    st.floats(allow_nan=False),
    st.integers(-(2**60), 2**60).map(float),
    st.sampled_from([0.0, -0.0, math.inf, -math.inf, 2.0**53, -(2.0**53), 0.1]),
)
contents = st.dictionaries(st.binary(max_size=20), scores, min_size=1, max_size=100)


def exact(content: dict[bytes, float]) -> dict[bytes, str]:
    """The same, with the two zeros told apart."""
    return {member: score.hex() for member, score in content.items()}


def ranked(content: dict[bytes, float]) -> list[tuple[bytes, float]]:
    return sorted(content.items(), key=lambda pair: (pair[1], pair[0]))


def assert_holds(made: SortedSet, content: dict[bytes, float]) -> None:
    assert len(made) == len(content)
    assert dict(made.items()) == made.scores() == content
    assert list(made.ranking) == ranked(content)


# -- content ----------------------------------------------------------------------------------


@pytest.mark.parametrize("asking", [False, True])
def test_random_changes(asking: bool) -> None:
    made, content = SortedSet(), dict[bytes, float]()
    for number in range(MANY * 4):
        member = b"%d" % random.randrange(MANY)
        if random.random() < 0.7 or number < MANY:
            score = float(random.randrange(100))
            assert made.put(member, score, CONFIG) == content.get(member)
            content[member] = score
        else:
            assert made.remove(member) == (content.pop(member, None) is not None)
        assert made.get(member) == content.get(member)
        if asking and number % 1000 == 0:
            assert_holds(made, content)
    assert_holds(made, content)
    while content:
        start = random.randrange(len(content))
        stop = min(len(content), start + 1 + random.randrange(300))
        gone = ranked(content)[start:stop]
        members, found = made.remove_between(start, stop)
        assert list(zip(members, found, strict=True)) == gone
        for member in members:
            del content[member]
    assert_holds(made, content)


@pytest.mark.parametrize(
    "count", [1, 5, limits.ZSET_UNRANKED_MEMBERS, limits.ZSET_UNRANKED_MEMBERS + 1, MANY]
)
def test_holding(count: int) -> None:
    content = {b"%d" % number: float(number % 7) for number in range(count)}
    made = SortedSet.holding(dict(content), CONFIG)
    assert_holds(made, content)
    made.put(b"more", 3.0, CONFIG)
    assert_holds(made, content | {b"more": 3.0})


def test_members_of_a_ranked_set_that_get_the_same_score_stay() -> None:
    made = SortedSet()
    assert made.put(b"m", 1.0, CONFIG) is None
    assert list(made.ranking) == [(b"m", 1.0)]
    assert made.put(b"m", 1.0, CONFIG) == 1.0
    assert made.put(b"m", -1.0, CONFIG) == 1.0
    assert list(made.ranking) == [(b"m", -1.0)]


@pytest.mark.parametrize("count", [10, MANY])
def test_copies_are_their_own(count: int) -> None:
    content = {b"%d" % number: random.random() for number in range(count)}
    made = SortedSet.holding(dict(content), CONFIG)
    assert made.ranking
    copied = made.copy()
    assert copied.form == made.form
    changed = dict(content)
    for number in range(0, count, 3):
        made.put(b"%d" % number, 2.0, CONFIG)
        changed[b"%d" % number] = 2.0
    made.put(b"new", 1.0, CONFIG)
    changed[b"new"] = 1.0
    assert_holds(copied, content)
    copied.remove_between(0, count - 1)
    assert len(copied) == 1
    assert_holds(made, changed)


@pytest.mark.parametrize("ranked_too", [False, True])
def test_shedding_frees_all_in_small_slices(ranked_too: bool) -> None:
    made = SortedSet(SKIPLIST, {b"%d" % number: float(number) for number in range(MANY)})
    assert made.ranking
    if not ranked_too:
        made._ranking = None
    slices = 0
    while len(made):
        before = len(made)
        made.shed(100)
        assert before - len(made) >= 100 or not len(made)
        slices += 1
    assert slices > MANY // 300


@pytest.mark.parametrize("count", [0, 1, 100, 999, 1000])
def test_chosen_members_differ(count: int) -> None:
    made = SortedSet.holding({b"%d" % number: 1.0 for number in range(1000)}, CONFIG)
    chosen = made.choose(count)
    assert len(set(chosen)) == len(chosen) == count
    assert all(member in made for member in chosen)


# -- encodings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "form"),
    [
        ([b"a"], LISTPACK),
        ([b"x" * 64], LISTPACK),
        ([b"a", b"x" * 65], SKIPLIST),
        ([b"%d" % number for number in range(128)], LISTPACK),
        ([b"%d" % number for number in range(129)], SKIPLIST),
    ],
)
def test_the_encoding_of_some_members(members: list[bytes], form: str) -> None:
    assert SortedSet.holding(dict.fromkeys(members, 1.0), CONFIG).encoding(CONFIG) == form
    one_by_one = SortedSet()
    for member in members:
        one_by_one.make_room([member], CONFIG)
        one_by_one.put(member, 1.0, CONFIG)
    assert one_by_one.encoding(CONFIG) == form


def test_a_larger_encoding_is_kept() -> None:
    made = SortedSet.holding({b"a": 1.0, b"x" * 65: 2.0}, CONFIG)
    made.remove(b"x" * 65)
    assert made.form == SKIPLIST
    assert made.copy().form == SKIPLIST


def test_a_listpack_has_no_negative_zero() -> None:
    made = SortedSet()
    made.put(b"m", -0.0, CONFIG)
    assert math.copysign(1, made[b"m"]) == 1
    held = SortedSet.holding({b"m": -0.0}, CONFIG)
    assert math.copysign(1, held[b"m"]) == 1
    large = SortedSet.holding({b"m": -0.0, b"x" * 65: 1.0}, CONFIG)
    assert math.copysign(1, large[b"m"]) == -1


# -- elsewhere --------------------------------------------------------------------------------


@given(contents, st.sampled_from(ENCODINGS))
def test_packing_is_exact(content: dict[bytes, float], form: str) -> None:
    packed = SortedSet(form, dict(content)).pack()
    assert packed is not None
    assert (type_name(packed), encoding(packed, CONFIG)) == ("zset", form)
    again = unpacked(packed)
    assert isinstance(again, SortedSet)
    assert (again.form, exact(again.scores())) == (form, exact(content))
    assert list(again) == list(content)
    assert all(type(score) is float for _, score in again.items())


def test_packed_integers_are_small() -> None:
    packed = SortedSet.holding({b"%04d" % number: float(number) for number in range(500)}, CONFIG).pack()
    assert isinstance(packed, PackedSortedSet)
    assert len(packed) < 500 * 9


def test_large_sets_are_not_packed() -> None:
    many = {b"%d" % number: 1.0 for number in range(limits.ZSET_PACKED_MEMBERS + 1)}
    assert SortedSet.holding(many, CONFIG).pack() is None
    assert SortedSet.holding({b"x" * limits.ZSET_PACKED_BYTES: 1.0}, CONFIG).pack() is None


def test_commands_rebuild_it_in_small_requests() -> None:
    content = {b"%d" % number: number / 7 for number in range(MANY)}
    built = list(SortedSet.holding(dict(content), CONFIG).commands(b"key"))
    assert all(request[:2] == [b"ZADD", b"key"] for request in built)
    assert max(map(len, built)) <= 2 * limits.ZSET_REQUEST_MEMBERS + 2
    told = {request[at + 1]: float(request[at]) for request in built for at in range(2, len(request), 2)}
    assert told == content
    assert list(requests(b"key", [])) == []


@given(scores)
def test_spelled_scores_read_back(score: float) -> None:
    assert float(spelled(score)).hex() == score.hex()
    assert not spelled(score).endswith(b".0")
