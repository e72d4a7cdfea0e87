"""DUMP and RESTORE."""

from __future__ import annotations

from typing import Any

import pytest

from shardkv.chores import expire_due
from shardkv.errors import BAD_DATA_FORMAT, BUSY_KEY, SYNTAX, WRONG_PAYLOAD, CommandError
from shardkv.resp.replies import OK
from tests.local import START_MS, Local
from tests.rdb import forms

HELLO = forms.payload(b"\x00\x05hello")

MAKES: list[tuple[Any, ...]] = [
    ("SET", "key", "text"),
    ("SET", "key", ""),
    ("SET", "key", 12345678901),
    ("INCRBY", "key", -300),
    ("APPEND", "key", "abc" * 100),
    ("RPUSH", "key", *range(1000)),
    ("SADD", "key", 1, 2, 70000),
    ("SADD", "key", *(f"member:{number}" for number in range(300))),
    ("HSET", "key", "field", "value", "number", 7),
    ("HSET", "key", *range(2000)),
    ("ZADD", "key", "-inf", "a", 0.1, "b", 1e300, "c"),
    ("ZADD", "key", *range(1, 2001)),
]


@pytest.mark.parametrize("make", MAKES)
def test_there_and_back(local: Local, make: tuple[Any, ...]) -> None:
    local.call(*make)
    payload = local.call("DUMP", "key")
    encoding = local.call("OBJECT", "ENCODING", "key")
    assert local.call("RESTORE", "copy", 0, payload) == OK
    assert local.call("RESTORE", "key", 0, payload, "REPLACE") == OK
    assert local.call("DUMP", "copy") == local.call("DUMP", "key")
    if make[0] != "APPEND":
        assert local.call("OBJECT", "ENCODING", "copy") == encoding
    content = local.content()
    assert local.replayed().content() == content


def test_version_and_checksum_as_redis_7(local: Local) -> None:
    local.call("SET", "key", 10)
    # As the documentation of DUMP shows it for another version.
    assert local.call("DUMP", "key")[:-8] == b"\x00\xc0\n\n\x00"
    assert local.call("DUMP", "none") is None


def test_log(local: Local) -> None:
    local.call("RESTORE", "a", 5000, HELLO)
    local.call("RESTORE", "a", 0, HELLO, "REPLACE", "FREQ", 7)
    local.call("RESTORE", "a", START_MS + 7, HELLO, "ABSTTL", "REPLACE")
    assert [request[:3] + request[4:] for request in local.logged()] == [
        [b"RESTORE", b"a", b"%d" % (START_MS + 5000), b"ABSTTL"],
        [b"RESTORE", b"a", b"0", b"REPLACE", b"ABSTTL"],
        [b"RESTORE", b"a", b"%d" % (START_MS + 7), b"REPLACE", b"ABSTTL"],
    ]
    assert local.call("PTTL", "a") == 7


def test_forms_that_redis_7_has_not_are_not_logged(local: Local) -> None:
    local.call("HSET", "hash", "a", 1, "b", 2)
    local.call("HPEXPIREAT", "hash", START_MS + 9000, "FIELDS", 1, "a")
    payload = local.call("DUMP", "hash")
    local.logged()
    local.call("RESTORE", "hash", 5000, payload, "REPLACE")
    assert local.call("HPTTL", "hash", "FIELDS", 2, "a", "b") == [9000, -1]
    content = local.content()
    logged = local.logged()
    assert [request[0] for request in logged if request[0] not in (b"MULTI", b"EXEC")] == [
        *(b"DEL", b"HSET", b"HPEXPIREAT", b"PEXPIREAT")
    ]
    local.call("RESTORE", "hash", 5000, payload, "REPLACE")
    assert local.replayed().content() == content


def test_fields_expire_after_a_restore(local: Local) -> None:
    local.call("HSET", "hash", "a", 1)
    local.call("HPEXPIREAT", "hash", START_MS + 9000, "FIELDS", 1, "a")
    payload = local.call("DUMP", "hash")
    local.call("DEL", "hash")
    local.call("RESTORE", "hash", 0, payload)
    local.advance(20_000)
    for shard in local.shards:
        assert not expire_due(shard, 1)
    assert local.call("EXISTS", "hash") == 0


def test_what_has_expired_is_not_restored(local: Local) -> None:
    assert local.call("RESTORE", "a", 1, HELLO, "ABSTTL") == OK
    assert local.call("RESTORE", "a", START_MS, HELLO, "ABSTTL") == OK
    assert local.call("RESTORE", "a", 2**63 - 1, HELLO) == OK
    assert local.call("EXISTS", "a") == 0
    assert local.logged() == []
    local.call("SET", "a", "old")
    assert local.call("RESTORE", "a", 1, HELLO, "ABSTTL", "REPLACE") == OK
    assert local.call("EXISTS", "a") == 0
    assert local.logged()[1:] == [[b"DEL", b"a"]]


def test_idle_time(local: Local) -> None:
    local.call("RESTORE", "a", 0, HELLO, "IDLETIME", 1000)
    assert local.call("OBJECT", "IDLETIME", "a") == 1000
    local.call("GET", "a")
    local.call("RESTORE", "{a}b", 0, HELLO, "IDLETIME", 1000)
    # Keys of one slot share the time of their last access, and the other one has just been used.
    assert local.call("OBJECT", "IDLETIME", "a") == 0
    local.call("RESTORE", "c", 0, HELLO)
    assert local.call("OBJECT", "IDLETIME", "c") == 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("there", -1, "x"), BUSY_KEY),
        (("a", -1, HELLO), b"ERR Invalid TTL value, must be >= 0"),
        (("a", "x", HELLO), b"ERR value is not an integer or out of range"),
        (("a", 0, HELLO, "IDLETIME", -1), b"ERR Invalid IDLETIME value, must be >= 0"),
        (("a", 0, HELLO, "FREQ", 256), b"ERR Invalid FREQ value, must be >= 0 and <= 255"),
        (("a", 0, HELLO, "FREQ", 1, "IDLETIME", 1), SYNTAX),
        (("a", 0, HELLO, "IDLETIME"), SYNTAX),
        (("a", 0, HELLO, "FOO"), SYNTAX),
        (("a", 0, ""), WRONG_PAYLOAD),
        (("a", 0, HELLO[:-1]), WRONG_PAYLOAD),
        (("a", 0, forms.payload(b"\x00\x05hello", 13)), WRONG_PAYLOAD),
        (("a", 0, forms.payload(b"\x02\x00")), BAD_DATA_FORMAT),
        (("a", 0, forms.payload(b"\x00\x05hell")), BAD_DATA_FORMAT),
        (("there", 0, forms.payload(b"\x00\x05hell"), "REPLACE"), BAD_DATA_FORMAT),
    ],
)
def test_errors(local: Local, words: tuple[Any, ...], error: bytes) -> None:
    local.call("SET", "there", "1")
    before = local.content()
    assert local.call("RESTORE", *words) == CommandError(error)
    assert local.content() == before
