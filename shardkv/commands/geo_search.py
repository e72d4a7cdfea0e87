"""Searches for the members of a sorted set that are in some area."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from shardkv import errors
from shardkv.command import DENYOOM, MOVABLEKEYS, READONLY, WRITE, Key, command
from shardkv.commands.geo import distance_reply, position_reply, read_position, read_unit
from shardkv.commands.sorted_set_algebra import log_as_made, pack_scores, store, store_elsewhere
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import double, integer
from shardkv.plan import Call, Plan
from shardkv.structures.geo_shapes import Box, Circle, Polygon, Shape
from shardkv.structures.geohash import Position, position_of
from shardkv.structures.zset import SortedSet

# -- what is asked for ------------------------------------------------------------------------

_NOWHERE = Position(0.0, 0.0)
_SHOWN = frozenset((b"WITHDIST", b"WITHHASH", b"WITHCOORD"))


@dataclass
class _Search:
    """What one of the commands asks for, as far as it has been read."""

    name: str
    """The command's."""
    found: SortedSet | None
    """Where it looks."""
    center: Position | None = None
    from_member: bool = False
    by: bytes = b""
    """BYRADIUS, BYBOX or BYPOLYGON."""
    make_shape: Callable[[Position], Shape] = field(default=lambda center: Circle(center, 0))
    unit_m: float = 1.0
    shown: set[bytes] = field(default_factory=set)
    order: bytes = b""
    """ASC or DESC."""
    count: int = 0
    """How many members at most; 0 for all."""
    any: bool = False
    destination: bytes | None = None
    stores_distances: bool = False

    def center_on(self, member: bytes) -> None:
        self.from_member = True
        self.center = _NOWHERE
        if self.found is not None:
            score = self.found.get(member)
            if score is None:
                raise CommandError(errors.NO_SUCH_PLACE)
            self.center = position_of(score)

    def by_radius(self, words: Sequence[bytes]) -> None:
        radius = double(words[0], errors.RADIUS_NOT_NUMERIC)
        if radius < 0:
            raise CommandError(errors.NEGATIVE_RADIUS)
        self.unit_m = unit_m = read_unit(words[1])
        self.by = b"BYRADIUS"
        self.make_shape = lambda center: Circle(center, radius * unit_m)

    def by_box(self, words: Sequence[bytes]) -> None:
        width = double(words[0], errors.WIDTH_NOT_NUMERIC)
        height = double(words[1], errors.HEIGHT_NOT_NUMERIC)
        if width < 0 or height < 0:
            raise CommandError(errors.NEGATIVE_BOX)
        self.unit_m = unit_m = read_unit(words[2])
        self.by = b"BYBOX"
        self.make_shape = lambda center: Box(center, width * unit_m, height * unit_m)

    def by_polygon(self, words: Sequence[bytes]) -> int:
        """Takes the number of vertices and all that follows; returns how many words belong to it."""
        count = integer(words[0], errors.VERTICES_NOT_A_NUMBER)
        if not -_INT_END <= count < _INT_END:
            raise CommandError(errors.VERTICES_NOT_A_NUMBER)
        end = 1 + 2 * count
        if count < 3 or end > len(words):
            raise CommandError(errors.TOO_FEW_VERTICES)
        vertices = [read_position(words[at : at + 2]) for at in range(1, end, 2)]
        self.by = b"BYPOLYGON"
        self.make_shape = lambda center: Polygon(vertices)
        return end

    def limit(self, text: bytes) -> None:
        self.count = integer(text)
        if self.count <= 0:
            raise CommandError(errors.GEO_COUNT_NOT_POSITIVE)

    # -- options --------------------------------------------------------------------------------

    def read_options(self, words: Sequence[bytes]) -> None:
        """Raises CommandError."""
        at = 0
        while at < len(words):
            word, rest = words[at].upper(), words[at + 1 :]
            more = self._read_option(word, rest)
            if more is None:
                more = self._read_area(word, rest) if self.name.startswith("geosearch") else None
            if more is None:
                more = self._read_destination(word, rest)
            if more is None:
                raise CommandError(errors.SYNTAX)
            at += 1 + more
        self._check()

    def _read_option(self, word: bytes, rest: Sequence[bytes]) -> int | None:
        """Reads an option that all searches have; returns how many words belong to it, None if it is none."""
        if word in _SHOWN:
            self.shown.add(word)
        elif word in (b"ASC", b"DESC"):
            self.order = word
        elif word == b"ANY":
            self.any = True
        elif word == b"COUNT" and rest:
            self.limit(rest[0])
            return 1
        else:
            return None
        return 0

    def _read_area(self, word: bytes, rest: Sequence[bytes]) -> int | None:
        """The same for an option that says where to look."""
        by_polygon = self.by == b"BYPOLYGON"
        if word == b"FROMMEMBER" and rest and not by_polygon and (self.from_member or self.center is None):
            self.center_on(rest[0])
            return 1
        if word == b"FROMLONLAT" and len(rest) > 1 and not (by_polygon or self.from_member):
            self.center = read_position(rest[:2])
            return 2
        if self.by not in (b"", word):
            return None
        if word == b"BYRADIUS" and len(rest) > 1:
            self.by_radius(rest[:2])
            return 2
        if word == b"BYBOX" and len(rest) > 2:
            self.by_box(rest[:3])
            return 3
        if word == b"BYPOLYGON" and rest and self.center is None:
            return self.by_polygon(rest)
        return None

    def _read_destination(self, word: bytes, rest: Sequence[bytes]) -> int | None:
        """The same for an option that says what to store where."""
        if self.name == "geosearchstore" and word == b"STOREDIST":
            self.stores_distances = True
            return 0
        if self.name in ("georadius", "georadiusbymember") and word in (b"STORE", b"STOREDIST") and rest:
            self.destination = rest[0]
            self.stores_distances = word == b"STOREDIST"
            return 1
        return None

    def _check(self) -> None:
        if self.destination is not None and self.shown:
            raise CommandError(errors.store_and_more(self.name))
        if self.center is None and self.by != b"BYPOLYGON":
            raise CommandError(errors.no_center(self.name))
        if not self.by:
            raise CommandError(errors.no_shape(self.name))
        if self.any and not self.count:
            raise CommandError(errors.ANY_WITHOUT_COUNT)


