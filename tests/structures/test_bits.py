"""The bits of strings, against what the same says with lists of bits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv.structures.bits import (
    OPERATIONS,
    Field,
    Overflow,
    String,
    combine,
    complement,
    count_ones,
    find_bit,
    sum_of_bytes,
)

strings = st.one_of(
    st.binary(min_size=1, max_size=20), st.lists(st.sampled_from([0, 255]), min_size=1).map(bytes)
)


def bits_of(data: String) -> list[int]:
    return [byte >> shift & 1 for byte in data for shift in range(7, -1, -1)]


@given(st.data(), strings, st.sampled_from([0, 1]))
def test_ranges(data: st.DataObject, string: bytes, bit: int) -> None:
    bits = bits_of(string)
    start = data.draw(st.integers(0, len(bits) - 1))
    stop = data.draw(st.integers(start + 1, len(bits)))
    part = bits[start:stop]
    for given_string in (string, bytearray(string)):
        assert count_ones(given_string, start, stop) == sum(part)
        assert find_bit(given_string, bit, start, stop) == (start + part.index(bit) if bit in part else -1)


@pytest.mark.parametrize("length", [7999, 8000, 8001, 65536, 200_003])
def test_long_strings(length: int) -> None:
    ones = b"\xff" * length
    assert count_ones(ones, 3, length * 8 - 5) == length * 8 - 8
    assert find_bit(ones + b"\xfe", 0, 1, length * 8 + 8) == length * 8 + 7
    assert find_bit(ones + b"\xfe", 0, 1, length * 8 + 7) == -1
    assert find_bit(bytearray(length) + b"\x01", 1, 9, length * 8 + 8) == length * 8 + 7


def test_the_largest_sum() -> None:
    assert sum_of_bytes(b"\x08" * 8000) == 64_000
    assert sum_of_bytes(b"\x40" * 1000) == 64_000


def expected(operation: bytes, bits: list[int]) -> int:
    first, others = bits[0], any(bits[1:])
    return {
        b"AND": all(bits),
        b"OR": any(bits),
        b"XOR": sum(bits) % 2,
        b"DIFF": first and not others,
        b"DIFF1": others and not first,
        b"ANDOR": first and others,
        b"ONE": sum(bits) == 1,
    }[operation]


@given(st.sampled_from(sorted(OPERATIONS)), st.lists(st.binary(max_size=5), min_size=2, max_size=4))
def test_operations(operation: bytes, given_strings: list[bytes]) -> None:
    length = max(map(len, given_strings))
    columns = zip(*(bits_of(string.ljust(length, b"\0")) for string in given_strings), strict=True)
    assert bits_of(combine(operation, given_strings)) == [expected(operation, list(bits)) for bits in columns]


@given(st.binary())
def test_complement(string: bytes) -> None:
    assert bits_of(complement(string)) == [1 - bit for bit in bits_of(string)]


fields = st.one_of(
    st.builds(Field, st.just(True), st.integers(1, 64)), st.builds(Field, st.just(False), st.integers(1, 63))
)


@given(st.data(), fields, st.integers(0, 40))
def test_fields(data: st.DataObject, field: Field, offset: int) -> None:
    string = bytearray(data.draw(st.binary(min_size=13, max_size=13)))
    before = bits_of(string)
    lowest = -(2 ** (field.bits - 1)) if field.signed else 0
    number = data.draw(st.integers(lowest, lowest + 2**field.bits - 1))
    field.write(string, offset, number)
    after = bits_of(string)
    assert field.read(string, offset) == number
    assert after[:offset] == before[:offset]
    assert after[offset + field.bits :] == before[offset + field.bits :]


@given(fields, st.integers(0, 40), st.binary(max_size=8))
def test_a_string_goes_on_with_zeros(field: Field, offset: int, string: bytes) -> None:
    assert field.read(string, offset) == field.read(string + bytes(20), offset)


@given(fields, st.integers(-(2**65), 2**65))
def test_overflow(field: Field, number: int) -> None:
    lowest = -(2 ** (field.bits - 1)) if field.signed else 0
    highest = lowest + 2**field.bits - 1
    wrapped = field.fitted(number, Overflow.WRAP)
    assert wrapped is not None
    assert lowest <= wrapped <= highest
    assert (wrapped - number) % 2**field.bits == 0
    assert field.fitted(number, Overflow.SAT) == min(max(number, lowest), highest)
    assert field.fitted(number, Overflow.FAIL) == (number if lowest <= number <= highest else None)
