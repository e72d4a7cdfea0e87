"""The append-only file: how long loading it takes, and what clients feel of its rewrite."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import redis

from bench import strings
from bench.contest import Contest, in_turn
from bench.figures import Figure, Goal, Reading
from bench.latency import canary, percentile
from bench.servers import Program, Server, running

_QUIET_S = 2.0
_POLL_S = 0.05
_SAMPLE_S = 0.02
_LONGEST_REWRITE_S = 300.0

_GROUP = "Rewrite"
_QUIET_WORST = Figure(_GROUP, "canary, worst before", "ms")
_WORST = Figure(_GROUP, "canary, worst", "ms", Goal(20, of_ratio=False))
_P99 = Figure(_GROUP, "canary, p99", "ms")
_DURATION = Figure(_GROUP, "duration", "s")
_GROWTH = Figure(_GROUP, "memory growth", "%", Goal(10, of_ratio=False))


def load(contest: Contest) -> Iterator[Reading]:
    """Measures a restart: from the start of the program until it answers and has all keys."""

    def measure(program: Program) -> float:
        with running(program) as server:
            strings.fill(server.port, contest.keys)
            server.stop()
            took_s = server.start()
            with server.client() as client:
                if client.dbsize() != contest.keys:
                    raise RuntimeError(
                        f"{program.name} lost keys: {client.dbsize()} of {contest.keys} are left"
                    )
            return took_s

    figure = Figure("Load", f"{contest.keys:,} SETs", "s", Goal(2.0))
    for number in contest.each_round("load"):
        yield Reading(figure, *in_turn(number, contest.programs, measure))


class _Rewrite(NamedTuple):
    quiet_worst_ms: float
    worst_ms: float
    p99_ms: float
    duration_s: float
    growth_percent: float


def rewrite(contest: Contest) -> Iterator[Reading]:
    """Measures BGREWRITEAOF twice: once with a canary client, once with a look at the memory, which would be
    in the canary's way (the kernel walks the page tables for it)."""

    def measure(program: Program) -> _Rewrite:
        with running(program) as server, server.client() as client:
            strings.fill(server.port, contest.keys)
            with canary(server.port, contest.keys) as before:
                time.sleep(min(_QUIET_S, contest.idle_s))
            with canary(server.port, contest.keys) as during:
                duration_s = rewrite_now(client)
            return _Rewrite(
                max(before.times_ns) / 1e6,
                max(during.times_ns) / 1e6,
                percentile(during.times_ns, 0.99) / 1e6,
                duration_s,
                _growth_percent(server, client),
            )

    for number in contest.each_round("rewrite"):
        found = in_turn(number, contest.programs, measure)
        yield Reading(_QUIET_WORST, *(of.quiet_worst_ms for of in found))
        yield Reading(_WORST, *(of.worst_ms for of in found))
        yield Reading(_P99, *(of.p99_ms for of in found))
        yield Reading(_DURATION, *(of.duration_s for of in found))
        yield Reading(_GROWTH, *(of.growth_percent for of in found))


def rewrite_now(client: redis.Redis) -> float:
    """Rewrites the append-only file; returns how many seconds that took. Raises RuntimeError if it failed."""
    begun_s = time.perf_counter()
    client.bgrewriteaof()
    while True:
        persistence = client.info("persistence")
        if not persistence["aof_rewrite_in_progress"] and not persistence["aof_rewrite_scheduled"]:
            break
        if time.perf_counter() - begun_s > _LONGEST_REWRITE_S:
            raise RuntimeError("the rewrite does not end")
        time.sleep(_POLL_S)
    if persistence["aof_last_bgrewrite_status"] != "ok":
        raise RuntimeError("the rewrite failed")
    return time.perf_counter() - begun_s


def _growth_percent(server: Server, client: redis.Redis) -> float:
    """How much more memory a rewrite takes at its peak than was taken before it."""
    before = server.memory_bytes()
    samples = [before]
    over = threading.Event()

    def sample() -> None:
        while not over.wait(_SAMPLE_S):
            samples.append(server.memory_bytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        rewrite_now(client)
    finally:
        over.set()
        sampler.join()
    return (max(samples) - before) / before * 100
