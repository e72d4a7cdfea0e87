"""The manifest: which files make up a shard's log, in which order.

It is Redis' multi-part AOF manifest
(https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/), one line a file:

    file appendonly.aof.2.base.aof seq 2 type b first 94ab… bytes 4711 last 5d02…
    file appendonly.aof.7.incr.aof seq 7 type i first 1f0e…
    #shardkv 77c2…

First comes the base, then the increments by rising number. Redis 7.0, Redis 8.2 and Valkey 9.1 skip keys they
do not know. `first` is the checksum of the file's first batch, which has a random id in it: it pins the
file. `bytes` and `last` are the size, and the checksum of the last batch, of a file that nothing is appended
to any more, so that nothing can be missing at its end. The last line, a comment to Redis, has the xxh3_64 of
all lines before it.

A manifest is only ever replaced as a whole: written beside the old one, fsynced, and renamed.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from xxhash import xxh3_64_intdigest

from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Disk

DEFAULT_FILENAME: Final = "appendonly.aof"

BASE: Final = "base"
INCREMENT: Final = "incr"

_FILENAME: Final = re.compile(r"[A-Za-z0-9_.+-]+")
_LINE: Final = re.compile(
    rb"file (?P<name>[!-~]+) seq (?P<seq>[1-9][0-9]{0,17}) type (?P<type>[bi]) first (?P<first>[0-9a-f]{16})"
    rb"(?: bytes (?P<bytes>[0-9]{1,18}) last (?P<last>[0-9a-f]{16}))?\n"
)
_CHECKSUM_LINE: Final = re.compile(rb"#shardkv ([0-9a-f]{16})\n\Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the log.

    `first` and `last` are checksums of batches, `size` is in bytes; `size` and `last` are None while the file
    is open, that is: may still grow.
    """

    name: str
    seq: int
    kind: str
    first: int
    size: int | None = None
    last: int | None = None

    @property
    def is_open(self) -> bool:
        return self.size is None

    def closed(self, size: int, last: int) -> Entry:
        return replace(self, size=size, last=last)

    def line(self) -> str:
        line = f"file {self.name} seq {self.seq} type {self.kind[0]} first {self.first:016x}"
        return line if self.is_open else f"{line} bytes {self.size} last {self.last:016x}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a log: the base, then the increments in order. Never changed: each change makes a new
    one."""

    filename: str
    entries: tuple[Entry, ...]

    @property
    def increments(self) -> tuple[Entry, ...]:
        return self.entries[1:]

    @property
    def names(self) -> set[str]:
        return {entry.name for entry in self.entries}

    def next_name(self, kind: str) -> tuple[str, int]:
        """Name and number for another file of a kind."""
        seq = max((entry.seq for entry in self.entries if entry.kind == kind), default=0) + 1
        return file_name(self.filename, seq, kind), seq

    def with_entry(self, entry: Entry) -> Manifest:
        """The manifest with a file added at the end, or put in the place of the one of its name."""
        if entry.name in self.names:
            return replace(self, entries=tuple(entry if e.name == entry.name else e for e in self.entries))
        return replace(self, entries=(*self.entries, entry))

    def without(self, names: set[str]) -> Manifest:
        return replace(self, entries=tuple(e for e in self.entries if e.name not in names))

    def encode(self) -> bytes:
        text = "".join(entry.line() + "\n" for entry in self.entries).encode()
        return b"%b#shardkv %016x\n" % (text, xxh3_64_intdigest(text))


def file_name(filename: str, seq: int, kind: str) -> str:
    return f"{filename}.{seq}.{kind}.aof"


def manifest_name(filename: str) -> str:
    """Raises ValueError for a name that would need quoting in a manifest, or is none of a file."""
    if not _FILENAME.fullmatch(filename):
        raise ValueError(f"not a usable name for the files of an AOF: {filename!r}")
    return f"{filename}.manifest"


def temporary_name(filename: str) -> str:
    """What a new manifest is called until it replaces the old one; Redis' own name for it."""
    return f"temp-{manifest_name(filename)}"


def is_file_of_log(filename: str, name: str) -> bool:
    """Whether a name is one that the log gives to its files, other than the manifest's own."""
    kinds = f"{BASE}|{INCREMENT}"
    own = rf"{re.escape(filename)}\.[0-9]+\.(?:{kinds})\.aof|{re.escape(temporary_name(filename))}"
    return re.fullmatch(own, name) is not None


def read_manifest(disk: Disk, folder: Path, filename: str) -> Manifest | None:
    """The manifest in a folder, or None if there is none. Raises AofDamaged."""
    path = folder / manifest_name(filename)
    if path.name not in disk.names(folder):
        return None
    fd = disk.open_to_read(path)
    try:
        data = disk.read(fd, disk.size(fd), 0)
    finally:
        disk.close(fd)
    return _decode(data, path, filename)


def _decode(data: bytes, path: Path, filename: str) -> Manifest:
    ending = _CHECKSUM_LINE.search(data)
    if ending is None:
        raise AofDamaged(path, len(data), "no checksum line: damaged, or written by another program")
    text = data[: ending.start()]
    if b"%016x" % xxh3_64_intdigest(text) != ending[1]:
        raise AofDamaged(path, ending.start(), "the checksum does not match the lines before it")
    entries = []
    at = 0
    while at < len(text):
        line = _LINE.match(text, at)
        if line is None:
            raise AofDamaged(path, at, "not a line of a manifest")
        entries.append(_entry(line))
        at = line.end()
    manifest = Manifest(filename, tuple(entries))
    wrong = _what_is_wrong(manifest)
    if wrong:
        raise AofDamaged(path, 0, wrong)
    return manifest


def _entry(line: re.Match[bytes]) -> Entry:
    return Entry(
        name=line["name"].decode(),
        seq=int(line["seq"]),
        kind=BASE if line["type"] == b"b" else INCREMENT,
        first=int(line["first"], 16),
        size=int(line["bytes"]) if line["bytes"] else None,
        last=int(line["last"], 16) if line["last"] else None,
    )


def _what_is_wrong(manifest: Manifest) -> str | None:
    """Rules that no manifest of ours breaks; one that does was put together by something else."""
    kinds = [entry.kind for entry in manifest.entries]
    if kinds[:1] != [BASE] or BASE in kinds[1:] or INCREMENT not in kinds:
        return "not one base and then increments"
    if manifest.entries[0].is_open:
        return "the base has no size"
    seqs = [entry.seq for entry in manifest.increments]
    if seqs != sorted(set(seqs)):
        return "increments out of order"
    if any(e.name != file_name(manifest.filename, e.seq, e.kind) for e in manifest.entries):
        return "a file whose name is not of this log"
    return None


def write_manifest(disk: Disk, folder: Path, manifest: Manifest) -> None:
    """Puts a manifest in the place of the one that was there; the old one stays until the new one is on disk.

    What it lists must have been synced, folder included. The caller must call `disk.sync_folder` before it
    relies on the change or removes what the old manifest lists; that is left to it because a failure there
    leaves open which of the two would be found after a power cut. Raises OSError if nothing was changed.
    """
    temporary = folder / temporary_name(manifest.filename)
    fd = disk.create(temporary)
    try:
        content = manifest.encode()
        if disk.write(fd, [content]) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
        disk.sync(fd)
    finally:
        disk.close(fd)
    disk.rename(temporary, folder / manifest_name(manifest.filename))
