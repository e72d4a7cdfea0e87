"""The supervisor's part in snapshots: when one is taken, and what became of it.

A snapshot goes like this. A process is forked to write the file (proxy.saver), with a pipe to each shard; the
shards get ready; a proxy brings about the cut, one moment over all shards (`BEGINSNAPSHOT`); then the shards
send what they held at that moment, and the file is written. If any process dies on the way, or the disk is
full, the snapshot has failed, the file before it is still there, and the next one may work.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from proxy import saver
from proxy.relay import Answers, topic
from proxy.saver import Order
from shardkv import clock, control, limits
from shardkv.proxy_link import enlarge_pipe

if TYPE_CHECKING:
    from proxy.supervisor import Child, Supervisor

logger = logging.getLogger("proxy.saving")

SAVER = "saver"

_TEMPORARY = "temp-shardkv-"
"""What the names of unfinished files begin with."""

Outcome = dict[str, Any]
"""What became of a snapshot: what proxy.saver.save returns."""


class SavingFigures(msgspec.Struct):
    """What INFO tells of snapshots. Times of -1: there was none.

    saves           snapshots that were saved since the start
    last_save_s     when the last one was begun, in s since 1970; the start of the server if there was none
    keys            in the last one
    """

    in_progress: bool
    saves: int
    failures: int
    last_save_s: int
    last_ok: bool
    last_duration_s: float
    current_duration_s: float
    last_size: int
    keys: int


@dataclass(eq=False)
class Job:
    """A snapshot that is wanted.

    path     where it goes
    kept     whether it is the server's own, that counts as saved; else somebody takes the file away
    then     is told what became of it
    """

    number: int
    path: Path
    kept: bool
    then: Callable[[Outcome], None]
    version: int
    tries: int = 0
    begun_s: float = field(default_factory=clock.monotonic)
    begun_at_s: int = 0
    outcome: Outcome | None = None


class Saving:
    """All snapshots of one server: one at a time, the others wait."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.saver: Child | None = None
        self.last_ok = True
        self.last_save_s = clock.now_ms() // 1000
        self._numbers = 0
        self._jobs: deque[Job] = deque()
        """The first one is under way."""
        self._last_try_s = -limits.SAVE_RETRY_S
        self._last_duration_s = -1.0
        self._last_size = 0
        self._last_keys = 0
        self._saves = 0
        self._failures = 0
        self._next_check_s = 0.0
        self._handed: dict[Path, float] = {}
        """Files that somebody takes away, and since when they are there."""

    # -- what is wanted -------------------------------------------------------------------------

    @property
    def in_progress(self) -> bool:
        """Whether a snapshot that is to be kept is under way, or about to be."""
        return any(job.kept for job in self._jobs)

    def save(
        self, then: Callable[[Outcome], None] = lambda outcome: None, *, anew: bool = False
    ) -> int | None:
        """Begins a snapshot that is to be kept; returns its number, or None if there is one already, which
        `anew` gives up."""
        if self.in_progress:
            if not anew:
                return None
            self.cancel()
        config = self.supervisor.config
        return self._want(Path(config.dir) / config.dbfilename, True, then)

    def send(self) -> int | None:
        """Begins a snapshot for a proxy, which takes the file away; returns its number, or None if too many
        are wanted already."""
        if len(self._jobs) >= limits.MAX_WAITING_SNAPSHOTS:
            return None
        path = Path(self.supervisor.config.dir) / f"{_TEMPORARY}sync-{self._numbers + 1}.rdb"
        return self._want(path, False, lambda outcome: None)

    def cancel(self) -> bool:
        """Gives up the snapshot that is to be kept; False if there is none."""
        for job in self._jobs:
            if job.kept:
                if job is self._jobs[0]:
                    self._fail("cancelled")
                else:
                    self._jobs.remove(job)
                    self._tell(job, {"error": "cancelled"})
                return True
        return False

    def _want(self, path: Path, kept: bool, then: Callable[[Outcome], None]) -> int:
        self._numbers += 1
        self._jobs.append(Job(self._numbers, path, kept, then, int(self.supervisor.config.rdb_version)))
        if len(self._jobs) == 1:
            self._begin()
        return self._numbers

    # -- one snapshot ---------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begins the first job, or begins it anew."""
        job = self._jobs[0]
        job.tries += 1
        job.begun_s, job.begun_at_s, job.outcome = clock.monotonic(), clock.now_ms() // 1000, None
        self._last_try_s = job.begun_s
        supervisor = self.supervisor
        workers = [child for child in supervisor.workers if child.ready and child.channel is not None]
        if len(workers) < len(supervisor.workers):
            self._done({"error": "not all shards are there"})
            return
        pipes = [os.pipe() for _ in workers]
        for read_fd, _ in pipes:
            enlarge_pipe(read_fd)
        temporary = job.path.parent / f"{_TEMPORARY}{os.getpid()}-{job.number}.rdb"
        order = Order(temporary, job.path, job.version, supervisor.config.rdbchecksum)

        def live(channel: control.ControlChannel) -> int:
            for _, write_fd in pipes:
                os.close(write_fd)
            outcome = saver.save(order, [read_fd for read_fd, _ in pipes])
            channel.send(control.Ask(0, control.SUPERVISOR, "snapshot is over", [job.number, outcome]))
            return 0

        try:
            self.saver = supervisor.start_helper(SAVER, live)
        except OSError as error:
            self._done({"error": f"no process: {error}"})
        else:
            logger.info("saving %s", job.path)
            fds = {child: (write_fd,) for child, (_, write_fd) in zip(workers, pipes, strict=True)}
            body, then = [job.number, job.version], partial(self._cut, job, job.tries)
            supervisor.relay.ask_group(workers, control.SNAPSHOT, body, then, fds=fds)
        finally:
            for pair in pipes:
                for fd in pair:
                    os.close(fd)

    def _cut(self, job: Job, attempt: int, answers: Answers) -> None:
        """The shards are ready: has a proxy bring about the moment that the snapshot shows."""
        if not self._is_under_way(job, attempt):
            return
        if sum(answer is True for _, _, answer in answers) < len(self.supervisor.workers):
            self._fail("a shard is busy or gone")
            return
        proxies = [child for child in self.supervisor.proxies if child.ready and child.channel is not None]
        if not proxies:
            self._fail("no proxy is there")
            return

        def begun(answers: Answers) -> None:
            if self._is_under_way(job, attempt) and (not answers or answers[0][2] is not True):
                told = answers[0][2] if answers else "it has taken too long"
                self._fail(f"the shards could not be held for a moment: {told}")

        self.supervisor.relay.ask_group(
            proxies[:1], control.CUT, job.number, begun, patience_s=limits.CUT_TIMEOUT_S
        )

    def _is_under_way(self, job: Job, attempt: int) -> bool:
        return bool(self._jobs) and self._jobs[0] is job and job.tries == attempt and self.saver is not None

    def reported(self, number: int, outcome: Outcome) -> None:
        """The saver says what became of a snapshot; it ends now."""
        if self._jobs and self._jobs[0].number == number:
            self._jobs[0].outcome = outcome

    def ended(self) -> None:
        """The saver has ended."""
        self.saver = None
        if self._jobs:
            self._done(self._jobs[0].outcome or {"error": "the process that writes it has died"})

    def _fail(self, reason: str) -> None:
        """Ends the snapshot under way: without its saver the shards give up their parts."""
        self._jobs[0].outcome = {"error": reason}
        if self.saver is None:
            self._done(self._jobs[0].outcome)
        else:
            self.supervisor.kill(self.saver)

    def _done(self, outcome: Outcome) -> None:
        """The first job is over, or has to begin anew."""
        job = self._jobs[0]
        if "ok" in outcome and not job.kept:
            self._handed[job.path] = clock.monotonic()
        self.remove_unfinished()
        if "again" in outcome and job.tries < limits.SNAPSHOT_TRIES and not self.supervisor.stopping:
            if outcome["again"] != job.version:
                logger.warning(
                    "%s: written in version %d of the format instead of %d: %s",
                    *(job.path, outcome["again"], job.version, outcome["reason"]),
                )
            job.version = outcome["again"]
            self._begin()
            return
        self._jobs.popleft()
        seconds = clock.monotonic() - job.begun_s
        if "ok" in outcome:
            logger.info(
                "saved %s: %d keys, %d bytes, %.2f s", job.path, outcome["keys"], outcome["size"], seconds
            )
        else:
            outcome = {"error": outcome.get("error", "it had to begin anew too often")}
            logger.error("%s was not saved: %s", job.path, outcome["error"])
        if job.kept:
            self._take_down(job, outcome, seconds)
        self._tell(job, outcome)
        if self._jobs and not self.supervisor.stopping:
            self._begin()

    def _take_down(self, job: Job, outcome: Outcome, seconds: float) -> None:
        self.last_ok = "ok" in outcome
        self._last_duration_s = seconds
        if self.last_ok:
            self._saves += 1
            self._failures = 0
            self.last_save_s = job.begun_at_s
            self._last_size, self._last_keys = outcome["size"], outcome["keys"]
        else:
            self._failures += 1

    def _tell(self, job: Job, outcome: Outcome) -> None:
        supervisor = self.supervisor
        if job.kept:
            self.supervisor.relay.tell(supervisor.workers, control.SAVED, [job.number, self.last_ok])
        told = outcome | {"path": str(job.path)}
        supervisor.relay.tell(supervisor.proxies, control.SAVED, [job.number, told])
        job.then(outcome)

    def remove_unfinished(self) -> None:
        """Removes what snapshots that were cut short have left, and files that nobody has taken away. Only to
        be called while nothing is being written."""
        now_s = clock.monotonic()
        self._handed = {
            path: at_s for path, at_s in self._handed.items() if at_s + limits.SNAPSHOT_TAKEN_S > now_s
        }
        for path in Path(self.supervisor.config.dir).glob(f"{_TEMPORARY}*.rdb"):
            if path not in self._handed:
                try:
                    path.unlink()
                except OSError as error:
                    logger.warning("%s cannot be removed: %s", path, error)

    # -- save points ----------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When `check` is next needed, by the monotonic clock; None while there are no save points."""
        return self._next_check_s if self.supervisor.config.save else None

    def check(self, now: float) -> None:
        """Looks, now and then, whether a save point is reached."""
        if not self.supervisor.config.save or now < self._next_check_s:
            return
        self._next_check_s = now + limits.SAVE_CHECK_S
        if not self.in_progress and (self.last_ok or now >= self._last_try_s + limits.SAVE_RETRY_S):
            self.supervisor.relay.ask_group(self.supervisor.workers, "changes", None, self._compare)

    def _compare(self, answers: Answers) -> None:
        changes = sum(answer for _, _, answer in answers if isinstance(answer, int))
        elapsed_s = clock.now_ms() // 1000 - self.last_save_s
        for point in self.supervisor.config.save:
            if changes >= point.changes and elapsed_s > point.seconds and not self.in_progress:
                logger.info("%d changes in %d seconds", changes, elapsed_s)
                self.save()

    # -- what is told -----------------------------------------------------------------------------

    def figures(self) -> SavingFigures:
        """For INFO."""
        job = next((job for job in self._jobs if job.kept), None)
        return SavingFigures(
            in_progress=job is not None,
            saves=self._saves,
            failures=self._failures,
            last_save_s=self.last_save_s,
            last_ok=self.last_ok,
            last_duration_s=self._last_duration_s,
            current_duration_s=-1.0 if job is None else clock.monotonic() - job.begun_s,
            last_size=self._last_size,
            keys=self._last_keys,
        )


@topic("save")
def _save(supervisor: Supervisor, body: Any) -> int | None:
    """Begins a snapshot that is to be kept; the answer is its number, None if there is one already."""
    return supervisor.saving.save()


@topic("cancel save")
def _cancel(supervisor: Supervisor, body: Any) -> bool:
    return supervisor.saving.cancel()


@topic("send snapshot")
def _send(supervisor: Supervisor, body: Any) -> int | None:
    """Begins a snapshot for a proxy, which opens the file and removes it."""
    return supervisor.saving.send()


@topic("last save")
def _last_save(supervisor: Supervisor, body: Any) -> int:
    return supervisor.saving.last_save_s


@topic("snapshot is over")
def _reported(supervisor: Supervisor, body: Any) -> None:
    supervisor.saving.reported(*body)
