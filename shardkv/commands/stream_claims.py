"""Claiming: pending entries that go from one consumer of a group to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from shardkv import errors
from shardkv.command import FAST, WRITE, Key, command
from shardkv.commands.stream_reads import consumer_of, group_of, log_claims, log_position, now_ms
from shardkv.commands.stream_trimming import id_requests
from shardkv.commands.streams import reply
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.structures.consumer_group import ConsumerGroup, Pending
from shardkv.structures.stream import Stream
from shardkv.structures.stream_id import LEAST, StreamID, parse, parse_start


@dataclass
class _Claim:
    """The options of an XCLAIM."""

    idle_ms: int
    """Since when an entry must have been delivered to be claimed, at least."""
    delivered_ms: int
    """When it is said to have been delivered."""
    deliveries: int = -1
    """How often it is said to have been; negative: once more, unless only the IDs are wanted."""
    force: bool = False
    """Whether entries that are not pending are claimed as well."""
    only_ids: bool = False
    last_id: StreamID = LEAST
    """The group has read up to there at least."""


def _read_ids_up_to_options(args: list[Any], at: int) -> list[StreamID]:
    stream_ids: list[StreamID] = []
    for text in args[at:]:
        try:
            stream_ids.append(parse(text))
        except CommandError:
            break
    return stream_ids


def _read_claim(args: list[Any], at: int, idle_ms: int, now: int) -> _Claim:
    claim = _Claim(idle_ms, now)
    while at < len(args):
        option = args[at].upper()
        if option in (b"IDLE", b"TIME", b"RETRYCOUNT", b"LASTID") and at + 1 < len(args):
            at += 1
            _set_option(claim, option, args[at], now)
        elif option == b"FORCE":
            claim.force = True
        elif option == b"JUSTID":
            claim.only_ids = True
        else:
            raise CommandError(errors.unknown_claim_option(args[at]))
        at += 1
    # A time that cannot be is taken for now: clients may reckon with clocks of their own.
    if not 0 <= claim.delivered_ms <= now:
        claim.delivered_ms = now
    return claim


def _set_option(claim: _Claim, option: bytes, text: bytes, now: int) -> None:
    if option == b"LASTID":
        claim.last_id = parse(text)
        return
    number = integer(text, errors.invalid_argument_of(f"{option.decode()} option", "XCLAIM"))
    if option == b"RETRYCOUNT":
        claim.deliveries = number
    else:
        claim.delivered_ms = number if option == b"TIME" else now - number


def _read_idle(text: bytes, name: str) -> int:
    return max(0, integer(text, errors.invalid_argument_of("min-idle-time", name)))


@command(
    "XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME "
    "unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
    group="stream",
    since="5.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(log N) with N being the number of messages in the PEL of the consumer group.",
    tips=("nondeterministic_output",),
)
def xclaim(db: Database, args: list[Any]) -> Any:
    """Changes, or acquires, ownership of a message in a consumer group, as if the message was delivered to
    a consumer group member."""
    slot, key, name, consumer_name = args[:4]
    stream = db.edit_as(Stream, key, slot)
    group = group_of(stream, name)
    if stream is None or group is None:
        raise CommandError(errors.no_group(key, name))
    idle_ms, now = _read_idle(args[4], "XCLAIM"), now_ms(db)
    stream_ids = _read_ids_up_to_options(args, 5)
    claim = _read_claim(args, 5 + len(stream_ids), idle_ms, now)
    moved = claim.last_id > group.last_id
    if moved:
        group.last_id = claim.last_id
    consumer, made = consumer_of(db, key, group, consumer_name)
    claimed: list[StreamID] = []
    lost: list[StreamID] = []
    for stream_id in stream_ids:
        pending = group.pending.get(stream_id)
        if stream_id not in stream:
            if group.acknowledge(stream_id):
                lost.append(stream_id)
        elif _may_claim(claim, pending, now):
            deliveries = 1 if pending is None else pending.deliveries
            if claim.deliveries >= 0:
                deliveries = claim.deliveries
            elif not claim.only_ids:
                deliveries += 1
            group.assign(stream_id, Pending(consumer_name, claim.delivered_ms, deliveries))
            claimed.append(stream_id)
    _log_claim(db, key, name, group, claimed, lost, consumer_name if made else None)
    if moved:
        log_position(db, key, name, group)
        db.shard.dirty += 1
    if claimed:
        consumer.active_ms = now
    return _claimed(stream, claimed, only_ids=claim.only_ids)


def _may_claim(claim: _Claim, pending: Pending | None, now: int) -> bool:
    if pending is None:
        return claim.force
    return not claim.idle_ms or now - pending.delivered_ms >= claim.idle_ms


def _log_claim(
    db: Database,
    key: bytes,
    name: bytes,
    group: ConsumerGroup,
    claimed: Sequence[StreamID],
    lost: Sequence[StreamID],
    made: bytes | None,
) -> None:
    """Logs what became of pending entries, and the consumer that had to be made."""
    for request in id_requests((b"XACK", key, name), lost):
        db.shard.propagate(db, *request)
        db.shard.dirty += 1
    if claimed:
        pending = {stream_id: group.pending.get(stream_id) for stream_id in claimed}
        log_claims(db, key, name, {stream_id: given for stream_id, given in pending.items() if given})
    elif made is not None:
        db.shard.propagate(db, b"XGROUP", b"CREATECONSUMER", key, name, made)


def _claimed(stream: Stream, stream_ids: Sequence[StreamID], *, only_ids: bool) -> list[Any]:
    """Entries that there are, as clients get them."""
    if only_ids:
        return [b"%d-%d" % stream_id for stream_id in stream_ids]
    return reply((stream_id, stream.get(stream_id) or []) for stream_id in stream_ids)


_ATTEMPTS_PER_ENTRY = 10
"""How many pending entries an XAUTOCLAIM looks at for each one it may claim (as Redis)."""

_MOST_CLAIMED = (2**63 - 1) // 16
"""The largest COUNT of an XAUTOCLAIM (as Redis)."""


def _read_autoclaim(args: list[Any]) -> tuple[int, bool]:
    """The options of XAUTOCLAIM: COUNT and JUSTID. Raises CommandError."""
    most, only_ids = 100, False
    at = 6
    while at < len(args):
        option = args[at].upper()
        if option == b"COUNT" and at + 1 < len(args):
            at += 1
            most = integer(args[at], errors.CLAIMED_COUNT_NOT_POSITIVE)
            if not 1 <= most <= _MOST_CLAIMED:
                raise CommandError(errors.CLAIMED_COUNT_NOT_POSITIVE)
        elif option == b"JUSTID":
            only_ids = True
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    return most, only_ids


@command(
    "XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]",
    group="stream",
    since="6.2.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(1) if COUNT is small.",
    tips=("nondeterministic_output",),
    history=(
        (
            "7.0.0",
            "Added an element to the reply array, containing deleted entries the command cleared from"
            " the PEL",
        ),
    ),
)
def xautoclaim(db: Database, args: list[Any]) -> Any:
    """Changes, or acquires, ownership of messages in a consumer group, as if the messages were delivered
    to a consumer group member."""
    slot, key, name, consumer_name = args[:4]
    idle_ms, start, now = _read_idle(args[4], "XAUTOCLAIM"), parse_start(args[5]), now_ms(db)
    most, only_ids = _read_autoclaim(args)
    stream = db.edit_as(Stream, key, slot)
    group = group_of(stream, name)
    if stream is None or group is None:
        raise CommandError(errors.no_group(key, name))
    consumer, made = consumer_of(db, key, group, consumer_name)
    claimed: list[StreamID] = []
    lost: list[StreamID] = []
    pending_entries = group.pending.since(start)
    for stream_id, pending in islice(pending_entries, most * _ATTEMPTS_PER_ENTRY):
        if stream_id not in stream:
            lost.append(stream_id)
        elif now - pending.delivered_ms >= idle_ms or not idle_ms:
            claimed.append(stream_id)
        if len(claimed) + len(lost) == most:
            break
    following, _ = next(pending_entries, (LEAST, None))
    for stream_id in lost:
        group.acknowledge(stream_id)
    for stream_id in claimed:
        before = group.pending.get(stream_id)
        assert before is not None
        group.assign(stream_id, Pending(consumer_name, now, before.deliveries + (not only_ids)))
    _log_claim(db, key, name, group, claimed, lost, consumer_name if made else None)
    if claimed:
        consumer.active_ms = now
    return [
        b"%d-%d" % following,
        _claimed(stream, claimed, only_ids=only_ids),
        [b"%d-%d" % stream_id for stream_id in lost],
    ]
