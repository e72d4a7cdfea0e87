"""Records: commands as they stand in the log, RESP arrays of bulk strings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

START_OF_FILE: Final = -1
"""Where the number of the selected database stands: none is selected yet."""

_SHORT: Final = 1024
_FIRST: Final = [b"$%d\r\n" % length for length in range(_SHORT)]
_NEXT: Final = [b"\r\n$%d\r\n" % length for length in range(_SHORT)]
"""What stands before the first and before any later argument, by its length: looking it up and joining the
pieces takes little more than half the time of formatting them."""


def record(argv: Sequence[Any]) -> bytes:
    """The record of one command: its name and arguments (bytes, bytearray, or an int for its decimal)."""
    try:
        match len(argv):
            case 3:
                a, b, c = argv
                size = len(c)
                last = _NEXT[size] if size < _SHORT else b"\r\n$%d\r\n" % size
                return b"".join((b"*3\r\n", _FIRST[len(a)], a, _NEXT[len(b)], b, last, c, b"\r\n"))
            case 2:
                a, b = argv
                return b"".join((b"*2\r\n", _FIRST[len(a)], a, _NEXT[len(b)], b, b"\r\n"))
            case 4:
                a, b, c, d = argv
                first, second, third, fourth = _FIRST[len(a)], _NEXT[len(b)], _NEXT[len(c)], _NEXT[len(d)]
                return b"".join((b"*4\r\n", first, a, second, b, third, c, fourth, d, b"\r\n"))
            case 5:
                a, b, c, d, e = argv
                first, second, third, fourth = _FIRST[len(a)], _NEXT[len(b)], _NEXT[len(c)], _NEXT[len(d)]
                fifth = _NEXT[len(e)]
                return b"".join((b"*5\r\n", first, a, second, b, third, c, fourth, d, fifth, e, b"\r\n"))
            case count:
                pieces: list[Any] = [b""] * (2 * count)
                pieces[::2] = [_NEXT[len(arg)] for arg in argv]
                pieces[1::2] = argv
                return b"*%d%b\r\n" % (count, b"".join(pieces))
    except (TypeError, IndexError):
        # An int has no length, a long argument no entry in the tables.
        words = [b"%d" % arg if isinstance(arg, int) else arg for arg in argv]
        bulks = [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
        return b"*%d\r\n%b" % (len(bulks), b"".join(bulks))
