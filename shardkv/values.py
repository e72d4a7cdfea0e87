"""What a key can hold.

A string is plain `bytes`; an `int` once INCR and the like have counted with it; a `bytearray` once APPEND, SETRANGE or
SETBIT has changed it in place (what Redis calls the encoding `raw`). Only this module and the doors of the keyspace
know the three; commands see bytes. Every other type is a class of its own that derives from `Collection`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

from shardkv.numbers import canonical_integer

EMBEDDED_STRING_BYTES = 44
"""The longest string that Redis stores in one piece with its object header (OBJ_ENCODING_EMBSTR_SIZE_LIMIT)."""


class Collection(ABC):
    """A value with elements. An empty one is never stored: its key goes with its last element."""

    __slots__ = ()

    type_name: ClassVar[str]
    """What TYPE answers."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of elements."""

    @abstractmethod
    def encoding(self, config: Any) -> str:
        """What OBJECT ENCODING answers: what Redis would choose for this content and these settings."""

    @abstractmethod
    def commands(self, key: bytes) -> Iterator[list[bytes]]:
        """Requests that build the value anew under `key`, none of them with more than a few hundred elements."""

    @abstractmethod
    def copy(self) -> Collection:
        """A value of its own with the same content."""


Value = bytes | int | bytearray | Collection


def is_string(value: Value) -> bool:
    return not isinstance(value, Collection)


def type_name(value: Value) -> str:
    """What TYPE answers for a value."""
    return value.type_name if isinstance(value, Collection) else "string"


def encoding(value: Value, config: Any) -> str:
    """What OBJECT ENCODING answers for a value."""
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


def recreate(key: bytes, value: Value, expire_at_ms: int | None) -> Iterator[list[bytes]]:
    """Requests that build a key anew from nothing, with its expiry time: what a rewritten AOF holds, and what
    travels when a key goes to another shard."""
    if isinstance(value, Collection):
        yield from value.commands(key)
        if expire_at_ms is not None:
            yield [b"PEXPIREAT", key, b"%d" % expire_at_ms]
        return
    text = b"%d" % value if isinstance(value, int) else bytes(value)
    if expire_at_ms is not None:
        yield [b"SET", key, text, b"PXAT", b"%d" % expire_at_ms]
    else:
        yield [b"SET", key, text]
