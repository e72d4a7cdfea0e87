"""Makes a shard's folder ready to be appended to, after its log has been loaded.

Creates the log's files where there are none, repairs what loading has found torn, and removes files that no
manifest names. After a death at any point of this, loading finds the same records again.
"""

from __future__ import annotations

import logging
from pathlib import Path

from shardkv.aof import batch
from shardkv.aof.disk import Disk
from shardkv.aof.file import Batch, BatchFile
from shardkv.aof.load import LoadResult
from shardkv.aof.manifest import BASE, INCREMENT, Manifest, is_file_of_log, write_manifest
from shardkv.aof.torn import Torn

logger = logging.getLogger(__name__)


def make_ready(disk: Disk, folder: Path, filename: str, loaded: LoadResult) -> tuple[Manifest, BatchFile]:
    """The manifest as it is then on disk, and the increment to append to; what is in it is on disk.

    Raises OSError; then the folder can be loaded again.
    """
    if loaded.manifest is None:
        manifest, increment = create(disk, folder, filename)
    else:
        manifest, increment = _repair(disk, folder, loaded.manifest, loaded)
    remove_orphans(disk, folder, manifest)
    return manifest, increment


def create(disk: Disk, folder: Path, filename: str) -> tuple[Manifest, BatchFile]:
    """An empty log: a base and an increment without records."""
    return create_with(disk, folder, filename, begin(disk, folder, filename))


def begin(disk: Disk, folder: Path, filename: str) -> BatchFile:
    """The base of a new log, into which records can be put before `create_with` makes the log."""
    disk.make_folder(folder)
    return BatchFile.create(disk, folder, *Manifest(filename, ()).next_name(BASE), BASE)


def create_with(disk: Disk, folder: Path, filename: str, base: BatchFile) -> tuple[Manifest, BatchFile]:
    """A log of that base, which is on disk and is closed here, and an increment without records."""
    base.close()
    empty = Manifest(filename, ())
    increment = BatchFile.create(disk, folder, *empty.next_name(INCREMENT), INCREMENT)
    disk.sync_folder(folder)
    manifest = Manifest(filename, (base.closed_entry(), increment.entry))
    _publish(disk, folder, manifest)
    return manifest, increment


def link(after: int) -> Batch:
    """The batch that begins an increment, after the one whose last batch has this checksum."""
    return batch.LINK + b"%016x" % after, b""


def last_checksum(manifest: Manifest, ends: dict[str, tuple[int, int]]) -> int | None:
    """What a further increment is to be linked to: the last batch of the last one that has any."""
    for entry in reversed(manifest.increments):
        _, checksum = ends[entry.name]
        if checksum != entry.first:
            return checksum
    return None


def remove_orphans(disk: Disk, folder: Path, manifest: Manifest) -> None:
    """Removes what rewrites that were cut short have left. Raises OSError."""
    # The manifest may have been renamed into its place just before a death; only when that is on disk can
    # nothing bring the old one back, which may name what is an orphan now.
    disk.sync_folder(folder)
    for name in sorted(disk.names(folder)):
        if is_file_of_log(manifest.filename, name) and name not in manifest.names:
            logger.info("%s: removed, left by a rewrite that was cut short", folder / name)
            disk.remove(folder / name)


def _repair(disk: Disk, folder: Path, manifest: Manifest, loaded: LoadResult) -> tuple[Manifest, BatchFile]:
    for name, size in loaded.longer.items():
        _cut(disk, folder / name, size)
    torn = loaded.torn
    if torn is not None and (torn.records or loaded.dropped):
        manifest, increment = _go_on_after(disk, folder, manifest, torn, loaded)
    else:
        if torn is not None:
            _cut(disk, folder / torn.name, torn.offset)
        entry = manifest.entries[-1]
        increment = BatchFile.reopen(disk, folder, entry, *loaded.ends[entry.name])
        increment.sync()
    return _close_earlier(disk, folder, manifest, increment, loaded), increment


def _go_on_after(
    disk: Disk, folder: Path, manifest: Manifest, torn: Torn, loaded: LoadResult
) -> tuple[Manifest, BatchFile]:
    """Puts what can be kept of a torn batch into a further increment, then cuts the torn file.

    If death comes between, the manifest names the size to which the file has to be cut.
    """
    _sync(disk, folder / torn.name)
    # Its number is free also of those that are dropped: they count until the manifest is changed.
    increment = BatchFile.create(disk, folder, *manifest.next_name(INCREMENT), INCREMENT)
    manifest = manifest.without(loaded.dropped)
    after = last_checksum(manifest, loaded.ends)
    if after is not None:
        increment.append([link(after)])
    if torn.records:
        increment.append([(b"", torn.records)])
    increment.sync()
    disk.sync_folder(folder)
    entry = next(e for e in manifest.entries if e.name == torn.name)
    manifest = manifest.with_entry(entry.closed(torn.offset, torn.checksum)).with_entry(increment.entry)
    _publish(disk, folder, manifest)
    _cut(disk, folder / torn.name, torn.offset)
    return manifest, increment


def _close_earlier(
    disk: Disk, folder: Path, manifest: Manifest, increment: BatchFile, loaded: LoadResult
) -> Manifest:
    """Names the sizes of increments that death has left open before the last. That can wait if the disk is
    full: each is linked to the next one anyway."""
    closed = manifest
    for entry in manifest.increments:
        if entry.is_open and entry.name != increment.entry.name:
            earlier = BatchFile.reopen(disk, folder, entry, *loaded.ends[entry.name])
            earlier.sync()
            earlier.close()
            closed = closed.with_entry(earlier.closed_entry())
    if closed == manifest:
        return manifest
    try:
        write_manifest(disk, folder, closed)
    except OSError as error:
        logger.warning("%s: the manifest cannot be written yet: %s", folder, error)
        return manifest
    disk.sync_folder(folder)
    return closed


def _publish(disk: Disk, folder: Path, manifest: Manifest) -> None:
    write_manifest(disk, folder, manifest)
    disk.sync_folder(folder)


def _sync(disk: Disk, path: Path) -> None:
    fd = disk.open_to_append(path)
    try:
        disk.sync(fd)
    finally:
        disk.close(fd)


def _cut(disk: Disk, path: Path, size: int) -> None:
    fd = disk.open_to_append(path)
    try:
        disk.truncate(fd, size)
        disk.sync(fd)
    finally:
        disk.close(fd)
