"""The structure of lists, beside a plain Python list."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shardkv.limits import LIST_PACKED_BYTES, LIST_PACKED_ELEMENTS
from shardkv.settings import Config
from shardkv.structures.list import List, PackedList
from shardkv.values import LARGE_COLLECTION

CONFIG = Config()
NUMBERED = [b"%d" % number for number in range(3000)]


def configured(list_max_listpack_size: int) -> Config:
    config = Config()
    config.list_max_listpack_size = list_max_listpack_size
    return config


def list_of(elements: list[bytes], config: Config = CONFIG) -> List:
    return List.of(elements.copy(), config)


# -- any operations ---------------------------------------------------------------------------

some_elements = st.one_of(
    st.lists(st.sampled_from([b"a", b"b", b"", b"17", b"-5", b"x" * 70]), max_size=5),
    st.builds(lambda start, count: NUMBERED[start : start + count], st.integers(0, 50), st.integers(0, 700)),
    st.builds(lambda count: [b"%d" % (number % 3) for number in range(count)], st.integers(0, 700)),
    st.builds(lambda count: [b"%d" % number + b"y" * 300 for number in range(count)], st.integers(0, 300)),
)
places = st.floats(0, 1, exclude_max=True)
"""Where in a list, whatever its length."""


class LikeAPythonList(RuleBasedStateMachine):
    """Does the same to a list of ours and to a plain one."""

    @initialize(elements=some_elements, more=some_elements)
    def begin(self, elements: list[bytes], more: list[bytes]) -> None:
        self.ours = List()
        self.plain: list[bytes] = []
        self.push_right(elements)
        self.push_left(more)

    def place(self, place: float) -> int:
        return int(place * len(self.plain))

    @rule(elements=some_elements)
    def push_right(self, elements: list[bytes]) -> None:
        self.plain += elements
        assert self.ours.push_right(elements.copy(), CONFIG) == len(self.plain)

    @rule(elements=some_elements)
    def push_left(self, elements: list[bytes]) -> None:
        self.plain[:0] = elements[::-1]
        assert self.ours.push_left(elements.copy(), CONFIG) == len(self.plain)

    @rule(most=st.integers(1, 400))
    def pop_left(self, most: int) -> None:
        for _ in range(min(most, len(self.plain))):
            assert self.ours.pop_left() == self.plain.pop(0)

    @rule(most=st.integers(1, 400))
    def pop_right(self, most: int) -> None:
        for _ in range(min(most, len(self.plain))):
            assert self.ours.pop_right() == self.plain.pop()

    @rule(count=st.integers(0, 400))
    def pop_many_left(self, count: int) -> None:
        assert self.ours.pop_many_left(count) == self.plain[:count]
        del self.plain[:count]

    @rule(count=st.integers(0, 400))
    def pop_many_right(self, count: int) -> None:
        assert self.ours.pop_many_right(count) == self.plain[::-1][:count]
        del self.plain[max(0, len(self.plain) - count) :]

    @precondition(lambda self: self.plain)
    @rule(place=places, length=places)
    def trim(self, place: float, length: float) -> None:
        start = self.place(place)
        stop = start + 1 + int(length * (len(self.plain) - start))
        self.ours.trim(start, stop)
        self.plain = self.plain[start:stop]

    @precondition(lambda self: self.plain)
    @rule(place=places, element=st.sampled_from([b"new", b"7", b"z" * 500]), negative=st.booleans())
    def set(self, place: float, element: bytes, negative: bool) -> None:
        index = self.place(place) - negative * len(self.plain)
        assert self.ours.set(index, element, CONFIG)
        self.plain[index] = element

    @precondition(lambda self: self.plain)
    @rule(place=places, often=st.sampled_from([1, 200]), after=st.booleans())
    def insert(self, place: float, often: int, after: bool) -> None:
        pivot = self.plain[self.place(place)]
        for number in range(often):
            assert self.ours.insert(pivot, b"%d" % number, CONFIG, after=after)
            self.plain.insert(self.plain.index(pivot) + after, b"%d" % number)

    @precondition(lambda self: self.plain)
    @rule(place=places, most=st.sampled_from([1, 2, 100, 10_000]), backwards=st.booleans())
    def remove(self, place: float, most: int, backwards: bool) -> None:
        element = self.plain[self.place(place)]
        found = min(most, self.plain.count(element))
        assert self.ours.remove(element, most, backwards=backwards) == found
        if backwards:
            self.plain.reverse()
        for _ in range(found):
            self.plain.remove(element)
        if backwards:
            self.plain.reverse()

    @precondition(lambda self: self.plain)
    @rule(place=places, reach=st.sampled_from([1, 5, 300, 10_000]), backwards=st.booleans())
    def indexes(self, place: float, reach: int, backwards: bool) -> None:
        element = self.plain[self.place(place)]
        count = len(self.plain)
        found = [index for index, other in enumerate(self.plain) if other == element]
        if backwards:
            found = [index for index in reversed(found) if index >= count - reach]
        else:
            found = [index for index in found if index < reach]
        assert list(self.ours.indexes(element, reach, backwards=backwards)) == found

    @rule(place=places, length=st.integers(0, 700))
    def between(self, place: float, length: int) -> None:
        start = self.place(place)
        assert self.ours.between(start, start + length) == self.plain[start : start + length]

    @rule(place=places)
    def get(self, place: float) -> None:
        index, count = self.place(place), len(self.plain)
        expected = self.plain[index] if self.plain else None
        assert self.ours.get(index) == self.ours.get(index - count if count else -1) == expected
        assert self.ours.get(count) is self.ours.get(-count - 1) is None

    @rule()
    def go_on_with_a_copy(self) -> None:
        copy, before = self.ours.copy(), self.ours
        if self.plain:
            before.set(0, b"only in the other", CONFIG)
            before.pop_right()
        self.ours = copy

    @rule()
    def rest(self) -> None:
        packed = self.ours.pack()
        if packed is not None:
            unpacked = packed.unpacked()
            assert isinstance(unpacked, List)
            assert unpacked.encoding(CONFIG) == self.ours.encoding(CONFIG)
            self.ours = unpacked

    @invariant()
    def is_the_same(self) -> None:
        if hasattr(self, "ours"):
            assert len(self.ours) == len(self.plain)
            assert list(self.ours) == self.plain


LikeAPythonList.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestLikeAPythonList = LikeAPythonList.TestCase


# -- the encoding -----------------------------------------------------------------------------


def fill(element: bytes, count: int, config: Config = CONFIG) -> List:
    found = List()
    for _ in range(count):
        found.push_right([element], config)
    return found


@pytest.mark.parametrize(
    ("element", "most"),
    [
        # 7 bytes are the listpack's own; the last element only has to fit without its overhead.
        (b"x" * 10, 682),
        (b"x" * 100, 79),
        (b"12345", 2046),
        (b"7", 4093),
        (b"x" * 8185, 1),
        (b"x" * 8186, 0),
    ],
)
def test_a_list_of_8_kb_is_a_quicklist(element: bytes, most: int) -> None:
    assert fill(element, most).encoding(CONFIG) == "listpack"
    assert fill(element, most + 1).encoding(CONFIG) == "quicklist"


def test_elements_pushed_together_count_without_their_overhead() -> None:
    assert list_of([b"x"] * 8185).encoding(CONFIG) == "listpack"
    assert list_of([b"x"] * 8186).encoding(CONFIG) == "quicklist"


@pytest.mark.parametrize("setting", [1, 2, 100])
def test_a_positive_setting_counts_elements(setting: int) -> None:
    config = configured(setting)
    assert fill(b"x", setting, config).encoding(config) == "listpack"
    assert fill(b"x", setting + 1, config).encoding(config) == "quicklist"


@pytest.mark.parametrize("pop", [List.pop_left, List.pop_right])
def test_a_quicklist_becomes_a_listpack_at_half_the_size(pop: Callable[[List], bytes]) -> None:
    found = fill(b"x" * 10, 3000)
    while len(found) > 341:
        pop(found)
    assert found.encoding(CONFIG) == "quicklist"
    pop(found)
    assert found.encoding(CONFIG) == "listpack"


def test_what_became_small_in_between_is_a_listpack_while_it_grows() -> None:
    found = fill(b"x" * 10, 700)
    found.pop_many_left(400)
    for _ in range(300):
        found.push_right([b"x" * 10], CONFIG)
    assert found.encoding(CONFIG) == "listpack"


def test_a_replaced_element_changes_the_encoding() -> None:
    found = list_of([b"a", b"b"])
    found.set(0, b"x" * 9000, CONFIG)
    assert found.encoding(CONFIG) == "quicklist"
    found.set(0, b"a", CONFIG)
    assert found.encoding(CONFIG) == "listpack"


def test_a_large_inserted_element_changes_the_encoding() -> None:
    found = list_of([b"a", b"b"])
    found.insert(b"a", b"x" * 9000, CONFIG, after=True)
    assert found.encoding(CONFIG) == "quicklist"
    found.remove(b"x" * 9000, 1, backwards=False)
    assert found.encoding(CONFIG) == "listpack"


def test_an_element_not_inserted_is_not_counted() -> None:
    found = fill(b"x" * 10, 600)
    for _ in range(100):
        assert not found.insert(b"nothing", b"y" * 900, CONFIG, after=True)
    found.push_right([b"x"], CONFIG)
    assert found.encoding(CONFIG) == "listpack"


def test_a_copy_has_the_encoding_of_the_original() -> None:
    found = fill(b"x" * 10, 700)
    found.pop_many_left(100)
    assert found.copy().encoding(CONFIG) == "quicklist"


# -- large lists ------------------------------------------------------------------------------


def test_large_elements_are_kept_as_they_are() -> None:
    large = [b"%d" % number + b"x" * 1000 for number in range(1000)]
    found = list_of(large)
    assert found.get(500) is large[500]
    assert found.set(500, b"other", CONFIG)
    assert found.between(499, 502) == [large[499], b"other", large[501]]


def test_a_copy_of_a_large_list_shares_what_is_packed() -> None:
    found = list_of(NUMBERED)
    copy = found.copy()
    found.set(1500, b"other", CONFIG)
    found.remove(b"1600", 1, backwards=False)
    assert list(copy) == NUMBERED


def test_removing_nearly_everything_leaves_few_nodes() -> None:
    found = list_of([element for number in NUMBERED for element in (b"x", b"x", b"x", number)])
    assert found.remove(b"x", 10**6, backwards=False) == 9000
    assert list(found) == NUMBERED
    assert found._nodes is not None
    assert len(list(found._nodes)) < 100


def test_removing_one_by_one_leaves_few_nodes() -> None:
    found = list_of(NUMBERED * 3)
    for number in NUMBERED:
        if not number.endswith(b"7"):
            assert found.remove(number, 3, backwards=True) == 3
    assert len(found) == 900
    assert found._nodes is None or len(list(found._nodes)) < 40


@pytest.mark.parametrize("count", [1, 300, 3000])
def test_shedding_ends(count: int) -> None:
    found = list_of(NUMBERED[:count])
    lengths = [count]
    while found:
        found.shed(LARGE_COLLECTION // 2)
        lengths.append(len(found))
    assert all(before > after for before, after in pairwise(lengths))
    assert len(lengths) >= count // LARGE_COLLECTION


# -- at rest ----------------------------------------------------------------------------------


def test_a_small_list_is_packed() -> None:
    packed = list_of([b"a", b"", b"\x00\xff", b"17"]).pack()
    assert packed.__class__ is List.packed_kind is PackedList
    assert list(packed.unpacked()) == [b"a", b"", b"\x00\xff", b"17"]  # type: ignore[call-overload]
    assert len(packed) < 30


def test_the_encoding_outlives_packing() -> None:
    found = fill(b"x" * 10, 700)
    found.pop_many_right(250)
    packed = found.pack()
    assert packed is not None
    unpacked: Any = packed.unpacked()
    assert unpacked.encoding(CONFIG) == "quicklist"
    unpacked.pop_many_left(250)
    assert unpacked.encoding(CONFIG) == "listpack"


@pytest.mark.parametrize("elements", [[b"x"] * (LIST_PACKED_ELEMENTS + 1), [b"x" * LIST_PACKED_BYTES, b"x"]])
def test_a_large_list_is_not_packed(elements: list[bytes]) -> None:
    assert list_of(elements).pack() is None


# -- as requests ------------------------------------------------------------------------------


def test_the_requests_depend_on_the_content_alone() -> None:
    pushed = list_of(NUMBERED)
    other = List()
    for element in reversed(NUMBERED):
        other.push_left([element], CONFIG)
    assert list(pushed.commands(b"key")) == list(other.commands(b"key"))


def test_requests_are_of_moderate_size() -> None:
    large = [b"x" * length for length in [10, 100_000, 1, 1, 200_000, 50_000, 10_000, 10_000]] * 20
    requests = list(list_of(large).commands(b"key"))
    assert [element for request in requests for element in request[2:]] == large
    assert all(request[:2] == [b"RPUSH", b"key"] and len(request) <= 130 for request in requests)
    assert max(sum(map(len, request[2:])) for request in requests) == 200_000
