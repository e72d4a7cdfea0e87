"""XREAD and XREADGROUP: what is new in streams, for anyone or for a member of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from shardkv import clock, errors
from shardkv.blocking import Waits, Wish, milliseconds
from shardkv.command import BLOCKING, MOVABLEKEYS, READONLY, WRITE, Key, command
from shardkv.commands.streams import reply
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.plan import Call, Parts, Plan, Read, Values, Write
from shardkv.resp.replies import NULL_ARRAY, MapPairs
from shardkv.structures.consumer_group import Consumer, ConsumerGroup, Pending, claim_request
from shardkv.structures.stream import Stream
from shardkv.structures.stream_id import GREATEST, LEAST, StreamID, following, parse, preceding
from shardkv.waiters import is_kind


def now_ms(db: Database) -> int:
    """The time of what is done now, in ms since 1970: while a log is replayed, when the shard's clock stands
    still so that nothing expires, the time of loading, as in Redis."""
    return db.shard.now_ms or clock.now_ms()


class _Reading(NamedTuple):
    """What an XREAD or XREADGROUP asks for."""

    keys: list[bytes]
    texts: list[bytes]
    """For each key the ID after which to read."""
    most: int | None
    """Entries of each stream."""
    group: bytes
    consumer: bytes
    acknowledged: bool
    """Whether what is read never becomes pending."""
    timeout: bytes | int | None
    """What stands there for BLOCK."""

    def of(self, name: bytes, number: int) -> list[bytes]:
        """The request for one of the keys alone."""
        return [
            name,
            *((b"GROUP", self.group, self.consumer) if name == b"XREADGROUP" else ()),
            *((b"NOACK",) if self.acknowledged else ()),
            *((b"COUNT", b"%d" % self.most) if self.most else ()),
            *(b"STREAMS", self.keys[number], self.texts[number]),
        ]


def _read_reading(args: list[Any], *, with_group: bool) -> _Reading:
    most, acknowledged = 0, False
    timeout: bytes | int | None = None
    member: tuple[bytes, bytes] | None = None
    at, last = 1, len(args) - 1
    while at <= last:
        option = args[at].upper()
        if option == b"BLOCK" and at < last:
            at += 1
            timeout = args[at]
            if isinstance(timeout, bytes):
                milliseconds(timeout)
        elif option == b"COUNT" and at < last:
            at += 1
            most = max(0, integer(args[at]))
        elif option == b"STREAMS" and at < last:
            break
        elif option == b"GROUP" and at + 1 < last:
            if not with_group:
                raise CommandError(errors.only_for_groups("GROUP"))
            member = (args[at + 1], args[at + 2])
            at += 2
        elif option == b"NOACK":
            if not with_group:
                raise CommandError(errors.only_for_groups("NOACK"))
            acknowledged = True
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    count = last - at
    if count <= 0:
        raise CommandError(errors.SYNTAX)
    if count % 2:
        name, sign = ("xreadgroup", ">") if with_group else ("xread", "$")
        raise CommandError(errors.unbalanced_streams(name, sign))
    if with_group and member is None:
        raise CommandError(errors.MISSING_GROUP)
    group, consumer = member or (b"", b"")
    middle = at + 1 + count // 2
    keys, texts = args[at + 1 : middle], args[middle:]
    return _Reading(keys, texts, most or None, group, consumer, acknowledged, timeout)


def _place_of_timeout(args: Sequence[Any]) -> int | None:
    """Where the number after BLOCK stands, if the request has one and is not all wrong before it."""
    place = None
    at, last = 1, len(args) - 1
    while at < last:
        option = args[at].upper()
        if option == b"STREAMS":
            return place
        if option == b"BLOCK":
            place = at + 1
        at += _WORDS_OF_OPTION.get(option, 1)
    return None


_WORDS_OF_OPTION = {b"BLOCK": 2, b"COUNT": 2, b"GROUP": 3}


def _has_entries(db: Database, key: bytes, after: StreamID) -> bool:
    """Whether a key holds a stream with an entry behind an ID."""
    value = db.peek(key)
    if value is None or not is_kind(value, Stream):
        return False
    stream = db.read_as(Stream, key)
    start = following(after)
    return stream is not None and start is not None and bool(stream.between(start, GREATEST, 1))


def _parts(call: Call, asked: _Reading, requests: list[list[Any]]) -> Parts:
    """The requests for the keys, by shard."""
    parts: Parts = {}
    for key, request in zip(asked.keys, requests, strict=True):
        parts.setdefault(call.shard_of(key), []).append(request)
    return parts


def _in_order(call: Call, asked: _Reading, values: Values) -> list[Any]:
    """What came of them, in the order of the keys. Raises the first error among it."""
    rest = {shard: iter(answers) for shard, answers in values.items()}
    answers = [next(rest[call.shard_of(key)]) for key in asked.keys]
    for answer in answers:
        if isinstance(answer, CommandError):
            raise answer
    return answers


def _joined(answers: list[Any]) -> Any:
    """The reply that the replies for each key make."""
    return MapPairs(pair for answer in answers if answer is not NULL_ARRAY for pair in answer) or NULL_ARRAY


# -- for anyone -----------------------------------------------------------------------------------


def _plan_xread(call: Call) -> Plan:
    asked = _read_reading(call.args, with_group=False)
    requests: list[list[Any]] = [asked.of(b"XREAD", number) for number in range(len(asked.keys))]
    values = yield Read(_parts(call, asked, requests))
    return _joined(_in_order(call, asked, values))


def _pin(call: Call) -> Plan:
    """The same XREAD with an ID for each stream that does not depend on when it is carried out."""
    asked = _read_reading(call.args, with_group=False)
    requests: list[list[Any]] = [
        [b"READAFTER", key, text] for key, text in zip(asked.keys, asked.texts, strict=True)
    ]
    values = yield Read(_parts(call, asked, requests))
    return replace(call, args=_pinned(call.args, _in_order(call, asked, values)))


def _pinned(args: list[Any], texts: list[bytes]) -> list[Any]:
    return [*args[: -len(texts)], *texts]


@command("READAFTER key id", group="stream", since="0.1.0", flags=READONLY, keys=(Key(1),), internal=True)
def read_after(db: Database, args: list[Any]) -> bytes:
    """Returns the ID after which an XREAD of a stream reads now."""
    slot, key, text = args
    return b"%d-%d" % _start(db.read_as(Stream, key, slot), text)


def _wishes(args: Sequence[bytes]) -> list[Wish]:
    asked = _read_reading(list(args), with_group=False)
    return [[key, text] for key, text in zip(asked.keys, asked.texts, strict=True)]


def _has_news(db: Database, wish: Wish) -> bool:
    key, text = wish
    return _has_entries(db, key, parse(text))


_XREAD_WAITS = Waits(
    kind=Stream,
    place=_place_of_timeout,
    read_ms=milliseconds,
    wishes=_wishes,
    granted=_has_news,
    exclusive=False,
    pin=_pin,
)


@command(
    "XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
    group="stream",
    since="5.0.0",
    flags=READONLY | BLOCKING | MOVABLEKEYS,
    keys=(Key("STREAMS", last=-1, limit=2),),
    complexity="",
    plan=_plan_xread,
    waits=_XREAD_WAITS,
)
def xread(db: Database, args: list[Any]) -> Any:
    """Returns messages from multiple streams with IDs greater than the ones requested. Blocks until a
    message is available otherwise."""
    asked = _read_reading(args, with_group=False)
    found = []
    for key, text in zip(asked.keys, asked.texts, strict=True):
        stream = db.read_as(Stream, key)
        found.append((key, stream, _start(stream, text)))
    read = MapPairs()
    for key, stream, after in found:
        if stream is not None and after < stream.last_id:
            entries = stream.between(following(after) or GREATEST, GREATEST, asked.most)
            if entries:
                read.append((key, reply(entries)))
    if read or asked.timeout is None:
        return read or NULL_ARRAY
    # From now on, entries are new that come from now on.
    args[:] = _pinned(args, [b"%d-%d" % after for _, _, after in found])
    return db.shard.wait(db, asked.timeout, asked.keys, Stream)


def _start(stream: Stream | None, text: bytes) -> StreamID:
    """The ID after which an XREAD reads."""
    if text == b"$":
        return LEAST if stream is None else stream.last_id
    if text == b"+":
        # Just before the last entry.
        return LEAST if stream is None else preceding(stream.top_id) or LEAST
    if text == b">":
        raise CommandError(errors.GREATER_ID_WITHOUT_GROUP)
    return parse(text)


# -- for a member of a group ------------------------------------------------------------------------


def group_of(stream: Stream | None, name: bytes) -> ConsumerGroup | None:
    """The group of that name, if there are the stream and the group."""
    return None if stream is None else stream.groups.get(name)


def consumer_of(db: Database, key: bytes, group: ConsumerGroup, name: bytes) -> tuple[Consumer, bool]:
    """The consumer of that name, who has just asked for something, and whether it had to be made."""
    consumer = group.consumers.get(name)
    if consumer is not None:
        consumer.seen_ms = now_ms(db)
        return consumer, False
    consumer = group.create(name, now_ms(db))
    db.changed(key, "xgroup-createconsumer")
    return consumer, True


def _check_read(stream: Stream | None, key: bytes, name: bytes, text: bytes) -> StreamID | None:
    """The ID after which a consumer's own history is read; None for what is new. Raises CommandError."""
    if group_of(stream, name) is None:
        raise CommandError(errors.no_group(key, name) + b" in XREADGROUP with GROUP option")
    if text in (b"$", b"+"):
        raise CommandError(errors.meaningless_in_groups(text.decode()))
    after = GREATEST if text == b">" else parse(text)
    return None if after == GREATEST else after


