"""Sorted sets: taking the members with the lowest or highest scores off."""

from __future__ import annotations

from typing import Any, NamedTuple

from shardkv import errors
from shardkv.command import FAST, MOVABLEKEYS, WRITE, Key, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.plan import Call, Plan, Write, check, first_filled
from shardkv.resp.replies import NULL_ARRAY, Pairs
from shardkv.structures.zset import SortedSet


def remove_between(
    db: Database, key: bytes, found: SortedSet, start: int, stop: int, event: str, slot: int = -1
) -> tuple[list[bytes], list[float]]:
    """Removes the members with the ranks from `start` up to `stop`, of which there are some, from the sorted
    set that `edit_as` has found; returns them and their scores."""
    if stop - start < found.count:
        removed = found.remove_between(start, stop)
        db.changed(key, event)
        return removed
    removed = found.ranking.between(start, stop)
    db.remove(key, slot)
    db.changed(key, event)
    db.changed(key, "del")
    return removed


def pop(db: Database, key: bytes, found: SortedSet, count: int, slot: int = -1, *, lowest: bool) -> Pairs:
    """Removes members with the lowest or highest scores, one at least, from the sorted set that `edit_as` has
    found; returns them with their scores."""
    count = min(count, found.count)
    if lowest:
        members, scores = remove_between(db, key, found, 0, count, "zpopmin", slot)
    else:
        start = found.count - count
        members, scores = remove_between(db, key, found, start, found.count, "zpopmax", slot)
        members.reverse()
        scores.reverse()
    return Pairs(zip(members, scores, strict=True))


@command(
    "ZPOPMIN key [count]",
    group="sorted-set",
    since="5.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS DELETE"),),
    complexity="O(log(N)*M) with N being the number of elements in the sorted set, and M being the "
    "number of elements popped.",
)
def zpopmin(db: Database, args: list[Any]) -> Any:
    """Returns the lowest-scoring members from a sorted set after removing them. Deletes the sorted set if
    the last member was popped."""
    return _pop(db, args, lowest=True)


@command(
    "ZPOPMAX key [count]",
    group="sorted-set",
    since="5.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS DELETE"),),
    complexity="O(log(N)*M) with N being the number of elements in the sorted set, and M being the "
    "number of elements popped.",
)
def zpopmax(db: Database, args: list[Any]) -> Any:
    """Returns the highest-scoring members from a sorted set after removing them. Deletes the sorted set if
    the last member was popped."""
    return _pop(db, args, lowest=False)


def _pop(db: Database, args: list[Any], *, lowest: bool) -> Any:
    counted = len(args) > 2
    if len(args) > 3:
        raise CommandError(errors.SYNTAX)
    count = integer(args[2], errors.NOT_A_COUNT) if counted else 1
    if count < 0:
        raise CommandError(errors.NOT_A_COUNT)
    slot, key = args[:2]
    found = db.edit_as(SortedSet, key, slot)
    if found is None or not count:
        return []
    popped = pop(db, key, found, count, slot, lowest=lowest)
    return popped if counted else popped[0]


# -- from the first of several ----------------------------------------------------------------


class Pop(NamedTuple):
    """What a ZMPOP asks for."""

    keys: list[bytes]
    name: bytes
    """Of the command that does it with one key."""
    most: int


def read_pop(args: list[Any]) -> Pop:
    """Reads the request from the number of its keys on."""
    number = _at_least_one(args[1], "numkeys")
    options = args[2 + number :]
    name = {b"MIN": b"ZPOPMIN", b"MAX": b"ZPOPMAX"}.get(options[0].upper()) if options else None
    if name is None:
        raise CommandError(errors.SYNTAX)
    most = 1
    if len(options) > 1:
        if len(options) == 2 or options[1].upper() != b"COUNT":
            raise CommandError(errors.SYNTAX)
        most = _at_least_one(options[2], "count")
        if len(options) > 3:
            raise CommandError(errors.SYNTAX)
    return Pop(args[2 : 2 + number], name, most)


def _at_least_one(text: bytes, name: str) -> int:
    error = errors.not_positive(name)
    number = integer(text, error)
    if number < 1:
        raise CommandError(error)
    return number


def _popped(key: bytes, pairs: Pairs) -> list[Any]:
    """The reply of ZMPOP, whose pairs are not flattened in RESP2 either."""
    return [key, [list(pair) for pair in pairs]]


def _plan_zmpop(call: Call) -> Plan:
    return (yield from plan_pop(call, read_pop(call.args)))


def plan_pop(call: Call, asked: Pop) -> Plan:
    """Takes members from the first sorted set that has some."""
    key = yield from first_filled(call, asked.keys, b"ZCARD")
    return NULL_ARRAY if key is None else (yield from plan_take(call, asked, key))


def plan_take(call: Call, asked: Pop, key: bytes) -> Plan:
    """Takes members from a sorted set that has some."""
    shard = call.shard_of(key)
    values = yield Write({shard: [[asked.name, key, b"%d" % asked.most]]})
    check(values)
    return _popped(key, values[shard][0])


@command(
    "ZMPOP numkeys key [key ...] <MIN | MAX> [COUNT count]",
    group="sorted-set",
    since="7.0.0",
    flags=WRITE | MOVABLEKEYS,
    keys=(Key(1, numkeys=(0, 1, 1), access="RW ACCESS DELETE"),),
    complexity="O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of "
    "elements in the sorted set, and M being the number of elements popped.",
    plan=_plan_zmpop,
)
def zmpop(db: Database, args: list[Any]) -> Any:
    """Returns the highest- or lowest-scoring members from one or more sorted sets after removing them.
    Deletes the sorted set if the last member was popped."""
    popped = pop_first(db, read_pop(args))
    return NULL_ARRAY if popped is None else popped


def pop_first(db: Database, asked: Pop) -> list[Any] | None:
    """Takes members from the first sorted set that has some; returns its key and them."""
    for key in asked.keys:
        found = db.edit_as(SortedSet, key)
        if found is not None:
            popped = pop(db, key, found, asked.most, lowest=asked.name == b"ZPOPMIN")
            db.shard.propagate(db, asked.name, key, b"%d" % len(popped))
            return _popped(key, popped)
    return None
