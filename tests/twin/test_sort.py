"""SORT, beside a real server."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.compare import Relaxations, Words, assert_same, call, sequences, with_options
from tests.twin.servers import Server

RELAXATIONS: Relaxations = {}

SOURCES = [b"list", b"set", b"zset", b"string", b"hash", b"none"]
sources = st.sampled_from([*SOURCES, b"list", b"list"])
destinations = st.sampled_from([*SOURCES, b"d", b"w_1", b"{list}d"])
# Valkey 9 and Redis 8 read numbers by another function than Redis 7.2 does. They know no hexadecimal ones,
# none after spaces, and differ from each other in the empty one and those out of range.
numeric = st.sampled_from(
    [b"1", b"2", b"3", b"10", b"-7", b"01", b"1.0", b"2.5", b"1e1", b".5", b"inf", b"+3", b"-0", b"0"]
)
texts = st.sampled_from([b"a", b"b", b"Z", b"\xff\xfe", b"x*", b"1", b"nan", b"1 ", b"1_0"])
elements = st.one_of(numeric, numeric, numeric, texts)

patterns = st.sampled_from(
    [b"w_*", b"w_*", b"h_*->f", b"h_*->g", b"{t}*", b"*", b"w_*->", b"*_w", b"none_*", b"h_*", b"w_*->f"]
)
gets = st.one_of(patterns, st.sampled_from([b"#", b"#", b"nostar", b"##", b""]))
numbers = st.one_of(st.integers(-2, 8), st.sampled_from([2**63 - 1, -(2**63), 2**63, "x", ""]))

options = st.one_of(
    st.tuples(st.sampled_from(["BY", "by"]), patterns),
    st.tuples(st.just("BY"), st.just("nosort")),
    st.tuples(st.sampled_from(["GET", "get"]), gets),
    st.tuples(st.just("LIMIT"), numbers, numbers),
    st.tuples(st.sampled_from(["ASC", "DESC", "desc"])),
    st.tuples(st.sampled_from(["BY", "GET", "LIMIT", "x"])),
)
storing = st.tuples(st.just("STORE"), destinations)


def _with_alpha(words: Words) -> Words:
    """Elements that compare equal come in any order, so ALPHA goes only where all are different: what no key
    has a weight for is all the same."""
    upper = [word.upper() if isinstance(word, str) else word for word in words]
    return words if "BY" in upper else (*words, "ALPHA")


def _named(name: str, key: bytes, found: list[Words]) -> Words:
    return (name, key, *(word for option in found for word in option))


def sorting(name: str, choice: st.SearchStrategy[Words]) -> st.SearchStrategy[Words]:
    asked = st.builds(_named, st.just(name), sources, st.lists(choice, max_size=4))
    return st.one_of(asked, asked.map(_with_alpha))


suffixes = st.one_of(numeric, st.sampled_from([b"a", b"b"]))
calls = [
    st.builds(lambda some: ("RPUSH", b"list", *some), st.lists(elements, min_size=1, max_size=8)),
    st.builds(lambda some: ("RPUSH", b"list", *some), st.lists(numeric, min_size=1, max_size=8)),
    st.builds(lambda some: ("SADD", b"set", *some), st.lists(numeric, min_size=1, max_size=8)),
    st.builds(
        lambda some: ("ZADD", b"zset", *(word for pair in some for word in pair)),
        st.lists(st.tuples(st.integers(0, 9), elements), min_size=1, max_size=8),
    ),
    st.builds(lambda suffix, text: ("SET", b"w_" + suffix, text), suffixes, numeric),
    st.builds(lambda suffix, text: ("SET", b"{t}" + suffix, text), suffixes, elements),
    st.builds(lambda suffix: ("INCR", b"w_" + suffix), suffixes),
    st.builds(lambda suffix: ("APPEND", b"w_" + suffix, b"1"), suffixes),
    st.builds(
        lambda suffix, field, text: ("HSET", b"h_" + suffix, field, text),
        suffixes,
        st.sampled_from([b"f", b"g"]),
        numeric,
    ),
    st.just(("SET", b"string", b"x")),
    st.just(("HSET", b"hash", b"f", b"x")),
    call("DEL", destinations),
    call("OBJECT", st.just("ENCODING"), st.sampled_from([b"zset", b"d", b"w_1"])),
    call("TYPE", destinations),
    sorting("SORT", options),
    sorting("SORT", st.one_of(options, storing)),
    sorting("SORT_RO", options),
    with_options(call("SORT_RO", sources), storing, most=1),
]

contents: list[Words] = [
    words for key in (b"list", b"d", b"w_1", b"{list}d") for words in (("TYPE", key), ("LRANGE", key, 0, -1))
]


@settings(max_examples=150, deadline=None)
@given(sequences(calls, most=40))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, given_calls + contents, RELAXATIONS)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"]), unique=True, min_size=1),
    st.lists(st.sampled_from([b"", b"a", b"A", b"aa", b"\xe4", b"1", b"10", b"9"]), unique=True, min_size=6),
    st.lists(st.sampled_from([("DESC",), ("LIMIT", 1, 3), ("GET", "w_*"), ("GET", "#"), ("STORE", "d")])),
)
def test_alpha_by_weights(
    twin_server: Server, members: list[bytes], weights: list[bytes], found: list[Words]
) -> None:
    set_weights: list[Words] = [
        ("SET", b"w_" + member, weight) for member, weight in zip(members[1:], weights, strict=False)
    ]
    chosen = _named("SORT", b"list", [("BY", "w_*"), ("ALPHA",), *found])
    assert_same(
        twin_server,
        [*set_weights, ("RPUSH", b"list", *members), chosen, ("LRANGE", "d", 0, -1)],
        RELAXATIONS,
    )
