"""Lists."""

from __future__ import annotations

from typing import Any

import pytest

from shardkv.keyspace import Database
from shardkv.structures.list import List, PackedList
from tests.local import Local

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_A_LONG = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
NOT_A_COUNT = "ERR value is out of range, must be positive"
SYNTAX = "ERR syntax error"

SOME_KEYS = [b"k:5", b"k:0", b"k:3"]
"""Keys on each of three shards."""


def filled(local: Local, key: Any, *elements: Any) -> None:
    """Makes a list of which nothing is logged yet."""
    local.call("RPUSH", key, *elements)
    local.logged()


def all_of(local: Local, key: Any) -> Any:
    return local.call("LRANGE", key, 0, -1)


# -- the ends ---------------------------------------------------------------------------------


def test_the_last_one_pushed_left_is_the_first(local: Local) -> None:
    assert local.call("LPUSH", "key", "a", "b") == 2
    assert local.call("LPUSH", "key", "c") == 3
    assert all_of(local, "key") == [b"c", b"b", b"a"]
    assert local.logged() == [[b"LPUSH", b"key", b"a", b"b"], [b"LPUSH", b"key", b"c"]]


def test_the_last_one_pushed_right_is_the_last(local: Local) -> None:
    assert local.call("RPUSH", "key", "a", "b") == 2
    assert local.call("RPUSH", "key", "c") == 3
    assert all_of(local, "key") == [b"a", b"b", b"c"]
    assert local.logged() == [[b"RPUSH", b"key", b"a", b"b"], [b"RPUSH", b"key", b"c"]]


@pytest.mark.parametrize("name", ["LPUSHX", "RPUSHX"])
def test_pushx_makes_no_list(local: Local, name: str) -> None:
    assert local.call(name, "key", "a", "b") == 0
    assert local.call("EXISTS", "key") == 0
    assert local.logged() == []
    filled(local, "key", "x")
    assert local.call(name, "key", "a", "b") == 3
    assert local.logged() == [[name.encode(), b"key", b"a", b"b"]]


def test_pop_takes_from_its_end(local: Local) -> None:
    filled(local, "key", "a", "b", "c")
    assert local.call("LPOP", "key") == b"a"
    assert local.call("RPOP", "key") == b"c"
    assert all_of(local, "key") == [b"b"]
    assert local.logged() == [[b"LPOP", b"key"], [b"RPOP", b"key"]]


@pytest.mark.parametrize(("name", "order"), [("LPOP", 1), ("RPOP", -1)])
def test_pop_with_a_count(local: Local, name: str, order: int) -> None:
    elements = [b"%d" % number for number in range(5)]
    filled(local, "key", *elements)
    assert local.call(name, "key", 0) == []
    assert local.logged() == []
    assert local.call(name, "key", 2) == elements[::order][:2]
    assert local.call(name, "key", 100) == elements[::order][2:]
    assert local.call("EXISTS", "key") == 0
    assert local.logged() == [[name.encode(), b"key", b"2"], [name.encode(), b"key", b"100"]]


@pytest.mark.parametrize("name", ["LPOP", "RPOP"])
def test_pop_from_nothing(local: Local, name: str) -> None:
    assert local.resp(name, "key") == b"$-1\r\n"
    assert local.resp(name, "key", 0) == b"*-1\r\n"
    assert local.resp(name, "key", 1) == b"*-1\r\n"
    assert local.resp(name, "key", 1, protocol=3) == b"_\r\n"


@pytest.mark.parametrize("name", ["LPOP", "RPOP"])
@pytest.mark.parametrize("count", [-1, "x", "", "01", 2**63])
def test_pop_wants_a_count(local: Local, name: str, count: Any) -> None:
    local.call("SET", "key", "text")
    assert local.error(name, "key", count) == NOT_A_COUNT


@pytest.mark.parametrize("name", ["LPOP", "RPOP"])
def test_pop_takes_one_count_only(local: Local, name: str) -> None:
    assert local.error(name, "key", 1, 2) == f"ERR wrong number of arguments for '{name.lower()}' command"


def test_the_key_goes_with_the_last_element(local: Local) -> None:
    for words in [("LPOP", "key"), ("RPOP", "key"), ("LREM", "key", 0, "a"), ("LTRIM", "key", 1, 0)]:
        filled(local, "key", "a")
        local.call("EXPIRE", "key", 100)
        local.call(*words)
        assert local.call("EXISTS", "key") == 0
        assert local.call("RPUSH", "key", "b") == 1
        assert local.call("TTL", "key") == -1
        local.call("DEL", "key")


