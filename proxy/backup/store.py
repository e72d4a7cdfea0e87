"""What a backup is on disk:

    DEST/backup.json          the points, and a checksum: the one truth of what is in the backup
    DEST/shard-0/…base.aof    files as the shard had them, as far as any point needs them

`backup.json` is replaced as a whole, when all that it names is on disk and was read again. Until there is one
the backup is incomplete, and nothing restores it; a later point that was cut short leaves the earlier ones.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
from xxhash import xxh3_64_intdigest

from proxy.transfer.connection import TransferError
from shardkv.aof.disk import Disk
from shardkv.aof.manifest import Entry, Manifest
from shardkv.slotmap import SlotMap

FILE_NAME = "backup.json"
_TEMPORARY = FILE_NAME + ".new"
_FORMAT = 1
_MARK = b"#shardkv "

Row = tuple[str, int, str, int, int, int]
"""An entry of a manifest: name, number, kind, first checksum, size in bytes, last checksum."""


class Point(msgspec.Struct):
    """One moment over all shards of a server, in ms since 1970.

    filename   what the names of its append-only files begin with
    shards     the files of each, in order
    """

    at_ms: int
    run_id: str
    filename: str
    slots: SlotMap
    shards: list[list[Row]]

    def manifest(self, shard: int) -> Manifest:
        """The files of one shard."""
        return Manifest(self.filename, tuple(Entry(*row) for row in self.shards[shard]))


class Told(msgspec.Struct):
    """What the command BACKUP tells: the point, and the folder of the shards' folders."""

    folder: str
    point: Point


class _Content(msgspec.Struct):
    format: int
    points: list[Point]


class Backup:
    """A backup's folder. `points` are in the order of their time; none if it is incomplete."""

    def __init__(self, folder: Path) -> None:
        """Raises TransferError if the file that names the points is damaged, OSError."""
        self.folder = folder
        self.points: list[Point] = []
        path = folder / FILE_NAME
        if path.exists():
            self.points = _decode(path.read_bytes(), path).points

    def shard_folder(self, shard: int) -> Path:
        return self.folder / f"shard-{shard}"

    def known(self, shard: int) -> dict[str, Entry]:
        """The files of one shard that some point needs, each as far as the last one does."""
        found: dict[str, Entry] = {}
        for point in self.points:
            if shard < len(point.shards):
                for entry in point.manifest(shard).entries:
                    found[entry.name] = entry
        return found

    def last(self) -> Point:
        """Raises TransferError if there is none."""
        if not self.points:
            raise TransferError(f"{self.folder}: not a complete backup: there is no {FILE_NAME}")
        return self.points[-1]

    def add(self, point: Point) -> None:
        """From now on the point counts; what it names is on disk. Raises OSError."""
        points = [*self.points, point]
        disk = Disk()
        temporary = self.folder / _TEMPORARY
        fd = disk.create(temporary)
        try:
            content = _encode(_Content(_FORMAT, points))
            if disk.write(fd, [content]) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
            disk.sync(fd)
        finally:
            disk.close(fd)
        disk.rename(temporary, self.folder / FILE_NAME)
        disk.sync_folder(self.folder)
        self.points = points


def _encode(content: _Content) -> bytes:
    text = msgspec.json.format(msgspec.json.encode(content)) + b"\n"
    return b"%b%b%016x\n" % (text, _MARK, xxh3_64_intdigest(text))


def _decode(data: bytes, path: Path) -> _Content:
    text, mark, checksum = data.rpartition(_MARK)
    if not mark or checksum != b"%016x\n" % xxh3_64_intdigest(text):
        raise TransferError(f"{path}: the checksum does not match what is in it")
    try:
        content = msgspec.json.decode(text, type=_Content)
    except msgspec.DecodeError as error:
        raise TransferError(f"{path}: {error}") from None
    if content.format != _FORMAT:
        raise TransferError(f"{path}: format {content.format} is not known")
    return content
