"""Replacing a log by a shorter one while it is being appended to.

The order is what makes it safe at any moment of death; each step is on disk before the next:

1. prepare: the next increment and the new base are created, and a manifest names the increment;
2. start, in the worker: appends go to the new increment; the data as it is at this moment is what the base
   will hold;
3. settle: the old increment is fsynced, and a manifest names its size;
4. write: the base is filled, in batches;
5. finish: a manifest names the base and the new increment alone; the old files are removed.

Until 5 the old files and the new increment hold everything; after it the base and the new increment do. A log
that starts over skips 3 and lets no manifest name the increment until 5.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from shardkv import clock, limits
from shardkv.aof.file import BatchFile
from shardkv.aof.manifest import BASE, INCREMENT, Manifest

if TYPE_CHECKING:
    from shardkv.aof.log import AppendLog

logger = logging.getLogger(__name__)


class Stage(enum.Enum):
    """PREPARING: `start` has to wait. READY: for `start`. WALKING: for `write` and `finish`. DONE, FAILED:
    over."""

    PREPARING = enum.auto()
    READY = enum.auto()
    WALKING = enum.auto()
    FINISHING = enum.auto()
    DONE = enum.auto()
    FAILED = enum.auto()


class Rewrite:
    """A rewrite under way, as `AppendLog.begin_rewrite` gives it.

    The worker calls `start` once `stage` is READY, then `write` for slices of its data as it was at that
    moment, then `finish`, and looks at `stage` until it is DONE or FAILED (then `error` says why; None if
    abandoned). None of these waits for the disk, except that `start` commits.
    """

    def __init__(self, log: AppendLog) -> None:
        self.stage = Stage.PREPARING
        self.error: Exception | None = None
        self.begun_s = clock.monotonic()
        self._log = log
        self._starts_over = not log.has_increment
        self._started = False
        self._abandoned = False
        self._base: BatchFile | None = None
        self._increment: BatchFile | None = None
        self._given_bytes = 0
        self._written_bytes = 0
        self._synced_bytes = 0

    def begin(self) -> None:
        """Begins to prepare; `AppendLog.begin_rewrite` calls it."""
        self._run(self._prepare)

    @property
    def backlog_bytes(self) -> int:
        """What was given to `write` and is not in the file yet."""
        return self._given_bytes - self._written_bytes

    @property
    def takes_more(self) -> bool:
        """Whether to go on with `write`; if not, the disk has to catch up first."""
        if self._abandoned or self.stage is not Stage.WALKING:
            return False
        return self.backlog_bytes < limits.REWRITE_BACKLOG_BYTES

    def start(self) -> bool:
        """Takes the cut: what was committed until now is for the base, what follows for the new increment.

        False if the rewrite is not ready or abandoned, or if what is pending cannot be committed; then try
        again later.
        """
        increment = self._increment
        if self._abandoned or self.stage is not Stage.READY or increment is None:
            return False
        if not self._log.switch_to(increment):
            return False
        self._started = True
        self.stage = Stage.WALKING
        self._run(self._settle, even_if_abandoned=True)
        return True

    def write(self, records: bytes) -> None:
        """Gives a slice of whole records for the base; it becomes one batch."""
        self._given_bytes += len(records)
        self._run(partial(self._write, records))

    def finish(self) -> None:
        """To be called when everything was given."""
        self.stage = Stage.FINISHING
        self._run(self._finish)

    def abandon(self) -> None:
        """Gives the rewrite up, unless it is over. The log stays whole: it goes on in the increment it is
        in."""
        self._abandoned = True
        self._log.background.run(self._give_up)

    # -- steps, in the background thread ------------------------------------------------------

    def _run(self, step: Callable[[], None], *, even_if_abandoned: bool = False) -> None:
        self._log.background.run(partial(self._do, step, even_if_abandoned))

    def _do(self, step: Callable[[], None], even_if_abandoned: bool) -> None:
        if self.stage is Stage.FAILED or (self._abandoned and not even_if_abandoned):
            return
        try:
            if self._log.fsync_error is not None:
                raise self._log.fsync_error
            step()
        except Exception as error:
            # Whatever it is: an error in a background thread must not be lost, nor leave the rewrite hanging.
            self._fail(error)
        self._log.wake()

    def _prepare(self) -> None:
        log, manifest = self._log, self._log.manifest
        self._increment = BatchFile.create(log.disk, log.folder, *manifest.next_name(INCREMENT), INCREMENT)
        self._base = BatchFile.create(log.disk, log.folder, *manifest.next_name(BASE), BASE)
        log.disk.sync_folder(log.folder)
        if not self._starts_over:
            log.publish(manifest.with_entry(self._increment.entry))
        self.stage = Stage.READY

    def _settle(self) -> None:
        log = self._log
        closed = log.settle_previous()
        if closed is not None:
            log.publish(log.manifest.with_entry(closed))

    def _write(self, records: bytes) -> None:
        base = self._base
        assert base is not None
        base.append([(b"", records)])
        self._written_bytes += len(records)
        if self._written_bytes - self._synced_bytes >= limits.REWRITE_FSYNC_BYTES:
            base.sync()
            self._synced_bytes = self._written_bytes

    def _finish(self) -> None:
        log, base, increment = self._log, self._base, self._increment
        assert base is not None
        assert increment is not None
        base.sync()
        log.sync_beside()
        old = log.manifest
        log.publish(Manifest(old.filename, (base.closed_entry(), increment.entry)))
        base.close()
        log.rewrite_done(base.size, clock.monotonic() - self.begun_s)
        self.stage = Stage.DONE
        # The base first: as long as it is there, everything is that came after it.
        for entry in old.entries:
            if entry.name not in log.manifest.names:
                self._remove(entry.name)

    def _give_up(self) -> None:
        if self.stage not in (Stage.DONE, Stage.FAILED):
            self._fail(None)
        self._log.wake()

    def _fail(self, error: Exception | None) -> None:
        if error is not None:
            logger.error(
                "%s: the rewrite has failed: %s",
                self._log.folder,
                error,
                exc_info=not isinstance(error, OSError),
            )
        self.error = error
        # After a failed fsync it is open which manifest is on disk, so all that either may name must stay.
        if self._log.fsync_error is None:
            self._discard()
        self._log.rewrite_over(failed=error is not None, seconds=clock.monotonic() - self.begun_s)
        self.stage = Stage.FAILED

    def _discard(self) -> None:
        """Removes what was prepared, as far as no manifest names it. What fails here is removed at the next
        start."""
        log, base, increment = self._log, self._base, self._increment
        if base is not None and base.entry.name not in log.manifest.names:
            base.close()
            self._remove(base.entry.name)
        if increment is None or self._started:
            return
        increment.close()
        name = increment.entry.name
        if name in log.manifest.names:
            try:
                log.publish(log.manifest.without({name}))
            except OSError:
                return
        self._remove(name)

    def _remove(self, name: str) -> None:
        try:
            self._log.disk.remove(self._log.folder / name)
        except OSError as error:
            logger.warning("%s: cannot be removed: %s", self._log.folder / name, error)
