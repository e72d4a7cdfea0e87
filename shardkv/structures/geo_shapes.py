"""The shapes that GEOSEARCH looks for members in, and the cells of geohashes that have to be looked at.

A shape lies in nine cells of the right size: the one that its centre is in, and those around it. The size is
what Redis takes, and the cells come in its order, so that members that nobody has asked to be sorted come in
the same order as from Redis, and COUNT with ANY finds the same ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from math import atan2, cos, degrees, hypot, radians, sin

from shardkv.structures.geohash import (
    EARTH_RADIUS_M,
    STEPS,
    Area,
    Cell,
    Position,
    cell_at,
    distance_m,
    latitude_distance_m,
)

_HALF_MAP_M = 20037726.37
"""From the middle of the Web Mercator map to its edge."""

_AROUND = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""The nine cells, as (east, north) of the centre's: north before south, east before west."""


class Shape(ABC):
    """A part of the earth's surface."""

    def __init__(self, center: Position, reach_m: float, bounds: Area) -> None:
        """Takes how far from its centre it reaches, and what it lies in."""
        self.center = center
        self._reach_m = reach_m
        self._bounds = bounds

    @abstractmethod
    def distance_m(self, place: Position) -> float | None:
        """How far from the centre a place is; None if it is not in the shape."""

    def cells(self) -> list[Cell]:
        """Cells that together hold the shape, each once."""
        cell = self._middle()
        wanted = self._wanted(cell) if cell.steps > 1 else _AROUND
        # On a map of only four cells the same one lies on either side.
        return list(dict.fromkeys(cell.neighbour(*step) for step in wanted))

    def _middle(self) -> Cell:
        """A cell that the centre is in, so large that the shape is in this one and those around it."""
        cell = cell_at(*self.center, _steps_for(self._reach_m, self.center.latitude))
        if cell.steps > 1 and not self._is_within_one_cell_of(cell):
            cell = cell_at(*self.center, cell.steps - 1)
        return cell

    def _is_within_one_cell_of(self, cell: Cell) -> bool:
        bounds = self._bounds
        return (
            cell.neighbour(0, 1).area().north >= bounds.north
            and cell.neighbour(0, -1).area().south <= bounds.south
            and cell.neighbour(1, 0).area().east >= bounds.east
            and cell.neighbour(-1, 0).area().west <= bounds.west
        )

    def _wanted(self, cell: Cell) -> list[tuple[int, int]]:
        """Those of the nine cells around one that the shape can reach."""
        area, bounds = cell.area(), self._bounds
        idle = {
            (0, -1): area.south < bounds.south,
            (0, 1): area.north > bounds.north,
            (-1, 0): area.west < bounds.west,
            (1, 0): area.east > bounds.east,
        }
        return [(east, north) for east, north in _AROUND if not (idle.get((east, 0)) or idle.get((0, north)))]


class Circle(Shape):
    """What is not further from the centre than its radius."""

    def __init__(self, center: Position, radius_m: float) -> None:
        super().__init__(center, radius_m, _bounds(center, radius_m, radius_m))

    def distance_m(self, place: Position) -> float | None:
        distance = distance_m(self.center, place)
        return distance if distance <= self._reach_m else None


class Box(Shape):
    """What is not further east or west of the centre than half its width, nor further north or south than
    half its height."""

    def __init__(self, center: Position, width_m: float, height_m: float) -> None:
        self._width_m, self._height_m = width_m, height_m
        reach_m = hypot(width_m / 2, height_m / 2)
        super().__init__(center, reach_m, _bounds(center, width_m / 2, height_m / 2))

    def distance_m(self, place: Position) -> float | None:
        center = self.center
        if latitude_distance_m(center.latitude, place.latitude) > self._height_m / 2:
            return None
        if distance_m(place, Position(center.longitude, place.latitude)) > self._width_m / 2:
            return None
        return distance_m(center, place)


class Polygon(Shape):
    """What straight lines on the map enclose. Its centre is the mean of the vertices on the globe."""

    def __init__(self, vertices: Sequence[Position]) -> None:
        longitudes, latitudes = zip(*vertices, strict=True)
        bounds = Area(min(longitudes), min(latitudes), max(longitudes), max(latitudes))
        center = _mean(vertices)
        corners = [(west, south) for west in bounds[::2] for south in bounds[1::2]]
        super().__init__(center, max(distance_m(center, Position(*corner)) for corner in corners), bounds)
        self._vertices = vertices

    def _middle(self) -> Cell:
        # The centre may be far from the middle of what the polygon lies in.
        cell = super()._middle()
        while cell.steps > 1 and not self._is_around(cell):
            cell = cell_at(*self.center, cell.steps - 1)
        return cell

    def _is_around(self, cell: Cell) -> bool:
        """Whether the polygon, which does not go beyond an end of the map, is in nine cells."""
        x, y, steps = cell
        lowest, highest, bounds = (
            Cell(x - 1, y - 1, steps).area(),
            Cell(x + 1, y + 1, steps).area(),
            self._bounds,
        )
        return (
            lowest.west <= bounds.west
            and lowest.south <= bounds.south
            and highest.east >= bounds.east
            and highest.north >= bounds.north
        )

    def distance_m(self, place: Position) -> float | None:
        return distance_m(self.center, place) if self._encloses(place) else None

    def _encloses(self, place: Position) -> bool:
        """Whether a line from the place to the west crosses the polygon's an odd number of times."""
        inside = False
        for one, other in pairwise((*self._vertices, self._vertices[0])):
            if (one.latitude > place.latitude) != (other.latitude > place.latitude):
                along = (place.latitude - one.latitude) / (other.latitude - one.latitude)
                if place.longitude < one.longitude + along * (other.longitude - one.longitude):
                    inside = not inside
        return inside


_LARGE_M = 1e9
"""More than the map has, and still something that a cosine can be taken of."""


def _bounds(center: Position, half_width_m: float, half_height_m: float) -> Area:
    """What reaches so far from the centre in each direction. East and west it reaches furthest, in degrees,
    where it is nearest to a pole."""
    longitude, latitude = center
    north = degrees(min(half_height_m, _LARGE_M) / EARTH_RADIUS_M)
    towards_pole = latitude - north if latitude < 0 else latitude + north
    east = degrees(min(half_width_m, _LARGE_M) / EARTH_RADIUS_M / cos(radians(towards_pole)))
    return Area(longitude - east, latitude - north, longitude + east, latitude + north)


def _steps_for(reach_m: float, latitude: float) -> int:
    """How small cells may be so that what reaches so far from a place lies in nine of them."""
    if reach_m == 0:
        return STEPS
    steps = 1
    while reach_m < _HALF_MAP_M:
        reach_m *= 2
        steps += 1
    steps -= 2
    # The nearer to a pole, the narrower are cells.
    if abs(latitude) > 66:
        steps -= 1
    if abs(latitude) > 80:
        steps -= 1
    return max(1, min(steps, STEPS))


def _mean(places: Sequence[Position]) -> Position:
    """The place above which the mean of some places, as points in space, lies."""
    points = [
        (
            cos(radians(latitude)) * cos(radians(longitude)),
            cos(radians(latitude)) * sin(radians(longitude)),
            sin(radians(latitude)),
        )
        for longitude, latitude in places
    ]
    x, y, z = (sum(coordinates) / len(points) for coordinates in zip(*points, strict=True))
    return Position(degrees(atan2(y, x)), degrees(atan2(z, hypot(x, y))))
