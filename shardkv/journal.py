"""A worker's dealings with its append-only file: loading, writing, rewriting, and what to do when the disk
fails."""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterator
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from shardkv import clock, errors, limits
from shardkv.aof.background import Background
from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Disk
from shardkv.aof.load import load
from shardkv.aof.log import AppendLog, Policy
from shardkv.aof.record import record
from shardkv.aof.rewrite import Rewrite, Stage
from shardkv.aof.side_log import SideLog
from shardkv.dump_file import Loaded, load_dump
from shardkv.propagation import TRANSACTION
from shardkv.resp.replies import raw
from shardkv.walk import Walk

if TYPE_CHECKING:
    from shardkv.shard import Shard
    from shardkv.transactions import Link
    from shardkv.worker import Worker

logger = logging.getLogger("shardkv.journal")


class Safe(enum.Enum):
    """What of a turn is on disk."""

    EVERYTHING = enum.auto()
    ALL_BUT_PLEDGES = enum.auto()
    NOTHING = enum.auto()


def recall_commit(shard: Shard, keys: bytes) -> None:
    """Takes in the keys of a batch of the log: perhaps it carries out a transaction."""
    if keys.startswith(TRANSACTION):
        shard.transactions.recall_commit(int(keys.removeprefix(TRANSACTION), 16))