def test_a_long_list_from_end_to_end(local: Local) -> None:
    elements = [b"%d" % number for number in range(2000)]
    for start in range(0, 2000, 100):
        assert local.call("RPUSH", "key", *elements[start : start + 100]) == start + 100
    assert all_of(local, "key") == elements
    assert [local.call("LPOP", "key") for _ in range(1000)] == elements[:1000]
    assert [local.call("RPOP", "key") for _ in range(1000)] == elements[:999:-1]
    assert local.call("EXISTS", "key") == 0


# -- positions --------------------------------------------------------------------------------


def test_llen(local: Local) -> None:
    assert local.call("LLEN", "key") == 0
    filled(local, "key", "a", "b")
    assert local.call("LLEN", "key") == 2


def test_lindex_counts_from_both_ends(local: Local) -> None:
    filled(local, "key", "a", "b", "c")
    assert [local.call("LINDEX", "key", index) for index in range(-4, 4)] == [
        *(None, b"a", b"b", b"c"),
        *(b"a", b"b", b"c", None),
    ]
    assert local.call("LINDEX", "none", 0) is None
    assert local.error("LINDEX", "key", "x") == NOT_AN_INTEGER
    assert local.call("LINDEX", "none", "x") is None


def test_lset_replaces_an_element(local: Local) -> None:
    filled(local, "key", "a", "b", "c")
    assert local.call("LSET", "key", 1, "B") == b"OK"
    assert local.call("LSET", "key", -1, "C") == b"OK"
    assert all_of(local, "key") == [b"a", b"B", b"C"]
    assert local.logged() == [[b"LSET", b"key", b"1", b"B"], [b"LSET", b"key", b"-1", b"C"]]


def test_lset_needs_an_element(local: Local) -> None:
    assert local.error("LSET", "key", 0, "x") == "ERR no such key"
    assert local.error("LSET", "key", "x", "x") == "ERR no such key"
    filled(local, "key", "a")
    assert local.error("LSET", "key", 1, "x") == "ERR index out of range"
    assert local.error("LSET", "key", -2, "x") == "ERR index out of range"
    assert local.error("LSET", "key", "x", "x") == NOT_AN_INTEGER
    assert local.logged() == []


RANGES = [
    (0, -1, "abcde"),
    (0, 0, "a"),
    (1, 3, "bcd"),
    (-3, -2, "cd"),
    (-100, 100, "abcde"),
    (3, 100, "de"),
    (-100, 1, "ab"),
    (5, 10, ""),
    (3, 1, ""),
    (-1, -2, ""),
    (-100, -100, ""),
    (0, -6, ""),
    (-(2**63), 2**63 - 1, "abcde"),
    (2**63 - 1, -(2**63), ""),
]


def test_lrange(local: Local) -> None:
    filled(local, "key", *"abcde")
    for start, stop, expected in RANGES:
        assert local.call("LRANGE", "key", start, stop) == [letter.encode() for letter in expected]
        assert local.call("LRANGE", "none", start, stop) == []


def test_ltrim_keeps_what_lrange_gives(local: Local) -> None:
    for start, stop, expected in RANGES:
        local.call("DEL", "key")
        filled(local, "key", *"abcde")
        assert local.call("LTRIM", "key", start, stop) == b"OK"
        assert all_of(local, "key") == [letter.encode() for letter in expected]
        logged = [] if expected == "abcde" else [[b"LTRIM", b"key", b"%d" % start, b"%d" % stop]]
        assert local.logged() == logged


def test_ltrim_of_nothing(local: Local) -> None:
    assert local.call("LTRIM", "key", 0, 1) == b"OK"
    assert local.logged() == []


@pytest.mark.parametrize("name", ["LRANGE", "LTRIM"])
def test_ranges_are_numbers(local: Local, name: str) -> None:
    local.call("SET", "key", "text")
    assert local.error(name, "key", 0, "x") == NOT_AN_INTEGER
    assert local.error(name, "key", "1.0", 1) == NOT_AN_INTEGER
    assert local.error(name, "key", 0, 2**63) == NOT_AN_INTEGER


