"""HyperLogLogs, beside a real server: the same estimates, and the same bytes in the strings."""

from __future__ import annotations

import random
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.local import Local
from tests.twin.compare import Relaxations, Words, assert_same, call, repeated, sequences
from tests.twin.servers import Server


def _without_estimate(reply: Any) -> Any:
    is_one = isinstance(reply, bytes) and reply.startswith(b"HYLL")
    return reply[:8] + reply[16:] if is_one else reply


def _but_for_the_estimate(ours: Any, theirs: Any) -> bool:
    return bool(_without_estimate(ours) == _without_estimate(theirs))


def _other_error(ours: Any, theirs: Any) -> bool:
    return isinstance(ours, hiredis.ReplyError) and isinstance(theirs, hiredis.ReplyError)


RELAXATIONS: Relaxations = {
    # PFCOUNT of Redis puts what it has found into the string.
    "GET": _but_for_the_estimate,
    # Of several keys that hold no HyperLogLog one is told.
    "PFCOUNT": _other_error,
    "PFMERGE": _other_error,
}

OPCODES = st.one_of(
    st.binary(max_size=12),
    st.just(b"\x7f\xff"),
    st.just(b"\x7f\xf0\x84\x88\x8c\x03\x07"),
    st.just(b"\x3f" * 256),
    st.just(b"\x3f" * 255 + b"\x00" * 64),
    st.just(b"\x83" * 4096),
)
strings = st.one_of(
    st.builds(lambda opcodes: b"HYLL\x01" + bytes(10) + b"\x80" + opcodes, OPCODES),
    st.builds(
        lambda byte, more: b"HYLL\x00" + bytes(10) + b"\x80" + bytes([byte]) * (12288 + more),
        st.integers(0, 255),
        st.sampled_from([0, 0, 0, 1, -1]),
    ),
    st.sampled_from([b"", b"HYLL", b"17", b"HYLL\x02" + bytes(11), b"HYLL\x01" + bytes(10), b"x" * 20]),
    st.just(b"HYLL\x01\x00\x00\x00" + b"\x2a" + bytes(7) + b"\x7f\xff"),
)
keys = st.sampled_from([b"a", b"b", b"c", b"d", b"{a}:1"])
elements = st.one_of(st.integers(0, 50), st.binary(max_size=20))
many = st.builds(
    lambda key, seed, count: ("PFADD", key, *random.Random(seed).sample(range(10**6), count)),
    keys,
    st.integers(0, 5),
    st.sampled_from([30, 300, 1500]),
)

calls = [
    call("SET", keys, strings),
    repeated("PFADD", keys, most=1),
    call("PFADD", keys, elements),
    call("PFADD", keys, elements, elements),
    many,
    call("PFCOUNT", keys),
    repeated("PFCOUNT", keys),
    repeated("PFMERGE", keys),
    call("PFDEBUG", st.sampled_from(["ENCODING", "decode", "TODENSE", "GETREG", "x"]), keys),
    call("GET", keys),
    call("OBJECT", "ENCODING", keys),
    call("RPUSH", keys, elements),
    call("EXPIRE", keys, st.just(5000)),
    call("DEL", keys),
]


@settings(max_examples=40, deadline=None)
@given(sequences(calls, most=20))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, given_calls, RELAXATIONS)


@pytest.mark.parametrize(
    ("most_bytes", "encodings"), [(0, {0}), (100, {0, 1}), (3000, {0, 1}), (16000, {1})], ids=str
)
def test_the_strings_are_the_same_bytes(twin_server: Server, most_bytes: int, encodings: set[int]) -> None:
    with twin_server.connect() as twin:
        before = twin.config_get("hll-sparse-max-bytes")
        twin.config_set("hll-sparse-max-bytes", most_bytes)
        try:
            assert _compared(twin, Local(hll_sparse_max_bytes=most_bytes)) == encodings
        finally:
            twin.config_set("hll-sparse-max-bytes", before["hll-sparse-max-bytes"])


def _compared(twin: Any, local: Local) -> set[int]:
    """Adds elements on both sides and compares the strings; returns which encodings there were."""
    numbers = random.Random(1)
    twin.flushall()
    encodings = set()
    for size in [1] * 20 + [7] * 20 + [50] * 40 + [400] * 4:
        elements = [numbers.randbytes(numbers.randrange(24)) for _ in range(size)]
        assert local.call("PFADD", "key", *elements) == twin.execute_command("PFADD", "key", *elements)
        string = twin.get("key")
        assert local.call("GET", "key") == string
        encodings.add(string[4])
    assert local.call("PFCOUNT", "key") == twin.pfcount("key")
    return encodings
