"""HyperLogLogs, kept in strings of the very bytes that Redis keeps (its hyperloglog.c tells the format).

A string begins with a header: `HYLL`, the encoding in a byte, three bytes of nothing, and the estimate as a
little-endian 64-bit number whose highest bit says that it holds no more. Then come 16384 registers. Each
knows the longest run of zeros, counted from 1, among the hashes that fell to it.

    dense    6 bits a register, the first ones in the lowest bits
    sparse   runs of registers of the same value:
             00nnnnnn            n + 1 of value 0                   (ZERO)
             01nnnnnn nnnnnnnn   the same, for longer runs          (XZERO)
             1vvvvvnn            n + 1 of value v + 1               (VAL)
"""

from __future__ import annotations

import math
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from struct import unpack

from shardkv import errors
from shardkv.errors import CommandError
from shardkv.structures.bits import sum_of_bytes

String = bytes | bytearray

INDEX_BITS = 14
REGISTERS = 1 << INDEX_BITS
HASH_BITS = 64 - INDEX_BITS
HEADER_BYTES = 16
DENSE_BYTES = HEADER_BYTES + REGISTERS * 6 // 8

_DENSE, _SPARSE = range(2)
_ENCODING_AT = 4
_OUTDATED_AT, _OUTDATED = 15, 0x80

# -- the header -------------------------------------------------------------------------------


def new() -> bytearray:
    """One that has seen nothing yet."""
    return bytearray(b"HYLL\x01" + bytes(10) + b"\x80" + _run(0, REGISTERS))


def check(value: String) -> None:
    """Raises CommandError if a string is plainly none. Whether its runs make up all registers is not looked
    at."""
    if (
        not value.startswith(b"HYLL")
        or len(value) < HEADER_BYTES
        or value[_ENCODING_AT] > _SPARSE
        or (value[_ENCODING_AT] == _DENSE and len(value) != DENSE_BYTES)
    ):
        raise CommandError(errors.NO_HYPERLOGLOG)


def is_dense(value: String) -> bool:
    return value[_ENCODING_AT] == _DENSE


def outdate(value: bytearray) -> None:
    """Has the estimate in the header hold no more."""
    value[_OUTDATED_AT] |= _OUTDATED


# -- hashing ----------------------------------------------------------------------------------

_SEED = 0xADC83B19
_FACTOR = 0xC6A4A7935BD1E995
_MASK = (1 << 64) - 1


def murmur(data: bytes) -> int:
    """MurmurHash64A (https://github.com/aappleby/smhasher, MurmurHash2.cpp) with the seed of Redis."""
    length = len(data)
    number = _SEED ^ (length * _FACTOR & _MASK)
    words = length >> 3
    if words:
        for word in unpack(f"<{words}Q", data[: words << 3]):
            word = word * _FACTOR & _MASK
            number = (number ^ ((word ^ word >> 47) * _FACTOR & _MASK)) * _FACTOR & _MASK
    if length & 7:
        number = (number ^ int.from_bytes(data[words << 3 :], "little")) * _FACTOR & _MASK
    number = (number ^ number >> 47) * _FACTOR & _MASK
    return number ^ number >> 47


def position(element: bytes) -> tuple[int, int]:
    """The register that an element falls to, and the run of zeros it shows there, counted from 1."""
    number = murmur(element)
    zeros = number >> INDEX_BITS | 1 << HASH_BITS
    return number & (REGISTERS - 1), (zeros & -zeros).bit_length()


# -- adding -----------------------------------------------------------------------------------


def add(value: bytearray, element: bytes, sparse_max_bytes: int) -> bool:
    """Shows an element to a HyperLogLog; returns whether that changed it.

    sparse_max_bytes   where it would grow longer than that, it becomes dense.

    Raises CommandError if it is corrupted.
    """
    index, run = position(element)
    return raise_register(value, index, run, sparse_max_bytes)


def raise_register(value: bytearray, index: int, run: int, sparse_max_bytes: int) -> bool:
    """Sets a register to that value if it has a lower one; returns whether it had."""
    if value[_ENCODING_AT] == _SPARSE:
        return _raise_sparse(value, index, run, sparse_max_bytes)
    at = HEADER_BYTES + (index * 6 >> 3)
    shift = index * 6 & 7
    word = int.from_bytes(value[at : at + 2], "little")
    old = word >> shift & 63
    if old >= run:
        return False
    word += run - old << shift
    value[at] = word & 255
    if shift > 2:
        value[at + 1] = word >> 8
    return True


# -- the sparse encoding ----------------------------------------------------------------------

_LONGEST_ZERO = 64
_LONGEST_VAL = 4
_HIGHEST_VAL = 32

_LENGTHS = bytes(byte + 1 if byte < 0x40 else 0 if byte < 0x80 else (byte & 3) + 1 for byte in range(256))
"""How many registers an opcode of one byte tells of; 0 for an XZERO."""