def test_the_middle_of_a_long_list(local: Local) -> None:
    elements = [b"%d" % number for number in range(3000)]
    local.call("RPUSH", "key", *elements)
    assert local.call("LINDEX", "key", 1500) == b"1500"
    local.call("LSET", "key", 1500, "x")
    local.call("LINSERT", "key", "BEFORE", "x", "y")
    assert local.call("LRANGE", "key", 1499, 1502) == [b"1499", b"y", b"x", b"1501"]
    assert local.call("LPOS", "key", "2999") == 3000
    assert local.call("LREM", "key", 0, "y") == 1
    local.call("LTRIM", "key", 1000, -1000)
    assert all_of(local, "key") == [*elements[1000:1500], b"x", *elements[1501:2001]]
    assert local.replayed().call("LLEN", "key") == 1001


# -- content ----------------------------------------------------------------------------------


def test_linsert_puts_beside_the_first_pivot(local: Local) -> None:
    filled(local, "key", "a", "b", "a")
    assert local.call("LINSERT", "key", "BEFORE", "a", "x") == 4
    assert local.call("LINSERT", "key", "after", "a", "y") == 5
    assert all_of(local, "key") == [b"x", b"a", b"y", b"b", b"a"]
    assert local.logged() == [
        [b"LINSERT", b"key", b"BEFORE", b"a", b"x"],
        [b"LINSERT", b"key", b"after", b"a", b"y"],
    ]


def test_linsert_without_a_pivot(local: Local) -> None:
    assert local.call("LINSERT", "key", "BEFORE", "a", "x") == 0
    filled(local, "key", "a")
    assert local.call("LINSERT", "key", "BEFORE", "b", "x") == -1
    assert local.error("LINSERT", "key", "BESIDE", "a", "x") == SYNTAX
    assert local.error("LINSERT", "none", "BESIDE", "a", "x") == SYNTAX
    assert local.logged() == []


@pytest.mark.parametrize(
    ("count", "removed", "rest"),
    [(0, 4, "bc"), (2, 2, "bcaa"), (-2, 2, "abac"), (4, 4, "bc"), (-100, 4, "bc"), (-1, 1, "abaca")],
)
def test_lrem_removes_from_either_end(local: Local, count: int, removed: int, rest: str) -> None:
    filled(local, "key", *"abacaa")
    assert local.call("LREM", "key", count, "a") == removed
    assert all_of(local, "key") == [letter.encode() for letter in rest]
    assert local.logged() == [[b"LREM", b"key", b"%d" % count, b"a"]]


def test_lrem_of_nothing(local: Local) -> None:
    assert local.call("LREM", "key", 0, "a") == 0
    filled(local, "key", "a")
    assert local.call("LREM", "key", 0, "b") == 0
    assert local.logged() == []
    assert local.error("LREM", "key", "x", "a") == NOT_AN_INTEGER
    assert local.error("LREM", "none", -(2**63), "a") == NOT_A_LONG


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), 2),
        (("RANK", 2), 6),
        (("RANK", 4), None),
        (("RANK", -1), 7),
        (("RANK", -3), 2),
        (("RANK", -4), None),
        (("COUNT", 2), [2, 6]),
        (("COUNT", 0), [2, 6, 7]),
        (("COUNT", 9), [2, 6, 7]),
        (("RANK", 2, "COUNT", 0), [6, 7]),
        (("COUNT", 2, "RANK", -1), [7, 6]),
        (("RANK", -1, "MAXLEN", 2, "COUNT", 0), [7, 6]),
        (("RANK", -2, "MAXLEN", 2, "COUNT", 0), [6]),
        (("MAXLEN", 2), None),
        (("MAXLEN", 3), 2),
        (("MAXLEN", 0), 2),
        (("MAXLEN", 2, "COUNT", 1), []),
        (("maxlen", 7, "count", 0), [2, 6]),
        (("RANK", 1, "RANK", 3), 7),
        (("RANK", 2**63 - 1, "COUNT", 0), []),
        (("RANK", -(2**63) + 1), None),
    ],
)
def test_lpos(local: Local, options: tuple[Any, ...], expected: Any) -> None:
    filled(local, "key", "a", "b", "c", "1", "2", "3", "c", "c")
    assert local.call("LPOS", "key", "c", *options) == expected


