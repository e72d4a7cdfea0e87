"""Values of every type, written in the plain forms that every server can read."""

from __future__ import annotations

from itertools import chain
from struct import Struct
from typing import NamedTuple

from shardkv.rdb import kinds, streams
from shardkv.rdb.writer import length, string, strings
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
    parts: list[bytes]
    """What follows after the kind."""


def value(given: Value, version: int) -> Encoded:
    """A value in forms of a version of the format, from 9 on. Only hashes with deadlines may need another,
    that of Valkey."""
    given = unpacked(given)
    if isinstance(given, Hash):
        return _hash(given, version)
    if isinstance(given, List):
        return Encoded(kinds.LIST, version, [length(len(given)), *strings(given)])
    if isinstance(given, Set):
        return Encoded(kinds.SET, version, [length(len(given)), *strings(given)])
    if isinstance(given, SortedSet):
        return _sorted_set(given, version)
    if isinstance(given, Stream):
        kind = _stream_kind(version)
        return Encoded(kind, version, streams.write(kind, given))
    assert isinstance(given, bytes | bytearray | int), "every type of collection has its form"
    text = b"%d" % given if isinstance(given, int) else bytes(given)
    return Encoded(kinds.STRING, version, [string(text)])


def _sorted_set(given: SortedSet, version: int) -> Encoded:
    # The last one first, as Redis does it: what is read is then always added in front.
    members, scores = given.ranking.between(0, len(given))
    members.reverse()
    scores.reverse()
    written = chain.from_iterable(zip(map(string, members), map(_DOUBLE, scores), strict=True))
    return Encoded(kinds.ZSET_2, version, [length(len(given)), *written])


def _hash(given: Hash, version: int) -> Encoded:
    pairs = chain.from_iterable(piece.items() for piece in given.distinct_pieces())
    if given.deadlines is None:
        return Encoded(kinds.HASH, version, [length(len(given)), *strings(chain.from_iterable(pairs))])
    parts = [length(len(given))]
    for field, text in pairs:
        at_ms = given.deadline(field)
        written = (-1 if at_ms is None else at_ms).to_bytes(8, "little", signed=True)
        parts += (string(field), string(text), written)
    return Encoded(kinds.HASH_2, kinds.VALKEY, parts)


def _stream_kind(version: int) -> int:
    if version < kinds.REDIS_7_0:
        return kinds.STREAM
    return kinds.STREAM_2 if version == kinds.REDIS_7_0 else kinds.STREAM_3