_EXPANDED = [
    bytes(length) if byte < 0x80 else bytes([(byte >> 2 & 31) + 1]) * length
    for byte, length in enumerate(_LENGTHS)
]
"""Those registers."""

_XZERO = 0x3FFF
"""An XZERO, read as a number, is so much more than the number of its registers."""

_PIECE_BYTES = 1000
"""The registers of so many opcodes of one byte are few enough for `sum_of_bytes`."""

_JOINED_OPCODES = 5
"""How many opcodes are looked through for runs to join, from the one before a changed one on."""


def _run(run: int, length: int) -> bytes:
    """The opcode for so many registers of a value."""
    if run:
        return bytes([0x80 | run - 1 << 2 | length - 1]) if length else b""
    if length > _LONGEST_ZERO:
        return (_XZERO + length).to_bytes(2, "big")
    return bytes([length - 1]) if length else b""


def _pieces(value: String) -> Iterator[tuple[int, int, String]]:
    """The opcodes in order: single XZEROs, and runs of those of one byte. For each piece where it begins, how
    many registers it tells of, and the same for each opcode of a run (nothing for an XZERO)."""
    lengths = value.translate(_LENGTHS)
    at, end = HEADER_BYTES, len(value)
    while at < end:
        stop = lengths.find(0, at, at + _PIECE_BYTES)
        if stop < 0:
            stop = min(at + _PIECE_BYTES, end)
        if stop > at:
            run = lengths[at:stop]
            yield at, sum_of_bytes(run), run
            at = stop
        elif at + 1 < end:
            yield at, (value[at] << 8 | value[at + 1]) - _XZERO, b""
            at += 2
        else:
            raise CommandError(errors.CORRUPTED_HYPERLOGLOG)


def _find(value: bytearray, index: int) -> tuple[int, int, int]:
    """Where the opcode before the one of a register is (or the first opcode, if that is it), where that one
    is, and the first register it tells of."""
    # It goes through the same pieces as `_pieces`, in half the time: this is what a PFADD costs.
    lengths = value.translate(_LENGTHS)
    at = before = HEADER_BYTES
    first, last = 0, len(value) - 1
    while at <= last:
        length = lengths[at]
        if length:
            stop = lengths.find(0, at, at + _PIECE_BYTES)
            if stop < 0:
                stop = min(at + _PIECE_BYTES, last + 1)
            if stop - at > 1:
                run = lengths[at:stop]
                length = sum_of_bytes(run)
                if index < first + length:
                    place, skipped = _opcode_of(run, index - first)
                    return at + place - 1 if place else before, at + place, first + skipped
            elif index < first + length:
                return before, at, first
            before, at = stop - 1, stop
        elif at < last:
            length = (value[at] << 8 | value[at + 1]) - _XZERO
            if index < first + length:
                return before, at, first
            before, at = at, at + 2
        else:
            break
        first += length
    raise CommandError(errors.CORRUPTED_HYPERLOGLOG)


def _opcode_of(lengths: String, index: int) -> tuple[int, int]:
    """Which opcode tells of a register, and how many registers come before it."""
    low, high, skipped = 0, len(lengths), 0
    while high - low > 1:
        middle = (low + high) >> 1
        length = sum_of_bytes(lengths[low:middle])
        if skipped + length > index:
            high = middle
        else:
            low = middle
            skipped += length
    return low, skipped


def _raise_sparse(value: bytearray, index: int, run: int, sparse_max_bytes: int) -> bool:
    before, at, first = _find(value, index)
    opcode, size, old = value[at], 1, 0
    if opcode >= 0x80:
        length, old = (opcode & 3) + 1, (opcode >> 2 & 31) + 1
    elif opcode >= 0x40:
        length, size = (opcode << 8 | value[at + 1]) - _XZERO, 2
    else:
        length = opcode + 1
    if old >= run:
        return False
    if run <= _HIGHEST_VAL:
        changed = _run(old, index - first) + _run(run, 1) + _run(old, first + length - 1 - index)
        growth = len(changed) - size
        if growth <= 0 or len(value) + growth <= sparse_max_bytes:
            value[at : at + size] = changed
            _join(value, before)
            return True
    make_dense(value)
    return raise_register(value, index, run, sparse_max_bytes)


def _join(value: bytearray, at: int) -> None:
    """Makes one run of neighbours with the same value, among a few opcodes."""
    for _ in range(_JOINED_OPCODES):
        if at + 1 >= len(value):
            break
        opcode, follower = value[at], value[at + 1]
        if opcode < 0x80:
            at += 2 if opcode >= 0x40 else 1
        elif (
            follower >= 0x80
            and not (opcode ^ follower) & 0x7C
            and (length := (opcode & 3) + (follower & 3) + 2) <= _LONGEST_VAL
        ):
            value[at : at + 2] = bytes([opcode & 0xFC | length - 1])
        else:
            at += 1


