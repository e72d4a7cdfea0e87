"""Hashes: fields, their deadlines, the encodings, and the form at rest."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkv import limits
from shardkv.settings import Config
from shardkv.structures.field_deadlines import NEVER_MS, FieldDeadlines
from shardkv.structures.hash import ENCODINGS, Hash, PackedHash
from shardkv.values import encoding, type_name, unpacked

CONFIG = Config()
NOW_MS = 1000


def numbered(count: int) -> list[bytes]:
    """Pairs of so many fields and values."""
    return list(chain.from_iterable((b"f%d" % number, b"%d" % number) for number in range(count)))


def live(found: Hash, now_ms: int = NOW_MS) -> dict[bytes, bytes]:
    return {field: value for piece in found.live(now_ms) for field, value in piece.items()}


def deadlines(found: Hash) -> dict[bytes, int]:
    return {field: at_ms for field in found if (at_ms := found.deadline(field)) is not None}


# -- against a model --------------------------------------------------------------------------

fields = st.integers(0, 299).map(lambda number: b"f%d" % number)
some = st.lists(fields, max_size=120)
moments = st.integers(NOW_MS - 3, NOW_MS + 3)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("put"), some, st.binary(max_size=3)),
        st.tuples(st.just("discard"), some),
        st.tuples(st.just("set_deadline"), some, moments),
        st.tuples(st.just("persist"), some),
        st.tuples(st.just("copy")),
        st.tuples(st.just("pack")),
    ),
    max_size=15,
)


class Model:
    """What a hash should be."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.deadlines: dict[bytes, int] = {}

    def assert_same(self, found: Hash) -> None:
        assert dict(chain.from_iterable(piece.items() for piece in found.distinct_pieces())) == self.values
        assert (len(found), deadlines(found)) == (len(self.values), self.deadlines)
        assert (found.deadlines is None) == (not self.deadlines)
        for now_ms in (NOW_MS - 4, NOW_MS, NOW_MS + 4):
            expired = {field for field, at_ms in self.deadlines.items() if at_ms <= now_ms}
            expected = {field: value for field, value in self.values.items() if field not in expired}
            assert live(found, now_ms) == expected
            assert found.expired_count(now_ms) == len(expired)
            assert set(found.expired(now_ms, 1000)) == expired
            assert len(found.expired(now_ms, 2)) == min(2, len(expired))
            assert {field for field in self.values if found.get(field, now_ms) is not None} == set(expected)
            chosen = found.choose(3, now_ms)
            assert len(chosen) == len(set(chosen)) == min(3, len(expected))
            assert set(chosen) <= set(expected)
            drawn = found.draw_several(4, now_ms)
            assert len(drawn) == (4 if expected else 0)
            assert set(drawn) <= set(expected)
        if found.deadlines is not None:
            assert found.deadlines.first_ms <= min(self.deadlines.values())


def change(found: Hash, model: Model, name: str, *words: Any) -> None:
    """Makes the same change to a hash and to its model."""
    match name, *words:
        case "put", chosen, value:
            pairs = list(chain.from_iterable((field, value) for field in chosen))
            assert found.put(pairs, CONFIG) == len(set(chosen) - set(model.values))
            model.values |= dict.fromkeys(chosen, value)
        case "discard", chosen:
            assert found.discard(chosen) == len(set(chosen) & set(model.values))
            for field in chosen:
                model.values.pop(field, None)
                model.deadlines.pop(field, None)
        case "set_deadline", chosen, at_ms:
            for field in set(chosen) & set(model.values):
                found.set_deadline(field, at_ms)
                model.deadlines[field] = at_ms
        case "persist", chosen:
            for field in chosen:
                assert found.persist(field) == (model.deadlines.pop(field, None) is not None)


@settings(deadline=None)
@given(changes)
def test_a_hash_is_what_its_changes_make_of_it(given_changes: list[tuple[Any, ...]]) -> None:
    found, model = Hash(), Model()
    left_behind: list[tuple[Hash, Model]] = []
    for words in given_changes:
        if words == ("copy",):
            left_behind.append((found, deepcopy(model)))
            found = found.copy()
        elif words == ("pack",):
            packed = found.pack()
            if packed is not None:
                found = Hash.unpack(packed)
        else:
            change(found, model, *words)
        model.assert_same(found)
    for old, old_model in left_behind:
        old_model.assert_same(old)


def test_every_field_is_drawn_as_often_as_any_other() -> None:
    found = Hash.of(numbered(300), CONFIG)
    for number in range(100):
        found.set_deadline(b"f%d" % number, NOW_MS - number % 2)
    drawn = Counter(chain.from_iterable(found.draw_several(200, NOW_MS) for _ in range(100)))
    assert set(drawn) == {b"f%d" % number for number in range(100, 300)}
    assert max(drawn.values()) < 160
    chosen = Counter(chain.from_iterable(found.choose(10, NOW_MS) for _ in range(2000)))
    assert set(chosen) == set(drawn)
    assert max(chosen.values()) < 160


