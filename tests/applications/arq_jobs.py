"""arq: retries, deferred jobs, a job id given twice."""

from __future__ import annotations

import asyncio
from typing import Any

from arq import Retry, create_pool
from arq.connections import RedisSettings
from arq.jobs import Job

from tests.applications import work

settings = RedisSettings(port=work.PORT)


async def perform(context: dict[str, Any], job: int, not_before: float) -> int:
    """A job."""
    try:
        return work.perform(job, not_before)
    except work.StumbleError:
        if context["job_try"] == 1:
            raise Retry(defer=0.1) from None
        raise


class Worker:
    """What `arq` is to run."""

    functions = (perform,)
    redis_settings = settings
    poll_delay = 0.1
    max_jobs = 10


def run(jobs: int) -> work.Report:
    """Gives all jobs and waits for their results."""
    with work.workers(2, "arq", f"{__name__}.Worker"):
        return asyncio.run(give(jobs))


async def give(jobs: int) -> work.Report:
    """Gives all jobs, one of them twice, which has to be refused."""
    pool = await create_pool(settings)
    given = {}
    for job in range(jobs):
        delay = work.DELAY_S if work.put_off(job) else None
        given[job] = await pool.enqueue_job(
            "perform", job, work.due(job), _job_id=f"job-{job}", _defer_by=delay
        )
    again = await pool.enqueue_job("perform", 0, 0.0, _job_id="job-0")
    outcomes = await asyncio.gather(*(outcome(record) for record in given.values()))
    await pool.aclose()
    return work.Report(dict(zip(given, outcomes, strict=True)), {"refused": int(again is None)})


async def outcome(record: Job) -> int | None:
    """Waits for a job."""
    try:
        value: int = await record.result(timeout=work.PATIENCE_S, poll_delay=0.05)
    except work.StumbleError:
        return None
    return value
