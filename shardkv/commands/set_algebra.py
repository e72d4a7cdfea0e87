"""Intersections, unions and differences of sets, which may lie on several shards.

Then each shard combines its own, and what comes of that travels once, to be combined by the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from itertools import filterfalse, islice
from typing import Any, NamedTuple

from shardkv import errors
from shardkv.command import DENYOOM, MOVABLEKEYS, READONLY, WRITE, Key, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.plan import Call, Hop, Plan, Read, Values, Write, check
from shardkv.resp.replies import Unordered
from shardkv.structures.set import Set, requests

Members = Collection[bytes]


def intersection(sets: Sequence[Members]) -> Iterator[bytes]:
    """The members of all sets."""
    smallest, *others = sorted(sets, key=len)
    members = iter(smallest)
    for other in others:
        members = filter(other.__contains__, members)
    return members


def union(sets: Sequence[Members]) -> Iterator[bytes]:
    """The members of any set."""
    return iter(set().union(*sets))


def difference(sets: Sequence[Members]) -> Iterator[bytes]:
    """The members of the first set that are in no other."""
    first, *others = sets
    members = iter(first)
    for other in others:
        members = filterfalse(other.__contains__, members)
    return members


class Algebra(NamedTuple):
    """A way to combine sets."""

    combine: Callable[[Sequence[Members]], Iterator[bytes]]
    first_part: bytes
    """The command by which the shard that has the first set combines its own."""
    further_part: bytes
    """The same for other shards."""


INTERSECTION = Algebra(intersection, b"SINTER", b"SINTER")
UNION = Algebra(union, b"SUNION", b"SUNION")
DIFFERENCE = Algebra(difference, b"SDIFF", b"SUNION")

_NO_MEMBERS: frozenset[bytes] = frozenset()


def _read(db: Database, keys: Iterable[bytes]) -> list[Members]:
    return [db.read_as(Set, key) or _NO_MEMBERS for key in keys]


def _read_parts(call: Call, keys: Iterable[bytes], algebra: Algebra) -> Generator[Hop, Values, list[Members]]:
    """What comes of the sets on each shard, that of the first key's shard first."""
    by_shard: dict[int, list[bytes]] = {}
    for key in keys:
        by_shard.setdefault(call.shard_of(key), []).append(key)
    names = [algebra.first_part] + [algebra.further_part] * (len(by_shard) - 1)
    values = yield Read(
        {shard: [[name, *own]] for name, (shard, own) in zip(names, by_shard.items(), strict=True)}
    )
    check(values)
    return [values[shard][0] for shard in by_shard]


# -- replying -----------------------------------------------------------------------------------


def _plan(algebra: Algebra) -> Callable[[Call], Plan]:
    def plan(call: Call) -> Plan:
        parts = yield from _read_parts(call, call.args[1:], algebra)
        return Unordered(algebra.combine(parts))

    return plan


@command(
    "SINTER key [key ...]",
    group="set",
    since="1.0.0",
    flags=READONLY,
    keys=(Key(1, last=-1),),
    complexity="O(N*M) worst case where N is the cardinality of the smallest set and M is the number of "
    "sets.",
    tips=("nondeterministic_output_order",),
    plan=_plan(INTERSECTION),
)
def sinter(db: Database, args: list[Any]) -> Any:
    """Returns the intersect of multiple sets."""
    return Unordered(intersection(_read(db, args[1:])))


@command(
    "SUNION key [key ...]",
    group="set",
    since="1.0.0",
    flags=READONLY,
    keys=(Key(1, last=-1),),
    complexity="O(N) where N is the total number of elements in all given sets.",
    tips=("nondeterministic_output_order",),
    plan=_plan(UNION),
)
def sunion(db: Database, args: list[Any]) -> Any:
    """Returns the union of multiple sets."""
    return Unordered(union(_read(db, args[1:])))


@command(
    "SDIFF key [key ...]",
    group="set",
    since="1.0.0",
    flags=READONLY,
    keys=(Key(1, last=-1),),
    complexity="O(N) where N is the total number of elements in all given sets.",
    tips=("nondeterministic_output_order",),
    plan=_plan(DIFFERENCE),
)
def sdiff(db: Database, args: list[Any]) -> Any:
    """Returns the difference of multiple sets."""
    return Unordered(difference(_read(db, args[1:])))


