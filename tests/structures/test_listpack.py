"""How large a listpack would be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv.numbers import canonical_integer
from shardkv.structures.listpack import MOST_OVERHEAD, entry_bytes, limit

NEAR_POWERS = [
    sign * (base**power + off)
    for base, most in ((2, 65), (10, 21))
    for power in range(most)
    for off in (-1, 0, 1)
    for sign in (1, -1)
]


@pytest.mark.parametrize(
    ("element", "size"),
    [
        (b"", 2),
        (b"a", 3),
        (b"0", 2),
        (b"127", 2),
        (b"128", 3),
        (b"-1", 3),
        (b"4095", 3),
        (b"4096", 4),
        (b"-4096", 3),
        (b"-4097", 4),
        (b"32767", 4),
        (b"32768", 5),
        (b"8388607", 5),
        (b"8388608", 6),
        (b"2147483647", 6),
        (b"2147483648", 10),
        (b"9223372036854775807", 10),
        (b"-9223372036854775808", 10),
        (b"9223372036854775808", 21),
        (b"-9223372036854775809", 22),
        (b"x" * 63, 65),
        (b"x" * 64, 67),
        (b"x" * 125, 128),
        (b"x" * 126, 130),
        (b"x" * 4095, 4099),
        (b"x" * 4096, 4103),
        (b"x" * 20000, 20008),
        (b"x" * 3_000_000, 3_000_009),
    ],
)
def test_an_entry_takes_what_the_format_says(element: bytes, size: int) -> None:
    assert entry_bytes(element) == size


@pytest.mark.parametrize("text", [b"01", b"-0", b"-01", b"+1", b" 1", b"1 ", b"1_0", b"--1", b"-", b"1.0"])
def test_other_spellings_of_a_number_are_text(text: bytes) -> None:
    assert entry_bytes(text) == len(text) + 2


@given(st.one_of(st.integers(), st.integers(-(2**64), 2**64), st.sampled_from(NEAR_POWERS)))
def test_numbers_take_the_bits_they_need(number: int) -> None:
    text = b"%d" % number
    if canonical_integer(text) is None:
        assert entry_bytes(text) >= len(text) + 2
    elif 0 <= number <= 127:
        assert entry_bytes(text) == 2
    else:
        bits = {3: 13, 4: 16, 5: 24, 6: 32, 10: 64}
        fitting = [size for size, width in bits.items() if -(2 ** (width - 1)) <= number < 2 ** (width - 1)]
        assert entry_bytes(text) == fitting[0]


@given(st.one_of(st.binary(), st.integers().map(lambda number: b"%d" % number)))
def test_the_overhead_has_a_bound(element: bytes) -> None:
    assert 2 <= entry_bytes(element) <= len(element) + MOST_OVERHEAD


def test_a_negative_setting_bounds_the_bytes() -> None:
    assert [limit(setting).size for setting in (-1, -2, -3, -4, -5, -6, -1000)] == [
        *(4096, 8192, 16384, 32768, 65536, 65536, 65536)
    ]
    assert limit(-2).half_size == 4096
    assert limit(-2).length > 10**9


@pytest.mark.parametrize(("setting", "length"), [(0, 1), (1, 1), (2, 2), (128, 128)])
def test_a_positive_setting_bounds_the_number_of_elements(setting: int, length: int) -> None:
    assert (limit(setting).size, limit(setting).length) == (8192, length)
    assert limit(setting).half_length == length // 2
