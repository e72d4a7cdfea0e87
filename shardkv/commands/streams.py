"""Streams: adding entries, looking at them and deleting them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shardkv import errors
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.commands.stream_trimming import (
    REFERENCES,
    Options,
    References,
    Requests,
    Trim,
    forget,
    id_requests,
    is_acked,
    trim,
)
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import UINT64_MAX, integer
from shardkv.resp.replies import NULL_ARRAY, OK
from shardkv.structures.stream import Entry, Stream
from shardkv.structures.stream_id import (
    GREATEST,
    LEAST,
    StreamID,
    following,
    number,
    parse,
    parse_end,
    parse_start,
)

# -- adding -------------------------------------------------------------------------------------

_Asked = tuple[int | None, int | None]
"""The ID that an XADD asks for; None for each half that the stream is to choose."""

_ANY: _Asked = (None, None)


def _read_asked(text: bytes) -> _Asked:
    if text == b"*":
        return _ANY
    if text[-2:] == b"-*":
        return number(text[:-2]), None
    return parse(text)


def _new_id(asked: _Asked, last_id: StreamID, now_ms: int) -> StreamID:
    """The ID of the entry to be added. Raises CommandError if it would not be greater than the last one."""
    if last_id == GREATEST:
        raise CommandError(errors.STREAM_IDS_EXHAUSTED)
    ms, seq = asked
    last_ms, last_seq = last_id
    if ms is None:
        return (now_ms, 0) if now_ms > last_ms else following(last_id) or GREATEST
    if seq is None:
        seq = 0
        if ms == last_ms:
            if last_seq == UINT64_MAX:
                raise CommandError(errors.STREAM_ID_TOO_SMALL)
            seq = last_seq + 1
    if (ms, seq) <= last_id:
        raise CommandError(errors.STREAM_ID_TOO_SMALL)
    return ms, seq


@command(
    "XADD key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] "
    "<* | id> field value [field value ...]",
    group="stream",
    since="5.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(
        Key(1, access="RW UPDATE", notes="UPDATE instead of INSERT because of the optional trimming feature"),
    ),
    complexity="O(1) when adding a new entry, O(N) when trimming where N being the number of entries "
    "evicted.",
    tips=("nondeterministic_output",),
    history=(
        ("6.2.0", "Added the `NOMKSTREAM` option, `MINID` trimming strategy and the `LIMIT` option."),
        ("7.0.0", "Added support for the `<ms>-*` explicit ID form."),
        ("8.2.0", "Added the `KEEPREF`, `DELREF` and `ACKED` options."),
    ),
)
def xadd(db: Database, args: list[Any]) -> Any:
    """Appends a new message to a stream. Creates the key if it doesn't exist."""
    slot, key = args[0], args[1]
    at, asked, asked_trim, make = 2, _ANY, None, True
    config = db.shard.config
    if args[2] != b"*":
        if args[2][:1].isalpha():
            at, asked, asked_trim, make = _read_adding(args, config)
        else:
            asked = _read_asked(args[2])
    count = len(args) - at
    if count < 3 or count % 2 == 0:
        raise CommandError(errors.wrong_arity("xadd"))
    if asked == LEAST:
        raise CommandError(errors.STREAM_ID_NOT_ABOVE_ZERO)
    found = db.edit_as(Stream, key, slot)
    if found is None:
        if not make:
            return None
        stream = Stream()
    else:
        stream = found
    stream_id = _new_id(asked, stream.last_id, db.shard.now_ms)
    stream.add(stream_id, args[at + 1 :], config)
    if found is None:
        db.put(key, stream, "xadd", slot)
    else:
        db.changed(key, "xadd")
    args[at] = text = b"%d-%d" % stream_id
    if at > 2:
        _trim_added(db, args, at, stream, asked_trim)
    return text


def _read_adding(args: list[Any], config: Any) -> tuple[int, _Asked, Trim | None, bool]:
    """Reads what stands before the fields: the place of the ID, the ID, what to cut off, and whether to make
    a stream. Raises CommandError."""
    options = Options(adding=True)
    at = options.read(args, 2)
    asked = _read_asked(args[at]) if at < len(args) else _ANY
    return at, asked, options.trim(config), options.make


def _trim_added(db: Database, args: list[Any], at: int, stream: Stream, asked: Trim | None) -> None:
    """Cuts off what an XADD with options asks for, and has its request say what was done."""
    key = args[1]
    trimmed = None if asked is None else trim(key, stream, asked, db.shard.config)
    args[2:at] = [] if trimmed is None else trimmed.arguments
    if trimmed is not None and trimmed.entries:
        db.changed(key, "xtrim")
        if trimmed.requests:
            _log(db, [[b"XADD", *args[1:]], *trimmed.requests])


def _log(db: Database, requests: Requests) -> None:
    for request in requests:
        db.shard.propagate(db, *request)


