"""Streams, beside a real server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.compare import (
    Relaxations,
    Strategy,
    Words,
    assert_same,
    call,
    repeated,
    sequences,
    with_options,
)
from tests.twin.servers import Server, valkey

TOLERANCE_MS = 20_000
A_TIME_MS = 10**12
"""Larger numbers are times since 1970."""


def _same_but_for_times(ours: Any, theirs: Any) -> bool:
    """Whether replies are equal, but for times since 1970, which may be a little later."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same_but_for_times, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(_same_but_for_times(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, int) and isinstance(theirs, int) and ours > A_TIME_MS < theirs:
        return abs(ours - theirs) < TOLERANCE_MS
    return bool(ours == theirs)


def _same_but_for_idle(ours: Any, theirs: Any) -> bool:
    """The same for times since something that happened meanwhile: in the replies of XPENDING and of XINFO
    CONSUMERS."""
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) == len(theirs) == 4 and isinstance(ours[2], int):
            ours, theirs = [*ours[:2], _rounded(ours[2]), ours[3]], [*theirs[:2], _rounded(theirs[2]), theirs[3]]
        return len(ours) == len(theirs) and all(map(_same_but_for_idle, ours, theirs))
    return bool(ours == theirs)


def _rounded(ms: int) -> int:
    """Times that are only some seconds apart as one."""
    return -1 if ms < 0 else round(ms / TOLERANCE_MS)


def _information(ours: Any, theirs: Any) -> bool:
    """For XINFO, where the times since something are given by name."""
    return _same_but_for_times(_without_idle(ours), _without_idle(theirs))


def _without_idle(reply: Any) -> Any:
    if isinstance(reply, dict):
        items = [(key, _rounded(value) if key in IDLE else _without_idle(value)) for key, value in reply.items()]
        return dict(items)
    if isinstance(reply, list):
        # In RESP2 a map is a list of keys and values.
        return [
            _rounded(value) if index and reply[index - 1] in IDLE else _without_idle(value)
            for index, value in enumerate(reply)
        ]
    return reply


IDLE = (b"idle", b"inactive")

RELAXATIONS: Relaxations = {"XPENDING": _same_but_for_idle, "XINFO": _information}

KEYS = [b"a", b"b", b"c", b"{a}:1"]
A_STRING = b"string"

keys = st.sampled_from([*KEYS, *KEYS, A_STRING])
groups = st.sampled_from([b"g", b"g", b"g", b"h", b"\xff\r\n"])
consumers = st.sampled_from([b"alice", b"bob", b""])
numbers = st.sampled_from([0, 1, 2, 3, 5, 1000, -1, 2**63 - 1, 2**63, "x", "", "01"])
small_ids = st.builds(lambda ms, seq: f"{ms}-{seq}", st.integers(0, 6), st.integers(0, 3))
odd_ids = st.sampled_from(
    [
        *["0", "5", "5-*", "0-*", "6-*", "-", "+", "$", ">", "", "x", "1-", "-1", "1-1-1", "(1", "(2-2", "("],
        *["18446744073709551615-18446744073709551615", "18446744073709551615", "18446744073709551616-1"],
        *["18446744073709551615-*", "007-01", "+4-1", "4-+1", " 4-1", "4- 1", "4--1", "4--01", "3-1 "],
        *[b"4-1\x00x", b"4\x00-1", "0" * 130, "0" * 120 + "5"],
    ]
)
ids = st.one_of(small_ids, small_ids, small_ids, odd_ids)
starts = st.one_of(ids, small_ids.map(lambda text: f"({text}"), st.just("-"))
ends = st.one_of(ids, small_ids.map(lambda text: f"({text}"), st.just("+"))
pairs = st.lists(
    st.sampled_from([b"f", b"v", b"", b"1", b"\xff\r\n", b"long" * 30]), min_size=2, max_size=6
).map(tuple)


def some_ids(*head: Strategy | str) -> Strategy:
    return st.builds(
        lambda words, found: (*words, *found), call(*head), st.lists(ids, min_size=1, max_size=4)
    )


def some_small_ids(*head: Strategy | str) -> Strategy:
    return st.builds(
        lambda words, found: (*words, *found), call(*head), st.lists(small_ids, min_size=1, max_size=4)
    )


signs = st.sampled_from([(), (), ("=",), ("~",)])
trims = st.one_of(
    st.builds(lambda sign, number: ("MAXLEN", *sign, number), signs, numbers),
    st.builds(lambda sign, text: ("minid", *sign, text), signs, ids),
    call("LIMIT", numbers),
)
adding_options = st.one_of(trims, st.just(("NOMKSTREAM",)), st.sampled_from([("MAXLEN",), ("MINID", "~")]))


def _adding(key: bytes, options: list[Words], stream_id: Any, found: Words) -> Words:
    return ("XADD", key, *chain(*options), stream_id, *found)


def _reading(head: Words, options: list[Words], some: list[tuple[bytes, Any]]) -> Words:
    streams = ("STREAMS", *(key for key, _ in some), *(text for _, text in some))
    return (*head, *chain(*options), *streams)


