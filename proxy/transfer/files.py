"""Putting keys into one file, which Redis loads: an RDB file, or an append-only file of all shards.

It is made beside, and gets its name when it is complete and on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from proxy.transfer.sources import Source
from shardkv import REDIS_VERSION, clock, limits
from shardkv.aof.record import START_OF_FILE, record
from shardkv.rdb.file_reader import Key, ValueRefused
from shardkv.rdb.file_writer import FileWriter, NotRepresentable
from shardkv.settings import Config
from shardkv.values import recreate


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of what is at a path when the block ends, unless by an exception. Raises
    OSError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class RdbFile:
    """An RDB file: a sink. To be ended by `finish`."""

    def __init__(self, write: Callable[[bytes], object], version: int) -> None:
        self._config: Any = Config()
        self._db: int | None = None
        self._writer = FileWriter(write, version)
        self._writer.begin(
            {"redis-ver": REDIS_VERSION, "redis-bits": 64, "ctime": clock.now_ms() // 1000, "aof-base": 0}
        )

    def owns(self, key: bytes) -> bool:
        """Every key belongs here."""
        return True

    def put(self, key: Key, source: Source) -> None:
        """Puts a key. Raises ValueRefused, OSError."""
        value = source.value(self._config)
        if key.db != self._db:
            self._db = key.db
            self._writer.select(key.db)
        try:
            self._writer.key(key.key, value, key.expire_at_ms)
        except NotRepresentable as refusal:
            raise ValueRefused(str(refusal)) from None

    def function(self, code: bytes) -> None:
        """Puts a library."""
        self._writer.function(code)

    def finish(self) -> None:
        """Ends the file. Raises OSError."""
        self._writer.end()


class AofFile:
    """An append-only file: a sink. To be ended by `finish`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._config: Any = Config()
        self._db = START_OF_FILE
        self._records: list[bytes] = []
        self._bytes = 0

    def owns(self, key: bytes) -> bool:
        """Every key belongs here."""
        return True

    def put(self, key: Key, source: Source) -> None:
        """Puts a key. Raises ValueRefused, OSError."""
        for request in recreate(key.key, source.value(self._config), key.expire_at_ms):
            self._add(key.db, request)

    def function(self, code: bytes) -> None:
        """Puts a library."""
        self._add(0, [b"FUNCTION", b"LOAD", code])

    def finish(self) -> None:
        """Ends the file. Raises OSError."""
        self._write(b"".join(self._records))

    def _add(self, db: int, request: list[bytes]) -> None:
        if db != self._db:
            self._db = db
            self._records.append(record([b"SELECT", b"%d" % db]))
        encoded = record(request)
        self._records.append(encoded)
        self._bytes += len(encoded)
        if self._bytes >= limits.TRANSFER_BATCH_BYTES:
            self.finish()
            self._records.clear()
            self._bytes = 0
