"""Places in sorted sets: the commands that name members. Searches stand in geo_search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardkv import errors
from shardkv.command import DENYOOM, READONLY, WRITE, Key, command
from shardkv.commands.sorted_sets import add
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import double
from shardkv.resp.replies import NULL_ARRAY, PlainDouble
from shardkv.structures.geohash import (
    LATITUDE_LIMIT,
    LONGITUDE_LIMIT,
    Position,
    distance_m,
    geohash_text,
    position_of,
    score_of,
)
from shardkv.structures.zset import SortedSet

_UNITS_M = {b"M": 1.0, b"KM": 1000.0, b"FT": 0.3048, b"MI": 1609.34}


def read_unit(word: bytes) -> float:
    """The length of a unit in m. Raises CommandError."""
    unit_m = _UNITS_M.get(word.upper())
    if unit_m is None:
        raise CommandError(errors.UNSUPPORTED_UNIT)
    return unit_m


def read_position(words: Sequence[bytes]) -> Position:
    """A longitude and a latitude. Raises CommandError."""
    longitude, latitude = map(double, words)
    if abs(longitude) > LONGITUDE_LIMIT or abs(latitude) > LATITUDE_LIMIT:
        raise CommandError(errors.invalid_position(longitude, latitude))
    return Position(longitude, latitude)


def distance_reply(distance: float) -> bytes:
    """A distance with four digits after the point, rounded as Redis does: halves to the even one."""
    return b"%d.%04d" % divmod(round(distance * 10_000), 10_000)


def position_reply(score: float) -> list[PlainDouble]:
    """The longitude and latitude of a member with this score."""
    return list(map(PlainDouble, position_of(score)))


_OPTIONS = frozenset((b"NX", b"XX", b"CH"))


@command(
    "GEOADD key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
    group="geo",
    since="3.2.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(log(N)) for each item added, where N is the number of elements in the sorted set.",
    history=(("6.2.0", "Added the `CH`, `NX` and `XX` options."),),
)
def geoadd(db: Database, args: list[Any]) -> Any:
    """Adds one or more members to a geospatial index. The key is created if it doesn't exist."""
    options, at = frozenset[bytes](), 2
    while at < len(args) and (word := args[at].upper()) in _OPTIONS:
        options |= {word}
        at += 1
    places = args[at:]
    if not places or len(places) % 3 or options >= {b"NX", b"XX"}:
        raise CommandError(errors.SYNTAX)
    positions = [read_position(places[at : at + 2]) for at in range(0, len(places), 3)]
    scores = [score_of(*position) for position in positions]
    return add(db, args[1], places[2::3], scores, options, args[0])


@command(
    "GEODIST key member1 member2 [M | KM | FT | MI]",
    group="geo",
    since="3.2.0",
    flags=READONLY,
    keys=(Key(1),),
)
def geodist(db: Database, args: list[Any]) -> Any:
    """Returns the distance between two members of a geospatial index."""
    if len(args) > 5:
        raise CommandError(errors.SYNTAX)
    unit_m = read_unit(args[4]) if len(args) > 4 else 1.0
    found = db.read_as(SortedSet, args[1], args[0])
    if found is None:
        return None
    one, other = map(found.get, args[2:4])
    if one is None or other is None:
        return None
    return distance_reply(distance_m(position_of(one), position_of(other)) / unit_m)


@command(
    "GEOHASH key [member [member ...]]",
    group="geo",
    since="3.2.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(1) for each member requested.",
)
def geohash(db: Database, args: list[Any]) -> Any:
    """Returns members from a geospatial index as geohash strings."""
    scores = _scores(db, args)
    return [None if score is None else geohash_text(score) for score in scores]


@command(
    "GEOPOS key [member [member ...]]",
    group="geo",
    since="3.2.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(1) for each member requested.",
)
def geopos(db: Database, args: list[Any]) -> Any:
    """Returns the longitude and latitude of members from a geospatial index."""
    scores = _scores(db, args)
    return [NULL_ARRAY if score is None else position_reply(score) for score in scores]


def _scores(db: Database, args: list[Any]) -> list[float | None]:
    slot, key, *members = args
    found = db.read_as(SortedSet, key, slot)
    return [None] * len(members) if found is None else [found.get(member) for member in members]
