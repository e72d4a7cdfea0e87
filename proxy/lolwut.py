"""The picture of LOLWUT: Georg Nees' "Schotter" (1968), squares that lose their order row by row."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

from shardkv import REDIS_VERSION, __version__
from shardkv.numbers import integer

_MAX_COLUMNS = 100
_MAX_SQUARES = 24
"""In a row, and rows. The largest picture takes some 15 ms."""

_DEFAULT = (66, 8, 12)
"""Width of the picture in characters, squares in a row, rows."""

_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a Braille character, by row and column."""


def picture(words: Sequence[bytes]) -> bytes:
    """What LOLWUT shows for the words `VERSION n columns squares-per-row rows`, of which any at the end may
    be missing. Raises CommandError for what should be a number and is none."""
    signature = f"Redis ver. {REDIS_VERSION} (shardkv {__version__})\n"
    numbers = [integer(word) for word in words if word.upper() != b"VERSION"]
    # There is one picture, whatever version is asked for.
    given = numbers[1:4] if len(numbers) < len(words) else numbers[:3]
    columns, per_row, rows = (*given, *_DEFAULT[len(given) :])
    columns = min(max(columns, 1), _MAX_COLUMNS)
    per_row, rows = min(max(per_row, 1), _MAX_SQUARES), min(max(rows, 1), _MAX_SQUARES)
    canvas = _schotter(columns, per_row, rows)
    return f"{canvas}\nGeorg Nees - schotter, plotter on paper, 1968. {signature}".encode()


def _schotter(columns: int, per_row: int, rows: int) -> str:
    width = columns * 2
    padding = 2 if width > 4 else 0
    side = (width - padding * 2) / per_row
    height = math.ceil(side * rows) + padding * 2
    canvas = _Canvas(width, height)
    chance = random.Random()  # noqa: S311
    for row in range(rows):
        disorder = row / rows
        for column in range(per_row):
            angle = chance.uniform(-disorder, disorder) if row > 1 else 0.0
            shift = side * disorder / 3
            x = padding + side * (column + 0.5) + chance.uniform(-shift, shift)
            y = padding + side * (row + 0.5) + chance.uniform(-shift, shift)
            canvas.square(x, y, side, angle)
    return canvas.text()


class _Canvas:
    """Dots, eight of which make a character."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._lines = [bytearray(math.ceil(width / 2)) for _ in range(math.ceil(height / 4))]

    def square(self, x: float, y: float, side: float, angle: float) -> None:
        """Draws a square around a point, turned by an angle in radians."""
        radius = side / math.sqrt(2)
        corners = [angle + math.pi / 4 + turn * math.pi / 2 for turn in range(5)]
        points = [(x + radius * math.sin(corner), y + radius * math.cos(corner)) for corner in corners]
        for begin, end in pairwise(points):
            self._line(begin, end)

    def _line(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        steps = max(1, math.ceil(max(abs(end[0] - begin[0]), abs(end[1] - begin[1]))))
        for step in range(steps + 1):
            part = step / steps
            self._dot(
                round(begin[0] + (end[0] - begin[0]) * part),
                round(begin[1] + (end[1] - begin[1]) * part),
            )

    def _dot(self, x: int, y: int) -> None:
        if 0 <= x < self.width and 0 <= y < self.height:
            self._lines[y // 4][x // 2] |= _DOTS[y % 4][x % 2]

    def text(self) -> str:
        return "".join("".join(chr(_BRAILLE + cell) for cell in line) + "\n" for line in self._lines)
