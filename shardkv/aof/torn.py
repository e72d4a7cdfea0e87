"""The torn tail: what a process or a power cut left of the last batch it was writing.

What remains of a torn batch is the beginning of what was to be written, so it is a header, whole records and
the beginning of one more, or less than that. Some file systems leave zero bytes where the rest was to come.
Anything else is damage: a torn batch cannot be checked by its checksum, so nothing that is not exactly
of this shape is taken for one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from shardkv import limits
from shardkv.aof import batch
from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Bytes

_COUNT: Final = re.compile(rb"\*([1-9][0-9]{0,9})\r\n")
_LENGTH: Final = re.compile(rb"\$(0|[1-9][0-9]{0,11})\r\n")
_BEGUN_COUNT: Final = re.compile(rb"\*(?:[1-9][0-9]{0,9}\r?)?")
_BEGUN_LENGTH: Final = re.compile(rb"\$(?:(?:0|[1-9][0-9]{0,11})\r?)?")


class Torn(NamedTuple):
    """Where the good part of a file ends, and what can be kept of the batch that follows.

    offset, checksum: of the end of the last whole batch; records: whole records (and whole transactions)
    after it, to be appended anew; lost: how many bytes follow that cannot be kept.
    """

    name: str
    offset: int
    checksum: int
    records: bytes
    lost: int


def ends_in_zeros(data: Bytes) -> bool:
    """Whether the last byte is zero, which it is in no file whose last batch is whole."""
    return data[-1:] == b"\0"


def examine(path: Path, data: Bytes, offset: int, previous: int) -> Torn:
    """What is there of a torn batch that begins at `offset` and reaches to the end of the file's content.

    `previous` is the checksum of the batch before it. Raises AofDamaged if it is not torn but damaged.
    """
    size = len(data)
    end = end_without_zeros(data, offset)
    header = batch.parse_header(data, offset)
    if header is None:
        if batch.could_begin_header(bytes(data[offset : min(end, offset + batch.MAX_HEADER_BYTES + 1)])):
            return Torn(path.name, offset, previous, b"", size - offset)
        raise AofDamaged(path, offset, "not the header of a batch")
    body = min(offset + header.size, end)
    if end >= body + header.length:
        raise AofDamaged(path, offset, "the checksum of a batch does not match")
    try:
        kept, reached = _whole_records(data, body, end)
    except _NotARecord as stopped:
        _refuse_wrong_length(path, data, offset, header, stopped.offset, previous)
        what = f"the batch that begins at byte {offset} is damaged: this is not a record of it"
        raise AofDamaged(path, stopped.offset, what) from None
    _refuse_wrong_length(path, data, offset, header, end, previous)
    refuse_later_batch(path, data, reached, header.checksum)
    if header.keys:
        # The records of a batch with keys belong together.
        kept = body
    return Torn(path.name, offset, previous, bytes(data[body:kept]), size - kept)


def end_without_zeros(data: Bytes, start: int) -> int:
    """Where the zero bytes at the end begin, but not before `start`."""
    end = len(data)
    while end > start:
        block = bytes(data[max(start, end - 65536) : end])
        without = block.rstrip(b"\0")
        end -= len(block) - len(without)
        if without:
            break
    return end


class _NotARecord(Exception):  # noqa: N818
    def __init__(self, offset: int) -> None:
        self.offset = offset


def _whole_records(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Two offsets: where the last record that can be kept ends, and where the one that is cut off begins.

    A transaction without its EXEC cannot be kept.
    """
    kept = at
    in_transaction = False
    while at < end:
        after, name = _record(data, at, end)
        if after is None:
            break
        at = after
        if name == b"MULTI":
            in_transaction = True
        elif name == b"EXEC":
            in_transaction = False
        if not in_transaction:
            kept = at
    return kept, at


def _record(data: Bytes, at: int, end: int) -> tuple[int | None, bytes]:
    """Where the record at an offset ends (None if it is cut off), and its command's name."""
    count = _line(_COUNT, _BEGUN_COUNT, data, at, end)
    if count is None:
        return None, b""
    at = count.end()
    name = b""
    for index in range(int(count[1])):
        length = _line(_LENGTH, _BEGUN_LENGTH, data, at, end)
        if length is None:
            return None, b""
        start = length.end()
        stop = start + int(length[1])
        if stop < end and data[stop : min(stop + 2, end)] != b"\r\n"[: end - stop]:
            raise _NotARecord(stop)
        if stop + 2 > end:
            return None, b""
        if index == 0:
            name = bytes(data[start:stop]).upper()
        at = stop + 2
    return at, name


def _line(
    whole: re.Pattern[bytes], begun: re.Pattern[bytes], data: Bytes, at: int, end: int
) -> re.Match[bytes] | None:
    """The line at an offset, or None if it is cut off."""
    line = whole.match(data, at, end)
    if line is None and not (at == end or begun.fullmatch(data, at, end)):
        raise _NotARecord(at)
    return line


def _refuse_wrong_length(
    path: Path, data: Bytes, offset: int, header: batch.Header, end: int, previous: int
) -> None:
    """Finds that the batch is whole and ends at `end`, so that it only seems torn."""
    body = bytes(data[offset + header.size : end])
    if batch.seal(body, previous, header.keys)[1] == header.checksum:
        raise AofDamaged(path, offset, "the length in the header of a batch is damaged")


def refuse_later_batch(path: Path, data: Bytes, start: int, checksum: int) -> None:
    """Finds a good batch behind a record that seems cut off: then bytes are missing before it.

    Its checksum is chained to that of the torn batch, so that no value a client has stored is taken for one.
    """
    at = start
    for _ in range(limits.TORN_HEADERS_TRIED):
        at = data.find(batch.MAGIC, at)
        if at < 0:
            return
        header = batch.parse_header(data, at)
        if header:
            found = bytes(data[at : at + header.size + header.length])
            if batch.checksum_matches(memoryview(found), checksum, header):
                raise AofDamaged(path, start, f"bytes are missing before the batch that begins at byte {at}")
        at += 1
