"""How the two servers are compared: one after the other, round by round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from bench.servers import Program, Server, running
from bench.workloads import WORKLOADS, Workload

S = TypeVar("S")
T = TypeVar("T")


class Pair(NamedTuple, Generic[T]):
    """Something of both servers."""

    shardkv: T
    redis: T


def in_turn(number: int, pair: Pair[S], measure: Callable[[S], T]) -> Pair[T]:
    """Measures one after the other; who comes first changes with the number of the round."""
    if number % 2 == 0:
        shardkv = measure(pair.shardkv)
        return Pair(shardkv, measure(pair.redis))
    redis = measure(pair.redis)
    return Pair(measure(pair.shardkv), redis)


@dataclass(frozen=True)
class Contest:
    """Who is compared, and how thoroughly.

    rounds      how often everything is measured
    requests    of each run without a pipeline; runs with one make more
    keyspace    different keys that the requests of a run use
    keys        strings in a server whose memory, loading or rewriting is measured
    idle_s      how long servers are watched doing nothing, in seconds
    say         is told what is being measured
    """

    programs: Pair[Program]
    rounds: int = 5
    requests: int = 200_000
    keyspace: int = 100_000
    keys: int = 1_000_000
    idle_s: float = 10.0
    workloads: Sequence[Workload] = WORKLOADS
    say: Callable[[str], None] = field(default=lambda text: None)

    def each_round(self, subject: str) -> Iterator[int]:
        """The numbers of the rounds, from 0."""
        for number in range(self.rounds):
            self.say(f"round {number + 1} of {self.rounds}: {subject}")
            yield number

    @contextmanager
    def servers(self) -> Iterator[Pair[Server]]:
        """Runs both servers until the block ends."""
        with running(self.programs.shardkv) as shardkv, running(self.programs.redis) as redis:
            yield Pair(shardkv, redis)
