"""RQ: forking workers with schedulers, retries at once and later, delays, a job that depends on others."""

from __future__ import annotations

from datetime import timedelta

from redis import Redis
from rq import Queue, Retry
from rq.job import Job, JobStatus

from tests.applications import work

ENDED = (JobStatus.FINISHED, JobStatus.FAILED)
PARTS = 10


def none() -> int:
    """A job that others depend on."""
    return 0


def run(jobs: int) -> work.Report:
    """Gives all jobs and waits for their results."""
    queue = Queue(connection=Redis(port=work.PORT))
    with work.workers(2, "rq", "worker", "--with-scheduler", "--url", f"redis://127.0.0.1:{work.PORT}", "-q"):
        given = {job: enqueue(queue, job) for job in range(jobs)}
        last = queue.enqueue(none, depends_on=[queue.enqueue(none) for _ in range(PARTS)])
        results = {job: outcome(record) for job, record in given.items()}
        dependents = outcome(last) == 0
    return work.Report(results, {"dependents": int(dependents)})


def enqueue(queue: Queue, job: int) -> Job:
    """Gives a job: now, or put off."""
    retry = Retry(max=1, interval=job % 20 // 10)
    if work.put_off(job):
        delay = timedelta(seconds=work.DELAY_S)
        return queue.enqueue_in(delay, work.perform, job, work.due(job), retry=retry)
    return queue.enqueue(work.perform, job, work.due(job), retry=retry)


def outcome(record: Job) -> int | None:
    """Waits for a job."""
    record.latest_result(timeout=int(work.PATIENCE_S))
    work.until(lambda: record.get_status() in ENDED, f"{record} does not end")
    value: int | None = record.return_value(refresh=True)
    return value
