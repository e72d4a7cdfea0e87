"""What a key can hold.

A string is plain `bytes`; an `int` once INCR and the like have counted with it; a `bytearray` once APPEND,
SETRANGE or SETBIT has changed it in place (what Redis calls the encoding `raw`). Only this module and the
doors of the keyspace know the three; commands see bytes. Every other type is a class of its own that derives
from `Collection`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from shardkv.numbers import canonical_integer

EMBEDDED_STRING_BYTES = 44
"""The longest string that Redis stores in one piece with its object header
(OBJ_ENCODING_EMBSTR_SIZE_LIMIT)."""


class Collection(ABC):
    """A value with elements. An empty one is never stored: its key goes with its last element."""

    __slots__ = ()

    type_name: ClassVar[str]
    """What TYPE answers."""

    packed_kind: ClassVar[type[Packed] | None] = None
    """The subclass of Packed for this type, if small ones can be packed."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of elements."""

    @abstractmethod
    def encoding(self, config: Any) -> str:
        """What OBJECT ENCODING answers: what Redis would choose for this content and these settings."""

    @abstractmethod
    def commands(self, key: bytes) -> Iterator[list[bytes]]:
        """Requests that build the value anew under `key`, none of them with more than a few hundred
        elements."""

    @abstractmethod
    def copy(self) -> Collection:
        """A value of its own with the same content."""

    @abstractmethod
    def shed(self, count: int) -> None:
        """Frees about so many elements, of a collection that no key holds any more."""

    def pack(self) -> Packed | None:
        """The same in far less memory, for a small collection that nobody has touched for a while; None if it
        is too large for that."""
        return None

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        """The collection that `pack` has packed."""
        raise NotImplementedError


class Packed(bytes):
    """A small collection at rest: one piece of memory. The doors of the keyspace unpack it when it is
    touched.

    Each type of collection has a subclass of its own, which names it.
    """

    __slots__ = ()

    kind: ClassVar[type[Collection]]

    def unpacked(self) -> Collection:
        """The collection itself."""
        return self.kind.unpack(self)


Value = bytes | int | bytearray | Collection

LARGE_COLLECTION = 1000
"""A collection with more elements is copied, written and freed in slices."""


def unpacked(value: Value) -> Value:
    """The value itself, of one that may be packed."""
    return value.unpacked() if isinstance(value, Packed) else value


def is_string(value: Value) -> bool:
    return not isinstance(value, Collection | Packed)


def type_name(value: Value) -> str:
    """What TYPE answers for a value."""
    if isinstance(value, Packed):
        return value.kind.type_name
    return value.type_name if isinstance(value, Collection) else "string"


def encoding(value: Value, config: Any) -> str:
    """What OBJECT ENCODING answers for a value."""
    value = unpacked(value)
    if isinstance(value, Collection):
        return value.encoding(config)
    if isinstance(value, bytearray):
        return "raw"
    if isinstance(value, int):
        return "int"
    if canonical_integer(value) is not None:
        return "int"
    return "embstr" if len(value) <= EMBEDDED_STRING_BYTES else "raw"


def copy(value: Value) -> Value:
    """A value of its own with the same content."""
    return value if isinstance(value, bytes | int) else value.copy()


def string_bytes(value: Value) -> bytes:
    """The content of a string."""
    return b"%d" % value if isinstance(value, int) else bytes(value)  # type: ignore[arg-type]


def recreate(key: bytes, value: Value, expire_at_ms: int | None) -> Iterator[list[bytes]]:
    """Requests that build a key anew from nothing, with its expiry time: what a rewritten AOF holds, and what
    travels when a key goes to another shard."""
    value = unpacked(value)
    if isinstance(value, Collection):
        yield from value.commands(key)
        if expire_at_ms is not None:
            yield [b"PEXPIREAT", key, b"%d" % expire_at_ms]
        return
    text = string_bytes(value)
    if expire_at_ms is not None:
        yield [b"SET", key, text, b"PXAT", b"%d" % expire_at_ms]
    else:
        yield [b"SET", key, text]
