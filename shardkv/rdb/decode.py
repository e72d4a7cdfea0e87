"""Values of every type, read from any form that Redis 2.8 to 8.2 and Valkey write."""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import inf, isnan
from typing import Any

from shardkv import limits
from shardkv.numbers import strtod
from shardkv.rdb import kinds, packed, streams
from shardkv.rdb.reader import FormatError, Reader
from shardkv.structures.hash import Hash
from shardkv.structures.list import List
from shardkv.structures.set import HASHTABLE, LISTPACK, Set
from shardkv.structures.zset import SortedSet
from shardkv.values import Value


def value(kind: int, reader: Reader, config: Any) -> Value:
    """The value of that kind (see `kinds`) that comes next.

    config   the settings that say from which size on a collection has another encoding.

    Raises FormatError, for an empty collection too, whose key could not be there.
    """
    decode = _DECODERS.get(kind)
    if kind == kinds.HASH_2 and reader.version == kinds.VALKEY:
        decode = _hash_with_absolute_deadlines
    if decode is None:
        raise FormatError(f"values of kind {kind} are not known")
    try:
        return decode(kind, reader, config)
    except (IndexError, KeyError, ValueError, OverflowError, struct.error) as error:
        raise FormatError(str(error)) from error


def _stream(kind: int, reader: Reader, config: Any) -> Value:
    return streams.read(kind, reader, config)


def _string(kind: int, reader: Reader, config: Any) -> Value:
    return reader.string()


# -- lists ------------------------------------------------------------------------------------


def _list(kind: int, reader: Reader, config: Any) -> Value:
    return _not_empty(List.of, reader.strings(reader.length()), config)


def _list_ziplist(kind: int, reader: Reader, config: Any) -> Value:
    return _not_empty(List.of, packed.ziplist(reader.string()), config)


_PLAIN, _PACKED = 1, 2


def _list_nodes(kind: int, reader: Reader, config: Any) -> Value:
    made = List()
    for _ in range(reader.length()):
        container = reader.length() if kind == kinds.LIST_QUICKLIST_2 else None
        data = reader.string()
        if container is None:
            elements = packed.ziplist(data)
        elif container == _PACKED:
            elements = packed.listpack(data)
        elif container == _PLAIN:
            elements = [data]
        else:
            raise FormatError("no node of a list")
        if elements:
            made.push_right(elements, config)
    return _not_empty(lambda made, config: made, made, config)


def _not_empty(make: Callable[[Any, Any], Value], content: Any, config: Any) -> Value:
    if not content:
        raise FormatError("an empty collection")
    return make(content, config)


# -- sets -------------------------------------------------------------------------------------


def _set(kind: int, reader: Reader, config: Any) -> Value:
    return _without_double(Set.holding, reader.strings(reader.length()), config)


def _set_intset(kind: int, reader: Reader, config: Any) -> Value:
    return _without_double(Set.holding, packed.intset(reader.string()), config)


def _set_listpack(kind: int, reader: Reader, config: Any) -> Value:
    members = packed.listpack(reader.string())
    # It stays one, even if it holds nothing but integers.
    form = LISTPACK if len(members) <= config.set_max_listpack_entries else HASHTABLE
    return _without_double(lambda members, config: Set(form, members), members, config)


def _without_double(make: Callable[[Any, Any], Set], members: list[bytes], config: Any) -> Value:
    made = _not_empty(make, members, config)
    if len(made) != len(members):  # type: ignore[arg-type]
        raise FormatError("a member that is there twice")
    return made


# -- sorted sets ------------------------------------------------------------------------------

_FIRST_OF_DECIMAL = frozenset(map(bytes, zip(b"-0123456789", strict=True)))
_NAN, _INFINITE, _NEGATIVE_INFINITE = 253, 254, 255


def _zset(kind: int, reader: Reader, config: Any) -> Value:
    read_score = reader.double if kind == kinds.ZSET_2 else lambda: _text_score(reader)
    read_member = reader.string
    members: list[bytes] = []
    scores: list[float] = []
    for _ in range(reader.length()):
        members.append(read_member())
        scores.append(read_score())
    return _sorted_set(members, scores, config)


def _text_score(reader: Reader) -> float:
    size = reader.byte()
    if size == _INFINITE:
        return inf
    if size == _NEGATIVE_INFINITE:
        return -inf
    if size == _NAN:
        raise FormatError("a score that is not a number")
    return _number(reader.take(size))


def _number(text: bytes) -> float:
    if text[:1] in _FIRST_OF_DECIMAL and text[-1:].isdigit() and b"_" not in text:
        # Spelled as nearly all are, and all else that Python would take for a number ruled out.
        return float(text)
    number = strtod(text)
    if number is None:
        raise FormatError("a score that is not a number")
    return number


def _zset_packed(kind: int, reader: Reader, config: Any) -> Value:
    unpack = packed.ziplist if kind == kinds.ZSET_ZIPLIST else packed.listpack
    members, texts = _by_turns(unpack(reader.string()), 2)
    return _sorted_set(members, list(map(_number, texts)), config)