@command(
    "XTRIM key <MAXLEN | MINID> [= | ~] threshold [LIMIT count] [KEEPREF | DELREF | ACKED]",
    group="stream",
    since="5.0.0",
    flags=WRITE,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(N), with N being the number of evicted entries. Constant times are very small however,"
    " since entries are organized in macro nodes containing multiple entries that can be "
    "released with a single deallocation.",
    tips=("nondeterministic_output",),
    history=(
        ("6.2.0", "Added the `MINID` trimming strategy and the `LIMIT` option."),
        ("8.2.0", "Added the `KEEPREF`, `DELREF` and `ACKED` options."),
    ),
)
def xtrim(db: Database, args: list[Any]) -> Any:
    """Deletes messages from the beginning of a stream."""
    slot, key = args[0], args[1]
    options = Options(adding=False)
    if options.read(args, 2) < len(args):
        raise CommandError(errors.SYNTAX)
    asked = options.trim(db.shard.config)
    assert asked is not None
    stream = db.edit_as(Stream, key, slot)
    if stream is None:
        return 0
    trimmed = trim(key, stream, asked, db.shard.config)
    if trimmed.entries:
        db.changed(key, "xtrim")
        args[2:] = trimmed.arguments
        if trimmed.requests:
            _log(db, [[b"XTRIM", *args[1:]]] * bool(trimmed.arguments) + trimmed.requests)
    return trimmed.entries


@command(
    "XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
    group="stream",
    since="5.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    history=(("7.0.0", "Added the `entries_added` and `max_deleted_entry_id` arguments."),),
)
def xsetid(db: Database, args: list[Any]) -> Any:
    """An internal command for replicating stream values."""
    slot, key = args[0], args[1]
    last_id = parse(args[2])
    entries_added, max_deleted_id = _read_counters(args, last_id)
    stream = db.edit_as(Stream, key, slot)
    if stream is None:
        raise CommandError(errors.NO_SUCH_KEY)
    if last_id < stream.max_deleted_id:
        raise CommandError(errors.LAST_ID_BELOW_DELETED)
    if stream.length:
        if last_id < stream.top_id:
            raise CommandError(errors.LAST_ID_BELOW_TOP)
        if entries_added is not None and entries_added < stream.length:
            raise CommandError(errors.ENTRIES_ADDED_TOO_SMALL)
    stream.last_id = last_id
    if entries_added is not None:
        stream.entries_added = entries_added
    if max_deleted_id != LEAST:
        stream.max_deleted_id = max_deleted_id
    db.changed(key, "xsetid")
    return OK


def _read_counters(args: list[Any], last_id: StreamID) -> tuple[int | None, StreamID]:
    """The options of XSETID. Raises CommandError."""
    entries_added, max_deleted_id = None, LEAST
    for at in range(3, len(args), 2):
        option = args[at].upper()
        if option not in (b"ENTRIESADDED", b"MAXDELETEDID") or at + 1 == len(args):
            raise CommandError(errors.SYNTAX)
        if option == b"ENTRIESADDED":
            entries_added = integer(args[at + 1])
            if entries_added < 0:
                raise CommandError(errors.NEGATIVE_ENTRIES_ADDED)
        else:
            max_deleted_id = parse(args[at + 1])
            if last_id < max_deleted_id:
                raise CommandError(errors.LAST_ID_BELOW_GIVEN_DELETED)
    return entries_added, max_deleted_id


# -- looking ------------------------------------------------------------------------------------


def reply(entries: Iterable[Entry]) -> list[Any]:
    """Entries as clients get them."""
    return [[b"%d-%d" % stream_id, items] for stream_id, items in entries]


@command(
    "XLEN key",
    group="stream",
    since="5.0.0",
    flags=READONLY | FAST,
    keys=(Key(1, access="RO"),),
)
def xlen(db: Database, args: list[Any]) -> Any:
    """Returns the number of messages in a stream."""
    stream = db.read_as(Stream, args[1], args[0])
    return 0 if stream is None else stream.length


@command(
    "XRANGE key start end [COUNT count]",
    group="stream",
    since="5.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) with N being the number of elements being returned. If N is constant (e.g. always "
    "asking for the first 10 elements with COUNT), you can consider it O(1).",
    history=(("6.2.0", "Added exclusive ranges."),),
)
def xrange(db: Database, args: list[Any]) -> Any:
    """Returns the messages from a stream within a range of IDs."""
    start, end = parse_start(args[2]), parse_end(args[3])
    return _range(db, args, start, end, Stream.between)


@command(
    "XREVRANGE key end start [COUNT count]",
    group="stream",
    since="5.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) with N being the number of elements returned. If N is constant (e.g. always asking "
    "for the first 10 elements with COUNT), you can consider it O(1).",
    history=(("6.2.0", "Added exclusive ranges."),),
)
def xrevrange(db: Database, args: list[Any]) -> Any:
    """Returns the messages from a stream within a range of IDs in reverse order."""
    start, end = parse_start(args[3]), parse_end(args[2])
    return _range(db, args, start, end, Stream.between_backwards)


