"""The inner part of a long list: nodes of some hundred elements, each packed into one piece of memory.

A node is MessagePack; where elements are large, and packing them would gain nothing but cost copies, it is a
tuple. Either way a node is never changed but replaced, so that copies of a list share them.

Each node's place is kept as a number that does not change when elements come and go at the ends: the first
node's may be negative. A position is therefore found by one binary search, and only what changes the length
of a node somewhere inside has to move the places on its shorter side.
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


def _unpacked(node: Node) -> list[bytes]:
    return list(node) if isinstance(node, tuple) else _decode(node)


class ListNodes:
    """Some nodes side by side, none of them empty. Positions count elements, from the first one's 0."""

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
        """The elements, a node at a time."""
        return map(_unpacked, self._nodes)

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
        """Takes the first node out; returns its elements."""
        del self._places[0]
        return _unpacked(self._nodes.pop(0))

    def pop_last(self) -> list[bytes]:
        """Takes the last node out; returns its elements."""
        del self._places[-1]
        return _unpacked(self._nodes.pop())

    def drop_first(self, count: int) -> list[bytes]:
        """Drops fewer elements than there are, in front. Where that ends inside a node, takes the node out
        and returns what is left of it."""
        number, offset = self._find(count)
        rest = self._elements(number)[offset:] if offset else []
        number += offset > 0
        del self._nodes[:number], self._places[:number]
        return rest

    def drop_last(self, count: int) -> list[bytes]:
        """Drops fewer elements than there are, behind. Where that ends inside a node, takes the node out and
        returns what is left of it."""
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
        """Puts an element in the place of another, at a position that there is."""
        number, offset = self._find(position)
        elements = self._elements(number)
        elements[offset] = element
        self._put(number, elements)

    def between(self, start: int, stop: int) -> list[bytes]:
        """The elements from `start`, which there is, up to `stop`, which is not among them."""
        number, offset = self._find(start)
        found = self._elements(number)[offset : offset + stop - start]
        while len(found) < stop - start:
            number += 1
            found += self._elements(number)[: stop - start - len(found)]
        return found

    def _find(self, position: int) -> tuple[int, int]:
        """The number of the node that holds a position, and the position in it."""
        places = self._places
        place = places[0] + position
        number = bisect_right(places, place) - 1
        return number, place - places[number]

    def _elements(self, number: int) -> list[bytes]:
        """The elements of a node: not to be changed, unless they are put back."""
        node = self._nodes[number]
        if node is not self._opened_node:
            self._opened = _unpacked(node)
            self._opened_node = node
        return self._opened

    # -- content --------------------------------------------------------------------------------

    def holding(self, element: bytes, reach: int, *, backwards: bool) -> Iterator[tuple[int, list[bytes]]]:
        """The elements of nodes that hold one, with the position of the first; not to be changed. Forwards
        from the first node, or backwards from the last; only of nodes that hold some of the `reach` first
        elements this way."""
        for number in self._numbers_holding(element, reach, backwards=backwards):
            yield self._places[number] - self._places[0], self._elements(number)

    def insert(self, pivot: bytes, element: bytes, *, after: bool) -> bool:
        """Puts an element before or after the first `pivot`; whether there was one."""
        number = next(self._numbers_holding(pivot, len(self), backwards=False), None)
        if number is None:
            return False
        elements = self._elements(number)
        elements.insert(elements.index(pivot) + after, element)
        self._put(number, elements)
        return True

    def remove(self, element: bytes, most: int, *, backwards: bool) -> int:
        """Takes out an element, `most` times at most, the first ones or the last ones; returns how often."""
        removed = 0
        contents = {}
        for number in self._numbers_holding(element, len(self), backwards=backwards):
            contents[number] = elements = self._elements(number).copy()
            removed += remove(elements, element, most - removed, backwards=backwards)
            if removed == most:
                break
        if len(contents) == 1:
            self._put(number, elements)
        elif contents:
            self._put_all(contents)
        return removed

    def _numbers_holding(self, element: bytes, reach: int, *, backwards: bool) -> Iterator[int]:
        nodes, places = self._nodes, self._places
        pattern = _encode(element)
        count = len(nodes)
        for number in range(count - 1, -1, -1) if backwards else range(count):
            if (places[-1] - places[number + 1] if backwards else places[number] - places[0]) >= reach:
                return
            node = nodes[number]
            if isinstance(node, tuple):
                if element in node:
                    yield number
            # In a packed node the pattern may also turn up where no element begins.
            elif pattern in node and element in self._elements(number):
                yield number

    def _put(self, number: int, elements: list[bytes]) -> None:
        """Gives a node other elements, or none."""
        nodes, places = self._nodes, self._places
        grown = len(elements) - (places[number + 1] - places[number])
        if grown and number < len(nodes) // 2:
            places[: number + 1] = [place - grown for place in places[: number + 1]]
        elif grown:
            places[number + 1 :] = [place + grown for place in places[number + 1 :]]
        pieces = _pieces(elements)
        nodes[number : number + 1] = map(_packed, pieces)
        places[number : number + 2] = accumulate(map(len, pieces), initial=places[number])
        if len(pieces) == 1:
            self._opened_node, self._opened = nodes[number], elements
            if grown < 0 and number:
                self._join(number)

    def _join(self, number: int) -> None:
        """Joins a node with the one before it, if both are short."""
        nodes, places = self._nodes, self._places
        if places[number + 1] - places[number - 1] <= LIST_NODE_ELEMENTS // 2:
            nodes[number - 1 : number + 1] = [_packed(self._elements(number - 1) + self._elements(number))]
            del places[number]

    def _put_all(self, contents: dict[int, list[bytes]]) -> None:
        """Gives many nodes fewer elements than they have, or none; takes these by the nodes' numbers."""
        nodes: list[Node] = []
        lengths: list[int] = []
        for number, node in enumerate(self._nodes):
            elements = contents.get(number)
            if elements is None:
                nodes.append(node)
                lengths.append(self._places[number + 1] - self._places[number])
            elif not elements:
                continue
            elif lengths and lengths[-1] + len(elements) <= LIST_NODE_ELEMENTS // 2:
                nodes[-1] = _packed(_unpacked(nodes[-1]) + elements)
                lengths[-1] += len(elements)
            else:
                nodes.append(_packed(elements))
                lengths.append(len(elements))
        self._nodes = nodes
        self._places = list(accumulate(lengths, initial=0))


def _pieces(elements: list[bytes]) -> list[list[bytes]]:
    """The elements as the nodes that they are enough for: none, one or two."""
    if len(elements) > 2 * LIST_NODE_ELEMENTS:
        return [elements[:LIST_NODE_ELEMENTS], elements[LIST_NODE_ELEMENTS:]]
    return [elements] if elements else []


def remove(elements: list[bytes], element: bytes, most: int, *, backwards: bool) -> int:
    """As `ListNodes.remove`, of a plain list."""
    found = elements.count(element)
    if found <= most:
        if found:
            elements[:] = [other for other in elements if other != element]
        return found
    if backwards:
        elements.reverse()
    for _ in range(most):
        elements.remove(element)
    if backwards:
        elements.reverse()
    return most
