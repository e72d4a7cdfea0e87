"""The table of the results, for the terminal and for docs/performance.md."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from rich import box
from rich.table import Table

from bench.contest import Contest
from bench.figures import Summary
from bench.machine import machine
from bench.servers import SAME_FOR_BOTH
from bench.strings import VALUE_BYTES
from bench.throughput import PIPELINED_REQUESTS
from bench.workloads import CLIENTS


def conditions(contest: Contest) -> list[str]:
    """What the figures hold for: the day, the machine, the programs and the settings."""
    shardkv, redis = contest.programs
    return [
        f"{datetime.date.today():%d %B %Y}; {machine()}",
        f"{shardkv.name}, {_settings(shardkv.settings)}; {redis.name}",
        f"{_settings(SAME_FOR_BOTH)}; values of {VALUE_BYTES} bytes",
        f"rounds: {contest.rounds}, shown are medians; throughput with redis-benchmark, {CLIENTS} clients, "
        f"{contest.keyspace:,} keys, {contest.requests:,} requests a run, "
        f"with a pipeline {contest.requests * PIPELINED_REQUESTS:,}",
    ]


def _settings(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items() if value)


def _titles(contest: Contest) -> Sequence[str]:
    return ("shardkv", contest.programs.redis.name, "ratio", "range", "goal")


def table(contest: Contest, summaries: Iterable[Summary]) -> Table:
    """For the terminal; a row is green where the goal is reached, red where not."""
    made = Table("", "", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title in _titles(contest):
        made.add_column(title, justify="right")
    for group, members in groupby(summaries, key=attrgetter("figure.group")):
        made.add_section()
        made.add_row(f"[bold]{group}[/bold]")
        for summary in members:
            goal = summary.figure.goal
            style = None if goal is None else "green" if goal.reached(summary) else "red"
            made.add_row(summary.figure.name, summary.figure.unit, *_cells(summary), style=style)
    return made


def markdown(contest: Contest, summaries: Iterable[Summary]) -> str:
    """The same as Markdown, under what it holds for."""
    titles = _titles(contest)
    heading = [_row("", "", *titles), _row("---", "---", *(["---:"] * len(titles)))]
    lines = [f"- {line}" for line in conditions(contest)]
    for group, members in groupby(summaries, key=attrgetter("figure.group")):
        lines += ["", f"## {group}", "", *heading]
        lines += [_row(summary.figure.name, summary.figure.unit, *_cells(summary)) for summary in members]
    return "\n".join(lines) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(summary: Summary) -> list[str]:
    """What stands under the titles."""
    goal = summary.figure.goal
    range_ = ""
    if summary.lowest_ratio is not None and summary.highest_ratio is not None:
        range_ = f"{summary.lowest_ratio:.2f}–{summary.highest_ratio:.2f}"
    return [
        number(summary.shardkv),
        number(summary.redis),
        "" if summary.ratio is None else f"{summary.ratio:.2f}",
        range_,
        "" if goal is None else f"{goal} {'✓' if goal.reached(summary) else '✗'}",
    ]


def number(value: float) -> str:
    """With about three digits that say something: 0.42, 12.3, 1,230."""
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:,.{digits}f}"
