"""Lengths, numbers and strings, as they are written."""

from __future__ import annotations

from mmap import mmap
from struct import Struct

import lzf

from shardkv import limits

_MOST_EXPANSION = 88
"""LZF makes at most 264 bytes of 3."""

_UINT32 = Struct(">I").unpack_from
_UINT64 = Struct(">Q").unpack_from
_INT16 = Struct("<h").unpack_from
_INT32 = Struct("<i").unpack_from
_INT64 = Struct("<q").unpack_from
_DOUBLE = Struct("<d").unpack_from

_IN_32_BITS, _IN_64_BITS = 0x80, 0x81
_INT8_TEXT, _INT16_TEXT, _INT32_TEXT, _COMPRESSED = 0xC0, 0xC1, 0xC2, 0xC3


class FormatError(ValueError):
    """The bytes are not a value in a form that the format has."""


class Reader:
    """Reads from a place in some bytes on.

    Where the bytes end too soon there is an IndexError, a struct.error or a FormatError, whichever comes
    first; `decode.value` makes them all the last. Nothing takes more memory than what was read up to then
    calls for, whatever lengths it claims.
    """

    __slots__ = ("at", "data", "room", "version")

    def __init__(
        self, data: bytes | mmap, version: int, at: int = 0, room: int = limits.RDB_DECOMPRESSED_BYTES
    ) -> None:
        """Takes the version of the format that the bytes are in; `room` is what compressed strings may come
        to in sum, in bytes."""
        self.data = data
        self.version = version
        self.at = at
        self.room = room

    def take(self, count: int) -> bytes:
        """The next bytes, so many."""
        end = self.at + count
        taken = self.data[self.at : end]
        if len(taken) != count:
            raise FormatError("the bytes end within a string")
        self.at = end
        return taken

    def byte(self) -> int:
        """The next byte."""
        self.at += 1
        return self.data[self.at - 1]

    def int64(self) -> int:
        """A number with sign of 8 bytes, the last byte first."""
        self.at += 8
        number: int = _INT64(self.data, self.at - 8)[0]
        return number

    def double(self) -> float:
        """A floating point number of 8 bytes."""
        self.at += 8
        number: float = _DOUBLE(self.data, self.at - 8)[0]
        return number

    def length(self) -> int:
        """A length, or another number that is not negative."""
        first = self.data[self.at]
        if first < 0x40:
            self.at += 1
            return first
        if first < 0x80:
            self.at += 2
            return (first & 0x3F) << 8 | self.data[self.at - 1]
        number: int
        if first == _IN_32_BITS:
            number = _UINT32(self.data, self.at + 1)[0]
            self.at += 5
        elif first == _IN_64_BITS:
            number = _UINT64(self.data, self.at + 1)[0]
            self.at += 9
        else:
            raise FormatError("no length")
        return number

    def string(self) -> bytes:
        """A string."""
        first = self.data[self.at]
        if first < 0x40:
            # Nearly all are short.
            start = self.at + 1
            self.at = end = start + first
            text = self.data[start:end]
            if len(text) != first:
                raise FormatError("the bytes end within a string")
            return text
        if first < _INT8_TEXT:
            return self.take(self.length())
        self.at += 1
        if first == _INT8_TEXT:
            self.at += 1
            number = self.data[self.at - 1]
            return b"%d" % (number if number < 0x80 else number - 0x100)
        if first == _INT16_TEXT:
            self.at += 2
            return b"%d" % _INT16(self.data, self.at - 2)[0]
        if first == _INT32_TEXT:
            self.at += 4
            return b"%d" % _INT32(self.data, self.at - 4)[0]
        if first == _COMPRESSED:
            return self._decompressed()
        raise FormatError("no string")

    def _decompressed(self) -> bytes:
        stored, length = self.length(), self.length()
        if length > stored * _MOST_EXPANSION:
            raise FormatError("no compressed string of that length")
        self.room -= length
        if self.room < 0:
            raise FormatError("too much in compressed strings")
        compressed = self.take(stored)
        if not length:
            raise FormatError("an empty string is not compressed")
        # ValueError if it was not compressed by LZF, None if there is more in it.
        text: bytes | None = lzf.decompress(compressed, length)
        if text is None or len(text) != length:
            raise FormatError("a compressed string of another length")
        return text

    def strings(self, count: int) -> list[bytes]:
        """So many strings, one after the other."""
        data = self.data
        found: list[bytes] = []
        add = found.append
        for _ in range(count):
            start = self.at + 1
            first = data[start - 1]
            if first < 0x40:
                # Nearly all are short. Where the bytes end too soon, a later byte is missing as well.
                self.at = end = start + first
                add(data[start:end])
            else:
                add(self.string())
        if self.at > len(data):
            raise FormatError("the bytes end within a string")
        return found

    # -- passing over ---------------------------------------------------------------------------

    def skip(self, count: int) -> None:
        """Passes over so many bytes, which need not be there: what is read next tells."""
        self.at += count

    def skip_string(self) -> None:
        """Passes over a string."""
        first = self.data[self.at]
        if first < _INT8_TEXT:
            length = self.length()
            self.at += length
        elif first <= _INT32_TEXT:
            self.at += 1 + (1 << first - _INT8_TEXT)
        elif first == _COMPRESSED:
            self.at += 1
            stored = self.length()
            self.length()
            self.at += stored
        else:
            raise FormatError("no string")

    def skip_strings(self, count: int) -> None:
        """Passes over so many strings, one after the other."""
        data, at = self.data, self.at
        for _ in range(count):
            first = data[at]
            if first < 0x40:
                at += first + 1
            else:
                self.at = at
                self.skip_string()
                at = self.at
        self.at = at
