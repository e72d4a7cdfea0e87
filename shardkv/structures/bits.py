"""The bits of a string, numbered from the most significant bit of its first byte on, as SETBIT numbers them.

Everything here works on `bytes` and `bytearray` alike, and on long ones at the speed of C.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import reduce
from operator import and_, or_, xor
from typing import NamedTuple
from zlib import adler32

String = bytes | bytearray

# -- counting ---------------------------------------------------------------------------------

_ONES = bytes(byte.bit_count() for byte in range(256))

_SUMMED_BYTES = 8000
"""The sum of the ones in so many bytes stays below what Adler-32 sums up to (65521)."""


def sum_of_bytes(data: String) -> int:
    """The sum of the bytes, which must stay below 65521: the first of the two sums of an Adler-32 that begins
    at 0, and by far the fastest sum there is."""
    return adler32(data, 0) & 0xFFFF


def count_ones(data: String, start: int, stop: int) -> int:
    """How many bits from `start` to before `stop` are 1; that must be at least one bit of the string."""
    first, end = start >> 3, (stop + 7) >> 3
    if end - first <= _SUMMED_BYTES:
        total = int.from_bytes(data[first:end], "little").bit_count()
    else:
        parts = (data[at : min(at + _SUMMED_BYTES, end)] for at in range(first, end, _SUMMED_BYTES))
        total = sum(sum_of_bytes(part.translate(_ONES)) for part in parts)
    before, after = start & 7, -stop & 7
    if before:
        total -= (data[first] >> (8 - before)).bit_count()
    if after:
        total -= (data[end - 1] & ((1 << after) - 1)).bit_count()
    return total


# -- finding ----------------------------------------------------------------------------------

_BLOCK_BYTES = 64 * 1024

_BLOCKS = {byte: bytes([byte]) * _BLOCK_BYTES for byte in (0x00, 0xFF)}
_RUNS = {0x00: re.compile(rb"\x00*"), 0xFF: re.compile(rb"\xff*")}


def find_bit(data: String, bit: int, start: int, stop: int) -> int:
    """The first place of a bit from `start` to before `stop`, which must be in the string; -1 if there is
    none."""
    without = 0x00 if bit else 0xFF
    place, end = start >> 3, (stop + 7) >> 3
    found = (data[place] ^ without) & (0xFF >> (start & 7))
    if not found:
        place = _end_of_run(data, without, place + 1, end)
        if place == end:
            return -1
        found = data[place] ^ without
    at = place * 8 + 8 - found.bit_length()
    return at if at < stop else -1


def _end_of_run(data: String, byte: int, place: int, end: int) -> int:
    """Where a run of the same byte that may begin at `place` ends, at the latest at `end`."""
    block = _BLOCKS[byte]
    while end - place >= _BLOCK_BYTES and data.startswith(block, place):
        place += _BLOCK_BYTES
    run = _RUNS[byte].match(data, place, end)
    assert run is not None
    return run.end()


# -- combining --------------------------------------------------------------------------------
# As little-endian numbers strings of different lengths meet at their first bytes, and the shorter ones go on
# with zeros, as BITOP wants it.

_COMPLEMENT = bytes(255 - byte for byte in range(256))


def _any_other(numbers: Iterable[int]) -> tuple[int, int]:
    """The first number, and what is in any of the others."""
    first, *others = numbers
    return first, reduce(or_, others)


def _difference(numbers: Iterable[int]) -> int:
    first, others = _any_other(numbers)
    return first & ~others


def _reverse_difference(numbers: Iterable[int]) -> int:
    first, others = _any_other(numbers)
    return others & ~first


def _and_or(numbers: Iterable[int]) -> int:
    first, others = _any_other(numbers)
    return first & others


def _exactly_one(numbers: Iterable[int]) -> int:
    once = more = 0
    for number in numbers:
        more |= once & number
        once |= number
    return once & ~more


OPERATIONS: dict[bytes, Callable[[Iterable[int]], int]] = {
    b"AND": lambda numbers: reduce(and_, numbers),
    b"OR": lambda numbers: reduce(or_, numbers),
    b"XOR": lambda numbers: reduce(xor, numbers),
    b"DIFF": _difference,
    b"DIFF1": _reverse_difference,
    b"ANDOR": _and_or,
    b"ONE": _exactly_one,
}
"""The operations of BITOP on several strings."""


def complement(data: String) -> bytes:
    """Every bit the other way round."""
    return bytes(data.translate(_COMPLEMENT))


def combine(operation: bytes, strings: Sequence[String]) -> bytes:
    """What one of the OPERATIONS makes of strings: as long as the longest of them."""
    length = max(map(len, strings))
    numbers = (int.from_bytes(data, "little") for data in strings)
    return OPERATIONS[operation](numbers).to_bytes(length, "little")


# -- fields -----------------------------------------------------------------------------------


class Overflow(Enum):
    """What becomes of a number that does not fit."""

    WRAP = b"WRAP"
    """Its lowest bits stay."""
    SAT = b"SAT"
    """The nearest number that fits takes its place."""
    FAIL = b"FAIL"
    """Nothing is written."""


class Field(NamedTuple):
    """A type of integer: so many bits, the most significant first."""

    signed: bool
    bits: int

    def read(self, data: String, offset: int) -> int:
        """The number at a bit. Beyond the end of the string there are zeros."""
        first, end = offset >> 3, (offset + self.bits + 7) >> 3
        word = int.from_bytes(data[first:end].ljust(end - first, b"\0"), "big")
        number = word >> (end * 8 - offset - self.bits) & ((1 << self.bits) - 1)
        if self.signed and number >> (self.bits - 1):
            number -= 1 << self.bits
        return number

    def write(self, data: bytearray, offset: int, number: int) -> None:
        """Puts a number that fits at a bit of a string that is long enough."""
        first, end = offset >> 3, (offset + self.bits + 7) >> 3
        shift = end * 8 - offset - self.bits
        mask = (1 << self.bits) - 1
        word = int.from_bytes(data[first:end], "big") & ~(mask << shift)
        data[first:end] = (word | (number & mask) << shift).to_bytes(end - first, "big")

    def fitted(self, number: int, overflow: Overflow) -> int | None:
        """The number itself, or what stands for it if it does not fit; None if nothing does."""
        lowest = -1 << (self.bits - 1) if self.signed else 0
        highest = lowest + (1 << self.bits) - 1
        if lowest <= number <= highest:
            return number
        if overflow is Overflow.FAIL:
            return None
        if overflow is Overflow.SAT:
            return highest if number > highest else lowest
        return (number - lowest & ((1 << self.bits) - 1)) + lowest
