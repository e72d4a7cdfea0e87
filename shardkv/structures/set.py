"""Sets: members without order, each once."""

from __future__ import annotations

from collections.abc import Collection as Members
from collections.abc import Iterable, Iterator
from itertools import islice
from random import sample
from typing import Any, ClassVar, Self

import msgspec

from shardkv import limits
from shardkv.numbers import canonical_integer
from shardkv.structures.hashtable import PIECE_KEYS, HashTable
from shardkv.values import Collection, Packed

INTSET, LISTPACK, HASHTABLE = ENCODINGS = ("intset", "listpack", "hashtable")


class PackedSet(Packed):
    """The number of its encoding, one byte, and the members in MessagePack: of an intset as integers."""

    __slots__ = ()


class Set(HashTable[None], Collection):
    """The members are the keys of a hash table.

    `form` is the encoding that Redis would have given the set by now: a set that was converted to a larger
    one keeps it when it shrinks.
    """

    __slots__ = ("form",)

    type_name: ClassVar[str] = "set"
    packed_kind: ClassVar[type[Packed]] = PackedSet

    def __init__(self, form: str = INTSET, members: Members[bytes] = ()) -> None:
        fit = len(members) <= PIECE_KEYS
        super().__init__(dict.fromkeys(members) if fit else None)
        self.form = form
        if not fit:
            self._insert(members)

    @classmethod
    def of(cls, members: list[bytes], config: Any) -> Self:
        """The set that adding members (one at least, perhaps some of them twice) to nothing makes."""
        if len(members) <= config.set_max_intset_entries and _is_integer(members[0]):
            form = INTSET
        else:
            form = LISTPACK if len(members) <= config.set_max_listpack_entries else HASHTABLE
        made = cls(form, members)
        if form is not HASHTABLE:
            made._convert(members, made.count, config)
        return made

    @classmethod
    def holding(cls, members: Members[bytes], config: Any) -> Self:
        """The set of those members, each given once, in the smallest encoding."""
        return cls(_smallest_form(members, members, config), members)

    # -- members ----------------------------------------------------------------------------------

    def add(self, members: list[bytes], config: Any) -> int:
        """Adds members; returns how many of them are new."""
        added = self._insert(members)
        if self.form is not HASHTABLE and (added or len(members) > 1):
            self._convert(members, added, config)
        return added

    def _insert(self, members: Iterable[bytes]) -> int:
        before = self.count
        for member in members:
            piece = self.pieces[hash(member) >> self.shift]
            if member not in piece:
                if self._shared:
                    piece = self.piece_to_change(member)
                piece[member] = None
                self.added(member, piece)
        return self.count - before

    def discard(self, members: Iterable[bytes]) -> int:
        """Removes members; returns how many of them there were."""
        before = self.count
        for member in members:
            piece = self.pieces[hash(member) >> self.shift]
            if member in piece:
                if self._shared:
                    piece = self.piece_to_change(member)
                del piece[member]
                self.removed(member, piece)
        return before - self.count

    def pop(self) -> bytes:
        """Removes a member at random; returns it."""
        member = self.draw()
        self.discard((member,))
        return member

    def choose(self, count: int) -> list[bytes]:
        """So many different members at random."""
        if count * 3 > self.count:
            return sample(list(self), count)
        chosen: dict[bytes, None] = {}
        while len(chosen) < count:
            chosen[self.draw()] = None
        return list(chosen)

    def reduced_to(self, members: list[bytes], config: Any) -> Self:
        """The set of a few of the members, in the encoding that Redis gives to what SPOP leaves."""
        form = self.form
        if form is HASHTABLE and _fits_listpack(members, members, config):
            form = LISTPACK
        return type(self)(form, members)

    # -- encodings --------------------------------------------------------------------------------

    def encoding(self, config: Any) -> str:
        return self.form

    def _convert(self, given: list[bytes], added: int, config: Any) -> None:
        """Changes the encoding to what it is after some members were given to be added, and so many were."""
        if self.form is INTSET:
            if len(given) > config.set_max_intset_entries:
                self.form = HASHTABLE
            elif added:
                self.form = _smallest_form(self, given, config)
        elif len(given) > config.set_max_listpack_entries or (
            added and not _fits_listpack(self, given, config)
        ):
            self.form = HASHTABLE

    def commands(self, key: bytes) -> Iterator[list[bytes]]:
        return requests(b"SADD", key, self)

    def copy(self) -> Self:
        made = super().copy()
        made.form = self.form
        return made

    # -- at rest ----------------------------------------------------------------------------------

    def pack(self) -> PackedSet | None:
        if self.count > limits.SET_PACKED_MEMBERS:
            return None
        members = list(map(int, self)) if self.form is INTSET else list(self)
        packed = bytes((ENCODINGS.index(self.form),)) + _encode(members)
        return PackedSet(packed) if len(packed) <= limits.SET_PACKED_BYTES else None

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        form = ENCODINGS[packed[0]]
        members = _decode(memoryview(packed)[1:])
        return cls(form, [b"%d" % member for member in members] if form is INTSET else members)


PackedSet.kind = Set

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode


def _smallest_form(members: Members[bytes], given: Members[bytes], config: Any) -> str:
    """The encoding of members that were all integers before the given ones came."""
    if len(members) > max(config.set_max_intset_entries, config.set_max_listpack_entries):
        return HASHTABLE
    if all(map(_is_integer, given)):
        return INTSET if len(members) <= config.set_max_intset_entries else HASHTABLE
    return LISTPACK if _fits_listpack(members, members, config) else HASHTABLE


def _fits_listpack(members: Members[bytes], given: Members[bytes], config: Any) -> bool:
    """Whether members have room in a listpack, of which only the given ones may be too long."""
    most: int = config.set_max_listpack_entries
    longest: int = config.set_max_listpack_value
    return len(members) <= most and max(map(len, given)) <= longest


def _is_integer(member: bytes) -> bool:
    return (member.isdigit() or member[:1] == b"-") and canonical_integer(member) is not None


def requests(name: bytes, key: bytes, members: Iterable[bytes]) -> Iterator[list[bytes]]:
    """SADD or SREM requests for members of which there may be many."""
    rest = iter(members)
    while some := list(islice(rest, limits.SET_REQUEST_MEMBERS)):
        yield [name, key, *some]