def _plan_xreadgroup(call: Call) -> Plan:
    asked = _read_reading(call.args, with_group=True)
    checks: list[list[Any]] = [
        [b"CHECKREAD", key, asked.group, text] for key, text in zip(asked.keys, asked.texts, strict=True)
    ]
    values = yield Read(_parts(call, asked, checks))
    _in_order(call, asked, values)
    requests: list[list[Any]] = [asked.of(b"XREADGROUP", number) for number in range(len(asked.keys))]
    values = yield Write(_parts(call, asked, requests))
    return _joined(_in_order(call, asked, values))


@command(
    "CHECKREAD key group id", group="stream", since="0.1.0", flags=READONLY, keys=(Key(1),), internal=True
)
def check_read(db: Database, args: list[Any]) -> None:
    """Raises the error that an XREADGROUP of a stream would be answered with, if any."""
    slot, key, group, text = args
    _check_read(db.read_as(Stream, key, slot), key, group, text)


def _wishes_of_group(args: Sequence[bytes]) -> list[Wish]:
    asked = _read_reading(list(args), with_group=True)
    return [[key, asked.group] for key in asked.keys]


def _has_news_for_group(db: Database, wish: Wish) -> bool:
    """Whether there is an entry that the group has not read, or nothing to be waited for any more."""
    key, name = wish
    value = db.peek(key)
    if value is None or not is_kind(value, Stream):
        return True
    group = group_of(db.read_as(Stream, key), name)
    return group is None or _has_entries(db, key, group.last_id)


