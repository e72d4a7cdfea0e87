"""Adding a point to a backup, from a running server on this host.

The server names one moment over all its shards (the command BACKUP), at which each shard's files have some
size. The files are opened at once, so that a rewrite that is done meanwhile takes nothing away, and what the
backup does not have of them yet is copied, fsynced, and read again.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from proxy.backup.store import Backup, Point, Told
from proxy.transfer.connection import Address, Connection, TransferError
from shardkv import limits
from shardkv.aof.disk import Disk
from shardkv.aof.manifest import Entry
from shardkv.aof.scan import scan

_NICE = 5
"""The server comes first."""


@dataclass
class Copied:
    """What was copied: files that are new in the backup or have grown, and bytes; and how much they hold
    altogether."""

    files: int = 0
    size: int = 0
    total: int = 0


@dataclass(frozen=True)
class _Piece:
    """A part of a file that has to be copied.

    fd        the server's file, open
    path      where it goes
    known     the entry of what the backup has of it, if it has anything
    """

    fd: int
    path: Path
    entry: Entry
    known: Entry | None

    @property
    def start(self) -> int:
        return 0 if self.known is None else _size(self.known)


def take(
    backup: Backup, address: Address, report: Callable[[float, float], None], folder: Path | None = None
) -> tuple[Point, Copied]:
    """Adds a point to a backup, whose lock the caller holds; returns it, and what was copied.

    report   is told how many bytes are copied, and of how many
    folder   where the server's append-only files are seen from here, if not where the server says

    Raises TransferError, AofDamaged, OSError; then the backup has the points that it had.
    """
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    disk = Disk()
    with ExitStack() as stack:
        point, pieces = _opened(backup, address, folder, stack)
        for shard in range(len(point.shards)):
            disk.make_folder(backup.shard_folder(shard))
        total = sum(_size(piece.entry) - piece.start for piece in pieces)
        copied = Copied(
            total=sum(_size(entry) for s in range(len(point.shards)) for entry in _entries(point, s))
        )
        for piece in pieces:
            done = copied.size
            for count in _copy(disk, piece):
                report(done + count, total)
            copied.size += _size(piece.entry) - piece.start
            copied.files += 1
        for shard in range(len(point.shards)):
            disk.sync_folder(backup.shard_folder(shard))
        for piece in pieces:
            _check(disk, piece)
        backup.add(point)
    return point, copied


def _opened(
    backup: Backup, address: Address, folder: Path | None, stack: ExitStack
) -> tuple[Point, list[_Piece]]:
    """The point, and what is to be copied for it, with the server's files open."""
    for _ in range(limits.BACKUP_TRIES):
        told = _ask(address)
        source = folder or Path(told.folder)
        if not source.is_dir():
            raise TransferError(
                f"{source}, the folder of the server's append-only files, is not to be seen here: a backup is"
                " taken on the server's host"
            )
        try:
            with ExitStack() as files:
                pieces = [
                    piece
                    for shard in range(len(told.point.shards))
                    for piece in _pieces(backup, told.point, shard, source / f"shard-{shard}", files)
                ]
                stack.push(files.pop_all())
                return told.point, pieces
        except FileNotFoundError:
            # A rewrite has just replaced it.
            continue
    raise TransferError(f"{address}: its files are replaced faster than they can be opened")


def _ask(address: Address) -> Told:
    with Connection(address) as connection:
        reply = connection.ask("BACKUP")
    try:
        return msgspec.json.decode(reply, type=Told)
    except (msgspec.DecodeError, TypeError) as error:
        raise TransferError(f"{address}: no answer to BACKUP that is understood: {error}") from None


def _pieces(backup: Backup, point: Point, shard: int, folder: Path, files: ExitStack) -> Iterator[_Piece]:
    known = backup.known(shard)
    for entry in _entries(point, shard):
        before = known.get(entry.name)
        if before is not None:
            if before.first != entry.first or _size(before) > _size(entry):
                raise TransferError(
                    f"{backup.folder}: {entry.name} of shard {shard} is another one: this is the backup of"
                    " another server, or of one that was restored since; begin a new one"
                )
            if before == entry:
                continue
        fd = os.open(folder / entry.name, os.O_RDONLY | os.O_CLOEXEC)
        files.callback(os.close, fd)
        yield _Piece(fd, backup.shard_folder(shard) / entry.name, entry, before)


def _entries(point: Point, shard: int) -> tuple[Entry, ...]:
    return point.manifest(shard).entries


def _size(entry: Entry) -> int:
    assert entry.size is not None
    return entry.size


def _copy(disk: Disk, piece: _Piece) -> Iterator[int]:
    """Copies a piece, and makes it last; yields how many bytes are done. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
    target = os.open(piece.path, flags, 0o600)
    try:
        # What a backup that was cut short has left behind what counts.
        os.ftruncate(target, piece.start)
        at, end, unsynced = piece.start, _size(piece.entry), 0
        while at < end:
            chunk = os.pread(piece.fd, min(limits.BACKUP_CHUNK_BYTES, end - at), at)
            if not chunk:
                raise OSError(
                    errno.EIO, f"the file ended after {at} bytes while it was copied", str(piece.path)
                )
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.pwrite(target, rest, at + len(chunk) - len(rest)) :]
            at += len(chunk)
            unsynced += len(chunk)
            if unsynced >= limits.SNAPSHOT_FSYNC_BYTES:
                disk.sync(target)
                unsynced = 0
            yield at - piece.start
        disk.sync(target)
        # So that it is the disk that is read again.
        os.posix_fadvise(target, piece.start, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(target)


def _check(disk: Disk, piece: _Piece) -> None:
    """Reads what was copied again. Raises AofDamaged, naming the place."""
    entry, known = piece.entry, piece.known
    last = None if known is None else known.last
    for found in scan(disk, piece.path, _size(entry), start=piece.start, checksum=last):
        last = found.checksum
        if not found.start and last != entry.first:
            raise TransferError(f"{piece.path}: not the file that the server has named")
    if last != entry.last:
        raise TransferError(f"{piece.path}: it does not end with the batch that the server has named")
