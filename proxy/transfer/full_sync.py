"""What a primary sends to a replica that asks for everything: an RDB file of one moment.

The primary answers with line breaks while it prepares, then with `$<length>` and the file, or with
`$EOF:<40 characters>`, the file, and the same 40 characters again, where it writes the file straight to the
connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from proxy.transfer.connection import Address, Connection, TransferError

_REPLICA_VERSION = "9.1.0"
"""The version of Valkey whose files can be read."""

_MARK_BYTES = 40
_LINE_BYTES = 256
_BY_LENGTH = re.compile(rb"\$([0-9]{1,18})")
_BY_MARK = re.compile(rb"\$EOF:([!-~]{40})")
_CONTINUES = re.compile(rb"\+(FULLRESYNC [!-~]+ -?[0-9]+|OK)")


class SyncRefused(TransferError):  # noqa: N818
    """The server does not give a full sync to this user, or knows no such thing."""


class Payload:
    """The answer to SYNC: bytes in, the bytes of the file out. It does no I/O.

    done     whether the file is complete
    total    its length in bytes; None if only its end will tell
    """

    def __init__(self) -> None:
        self.done = False
        self.total: int | None = None
        self._mark: bytes | None = None
        self._begun = False
        self._held = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """Takes what has come; returns what of the file is known to be part of it. What comes after the file
        is left aside. Raises SyncRefused or ValueError."""
        data = self._held + data
        self._held = b""
        while not self._begun:
            line, ended, data = data.partition(b"\n")
            if not ended:
                if len(line) > _LINE_BYTES:
                    raise ValueError("no answer to SYNC")
                self._held = line
                return b""
            self._take_line(line.rstrip(b"\r"))
        return self._until_mark(data) if self._mark is not None else self._until_length(data)

    def _take_line(self, line: bytes) -> None:
        if not line or _CONTINUES.fullmatch(line):
            # It says now and then that it is still there.
            return
        if line.startswith(b"-"):
            raise SyncRefused(line[1:].decode(errors="replace"))
        by_length, by_mark = _BY_LENGTH.fullmatch(line), _BY_MARK.fullmatch(line)
        if by_length is not None:
            self.total = self._left = int(by_length[1])
        elif by_mark is not None:
            self._mark = by_mark[1]
        else:
            raise ValueError(f"{line!r} is no answer to SYNC")
        self._begun = True

    def _until_length(self, data: bytes) -> bytes:
        part = data[: self._left]
        self._left -= len(part)
        self.done = not self._left
        return part

    def _until_mark(self, data: bytes) -> bytes:
        assert self._mark is not None
        # The mark is random, so that it cannot stand within the file but by chance, says Redis; what counts
        # is therefore only whether the last bytes that have come are the mark.
        if data.endswith(self._mark):
            self.done = True
            return data[:-_MARK_BYTES]
        self._held = data[-_MARK_BYTES:]
        return data[:-_MARK_BYTES]


def fetch(address: Address, path: Path, report: Callable[[int, int | None], None]) -> None:
    """Writes the RDB file of a server to a path. `report` is told how many bytes have come, and of how many.

    Raises SyncRefused, TransferError, OSError.
    """
    with Connection(address) as connection, path.open("wb") as file:
        # A server that does not know one of these does without. Valkey has to be told of what version a
        # replica is, or it sends a file for old ones, and nothing if some fields of a hash expire.
        for words in (("capa", "eof"), ("version", _REPLICA_VERSION), ("rdb-only", "1")):
            connection.try_to("REPLCONF", *words)
        connection.send(b"*1\r\n$4\r\nSYNC\r\n")
        payload = Payload()
        while not payload.done:
            try:
                part = payload.feed(connection.receive_bytes())
            except ValueError as error:
                raise TransferError(f"{address}: {error}") from None
            file.write(part)
            report(file.tell(), payload.total)