_XREADGROUP_WAITS = Waits(
    kind=Stream,
    place=_place_of_timeout,
    read_ms=milliseconds,
    wishes=_wishes_of_group,
    granted=_has_news_for_group,
    on_loss=True,
)


@command(
    "XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key "
    "[key ...] id [id ...]",
    group="stream",
    since="5.0.0",
    flags=WRITE | BLOCKING | MOVABLEKEYS,
    keys=(Key("STREAMS", search_from=4, last=-1, limit=2),),
    waits=_XREADGROUP_WAITS,
    complexity="For each stream mentioned: O(M) with M being the number of elements returned. If M is "
    "constant (e.g. always asking for the first 10 elements with COUNT), you can consider it "
    "O(1). On the other side when XREADGROUP blocks, XADD will pay the O(N) time in order to "
    "serve the N clients blocked on the stream getting new data.",
    plan=_plan_xreadgroup,
)
def xreadgroup(db: Database, args: list[Any]) -> Any:
    """Returns new or historical messages from a stream for a consumer in a group. Blocks until a message
    is available otherwise."""
    asked = _read_reading(args, with_group=True)
    found = []
    for key, text in zip(asked.keys, asked.texts, strict=True):
        stream = db.edit_as(Stream, key)
        after = _check_read(stream, key, asked.group, text)
        assert stream is not None
        found.append((key, stream, stream.groups[asked.group], after))
    read = MapPairs()
    for key, stream, group, after in found:
        _, made = consumer_of(db, key, group, asked.consumer)
        if after is not None:
            read.append((key, _read_history(db, key, stream, group, after, asked)))
        else:
            entries = _read_new(db, key, stream, group, asked)
            if entries:
                read.append((key, entries))
                made = made and asked.acknowledged
        if made:
            db.shard.propagate(db, b"XGROUP", b"CREATECONSUMER", key, asked.group, asked.consumer)
    if read or asked.timeout is None:
        return read or NULL_ARRAY
    return db.shard.wait(db, asked.timeout, asked.keys, Stream, on_loss=True)


