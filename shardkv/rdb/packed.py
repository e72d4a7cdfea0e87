"""Small collections in one string each: what Redis keeps in memory, written as it is.

Listpacks are described in https://github.com/antirez/listpack/blob/master/listpack.md. Ziplists and zipmaps
are their predecessors; an intset is an array of numbers. Elements come out as bytes, numbers spelled.

Where the bytes end too soon the functions raise IndexError, struct.error or FormatError.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from struct import Struct, unpack_from

from shardkv.numbers import canonical_integer
from shardkv.rdb.reader import FormatError

_END = 0xFF
_SPELLED = [b"%d" % number for number in range(0x80)]

_UINT32 = Struct("<I").unpack_from
_UINT32_BIG = Struct(">I").unpack_from

# -- listpacks --------------------------------------------------------------------------------

_LISTPACK_HEADER = Struct("<IH")
_MANY = 0xFFFF
"""In place of the number of elements, which then has to be counted."""

_LISTPACK_INTEGERS = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
_LONG_STRING = 0xF0


def listpack(data: bytes) -> list[bytes]:
    """The elements of a listpack."""
    size, count = _LISTPACK_HEADER.unpack_from(data)
    found: list[bytes] = []
    add = found.append
    at = _LISTPACK_HEADER.size
    while (first := data[at]) != _END:
        # Behind each element stands its size, for those who read backwards. An element that is cut off
        # leads beyond the end, where a byte is missing.
        if first < 0x80:
            add(_SPELLED[first])
            at += 2
        elif first < 0xC0:
            start = at + 1
            at = start + (first & 0x3F)
            add(data[start:at])
            at += 1
        elif first < 0xE0:
            number = (first & 0x1F) << 8 | data[at + 1]
            add(b"%d" % (number if number < 1 << 12 else number - (1 << 13)))
            at += 3
        elif first <= _LONG_STRING:
            if first < _LONG_STRING:
                start, length = at + 2, (first & 0x0F) << 8 | data[at + 1]
            else:
                start, length = at + 5, _UINT32(data, at + 1)[0]
            stop = start + length
            add(data[start:stop])
            at = stop + len(_back_length(stop - at))
        elif first in _LISTPACK_INTEGERS:
            width = _LISTPACK_INTEGERS[first]
            add(b"%d" % int.from_bytes(data[at + 1 : at + 1 + width], "little", signed=True))
            at += width + 2
        else:
            raise FormatError("no element of a listpack")
    _check_end(data, at, size)
    if count not in (len(found), _MANY):
        raise FormatError("a listpack with another number of elements")
    return found


def _check_end(data: bytes, at: int, size: int) -> None:
    if at + 1 != len(data) or size != len(data):
        raise FormatError("a collection of another size")


def to_listpack(elements: Iterable[int | bytes]) -> bytes:
    """The listpack of some elements; the text of a number counts as one, as everywhere in Redis."""
    parts: list[bytes] = []
    for element in elements:
        number = element if isinstance(element, int) else canonical_integer(element)
        entry = _string_entry(element) if number is None else _integer_entry(number)  # type: ignore[arg-type]
        parts += (entry, _back_length(len(entry)))
    body = b"".join(parts)
    size = _LISTPACK_HEADER.size + len(body) + 1
    return _LISTPACK_HEADER.pack(size, min(len(parts) // 2, _MANY)) + body + b"\xff"


def _integer_entry(number: int) -> bytes:
    if 0 <= number < 1 << 7:
        return bytes((number,))
    if -(1 << 12) <= number < 1 << 12:
        return (number & 0x1FFF | 0xC000).to_bytes(2, "big")
    for first, width in _LISTPACK_INTEGERS.items():
        most = 1 << (8 * width - 1)
        if -most <= number < most:
            return bytes((first,)) + number.to_bytes(width, "little", signed=True)
    raise OverflowError("a number of more than 64 bits")


def _string_entry(text: bytes) -> bytes:
    length = len(text)
    if length < 1 << 6:
        return bytes((0x80 | length,)) + text
    if length < 1 << 12:
        return (0xE000 | length).to_bytes(2, "big") + text
    return bytes((_LONG_STRING,)) + length.to_bytes(4, "little") + text


def _back_length(size: int) -> bytes:
    """The size of an entry as it stands behind it: in 7 bits a byte, the first of which lacks the mark."""
    if size < 1 << 7:
        return bytes((size,))
    # Redis takes a byte more than needed where all bits are set.
    width = next((width for width in (2, 3, 4) if size < (1 << 7 * width) - 1), 5)
    digits = [size >> 7 * place & 0x7F for place in reversed(range(width))]
    return bytes((digits[0], *(digit | 0x80 for digit in digits[1:])))


# -- ziplists ---------------------------------------------------------------------------------

_ZIPLIST_HEADER = Struct("<IIH")
_ZIPLIST_INTEGERS = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}
_LARGE_BEFORE = 0xFE
"""The element before is larger than fits one byte; its size follows in four."""


def ziplist(data: bytes) -> list[bytes]:
    """The elements of a ziplist."""
    size, _, count = _ZIPLIST_HEADER.unpack_from(data)
    found: list[bytes] = []
    at = _ZIPLIST_HEADER.size
    while data[at] != _END:
        at += 1 if data[at] < _LARGE_BEFORE else 5
        first = data[at]
        if first < 0xC0:
            if first < 0x40:
                start, length = at + 1, first
            elif first < 0x80:
                start, length = at + 2, (first & 0x3F) << 8 | data[at + 1]
            else:
                start, length = at + 5, _UINT32_BIG(data, at + 1)[0]
            at = start + length
            found.append(data[start:at])
        elif first in _ZIPLIST_INTEGERS:
            start = at + 1
            at = start + _ZIPLIST_INTEGERS[first]
            found.append(b"%d" % int.from_bytes(data[start:at], "little", signed=True))
        elif 0xF1 <= first <= 0xFD:
            found.append(_SPELLED[first - 0xF1])
            at += 1
        else:
            raise FormatError("no element of a ziplist")
    _check_end(data, at, size)
    if count not in (len(found), _MANY):
        raise FormatError("a ziplist with another number of elements")
    return found


# -- zipmaps ----------------------------------------------------------------------------------

_ZIPMAP_LONG = 0xFE


def zipmap(data: bytes) -> list[bytes]:
    """The fields and values of a zipmap, by turns."""
    found: list[bytes] = []
    at = 1
    while data[at] != _END:
        start, length = _zipmap_length(data, at)
        at = start + length
        found.append(data[start:at])
        start, length = _zipmap_length(data, at)
        # Behind a value there may be unused bytes, whose number stands before it.
        start, unused = start + 1, data[start]
        at = start + length
        found.append(data[start:at])
        at += unused
    _check_end(data, at, len(data))
    if data[0] < _ZIPMAP_LONG and data[0] * 2 != len(found):
        raise FormatError("a zipmap with another number of fields")
    return found


def _zipmap_length(data: bytes, at: int) -> tuple[int, int]:
    """Where a string starts, and its length."""
    first = data[at]
    if first < _ZIPMAP_LONG:
        return at + 1, first
    if first == _END:
        raise FormatError("a field without a value")
    return at + 5, _UINT32(data, at + 1)[0]


# -- intsets ----------------------------------------------------------------------------------

_INTSET_HEADER = Struct("<II")
_INTSET_CODES = {2: "h", 4: "i", 8: "q"}


def intset(data: bytes) -> list[bytes]:
    """The numbers of an intset, which are in order, each once."""
    width, count = _INTSET_HEADER.unpack_from(data)
    code = _INTSET_CODES.get(width)
    if code is None or len(data) != _INTSET_HEADER.size + count * width:
        raise FormatError("an intset of another size")
    numbers = unpack_from(f"<{count}{code}", data, _INTSET_HEADER.size)
    if any(number >= following for number, following in pairwise(numbers)):
        raise FormatError("an intset without order")
    return [b"%d" % number for number in numbers]
