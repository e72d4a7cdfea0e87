"""Commands for whole databases."""

from __future__ import annotations

from typing import Any

from shardkv import errors, glob
from shardkv.command import FAST, READONLY, WRITE, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.plan import concatenate, everywhere, first
from shardkv.resp.replies import OK


@command(
    "DBSIZE",
    group="server",
    since="1.0.0",
    flags=READONLY | FAST,
    categories=("keyspace",),
    tips=("request_policy:all_shards", "response_policy:agg_sum"),
    plan=everywhere(sum),
)
def dbsize(db: Database, args: list[Any]) -> Any:
    """Returns the number of keys in the database."""
    return len(db)


@command(
    "KEYS pattern",
    group="generic",
    since="1.0.0",
    flags=READONLY,
    complexity="O(N) with N being the number of keys in the database, under the assumption that the key "
    "names in the database and the given pattern have limited length.",
    categories=("dangerous", "keyspace"),
    tips=("request_policy:all_shards", "nondeterministic_output_order"),
    plan=everywhere(concatenate),
)
def keys(db: Database, args: list[Any]) -> Any:
    """Returns all key names that match a pattern."""
    return list(filter(glob.compile(args[1]), db.keys()))


@command(
    "FLUSHALL [ASYNC | SYNC]",
    group="server",
    since="1.0.0",
    flags=WRITE,
    complexity="O(N) where N is the total number of keys in all databases",
    categories=("dangerous", "keyspace"),
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
    history=(
        ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
        ("6.2.0", "Added the `SYNC` flushing mode modifier."),
    ),
    plan=everywhere(first),
)
def flushall(db: Database, args: list[Any]) -> Any:
    """Removes all keys from all databases."""
    return _flush(db, args, list(range(db.shard.config.databases)), b"FLUSHALL")


@command(
    "FLUSHDB [ASYNC | SYNC]",
    group="server",
    since="1.0.0",
    flags=WRITE,
    complexity="O(N) where N is the number of keys in the selected database",
    categories=("dangerous", "keyspace"),
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
    history=(
        ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
        ("6.2.0", "Added the `SYNC` flushing mode modifier."),
    ),
    plan=everywhere(first),
)
def flushdb(db: Database, args: list[Any]) -> Any:
    """Removes all keys from the current database."""
    return _flush(db, args, [db.index], b"FLUSHDB")


def _flush(db: Database, args: list[Any], indexes: list[int], name: bytes) -> Any:
    """Empties databases. SYNC or ASYNC is the same: memory is freed in slices, and nobody waits for it."""
    if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"SYNC", b"ASYNC")):
        raise CommandError(errors.SYNTAX)
    # An empty database is flushed for the log as well, as Redis does.
    db.shard.dirty += max(1, db.shard.flush(indexes))
    db.shard.propagate(db, name)
    return OK


@command(
    "SWAPDB index1 index2",
    group="server",
    since="4.0.0",
    flags=WRITE | FAST,
    complexity="O(N) where N is the count of clients watching or blocking on keys from both databases.",
    categories=("dangerous", "keyspace"),
    plan=everywhere(first),
)
def swapdb(db: Database, args: list[Any]) -> Any:
    """Swaps two databases."""
    one = _int(args[1], errors.INVALID_FIRST_DB)
    other = _int(args[2], errors.INVALID_SECOND_DB)
    count = db.shard.config.databases
    if not (0 <= one < count and 0 <= other < count):
        raise CommandError(errors.DB_OUT_OF_RANGE)
    db.shard.swap(one, other)
    db.shard.dirty += 1
    return OK


def _int(text: bytes, error: bytes) -> int:
    number = integer(text, error)
    if not -(2**31) <= number < 2**31:
        raise CommandError(error)
    return number
