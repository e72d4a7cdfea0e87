"""When the fields of a hash expire."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import Any, Self

from sortedcontainers import SortedList

from shardkv.structures.hashtable import PIECE_KEYS, HashTable

NEVER_MS = 1 << 63
"""Later than any deadline."""


class FieldDeadlines(HashTable[int]):
    """The deadlines of those fields of one hash that have any, in ms since 1970.

    Beside the table by field there is a list of (deadline, field) in order. A copy, which most often is only
    written to a log, gets its list when it first needs one.
    """

    __slots__ = ("_order", "first_ms")

    def __init__(self, deadlines: dict[bytes, int] | None = None) -> None:
        """Takes what is there at first, in any number."""
        deadlines = {} if deadlines is None else deadlines
        fit = len(deadlines) <= PIECE_KEYS
        HashTable.__init__(self, deadlines if fit else None)
        self._order: Any = None if deadlines else SortedList()
        self.first_ms = min(deadlines.values(), default=NEVER_MS)
        """No deadline is before this."""
        if not fit:
            for field, at_ms in deadlines.items():
                self.set(field, at_ms)

    def get(self, field: bytes) -> int | None:
        """A field's deadline; None if it has none."""
        return self.pieces[hash(field) >> self.shift].get(field)

    def set(self, field: bytes, at_ms: int) -> None:
        """Gives a field a deadline, in place of any it had."""
        piece = self.piece_to_change(field)
        old_ms = piece.get(field)
        piece[field] = at_ms
        if old_ms is None:
            self.added(field, piece)
        if self._order is not None:
            if old_ms is not None:
                self._order.remove((old_ms, field))
            self._order.add((at_ms, field))
        if at_ms < self.first_ms:
            self.first_ms = at_ms

    def discard(self, field: bytes) -> bool:
        """Takes a field's deadline away; whether it had one."""
        if field not in self:
            return False
        piece = self.piece_to_change(field)
        at_ms = piece.pop(field)
        self.removed(field, piece)
        if self._order is not None:
            self._order.remove((at_ms, field))
        return True

    def due(self, now_ms: int, most: int) -> list[bytes]:
        """Fields whose deadline has passed, the earliest first, so many at most."""
        if now_ms < self.first_ms:
            return []
        return [
            field for _, field in takewhile(lambda pair: pair[0] <= now_ms, islice(self._in_order(), most))
        ]

    def due_count(self, now_ms: int) -> int:
        """How many deadlines have passed."""
        if now_ms < self.first_ms:
            return 0
        return int(self._in_order().bisect_left((now_ms + 1,)))

    def _in_order(self) -> Any:
        if self._order is None:
            pairs = ((at_ms, field) for piece in self.distinct_pieces() for field, at_ms in piece.items())
            self._order = SortedList(pairs)
        self.first_ms = self._order[0][0] if self._order else NEVER_MS
        return self._order

    def copy(self) -> Self:
        made = super().copy()
        made._order = None
        made.first_ms = self.first_ms
        return made

    def shed(self, count: int) -> None:
        super().shed(count)
        if self._order is not None:
            del self._order[self.count :]
