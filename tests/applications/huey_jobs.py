"""Huey: retries, delays, results, priorities (a second queue, in a sorted set)."""

from __future__ import annotations

from huey import PriorityRedisHuey, RedisHuey
from huey.api import Result
from huey.exceptions import TaskException

from tests.applications import work

URGENT = 20

huey = RedisHuey("jobs", url=f"redis://127.0.0.1:{work.PORT}")
ranked = PriorityRedisHuey("ranked", url=f"redis://127.0.0.1:{work.PORT}")


@huey.task(retries=1, retry_delay=0)
def perform(job: int, not_before: float) -> int:
    """A job."""
    return work.perform(job, not_before)


@ranked.task()
def square(number: int) -> int:
    """A job with a priority."""
    return number * number


def run(jobs: int) -> work.Report:
    """Gives all jobs and waits for their results."""
    with (
        work.workers(2, "huey_consumer", f"{__name__}.huey", "-w", "2", "-s", "1", "-q"),
        work.workers(1, "huey_consumer", f"{__name__}.ranked", "-w", "2", "-q", "-m", "0.1"),
    ):
        given = {
            job: perform.schedule((job, work.due(job)), delay=work.DELAY_S)
            if work.put_off(job)
            else perform(job, work.due(job))
            for job in range(jobs)
        }
        squares = [square(number, priority=number % 4) for number in range(URGENT)]
        results = {job: outcome(result) for job, result in given.items()}
        urgent = [outcome(result) for result in squares]
    return work.Report(results, {"urgent": sum(value == n * n for n, value in enumerate(urgent))})


def outcome(result: Result) -> int | None:
    """Waits for a job. Its result is an error, too, while it is still to be run again."""
    while True:
        try:
            value: int = result.get(blocking=True, timeout=work.PATIENCE_S, max_delay=0.05)
        except TaskException as error:
            if error.metadata["retries"] == 0:
                return None
            result.reset()
        else:
            return value
