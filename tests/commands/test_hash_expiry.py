"""Hashes whose fields have deadlines."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from shardkv import limits
from shardkv.aof.record import record
from shardkv.chores import expire_due
from shardkv.locks import Transaction
from shardkv.structures.hash import Hash
from shardkv.walk import Walk
from tests.commands.test_hashes import SOME_KEYS, events_of, make, numbered
from tests.local import START_MS, Local, selected

FIELDS_MISSING = "ERR Mandatory argument FIELDS is missing or not at the right position"
NUMFIELDS_MISMATCH = "ERR The `numfields` parameter must match the number of arguments"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
START_S = START_MS // 1000
NEVER, NOTHING = -1, -2


def deadlines(local: Local, key: Any, *fields: Any) -> list[int]:
    """When fields expire, in ms after the start."""
    found = local.call("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
    return [at_ms if at_ms < 0 else at_ms - START_MS for at_ms in found]


def expire(local: Local) -> None:
    """Does what a worker does now and then."""
    for shard in local.shards:
        assert not expire_due(shard, 1)


def assert_replays(local: Local) -> None:
    """The log tells what is there."""
    content = local.content()
    assert local.replayed().content() == content


# -- setting and asking -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "time", "deadline_ms"),
    [
        ("HEXPIRE", 10, 10_000),
        ("HPEXPIRE", 10, 10),
        ("HEXPIREAT", START_S + 10, 10_000),
        ("HPEXPIREAT", START_MS + 10, 10),
    ],
)
def test_a_deadline_is_logged_as_a_moment(local: Local, name: str, time: int, deadline_ms: int) -> None:
    make(local, "key", "f 1 g 2 h 3")
    local.logged()
    assert local.call(name, "key", time, "FIELDS", 3, "f", "x", "h") == [1, NOTHING, 1]
    assert deadlines(local, "key", "f", "g", "h", "x") == [deadline_ms, NEVER, deadline_ms, NOTHING]
    moment = b"%d" % (START_MS + deadline_ms)
    assert local.logged() == [[b"HPEXPIREAT", b"key", moment, b"FIELDS", b"2", b"f", b"h"]]


@pytest.mark.parametrize(
    ("condition", "outcomes"),
    [
        (None, [1, 1]),
        ("NX", [0, 1]),
        ("xx", [1, 0]),
    ],
)
def test_conditions(local: Local, condition: str | None, outcomes: list[int]) -> None:
    make(local, "key", "f 1 g 2")
    local.call("HEXPIRE", "key", 10, "FIELDS", 1, "f")
    words = [condition] if condition else []
    assert local.call("HEXPIRE", "key", 20, *words, "FIELDS", 2, "f", "g") == outcomes
    assert deadlines(local, "key", "f", "g") == [
        20_000 if outcomes[0] else 10_000,
        20_000 if outcomes[1] else NEVER,
    ]


@pytest.mark.parametrize(
    ("time", "gt", "lt"), [(9, [0, 0], [1, 1]), (10, [0, 0], [0, 1]), (11, [1, 0], [0, 1])]
)
def test_a_field_without_a_deadline_never_expires(
    local: Local, time: int, gt: list[int], lt: list[int]
) -> None:
    for condition, outcomes in (("GT", gt), ("lt", lt)):
        make(local, "key", "f 1 g 2")
        local.call("HEXPIRE", "key", 10, "FIELDS", 1, "f")
        assert local.call("HEXPIRE", "key", time, condition, "FIELDS", 2, "f", "g") == outcomes


def test_times_left(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    local.call("HPEXPIRE", "key", 10_001, "FIELDS", 1, "f")
    asked = ("key", "FIELDS", 3, "f", "g", "x")
    assert local.call("HPTTL", *asked) == [10_001, NEVER, NOTHING]
    assert local.call("HTTL", *asked) == [11, NEVER, NOTHING]
    assert local.call("HEXPIRETIME", *asked) == [START_S + 11, NEVER, NOTHING]
    local.advance(10_000)
    assert local.call("HPTTL", *asked) == [1, NEVER, NOTHING]
    assert local.call("HTTL", *asked) == [1, NEVER, NOTHING]
    for name in ("HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST"):
        assert local.call(name, "nokey", "FIELDS", 2, "f", "f") == [NOTHING, NOTHING]
    assert local.call("HEXPIRE", "nokey", 1, "FIELDS", 2, "f", "f") == [NOTHING, NOTHING]


def test_hpersist(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    local.call("HEXPIRE", "key", 10, "FIELDS", 1, "f")
    local.logged()
    assert events_of(local, "HPERSIST", "key", "FIELDS", 4, "f", "g", "x", "f") == ["hpersist key"]
    assert deadlines(local, "key", "f") == [NEVER]
    assert local.call("HPERSIST", "key", "FIELDS", 1, "f") == [NEVER]
    assert local.logged() == [[b"HPERSIST", b"key", b"FIELDS", b"4", b"f", b"g", b"x", b"f"]]


def test_a_field_that_is_set_anew_has_no_deadline(local: Local) -> None:
    make(local, "key", "f 1 g 1 h 1 i 1")
    local.call("HEXPIRE", "key", 10, "FIELDS", 4, "f", "g", "h", "i")
    local.call("HSET", "key", "f", "2")
    local.call("HMSET", "key", "g", "2")
    local.call("HINCRBY", "key", "h", 1)
    local.call("HINCRBYFLOAT", "key", "i", 1)
    assert deadlines(local, "key", "f", "g", "h", "i") == [NEVER, NEVER, 10_000, 10_000]
    local.call("HDEL", "key", "h")
    local.call("HSETNX", "key", "h", "3")
    assert deadlines(local, "key", "h", "i") == [NEVER, 10_000]
    assert_replays(local)


@pytest.mark.parametrize("time", [0, 1, START_S - 1, START_S])
def test_a_deadline_that_has_passed_removes_the_field(local: Local, time: int) -> None:
    make(local, "key", "f 1 g 2 h 3")
    call = ("HEXPIREAT", "key", time, "FIELDS", 3, "f", "f", "x")
    assert local.call(*call) == [2, NOTHING, NOTHING]
    assert local.call("HEXPIREAT", "key", time, "XX", "FIELDS", 1, "g") == [0]
    assert events_of(local, "HEXPIREAT", "key", time, "FIELDS", 1, "g") == ["hdel key"]
    assert events_of(local, "HEXPIREAT", "key", time, "LT", "FIELDS", 1, "h") == ["hdel key", "del key"]
    assert local.call("EXISTS", "key") == 0
    assert_replays(local)


# -- HGETEX, HSETEX, HGETDEL ------------------------------------------------------------------


def test_hgetdel(local: Local) -> None:
    make(local, "key", "f 1 g 2 h 3")
    local.logged()
    assert local.call("HGETDEL", "key", "FIELDS", 3, "f", "x", "f") == [b"1", None, None]
    assert local.call("HGETDEL", "key", "FIELDS", 1, "x") == [None]
    assert local.logged() == [[b"HDEL", b"key", b"f"]]
    assert events_of(local, "HGETDEL", "key", "FIELDS", 2, "g", "h") == ["hdel key", "del key"]
    assert local.call("EXISTS", "key") == 0
    assert local.call("HGETDEL", "key", "FIELDS", 2, "g", "h") == [None, None]


@pytest.mark.parametrize(
    ("option", "deadline_ms"),
    [
        (("EX", 10), 10_000),
        (("px", 10), 10),
        (("EXAT", START_S + 10), 10_000),
        (("PXAT", START_MS + 10), 10),
    ],
)
def test_hgetex_and_hsetex_give_deadlines(local: Local, option: tuple[Any, ...], deadline_ms: int) -> None:
    moment = b"%d" % (START_MS + deadline_ms)
    make(local, "key", "f 1 g 2")
    local.logged()
    assert local.call("HGETEX", "key", *option, "FIELDS", 2, "f", "x") == [b"1", None]
    assert deadlines(local, "key", "f", "g") == [deadline_ms, NEVER]
    assert local.logged() == [[b"HPEXPIREAT", b"key", moment, b"FIELDS", b"1", b"f"]]
    assert local.call("HSETEX", "key", *option, "FIELDS", 3, "g", "3", "x", "4", "g", "5") == 1
    assert local.call("HGETALL", "key") == {b"f": b"1", b"g": b"5", b"x": b"4"}
    assert deadlines(local, "key", "g", "x") == [deadline_ms, deadline_ms]
    assert local.logged() == [
        [b"MULTI"],
        [b"HSET", b"key", b"g", b"3", b"x", b"4", b"g", b"5"],
        [b"HPEXPIREAT", b"key", moment, b"FIELDS", b"2", b"g", b"x"],
        [b"EXEC"],
    ]


def test_hgetex_without_an_option_only_looks(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    local.call("HEXPIRE", "key", 10, "FIELDS", 1, "f")
    local.logged()
    assert local.call("HGETEX", "key", "FIELDS", 3, "f", "g", "x") == [b"1", b"2", None]
    assert local.call("HGETEX", "nokey", "FIELDS", 2, "f", "g") == [None, None]
    assert local.logged() == []
    assert local.call("HGETEX", "key", "PERSIST", "FIELDS", 3, "f", "g", "x") == [b"1", b"2", None]
    assert deadlines(local, "key", "f") == [NEVER]
    assert local.logged() == [[b"HPERSIST", b"key", b"FIELDS", b"1", b"f"]]
    assert events_of(local, "HGETEX", "key", "PERSIST", "FIELDS", 1, "f") == []


def test_hgetex_with_a_deadline_that_has_passed(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    local.logged()
    assert local.call("HGETEX", "key", "EX", 0, "FIELDS", 3, "f", "f", "x") == [b"1", None, None]
    assert local.logged() == [[b"HDEL", b"key", b"f"]]
    assert events_of(local, "HGETEX", "key", "PXAT", 1, "FIELDS", 1, "g") == ["hdel key", "del key"]
    assert local.call("EXISTS", "key") == 0


def test_hsetex_and_the_old_deadline(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    local.call("HEXPIRE", "key", 10, "FIELDS", 2, "f", "g")
    local.logged()
    assert local.call("HSETEX", "key", "FIELDS", 1, "f", "3") == 1
    assert local.call("HSETEX", "key", "KEEPTTL", "FIELDS", 2, "g", "4", "h", "5") == 1
    assert deadlines(local, "key", "f", "g", "h") == [NEVER, 10_000, NEVER]
    assert local.logged() == [
        [b"HSET", b"key", b"f", b"3"],
        [b"MULTI"],
        [b"HSET", b"key", b"g", b"4", b"h", b"5"],
        [b"HPEXPIREAT", b"key", b"%d" % (START_MS + 10_000), b"FIELDS", b"1", b"g"],
        [b"EXEC"],
    ]


def test_hsetex_with_a_deadline_that_has_passed(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    assert local.call("HSETEX", "key", "EXAT", 1, "FIELDS", 2, "f", "3", "h", "4") == 1
    assert local.call("HGETALL", "key") == {b"g": b"2"}
    assert events_of(local, "HSETEX", "new", "EX", 0, "FIELDS", 1, "f", "1") == [
        *("hset new", "hdel new", "del new")
    ]
    assert local.call("EXISTS", "new") == 0
    assert_replays(local)


@pytest.mark.parametrize(
    ("conditions", "fields", "done"),
    [
        ("FNX", "h i", 1),
        ("FNX", "f h", 0),
        ("fxx", "f g", 1),
        ("FXX", "f h", 0),
        ("NX", "h", 0),
        ("xx", "h", 1),
        ("XX FNX", "h", 1),
        ("FXX XX", "h", 0),
    ],
)
def test_hsetex_conditions(local: Local, conditions: str, fields: str, done: int) -> None:
    make(local, "key", "f 1 g 2")
    local.logged()
    pairs = chain.from_iterable((field, "new") for field in fields.split())
    call = ("HSETEX", "key", *conditions.split(), "FIELDS", len(fields.split()), *pairs)
    assert local.call(*call) == done
    assert sorted(local.call("HMGET", "key", *fields.split()), key=str).count(b"new") == (
        len(fields.split()) if done else 0
    )
    assert bool(local.logged()) == bool(done)


@pytest.mark.parametrize(
    ("conditions", "done"), [("FNX", 1), ("FXX", 0), ("NX", 1), ("XX", 0), ("NX FNX", 1)]
)
def test_hsetex_conditions_about_what_is_not_there(local: Local, conditions: str, done: int) -> None:
    assert local.call("HSETEX", "key", *conditions.split(), "FIELDS", 1, "f", "1") == done
    assert local.call("EXISTS", "key") == done


@pytest.mark.parametrize(
    ("call", "heard"),
    [
        (("HSETEX", "key", "FIELDS", 1, "f", "1"), ["hset key"]),
        (("HSETEX", "key", "EX", 9, "FIELDS", 1, "f", "1"), ["hset key", "hexpire key"]),
        (("HSETEX", "key", "KEEPTTL", "FIELDS", 1, "f", "1"), ["hset key"]),
        (("HSETEX", "key", "EXAT", 1, "FIELDS", 1, "f", "1"), ["hset key", "hdel key"]),
        (("HSETEX", "key", "FNX", "FIELDS", 1, "f", "1"), []),
        (("HGETEX", "key", "FIELDS", 1, "f"), []),
        (("HGETEX", "key", "EX", 9, "FIELDS", 1, "f"), ["hexpire key"]),
        (("HGETEX", "key", "EX", 9, "FIELDS", 1, "x"), []),
        (("HGETDEL", "key", "FIELDS", 1, "x"), []),
        (("HGETDEL", "key", "FIELDS", 1, "f"), ["hdel key"]),
        (("HEXPIRE", "key", 9, "FIELDS", 2, "f", "x"), ["hexpire key"]),
        (("HEXPIRE", "key", 9, "XX", "FIELDS", 1, "f"), []),
        (("HPERSIST", "key", "FIELDS", 1, "f"), []),
    ],
)
def test_events(local: Local, call: tuple[Any, ...], heard: list[str]) -> None:
    make(local, "key", "f 1 g 2")
    assert events_of(local, *call) == heard


@pytest.mark.parametrize(
    "call",
    [
        ("HEXPIREAT", "key", 1, "FIELDS", 3, "f", "x", "g"),
        ("HGETEX", "key", "EX", 0, "FIELDS", 3, "f", "x", "g"),
        ("HSETEX", "key", "PXAT", 1, "FIELDS", 2, "f", "9", "g", "9"),
    ],
)
def test_a_deadline_that_has_passed_is_logged_as_the_removal(local: Local, call: tuple[Any, ...]) -> None:
    make(local, "key", "f 1 g 2 h 3")
    local.logged()
    local.call(*call)
    assert local.logged() == [[b"HDEL", b"key", b"f", b"g"]]


# -- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["HTTL", "HPTTL", "HEXPIRETIME", "HPEXPIRETIME", "HPERSIST", "HGETDEL", "HGETEX"]
)
@pytest.mark.parametrize("key", ["key", "nokey"])
def test_wrong_fields(local: Local, name: str, key: str) -> None:
    make(local, "key", "f 1")
    assert local.error(name, key, "x", 1, "f") == FIELDS_MISSING
    for number in (0, -1, "x", 2**63, "01"):
        assert (
            local.error(name, key, "FIELDS", number, "f") == "ERR Number of fields must be a positive integer"
        )
    assert local.error(name, key, "FIELDS", 2, "f") == NUMFIELDS_MISMATCH
    assert local.error(name, key, "fields", 1, "f", "g") == NUMFIELDS_MISMATCH
    assert local.error(name, key, "FIELDS", 2**63 - 1, "f") == NUMFIELDS_MISMATCH


@pytest.mark.parametrize("name", ["HEXPIRE", "HPEXPIRE", "HEXPIREAT", "HPEXPIREAT"])
def test_wrong_expiry(local: Local, name: str) -> None:
    make(local, "key", "f 1")
    invalid = f"ERR invalid expire time in '{name.lower()}' command"
    assert local.error(name, "key", "x", "FIELDS", 1, "f") == NOT_AN_INTEGER
    assert local.error(name, "key", -1, "FIELDS", 1, "f") == "ERR invalid expire time, must be >= 0"
    assert local.error(name, "key", 2**63 - 1, "FIELDS", 1, "f") == invalid
    assert local.error(name, "key", 2**46, "FIELDS", 1, "f") == invalid
    for words in (("NX", "NX"), ("GT", "LT"), ("x",)):
        assert local.error(name, "key", 9, *words, "FIELDS", 1, "f") == FIELDS_MISSING
    assert (
        local.error(name, "key", 9, "FIELDS", 0, "f") == "ERR Parameter `numFields` should be greater than 0"
    )
    assert local.error(name, "key", 9, "FIELDS", 1, "f", "NX") == NUMFIELDS_MISMATCH


def test_the_latest_deadline(local: Local) -> None:
    make(local, "key", "f 1")
    last = limits.LAST_FIELD_DEADLINE_MS
    assert local.call("HPEXPIREAT", "key", last, "FIELDS", 1, "f") == [1]
    assert local.call("HPEXPIRE", "key", last - START_MS, "FIELDS", 1, "f") == [1]
    assert local.call("HEXPIREAT", "key", last // 1000, "FIELDS", 1, "f") == [1]
    for name, time in (("HPEXPIREAT", last), ("HPEXPIRE", last - START_MS), ("HEXPIREAT", last // 1000)):
        assert local.error(name, "key", time + 1, "FIELDS", 1, "f").startswith("ERR invalid expire time in")


def test_a_log_of_valkey_may_hold_later_ones() -> None:
    local = Local(1)
    [shard] = local.shards
    shard.records = [record([b"HSETEX", b"key", b"PXAT", b"%d" % 2**62, b"FIELDS", b"1", b"f", b"1"])]
    loaded = local.replayed()
    assert deadlines(loaded, "key", "f") == [2**62 - START_MS]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("EX", "x", "FIELDS", 1, "f"), NOT_AN_INTEGER),
        (("EX", -1, "FIELDS", 1, "f"), "ERR invalid expire time, must be >= 0"),
        (("PXAT", 2**46, "FIELDS", 1, "f"), "ERR invalid expire time in 'hgetex' command"),
        (("EX", 9, "a"), "ERR wrong number of arguments for 'hgetex' command"),
        (("EX", 9, "PERSIST", "FIELDS", 1, "f"), FIELDS_MISSING),
        (("PERSIST", "PERSIST", "FIELDS", 1, "f"), FIELDS_MISSING),
        (("KEEPTTL", "FIELDS", 1, "f"), FIELDS_MISSING),
        (("FIELDS", 1, "f", "PERSIST"), NUMFIELDS_MISMATCH),
    ],
)
def test_hgetex_errors(local: Local, words: tuple[Any, ...], error: str) -> None:
    assert local.error("HGETEX", "key", *words) == error


SEVERAL_EXPIRES = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"
HSETEX_ARITY = "ERR wrong number of arguments for 'hsetex' command"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("FNX", "FXX", "FIELDS", 1, "f", "1"), "ERR Only one of FXX or FNX arguments can be specified"),
        (("FNX", "FNX", "FIELDS", 1, "f", "1"), "ERR Only one of FXX or FNX arguments can be specified"),
        (("NX", "XX", "FIELDS", 1, "f", "1"), "ERR syntax error"),
        (("EX", 9, "PX", 9, "FIELDS", 1, "f", "1"), SEVERAL_EXPIRES),
        (("KEEPTTL", "EX", 9, "FIELDS", 1, "f", "1"), SEVERAL_EXPIRES),
        (("KEEPTTL", "KEEPTTL", "FIELDS", 1, "f", "1"), SEVERAL_EXPIRES),
        (("EX", "x", "FIELDS", 1, "f", "1"), NOT_AN_INTEGER),
        (("EX", -1, "FIELDS", 1, "f", "1"), "ERR invalid expire time, must be >= 0"),
        (("PX", 2**46, "FIELDS", 1, "f", "1"), "ERR invalid expire time in 'hsetex' command"),
        (("NX", "FNX", "KEEPTTL", "EX"), SEVERAL_EXPIRES),
        (("NX", "XX", "FNX", "EX"), "ERR syntax error"),
        (("NX", "NX", "FNX", "EX"), "ERR missing expire time"),
        (("NX", "NX", "FNX", "KEEPTTL"), HSETEX_ARITY),
        (("PERSIST", "FIELDS", 1, "f", "1"), "ERR unknown argument: PERSIST"),
        (("FIELDS", 1, "f", "1", "EX", "9"), HSETEX_ARITY),
        (("FIELDS", 2, "f", "1"), HSETEX_ARITY),
        (("EX", 9, "FIELDS", 1), HSETEX_ARITY),
        (("FIELDS", 0, "f", "1"), "ERR invalid number of fields"),
        (("FIELDS", "x", "f", "1"), "ERR invalid number of fields"),
        (("FIELDS", 2**31, "f", "1"), "ERR invalid number of fields"),
    ],
)
def test_hsetex_errors(local: Local, words: tuple[Any, ...], error: str) -> None:
    assert local.error("HSETEX", "key", *words) == error
    assert local.call("EXISTS", "key") == 0


# -- what has expired -------------------------------------------------------------------------


@pytest.fixture
def half_expired(local: Local) -> Local:
    """A hash `key` of which f and g have just expired, and nobody has removed them yet; h has not, i never
    will. There is nothing left of `gone`."""
    make(local, "key", "f 1 g 2 h 3 i 4")
    make(local, "gone", "f 1 g 2")
    for key in ("key", "gone"):
        local.call("HPEXPIRE", key, 5, "FIELDS", 2, "f", "g")
    local.call("HPEXPIRE", "key", 6, "FIELDS", 1, "h")
    local.advance(5)
    return local


def test_expired_fields_are_not_seen(half_expired: Local) -> None:
    call = half_expired.call
    half_expired.logged()
    assert (call("HGET", "key", "f"), call("HMGET", "key", "f", "h")) == (None, [None, b"3"])
    assert (call("HEXISTS", "key", "f"), call("HSTRLEN", "key", "f"), call("HLEN", "key")) == (0, 0, 2)
    assert call("HGETALL", "key") == {b"h": b"3", b"i": b"4"}
    assert (sorted(call("HKEYS", "key")), sorted(call("HVALS", "key"))) == ([b"h", b"i"], [b"3", b"4"])
    assert call("HSCAN", "key", 0) == [b"0", [b"h", b"3", b"i", b"4"]]
    assert call("HSCAN", "key", 0, "NOVALUES") == [b"0", [b"h", b"i"]]
    assert {call("HRANDFIELD", "key") for _ in range(50)} == {b"h", b"i"}
    assert sorted(call("HRANDFIELD", "key", 9)) == [b"h", b"i"]
    assert set(call("HRANDFIELD", "key", -50)) == {b"h", b"i"}
    assert deadlines(half_expired, "key", "f", "h", "i") == [NOTHING, 6, NEVER]
    assert half_expired.logged() == []


def test_a_hash_whose_fields_have_all_expired_is_empty(half_expired: Local) -> None:
    call = half_expired.call
    assert (call("HLEN", "gone"), call("HGETALL", "gone"), call("HKEYS", "gone")) == (0, {}, [])
    assert (call("HRANDFIELD", "gone"), call("HRANDFIELD", "gone", -3)) == (None, [])
    assert call("HSCAN", "gone", 0) == [b"0", []]


@pytest.mark.parametrize(
    ("call", "reply", "logged"),
    [
        (("HDEL", "key", "f"), 0, "HDEL key f"),
        (("HDEL", "key", "f", "i"), 1, "HDEL key f, HDEL key f i"),
        (("HSETNX", "key", "f", "9"), 1, "HDEL key f, HSETNX key f 9"),
        (("HINCRBY", "key", "f", "9"), 9, "HDEL key f, HINCRBY key f 9"),
        (("HINCRBYFLOAT", "key", "f", "9"), b"9", "HDEL key f, HSET key f 9"),
        (("HSET", "key", "f", "9"), 1, "HDEL key f, HSET key f 9"),
        (("HGETDEL", "key", "FIELDS", "1", "f"), [None], "HDEL key f"),
        (("HGETEX", "key", "EX", "9", "FIELDS", "1", "f"), [None], "HDEL key f"),
        (("HPERSIST", "key", "FIELDS", "1", "f"), [NOTHING], "HDEL key f"),
        (("HEXPIRE", "key", "9", "FIELDS", "1", "f"), [NOTHING], "HDEL key f"),
        (("HSETEX", "key", "FXX", "FIELDS", "1", "f", "9"), 0, "HDEL key f"),
        (("HSETEX", "key", "FNX", "FIELDS", "1", "f", "9"), 1, "HDEL key f, HSET key f 9"),
        (("HSETEX", "gone", "XX", "FIELDS", "1", "f", "9"), 0, "HDEL gone f"),
        (("HSETEX", "gone", "NX", "FIELDS", "1", "x", "9"), 1, "HSET gone x 9"),
        (("HSET", "gone", "f", "9", "g", "9"), 2, "HDEL gone f g, HSET gone f 9 g 9"),
        (("HINCRBY", "gone", "f", "9"), 9, "HDEL gone f, HINCRBY gone f 9"),
        (("HDEL", "gone", "f", "g"), 0, "HDEL gone f g"),
    ],
)
def test_writing_commands_meet_no_expired_field(
    half_expired: Local, call: tuple[str, ...], reply: Any, logged: str
) -> None:
    half_expired.call("HSET", "other", "f", "1")
    half_expired.logged()
    assert half_expired.call(*call) == reply
    assert [b" ".join(args).decode() for args in half_expired.logged()] == logged.split(", ")


def test_what_replaces_an_expired_field_has_no_deadline(half_expired: Local) -> None:
    half_expired.call("HINCRBY", "key", "f", 1)
    half_expired.call("HSETEX", "key", "KEEPTTL", "FIELDS", 1, "g", "1")
    assert deadlines(half_expired, "key", "f", "g") == [NEVER, NEVER]


def test_expired_fields_are_removed_without_being_asked_for(local: Local) -> None:
    for key in SOME_KEYS:
        local.call("HSET", key, "f", "1", "g", "2", "h", "3")
        local.call("HPEXPIRE", key, 1000, "FIELDS", 1, "f")
        local.call("HPEXPIRE", key, 100_000, "FIELDS", 1, "g")
    local.logged()
    expire(local)
    local.advance(999)
    expire(local)
    assert local.logged() == []
    local.advance(200)
    expire(local)
    assert sorted(local.logged()) == sorted([b"HDEL", key, b"f"] for key in SOME_KEYS)
    local.advance(100_000)
    expire(local)
    assert sorted(local.logged()) == sorted([b"HDEL", key, b"g"] for key in SOME_KEYS)
    for shard in local.shards:
        assert not shard.database(0).field_deadlines


def test_the_key_goes_with_its_last_field(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    local.call("HPEXPIRE", "key", 10, "FIELDS", 2, "f", "g")
    local.advance(1000)
    assert local.call("EXISTS", "key") == 1
    heard: list[str] = []
    for shard in local.shards:
        shard.observers.append(lambda db, key, event: heard.append(event))
    expire(local)
    assert (local.call("EXISTS", "key"), heard) == (0, ["hexpired", "del"])
    assert_replays(local)


def test_many_fields_are_removed_in_slices(local: Local) -> None:
    count = 5 * limits.EXPIRED_FIELDS_AT_ONCE
    local.call("HSET", "key", *numbered(count + 1))
    fields = [f"f{number}" for number in range(count)]
    local.call("HPEXPIRE", "key", 10, "FIELDS", count, *fields)
    local.logged()
    local.advance(1000)
    shard: Any = local.database_of(b"key").shard
    for number in range(1, 5):
        assert expire_due(shard, 0)
        found = local.database_of(b"key").peek(b"key")
        assert isinstance(found, Hash)
        assert len(found) == count + 1 - number * limits.EXPIRED_FIELDS_AT_ONCE
        assert local.call("HLEN", "key") == 1
    expire(local)
    assert local.call("HGETALL", "key") == {b"f%d" % count: b"%d" % count}
    assert {len(args) for args in local.logged()} == {2 + limits.EXPIRED_FIELDS_AT_ONCE}


def test_fields_of_a_locked_key_stay(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    local.call("HPEXPIRE", "key", 10, "FIELDS", 1, "f")
    local.logged()
    local.advance(1000)
    shard: Any = local.database_of(b"key").shard
    owner: Transaction = (0, 1)
    assert shard.locks.lock(owner, [(0, b"key")], whole=False, exclusive=True)
    expire(local)
    assert local.logged() == []
    shard.locks.release(owner)
    expire(local)
    assert local.logged() == [[b"HDEL", b"key", b"f"]]


def test_fields_of_a_packed_hash_expire(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    local.call("HPEXPIRE", "key", 10, "FIELDS", 1, "f")
    db = local.database_of(b"key")
    found = db.peek(b"key")
    assert isinstance(found, Hash)
    packed = found.pack()
    assert packed is not None
    db.put(b"key", packed, "test")
    local.advance(1000)
    expire(local)
    assert local.logged()[-1] == [b"HDEL", b"key", b"f"]
    assert local.call("HGETALL", "key") == {b"g": b"2"}


# -- wherever the hash goes -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["COPY", "RENAME"])
@pytest.mark.parametrize("target", SOME_KEYS)
def test_deadlines_go_with_the_value(local: Local, name: str, target: bytes) -> None:
    make(local, "key", "f 1 g 2 h 3")
    local.call("HPEXPIRE", "key", 10, "FIELDS", 1, "f")
    local.call("HPEXPIRE", "key", 10_000, "FIELDS", 1, "g")
    local.call("HSET", target, "old", "1")
    local.call("HPEXPIRE", target, 5, "FIELDS", 1, "old")
    assert local.call(name, "key", target, *(["REPLACE"] if name == "COPY" else []))
    assert deadlines(local, target, "f", "g", "h") == [10, 10_000, NEVER]
    content = local.content()
    replayed = local.replayed()
    assert replayed.content() == content
    for side in (local, replayed):
        side.advance(1000)
        expire(side)
        assert side.call("HGETALL", target) == {b"g": b"2", b"h": b"3"}
        hashes = 2 if name == "COPY" else 1
        assert sum(len(shard.database(0).field_deadlines) for shard in side.shards) == hashes


@pytest.mark.parametrize("target", SOME_KEYS[:6])
def test_a_field_that_expires_on_the_way_expires_where_it_arrives(half_expired: Local, target: bytes) -> None:
    half_expired.call("COPY", "key", target)
    half_expired.call("RENAME", "gone", b"new:" + target)
    assert half_expired.call("HGETALL", target) == {b"h": b"3", b"i": b"4"}
    half_expired.call("HINCRBY", target, "f", 5)
    assert_replays(half_expired)
    half_expired.advance(1000)
    expire(half_expired)
    assert half_expired.call("HGETALL", target) == {b"f": b"5", b"i": b"4"}
    assert half_expired.call("EXISTS", b"new:" + target) == 0


def test_deadlines_in_other_databases(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    local.call("HPEXPIRE", "key", 10, "FIELDS", 1, "f")
    local.call("MOVE", "key", 3)
    local.call("SWAPDB", 3, 5)
    local.advance(1000)
    expire(local)
    with selected(local, 5):
        assert local.call("HKEYS", "key") == [b"g"]


@pytest.mark.parametrize(
    "how", [("DEL", "key"), ("SET", "key", "text"), ("FLUSHALL",), ("HDEL", "key", "f", "g")]
)
def test_nothing_is_watched_that_is_gone(local: Local, how: tuple[str, ...]) -> None:
    make(local, "key", "f 1 g 2")
    local.call("HPEXPIRE", "key", 10, "FIELDS", 1, "f")
    local.call(*how)
    local.logged()
    for shard in local.shards:
        assert not shard.database(0).field_deadlines
    local.advance(1000)
    expire(local)
    assert local.logged() == []


@pytest.mark.parametrize("count", [3, 3000])
def test_a_rewritten_log_holds_the_deadlines(local: Local, count: int) -> None:
    fields = [f"f{number}" for number in range(count)]
    local.call("HSET", "key", *numbered(count))
    for number in range(3):
        local.call("HPEXPIRE", "key", 1000 + number, "FIELDS", 1, fields[-1 - number])
    before = local.content()
    written: list[bytes] = []
    walks = [Walk(list(shard.databases.values()), written.append) for shard in local.shards]
    # Whatever happens meanwhile is for the new log, and not for the rewritten one.
    local.call("HPEXPIRE", "key", 7, "FIELDS", 2, fields[0], fields[-1])
    local.call("HSETEX", "key", "EX", 9, "FIELDS", 1, "new", "1")
    local.advance(10_000)
    expire(local)
    for walk in walks:
        while not walk.step(0):
            pass
    rewritten = Local(1)
    rewritten.shards[0].records = written
    content = rewritten.replayed().content()
    assert {key: sorted_requests(requests) for key, (requests, _) in content.items()} == {
        key: sorted_requests(requests) for key, (requests, _) in before.items()
    }


def sorted_requests(requests: list[list[bytes]]) -> list[list[bytes]]:
    """What they set, in one order."""
    return sorted(
        [args[0], *part]
        for args in requests
        for part in (
            zip(args[2::2], args[3::2], strict=True)
            if args[0] == b"HSET"
            else ((args[2], field) for field in args[5:])
        )
    )
