"""Many requests at once, to fill servers with."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, cast

from hiredis import Reader, ReplyError, pack_command

from bench.servers import HOST

Word = bytes | str | int

_BATCH = 200
_TIMEOUT_S = 60.0


def send(port: int, requests: Iterable[Sequence[Word]]) -> None:
    """Sends requests in pipelines and waits for all replies. Raises RuntimeError if one is an error."""
    with socket.create_connection((HOST, port), timeout=_TIMEOUT_S) as connection:
        rest = iter(requests)
        while batch := list(islice(rest, _BATCH)):
            connection.sendall(b"".join(map(_packed, batch)))
            _await_replies(connection, batch)


def _await_replies(connection: socket.socket, batch: list[Sequence[Word]]) -> None:
    reader = Reader()
    for words in batch:
        reply = reader.gets()
        while reply is False:
            data = connection.recv(1 << 16)
            if not data:
                raise RuntimeError(f"the connection was closed at {words[0]!r}")
            reader.feed(data)
            reply = reader.gets()
        if isinstance(reply, ReplyError):
            raise RuntimeError(f"{words[0]!r} was answered with {str(reply)!r}")


def _packed(words: Sequence[Any]) -> bytes:
    return cast(bytes, pack_command(tuple(words)))
