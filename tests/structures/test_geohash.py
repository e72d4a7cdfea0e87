"""Geohashes: the examples of the documentation, and what a real server answered at the edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardkv.structures.geo_shapes import Box, Circle, Polygon, Shape
from shardkv.structures.geohash import (
    LATITUDE_LIMIT,
    Cell,
    Position,
    cell_at,
    distance_m,
    geohash_text,
    position_of,
    score_of,
)

PALERMO = Position(13.361389, 38.115556)
CATANIA = Position(15.087269, 37.502669)

places = st.builds(Position, st.floats(-180, 180), st.floats(-85, 85))


def test_the_documented_places() -> None:
    assert score_of(*PALERMO) == 3479099956230698
    assert score_of(*CATANIA) == 3479447370796909
    assert position_of(3479099956230698) == (13.36138933897018433, 38.11555639549629859)
    assert geohash_text(3479099956230698) == b"sqc8b49rny0"
    assert geohash_text(3479447370796909) == b"sqdtr74hyu0"
    between = distance_m(position_of(score_of(*PALERMO)), position_of(score_of(*CATANIA)))
    assert f"{between:.4f}" == "166274.1516"


@pytest.mark.parametrize(
    ("score", "position", "text"),
    [
        (0, (-179.99999731779098511, -85.05112751263942528), b"00bh0hbj200"),
        (2**52 - 1, (179.99999731779098511, 85.05112751263942528), b"zzpgzgpfxz0"),
        (2**52, (-179.99999731779098511, 85.0511287799999991), b"bp05b5048p0"),
        (1e20, (-179.99999731779098511, -85.05112751263942528), b"00bh0hbj200"),
        (math.inf, (-179.99999731779098511, -85.05112751263942528), b"00bh0hbj200"),
        (-5, (180.0, 85.0511287799999991), b"bp05b5048p0"),
        (0.5, (-179.99999731779098511, -85.05112751263942528), b"00bh0hbj200"),
    ],
)
def test_any_score_is_a_place(score: float, position: tuple[float, float], text: bytes) -> None:
    assert position_of(score) == position
    assert geohash_text(score) == text


def test_the_corners_of_the_map() -> None:
    assert score_of(-180, -LATITUDE_LIMIT) == 0
    assert score_of(180, LATITUDE_LIMIT) == 13510798882111488
    assert score_of(0, 0) == 3377699720527872


@given(places)
@example(Position(180.0, 3.875))
def test_a_place_is_found_again(place: Position) -> None:
    again = position_of(score_of(*place))
    assert abs(again.longitude - place.longitude) < 361 / 2**26
    # At the end of the map a score has a bit more than a floating-point number holds, as with Redis.
    fineness = 2 if place.longitude == 180 else 1
    assert abs(again.latitude - place.latitude) < fineness * 171 / 2**26
    area = cell_at(*place).area()
    assert area.west - 1e-9 <= place.longitude <= area.east + 1e-9
    assert area.south - 1e-9 <= place.latitude <= area.north + 1e-9


@given(places, st.integers(1, 26))
def test_a_cell_holds_the_geohashes_of_its_places(place: Position, steps: int) -> None:
    if place.longitude < 180:
        first, end = cell_at(*place, steps).geohashes()
        assert first <= score_of(*place) < end


def test_neighbours_go_round_the_map() -> None:
    assert Cell(0, 0, 3).neighbour(-1, -1) == Cell(7, 7, 3)
    assert Cell(7, 2, 3).neighbour(1, 1) == Cell(0, 3, 3)


@given(places, places)
def test_distances(one: Position, other: Position) -> None:
    assert distance_m(one, one) == 0
    assert distance_m(one, other) == pytest.approx(distance_m(other, one))
    assert 0 <= distance_m(one, other) < 20_100_000


# -- shapes -----------------------------------------------------------------------------------


def is_in_a_cell(shape: Shape, place: Position) -> bool:
    score = score_of(*place)
    return any(first <= score < end for first, end in map(Cell.geohashes, shape.cells()))


@given(places, st.floats(0, 2e6), st.floats(-20, 20), st.floats(-20, 20))
def test_what_is_in_a_circle_is_in_its_cells(
    center: Position, radius_m: float, east: float, north: float
) -> None:
    circle = Circle(center, radius_m)
    place = Position((center.longitude + east + 540) % 360 - 180, max(-85, min(center.latitude + north, 85)))
    distance = circle.distance_m(place)
    assert (distance is not None) == (distance_m(center, place) <= radius_m)
    # What reaches beyond a pole may be missed, as by Redis.
    if distance is not None and abs(center.latitude) < 65 and place.longitude < 180:
        assert is_in_a_cell(circle, place)


def test_boxes() -> None:
    box = Box(Position(15, 37), 400_000, 400_000)
    assert f"{box.distance_m(position_of(score_of(*CATANIA))):.4f}" == "56441.2579"
    assert box.distance_m(Position(15, 39)) is None
    assert box.distance_m(Position(18, 37)) is None
    assert box.distance_m(Position(16.9, 38.7)) is not None


def test_a_polygon() -> None:
    triangle = Polygon([Position(10, 30), Position(20, 30), Position(15, 45)])
    assert f"{triangle.distance_m(position_of(score_of(*CATANIA))):.4f}" == "271790.7291"
    assert triangle.distance_m(Position(11, 44)) is None
    assert triangle.distance_m(Position(15, 29)) is None


def test_a_polygon_with_a_notch() -> None:
    corners = [(0, 0), (10, 0), (10, 10), (5, 5), (0, 10)]
    polygon = Polygon([Position(*corner) for corner in corners])
    assert polygon.distance_m(Position(5, 4)) is not None
    assert polygon.distance_m(Position(5, 6)) is None
    assert polygon.distance_m(Position(1, 8)) is not None


corners = st.builds(Position, st.floats(-179.9, 179.9), st.floats(-85, 85))


@given(st.lists(corners, min_size=3, max_size=6), corners)
def test_what_is_in_a_polygon_is_in_its_cells(vertices: list[Position], somewhere: Position) -> None:
    polygon = Polygon(vertices)
    # Members stand in the middle of a cell of the finest grid, never on its edge.
    place = position_of(score_of(*somewhere))
    if polygon.distance_m(place) is not None:
        assert is_in_a_cell(polygon, place)


@pytest.mark.parametrize("size_m", [0, 1, 1e300, math.inf])
def test_sizes_out_of_the_ordinary(size_m: float) -> None:
    for shape in (Circle(PALERMO, size_m), Box(PALERMO, size_m, size_m)):
        cells = shape.cells()
        assert len(set(cells)) == len(cells)
        assert is_in_a_cell(shape, PALERMO)
