"""From one list to another, and from the first of several: LMOVE, LMPOP and their like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from shardkv import errors
from shardkv.command import DENYOOM, MOVABLEKEYS, WRITE, Key, command
from shardkv.commands.lists import pop_many, popped, push_left, push_right
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.plan import Call, Plan, Read, Write, check, first_filled
from shardkv.resp.replies import NULL_ARRAY
from shardkv.structures.list import List


def is_left(word: bytes) -> bool:
    """Which end of a list a client means by LEFT or RIGHT. Raises CommandError(SYNTAX) for any other word."""
    match word.upper():
        case b"LEFT":
            return True
        case b"RIGHT":
            return False
    raise CommandError(errors.SYNTAX)


# -- from one list to another -----------------------------------------------------------------


def _plan_lmove(call: Call) -> Plan:
    return (yield from plan_move(call, is_left(call.args[3]), is_left(call.args[4])))


def _plan_rpoplpush(call: Call) -> Plan:
    return (yield from plan_move(call, False, True))


def plan_move(call: Call, from_left: bool, to_left: bool) -> Plan:
    """Moves an element from the end of one list to an end of another."""
    source, destination = call.args[1], call.args[2]
    here, there = call.shard_of(source), call.shard_of(destination)
    look = [b"LINDEX", source, b"0" if from_left else b"-1"]
    values = yield Read({here: [look], there: [[b"LLEN", destination]]})
    [element] = values[here]
    if element is None:
        return None
    check({here: values[here]})
    check({there: values[there]})
    take = [b"LPOP" if from_left else b"RPOP", source]
    give = [b"LPUSH" if to_left else b"RPUSH", destination, element]
    check((yield Write({here: [take], there: [give]})))
    return element


def move(db: Database, source: bytes, destination: bytes, from_left: bool, to_left: bool) -> bytes | None:
    """The same on one shard; None if there is nothing to move."""
    found = db.edit_as(List, source)
    if found is None:
        return None
    db.edit_as(List, destination)
    element = found.pop_left() if from_left else found.pop_right()
    push = push_left if to_left else push_right
    push(db, destination, [element])
    popped(db, source, found, "lpop" if from_left else "rpop")
    return element


@command(
    "LMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT>",
    group="list",
    since="6.2.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="RW ACCESS DELETE"), Key(2, access="RW INSERT")),
    plan=_plan_lmove,
)
def lmove(db: Database, args: list[Any]) -> Any:
    """Returns an element after popping it from one list and pushing it to another. Deletes the list if the
    last element was moved."""
    return move(db, args[1], args[2], is_left(args[3]), is_left(args[4]))


@command(
    "RPOPLPUSH source destination",
    group="list",
    since="1.2.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="RW ACCESS DELETE"), Key(2, access="RW INSERT")),
    deprecated_since="6.2.0",
    replaced_by="`LMOVE` with the `RIGHT` and `LEFT` arguments",
    plan=_plan_rpoplpush,
)
def rpoplpush(db: Database, args: list[Any]) -> Any:
    """Returns the last element of a list after removing and pushing it to another list. Deletes the list
    if the last element was popped."""
    return move(db, args[1], args[2], False, True)


# -- from the first of several ----------------------------------------------------------------


class Pop(NamedTuple):
    """What an LMPOP asks for."""

    keys: Sequence[bytes]
    left: bool
    most: int

    @property
    def name(self) -> bytes:
        """Of the command that does it with one key."""
        return b"LPOP" if self.left else b"RPOP"


def read_pop(args: list[Any]) -> Pop:
    """Reads the request from the number of its keys on."""
    number = _at_least_one(args[1], "numkeys")
    options = args[2 + number :]
    if not options:
        raise CommandError(errors.SYNTAX)
    left = is_left(options[0])
    most = 1
    if len(options) > 1:
        if len(options) == 2 or options[1].upper() != b"COUNT":
            raise CommandError(errors.SYNTAX)
        most = _at_least_one(options[2], "count")
        if len(options) > 3:
            raise CommandError(errors.SYNTAX)
    return Pop(args[2 : 2 + number], left, most)


def _at_least_one(text: bytes, name: str) -> int:
    error = errors.not_positive(name)
    number = integer(text, error)
    if number < 1:
        raise CommandError(error)
    return number


def _plan_lmpop(call: Call) -> Plan:
    return (yield from plan_pop(call, read_pop(call.args)))


def plan_pop(call: Call, asked: Pop) -> Plan:
    """Takes elements from the first list that has some."""
    key = yield from first_filled(call, asked.keys, b"LLEN")
    return NULL_ARRAY if key is None else (yield from plan_take(call, asked, key))


def plan_take(call: Call, asked: Pop, key: bytes) -> Plan:
    """Takes elements from a list that has some."""
    shard = call.shard_of(key)
    values = yield Write({shard: [[asked.name, key, b"%d" % asked.most]]})
    check(values)
    return [key, *values[shard]]


@command(
    "LMPOP numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
    group="list",
    since="7.0.0",
    flags=WRITE | MOVABLEKEYS,
    keys=(Key(1, numkeys=(0, 1, 1), access="RW ACCESS DELETE"),),
    complexity="O(N+M) where N is the number of provided keys and M is the number of elements returned.",
    plan=_plan_lmpop,
)
def lmpop(db: Database, args: list[Any]) -> Any:
    """Returns multiple elements from a list after removing them. Deletes the list if the last element was
    popped."""
    popped = pop_first(db, read_pop(args))
    return NULL_ARRAY if popped is None else popped


def pop_first(db: Database, asked: Pop) -> list[Any] | None:
    """Takes elements from the first list that has some; returns its key and them."""
    for key in asked.keys:
        found = db.edit_as(List, key)
        if found is not None:
            elements = pop_many(db, key, found, asked.most, left=asked.left)
            db.shard.propagate(db, asked.name, key, b"%d" % len(elements))
            return [key, elements]
    return None