# -- counting -----------------------------------------------------------------------------------


def _read_sintercard(args: Sequence[Any]) -> tuple[list[bytes], int | None]:
    """The keys, and how many members are to be counted at most. Raises CommandError."""
    number = integer(args[1], errors.not_positive("numkeys"))
    if number < 1:
        raise CommandError(errors.not_positive("numkeys"))
    if number > len(args) - 2:
        raise CommandError(errors.TOO_MANY_KEYS)
    keys, options = list(args[2 : 2 + number]), iter(args[2 + number :])
    limit = 0
    for option in options:
        value = next(options, None)
        if option.upper() != b"LIMIT" or value is None:
            raise CommandError(errors.SYNTAX)
        limit = integer(value, errors.NEGATIVE_LIMIT)
        if limit < 0:
            raise CommandError(errors.NEGATIVE_LIMIT)
    return keys, limit or None


def _plan_sintercard(call: Call) -> Plan:
    keys, limit = _read_sintercard(call.args)
    parts = yield from _read_parts(call, keys, INTERSECTION)
    return _count(intersection(parts), limit)


def _count(members: Iterator[bytes], limit: int | None) -> int:
    return sum(1 for _ in islice(members, limit))


@command(
    "SINTERCARD numkeys key [key ...] [LIMIT limit]",
    group="set",
    since="7.0.0",
    flags=READONLY | MOVABLEKEYS,
    keys=(Key(1, numkeys=(0, 1, 1)),),
    complexity="O(N*M) worst case where N is the cardinality of the smallest set and M is the number of "
    "sets.",
    plan=_plan_sintercard,
)
def sintercard(db: Database, args: list[Any]) -> Any:
    """Returns the number of members of the intersect of multiple sets."""
    keys, limit = _read_sintercard(args)
    return _count(intersection(_read(db, keys)), limit)


# -- storing ------------------------------------------------------------------------------------


def _plan_store(algebra: Algebra) -> Callable[[Call], Plan]:
    def plan(call: Call) -> Plan:
        destination, *keys = call.args[1:]
        parts = yield from _read_parts(call, keys, algebra)
        members = list(algebra.combine(parts))
        if members:
            building = list(requests(b"SADD", destination, members))
            request = [b"BUILD", call.db, destination, call.command.name, True, building]
        else:
            request = [b"DEL", destination]
        check((yield Write({call.shard_of(destination): [request]})))
        return len(members)

    return plan


def _store(db: Database, args: list[Any], algebra: Algebra, event: str) -> int:
    destination, *keys = args[1:]
    members = list(algebra.combine(_read(db, keys)))
    if members:
        db.put(destination, Set.holding(members, db.shard.config), event)
    elif db.edit(destination) is not None:
        db.remove(destination)
        db.changed(destination, "del")
    return len(members)


@command(
    "SINTERSTORE destination key [key ...]",
    group="set",
    since="1.0.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="OW UPDATE"), Key(2, last=-1)),
    complexity="O(N*M) worst case where N is the cardinality of the smallest set and M is the number of "
    "sets.",
    plan=_plan_store(INTERSECTION),
)
def sinterstore(db: Database, args: list[Any]) -> Any:
    """Stores the intersect of multiple sets in a key."""
    return _store(db, args, INTERSECTION, "sinterstore")


@command(
    "SUNIONSTORE destination key [key ...]",
    group="set",
    since="1.0.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="OW UPDATE"), Key(2, last=-1)),
    complexity="O(N) where N is the total number of elements in all given sets.",
    plan=_plan_store(UNION),
)
def sunionstore(db: Database, args: list[Any]) -> Any:
    """Stores the union of multiple sets in a key."""
    return _store(db, args, UNION, "sunionstore")


@command(
    "SDIFFSTORE destination key [key ...]",
    group="set",
    since="1.0.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="OW UPDATE"), Key(2, last=-1)),
    complexity="O(N) where N is the total number of elements in all given sets.",
    plan=_plan_store(DIFFERENCE),
)
def sdiffstore(db: Database, args: list[Any]) -> Any:
    """Stores the difference of multiple sets in a key."""
    return _store(db, args, DIFFERENCE, "sdiffstore")
