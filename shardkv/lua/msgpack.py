"""The library `cmsgpack`: MessagePack as lua-cmsgpack 0.4.0 writes and reads it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

from shardkv import limits
from shardkv.lua.packing import given, number_of, string_of, whole
from shardkv.lua.state import ScriptError, State


class _BadFormatError(Exception):
    pass


class _MissingBytesError(Exception):
    pass


def msgpack_library(state: State) -> dict[bytes, Any]:
    """The functions of `cmsgpack`, and what it says of itself."""
    reader = _Reader(state)
    return {
        b"pack": lambda *args: _pack(state, args),
        b"unpack": lambda *args: reader.unpack(string_of(state, given(args, 1), 1), 0, 0),
        b"unpack_one": reader.unpack_one,
        b"unpack_limit": reader.unpack_limit,
        b"_NAME": b"cmsgpack",
        b"_VERSION": b"lua-cmsgpack 0.4.0",
        b"_COPYRIGHT": b"Copyright (C) 2012, Salvatore Sanfilippo",
        b"_DESCRIPTION": b"MessagePack C implementation for Lua",
    }


# -- writing ------------------------------------------------------------------------------------


def _pack(state: State, args: tuple[Any, ...]) -> bytes:
    if not args:
        raise state.bad_argument(0, b"MessagePack pack needs input.")
    parts: list[bytes] = []
    row = iter(state.flat(args, limits.SCRIPT_PACKED_DEPTH))
    for value in row:
        write = _WRITERS.get(value.__class__)
        parts.append(write(value) if write is not None else _marked(row))
    packed = b"".join(parts)
    state.make_room(len(packed))
    return packed


def _marked(row: Iterator[Any]) -> bytes:
    """What stands behind a mark: the head of a table, or what MessagePack has no form for."""
    match next(row):
        case b"array":
            return _head(next(row), 0x90, 16, (None, 0xDC, 0xDD))
        case b"map":
            return _head(next(row), 0x80, 16, (None, 0xDE, 0xDF))
    return b"\xc0"


def _string_of(text: bytes) -> bytes:
    return _head(len(text), 0xA0, 32, (0xD9, 0xDA, 0xDB)) + text


def _head(size: int, fixed: int, most: int, codes: tuple[int | None, int, int]) -> bytes:
    """The first bytes of a string, array or map of that size."""
    if size < most:
        return bytes((fixed | size,))
    code8, code16, code32 = codes
    if code8 is not None and size <= 0xFF:
        return struct.pack(">BB", code8, size)
    if size <= 0xFFFF:
        return struct.pack(">BH", code16, size)
    return struct.pack(">BI", code32, size)


def _integer(number: int) -> bytes:
    if number >= 0:
        if number <= 127:
            return bytes((number,))
        forms = ((0xFF, ">BB", 0xCC), (0xFFFF, ">BH", 0xCD), (0xFFFFFFFF, ">BI", 0xCE), (2**64, ">BQ", 0xCF))
        form, code = next((form, code) for most, form, code in forms if number <= most)
        return struct.pack(form, code, number)
    if number >= -32:
        return struct.pack(">b", number)
    forms = ((2**7, ">Bb", 0xD0), (2**15, ">Bh", 0xD1), (2**31, ">Bi", 0xD2), (2**63, ">Bq", 0xD3))
    form, code = next((form, code) for most, form, code in forms if number >= -most)
    return struct.pack(form, code, number)


def _double(number: float) -> bytes:
    """In four bytes if that loses nothing."""
    try:
        short = struct.pack(">f", number)
        if struct.unpack(">f", short)[0] == number:
            return b"\xca" + short
    except OverflowError:
        pass
    return b"\xcb" + struct.pack(">d", number)


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    bytes: _string_of,
    bool: lambda value: b"\xc3" if value else b"\xc2",
    int: _integer,
    float: _double,
}

# -- reading ------------------------------------------------------------------------------------

_FIXED = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_ATOMS = {0xC0: None, 0xC2: False, 0xC3: True}
_STRINGS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_ARRAYS = {0xDC: ">H", 0xDD: ">I"}
_MAPS = {0xDE: ">H", 0xDF: ">I"}

_LUA_BYTES = 48
"""A byte of MessagePack takes at most about so many bytes of Lua: an empty table, in a table."""


class _Reader:
    def __init__(self, state: State) -> None:
        self.state = state

    def unpack_one(self, *args: Any) -> tuple[Any, ...]:
        """`cmsgpack.unpack_one(data, offset)`: the next value, and where the one after it begins."""
        offset = self._offset(args, 2, 0)
        return self.unpack(string_of(self.state, given(args, 1), 1), 1, offset)

    def unpack_limit(self, *args: Any) -> tuple[Any, ...]:
        """`cmsgpack.unpack_limit(data, limit, offset)`: so many values, and where the next begins."""
        limit = self._offset(args, 2, None)
        offset = self._offset(args, 3, 0)
        return self.unpack(string_of(self.state, given(args, 1), 1), limit, offset)

    def _offset(self, args: tuple[Any, ...], position: int, default: int | None) -> int:
        value = given(args, position)
        if default is not None and (position > len(args) or value is None):
            return default
        return (whole(number_of(self.state, value, position)) + 2**31) % 2**32 - 2**31

    def unpack(self, data: bytes, limit: int, offset: int) -> tuple[Any, ...]:
        """The values in a string from an offset on: all of them, or as many as the limit says."""
        state = self.state
        if offset < 0 or limit < 0:
            raise state.fail(
                b"Invalid request to unpack with offset of %d and limit of %d." % (offset, len(data))
            )
        if offset > len(data):
            raise state.fail(b"Start offset %d greater than input length %d." % (offset, len(data)))
        state.make_room(_LUA_BYTES * (len(data) - offset))
        state.unbound()
        counted = bool(limit or offset)
        found: list[Any] = []
        at = offset
        try:
            while at < len(data) and (not counted or len(found) < limit):
                if len(found) >= limits.SCRIPT_UNPACKED_VALUES:
                    raise state.fail(b"Too many values")
                value, at = self._read(data, at, 0)
                found.append(value)
        except _MissingBytesError:
            raise state.fail(b"Missing bytes in input.") from None
        except _BadFormatError:
            raise state.fail(b"Bad data format in input.") from None
        if counted:
            return (-1 if at == len(data) else at, *found)
        return tuple(found)

    def _read(self, data: bytes, at: int, depth: int) -> tuple[Any, int]:
        if at >= len(data):
            raise _MissingBytesError
        code = data[at]
        at += 1
        if code < 0x80:
            return code, at
        if code >= 0xE0:
            return code - 256, at
        if code in _ATOMS:
            return _ATOMS[code], at
        if code in _FIXED:
            number, at = _number(_FIXED[code], data, at)
            return float(number), at
        if code & 0xE0 == 0xA0:
            return _string(data, at, code & 0x1F)
        if code in _STRINGS:
            size, at = _number(_STRINGS[code], data, at)
            return _string(data, at, int(size))
        if depth > limits.SCRIPT_UNPACKED_DEPTH:
            raise _BadFormatError
        if code & 0xF0 == 0x90:
            return self._array(data, at, code & 0x0F, depth + 1)
        if code & 0xF0 == 0x80:
            return self._map(data, at, code & 0x0F, depth + 1)
        if code in _ARRAYS:
            size, at = _number(_ARRAYS[code], data, at)
            return self._array(data, at, int(size), depth + 1)
        if code in _MAPS:
            size, at = _number(_MAPS[code], data, at)
            return self._map(data, at, int(size), depth + 1)
        raise _BadFormatError

    def _array(self, data: bytes, at: int, count: int, depth: int) -> tuple[Any, int]:
        values = []
        for _ in range(count):
            value, at = self._read(data, at, depth)
            values.append(value)
        return self.state.table(values), at

    def _map(self, data: bytes, at: int, count: int, depth: int) -> tuple[Any, int]:
        table = self.state.table({})
        for _ in range(count):
            key, at = self._read(data, at, depth)
            value, at = self._read(data, at, depth)
            if key is None or key != key:
                raise ScriptError(b"table index is %b" % (b"nil" if key is None else b"NaN"), plain=True)
            table[key] = value
        return table, at


def _number(form: str, data: bytes, at: int) -> tuple[float, int]:
    try:
        (number,) = struct.unpack_from(form, data, at)
    except struct.error:
        raise _MissingBytesError from None
    return number, at + struct.calcsize(form)


def _string(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if at + size > len(data):
        raise _MissingBytesError
    return data[at : at + size], at + size
