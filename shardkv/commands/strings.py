"""Strings."""

from __future__ import annotations

from typing import Any

from shardkv import errors
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.keyspace import Database, string
from shardkv.numbers import INT64_MAX, INT64_MIN, integer
from shardkv.errors import CommandError
from shardkv.resp.replies import OK


@command(
    "GET key",
    group="string",
    since="1.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
)
def get(db: Database, args: list[Any]) -> Any:
    """Returns the string value of a key."""
    return db.read_string(args[1], args[0])


@command(
    "SET key value",
    group="string",
    since="1.0.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="RW ACCESS UPDATE", notes="RW and ACCESS due to the optional `GET` argument"),),
)
def set_(db: Database, args: list[Any]) -> Any:
    """Sets the string value of a key, ignoring its type. The key is created if it doesn't exist."""
    db.put(args[1], args[2], "set", args[0])
    return OK


@command(
    "INCR key",
    group="string",
    since="1.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
)
def incr(db: Database, args: list[Any]) -> Any:
    """Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."""
    return _increment(db, args, 1)


def _increment(db: Database, args: list[Any], amount: int) -> int:
    key, slot = args[1], args[0]
    old = db.edit(key, slot)
    if old is None:
        number = amount
    elif old.__class__ is int:
        number = old + amount
    else:
        number = integer(bytes(string(old))) + amount
    if not INT64_MIN <= number <= INT64_MAX:
        raise CommandError(errors.OVERFLOW)
    db.put(key, number, "incrby", slot, keep_deadline=True)
    return number
