"""The work that every application is given, and how it is counted.

Jobs have numbers. Some fail at first and are run again, some are put off, some fail for good. Each run
leaves a line in its job's file, so that what has really happened is known without asking the server.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PORT = int(os.environ.get("APPLICATION_PORT", "0"))
LEDGER = Path(os.environ.get("APPLICATION_LEDGER", ""))

DELAY_S = 1.0
PATIENCE_S = 60.0
STOP_S = 20.0
_POLL_S = 0.01


class StumbleError(Exception):
    """What jobs fail with."""


def stumbles(job: int) -> bool:
    """Whether a job fails the first time."""
    return job % 10 == 3


def fails(job: int) -> bool:
    """Whether a job fails both times it is run."""
    return job % 25 == 11


def put_off(job: int) -> bool:
    """Whether a job is to be run only DELAY_S after it is given."""
    return job % 10 == 7


def due(job: int) -> float:
    """The time before which a job given now must not run."""
    return time.time() + DELAY_S if put_off(job) else 0.0


def perform(job: int, not_before: float) -> int:
    """A job: returns the square of its number, or raises StumbleError."""
    punctual = time.time() >= not_before
    with Path(LEDGER, str(job)).open("a+") as runs:
        runs.write("in time\n" if punctual else "early\n")
        runs.seek(0)
        first = len(runs.readlines()) == 1
    if fails(job) or (stumbles(job) and first):
        raise StumbleError(f"job {job}")
    return job * job


@dataclass
class Report:
    """What an application says of its jobs: the result of each, None if it has failed for good.

    `more` counts what only this application has.
    """

    results: dict[int, int | None]
    more: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """What it says and what has happened, in numbers."""
        runs = {job: Path(LEDGER, str(job)).read_text().splitlines() for job in self.results}
        done = [job for job, result in self.results.items() if result == job * job]
        return {
            "done": len(done),
            "retried": sum(len(runs[job]) == 2 for job in done),
            "delayed": sum("early" not in runs[job] for job in done if put_off(job)),
            "failed": sum(result is None for result in self.results.values()),
            "runs": sum(map(len, runs.values())),
            **self.more,
        }


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits until something is so. Raises TimeoutError if it does not happen."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(_POLL_S)


@contextmanager
def workers(count: int, *words: str) -> Iterator[None]:
    """Has processes run a program of this interpreter's environment until the block ends."""
    program = Path(sys.executable).with_name(words[0])
    running = [
        subprocess.Popen([sys.executable, program, *words[1:]], stdout=sys.stderr) for _ in range(count)
    ]
    try:
        yield
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.wait(STOP_S)
    finally:
        for worker in running:
            worker.kill()
            worker.wait()
