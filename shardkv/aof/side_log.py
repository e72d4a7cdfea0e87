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
from typing import Any, Final

import msgspec

from shardkv import limits
from shardkv.aof import batch
from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Disk
from shardkv.aof.file import Batch, BatchFile
from shardkv.aof.manifest import Entry
from shardkv.aof.torn import ends_in_zeros
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

    # -- loading ----------------------------------------------------------------------------------

    def load(self, recall: Callable[[list[Any]], None]) -> None:
        """Gives every note on disk to `recall`, in order. A torn end is cut: nobody was told of it.

        Raises AofDamaged if the log is not what was written, OSError if it cannot be read.
        """
        numbers = sorted(self._numbers())
        if not numbers:
            return
        # If there are two, death came before the older one was removed, and nothing stands in the newer one
        # that is not in it as well.
        for number in numbers[1:]:
            self.disk.remove(self._path(number))
        self._number = numbers[0]
        path = self._path(self._number)
        fd = self.disk.open_to_read(path)
        try:
            size = self.disk.size(fd)
            data = self.disk.read(fd, size, 0) if size else b""
            torn_in_zeros = bool(size) and ends_in_zeros(self.disk.map(fd))
        finally:
            self.disk.close(fd)
        end, checksum = self._replay(path, data, recall, torn_in_zeros=torn_in_zeros)
        if not end:
            # Death came while it was being created.
            self.disk.remove(path)
            return
        self._file = BatchFile.reopen(self.disk, self.folder, self._entry(checksum), end, checksum)
        if end < size:
            logger.warning("%s: torn at byte %d, %d bytes are cut", path, end, size - end)
            self.disk.truncate(self._file.fd, end)

    def _replay(
        self, path: Path, data: bytes, recall: Callable[[list[Any]], None], *, torn_in_zeros: bool
    ) -> tuple[int, int]:
        """Replays whole batches; returns where they end and the checksum of the last one."""
        view = memoryview(data)
        at, checksum = 0, batch.seed_of(path.name)
        while at < len(data):
            header = batch.parse_header(data, at)
            if header is None and not batch.could_begin_header(data[at : at + batch.MAX_HEADER_BYTES]):
                if not torn_in_zeros:
                    raise AofDamaged(path, at, "not the header of a batch")
                break
            if header is None or at + header.size + header.length > len(data):
                break
            body = at + header.size
            if not batch.checksum_matches(view[at:], checksum, header):
                if not torn_in_zeros:
                    raise AofDamaged(path, at, "the checksum of a batch does not match")
                break
            at, checksum = body + header.length, header.checksum
            if header.length:
                for note in _decode(view[body : at - len(_END)]):
                    recall(note)
        return at, checksum

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
        for number in self._numbers():
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
            file.sync()

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
        self.disk.remove(old.path)
        self.disk.sync_folder(self.folder)

    def _begin(self, number: int) -> None:
        self.disk.make_folder(self.folder)
        file = BatchFile.create(self.disk, self.folder, self._path(number).name, number, _KIND)
        kept = self._to_keep()
        if kept:
            file.append([_batch(kept)])
            file.sync()
        self.disk.sync_folder(self.folder)
        self._file, self._number = file, number

    def _numbers(self) -> list[int]:
        found = (_NAME.fullmatch(name) for name in self.disk.names(self.folder))
        return [int(match[1]) for match in found if match is not None]

    def _path(self, number: int) -> Path:
        return self.folder / f"prepared.{number}.log"

    def _entry(self, checksum: int) -> Entry:
        return Entry(self._path(self._number).name, self._number, _KIND, checksum)


def _batch(notes: list[list[Any]]) -> Batch:
    return b"", _encode(notes) + _END
