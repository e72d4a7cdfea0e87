"""SAQ: retries, scheduled jobs, word of their ends by publish/subscribe."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from saq import Job, Queue

from tests.applications import work

queue = Queue.from_url(f"redis://127.0.0.1:{work.PORT}")


async def perform(_: dict[str, Any], *, job: int, not_before: float) -> int:
    """A job."""
    return work.perform(job, not_before)


settings = {"queue": queue, "functions": [perform], "concurrency": 10}


def run(jobs: int) -> work.Report:
    """Gives all jobs and waits for their results."""
    with work.workers(2, "saq", f"{__name__}.settings"):
        return asyncio.run(give(jobs))


async def give(jobs: int) -> work.Report:
    """Gives all jobs, then waits for each.

    Only when the workers have looked for jobs left behind, as they do first: one that is just being taken
    would look so, and be run twice.
    """
    await queue.connect()
    while not await queue.redis.exists(queue.namespace("sweep")):
        await asyncio.sleep(0.01)
    given = {}
    for job in range(jobs):
        given[job] = await queue.enqueue(
            "perform",
            job=job,
            not_before=work.due(job),
            retries=2,
            retry_delay=0.1,
            scheduled=math.ceil(time.time() + work.DELAY_S) if work.put_off(job) else 0,
        )
    outcomes = await asyncio.gather(*(outcome(record) for record in given.values()))
    await queue.disconnect()
    return work.Report(dict(zip(given, outcomes, strict=True)))


async def outcome(record: Job) -> int | None:
    """Waits for a job."""
    await record.refresh(until_complete=work.PATIENCE_S)
    value: int | None = record.result
    return value
