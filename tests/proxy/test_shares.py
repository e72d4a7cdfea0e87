"""How the memory is divided among the shards."""

from __future__ import annotations

import pytest

from proxy.shares import Use, divide
from shardkv.limits import MEMORY_SHARES_S

MB = 2**20
NOW_MS = 1_700_000_000_000


def test_without_eviction_each_may_use_all_that_is_free() -> None:
    uses = [Use(10 * MB), Use(30 * MB), Use(0)]
    assert divide(100 * MB, uses, "noeviction", NOW_MS) == [70 * MB, 90 * MB, 60 * MB]
    assert divide(30 * MB, uses, "noeviction", NOW_MS) == [0, 20 * MB, -10 * MB]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_the_shares_come_to_the_limit(policy: str) -> None:
    for uses in (
        [Use(10 * MB), Use(30 * MB), Use(0)],
        [Use(10 * MB, 3 * MB), Use(60 * MB), Use(50 * MB, 1 * MB)],
        [Use(10 * MB, is_short=True), Use(90 * MB)],
    ):
        assert sum(divide(100 * MB, uses, policy, NOW_MS)) == pytest.approx(100 * MB, rel=1e-4)


def test_what_is_free_goes_above_all_to_those_that_grow() -> None:
    grows, rests = divide(100 * MB, [Use(20 * MB, 2 * MB), Use(20 * MB)], "allkeys-lru", NOW_MS)
    assert (grows, rests) == (65 * MB, 35 * MB)


def test_a_small_shard_keeps_what_it_has_when_a_large_one_grows_beyond_the_limit() -> None:
    large, small = divide(100 * MB, [Use(96 * MB, 5 * MB), Use(8 * MB)], "allkeys-random", NOW_MS)
    assert large < 96 * MB
    assert small == pytest.approx(8 * MB, rel=0.05)


def test_others_clear_room_for_a_shard_with_nothing_to_evict() -> None:
    full, other = divide(100 * MB, [Use(50 * MB, is_short=True), Use(50 * MB)], "volatile-lru", NOW_MS)
    assert full > 50 * MB
    assert other < 50 * MB


def test_room_passes_from_cold_shards_to_warm_ones_until_they_are_as_warm() -> None:
    # The idle time of what a shard would evict is taken to be in proportion to its room.
    rooms = [50 * MB, 50 * MB]
    rates = [1.0, 4.0]
    for _ in range(int(60 / MEMORY_SHARES_S)):
        idle_ms = [1000 * room / MB / rate for room, rate in zip(rooms, rates, strict=True)]
        uses = [Use(room, 0, coldest=int(NOW_MS - idle)) for room, idle in zip(rooms, idle_ms, strict=True)]
        rooms = divide(100 * MB, uses, "allkeys-lru", NOW_MS)
    assert rooms[0] / rates[0] == pytest.approx(rooms[1] / rates[1], rel=0.4)
    assert sum(rooms) == pytest.approx(100 * MB, rel=1e-3)
