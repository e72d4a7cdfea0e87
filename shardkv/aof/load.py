"""Loading a log: checks every byte of it and replays its records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import hiredis
from xxhash import xxh3_64_intdigest

from shardkv import limits
from shardkv.aof import batch
from shardkv.aof.batch import AofDamaged, Header
from shardkv.aof.disk import Disk
from shardkv.aof.manifest import (
    DEFAULT_FILENAME,
    INCREMENT,
    Entry,
    Manifest,
    is_file_of_log,
    manifest_name,
    read_manifest,
)
from shardkv.aof.record import record
from shardkv.aof.torn import Torn, ends_in_zeros, examine

logger = logging.getLogger(__name__)

_END: Final = b"+END\r\n"
_SELECT: Final = b"SELECT"

Apply = Callable[[list[bytes]], object]
Progress = Generator[tuple[int, int], None, "LoadResult"]


@dataclass
class LoadResult:
    """What loading has found; `AppendLog.open` takes it, to go on where the log ends.

    manifest: None if there is no log in the folder. ends: for each file that counts, the size of its good
    part in bytes and the checksum of its last batch. torn, dropped, longer: what has to be repaired before
    anything is appended (see there). records, batches, size (bytes): how much was replayed. warnings: what
    was cut or dropped, in words, for the operator; they have been logged as well.
    """

    manifest: Manifest | None = None
    ends: dict[str, tuple[int, int]] = field(default_factory=dict)
    torn: Torn | None = None
    dropped: set[str] = field(default_factory=set)
    """Increments after a torn one. What they hold came later than what was lost, so it cannot count."""
    longer: dict[str, int] = field(default_factory=dict)
    """Files that go on after the end that the manifest names (by a repair that was cut short): that end."""
    records: int = 0
    batches: int = 0
    size: int = 0
    warnings: list[str] = field(default_factory=list)


def load(
    folder: Path,
    *,
    apply: Apply,
    filename: str = DEFAULT_FILENAME,
    note: Callable[[bytes], object] | None = None,
    accept_torn: bool = True,
    disk: Disk | None = None,
    manifest: Manifest | None = None,
) -> Progress:
    """Replays the log in a folder, in slices: a generator of (bytes done, bytes in all) that returns what it
    has found. It changes nothing on disk.

    Each record goes to `apply` as a list of bytes, only after its batch has been checked. The records of a
    transaction come between MULTI and EXEC, always whole. As in Redis, each file has to begin with a SELECT.
    `note` gets the keys of each batch that was written with some, before its records.

    A torn tail is cut, as far as it is one (see `shardkv.aof.torn`), with a warning; with `accept_torn` False
    (the setting `aof-load-truncated no`) it is refused.

    A `manifest` may be given that stands for the one in the folder, and names files that go on after what is
    to be replayed.

    Raises AofDamaged, naming file and offset, if the log is not what was written, if records are refused by
    `apply`, or if it is another program's; OSError if it cannot be read.
    """
    disk = disk or Disk()
    if manifest is not None:
        return (yield from _Loading(disk, folder, manifest, apply, note, accept_torn, is_given=True).run())
    manifest = read_manifest(disk, folder, filename)
    if manifest is None:
        _refuse_files_without_manifest(disk, folder, filename)
        return LoadResult()
    return (yield from _Loading(disk, folder, manifest, apply, note, accept_torn).run())


def _refuse_files_without_manifest(disk: Disk, folder: Path, filename: str) -> None:
    """Files without a manifest are what a death during the log's creation leaves, if no record is in them;
    else the manifest has been lost."""
    for name in disk.names(folder):
        if name.endswith(".aof") and is_file_of_log(filename, name):
            fd = disk.open_to_read(folder / name)
            size = disk.size(fd)
            disk.close(fd)
            if size > batch.MAX_HEADER_BYTES:
                path = folder / manifest_name(filename)
                raise AofDamaged(path, 0, f"the manifest is missing, but {name} is there")


class _File:
    """A file being read: a window of its content, and how far in it the reading is.

    `limit` is where the reading ends; `checksum` is the last batch's, `offset` the end of it in the file.
    """

    def __init__(self, disk: Disk, path: Path, limit: int, fd: int) -> None:
        self.path = path
        self.may_be_torn = False
        self.fd = fd
        self.limit = limit
        self.window = b""
        self.at = 0
        self.checksum = batch.seed_of(path.name)
        self._disk = disk
        self._read = 0

    @property
    def offset(self) -> int:
        return self._read - len(self.window) + self.at

    @property
    def left(self) -> int:
        return self.limit - self.offset

    def want(self, count: int) -> bool:
        """Sees to it that the window holds `count` bytes to come; False if the file has not so many."""
        if self.at + count <= len(self.window):
            return True
        if count > self.left:
            return False
        pieces = [self.window[self.at :]]
        have = len(pieces[0])
        self.window, self.at = b"", 0
        while have < count:
            piece = self._disk.read(self.fd, max(count - have, limits.LOAD_SLICE_BYTES), self._read)
            piece = piece[: self.limit - self._read]
            if not piece:
                raise AofDamaged(self.path, self._read, "the file has become shorter while it was read")
            pieces.append(piece)
            have += len(piece)
            self._read += len(piece)
        self.window = b"".join(pieces)
        return True


class _Loading:
    """One run of `load`."""

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        manifest: Manifest,
        apply: Apply,
        note: Callable[[bytes], object] | None,
        accept_torn: bool,
        *,
        is_given: bool = False,
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._manifest = manifest
        self._apply = apply
        self._note = note
        self._accept_torn = accept_torn
        self._is_given = is_given
        self._reader = hiredis.Reader()
        self._select = b""
        """The last SELECT of the file being read, a record."""
        self._result = LoadResult(manifest)
        self._total = 0

    def run(self) -> Progress:
        result = self._result
        files = [self._open(entry) for entry in self._manifest.entries]
        try:
            self._total = sum(file.limit for file in files)
            last: int | None = None
            for index, (entry, file) in enumerate(zip(self._manifest.entries, files, strict=True)):
                self._select = b""
                self._read_first_batch(file, entry)
                if index > 1 and file.left and not self._follows(file, last):
                    self._drop_from(index)
                    break
                yield from self._replay(file, entry)
                if entry.kind == INCREMENT and file.checksum != entry.first:
                    last = file.checksum
        finally:
            for file in files:
                self._disk.close(file.fd)
        return result

    # -- a file -------------------------------------------------------------------------------

    def _open(self, entry: Entry) -> _File:
        path = self._folder / entry.name
        try:
            fd = self._disk.open_to_read(path)
        except FileNotFoundError:
            raise AofDamaged(path, 0, "the file is missing") from None
        size = self._disk.size(fd)
        if entry.size is not None and size != entry.size:
            if size < entry.size:
                self._disk.close(fd)
                raise AofDamaged(path, size, f"the file ends here, but had {entry.size} bytes")
            if not self._is_given:
                what = f"{size - entry.size} bytes after byte {entry.size} do not belong to it, cut"
                self._warn(f"{path}: {what}")
                self._result.longer[entry.name] = entry.size
            size = entry.size
        return _File(self._disk, path, size, fd)

    def _read_first_batch(self, file: _File, entry: Entry) -> None:
        header = self._next_batch(file) if file.left else None
        if header is None or header.checksum != entry.first:
            raise AofDamaged(file.path, 0, "not the file that the manifest names")
        if not header.keys.startswith(batch.FORMAT):
            raise AofDamaged(file.path, 0, "written in a format that this version does not know")
        self._end_batch(file, file.at + header.size, header.checksum)
        self._result.ends[entry.name] = file.offset, file.checksum
        # The first batch was on disk before the manifest named the file; only what follows may be torn.
        file.may_be_torn = entry.is_open

    def _follows(self, file: _File, last: int | None) -> bool:
        """Whether an increment after the first goes on where those before it end: with the batch `last`, or
        without any."""
        if self._result.torn:
            return False
        header = self._next_batch(file)
        if header is None:
            return True
        link = header.keys if header.keys.startswith(batch.LINK) else b""
        return link == (b"" if last is None else batch.LINK + b"%016x" % last)

    def _drop_from(self, index: int) -> None:
        """For an increment that does not follow on the end of those before it.

        If one of them was open, its end was not yet on disk when power failed, though the beginning of this
        one was. What counts ends with the loss.
        """
        result, entries = self._result, self._manifest.entries
        before = entries[index - 1]
        offset, checksum = result.ends[before.name]
        if not any(entry.is_open for entry in entries[1:index]):
            path = self._folder / entries[index].name
            raise AofDamaged(path, 0, f"does not follow on the end of {before.name}")
        self._refuse_torn(self._folder / before.name, offset, "the end of the file was lost")
        if result.torn is None:
            result.torn = Torn(before.name, offset, checksum, b"", 0)
        result.dropped = {entry.name for entry in entries[index:]}
        dropped = ", ".join(sorted(result.dropped))
        lost = result.torn.name
        self._warn(f"{self._folder}: the end of {lost} was lost, so what came after it is dropped: {dropped}")

    def _replay(self, file: _File, entry: Entry) -> Generator[tuple[int, int], None, None]:
        result = self._result
        done = result.size
        while True:
            self._replay_window(file)
            result.size = done + file.offset
            yield result.size, self._total
            header = self._next_batch(file) if file.left else None
            if header is None:
                break
            yield from self._replay_batch(file, header)
        # A record without an end would swallow what follows it.
        self._reader.feed(_END)
        if self._reader.gets() != b"END":
            raise AofDamaged(file.path, file.offset, "the last record before this has no end")
        if entry.last is not None and file.checksum != entry.last:
            raise AofDamaged(file.path, file.offset, "the last batch is not the one that the manifest names")
        result.ends[entry.name] = file.offset, file.checksum
        if result.torn and result.torn.name == entry.name:
            self._replay_records(file, result.torn.records, 0, len(result.torn.records))

    # -- batches ------------------------------------------------------------------------------

    def _replay_window(self, file: _File) -> None:
        """Replays the batches that are whole in the window, up to the first that is not plain and good.

        This is the fast way; `_next_batch` and `_replay_batch` do the same for any batch.
        """
        window, at, checksum = file.window, file.at, file.checksum
        view = memoryview(window)
        apply = self._apply if _SELECT not in window else self._apply_and_note_select
        feed, gets = self._reader.feed, self._reader.gets
        records = 0
        argv = None
        try:
            while at + batch.HEADER_BYTES <= len(window):
                length = window[at + batch.LENGTH_FROM : at + batch.LENGTH_TO]
                body = at + batch.HEADER_BYTES
                if window[body - 2 : body] != b"\r\n" or not length.isdigit():
                    break
                size = int(length)
                end = body + size
                if end > len(window) or size > limits.PARSE_SLICE_BYTES:
                    break
                covered = at + batch.CHECKED_FROM
                expected = xxh3_64_intdigest(view[covered:end], checksum)
                if window[at:covered] != b"#shardkv %016x" % expected:
                    break
                feed(window, body, size)
                while (argv := gets()) is not False:
                    apply(argv)
                    records += 1
                self._end_batch(file, end, expected)
                at, checksum = end, expected
        except Exception as error:
            raise self._cannot_replay(file, argv, error) from error
        self._result.records += records

    def _replay_batch(self, file: _File, header: Header) -> Generator[tuple[int, int], None, None]:
        """Replays the batch that `_next_batch` has found, which may be a large one."""
        if header.keys == batch.ANNOTATION:
            self._end_batch(file, file.at + header.size + header.length, header.checksum)
            return
        if self._note and header.keys and not header.keys.startswith(batch.LINK):
            self._note(header.keys)
        at = file.at + header.size
        end = at + header.length
        while at < end:
            count = min(end - at, limits.LOAD_SLICE_BYTES)
            self._replay_records(file, file.window, at, at + count)
            at += count
            yield self._result.size, self._total
        self._end_batch(file, end, header.checksum)

    def _end_batch(self, file: _File, end: int, checksum: int) -> None:
        self._result.batches += 1
        file.at = end
        file.checksum = checksum

    def _next_batch(self, file: _File) -> Header | None:
        """The header of the next batch, which is then whole in the window, and good; None if it is torn.

        Raises AofDamaged if it is neither.
        """
        file.want(min(batch.MAX_HEADER_BYTES, file.left))
        header = batch.parse_header(file.window, file.at)
        if header is None:
            self._end_torn(file, "not the header of a batch")
            return None
        if not file.want(header.size + header.length):
            self._end_torn(file, f"the file ends within a batch with {header.length} bytes of records")
            return None
        if not batch.checksum_matches(memoryview(file.window)[file.at :], file.checksum, header):
            what = f"the checksum of a batch with {header.length} bytes of records does not match"
            if not ends_in_zeros(self._disk.map(file.fd)):
                raise AofDamaged(file.path, file.offset, what)
            self._end_torn(file, what)
            return None
        return header

    def _end_torn(self, file: _File, what: str) -> None:
        """Ends the reading of a file before a batch that is torn. Raises AofDamaged, saying `what`, if it is
        not."""
        if not file.may_be_torn:
            raise AofDamaged(file.path, file.offset, what)
        torn = examine(file.path, self._disk.map(file.fd), file.offset, file.checksum)
        self._refuse_torn(file.path, file.offset, what)
        self._warn(
            f"{file.path}: torn at byte {torn.offset}, as a crash may leave it: of what follows,"
            f" {len(torn.records)} bytes of whole records are kept, and {torn.lost} bytes are cut"
        )
        if torn.records:
            # They will stand at the start of a file, where no database is selected yet.
            torn = torn._replace(records=self._select + torn.records)
        self._result.torn = torn
        file.limit = file.offset

    def _refuse_torn(self, path: Path, offset: int, what: str) -> None:
        if not self._accept_torn:
            raise AofDamaged(path, offset, f"{what}, and the setting aof-load-truncated is no")

    def _warn(self, text: str) -> None:
        logger.warning("%s", text)
        self._result.warnings.append(text)

    def _replay_records(self, file: _File, data: bytes, at: int, end: int) -> None:
        """Replays part of the batch that begins at the file's offset: what stands in `data` from `at` to
        `end`."""
        reader = self._reader
        argv = None
        try:
            while at < end:
                count = min(end - at, limits.PARSE_SLICE_BYTES)
                reader.feed(data, at, count)
                while (argv := reader.gets()) is not False:
                    self._apply_and_note_select(argv)
                    self._result.records += 1
                at += count
        except Exception as error:
            raise self._cannot_replay(file, argv, error) from error

    def _apply_and_note_select(self, argv: list[bytes]) -> None:
        if argv[0] == _SELECT:
            self._select = record(argv)
        self._apply(argv)

    def _cannot_replay(self, file: _File, argv: object, error: Exception) -> AofDamaged:
        what = f"a record of the batch that begins here cannot be replayed: {error}: {argv!r:.200}"
        return AofDamaged(file.path, file.offset, what)
