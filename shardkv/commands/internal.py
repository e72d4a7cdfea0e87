"""Requests between a coordinator and the shards, for what spans several of them. No client can send these.

PREPARE locks keys and, once it has them, runs requests that look at them. COMMIT runs the requests that
change them, logs their effects as one, and unlocks. RELEASE only unlocks. A PREPARE that finds a lock taken
is answered `None` and holds nothing, unless its sender has the token: then it waits.
"""

from __future__ import annotations

from typing import Any

from shardkv.command import COMMANDS, Flag, command
from shardkv.keyspace import Database
from shardkv.shard import COMMITTED, LATER
from shardkv.wire import RAW, pack_code, pack_context


@command(
    "PREPARE transaction mode keys requests",
    group="transactions",
    since="0.1.0",
    flags=Flag(0),
    internal=True,
)
def prepare(db: Database, args: list[Any]) -> Any:
    """Locks `keys`, a list of [database, key], for a transaction, and runs requests under the lock.

    `mode` is [exclusive, whole shard, wait]. Returns the list of the requests' encoded values, or None if a
    lock is taken and the claim does not wait.
    """
    _, transaction, (exclusive, whole, wait), keys, requests = args
    shard: Any = db.shard
    owner = (transaction[0], transaction[1])
    args[0] = pack_code(pack_context(db.index, RAW), COMMANDS["prepare"].id, 0)
    locked = shard.claim(
        owner,
        [(index, key) for index, key in keys],
        whole=whole,
        exclusive=exclusive,
        wait=wait,
        args=args,
    )
    if locked is None:
        return LATER
    return shard.run(requests, locked=True) if locked else None


@command("COMMIT transaction requests", group="transactions", since="0.1.0", flags=Flag(0), internal=True)
def commit(db: Database, args: list[Any]) -> Any:
    """Runs the requests of a transaction, logs their effects together and gives up its locks.

    Returns the list of the requests' encoded values.
    """
    _, transaction, requests = args
    shard: Any = db.shard
    replies = shard.run_together(requests)
    args[0] = COMMITTED
    shard.release((transaction[0], transaction[1]))
    return replies


@command("RELEASE transaction", group="transactions", since="0.1.0", flags=Flag(0), internal=True)
def release(db: Database, args: list[Any]) -> Any:
    """Gives up the locks of a transaction."""
    shard: Any = db.shard
    shard.release((args[1][0], args[1][1]))
    return True
