"""Commands for keys of any type, for their deadlines, and for whole databases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sized
from itertools import pairwise
from typing import Any

import pytest

from shardkv import clock
from shardkv.chores import bury
from shardkv.keyspace import Database
from tests.local import START_MS, Local, selected

SOME_KEYS = [b"k:%d" % number for number in range(20)]
"""Keys that lie on all shards."""

NO_SUCH_KEY = "ERR no such key"
SYNTAX = "ERR syntax error"
OUT_OF_RANGE = "ERR DB index is out of range"
SAME = "ERR source and destination objects are the same"


def make(local: Local, key: Any) -> list[Any]:
    """Makes a key of some type, and returns commands that show its content."""
    number = int(key.rpartition(b":")[2])
    if number % 3 == 0:
        local.call("RPUSH", key, *range(number + 1))
        return ["LRANGE", 0, -1]
    local.call("SET", key, b"text of " + key)
    return ["GET"]


def show(local: Local, key: Any, how: list[Any]) -> Any:
    return local.call(how[0], key, *how[1:])


# -- keys counted -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DEL", "UNLINK"])
def test_deleting(local: Local, name: str) -> None:
    for key in SOME_KEYS:
        make(local, key)
    assert local.call("EXISTS", *SOME_KEYS, "none", SOME_KEYS[0]) == len(SOME_KEYS) + 1
    assert local.call("TOUCH", *SOME_KEYS, "none", SOME_KEYS[0]) == len(SOME_KEYS) + 1
    assert local.call(name, SOME_KEYS[0], SOME_KEYS[0], "none", SOME_KEYS[1]) == 2
    assert local.call(name, *SOME_KEYS) == len(SOME_KEYS) - 2
    assert local.call("DBSIZE") == 0
    assert local.call(name, *SOME_KEYS) == 0
    assert local.replayed().content() == {}


def test_a_deletion_of_nothing_is_not_logged(local: Local) -> None:
    assert local.call("DEL", *SOME_KEYS) == 0
    assert local.logged() == []


def test_expired_keys_are_never_seen(local: Local) -> None:
    for key in SOME_KEYS:
        local.call("SET", key, "1", "PX", 10)
    local.advance(10)
    assert local.call("KEYS", "*") == []
    assert local.call("SCAN", 0, "COUNT", 100) == [b"0", []]
    assert local.call("RANDOMKEY") is None
    for key in SOME_KEYS:
        local.call("SET", key, "1", "PX", 10)
    local.advance(10)
    assert local.call("EXISTS", *SOME_KEYS) == 0
    for key in SOME_KEYS[:10]:
        local.call("SET", key, "1", "PX", 10)
    local.advance(10)
    assert local.call("DEL", *SOME_KEYS) == 0
    local.call("SET", "a", "1", "PX", 10)
    local.advance(10)
    assert local.call("COPY", "a", "b") == 0
    assert local.call("MOVE", "a", 1) == 0
    assert local.error("RENAME", "a", "b") == NO_SUCH_KEY
    assert local.call("TYPE", "a") == b"none"
    assert local.call("TTL", "a") == -2
    assert local.call("PERSIST", "a") == 0
    assert local.call("EXPIRE", "a", 100) == 0
    assert local.call("OBJECT", "ENCODING", "a") is None
    assert local.replayed().content() == {}


# -- deadlines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "deadline_ms"),
    [
        (("EXPIRE", "key", 10), START_MS + 10_000),
        (("PEXPIRE", "key", 10), START_MS + 10),
        (("EXPIREAT", "key", START_MS // 1000 + 1), START_MS // 1000 * 1000 + 1000),
        (("PEXPIREAT", "key", 2**63 - 1), 2**63 - 1),
    ],
)
def test_a_deadline(local: Local, words: tuple[Any, ...], deadline_ms: int) -> None:
    assert local.call(*words) == 0
    local.call("SET", "key", "text")
    assert [local.call(name, "key") for name in ("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME")] == [-1] * 4
    assert local.call(*words) == 1
    assert local.logged()[1:] == [[b"PEXPIREAT", b"key", b"%d" % deadline_ms]]
    assert local.call("PTTL", "key") == deadline_ms - START_MS
    assert local.call("TTL", "key") == (deadline_ms - START_MS + 500) // 1000
    assert local.call("PEXPIRETIME", "key") == deadline_ms
    assert local.call("EXPIRETIME", "key") == (deadline_ms + 500) // 1000
    assert local.call("PERSIST", "key") == 1
    assert local.call("PERSIST", "key") == 0
    assert [local.call(name, "none") for name in ("TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME")] == [-2] * 4


@pytest.mark.parametrize(
    "words", [("EXPIRE", 0), ("EXPIRE", -1), ("PEXPIRE", -(2**63)), ("EXPIREAT", 1), ("PEXPIREAT", START_MS)]
)
def test_a_deadline_that_has_passed_deletes(local: Local, words: tuple[Any, ...]) -> None:
    name, time = words
    local.call("SET", "key", "text")
    assert local.call(name, "key", time) == 1
    assert local.call("DBSIZE") == 0
    assert local.logged()[1:] == [[b"DEL", b"key"]]


def test_nothing_expires_while_a_log_is_replayed(local: Local) -> None:
    """A log may hold a deadline that passed while the server was off, and later changes of that key."""
    for shard in local.shards:
        shard.begin_replay()
    db = local.database_of(b"key")
    shard = next(shard for shard in local.shards if shard.databases.get(0) is db)
    for words in ("SET key 1 PXAT 1000", "INCR key", "PEXPIREAT key 2000", "EXPIREAT key 3", "APPEND key 0"):
        shard.replay(words.encode().split())
    assert db.peek(b"key") == b"20"
    assert db.expires == {b"key": 3000}
    # Times from now are of no use in a log, but older servers wrote them.
    now_ms = clock.now_ms()
    shard.replay([b"EXPIRE", b"key", b"100"])
    assert now_ms + 100_000 <= db.expires[b"key"] <= now_ms + 200_000
    shard.replay([b"EXPIREAT", b"key", b"3"])
    local.set_clock(START_MS)
    assert local.call("GET", "key") is None


@pytest.mark.parametrize(
    ("old", "option", "new", "set_"),
    [
        *[(None, "NX", 10, 1), (50, "NX", 10, 0), (None, "XX", 10, 0), (50, "XX", 10, 1)],
        *[(None, "GT", 99, 0), (50, "GT", 99, 1), (50, "gt", 50, 0), (50, "GT", 10, 0)],
        *[(None, "LT", 99, 1), (50, "LT", 99, 0), (50, "lt", 50, 0), (50, "LT", 10, 1)],
        *[(50, "LT", -1, 1), (None, "LT", -1, 1), (50, "GT", -1, 0), (None, "XX", -1, 0)],
    ],
)
def test_conditions_of_deadlines(local: Local, old: int | None, option: str, new: int, set_: int) -> None:
    local.call("SET", "key", "text", *([] if old is None else ["EX", old]))
    assert local.call("EXPIRE", "key", new, option) == set_
    wanted = new if set_ else -1 if old is None else old
    assert local.call("TTL", "key") == (-2 if wanted < -1 or (set_ and new < 0) else wanted)


@pytest.mark.parametrize("name", ["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"])
def test_deadlines_that_make_no_sense(local: Local, name: str) -> None:
    local.call("SET", "key", "text")
    others = "ERR NX and XX, GT or LT options at the same time are not compatible"
    assert local.error(name, "key", "soon") == "ERR value is not an integer or out of range"
    assert local.error(name, "key", 10, "NX", "LT") == others
    assert local.error(name, "key", 10, "GT", "LT") == (
        "ERR GT and LT options at the same time are not compatible"
    )
    assert local.error(name, "key", 10, "NX", "When") == "ERR Unsupported option When"
    if name != "PEXPIREAT":
        refused = f"ERR invalid expire time in '{name.lower()}' command"
        assert local.error(name, "key", 2**63 - 1) == refused
        if name != "PEXPIRE":
            assert local.error(name, "key", -(2**63)) == refused
    assert local.call("TTL", "key") == -1


# -- another name, another place --------------------------------------------------------------


def test_rename_takes_value_and_deadline_along(local: Local) -> None:
    for key in SOME_KEYS:
        shown = make(local, key)
        content = show(local, key, shown)
        local.call("PEXPIRE", key, 5000)
        local.call("SET", "new", "old")
        assert local.call("RENAME", key, "new") == b"OK"
        assert show(local, b"new", shown) == content
        assert local.call("PTTL", "new") == 5000
        assert local.call("EXISTS", key) == 0
        assert local.call("DBSIZE") == 1
        assert local.call("RENAME", "new", key) == b"OK"
        assert local.call("RENAMENX", key, "new") == 1
        make(local, key)
        assert local.call("RENAMENX", "new", key) == 0
        local.call("DEL", key)
    assert local.error("RENAME", "none", "new") == NO_SUCH_KEY
    assert local.error("RENAMENX", "none", "new") == NO_SUCH_KEY
    assert local.call("RENAME", "new", "new") == b"OK"
    assert local.call("RENAMENX", "new", "new") == 0
    assert local.replayed().content() == local.content()


def test_copy(local: Local) -> None:
    for key in SOME_KEYS:
        shown = make(local, key)
        content = show(local, key, shown)
        assert local.call("COPY", key, "new") == 1
        assert local.call("COPY", key, "new") == 0
        assert local.call("TTL", "new") == -1
        local.call("EXPIRE", key, 100)
        assert local.call("COPY", key, "new", "REPLACE") == 1
        assert local.call("TTL", "new") == 100
        assert show(local, b"new", shown) == show(local, key, shown) == content
        assert local.call("COPY", key, "new", "DB", 3, "REPLACE") == 1
        with selected(local, 3):
            assert show(local, b"new", shown) == content
            assert local.call("DBSIZE") == 1
        local.call("DEL", "new")
    assert local.call("COPY", "none", "new") == 0
    assert local.replayed().content() == local.content()


def test_a_copy_is_one_of_its_own(local: Local) -> None:
    local.call("RPUSH", "list", "1")
    local.call("APPEND", "text", "1")
    local.call("APPEND", "text", "1")
    for number, key in enumerate(SOME_KEYS):
        source = "list" if number % 2 else "text"
        local.call("COPY", source, key)
        local.call("RPUSH" if number % 2 else "APPEND", source, "2")
        assert local.call("LLEN" if number % 2 else "STRLEN", key) == number // 2 + (1 if number % 2 else 2)


def test_copy_and_move_refuse(local: Local) -> None:
    local.call("SET", "key", "text")
    assert local.error("COPY", "key", "key") == SAME
    assert local.error("COPY", "key", "key", "DB", 0) == SAME
    assert local.error("MOVE", "key", 0) == SAME
    for db, error in [
        (16, OUT_OF_RANGE),
        (-1, OUT_OF_RANGE),
        ("x", "ERR value is not an integer or out of range"),
    ]:
        for other in SOME_KEYS:
            assert local.error("COPY", "key", other, "DB", db) == error
        assert local.error("MOVE", "key", db) == error
    assert local.error("MOVE", "key", 2**31).startswith("ERR value is out of range, value must between")
    for other in SOME_KEYS:
        assert local.error("COPY", "key", other, "DB") == SYNTAX
        assert local.error("COPY", "key", other, "OVER") == SYNTAX


def test_move(local: Local) -> None:
    for key in SOME_KEYS:
        shown = make(local, key)
        content = show(local, key, shown)
        local.call("EXPIRE", key, 100)
        assert local.call("MOVE", key, 1) == 1
        assert local.call("EXISTS", key) == 0
        with selected(local, 1):
            assert show(local, key, shown) == content
            assert local.call("TTL", key) == 100
        make(local, key)
        assert local.call("MOVE", key, 1) == 0
    assert local.call("MOVE", "none", 1) == 0
    assert local.replayed().content() == local.content()


def test_events_of_moved_keys(local: Local) -> None:
    """Whoever watches keys hears the same, whether a key stays on its shard or not."""
    heard: list[tuple[int, bytes, str]] = []

    def hear(db: Database, key: bytes, event: str) -> None:
        heard.append((db.index, key, event))

    for shard in local.shards:
        shard.observers.append(hear)
    for key in SOME_KEYS:
        make(local, key)
        heard.clear()
        local.call("RENAME", key, "new")
        assert sorted(heard) == sorted([(0, key, "rename_from"), (0, b"new", "rename_to")])
        heard.clear()
        local.call("COPY", "new", key, "DB", 2)
        assert heard == [(2, key, "copy_to")]


def test_several_effects_are_logged_as_one(local: Local) -> None:
    local.call("RPUSH", "list", *range(1000))
    local.call("EXPIRE", "list", 10)
    local.logged()
    for key in SOME_KEYS:
        local.call("COPY", "list", key)
        names = [args[0] for args in local.logged()]
        assert names.count(b"MULTI") == names.count(b"EXEC") <= 1
        if len(names) > 1:
            assert (names[0], names[-1]) == (b"MULTI", b"EXEC")


# -- OBJECT -----------------------------------------------------------------------------------


def test_object(local: Local) -> None:
    local.call("SET", "key", "text")
    local.call("SET", "number", "17")
    local.call("SET", "long", "x" * 100)
    assert local.call("OBJECT", "ENCODING", "key") == b"embstr"
    assert local.call("OBJECT", "encoding", "number") == b"int"
    assert local.call("OBJECT", "ENCODING", "long") == b"raw"
    assert local.call("OBJECT", "REFCOUNT", "key") == 1
    local.advance(5000)
    assert local.call("EXISTS", "key") == 1
    assert local.call("TTL", "key") == -1
    assert local.call("OBJECT", "IDLETIME", "key") == 5
    assert local.call("TOUCH", "key") == 1
    assert local.call("OBJECT", "IDLETIME", "key") == 0
    assert local.error("OBJECT", "FREQ", "key").startswith("ERR An LFU maxmemory policy is not selected")
    for name in ("ENCODING", "REFCOUNT", "IDLETIME", "FREQ"):
        assert local.call("OBJECT", name, "none") is None
    assert b"ENCODING key" in local.call("OBJECT", "HELP")


# -- whole databases --------------------------------------------------------------------------


def test_keys(local: Local) -> None:
    local.call("MSET", *[word for key in [*SOME_KEYS, "other"] for word in (key, "1")])
    assert sorted(local.call("KEYS", "*")) == sorted([*SOME_KEYS, b"other"])
    assert sorted(local.call("KEYS", "k:[12]?")) == sorted(b"k:%d" % number for number in range(10, 20))
    assert local.call("KEYS", "other") == [b"other"]


def test_randomkey_is_fair(local: Local) -> None:
    """Whatever shard and slot keys are on, they are drawn equally often."""
    keys = [*SOME_KEYS, *(b"{together}:%d" % number for number in range(20))]
    local.call("MSET", *[word for key in keys for word in (key, "1")])
    draws = 400
    drawn = Counter(local.call("RANDOMKEY") for _ in range(draws))
    assert set(drawn) == set(keys)
    # Pearson's statistic has 39 degrees of freedom; it exceeds 110 less than once in a hundred million runs.
    expected = draws / len(keys)
    assert sum((count - expected) ** 2 / expected for count in drawn.values()) < 110


@pytest.mark.parametrize("mode", [(), ("SYNC",), ("async",)])
def test_flushing(local: Local, mode: tuple[str, ...]) -> None:
    for db in (0, 1, 2):
        with selected(local, db):
            local.call("MSET", *[word for key in SOME_KEYS for word in (key, "1")])
            local.call("EXPIRE", SOME_KEYS[0], 100)
    local.logged()
    with selected(local, 1):
        assert local.call("FLUSHDB", *mode) == b"OK"
        assert local.call("DBSIZE") == 0
    assert local.call("DBSIZE") == len(SOME_KEYS)
    assert [args for args in local.logged() if args[0] == b"FLUSHDB"] == [[b"FLUSHDB"]] * len(local.shards)
    assert local.call("FLUSHALL", *mode) == b"OK"
    assert local.content() == {}
    assert [args for args in local.logged() if args[0] == b"FLUSHALL"] == [[b"FLUSHALL"]] * len(local.shards)
    assert local.error("FLUSHALL", "NOW") == SYNTAX
    assert local.error("FLUSHDB", "SYNC", "ASYNC") == SYNTAX
    for shard in local.shards:
        assert shard.graveyard
        bury(shard, 60)
        assert not shard.graveyard


def test_what_was_flushed_is_freed_in_slices() -> None:
    local = Local()
    [shard] = local.shards
    keys = [b"{one slot}:%d" % number for number in range(5000)]
    local.call("MSET", *[word for key in keys for word in (key, "1")])
    for key in keys:
        local.call("PEXPIRE", key, 1000)
    db = local.database_of(keys[0])
    parts: list[Sized] = [next(slot for slot in db.slots if slot), db.deadlines]
    local.call("FLUSHALL")
    sizes = [(5000, 5000)]
    while shard.graveyard:
        bury(shard, 0)
        sizes.append((len(parts[0]), len(parts[1])))
    for before, after in pairwise(sizes):
        assert sum(before) - sum(after) <= 1000
    assert sizes[-1] < (1000, 1)


def test_swapdb(local: Local) -> None:
    local.call("MSET", *[word for key in SOME_KEYS for word in (key, "0")])
    with selected(local, 1):
        local.call("SET", "key", "1")
    assert local.call("SWAPDB", 0, 1) == b"OK"
    assert local.call("KEYS", "*") == [b"key"]
    with selected(local, 1):
        assert local.call("DBSIZE") == len(SOME_KEYS)
    assert local.call("SWAPDB", 1, 1) == b"OK"
    assert local.error("SWAPDB", "x", 0) == "ERR invalid first DB index"
    assert local.error("SWAPDB", 0, 2**31) == "ERR invalid second DB index"
    assert local.error("SWAPDB", 0, 16) == OUT_OF_RANGE
    assert local.replayed().content() == local.content()
