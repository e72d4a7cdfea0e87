"""Disks that fail in chosen ways, and one in memory that forgets what was not synced when power fails."""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shardkv.aof.background import Background
from shardkv.aof.disk import Bytes, Disk


class Dead(BaseException):
    """The process has died; nothing of it goes on."""


class Deferred(Background):
    """Background work that is done when the test says so, in the test's own thread."""

    def __init__(self) -> None:
        self.steps: list[Callable[[], None]] = []
        self.sync: Callable[[], None] | None = None

    def run(self, step: Callable[[], None]) -> None:
        self.steps.append(step)

    def sync_later(self, sync: Callable[[], None]) -> None:
        self.sync = sync

    def work(self) -> None:
        """Does the steps that were given."""
        while self.steps:
            self.steps.pop(0)()

    def let_sync(self) -> None:
        """Does the fsync that was asked for."""
        if self.sync is not None:
            sync, self.sync = self.sync, None
            sync()

    def stop(self) -> None:
        self.work()


class Inline(Deferred):
    """Background work that is done at once."""

    def run(self, step: Callable[[], None]) -> None:
        step()


class FaultyDisk(Disk):
    """The real disk, whose writes, truncations and syncs can be made to fail.

    room: bytes that can still be written before ENOSPC, None for no limit. errors: for the name of a method,
    what its next calls raise. calls: the names of the methods that were called.
    """

    def __init__(self) -> None:
        self.room: int | None = None
        self.errors: dict[str, int] = {}
        self.calls: list[str] = []
        self.before_sync: Callable[[], object] = lambda: None

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.errors:
            raise OSError(self.errors[name], os.strerror(self.errors[name]))

    def create(self, path: Path) -> int:
        self._call("create")
        return super().create(path)

    def write(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        self._call("write")
        if self.room is None:
            return super().write(fd, buffers)
        data = b"".join(buffers)
        if data and not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(fd, [data[: self.room]])
        self.room -= written
        return written

    def truncate(self, fd: int, size: int) -> None:
        self._call("truncate")
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self._call("sync")
        self.before_sync()
        super().sync(fd)

    def sync_folder(self, folder: Path) -> None:
        self._call("sync_folder")
        super().sync_folder(folder)

    def rename(self, old: Path, new: Path) -> None:
        self._call("rename")
        super().rename(old, new)

    def remove(self, path: Path) -> None:
        self._call("remove")
        super().remove(path)


@dataclass
class _Content:
    data: bytes = b""
    synced: bytes = b""


@dataclass
class MemoryDisk(Disk):
    """A disk in memory. It knows what has been synced, and can die at its n-th change (`dies_at`, from 1).

    At that call nothing happens, or, for a write, the `torn` part of it (0 to 1).
    """

    dies_at: int | None = None
    torn: float = 0.0
    changes: int = 0
    files: dict[Path, _Content] = field(default_factory=dict)
    synced_files: dict[Path, _Content] = field(default_factory=dict)
    _unsynced: list[tuple[Path, _Content | None]] = field(default_factory=list)
    _open: dict[int, _Content] = field(default_factory=dict)
    _fds: itertools.count[int] = field(default_factory=lambda: itertools.count(1000))

    # -- what a death leaves ------------------------------------------------------------------

    def after_kill(self) -> MemoryDisk:
        """The disk as it is after kill -9: everything written is there."""
        disk = MemoryDisk()
        disk.files = {path: _Content(c.data, c.synced) for path, c in self.files.items()}
        disk.synced_files = dict(disk.files)
        return disk

    def after_power_cut(self, choose: random.Random) -> MemoryDisk:
        """The disk as it may be after a power cut: of the changes in the folder that were not synced the
        first so many are there, of each file what was synced and perhaps some of the rest."""
        names = dict(self.synced_files)
        for path, content in self._unsynced[: choose.randint(0, len(self._unsynced))]:
            if content is None:
                names.pop(path, None)
            else:
                names[path] = content
        disk = MemoryDisk()
        disk.files = {path: _content_after_power_cut(c, choose) for path, c in names.items()}
        disk.synced_files = dict(disk.files)
        return disk

    def _change(self) -> bool:
        """True if the process dies at this call."""
        if self.dies_at is not None and self.changes >= self.dies_at:
            raise Dead
        self.changes += 1
        return self.changes == self.dies_at

    def _change_or_die(self) -> None:
        if self._change():
            raise Dead

    def _name(self, path: Path, content: _Content | None) -> None:
        if content is None:
            del self.files[path]
        else:
            self.files[path] = content
        self._unsynced.append((path, content))

    # -- the calls ----------------------------------------------------------------------------

    def _handle(self, content: _Content) -> int:
        fd = next(self._fds)
        self._open[fd] = content
        return fd

    def open_to_read(self, path: Path) -> int:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self._handle(self.files[path])

    def open_to_append(self, path: Path) -> int:
        return self.open_to_read(path)

    def create(self, path: Path) -> int:
        self._change_or_die()
        self._name(path, _Content())
        return self._handle(self.files[path])

    def close(self, fd: int) -> None:
        if self.dies_at is not None and self.changes >= self.dies_at:
            raise Dead
        del self._open[fd]

    def size(self, fd: int) -> int:
        return len(self._open[fd].data)

    def read(self, fd: int, count: int, offset: int) -> bytes:
        return self._open[fd].data[offset : offset + count]

    def map(self, fd: int) -> Bytes:
        return self._open[fd].data

    def write(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        data = b"".join(buffers)
        dying = self._change()
        if dying:
            data = data[: int(len(data) * self.torn)]
        self._open[fd].data += data
        if dying:
            raise Dead
        return len(data)

    def truncate(self, fd: int, size: int) -> None:
        self._change_or_die()
        self._open[fd].data = self._open[fd].data[:size]

    def sync(self, fd: int) -> None:
        self._change_or_die()
        self._open[fd].synced = self._open[fd].data

    def sync_folder(self, folder: Path) -> None:
        self._change_or_die()
        self.synced_files = dict(self.files)
        self._unsynced.clear()

    def rename(self, old: Path, new: Path) -> None:
        self._change_or_die()
        # After a power cut the file may stand under both names, which does no harm here.
        self._name(new, self.files.pop(old))

    def remove(self, path: Path) -> None:
        self._change_or_die()
        self._name(path, None)

    def names(self, folder: Path) -> list[str]:
        return [path.name for path in self.files if path.parent == folder]

    def make_folder(self, folder: Path) -> None:
        pass


def _content_after_power_cut(content: _Content, choose: random.Random) -> _Content:
    """What was synced is there. What was appended since may be there in part, also with zeros for the
    rest."""
    data, synced = content.data, content.synced
    if not data.startswith(synced):
        data = choose.choice([data, synced])
        return _Content(data, data)
    kept = choose.randint(len(synced), len(data))
    zeros = choose.choice([0, 0, len(data) - kept])
    found = data[:kept] + b"\0" * zeros
    return _Content(found, found)
