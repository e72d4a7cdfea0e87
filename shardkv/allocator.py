"""What the C library's allocator says of this process, and giving memory back to the system (malloc(3))."""

from __future__ import annotations

import ctypes
import sys


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
