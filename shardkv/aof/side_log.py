"""The side log of a shard: what it has pledged to carry out for transactions that span shards.

It stands beside the append-only file and is short: a pledge is of interest from the moment it is given until
the transaction is carried out on every shard. Each batch (see shardkv.aof.batch) holds one MessagePack list
of notes, lists whose first element says what they are; what they mean is up to the transactions. A line
break ends it, so that no whole file ends in a zero byte.

A pledge is on disk, by the policy of the append-only file, before anybody is told of it. All other notes may
come late: the append-only file says as well what was carried out. Only before a rewrite removes files that
say so do they have to be on disk.

When it has grown, the log goes on in a new file, which begins with the notes that still matter.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from shardkv import limits
from shardkv.aof import batch
from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Disk
from shardkv.aof.file import Batch, BatchFile
from shardkv.aof.manifest import Entry
from shardkv.aof.torn import end_without_zeros, refuse_later_batch
from shardkv.errors import caught

logger = logging.getLogger(__name__)

_NAME: Final = re.compile(r"prepared\.([0-9]+)\.log")
_KIND: Final = "side"
_END: Final = b"\n"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[list[Any]]).decode


class SideLog:
    """The notes of one shard, being appended to.

    Notes are put into `notes` (the list stays the same object); `commit` writes them. `to_keep` gives the
    notes that a new file begins with.
    """

    def __init__(
        self, folder: Path, to_keep: Callable[[], list[list[Any]]], disk: Disk | None = None
    ) -> None:
        self.folder = folder
        self.notes: list[list[Any]] = []
        self.disk = disk or Disk()
        self._to_keep = to_keep
        self._file: BatchFile | None = None
        self._number = 0
        self._unsynced = False
        self.error: OSError | None = None
        """Why the last `write` could not write, else None."""
        self.fsync_failed: Callable[[OSError, Path], None] = lambda error, path: None
        """Called, in any thread, when it is not known any more what is on disk: nothing must rely on it."""

    # -- loading ----------------------------------------------------------------------------------

    def load(self, recall: Callable[[list[Any]], None], *, accept_torn: bool = True) -> None:
        """Gives every note on disk to `recall`, in order, and makes the log ready to be appended to. A torn
        end is cut: nobody was told of it.

        Raises AofDamaged if the log is not what was written, or torn with `accept_torn` False; OSError if it
        cannot be read.
        """
        found = read(self.disk, self.folder, recall, accept_torn=accept_torn)
        if found is None:
            return
        for name in found.newer:
            self.disk.remove(self.folder / name)
        self._number = found.number
        if not found.end:
            self.disk.remove(found.path)
            return
        entry = Entry(found.path.name, found.number, _KIND, found.checksum)
        self._file = BatchFile.reopen(self.disk, self.folder, entry, found.end, found.checksum)
        if found.end < found.size:
            logger.warning("%s: torn at byte %d, %d bytes are cut", found.path, found.end, found.lost)
            self.disk.truncate(self._file.fd, found.end)

    # -- appending --------------------------------------------------------------------------------

    @property
    def is_urgent(self) -> bool:
        """Whether there is something to note that must not wait."""
        notes = self.notes
        return len(notes) > limits.SIDE_LOG_NOTES or any(note[0] == "pledge" for note in notes)

    def write(self) -> bool:
        """Writes what there is to note. False if it cannot be written (`error` says why); then it stays for
        the next time."""
        try:
            self._write()
        except OSError as error:
            if self.error is None:
                logger.error("%s: the side log cannot be written: %s", self.folder, error)
            self.error = caught(error)
            return False
        self.error = None
        return True

    def begin_anew(self) -> None:
        """Forgets what is on disk and begins with the notes that are to be kept. Raises OSError."""
        for number in _numbers(self.disk, self.folder):
            self._number = max(self._number, number)
            self.disk.remove(self._path(number))
        self.notes.clear()
        if self._to_keep():
            self._begin(self._number + 1)

    def _write(self) -> None:
        if not self.notes:
            return
        if self._file is None:
            self._begin(self._number + 1)
            # What is there to note is part of what is kept already.
            self.notes.clear()
        elif self._file.size > limits.SIDE_LOG_BYTES:
            self._go_on_anew()
        if self.notes:
            assert self._file is not None
            count = len(self.notes)
            self._file.append([_batch(self.notes[:count])])
            self._unsynced = True
            del self.notes[:count]

    def sync(self) -> None:
        """Returns when all that was written is on disk. Raises OSError; then it is not known what is.

        May be called in any thread: a file that the log leaves meanwhile is of no interest any more.
        """
        file = self._file
        if file is not None and self._unsynced:
            self._unsynced = False
            try:
                file.sync()
            except OSError as error:
                if self._file is file:
                    self.fsync_failed(caught(error), file.path)
                    raise

    def close(self) -> bool:
        """Makes everything durable; False if that failed."""
        safe = self.write()
        try:
            self.sync()
        except OSError as error:
            logger.critical("%s: fsync of the side log has failed: %s", self.folder, error)
            safe = False
        if self._file is not None:
            self._file.close()
            self._file = None
        return safe

    def _go_on_anew(self) -> None:
        """Goes on in a new file. Until the old one is removed for good it is the one that counts."""
        old, self._file = self._file, None
        assert old is not None
        try:
            self._begin(self._number + 1)
        except OSError:
            self._file = old
            raise
        # What is there to note is part of what is kept already.
        self.notes.clear()
        old.close()
        try:
            self.disk.remove(old.path)
            self.disk.sync_folder(self.folder)
        except OSError as error:
            # The next process would take the old one for the one that counts.
            self.fsync_failed(caught(error), old.path)
            raise

    def _begin(self, number: int) -> None:
        if number == 1:
            self.disk.make_folder(self.folder)
        file = BatchFile.create(self.disk, self.folder, self._path(number).name, number, _KIND)
        kept = self._to_keep()
        if kept:
            file.append([_batch(kept)])
            file.sync()
        try:
            self.disk.sync_folder(self.folder)
        except OSError as error:
            self.fsync_failed(caught(error), self.folder)
            raise
        self._file, self._number = file, number

    def _path(self, number: int) -> Path:
        return self.folder / _file_name(number)


class SideLogFound(NamedTuple):
    """What a folder has of a side log.

    path, number: of the file that counts; newer: names of files that do not; size: of the file, in bytes;
    end, checksum: of its last whole batch, 0 if there is none, for death came while it was being created.
    """

    path: Path
    number: int
    newer: list[str]
    size: int
    end: int
    checksum: int

    @property
    def lost(self) -> int:
        """The bytes of a torn end."""
        return self.size - self.end


def read(
    disk: Disk, folder: Path, recall: Callable[[list[Any]], None], *, accept_torn: bool = True
) -> SideLogFound | None:
    """Gives every note in a folder to `recall`, in order; None if there is no side log. Changes nothing.

    Raises AofDamaged if the log is not what was written, or torn with `accept_torn` False; OSError if it
    cannot be read.
    """
    # If there are two, death came before the older one was removed, and nothing stands in the newer one
    # that is not in it as well.
    numbers = sorted(_numbers(disk, folder))
    if not numbers:
        return None
    number = numbers[0]
    path = folder / _file_name(number)
    fd = disk.open_to_read(path)
    try:
        size = disk.size(fd)
        data = disk.read(fd, size, 0) if size else b""
    finally:
        disk.close(fd)
    end, checksum = _replay(path, data, recall)
    if end < size and not accept_torn:
        raise AofDamaged(path, end, "the file ends within a batch, and the setting aof-load-truncated is no")
    return SideLogFound(path, number, [_file_name(other) for other in numbers[1:]], size, end, checksum)


def _replay(path: Path, data: bytes, recall: Callable[[list[Any]], None]) -> tuple[int, int]:
    """Replays whole batches; returns where they end and the checksum of the last one."""
    view = memoryview(data)
    at, checksum = 0, batch.seed_of(path.name)
    while at < len(data):
        header = batch.parse_header(data, at)
        end = 0 if header is None else at + header.size + header.length
        whole = header is not None and end <= len(data)
        if header is None or not whole or not batch.checksum_matches(view[at:end], checksum, header):
            _refuse_damage(path, data, at, checksum)
            break
        if not at and not header.keys.startswith(batch.FORMAT):
            raise AofDamaged(path, 0, "written in a format that this version does not know")
        if header.length:
            _recall_notes(path, at, view[at + header.size : end - len(_END)], recall)
        at, checksum = end, header.checksum
    return at, checksum


def _recall_notes(path: Path, at: int, notes: memoryview, recall: Callable[[list[Any]], None]) -> None:
    try:
        for note in _decode(notes):
            recall(note)
    except Exception as error:
        raise AofDamaged(path, at, f"a note of the batch that begins here cannot be read: {error}") from error


def _refuse_damage(path: Path, data: bytes, at: int, previous: int) -> None:
    """Raises AofDamaged if the batch at an offset, which is not a good one, is not the torn end of the
    file."""
    end = end_without_zeros(data, at)
    header = batch.parse_header(data, at)
    if header is None:
        if not batch.could_begin_header(data[at : min(end, at + batch.MAX_HEADER_BYTES + 1)]):
            raise AofDamaged(path, at, "not the header of a batch")
        return
    body = at + header.size
    if end >= body + header.length:
        raise AofDamaged(path, at, "the checksum of a batch does not match")
    # It reaches beyond the end of the file. Unless it is whole, but for the length in its header.
    stop = body
    for _ in range(limits.TORN_HEADERS_TRIED):
        found = data.find(batch.MAGIC, stop)
        stop = end if found < 0 else found
        if batch.seal(data[body:stop], previous, header.keys)[1] == header.checksum:
            raise AofDamaged(path, at, "the length in the header of a batch is damaged")
        if found < 0:
            break
        stop += 1
    try:
        refuse_later_batch(path, data, body, header.checksum)
    except AofDamaged as damage:
        raise AofDamaged(path, at, damage.what) from None


def _numbers(disk: Disk, folder: Path) -> list[int]:
    found = (_NAME.fullmatch(name) for name in disk.names(folder))
    return [int(match[1]) for match in found if match is not None]


def _file_name(number: int) -> str:
    return f"prepared.{number}.log"


def _batch(notes: list[list[Any]]) -> Batch:
    return b"", _encode(notes) + _END
