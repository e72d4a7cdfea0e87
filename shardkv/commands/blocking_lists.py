"""Lists: waiting for elements. BLPOP, BLMOVE and their like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shardkv.blocking import Waits, Wish, check_seconds, first_word, last_word, seconds
from shardkv.command import BLOCKING, DENYOOM, MOVABLEKEYS, WRITE, Key, command
from shardkv.commands.list_moves import is_left, move, plan_move, plan_pop, plan_take, pop_first, read_pop
from shardkv.commands.lists import popped
from shardkv.keyspace import Database
from shardkv.plan import Call, Plan, Write, check, first_filled
from shardkv.resp.replies import NULL_ARRAY
from shardkv.structures.list import List
from shardkv.waiters import is_kind


def _has_elements(db: Database, wish: Wish) -> bool:
    value = db.peek(wish[0])
    return value is not None and is_kind(value, List)


# -- one element of the first list ----------------------------------------------------------------


def _wishes(args: Sequence[bytes]) -> list[Wish]:
    return [[key] for key in args[1:-1]]


def _pop(db: Database, args: list[Any], *, left: bool) -> Any:
    check_seconds(args[-1])
    keys = args[1:-1]
    for key in keys:
        found = db.edit_as(List, key)
        if found is not None:
            element = found.pop_left() if left else found.pop_right()
            popped(db, key, found, "lpop" if left else "rpop")
            db.shard.propagate(db, b"LPOP" if left else b"RPOP", key)
            return [key, element]
    return db.shard.wait(db, args[-1], keys, List)


def _plan_pop(name: bytes) -> Callable[[Call], Plan]:
    def plan(call: Call) -> Plan:
        seconds(call.args[-1])
        key = yield from first_filled(call, call.args[1:-1], b"LLEN")
        return NULL_ARRAY if key is None else (yield from _take(name)(call, key))

    return plan


def _take(name: bytes) -> Callable[[Call, bytes], Plan]:
    def plan(call: Call, key: bytes) -> Plan:
        shard = call.shard_of(key)
        values = yield Write({shard: [[name, key]]})
        check(values)
        return [key, *values[shard]]

    return plan


def _push(name: bytes) -> Callable[[Sequence[bytes], Any], list[bytes]]:
    def request(args: Sequence[bytes], reply: Any) -> list[bytes]:
        key, element = reply
        return [name, key, element]

    return request


@command(
    "BLPOP key [key ...] timeout",
    group="list",
    since="2.0.0",
    flags=WRITE | BLOCKING,
    keys=(Key(1, last=-2, access="RW ACCESS DELETE"),),
    complexity="O(N) where N is the number of provided keys.",
    history=(("6.0.0", "`timeout` is interpreted as a double instead of an integer."),),
    plan=_plan_pop(b"LPOP"),
    waits=Waits(
        kind=List,
        place=last_word,
        read_ms=seconds,
        wishes=_wishes,
        granted=_has_elements,
        take=_take(b"LPOP"),
        give_back=_push(b"LPUSH"),
    ),
)
def blpop(db: Database, args: list[Any]) -> Any:
    """Removes and returns the first element in a list. Blocks until an element is available otherwise.
    Deletes the list if the last element was popped."""
    return _pop(db, args, left=True)


@command(
    "BRPOP key [key ...] timeout",
    group="list",
    since="2.0.0",
    flags=WRITE | BLOCKING,
    keys=(Key(1, last=-2, access="RW ACCESS DELETE"),),
    complexity="O(N) where N is the number of provided keys.",
    history=(("6.0.0", "`timeout` is interpreted as a double instead of an integer."),),
    plan=_plan_pop(b"RPOP"),
    waits=Waits(
        kind=List,
        place=last_word,
        read_ms=seconds,
        wishes=_wishes,
        granted=_has_elements,
        take=_take(b"RPOP"),
        give_back=_push(b"RPUSH"),
    ),
)
def brpop(db: Database, args: list[Any]) -> Any:
    """Removes and returns the last element in a list. Blocks until an element is available otherwise.
    Deletes the list if the last element was popped."""
    return _pop(db, args, left=False)


# -- several elements of the first list -----------------------------------------------------------


def _plan_blmpop(call: Call) -> Plan:
    seconds(call.args[1])
    return (yield from plan_pop(call, read_pop(call.args[1:])))


def _take_blmpop(call: Call, key: bytes) -> Plan:
    return (yield from plan_take(call, read_pop(call.args[1:]), key))


def _wishes_of_blmpop(args: Sequence[bytes]) -> list[Wish]:
    return [[key] for key in read_pop(list(args[1:])).keys]


def _push_many(args: Sequence[bytes], reply: Any) -> list[bytes]:
    key, elements = reply
    asked = read_pop(list(args[1:]))
    return [b"LPUSH" if asked.left else b"RPUSH", key, *reversed(elements)]


@command(
    "BLMPOP timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
    group="list",
    since="7.0.0",
    flags=WRITE | BLOCKING | MOVABLEKEYS,
    keys=(Key(2, numkeys=(0, 1, 1), access="RW ACCESS DELETE"),),
    complexity="O(N+M) where N is the number of provided keys and M is the number of elements returned.",
    plan=_plan_blmpop,
    waits=Waits(
        kind=List,
        place=first_word,
        read_ms=seconds,
        wishes=_wishes_of_blmpop,
        granted=_has_elements,
        take=_take_blmpop,
        give_back=_push_many,
    ),
)
def blmpop(db: Database, args: list[Any]) -> Any:
    """Pops the first element from one of multiple lists. Blocks until an element is available otherwise.
    Deletes the list if the last element was popped."""
    check_seconds(args[1])
    asked = read_pop(args[1:])
    popped_now = pop_first(db, asked)
    return db.shard.wait(db, args[1], list(asked.keys), List) if popped_now is None else popped_now


# -- from one list to another ---------------------------------------------------------------------


def _move(db: Database, args: list[Any], from_left: bool, to_left: bool, *words: bytes) -> Any:
    """`words` is the request without its timeout, as the log has it."""
    element = move(db, args[1], args[2], from_left, to_left)
    if element is not None:
        db.shard.propagate(db, *words)
        return element
    later = db.shard.wait(db, args[-1], [args[1]], List)
    # Only who has waited gets a missing list instead of a missing element.
    return None if later is NULL_ARRAY else later


def _wishes_of_move(args: Sequence[bytes]) -> list[Wish]:
    return [[args[1]]]


_MOVE_WAITS = Waits(
    kind=List, place=last_word, read_ms=seconds, wishes=_wishes_of_move, granted=_has_elements
)


def _plan_blmove(call: Call) -> Plan:
    from_left, to_left = is_left(call.args[3]), is_left(call.args[4])
    seconds(call.args[5])
    return (yield from plan_move(call, from_left, to_left))


@command(
    "BLMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
    group="list",
    since="6.2.0",
    flags=WRITE | DENYOOM | BLOCKING,
    keys=(Key(1, access="RW ACCESS DELETE"), Key(2, access="RW INSERT")),
    plan=_plan_blmove,
    waits=_MOVE_WAITS,
)
def blmove(db: Database, args: list[Any]) -> Any:
    """Pops an element from a list, pushes it to another list and returns it. Blocks until an element is
    available otherwise. Deletes the list if the last element was moved."""
    from_left, to_left = is_left(args[3]), is_left(args[4])
    check_seconds(args[5])
    return _move(db, args, from_left, to_left, b"LMOVE", *args[1:5])


def _plan_brpoplpush(call: Call) -> Plan:
    seconds(call.args[3])
    return (yield from plan_move(call, False, True))


@command(
    "BRPOPLPUSH source destination timeout",
    group="list",
    since="2.2.0",
    flags=WRITE | DENYOOM | BLOCKING,
    keys=(Key(1, access="RW ACCESS DELETE"), Key(2, access="RW INSERT")),
    history=(("6.0.0", "`timeout` is interpreted as a double instead of an integer."),),
    deprecated_since="6.2.0",
    replaced_by="`BLMOVE` with the `RIGHT` and `LEFT` arguments",
    plan=_plan_brpoplpush,
    waits=_MOVE_WAITS,
)
def brpoplpush(db: Database, args: list[Any]) -> Any:
    """Pops an element from a list, pushes it to another list and returns it. Blocks until an element is
    available otherwise. Deletes the list if the last element was popped."""
    check_seconds(args[3])
    return _move(db, args, False, True, b"RPOPLPUSH", *args[1:3])
