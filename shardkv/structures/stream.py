"""Streams: entries in the order of their IDs, and the groups that read them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from heapq import merge
from itertools import groupby, islice, repeat
from operator import itemgetter
from typing import Any, ClassVar, Self

import msgspec

from shardkv.limits import (
    STREAM_OPEN_NODES,
    STREAM_PACKED_BYTES,
    STREAM_PACKED_ENTRIES,
    STREAM_REQUEST_IDS,
    STREAM_UNSETTLED_ENTRIES,
)
from shardkv.structures.consumer_group import UNKNOWN, ConsumerGroup, GroupState
from shardkv.structures.stream_id import LEAST, StreamID
from shardkv.structures.stream_node import Items, Node, NodeState, Tail, TailState
from shardkv.values import Collection, Packed

Entry = tuple[StreamID, Items]


class PackedStream(Packed):
    """The state of a small stream in MessagePack."""

    __slots__ = ()


class Stream(Collection):
    """Packed nodes, and a tail that grows.

    A few nodes are kept unpacked: reading and deleting go from one to the next.
    """

    __slots__ = (
        *("_firsts", "_nodes", "_opened", "_tail"),
        *("entries_added", "groups", "last_id", "length", "max_deleted_id"),
    )

    type_name: ClassVar[str] = "stream"
    packed_kind: ClassVar[type[Packed]] = PackedStream

    def __init__(self) -> None:
        self.length = 0
        """The number of entries."""
        self.last_id = LEAST
        """The greatest ID that was ever given to an entry, whether it is still there or not."""
        self.entries_added = 0
        """Since the stream was made."""
        self.max_deleted_id = LEAST
        """The greatest ID that was deleted, other than by trimming."""
        self.groups: dict[bytes, ConsumerGroup] = {}
        self._nodes: list[Node] = []
        self._firsts: list[StreamID] = []
        """The first entry that ever was in each of these nodes."""
        self._tail = Tail()
        self._opened: list[Node] = []

    def __len__(self) -> int:
        """The number of entries, and of those that are pending in any group: what there is to copy, write
        and free."""
        return self.length + sum(group.pending.count for group in self.groups.values())

    # -- adding -----------------------------------------------------------------------------------

    def add(self, stream_id: StreamID, items: Items, config: Any) -> None:
        """Adds an entry whose ID is greater than the last one."""
        tail = self._tail
        ids = tail.ids
        ids.append(stream_id)
        tail.items.append(items)
        self.length += 1
        self.entries_added += 1
        self.last_id = stream_id
        if len(ids) > tail.settled + STREAM_UNSETTLED_ENTRIES:
            self._settle(config)

    def _settle(self, config: Any) -> None:
        """Makes nodes of the tail, as far as it is enough for more than one."""
        tail = self._tail
        while tail.settle(config.stream_node_max_entries, config.stream_node_max_bytes) < len(tail.ids):
            self._firsts.append(tail.begin)
            node = tail.cut()
            self._nodes.append(node)
            self._keep_open(node)

    def _keep_open(self, node: Node) -> None:
        opened = self._opened
        opened.append(node)
        if len(opened) > STREAM_OPEN_NODES:
            opened.pop(0).close()

    # -- looking ----------------------------------------------------------------------------------

    @property
    def first_id(self) -> StreamID:
        """The first entry, LEAST if there is none."""
        if self._nodes:
            return self._nodes[0].first
        return self._tail.ids[0] if self._tail.ids else LEAST

    @property
    def top_id(self) -> StreamID:
        """The last entry, LEAST if there is none."""
        if self._tail.ids:
            return self._tail.ids[-1]
        return self._open(self._nodes[-1]).ids[-1] if self._nodes else LEAST

    def get(self, stream_id: StreamID) -> Items | None:
        """An entry's items; None if there is no such entry."""
        part, place = self._find(stream_id)
        return None if part is None else part.items[place]

    def __contains__(self, stream_id: StreamID) -> bool:
        return self._find(stream_id)[0] is not None

    def between(self, start: StreamID, end: StreamID, most: int | None = None) -> list[Entry]:
        """The entries from one ID to another, or the first so many of them."""
        found: list[Entry] = []
        for part in self._parts_from(start):
            ids = part.ids
            low, high = bisect_left(ids, start), bisect_right(ids, end)
            if most is not None:
                high = min(high, low + most - len(found))
            found += zip(ids[low:high], part.items[low:high], strict=True)
            if high < len(ids):
                break
        return found

    def between_backwards(self, start: StreamID, end: StreamID, most: int | None = None) -> list[Entry]:
        """The entries from one ID to another, the last one first, or the last so many of them."""
        found: list[Entry] = []
        for part in self._parts_until(end):
            ids = part.ids
            low, high = bisect_left(ids, start), bisect_right(ids, end)
            if most is not None:
                low = max(low, high - most + len(found))
            found += zip(reversed(ids[low:high]), reversed(part.items[low:high]), strict=True)
            if low > 0:
                break
        return found

    def __iter__(self) -> Iterator[Entry]:
        """All entries. The stream must not change meanwhile."""
        for part in self._parts_from(LEAST):
            yield from zip(part.ids, part.items, strict=True)

    def _parts_from(self, start: StreamID) -> Iterator[Node | Tail]:
        """The parts that may hold entries from an ID on, open."""
        tail = self._tail
        if not tail.ids or start < tail.ids[0]:
            for number in range(max(0, bisect_right(self._firsts, start) - 1), len(self._nodes)):
                yield self._open(self._nodes[number])
        yield tail

    def _parts_until(self, end: StreamID) -> Iterator[Node | Tail]:
        """The parts that may hold entries up to an ID, the last first, open."""
        if self._tail.ids and end >= self._tail.ids[0]:
            yield self._tail
        for number in range(bisect_right(self._firsts, end) - 1, -1, -1):
            yield self._open(self._nodes[number])

    def _open(self, node: Node) -> Node:
        if not node.ids:
            node.open()
            self._keep_open(node)
        return node

    def _find(self, stream_id: StreamID) -> tuple[Node | Tail | None, int]:
        """The part that holds an entry, open, and its place there; or None if there is no such entry."""
        part: Node | Tail = self._tail
        if not part.ids or stream_id < part.ids[0]:
            number = bisect_right(self._firsts, stream_id) - 1
            if number < 0:
                return None, 0
            part = self._open(self._nodes[number])
        place = bisect_left(part.ids, stream_id)
        if place < len(part.ids) and part.ids[place] == stream_id:
            return part, place
        return None, 0

    # -- deleting ---------------------------------------------------------------------------------

    def delete(self, stream_id: StreamID, config: Any) -> bool:
        """Deletes an entry; whether there was one."""
        if self._tail.ids and stream_id >= self._tail.ids[0]:
            self._settle(config)
        part, place = self._find(stream_id)
        if part is None:
            return False
        self.length -= 1
        self.max_deleted_id = max(self.max_deleted_id, stream_id)
        if part.count > 1:
            part.remove(place, place + 1)
        elif part is self._tail:
            self._tail = Tail()
        else:
            number = bisect_right(self._firsts, stream_id) - 1
            self._forget_nodes(number, number + 1)
        return True

    def excess(
        self,
        config: Any,
        *,
        most: int | None = None,
        least: StreamID = LEAST,
        whole_nodes: bool = False,
        limit: int = 0,
    ) -> int:
        """How many entries, from the first on, are to be trimmed.

        most         How many may remain.
        least        If `most` is not given: the least ID that may remain.
        whole_nodes  Only as many as make whole nodes.
        limit        Not more than this, by whole nodes; 0 for no limit.
        """
        taken = 0
        for part in self._settled_parts(config):
            left = self.length - taken
            if most is not None and left <= most:
                break
            if limit and taken + part.count > limit:
                break
            whole = left - part.count >= most if most is not None else part.last < least
            if whole:
                taken += part.count
                continue
            if not whole_nodes:
                taken += left - most if most is not None else self._count_before(least, part)
            break
        return taken

    def _settled_parts(self, config: Any) -> Iterator[Node | Tail]:
        """The nodes as Redis has them, from the first on. The tail is looked at no sooner than needed."""
        yield from self._nodes
        known = len(self._nodes)
        self._settle(config)
        yield from self._nodes[known:]
        if self._tail.ids:
            yield self._tail

    def _count_before(self, stream_id: StreamID, part: Node | Tail) -> int:
        ids = self._open(part).ids if isinstance(part, Node) else part.ids
        return bisect_left(ids, stream_id)

    def drop(self, count: int, config: Any) -> None:
        """Deletes so many entries, from the first on."""
        if count > self.length - self._tail.count:
            self._settle(config)
        self.length -= count
        nodes, number = self._nodes, 0
        while number < len(nodes) and nodes[number].count <= count:
            count -= nodes[number].count
            number += 1
        self._forget_nodes(0, number)
        if count and nodes:
            self._open(nodes[0]).remove(0, count)
        elif count and count == self._tail.count:
            self._tail = Tail()
        elif count:
            self._tail.remove(0, count)

    def _forget_nodes(self, start: int, stop: int) -> None:
        gone = set(map(id, self._nodes[start:stop]))
        self._opened = [node for node in self._opened if id(node) not in gone]
        del self._nodes[start:stop], self._firsts[start:stop]

    # -- what groups have read --------------------------------------------------------------------

    def deletes_after(self, stream_id: StreamID) -> bool:
        """Whether entries from this one on were deleted, so that those that are there cannot be counted from
        the numbers alone."""
        return self.length > 0 and self.max_deleted_id != LEAST and stream_id <= self.max_deleted_id

    def entries_until(self, stream_id: StreamID) -> int:
        """How many entries were added up to this one, since the stream was made; UNKNOWN if that cannot be
        told (as Redis, streamEstimateDistanceFromFirstEverEntry)."""
        if not self.entries_added:
            return 0
        if not self.length and stream_id <= self.last_id:
            return self.entries_added
        if stream_id != LEAST and stream_id < self.max_deleted_id:
            return UNKNOWN
        if stream_id == self.last_id:
            return self.entries_added
        first_id = self.first_id
        if stream_id < self.last_id and (self.max_deleted_id == LEAST or self.max_deleted_id < first_id):
            if stream_id < first_id:
                return self.entries_added - self.length
            if stream_id == first_id:
                return self.entries_added - self.length + 1
        return UNKNOWN

    def lag(self, group: ConsumerGroup) -> int | None:
        """How many entries a group has still to read, as far as that can be told."""
        if not self.entries_added:
            return 0
        read = group.entries_read
        if read == UNKNOWN or self.deletes_after(group.last_id):
            read = self.entries_until(group.last_id)
        return None if read == UNKNOWN else self.entries_added - read

    def read_on(self, group: ConsumerGroup, entries: list[Entry]) -> None:
        """A group has read entries, all after its last one: takes note of how far it is."""
        for number, (stream_id, _) in enumerate(entries):
            known = group.entries_read != UNKNOWN and group.last_id >= self.first_id
            if known and not self.deletes_after(group.last_id):
                # It stays so for the entries that follow.
                group.entries_read += len(entries) - number
                break
            if self.entries_added:
                group.entries_read = self.entries_until(stream_id)
            group.last_id = stream_id
        group.last_id = entries[-1][0]

    # -- the whole ----------------------------------------------------------------------------------

    def encoding(self, config: Any) -> str:
        return "stream"

    def node_ids(self, config: Any) -> list[StreamID]:
        """The ID by which Redis would keep each node."""
        self._settle(config)
        return self._firsts + [self._tail.begin] * bool(self._tail.ids)

    def commands(self, key: bytes) -> Iterator[list[bytes]]:
        # Only an entry that is there can be claimed. So what is pending though deleted is there for a while,
        # unless the stream's last ID was set back since.
        lost: list[StreamID] = []
        for stream_id, items in self._with_pending():
            if items is not None:
                yield [b"XADD", key, b"%d-%d" % stream_id, *items]
            elif stream_id <= self.last_id:
                yield [b"XADD", key, b"%d-%d" % stream_id, b"", b""]
                lost.append(stream_id)
        if not self.length and not lost:
            yield [b"XADD", key, b"MAXLEN", b"0", b"0-1", b"", b""]
        for name in sorted(self.groups):
            yield from self.groups[name].commands(key, name)
        yield from self._deletions(key, lost)
        yield [
            *(b"XSETID", key, b"%d-%d" % self.last_id),
            *(b"ENTRIESADDED", b"%d" % self.entries_added),
            *(b"MAXDELETEDID", b"%d-%d" % self.max_deleted_id),
        ]

    def _with_pending(self) -> Iterator[tuple[StreamID, Items | None]]:
        """All entries, and in their order what is still pending though it was deleted, without items."""
        pending = [zip(group.pending, repeat(None)) for group in self.groups.values() if group.pending]
        if not pending:
            return iter(self)
        by_id = groupby(merge(self, *pending, key=_stream_id), key=_stream_id)
        return (next(same) for _, same in by_id)

    def _deletions(self, key: bytes, lost: list[StreamID]) -> Iterator[list[bytes]]:
        """Requests that delete entries, of which those before all others must have been trimmed: that says
        nothing about deletions."""
        if lost and not self.length:
            yield [b"XTRIM", key, b"MAXLEN", b"0"]
        elif lost:
            first_id = self.first_id
            if lost[0] < first_id:
                yield [b"XTRIM", key, b"MINID", b"%d-%d" % first_id]
            rest = (stream_id for stream_id in lost if stream_id > first_id)
            while some := list(islice(rest, STREAM_REQUEST_IDS)):
                yield [b"XDEL", key, *(b"%d-%d" % stream_id for stream_id in some)]

    def copy(self) -> Self:
        made = type(self)()
        made.length, made.last_id, made.entries_added = self.length, self.last_id, self.entries_added
        made.max_deleted_id = self.max_deleted_id
        made.groups = {name: group.copy() for name, group in self.groups.items()}
        made._nodes = [node.copy() for node in self._nodes]
        made._firsts = self._firsts.copy()
        made._tail = self._tail.copy()
        made._opened = [node for node in made._nodes[-STREAM_OPEN_NODES:] if node.ids]
        return made

    def shed(self, count: int) -> None:
        while self._nodes and count > 0:
            freed = self._nodes.pop().count
            self.length -= freed
            count -= freed
        if not self._nodes:
            self.length = 0
            self._tail = Tail()
        while self.groups and count > 0:
            name, group = next(iter(self.groups.items()))
            count -= group.shed(count)
            if not group.pending:
                del self.groups[name]

    # -- at rest ------------------------------------------------------------------------------------

    def pack(self) -> PackedStream | None:
        if len(self) > STREAM_PACKED_ENTRIES:
            self._close_nodes()
            return None
        nodes = [(first, node.state()) for first, node in zip(self._firsts, self._nodes, strict=True)]
        groups = [(name, group.state()) for name, group in self.groups.items()]
        numbers = (self.length, self.entries_added, self.last_id, self.max_deleted_id)
        packed = _encode((numbers, nodes, self._tail.state(), groups))
        if len(packed) > STREAM_PACKED_BYTES:
            self._close_nodes()
            return None
        return PackedStream(packed)

    def _close_nodes(self) -> None:
        """A large stream at rest: what it has at hand for whoever reads on is given up."""
        for node in self._opened:
            node.close()
        self._opened = []

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        numbers, nodes, tail, groups = _decode(packed)
        made = cls()
        made.length, made.entries_added, made.last_id, made.max_deleted_id = numbers
        made._firsts = [first for first, _ in nodes]
        made._nodes = [Node.of(state) for _, state in nodes]
        made._tail = Tail.of(tail)
        made.groups = {name: ConsumerGroup.of(state) for name, state in groups}
        return made


PackedStream.kind = Stream

_State = tuple[
    tuple[int, int, StreamID, StreamID],
    list[tuple[StreamID, NodeState]],
    TailState,
    list[tuple[bytes, GroupState]],
]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_State).decode
_stream_id = itemgetter(0)
