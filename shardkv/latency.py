"""How long things take: the durations of commands, and the events that LATENCY tells.

Each process keeps its own; they are made one where they are asked for.

Durations are counted in a table from their part above 128 ns (`duration >> UNIT_BITS`) to how many there
were. That is one addition where they come in. When a table has grown it is folded: only the first bits of a
duration are kept, which is three percent of it. Tables add up, folded or not."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from shardkv import clock, limits

UNIT_BITS: Final = 7
"""Durations are told apart down to 128 ns."""

_KEPT_BITS: Final = 5
_MS: Final = 1_000_000

NEVER_NS: Final = 1 << 62
"""Longer than anything takes."""

Durations = dict[int, int]
"""How many commands took how long: by the duration in units of 128 ns."""


def count(durations: Durations, ns: int, calls: int = 1) -> None:
    """So many commands took so long each."""
    duration = ns >> UNIT_BITS
    durations[duration] = durations.get(duration, 0) + calls


def fold(durations: Durations) -> None:
    """Makes a table small that has become large."""
    if len(durations) > limits.DURATIONS_KEPT:
        folded: Counter[int] = Counter()
        for duration, count in durations.items():
            folded[_folded(duration)] += count
        durations.clear()
        durations.update(folded)


def _folded(duration: int) -> int:
    lost = max(0, duration.bit_length() - _KEPT_BITS)
    return duration >> lost << lost


def scaled(durations: Durations, calls: int) -> Durations:
    """The table for so many calls, made from a part of them."""
    counted = sum(durations.values())
    if counted >= calls:
        return durations
    grown: Durations = {}
    before = so_far = 0
    for duration in sorted(durations):
        so_far += durations[duration]
        grown[duration] = calls * so_far // counted - before
        before += grown[duration]
    return grown


def merged(tables: Iterable[Mapping[int, int]]) -> Durations:
    """Tables of several processes as one."""
    total: Counter[int] = Counter()
    for table in tables:
        total.update(table)
    return total


def percentile_us(durations: Durations, percent: float) -> float:
    """How long so many percent of the commands took at most, in µs; 0 if there were none."""
    ordered = sorted(durations)
    sums = list(accumulate(durations[duration] for duration in ordered))
    if not sums:
        return 0.0
    place = bisect_left(sums, sums[-1] * percent / 100)
    return ((ordered[min(place, len(ordered) - 1)] + 1) << UNIT_BITS) / 1000


def distribution(durations: Durations) -> list[tuple[int, int]]:
    """A cumulative distribution as LATENCY HISTOGRAM shows it: for each power of two of 1024 ns in which
    there are durations, it in µs, and how many did not exceed it."""
    counts: Counter[int] = Counter()
    for duration, count in durations.items():
        counts[max(0, duration.bit_length() - (10 - UNIT_BITS))] += count
    powers = sorted(counts)
    sums = accumulate(counts[power] for power in powers)
    return [(_shown_us(1024 << power), total) for power, total in zip(powers, sums, strict=True)]


def _shown_us(ns: int) -> int:
    """A bound as Redis tells it, whose histograms keep two digits of it: the highest value that looks like
    it."""
    return (ns + (ns >> 7) - 1) // 1000


# -- events -----------------------------------------------------------------------------------


Sample = tuple[int, int]
"""When, in s since 1970, and how long, in ms: the longest of that second."""


@dataclass(slots=True)
class Series:
    """What is known of one kind of event: the last samples, and the longest ever, in ms."""

    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=limits.LATENCY_SAMPLES))
    longest_ms: int = 0

    def add(self, now_s: int, took_ms: int) -> None:
        """Takes in an event; those of one second make one sample."""
        self.longest_ms = max(self.longest_ms, took_ms)
        if self.samples and self.samples[-1][0] == now_s:
            took_ms = max(took_ms, self.samples.pop()[1])
        self.samples.append((now_s, took_ms))


class Events:
    """The events of one process that took as long as `latency-monitor-threshold` says, or longer."""

    def __init__(self, threshold_ms: int) -> None:
        self.series: dict[str, Series] = {}
        self.set_threshold(threshold_ms)

    def set_threshold(self, threshold_ms: int) -> None:
        """Follows the setting; 0 means that nothing is kept."""
        self.threshold_ns = threshold_ms * _MS if threshold_ms else NEVER_NS

    def add(self, event: str, took_ns: int) -> None:
        """Something has taken so long."""
        if took_ns >= self.threshold_ns:
            self.series.setdefault(event, Series()).add(clock.now_ms() // 1000, took_ns // _MS)

    def reset(self, events: Iterable[str]) -> list[str]:
        """Forgets these events, or all if none is named; returns those that were there."""
        known = [event for event in list(events) or list(self.series) if event in self.series]
        for event in known:
            del self.series[event]
        return known

    def told(self) -> dict[str, tuple[int, list[Sample]]]:
        """What another process is told of them: of each the longest, and the samples."""
        return {event: (series.longest_ms, list(series.samples)) for event, series in self.series.items()}


def merged_events(told: Iterable[Mapping[str, tuple[int, list[Sample]]]]) -> dict[str, Series]:
    """The events of several processes as one: of each second the longest."""
    merged: dict[str, Series] = {}
    samples: dict[str, list[Sample]] = {}
    for process in told:
        for event, (longest_ms, its_samples) in process.items():
            series = merged.setdefault(event, Series())
            series.longest_ms = max(series.longest_ms, longest_ms)
            samples.setdefault(event, []).extend((at_s, took_ms) for at_s, took_ms in its_samples)
    for event, found in samples.items():
        for at_s, took_ms in sorted(found):
            merged[event].add(at_s, took_ms)
    return dict(sorted(merged.items()))


def seconds_ago(now_s: int, at_s: int) -> str:
    """How long ago something was, in two or three letters: `5s`, `12m`, `3h`, `20d`."""
    age_s = now_s - at_s
    for unit, length_s in (("d", 86400), ("h", 3600), ("m", 60)):
        if age_s >= length_s:
            return f"{age_s // length_s}{unit}"
    return f"{age_s}s"


_GRAPH_ROWS: Final = 4
_GRAPH_SIGNS: Final = "_o#"
_GRAPH_WIDTH: Final = 80


def graph(event: str, series: Series, now_s: int) -> str:
    """A series as a picture of text: a column a sample, below it how long ago that was."""
    samples = list(series.samples)[-limits.LATENCY_SAMPLES :]
    times = [took_ms for _, took_ms in samples]
    lines = [
        f"{event} - high {max(times)} ms, low {min(times)} ms (all time high {series.longest_ms} ms)",
        "-" * _GRAPH_WIDTH,
    ]
    labels = [seconds_ago(now_s, at_s) for at_s, _ in samples]
    return "\n".join([*lines, *_columns(times), *_upright(labels)]) + "\n"


def _columns(times: list[int]) -> Iterator[str]:
    """Rows from the top down, in which a column is as high as its time."""
    lowest, span = min(times), max(max(times) - min(times), 1)
    steps = _GRAPH_ROWS * len(_GRAPH_SIGNS)
    heights = [(took - lowest) * (steps - 1) // span for took in times]
    for row in reversed(range(_GRAPH_ROWS)):
        signs = []
        for height in heights:
            over = height - row * len(_GRAPH_SIGNS)
            signs.append(" " if over < 0 else "|" if over >= len(_GRAPH_SIGNS) else _GRAPH_SIGNS[over])
        yield "".join(signs)
    yield " " * len(times)


def _upright(labels: list[str]) -> Iterator[str]:
    """Rows in which each label stands upright below its column."""
    for row in range(max(map(len, labels))):
        yield "".join(label[row] if row < len(label) else " " for label in labels)
