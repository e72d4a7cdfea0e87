"""Sets: their encodings, and their form at rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv import limits
from shardkv.settings import Config
from shardkv.structures.set import ENCODINGS, PackedSet, Set, requests
from shardkv.values import encoding, type_name, unpacked

CONFIG = Config()

members = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.integers(-(2**63), 2**63 - 1).map(lambda number: b"%d" % number),
        st.sampled_from([b"", b"-0", b"01", b"-", b"9223372036854775808", b"x" * 65, b"1" * 21]),
    ),
    unique=True,
    min_size=1,
    max_size=200,
)


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


@given(members, st.sampled_from(ENCODINGS[1:]))
def test_packing_is_exact(given_members: list[bytes], form: str) -> None:
    made = Set(form, given_members)
    packed = made.pack()
    assert packed is not None
    assert (type_name(packed), encoding(packed, CONFIG)) == ("set", form)
    again = unpacked(packed)
    assert isinstance(again, Set)
    assert (again.form, sorted(again), len(again)) == (form, sorted(given_members), len(given_members))


def test_packed_integers_are_small() -> None:
    extremes = [b"0", b"-1", b"9223372036854775807", b"-9223372036854775808"]
    packed = Set.of([*numbers(500), *extremes], CONFIG).pack()
    assert isinstance(packed, PackedSet)
    assert len(packed) < 500 * 3
    again = unpacked(packed)
    assert isinstance(again, Set)
    assert (sorted(again), again.form) == (sorted({*numbers(500), *extremes}), "intset")


def test_large_sets_are_not_packed() -> None:
    assert Set.of(numbers(limits.SET_PACKED_MEMBERS + 1), CONFIG).pack() is None
    assert Set.of([b"x" * limits.SET_PACKED_BYTES], CONFIG).pack() is None


@pytest.mark.parametrize(
    ("given_members", "form"),
    [
        ([b"1", b"-7", b"9223372036854775807"], "intset"),
        ([b"1", b"01"], "listpack"),
        ([b"9223372036854775808"], "listpack"),
        ([b"a"], "listpack"),
        ([b"a", b"x" * 64], "listpack"),
        ([b"a", b"x" * 65], "hashtable"),
        (numbers(512), "intset"),
        (numbers(513), "hashtable"),
        ([*numbers(127), b"a"], "listpack"),
        ([*numbers(128), b"a"], "hashtable"),
    ],
)
def test_the_encoding_of_some_members(given_members: list[bytes], form: str) -> None:
    assert Set.of(given_members, CONFIG).encoding(CONFIG) == form
    assert Set.holding(given_members, CONFIG).encoding(CONFIG) == form
    one_by_one = Set.of(given_members[:1], CONFIG)
    for member in given_members[1:]:
        assert one_by_one.add([member], CONFIG) == 1
    assert one_by_one.encoding(CONFIG) == form


def test_a_larger_encoding_is_kept() -> None:
    made = Set.of([b"1", b"a"], CONFIG)
    made.discard([b"a"])
    assert made.form == "listpack"
    made.add([b"x" * 65], CONFIG)
    made.discard([b"x" * 65])
    assert (made.form, list(made)) == ("hashtable", [b"1"])
    copied = made.copy()
    assert (copied.form, list(copied)) == ("hashtable", [b"1"])


def test_the_number_of_given_members_counts_for_the_encoding() -> None:
    """As in Redis, which cannot know beforehand how many are different."""
    assert Set.of([b"1"] * 513, CONFIG).form == "hashtable"
    assert Set.of([b"a"] * 129, CONFIG).form == "hashtable"
    made = Set.of([b"1"], CONFIG)
    assert (made.add([b"1"] * 513, CONFIG), made.form) == (0, "hashtable")


def test_commands_rebuild_it_in_small_requests() -> None:
    made = Set.of([b"member:%d" % number for number in range(3000)], CONFIG)
    built = list(made.commands(b"key"))
    assert all(request[:2] == [b"SADD", b"key"] for request in built)
    assert max(map(len, built)) <= limits.SET_REQUEST_MEMBERS + 2
    assert sorted(member for request in built for member in request[2:]) == sorted(made)
    assert list(requests(b"SREM", b"key", [])) == []


def test_small_sets_keep_their_order() -> None:
    """As a listpack of Redis does, also at rest."""
    given_members = [b"c", b"a", b"7", b"b"]
    made = Set.of(given_members, CONFIG)
    assert list(made) == given_members
    packed = made.pack()
    assert packed is not None
    assert list(Set.unpack(packed)) == given_members


@pytest.mark.parametrize("count", [0, 1, 5, 300, 301, 900, 999])
def test_choosing_different_members(count: int) -> None:
    made = Set.of(numbers(1000), CONFIG)
    chosen = made.choose(count)
    assert len(chosen) == len(set(chosen)) == count
    assert set(chosen) <= set(made)


def test_popping_everything() -> None:
    made = Set.of(numbers(1000), CONFIG)
    assert sorted(made.pop() for _ in range(1000)) == sorted(numbers(1000))
    assert len(made) == 0
