"""Strings as arrays of bits and of integers, beside a real server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.compare import Words, assert_same, call, repeated, sequences, with_options
from tests.twin.servers import Server, redis_8

keys = st.sampled_from([b"a", b"b", b"c", b"d", b"{a}:1"])
strings = st.one_of(
    st.sampled_from(
        [b"", b"foobar", b"\xff" * 9, b"\x00" * 9, b"\x00\xff\xf0", b"\xff\x00\x0f", b"17", b"-1"]
    ),
    st.binary(max_size=12),
)
numbers = st.one_of(
    st.integers(-300, 300),
    st.sampled_from([2**63 - 1, -(2**63), 2**63, 2**62, "01", "", "abc", "+1"]),
)
bits = st.sampled_from([0, 1, 0, 1, 2, -1, "x", ""])
offsets = st.one_of(st.integers(0, 130), st.sampled_from([-1, 2**32, 2**63, "x", "", "#1"]))
places = st.one_of(st.integers(-14, 14), st.integers(-100, 100), st.sampled_from([2**62, -(2**62), "x", ""]))
units = st.sampled_from(["BIT", "bit", "BYTE", "bytes", ""])
ranges = st.one_of(
    st.just(()),
    st.tuples(places),
    st.tuples(places, places),
    st.tuples(places, places, units),
    st.tuples(places, places, units),
    st.tuples(places, places, units, places),
)

widths = st.one_of(st.sampled_from([0, 1, 2, 8, 16, 32, 63, 64, 65, "", "x", "08"]), st.integers(1, 64))
types = st.builds(lambda letter, width: f"{letter}{width}", st.sampled_from("iiiuuuI"), widths)
field_offsets = st.one_of(offsets, st.integers(0, 12).map(lambda number: f"#{number}"), st.just("#-1"))
reads = st.tuples(st.sampled_from(["GET", "get"]), types, field_offsets)
writes = st.one_of(
    st.tuples(st.sampled_from(["SET", "INCRBY", "incrby"]), types, field_offsets, numbers),
    st.tuples(st.just("OVERFLOW"), st.sampled_from(["WRAP", "SAT", "FAIL", "fail", "x"])),
)
odd = st.sampled_from([("GET",), ("GET", "u8"), ("SET", "u8", 0), ("OVERFLOW",), ("x",), ()])


def fields(name: str) -> st.SearchStrategy[Words]:
    subcommands = st.lists(st.one_of(reads, reads, writes, writes, odd), max_size=4)
    return st.builds(lambda key, found: (name, key, *chain(*found)), keys, subcommands)


def bitop(operations: list[str]) -> st.SearchStrategy[Words]:
    sources = st.lists(keys, min_size=1, max_size=4)
    return st.builds(
        lambda operation, key, found: ("BITOP", operation, key, *found),
        st.sampled_from(operations),
        keys,
        sources,
    )


others: list[Any] = [
    call("SET", keys, strings),
    call("SET", keys, strings, st.just("EX"), st.just(5000)),
    call("SETBIT", keys, offsets, bits),
    call("SETBIT", keys, st.integers(0, 130), st.integers(0, 1)),
    call("GET", keys),
    call("TTL", keys).map(lambda words: ("EXISTS", words[1])),
    call("OBJECT", "ENCODING", keys),
    call("RPUSH", keys, strings),
    call("DEL", keys),
]
calls = [
    *others,
    call("GETBIT", keys, offsets),
    with_options(call("BITCOUNT", keys), ranges, most=1),
    with_options(call("BITPOS", keys, bits), ranges, most=1),
    bitop(["AND", "OR", "xor", "NOT", "x"]),
    fields("BITFIELD"),
    fields("BITFIELD_RO"),
    repeated("MGET", keys),
]


@settings(max_examples=100, deadline=None)
@given(sequences(calls))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, given_calls, {})


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    """A Redis 8.2, which knows operations that the other twin does not."""
    with redis_8() as server:
        yield server


@settings(max_examples=60, deadline=None)
@given(sequences([*others, bitop(["DIFF", "DIFF1", "ANDOR", "one", "ONE", "DIFF", "AND", "NOT", "x"])]))
def test_newer_operations(redis_server: Server, given_calls: list[Words]) -> None:
    assert_same(redis_server, given_calls, {})
