"""What a server takes up: memory for its data, and the processor while it has nothing to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from bench import strings
from bench.contest import Contest, in_turn
from bench.figures import Figure, Goal, Reading
from bench.servers import Program, running

_SETTLE_S = 2.0
"""After loading: buffers are given back, tables finish growing."""

_EMPTY = Figure("Memory", "no keys", "MB")
_IDLE = Figure("Idle", "all processes", "% core", Goal(1.0, of_ratio=False))


class _Memory(NamedTuple):
    empty_bytes: int
    filled_bytes: int


def memory(contest: Contest) -> Iterator[Reading]:
    """Measures the memory of all processes, empty and with many strings of 64 bytes."""

    def measure(program: Program) -> _Memory:
        with running(program) as server:
            empty_bytes = server.memory_bytes()
            strings.fill(server.port, contest.keys)
            time.sleep(min(_SETTLE_S, contest.idle_s))
            return _Memory(empty_bytes, server.memory_bytes())

    filled = Figure("Memory", f"{contest.keys:,} strings", "MB", Goal(1.5))
    per_key = Figure("Memory", "each string", "bytes")
    for number in contest.each_round("memory"):
        used = in_turn(number, contest.programs, measure)
        yield Reading(_EMPTY, *(of.empty_bytes / 1e6 for of in used))
        yield Reading(filled, *(of.filled_bytes / 1e6 for of in used))
        yield Reading(per_key, *((of.filled_bytes - of.empty_bytes) / contest.keys for of in used))


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