def _range(db: Database, args: list[Any], start: StreamID, end: StreamID, look: Any) -> Any:
    most = None
    for at in range(4, len(args), 2):
        if args[at].upper() != b"COUNT" or at + 1 == len(args):
            raise CommandError(errors.SYNTAX)
        most = integer(args[at + 1])
    stream = db.read_as(Stream, args[1], args[0])
    if stream is None:
        return []
    if most is not None and most <= 0:
        return NULL_ARRAY
    return reply(look(stream, start, end, most))


# -- deleting -----------------------------------------------------------------------------------


@command(
    "XDEL key id [id ...]",
    group="stream",
    since="5.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(1) for each single item to delete in the stream, regardless of the stream size.",
)
def xdel(db: Database, args: list[Any]) -> Any:
    """Returns the number of messages after removing them from a stream."""
    slot, key, *texts = args
    stream = db.edit_as(Stream, key, slot)
    if stream is None:
        return 0
    stream_ids = list(map(parse, texts))
    config = db.shard.config
    deleted = sum(stream.delete(stream_id, config) for stream_id in stream_ids)
    if deleted:
        db.changed(key, "xdel")
    return deleted


def _read_ids(args: list[Any], at: int) -> tuple[References, list[bytes]]:
    """The end of an XDELEX or XACKDEL: what becomes of references, and the texts of the IDs. Raises
    CommandError."""
    references: References | None = None
    texts: list[bytes] = []
    while at < len(args):
        option = args[at].upper()
        if option in REFERENCES and references is None:
            references = REFERENCES[option]
        elif option == b"IDS" and at + 1 < len(args):
            count = integer(args[at + 1], errors.NUMIDS_NOT_POSITIVE)
            if count < 1:
                raise CommandError(errors.NUMIDS_NOT_POSITIVE)
            texts = args[at + 2 : at + 2 + count]
            if len(texts) < count:
                raise CommandError(errors.NUMIDS_MISMATCH)
            at += 1 + count
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    return references or References.KEEP, texts


_NO_SUCH_ENTRY, _DELETED, _STILL_NEEDED = -1, 1, 2
"""What XDELEX and XACKDEL say of an ID."""


@command(
    "XDELEX key [KEEPREF | DELREF | ACKED] IDS numids id [id ...]",
    group="stream",
    since="8.2.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(1) for each single item to delete in the stream, regardless of the stream size.",
)
def xdelex(db: Database, args: list[Any]) -> Any:
    """Deletes one or multiple entries from the stream."""
    slot, key = args[0], args[1]
    stream = db.edit_as(Stream, key, slot)
    references, texts = _read_ids(args, 2)
    if stream is None:
        return [_NO_SUCH_ENTRY] * len(texts)
    results: list[int] = []
    requests: Requests = []
    deleted: list[StreamID] = []
    for stream_id in list(map(parse, texts)):
        if references is References.DELETE:
            requests += forget(key, stream, [stream_id])
        if references is References.ACKED and not is_acked(stream, stream_id):
            results.append(_STILL_NEEDED)
        elif stream.delete(stream_id, db.shard.config):
            results.append(_DELETED)
            deleted.append(stream_id)
        else:
            results.append(_NO_SUCH_ENTRY)
    _log_deleted(db, key, deleted, requests)
    return results


@command(
    "XACKDEL key group [KEEPREF | DELREF | ACKED] IDS numids id [id ...]",
    group="stream",
    since="8.2.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE DELETE"),),
    complexity="O(1) for each message ID processed.",
)
def xackdel(db: Database, args: list[Any]) -> Any:
    """Acknowledges and deletes one or multiple messages for a stream consumer group."""
    slot, key, name = args[:3]
    stream = db.edit_as(Stream, key, slot)
    references, texts = _read_ids(args, 3)
    group = None if stream is None else stream.groups.get(name)
    if stream is None or group is None:
        return [_NO_SUCH_ENTRY] * len(texts)
    results: list[int] = []
    requests: Requests = []
    deleted: list[StreamID] = []
    for stream_id in list(map(parse, texts)):
        if not group.acknowledge(stream_id):
            results.append(_NO_SUCH_ENTRY)
            continue
        requests += id_requests((b"XACK", key, name), [stream_id])
        if references is References.DELETE:
            requests += forget(key, stream, [stream_id])
        if references is References.ACKED and not is_acked(stream, stream_id):
            results.append(_STILL_NEEDED)
            continue
        results.append(_DELETED)
        if stream.delete(stream_id, db.shard.config):
            deleted.append(stream_id)
    _log_deleted(db, key, deleted, requests)
    return results


def _log_deleted(db: Database, key: bytes, deleted: list[StreamID], requests: Requests) -> None:
    """Says which entries were deleted, and what else is to be logged."""
    if deleted:
        db.changed(key, "xdel")
        requests += id_requests((b"XDEL", key), deleted)
    elif requests:
        db.shard.dirty += 1
    _log(db, requests)