def _read_new(db: Database, key: bytes, stream: Stream, group: ConsumerGroup, asked: _Reading) -> list[Any]:
    """Gives a consumer entries that the group has not read."""
    start = following(group.last_id)
    if start is None or start > stream.last_id:
        return []
    entries = stream.between(start, GREATEST, asked.most)
    if not entries:
        return []
    stream.read_on(group, entries)
    if not asked.acknowledged:
        stream_ids = [stream_id for stream_id, _ in entries]
        now = now_ms(db)
        group.deliver(stream_ids, asked.consumer, now)
        claim = claim_request(key, asked.group, stream_ids, Pending(asked.consumer, now, 1))
        db.shard.propagate(db, *claim)
    log_position(db, key, asked.group, group)
    db.shard.dirty += 1
    return reply(entries)


def log_position(db: Database, key: bytes, name: bytes, group: ConsumerGroup) -> None:
    """Logs how far a group has read."""
    read = b"%d" % group.entries_read
    last_id = b"%d-%d" % group.last_id
    db.shard.propagate(db, b"XGROUP", b"SETID", key, name, last_id, b"ENTRIESREAD", read)


def _read_history(
    db: Database, key: bytes, stream: Stream, group: ConsumerGroup, after: StreamID, asked: _Reading
) -> list[Any]:
    """Gives a consumer once more what it has not acknowledged."""
    start = following(after)
    assert start is not None
    found: list[Any] = []
    given: dict[StreamID, Pending] = {}
    for stream_id, before in list(islice(group.pending_of(asked.consumer, start), asked.most)):
        items = stream.get(stream_id)
        found.append([b"%d-%d" % stream_id, NULL_ARRAY if items is None else items])
        if items is not None:
            given[stream_id] = Pending(asked.consumer, now_ms(db), before.deliveries + 1)
            group.assign(stream_id, given[stream_id])
    log_claims(db, key, asked.group, given)
    return found


def log_claims(db: Database, key: bytes, name: bytes, claims: dict[StreamID, Pending]) -> None:
    """Logs in whose hands entries are now."""
    alike: dict[Pending, list[StreamID]] = {}
    for stream_id, pending in claims.items():
        alike.setdefault(pending, []).append(stream_id)
    for pending, stream_ids in alike.items():
        db.shard.propagate(db, *claim_request(key, name, stream_ids, pending))
        db.shard.dirty += 1
