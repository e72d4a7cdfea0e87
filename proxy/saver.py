"""The process that writes a snapshot: takes every shard's part from a pipe, and makes one RDB file of them.

It does nothing else, and lives as long as the snapshot takes. So a slow disk holds up nobody: the pipes fill,
and the shards' passes wait. Nothing counts before the file is complete, on disk, and renamed into its place.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from proxy import identity
from shardkv import REDIS_VERSION, __version__, clock, limits
from shardkv.aof.disk import Disk
from shardkv.rdb.file_writer import FileWriter
from shardkv.snapshot import AGAIN, DATA, END
from shardkv.wire import FrameReader

logger = logging.getLogger("proxy.saver")

_decode = msgspec.msgpack.Decoder().decode

_NICE = 10
"""Clients come first."""

_COMPLAINT = "%s: the snapshot has failed: %s"


@dataclass(frozen=True)
class Order:
    """What is to be written.

    temporary, path   the file while it is written, and its place when it is complete
    version           of the format
    with_checksum     whether it ends with one
    """

    temporary: Path
    path: Path
    version: int
    with_checksum: bool


class _Anew(Exception):  # noqa: N818 - it says what is to be done
    """It has to begin anew, in a version of the format; says why."""

    def __init__(self, version: int, reason: str) -> None:
        super().__init__(reason)
        self.version = version


class _ShardLost(Exception):  # noqa: N818
    """A shard's pipe has ended before its part was complete."""


def save(order: Order, pipes: Sequence[int]) -> dict[str, Any]:
    """Writes a snapshot from the shards' pipes; returns what came of it:

    {"ok": True, "size": bytes, "keys": how many}; {"again": version, "reason": text}; {"error": text}. If it
    is not complete nothing of it is left, and what was in its place is still there.
    """
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    disk = Disk()
    try:
        fd = disk.create(order.temporary)
        try:
            written = _write(order, fd, pipes)
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.rename(order.temporary, order.path)
        disk.sync_folder(order.path.parent)
    except _Anew as anew:
        logger.info("%s: begun anew: %s", order.path, anew)
        outcome: dict[str, Any] = {"again": anew.version, "reason": str(anew)}
    except (_ShardLost, OSError) as error:
        logger.error(_COMPLAINT, order.path, error)
        outcome = {"error": str(error)}
    except Exception as error:
        logger.exception(_COMPLAINT, order.path, error)
        outcome = {"error": str(error)}
    else:
        return written
    with contextlib.suppress(OSError):
        disk.remove(order.temporary)
    return outcome


def _write(order: Order, fd: int, pipes: Sequence[int]) -> dict[str, Any]:
    file = _File(fd)
    writer = FileWriter(file.write, order.version, with_checksum=order.with_checksum)
    writer.begin(
        {
            "redis-ver": REDIS_VERSION,
            "redis-bits": 64,
            "ctime": clock.now_ms() // 1000,
            "used-mem": 0,
            "aof-base": 0,
            "shardkv-ver": __version__,
            "shardkv-run": identity.RUN_ID,
        }
    )
    keys = _gather(writer, pipes)
    writer.end()
    return {"ok": True, "size": writer.written, "keys": keys}


def _gather(writer: FileWriter, pipes: Sequence[int]) -> int:
    """Puts what comes from all shards one after the other; returns how many keys there were."""
    poll = select.poll()
    readers = {}
    for fd in pipes:
        os.set_blocking(fd, False)
        readers[fd] = FrameReader(fd)
        poll.register(fd, select.POLLIN)
    keys = 0
    within: int | None = None
    """The pipe whose last record goes on: nothing else may come between."""
    while readers:
        for fd, _ in poll.poll():
            if fd not in readers or (within is not None and fd != within):
                continue
            reader = readers[fd]
            for frame in reader.receive():
                match _decode(frame):
                    case [kind, bytes(records), bool(whole)] if kind == DATA:
                        writer.records(records)
                        within = None if whole else fd
                    case [kind, int(count)] if kind == END:
                        keys += count
                        poll.unregister(fd)
                        del readers[fd]
                    case [kind, int(version), str(reason)] if kind == AGAIN:
                        raise _Anew(version, reason)
            if reader.closed and fd in readers:
                raise _ShardLost(f"shard {pipes.index(fd)} is gone")
    return keys


class _File:
    """A file that is fsynced as it grows."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._unsynced_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Writes all of it. Raises OSError."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        self._unsynced_bytes += len(chunk)
        if self._unsynced_bytes >= limits.SNAPSHOT_FSYNC_BYTES:
            os.fdatasync(self._fd)
            self._unsynced_bytes = 0
