"""What proxies tell the shards of the clients that track keys. No client can send these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardkv.command import LOADING, command
from shardkv.keyspace import Database

if TYPE_CHECKING:
    from shardkv.shard import Shard


@command("TRACK number noloop prefixes", group="connection", since="0.1.0", flags=LOADING, internal=True)
def track(db: Database, args: list[Any]) -> bool:
    """A client tracks from now on the keys that it reads or, with any prefixes, those that begin so; with
    `noloop`, but for what it changes itself."""
    shard: Shard = db.shard  # type: ignore[assignment]
    shard.tracking.track(args[1], no_loop=args[2], prefixes=args[3])
    return True


@command("UNTRACK number", group="connection", since="0.1.0", flags=LOADING, internal=True)
def untrack(db: Database, args: list[Any]) -> bool:
    """A client does not track keys any more."""
    shard: Shard = db.shard  # type: ignore[assignment]
    shard.tracking.untrack(args[1])
    return True
