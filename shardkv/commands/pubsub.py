"""Publishing messages, and what proxies tell and ask the shards of their clients' subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardkv import glob
from shardkv.channels import CHANNEL, SHARD_CHANNEL, channel_lock
from shardkv.command import FAST, LOADING, NO_FLAGS, PUBSUB, STALE, Key, command
from shardkv.keyspace import Database

if TYPE_CHECKING:
    from shardkv.shard import Shard


@command(
    "PUBLISH channel message",
    group="pubsub",
    since="2.0.0",
    flags=PUBSUB | LOADING | STALE | FAST,
    complexity="O(N+M) where N is the number of clients subscribed to the receiving channel and M is the "
    "total number of subscribed patterns (by any client).",
    routed_by=1,
    channels=Key(1),
    locks=channel_lock,
)
def publish(db: Database, args: list[Any]) -> int:
    """Posts a message to a channel."""
    shard: Shard = db.shard  # type: ignore[assignment]
    return shard.publish(CHANNEL, args[1], args[2])


@command(
    "SPUBLISH shardchannel message",
    group="pubsub",
    since="7.0.0",
    flags=PUBSUB | LOADING | STALE | FAST,
    keys=(Key(1, access="NOT_KEY"),),
    complexity="O(N) where N is the number of clients subscribed to the receiving shard channel.",
    routed_by=1,
    channels=Key(1),
    locks=channel_lock,
)
def spublish(db: Database, args: list[Any]) -> int:
    """Posts a message to a shard channel."""
    shard: Shard = db.shard  # type: ignore[assignment]
    return shard.publish(SHARD_CHANNEL, args[1], args[2])


# -- between processes --------------------------------------------------------------------------------


@command("LISTEN number changes", group="pubsub", since="0.1.0", flags=LOADING, internal=True)
def listen(db: Database, args: list[Any]) -> bool:
    """Takes in what has changed of the subscriptions of a proxy's clients, a list of [kind, name, number of
    clients], and acknowledges it in the stream of messages if the number is not 0."""
    shard: Shard = db.shard  # type: ignore[assignment]
    assert shard.link is not None
    shard.channels.listen(shard.link.proxy, args[1], args[2])
    return True


@command("LISTENED kind pattern", group="pubsub", since="0.1.0", flags=NO_FLAGS, internal=True)
def listened(db: Database, args: list[Any]) -> list[bytes]:
    """The names of a kind that match a glob pattern and have subscribers."""
    shard: Shard = db.shard  # type: ignore[assignment]
    matches = glob.compile(args[2])
    return [name for name in shard.channels.names(args[1]) if matches(name)]


@command("LISTENERS kind names", group="pubsub", since="0.1.0", flags=NO_FLAGS, internal=True)
def listeners(db: Database, args: list[Any]) -> list[int]:
    """How many clients have subscribed to each of some names of a kind."""
    shard: Shard = db.shard  # type: ignore[assignment]
    return [shard.channels.subscribers(args[1], name) for name in args[2]]
