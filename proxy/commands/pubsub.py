"""Publish/subscribe: subscriptions, and who has any. Publishing is up to shards (shardkv.commands.pubsub)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardkv import errors
from shardkv.channels import CHANNEL, PATTERN, SHARD_CHANNEL
from shardkv.command import LOADING, NOSCRIPT, PUBSUB, STALE, Key, Place, command, container
from shardkv.errors import CommandError
from shardkv.resp.replies import Encoded

if TYPE_CHECKING:
    from proxy.session import Session

_SUBSCRIBES = PUBSUB | NOSCRIPT | LOADING | STALE
_TELLS = PUBSUB | LOADING | STALE
_CHANNELS = Key(1, last=-1)
_SHARD_CHANNELS = (Key(1, last=-1, access="NOT_KEY"),)


@command(
    "SUBSCRIBE channel [channel ...]",
    group="pubsub",
    since="2.0.0",
    flags=_SUBSCRIBES,
    complexity="O(N) where N is the number of channels to subscribe to.",
    channels=_CHANNELS,
    place=Place.PROXY,
)
async def subscribe(session: Session, args: list[Any]) -> Encoded:
    """Listens for messages published to channels."""
    return await session.proxy.pubsub.subscribe(session, CHANNEL, args[1:])


@command(
    "UNSUBSCRIBE [channel [channel ...]]",
    group="pubsub",
    since="2.0.0",
    flags=_SUBSCRIBES,
    complexity="O(N) where N is the number of channels to unsubscribe.",
    place=Place.PROXY,
)
async def unsubscribe(session: Session, args: list[Any]) -> Encoded:
    """Stops listening to messages posted to channels."""
    return await session.proxy.pubsub.unsubscribe(session, CHANNEL, args[1:])


@command(
    "PSUBSCRIBE pattern [pattern ...]",
    group="pubsub",
    since="2.0.0",
    flags=_SUBSCRIBES,
    complexity="O(N) where N is the number of patterns to subscribe to.",
    channels=_CHANNELS,
    place=Place.PROXY,
)
async def psubscribe(session: Session, args: list[Any]) -> Encoded:
    """Listens for messages published to channels that match one or more patterns."""
    return await session.proxy.pubsub.subscribe(session, PATTERN, args[1:])


@command(
    "PUNSUBSCRIBE [pattern [pattern ...]]",
    group="pubsub",
    since="2.0.0",
    flags=_SUBSCRIBES,
    complexity="O(N) where N is the number of patterns to unsubscribe.",
    place=Place.PROXY,
)
async def punsubscribe(session: Session, args: list[Any]) -> Encoded:
    """Stops listening to messages published to channels that match one or more patterns."""
    return await session.proxy.pubsub.unsubscribe(session, PATTERN, args[1:])


@command(
    "SSUBSCRIBE shardchannel [shardchannel ...]",
    group="pubsub",
    since="7.0.0",
    flags=_SUBSCRIBES,
    keys=_SHARD_CHANNELS,
    complexity="O(N) where N is the number of shard channels to subscribe to.",
    channels=_CHANNELS,
    place=Place.PROXY,
)
async def ssubscribe(session: Session, args: list[Any]) -> Encoded:
    """Listens for messages published to shard channels."""
    return await session.proxy.pubsub.subscribe(session, SHARD_CHANNEL, args[1:])


@command(
    "SUNSUBSCRIBE [shardchannel [shardchannel ...]]",
    group="pubsub",
    since="7.0.0",
    flags=_SUBSCRIBES,
    keys=_SHARD_CHANNELS,
    complexity="O(N) where N is the number of shard channels to unsubscribe.",
    place=Place.PROXY,
)
async def sunsubscribe(session: Session, args: list[Any]) -> Encoded:
    """Stops listening to messages posted to shard channels."""
    return await session.proxy.pubsub.unsubscribe(session, SHARD_CHANNEL, args[1:])


# -- who has subscribed -----------------------------------------------------------------------

container(
    "PUBSUB",
    group="pubsub",
    since="2.8.0",
    help_since="6.2.0",
    summary="A container for Pub/Sub commands.",
)


@command(
    "PUBSUB CHANNELS [pattern]",
    group="pubsub",
    since="2.8.0",
    flags=_TELLS,
    complexity="O(N) where N is the number of active channels, and assuming constant time pattern matching "
    "(relatively short channels and patterns)",
    place=Place.PROXY,
)
async def pubsub_channels(session: Session, args: list[Any]) -> list[bytes]:
    """Returns the active channels."""
    return await session.proxy.pubsub.names(CHANNEL, _pattern(args))


@command(
    "PUBSUB SHARDCHANNELS [pattern]",
    group="pubsub",
    since="7.0.0",
    flags=_TELLS,
    complexity="O(N) where N is the number of active shard channels, and assuming constant time pattern "
    "matching (relatively short shard channels).",
    place=Place.PROXY,
)
async def pubsub_shardchannels(session: Session, args: list[Any]) -> list[bytes]:
    """Returns the active shard channels."""
    return await session.proxy.pubsub.names(SHARD_CHANNEL, _pattern(args))


def _pattern(args: list[Any]) -> bytes:
    if len(args) > 3:
        raise CommandError(errors.subcommand_syntax("PUBSUB", args[1]))
    return args[2] if len(args) > 2 else b"*"


@command(
    "PUBSUB NUMSUB [channel [channel ...]]",
    group="pubsub",
    since="2.8.0",
    flags=_TELLS,
    complexity="O(N) for the NUMSUB subcommand, where N is the number of requested channels",
    place=Place.PROXY,
)
async def pubsub_numsub(session: Session, args: list[Any]) -> list[Any]:
    """Returns a count of subscribers to channels."""
    return await _numbers(session, CHANNEL, args[2:])


@command(
    "PUBSUB SHARDNUMSUB [shardchannel [shardchannel ...]]",
    group="pubsub",
    since="7.0.0",
    flags=_TELLS,
    complexity="O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels",
    place=Place.PROXY,
)
async def pubsub_shardnumsub(session: Session, args: list[Any]) -> list[Any]:
    """Returns the count of subscribers of shard channels."""
    return await _numbers(session, SHARD_CHANNEL, args[2:])


async def _numbers(session: Session, kind: int, names: list[bytes]) -> list[Any]:
    numbers = await session.proxy.pubsub.subscribers(kind, names)
    return [word for pair in zip(names, numbers, strict=True) for word in pair]


@command("PUBSUB NUMPAT", group="pubsub", since="2.8.0", flags=_TELLS, place=Place.PROXY)
async def pubsub_numpat(session: Session, args: list[Any]) -> int:
    """Returns a count of unique pattern subscriptions."""
    return len(await session.proxy.pubsub.names(PATTERN, b"*"))
