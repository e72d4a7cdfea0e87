"""The library `struct`: values packed as C lays them out, after the library of Roberto Ierusalimschy."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from shardkv import limits
from shardkv.lua.packing import given, number_of, string_of, whole
from shardkv.lua.state import State

_MAX_INTEGER_BYTES = 32
_NATIVE_ALIGNMENT = 8
_INT_MAX = 2**31 - 1

_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "l": 8, "L": 8, "T": 8, "i": 4, "I": 4, "f": 4, "d": 8, "x": 1}
_WITH_SIZE = "iIc"
_VALUES = "bBhHlLTiIfdxcs"
"""The letters that stand for bytes; the others say how the following ones are meant."""


class Item(NamedTuple):
    """One letter of a format, with its size in bytes and the padding before it."""

    letter: str
    size: int
    padding: int
    order: str


class _Format:
    """Reads a format letter by letter."""

    def __init__(self, state: State, text: bytes) -> None:
        self.state = state
        self.text = text.decode("latin-1")
        self.at = 0
        self.alignment = 1
        self.order = "little"
        self.total = 0

    def items(self) -> Iterator[Item]:
        """Each item in turn; whoever takes one says how far it has come by adding to `total`."""
        while self.at < len(self.text):
            letter = self.text[self.at]
            self.at += 1
            size = self._size(letter)
            padding = self._padding(letter, size)
            yield Item(letter, size, padding, self.order)
            if letter not in _VALUES:
                self._control(letter)

    def _size(self, letter: str) -> int:
        if letter in _WITH_SIZE:
            size = self._digits(_SIZES.get(letter, 1))
            if letter != "c" and size > _MAX_INTEGER_BYTES:
                raise self.state.fail(
                    b"integral size %d is larger than limit of %d" % (size, _MAX_INTEGER_BYTES)
                )
            return size
        return _SIZES.get(letter, 0)

    def _digits(self, default: int) -> int:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in "0123456789":
            self.at += 1
        if start == self.at:
            return default
        size = int(self.text[start : self.at][:12])
        if size > _INT_MAX - 10:
            raise self.state.fail(b"integral size overflow")
        return size

    def _padding(self, letter: str, size: int) -> int:
        if letter == "c" or not size:
            return 0
        aligned = min(size, self.alignment)
        if aligned <= 1:
            return 0
        return (aligned - (self.total & (aligned - 1))) & (aligned - 1)

    def _control(self, letter: str) -> None:
        if letter == " ":
            return
        if letter == ">":
            self.order = "big"
        elif letter == "<":
            self.order = "little"
        elif letter == "!":
            alignment = self._digits(_NATIVE_ALIGNMENT)
            if alignment <= 0 or alignment & (alignment - 1):
                raise self.state.fail(b"alignment %d is not a power of 2" % alignment)
            self.alignment = alignment
        else:
            raise self.state.fail(b"invalid format option '%b'" % letter.encode("latin-1"))


def struct_library(state: State) -> dict[bytes, Any]:
    """The functions of `struct`."""
    return {
        b"pack": lambda *args: _pack(state, args),
        b"unpack": lambda *args: _unpack(state, args),
        b"size": lambda *args: _size(state, args),
    }


def _pack(state: State, args: tuple[Any, ...]) -> bytes:
    read = _Format(state, string_of(state, given(args, 1), 1))
    parts: list[bytes] = []
    position = 2
    for item in read.items():
        if item.letter not in _VALUES:
            continue
        parts.append(b"\0" * item.padding)
        read.total += item.padding
        if item.letter == "x":
            packed = b"\0"
        else:
            packed = _packed(state, item, args[position - 1] if position <= len(args) else None, position)
            position += 1
        parts.append(packed)
        read.total += len(packed)
        if read.total > limits.SCRIPT_STRING_BYTES:
            raise state.fail(b"string too long")
    state.make_room(read.total)
    return b"".join(parts)


def _packed(state: State, item: Item, value: Any, position: int) -> bytes:
    if item.letter in "sc":
        text = string_of(state, value, position)
        size = item.size if item.letter == "c" and item.size else len(text)
        if len(text) < size:
            raise state.bad_argument(position + 1, b"string too short")
        return text[:size] + (b"\0" if item.letter == "s" else b"")
    number = number_of(state, value, position)
    mark = "<" if item.order == "little" else ">"
    if item.letter == "d":
        return struct.pack(mark + "d", number)
    if item.letter == "f":
        try:
            return struct.pack(mark + "f", number)
        except OverflowError:
            return struct.pack(mark + "f", float("inf") if number > 0 else float("-inf"))
    integer = whole(number) if number < 0 else min(int(number), 2**64 - 1) if number == number else 0
    # Beyond 8 bytes C's shifts leave nothing.
    low = (integer & (2**64 - 1)) & ((1 << 8 * item.size) - 1)
    return low.to_bytes(item.size, "little" if item.order == "little" else "big")


def _unpack(state: State, args: tuple[Any, ...]) -> tuple[Any, ...]:
    read = _Format(state, string_of(state, given(args, 1), 1))
    data = string_of(state, given(args, 2), 2)
    start = 1 if len(args) < 3 else whole(number_of(state, given(args, 3), 3))
    if start <= 0:
        raise state.bad_argument(3, b"offset must be 1 or greater")
    read.total = at = start - 1
    found: list[Any] = []
    for item in read.items():
        at += item.padding
        size = item.size
        if item.letter == "c" and not size and at <= len(data):
            size = _length(state, found)
        if size > len(data) or at > len(data) - size:
            raise state.bad_argument(2, b"data string too short")
        if item.letter == "s":
            end = data.find(b"\0", at)
            if end < 0:
                raise state.fail(b"unfinished string in data")
            found.append(data[at:end])
            size = end - at + 1
        elif item.letter == "c":
            found.append(data[at : at + size])
        elif item.letter in _VALUES and item.letter != "x":
            found.append(_unpacked(item, data[at : at + size]))
        at += size
        read.total = at
    return (*found, at + 1)


def _length(state: State, found: list[Any]) -> int:
    """The length that the value before it gives a string."""
    if not found or found[-1].__class__ not in (int, float):
        raise state.fail(b"format 'c0' needs a previous size")
    size = whole(found.pop())
    return size if size >= 0 else _INT_MAX


def _unpacked(item: Item, data: bytes) -> float:
    mark = "<" if item.order == "little" else ">"
    if item.letter in "fd":
        (number,) = struct.unpack(mark + item.letter, data)
        return float(number)
    little = data if item.order == "little" else data[::-1]
    number = int.from_bytes(little[:8], "little")
    size = min(item.size, 8)
    if item.letter.islower() and number >> (8 * size - 1):
        number -= 1 << 8 * size
    return float(number)


def _size(state: State, args: tuple[Any, ...]) -> int:
    read = _Format(state, string_of(state, given(args, 1), 1))
    for item in read.items():
        if item.letter == "s":
            raise state.bad_argument(1, b"option 's' has no fixed size")
        if item.letter == "c" and not item.size:
            raise state.bad_argument(1, b"option 'c0' has no fixed size")
        read.total += item.padding + item.size
    return read.total
