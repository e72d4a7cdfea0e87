"""Opening what a word of the command line names as a source of data."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from proxy.offline import lock
from proxy.transfer import data_folder, full_sync, redis_aof
from proxy.transfer.connection import TransferError, is_address, parse_address
from proxy.transfer.screen import Bar
from proxy.transfer.sources import ScanSource, ShardSource, Source, mapped
from shardkv.aof.batch import AofDamaged
from shardkv.config_file import ConfigError
from shardkv.rdb.file_reader import FileReader, RdbDamaged, version_of
from shardkv.settings import Config
from shardkv.slotmap import SlotMapError

logger = logging.getLogger("proxy.transfer")

INCOMPLETE = 3
"""The exit code where something was left out."""

FAILURES = (TransferError, RdbDamaged, AofDamaged, SlotMapError, ConfigError, OSError)
"""What ends a transfer, with exit code 1."""


@contextmanager
def opened(
    text: str, config: Config, progress: Bar, *, scan: bool | None
) -> Iterator[tuple[Source, list[str]]]:
    """The source that a word of the command line names, and what was passed over already.

    scan   whether the keys of a server are read one by one; None if only where there is no full sync

    Raises any of FAILURES.
    """
    if is_address(text):
        with _opened_server(text, progress, scan=scan) as source:
            yield source, []
        return
    path = Path(text)
    if path.is_dir():
        inner = path / config.appenddirname
        path = inner if inner.is_dir() else path
        if data_folder.is_data_folder(path):
            progress.step("loading")
            lock_fd = lock(path)
            try:
                yield data_folder.open_folder(path, config, progress.report), []
            finally:
                os.close(lock_fd)
            return
        manifest = redis_aof.manifest_in(path)
        if manifest is None:
            raise TransferError(f"there is no append-only file in {path}: no manifest")
        with _replayed(redis_aof.files_of(manifest), config, progress) as found:
            yield found
        return
    data = mapped(path)
    if version_of(data) is not None:
        progress.step("checking")
        reader = FileReader(data, path, goes_on=True)
        if reader.end is None or reader.end == reader.total:
            yield reader, []
            return
    with _replayed([path], config, progress) as found:
        yield found


@contextmanager
def _replayed(paths: list[Path], config: Config, progress: Bar) -> Iterator[tuple[Source, list[str]]]:
    progress.step("carrying out", sum(path.stat().st_size for path in paths))
    replay = redis_aof.Replay(config, progress.report)
    replay.run(paths)
    yield ShardSource([replay.shard], 1), replay.notes


@contextmanager
def _opened_server(text: str, progress: Bar, *, scan: bool | None) -> Iterator[Source]:
    address = parse_address(text)
    if not scan:
        with tempfile.TemporaryDirectory(prefix="shardkv-") as folder:
            path = Path(folder, "sync.rdb")
            progress.step("receiving")
            try:
                full_sync.fetch(address, path, progress.report)
            except full_sync.SyncRefused as refusal:
                if scan is not None:
                    raise TransferError(
                        f"{address} gives no full sync ({refusal}), and without one its keys would not be"
                        " those of one moment; --scan takes them nevertheless"
                    ) from None
                logger.warning("%s gives no full sync (%s): reading its keys one by one", address, refusal)
            else:
                yield FileReader(mapped(path), path)
                return
    with closing(ScanSource(address)) as source:
        yield source


def only_db(text: str) -> int | None:
    """The database that the URL of a source names."""
    return parse_address(text).db if is_address(text) else None
