"""What other clients feel when a large collection goes, or is rewritten."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from bench import elements
from bench.aof import rewrite_now
from bench.contest import Contest, in_turn
from bench.elements import KINDS, Kind
from bench.figures import Figure, Goal, Reading
from bench.latency import canary
from bench.requests import send
from bench.servers import Program, Server, running

_KEY = b"large"
_AFTER_S = 1.5
"""So long after the end of a collection the canary goes on: it is freed meanwhile."""

_SETTLE_S = 0.5

_ENDS = {
    "DEL": (b"DEL", _KEY),
    "UNLINK": (b"UNLINK", _KEY),
    "FLUSHALL": (b"FLUSHALL",),
    "expiry": (b"PEXPIRE", _KEY, 50),
}
"""The ways a collection can go."""

_QUIET = Figure("Pauses", "nothing happens", "ms")


def pauses(contest: Contest) -> Iterator[Reading]:
    """Measures the worst reply time of a canary client while a collection of many elements of each type is
    rewritten, and while it goes in each of the possible ways."""
    for number in contest.each_round("pauses"):
        quiet_ms = in_turn(number, contest.programs, partial(_quiet, contest=contest))
        yield Reading(_QUIET, *quiet_ms)
        for kind in KINDS:
            contest.say(f"round {number + 1} of {contest.rounds}: pauses, {kind.name}")
            found = in_turn(number, contest.programs, partial(_worst_ms, kind=kind, contest=contest))
            for what in found.shardkv:
                figure = Figure("Pauses", f"{kind.name}, {what}", "ms", Goal(20, of_ratio=False))
                yield Reading(figure, found.shardkv[what], found.redis[what])


def _quiet(program: Program, contest: Contest) -> float:
    with running(program) as server, canary(server.port, keys=0) as bird:
        time.sleep(min(_AFTER_S * len(_ENDS), contest.idle_s))
    return max(bird.times_ns) / 1e6


def _worst_ms(program: Program, kind: Kind, contest: Contest) -> dict[str, float]:
    """The worst reply times by what happens to a collection."""
    found = {}
    with running(program) as server:
        _fill(server, kind, contest)
        with server.client() as client, canary(server.port, keys=0) as bird:
            rewrite_now(client)
        found["rewrite"] = max(bird.times_ns) / 1e6
        for what, request in _ENDS.items():
            _fill(server, kind, contest)
            with canary(server.port, keys=0) as bird:
                send(server.port, [request])
                time.sleep(min(_AFTER_S, contest.idle_s))
            found[what] = max(bird.times_ns) / 1e6
    return found


def _fill(server: Server, kind: Kind, contest: Contest) -> None:
    elements.fill(server.port, kind, _KEY, contest.keys)
    time.sleep(min(_SETTLE_S, contest.idle_s))
