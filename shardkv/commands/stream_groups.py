"""Consumer groups: making them, acknowledging, and what goes from one consumer to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shardkv import errors
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command, container
from shardkv.commands.stream_reads import group_of, now_ms
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.resp.replies import NULL_ARRAY, OK
from shardkv.structures.consumer_group import UNKNOWN, Consumer, ConsumerGroup
from shardkv.structures.stream import Stream
from shardkv.structures.stream_id import StreamID, parse, parse_any, parse_end, parse_start
from shardkv.values import LARGE_COLLECTION

# -- groups ---------------------------------------------------------------------------------------

container(
    "XGROUP",
    group="stream",
    since="5.0.0",
    help_since="5.0.0",
    summary="A container for consumer groups commands.",
)


def _edit(db: Database, args: list[Any]) -> tuple[Stream, ConsumerGroup | None]:
    """The stream that an XGROUP is about, which there must be, and its group."""
    stream = db.edit_as(Stream, args[2])
    if stream is None:
        raise CommandError(errors.XGROUP_OF_NO_KEY)
    return stream, stream.groups.get(args[3])


def _edit_group(db: Database, args: list[Any]) -> tuple[Stream, ConsumerGroup]:
    """The stream and the group that an XGROUP is about, which there must be."""
    stream, group = _edit(db, args)
    if group is None:
        raise CommandError(errors.no_group_of_key(args[2], args[3]))
    return stream, group


def _read_position(args: list[Any], *, making: bool) -> tuple[bool, int]:
    """The options of XGROUP CREATE or SETID: MKSTREAM, and the value of ENTRIESREAD. Raises CommandError."""
    make, entries_read = False, UNKNOWN
    at = 5
    while at < len(args):
        option = args[at].upper()
        if option == b"MKSTREAM" and making:
            make = True
        elif option == b"ENTRIESREAD" and at + 1 < len(args):
            at += 1
            entries_read = integer(args[at])
            if entries_read < 0 and entries_read != UNKNOWN:
                raise CommandError(errors.NEGATIVE_ENTRIES_READ)
        else:
            raise CommandError(errors.subcommand_syntax("XGROUP", args[1]))
        at += 1
    return make, entries_read


@command(
    "XGROUP CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]",
    group="stream",
    since="5.0.0",
    flags=WRITE | DENYOOM,
    keys=(Key(2, access="RW INSERT"),),
    history=(("7.0.0", "Added the `entries_read` named argument."),),
)
def xgroup_create(db: Database, args: list[Any]) -> Any:
    """Creates a consumer group."""
    key, name, text = args[2:5]
    make, entries_read = _read_position(args, making=True)
    found = db.edit_as(Stream, key)
    if found is None and not make:
        raise CommandError(errors.XGROUP_OF_NO_KEY)
    if len(args) > _LONGEST_CREATE:
        raise CommandError(errors.subcommand_syntax("XGROUP", args[1]))
    stream = Stream() if found is None else found
    last_id = stream.last_id if text == b"$" else parse(text)
    if name in stream.groups:
        raise CommandError(errors.GROUP_EXISTS)
    stream.groups[name] = ConsumerGroup(last_id, entries_read)
    if found is None:
        db.put(key, stream, "xgroup-create")
    else:
        db.changed(key, "xgroup-create")
    return OK


_LONGEST_CREATE = 8
"""The words of a request with each option once."""


@command(
    "XGROUP SETID key group <id | $> [ENTRIESREAD entries-read]",
    group="stream",
    since="5.0.0",
    flags=WRITE,
    keys=(Key(2, access="RW UPDATE"),),
    history=(("7.0.0", "Added the optional `entries_read` argument."),),
)
def xgroup_setid(db: Database, args: list[Any]) -> Any:
    """Sets the last-delivered ID of a consumer group."""
    key, text = args[2], args[4]
    _, entries_read = _read_position(args, making=False)
    stream, group = _edit_group(db, args)
    if len(args) not in (5, 7):
        raise CommandError(errors.subcommand_syntax("XGROUP", args[1]))
    group.last_id = stream.last_id if text == b"$" else parse_any(text)
    group.entries_read = entries_read
    db.changed(key, "xgroup-setid")
    return OK


@command(
    "XGROUP DESTROY key group",
    group="stream",
    since="5.0.0",
    flags=WRITE,
    keys=(Key(2, access="RW DELETE"),),
    complexity="O(N) where N is the number of entries in the group's pending entries list (PEL).",
)
def xgroup_destroy(db: Database, args: list[Any]) -> Any:
    """Destroys a consumer group."""
    key, name = args[2:4]
    stream, group = _edit(db, args)
    if group is None:
        return 0
    del stream.groups[name]
    if group.pending.count > LARGE_COLLECTION:
        # What it has pending is freed in slices, as that of a stream.
        grave = Stream()
        grave.groups[name] = group
        db.shard.graveyard.append(grave)
    db.changed(key, "xgroup-destroy")
    return 1


@command(
    "XGROUP CREATECONSUMER key group consumer",
    group="stream",
    since="6.2.0",
    flags=WRITE | DENYOOM,
    keys=(Key(2, access="RW INSERT"),),
)
def xgroup_createconsumer(db: Database, args: list[Any]) -> Any:
    """Creates a consumer in a consumer group."""
    key, name = args[2], args[4]
    _, group = _edit_group(db, args)
    if name in group.consumers:
        return 0
    group.create(name, now_ms(db))
    db.changed(key, "xgroup-createconsumer")
    return 1


@command(
    "XGROUP DELCONSUMER key group consumer",
    group="stream",
    since="5.0.0",
    flags=WRITE,
    keys=(Key(2, access="RW DELETE"),),
)
def xgroup_delconsumer(db: Database, args: list[Any]) -> Any:
    """Deletes a consumer from a consumer group."""
    key, name = args[2], args[4]
    _, group = _edit_group(db, args)
    if name not in group.consumers:
        return 0
    pending = group.remove(name)
    db.changed(key, "xgroup-delconsumer")
    return pending


# -- pending entries ------------------------------------------------------------------------------


@command(
    "XACK key group id [id ...]",
    group="stream",
    since="5.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(1) for each message ID processed.",
)
def xack(db: Database, args: list[Any]) -> Any:
    """Returns the number of messages that were successfully acknowledged by the consumer group member of a
    stream."""
    slot, key, name, *texts = args
    group = group_of(db.edit_as(Stream, key, slot), name)
    if group is None:
        return 0
    acknowledged = sum(map(group.acknowledge, list(map(parse, texts))))
    db.shard.dirty += acknowledged
    return acknowledged


@command(
    "XPENDING key group [[IDLE min-idle-time] start end count [consumer]]",
    group="stream",
    since="5.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) with N being the number of elements returned, so asking for a small fixed number of"
    " entries per call is O(1). O(M), where M is the total number of entries scanned when "
    "used with the IDLE filter. When the command returns just the summary and the list of "
    "consumers is small, it runs in O(1) time; otherwise, an additional O(N) time for "
    "iterating every consumer.",
    tips=("nondeterministic_output",),
    history=(("6.2.0", "Added the `IDLE` option and exclusive range intervals."),),
)
def xpending(db: Database, args: list[Any]) -> Any:
    """Returns the information and entries from a stream consumer group's pending entries list."""
    slot, key, name = args[:3]
    asked = None if len(args) == 3 else _read_pending(args)
    group = group_of(db.read_as(Stream, key, slot), name)
    if group is None:
        raise CommandError(errors.no_group(key, name))
    return _summary(group) if asked is None else _pending(group, asked, now_ms(db))


