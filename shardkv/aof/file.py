"""One file of the log, being appended to."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from shardkv import limits
from shardkv.aof import batch
from shardkv.aof.disk import Disk
from shardkv.aof.manifest import Entry

Batch = tuple[bytes, bytes]
"""The keys of a batch (empty if it has none) and its records."""


class BatchFile:
    """A file that batches are appended to, whole or not at all.

    `size` is the number of bytes that are good; `checksum` is the last batch's.
    """

    def __init__(self, disk: Disk, path: Path, fd: int, entry: Entry, size: int, checksum: int) -> None:
        self.path = path
        self.fd = fd
        self.entry = entry
        self.size = size
        self.checksum = checksum
        self._disk = disk
        self._torn = False

    @classmethod
    def create(cls, disk: Disk, folder: Path, name: str, seq: int, kind: str) -> BatchFile:
        """A new file with its first batch, which is on disk; the folder is not. Raises OSError."""
        keys = batch.FORMAT + b"id=%016x" % secrets.randbits(64)
        header, first = batch.seal(b"", batch.seed_of(name), keys)
        path = folder / name
        fd = disk.create(path)
        try:
            if disk.write(fd, [header]) != len(header):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            disk.sync(fd)
        except OSError:
            disk.close(fd)
            raise
        return cls(disk, path, fd, Entry(name, seq, kind, first), len(header), first)

    @classmethod
    def reopen(cls, disk: Disk, folder: Path, entry: Entry, size: int, checksum: int) -> BatchFile:
        """A file that exists; `size` and `checksum` are those that loading it has found. Raises OSError."""
        path = folder / entry.name
        return cls(disk, path, disk.open_to_append(path), entry, size, checksum)

    @property
    def has_only_its_first_batch(self) -> bool:
        return self.checksum == self.entry.first

    def append(self, batches: Sequence[Batch]) -> int:
        """Appends batches in one system call; the number of bytes.

        Raises OSError when they could not be written whole. Then nothing of them stays behind: the file is
        cut back to its size at once or, if that fails too, before anything else is written to it.
        """
        if self._torn:
            self._cut_back()
        checksum = self.checksum
        buffers: list[bytes] = []
        for keys, body in batches:
            header, checksum = batch.seal(body, checksum, keys)
            buffers.append(header)
            if body:
                buffers.append(body)
        if len(buffers) > limits.WRITE_BUFFERS:
            buffers = [b"".join(buffers)]
        size = sum(map(len, buffers))
        try:
            written = self._disk.write(self.fd, buffers)
            if written < size:
                self._write_rest(memoryview(b"".join(buffers))[written:])
        except OSError:
            self._torn = True
            self._try_to_cut_back()
            raise
        self.size += size
        self.checksum = checksum
        return size

    def sync(self) -> None:
        """Returns when what was appended is on disk. Raises OSError, after which nothing is known of it."""
        self._disk.sync(self.fd)

    def close(self) -> None:
        self._disk.close(self.fd)

    def closed_entry(self) -> Entry:
        """The manifest's entry for the file when nothing will be appended any more."""
        return self.entry.closed(self.size, self.checksum)

    def _write_rest(self, rest: memoryview) -> None:
        """The kernel writes at most 2 GiB at once, and less where space ends; only the next call says why."""
        while rest:
            written = self._disk.write(self.fd, [rest])
            if not written:
                raise OSError(errno.EIO, "nothing written", str(self.path))
            rest = rest[written:]

    def _try_to_cut_back(self) -> None:
        try:
            self._cut_back()
        except OSError:
            pass

    def _cut_back(self) -> None:
        self._disk.truncate(self.fd, self.size)
        self._torn = False
