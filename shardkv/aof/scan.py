"""Going through the batches of a file of the log without carrying anything out: to check a copy of it, and to
find where in it a time or a transaction stands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from shardkv.aof import batch
from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Disk

_TIME: Final = re.compile(rb"#TS:([0-9]{1,18})\r\n")


class Found(NamedTuple):
    """A batch: where it begins and ends in the file, in bytes; its checksum and keys (see
    shardkv.aof.batch); the time that it marks, in s since 1970, if it does."""

    start: int
    end: int
    checksum: int
    keys: bytes
    time_s: int | None


def scan(
    disk: Disk, path: Path, size: int, *, start: int = 0, checksum: int | None = None
) -> Iterator[Found]:
    """The batches of a file up to a size, in bytes, each with its checksum compared.

    start, checksum   to begin there, behind the batch of that checksum; else at the beginning

    Raises AofDamaged, naming file and offset, where it is not what was written; OSError.
    """
    fd = disk.open_to_read(path)
    try:
        have = disk.size(fd)
        if have < size:
            raise AofDamaged(path, have, f"the file ends here, but had {size} bytes")
        if not size:
            return
        data = disk.map(fd)
    finally:
        disk.close(fd)
    view = memoryview(data)
    last = batch.seed_of(path.name) if checksum is None else checksum
    at = start
    while at < size:
        header = batch.parse_header(data, at)
        if header is None or at + header.size + header.length > size:
            raise AofDamaged(path, at, "not a whole batch")
        if not batch.checksum_matches(view[at:], last, header):
            raise AofDamaged(path, at, "the checksum of a batch does not match")
        body = at + header.size
        end = body + header.length
        time_s = None
        if header.keys == batch.ANNOTATION:
            marked = _TIME.fullmatch(data, body, end)
            time_s = int(marked[1]) if marked is not None else None
        yield Found(at, end, header.checksum, header.keys, time_s)
        at, last = end, header.checksum