def _summary(group: ConsumerGroup) -> list[Any]:
    pending = group.pending
    if not pending.count:
        return [0, None, None, NULL_ARRAY]
    consumers = [
        [name, b"%d" % consumer.pending.count]
        for name, consumer in sorted(group.consumers.items(), key=_by_name)
        if consumer.pending.count
    ]
    return [pending.count, b"%d-%d" % pending.first, b"%d-%d" % pending.last, consumers]


def _by_name(consumer: tuple[bytes, Consumer]) -> bytes:
    return consumer[0]


@dataclass
class _AskedPending:
    """The pending entries that an XPENDING asks for."""

    start: StreamID
    end: StreamID
    most: int
    idle_ms: int = 0
    """Since when they must have been delivered, at least."""
    consumer: bytes | None = None


def _read_pending(args: list[Any]) -> _AskedPending:
    if not 6 <= len(args) <= 9:
        raise CommandError(errors.SYNTAX)
    at, idle_ms = 3, 0
    if args[3].upper() == b"IDLE":
        idle_ms = integer(args[4])
        if len(args) < 8:
            raise CommandError(errors.SYNTAX)
        at = 5
    most = integer(args[at + 2])
    start, end = parse_start(args[at]), parse_end(args[at + 1])
    # Redis takes no notice of words after the consumer.
    return _AskedPending(start, end, max(0, most), idle_ms, args[at + 3] if at + 3 < len(args) else None)


def _pending(group: ConsumerGroup, asked: _AskedPending, now: int) -> list[Any]:
    found: list[Any] = []
    if asked.consumer is None:
        entries = group.pending.since(asked.start)
    elif asked.consumer in group.consumers:
        entries = group.pending_of(asked.consumer, asked.start)
    else:
        return found
    for stream_id, pending in entries:
        if stream_id > asked.end or len(found) == asked.most:
            break
        idle_ms = now - pending.delivered_ms
        if not asked.idle_ms or idle_ms >= asked.idle_ms:
            found.append([b"%d-%d" % stream_id, pending.consumer, max(0, idle_ms), pending.deliveries])
    return found
