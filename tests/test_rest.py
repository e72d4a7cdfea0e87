"""Packing of small collections at rest."""

from __future__ import annotations

from collections import Counter

from shardkv.keyspace import Database
from shardkv.rest import Rest
from shardkv.values import Packed
from tests.local import Local

LONG_S = 60.0
SHORT_S = 0.0


def _fill(local: Local, count: int, tag: str = "") -> Database:
    for number in range(count):
        local.call("RPUSH", f"key:{number}{tag}", "element")
    return local.shards[0].database(0)


def _packed(db: Database) -> int:
    return Counter(isinstance(value, Packed) for slot in db.slots for value in slot.values())[True]


def test_what_nobody_touches_is_packed() -> None:
    local = Local(1)
    db, rest = _fill(local, 100), Rest(local.shards[0])
    assert not rest.step(LONG_S)
    assert _packed(db) == 0
    local.advance(11_000)
    assert local.call("LLEN", "key:0") == 1
    assert not rest.step(LONG_S)
    assert _packed(db) == rest.packed == 99
    assert local.call("LRANGE", "key:1", 0, -1) == [b"element"]
    assert _packed(db) == 98


def test_a_round_is_made_in_small_steps_even_in_a_single_slot() -> None:
    for tag in ("", "{tag}"):
        local = Local(1)
        db, rest = _fill(local, 1000, tag), Rest(local.shards[0])
        local.advance(11_000)
        steps = 1
        while rest.step(SHORT_S):
            steps += 1
            assert rest.packed <= steps * 32
        assert steps > 20
        assert _packed(db) == 1000


def test_a_slot_that_is_touched_in_between_is_left_alone() -> None:
    local = Local(1)
    db, rest = _fill(local, 1000, "{tag}"), Rest(local.shards[0])
    local.advance(11_000)
    while not rest.packed:
        assert rest.step(SHORT_S)
    local.call("RPUSH", "key:0{tag}", "another")
    before = _packed(db)
    rest.step(LONG_S)
    assert _packed(db) == before
    local.call("FLUSHALL")
    assert not rest.step(LONG_S)


def test_rounds_end_when_nothing_happens_any_more() -> None:
    local = Local(1)
    _fill(local, 10)
    rest = Rest(local.shards[0])
    for _ in range(4):
        local.advance(11_000)
        rest.step(LONG_S)
    assert not rest.step(SHORT_S)
    local.call("LLEN", "key:0")
    local.advance(11_000)
    assert rest.step(SHORT_S)