def opcodes(value: String) -> Iterator[tuple[str, int, int]]:
    """The opcodes of a sparse HyperLogLog: `z`, `Z` or `v`, the registers' value, their number."""
    for at, length, lengths in _pieces(value):
        for opcode in value[at : at + len(lengths)]:
            yield ("v" if opcode >= 0x80 else "z"), _EXPANDED[opcode][0], _LENGTHS[opcode]
        if not lengths:
            yield "Z", 0, length


def _expand(value: String) -> bytes:
    parts: list[bytes] = []
    total = 0
    for at, length, lengths in _pieces(value):
        total += length
        if total > REGISTERS:
            break
        if lengths:
            parts += map(_EXPANDED.__getitem__, value[at : at + len(lengths)])
        else:
            parts.append(bytes(length))
    if total != REGISTERS:
        raise CommandError(errors.CORRUPTED_HYPERLOGLOG)
    return b"".join(parts)


# -- all registers ----------------------------------------------------------------------------
# Base 64 takes bytes to pieces of 6 bits as well, only from the other end.

_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_FROM_DIGITS = bytes.maketrans(_DIGITS, bytes(range(64)))
_TO_DIGITS = bytes.maketrans(bytes(range(64)), _DIGITS)


def registers(value: String) -> bytes:
    """The values of all registers, a byte each. Raises CommandError if the string is corrupted."""
    if not is_dense(value):
        return _expand(value)
    return b2a_base64(value[: HEADER_BYTES - 1 : -1], newline=False).translate(_FROM_DIGITS)[::-1]


def make_dense(value: bytearray) -> None:
    """Turns a sparse one into a dense one. Raises CommandError if it is corrupted."""
    _store_dense(value, registers(value))


def _store_dense(value: bytearray, values: bytes) -> None:
    value[_ENCODING_AT] = _DENSE
    value[HEADER_BYTES:] = a2b_base64(values[::-1].translate(_TO_DIGITS))[::-1]


_HIGH_BITS = int.from_bytes(b"\x80" * REGISTERS, "little")


def merged(parts: Iterable[bytes]) -> bytes:
    """The highest values of each register."""
    numbers = (int.from_bytes(part, "little") for part in parts)
    return reduce(_maximum, numbers, 0).to_bytes(REGISTERS, "little")


def _maximum(one: int, other: int) -> int:
    # The values are below 128, so that the high bit of each byte can take the outcome of a subtraction: it
    # stays where that did not have to borrow, and then makes a mask for the other seven.
    not_less = ((one | _HIGH_BITS) - other) & _HIGH_BITS
    mask = not_less - (not_less >> 7)
    return other ^ ((one ^ other) & mask)


def raise_registers(value: bytearray, values: bytes, dense: bool, sparse_max_bytes: int) -> None:
    """Sets all registers that have lower values to these."""
    old = registers(value)
    if dense or is_dense(value):
        _store_dense(value, merged((old, values)))
        return
    for index, (before, run) in enumerate(zip(old, values, strict=True)):
        if run > before:
            raise_register(value, index, run, sparse_max_bytes)


# -- estimating -------------------------------------------------------------------------------
# Otmar Ertl, New cardinality estimation algorithms for HyperLogLog sketches (https://arxiv.org/abs/1702.01284).

_ALPHA = 0.721347520444481703680
_NO_NUMBER = -(2**63)
"""What Redis answers where its estimate does not fit a signed 64-bit integer."""


def count(value: String) -> int:
    """The estimate for one HyperLogLog. Raises CommandError if it is corrupted."""
    if not value[_OUTDATED_AT] & _OUTDATED:
        return int.from_bytes(value[8:HEADER_BYTES], "little")
    return estimate(registers(value))


def estimate(values: bytes) -> int:
    """How many different elements have given the registers these values."""
    histogram = _histogram(values)
    scaled = REGISTERS * _tau((REGISTERS - histogram[HASH_BITS + 1]) / REGISTERS)
    for occurrences in histogram[HASH_BITS:0:-1]:
        scaled = (scaled + occurrences) * 0.5
    scaled += REGISTERS * _sigma(histogram[0] / REGISTERS)
    found = _ALPHA * REGISTERS * REGISTERS / scaled if scaled else math.inf
    return math.floor(found + 0.5) if found < 2**63 else _NO_NUMBER


def _histogram(values: bytes) -> Sequence[int]:
    """How many registers have each value."""
    found = [0] * 64
    left = REGISTERS
    for run in range(64):
        found[run] = values.count(run)
        left -= found[run]
        if not left:
            break
    return found


def _sigma(share: float) -> float:
    if share == 1:
        return math.inf
    factor, total, before = 1.0, share, -1.0
    while total != before:
        share *= share
        before = total
        total += share * factor
        factor += factor
    return total


def _tau(share: float) -> float:
    if share in (0, 1):
        return 0.0
    factor, total, before = 1.0, 1 - share, -1.0
    while total != before:
        share = math.sqrt(share)
        before = total
        factor *= 0.5
        total -= (1 - share) ** 2 * factor
    return total / 3
