"""The pieces a stream consists of: nodes of some hundred entries, packed into one piece of memory each, and
the tail, to which entries are added.

Redis keeps a node as a listpack (described in its source, `t_stream.c`), and begins a new one when that has
so many entries or bytes. XTRIM with `~` removes whole nodes, so it shows where they end. Therefore the tail
knows how large its listpack would be.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import chain, repeat
from operator import itemgetter
from typing import Self

import msgspec

from shardkv.limits import STREAM_LARGE_ENTRY_BYTES, STREAM_NODE_BYTES
from shardkv.structures.listpack import EMPTY_BYTES, MOST_OVERHEAD, entry_bytes
from shardkv.structures.stream_id import LEAST, StreamID

Items = list[bytes]
"""An entry's fields and values, by turns. Never changed, so that entries and replies can share it."""

_Packed = tuple[int, list[int], list[int], list[bytes] | None, list[list[bytes]]]
"""The least time, and for each entry what its time is more, and its sequence number. Then, if all entries
have the same fields: those, and the values of each field; else None, and the items of each entry."""

NodeState = tuple[StreamID, StreamID, int, bytes]
TailState = tuple[StreamID, StreamID, int, int, int, int, int, list[bytes], bytes]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Packed).decode

_sequence_number = itemgetter(1)

_SHORT_BYTES = 64
"""Shorter items take two bytes more in a listpack, at most."""

_SMALL_NUMBER = 1 << 12
"""Smaller numbers, and their differences, take three bytes at most."""

_LARGEST = [2**7 - 1, 2**12 - 1, 2**15 - 1, 2**23 - 1, 2**31 - 1, 2**63 - 1]
_SIZES = [entry_bytes(b"%d" % number) for number in _LARGEST]
"""The largest number that takes so many bytes in a listpack, and these; below 0 none takes the fewest."""


class Node:
    """Some entries in a row. Packed, or open: as lists of IDs and items."""

    __slots__ = ("count", "first", "ids", "items", "last", "packed")

    def __init__(self, ids: list[StreamID], items: list[Items], last: StreamID) -> None:
        self.ids = ids
        self.items = items
        self.count = len(ids)
        self.first = ids[0]
        """The first entry that is there."""
        self.last = last
        """The last entry that ever was there."""
        self.packed: bytes | None = None
        """The content, or, of an open node, the same as long as nothing changes."""

    def open(self) -> None:
        """Makes lists of the packed content."""
        assert self.packed is not None
        self.ids, self.items = unpack(self.packed)

    def close(self) -> None:
        """Packs the content, unless its entries are so large that it would not save much."""
        if self.packed is None:
            if sum(map(len, chain.from_iterable(self.items))) > STREAM_LARGE_ENTRY_BYTES * self.count:
                return
            self.packed = pack(self.ids, self.items)
        self.ids, self.items = [], []

    def remove(self, start: int, stop: int) -> None:
        """Takes entries out of an open node, but not all."""
        del self.ids[start:stop], self.items[start:stop]
        self.count = len(self.ids)
        self.first = self.ids[0]
        self.packed = None

    def copy(self) -> Node:
        """A node of its own with the same content."""
        made = Node.__new__(Node)
        made.count, made.first, made.last, made.packed = self.count, self.first, self.last, self.packed
        made.ids, made.items = self.ids.copy(), self.items.copy()
        return made

    def state(self) -> NodeState:
        """What `of` makes the same node of."""
        packed = pack(self.ids, self.items) if self.packed is None else self.packed
        return self.first, self.last, self.count, packed

    @classmethod
    def of(cls, state: NodeState) -> Self:
        """The packed node in that state."""
        made = cls.__new__(cls)
        made.first, made.last, made.count, made.packed = state
        made.ids, made.items = [], []
        return made


