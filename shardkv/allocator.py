"""What the allocators say of this process, and giving memory back to the system (malloc(3)).

The size that the kernel tells does not fall when something is freed: Python and the C library keep the memory
for what comes next. So for the limit of memory counts what they have handed out: Python's allocator, which
gives out all small blocks, and the C library's, which gives out the others.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable

import psutil

_IN_SMALL_BLOCKS = re.compile(rb"^# bytes in allocated blocks *= *([0-9,]+)$", re.MULTILINE)
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class _Information(ctypes.Structure):
    """`struct mallinfo2` (mallinfo(3))."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


_libc = ctypes.CDLL(None)


def statistics() -> dict[str, int]:
    """Bytes from the system (`heap`, `mapped`), what of it is handed out and what is free, and the number of
    blocks that Python's own allocator, which takes its arenas from the system, has handed out. Without the
    first ones where the C library does not tell them."""
    told: dict[str, int] = {}
    inform = getattr(_libc, "mallinfo2", None)
    if inform is not None:
        inform.restype = _Information
        found = inform()
        told = {
            "heap": found.arena,
            "mapped": found.hblkhd,
            "used": found.uordblks + found.hblkhd,
            "free": found.fordblks,
        }
    return told | {"python_blocks": sys.getallocatedblocks()}


def purge() -> bool:
    """Gives free memory back to the system; whether there was any to give."""
    trim = getattr(_libc, "malloc_trim", None)
    return trim is not None and bool(trim(0))


def _meter() -> Callable[[], int]:
    """What tells the bytes that the allocators have handed out."""
    try:
        inform, tell = _libc.mallinfo2, ctypes.pythonapi._PyObject_DebugMallocStats
        _libc.open_memstream.restype = ctypes.c_void_p
    except AttributeError:
        # Another C library, or another Python: what the kernel tells is better than nothing.
        process = psutil.Process()
        return lambda: int(process.memory_info().rss)
    inform.restype = _Information

    def measure() -> int:
        found = inform()
        return int(found.uordblks + found.hblkhd + _in_small_blocks(tell))

    return measure


def _in_small_blocks(tell: Callable[[ctypes.c_void_p], int]) -> int:
    """What Python's allocator has handed out. It tells that as text only, as for PYTHONMALLOCSTATS, and goes
    through its pools for it, which takes about 1 ms for each 100 MB."""
    text, size = ctypes.c_void_p(), ctypes.c_size_t()
    stream = ctypes.c_void_p(_libc.open_memstream(ctypes.byref(text), ctypes.byref(size)))
    try:
        tell(stream)
    finally:
        _libc.fclose(stream)
    try:
        found = _IN_SMALL_BLOCKS.search(ctypes.string_at(text, size.value))
    finally:
        _libc.free(text)
    return int(found[1].replace(b",", b"")) if found else 0


used_bytes: Callable[[], int] = _meter()
"""The bytes that are in use in this process now, without its code and what else is not from an allocator."""


def resident_bytes(pid: int) -> int:
    """The resident set size of a process; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def private_bytes(pid: int) -> int:
    """The same without what is shared with other processes. It takes the longer the larger the process is; 0
    if it is gone."""
    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except (psutil.Error, OSError, AttributeError):
        return resident_bytes(pid)