def test_lpos_of_nothing(local: Local) -> None:
    assert local.call("LPOS", "key", "a") is None
    assert local.call("LPOS", "key", "a", "COUNT", 0) == []


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            ("RANK", 0),
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use "
            "negative to start from the end of the list",
        ),
        (("RANK", "x"), NOT_AN_INTEGER),
        (("RANK", -(2**63)), NOT_A_LONG),
        (("COUNT", -1), "ERR COUNT can't be negative"),
        (("COUNT", "x"), "ERR COUNT can't be negative"),
        (("MAXLEN", -1), "ERR MAXLEN can't be negative"),
        (("MAXLEN", 2**63), "ERR MAXLEN can't be negative"),
        (("RANK",), SYNTAX),
        (("LEN", 1), SYNTAX),
        (("RANK", 1, "COUNT"), SYNTAX),
        (("RANK", "x", "COUNT"), NOT_AN_INTEGER),
    ],
)
def test_lpos_reads_its_options_before_the_key(local: Local, options: tuple[Any, ...], error: str) -> None:
    local.call("SET", "key", "text")
    assert local.error("LPOS", "key", "a", *options) == error


# -- from one list to another -----------------------------------------------------------------


@pytest.mark.parametrize("destination", SOME_KEYS)
@pytest.mark.parametrize("source_end", ["LEFT", "right"])
@pytest.mark.parametrize("destination_end", ["left", "RIGHT"])
def test_lmove(local: Local, destination: bytes, source_end: str, destination_end: str) -> None:
    local.call("RPUSH", "source", "a", "b", "c")
    local.call("RPUSH", destination, "x")
    moved = b"a" if source_end == "LEFT" else b"c"
    assert local.call("LMOVE", "source", destination, source_end, destination_end) == moved
    assert all_of(local, "source") == [letter for letter in (b"a", b"b", b"c") if letter != moved]
    expected = [moved, b"x"] if destination_end == "left" else [b"x", moved]
    assert all_of(local, destination) == expected
    content = local.content()
    assert local.replayed().content() == content


@pytest.mark.parametrize("destination", SOME_KEYS)
def test_rpoplpush(local: Local, destination: bytes) -> None:
    filled(local, "source", "a", "b")
    assert local.call("RPOPLPUSH", "source", destination) == b"b"
    assert local.call("RPOPLPUSH", "source", destination) == b"a"
    assert local.call("RPOPLPUSH", "source", destination) is None
    assert local.call("EXISTS", "source") == 0
    assert all_of(local, destination) == [b"a", b"b"]


def test_a_list_rotates(local: Local) -> None:
    filled(local, "key", "a", "b", "c")
    assert local.call("RPOPLPUSH", "key", "key") == b"c"
    assert all_of(local, "key") == [b"c", b"a", b"b"]
    assert local.call("LMOVE", "key", "key", "LEFT", "RIGHT") == b"c"
    assert local.call("LMOVE", "key", "key", "LEFT", "LEFT") == b"a"
    assert all_of(local, "key") == [b"a", b"b", b"c"]


def test_a_list_of_one_rotates(local: Local) -> None:
    filled(local, "key", "a")
    local.call("EXPIRE", "key", 100)
    assert local.call("LMOVE", "key", "key", "RIGHT", "LEFT") == b"a"
    assert all_of(local, "key") == [b"a"]
    assert local.call("TTL", "key") == 100


@pytest.mark.parametrize("other", SOME_KEYS)
def test_lmove_looks_at_the_source_first(local: Local, other: bytes) -> None:
    local.call("SET", "text", "text")
    local.call("RPUSH", "list", "a")
    assert local.call("LMOVE", other, "text", "LEFT", "LEFT") is None
    assert local.call("RPOPLPUSH", other, "text") is None
    assert local.error("LMOVE", "text", other, "LEFT", "LEFT") == WRONG_TYPE
    assert local.error("LMOVE", "text", "list", "LEFT", "LEFT") == WRONG_TYPE
    assert local.error("LMOVE", "list", "text", "LEFT", "LEFT") == WRONG_TYPE
    assert local.error("RPOPLPUSH", "list", "text") == WRONG_TYPE
    assert local.error("LMOVE", "text", other, "LEFT", "UP") == SYNTAX
    assert local.error("LMOVE", "text", other, "UP", "LEFT") == SYNTAX
    assert all_of(local, "list") == [b"a"]


def test_lmove_within_a_shard_is_logged_as_it_is(local: Local) -> None:
    filled(local, "{k}1", "a", "b")
    local.call("LMOVE", "{k}1", "{k}2", "LEFT", "RIGHT")
    local.call("RPOPLPUSH", "{k}1", "{k}2")
    assert local.logged() == [
        [b"LMOVE", b"{k}1", b"{k}2", b"LEFT", b"RIGHT"],
        [b"RPOPLPUSH", b"{k}1", b"{k}2"],
    ]


