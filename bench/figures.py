"""What is measured, and what becomes of the readings of several rounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple


@dataclass(frozen=True)
class Goal:
    """What a figure should reach: at least or at most the bound; the figure itself or its ratio to redis'."""

    bound: float
    at_most: bool = True
    of_ratio: bool = True

    def reached(self, summary: Summary) -> bool:
        """Whether the median reaches it."""
        value = summary.ratio if self.of_ratio else summary.shardkv
        if value is None:
            return False
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        sign, kind = "≤" if self.at_most else "≥", "x" if self.of_ratio else ""
        return f"{sign}{self.bound:g}{kind}"


@dataclass(frozen=True)
class Figure:
    """One thing that is measured on both servers, in every round."""

    group: str
    name: str
    unit: str
    goal: Goal | None = None


class Reading(NamedTuple):
    """A figure as it was in one round."""

    figure: Figure
    shardkv: float
    redis: float

    @property
    def ratio(self) -> float | None:
        """Of shardkv to redis; None if redis shows nothing at all."""
        return self.shardkv / self.redis if self.redis else None


@dataclass(frozen=True)
class Summary:
    """A figure over all rounds: the medians, the median of the rounds' ratios, and the ratios' range.

    The ratio is not that of the medians: the servers are compared within a round, in which the machine was
    the same for both.
    """

    figure: Figure
    shardkv: float
    redis: float
    ratio: float | None
    lowest_ratio: float | None
    highest_ratio: float | None


def summarize(readings: Iterable[Reading]) -> list[Summary]:
    """The summaries of all figures, group by group, in the order of their first readings."""
    groups: dict[str, dict[Figure, list[Reading]]] = {}
    for reading in readings:
        groups.setdefault(reading.figure.group, {}).setdefault(reading.figure, []).append(reading)
    return [_summary(figure, rounds) for figures in groups.values() for figure, rounds in figures.items()]


def _summary(figure: Figure, rounds: list[Reading]) -> Summary:
    ratios = [ratio for reading in rounds if (ratio := reading.ratio) is not None]
    return Summary(
        figure,
        median(reading.shardkv for reading in rounds),
        median(reading.redis for reading in rounds),
        median(ratios) if ratios else None,
        min(ratios, default=None),
        max(ratios, default=None),
    )
