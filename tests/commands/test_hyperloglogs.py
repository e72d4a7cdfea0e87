"""HyperLogLogs."""

from __future__ import annotations

import pytest

from shardkv.structures import hyperloglog
from tests.local import Local

NO_HYPERLOGLOG = "WRONGTYPE Key is not a valid HyperLogLog string value."
CORRUPTED = "INVALIDOBJ Corrupted HLL object detected"

SOME_KEYS = [b"k:%d" % number for number in range(6)]
"""Keys that lie on all shards."""

HEADER = b"HYLL\x01" + bytes(10) + b"\x80"


def test_elements_are_counted(local: Local) -> None:
    assert local.call("PFCOUNT", "key") == 0
    assert local.call("PFADD", "key", "a", "b", "c") == 1
    assert local.call("PFADD", "key", "a", "b") == 0
    assert local.call("PFADD", "key") == 0
    assert local.call("PFCOUNT", "key") == 3
    assert local.call("OBJECT", "ENCODING", "key") == b"raw"
    assert local.logged() == [[b"PFADD", b"key", b"a", b"b", b"c"]]


def test_an_empty_one_is_made(local: Local) -> None:
    assert local.call("PFADD", "key") == 1
    assert local.call("GET", "key") == HEADER + b"\x7f\xff"
    assert local.call("PFMERGE", "other") == b"OK"
    assert local.call("GET", "other") == HEADER + b"\x7f\xff"


def test_a_union_over_shards(local: Local) -> None:
    for number, key in enumerate(SOME_KEYS):
        local.call("PFADD", key, *range(number * 5, number * 5 + 10))
    assert local.call("PFCOUNT", *SOME_KEYS, "missing") == 35
    assert local.call("PFCOUNT", SOME_KEYS[0], SOME_KEYS[1]) == 15


@pytest.mark.parametrize("elements", [10, 2000])
def test_a_merge_over_shards_is_the_same_as_on_one(local: Local, elements: int) -> None:
    one = Local(1)
    for place in (local, one):
        place.call("PFADD", "k:0", "old")
        place.call("EXPIRE", "k:0", 100)
        for number, key in enumerate(SOME_KEYS[1:]):
            place.call("PFADD", key, *range(number, elements, len(SOME_KEYS)))
        for destination in (*SOME_KEYS, "new"):
            assert place.call("PFMERGE", destination, *SOME_KEYS) == b"OK"
    assert local.call("TTL", "k:0") == 100
    assert local.content() == one.content()
    assert local.replayed().content() == local.content()


def test_what_is_no_hyperloglog(local: Local) -> None:
    local.call("SET", "k:1", "text")
    for words in (("PFADD", "k:1", "a"), ("PFCOUNT", "k:1"), ("PFDEBUG", "ENCODING", "k:1")):
        assert local.error(*words) == NO_HYPERLOGLOG
    for key in SOME_KEYS:
        assert local.error("PFCOUNT", key, "k:1") == NO_HYPERLOGLOG
        assert local.error("PFMERGE", key, "k:1") == NO_HYPERLOGLOG
    assert local.call("EXISTS", *SOME_KEYS) == 1


def test_a_corrupted_one_stays_as_it_is(local: Local) -> None:
    """The first register is there, the last ones are missing."""
    string = HEADER + b"\x7f\x00"
    elements = list(range(2000))
    local.call("SET", "key", string)
    local.logged()
    assert local.error("PFADD", "key", *elements) == CORRUPTED
    assert local.error("PFCOUNT", "key") == CORRUPTED
    assert local.error("PFMERGE", "key", "k:1", "k:2") == CORRUPTED
    assert local.error("PFDEBUG", "TODENSE", "key") == CORRUPTED
    assert local.call("GET", "key") == string
    assert local.logged() == []


def test_an_estimate_that_redis_has_stored_is_used(local: Local) -> None:
    local.call("SET", "key", HEADER[:8] + b"\x2a" + bytes(7) + b"\x7f\xff")
    assert local.call("PFCOUNT", "key") == 42
    local.call("PFADD", "key", "a")
    assert local.call("PFCOUNT", "key") == 1


def test_a_look_inside(local: Local) -> None:
    local.call("PFADD", "key", "a")
    assert local.call("PFDEBUG", "ENCODING", "key") == b"sparse"
    assert local.call("PFDEBUG", "DECODE", "key") == b"Z:12711 v:2,1 Z:3672"
    assert local.call("PFDEBUG", "TODENSE", "key") == 1
    assert local.call("PFDEBUG", "TODENSE", "key") == 0
    assert local.call("PFDEBUG", "GETREG", "key")[12710:12713] == [0, 2, 0]
    assert local.error("PFDEBUG", "DECODE", "key") == "ERR HLL encoding is not sparse"
    assert local.error("PFDEBUG", "ENCODING", "missing") == "ERR The specified key does not exist"
    assert local.error("PFDEBUG", "SIMD", "key") == "ERR Unknown PFDEBUG subcommand 'SIMD'"
    assert local.replayed().content() == local.content()


def test_the_self_test_finds_what_is_wrong(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    assert local.call("PFSELFTEST") == b"OK"
    estimate = hyperloglog.estimate
    monkeypatch.setattr(hyperloglog, "estimate", lambda registers: estimate(registers) * 2)
    assert local.error("PFSELFTEST") == "TESTFAILED an estimate is far from the truth"
    monkeypatch.undo()
    monkeypatch.setattr(hyperloglog, "merged", lambda parts: bytes(hyperloglog.REGISTERS))
    assert local.error("PFSELFTEST") == "TESTFAILED a union has other registers than its whole"
