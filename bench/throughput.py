"""Operations per second and processor time per operation, with redis-benchmark as the clients."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from bench.contest import Contest, in_turn
from bench.figures import Figure, Goal, Reading
from bench.servers import HOST, Server
from bench.workloads import Workload

PIPELINED_REQUESTS = 5
"""With a pipeline so many times the requests: they cost less, and each run should last a second or more."""

_TIMEOUT_S = 600.0


class Run(NamedTuple):
    """What one run of redis-benchmark showed."""

    operations_per_s: float
    cpu_us: float
    """Processor time of all the server's processes, for one operation."""


def throughput(contest: Contest) -> Iterator[Reading]:
    """Measures every workload in every round, on servers that are new in each."""
    for number in contest.each_round("throughput"):
        with contest.servers() as servers:
            for workload in contest.workloads:
                for pipeline in workload.pipelines:
                    measure = partial(_run, workload=workload, pipeline=pipeline, contest=contest)
                    runs = in_turn(number, servers, measure)
                    rate, cpu = _figures(workload, pipeline)
                    yield Reading(rate, runs.shardkv.operations_per_s, runs.redis.operations_per_s)
                    yield Reading(cpu, runs.shardkv.cpu_us, runs.redis.cpu_us)


def _figures(workload: Workload, pipeline: int) -> tuple[Figure, Figure]:
    name = workload.name if pipeline == 1 else f"{workload.name}, pipeline {pipeline}"
    least, most_cpu = workload.least.get(pipeline), workload.most_cpu.get(pipeline)
    return (
        Figure("Throughput", name, "ops/s", Goal(least, at_most=False) if least else None),
        Figure("Processor time", name, "µs/op", Goal(most_cpu) if most_cpu else None),
    )


def _run(server: Server, workload: Workload, pipeline: int, contest: Contest) -> Run:
    requests = max(1, int(contest.requests * workload.share * (PIPELINED_REQUESTS if pipeline > 1 else 1)))
    if workload.prepare is not None:
        workload.prepare(server.port, contest.keyspace, requests)
    before = server.cpu_times_s()
    printed = _redis_benchmark(
        *("-h", HOST, "-p", str(server.port), "-c", str(workload.clients), "-n", str(requests)),
        *("-P", str(pipeline), "-r", str(contest.keyspace), "--csv", *workload.command),
    )
    cpu_s = server.cpu_since_s(before)
    return Run(
        requests_per_s(printed) * workload.operations,
        cpu_s * 1e6 / (requests * workload.operations),
    )


def _redis_benchmark(*options: str) -> str:
    """What redis-benchmark prints. Raises RuntimeError if it fails, as it does at an error reply."""
    ended = subprocess.run(
        ["redis-benchmark", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if ended.returncode != 0:
        raise RuntimeError(f"redis-benchmark {' '.join(options)} failed:\n{ended.stderr or ended.stdout}")
    return ended.stdout


def requests_per_s(printed: str) -> float:
    """The requests per second in the CSV of redis-benchmark (6.2 and later, which has a line of titles).

    Raises ValueError if it is none.
    """
    lines = printed.splitlines()
    titles = next((place for place, line in enumerate(lines) if line.startswith('"test","rps"')), None)
    rows = list(csv.DictReader(lines[titles:])) if titles is not None else []
    if len(rows) != 1:
        raise ValueError(f"not the result of one run of redis-benchmark --csv: {printed!r}")
    return float(rows[0]["rps"])
