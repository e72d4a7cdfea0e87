"""Fingerprints of values and of whole data sets, the same as those of Redis (debug.c, computeDatasetDigest),
from 7.2 on.

Two servers that hold the same have the same fingerprint, whatever the order in which their keys and members
come. So each shard can make its own part, and the parts fit together in any order. 20 bytes each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from shardkv.keyspace import Database
from shardkv.numbers import format_double
from shardkv.structures.hash import Hash
from shardkv.structures.list import List
from shardkv.structures.set import Set
from shardkv.structures.stream import Stream
from shardkv.structures.zset import SortedSet
from shardkv.values import Value, string_bytes, unpacked

NOTHING = 0
"""The fingerprint of a key that is not there, and of no data at all."""

_BYTES = 20


def in_hex(digest: int) -> bytes:
    """A fingerprint as it is shown."""
    return b"%040x" % digest


def of_value(db: Database, key: bytes, digest: int = NOTHING) -> int:
    """The fingerprint of what a key holds, mixed into one that there is already; that remains if there is no
    such key."""
    value = db.peek(key)
    if value is None:
        return digest
    digest = _of_value(unpacked(value), digest)
    return digest ^ _DEADLINE if key in db.expires else digest


def of_database(db: Database) -> int:
    """The part of a database's fingerprint that comes from the keys of this shard."""
    digest, keys = NOTHING, db.keys()
    for key in keys:
        digest ^= _sha1(_encoded(of_value(db, key, _mixed(NOTHING, key))))
    return digest


def of_everything(parts: Iterable[dict[int, int]]) -> int:
    """The fingerprint of all data, put together from what each shard says of its databases that hold keys."""
    found: dict[int, int] = {}
    for part in parts:
        for index, digest in part.items():
            found[index] = found.get(index, NOTHING) ^ digest
    whole = NOTHING
    for index in sorted(found):
        whole = _mixed(whole, index.to_bytes(4, "big")) ^ found[index]
    return whole


# -- what it is made of -------------------------------------------------------------------------


def _sha1(data: bytes) -> int:
    return int.from_bytes(hashlib.sha1(data, usedforsecurity=False).digest(), "big")


def _encoded(digest: int) -> bytes:
    return digest.to_bytes(_BYTES, "big")


def _mixed(digest: int, data: bytes) -> int:
    """With something added whose place in the order matters."""
    return _sha1(_encoded(digest ^ _sha1(data)))


def _row(parts: Iterable[bytes], digest: int = NOTHING) -> int:
    for part in parts:
        digest = _mixed(digest, part)
    return digest


_DEADLINE = _sha1(b"!!expire!!")
_FIELD_DEADLINE = _sha1(b"!!hexpire!!")

_KINDS: dict[type, int] = {List: 1, Set: 2, SortedSet: 3, Hash: 4, Stream: 6}
"""The numbers by which Redis tells types apart; a string's is 0."""


def _of_value(value: Value, digest: int) -> int:
    kind = value.__class__
    digest = _mixed(digest, _KINDS.get(kind, 0).to_bytes(4, "big"))
    of_kind = _OF_KIND.get(kind)
    return _mixed(digest, string_bytes(value)) if of_kind is None else of_kind(value, digest)


def _of_list(value: List, digest: int) -> int:
    return _row(value, digest)


def _of_set(value: Set, digest: int) -> int:
    for member in value:
        digest ^= _sha1(member)
    return digest


def _of_sorted_set(value: SortedSet, digest: int) -> int:
    for member, score in value.items():
        digest ^= _sha1(_encoded(_row((member, format_double(score)))))
    return digest


def _of_hash(value: Hash, digest: int) -> int:
    for field, text in chain.from_iterable(piece.items() for piece in value.distinct_pieces()):
        pair = _row((field, text))
        if value.deadlines is not None and value.deadline(field) is not None:
            pair ^= _FIELD_DEADLINE
        digest ^= _sha1(_encoded(pair))
    return digest


def _of_stream(value: Stream, digest: int) -> int:
    for stream_id, items in value:
        digest = _row((b"%d.%d" % stream_id, *items), digest)
    return digest


_OF_KIND: dict[type, Callable[[Any, int], int]] = {
    List: _of_list,
    Set: _of_set,
    SortedSet: _of_sorted_set,
    Hash: _of_hash,
    Stream: _of_stream,
}
