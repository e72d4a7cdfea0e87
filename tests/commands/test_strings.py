"""Strings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv import longdouble
from shardkv.commands import lcs
from tests.local import START_MS, Local

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
SYNTAX = "ERR syntax error"

SOME_KEYS = [b"k:%d" % number for number in range(20)]
"""Keys that lie on all shards."""


def old_commands(logged: list[list[bytes]]) -> bool:
    """Whether redis-server 7.0 knows all of the commands in a log."""
    return not {args[0] for args in logged} & {b"DELIFEQ", b"MSETEX"} and not any(
        b"IFEQ" in args for args in logged
    )


# -- GET and SET ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"", b"text", b"17", b"\x00\r\n\xff", b"x" * 100_000])
def test_what_was_set_can_be_got(local: Local, value: bytes) -> None:
    assert local.call("SET", "key", value) == b"OK"
    assert local.call("GET", "key") == value
    assert local.call("STRLEN", "key") == len(value)
    assert local.logged() == [[b"SET", b"key", value]]


def test_set_replaces_any_type_and_takes_the_deadline_away(local: Local) -> None:
    local.call("RPUSH", "key", "element")
    local.call("EXPIRE", "key", 100)
    assert local.error("GET", "key") == WRONG_TYPE
    assert local.call("SET", "key", "text") == b"OK"
    assert local.call("TTL", "key") == -1


@pytest.mark.parametrize(
    ("options", "deadline_ms"),
    [
        (("EX", 10), START_MS + 10_000),
        (("px", 1500), START_MS + 1500),
        (("EXAT", START_MS // 1000 + 7), START_MS // 1000 * 1000 + 7000),
        (("PXAT", START_MS + 1), START_MS + 1),
        (("EX", 10, "EX", 20), START_MS + 20_000),
    ],
)
def test_a_deadline_is_logged_as_a_moment(local: Local, options: tuple[Any, ...], deadline_ms: int) -> None:
    assert local.call("SET", "key", "text", *options) == b"OK"
    assert local.call("PEXPIRETIME", "key") == deadline_ms
    assert local.logged() == [[b"SET", b"key", b"text", b"PXAT", b"%d" % deadline_ms]]
    local.set_clock(deadline_ms)
    assert local.call("GET", "key") is None
    assert local.logged() == [[b"DEL", b"key"]]


def test_a_deadline_that_has_passed_removes_the_key(local: Local) -> None:
    assert local.call("SET", "key", "text", "PXAT", START_MS) == b"OK"
    assert local.logged() == []
    local.call("SET", "key", "text")
    assert local.call("SET", "key", "other", "EXAT", 1) == b"OK"
    assert local.call("DBSIZE") == 0
    assert local.logged()[1:] == [[b"DEL", b"key"]]


@pytest.mark.parametrize("time", [0, -1, 2**63 - 1, 2**63 // 1000])
@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        (("SET", "key", "text", "EX"), (), "set"),
        (("SETEX", "key"), ("text",), "setex"),
        (("GETEX", "key", "EX"), (), "getex"),
        (("MSETEX", 1, "key", "text", "EX"), (), "msetex"),
    ],
)
def test_an_impossible_time_is_refused(local: Local, before: Any, after: Any, name: str, time: int) -> None:
    local.call("SET", "key", "old")
    assert local.error(*before, time, *after) == f"ERR invalid expire time in '{name}' command"
    assert local.error(*before, "soon", *after) == NOT_AN_INTEGER
    assert local.call("GET", "key") == b"old"
    assert local.call("TTL", "key") == -1


@pytest.mark.parametrize(
    "options",
    [
        ("NX", "XX"),
        ("NX", "IFEQ", "x"),
        ("IFEQ", "x", "IFEQ", "x"),
        ("EX", 10, "PX", 10),
        ("EX", 10, "KEEPTTL"),
        ("EX",),
        ("IFEQ",),
        ("PERSIST",),
        ("SOON",),
    ],
)
def test_options_that_make_no_sense(local: Local, options: tuple[Any, ...]) -> None:
    assert local.error("SET", "key", "text", *options) == SYNTAX


def test_conditions(local: Local) -> None:
    assert local.call("SET", "key", "1", "XX") is None
    assert local.call("SET", "key", "1", "NX") == b"OK"
    assert local.call("SET", "key", "2", "NX") is None
    assert local.call("SET", "key", "2", "NX", "GET") == b"1"
    assert local.call("SET", "key", "2", "XX", "GET") == b"1"
    assert local.call("SET", "key", "3", "IFEQ", "1") is None
    assert local.call("SET", "key", "3", "IFEQ", "2") == b"OK"
    assert local.call("SET", "key", "4", "IFEQ", "3", "GET") == b"3"
    assert local.call("SET", "none", "1", "IFEQ", "1", "GET") is None
    assert local.call("SETNX", "key", "5") == 0
    assert local.call("SETNX", "other", "5") == 1
    assert local.call("MGET", "key", "none", "other") == [b"4", None, b"5"]
    assert old_commands(local.logged())


def test_a_number_counts_as_its_text_in_a_comparison(local: Local) -> None:
    local.call("INCR", "key")
    assert local.call("SET", "key", "10", "IFEQ", "1") == b"OK"
    local.call("APPEND", "key", "0")
    assert local.call("DELIFEQ", "key", "10") == 0
    assert local.call("DELIFEQ", "key", "100") == 1
    assert local.call("DELIFEQ", "key", "100") == 0


def test_keepttl_keeps_no_deadline_that_has_passed(local: Local) -> None:
    local.call("SET", "key", "1", "PX", 10)
    local.call("SET", "key", "2", "KEEPTTL")
    assert local.call("PTTL", "key") == 10
    local.advance(10)
    local.call("SET", "key", "3", "KEEPTTL")
    assert local.call("PTTL", "key") == -1
    assert local.replayed().content() == local.content()


def test_getex_getdel_getset(local: Local) -> None:
    assert local.call("GETEX", "key", "EX", 0) is None
    assert local.call("GETSET", "key", "1") is None
    assert local.call("GETEX", "key") == b"1"
    assert local.logged() == [[b"GETSET", b"key", b"1"]]
    assert local.call("GETEX", "key", "EX", 5) == b"1"
    assert local.call("GETEX", "key", "PERSIST") == b"1"
    assert local.call("GETEX", "key", "PERSIST") == b"1"
    assert local.logged() == [[b"PEXPIREAT", b"key", b"%d" % (START_MS + 5000)], [b"PERSIST", b"key"]]
    assert local.call("GETSET", "key", "2") == b"1"
    assert local.call("GETDEL", "key") == b"2"
    assert local.call("GETDEL", "key") is None
    assert local.logged()[1:] == [[b"DEL", b"key"]]
    local.call("SET", "key", "3")
    assert local.call("GETEX", "key", "PXAT", 1) == b"3"
    assert local.logged()[1:] == [[b"DEL", b"key"]]


@pytest.mark.parametrize(
    "words",
    [
        *[("GET",), ("STRLEN",), ("GETDEL",), ("GETSET", "x"), ("GETEX",), ("INCR",), ("DECR",)],
        *[("INCRBY", 1), ("DECRBY", 1), ("INCRBYFLOAT", 1), ("APPEND", "x"), ("SETRANGE", 0, "x")],
        *[
            ("GETRANGE", 0, 1),
            ("SUBSTR", 0, 1),
            ("DELIFEQ", "x"),
            ("SET", "x", "GET"),
            ("SET", "x", "IFEQ", "y"),
        ],
    ],
)
def test_a_list_is_no_string(local: Local, words: tuple[Any, ...]) -> None:
    local.call("RPUSH", "list", "element")
    name, *rest = words
    assert local.error(name, "list", *rest) == WRONG_TYPE
    assert local.call("LRANGE", "list", 0, -1) == [b"element"]


# -- parts ------------------------------------------------------------------------------------


@given(st.binary(max_size=8), st.integers(-12, 12), st.integers(-12, 12))
def test_getrange_is_a_slice(value: bytes, start: int, end: int) -> None:
    local = Local()
    local.call("SET", "key", value)
    positions = range(len(value))
    first = max(0, start + len(value)) if start < 0 else start
    last = max(0, end + len(value)) if end < 0 else end
    wanted = bytes(value[place] for place in positions if first <= place <= last)
    if start < 0 and end < 0 and start > end:
        wanted = b""
    assert local.call("GETRANGE", "key", start, end) == local.call("SUBSTR", "key", start, end) == wanted


def test_append_grows_in_place(local: Local) -> None:
    db = local.database_of(b"key")
    assert local.call("APPEND", "key", "1") == 1
    assert local.call("OBJECT", "ENCODING", "key") == b"int"
    assert local.call("APPEND", "key", "2") == 2
    grown = db.peek(b"key")
    for length in range(3, 1000):
        assert local.call("APPEND", "key", "x") == length
    assert db.peek(b"key") is grown
    assert local.call("OBJECT", "ENCODING", "key") == b"raw"
    assert local.call("GET", "key") == b"12" + b"x" * 997
    assert local.replayed().content() == local.content()


def test_setrange(local: Local) -> None:
    assert local.call("SETRANGE", "key", 3, "") == 0
    assert local.call("EXISTS", "key") == 0
    assert local.call("SETRANGE", "key", 3, "abc") == 6
    assert local.call("GET", "key") == b"\0\0\0abc"
    assert local.call("SETRANGE", "key", 5, "defg") == 9
    assert local.call("SETRANGE", "key", 0, "\1") == 9
    assert local.call("SETRANGE", "key", 100, "") == 9
    assert local.call("GET", "key") == b"\1\0\0abdefg"
    assert local.error("SETRANGE", "key", -1, "x") == "ERR offset is out of range"
    assert local.error("SETRANGE", "key", "x", "x") == NOT_AN_INTEGER


def test_a_number_can_be_changed_as_text(local: Local) -> None:
    local.call("INCRBY", "key", 15)
    local.call("EXPIRE", "key", 100)
    assert local.call("APPEND", "key", "0") == 3
    assert local.call("SETRANGE", "key", 0, "2") == 3
    assert local.call("INCR", "key") == 251
    assert local.call("GETRANGE", "key", 1, -1) == b"51"
    assert local.call("TTL", "key") == 100
    assert local.replayed().content() == local.content()


@pytest.mark.parametrize("shards", [1, 3])
def test_no_string_gets_longer_than_the_setting_allows(shards: int) -> None:
    local = Local(shards, proto_max_bulk_len=100)
    too_long = "ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    local.call("SET", "key", "x" * 99)
    assert local.call("APPEND", "key", "y") == 100
    assert local.error("APPEND", "key", "y") == too_long
    assert local.error("SETRANGE", "key", 100, "y") == too_long
    assert local.error("SETRANGE", "new", 2**62, "y") == too_long
    assert local.call("SETRANGE", "key", 99, "z") == 100
    assert local.call("EXISTS", "new") == 0


# -- numbers ----------------------------------------------------------------------------------


def test_counting(local: Local) -> None:
    assert local.call("INCR", "key") == 1
    assert local.call("DECR", "key") == 0
    assert local.call("INCRBY", "key", 2**63 - 1) == 2**63 - 1
    assert local.error("INCR", "key") == "ERR increment or decrement would overflow"
    assert local.call("DECRBY", "key", 2**63 - 1) == 0
    assert local.error("DECRBY", "key", -(2**63)) == "ERR decrement would overflow"
    assert local.call("GET", "key") == b"0"
    assert local.replayed().content() == local.content()


@pytest.mark.parametrize("text", ["", " 1", "1 ", "01", "+1", "-0", "1.0", "1_0", "x", str(2**63)])
def test_what_is_no_number(local: Local, text: str) -> None:
    local.call("SET", "key", text)
    assert local.error("INCR", "key") == NOT_AN_INTEGER
    assert local.error("INCRBY", "other", text) == NOT_AN_INTEGER


def test_floating_point_numbers_are_logged_as_they_came_out(local: Local) -> None:
    local.call("SET", "key", "0.1", "EX", 100)
    local.logged()
    assert local.call("INCRBYFLOAT", "key", "0.2") == b"0.3"
    assert local.call("INCRBYFLOAT", "key", "-2e2") == b"-199.7"
    assert local.logged() == [[b"SET", b"key", b"0.3", b"KEEPTTL"], [b"SET", b"key", b"-199.7", b"KEEPTTL"]]
    assert local.call("TTL", "key") == 100
    for text in ("inf", "-inf"):
        assert local.error("INCRBYFLOAT", "key", text) == "ERR increment would produce NaN or Infinity"
    for text in ("nan", "", "1 ", "one", "1e5000"):
        assert local.error("INCRBYFLOAT", "key", text) == "ERR value is not a valid float"
    local.call("SET", "key", "")
    assert local.error("INCRBYFLOAT", "key", 1) == "ERR value is not a valid float"


@given(st.integers(-(2**80), 2**80), st.integers(-70, 70))
def test_80_bits_are_rounded_to_the_nearest_tie_to_even(numerator: int, exponent: int) -> None:
    sign = b"-" if numerator < 0 else b""
    number = longdouble.parse(sign + b"0x%xp%d" % (abs(numerator), exponent))
    assert number.mantissa is not None
    # Bring both to one exponent, to compare integers.
    low = min(number.exponent, exponent)
    ours, exact = number.mantissa << number.exponent - low, numerator << exponent - low
    unit = 1 << max(0, abs(exact).bit_length() - 64)
    assert 2 * abs(ours - exact) <= unit
    assert ours % unit == 0
    if 2 * abs(ours - exact) == unit:
        assert ours // unit % 2 == 0


@given(st.decimals(-(10**9), 10**9, places=6), st.decimals(-(10**9), 10**9, places=6))
def test_sums_of_plain_decimals_are_exact(one: Any, other: Any) -> None:
    total = longdouble.add(longdouble.parse(b"%a" % float(one)), longdouble.parse(b"%a" % float(other)))
    assert abs(float(longdouble.format_decimal(total)) - float(one + other)) < 1e-6


# -- several ----------------------------------------------------------------------------------


def test_mset_and_mget(local: Local) -> None:
    pairs = [word for key in SOME_KEYS for word in (key, key.upper())]
    assert local.call("MSET", *pairs) == b"OK"
    assert local.call("MGET", *reversed(SOME_KEYS)) == [key.upper() for key in reversed(SOME_KEYS)]
    local.call("RPUSH", "list", "element")
    local.call("INCRBY", "number", 5)
    assert local.call("MGET", "list", "none", "number", "number") == [None, None, b"5", b"5"]
    assert local.call("MSET", "a", "1", "a", "2") == b"OK"
    assert local.call("GET", "a") == b"2"
    assert local.replayed().content() == local.content()


@pytest.mark.parametrize("name", ["mset", "msetnx"])
def test_a_key_without_a_value(local: Local, name: str) -> None:
    for words in (["a", "1", "b"], [*SOME_KEYS, "odd"]):
        assert local.error(name, *words) == f"ERR wrong number of arguments for '{name}' command"
    assert local.call("DBSIZE") == 0


def test_msetnx_sets_all_or_nothing(local: Local) -> None:
    pairs = [word for key in SOME_KEYS for word in (key, "1")]
    local.call("SET", SOME_KEYS[7], "there")
    local.logged()
    assert local.call("MSETNX", *pairs) == 0
    assert local.logged() == []
    assert local.call("DBSIZE") == 1
    local.call("DEL", SOME_KEYS[7])
    assert local.call("MSETNX", *pairs) == 1
    assert local.call("DBSIZE") == len(SOME_KEYS)
    assert local.replayed().content() == local.content()


def test_msetex(local: Local) -> None:
    pairs = [word for key in SOME_KEYS for word in (key, "1")]
    count = len(SOME_KEYS)
    assert local.call("MSETEX", count, *pairs, "XX", "EX", 10) == 0
    assert local.call("MSETEX", count, *pairs, "NX", "EX", 10) == 1
    assert local.call("MSETEX", count, *pairs, "NX") == 0
    assert local.call("MSETEX", count, *pairs, "XX", "KEEPTTL") == 1
    assert {local.call("TTL", key) for key in SOME_KEYS} == {10}
    logged = local.logged()
    assert old_commands(logged)
    assert local.call("MSETEX", count, *pairs) == 1
    assert {local.call("TTL", key) for key in SOME_KEYS} == {-1}
    assert local.call("MSETEX", count, *pairs, "PXAT", 1) == 1
    assert local.call("DBSIZE") == 0


def test_msetex_reads_the_time_before_it_looks_at_keys(local: Local) -> None:
    pairs = [word for key in SOME_KEYS for word in (key, "1")]
    local.call("SET", SOME_KEYS[0], "there")
    refused = "ERR invalid expire time in 'msetex' command"
    assert local.error("MSETEX", len(SOME_KEYS), *pairs, "NX", "PX", 2**63 - 1) == refused
    assert local.error("MSETEX", len(SOME_KEYS), *pairs, "XX", "EX", 0) == refused


@pytest.mark.parametrize("count", [0, -1, "x", 2**31, 2**64])
def test_msetex_wants_a_number_of_keys(local: Local, count: Any) -> None:
    assert local.error("MSETEX", count, "a", "1") == "ERR invalid numkeys value or out of range"


@pytest.mark.parametrize(
    "words", [(2, "a", "1"), (2, "a", "1", "b"), (1, "a", "1", "b", "2"), (1, "a", "1", "GET")]
)
def test_msetex_wants_that_many(local: Local, words: tuple[Any, ...]) -> None:
    assert local.error("MSETEX", *words) == SYNTAX


# -- LCS --------------------------------------------------------------------------------------


def test_lcs(local: Local) -> None:
    local.call("MSET", "one", "ohmytext", "other", "mynewtext")
    assert local.call("LCS", "one", "other") == b"mytext"
    assert local.call("LCS", "one", "other", "LEN") == 6
    assert local.call("LCS", "one", "none") == b""
    assert local.call("LCS", "one", "other", "IDX") == {
        b"matches": [[[4, 7], [5, 8]], [[2, 3], [0, 1]]],
        b"len": 6,
    }
    assert local.call("LCS", "one", "other", "IDX", "MINMATCHLEN", 3, "WITHMATCHLEN") == {
        b"matches": [[[4, 7], [5, 8], 4]],
        b"len": 6,
    }


def test_lcs_refuses(local: Local) -> None:
    local.call("MSET", "one", "1", "other", "2")
    local.call("RPUSH", "list", "element")
    assert local.error("LCS", "one", "list") == "ERR The specified keys must contain string values"
    assert local.error("LCS", "one", "other", "HOW") == SYNTAX
    assert local.error("LCS", "one", "other", "IDX", "LEN").startswith("ERR If you want both the length")
    local.config.proto_max_bulk_len = 4 * 101 * 101
    local.call("MSET", "one", "x" * 100, "other", "x" * 100)
    assert local.call("LCS", "one", "other", "LEN") == 100
    local.call("APPEND", "one", "x")
    assert local.error("LCS", "one", "other", "LEN").startswith("ERR Insufficient memory")


@given(st.text("abc", max_size=12), st.text("abc", max_size=12))
def test_lcs_chooses_as_the_whole_table_would(one: str, other: str) -> None:
    first, second = one.encode(), other.encode()
    matches = table_matches(first, second)
    runs = lcs.runs_in_common(first, second)
    ours = [(run.first + place, run.second + place) for run in runs for place in reversed(range(run.length))]
    assert ours == matches
    assert lcs.length_in_common(first, second) == len(matches)


def table_matches(first: bytes, second: bytes) -> list[tuple[int, int]]:
    """The places of the longest common subsequence, last one first, by the textbook."""
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, byte in enumerate(first, 1):
        for j, other in enumerate(second, 1):
            longest = max(table[i - 1][j], table[i][j - 1])
            table[i][j] = table[i - 1][j - 1] + 1 if byte == other else longest
    found = []
    i, j = len(first), len(second)
    while i and j:
        if first[i - 1] == second[j - 1]:
            i, j = i - 1, j - 1
            found.append((i, j))
        elif table[i - 1][j] > table[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found
