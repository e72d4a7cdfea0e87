"""Dramatiq: retries, delays, results, a group."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from dramatiq.results.errors import ResultFailure

from tests.applications import work

PARTS = 20
PATIENCE_MS = int(work.PATIENCE_S * 1000)

url = f"redis://127.0.0.1:{work.PORT}/0"
broker = RedisBroker(url=url)
broker.add_middleware(Results(backend=RedisBackend(url=url), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor(max_retries=1, min_backoff=100, max_backoff=200)
def perform(job: int, not_before: float) -> int:
    """A job."""
    return work.perform(job, not_before)


@dramatiq.actor
def square(number: int) -> int:
    """A part of the group."""
    return number * number


def run(jobs: int) -> work.Report:
    """Gives all jobs and waits for their results."""
    with work.workers(1, "dramatiq", __name__, "--processes", "2", "--threads", "4"):
        given = {
            job: perform.send_with_options(
                args=(job, work.due(job)), delay=work.DELAY_S * 1000 if work.put_off(job) else None
            )
            for job in range(jobs)
        }
        parts = dramatiq.group(square.message(number) for number in range(PARTS)).run()
        results = {job: outcome(message) for job, message in given.items()}
        squares = list(parts.get_results(block=True, timeout=PATIENCE_MS))
    return work.Report(results, {"groups": int(squares == [number * number for number in range(PARTS)])})


def outcome(message: dramatiq.Message[int]) -> int | None:
    """Waits for a job."""
    try:
        value: int = message.get_result(block=True, timeout=PATIENCE_MS)
    except ResultFailure:
        return None
    return value
