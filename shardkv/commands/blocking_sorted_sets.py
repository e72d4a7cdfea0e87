"""Sorted sets: waiting for members. BZPOPMIN, BZMPOP and their like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shardkv.blocking import Waits, Wish, check_seconds, first_word, last_word, seconds
from shardkv.command import BLOCKING, FAST, MOVABLEKEYS, WRITE, Key, command
from shardkv.commands.sorted_set_pops import plan_pop, plan_take, pop, pop_first, read_pop
from shardkv.keyspace import Database
from shardkv.plan import Call, Plan, Write, check, first_filled
from shardkv.resp.replies import NULL_ARRAY
from shardkv.structures.zset import SortedSet
from shardkv.waiters import is_kind


def _has_members(db: Database, wish: Wish) -> bool:
    value = db.peek(wish[0])
    return value is not None and is_kind(value, SortedSet)


# -- one member of the first sorted set -----------------------------------------------------------


def _wishes(args: Sequence[bytes]) -> list[Wish]:
    return [[key] for key in args[1:-1]]


def _pop(db: Database, args: list[Any], *, lowest: bool) -> Any:
    check_seconds(args[-1])
    keys = args[1:-1]
    for key in keys:
        found = db.edit_as(SortedSet, key)
        if found is not None:
            [(member, score)] = pop(db, key, found, 1, lowest=lowest)
            db.shard.propagate(db, b"ZPOPMIN" if lowest else b"ZPOPMAX", key)
            return [key, member, score]
    return db.shard.wait(db, args[-1], keys, SortedSet)


def _plan_pop(name: bytes) -> Callable[[Call], Plan]:
    def plan(call: Call) -> Plan:
        seconds(call.args[-1])
        key = yield from first_filled(call, call.args[1:-1], b"ZCARD")
        return NULL_ARRAY if key is None else (yield from _take(name)(call, key))

    return plan


def _take(name: bytes) -> Callable[[Call, bytes], Plan]:
    def plan(call: Call, key: bytes) -> Plan:
        shard = call.shard_of(key)
        values = yield Write({shard: [[name, key]]})
        check(values)
        [(member, score)] = values[shard]
        return [key, member, score]

    return plan


def _add(args: Sequence[bytes], reply: Any) -> list[bytes]:
    key, member, score = reply
    return [b"ZADD", key, _spelled(score), member]


def _spelled(score: Any) -> bytes:
    """A score as a request has it; RESP2 gives it as text, RESP3 as a number."""
    return score if isinstance(score, bytes) else repr(float(score)).encode()


def _waits(name: bytes) -> Waits:
    return Waits(
        kind=SortedSet,
        place=last_word,
        read_ms=seconds,
        wishes=_wishes,
        granted=_has_members,
        take=_take(name),
        give_back=_add,
    )


@command(
    "BZPOPMIN key [key ...] timeout",
    group="sorted-set",
    since="5.0.0",
    flags=WRITE | BLOCKING | FAST,
    keys=(Key(1, last=-2, access="RW ACCESS DELETE"),),
    complexity="O(log(N)) with N being the number of elements in the sorted set.",
    history=(("6.0.0", "`timeout` is interpreted as a double instead of an integer."),),
    plan=_plan_pop(b"ZPOPMIN"),
    waits=_waits(b"ZPOPMIN"),
)
def bzpopmin(db: Database, args: list[Any]) -> Any:
    """Removes and returns the member with the lowest score from one or more sorted sets. Blocks until a
    member is available otherwise. Deletes the sorted set if the last element was popped."""
    return _pop(db, args, lowest=True)


@command(
    "BZPOPMAX key [key ...] timeout",
    group="sorted-set",
    since="5.0.0",
    flags=WRITE | BLOCKING | FAST,
    keys=(Key(1, last=-2, access="RW ACCESS DELETE"),),
    complexity="O(log(N)) with N being the number of elements in the sorted set.",
    history=(("6.0.0", "`timeout` is interpreted as a double instead of an integer."),),
    plan=_plan_pop(b"ZPOPMAX"),
    waits=_waits(b"ZPOPMAX"),
)
def bzpopmax(db: Database, args: list[Any]) -> Any:
    """Removes and returns the member with the highest score from one or more sorted sets. Blocks until a
    member is available otherwise. Deletes the sorted set if the last element was popped."""
    return _pop(db, args, lowest=False)


# -- several members of the first sorted set ------------------------------------------------------


def _plan_bzmpop(call: Call) -> Plan:
    seconds(call.args[1])
    return (yield from plan_pop(call, read_pop(call.args[1:])))


def _take_bzmpop(call: Call, key: bytes) -> Plan:
    return (yield from plan_take(call, read_pop(call.args[1:]), key))


def _wishes_of_bzmpop(args: Sequence[bytes]) -> list[Wish]:
    return [[key] for key in read_pop(list(args[1:])).keys]


def _add_many(args: Sequence[bytes], reply: Any) -> list[bytes]:
    key, pairs = reply
    return [b"ZADD", key, *(word for member, score in pairs for word in (_spelled(score), member))]


@command(
    "BZMPOP timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
    group="sorted-set",
    since="7.0.0",
    flags=WRITE | BLOCKING | MOVABLEKEYS,
    keys=(Key(2, numkeys=(0, 1, 1), access="RW ACCESS DELETE"),),
    complexity="O(K) + O(M*log(N)) where K is the number of provided keys, N being the number of elements "
    "in the sorted set, and M being the number of elements popped.",
    plan=_plan_bzmpop,
    waits=Waits(
        kind=SortedSet,
        place=first_word,
        read_ms=seconds,
        wishes=_wishes_of_bzmpop,
        granted=_has_members,
        take=_take_bzmpop,
        give_back=_add_many,
    ),
)
def bzmpop(db: Database, args: list[Any]) -> Any:
    """Removes and returns a member by score from one or more sorted sets. Blocks until a member is available
    otherwise. Deletes the sorted set if the last element was popped."""
    check_seconds(args[1])
    asked = read_pop(args[1:])
    popped = pop_first(db, asked)
    return db.shard.wait(db, args[1], asked.keys, SortedSet) if popped is None else popped
