"""Sets, beside a real server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.compare import (
    Relaxations,
    Words,
    assert_same,
    call,
    in_any_order,
    repeated,
    sequences,
    with_options,
)
from tests.twin.servers import Server


def _as_many(ours: Any, theirs: Any) -> bool:
    """For members drawn at random."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs)
    return isinstance(ours, bytes) and isinstance(theirs, bytes)


def _page(ours: Any, theirs: Any) -> bool:
    """For a scan's first page: in any order if it is all, but how much is on a page is up to each side."""
    if not (isinstance(ours, list) and isinstance(theirs, list)):
        return False
    return not ours[0] == theirs[0] == b"0" or in_any_order(ours, theirs)


RELAXATIONS: Relaxations = {
    # Sets have no order.
    **dict.fromkeys(["SMEMBERS", "SINTER", "SUNION", "SDIFF", "SPOP"], in_any_order),
    "SSCAN": _page,
    "SRANDMEMBER": _as_many,
}

KEYS = [b"a", b"b", b"c", b"d", b"{a}:1"]

LOOKS: list[Words] = [
    look for key in KEYS for look in [("OBJECT", "ENCODING", key), ("SCARD", key), ("SMEMBERS", key)]
]
"""What there is in the end."""

keys = st.sampled_from(KEYS)
a_few = st.sampled_from(
    [
        *[b"", b"1", b"2", b"-3", b"01", b"-0", b"a", b"b", b"\xff\x00\r\n", b"x" * 64, b"y" * 65],
        *[b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808"],
    ]
)
counts = st.sampled_from([100, 2000, 2**63 - 1, 0, -1, -5, 2**63, -(2**63), "x", "", "01"])
sizes = st.sampled_from([1, 5, 126, 127, 128, 129, 511, 512, 513])
prefixes = st.sampled_from([b"", b"s"])

many = st.builds(lambda prefix, size: tuple(prefix + b"%d" % n for n in range(size)), prefixes, sizes)
"""Members in numbers near which encodings change."""

adding = st.builds(lambda key, found: ("SADD", key, *found), keys, many)
removing = st.builds(lambda key, found: ("SREM", key, *found), keys, many)


def members(name: str) -> st.SearchStrategy[Words]:
    return st.builds(lambda key, found: (name, key, *found), keys, st.lists(a_few, min_size=1, max_size=4))


def counted_keys(name: str) -> st.SearchStrategy[Words]:
    """A call with the number of its keys, which is right most of the time."""
    numbers = st.one_of(st.none(), st.none(), st.none(), st.sampled_from([0, -1, 1, 4, "x"]))
    return st.builds(
        lambda found, number: (name, len(found) if number is None else number, *found),
        st.lists(keys, min_size=1, max_size=3),
        numbers,
    )


calls = [
    members("SADD"),
    adding,
    adding,
    members("SREM"),
    removing,
    members("SMISMEMBER"),
    call("SISMEMBER", keys, a_few),
    call("SCARD", keys),
    call("SMEMBERS", keys),
    call("SMOVE", keys, keys, a_few),
    # What is drawn of several members at random cannot be the same: so all are popped, or of one.
    call("SPOP", keys, counts.filter(lambda count: count != 100)),
    call("SADD", "single", "m"),
    call("SPOP", "single"),
    call("SPOP", "single", counts),
    call("SRANDMEMBER", keys),
    with_options(call("SRANDMEMBER", keys), counts.map(lambda count: (count,)), most=2),
    repeated("SINTER", keys),
    repeated("SUNION", keys),
    repeated("SDIFF", keys),
    repeated("SINTERSTORE", keys, most=4),
    repeated("SUNIONSTORE", keys, most=4),
    # With three sets or more Redis may work by removing from a copy of the first, whose encoding stays.
    repeated("SDIFFSTORE", keys, most=3),
    with_options(
        counted_keys("SINTERCARD"),
        st.one_of(
            call("LIMIT", st.sampled_from([0, 1, 2, 1000, 2**63 - 1, -1, "x"])),
            st.sampled_from([("limit",), ("foo", "1")]),
        ),
        most=2,
    ),
    with_options(
        # Other cursors mean something to one side only.
        call("SSCAN", keys, st.sampled_from(["0", "0", "0", "00", "+0", "", "abc", "-1", 2**64])),
        st.one_of(
            call("MATCH", st.sampled_from(["*", "1*", "?", "[ab]", "", "x*"])),
            call("COUNT", st.sampled_from([1000, 2**63 - 1, 0, -1, 2**63, "abc"])),
            st.sampled_from([("COUNT",), ("foo", "bar"), ("NOVALUES",), ("NOSCORES",), ("TYPE", "set")]),
        ),
    ),
    call("OBJECT", st.just("ENCODING"), keys),
    call("SET", keys, st.sampled_from([b"7", b"text"])),
    call("TYPE", keys),
    repeated("DEL", keys),
    call("RENAME", keys, keys),
    call("COPY", keys, keys, st.just("REPLACE")),
    call("MOVE", keys, st.sampled_from([0, 1])),
    call("SELECT", st.sampled_from([0, 0, 1])),
]


@settings(max_examples=150, deadline=None)
@given(sequences(calls))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, [*given_calls, *LOOKS], RELAXATIONS)


@pytest.mark.parametrize("prefix", [b"", b"s"])
@pytest.mark.parametrize("size", [126, 127, 128, 129, 511, 512, 513])
def test_encodings(twin_server: Server, prefix: bytes, size: int) -> None:
    all_at_once = [prefix + b"%d" % number for number in range(size)]
    steps: list[Words] = [
        ("SADD", "a", *all_at_once),
        *(("SADD", "b", member) for member in all_at_once),
        ("SADD", "c", b"1", *all_at_once),
        ("SUNIONSTORE", "d", "a", "b"),
        ("SADD", "e", *all_at_once, b"x" * 65),
        ("SREM", "e", b"x" * 65),
        ("SINTERSTORE", "f", "e", "a"),
        ("SDIFFSTORE", "g", "e", "none"),
        *(("SADD", key, "more") for key in "ad"),
        ("SPOP", "b", size - 1),
        ("SPOP", "c", size // 2),
        ("SPOP", "e", size - size // 6 + 1),
    ]
    looks: list[Words] = [("OBJECT", "ENCODING", key) for key in "abcdefg"]
    calls: list[Words] = [each for step in steps for each in (step, *looks)] if size < 200 else steps + looks
    assert_same(twin_server, calls, {**RELAXATIONS, "SPOP": _as_many})
