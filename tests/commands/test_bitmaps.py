"""Strings as arrays of bits and of integers."""

from __future__ import annotations

from itertools import product

import pytest

from tests.local import Local

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX = "ERR syntax error"

SOME_KEYS = [b"k:%d" % number for number in range(6)]
"""Keys that lie on all shards."""


def test_bits_are_set_and_got(local: Local) -> None:
    assert local.call("SETBIT", "key", 7, 1) == 0
    assert local.call("SETBIT", "key", 7, 0) == 1
    assert local.call("SETBIT", "key", 20, 1) == 0
    assert local.call("GET", "key") == b"\x00\x00\x08"
    assert [local.call("GETBIT", "key", bit) for bit in (7, 20, 21, 1000)] == [0, 1, 0, 0]
    assert local.call("OBJECT", "ENCODING", "key") == b"raw"


def test_only_a_change_is_logged(local: Local) -> None:
    local.call("SETBIT", "key", 9, 1)
    local.logged()
    local.call("SETBIT", "key", 9, 1)
    assert local.logged() == []
    local.call("SETBIT", "key", 16, 0)
    assert local.logged() == [[b"SETBIT", b"key", b"16", b"0"]]
    assert local.call("STRLEN", "key") == 3


def test_a_deadline_stays(local: Local) -> None:
    local.call("SET", "key", "text", "EX", 100)
    local.call("SETBIT", "key", 0, 1)
    local.call("BITFIELD", "key", "SET", "u8", 0, 1)
    assert local.call("TTL", "key") == 100


def test_a_long_string_can_be_bounded() -> None:
    local = Local(proto_max_bulk_len=1 << 20)
    offset = "ERR bit offset is not an integer or out of range"
    assert local.error("SETBIT", "key", 8 << 20, 1) == offset
    assert local.error("BITFIELD", "key", "GET", "u8", f"#{1 << 20}") == offset
    assert local.call("SETBIT", "key", (8 << 20) - 1, 1) == 0
    assert local.call("BITPOS", "key", 1) == (8 << 20) - 1
    assert local.call("BITCOUNT", "key") == 1


def test_another_type_is_told(local: Local) -> None:
    local.call("RPUSH", "list", "element")
    for words in (
        ("SETBIT", "list", 1, 1),
        ("GETBIT", "list", 1),
        ("BITCOUNT", "list"),
        ("BITPOS", "list", 1),
        ("BITFIELD", "list"),
        ("BITFIELD", "list", "SET", "u8", 0, 1),
        ("BITFIELD_RO", "list", "GET", "u8", 0),
        ("BITOP", "AND", "{list}", "list"),
        *(("BITOP", "OR", destination, "list", "k:1", "k:2") for destination in SOME_KEYS),
    ):
        assert local.error(*words) == WRONG_TYPE
    assert local.call("EXISTS", *SOME_KEYS) == 0


def test_failing_changes_nothing_but_the_length(local: Local) -> None:
    assert local.call("BITFIELD", "key", "OVERFLOW", "FAIL", "SET", "u2", 14, 4, "INCRBY", "i8", 0, 127) == [
        None,
        127,
    ]
    assert local.call("GET", "key") == b"\x7f\x00"
    assert local.replayed().content() == local.content()


def test_fields_see_those_before_them(local: Local) -> None:
    reply = local.call("BITFIELD", "key", "SET", "u8", "#1", 200, "GET", "i8", 8, "INCRBY", "u8", "#1", 100)
    assert reply == [0, -56, 44]


OPERATIONS = {
    "AND": b"\x00\x00",
    "OR": b"\xf7\x0f",
    "XOR": b"\xa5\x0f",
    "DIFF": b"\x84\x00",
    "DIFF1": b"\x21\x0f",
    "ANDOR": b"\x52\x00",
    "ONE": b"\xa5\x0f",
}
"""What comes of d6, 73 0f and nothing, but for AND."""


@pytest.mark.parametrize(("operation", "expected"), OPERATIONS.items())
def test_operations_over_shards(local: Local, operation: str, expected: bytes) -> None:
    for destination, (first, second) in product(SOME_KEYS, [(SOME_KEYS[0], SOME_KEYS[3]), ("{x}1", "{x}2")]):
        local.call("SET", first, b"\xd6")
        local.call("SET", second, b"\x73\x0f")
        assert local.call("BITOP", operation, destination, first, second, "missing") == 2
        assert local.call("GET", destination) == expected
    assert local.replayed().content() == local.content()


def test_the_result_replaces_anything(local: Local) -> None:
    local.call("RPUSH", "k:1", "element")
    local.call("EXPIRE", "k:1", 100)
    local.call("SET", "k:2", "\x0f")
    assert local.call("BITOP", "NOT", "k:1", "k:2") == 1
    assert local.call("GET", "k:1") == b"\xf0"
    assert local.call("TTL", "k:1") == -1
    assert local.call("BITOP", "NOT", "k:1", "missing") == 0
    assert local.call("EXISTS", "k:1") == 0
    assert local.replayed().content() == local.content()


def test_redis_7_can_load_the_log(local: Local) -> None:
    for operation, destination in product(["AND", "ONE", "DIFF"], SOME_KEYS):
        local.call("SET", "source", "text")
        local.call("BITOP", operation, destination, "source", "source")
    logged = local.logged()
    assert {args[0] for args in logged} <= {b"MULTI", b"EXEC", b"SET", b"BITOP"}
    assert {args[1] for args in logged if args[0] == b"BITOP"} <= {b"AND"}


def test_operations_of_too_few_or_many(local: Local) -> None:
    assert local.error("BITOP", "NOT", "k:0", "k:1", "k:2") == (
        "ERR BITOP NOT must be called with a single source key."
    )
    assert local.error("BITOP", "diff1", "k:0", "k:1") == (
        "ERR BITOP DIFF1 must be called with at least two source keys."
    )
    assert local.error("BITOP", "NAND", "k:0", "k:1") == SYNTAX


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("operation", ["AND", "OR", "XOR", "DIFF"])
def test_the_encoding_of_results(shards: int, operation: str) -> None:
    local = Local(shards)
    local.call("MSET", "a", "12", "b", "xyz")
    local.call("EXPIRE", "destination", 100)
    assert local.call("BITOP", operation, "destination", "b", "a") == 3
    assert local.call("OBJECT", "ENCODING", "destination") == b"raw"
    assert local.replayed().call("GET", "destination") == local.call("GET", "destination")