class Journal:
    """The append-only file of one worker. Without one (`appendonly no`) a snapshot may be loaded, and nothing
    else is done here."""

    def __init__(
        self, worker: Worker, *, disk: Disk | None = None, background: Background | None = None
    ) -> None:
        self.worker = worker
        self._disk = disk
        self._background = background
        self.shard = worker.shard
        self.config = worker.config
        self.log: AppendLog | None = None
        self.side: SideLog | None = None
        self.progress = (0, 0)
        """While loading: bytes done, bytes in all."""
        self.dump = Loaded()
        """What was loaded from a snapshot."""
        self._rewrite: Rewrite | None = None
        self._walk: Walk | None = None
        self.rewrite_asked = False
        """Whether another rewrite is to begin when the one under way has ended."""
        self._try_again_at_s = 0.0
        """When what has failed, a rewrite or the beginning of a log, may be tried again by itself."""
        self._until_durable: list[tuple[int, Link, int]] = []
        """How far the log has to be on disk for requests that wait for it, with their tickets."""
        self.shard.on_flush.append(self._restart_rewrite)
        self.shard.is_durable = self._is_durable
        self.shard.log_position = self.position
        self._stamped_s = 0
        """The time that was marked last."""

    @property
    def _policy(self) -> Policy:
        return cast(Policy, self.config.appendfsync)

    @property
    def folder(self) -> Path:
        """Where this shard's files are."""
        return Path(self.config.dir) / self.config.appenddirname / f"shard-{self.worker.index}"

    @property
    def dump_path(self) -> Path:
        """Where the snapshot of all shards is."""
        return Path(self.config.dir) / self.config.dbfilename

    # -- loading --------------------------------------------------------------------------------

    def load(self) -> Iterator[None]:
        """Loads what is on disk, in slices, and opens the log for what comes.

        Raises AofDamaged if the files are not what was written, OSError if they cannot be read.
        """
        shard = self.shard
        if not self.config.appendonly:
            if self.dump_path.exists():
                yield from self._load_dump()
            return
        begun_s = clock.monotonic()
        shard.begin_replay()
        side = SideLog(self.folder, shard.transactions.to_keep, self._disk)
        side.load(shard.transactions.recall, accept_torn=self.config.aof_load_truncated)
        loading = load(
            self.folder,
            apply=shard.replay,
            filename=self.config.appendfilename,
            note=partial(recall_commit, shard),
            accept_torn=self.config.aof_load_truncated,
            disk=self._disk,
        )
        while True:
            try:
                self.progress = next(loading)
            except StopIteration as stop:
                loaded = stop.value
                break
            yield
        shard.end_replay()
        if loaded.manifest is None and self.worker.index == 0 and self.dump_path.exists():
            logger.warning(
                "%s is not loaded, because appendonly is yes and there is no append-only file: to begin with"
                " it, start once with appendonly no and then say CONFIG SET appendonly yes, or use shardkv"
                " import",
                self.dump_path,
            )
        self.log = AppendLog.open(
            self.folder,
            loaded,
            fsync=self._policy,
            filename=self.config.appendfilename,
            disk=self._disk,
            background=self._background,
            wake=self.worker.wake,
        )
        self._begin_logging(self.log, side)
        shard.transactions.lock_in_doubt()
        keys = sum(len(db) for db in shard.databases.values())
        logger.info("loaded %d keys in %.2f s", keys, clock.monotonic() - begun_s)

    def _load_dump(self) -> Iterator[None]:
        """Loads this shard's part of the last snapshot. Raises RdbDamaged or OSError."""
        begun_s = clock.monotonic()
        shard, dump = self.shard, self.dump
        shard.begin_replay()
        for _ in load_dump(shard, self.dump_path, self.worker.slot_table, dump, clock.now_ms()):
            self.progress = (dump.done, dump.total)
            yield
        self.progress = (dump.done, dump.total)
        shard.end_replay()
        logger.info(
            "loaded %d keys from %s in %.2f s", dump.keys, self.dump_path, clock.monotonic() - begun_s
        )

    def _begin_logging(self, log: AppendLog, side: SideLog) -> None:
        """Has what the shard does from now on logged."""
        self.log, self.side = log, side
        log.sync_beside = side.sync
        side.fsync_failed = log.fsync_failed
        self.shard.records, self.shard.log_batch = log.records, log.add_batch
        self.shard.transactions.notes = side.notes

    # -- writing --------------------------------------------------------------------------------

    @property
    def broken(self) -> bool:
        """Whether an fsync has failed: then what is on disk is unknown until it is read again."""
        return self.log is not None and self.log.fsync_error is not None

    def commit(self) -> Safe:
        """Writes what the turn has logged; says what of it is as safe as the settings want it. Unless that is
        everything, writes are refused until it works again."""
        log, side = self.log, self.side
        if log is None or side is None:
            return Safe.EVERYTHING
        if self.config.aof_timestamp_enabled and self.shard.now_s != self._stamped_s and log.pending:
            self._stamp(log)
        # The side log comes second: what it says to be carried out has to stand in the log.
        if not log.commit():
            if log.fsync_error is None:
                self.shard.refuse_writes(errors.log_failed(log.error))
            return Safe.NOTHING
        if side.is_urgent and not self._write_side_log(log, side):
            if log.fsync_error is not None:
                return Safe.NOTHING
            self.shard.refuse_writes(errors.log_failed(side.error))
            return Safe.ALL_BUT_PLEDGES
        if self.shard.until_durable or self._until_durable:
            self._tell_durable(log)
        if self.shard.refusal is not self.shard.standing_refusal:
            self.shard.refuse_writes(self.shard.standing_refusal)
        return Safe.EVERYTHING

    def _stamp(self, log: AppendLog) -> None:
        """Marks the time in the log, by which a backup can be restored as it was then."""
        self._stamped_s = self.shard.now_s
        log.add_timestamp(self._stamped_s)

    def position(self) -> list[list[Any]] | None:
        """Which files of the log hold everything up to now: of each its name, number, kind, first checksum,
        size in bytes and last checksum. None if there is no append-only file, or not just now."""
        found = None if self.log is None else self.log.position()
        return None if found is None else [list(astuple(entry)) for entry in found]

    def _is_durable(self) -> bool:
        log = self.log
        if log is None or log.policy == "always":
            return True
        return log.synced == log.written and not log.pending_bytes

    def _tell_durable(self, log: AppendLog) -> None:
        """Answers the requests that wait for what is on disk now."""
        shard = self.shard
        if not log.pending_bytes:
            self._until_durable += [(log.written, *waiting) for waiting in shard.until_durable]
            shard.until_durable = []
        links = self.worker.links.values()
        for written, link, ticket in self._until_durable:
            if written <= log.synced and link in links:
                shard.answer(link, ticket, raw(True))
        self._until_durable = [waiting for waiting in self._until_durable if waiting[0] > log.synced]

    def _write_side_log(self, log: AppendLog, side: SideLog) -> bool:
        """Makes pledges as durable as the log; False if that failed."""
        if not side.write():
            return False
        if log.policy == "everysec":
            log.sync_soon()
        elif log.policy == "always":
            try:
                side.sync()
            except OSError:
                return False
        return True

    def close(self) -> bool:
        """Makes everything durable; False if that failed."""
        if self.log is None or self.side is None:
            return True
        return self.log.close() and self.side.close()

    # -- rewriting ------------------------------------------------------------------------------

    @property
    def rewriting(self) -> bool:
        """Whether a rewrite is under way."""
        return self._rewrite is not None

    def begin_rewrite(self) -> bool:
        """Begins to replace the log by a shorter one that says the same; False if that is being done
        already."""
        if self.log is None or self._rewrite is not None:
            return False
        logger.info("rewriting the append-only file of %d bytes", self.log.current_size)
        self._rewrite = self.log.begin_rewrite()
        if self.config.no_appendfsync_on_rewrite:
            self.log.set_fsync("no")
        return True

    def step(self, budget_s: float) -> None:
        """Carries a rewrite on for about so many seconds."""
        rewrite = self._rewrite
        if rewrite is None:
            return
        if rewrite.stage is Stage.READY:
            self._start_pass(rewrite)
        elif rewrite.stage is Stage.WALKING:
            if rewrite.takes_more and self._walk is not None and self._walk.step(budget_s):
                rewrite.finish()
        elif rewrite.stage in (Stage.DONE, Stage.FAILED):
            self._end_rewrite(rewrite)

    @property
    def wants_slices(self) -> bool:
        """Whether `step` has work to do now, so that the loop should not wait."""
        rewrite = self._rewrite
        return rewrite is not None and (rewrite.takes_more or rewrite.stage is Stage.READY)

    def _start_pass(self, rewrite: Rewrite) -> None:
        if self.shard.transactions.drafts:
            # The pass must not take for data what may yet be undone.
            return
        # The files that are about to be replaced say which pledges were carried out.
        if self.side is not None and self.side.write() and rewrite.start():
            # The new increment is a file of its own, in which no database is selected yet.
            self.shard.start_of_file()
            if self.config.aof_timestamp_enabled and self.log is not None:
                # The base shows this moment; whoever wants an earlier one has to know.
                self._stamp(self.log)
            self._walk = Walk(
                list(self.shard.databases.values()),
                rewrite.write,
                map(record, self.shard.scripts.requests()),
            )

    def _end_rewrite(self, rewrite: Rewrite) -> None:
        assert self.log is not None
        walk, self._walk, self._rewrite = self._walk, None, None
        if self.config.no_appendfsync_on_rewrite:
            self.log.set_fsync(self._policy)
        if walk is not None:
            walk.stop()
        if rewrite.error is not None:
            self._try_again_at_s = clock.monotonic() + _delay_s(self.log.rewrite_failures)
        if rewrite.stage is Stage.DONE:
            keys = walk.keys if walk is not None else 0
            logger.info(
                "rewrote the append-only file: %d keys, %d bytes, %.2f s",
                keys,
                self.log.current_size,
                self.log.last_rewrite_s,
            )
        if self.rewrite_asked:
            self.rewrite_asked = False
            self.begin_rewrite()

    def _restart_rewrite(self) -> None:
        """The keyspace is about to be emptied or swapped, so a pass over it as it was makes no sense any
        more."""
        if self._rewrite is not None and self._walk is not None:
            self._walk.stop()
            self._rewrite.abandon()
            self.rewrite_asked = True

    def cron(self) -> None:
        """Looks, now and then, whether the log has grown so much that it is time to rewrite it, or is to be
        begun at last."""
        log = self.log
        if self._rewrite is not None or clock.monotonic() < self._try_again_at_s:
            return
        if log is None:
            if self.config.appendonly:
                self._begin_anew()
        elif not log.has_increment:
            # The rewrite with which it was to begin has failed.
            self.begin_rewrite()
        elif self.config.auto_aof_rewrite_percentage:
            size, base = log.current_size, max(1, log.base_size)
            grown = (size - base) * 100 // base
            if size >= self.config.auto_aof_rewrite_min_size and (
                grown >= self.config.auto_aof_rewrite_percentage
            ):
                self.begin_rewrite()

    def settings_changed(self, changed: dict[str, Any]) -> None:
        """Settings have been changed while running."""
        if "appendonly" in changed:
            self._switch(on=self.config.appendonly)
        if self.log is not None and "appendfsync" in changed:
            self.log.set_fsync(self._policy)

    def _switch(self, *, on: bool) -> None:
        """Begins to keep a log, with a rewrite of all there is, or ceases to."""
        if self.log is not None:
            if self._walk is not None:
                self._walk.stop()
            self._rewrite = self._walk = None
            self.close()
            self.log = self.side = self.shard.records = self.shard.transactions.notes = None
        self.shard.refuse_writes(self.shard.standing_refusal)
        if on:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """Begins a log for the data there is. If that fails writes are refused, and `cron` tries again."""
        try:
            log = AppendLog.start_over(
                self.folder,
                fsync=self._policy,
                filename=self.config.appendfilename,
                disk=self._disk,
                background=self._background,
                wake=self.worker.wake,
            )
            side = SideLog(self.folder, self.shard.transactions.to_keep, self._disk)
            side.begin_anew()
        except (OSError, AofDamaged) as error:
            if self.shard.refusal is None:
                logger.error("the append-only file cannot be begun, so writes are refused: %s", error)
            self.shard.refuse_writes(errors.log_failed(error))
            self._try_again_at_s = clock.monotonic() + limits.LOG_BEGUN_AGAIN_S
            return
        self._begin_logging(log, side)
        self.shard.start_of_file()
        self.begin_rewrite()


def _delay_s(failures: int) -> float:
    """After how long a rewrite that has failed so often in a row is begun again by itself."""
    if failures < limits.REWRITES_FAILED_AT_ONCE:
        return 0.0
    times = 2.0 ** min(failures - limits.REWRITES_FAILED_AT_ONCE, 16)
    return min(limits.REWRITE_DELAY_S * times, limits.LONGEST_REWRITE_DELAY_S)
