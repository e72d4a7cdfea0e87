"""Streams: their entries, in listpacks of some hundred, and their consumer groups.

The layout of the listpacks is described in the source of Redis, t_stream.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from shardkv import limits
from shardkv.numbers import UINT64_MAX
from shardkv.rdb import kinds
from shardkv.rdb.packed import listpack, to_listpack
from shardkv.rdb.reader import FormatError, Reader
from shardkv.rdb.writer import length, string
from shardkv.structures.consumer_group import UNKNOWN, Consumer, ConsumerGroup, Pending
from shardkv.structures.stream_id import LEAST, StreamID
from shardkv.structures.stream_node import Items

Entry = tuple[StreamID, Items]

_DELETED = 1
_SAME_FIELDS = 2

_ID_BYTES = 16


@dataclass
class StreamContent:
    """All that a stream is."""

    entries: list[Entry]
    last_id: StreamID
    max_deleted_id: StreamID
    entries_added: int
    groups: dict[bytes, ConsumerGroup] = field(default_factory=dict)


# -- reading ----------------------------------------------------------------------------------


def read(kind: int, reader: Reader) -> StreamContent:
    """A stream in one of its three forms."""
    entries: list[Entry] = []
    for _ in range(reader.length()):
        base = _read_raw_id(reader)
        entries += _entries(base, listpack(reader.string()))
    _check_order(entries)
    count = reader.length()
    if count != len(entries):
        raise FormatError("a stream with another number of entries")
    last_id = _read_id(reader)
    if entries and entries[-1][0] > last_id:
        raise FormatError("an entry after the last one")
    made = StreamContent(entries, last_id, LEAST, count)
    if kind >= kinds.STREAM_2:
        _read_id(reader)  # the first one, which is there to be seen
        made.max_deleted_id = _read_id(reader)
        made.entries_added = reader.length()
    for _ in range(reader.length()):
        name = reader.string()
        if name in made.groups:
            raise FormatError("a group that is there twice")
        made.groups[name] = _read_group(kind, reader, made)
    return made


def _check_order(entries: list[Entry]) -> None:
    before = (-1, 0)
    for stream_id, _ in entries:
        if stream_id <= before:
            raise FormatError("entries without order")
        before = stream_id


def _read_id(reader: Reader) -> StreamID:
    return reader.length(), reader.length()


def _read_raw_id(reader: Reader) -> StreamID:
    """An ID in 16 bytes, as a string."""
    return _raw_id(reader.string())


def _raw_id(raw: bytes) -> StreamID:
    if len(raw) != _ID_BYTES:
        raise FormatError("no ID of a stream")
    return int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")


def _entries(base: StreamID, elements: list[bytes]) -> Iterator[Entry]:
    """The entries in a listpack, whose IDs are relative to a base."""
    there, deleted, count = map(int, elements[:3])
    fields = elements[3 : 3 + count]
    if count < 0 or len(fields) != count:
        raise FormatError("a node without its fields")
    # Behind the fields stands a zero, and behind each entry the number of its elements.
    at = 4 + count
    left = {_DELETED: deleted, 0: there}
    while at < len(elements):
        flags, ms, seq = map(int, elements[at : at + 3])
        at += 3
        if flags & _SAME_FIELDS:
            values = elements[at : at + count]
            at += count
            items = list(chain.from_iterable(zip(fields, values, strict=True)))
        else:
            own = int(elements[at])
            if own < 0:
                raise FormatError("an entry without its fields")
            items = elements[at + 1 : at + 1 + 2 * own]
            if len(items) != 2 * own:
                raise FormatError("an entry without its fields")
            at += 1 + 2 * own
        int(elements[at])
        at += 1
        left[flags & _DELETED] -= 1
        if not flags & _DELETED:
            yield (base[0] + ms & UINT64_MAX, base[1] + seq & UINT64_MAX), items
    if any(left.values()):
        raise FormatError("a node with another number of entries")


def _read_group(kind: int, reader: Reader, stream: StreamContent) -> ConsumerGroup:
    last_id = _read_id(reader)
    if kind >= kinds.STREAM_2:
        entries_read = _signed(reader.length())
    else:
        entries_read = _entries_read(stream, last_id)
    made = ConsumerGroup(last_id, entries_read)
    pending: dict[StreamID, tuple[int, int]] = {}
    for _ in range(reader.length()):
        stream_id = _raw_id(reader.take(_ID_BYTES))
        if stream_id in pending:
            raise FormatError("an entry that is pending twice")
        pending[stream_id] = (reader.int64(), reader.length())
    for _ in range(reader.length()):
        name = reader.string()
        if name in made.consumers:
            raise FormatError("a consumer that is there twice")
        made.consumers[name] = consumer = Consumer(reader.int64())
        if kind >= kinds.STREAM_3:
            consumer.active_ms = reader.int64()
        else:
            # What did not know better took this for both.
            consumer.active_ms = consumer.seen_ms
        _read_consumer_pending(reader, name, consumer, made, pending)
    if pending:
        raise FormatError("a pending entry without a consumer")
    return made


def _read_consumer_pending(
    reader: Reader,
    name: bytes,
    consumer: Consumer,
    group: ConsumerGroup,
    pending: dict[StreamID, tuple[int, int]],
) -> None:
    """What a consumer has been given; taken out of all that is pending in the group."""
    for _ in range(reader.length()):
        stream_id = _raw_id(reader.take(_ID_BYTES))
        # KeyError for an entry that is not pending in the group, or with another consumer.
        delivered_ms, deliveries = pending.pop(stream_id)
        group.pending.set(stream_id, Pending(name, delivered_ms, deliveries))
        consumer.pending.set(stream_id, None)


def _signed(number: int) -> int:
    return number if number <= UINT64_MAX >> 1 else number - UINT64_MAX - 1


def _entries_read(stream: StreamContent, last_id: StreamID) -> int:
    """How many entries a group has read, as far as a stream tells that does not say it."""
    if not stream.entries_added:
        return 0
    if not stream.entries:
        return stream.entries_added if last_id >= stream.last_id else UNKNOWN
    if last_id < stream.entries[0][0]:
        return 0 if stream.max_deleted_id == LEAST else UNKNOWN
    if last_id >= stream.last_id:
        return stream.entries_added
    return 1 if last_id == stream.entries[0][0] and stream.max_deleted_id == LEAST else UNKNOWN


# -- writing ----------------------------------------------------------------------------------


def write(kind: int, content: StreamContent) -> list[bytes]:
    """A stream in that form, in pieces."""
    nodes = list(_nodes(content.entries))
    parts = [length(len(nodes))]
    for node in nodes:
        parts += (string(_as_raw(node[0][0])), string(_node(node)))
    parts += (length(len(content.entries)), _written_id(content.last_id))
    if kind >= kinds.STREAM_2:
        first_id = content.entries[0][0] if content.entries else LEAST
        parts += (_written_id(first_id), _written_id(content.max_deleted_id), length(content.entries_added))
    parts.append(length(len(content.groups)))
    for name, group in content.groups.items():
        parts.append(string(name))
        _write_group(kind, group, parts)
    return parts


def _nodes(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """The entries, in portions for a listpack each."""
    node: list[Entry] = []
    size = 0
    for entry in entries:
        size += sum(map(len, entry[1]))
        if node and (len(node) == limits.RDB_STREAM_NODE_ENTRIES or size > limits.RDB_STREAM_NODE_BYTES):
            yield node
            node, size = [], sum(map(len, entry[1]))
        node.append(entry)
    if node:
        yield node


def _node(entries: list[Entry]) -> bytes:
    (base_ms, base_seq), first = entries[0]
    fields = first[::2]
    elements: list[int | bytes] = [len(entries), 0, len(fields), *fields, 0]
    for (ms, seq), items in entries:
        offset = (ms - base_ms, _signed(seq - base_seq & UINT64_MAX))
        if items[::2] == fields:
            elements += (_SAME_FIELDS, *offset, *items[1::2], len(fields) + 3)
        else:
            elements += (0, *offset, len(items) // 2, *items, len(items) + 4)
    return to_listpack(elements)


def _as_raw(stream_id: StreamID) -> bytes:
    return b"".join(number.to_bytes(8, "big") for number in stream_id)


def _written_id(stream_id: StreamID) -> bytes:
    return length(stream_id[0]) + length(stream_id[1])


def _write_group(kind: int, group: ConsumerGroup, parts: list[bytes]) -> None:
    parts.append(_written_id(group.last_id))
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
