"""A plain connection to a running server, for the tools."""

from __future__ import annotations

import socket
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

DEFAULT_URL = "redis://127.0.0.1:6379"

_TIMEOUT_S = 30.0
_DEFAULT_PORT = 6379


class Remote:
    """Asks a server, one request after the other.

    url   redis://[[user]:password@]host[:port], or unix:///path/of/the.socket

    Raises OSError if it cannot be reached, ValueError for another kind of URL, hiredis.ReplyError for an
    error reply.
    """

    def __init__(self, url: str = DEFAULT_URL) -> None:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(_TIMEOUT_S)
            self._socket.connect(parts.path)
        elif parts.scheme == "redis" and parts.hostname:
            address = parts.hostname, parts.port or _DEFAULT_PORT
            self._socket = socket.create_connection(address, _TIMEOUT_S)
        else:
            raise ValueError(f"not a URL of a server: {url}")
        self._reader = hiredis.Reader()
        if parts.password is not None:
            user = [unquote(parts.username)] if parts.username else []
            self.ask("AUTH", *user, unquote(parts.password))

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def ask(self, *words: str | int) -> Any:
        """The reply to a request."""
        self._socket.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the server has closed the connection")
            self._reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def info(self, section: str) -> dict[str, str]:
        """The fields of a section of INFO."""
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)
