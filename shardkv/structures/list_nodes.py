"""The inner part of a long list: nodes of some hundred elements, each packed into one piece of memory.

A node is MessagePack; where elements are large, and packing them would gain nothing but cost copies, it is a tuple. Either
way a node is never changed but replaced, so that copies of a list share them.

Each node's place is kept as a number that does not change when elements come and go at the ends: the first node's may be
negative. A position is therefore found by one binary search, and only what changes the length of a node somewhere inside
has to move the places on its shorter side.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate

import msgspec

from shardkv.limits import LIST_NODE_BYTES, LIST_NODE_ELEMENTS

Node = bytes | tuple[bytes, ...]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


def _packed(elements: list[bytes]) -> Node:
    return tuple(elements) if sum(map(len, elements)) > LIST_NODE_BYTES else _encode(elements)


class ListNodes:
    """Some nodes side by side, none of them empty. Positions count elements from the first."""

    __slots__ = ("_nodes", "_opened", "_opened_node", "_places")

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._places = [0]
        """Where each node begins, and where the last one ends."""
        self._opened_node: Node | None = None
        self._opened: list[bytes] = []
        """The elements of the node that was last unpacked."""

    def __len__(self) -> int:
        """The number of elements."""
        return self._places[-1] - self._places[0]

    def __iter__(self) -> Iterator[list[bytes]]:
        """The elements, a node at a time, as lists of the caller's own."""
        for node in self._nodes:
            yield list(node) if node.__class__ is tuple else _decode(node)

    def __reversed__(self) -> Iterator[list[bytes]]:
        for node in reversed(self._nodes):
            yield list(node) if node.__class__ is tuple else _decode(node)

    def copy(self) -> ListNodes:
        """The same elements, to be changed independently."""
        other = ListNodes()
        other._nodes = self._nodes.copy()
        other._places = self._places.copy()
        return other

    # -- the ends -------------------------------------------------------------------------------

    def prepend(self, elements: list[bytes]) -> None:
        """Adds a node in front."""
        self._nodes.insert(0, _packed(elements))
        self._places.insert(0, self._places[0] - len(elements))

    def append(self, elements: list[bytes]) -> None:
        """Adds a node behind."""
        self._nodes.append(_packed(elements))
        self._places.append(self._places[-1] + len(elements))

    def pop_first(self) -> list[bytes]:
        """Takes the first node out; returns its elements, as a list of the caller's own."""
        del self._places[0]
        return self._owned(self._nodes.pop(0))

    def pop_last(self) -> list[bytes]:
        """Takes the last node out; returns its elements, as a list of the caller's own."""
        self._places.pop()
        return self._owned(self._nodes.pop())

    def cut_first(self, count: int) -> list[bytes]:
        """Drops so many elements, all or fewer, in front. Returns what is left of the last node it has touched, which
        is taken out."""
        number, offset = self._find(count)
        rest = self._elements(number)[offset:] if offset else []
        number += offset > 0
        del self._nodes[:number], self._places[:number]
        return rest

    def cut_last(self, count: int) -> list[bytes]:
        """Drops so many elements, all or fewer, behind. Returns what is left of the first node it has touched, which
        is taken out."""
        number, offset = self._find(len(self) - count)
        rest = self._elements(number)[:offset] if offset else []
        del self._nodes[number:], self._places[number + 1 :]
        return rest

    # -- positions ------------------------------------------------------------------------------

    def get(self, position: int) -> bytes:
        """The element at a position that there is."""
        number, offset = self._find(position)
        return self._elements(number)[offset]

    def set(self, position: int, element: bytes) -> None:
        """Puts another element in the place of the one at a position that there is."""
        number, offset = self._find(position)
        elements = self._elements(number)
        elements[offset] = element
        self._put(number, elements)

    def between(self, start: int, stop: int) -> list[bytes]:
        """The elements from `start` up to, without, `stop`; both within the nodes."""
        number, offset = self._find(start)
        found = self._elements(number)[offset : offset + stop - start]
        missing = stop - start - len(found)
        while missing > 0:
            number += 1
            elements = self._elements(number)
            found += elements if len(elements) <= missing else elements[:missing]
            missing -= len(elements)
        return found

    def _find(self, position: int) -> tuple[int, int]:
        """The number of the node that holds a position, and the position in it."""
        places = self._places
        place = places[0] + position
        number = bisect_right(places, place) - 1
        return number, place - places[number]

    # -- content --------------------------------------------------------------------------------

    def holding(self, element: bytes, *, backwards: bool, reach: int) -> Iterator[tuple[int, int, list[bytes]]]:
        """The nodes that hold an element, among those of the first `reach` positions (or last, if backwards).

        Each comes as its number, its first position and its elements, a list that must not be changed.
        """
        nodes, places = self._nodes, self._places
        pattern = _encode(element)
        count = len(nodes)
        for number in range(count - 1, -1, -1) if backwards else range(count):
            if (places[-1] - places[number + 1] if backwards else places[number] - places[0]) >= reach:
                return
            node = nodes[number]
            # In packed form the bytes may also turn up where no element begins.
            if (element if node.__class__ is tuple else pattern) in node:  # type: ignore[operator]
                elements = self._elements(number)
                if element in elements:
                    yield number, places[number] - places[0], elements

    def replace(self, contents: dict[int, list[bytes]]) -> None:
        """Gives nodes other elements, or none; takes them by their number."""
        if len(contents) == 1:
            [(number, elements)] = contents.items()
            self._put(number, elements)
            return
        nodes: list[Node] = []
        lengths: list[int] = []
        for number, node in enumerate(self._nodes):
            if number not in contents:
                nodes.append(node)
                lengths.append(self._places[number + 1] - self._places[number])
                continue
            elements = contents[number]
            if lengths and lengths[-1] + len(elements) <= LIST_NODE_ELEMENTS:
                lengths.pop()
                elements = self._owned(nodes.pop()) + elements
            if elements:
                nodes.append(_packed(elements))
                lengths.append(len(elements))
        self._nodes = nodes
        self._places = list(accumulate(lengths, initial=self._places[0]))

    def _put(self, number: int, elements: list[bytes]) -> None:
        """Gives one node other elements, or none."""
        places = self._places
        grown = len(elements) - (places[number + 1] - places[number])
        if grown > 0 and len(elements) > 2 * LIST_NODE_ELEMENTS:
            self._split(number, elements)
            elements = elements[:LIST_NODE_ELEMENTS]
        if 
