"""HyperLogLogs: the sparse and the dense form tell the same, and the estimate is near."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkv import errors
from shardkv.errors import CommandError
from shardkv.structures import hyperloglog
from shardkv.structures.hyperloglog import DENSE_BYTES, REGISTERS, position

NEVER_DENSE = 1 << 20

HEADER = b"HYLL\x01" + bytes(10) + b"\x80"


def test_a_new_one() -> None:
    value = hyperloglog.new()
    hyperloglog.check(value)
    assert value == HEADER + b"\x7f\xff"
    assert hyperloglog.registers(value) == bytes(REGISTERS)
    assert hyperloglog.count(value) == 0


def test_the_first_element() -> None:
    """What Redis 8.2 stores and shows for PFADD key a."""
    value = hyperloglog.new()
    assert hyperloglog.add(value, b"a", 3000)
    assert value[16:] == b"q\xa6\x84NW"
    assert list(hyperloglog.opcodes(value)) == [("Z", 0, 12711), ("v", 2, 1), ("Z", 0, 3672)]
    assert not hyperloglog.add(value, b"a", 3000)


registers = st.integers(0, REGISTERS - 1) | st.integers(0, 40) | st.integers(REGISTERS - 40, REGISTERS - 1)
raises = st.lists(st.tuples(registers, st.integers(1, 33)), max_size=100)


@settings(max_examples=60, deadline=None)
@given(raises, st.sampled_from([18, 40, 100, NEVER_DENSE]))
def test_registers_keep_the_highest(given_raises: list[tuple[int, int]], sparse_max_bytes: int) -> None:
    expected = bytearray(REGISTERS)
    value = hyperloglog.new()
    for index, run in given_raises:
        changed = hyperloglog.raise_register(value, index, run, sparse_max_bytes)
        assert changed == (run > expected[index])
        expected[index] = max(expected[index], run)
    assert hyperloglog.registers(value) == expected
    assert hyperloglog.is_dense(value) or len(value) <= sparse_max_bytes


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("into_dense", [False, True])
def test_merging(dense: bool, into_dense: bool) -> None:
    numbers = random.Random(1)
    one, other = (bytes(numbers.choice([0] * 60 + [3, 9, 30]) for _ in range(REGISTERS)) for _ in range(2))
    value = hyperloglog.new()
    if into_dense:
        hyperloglog.make_dense(value)
    hyperloglog.raise_registers(value, one, dense, NEVER_DENSE)
    hyperloglog.raise_registers(value, other, False, NEVER_DENSE)
    assert hyperloglog.is_dense(value) == (dense or into_dense)
    assert hyperloglog.registers(value) == bytes(map(max, one, other)) == hyperloglog.merged([one, other])


def test_merging_may_make_it_dense() -> None:
    value = hyperloglog.new()
    values = bytes([5, 0] * (REGISTERS // 2))
    hyperloglog.raise_registers(value, values, False, 3000)
    assert len(value) == DENSE_BYTES
    assert hyperloglog.registers(value) == values


@pytest.mark.parametrize("elements", [0, 1, 10, 100, 1000, 10_000, 30_000])
def test_the_estimate_is_near(elements: int) -> None:
    value = hyperloglog.new()
    values = bytearray(REGISTERS)
    for number in range(elements):
        index, run = position(b"element:%d" % number)
        values[index] = max(values[index], run)
    hyperloglog.raise_registers(value, bytes(values), False, 3000)
    assert hyperloglog.count(value) == pytest.approx(elements, rel=0.03)


@given(st.binary(max_size=100))
def test_a_hash_is_of_64_bits(data: bytes) -> None:
    assert 0 <= hyperloglog.murmur(data) < 2**64
    index, run = position(data)
    assert 0 <= index < REGISTERS
    assert 1 <= run <= 51


@pytest.mark.parametrize(
    "string",
    [b"", b"HYLL", b"x" * 20, b"HYLL\x02" + bytes(20), b"HYLL\x00" + bytes(DENSE_BYTES), HEADER[:-1]],
)
def test_strings_that_are_none(string: bytes) -> None:
    with pytest.raises(CommandError) as raised:
        hyperloglog.check(string)
    assert raised.value.text == errors.NO_HYPERLOGLOG


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=50)
    | st.sampled_from([b"\x3f" * 100_000, b"\x83" * 20_000, b"\x7f\xff" * 5000, b"\x7f"])
)
def test_corrupted_strings_are_told(opcodes: bytes) -> None:
    value = bytearray(HEADER + opcodes)
    with pytest.raises(CommandError) as raised:
        hyperloglog.registers(value)
    assert raised.value.text == errors.CORRUPTED_HYPERLOGLOG
    with suppress(CommandError):
        for index in (0, 5000, REGISTERS - 1):
            hyperloglog.raise_register(value, index, 3, 3000)


@given(st.integers(0, 63), st.integers(0, 63))
def test_any_registers_have_an_estimate(one: int, other: int) -> None:
    """Also those that no element can have given these values."""
    hyperloglog.estimate(bytes([one]) * (REGISTERS - 100) + bytes([other]) * 100)