# -- from the first of several ----------------------------------------------------------------


@pytest.mark.parametrize("key", SOME_KEYS)
def test_lmpop_takes_from_the_first_list_there_is(local: Local, key: bytes) -> None:
    filled(local, "last", "x")
    filled(local, key, "a", "b", "c", "d")
    keys = (4, "none", "neither", key, "last")
    assert local.call("LMPOP", *keys, "LEFT") == [key, [b"a"]]
    assert local.call("LMPOP", *keys, "right", "count", 2) == [key, [b"d", b"c"]]
    assert local.call("LMPOP", *keys, "RIGHT", "COUNT", 100) == [key, [b"b"]]
    assert local.call("LMPOP", *keys, "RIGHT", "COUNT", 100) == [b"last", [b"x"]]
    assert local.call("LMPOP", *keys, "RIGHT") is not None
    assert local.call("EXISTS", key, "last") == 0


def test_lmpop_of_nothing(local: Local) -> None:
    assert local.resp("LMPOP", 2, "a", "b", "LEFT") == b"*-1\r\n"
    assert local.resp("LMPOP", 2, "a", "b", "LEFT", "COUNT", 3, protocol=3) == b"_\r\n"


def test_lmpop_is_logged_as_a_pop(local: Local) -> None:
    filled(local, "{k}", "a", "b", "c")
    local.call("LMPOP", 2, "{k}none", "{k}", "LEFT")
    local.call("LMPOP", 1, "{k}", "RIGHT", "COUNT", 5)
    assert local.logged() == [[b"LPOP", b"{k}", b"1"], [b"RPOP", b"{k}", b"2"]]


@pytest.mark.parametrize("other", SOME_KEYS)
def test_lmpop_looks_at_no_key_behind_the_one_it_takes_from(local: Local, other: bytes) -> None:
    local.call("SET", "text", "text")
    filled(local, other, "a", "b")
    assert local.call("LMPOP", 2, other, "text", "LEFT") == [other, [b"a"]]
    assert local.error("LMPOP", 2, "text", other, "LEFT") == WRONG_TYPE


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((0, "a", "LEFT"), "ERR numkeys should be greater than 0"),
        ((-1, "a", "LEFT"), "ERR numkeys should be greater than 0"),
        (("x", "a", "LEFT"), "ERR numkeys should be greater than 0"),
        ((2**63, "a", "LEFT"), "ERR numkeys should be greater than 0"),
        ((2, "a", "LEFT"), SYNTAX),
        ((3, "a", "LEFT"), SYNTAX),
        ((1, "a", "UP"), SYNTAX),
        ((1, "a", "b", "LEFT"), SYNTAX),
        ((1, "a", "LEFT", "COUNT"), SYNTAX),
        ((1, "a", "LEFT", "MAX", 1), SYNTAX),
        ((1, "a", "LEFT", "COUNT", 0), "ERR count should be greater than 0"),
        ((1, "a", "LEFT", "COUNT", -1), "ERR count should be greater than 0"),
        ((1, "a", "LEFT", "COUNT", "x", "y"), "ERR count should be greater than 0"),
        ((1, "a", "LEFT", "COUNT", 1, "COUNT", 1), SYNTAX),
        ((2, "a", "b", "LEFT", "COUNT", 0), "ERR count should be greater than 0"),
    ],
)
def test_lmpop_reads_its_options_before_the_keys(local: Local, words: tuple[Any, ...], error: str) -> None:
    local.call("SET", "a", "text")
    assert local.error("LMPOP", *words) == error


# -- all of them ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("LPUSH", "key", "a"),
        ("RPUSH", "key", "a"),
        ("LPUSHX", "key", "a"),
        ("RPUSHX", "key", "a"),
        ("LPOP", "key"),
        ("RPOP", "key", 0),
        ("LLEN", "key"),
        ("LINDEX", "key", "x"),
        ("LSET", "key", "x", "a"),
        ("LRANGE", "key", 0, 1),
        ("LTRIM", "key", 0, 1),
        ("LINSERT", "key", "BEFORE", "a", "b"),
        ("LREM", "key", 0, "a"),
        ("LPOS", "key", "a"),
        ("LMOVE", "key", "key", "LEFT", "LEFT"),
        ("RPOPLPUSH", "key", "key"),
        ("LMPOP", 1, "key", "LEFT"),
    ],
)
def test_a_string_is_no_list(local: Local, words: tuple[Any, ...]) -> None:
    local.call("SET", "key", "text")
    assert local.error(*words) == WRONG_TYPE
    assert local.call("GET", "key") == b"text"