_INT_END = 2**31


def _read_search(db: Database, args: Sequence[Any], name: str) -> _Search:
    """Reads a request, of which `args[0]` is not looked at, and the sorted set that it is about. As in Redis,
    what is wrong with that comes first. Raises CommandError."""
    at = 2 if name == "geosearchstore" else 1
    search = _Search(name, db.read_as(SortedSet, args[at]))
    at += 1
    if name == "geosearchstore":
        search.destination = args[1]
    elif name.startswith("georadiusbymember"):
        search.center_on(args[at])
        search.by = b"BYRADIUS"
        if search.found is not None:
            search.by_radius(args[at + 1 : at + 3])
        at += 3
    elif name.startswith("georadius"):
        search.center = read_position(args[at : at + 2])
        search.by_radius(args[at + 2 : at + 4])
        at += 4
    search.read_options(args[at:])
    return search


# -- searching --------------------------------------------------------------------------------


class _Match(NamedTuple):
    """A member in the area."""

    member: bytes
    score: float
    distance: float
    """From the centre, in the unit asked for."""


def _matches(search: _Search) -> list[_Match]:
    """What a search finds, in the order asked for."""
    if search.found is None:
        return []
    matches = _in_shape(search.found, search.make_shape(search.center or _NOWHERE), search.unit_m)
    if search.any:
        matches = islice(matches, search.count)
    found = list(matches)
    if search.order or (search.count and not search.any):
        found.sort(key=lambda match: match.distance, reverse=search.order == b"DESC")
    return found[: search.count] if search.count else found


def _in_shape(found: SortedSet, shape: Shape, unit_m: float) -> Iterator[_Match]:
    ranking = found.ranking
    for cell in shape.cells():
        first, end = cell.geohashes()
        members, scores = ranking.between(ranking.below(first), ranking.below(end))
        for member, score in zip(members, scores, strict=True):
            distance = shape.distance_m(position_of(score))
            if distance is not None:
                yield _Match(member, score, distance / unit_m)


