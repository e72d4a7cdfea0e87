"""The batch: what one commit appends to a file of the log, and how damage to it is noticed.

A file is a sequence of batches; a batch is a header line and records, plain RESP commands:

    #shardkv <checksum> <length>[ key=value …]\\r\\n
    *3\\r\\n$3\\r\\nSET\\r\\n…

To Redis the header is an annotation, a line beginning with `#` that it skips; it reads such lines into 128
bytes, and ours stay under 100.

- The checksum, 16 hexadecimal digits, is the xxh3_64 of everything that follows it in the batch: the rest of
  the header, and the records. It is seeded with the checksum of the batch before, the first of a file with a
  hash of the file's name. So a batch that is changed, lost, repeated or out of its place is found.
- The length, 12 decimal digits, is that of the records, in bytes.
- The keys say what else is to be known of a batch. The log itself uses these:
  `format=1 id=<16 hex digits>` in the first batch of each file, which has no records and a random id, so that
  no other file can take its place; `after=<checksum>` in a batch without records, the first that is written
  to an increment, naming the last batch of the increment before; `body=annotation` where annotation lines
  follow instead of records. Any other keys belong to whoever wrote the records.

A transaction, MULTI to EXEC, never spans two batches.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64, xxh3_64_intdigest

from shardkv.aof.disk import Bytes

MAGIC: Final = b"#shardkv "
CHECKED_FROM: Final = len(MAGIC) + 16
"""Where in a header begins what the checksum covers."""
LENGTH_FROM: Final = CHECKED_FROM + 1
LENGTH_TO: Final = LENGTH_FROM + 12
HEADER_BYTES: Final = LENGTH_TO + 2
"""A header without keys."""
MAX_HEADER_BYTES: Final = 99

FORMAT: Final = b"format=1 "
LINK: Final = b"after="
ANNOTATION: Final = b"body=annotation"

_HEADER: Final = re.compile(
    rb"#shardkv (?P<checksum>[0-9a-f]{16}) (?P<length>[0-9]{12})(?: (?P<keys>[!-~]+(?: [!-~]+)*))?\r\n"
)
_ANY_HEADER: Final = MAGIC + b"0" * 16 + b" " + b"0" * 12 + b"\r\n"


class AofDamaged(Exception):  # noqa: N818 - it says what is, not what went wrong here
    """A file of the log is not what was written: where (path, offset in bytes), and what is wrong."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(f"{path}: at byte {offset}: {what}")
        self.path = path
        self.offset = offset
        self.what = what


class Header(NamedTuple):
    """A batch's header: its checksum, the length of its records, its keys, its own size in bytes."""

    checksum: int
    length: int
    keys: bytes
    size: int


def seed_of(name: str) -> int:
    """What the first checksum in the file of that name is seeded with."""
    return xxh3_64_intdigest(name.encode())


def seal(body: bytes, previous: int, keys: bytes = b"") -> tuple[bytes, int]:
    """The header for the records in `body`, and its checksum; `previous` is the checksum to chain to."""
    rest = b" %012d %b\r\n" % (len(body), keys) if keys else b" %012d\r\n" % len(body)
    hasher = xxh3_64(rest, previous)
    hasher.update(body)
    checksum = hasher.intdigest()
    return b"#shardkv %016x%b" % (checksum, rest), checksum


def fits_header(keys: bytes) -> bool:
    """Whether keys can stand in a header: printable words with single spaces between, at most 58 bytes."""
    header, _ = seal(b"", 0, keys)
    return len(header) <= MAX_HEADER_BYTES and _HEADER.fullmatch(header) is not None


def parse_header(data: Bytes, at: int) -> Header | None:
    """The header that stands at an offset of `data`, or None if what stands there is not a whole header."""
    match = _HEADER.match(data, at, at + MAX_HEADER_BYTES)
    if match is None:
        return None
    checksum, length, keys = match.groups()
    return Header(int(checksum, 16), int(length), keys or b"", match.end() - at)


def could_begin_header(rest: bytes) -> bool:
    """Whether `rest` is the beginning of a header whose end is missing."""
    if rest[LENGTH_TO : LENGTH_TO + 1] == b" ":
        whole = rest.removesuffix(b"\r") + b"=\r\n"
    else:
        whole = rest + _ANY_HEADER[len(rest) :]
    return _HEADER.fullmatch(whole) is not None and len(whole) <= MAX_HEADER_BYTES + 1


def checksum_matches(data: memoryview, previous: int, header: Header) -> bool:
    """Whether the batch at the start of `data`, which may go on after it, has the checksum its header
    says."""
    covered = data[CHECKED_FROM : header.size + header.length]
    return xxh3_64_intdigest(covered, previous) == header.checksum