reading_options = st.lists(
    st.one_of(
        call("COUNT", numbers),
        st.sampled_from([("BLOCK", 1), ("block", -1), ("BLOCK", "x"), ("NOACK",), ("COUNT",), ("FOO",)]),
        st.builds(lambda group: ("GROUP", group, b"bob"), groups),
    ),
    max_size=1,
)
streams_read = st.lists(st.tuples(keys, ids), min_size=1, max_size=3)
new_or_old = st.one_of(st.just(">"), st.just(">"), st.just("0"), ids)
streams_read_by_group = st.lists(st.tuples(keys, new_or_old), min_size=1, max_size=3)
members = st.builds(lambda group, consumer: ("XREADGROUP", "GROUP", group, consumer), groups, consumers)
# Between these lie all times since the last delivery that tests can tell apart.
idle_times = st.sampled_from([0, 0, 50_000, 10**9, -1, "x"])
claim_options = st.one_of(
    call("IDLE", st.sampled_from([0, 100_000, -5, "x"])),
    call("TIME", st.sampled_from([0, 1000, 2**62, -5, "x"])),
    call("RETRYCOUNT", numbers),
    call("LASTID", ids),
    st.sampled_from([("FORCE",), ("force",), ("JUSTID",), ("FOO",), ("IDLE",)]),
)

calls = [
    *[st.builds(_adding, keys, st.just([]), ids, pairs)] * 4,
    st.builds(_adding, keys, st.lists(adding_options, max_size=2), ids, pairs),
    # Its last ID lies in the future, so that it is not the time that chooses the next one.
    call("XADD", "future", st.just("99999999999999-1"), "f", "v"),
    call("XADD", "future", "MAXLEN", "3", "99999999999999-*", "f", "v"),
    with_options(call("XTRIM", keys), trims, most=2),
    some_ids("XDEL", keys),
    some_small_ids("XDEL", keys),
    call("XLEN", keys),
    with_options(call("XRANGE", keys, starts, ends), call("COUNT", numbers), most=1),
    with_options(call("XREVRANGE", keys, ends, starts), call("COUNT", numbers), most=1),
    with_options(
        call("XSETID", keys, ids),
        st.one_of(call("ENTRIESADDED", numbers), call("MAXDELETEDID", ids), st.just(("FOO",))),
        most=2,
    ),
    st.builds(_reading, st.just(("XREAD",)), reading_options, streams_read),
    *[st.builds(_reading, members, reading_options, streams_read_by_group)] * 3,
    with_options(
        call("XGROUP", st.just("CREATE"), keys, groups, ids),
        st.one_of(st.just(("MKSTREAM",)), call("ENTRIESREAD", numbers), st.just(("ENTRIESREAD",))),
        most=2,
    ),
    call("XGROUP", st.just("CREATE"), keys, groups, st.sampled_from(["0", "$"]), st.just("MKSTREAM")),
    with_options(
        call("XGROUP", st.just("SETID"), keys, groups, ids), call("ENTRIESREAD", numbers), most=1
    ),
    call("XGROUP", st.just("DESTROY"), keys, groups),
    call("XGROUP", st.just("CREATECONSUMER"), keys, groups, consumers),
    call("XGROUP", st.just("DELCONSUMER"), keys, groups, consumers),
    some_ids("XACK", keys, groups),
    some_small_ids("XACK", keys, groups),
    with_options(some_ids("XCLAIM", keys, groups, consumers, idle_times), claim_options),
    with_options(some_small_ids("XCLAIM", keys, groups, consumers, idle_times), claim_options),
    with_options(
        call("XAUTOCLAIM", keys, groups, consumers, idle_times, starts),
        st.one_of(call("COUNT", st.sampled_from([1, 2, 3, 0, -1, "x"])), st.just(("JUSTID",)), st.just(("FOO",))),
    ),
    call("XPENDING", keys, groups),
    call("XPENDING", keys, groups, starts, ends, numbers),
    call("XPENDING", keys, groups, starts, ends, numbers, consumers),
    call("XPENDING", keys, groups, "IDLE", idle_times, starts, ends, numbers),
    call("XPENDING", keys, groups, "idle", idle_times, starts, ends),
    call("XINFO", "STREAM", keys),
    call("XINFO", "STREAM", keys, "FULL"),
    call("XINFO", "STREAM", keys, "FULL", "COUNT", numbers),
    call("XINFO", "STREAM", keys, "COUNT"),
    call("XINFO", "GROUPS", keys),
    call("XINFO", "CONSUMERS", keys, groups),
    call("SET", st.just(A_STRING), "x"),
    call("TYPE", keys),
    call("OBJECT", "ENCODING", keys),
    repeated("DEL", keys, most=1),
]

CONTENTS: list[Words] = [("XINFO", "STREAM", key, "FULL", "COUNT", 0) for key in [*KEYS, b"future"]]


@settings(max_examples=300, deadline=None)
@given(sequences(calls, most=50))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, given_calls + CONTENTS, RELAXATIONS)
