"""The log of a shard, being appended to: group commit, fsync policy, and what happens when the disk fails."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from shardkv import clock, limits
from shardkv.aof import batch
from shardkv.aof.background import Background
from shardkv.aof.disk import Disk
from shardkv.aof.file import Batch, BatchFile
from shardkv.aof.load import LoadResult
from shardkv.aof.manifest import DEFAULT_FILENAME, Entry, Manifest, read_manifest, write_manifest
from shardkv.aof.ready import create, last_checksum, link, make_ready
from shardkv.aof.rewrite import Rewrite

logger = logging.getLogger(__name__)

Policy = Literal["always", "everysec", "no"]


class AppendLog:
    """Where a shard's records go.

    The worker puts encoded records into `records` (the list stays the same object) and calls `commit` before
    the replies of what they record leave. A transaction, MULTI to EXEC, must not be divided by a commit.

    All methods belong to the worker's thread; what is slow is done in threads of `Background`, and `wake` is
    called there whenever they have done something the worker may wait for: an fsync, a step of a rewrite, or
    a failure.

    To be read at any time (sizes in bytes):
    - error: why the last commit could not write, else None.
    - fsync_error: why an fsync has failed. It stays: nothing is known of what was written since the last good
      one, so the shard has to be loaded anew.
    - written, synced: how much has been appended since the log was opened, and how much of that is surely on
      disk.
    - base_size: the log's size after the last rewrite, or the base's if there was none since the start.
    - delayed_fsync: how often a write did not wait any longer for an fsync under way.
    - fsyncs, last_fsync_ms: how many, and how long the last one took.
    - rewrite: the one under way; rewrites: those that are done; rewrite_failures: how many have failed since;
      last_rewrite_ok, last_rewrite_s: of the last one that was done or has failed (-1: none).
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        file: BatchFile | None,
        *,
        fsync: Policy,
        disk: Disk,
        background: Background,
        wake: Callable[[], None],
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.disk = disk
        self.background = background
        self.wake = wake
        self.policy: Policy = fsync
        self.records: list[bytes] = []
        self.error: OSError | None = None
        self.fsync_error: OSError | None = None
        self.written = 0
        self.synced = 0
        self.base_size = manifest.entries[0].size or 0
        self.delayed_fsync = 0
        self.fsyncs = 0
        self.last_fsync_ms = 0.0
        self.rewrite: Rewrite | None = None
        self.rewrites = 0
        self.rewrite_failures = 0
        self.last_rewrite_ok = True
        self.last_rewrite_s = -1.0
        self.sync_beside: Callable[[], None] = lambda: None
        """Fsyncs what else is to last with the log. Called in threads: with each fsync in the background,
        and by a rewrite before it gives up files, for what says what they say has to be on disk then. May
        raise OSError, but has to see to it that `fsync_failed` is called."""
        self._file = file
        # What is to be fsynced, in this order: the increment before, while that is not done, and the current
        # one.
        self._files: tuple[BatchFile | None, BatchFile | None] = (None, file)
        self._earlier_size = 0
        # The last batch in any increment; what the next one has to be linked to.
        self._last: int | None = None
        self._sealed: list[Batch] = []
        self._sync_lock = threading.Lock()
        self._syncing = False
        self._sync_asked = False
        self._waiting_since_s: float | None = None

    # -- beginning and end --------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        folder: Path,
        loaded: LoadResult,
        *,
        fsync: Policy,
        filename: str = DEFAULT_FILENAME,
        disk: Disk | None = None,
        background: Background | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> AppendLog:
        """The log that `load` has just read; made new if there was none. Repairs what was torn and removes
        orphans first. Raises OSError."""
        disk = disk or Disk()
        manifest, file = make_ready(disk, folder, filename, loaded)
        log = cls(
            folder, manifest, file, fsync=fsync, disk=disk, background=background or Background(), wake=wake
        )
        log._go_on_after(manifest.without({file.entry.name}), loaded.ends)
        return log

    @classmethod
    def start_over(
        cls,
        folder: Path,
        *,
        fsync: Policy,
        filename: str = DEFAULT_FILENAME,
        disk: Disk | None = None,
        background: Background | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> AppendLog:
        """A log for a shard whose data did not come from the folder: for turning persistence on.

        It begins with a rewrite, which the caller begins. Until that is done the folder's old state is what
        counts; until its `start`, records are dropped, for the new base will contain what they did. Raises
        OSError, AofDamaged.
        """
        disk = disk or Disk()
        manifest = read_manifest(disk, folder, filename)
        if manifest is None:
            manifest, file = create(disk, folder, filename)
            file.close()
        return cls(
            folder, manifest, None, fsync=fsync, disk=disk, background=background or Background(), wake=wake
        )

    def close(self) -> bool:
        """Writes and fsyncs everything, gives up a rewrite, ends the threads; what `flush` says."""
        if self.rewrite is not None:
            self.rewrite.abandon()
        flushed = self.flush()
        self.background.stop()
        for file in self._files:
            if file is not None:
                file.close()
        return flushed

    # -- appending ----------------------------------------------------------------------------

    def commit(self) -> bool:
        """Makes `records` a batch and writes it; under `always` it is on disk then. True if that is done.

        Under `everysec` a write waits, for `limits.FSYNC_WAIT_S` at most, while an fsync is under way, as in
        Redis; the caller then has to call again soon, records or not, until `pending_bytes` is 0. It does not
        wait if there are batches of their own, for others may rely on those being written.

        False if it could not be written. Nothing torn is left in the file, the records stay where they are
        and the next commit tries again; `error` says why. After an fsync has failed it is False for good.
        """
        if self.fsync_error is not None:
            return False
        if not self.records and not self._sealed:
            return True
        if self._syncing and self.policy == "everysec" and not self._sealed and self._waits_for_fsync():
            return True
        return self._write()

    def flush(self) -> bool:
        """Writes and fsyncs everything, whatever the policy; False if that failed."""
        if self.fsync_error is not None or not self._write():
            return False
        self.sync()
        return self.fsync_error is None

    def add_batch(self, records: list[bytes], keys: bytes) -> None:
        """Gives records a batch of their own, after those that were put into `records` before.

        The header will have `keys`, words of the form `key=value` with spaces between, at most 58 bytes;
        `load` gives them to its `note`. If the batch is torn by a crash none of its records is kept. There
        may be no records. Raises ValueError for keys that are malformed.
        """
        if not batch.fits_header(keys):
            raise ValueError(f"not the keys of a batch: {keys!r}")
        self._seal_records()
        self._sealed.append((keys, b"".join(records)))

    def add_timestamp(self, now_s: int) -> None:
        """Marks the time of all records that are not written yet, and of those to come, as Redis does, with
        `#TS:`, by which redis-check-aof can cut."""
        # What links an increment to the one before is always the first that is written to it.
        place = int(bool(self._sealed) and self._sealed[0][0].startswith(batch.LINK))
        self._sealed.insert(place, (batch.ANNOTATION, b"#TS:%d\r\n" % now_s))

    def position(self) -> tuple[Entry, ...] | None:
        """Writes what is pending, and says which files hold everything up to now, each with its size. None if
        there is no such state on disk: it cannot be written, or the log is only being begun."""
        current = self._file
        if self.fsync_error is not None or current is None or not self._write():
            return None
        previous = self._files[0]
        found: list[Entry] = []
        for entry in self.manifest.entries:
            if entry.name == current.entry.name:
                return (*found, current.closed_entry())
            if previous is not None and entry.name == previous.entry.name:
                entry = previous.closed_entry()
            if entry.is_open:
                return None
            found.append(entry)
        return None

    @property
    def pending(self) -> bool:
        """Whether there is anything that is not written yet."""
        return bool(self.records or self._sealed)

    @property
    def pending_bytes(self) -> int:
        """Records that are not written yet."""
        return sum(map(len, self.records)) + sum(len(body) for _, body in self._sealed)

    @property
    def pending_fsync(self) -> bool:
        """Whether an fsync in the background is asked for or under way."""
        return self._sync_asked or self._syncing

    @property
    def current_size(self) -> int:
        """The size of all files of the log."""
        return self._earlier_size + (self._file.size if self._file is not None else 0)

    def _go_on_after(self, earlier: Manifest, ends: dict[str, tuple[int, int]]) -> None:
        self._earlier_size = sum(entry.size or ends[entry.name][0] for entry in earlier.entries)
        self._last = last_checksum(earlier, ends)
        if self._last is not None and self._file is not None and self._file.has_only_its_first_batch:
            self._sealed.append(link(self._last))

    def _seal_records(self) -> None:
        if self.records:
            self._sealed.append((b"", b"".join(self.records)))
            self.records.clear()

    def _write(self) -> bool:
        file, records = self._file, self.records
        if file is None:
            records.clear()
            self._sealed.clear()
            return True
        batches = self._sealed
        if records:
            batches = [*batches, (b"", b"".join(records))]
        if batches:
            try:
                self.written += file.append(batches)
            except OSError as error:
                self._write_failed(error)
                return False
            records.clear()
            if self._sealed:
                self._sealed.clear()
            self._waiting_since_s = None
            if self.error is not None:
                logger.warning("%s: appending works again", file.path)
                self.error = None
        if self.policy == "always":
            return self._sync_now(file)
        if self.policy == "everysec":
            self.sync_soon()
        return True

    def _write_failed(self, error: OSError) -> None:
        if self.error is None or self.error.errno != error.errno:
            assert self._file is not None
            logger.error("%s: cannot append, so writes are refused: %s", self._file.path, error)
        self.error = error

    def _waits_for_fsync(self) -> bool:
        now_s = clock.monotonic()
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        if now_s - self._waiting_since_s < limits.FSYNC_WAIT_S:
            return True
        self.delayed_fsync += 1
        return False

    # -- fsync --------------------------------------------------------------------------------

    def set_fsync(self, policy: Policy) -> None:
        """Changes the policy. To `always`: returns when what was written before is on disk."""
        self.policy = policy
        if policy == "always":
            self.sync()
        elif policy == "everysec" and self.synced < self.written:
            self.background.sync_later(self._sync_in_background)

    def sync(self) -> None:
        """Fsyncs what was written; sets `fsync_error` if that fails."""
        with self._sync_lock:
            if self.fsync_error is not None:
                return
            # Read first: what is written from here on may or may not be in the files that are synced.
            written = self.written
            for file in self._files:
                if file is not None and not self._sync_file(file):
                    return
            self.synced = max(self.synced, written)

    def sync_soon(self) -> None:
        """Has a thread fsync what was written, soon."""
        if not self._sync_asked:
            self._sync_asked = True
            self.background.sync_later(self._sync_in_background)

    def _sync_in_background(self) -> None:
        self._sync_asked = False
        if self.policy != "everysec":
            return
        self._syncing = True
        try:
            self.sync()
            self.sync_beside()
        except OSError:
            pass  # fsync_failed has been called
        finally:
            self._syncing = False
        self.wake()

    def _sync_now(self, file: BatchFile) -> bool:
        """For `always`. What stands in an earlier file is on disk already, so the current one is enough."""
        if self.synced == self.written:
            return True
        if not self._sync_file(file):
            return False
        self.synced = self.written
        return True

    def _sync_file(self, file: BatchFile) -> bool:
        begun_s = clock.monotonic()
        try:
            file.sync()
        except OSError as error:
            self.fsync_failed(error, file.path)
            return False
        self.fsyncs += 1
        self.last_fsync_ms = (clock.monotonic() - begun_s) * 1000
        return True

    def fsync_failed(self, error: OSError, path: Path) -> None:
        """From here on nothing is written any more. May be called in any thread."""
        logger.critical("%s: fsync has failed, so it is not known what is on disk: %s", path, error)
        self.fsync_error = error
        self.wake()

    # -- rewrite ------------------------------------------------------------------------------

    def begin_rewrite(self) -> Rewrite:
        """Begins to replace the log by a shorter one; see `Rewrite`. Raises RuntimeError if that is being
        done."""
        if self.rewrite is not None:
            raise RuntimeError("a rewrite is under way")
        rewrite = self.rewrite = Rewrite(self)
        rewrite.begin()
        return rewrite

    @property
    def has_increment(self) -> bool:
        """Whether records are being appended: not between `start_over` and the start of its rewrite."""
        return self._file is not None

    def switch_to(self, increment: BatchFile) -> bool:
        """For the rewrite: from here on appends to another increment. False if what is pending cannot be
        written to the old one, with nothing changed."""
        if self.fsync_error is not None or not self._write():
            return False
        previous = self._file
        if previous is not None:
            self._earlier_size += previous.size
            if not previous.has_only_its_first_batch:
                self._last = previous.checksum
        if self._last is not None:
            self._sealed.append(link(self._last))
        # The rewrite before has settled its own previous increment, even if it was abandoned.
        assert self._files[0] is None
        self._files = (previous, increment)
        self._file = increment
        return True

    def settle_previous(self) -> Entry | None:
        """For the rewrite: fsyncs and closes the increment before, whose size is known then; None if there is
        none.

        Raises OSError if that fails; `fsync_error` is set then.
        """
        with self._sync_lock:
            previous, increment = self._files
            if previous is None:
                return None
            if not self._sync_file(previous):
                raise OSError(f"{previous.path}: fsync has failed")
            self._files = (None, increment)
            previous.close()
            return previous.closed_entry()

    def rewrite_done(self, base_size: int, seconds: float) -> None:
        """For the rewrite: the log now consists of the base and the current increment."""
        self._earlier_size = base_size
        self.base_size = self.current_size
        self.rewrites += 1
        self.rewrite_failures = 0
        self.last_rewrite_ok = True
        self.last_rewrite_s = seconds
        self.rewrite = None

    def rewrite_over(self, *, failed: bool, seconds: float) -> None:
        """For the rewrite: it has failed, or was abandoned, which counts as nothing."""
        if failed:
            self.rewrite_failures += 1
            self.last_rewrite_ok = False
            self.last_rewrite_s = seconds
        self.rewrite = None

    def publish(self, manifest: Manifest) -> None:
        """Puts a manifest in the place of the old one, to last. Raises OSError if the old one still
        counts."""
        write_manifest(self.disk, self.folder, manifest)
        self.manifest = manifest
        try:
            self.disk.sync_folder(self.folder)
        except OSError as error:
            self.fsync_failed(error, self.folder)
            raise
