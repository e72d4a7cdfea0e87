"""Putting keys into a new data folder, which no server runs on, faster than any server could take them in.

Every shard gets a log of which the base holds everything, just as after a rewrite. All of them are made in a
folder beside, which gets its name when it is complete: whatever dies before, nothing has happened.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from proxy.offline import lock
from proxy.supervisor import data_folder
from proxy.transfer.connection import TransferError
from proxy.transfer.sources import Source
from shardkv import limits, slotmap, slots
from shardkv.aof.disk import Disk
from shardkv.aof.file import BatchFile
from shardkv.aof.ready import begin, create_with
from shardkv.aof.record import START_OF_FILE, record
from shardkv.errors import CommandError
from shardkv.rdb.file_reader import Key
from shardkv.scripts import Scripts
from shardkv.settings import Config
from shardkv.slots import slot_of
from shardkv.values import recreate


class NewFolder:
    """The data folder to be, as the settings say. Nobody else uses it until `close`.

    shards, slot_table   of the folder
    lock_fd              keeps others from filling it; a process that writes into it has to hold it too
    """

    def __init__(self, config: Config) -> None:
        """Raises TransferError if there is data in it already, SlotMapError, OSError."""
        self.config = config
        self.final = data_folder(config)
        self.temporary = self.final.with_name(f"{self.final.name}.importing")
        self._replaced = self.final.with_name(f"{self.final.name}.replaced")
        self._lock_fds: list[int] = []
        self.lock_fd = -1
        try:
            if self.final.exists():
                self._lock_fds.append(lock(self.final))
            if slotmap.holds_data(self.final):
                raise TransferError(f"there is data in {self.final} already; import it into a running server")
            self.temporary.mkdir(parents=True, exist_ok=True)
            self.lock_fd = lock(self.temporary)
            self._lock_fds.append(self.lock_fd)
            self._clear()
            there = self.final / slotmap.FILE_NAME
            if there.exists() and not config.workers:
                shutil.copy(there, self.temporary)
            layout = slotmap.open_slot_map(self.temporary, config.workers, config.colocate)
            self.shards, self.slot_table = layout.shards, layout.table
        except BaseException:
            self.close()
            raise
        slots.colocate(config.colocate)

    def close(self) -> None:
        """Gives the folder free; unless it was finished, what was made of it is removed."""
        if self.lock_fd >= 0:
            shutil.rmtree(self.temporary, ignore_errors=True)
        for fd in self._lock_fds:
            os.close(fd)

    def _clear(self) -> None:
        """Removes what an import that was cut short has left."""
        for path in self.temporary.glob("shard-*"):
            shutil.rmtree(path)
        (self.temporary / slotmap.FILE_NAME).unlink(missing_ok=True)

    def write(self, shards: Sequence[int], copy: Callable[[Logs], None]) -> None:
        """Makes the logs of some shards; `copy` puts into them what belongs there. Raises OSError."""
        write_logs(self.temporary, shards, self.slot_table, self.config, copy)

    def finish(self) -> None:
        """Everything was written: from now on it counts. Raises OSError."""
        disk = Disk()
        disk.sync_folder(self.temporary)
        if self.final.exists():
            # What a server has made that never got any data.
            shutil.rmtree(self._replaced, ignore_errors=True)
            os.rename(self.final, self._replaced)
        os.rename(self.temporary, self.final)
        disk.sync_folder(self.final.parent)
        shutil.rmtree(self._replaced, ignore_errors=True)


def write_logs(
    folder: Path, shards: Sequence[int], slot_table: list[int], config: Config, copy: Callable[[Logs], None]
) -> None:
    """Makes the logs of some shards in a new data folder; `copy` puts into them what belongs there. Raises
    OSError."""
    disk, filename = Disk(), config.appendfilename
    folders = {shard: folder / f"shard-{shard}" for shard in shards}
    bases = {shard: begin(disk, own, filename) for shard, own in folders.items()}
    logs = Logs(config, slot_table, bases)
    copy(logs)
    logs.finish()
    for shard, own in folders.items():
        _, increment = create_with(disk, own, filename, bases[shard])
        increment.close()


class Logs:
    """The logs of some shards, being filled: a sink."""

    def __init__(self, config: Config, slot_table: list[int], bases: dict[int, BatchFile]) -> None:
        self._config = config
        self._slot_table = slot_table
        self._logs = {shard: _Log(base) for shard, base in bases.items()}
        self._log: _Log | None = None
        """Of the key that was asked about last."""
        self._scripts = Scripts()

    def owns(self, key: bytes) -> bool:
        """Whether a key belongs to one of the shards."""
        self._log = self._logs.get(self._slot_table[slot_of(key)])
        return self._log is not None

    def put(self, key: Key, source: Source) -> None:
        """Puts a key. Raises ValueRefused, OSError."""
        value = source.value(self._config)
        log = self._log
        assert log is not None
        name, db = key.key, key.db
        for request in recreate(name, value, key.expire_at_ms):
            log.add(db, request)

    def function(self, code: bytes) -> None:
        """Puts a library, if it is one: else no server could start with it. Raises TransferError."""
        try:
            self._scripts.load_library(code, replace=False)
        except CommandError as error:
            raise TransferError(f"a library of functions: {error.text.decode(errors='replace')}") from None
        for log in self._logs.values():
            log.add(0, [b"FUNCTION", b"LOAD", code])

    def finish(self) -> None:
        """Makes everything durable. Raises OSError."""
        for log in self._logs.values():
            log.finish()


class _Log:
    """The base of one shard's log."""

    def __init__(self, base: BatchFile) -> None:
        self._base = base
        self._records: list[bytes] = []
        self._bytes = 0
        self._unsynced_bytes = 0
        self._selected = START_OF_FILE

    def add(self, db: int, request: list[bytes]) -> None:
        """Adds a request for a database."""
        if db != self._selected:
            self._records.append(record([b"SELECT", b"%d" % db]))
            self._selected = db
        encoded = record(request)
        self._records.append(encoded)
        self._bytes += len(encoded)
        if self._bytes >= limits.TRANSFER_BATCH_BYTES:
            self._write()

    def finish(self) -> None:
        if self._records:
            self._write()
        self._base.sync()

    def _write(self) -> None:
        self._base.append([(b"", b"".join(self._records))])
        self._records.clear()
        self._unsynced_bytes += self._bytes
        self._bytes = 0
        if self._unsynced_bytes >= limits.REWRITE_FSYNC_BYTES:
            self._base.sync()
            self._unsynced_bytes = 0
