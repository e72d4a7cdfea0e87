"""Making a damaged folder one that can be loaded, and saying what that costs.

A torn end is cut as a start would cut it. Of a file that is damaged either everything from the damage on is
dropped, in all files (`cut`: what is left is a state that has been), or only the batches that are not whole
(`salvage`: more is left, but what was changed by them is as if it had not happened).

What is kept is written to new files, whose checksums are made anew, before the manifest names them. Death
at any point leaves either the old state or the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import hiredis
from xxhash import xxh3_64_intdigest

from shardkv.aof import batch, side_log
from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Disk
from shardkv.aof.file import Batch, BatchFile
from shardkv.aof.load import Apply, LoadResult, load
from shardkv.aof.manifest import (
    BASE,
    DEFAULT_FILENAME,
    INCREMENT,
    Entry,
    Manifest,
    is_file_of_log,
    manifest_name,
    read_manifest,
    write_manifest,
)
from shardkv.aof.ready import make_ready
from shardkv.aof.record import record

_SELECT: Final = b"*2\r\n$6\r\nSELECT\r\n"
_MOST_ATTEMPTS: Final = 100


class CannotRepair(Exception):  # noqa: N818 - it says what is
    """Why it cannot be done, or not in this way."""


@dataclass
class Dropped:
    """What is not kept of a file: from and up to which byte, why, and which records in it could still be
    read."""

    path: Path
    start: int
    end: int
    why: str
    records: list[list[bytes]] = field(default_factory=list)


Keep = Callable[[Path], object]
"""Makes a copy of a file that is about to be changed or removed."""


def repair(
    folder: Path,
    *,
    begin: Callable[[], Apply],
    keep: Keep,
    salvage: bool = False,
    filename: str = DEFAULT_FILENAME,
    disk: Disk | None = None,
) -> list[Dropped]:
    """Makes a shard's folder whole; returns what that has cost, nothing if it was whole.

    begin   called for each attempt to load what is there; returns what its records are given to.

    Raises CannotRepair with nothing changed if it cannot be done in the way that was asked for; OSError.
    """
    disk = disk or Disk()
    if not disk.names(folder):
        return []
    dropped = _repair_manifest(disk, folder, filename, keep)
    dropped += _repair_log(disk, folder, filename, begin, keep, salvage)
    return dropped + _repair_side_log(disk, folder, keep)


# -- the side log -----------------------------------------------------------------------------------


def _repair_side_log(disk: Disk, folder: Path, keep: Keep) -> list[Dropped]:
    try:
        found = side_log.read(disk, folder, lambda note: None)
        if found is None or not found.lost:
            return []
        path, end, why = found.path, found.end, "torn"
    except AofDamaged as damage:
        path, end, why = damage.path, damage.offset, damage.what
    keep(path)
    size = len(_content(disk, path))
    if end:
        fd = disk.open_to_append(path)
        disk.truncate(fd, end)
        disk.sync(fd)
        disk.close(fd)
    else:
        disk.remove(path)
    disk.sync_folder(folder)
    return [Dropped(path, end, size, why)]


# -- the manifest -----------------------------------------------------------------------------------


def _repair_manifest(disk: Disk, folder: Path, filename: str, keep: Keep) -> list[Dropped]:
    """Makes a manifest from the files that are there, if there is no good one."""
    path = folder / manifest_name(filename)
    names = [name for name in disk.names(folder) if is_file_of_log(filename, name) and name.endswith(".aof")]
    try:
        if read_manifest(disk, folder, filename) is not None or not names:
            return []
        size, why = 0, "missing"
    except AofDamaged as damage:
        size, why = len(_content(disk, path)), damage.what
    bases = [name for name in names if f".{BASE}." in name]
    if len(bases) != 1:
        raise CannotRepair(
            f"{path}: {why}; and it cannot be made anew, as there is more or less than one base"
        )
    base = _entry(disk, folder, filename, bases[0], BASE)
    increments = [_entry(disk, folder, filename, name, INCREMENT) for name in names if name not in bases]
    if not increments:
        raise CannotRepair(f"{path}: {why}; and it cannot be made anew, as there is no increment")
    for last in _read(_content(disk, folder / base.name), base.name, salvage=False):
        if isinstance(last, _Good):
            base = base.closed(last.end, last.checksum)
    if size:
        keep(path)
    entries = (base, *sorted(increments, key=lambda entry: entry.seq))
    write_manifest(disk, folder, Manifest(filename, entries))
    disk.sync_folder(folder)
    return [Dropped(path, 0, size, f"{why}: made anew from the files that are there")]


def _entry(disk: Disk, folder: Path, filename: str, name: str, kind: str) -> Entry:
    header = batch.parse_header(_content(disk, folder / name), 0)
    if header is None:
        raise CannotRepair(f"{folder / name}: the manifest is lost, and this file's first batch as well")
    return Entry(name, int(name.removeprefix(filename + ".").split(".")[0]), kind, header.checksum)


# -- the log ----------------------------------------------------------------------------------------


def _repair_log(
    disk: Disk, folder: Path, filename: str, begin: Callable[[], Apply], keep: Keep, salvage: bool
) -> list[Dropped]:
    refused: set[tuple[str, int]] = set()
    damage: AofDamaged | None = None
    rebuilt: _Rebuilt | None = None
    for _ in range(_MOST_ATTEMPTS):
        try:
            if rebuilt is None:
                loaded = _load(disk, folder, filename, begin())
                return _cut_torn(disk, folder, filename, keep, loaded)
            rebuilt.try_out(begin())
            return rebuilt.write(keep)
        except AofDamaged as error:
            if rebuilt is not None or error.__cause__ is not None:
                # The batch is what was written, but cannot be replayed.
                refused.add((error.path.name, error.offset))
            damage = error
        manifest = read_manifest(disk, folder, filename)
        assert manifest is not None
        rebuilt = _Rebuilt(disk, folder, manifest, refused, damage, salvage)
    raise CannotRepair(f"{folder}: too many records cannot be replayed, the last: {damage}")


def _load(disk: Disk, folder: Path, filename: str, apply: Apply) -> LoadResult:
    loading = load(folder, apply=apply, filename=filename, disk=disk)
    while True:
        try:
            next(loading)
        except StopIteration as stop:
            result: LoadResult = stop.value
            return result


def _cut_torn(disk: Disk, folder: Path, filename: str, keep: Keep, loaded: LoadResult) -> list[Dropped]:
    """Does what a start would do, and no more if nothing is wrong."""
    dropped = []
    for name, end in loaded.longer.items():
        dropped.append(
            Dropped(folder / name, end, len(_content(disk, folder / name)), "after the file's end")
        )
    if loaded.torn is not None:
        path = folder / loaded.torn.name
        size = len(_content(disk, path))
        dropped.append(Dropped(path, size - loaded.torn.lost, size, "torn"))
    for name in sorted(loaded.dropped):
        data = _content(disk, folder / name)
        dropped.append(Dropped(folder / name, 0, len(data), "follows on an end that is lost", _records(data)))
    if dropped:
        for path in {one.path for one in dropped} | {folder / manifest_name(filename)}:
            keep(path)
        _, increment = make_ready(disk, folder, filename, loaded)
        increment.close()
    return dropped


class _Rebuilt:
    """What can be kept of a log, to be written anew."""

    def __init__(
        self,
        disk: Disk,
        folder: Path,
        manifest: Manifest,
        refused: set[tuple[str, int]],
        damage: AofDamaged,
        salvage: bool,
    ) -> None:
        what = damage.what
        self._disk, self._folder, self._manifest = disk, folder, manifest
        self._kept: dict[str, list[_Good]] = {}
        self._dropped: list[Dropped] = []
        self._databases: set[bytes] = set()
        cut = False
        for entry in manifest.entries:
            path = folder / entry.name
            data = self._data(path, what)
            good: list[_Good] = []
            for piece in _read(data, entry.name, salvage=salvage, refused=refused):
                if isinstance(piece, _Good) and not cut:
                    good.append(piece)
                    continue
                lost = data[piece.start : piece.end]
                why = "follows on what is dropped" if isinstance(piece, _Good) else what
                self._dropped.append(Dropped(path, piece.start, piece.end, why, _records(lost)))
                cut = cut or not salvage
            self._kept[entry.name] = good
            if cut and entry.kind == BASE:
                raise CannotRepair(
                    f"{path}: {what}; cutting would leave a part of the base alone, which has never been the"
                    " data: only --salvage can keep what comes after it"
                )
        self._drop_where_the_database_is_unknown()
        if not self._dropped:
            why = f"{damage.what}; nothing is lost, it is made anew"
            self._dropped.append(Dropped(damage.path, damage.offset, damage.offset, why))

    def try_out(self, apply: Apply) -> None:
        """Replays what is kept. Raises AofDamaged, with the place in the old file, if a batch cannot be."""
        for name, kept in self._kept.items():
            for good in kept:
                try:
                    for argv in _records(good.body, strict=True):
                        apply(argv)
                except Exception as error:
                    raise AofDamaged(
                        self._folder / name, good.start, f"cannot be replayed: {error}"
                    ) from error

    def write(self, keep: Keep) -> list[Dropped]:
        """Puts what is kept into new files, and has the manifest name them."""
        disk, folder, old = self._disk, self._folder, self._manifest
        for name in {*old.names, manifest_name(old.filename)} & {*disk.names(folder)}:
            keep(folder / name)
        base = BatchFile.create(disk, folder, *old.next_name(BASE), BASE)
        increment = BatchFile.create(disk, folder, *old.next_name(INCREMENT), INCREMENT)
        for entry in old.entries:
            file = base if entry.kind == BASE else increment
            kept = self._batches(entry.name)
            if kept:
                file.append(kept)
        for file in (base, increment):
            file.sync()
            file.close()
        disk.sync_folder(folder)
        write_manifest(disk, folder, Manifest(old.filename, (base.closed_entry(), increment.entry)))
        disk.sync_folder(folder)
        for name in old.names & {*disk.names(folder)}:
            disk.remove(folder / name)
        disk.sync_folder(folder)
        return self._dropped

    def _data(self, path: Path, what: str) -> bytes:
        try:
            return _content(self._disk, path)
        except FileNotFoundError:
            self._dropped.append(Dropped(path, 0, 0, what))
            return b""

    def _batches(self, name: str) -> list[Batch]:
        kept = [(good.keys, good.body) for good in self._kept[name] if not good.is_of_the_log]
        if kept and len(self._databases) == 1:
            # What selected the only database may be among what is lost.
            [database] = self._databases
            kept.insert(0, (b"", record([b"SELECT", database])))
        return kept

    def _drop_where_the_database_is_unknown(self) -> None:
        """After a gap, where several databases are in use, nothing counts before one is selected."""
        for kept in self._kept.values():
            for good in kept:
                for argv in _records(good.body):
                    if argv[0] == b"SELECT":
                        self._databases.add(argv[1])
        if len(self._databases) < 2:
            self._databases = self._databases or {b"0"}
            return
        gaps = {(one.path.name, one.end) for one in self._dropped}
        for name, kept in self._kept.items():
            unknown, certain = False, []
            for good in kept:
                unknown = (unknown or (name, good.start) in gaps) and not good.body.startswith(_SELECT)
                if unknown and good.body:
                    why = "which database it is for was told by what is lost"
                    records = _records(good.body)
                    self._dropped.append(Dropped(self._folder / name, good.start, good.end, why, records))
                else:
                    certain.append(good)
            self._kept[name] = certain


# -- reading what is damaged ------------------------------------------------------------------------


@dataclass
class _Good:
    start: int
    end: int
    checksum: int
    keys: bytes
    body: bytes

    @property
    def is_of_the_log(self) -> bool:
        """Whether it says something of its own file, and not of the data."""
        return self.keys.startswith((batch.FORMAT, batch.LINK))


@dataclass
class _Lost:
    start: int
    end: int


def _read(
    data: bytes, name: str, *, salvage: bool, refused: set[tuple[str, int]] | None = None
) -> Iterator[_Good | _Lost]:
    """The batches of a file, and what lies between those that are whole; without `salvage` nothing is whole
    after the first gap. `refused` are places (file and offset) of batches that do not count."""
    at, seeds = 0, {batch.seed_of(name)}
    while at < len(data):
        header = batch.parse_header(data, at)
        end = at + header.size + header.length if header else 0
        if header and end <= len(data) and any(_matches(data, at, end, seed, header) for seed in seeds):
            if (name, at) in (refused or ()):
                yield _Lost(at, end)
            else:
                yield _Good(at, end, header.checksum, header.keys, data[at + header.size : end])
            at, seeds = end, {header.checksum}
            continue
        following = _next_header(data, at + 1)
        # The next one is chained to what this one was before it was damaged: by what its header says, if the
        # damage is in its body, or by what it is, if that is in its checksum.
        is_whole = False
        recorded = data[at + len(batch.MAGIC) : at + batch.CHECKED_FROM]
        actual = {xxh3_64_intdigest(data[at + batch.CHECKED_FROM : following], seed) for seed in seeds}
        if header and end == following and following < len(data):
            after = batch.parse_header(data, following)
            assert after is not None
            stop = following + after.size + after.length
            is_whole = any(_matches(data, following, stop, seed, after) for seed in actual)
        if is_whole and header:
            yield _Good(at, end, header.checksum, header.keys, data[at + header.size : end])
            at, seeds = following, actual
            continue
        if not salvage:
            yield _Lost(at, len(data))
            return
        yield _Lost(at, following)
        seeds |= actual
        try:
            seeds.add(int(recorded, 16))
        except ValueError:
            pass
        at = following


def _matches(data: bytes, at: int, end: int, seed: int, header: batch.Header) -> bool:
    return batch.checksum_matches(memoryview(data)[at:end], seed, header)


def _next_header(data: bytes, at: int) -> int:
    """Where the next header stands, or the end."""
    while (at := data.find(batch.MAGIC, at)) >= 0:
        if batch.parse_header(data, at):
            return at
        at += 1
    return len(data)


def _records(data: bytes, *, strict: bool = False) -> list[list[bytes]]:
    """The records in a piece of a file, headers left out; unless `strict`, as far as they can be read."""
    found: list[list[bytes]] = []
    reader = hiredis.Reader()
    at = 0
    try:
        while at < len(data):
            header = batch.parse_header(data, at)
            if header is not None:
                at += header.size
            end = at + header.length if header is not None and at + header.length <= len(data) else len(data)
            if header is None or not header.keys.startswith(batch.ANNOTATION):
                reader.feed(data[at:end])
                while (argv := reader.gets()) is not False:
                    found.append(argv)
            at = end
    except hiredis.ProtocolError:
        if strict:
            raise
    return [argv for argv in found if isinstance(argv, list) and argv]


def _content(disk: Disk, path: Path) -> bytes:
    fd = disk.open_to_read(path)
    try:
        return disk.read(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)
