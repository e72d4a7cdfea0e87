"""Which requests of a batch are slow: on a shard whose clock the commands move."""

from __future__ import annotations

from typing import Any

import pytest

from shardkv import limits
from shardkv.command import COMMANDS, Command
from shardkv.shard import Shard
from shardkv.slots import slot_of
from shardkv.slow import Entry, trimmed
from shardkv.wire import Batch, pack_context
from tests.local import Local

US = 1000


class Clock:
    """A clock that stands still but when a handler runs: `costs` says how many µs requests for a key take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns = 0
        self.costs: dict[bytes, int] = {}
        monkeypatch.setattr("shardkv.clock.perf_counter_ns", lambda: self.ns)

    def slowed(self, handler: Any) -> Any:
        def slow(db: Any, args: list[Any]) -> Any:
            self.ns += self.costs.get(args[1], 1) * US
            return handler(db, args)

        return slow


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(monkeypatch)
    for name in ("get", "set", "lrange", "lpush", "lrem"):
        monkeypatch.setattr(COMMANDS[name], "handler", clock.slowed(COMMANDS[name].handler))
    return clock


class Link:
    proxy = 0

    def __init__(self) -> None:
        self.late: list[Any] = []

    def next_ticket(self) -> int:
        return 0


def logged(batch: list[str], **settings: Any) -> list[tuple[int, str, int]]:
    """What a shard finds slow in a batch: of each entry the place it is told for, the request, and its µs."""
    shard = Local(1, **settings).shards[0]
    found: list[tuple[int, str, int]] = []

    def note(command: Command, entry: Entry, noted: Batch, place: int) -> None:
        assert shard.running is not None
        own = noted is shard.running[0]
        _, _, us, words = entry
        found.append((place if own else len(shard.running[1]), b" ".join(words).decode(), us))

    shard.slow.note = note
    _run(shard, batch)
    return found


def _run(shard: Shard, batch: list[str]) -> None:
    requests: list[list[Any]] = []
    for line in batch:
        name, *words = line.encode().split()
        code = COMMANDS[name.decode().lower()].code | pack_context(0, 2) | slot_of(words[0])
        requests.append([code, *words])
    shard.run(requests, Link())


def test_with_a_threshold_of_0_each_request_is_logged_with_its_own_time(watch: Clock) -> None:
    watch.costs = {b"b": 50, b"c": 7}
    batch = ["SET a 1", "SET b 2", "GET b", "GET a", "LRANGE l 0 -1", "GET c"]
    assert logged(batch, slowlog_log_slower_than=0) == [
        (0, "SET a 1", 1),
        (1, "SET b 2", 50),
        (2, "GET b", 50),
        (3, "GET a", 1),
        (4, "LRANGE l 0 -1", 1),
        (5, "GET c", 7),
    ]


def test_below_a_ms_too(watch: Clock) -> None:
    watch.costs = {b"b": 999, b"c": 998}
    found = logged(["GET a", "GET b", "GET c"], slowlog_log_slower_than=999)
    assert found == [(1, "GET b", 999)]


@pytest.mark.parametrize("slower_than", [-1, 10_001])
def test_nothing_is_slow(watch: Clock, slower_than: int) -> None:
    watch.costs = {b"b": 10_000}
    assert logged(["GET a", "GET b", "LRANGE b 0 -1"], slowlog_log_slower_than=slower_than) == []


def test_one_that_stands_alone_has_its_own_time(watch: Clock) -> None:
    watch.costs = {b"b": 20_000}
    assert logged(["SET a 1", "GET b", "SET c 1"]) == [(1, "GET b", 20_000)]


def test_of_short_commands_in_a_row_it_is_the_one_with_the_most_to_do(watch: Clock) -> None:
    watch.costs = {b"big": 20_000}
    batch = [*["SET a 1"] * 100, "LPUSH l x", *["SET a 1"] * 50, f"SET big {'x' * 500}", *["SET a 1"] * 20]
    [(place, request, us)] = logged(batch)
    assert (place, request[:9]) == (151, "SET big x")
    assert 19_900 <= us <= 20_000


def test_many_short_ones_are_not_slow_together(watch: Clock) -> None:
    # 20 ms in all, 1 µs each. What one usually takes is known from the first ones.
    assert logged([*["GET a"] * 100, "LPUSH l x", *["GET a"] * 20_000]) == []


def test_commands_that_may_be_long_are_timed_one_by_one(watch: Clock) -> None:
    watch.costs = {b"b": 20_000, b"c": 30_000}
    batch = ["LREM a 0 1", "LREM b 0 1", "LREM a 0 100000", "LREM c 0 1"]
    assert logged(batch) == [(1, "LREM b 0 1", 20_000), (3, "LREM c 0 1", 30_000)]


def test_events_are_kept_as_well(watch: Clock) -> None:
    watch.costs = {b"b": 20_000}
    shard = Local(1, latency_monitor_threshold=20, slowlog_log_slower_than=-1).shards[0]
    _run(shard, ["GET b", "SET a 1", "LREM b 0 1", "LREM a 0 1"])
    assert {event: longest_ms for event, (longest_ms, _) in shard.slow.events.told().items()} == {
        "fast-command": 20,
        "command": 20,
    }


# -- how long commands take -------------------------------------------------------------------


def test_every_request_is_counted(watch: Clock) -> None:
    shard = Local(1).shards[0]
    _run(shard, [*["GET a"] * 10, "SET a 1", *["GET a"] * 5, *["LREM l 0 1"] * 3])
    counted = {name: sum(stats.durations.values()) for name, stats in shard.stats.commands.items()}
    assert counted == {"get": 15, "set": 1, "lrem": 3}


def test_where_there_are_very_many_batches_a_part_is_counted(watch: Clock) -> None:
    shard = Local(1).shards[0]
    for _ in range(limits.TRACKED_BATCHES + 50):
        _run(shard, ["GET a", "LREM l 0 1"])
    counted = {name: sum(stats.durations.values()) for name, stats in shard.stats.commands.items()}
    assert counted == {"get": limits.TRACKED_BATCHES, "lrem": limits.TRACKED_BATCHES}
    shard.stats.keep_measuring()
    _run(shard, ["GET a"])
    assert sum(shard.stats.commands["get"].durations.values()) == limits.TRACKED_BATCHES + 1


def test_nothing_is_counted_where_nobody_wants_it(watch: Clock) -> None:
    shard = Local(1, latency_tracking=False).shards[0]
    _run(shard, ["GET a", "LRANGE l 0 -1"])
    assert not any(stats.durations for stats in shard.stats.commands.values())
    shard.config.latency_tracking = True
    shard.settings_changed()
    _run(shard, ["GET a"])
    assert sum(shard.stats.commands["get"].durations.values()) == 1


# -- what is told -----------------------------------------------------------------------------


def test_requests_are_trimmed_as_in_redis() -> None:
    assert trimmed([b"SET", b"a", b"x" * 128]) == [b"SET", b"a", b"x" * 128]
    assert trimmed([b"SET", b"a", b"x" * 130]) == [b"SET", b"a", b"x" * 128 + b"... (2 more bytes)"]
    assert trimmed([b"DEL", *[b"a"] * 31]) == [b"DEL", *[b"a"] * 31]
    assert trimmed([b"DEL", *[b"a"] * 40]) == [b"DEL", *[b"a"] * 30, b"... (10 more arguments)"]