def pack(ids: list[StreamID], items: list[Items]) -> bytes:
    """Entries as one piece of memory."""
    times, sequence_numbers = zip(*ids, strict=True) if ids else ((), ())
    base = times[0] if times else 0
    more = [ms - base for ms in times]
    columns = _columns(items)
    if columns is None:
        return _encode((base, more, sequence_numbers, None, items))
    return _encode((base, more, sequence_numbers, items[0][::2], columns))


def unpack(packed: bytes) -> tuple[list[StreamID], list[Items]]:
    """The entries that `pack` has packed."""
    base, more, sequence_numbers, fields, values = _decode(packed)
    ids = list(zip([base + ms for ms in more], sequence_numbers, strict=True))
    if fields is None:
        return ids, values
    columns = chain.from_iterable(zip(map(repeat, fields), values, strict=True))
    return ids, list(map(list, zip(*columns)))  # noqa: B905, the fields are endless


def _columns(items: list[Items]) -> list[tuple[bytes, ...]] | None:
    """The values of each field, if all entries have the same fields; else None."""
    try:
        columns = list(zip(*items, strict=True))
    except ValueError:
        return None
    count = len(items)
    for column in columns[::2]:
        if column.count(column[0]) != count:
            return None
    return columns[1::2] or None


class Tail:
    """The end of a stream, where entries are added: open always.

    Whether what was added still belongs to one node is looked at only now and then. `settled` entries, from
    the first on, are known to. The listpack also holds what was deleted.
    """

    __slots__ = (
        *("_bound", "_bytes", "_dead", "_fields", "_last_deleted", "_measured"),
        *("begin", "ids", "items", "settled"),
    )

    def __init__(self, ids: list[StreamID] | None = None, items: list[Items] | None = None) -> None:
        self.ids: list[StreamID] = ids or []
        self.items: list[Items] = items or []
        self.begin = LEAST
        """The first entry that ever was in the node: LEAST before it is looked at."""
        self.settled = 0
        self._last_deleted = LEAST
        self._fields: Items = []
        """Those of the first entry: Redis does not store them again for each entry that has the same."""
        self._dead = 0
        """Deleted entries that the listpack still holds."""
        self._bytes = 0
        """What the listpack takes with its deleted entries and the first `_measured` others."""
        self._measured = 0
        self._bound = 0
        """More than what it takes with all that are settled."""

    @property
    def count(self) -> int:
        return len(self.ids)

    @property
    def last(self) -> StreamID:
        """The last entry that ever was there, in a tail that is not empty."""
        return max(self._last_deleted, self.ids[-1])

    def settle(self, max_entries: int, max_bytes: int) -> int:
        """Looks how many entries, from the first on, belong to one node by these bounds, 0 for none; returns
        that."""
        if self.begin == LEAST and self.ids:
            self._begin()
        stop = min(len(self.ids), max_entries - self._dead) if max_entries else len(self.ids)
        if stop > self.settled:
            bytes_bound = min(max_bytes or STREAM_NODE_BYTES, STREAM_NODE_BYTES)
            more = self._most_bytes(self.settled, stop)
            if self._bound + more < bytes_bound:
                self._bound += more
                self.settled = stop
            else:
                self._measure(stop, bytes_bound)
        return self.settled

    def cut(self) -> Node:
        """Takes the settled entries out, as a node. What remains is the tail of the next one."""
        count = self.settled
        node = Node(self.ids[:count], self.items[:count], max(self._last_deleted, self.ids[count - 1]))
        Tail.__init__(self, self.ids[count:], self.items[count:])
        return node

    def remove(self, start: int, stop: int) -> None:
        """Deletes settled entries, but not all of the tail."""
        for number in range(max(start, self._measured), stop):
            self._bytes += self._entry_bytes(number)
        self._measured -= max(0, min(stop, self._measured) - start)
        self._last_deleted = max(self._last_deleted, self.ids[stop - 1])
        self._dead += stop - start
        self.settled -= stop - start
        del self.ids[start:stop], self.items[start:stop]

    def copy(self) -> Tail:
        """A tail of its own with the same content."""
        made = Tail.__new__(Tail)
        for name in Tail.__slots__:
            setattr(made, name, getattr(self, name))
        made.ids, made.items = self.ids.copy(), self.items.copy()
        return made

    def state(self) -> TailState:
        """What `of` makes the same tail of."""
        numbers = (self.settled, self._dead, self._bytes, self._measured, self._bound)
        return self.begin, self._last_deleted, *numbers, self._fields, pack(self.ids, self.items)

    @classmethod
    def of(cls, state: TailState) -> Self:
        """The tail in that state."""
        made = cls(*unpack(state[-1]))
        made.begin, made._last_deleted, made.settled, made._dead = state[:4]
        made._bytes, made._measured, made._bound, made._fields = state[4:-1]
        return made

    # -- the listpack -----------------------------------------------------------------------------

    def _begin(self) -> None:
        self.begin = self.ids[0]
        self._fields = self.items[0][::2]
        self._bytes = EMPTY_BYTES + _number_bytes(len(self._fields)) + sum(map(entry_bytes, self._fields)) + 2
        # Before an entry is added, Redis counts all its items, though its fields may be stored already. So
        # they count twice here.
        self._bound = self._bytes + sum(map(len, self._fields)) + 2 * MOST_OVERHEAD

    def _most_bytes(self, start: int, stop: int) -> int:
        """What some entries take at most."""
        items = self.items[start:stop]
        columns = _columns(items)
        stored = items if columns is None or items[0][::2] != self._fields else columns
        lengths = list(map(len, chain.from_iterable(stored)))
        overhead = 2 if max(lengths) < _SHORT_BYTES else MOST_OVERHEAD
        time_bytes = _number_bytes(self.ids[stop - 1][0] - self.begin[0])
        greatest = max(self.begin[1], max(map(_sequence_number, self.ids[start:stop])))
        sequence_bytes = 3 if greatest < _SMALL_NUMBER else MOST_OVERHEAD
        count_bytes = _number_bytes(max(map(len, items)) + 4)
        numbers = 2 + time_bytes + sequence_bytes + 2 * count_bytes
        return sum(lengths) + overhead * len(lengths) + numbers * len(items)

    def _measure(self, stop: int, max_bytes: int) -> None:
        """Settles entries one by one, until one of them is too much."""
        for number in range(self._measured, stop):
            if number >= self.settled and (number or self._dead):
                before = self._bytes + _number_bytes(number) + _number_bytes(self._dead)
                if before + sum(map(len, self.items[number])) >= max_bytes:
                    break
            self._bytes += self._entry_bytes(number)
            self._measured = number + 1
        self.settled = max(self.settled, self._measured)
        self._bound = self._bytes + sum(map(len, self._fields)) + 2 * MOST_OVERHEAD

    def _entry_bytes(self, number: int) -> int:
        """What an entry takes: a flag, its ID as a difference, its items, and how many all these are."""
        items = self.items[number]
        (ms, seq), (first_ms, first_seq) = self.ids[number], self.begin
        taken = 2 + _number_bytes(ms - first_ms) + _number_bytes(seq - first_seq)
        if items[::2] == self._fields:
            values = items[1::2]
            return taken + sum(map(entry_bytes, values)) + _number_bytes(len(values) + 3)
        counts = _number_bytes(len(items) // 2) + _number_bytes(len(items) + 4)
        return taken + sum(map(entry_bytes, items)) + counts


def _number_bytes(number: int) -> int:
    """What a number of 64 bits takes in a listpack."""
    if 0 <= number <= _LARGEST[0]:
        return _SIZES[0]
    number = (number + (1 << 63)) % (1 << 64) - (1 << 63)
    if number < 0:
        return _SIZES[max(1, bisect_left(_LARGEST, ~number))]
    return _SIZES[bisect_left(_LARGEST, number)]
