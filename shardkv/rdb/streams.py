"""Streams: their entries, in listpacks of some hundred, and their consumer groups.

The layout of the listpacks is described in the source of Redis, t_stream.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

from shardkv import limits
from shardkv.numbers import INT64_MAX, UINT64_MAX
from shardkv.rdb import kinds
from shardkv.rdb.packed import listpack, to_listpack
from shardkv.rdb.reader import FormatError, Reader
from shardkv.rdb.writer import length, string
from shardkv.structures.consumer_group import UNKNOWN, Consumer, ConsumerGroup, Pending
from shardkv.structures.stream import Entry, Stream
from shardkv.structures.stream_id import LEAST, StreamID

_DELETED = 1
_SAME_FIELDS = 2

_ID_BYTES = 16


# -- reading ----------------------------------------------------------------------------------


def read(kind: int, reader: Reader, config: Any) -> Stream:
    """A stream in one of its three forms. What requests could not make of a stream is a FormatError."""
    made = Stream()
    before = LEAST
    for _ in range(reader.length()):
        base = _raw_id(reader.string())
        for stream_id, items in _entries(base, listpack(reader.string())):
            if stream_id <= before:
                raise FormatError("entries without order")
            made.add(stream_id, items, config)
            before = stream_id
    if made.length != reader.length():
        raise FormatError("a stream with another number of entries")
    made.last_id = _read_id(reader)
    if kind >= kinds.STREAM_2:
        _read_id(reader)  # the first one, which is there to be seen
        made.max_deleted_id = _read_id(reader)
        made.entries_added = reader.length()
    if max(before, made.max_deleted_id) > made.last_id:
        raise FormatError("an entry after the last one")
    if not made.length <= made.entries_added <= INT64_MAX:
        raise FormatError("a stream to which another number of entries was added")
    for _ in range(reader.length()):
        name = reader.string()
        if name in made.groups:
            raise FormatError("a group that is there twice")
        made.groups[name] = _read_group(kind, reader, made)
    return made


def _read_id(reader: Reader) -> StreamID:
    return reader.length(), reader.length()


def _raw_id(raw: bytes) -> StreamID:
    if len(raw) != _ID_BYTES:
        raise FormatError("no ID of a stream")
    return int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")


def _entries(base: StreamID, elements: list[bytes]) -> Iterator[Entry]:
    """The entries in a listpack, whose IDs are relative to a base."""
    there, deleted, count = map(int, elements[:3])
    fields = elements[3 : 3 + count]
    if not count or len(fields) != count:
        raise FormatError("a node without its fields")
    left = {0: there, _DELETED: deleted}
    # Behind the fields stands a zero, and behind each entry the number of its elements.
    at = 4 + count
    while at < len(elements):
        flags, ms, seq = map(int, elements[at : at + 3])
        at += 3
        if flags & _SAME_FIELDS:
            end = at + count
            # ValueError if values are missing.
            items = list(chain.from_iterable(zip(fields, elements[at:end], strict=True)))
        else:
            end = at + 1 + 2 * int(elements[at])
            items = elements[at + 1 : end]
            if end < at + 3 or len(items) != end - at - 1:
                raise FormatError("an entry without its fields")
        at = end + 1
        left[flags & _DELETED] -= 1
        if not flags & _DELETED:
            yield (base[0] + ms & UINT64_MAX, base[1] + seq & UINT64_MAX), items
    if at != len(elements) or any(left.values()):
        raise FormatError("a node with another number of entries")


def _read_group(kind: int, reader: Reader, stream: Stream) -> ConsumerGroup:
    made = ConsumerGroup(_read_id(reader))
    if kind >= kinds.STREAM_2:
        made.entries_read = _signed(reader.length())
    else:
        made.entries_read = stream.entries_until(made.last_id)
    if made.entries_read < UNKNOWN:
        raise FormatError("a group that has read less than nothing")
    deliveries = _read_deliveries(reader)
    owners: dict[StreamID, bytes] = {}
    for _ in range(reader.length()):
        name = reader.string()
        if name in made.consumers:
            raise FormatError("a consumer that is there twice")
        made.consumers[name] = consumer = Consumer(reader.int64())
        # What did not know better took the one for the other.
        consumer.active_ms = reader.int64() if kind >= kinds.STREAM_3 else consumer.seen_ms
        for _ in range(reader.length()):
            stream_id = _raw_id(reader.take(_ID_BYTES))
            if owners.setdefault(stream_id, name) is not name or stream_id not in deliveries:
                raise FormatError("an entry that is pending elsewhere")
            consumer.pending.set(stream_id, None)
    if len(owners) != len(deliveries):
        raise FormatError("a pending entry without a consumer")
    shared: dict[Pending, Pending] = {}
    for stream_id, (delivered_ms, count) in deliveries.items():
        pending = Pending(owners[stream_id], delivered_ms, count)
        made.pending.set(stream_id, shared.setdefault(pending, pending))
    return made


def _read_deliveries(reader: Reader) -> dict[StreamID, tuple[int, int]]:
    """When each pending entry was last delivered, and how often."""
    found: dict[StreamID, tuple[int, int]] = {}
    for _ in range(reader.length()):
        stream_id = _raw_id(reader.take(_ID_BYTES))
        delivered_ms, count = reader.int64(), reader.length()
        if stream_id in found or delivered_ms < 0 or count > INT64_MAX:
            raise FormatError("no pending entry")
        found[stream_id] = (delivered_ms, count)
    return found


def _signed(number: int) -> int:
    """The number with sign that has the same 64 bits."""
    return number if number <= INT64_MAX else number - UINT64_MAX - 1


# -- writing ----------------------------------------------------------------------------------


def write(kind: int, stream: Stream) -> list[bytes]:
    """A stream in one of its three forms, in pieces."""
    nodes: list[bytes] = []
    for entries in _portions(stream):
        nodes += (string(_as_raw(entries[0][0])), string(_node(entries)))
    parts = [length(len(nodes) // 2), *nodes, length(stream.length), _id(stream.last_id)]
    if kind >= kinds.STREAM_2:
        parts += (_id(stream.first_id), _id(stream.max_deleted_id), length(stream.entries_added))
    parts.append(length(len(stream.groups)))
    for name, group in stream.groups.items():
        parts.append(string(name))
        _write_group(kind, group, parts)
    return parts


def _portions(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """The entries, so many at a time as stand in one listpack."""
    some: list[Entry] = []
    size = 0
    for entry in entries:
        more = sum(map(len, entry[1]))
        if some and (
            len(some) == limits.RDB_STREAM_NODE_ENTRIES or size + more > limits.RDB_STREAM_NODE_BYTES
        ):
            yield some
            some, size = [], 0
        some.append(entry)
        size += more
    if some:
        yield some


def _node(entries: list[Entry]) -> bytes:
    (base_ms, base_seq), first = entries[0]
    fields = first[::2]
    elements: list[int | bytes] = [len(entries), 0, len(fields), *fields, 0]
    for (ms, seq), items in entries:
        offset = (_signed(ms - base_ms & UINT64_MAX), _signed(seq - base_seq & UINT64_MAX))
        if items[::2] == fields:
            elements += (_SAME_FIELDS, *offset, *items[1::2], len(fields) + 3)
        else:
            elements += (0, *offset, len(items) // 2, *items, len(items) + 4)
    return to_listpack(elements)


def _as_raw(stream_id: StreamID) -> bytes:
    return stream_id[0].to_bytes(8, "big") + stream_id[1].to_bytes(8, "big")


def _id(stream_id: StreamID) -> bytes:
    return length(stream_id[0]) + length(stream_id[1])


def _write_group(kind: int, group: ConsumerGroup, parts: list[bytes]) -> None:
    parts.append(_id(group.last_id))
    if kind >= kinds.STREAM_2:
        parts.append(length(group.entries_read & UINT64_MAX))
    parts.append(length(len(group.pending)))
    for stream_id, pending in group.pending.since(LEAST):
        parts += (_as_raw(stream_id), _int64(pending.delivered_ms), length(pending.deliveries))
    parts.append(length(len(group.consumers)))
    for name, consumer in group.consumers.items():
        parts += (string(name), _int64(consumer.seen_ms))
        if kind >= kinds.STREAM_3:
            parts.append(_int64(consumer.active_ms))
        parts.append(length(len(consumer.pending)))
        parts += map(_as_raw, consumer.pending)


def _int64(number: int) -> bytes:
    return number.to_bytes(8, "little", signed=True)