def test_a_hash_of_which_nearly_all_have_expired_still_gives_fields_at_random() -> None:
    found = Hash.of(numbered(1000), CONFIG)
    for number in range(2, 1000):
        found.set_deadline(b"f%d" % number, NOW_MS)
    assert set(found.draw_several(100, NOW_MS)) == {b"f0", b"f1"}
    assert {*found.choose(1, NOW_MS), *chain.from_iterable(found.choose(1, NOW_MS) for _ in range(99))} == {
        b"f0",
        b"f1",
    }


# -- deadlines --------------------------------------------------------------------------------


def test_the_first_deadline_is_known_as_soon_as_one_has_passed() -> None:
    found = FieldDeadlines()
    assert found.first_ms == NEVER_MS
    for field, at_ms in ((b"c", 30), (b"a", 10), (b"b", 20)):
        found.set(field, at_ms)
    assert (found.first_ms, found.due(9, 5), found.due(20, 5)) == (10, [], [b"a", b"b"])
    assert found.discard(b"a")
    assert not found.discard(b"a")
    assert (found.due(15, 5), found.first_ms) == ([], 20)
    found.set(b"b", 40)
    assert (found.due(30, 5), found.first_ms) == ([b"c"], 30)


def test_a_copy_of_deadlines_is_one_of_its_own() -> None:
    found = FieldDeadlines({b"f%d" % number: number for number in range(1, 300)})
    copy = found.copy()
    copy.set(b"f299", 1)
    found.discard(b"f1")
    assert (found.due_count(1), copy.due_count(1)) == (0, 2)
    assert (found.get(b"f299"), copy.get(b"f1"), found.get(b"f1")) == (299, 1, None)


def test_a_dead_hash_is_freed_in_slices() -> None:
    found = Hash.of(numbered(5000), CONFIG)
    for number in range(0, 5000, 2):
        found.set_deadline(b"f%d" % number, number)
    slices = 0
    while found:
        before = len(found)
        found.shed(500)
        assert 500 <= before - len(found) <= 600 or not found
        slices += 1
    assert slices > 7


# -- as a value -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pairs", "form"),
    [
        (numbered(1), "listpack"),
        (numbered(512), "listpack"),
        (numbered(513), "hashtable"),
        ([b"f", b"1"] * 512, "listpack"),
        ([b"f", b"1"] * 513, "hashtable"),
        ([b"f", b"v" * 64], "listpack"),
        ([b"f", b"v" * 65], "hashtable"),
        ([b"f" * 65, b""], "hashtable"),
        ([b"f" * 64, b"", b"g", b"v" * 65], "hashtable"),
    ],
)
def test_encodings(pairs: list[bytes], form: str) -> None:
    found = Hash.of(pairs, CONFIG)
    assert encoding(found, CONFIG) == form
    found.set_deadline(pairs[0], NOW_MS)
    assert encoding(found, CONFIG) == form.replace("listpack", "listpackex")
    found.persist(pairs[0])
    found.put([b"g", b""], CONFIG)
    assert encoding(found, CONFIG) == (
        form.replace("listpack", "listpackex") if len(found) < 513 else "hashtable"
    )
    found.put([b"h", b"v" * 65], CONFIG)
    found.discard([b"h"])
    assert (encoding(found, CONFIG), encoding(found.copy(), CONFIG)) == ("hashtable", "hashtable")


@pytest.mark.parametrize("form", ENCODINGS)
def test_packing_is_exact(form: str) -> None:
    found = Hash(form, {b"": b"\xff\x00", b"f": b"", b"g" * 300: b"v" * 3000})
    packed = found.pack()
    assert isinstance(packed, PackedHash)
    assert (type_name(packed), encoding(packed, CONFIG)) == ("hash", form)
    again = unpacked(packed)
    assert isinstance(again, Hash)
    assert (live(again), again.form, len(again), again.deadlines) == (live(found), form, 3, None)


def test_large_hashes_are_not_packed() -> None:
    assert Hash.of(numbered(limits.HASH_PACKED_FIELDS), CONFIG).pack() is not None
    assert Hash.of(numbered(limits.HASH_PACKED_FIELDS + 1), CONFIG).pack() is None
    assert Hash.of([b"f", b"v" * limits.HASH_PACKED_BYTES], CONFIG).pack() is None


def test_packed_hashes_are_small() -> None:
    packed = Hash.of(numbered(10), CONFIG).pack()
    assert packed is not None
    assert len(packed) < 80


def test_requests_rebuild_a_hash_with_its_deadlines() -> None:
    found = Hash.of(numbered(700), CONFIG)
    for number in range(600):
        found.set_deadline(b"f%d" % number, number % 3)
    requests = list(found.commands(b"key"))
    assert all(len(request) <= 5 + 2 * limits.HASH_REQUEST_FIELDS for request in requests)
    made: dict[bytes, bytes] = {}
    expected = deadlines(found)
    for request in requests:
        match request:
            case b"HSET", b"key", *words:
                made |= dict(zip(words[::2], words[1::2], strict=True))
            case b"HPEXPIREAT", b"key", at, b"FIELDS", count, *of:
                assert int(count) == len(of)
                assert all(field in made and expected.pop(field) == int(at) for field in of)
    assert (made, expected) == (live(found, -1), {})