def _reply(search: _Search) -> list[Any]:
    matches = _matches(search)
    if not search.shown:
        return [match.member for match in matches]
    reply = []
    for member, score, distance in matches:
        line: list[Any] = [member]
        if b"WITHDIST" in search.shown:
            line.append(distance_reply(distance))
        if b"WITHHASH" in search.shown:
            line.append(int(score))
        if b"WITHCOORD" in search.shown:
            line.append(position_reply(score))
        reply.append(line)
    return reply


def _scores(search: _Search) -> dict[bytes, float]:
    """What a search is to store."""
    by_distance = search.stores_distances
    return {match.member: match.distance if by_distance else match.score for match in _matches(search)}


def _run(db: Database, args: list[Any], name: str) -> Any:
    """Carries out any of the commands. The log gets what was stored: which members COUNT leaves out may be a
    matter of chance, and Redis 7 knows no polygons."""
    search = _read_search(db, args, name)
    if search.destination is None:
        return _reply(search)
    stored = store(db, search.destination, _scores(search), _event(name))
    log_as_made(db, search.destination)
    return stored


def _event(name: str) -> str:
    return "geosearchstore" if name == "geosearchstore" else "georadiusstore"


@command("GEOSELECT name request", group="geo", since="0.1.0", flags=READONLY, internal=True)
def geoselect(db: Database, args: list[Any]) -> bytes:
    """Returns what a search is to store, packed."""
    name, request = args[1:]
    return pack_scores(_scores(_read_search(db, request, name)))


def _plan_geosearchstore(call: Call) -> Plan:
    return _plan_store(call, call.args[2], call.args[1])


def _plan_georadius(call: Call) -> Plan:
    source, destination = (call.args[position] for position in call.command.key_positions(call.args))
    return _plan_store(call, source, destination)


def _plan_store(call: Call, source: bytes, destination: bytes) -> Plan:
    name = call.command.name
    request = [b"GEOSELECT", name, call.args]
    return store_elsewhere(call, source, request, destination, _event(name))


# -- the commands -----------------------------------------------------------------------------


def _destinations(args: Sequence[bytes]) -> Sequence[int]:
    """Where a request of GEORADIUS or GEORADIUSBYMEMBER holds the key to store in: after the last STORE or
    STOREDIST."""
    found: Sequence[int] = ()
    at = 5
    while at < len(args) - 1:
        if args[at].upper() in (b"STORE", b"STOREDIST"):
            at += 1
            found = (at,)
        at += 1
    return found


def _no_more(args: Sequence[bytes]) -> Sequence[int]:
    """`_destinations` has found what there is after a STOREDIST, too."""
    return ()


@command(
    "GEOSEARCH key [FROMMEMBER member | FROMLONLAT longitude latitude] <BYRADIUS radius <M | "
    "KM | FT | MI> | BYBOX width height <M | KM | FT | MI> | BYPOLYGON num-vertices longitude"
    " latitude [longitude latitude ...]> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] "
    "[WITHDIST] [WITHHASH]",
    group="geo",
    since="6.2.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area "
    "around the shape provided as the filter and M is the number of items inside the shape",
    arity=-7,
    history=(
        ("7.0.0", "Added support for uppercase unit names."),
        ("9.0.0", "Added support for the BYPOLYGON option."),
    ),
)
def geosearch(db: Database, args: list[Any]) -> Any:
    """Queries a geospatial index for members inside an area of a box, circle, or a polygon."""
    return _run(db, args, "geosearch")


