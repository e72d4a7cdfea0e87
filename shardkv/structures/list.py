"""Lists."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, ClassVar

import msgspec

from shardkv.limits import (
    LIST_MEASURED_ELEMENTS,
    LIST_NODE_ELEMENTS,
    LIST_PACKED_BYTES,
    LIST_PACKED_ELEMENTS,
    LIST_REQUEST_BYTES,
)
from shardkv.structures.list_nodes import ListNodes, remove
from shardkv.structures.listpack import EMPTY_BYTES, MOST_OVERHEAD, Limit, entry_bytes, limit
from shardkv.values import Collection, Packed

_END_ELEMENTS = 2 * LIST_NODE_ELEMENTS
"""An end that has grown beyond this gives what is further inside to the nodes."""

_MEASURED = 0
_FAR_TOO_LARGE = -1


class List(Collection):
    """A list: two ends that are plain Python lists, and between them, when it is long, packed nodes.

    Pushing and popping concerns one short list, reaching into the middle one node. Whether Redis would keep
    the list as one listpack or as a quicklist is followed as it grows and shrinks, but for one thing: it is
    taken to be a listpack again as soon as it has shrunk to half of what a listpack may have, while Redis
    also waits until the elements left all come from the same node of its quicklist.
    """

    __slots__ = ("_head", "_listpack_bytes", "_nodes", "_quicklist", "_room", "_tail", "count")

    type_name: ClassVar[str] = "list"

    def __init__(self) -> None:
        self._head: list[bytes] = []
        self._nodes: ListNodes | None = None
        self._tail: list[bytes] = []
        self.count = 0
        """The number of elements."""
        self._quicklist = False
        """Whether the list has grown too large for a listpack, and not become small since."""
        self._room = _MEASURED
        """How many bytes may be added for sure before a listpack would be too large; or _FAR_TOO_LARGE; or
        _MEASURED, if it has to be known exactly."""
        self._listpack_bytes = EMPTY_BYTES
        """What the elements would take in a listpack, if measured."""

    @classmethod
    def of(cls, elements: list[bytes], config: Any) -> List:
        """A list with this content, which is not empty."""
        made = cls()
        made.push_right(elements, config)
        return made

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[bytes]:
        return chain(self._head, chain.from_iterable(self._nodes or ()), self._tail)

    # -- the ends -------------------------------------------------------------------------------

    def push_left(self, elements: list[bytes], config: Any) -> int:
        """Adds elements in front, one after the other, so that the last becomes the first; returns the
        length."""
        if self._room >= 0:
            self._notice_growth(elements, config)
        head = self._head
        if len(elements) == 1:
            head.insert(0, elements[0])
        else:
            head[:0] = elements[::-1]
        if len(head) > _END_ELEMENTS:
            self._settle_head()
        self.count += len(elements)
        return self.count

    def push_right(self, elements: list[bytes], config: Any) -> int:
        """Adds elements behind; returns the length."""
        if self._room >= 0:
            self._notice_growth(elements, config)
        tail = self._tail
        tail += elements
        if len(tail) > _END_ELEMENTS:
            self._settle_tail()
        self.count += len(elements)
        return self.count

    def pop_left(self) -> bytes:
        """Takes out the first element. There must be one."""
        element = (self._head or self._refilled_head()).pop(0)
        self.count -= 1
        if self._room == _MEASURED:
            self._listpack_bytes -= entry_bytes(element)
        return element

    def pop_right(self) -> bytes:
        """Takes out the last element. There must be one."""
        element = (self._tail or self._refilled_tail()).pop()
        self.count -= 1
        if self._room == _MEASURED:
            self._listpack_bytes -= entry_bytes(element)
        return element

    def pop_many_left(self, count: int) -> list[bytes]:
        """Takes out so many elements in front, or all; returns them, the first one first."""
        elements = self.between(0, count)
        self._drop_left(len(elements))
        return elements

    def pop_many_right(self, count: int) -> list[bytes]:
        """Takes out so many elements behind, or all; returns them, the last one first."""
        elements = self.between(max(0, self.count - count), self.count)
        self._drop_right(len(elements))
        elements.reverse()
        return elements

    def _settle_head(self) -> None:
        """Gives the inner part of a grown head to the nodes."""
        head, nodes = self._head, self._own_nodes()
        keep = LIST_NODE_ELEMENTS + len(head) % LIST_NODE_ELEMENTS
        for start in range(len(head) - LIST_NODE_ELEMENTS, keep - 1, -LIST_NODE_ELEMENTS):
            nodes.prepend(head[start : start + LIST_NODE_ELEMENTS])
        del head[keep:]

    def _settle_tail(self) -> None:
        """Gives the inner part of a grown tail to the nodes."""
        tail, nodes = self._tail, self._own_nodes()
        give = len(tail) - LIST_NODE_ELEMENTS - len(tail) % LIST_NODE_ELEMENTS
        for start in range(0, give, LIST_NODE_ELEMENTS):
            nodes.append(tail[start : start + LIST_NODE_ELEMENTS])
        del tail[:give]

    def _own_nodes(self) -> ListNodes:
        if self._nodes is None:
            self._nodes = ListNodes()
        return self._nodes

    def _refilled_head(self) -> list[bytes]:
        if self._nodes is None:
            self._head, self._tail = self._tail, self._head
        else:
            self._head = self._nodes.pop_first()
            self._tidy()
        return self._head

    def _refilled_tail(self) -> list[bytes]:
        if self._nodes is None:
            self._head, self._tail = self._tail, self._head
        else:
            self._tail = self._nodes.pop_last()
            self._tidy()
        return self._tail

    def _tidy(self) -> None:
        """Elements have gone: takes note of it if the list is short now."""
        if not self._nodes:
            self._nodes = None
        if self._room < 0 and self.count <= LIST_MEASURED_ELEMENTS:
            self._measure()

    # -- positions ------------------------------------------------------------------------------

    def get(self, index: int) -> bytes | None:
        """The element at an index, which counts from the end if negative; None if there is none."""
        if index < 0:
            index += self.count
        if not 0 <= index < self.count:
            return None
        elements, index = self._at(index)
        return elements[index] if isinstance(elements, list) else elements.get(index)

    def set(self, index: int, element: bytes, config: Any) -> bool:
        """Puts an element in the place of the one at an index, as for `get`; whether there was one."""
        if index < 0:
            index += self.count
        if not 0 <= index < self.count:
            return False
        elements, index = self._at(index)
        if self._room >= 0:
            self._notice_growth([element], config)
            if self._room == _MEASURED:
                self._listpack_bytes -= entry_bytes(
                    elements[index] if isinstance(elements, list) else elements.get(index)
                )
        if isinstance(elements, list):
            elements[index] = element
        else:
            elements.set(index, element)
        return True

    def _at(self, index: int) -> tuple[list[bytes] | ListNodes, int]:
        """The part that holds an index that there is, and the index in it."""
        if index < len(self._head):
            return self._head, index
        index -= len(self._head)
        nodes = self._nodes
        if nodes is not None:
            inner = len(nodes)
            if index < inner:
                return nodes, index
            index -= inner
        return self._tail, index

    def between(self, start: int, stop: int) -> list[bytes]:
        """The elements from index `start`, not negative, up to `stop`, which is not among them."""
        found = self._head[start:stop]
        passed = len(self._head)
        nodes = self._nodes
        if nodes is not None:
            inner = len(nodes)
            first, last = max(0, start - passed), min(inner, stop - passed)
            if first < last:
                found += nodes.between(first, last)
            passed += inner
        if stop > passed:
            found += self._tail[max(0, start - passed) : stop - passed]
        return found

    def trim(self, start: int, stop: int) -> None:
        """Drops the elements before index `start`, not negative, and from `stop` on. Some must remain."""
        if stop < self.count:
            self._drop_right(self.count - stop)
        if start > 0:
            self._drop_left(start)

    def _drop_left(self, count: int) -> None:
        if self._room == _MEASURED:
            self._listpack_bytes -= sum(map(entry_bytes, self.between(0, count)))
        self.count -= count
        inner = count - len(self._head)
        if inner < 0:
            del self._head[:count]
            return
        nodes = self._nodes
        if nodes is not None and inner < len(nodes):
            self._head = nodes.drop_first(inner)
        else:
            self._head, self._nodes = [], None
            del self._tail[: inner - len(nodes or ())]
        self._tidy()

    def _drop_right(self, count: int) -> None:
        if self._room == _MEASURED:
            self._listpack_bytes -= sum(map(entry_bytes, self.between(self.count - count, self.count)))
        self.count -= count
        inner = count - len(self._tail)
        if inner < 0:
            del self._tail[-inner:]
            return
        nodes = self._nodes
        if nodes is not None and inner < len(nodes):
            self._tail = nodes.drop_last(inner)
        else:
            self._tail, self._nodes = [], None
            del self._head[len(self._head) - inner + len(nodes or ()) :]
        self._tidy()

    # -- content --------------------------------------------------------------------------------

    def indexes(self, element: bytes, reach: int, *, backwards: bool) -> Iterator[int]:
        """Where an element is, among the first `reach` elements, from the first one on; or among the last,
        from the last one back."""
        count = self.count
        for first, elements in self._holding(element, reach, backwards=backwards):
            found = _indexes(elements, element)
            for index in reversed(found) if backwards else found:
                index += first
                if (count - 1 - index if backwards else index) >= reach:
                    return
                yield index

    def _holding(self, element: bytes, reach: int, *, backwards: bool) -> Iterator[tuple[int, list[bytes]]]:
        """The parts that hold an element, with the index of their first."""
        ahead, behind = len(self._head), len(self._tail)
        head, tail = (0, self._head), (self.count - behind, self._tail)
        yield tail if backwards else head
        nodes = self._nodes
        if nodes is not None:
            reach_inside = reach - (behind if backwards else ahead)
            for first, elements in nodes.holding(element, reach_inside, backwards=backwards):
                yield ahead + first, elements
        yield head if backwards else tail

    def insert(self, pivot: bytes, element: bytes, config: Any, *, after: bool) -> bool:
        """Puts an element before or after the first `pivot`; whether there was one."""
        if self._room >= 0:
            self._notice_growth([element], config)
        if pivot in self._head:
            self._head.insert(self._head.index(pivot) + after, element)
        elif self._nodes is not None and self._nodes.insert(pivot, element, after=after):
            pass
        elif pivot in self._tail:
            self._tail.insert(self._tail.index(pivot) + after, element)
        else:
            if self._room == _MEASURED:
                self._listpack_bytes -= entry_bytes(element)
            return False
        self.count += 1
        if len(self._head) > _END_ELEMENTS:
            self._settle_head()
        if len(self._tail) > _END_ELEMENTS:
            self._settle_tail()
        return True

    def remove(self, element: bytes, most: int, *, backwards: bool) -> int:
        """Takes out an element, `most` times at most, the first ones or the last ones; returns how often."""
        parts = [self._head, self._nodes, self._tail]
        removed = 0
        for part in reversed(parts) if backwards else parts:
            if removed == most:
                break
            if isinstance(part, ListNodes):
                removed += part.remove(element, most - removed, backwards=backwards)
            elif part:
                removed += remove(part, element, most - removed, backwards=backwards)
        self.count -= removed
        if self._room == _MEASURED:
            self._listpack_bytes -= removed * entry_bytes(element)
        self._tidy()
        return removed

    # -- the encoding ---------------------------------------------------------------------------

    def encoding(self, config: Any) -> str:
        self._notice_shrinking(limit(config.list_max_listpack_size))
        return "quicklist" if self._quicklist else "listpack"

    # To measure each element would take longer than to push it. So as long as a list is at most half full for
    # sure, only the room left is counted down, as if nothing were ever taken out; when that is used up, what
    # is there is measured, and followed exactly until it is half full again. Between two pushes a list only
    # shrinks, so it is enough to look before each push whether it had become small enough for a listpack.

    def _notice_growth(self, elements: list[bytes], config: Any) -> None:
        """Elements are about to be added to a list that is not far too large."""
        count = len(elements)
        size = len(elements[0]) if count == 1 else sum(map(len, elements))
        most = size + count * MOST_OVERHEAD
        if self._room > most:
            self._room -= most
            return
        if self._room > 0:
            self._measure()
        bounds = limit(config.list_max_listpack_size)
        count += self.count
        if self._quicklist:
            self._notice_shrinking(bounds)
        if not self._quicklist:
            if bounds.room and self._listpack_bytes + most <= bounds.room:
                self._room = bounds.room
                return
            # Redis looks at the size of the elements without their overhead.
            self._quicklist = self._listpack_bytes + size > bounds.size or count > bounds.length
        if self._quicklist and count > 2 * LIST_MEASURED_ELEMENTS:
            self._room = _FAR_TOO_LARGE
        else:
            self._listpack_bytes += sum(map(entry_bytes, elements))

    def _measure(self) -> None:
        self._listpack_bytes = EMPTY_BYTES + sum(map(entry_bytes, self))
        self._room = _MEASURED

    def _notice_shrinking(self, bounds: Limit) -> None:
        if self._room == _MEASURED:
            small = self._listpack_bytes <= bounds.half_size and self.count <= bounds.half_length
            self._quicklist = self._quicklist and not small

    # -- as a value -----------------------------------------------------------------------------

    def commands(self, key: bytes) -> Iterator[list[bytes]]:
        elements = iter(self)
        while some := list(islice(elements, LIST_NODE_ELEMENTS)):
            for portion in _portions(some):
                yield [b"RPUSH", key, *portion]

    def copy(self) -> List:
        other = List()
        other._head = self._head.copy()
        other._nodes = self._nodes.copy() if self._nodes is not None else None
        other._tail = self._tail.copy()
        other.count = self.count
        other._quicklist = self._quicklist
        other._room = self._room
        other._listpack_bytes = self._listpack_bytes
        return other

    def shed(self, count: int) -> None:
        self._head.clear()
        self._tail.clear()
        nodes = self._nodes
        if nodes is not None and count < len(nodes):
            nodes.drop_last(count)
        else:
            nodes = self._nodes = None
        self.count = len(nodes or ())

    def pack(self) -> PackedList | None:
        if self.count > LIST_PACKED_ELEMENTS:
            return None
        elements = list(self)
        if sum(map(len, elements)) > LIST_PACKED_BYTES:
            return None
        return PackedList(_encode((self._quicklist, self._room, self._listpack_bytes, elements)))

    @classmethod
    def unpack(cls, packed: Packed) -> List:
        made = cls()
        made._quicklist, made._room, made._listpack_bytes, made._tail = _decode(packed)
        made.count = len(made._tail)
        if made.count > _END_ELEMENTS:
            made._settle_tail()
        return made


def _portions(elements: list[bytes]) -> Iterator[list[bytes]]:
    """The same elements, fewer at a time if they are large."""
    start = size = 0
    for stop, length in enumerate(map(len, elements)):
        if size + length > LIST_REQUEST_BYTES and stop > start:
            yield elements[start:stop]
            start, size = stop, 0
        size += length
    yield elements[start:]


def _indexes(elements: list[bytes], element: bytes) -> list[int]:
    found = []
    index = -1
    for _ in range(elements.count(element)):
        index = elements.index(element, index + 1)
        found.append(index)
    return found


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[bool, int, int, list[bytes]]).decode


class PackedList(Packed):
    """A small list at rest."""

    __slots__ = ()

    kind: ClassVar[type[Collection]] = List


List.packed_kind = PackedList
