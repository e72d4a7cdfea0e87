"""Small collections in one string: read as they were written, whatever sizes there are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv.rdb import packed
from shardkv.rdb.reader import FormatError
from shardkv.structures.listpack import EMPTY_BYTES, entry_bytes
from tests.rdb import forms

SIZES = [
    0,
    1,
    62,
    63,
    64,
    65,
    125,
    126,
    127,
    128,
    253,
    254,
    255,
    4094,
    4095,
    4096,
    16380,
    16383,
    16384,
    70000,
]
STRINGS = [b"x" * size for size in SIZES]
NUMBERS = [b"%d" % number for number in forms.INTEGERS]

elements = st.one_of(st.binary(max_size=70), st.sampled_from(STRINGS[:-2] + NUMBERS + [b"01", b"-0", b"-"]))


@given(st.lists(elements, max_size=40))
def test_listpack(given_elements: list[bytes]) -> None:
    data = packed.to_listpack(given_elements)
    assert packed.listpack(data) == given_elements
    assert len(data) == EMPTY_BYTES + sum(map(entry_bytes, given_elements))


@given(st.lists(elements, max_size=40))
def test_ziplist(given_elements: list[bytes]) -> None:
    assert packed.ziplist(forms.ziplist(given_elements)) == given_elements


@given(st.lists(st.binary(max_size=300), max_size=30).map(lambda words: words * 2), st.integers(0, 4))
def test_zipmap(given_pairs: list[bytes], unused: int) -> None:
    assert packed.zipmap(forms.zipmap(given_pairs, unused)) == given_pairs


@pytest.mark.parametrize("element", STRINGS + NUMBERS)
def test_each_size(element: bytes) -> None:
    assert packed.listpack(packed.to_listpack([element, b"after"])) == [element, b"after"]
    assert packed.ziplist(forms.ziplist([element, b"after"])) == [element, b"after"]


@pytest.mark.parametrize("count", [65534, 65535, 65536])
def test_more_elements_than_are_counted(count: int) -> None:
    given_elements = [b"7"] * count
    assert packed.listpack(packed.to_listpack(given_elements)) == given_elements
    assert packed.ziplist(forms.ziplist(given_elements)) == given_elements


@given(st.sets(st.sampled_from(forms.INTEGERS), min_size=1))
def test_intset(numbers: set[int]) -> None:
    in_order = sorted(numbers)
    assert packed.intset(forms.intset(in_order)) == [b"%d" % number for number in in_order]


@pytest.mark.parametrize("numbers", [[1, 1], [2, 1]])
def test_intset_without_order(numbers: list[int]) -> None:
    with pytest.raises(FormatError):
        packed.intset(forms.intset(numbers))
