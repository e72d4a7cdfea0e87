"""Places, beside a real server."""

from __future__ import annotations

import random
from itertools import chain
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.compare import Relaxations, Words, assert_same, call, repeated, sequences, with_options
from tests.twin.servers import Server


def _no_such_place(ours: Any, theirs: Any) -> bool:
    return (
        isinstance(ours, hiredis.ReplyError)
        and str(ours) == "ERR could not decode requested zset member"
        and str(theirs).startswith("ERR member ")
    )


RELAXATIONS: Relaxations = dict.fromkeys(
    # Valkey 9 tells of a missing member in other words than Redis.
    ["GEOSEARCH", "GEOSEARCHSTORE", "GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"],
    _no_such_place,
)

KEYS = [b"a", b"b", b"c", b"{a}:1"]
LOOKS: list[Words] = [
    look
    for key in KEYS
    for look in [("OBJECT", "ENCODING", key), ("ZRANGE", key, 0, -1, "WITHSCORES"), ("ZCARD", key)]
]
"""What there is in the end."""

keys = st.sampled_from(KEYS)
members = st.sampled_from([b"", b"m", b"n", b"o", b"p", b"q", b"r", b"\xff\x00"])
units = st.sampled_from(["m", "KM", "ft", "Mi", "M", "km", "foo"])
lengths = st.one_of(
    st.floats(0, 2e4).map(repr),
    st.sampled_from([0, 1, 100, 5000, 1e6, 1e300, "inf", -1, "x", "nan"]),
)


def _near(limit: float) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.floats(-limit, limit).map(repr),
        st.integers(-3, 3),
        st.sampled_from([limit, -limit, limit + 1e-7, 90, "x", "inf", "1e-400"]),
    )


positions = st.tuples(_near(180.0), _near(85.05112878))
good_positions = st.tuples(st.floats(-180, 180).map(repr), st.floats(-85, 85).map(repr))

add_options = st.sampled_from([("NX",), ("xx",), ("CH",), ("INCR",), ("foo",)])


@st.composite
def adding(draw: Any, places: st.SearchStrategy[Any]) -> Words:
    options = draw(st.lists(add_options, max_size=2)) if draw(st.booleans()) else []
    found = draw(st.lists(st.tuples(places, members), min_size=1, max_size=5))
    words = [(*place, member) for place, member in found]
    return ("GEOADD", draw(keys), *chain(*options), *chain(*words))


@st.composite
def polygons(draw: Any) -> Words:
    """Not so large that Valkey would miss a part of them."""
    longitude, latitude = draw(st.floats(-170, 170)), draw(st.floats(-60, 60))
    count = draw(st.integers(3, 6))
    offsets = draw(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=count, max_size=count))
    stated = draw(st.sampled_from([count, count, count, count, 2, count + 1, 2**31, "x"]))
    corners = [(repr(longitude + east), repr(latitude + north)) for east, north in offsets]
    return ("BYPOLYGON", stated, *chain(*corners))


origins = st.one_of(call("FROMMEMBER", members), positions.map(lambda place: ("FROMLONLAT", *place)))
areas = st.one_of(
    call("BYRADIUS", lengths, units),
    call("BYRADIUS", lengths, units),
    call("BYBOX", lengths, lengths, units),
    polygons(),
)
counting = st.one_of(
    call("COUNT", st.sampled_from([1, 2, 3, 100, 0, -1, "x", 2**63])),
    st.builds(lambda count: ("COUNT", count, "ANY"), st.integers(1, 4)),
    st.sampled_from([("ANY",), ("COUNT",)]),
)
shown = st.sampled_from([("WITHDIST",), ("WITHHASH",), ("withcoord",), ("ASC",), ("desc",), ("foo",)])
search_options = st.one_of(
    shown, shown, counting, areas, origins, st.sampled_from([("STOREDIST",), ("STORE", "a")])
)
radius_options = st.one_of(
    shown, counting, call("STORE", keys), call("STOREDIST", keys), origins, st.just(("STORE",))
)


@st.composite
def searches(draw: Any, *head: Any) -> Words:
    name, *rest = (draw(part) if isinstance(part, st.SearchStrategy) else part for part in head)
    area = draw(areas)
    parts = [area] if area[0] == "BYPOLYGON" and draw(st.integers(0, 4)) else [draw(origins), area]
    return (
        name,
        *rest,
        *chain(*draw(st.permutations([*parts, *draw(st.lists(search_options, max_size=2))]))),
    )


calls = [
    adding(good_positions),
    adding(good_positions),
    adding(st.tuples(st.integers(-2, 2), st.integers(-2, 2))),
    adding(positions),
    call("ZADD", keys, st.sampled_from([0, -5, "0.5", "1e20", "-inf", "inf", 2**52, 2**52 - 1]), members),
    call("GEODIST", keys, members, members),
    with_options(call("GEODIST", keys, members, members), units.map(lambda unit: (unit,)), most=2),
    repeated("GEOHASH", keys, members, most=1),
    st.builds(lambda key, found: ("GEOPOS", key, *found), keys, st.lists(members, max_size=4)),
    st.builds(lambda key, found: ("GEOHASH", key, *found), keys, st.lists(members, max_size=4)),
    searches("GEOSEARCH", keys),
    searches("GEOSEARCH", keys),
    searches("GEOSEARCHSTORE", keys, keys),
    with_options(
        st.builds(
            lambda name, key, place, *circle: (name, key, *place, *circle),
            st.sampled_from(["GEORADIUS", "GEORADIUS", "GEORADIUS_RO"]),
            keys,
            positions,
            lengths,
            units,
        ),
        radius_options,
    ),
    with_options(
        call(st.sampled_from(["GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"]), keys, members, lengths, units),
        radius_options,
    ),
    call("SET", keys, st.just(b"text")),
    repeated("DEL", keys),
]


@settings(max_examples=150, deadline=None)
@given(sequences(calls))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, [*given_calls, *LOOKS], RELAXATIONS)


@pytest.mark.parametrize("seed", range(3))
def test_many_places(twin_server: Server, seed: int) -> None:
    """Scores, coordinates and distances to the last digit, and the order of what nobody has asked to be
    sorted."""
    chance = random.Random(seed)

    def somewhere() -> list[str]:
        return [repr(chance.uniform(-180, 180)), repr(chance.uniform(-85.05, 85.05))]

    names = [b"m%d" % number for number in range(300)]
    calls: list[Words] = [("GEOADD", "a", *chain(*([*somewhere(), name] for name in names)))]
    calls += [(name, "a", *names) for name in ("ZMSCORE", "GEOPOS", "GEOHASH")]
    for _ in range(100):
        calls.append(("GEODIST", "a", *chance.sample(names, 2), chance.choice(["m", "km", "ft", "mi"])))
        size, other = (repr(10 ** chance.uniform(3, 7.5)) for _ in range(2))
        more = chance.choice([(), ("COUNT", 5, "ANY"), ("COUNT", 5), ("ASC",), ("DESC", "COUNT", 9)])
        center = ("GEOSEARCH", "a", "FROMLONLAT", *somewhere())
        calls.append((*center, "BYRADIUS", size, "m", "WITHDIST", *more))
        calls.append((*center, "BYBOX", size, other, "m", "WITHDIST", "WITHHASH", "WITHCOORD", *more))
        member = chance.choice(names)
        calls.append(("GEORADIUSBYMEMBER", "a", member, size, "ft", "STOREDIST", "b", *more))
        calls.append(("ZRANGE", "b", 0, -1, "WITHSCORES"))
    assert_same(twin_server, calls, RELAXATIONS)
