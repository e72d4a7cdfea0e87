"""XINFO: what there is to know of a stream, its groups and their consumers."""

from __future__ import annotations

from itertools import islice
from typing import Any

from shardkv import errors
from shardkv.command import READONLY, Key, command, container
from shardkv.commands.stream_reads import now_ms
from shardkv.commands.streams import reply
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.structures.consumer_group import UNKNOWN, Consumer, ConsumerGroup
from shardkv.structures.radix import count_nodes
from shardkv.structures.stream import Stream
from shardkv.structures.stream_id import GREATEST, LEAST

container(
    "XINFO",
    group="stream",
    since="5.0.0",
    help_since="5.0.0",
    summary="A container for stream introspection commands.",
)

_USUAL_COUNT = 10
"""What XINFO STREAM FULL shows of each list."""


def _read(db: Database, key: bytes) -> Stream:
    stream = db.read_as(Stream, key)
    if stream is None:
        raise CommandError(errors.NO_SUCH_KEY)
    return stream


@command(
    "XINFO STREAM key [FULL [COUNT count]]",
    group="stream",
    since="5.0.0",
    flags=READONLY,
    keys=(Key(2),),
    history=(
        ("6.0.0", "Added the `FULL` modifier."),
        (
            "7.0.0",
            "Added the `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, "
            "`entries-read` and `lag` fields",
        ),
        ("7.2.0", "Added the `active-time` field, and changed the meaning of `seen-time`."),
    ),
)
def xinfo_stream(db: Database, args: list[Any]) -> Any:
    """Returns information about a stream."""
    stream = _read(db, args[2])
    config = db.shard.config
    if len(args) == 3:
        return {
            **_sizes(stream, config),
            b"groups": len(stream.groups),
            b"first-entry": _only(reply(stream.between(LEAST, GREATEST, 1))),
            b"last-entry": _only(reply(stream.between_backwards(LEAST, GREATEST, 1))),
        }
    most = _read_full(args)
    return {
        **_sizes(stream, config),
        b"entries": reply(stream.between(LEAST, GREATEST, most)),
        b"groups": [
            _group_in_full(stream, name, group, most)
            for name, group in sorted(stream.groups.items(), key=_name)
        ],
    }


def _read_full(args: list[Any]) -> int | None:
    """How much is to be shown of each list; None for all. Raises CommandError."""
    words = [word.upper() for word in args[3:5]]
    if words != [b"FULL", b"COUNT"][: len(words)] or len(args) not in (4, 6):
        raise CommandError(errors.subcommand_syntax("XINFO", args[1]))
    if len(args) == 4:
        return _USUAL_COUNT
    count = integer(args[5])
    return (_USUAL_COUNT if count < 0 else count) or None


def _name(item: tuple[bytes, Any]) -> bytes:
    return item[0]


def _only(entries: list[Any]) -> Any:
    return entries[0] if entries else None


def _sizes(stream: Stream, config: Any) -> dict[bytes, Any]:
    nodes = stream.node_ids(config)
    return {
        b"length": stream.length,
        b"radix-tree-keys": len(nodes),
        b"radix-tree-nodes": count_nodes(nodes),
        b"last-generated-id": b"%d-%d" % stream.last_id,
        b"max-deleted-entry-id": b"%d-%d" % stream.max_deleted_id,
        b"entries-added": stream.entries_added,
        b"recorded-first-entry-id": b"%d-%d" % stream.first_id,
    }


def _progress(stream: Stream, group: ConsumerGroup) -> dict[bytes, Any]:
    return {
        b"last-delivered-id": b"%d-%d" % group.last_id,
        b"entries-read": None if group.entries_read == UNKNOWN else group.entries_read,
        b"lag": stream.lag(group),
    }


def _group_in_full(stream: Stream, name: bytes, group: ConsumerGroup, most: int | None) -> dict[bytes, Any]:
    return {
        b"name": name,
        **_progress(stream, group),
        b"pel-count": group.pending.count,
        b"pending": [
            [b"%d-%d" % stream_id, *pending]
            for stream_id, pending in islice(group.pending.since(LEAST), most)
        ],
        b"consumers": [
            _consumer_in_full(group, name, consumer, most)
            for name, consumer in sorted(group.consumers.items(), key=_name)
        ],
    }


def _consumer_in_full(
    group: ConsumerGroup, name: bytes, consumer: Consumer, most: int | None
) -> dict[bytes, Any]:
    pending = islice(group.pending_of(name, LEAST), most)
    return {
        b"name": name,
        b"seen-time": consumer.seen_ms,
        b"active-time": consumer.active_ms,
        b"pel-count": consumer.pending.count,
        b"pending": [
            [b"%d-%d" % stream_id, given.delivered_ms, given.deliveries] for stream_id, given in pending
        ],
    }


@command(
    "XINFO GROUPS key",
    group="stream",
    since="5.0.0",
    flags=READONLY,
    keys=(Key(2),),
    history=(("7.0.0", "Added the `entries-read` and `lag` fields"),),
)
def xinfo_groups(db: Database, args: list[Any]) -> Any:
    """Returns a list of the consumer groups of a stream."""
    stream = _read(db, args[2])
    return [
        {
            b"name": name,
            b"consumers": len(group.consumers),
            b"pending": group.pending.count,
            **_progress(stream, group),
        }
        for name, group in sorted(stream.groups.items(), key=_name)
    ]


@command(
    "XINFO CONSUMERS key group",
    group="stream",
    since="5.0.0",
    flags=READONLY,
    keys=(Key(2),),
    tips=("nondeterministic_output",),
    history=(("7.2.0", "Added the `inactive` field, and changed the meaning of `idle`."),),
)
def xinfo_consumers(db: Database, args: list[Any]) -> Any:
    """Returns a list of the consumers in a consumer group."""
    key, name = args[2:]
    group = _read(db, key).groups.get(name)
    if group is None:
        raise CommandError(errors.no_group_of_key(key, name))
    now = now_ms(db)
    return [
        {
            b"name": name,
            b"pending": consumer.pending.count,
            b"idle": max(0, now - consumer.seen_ms),
            b"inactive": UNKNOWN if consumer.active_ms == UNKNOWN else now - consumer.active_ms,
        }
        for name, consumer in sorted(group.consumers.items(), key=_name)
    ]
