"""A pass over the keyspace gives the state at the moment it began, whatever changes meanwhile."""

from __future__ import annotations

import random
from typing import Any

import hiredis
import pytest

from shardkv.values import LARGE_COLLECTION
from shardkv.walk import Walk
from tests.local import Local


def pass_over(local: Local, meanwhile: Any) -> Local:
    """Begins a pass over the one shard, does things between its steps, and returns what its records
    rebuild."""
    [shard] = local.shards
    written: list[bytes] = []
    walk = Walk(list(shard.databases.values()), written.append)
    while not walk.step(0):
        meanwhile()
    assert all(db.walk is None for db in shard.databases.values())
    other = Local(1)
    reader = hiredis.Reader()
    other.shards[0].begin_replay()
    for records in written:
        reader.feed(records)
        while (args := reader.gets()) is not False:
            other.shards[0].replay(args)
    other.set_clock(shard.now_ms)
    return other


@pytest.mark.parametrize("seed", range(15))
def test_it_is_the_state_at_the_beginning(seed: int) -> None:
    rng = random.Random(seed)
    local = Local(1)

    def key() -> str:
        return f"key{rng.randrange(300)}"

    def change() -> None:
        local.db = rng.choice([0, 0, 0, 3])
        match rng.randrange(10):
            case 0:
                local.call("DEL", key(), key())
            case 1:
                local.call("INCR", f"counter{rng.randrange(30)}")
            case 2:
                local.call("APPEND", key(), "x")
            case 3:
                local.call("PEXPIRE", key(), rng.randrange(1, 100_000))
            case 4:
                local.call("PERSIST", key())
            case 5:
                local.call("RENAME", key(), key())
            case 6:
                local.call("HSET", f"hash{rng.randrange(30)}", rng.randrange(10), rng.random())
            case 7:
                local.call("RPUSH", f"list{rng.randrange(30)}", rng.random())
            case 8:
                local.call("SADD", f"set{rng.randrange(30)}", rng.randrange(100))
            case _:
                local.call("SET", key(), rng.random())

    for _ in range(500):
        change()
    expected = local.content()
    changes = iter(range(400))

    def meanwhile() -> None:
        for _ in range(rng.randrange(3)):
            if next(changes, None) is not None:
                change()

    assert pass_over(local, meanwhile).content() == expected


@pytest.mark.parametrize("command", ["HSET", "RPUSH", "SADD"])
def test_a_large_collection_is_passed_in_slices_while_it_changes(command: str) -> None:
    local = Local(1)
    count = LARGE_COLLECTION * 5
    for number in range(count):
        local.call(command, "large", *([f"field{number}"] if command == "HSET" else []), f"value{number}")
    expected = local.content()
    steps = 0

    def meanwhile() -> None:
        nonlocal steps
        steps += 1
        local.call(command, "large", *(["field1"] if command == "HSET" else []), f"new{steps}")

    assert pass_over(local, meanwhile).content() == expected
    assert steps > 5


def test_keys_that_come_into_being_are_left_out() -> None:
    local = Local(1)
    local.call("SET", "old", "value")
    expected = local.content()
    numbers = iter(range(10_000))

    def meanwhile() -> None:
        local.call("INCR", f"new{next(numbers)}")

    assert pass_over(local, meanwhile).content() == expected