def _sorted_set(members: list[bytes], scores: list[float], config: Any) -> Value:
    if any(map(isnan, scores)):
        raise FormatError("a score that is not a number")
    made = dict(zip(members, scores, strict=True))
    if len(made) != len(members):
        raise FormatError("a member that is there twice")
    return _not_empty(SortedSet.holding, made, config)


def _by_turns(elements: list[bytes], count: int) -> list[list[bytes]]:
    """The elements dealt out in turn."""
    if len(elements) % count:
        raise FormatError("elements without a partner")
    return [elements[place::count] for place in range(count)]


# -- hashes -----------------------------------------------------------------------------------


def _hash(kind: int, reader: Reader, config: Any) -> Value:
    return _hash_of(reader.strings(2 * reader.length()), config)


_HASH_UNPACKERS = {
    kinds.HASH_ZIPMAP: packed.zipmap,
    kinds.HASH_ZIPLIST: packed.ziplist,
    kinds.HASH_LISTPACK: packed.listpack,
}


def _hash_packed(kind: int, reader: Reader, config: Any) -> Value:
    return _hash_of(_HASH_UNPACKERS[kind](reader.string()), config)


def _hash_of(pairs: list[bytes], config: Any) -> Hash:
    if not pairs or len(pairs) % 2:
        raise FormatError("an empty hash, or a field without a value")
    made = Hash.of(pairs, config)
    if len(made) * 2 != len(pairs):
        raise FormatError("a field that is there twice")
    return made


_NEVER = -1


def _hash_with_absolute_deadlines(kind: int, reader: Reader, config: Any) -> Value:
    pairs: list[bytes] = []
    deadlines: list[int] = []
    for _ in range(reader.length()):
        pairs += (reader.string(), reader.string())
        deadlines.append(reader.int64())
    return _with_deadlines(_hash_of(pairs, config), pairs[::2], deadlines)


def _hash_with_relative_deadlines(kind: int, reader: Reader, config: Any) -> Value:
    # Each is 0 for none, or one more than what it is after the first of all.
    base_ms = reader.int64() - 1 if kind == kinds.HASH_DEADLINES else 0
    pairs: list[bytes] = []
    deadlines: list[int] = []
    for _ in range(reader.length()):
        offset_ms = reader.length()
        pairs += (reader.string(), reader.string())
        deadlines.append(base_ms + offset_ms if offset_ms else _NEVER)
    return _with_deadlines(_hash_of(pairs, config), pairs[::2], deadlines)


def _hash_packed_with_deadlines(kind: int, reader: Reader, config: Any) -> Value:
    if kind == kinds.HASH_LISTPACK_DEADLINES:
        reader.int64()  # the first of all, which is there to be seen
    fields, texts, deadlines = _by_turns(packed.listpack(reader.string()), 3)
    pairs = [word for pair in zip(fields, texts, strict=True) for word in pair]
    return _with_deadlines(_hash_of(pairs, config), fields, [int(text) or _NEVER for text in deadlines])


def _with_deadlines(made: Hash, fields: list[bytes], deadlines: list[int]) -> Hash:
    for field, at_ms in zip(fields, deadlines, strict=True):
        if at_ms != _NEVER:
            if not 0 <= at_ms <= limits.LAST_FIELD_DEADLINE_MS:
                raise FormatError("a deadline of a field that is out of range")
            made.set_deadline(field, at_ms)
    return made


# -- all of them ------------------------------------------------------------------------------

_DECODERS: dict[int, Callable[[int, Reader, Any], Value]] = {
    kinds.STRING: _string,
    kinds.LIST: _list,
    kinds.SET: _set,
    kinds.ZSET: _zset,
    kinds.HASH: _hash,
    kinds.ZSET_2: _zset,
    kinds.HASH_ZIPMAP: _hash_packed,
    kinds.LIST_ZIPLIST: _list_ziplist,
    kinds.SET_INTSET: _set_intset,
    kinds.ZSET_ZIPLIST: _zset_packed,
    kinds.HASH_ZIPLIST: _hash_packed,
    kinds.LIST_QUICKLIST: _list_nodes,
    kinds.STREAM: _stream,
    kinds.HASH_LISTPACK: _hash_packed,
    kinds.ZSET_LISTPACK: _zset_packed,
    kinds.LIST_QUICKLIST_2: _list_nodes,
    kinds.STREAM_2: _stream,
    kinds.SET_LISTPACK: _set_listpack,
    kinds.STREAM_3: _stream,
    kinds.HASH_DEADLINES_EARLY: _hash_with_relative_deadlines,
    kinds.HASH_LISTPACK_DEADLINES_EARLY: _hash_packed_with_deadlines,
    kinds.HASH_DEADLINES: _hash_with_relative_deadlines,
    kinds.HASH_LISTPACK_DEADLINES: _hash_packed_with_deadlines,
}
