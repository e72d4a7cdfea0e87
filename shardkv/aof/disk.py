"""Every system call of the log, behind one seam.

The log does its input and output through a `Disk` and nothing else, so that a test can put another one in its
place: one that is full, fails, is slow, or dies at a chosen call.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

Bytes = bytes | mmap.mmap
"""What a file's content may come as when it is only looked at."""


class Disk:
    """The real disk. Every method is one system call (or a few that belong together) and raises OSError.

    Offsets and sizes are bytes. Files are unbuffered file descriptors.
    """

    def open_to_read(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def open_to_append(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def create(self, path: Path) -> int:
        """Opens an empty file to append to, in the place of one of that name, if any."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def read(self, fd: int, count: int, offset: int) -> bytes:
        """At most `count` bytes; fewer only where the file ends or a signal came between."""
        return os.pread(fd, count, offset)

    def map(self, fd: int) -> Bytes:
        """The content of a file that is not empty, to look at without reading it all into memory."""
        return mmap.mmap(fd, 0, prot=mmap.PROT_READ)

    def write(self, fd: int, buffers: Sequence[bytes | memoryview]) -> int:
        """Appends the buffers, in one system call; how many bytes were written, which may be fewer."""
        return os.writev(fd, buffers)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Returns when the file's content has reached the disk.

        If it has not, the kernel is told to forget what it holds of the file: it takes pages that it could
        not write for clean ones, so that whoever reads the file next would be shown what is on no disk.
        """
        try:
            os.fdatasync(fd)
        except OSError:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            raise

    def sync_folder(self, folder: Path) -> None:
        """Returns when what was created, renamed and removed in the folder has reached the disk."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def names(self, folder: Path) -> list[str]:
        """The names in a folder; empty if there is no such folder."""
        try:
            return os.listdir(folder)
        except FileNotFoundError:
            return []

    def make_folder(self, folder: Path) -> None:
        """Makes a folder, and those above it, if they are missing; they last."""
        if not folder.is_dir():
            if not folder.parent.is_dir():
                self.make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
        # Also if it was there: who made it may have died before it was sure to last.
        self.sync_folder(folder.parent)
