"""Lengths and strings, as they are read."""

from __future__ import annotations

from collections.abc import Callable

import lzf

from shardkv.numbers import canonical_integer

_LONGEST_INTEGER = 11
"""The text of a number in 32 bits."""

_LEAST_COMPRESSED = 21
"""No shorter string becomes shorter by compression, says Redis."""


_compress: Callable[[bytes], bytes | None] = lzf.compress


def compress_strings(on: bool) -> None:
    """Whether strings are compressed from now on, in this process: the setting rdbcompression."""
    global _compress
    _compress = lzf.compress if on else _as_it_is


def _as_it_is(text: bytes) -> None:
    return None


def _length(number: int) -> bytes:
    if number < 1 << 6:
        return bytes((number,))
    if number < 1 << 14:
        return (number | 0x4000).to_bytes(2, "big")
    if number < 1 << 32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


_SHORT = [_length(number) for number in range(1 << 6)]


def length(number: int) -> bytes:
    """A length, or another number from 0 up to 64 bits."""
    return _SHORT[number] if number < 1 << 6 else _length(number)


def string(text: bytes) -> bytes:
    """A string, in the form that takes the least room."""
    if len(text) < _LEAST_COMPRESSED:
        return (len(text) <= _LONGEST_INTEGER and _integer(text)) or _SHORT[len(text)] + text
    # Of what does not become shorter there is no compressed form.
    compressed = _compress(text)
    if compressed is None:
        return length(len(text)) + text
    return b"\xc3" + length(len(compressed)) + length(len(text)) + compressed


def _integer(text: bytes) -> bytes | None:
    """The form of a number; None if it is none, or needs more than 32 bits."""
    number = canonical_integer(text)
    if number is None or not -(1 << 31) <= number < 1 << 31:
        return None
    if -(1 << 7) <= number < 1 << 7:
        return b"\xc0" + number.to_bytes(1, "little", signed=True)
    if -(1 << 15) <= number < 1 << 15:
        return b"\xc1" + number.to_bytes(2, "little", signed=True)
    return b"\xc2" + number.to_bytes(4, "little", signed=True)


def element(text: bytes) -> bytes:
    """A string among many: as `string`, but to look for numbers takes longer than it is worth."""
    return _SHORT[len(text)] + text if len(text) < _LEAST_COMPRESSED else string(text)
