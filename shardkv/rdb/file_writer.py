"""Writing whole RDB files, key by key, from one shard or from many.

    header: REDIS and four digits, or VALKEY and three
    facts about the file, libraries of functions
    for each database: its number, its sizes; each key with its deadline, kind and value
    the end, and the CRC-64 of all before

`FileWriter` writes the frame and keeps the checksum. A key's record does not depend on what stands around it,
so shards can make theirs by `record` or `pieces` at the same time, and the writer puts them one after the
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import anycrc

from shardkv.rdb import encode, kinds, opcodes
from shardkv.rdb.writer import length, string
from shardkv.values import Value

DEFAULT_VERSION: Final = 9
"""What Redis since 5.0 reads, if nothing is in it that came later."""

VERSIONS: Final = (9, 10, 11, kinds.LATEST_OF_REDIS, kinds.VALKEY)
"""Those that can be written."""

_GATHERED_BYTES: Final = 64 * 1024

_checksum = anycrc.Model("CRC64-REDIS").calc


class NotRepresentable(ValueError):  # noqa: N818 - it says what is, not what went wrong here
    """A value has something that the version of the format has no form for; says what."""


def pieces(
    key: bytes, value: Value, expire_at_ms: int | None, version: int = DEFAULT_VERSION
) -> Iterator[bytes]:
    """The record of one key, bit by bit: of a large collection some elements each time it is asked.

    The value must not change meanwhile. `expire_at_ms` is in ms since 1970, None for never.

    Raises NotRepresentable at once: hashes with fields that expire need version 12 (Redis 7.4 and later) or
    80 (Valkey 9).
    """
    encoded = encode.value(value, version)
    if encoded.version != version:
        raise NotRepresentable(f"version {version} of the format has no fields that expire")
    head = bytes((encoded.kind,)) + string(key)
    if expire_at_ms is not None:
        head = bytes((opcodes.EXPIRE_MS,)) + expire_at_ms.to_bytes(8, "little", signed=True) + head
    return _gathered(head, iter(encoded.parts))


def record(key: bytes, value: Value, expire_at_ms: int | None, version: int = DEFAULT_VERSION) -> bytes:
    """The record of one key as a whole. Raises NotRepresentable as `pieces`."""
    return b"".join(pieces(key, value, expire_at_ms, version))


def _gathered(head: bytes, parts: Iterator[bytes]) -> Iterator[bytes]:
    """Parts put together to pieces of some size."""
    some = [head]
    size = len(head)
    for part in parts:
        some.append(part)
        size += len(part)
        if size >= _GATHERED_BYTES:
            yield b"".join(some)
            some, size = [], 0
    if some:
        yield b"".join(some)


class FileWriter:
    """Writes one file. To be called in this order: `begin`, `function` for each library, then for each
    database `select` and its keys by `key` or `records`, at last `end`.

    written    how many bytes were given to `write` so far
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        version: int = DEFAULT_VERSION,
        *,
        with_checksum: bool = True,
    ) -> None:
        """`write` takes the file's bytes, in order, some tens of KiB at a time, and must take all of them.
        Without a checksum there are zeros in its place.
        Raises ValueError for a version that is not one of `VERSIONS`."""
        if version not in VERSIONS:
            raise ValueError(f"version {version} of the format cannot be written")
        self.version = version
        self.written = 0
        self._write = write
        self._checksum = 0
        self._with_checksum = with_checksum
        self._waiting: list[bytes] = []
        self._size = 0

    def begin(self, aux: Mapping[str, str | int] | None = None) -> None:
        """The header and facts about the file, such as redis-ver, ctime (in s), used-mem (in bytes)."""
        magic = b"VALKEY%03d" if self.version == kinds.VALKEY else b"REDIS%04d"
        self.records(magic % self.version)
        for name, text in (aux or {}).items():
            self.records(bytes((opcodes.AUX,)) + string(name.encode()) + string(str(text).encode()))

    def function(self, code: bytes) -> None:
        """The code of a library of functions. Only Redis from 7.0 on and Valkey read a file with one,
        whatever its version is."""
        self.records(bytes((opcodes.FUNCTION,)) + string(code))

    def select(self, index: int, keys: int = 0, expires: int = 0) -> None:
        """The keys that follow belong to the database of that number. It has about so many keys, so many of
        them with deadlines: who reads the file makes room for them."""
        sizes = bytes((opcodes.RESIZE,)) + length(keys) + length(expires) if keys else b""
        self.records(bytes((opcodes.SELECT,)) + length(index) + sizes)

    def key(self, key: bytes, value: Value, expire_at_ms: int | None = None) -> None:
        """One key. Raises NotRepresentable as `pieces`; then nothing of it is written."""
        for piece in pieces(key, value, expire_at_ms, self.version):
            self.records(piece)

    def records(self, chunk: bytes) -> None:
        """Records of keys that were made elsewhere, or a part of one, for the same version."""
        self._waiting.append(chunk)
        self._size += len(chunk)
        if self._size >= _GATHERED_BYTES:
            self._flush()

    def end(self) -> None:
        """The end of the file. What was written is complete then; to make it durable is up to the caller."""
        self.records(bytes((opcodes.END,)))
        self._flush()
        checksum = self._checksum.to_bytes(8, "little")
        self._write(checksum)
        self.written += len(checksum)

    def _flush(self) -> None:
        chunk = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        if self._with_checksum:
            self._checksum = _checksum(chunk, self._checksum)
        self._write(chunk)
        self.written += len(chunk)