@command(
    "GEOSEARCHSTORE destination source [FROMMEMBER member | FROMLONLAT longitude latitude] "
    "<BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI> | BYPOLYGON "
    "num-vertices longitude latitude [longitude latitude ...]> [ASC | DESC] [COUNT count "
    "[ANY]] [STOREDIST]",
    group="geo",
    since="6.2.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="OW UPDATE"), Key(2)),
    complexity="O(N+log(M)) where N is the number of elements in the grid-aligned bounding box area "
    "around the shape provided as the filter and M is the number of items inside the shape",
    arity=-8,
    history=(
        ("7.0.0", "Added support for uppercase unit names."),
        ("9.0.0", "Added support for the BYPOLYGON option."),
    ),
    plan=_plan_geosearchstore,
)
def geosearchstore(db: Database, args: list[Any]) -> Any:
    """Queries a geospatial index for members inside an area of a box, a circle, or a polygon, optionally
    stores the result."""
    return _run(db, args, "geosearchstore")


@command(
    "GEORADIUS key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] "
    "[WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
    group="geo",
    since="3.2.0",
    flags=WRITE | DENYOOM | MOVABLEKEYS,
    keys=(
        Key(1),
        Key("STORE", search_from=6, access="OW UPDATE VARIABLE_FLAGS", find=_destinations),
        Key("STOREDIST", search_from=6, access="OW UPDATE VARIABLE_FLAGS", find=_no_more),
    ),
    complexity="O(N+log(M)) where N is the number of elements inside the bounding box of the circular "
    "area delimited by center and radius and M is the number of items inside the index.",
    history=(
        ("6.2.0", "Added the `ANY` option for `COUNT`."),
        ("7.0.0", "Added support for uppercase unit names."),
    ),
    deprecated_since="6.2.0",
    replaced_by="`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
    plan=_plan_georadius,
)
def georadius(db: Database, args: list[Any]) -> Any:
    """Queries a geospatial index for members within a distance from a coordinate, optionally stores the
    result."""
    return _run(db, args, "georadius")


@command(
    "GEORADIUS_RO key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] "
    "[WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
    group="geo",
    since="3.2.10",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N+log(M)) where N is the number of elements inside the bounding box of the circular "
    "area delimited by center and radius and M is the number of items inside the index.",
    history=(
        ("6.2.0", "Added the `ANY` option for `COUNT`."),
        ("7.0.0", "Added support for uppercase unit names."),
    ),
    deprecated_since="6.2.0",
    replaced_by="`GEOSEARCH` with the `BYRADIUS` argument",
)
def georadius_ro(db: Database, args: list[Any]) -> Any:
    """Returns members from a geospatial index that are within a distance from a coordinate."""
    return _run(db, args, "georadius_ro")


@command(
    "GEORADIUSBYMEMBER key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH]"
    " [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]",
    group="geo",
    since="3.2.0",
    flags=WRITE | DENYOOM | MOVABLEKEYS,
    keys=(
        Key(1),
        Key("STORE", search_from=5, access="OW UPDATE VARIABLE_FLAGS", find=_destinations),
        Key("STOREDIST", search_from=5, access="OW UPDATE VARIABLE_FLAGS", find=_no_more),
    ),
    complexity="O(N+log(M)) where N is the number of elements inside the bounding box of the circular "
    "area delimited by center and radius and M is the number of items inside the index.",
    history=(
        ("6.2.0", "Added the `ANY` option for `COUNT`."),
        ("7.0.0", "Added support for uppercase unit names."),
    ),
    deprecated_since="6.2.0",
    replaced_by="`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
    plan=_plan_georadius,
)
def georadiusbymember(db: Database, args: list[Any]) -> Any:
    """Queries a geospatial index for members within a distance from a member, optionally stores the
    result."""
    return _run(db, args, "georadiusbymember")


@command(
    "GEORADIUSBYMEMBER_RO key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] "
    "[WITHHASH] [COUNT count [ANY]] [ASC | DESC]",
    group="geo",
    since="3.2.10",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N+log(M)) where N is the number of elements inside the bounding box of the circular "
    "area delimited by center and radius and M is the number of items inside the index.",
    history=(
        ("6.2.0", "Added the `ANY` option for `COUNT`."),
        ("7.0.0", "Added support for uppercase unit names."),
    ),
    deprecated_since="6.2.0",
    replaced_by="`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
)
def georadiusbymember_ro(db: Database, args: list[Any]) -> Any:
    """Returns members from a geospatial index that are within a distance from a member."""
    return _run(db, args, "georadiusbymember_ro")
