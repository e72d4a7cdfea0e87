"""Numbers that are given in order over all proxies.

The next ones lie in memory that all proxies share, because they are forked from the process that made it. The
lock is the kernel's, which takes it from a process that dies."""

from __future__ import annotations

import fcntl
import mmap
import os

_INTEGER_BYTES = 8


class Numbers:
    """So many sequences of numbers, each from 0 on; to be made before proxies are forked."""

    def __init__(self, sequences: int) -> None:
        self._next = memoryview(mmap.mmap(-1, sequences * _INTEGER_BYTES)).cast("q")
        self._lock = os.memfd_create("numbers")

    def next(self, sequence: int) -> int:
        """The next number of a sequence."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        number = self._next[sequence]
        self._next[sequence] = number + 1
        fcntl.lockf(self._lock, fcntl.LOCK_UN)
        return number
