"""Commands for keys of any type and for whole databases, beside a real server."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.compare import (
    Relaxations,
    Words,
    assert_same,
    call,
    in_any_order,
    of_one_type,
    repeated,
    sequences,
    with_options,
    within,
)
from tests.twin.servers import Server

RELAXATIONS: Relaxations = {
    # Relative times are counted from when each side carried out the call.
    "TTL": within(2),
    "PTTL": within(2000),
    "EXPIRETIME": within(2),
    "PEXPIRETIME": within(2000),
    "OBJECT": within(2),
    # Neither has an order of its keys.
    "KEYS": in_any_order,
    "SCAN": in_any_order,
    "RANDOMKEY": of_one_type,
}

LATER_S = 4102444800
"""The year 2100."""

keys = st.sampled_from([b"a", b"b", b"c", b"d", b"ab", b"{a}:1", b"\x00\xff"])
values = st.sampled_from([b"", b"7", b"-12", b"01", b"abc", b"x" * 200])
databases = st.sampled_from([0, 1, 2])
strange_databases = st.sampled_from([-1, 15, 16, 2**31, 2**63, "", "abc", "01"])
patterns = st.sampled_from(["*", "a*", "?", "[ab]*", "[^a]", "a", "", "{a}*", "\\a", "[", "*b"])

seconds = st.sampled_from([5000, 90_000, 0, -1, 2**63 - 1, 2**63 // 1000, -(2**63), "abc", ""])
moments = st.sampled_from(
    [LATER_S, LATER_S + 1, LATER_S * 1000, 1, 0, -1, 2**63 - 1, 2**63, 2**63 // 1000, -(2**63), "abc"]
)
# What depends on whether a millisecond has passed is left out: GT and LT go with moments alone.
conditions = st.sampled_from([("NX",), ("xx",), ("foo",)])
all_conditions = st.sampled_from([("NX",), ("XX",), ("gt",), ("LT",), ("foo",)])

flush_modes = st.sampled_from([("SYNC",), ("async",), ("foo",)])

calls = [
    call("SET", keys, values),
    call("SET", keys, values),
    call("SET", keys, values, st.just("EX"), st.just(5000)),
    call("INCR", keys),
    call("RPUSH", keys, values, values),
    call("LRANGE", keys, "0", "-1"),
    repeated("DEL", keys),
    repeated("UNLINK", keys),
    repeated("EXISTS", keys),
    repeated("TOUCH", keys),
    call("TYPE", keys),
    call("GET", keys),
    with_options(call("EXPIRE", keys, seconds), conditions, most=2),
    with_options(
        call("PEXPIRE", keys, seconds.map(lambda s: s * 1000 if s == 5000 else s)), conditions, most=2
    ),
    with_options(call("EXPIREAT", keys, moments), all_conditions, most=2),
    with_options(call("PEXPIREAT", keys, moments), all_conditions, most=2),
    call(st.sampled_from(["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "PERSIST"]), keys),
    call("RENAME", keys, keys),
    call("RENAMENX", keys, keys),
    with_options(
        call("COPY", keys, keys),
        st.one_of(
            st.sampled_from([("REPLACE",), ("replace",), ("DB",), ("foo",)]),
            call("DB", st.one_of(databases, strange_databases)),
        ),
        most=2,
    ),
    call("MOVE", keys, st.one_of(databases, strange_databases)),
    call("SELECT", databases),
    call("SWAPDB", databases, databases),
    call("SWAPDB", strange_databases, databases),
    call("SWAPDB", databases, strange_databases),
    call("DBSIZE"),
    call("KEYS", patterns),
    call("RANDOMKEY"),
    with_options(
        # A small database comes in one go on either side; other cursors mean something to one of them.
        call(
            "SCAN",
            st.sampled_from(["0", "0", "0", "00", "+0", " 0", "", "abc", "-1", 2**64]),
        ),
        st.one_of(
            call("MATCH", patterns),
            call("COUNT", st.sampled_from([100, 1000, 2**63 - 1, 0, -1, 2**63, "abc"])),
            call("TYPE", st.sampled_from(["string", "STRING", "hash"])),
            st.sampled_from([("COUNT",), ("foo", "bar")]),
        ),
    ),
    call("OBJECT", st.sampled_from(["ENCODING", "refcount", "IDLETIME", "FREQ", "foo"]), keys),
    call("OBJECT", st.sampled_from(["ENCODING", "foo"])),
    with_options(call("FLUSHDB"), flush_modes, most=2),
    with_options(call("FLUSHALL"), flush_modes, most=2),
]


@settings(max_examples=100, deadline=None)
@given(sequences(calls))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, given_calls, RELAXATIONS)
