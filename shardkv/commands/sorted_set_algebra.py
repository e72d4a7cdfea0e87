"""Unions, intersections and differences of sorted sets and sets, which may lie on several shards.

Then each shard gives what its keys hold in one piece of MessagePack. What is to be stored is combined by the
destination's shard, so that the proxy only hands the pieces on; what is to be replied, by the proxy.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Any, NamedTuple, Protocol

import msgspec

from shardkv import errors, values
from shardkv.command import DENYOOM, MOVABLEKEYS, READONLY, WRITE, Key, command
from shardkv.commands.set_algebra import difference, intersection
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import double, integer
from shardkv.plan import Call, Hop, Plan, Read, Values, Write, check
from shardkv.resp.replies import Pairs
from shardkv.structures.ranking import in_order
from shardkv.structures.set import Set
from shardkv.structures.zset import SortedSet

# -- inputs -----------------------------------------------------------------------------------


class Scores(Protocol):
    """What can be combined: members and their scores."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __contains__(self, member: object) -> bool: ...
    def __getitem__(self, member: bytes) -> float: ...


class _SetScores:
    """A set, all of whose members have the score 1."""

    def __init__(self, members: Set) -> None:
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._members)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __getitem__(self, member: bytes) -> float:
        return 1.0


def _read(db: Database, key: bytes) -> SortedSet | Set | None:
    value = db.peek(key)
    if value is not None and values.type_name(value) == Set.type_name:
        return db.read_as(Set, key)
    return db.read_as(SortedSet, key)


def _scores_of(db: Database, key: bytes) -> Scores:
    """What a key holds. Raises CommandError if it is neither a sorted set nor a set."""
    found = _read(db, key)
    if found is None:
        return {}
    return _SetScores(found) if isinstance(found, Set) else found


Content = tuple[list[bytes], bytes]
"""Members and their scores, 8 bytes each."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Content).decode


def pack_scores(members: list[bytes], scores: Sequence[float]) -> bytes:
    """Members and their scores in one piece, for another process."""
    return _encode((members, array("d", scores).tobytes()))


def unpack_scores(packed: bytes) -> dict[bytes, float]:
    """What `pack_scores` has packed."""
    members, scores = _decode(packed)
    return dict(zip(members, array("d", scores), strict=True))


@command("ZINPUTS key [key ...]", group="sorted-set", since="0.1.0", flags=READONLY, internal=True)
def zinputs(db: Database, args: list[Any]) -> list[bytes]:
    """Returns what each key holds, packed."""
    found = [_scores_of(db, key) for key in args[1:]]
    return [
        pack_scores(
            members := list(scores),
            list(repeat(1.0, len(members))) if isinstance(scores, _SetScores) else list(map(scores.__getitem__, members)),
        )
        for scores in found
    ]
