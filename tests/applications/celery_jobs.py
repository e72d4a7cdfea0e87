"""Celery: retries, countdowns, results in a second database, a chord."""

from __future__ import annotations

from celery import Celery, chord
from celery.result import AsyncResult

from tests.applications import work

PARTS = 20

app = Celery(
    "celery_jobs",
    broker=f"redis://127.0.0.1:{work.PORT}/0",
    backend=f"redis://127.0.0.1:{work.PORT}/1",
)
app.conf.broker_connection_retry_on_startup = True


@app.task(autoretry_for=(work.StumbleError,), max_retries=1, default_retry_delay=0)
def perform(job: int, not_before: float) -> int:
    """A job."""
    return work.perform(job, not_before)


@app.task
def square(number: int) -> int:
    """A part of the chord."""
    return number * number


@app.task
def total(numbers: list[int]) -> int:
    """What the chord ends in, once."""
    return sum(numbers)


def run(jobs: int) -> work.Report:
    """Gives all jobs and waits for their results."""
    with work.workers(2, "celery", "-A", __name__, "worker", "-c", "2", "-n", "%i-%h", "-l", "WARNING"):
        given = {
            job: perform.apply_async(
                (job, work.due(job)), countdown=work.DELAY_S if work.put_off(job) else None
            )
            for job in range(jobs)
        }
        sums = chord(square.s(number) for number in range(PARTS))(total.s())
        results = {job: outcome(result) for job, result in given.items()}
        chords = sums.get(timeout=work.PATIENCE_S) == sum(number * number for number in range(PARTS))
    return work.Report(results, {"chords": int(chords)})


def outcome(result: AsyncResult) -> int | None:
    """Waits for a job."""
    value = result.get(timeout=work.PATIENCE_S, propagate=False)
    return value if result.successful() else None
