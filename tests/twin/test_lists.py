"""Lists, beside a real server."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.compare import Relaxations, Words, assert_same, call, repeated, sequences, with_options
from tests.twin.servers import Server

RELAXATIONS: Relaxations = {}

KEYS = [b"a", b"b", b"c", b"d", b"{a}:1"]
A_STRING = b"string"

keys = st.sampled_from([*KEYS, *KEYS, A_STRING])
elements = st.sampled_from([b"x", b"y", b"z", b"", b"1", b"-7", b"\xff\x00\r\n", b"x" * 70, b"long" * 1000])
numbers = st.sampled_from(
    [0, 1, 2, -1, -2, 2**63 - 1, -(2**63), -(2**63) + 1, 2**63, "01", "+1", "-0", " 1", "", "abc", "1.0"]
)
indexes = st.one_of(st.integers(-6, 6), st.integers(-6, 6), numbers)
# Redis 7.2 and Valkey take an index of LSET modulo 2**32, so that 2**63 - 1 is their last element.
narrow_indexes = indexes.filter(lambda index: index not in (2**63 - 1, -(2**63), -(2**63) + 1))
ends = st.sampled_from(["LEFT", "RIGHT", "left", "Right", "UP"])


def pushed(name: str) -> st.SearchStrategy[Words]:
    return st.builds(lambda key, some: (name, key, *some), keys, st.lists(elements, min_size=1, max_size=6))


def _lmpop(count_off: int, some: list[bytes], end: str, options: list[Words]) -> Words:
    return ("LMPOP", len(some) + count_off, *some, end, *(word for option in options for word in option))


calls = [
    call("SET", st.just(A_STRING), elements),
    pushed("LPUSH"),
    pushed("RPUSH"),
    pushed("LPUSHX"),
    pushed("RPUSHX"),
    call("LPOP", keys),
    call("RPOP", keys),
    call("LPOP", keys, indexes),
    call("RPOP", keys, indexes),
    call("LLEN", keys),
    call("LINDEX", keys, indexes),
    call("LSET", keys, narrow_indexes, elements),
    call("LRANGE", keys, indexes, indexes),
    call("LTRIM", keys, indexes, indexes),
    call("LINSERT", keys, st.sampled_from(["BEFORE", "after", "IN"]), elements, elements),
    call("LREM", keys, indexes, elements),
    with_options(
        call("LPOS", keys, elements),
        st.one_of(
            st.tuples(st.sampled_from(["RANK", "count", "MAXLEN", "LEN"]), indexes),
            st.sampled_from([("RANK",), ("COUNT",)]),
        ),
    ),
    call("LMOVE", keys, keys, ends, ends),
    call("RPOPLPUSH", keys, keys),
    st.builds(
        _lmpop,
        st.sampled_from([0, 0, 0, 0, 0, 1, -1, 9]),
        st.lists(keys, min_size=1, max_size=4),
        ends,
        st.lists(
            st.one_of(st.tuples(st.just("COUNT"), indexes), st.sampled_from([("COUNT",), ("x",)])), max_size=2
        ),
    ),
    repeated("DEL", keys),
    call("TYPE", keys),
]

contents: list[Words] = [("LRANGE", key, 0, -1) for key in KEYS]


@settings(max_examples=150, deadline=None)
@given(sequences(calls, most=40))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, given_calls + contents, RELAXATIONS)


growing = st.one_of(
    st.sampled_from([b"1", b"-300", b"70000", b"3000000000", b"x", b"y" * 63, b"z" * 64, b"w" * 2000]),
    st.sampled_from([b"v" * 4096, b"u" * 8185, b"t" * 8186]),
)
"""Elements of which few or many fill what one listpack may have."""

KEY = st.just(b"a")
# Redis keeps a shrinking list as a quicklist as long as its elements come from several nodes. What is
# pushed and popped at one end comes from a single one when it is small again.
stack_calls = [
    st.builds(
        lambda some, often: ("RPUSH", b"a", *(some * often)),
        st.lists(growing, min_size=1, max_size=3),
        st.sampled_from([1, 5, 60, 400]),
    ),
    call("RPOP", KEY, st.sampled_from([1, 1, 2, 20, 300, 2000])),
    call("LSET", KEY, st.just(-1), growing),
]


@settings(max_examples=50, deadline=None)
@given(sequences(stack_calls, most=25))
def test_encodings(twin_server: Server, given_calls: list[Words]) -> None:
    observed = [words for given_call in given_calls for words in (given_call, ("OBJECT", "ENCODING", b"a"))]
    assert_same(twin_server, observed, RELAXATIONS)
