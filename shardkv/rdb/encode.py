"""Values of every type, written in the plain forms that every server can read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from struct import Struct
from typing import Any, NamedTuple

from shardkv.rdb import kinds, streams
from shardkv.rdb.writer import element, length, string
from shardkv.structures.hash import Hash
from shardkv.structures.list import List
from shardkv.structures.set import Set
from shardkv.structures.stream import Stream
from shardkv.structures.zset import SortedSet
from shardkv.values import Value, unpacked

_DOUBLE = Struct("<d").pack


class Encoded(NamedTuple):
    """A value as it is written."""

    kind: int
    version: int
    """Of the format, at least, for who is to read it."""
    parts: Iterable[bytes]
    """What follows after the kind; made as it is asked for, once."""


def value(given: Value, version: int) -> Encoded:
    """A value in forms of a version of the format, from 9 on. Only hashes with deadlines may need another:
    before 12 there is no form for them, and they come in that of Valkey."""
    given = unpacked(given)
    return _ENCODERS[given.__class__](given, version)


def _string(given: bytes | bytearray, version: int) -> Encoded:
    return Encoded(kinds.STRING, version, [string(bytes(given))])


def _integer(given: int, version: int) -> Encoded:
    return Encoded(kinds.STRING, version, [string(b"%d" % given)])


def _list(given: List, version: int) -> Encoded:
    return Encoded(kinds.LIST, version, chain((length(len(given)),), map(element, given)))


def _set(given: Set, version: int) -> Encoded:
    return Encoded(kinds.SET, version, chain((length(len(given)),), map(element, given)))


def _sorted_set(given: SortedSet, version: int) -> Encoded:
    # The last one first, as Redis does it: what is read is then always added in front.
    members, scores = given.ranking.between(0, len(given))
    members.reverse()
    scores.reverse()
    written = chain.from_iterable(zip(map(element, members), map(_DOUBLE, scores), strict=True))
    return Encoded(kinds.ZSET_2, version, chain((length(len(given)),), written))


def _hash(given: Hash, version: int) -> Encoded:
    pairs = chain.from_iterable(piece.items() for piece in given.distinct_pieces())
    if not given.deadlines:
        words = map(element, chain.from_iterable(pairs))
        return Encoded(kinds.HASH, version, chain((length(len(given)),), words))
    if version == kinds.LATEST_OF_REDIS:
        return Encoded(kinds.HASH_DEADLINES, version, _with_relative_deadlines(given, pairs))
    return Encoded(kinds.HASH_2, kinds.VALKEY, _with_absolute_deadlines(given, pairs))


def _with_absolute_deadlines(given: Hash, pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    yield length(len(given))
    for field, text in pairs:
        at_ms = given.deadline(field)
        yield element(field)
        yield element(text)
        yield _int64(-1 if at_ms is None else at_ms)


def _with_relative_deadlines(given: Hash, pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    assert given.deadlines is not None
    first_ms = min(chain.from_iterable(piece.values() for piece in given.deadlines.distinct_pieces()))
    yield _int64(first_ms)
    yield length(len(given))
    for field, text in pairs:
        at_ms = given.deadline(field)
        yield length(0 if at_ms is None else at_ms - first_ms + 1)
        yield element(field)
        yield element(text)


def _int64(number: int) -> bytes:
    return number.to_bytes(8, "little", signed=True)


def _stream(given: Stream, version: int) -> Encoded:
    if version < kinds.REDIS_7_0:
        kind = kinds.STREAM
    else:
        kind = kinds.STREAM_2 if version == kinds.REDIS_7_0 else kinds.STREAM_3
    return Encoded(kind, version, streams.write(kind, given))


_ENCODERS: dict[type, Callable[[Any, int], Encoded]] = {
    bytes: _string,
    bytearray: _string,
    int: _integer,
    List: _list,
    Set: _set,
    SortedSet: _sorted_set,
    Hash: _hash,
    Stream: _stream,
}