def heard(local: Local, *words: Any) -> list[tuple[bytes, str]]:
    """The keys and events that a command tells of."""
    found: list[tuple[bytes, str]] = []

    def hear(db: Database, key: bytes, event: str) -> None:
        found.append((key, event))

    for shard in local.shards:
        shard.observers.append(hear)
    local.call(*words)
    for shard in local.shards:
        shard.observers.remove(hear)
    return found


@pytest.mark.parametrize(
    ("words", "events"),
    [
        (("LPUSH", "key", "x", "y"), ["lpush"]),
        (("RPUSHX", "key", "x"), ["rpush"]),
        (("LPUSHX", "none", "x"), []),
        (("LPOP", "key"), ["lpop"]),
        (("RPOP", "key", 0), []),
        (("RPOP", "key", 2), ["rpop", "del"]),
        (("LMPOP", 2, "none", "key", "LEFT"), ["lpop"]),
        (("LINSERT", "key", "BEFORE", "b", "x"), ["linsert"]),
        (("LINSERT", "key", "BEFORE", "c", "x"), []),
        (("LSET", "key", 0, "x"), ["lset"]),
        (("LREM", "key", 0, "a"), ["lrem"]),
        (("LREM", "key", 0, "x"), []),
        (("LTRIM", "key", 0, 0), ["ltrim"]),
        (("LTRIM", "key", 0, -1), ["ltrim"]),
        (("LTRIM", "key", 1, 0), ["ltrim", "del"]),
        (("LTRIM", "none", 1, 0), []),
        (("LMOVE", "key", "key", "LEFT", "RIGHT"), ["rpush", "lpop"]),
    ],
)
def test_events(local: Local, words: tuple[Any, ...], events: list[str]) -> None:
    filled(local, "key", "a", "b")
    assert heard(local, *words) == [(b"key", event) for event in events]


@pytest.mark.parametrize("destination", SOME_KEYS)
def test_events_of_two_keys(local: Local, destination: bytes) -> None:
    filled(local, "source", "a")
    events = heard(local, "RPOPLPUSH", "source", destination)
    assert sorted(events) == sorted([(destination, "lpush"), (b"source", "rpop"), (b"source", "del")])


def test_encoding(local: Local) -> None:
    filled(local, "key", *["x" * 100] * 79)
    assert local.call("OBJECT", "ENCODING", "key") == b"listpack"
    local.call("RPUSH", "key", "x" * 100)
    assert local.call("OBJECT", "ENCODING", "key") == b"quicklist"
    local.config.list_max_listpack_size = 2
    filled(local, "other", "a", "b")
    assert local.call("OBJECT", "ENCODING", "other") == b"listpack"
    local.call("LINSERT", "other", "BEFORE", "a", "c")
    assert local.call("OBJECT", "ENCODING", "other") == b"quicklist"
    local.call("LPOP", "other", 2)
    assert local.call("OBJECT", "ENCODING", "other") == b"listpack"


@pytest.mark.parametrize("newkey", SOME_KEYS)
def test_a_long_list_is_copied_and_renamed(local: Local, newkey: bytes) -> None:
    elements = [b"%d" % number for number in range(2000)]
    local.call("RPUSH", "key", *elements)
    assert local.call("COPY", "key", newkey) == 1
    local.call("LSET", "key", 1000, "x")
    assert all_of(local, newkey) == elements
    assert local.call("RENAME", "key", newkey) == b"OK"
    assert local.call("LINDEX", newkey, 1000) == b"x"
    content = local.content()
    assert local.replayed().content() == content


def test_a_list_at_rest_is_unpacked_when_it_is_touched(local: Local) -> None:
    filled(local, "key", "a", "b", "c")
    slot = next(
        slot for shard in local.shards for db in shard.databases.values() for slot in db.slots if slot
    )
    value = slot[b"key"]
    assert isinstance(value, List)
    packed = value.pack()
    assert isinstance(packed, PackedList)
    slot[b"key"] = packed
    assert local.call("TYPE", "key") == b"list"
    assert local.call("OBJECT", "ENCODING", "key") == b"listpack"
    assert local.call("LRANGE", "key", 0, -1) == [b"a", b"b", b"c"]
    assert slot[b"key"].__class__ is List
    slot[b"key"] = packed
    assert local.call("LPUSH", "key", "x") == 4
