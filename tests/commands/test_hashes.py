"""Hashes: fields and values."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from shardkv import limits
from shardkv.chores import bury
from shardkv.keyspace import Database
from shardkv.structures.hash import Hash, PackedHash
from tests.local import Local

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_A_FLOAT = "ERR value is not a valid float"

SOME_KEYS = [b"k:%d" % number for number in range(12)]
"""Keys that lie on all shards."""


def make(local: Local, key: Any, text: str) -> None:
    """Makes a hash of the words in a text: field, value, field, value …"""
    local.call("DEL", key)
    local.call("HSET", key, *text.split())


def numbered(count: int) -> list[str]:
    return list(chain.from_iterable((f"f{number}", str(number)) for number in range(count)))


def events_of(local: Local, *call: Any) -> list[str]:
    """What a call tells those who want to hear of changed keys."""
    heard: list[str] = []

    def hear(db: Database, key: bytes, event: str) -> None:
        heard.append(f"{event} {key.decode()}")

    for shard in local.shards:
        shard.observers.append(hear)
    local.call(*call)
    for shard in local.shards:
        shard.observers.remove(hear)
    return heard


# -- HSET and its like ------------------------------------------------------------------------


@pytest.mark.parametrize("key", SOME_KEYS)
def test_what_was_set_can_be_got(local: Local, key: bytes) -> None:
    assert local.call("HSET", key, "f", "1", b"\xff\x00", b"\r\n", "f", "2") == 2
    assert local.call("HSET", key, "f", "3", "", "") == 1
    assert local.call("HGETALL", key) == {b"f": b"3", b"\xff\x00": b"\r\n", b"": b""}
    assert local.call("HGET", key, b"\xff\x00") == b"\r\n"
    assert local.call("HMGET", key, "f", "g", "", "f") == [b"3", None, b"", b"3"]
    assert (local.call("HEXISTS", key, ""), local.call("HEXISTS", key, "g")) == (1, 0)
    assert (local.call("HSTRLEN", key, b"\xff\x00"), local.call("HSTRLEN", key, "g")) == (2, 0)
    assert local.call("HLEN", key) == 3
    assert sorted(local.call("HKEYS", key)) == [b"", b"f", b"\xff\x00"]
    assert sorted(local.call("HVALS", key)) == [b"", b"\r\n", b"3"]
    assert [args[0] for args in local.logged()] == [b"HSET", b"HSET"]


def test_of_a_key_that_is_not_there(local: Local) -> None:
    assert local.call("HGETALL", "key") == {}
    assert (local.call("HKEYS", "key"), local.call("HVALS", "key")) == ([], [])
    assert (local.call("HGET", "key", "f"), local.call("HMGET", "key", "f", "g")) == (None, [None, None])
    assert [local.call(name, "key", "f") for name in ("HEXISTS", "HSTRLEN", "HDEL")] == [0, 0, 0]
    assert local.call("HLEN", "key") == 0
    assert local.call("HSCAN", "key", 0) == [b"0", []]
    assert (local.call("HRANDFIELD", "key"), local.call("HRANDFIELD", "key", 3)) == (None, [])
    assert local.resp("HGETALL", "key", protocol=3) == b"%0\r\n"
    assert local.logged() == []


def test_hmset_says_ok_and_hsetnx_sets_only_what_is_not_there(local: Local) -> None:
    assert local.call("HMSET", "key", "f", "1", "g", "2") == b"OK"
    assert (local.call("HSETNX", "key", "f", "9"), local.call("HSETNX", "key", "h", "3")) == (0, 1)
    assert local.call("HSETNX", "other", "f", "1") == 1
    assert local.call("HGETALL", "key") == {b"f": b"1", b"g": b"2", b"h": b"3"}
    assert sorted(local.logged()) == [
        [b"HMSET", b"key", b"f", b"1", b"g", b"2"],
        [b"HSETNX", b"key", b"h", b"3"],
        [b"HSETNX", b"other", b"f", b"1"],
    ]


@pytest.mark.parametrize("name", ["HSET", "HMSET"])
@pytest.mark.parametrize("words", [("f",), ("f", "1", "g"), ()])
def test_a_field_without_a_value(local: Local, name: str, words: tuple[str, ...]) -> None:
    local.call("SET", "key", "text")
    assert local.error(name, "key", *words) == f"ERR wrong number of arguments for '{name.lower()}' command"


def test_setting_a_field_leaves_the_keys_deadline(local: Local) -> None:
    local.call("HSET", "key", "f", "1")
    local.call("EXPIRE", "key", 100)
    local.call("HSET", "key", "f", "2", "g", "3")
    local.call("HINCRBY", "key", "f", 1)
    assert local.call("TTL", "key") == 100


def test_hdel_removes_fields_and_the_key_with_the_last(local: Local) -> None:
    make(local, "key", "f 1 g 2 h 3")
    local.logged()
    assert local.call("HDEL", "key", "f", "x", "f") == 1
    assert local.call("HDEL", "key", "x") == 0
    assert local.call("HDEL", "key", "g", "h") == 2
    assert local.call("EXISTS", "key") == 0
    assert local.logged() == [[b"HDEL", b"key", b"f", b"x", b"f"], [b"HDEL", b"key", b"g", b"h"]]


@pytest.mark.parametrize(
    ("call", "heard"),
    [
        (("HSET", "key", "f", "1", "x", "2"), ["hset key"]),
        (("HMSET", "new", "f", "1"), ["hset new"]),
        (("HSETNX", "key", "f", "1"), []),
        (("HSETNX", "key", "x", "1"), ["hset key"]),
        (("HINCRBY", "key", "f", "1"), ["hincrby key"]),
        (("HINCRBYFLOAT", "key", "f", "1"), ["hincrbyfloat key"]),
        (("HDEL", "key", "f"), ["hdel key"]),
        (("HDEL", "key", "x"), []),
        (("HDEL", "key", "f", "g"), ["hdel key", "del key"]),
    ],
)
def test_events(local: Local, call: tuple[Any, ...], heard: list[str]) -> None:
    make(local, "key", "f 1 g 2")
    assert events_of(local, *call) == heard


# -- counting ---------------------------------------------------------------------------------


def test_hincrby(local: Local) -> None:
    assert local.call("HINCRBY", "key", "f", 5) == 5
    assert local.call("HINCRBY", "key", "f", -10) == -5
    assert local.call("HINCRBY", "key", "g", 2**63 - 1) == 2**63 - 1
    assert local.call("HGETALL", "key") == {b"f": b"-5", b"g": b"9223372036854775807"}
    assert local.error("HINCRBY", "key", "g", 1) == "ERR increment or decrement would overflow"
    assert local.call("HINCRBY", "key", "g", -(2**63)) == -1
    assert local.error("HINCRBY", "key", "g", -(2**63)) == "ERR increment or decrement would overflow"
    assert [args[0] for args in local.logged()] == [b"HINCRBY"] * 4


@pytest.mark.parametrize("text", ["", "x", " 1", "1 ", "1.5", "01", "9223372036854775808", "-0"])
def test_hincrby_of_what_is_no_integer(local: Local, text: str) -> None:
    local.call("HSET", "key", "f", text)
    assert local.error("HINCRBY", "key", "f", 1) == "ERR hash value is not an integer"
    assert local.error("HINCRBY", "key", "g", text) == NOT_AN_INTEGER
    local.call("SET", "string", "1")
    assert local.error("HINCRBY", "string", "f", text) == NOT_AN_INTEGER


def test_hincrbyfloat_is_logged_as_what_came_of_it(local: Local) -> None:
    steps = [("10.50", b"10.5"), ("0.1", b"10.6"), ("-5", b"5.6"), ("-5.6", b"0"), ("2.0e2", b"200")]
    for increment, new in steps:
        assert local.call("HINCRBYFLOAT", "key", "f", increment) == new
    assert local.logged() == [[b"HSET", b"key", b"f", new] for _, new in steps]


@pytest.mark.parametrize("text", ["", "x", " 1", "1 ", "nan", "1e5000"])
def test_hincrbyfloat_of_what_is_no_number(local: Local, text: str) -> None:
    local.call("HSET", "key", "f", text)
    assert local.error("HINCRBYFLOAT", "key", "f", 1) == "ERR hash value is not a float"
    assert local.error("HINCRBYFLOAT", "key", "g", text) == NOT_A_FLOAT


def test_hincrbyfloat_never_makes_an_infinity(local: Local) -> None:
    local.call("HSET", "key", "f", "inf", "g", "1")
    assert local.error("HINCRBYFLOAT", "key", "f", 1) == "ERR increment would produce NaN or Infinity"
    for text in ("inf", "-inf", "Infinity"):
        assert local.error("HINCRBYFLOAT", "key", "g", text) == "ERR value is NaN or Infinity"


# -- HSCAN ------------------------------------------------------------------------------------


def scanned(local: Local, key: str, *options: Any) -> list[bytes]:
    """What a whole scan returns."""
    cursor, found = b"0", []
    while True:
        cursor, elements = local.call("HSCAN", key, cursor, *options)
        found += elements
        if cursor == b"0":
            return found


def test_a_small_hash_is_scanned_at_once(local: Local) -> None:
    local.call("HSET", "key", *numbered(100))
    cursor, elements = local.call("HSCAN", "key", 0, "COUNT", 1)
    assert (cursor, len(elements)) == (b"0", 200)
    assert dict(zip(elements[::2], elements[1::2], strict=True)) == local.call("HGETALL", "key")


@pytest.mark.parametrize("count", [1, 10, 100, 10_000])
def test_a_scan_of_a_large_hash_finds_all(local: Local, count: int) -> None:
    local.call("HSET", "key", *numbered(3000))
    found = scanned(local, "key", "COUNT", count)
    assert dict(zip(found[::2], found[1::2], strict=True)) == local.call("HGETALL", "key")
    assert len(found) == 6000
    fields = scanned(local, "key", "NOVALUES", "COUNT", count)
    assert sorted(fields) == sorted(local.call("HKEYS", "key"))


def test_a_scan_misses_nothing_that_was_there_all_the_time(local: Local) -> None:
    local.call("HSET", "key", *numbered(2000))
    cursor, found, turn = b"0", set(), 0
    while turn == 0 or cursor != b"0":
        cursor, fields = local.call("HSCAN", "key", cursor, "NOVALUES")
        found |= set(fields)
        local.call("HDEL", "key", *(f"f{number}" for number in range(1000 + 7 * turn, 1007 + 7 * turn)))
        local.call("HSET", "key", *numbered(3000 + 40 * turn)[6000:])
        turn += 1
    assert found >= {b"f%d" % number for number in range(1000)}


def test_hscan_options(local: Local) -> None:
    make(local, "key", "one 1 two 2 three 3")
    assert local.call("HSCAN", "key", 0, "match", "t*") == [b"0", [b"two", b"2", b"three", b"3"]]
    assert local.call("HSCAN", "key", "0", "NOVALUES", "MATCH", "o?e") == [b"0", [b"one"]]
    assert local.error("HSCAN", "key", 0, "COUNT", 0) == SYNTAX
    assert local.error("HSCAN", "key", 0, "COUNT", "x") == NOT_AN_INTEGER
    assert local.error("HSCAN", "key", 0, "TYPE", "hash") == SYNTAX
    assert local.error("HSCAN", "key", "x") == "ERR invalid cursor"


# -- HRANDFIELD -------------------------------------------------------------------------------


def test_hrandfield(local: Local) -> None:
    local.call("HSET", "key", *numbered(20))
    whole = local.call("HGETALL", "key")
    assert {local.call("HRANDFIELD", "key") for _ in range(400)} == set(whole)
    assert set(local.call("HRANDFIELD", "key", 20)) == set(whole)
    assert sorted(local.call("HRANDFIELD", "key", 2**63 - 1)) == sorted(whole)
    some = local.call("HRANDFIELD", "key", 7)
    assert len(some) == len(set(some)) == 7
    repeated = local.call("HRANDFIELD", "key", -100)
    assert len(repeated) == 100
    assert len(set(repeated)) > 7
    assert set(repeated) <= set(whole)
    pairs = local.call("HRANDFIELD", "key", 5, "withvalues")
    assert len(pairs) == 5
    assert all(whole[field] == value for field, value in pairs)
    assert (local.call("HRANDFIELD", "key", 0), local.call("HRANDFIELD", "key", 0, "WITHVALUES")) == ([], [])


def test_hrandfield_with_values_in_either_protocol(local: Local) -> None:
    make(local, "key", "f 1")
    call = ("HRANDFIELD", "key", -2, "WITHVALUES")
    pair = b"$1\r\nf\r\n$1\r\n1\r\n"
    assert local.resp(*call, protocol=2) == b"*4\r\n" + pair * 2
    assert local.resp(*call, protocol=3) == b"*2\r\n" + (b"*2\r\n" + pair) * 2


def test_hrandfield_errors(local: Local) -> None:
    make(local, "key", "f 1")
    assert local.error("HRANDFIELD", "key", "x") == NOT_AN_INTEGER
    assert local.error("HRANDFIELD", "key", 1, "x") == SYNTAX
    assert local.error("HRANDFIELD", "key", 1, "WITHVALUES", "x") == SYNTAX
    assert local.error("HRANDFIELD", "key", -(2**63)).startswith("ERR value is out of range, value must")
    assert local.error("HRANDFIELD", "key", 2**62, "WITHVALUES") == "ERR value is out of range"
    assert local.call("HRANDFIELD", "key", 2**62) == [b"f"]
    assert local.error("HRANDFIELD", "key", -limits.REPEATED_MEMBERS - 1) == "ERR value is out of range"


# -- as any type ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        *[("HSET", "f", "1"), ("HMSET", "f", "1"), ("HSETNX", "f", "1"), ("HINCRBY", "f", "1")],
        *[("HINCRBYFLOAT", "f", "1"), ("HDEL", "f"), ("HGET", "f"), ("HMGET", "f"), ("HEXISTS", "f")],
        *[("HSTRLEN", "f"), ("HLEN",), ("HGETALL",), ("HKEYS",), ("HVALS",), ("HSCAN", "0"), ("HRANDFIELD",)],
        *[("HRANDFIELD", "3"), ("HEXPIRE", "1", "FIELDS", "1", "f"), ("HTTL", "FIELDS", "1", "f")],
        *[("HPERSIST", "FIELDS", "1", "f"), ("HGETDEL", "FIELDS", "1", "f"), ("HGETEX", "FIELDS", "1", "f")],
        *[("HSETEX", "FIELDS", "1", "f", "1"), ("HPEXPIRETIME", "FIELDS", "1", "f")],
    ],
)
def test_no_hash(local: Local, call: tuple[str, ...]) -> None:
    local.call("RPUSH", "key", "element")
    assert local.error(call[0], "key", *call[1:]) == WRONG_TYPE


def test_a_packed_hash_answers_as_before(local: Local) -> None:
    make(local, "key", "f 1 g 2")
    db = local.database_of(b"key")
    found = db.peek(b"key")
    assert isinstance(found, Hash)
    packed = found.pack()
    assert isinstance(packed, PackedHash)
    db.put(b"key", packed, "test")
    assert local.call("TYPE", "key") == b"hash"
    assert local.call("HGETALL", "key") == {b"f": b"1", b"g": b"2"}
    assert local.call("HSET", "key", "h", "3") == 1
    assert local.call("HLEN", "key") == 3


def test_a_large_hash_through_its_life(local: Local) -> None:
    local.call("HSET", "key", *numbered(3000))
    local.call("COPY", "key", "copy")
    local.call("HDEL", "copy", *(f"f{number}" for number in range(2900)))
    local.call("HSET", "key", "f0", "new")
    assert (local.call("HLEN", "key"), local.call("HLEN", "copy")) == (3000, 100)
    assert (local.call("HGET", "copy", "f0"), local.call("HGET", "copy", "f2900")) == (None, b"2900")
    local.call("RENAME", "copy", "key2")
    content = local.content()
    assert local.replayed().content() == content
    assert local.call("DEL", "key", "key2") == 2
    for shard in local.shards:
        bury(shard, 1)
        assert not shard.graveyard
