"""The command line: `python -m bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TextIO

import click
from redis.exceptions import RedisError
from rich.console import Console

from bench import aof, footprint, report
from bench.contest import Contest, Pair
from bench.figures import Reading, summarize
from bench.latency import latency
from bench.pauses import pauses
from bench.servers import redis_program, shardkv_program
from bench.throughput import throughput
from bench.workloads import WORKLOADS

FAMILIES: dict[str, Callable[[Contest], Iterator[Reading]]] = {
    "throughput": throughput,
    "latency": latency,
    "memory": footprint.memory,
    "large": footprint.large,
    "small": footprint.small,
    "load": aof.load,
    "rewrite": aof.rewrite,
    "pauses": pauses,
    "idle": footprint.idle,
}
"""Everything that can be measured, in the order in which it is."""

_NAMES = {workload.name: workload for workload in WORKLOADS}


@click.command()
@click.argument("families", nargs=-1, type=click.Choice(list(FAMILIES)), metavar="[FAMILY]...")
@click.option(
    "--rounds",
    default=Contest.rounds,
    show_default=True,
    type=click.IntRange(1),
    help="How often to measure.",
)
@click.option(
    "--requests",
    default=Contest.requests,
    show_default=True,
    type=click.IntRange(1),
    help="Requests of a run without pipeline.",
)
@click.option(
    "--keys",
    default=Contest.keys,
    show_default=True,
    type=click.IntRange(1),
    help="Strings, or elements, to fill in for all but throughput and latency.",
)
@click.option(
    "--workload",
    "workloads",
    multiple=True,
    type=click.Choice(list(_NAMES)),
    help="Only this one, for throughput; can be repeated.",
)
@click.option("--workers", default=2, show_default=True, help="Workers of shardkv.")
@click.option("--proxies", default=1, show_default=True, help="Proxies of shardkv.")
@click.option("--redis", default="redis-server", show_default=True, help="The server to compare with.")
@click.option("--quick", is_flag=True, help="One small round, to see that all works; the figures say little.")
@click.option(
    "--markdown", type=click.File("w"), help="Writes the results to a file as well (- for standard output)."
)
def main(
    families: tuple[str, ...],
    rounds: int,
    requests: int,
    keys: int,
    workloads: tuple[str, ...],
    workers: int,
    proxies: int,
    redis: str,
    quick: bool,
    markdown: TextIO | None,
) -> None:
    """Compares shardkv with redis-server, in turns, and prints a table of ratios.

    FAMILY is what to measure: throughput (operations per second, processor time), latency (of one
    connection), memory (of strings), large or small (the memory of collections), load (of the append-only
    file), rewrite (of it), pauses (when large collections go or are rewritten) or idle; all of them if none
    is named. Needs redis-server and redis-benchmark. Everything runs on the loopback interface, in temporary
    folders.
    """
    try:
        programs = Pair(shardkv_program(workers, proxies), redis_program(redis))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    chosen = [_NAMES[name] for name in workloads] or WORKLOADS
    contest = Contest(programs, rounds, requests, keys=keys, workloads=chosen)
    if quick:
        contest = replace(contest, rounds=1, requests=5_000, keyspace=5_000, keys=20_000, idle_s=1.0)
    readings: list[Reading] = []
    try:
        measure(contest, families or tuple(FAMILIES), readings)
    except (RuntimeError, RedisError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        # A run takes long, so what it has found is shown even if it breaks off.
        if readings:
            show(contest, readings, markdown)


def measure(contest: Contest, families: Iterable[str], readings: list[Reading]) -> None:
    """Measures these families and adds what it reads; meanwhile the terminal shows how far it is."""
    with Console(stderr=True).status("starting") as status:
        contest = replace(contest, say=status.update)
        for family in families:
            for reading in FAMILIES[family](contest):
                readings.append(reading)


def show(contest: Contest, readings: list[Reading], markdown: TextIO | None) -> None:
    """Prints the results, and writes them to the file if there is one."""
    console = Console()
    summaries = summarize(readings)
    for line in report.conditions(contest):
        console.print(line, highlight=False)
    console.print(report.table(contest, summaries))
    if markdown is not None:
        markdown.write(report.markdown(contest, summaries))


if __name__ == "__main__":
    main()
