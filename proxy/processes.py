"""What the kernel says of the server's processes: memory and processor time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

_HIGH_WATER = re.compile(rb"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(slots=True)
class Usage:
    """Of one process or of several: bytes of memory, seconds of processor time.

    used_bytes       the proportional set size: memory that processes share counts once in all.
    resident_bytes   the resident set size, with shared memory counted for each process.
    peak_bytes       the highest resident set size so far, of several processes the sum of each one's highest.
    """

    used_bytes: int = 0
    resident_bytes: int = 0
    peak_bytes: int = 0
    user_s: float = 0.0
    system_s: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.used_bytes + other.used_bytes,
            self.resident_bytes + other.resident_bytes,
            self.peak_bytes + other.peak_bytes,
            self.user_s + other.user_s,
            self.system_s + other.system_s,
        )


def measure(pids: Iterable[int]) -> dict[int, Usage]:
    """The usage of each of these processes that is still there.

    To be called in a thread of its own: the kernel walks through the page tables, some 10 ms for each GB,
    which does not hold up the process that is measured.
    """
    found = {}
    for pid in pids:
        try:
            found[pid] = _usage(pid)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
    return found


def _usage(pid: int) -> Usage:
    process = psutil.Process(pid)
    times = process.cpu_times()
    try:
        memory = process.memory_full_info()
        used_bytes, resident_bytes = memory.pss, memory.rss
    except (psutil.AccessDenied, PermissionError):
        used_bytes = resident_bytes = process.memory_info().rss
    high_water = _HIGH_WATER.search(Path(f"/proc/{pid}/status").read_bytes())
    peak_bytes = int(high_water[1]) * 1024 if high_water else resident_bytes
    return Usage(used_bytes, resident_bytes, max(peak_bytes, resident_bytes), times.user, times.system)


def total(usages: Iterable[Usage]) -> Usage:
    return sum(usages, Usage())


def host_memory_bytes() -> int:
    return int(psutil.virtual_memory().total)
