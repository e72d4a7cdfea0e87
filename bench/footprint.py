"""What a server takes up: memory for its data, and the processor while it has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from bench import elements, strings
from bench.contest import Contest, Pair, in_turn
from bench.elements import KINDS
from bench.figures import Figure, Goal, Reading
from bench.servers import Program, Server, running

_SETTLE_S = 2.0
"""After loading: buffers are given back, tables finish growing."""

_REST_S = 60.0
"""Small collections are packed once nobody has touched them for a while; so long at most is waited for it."""

_REST_CHANGE_BYTES = 1_000_000
"""Memory that changes by less in `_REST_POLL_S` has come to rest."""

_REST_POLL_S = 14.0
"""Longer than it takes until packing begins."""

_SMALL = 10
"""The elements of a small collection."""

_MOST_OF_LARGE = {"hash": 2.0, "set": 2.0, "sorted set": 2.0, "list": 3.0, "stream": 3.0}
_MOST_OF_SMALL = 2.5

_EMPTY = Figure("Memory", "no keys", "MB")
_IDLE = Figure("Idle", "all processes", "% core", Goal(1.0, of_ratio=False))


class _Memory(NamedTuple):
    empty_bytes: int
    filled_bytes: int

    @property
    def growth_bytes(self) -> int:
        """What the data itself takes up."""
        return self.filled_bytes - self.empty_bytes


def _measure(program: Program, fill: Callable[[int], None], settle: Callable[[Server], None]) -> _Memory:
    """The memory of all processes, empty and once filled."""
    with running(program) as server:
        empty_bytes = server.memory_bytes()
        fill(server.port)
        settle(server)
        return _Memory(empty_bytes, server.memory_bytes())


def memory(contest: Contest) -> Iterator[Reading]:
    """Measures the memory of all processes, empty and with many strings of 64 bytes."""

    def measure(program: Program) -> _Memory:
        return _measure(program, partial(strings.fill, count=contest.keys), partial(_wait, contest))

    filled = Figure("Memory", f"{contest.keys:,} strings", "MB", Goal(1.5))
    per_key = Figure("Memory", "each string", "bytes")
    for number in contest.each_round("memory"):
        used = in_turn(number, contest.programs, measure)
        yield Reading(_EMPTY, *(of.empty_bytes / 1e6 for of in used))
        yield Reading(filled, *(of.filled_bytes / 1e6 for of in used))
        yield Reading(per_key, *(of.growth_bytes / contest.keys for of in used))


def large(contest: Contest) -> Iterator[Reading]:
    """Measures the memory of one collection of many elements, for each type."""
    for number in contest.each_round("large collections"):
        for kind in KINDS:
            fill = partial(elements.fill, kind=kind, key=b"large", count=contest.keys)
            measure = partial(_measure, fill=fill, settle=partial(_wait, contest))
            name = f"{kind.name} of {contest.keys:,}"
            yield from _readings(
                name, _MOST_OF_LARGE[kind.name], contest.keys, in_turn(number, contest.programs, measure)
            )


def small(contest: Contest) -> Iterator[Reading]:
    """Measures the memory of many collections of a few elements, for each type, once they are at rest."""
    collections = max(1, contest.keys // _SMALL)
    settle = partial(_wait, contest) if contest.idle_s < _SETTLE_S else _rest
    for number in contest.each_round("small collections"):
        for kind in KINDS:
            fill = partial(elements.fill_many, kind=kind, collections=collections, elements=_SMALL)
            measure = partial(_measure, fill=fill, settle=settle)
            name = f"{collections:,} of {_SMALL}, {kind.name}"
            yield from _readings(
                name, _MOST_OF_SMALL, collections * _SMALL, in_turn(number, contest.programs, measure)
            )


def _readings(name: str, most: float, count: int, used: Pair[_Memory]) -> Iterator[Reading]:
    """What so many elements take up, each of them and all together with the processes themselves."""
    each, all_ = Figure("Memory", name, "bytes each", Goal(most)), Figure("Memory", name, "MB in all")
    yield Reading(each, *(of.growth_bytes / count for of in used))
    yield Reading(all_, *(of.filled_bytes / 1e6 for of in used))


def _wait(contest: Contest, server: Server) -> None:
    time.sleep(min(_SETTLE_S, contest.idle_s))


def _rest(server: Server) -> None:
    """Waits until the server takes up no less memory any more."""
    begun_s = time.perf_counter()
    before = server.memory_bytes()
    while time.perf_counter() - begun_s < _REST_S:
        time.sleep(_REST_POLL_S)
        now = server.memory_bytes()
        if abs(before - now) < _REST_CHANGE_BYTES:
            break
        before = now


def idle(contest: Contest) -> Iterator[Reading]:
    """Measures the processor time of servers without clients, both at the same time."""
    for _ in contest.each_round("idle"):
        with contest.servers() as servers:
            time.sleep(min(_SETTLE_S, contest.idle_s))
            before = [server.cpu_times_s() for server in servers]
            begun_s = time.perf_counter()
            time.sleep(contest.idle_s)
            used_s = [server.cpu_since_s(was) for server, was in zip(servers, before, strict=True)]
            took_s = time.perf_counter() - begun_s
        yield Reading(_IDLE, *(used / took_s * 100 for used in used_s))
