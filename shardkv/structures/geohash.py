"""Places on the earth as numbers, as Redis keeps them: geohashes of 52 bits.

A geohash (Niemeyer, 2008) halves the ranges of longitude and latitude in turn, one bit for each half that
the place is in. So it is the number of a cell, and a cell's first bits are the number of the larger cell
around it. Redis starts from the square that the Web Mercator projection shows, with latitudes up to
85.05112878 degrees (https://redis.io/docs/latest/commands/geoadd/), and takes the earth for a sphere.

Longitudes and latitudes are in degrees, distances in m.
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt
from typing import NamedTuple

LONGITUDE_LIMIT = 180.0
LATITUDE_LIMIT = 85.05112878

STEPS = 26
"""How often each range is halved for a geohash of 52 bits."""

EARTH_RADIUS_M = 6372797.560856

_BASE_32 = "0123456789bcdefghjkmnpqrstuvwxyz"
_TEXT_DIGITS = 11


class Position(NamedTuple):
    """A place."""

    longitude: float
    latitude: float


class Area(NamedTuple):
    """What lies between two longitudes and two latitudes."""

    west: float
    south: float
    east: float
    north: float


class Cell(NamedTuple):
    """One of the 4 ** steps cells that so many halvings make, counted from the south-west."""

    x: int
    y: int
    steps: int

    def area(self) -> Area:
        """Where it is."""
        x, y, steps = self
        return Area(
            _longitude(x, steps), _latitude(y, steps), _longitude(x + 1, steps), _latitude(y + 1, steps)
        )

    def neighbour(self, east: int, north: int) -> Cell:
        """The cell so many cells further; beyond one end of the map comes the other."""
        mask = (1 << self.steps) - 1
        return Cell(self.x + east & mask, self.y + north & mask, self.steps)

    def bits(self) -> int:
        """Its number."""
        return _interleaved(self.x, self.y)

    def geohashes(self) -> tuple[int, int]:
        """The first geohash of 52 bits in the cell, and the first one after them."""
        shift = 2 * (STEPS - self.steps)
        bits = self.bits()
        return bits << shift, bits + 1 << shift


def cell_at(
    longitude: float, latitude: float, steps: int = STEPS, latitude_limit: float = LATITUDE_LIMIT
) -> Cell:
    """The cell that a place is in."""
    x = (longitude + LONGITUDE_LIMIT) / (2 * LONGITUDE_LIMIT)
    y = (latitude + latitude_limit) / (2 * latitude_limit)
    return Cell(int(x * (1 << steps)), int(y * (1 << steps)), steps)


def score_of(longitude: float, latitude: float) -> float:
    """The score of a place in a sorted set: its geohash."""
    return float(cell_at(longitude, latitude).bits())


def position_of(score: float) -> Position:
    """The place in the middle of a geohash's cell."""
    # The bits of longitude and latitude take turns, those of longitude first.
    bits = f"{_unsigned(score):064b}"
    x, y = int(bits[::2], 2), int(bits[1::2], 2)
    longitude = (_longitude(x, STEPS) + _longitude(x + 1, STEPS)) / 2
    latitude = (_latitude(y, STEPS) + _latitude(y + 1, STEPS)) / 2
    return Position(
        max(-LONGITUDE_LIMIT, min(longitude, LONGITUDE_LIMIT)),
        max(-LATITUDE_LIMIT, min(latitude, LATITUDE_LIMIT)),
    )


def _unsigned(score: float) -> int:
    """A score as an integer of 64 bits, also one that is no geohash: as x86-64 converts it."""
    if score >= 2**64:
        return 0
    return int(score) & (2**64 - 1) if score > -(2**63) else 2**63


def geohash_text(score: float) -> bytes:
    """The standard geohash of the place, of 11 characters: its latitudes go from -90 to 90 degrees."""
    longitude, latitude = position_of(score)
    bits = cell_at(longitude, latitude, latitude_limit=90.0).bits()
    # Of the last digit there are only two bits, for which Redis gives none.
    digits = [bits >> (2 * STEPS - 5 * (place + 1)) & 31 for place in range(_TEXT_DIGITS - 1)]
    return "".join(_BASE_32[digit] for digit in digits).encode() + b"0"


def _longitude(x: int, steps: int) -> float:
    return -LONGITUDE_LIMIT + x / (1 << steps) * (2 * LONGITUDE_LIMIT)


def _latitude(y: int, steps: int) -> float:
    return -LATITUDE_LIMIT + y / (1 << steps) * (2 * LATITUDE_LIMIT)


def _interleaved(x: int, y: int) -> int:
    """The number whose bits are those of x and y in turn, the last one of y's."""
    # Read as digits of base 4, bits leave room for one another.
    return int(f"{x:b}", 4) << 1 | int(f"{y:b}", 4)


def distance_m(one: Position, other: Position) -> float:
    """The length of the great circle between two places, by the haversine formula."""
    across = sin((radians(other.longitude) - radians(one.longitude)) / 2)
    if across == 0:
        return latitude_distance_m(one.latitude, other.latitude)
    south, north = radians(one.latitude), radians(other.latitude)
    along = sin((north - south) / 2)
    return 2 * EARTH_RADIUS_M * asin(sqrt(along * along + cos(south) * cos(north) * across * across))


def latitude_distance_m(one: float, other: float) -> float:
    """The distance between two latitudes."""
    return EARTH_RADIUS_M * abs(radians(other) - radians(one))
