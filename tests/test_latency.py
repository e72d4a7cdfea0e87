"""Tables of durations, and events."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from shardkv import latency, limits
from shardkv.latency import Durations, Events, count, distribution, fold, graph, merged_events, percentile_us

DAY_S = 24 * 60 * 60


def table(*durations_ns: int) -> Durations:
    durations: Durations = {}
    for ns in durations_ns:
        count(durations, ns)
    return durations


def test_a_table_stays_small_and_tells_the_same() -> None:
    chance = random.Random(1)
    times = [int(chance.lognormvariate(12, 3)) for _ in range(50_000)]
    durations: Durations = {}
    for ns in times:
        count(durations, ns)
        fold(durations)
    assert len(durations) <= limits.DURATIONS_KEPT
    assert sum(durations.values()) == len(times)
    times.sort()
    for percent in (1, 25, 50, 90, 99, 99.9):
        true_us = times[int(len(times) * percent / 100)] / 1000
        assert percentile_us(durations, percent) == pytest.approx(true_us, rel=0.08, abs=0.13)


def test_percentiles_of_nothing_and_of_one() -> None:
    assert percentile_us({}, 50) == 0
    one = table(10_000)
    assert percentile_us(one, 0) == percentile_us(one, 50) == percentile_us(one, 100)
    assert percentile_us(one, 50) == pytest.approx(10, abs=0.13)


def test_a_distribution_is_cumulative_in_powers_of_two() -> None:
    durations = table(500, 900, 1500, 30_000, 40_000, 600_000)
    # The bounds are what Redis shows for 1, 2, 32, 64 and 1024 times 1024 ns.
    assert distribution(durations) == [(1, 2), (2, 3), (33, 4), (66, 5), (1056, 6)]


def test_tables_add_up() -> None:
    merged = latency.merged([table(1000, 5000), table(5000), {}])
    assert merged == Counter(table(1000, 5000, 5000))


@pytest.mark.parametrize("calls", [3, 4, 7, 1000, 12345])
def test_a_part_stands_for_all(calls: int) -> None:
    grown = latency.scaled(table(1000, 5000, 90_000), calls)
    assert sum(grown.values()) == calls
    assert max(grown.values()) - min(grown.values()) <= 1


# -- events -----------------------------------------------------------------------------------


def test_the_longest_of_each_second_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    events = Events(5)
    for now_ms, took_ms in ((1000, 4), (1100, 5), (1200, 9), (1900, 7), (2000, 6)):
        monkeypatch.setattr("shardkv.clock.now_ms", lambda now_ms=now_ms: now_ms)
        events.add("command", took_ms * 1_000_000)
    assert events.told() == {"command": (9, [(1, 9), (2, 6)])}
    assert events.reset(["other"]) == []
    assert events.reset([]) == ["command"]
    assert events.told() == {}


def test_nothing_is_kept_without_a_threshold() -> None:
    events = Events(0)
    events.add("command", 1 << 60)
    assert events.told() == {}


def test_so_many_samples_are_kept() -> None:
    series = latency.Series()
    for second in range(1000):
        series.add(second, 1000 - second)
    assert [at_s for at_s, _ in series.samples] == list(range(1000 - limits.LATENCY_SAMPLES, 1000))
    assert series.longest_ms == 1000


def test_events_of_several_processes_are_one() -> None:
    merged = merged_events([{"a": (50, [(1, 9), (3, 5)])}, {"a": (9, [(1, 7), (2, 8)]), "b": (1, [(4, 1)])}])
    assert list(merged) == ["a", "b"]
    assert list(merged["a"].samples) == [(1, 9), (2, 8), (3, 5)]
    assert merged["a"].longest_ms == 50


def test_a_graph() -> None:
    series = latency.Series()
    for at_s, took_ms in ((1, 5), (DAY_S, 50), (DAY_S + 7000, 20), (DAY_S + 7300, 40), (DAY_S + 7400, 100)):
        series.add(at_s, took_ms)
    # As a redis-server draws these times.
    assert graph("command", series, DAY_S + 7405).splitlines()[2:] == [
        "    #",
        "    |",
        " # o|",
        "_|o||",
        "     ",
        "12615",
        "dhmms",
    ]
