"""Strings, beside a real server."""

from __future__ import annotations

from itertools import chain
from typing import Any

import hiredis
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.compare import (
    Relaxations,
    Words,
    assert_same,
    call,
    repeated,
    sequences,
    with_options,
    within,
)
from tests.twin.servers import Server


def _looked_up_first(ours: Any, theirs: Any) -> bool:
    return isinstance(theirs, hiredis.ReplyError) and (ours is None or str(ours).startswith("WRONGTYPE"))


RELAXATIONS: Relaxations = {
    # Relative times are counted from when each side carried out the call.
    "TTL": within(2),
    "PTTL": within(2000),
    # Redis looks at the key before it reads the time, Valkey the other way round.
    "GETEX": _looked_up_first,
}

keys = st.sampled_from([b"a", b"b", b"c", b"d", b"{a}:1"])
texts = st.sampled_from([b"", b"abc", b"ABCBDAB", b"bdcaba", b"\xff\x00\r\n", b"x" * 200])
numbers = st.sampled_from(
    [0, 1, -1, 7, -12, 2**63 - 1, -(2**63), 2**63, "01", "+1", "-0", " 1", "1 ", "", "abc", "1e3"]
)
floats = st.one_of(
    numbers,
    st.sampled_from(
        ["0.1", "-0.2", "3.0e3", "1e17", "5e-18", "inf", "-inf", "nan", "0x1.8p3", "1e5000", ".5", "1."]
    ),
    st.decimals(-10000, 10000, places=5),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
values = st.one_of(texts, numbers)
offsets = st.one_of(st.integers(-12, 12), numbers)

LATER_S = 4102444800
"""The year 2100."""

expiries: st.SearchStrategy[Words] = st.sampled_from(
    [
        *[("EX", 5000), ("px", 5_000_000), ("EXAT", LATER_S), ("PXAT", LATER_S * 1000 + 123)],
        *[("KEEPTTL",), ("PERSIST",), ("EXAT", 1), ("PXAT", 1), ("EX", 0), ("PX", -1), ("EXAT", 0), ("EX",)],
        *[("PX", "abc"), ("EX", 2**63 - 1), ("PX", 2**63 - 1), ("EXAT", 2**63 // 1000), ("PX", 2**63)],
    ]
)
set_options = st.one_of(
    expiries,
    st.sampled_from([("NX",), ("xx",), ("GET",), ("foo",), ("IFEQ",)]),
    st.tuples(st.just("IFEQ"), values),
)


def _msetex(count_off: int, pairs: list[Words], options: list[Words]) -> Words:
    return ("MSETEX", len(pairs) + count_off, *chain(*pairs, *options))


calls = [
    call("GET", keys),
    call("SET", keys, values),
    with_options(call("SET", keys, values), set_options),
    call("SETNX", keys, values),
    call("GETSET", keys, values),
    with_options(call("GETEX", keys), expiries, most=2),
    call("GETDEL", keys),
    call("DELIFEQ", keys, values),
    call(
        "SETEX", keys, st.one_of(st.just(5000), numbers.filter(lambda number: number not in (1, 7))), values
    ),
    call("PSETEX", keys, st.sampled_from([5_000_000, 0, -1, 2**63 - 1, "abc"]), values),
    call("STRLEN", keys),
    call("APPEND", keys, values),
    call("GETRANGE", keys, offsets, offsets),
    call("SUBSTR", keys, offsets, offsets),
    call("SETRANGE", keys, st.one_of(st.integers(-2, 300), st.sampled_from([2**29, 2**62, "abc"])), values),
    call("INCR", keys),
    call("DECR", keys),
    call("INCRBY", keys, numbers),
    call("DECRBY", keys, numbers),
    call("INCRBYFLOAT", keys, floats),
    repeated("MGET", keys),
    repeated("MSET", keys, values),
    repeated("MSETNX", keys, values),
    st.builds(
        _msetex,
        st.sampled_from([0, 0, 0, 0, 1, -1]),
        st.lists(st.tuples(keys, values), min_size=1, max_size=4),
        st.lists(st.one_of(expiries, st.sampled_from([("NX",), ("XX",), ("GET",)])), max_size=2),
    ),
    with_options(
        call("LCS", keys, keys),
        st.sampled_from(
            [("IDX",), ("LEN",), ("WITHMATCHLEN",), ("MINMATCHLEN", 2), ("MINMATCHLEN",), ("x",)]
        ),
    ),
    call("TTL", keys),
    call("PTTL", keys),
    call("TYPE", keys),
    call("RPUSH", keys, values),
]


@settings(max_examples=100, deadline=None)
@given(sequences(calls))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, given_calls, RELAXATIONS)
