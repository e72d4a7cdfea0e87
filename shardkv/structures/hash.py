"""Hashes: fields with values, each of which may have a deadline of its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from random import choices, sample
from typing import Any, ClassVar, Self

import msgspec

from shardkv import limits
from shardkv.structures.field_deadlines import FieldDeadlines
from shardkv.structures.hashtable import PIECE_KEYS, HashTable
from shardkv.values import Collection, Packed

LISTPACK, LISTPACK_EX, HASHTABLE = ENCODINGS = ("listpack", "listpackex", "hashtable")


class PackedHash(Packed):
    """In MessagePack: the number of the encoding, the fields with their values, the deadlines."""

    __slots__ = ()


class Hash(HashTable[bytes], Collection):
    """The fields are the keys of a hash table.

    A field whose deadline has passed stays until somebody removes it. What takes the time, `now_ms`, leaves
    such fields out; all else does not.

    `form` is the encoding that Redis 8.2 would have given the hash by now: one that was converted to another
    keeps it when it shrinks, or when its deadlines are gone.
    """

    __slots__ = ("deadlines", "form")

    type_name: ClassVar[str] = "hash"
    packed_kind: ClassVar[type[Packed]] = PackedHash

    def __init__(self, form: str = LISTPACK, fields: dict[bytes, bytes] | None = None) -> None:
        """Takes what is in it at first, in any number."""
        fit = fields is None or len(fields) <= PIECE_KEYS
        HashTable.__init__(self, fields if fit else None)
        self.form = form
        self.deadlines: FieldDeadlines | None = None
        """None if no field has any."""
        if fields is not None and not fit:
            self._insert(list(chain.from_iterable(fields.items())))

    @classmethod
    def of(cls, pairs: list[bytes], config: Any) -> Self:
        """The hash that setting fields makes of nothing: field, value, field, value …"""
        if len(pairs) > 2 * PIECE_KEYS:
            made = cls()
            made.put(pairs, config)
        else:
            made = cls(fields=dict(zip(pairs[::2], pairs[1::2], strict=True)))
            made._grow(pairs, config)
        return made

    # -- one field --------------------------------------------------------------------------------

    def get(self, field: bytes, now_ms: int) -> bytes | None:
        """The value of a field; None if there is no such field."""
        value = self.pieces[hash(field) >> self.shift].get(field)
        return None if self.deadlines is not None and self.has_expired(field, now_ms) else value

    def has_expired(self, field: bytes, now_ms: int) -> bool:
        """Whether a field has a deadline that has passed."""
        if self.deadlines is None:
            return False
        at_ms = self.deadlines.get(field)
        return at_ms is not None and at_ms <= now_ms

    def deadline(self, field: bytes) -> int | None:
        """The deadline of a field, in ms since 1970; None if it has none."""
        return None if self.deadlines is None else self.deadlines.get(field)

    def set_deadline(self, field: bytes, at_ms: int) -> None:
        """Gives a field that is there a deadline, in ms since 1970."""
        self.prepare_for_deadlines()
        if self.deadlines is None:
            self.deadlines = FieldDeadlines()
        self.deadlines.set(field, at_ms)

    def persist(self, field: bytes) -> bool:
        """Takes a field's deadline away; whether it had one."""
        deadlines = self.deadlines
        if deadlines is None or not deadlines.discard(field):
            return False
        if not deadlines.count:
            self.deadlines = None
        return True

    # -- several fields ---------------------------------------------------------------------------

    def put(self, pairs: list[bytes], config: Any) -> int:
        """Sets fields: field, value, field, value …; returns how many of them are new. Deadlines stay."""
        added = self._insert(pairs)
        if self.form is not HASHTABLE:
            self._grow(pairs, config)
        return added

    def _grow(self, pairs: list[bytes], config: Any) -> None:
        """Takes another encoding if fields that were set are too many or too long for the one it has."""
        most, longest = config.hash_max_listpack_entries, config.hash_max_listpack_value
        if self.count > most or len(pairs) > 2 * most or max(map(len, pairs), default=0) > longest:
            self.form = HASHTABLE

    def _insert(self, pairs: list[bytes]) -> int:
        before = self.count
        for place in range(0, len(pairs), 2):
            field = pairs[place]
            piece = self.pieces[hash(field) >> self.shift]
            if self._shared:
                piece = self.piece_to_change(field)
            length = len(piece)
            piece[field] = pairs[place + 1]
            if len(piece) > length:
                self.added(field, piece)
        return self.count - before

    def discard(self, fields: list[bytes]) -> int:
        """Removes fields, with their deadlines; returns how many of them there were."""
        before = self.count
        for field in fields:
            piece = self.pieces[hash(field) >> self.shift]
            if field in piece:
                if self._shared:
                    piece = self.piece_to_change(field)
                del piece[field]
                self.removed(field, piece)
                if self.deadlines is not None:
                    self.persist(field)
        return before - self.count

    # -- all fields -------------------------------------------------------------------------------

    def expired_count(self, now_ms: int) -> int:
        """How many of the fields have expired."""
        return 0 if self.deadlines is None else self.deadlines.due_count(now_ms)

    def expired(self, now_ms: int, most: int) -> list[bytes]:
        """Fields that have expired, so many at most."""
        return [] if self.deadlines is None else self.deadlines.due(now_ms, most)

    def live(self, now_ms: int) -> list[dict[bytes, bytes]]:
        """The fields and their values, in some pieces, which the caller does not change."""
        pieces = self.pieces if len(self.pieces) == 1 else self.distinct_pieces()
        if self.deadlines is not None and (expired := set(self.expired(now_ms, self.count))):
            return [
                {field: value for field, value in piece.items() if field not in expired} for piece in pieces
            ]
        return pieces

    def choose(self, count: int, now_ms: int) -> list[bytes]:
        """So many different fields at random, or all if there are no more."""
        live = self.count - self.expired_count(now_ms)
        if count >= live:
            return list(chain.from_iterable(self.live(now_ms)))
        if count * 3 > live or live * 2 < self.count:
            return sample(list(chain.from_iterable(self.live(now_ms))), count)
        chosen: dict[bytes, None] = {}
        while len(chosen) < count:
            chosen[self._draw(now_ms)] = None
        return list(chosen)

    def draw_several(self, count: int, now_ms: int) -> list[bytes]:
        """So many fields at random, any of them perhaps several times; none if there are none."""
        live = self.count - self.expired_count(now_ms)
        if not live:
            return []
        if count > live or live * 2 < self.count:
            return choices(list(chain.from_iterable(self.live(now_ms))), k=count)  # noqa: S311
        return [self._draw(now_ms) for _ in range(count)]

    def _draw(self, now_ms: int) -> bytes:
        """A field at random, from a hash of which not many have expired."""
        while True:
            field = self.draw()
            if self.deadlines is None or not self.has_expired(field, now_ms):
                return field

    # -- as a value -------------------------------------------------------------------------------

    def encoding(self, config: Any) -> str:
        return self.form

    def prepare_for_deadlines(self) -> None:
        """Takes the encoding that has room for deadlines."""
        if self.form is LISTPACK:
            self.form = LISTPACK_EX

    def commands(self, key: bytes) -> Iterator[list[bytes]]:
        rest = chain.from_iterable(piece.items() for piece in self.distinct_pieces())
        while some := list(islice(rest, limits.HASH_REQUEST_FIELDS)):
            yield [b"HSET", key, *chain.from_iterable(some)]
            if self.deadlines is not None:
                yield from self.deadline_commands(key, [field for field, _ in some])

    def deadline_commands(self, key: bytes, fields: list[bytes]) -> Iterator[list[bytes]]:
        """Requests that give such of these fields as have a deadline the same again."""
        fields_by_deadline: dict[int, dict[bytes, None]] = {}
        for field in fields:
            at_ms = self.deadline(field)
            if at_ms is not None:
                fields_by_deadline.setdefault(at_ms, {})[field] = None
        for at_ms, found in fields_by_deadline.items():
            yield [b"HPEXPIREAT", key, b"%d" % at_ms, b"FIELDS", b"%d" % len(found), *found]

    def copy(self) -> Self:
        made = super().copy()
        made.form = self.form
        made.deadlines = None if self.deadlines is None else self.deadlines.copy()
        return made

    def shed(self, count: int) -> None:
        before = self.count
        super().shed(count)
        if self.deadlines is not None:
            self.deadlines.shed(before - self.count)

    def pack(self) -> PackedHash | None:
        if self.count > limits.HASH_PACKED_FIELDS:
            return None
        fields, deadlines = merged(self.distinct_pieces()), None
        if self.deadlines is not None:
            deadlines = merged(self.deadlines.distinct_pieces())
        packed = _encode((ENCODINGS.index(self.form), fields, deadlines))
        return PackedHash(packed) if len(packed) <= limits.HASH_PACKED_BYTES else None

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        form, fields, deadlines = _decode(packed)
        made = cls(ENCODINGS[form], fields)
        if deadlines is not None:
            made.deadlines = FieldDeadlines(deadlines)
        return made


PackedHash.kind = Hash

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, dict[bytes, bytes], dict[bytes, int] | None]).decode


def merged(pieces: list[dict[bytes, Any]]) -> dict[bytes, Any]:
    """One dict of all pieces, which the caller does not change."""
    if len(pieces) == 1:
        return pieces[0]
    found: dict[bytes, Any] = {}
    for piece in pieces:
        found.update(piece)
    return found
