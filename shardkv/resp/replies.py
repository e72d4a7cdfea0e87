"""Encodes the Python values that handlers return as RESP2, RESP3 or, between processes, MessagePack.

value                 RESP2                     RESP3
bytes, bytearray      bulk string               the same
int                   integer                   the same
Status, OK            simple string             the same
None                  null bulk string          null
NULL_ARRAY            null array                null
list, tuple           array                     the same
dict                  array, flattened          map
set, Unordered        array                     set
Pairs                 array, flattened          array of two-element arrays
MapPairs              array of such arrays      map
float                 bulk string               double
PlainDouble           bulk string               double
bool                  integer 1 or 0            boolean
Verbatim, FormattedText  bulk string            verbatim string
BigNumber             bulk string               big number
Push                  array                     push
CommandError          error                     the same
Encoded               as it is                  as it is
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from shardkv.errors import CommandError
from shardkv.numbers import format_double


class Status(bytes):
    """A simple string, such as OK."""

    __slots__ = ()


class Verbatim(bytes):
    """Text meant for people: INFO and the like."""

    __slots__ = ()


class Encoded(bytes):
    """A reply that is encoded already."""

    __slots__ = ()


class FormattedText(NamedTuple):
    """The same with a format of its own, of three letters."""

    format: bytes
    text: bytes


class BigNumber(bytes):
    """The digits of an integer of any size."""

    __slots__ = ()


class PlainDouble(float):
    """A number that is spelled with up to 17 digits after the point and no exponent, as coordinates are."""

    __slots__ = ()


class NullArray:
    """A missing list: RESP2 tells it from a missing string."""

    __slots__ = ()


class Unordered(list[Any]):
    """A set whose elements come in a fixed order, or cannot be hashed."""

    __slots__ = ()


class Pairs(list[tuple[Any, Any]]):
    """A list of (member, value) that RESP2 flattens."""

    __slots__ = ()


class MapPairs(list[tuple[Any, Any]]):
    """A list of (key, value), with a key perhaps twice, that is a map in RESP3 alone."""

    __slots__ = ()


class Push(list[Any]):
    """A message the client did not ask for."""

    __slots__ = ()


OK = Status(b"OK")
PONG = Status(b"PONG")
QUEUED = Status(b"QUEUED")
NULL_ARRAY = NullArray()

_Encoder = Callable[[Any], bytes]

_SHORT = 1024
HEADS = [b"$%d\r\n" % length for length in range(_SHORT)]
"""The first line of short bulk strings: looking it up is faster than formatting it."""

_NEXT_HEADS = [b"\r\n" + head for head in HEADS]
_MANY = 12
"""From so many elements on, an array of strings is encoded as a whole."""

_INTEGERS = [b":%d\r\n" % number for number in range(_SHORT)]
"""Likewise the replies that small integers make."""


def encode_error(text: bytes) -> bytes:
    """An error reply. A line break inside would end it early, so it becomes a space."""
    return b"-" + text.replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n"


def _error(error: CommandError) -> bytes:
    return encode_error(error.text)


def _status(text: Status) -> bytes:
    return b"+" + text + b"\r\n"


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _integer(number: int) -> bytes:
    return b":%d\r\n" % number


def resp2(value: Any) -> bytes:
    """The value as RESP2."""
    kind = value.__class__
    if kind is bytes and len(value) < _SHORT:
        return HEADS[len(value)] + value + b"\r\n"  # type: ignore[no-any-return]
    if value is OK:
        return b"+OK\r\n"
    if kind is int:
        return _INTEGERS[value] if 0 <= value < _SHORT else b":%d\r\n" % value
    return _RESP2[kind](value)


def resp3(value: Any) -> bytes:
    """The value as RESP3."""
    kind = value.__class__
    if kind is bytes and len(value) < _SHORT:
        return HEADS[len(value)] + value + b"\r\n"  # type: ignore[no-any-return]
    if value is OK:
        return b"+OK\r\n"
    if kind is int:
        return _INTEGERS[value] if 0 <= value < _SHORT else b":%d\r\n" % value
    return _RESP3[kind](value)


def _many_bulks(values: Any) -> bytes | None:
    """An array of many short bulk strings, in half the time that encoding one after the other takes; None if
    it is not that."""
    count = len(values)
    if count < _MANY or set(map(type, values)) != {bytes}:
        return None
    parts = [b""] * (2 * count)
    try:
        parts[::2] = map(_NEXT_HEADS.__getitem__, map(len, values))
    except IndexError:
        return None
    parts[1::2] = values
    return b"*%d%b\r\n" % (count, b"".join(parts))


def format_plain(number: float) -> bytes:
    """A number as PlainDouble spells it."""
    text = (b"%.17f" % number).rstrip(b"0").removesuffix(b".")
    return b"0" if text == b"-0" else text


def _array2(values: Any) -> bytes:
    if (bulks := _many_bulks(values)) is not None:
        return bulks
    return b"*%d\r\n%b" % (len(values), b"".join(map(resp2, values)))


def _array3(values: Any) -> bytes:
    if (bulks := _many_bulks(values)) is not None:
        return bulks
    return b"*%d\r\n%b" % (len(values), b"".join(map(resp3, values)))


def _map2(values: dict[Any, Any]) -> bytes:
    parts = [resp2(part) for pair in values.items() for part in pair]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def _map3(values: dict[Any, Any]) -> bytes:
    parts = [resp3(part) for pair in values.items() for part in pair]
    return b"%%%d\r\n%b" % (len(values), b"".join(parts))


def _pairs2(values: Pairs) -> bytes:
    parts = [resp2(part) for pair in values for part in pair]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def _map_pairs3(values: MapPairs) -> bytes:
    parts = [resp3(part) for pair in values for part in pair]
    return b"%%%d\r\n%b" % (len(values), b"".join(parts))


def _set3(values: Any) -> bytes:
    return b"~%d\r\n%b" % (len(values), b"".join(map(resp3, values)))


def _push3(values: Push) -> bytes:
    return b">%d\r\n%b" % (len(values), b"".join(map(resp3, values)))


def _verbatim3(text: Verbatim) -> bytes:
    return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text)


_RESP2: dict[type, _Encoder] = {
    bytes: _bulk,
    bytearray: _bulk,
    Verbatim: _bulk,
    Encoded: bytes,
    FormattedText: lambda found: _bulk(found.text),
    BigNumber: _bulk,
    int: _integer,
    bool: lambda value: b":1\r\n" if value else b":0\r\n",
    Status: _status,
    type(None): lambda value: b"$-1\r\n",
    NullArray: lambda value: b"*-1\r\n",
    list: _array2,
    tuple: _array2,
    set: _array2,
    Unordered: _array2,
    Push: _array2,
    dict: _map2,
    Pairs: _pairs2,
    MapPairs: _array2,
    float: lambda number: _bulk(format_double(number)),
    PlainDouble: lambda number: _bulk(format_plain(number)),
    CommandError: _error,
}

_RESP3: dict[type, _Encoder] = {
    **_RESP2,
    bool: lambda value: b"#t\r\n" if value else b"#f\r\n",
    type(None): lambda value: b"_\r\n",
    NullArray: lambda value: b"_\r\n",
    list: _array3,
    tuple: _array3,
    set: _set3,
    Unordered: _set3,
    Push: _push3,
    dict: _map3,
    Pairs: _array3,
    MapPairs: _map_pairs3,
    float: lambda number: b",%b\r\n" % format_double(number),
    PlainDouble: lambda number: b",%b\r\n" % format_plain(number),
    Verbatim: _verbatim3,
    FormattedText: lambda found: b"=%d\r\n%b:%b\r\n" % (len(found.text) + 4, found.format, found.text),
    BigNumber: lambda digits: b"(%b\r\n" % digits,
}

# -- between processes ------------------------------------------------------------------------

_EXT_ERROR, _EXT_STATUS, _EXT_NULL_ARRAY, _EXT_PAIRS, _EXT_VERBATIM, _EXT_SET, _EXT_MAP_PAIRS = range(1, 8)
_EXT_PLAIN_DOUBLE, _EXT_FORMATTED_TEXT, _EXT_BIG_NUMBER = range(8, 11)


def _to_ext(value: Any) -> msgspec.msgpack.Ext:
    if isinstance(value, CommandError):
        return msgspec.msgpack.Ext(_EXT_ERROR, value.text)
    if isinstance(value, NullArray):
        return msgspec.msgpack.Ext(_EXT_NULL_ARRAY, b"")
    raise TypeError(f"no reply type: {type(value).__name__}")


_UNMARKED = frozenset({bytes, bytearray, int, float, bool, type(None)})
"""What MessagePack tells apart by itself. Long lists mostly hold nothing else."""


def _wrap(value: Any) -> Any:
    """Marks what MessagePack cannot tell apart from its base type."""
    kind = value.__class__
    if kind is Status:
        return msgspec.msgpack.Ext(_EXT_STATUS, bytes(value))
    if kind is Verbatim:
        return msgspec.msgpack.Ext(_EXT_VERBATIM, bytes(value))
    if kind is FormattedText:
        return msgspec.msgpack.Ext(_EXT_FORMATTED_TEXT, value.format + value.text)
    if kind is BigNumber:
        return msgspec.msgpack.Ext(_EXT_BIG_NUMBER, bytes(value))
    if kind is Pairs:
        return msgspec.msgpack.Ext(_EXT_PAIRS, raw(list(value)))
    if kind is MapPairs:
        return msgspec.msgpack.Ext(_EXT_MAP_PAIRS, raw(list(value)))
    if kind is set or kind is Unordered:
        return msgspec.msgpack.Ext(_EXT_SET, raw(list(value)))
    if kind is PlainDouble:
        return msgspec.msgpack.Ext(_EXT_PLAIN_DOUBLE, raw(float(value)))
    if kind is list or kind is tuple:
        return value if _UNMARKED.issuperset(map(type, value)) else [_wrap(item) for item in value]
    if kind is dict:
        return {key: _wrap(item) for key, item in value.items()}
    return value


def _from_ext(code: int, data: memoryview) -> Any:
    content = bytes(data)
    if code == _EXT_ERROR:
        return CommandError(content)
    if code == _EXT_STATUS:
        return OK if content == OK else Status(content)
    if code == _EXT_NULL_ARRAY:
        return NULL_ARRAY
    if code == _EXT_PAIRS:
        return Pairs(tuple(pair) for pair in unpack_raw(content))
    if code == _EXT_MAP_PAIRS:
        return MapPairs(tuple(pair) for pair in unpack_raw(content))
    if code == _EXT_VERBATIM:
        return Verbatim(content)
    if code == _EXT_FORMATTED_TEXT:
        return FormattedText(content[:3], content[3:])
    if code == _EXT_BIG_NUMBER:
        return BigNumber(content)
    if code == _EXT_SET:
        return set(unpack_raw(content))
    if code == _EXT_PLAIN_DOUBLE:
        return PlainDouble(unpack_raw(content))
    raise ValueError(f"unknown reply type {code}")


_raw_encoder = msgspec.msgpack.Encoder(enc_hook=_to_ext)
_raw_decoder = msgspec.msgpack.Decoder(ext_hook=_from_ext)


def raw(value: Any) -> bytes:
    """The value as MessagePack, for another process to work with; see `unpack_raw`."""
    return _raw_encoder.encode(_wrap(value))


def unpack_raw(data: bytes) -> Any:
    """The value that `raw` encoded, with its types (a tuple comes back as a list)."""
    return _raw_decoder.decode(data)
