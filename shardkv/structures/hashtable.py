"""A dict that is cut into small pieces by the hash of its keys.

What a large dict does all at once happens here piece by piece: it grows, shrinks, is copied and freed
without a pause. And it has what a dict lacks: a key at random, each as likely as any other, and places that
stay valid for a scan however the table changes meanwhile.

This is extendible hashing (Fagin, Nievergelt, Pippenger and Strong, 1979). The first bits of a key's hash are
the number of its entry in a directory of pieces, which has a power of two of them. A piece that gets too
large is cut in two by the next bit of the hash. While a piece has been cut by fewer bits than others, several
entries in a row hold it; when one with a single entry is to be cut, the directory is doubled. Two halves with
few keys are joined again.

Processes that are forked from the same one hash alike, so places even outlive the process that gave them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from random import random
from typing import Generic, Self, TypeVar

V = TypeVar("V")

PIECE_KEYS = 85
"""Keys of a piece at most: what a dict of CPython holds in 128 places."""

_FEW_KEYS = PIECE_KEYS // 4
"""A piece with at most so many keys is joined with its other half, if both have at most twice as many."""

_HASH_BITS = 64
_PLACE_BITS = 48
"""Bits of a hash that a place for scans consists of: every language has integers for them."""

_KEYS_PER_ENTRY = 4
"""The directory is not doubled for fewer keys an entry. Without an enemy who knows the hashes there are ten
times as many."""


class HashTable(Generic[V]):
    """Values by their keys, in pieces.

    Whoever reads looks into `pieces[hash(key) >> shift]`. (Python's hashes are signed. Those below 0 count
    from the end of the directory, and so the entries are in the order of the hashes taken as unsigned.)
    Whoever writes changes what `piece_to_change` gives, and calls `added` or `removed` after it.
    """

    __slots__ = ("_depths", "_most", "_shared", "count", "pieces", "shift")

    def __init__(self, piece: dict[bytes, V] | None = None) -> None:
        """Takes what is in the table at first, not more than PIECE_KEYS."""
        piece = {} if piece is None else piece
        self.pieces = [piece]
        self.shift = _HASH_BITS
        """64 less the bits of an entry's number."""
        self.count = len(piece)
        """The number of keys."""
        self._depths: bytes | bytearray = b"\0"
        """By how many bits the piece of each entry was cut."""
        self._most = PIECE_KEYS
        """No piece has more keys."""
        self._shared: set[int] | None = None
        """The ids of the pieces that a copy of this table has as well."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[bytes]:
        if len(self.pieces) == 1:
            return iter(self.pieces[0])
        return chain.from_iterable(self.distinct_pieces())

    def __contains__(self, key: object) -> bool:
        return key in self.pieces[hash(key) >> self.shift]

    def distinct_pieces(self) -> list[dict[bytes, V]]:
        """Every piece once, in the order of the hashes."""
        befores = [None, *self.pieces]
        return [piece for piece, before in zip(self.pieces, befores, strict=False) if piece is not before]

    # -- changing -------------------------------------------------------------------------------
    def piece_to_change(self, key: bytes) -> dict[bytes, V]:
        """The piece that a key is in or belongs in, not shared with any copy of the table."""
        piece = self.pieces[hash(key) >> self.shift]
        if self._shared and id(piece) in self._shared:
            self._shared.remove(id(piece))
            piece = piece.copy()
            start, span = self._entries(key)
            self.pieces[start : start + span] = [piece] * span
        return piece

    def added(self, key: bytes, piece: dict[bytes, V]) -> None:
        """A key was added to a piece."""
        self.count += 1
        if len(piece) > self._most:
            self._cut(key)

    def removed(self, key: bytes, piece: dict[bytes, V]) -> None:
        """A key was removed from a piece."""
        self.count -= 1
        if len(piece) <= _FEW_KEYS and self.shift < _HASH_BITS:
            self._join(key)

    def _entries(self, key: bytes) -> tuple[int, int]:
        """The first entry of a key's piece, and how many it has."""
        index = (hash(key) >> self.shift) % len(self.pieces)
        span = 1 << (_HASH_BITS - self.shift - self._depths[index])
        return index & -span, span

    def _place(self, piece: dict[bytes, V], depth: int, start: int, span: int) -> None:
        """Puts a new piece, cut by so many bits, into entries."""
        self.pieces[start : start + span] = [piece] * span
        self._depths[start : start + span] = bytes((depth,)) * span  # type: ignore[index]

    def _cut(self, key: bytes) -> None:
        """Cuts in two the piece a key was added to."""
        start, span = self._entries(key)
        if span == 1:
            if len(self.pieces) * _KEYS_PER_ENTRY > self.count:
                self._most *= 2
                return
            self._double()
            start, span = start * 2, 2
        piece, depth = self.pieces[start], self._depths[start] + 1
        bit = _HASH_BITS - depth
        low: dict[bytes, V] = {}
        high: dict[bytes, V] = {}
        for each, value in piece.items():
            if hash(each) >> bit & 1:
                high[each] = value
            else:
                low[each] = value
        self._place(low, depth, start, span // 2)
        self._place(high, depth, start + span // 2, span // 2)
        if not (low and high):
            self._cut(key)

    def _double(self) -> None:
        """Doubles the directory."""
        pieces, depths = self.pieces * 2, bytearray(self._depths * 2)
        pieces[::2] = pieces[1::2] = self.pieces
        depths[::2] = depths[1::2] = self._depths
        self.pieces, self._depths = pieces, depths
        self.shift -= 1

    def _join(self, key: bytes) -> None:
        """Joins a key's piece with its other half as long as there are few keys in both."""
        while self.shift < _HASH_BITS:
            start, span = self._entries(key)
            depth = self._depths[start]
            lower, upper = start & ~span, start | span
            low, high = self.pieces[lower], self.pieces[upper]
            if self._depths[lower] != self._depths[upper] or len(low) + len(high) > 2 * _FEW_KEYS:
                return
            if self._shared:
                self._shared -= {id(low), id(high)}
            self._place(low | high, depth - 1, lower, 2 * span)
            while _HASH_BITS - self.shift not in self._depths:
                self.pieces, self._depths = self.pieces[::2], self._depths[::2]
                self.shift += 1

    # -- what a dict lacks ------------------------------------------------------------------------

    def draw(self) -> bytes:
        """A key at random, each as likely as any other. The table must not be empty."""
        pieces, most = self.pieces, self._most
        entries = len(pieces)
        if entries == 1:
            [piece] = pieces
            return next(islice(piece, int(random() * len(piece)), None))  # noqa: S311
        while True:
            # Each of `most` places in each entry is as likely, and those without a key are drawn in vain. Of
            # several entries that hold the same piece only the first counts.
            place = random() * entries  # noqa: S311
            index = int(place)
            offset = int((place - index) * most)
            piece = pieces[index]
            if offset < len(piece) and pieces[index - 1] is not piece:
                return next(islice(piece, offset, None))

    def scan(self, place: int, count: int) -> tuple[list[dict[bytes, V]], int]:
        """The next pieces, with at least `count` keys in sum, and the place after them: 0 after the last.

        place   0 at first, then what was returned. A key that is in the table throughout a scan is in one of
                its pieces at least, whatever else comes and goes.
        """
        pieces: list[dict[bytes, V]] = []
        end = 1 << _PLACE_BITS
        entry_bits = self.shift - (_HASH_BITS - _PLACE_BITS)
        while place < end and count > 0:
            index = place >> entry_bits
            piece = self.pieces[index]
            pieces.append(piece)
            count -= len(piece)
            piece_bits = _PLACE_BITS - self._depths[index]
            place = (place >> piece_bits) + 1 << piece_bits
        return pieces, place if place < end else 0

    def copy(self) -> Self:
        """A table of its own with the same keys and values.

        Large tables share their pieces until one of them is to change a piece.
        """
        other = type(self)()
        other.shift, other.count, other._most = self.shift, self.count, self._most
        other._depths = self._depths[:]
        if len(self.pieces) == 1:
            other.pieces = [self.pieces[0].copy()]
        else:
            other.pieces = self.pieces.copy()
            self._shared = set(map(id, self.pieces))
            other._shared = self._shared.copy()
        return other

    def shed(self, count: int) -> None:
        """Frees at least so many keys, of a table that is not used any more."""
        pieces = self.pieces
        freed = 0
        while pieces and freed < count:
            piece = pieces.pop()
            if not pieces or pieces[-1] is not piece:
                freed += len(piece)
        self.count -= freed
