"""Strings as numbers: INCR and its like."""

from __future__ import annotations

from typing import Any

from shardkv import errors, longdouble
from shardkv.command import DENYOOM, FAST, WRITE, Key, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database, string
from shardkv.numbers import INT64_MAX, INT64_MIN, integer


@command(
    "INCR key",
    group="string",
    since="1.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
)
def incr(db: Database, args: list[Any]) -> Any:
    """Increments the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."""
    return _increment(db, args[1], args[0], 1)


@command(
    "DECR key",
    group="string",
    since="1.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
)
def decr(db: Database, args: list[Any]) -> Any:
    """Decrements the integer value of a key by one. Uses 0 as initial value if the key doesn't exist."""
    return _increment(db, args[1], args[0], -1)


@command(
    "INCRBY key increment",
    group="string",
    since="1.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
)
def incrby(db: Database, args: list[Any]) -> Any:
    """Increments the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist."""
    return _increment(db, args[1], args[0], integer(args[2]))


@command(
    "DECRBY key decrement",
    group="string",
    since="1.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
)
def decrby(db: Database, args: list[Any]) -> Any:
    """Decrements the integer value of a key by a number. Uses 0 as initial value if the key doesn't exist."""
    decrement = integer(args[2])
    if decrement == INT64_MIN:
        raise CommandError(errors.DECREMENT_OVERFLOW)
    return _increment(db, args[1], args[0], -decrement)


def _increment(db: Database, key: bytes, slot: int, amount: int) -> int:
    old = db.edit(key, slot)
    if old.__class__ is int:
        number = old + amount
    elif old is None:
        number = amount
    else:
        number = integer(old if old.__class__ is bytes else bytes(string(old))) + amount
    if not INT64_MIN <= number <= INT64_MAX:
        raise CommandError(errors.OVERFLOW)
    db.put(key, number, "incrby", slot, keep_deadline=True)
    return number


@command(
    "INCRBYFLOAT key increment",
    group="string",
    since="2.6.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
)
def incrbyfloat(db: Database, args: list[Any]) -> Any:
    """Increments the floating point value of a key by a number. Uses 0 as initial value if the key doesn't
    exist."""
    slot, key, increment = args
    old = db.edit_string(key, slot)
    total = longdouble.add(longdouble.parse(b"0" if old is None else bytes(old)), longdouble.parse(increment))
    new = longdouble.format_decimal(total)
    db.put(key, new, "incrbyfloat", slot, keep_deadline=True)
    # Another machine's arithmetic must not have a say in what is loaded again.
    db.shard.propagate(db, b"SET", key, new, b"KEEPTTL")
    return new
