"""One connection to a server of Redis' protocol."""

from __future__ import annotations

import socket
import ssl
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import hiredis

from shardkv import limits

_SCHEMES = ("redis", "rediss", "unix")
_PORT = 6379


class TransferError(Exception):
    """Data cannot be moved; says why, for the operator."""


class Address(NamedTuple):
    """A server as `redis://[[user]:password@]host[:port][/db]`, `rediss://…` (TLS) or
    `unix:[//[user]:password@]/path[?db=n]` say it. `db` is None if none is named; `path` that of a socket."""

    host: str
    port: int
    user: str | None
    password: str | None
    db: int | None
    tls: bool = False
    path: str | None = None

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def is_address(text: str) -> bool:
    """Whether a text is meant as the URL of a server."""
    return text.partition(":")[0] in _SCHEMES


def parse_address(text: str) -> Address:
    """Raises TransferError."""
    try:
        url = urlsplit(text)
        is_socket = url.scheme == "unix"
        db_text = url.query.removeprefix("db=") if is_socket else url.path.removeprefix("/")
        return Address(
            host=url.hostname or "127.0.0.1",
            port=url.port or _PORT,
            user=unquote(url.username) if url.username else None,
            password=unquote(url.password) if url.password else None,
            db=int(db_text) if db_text else None,
            tls=url.scheme == "rediss",
            path=unquote(url.path) if is_socket else None,
        )
    except ValueError as error:
        raise TransferError(f"{text} is no address of a server: {error}") from None


class Connection:
    """A connection, with authentication done. `ask` waits for a reply; `send` and `receive` do not go
    together with it."""

    def __init__(self, address: Address) -> None:
        """Connects. Raises TransferError."""
        self.address = address
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)
        try:
            self.socket = _connected(address)
        except OSError as error:
            raise TransferError(f"{address}: {error}") from None
        if address.password is not None:
            user = [address.user] if address.user else []
            reply = self.try_to("AUTH", *user, address.password)
            if isinstance(reply, hiredis.ReplyError):
                self.close()
                raise TransferError(f"{address}: {reply}")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def ask(self, *words: bytes | str | int) -> Any:
        """The reply to one request. Raises TransferError if it is an error."""
        reply = self.try_to(*words)
        if isinstance(reply, hiredis.ReplyError):
            raise TransferError(f"{self.address}: {words[0]!s}: {reply}")
        return reply

    def try_to(self, *words: bytes | str | int) -> Any:
        """The reply to one request, which may be a hiredis.ReplyError."""
        self.send(hiredis.pack_command(words))  # type: ignore[arg-type]
        return self.receive()

    def send(self, data: bytes) -> None:
        """Sends bytes. Raises TransferError."""
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise TransferError(f"{self.address}: {error}") from None

    def receive(self) -> Any:
        """The next reply, which may be a hiredis.ReplyError. Raises TransferError."""
        try:
            while (reply := self._reader.gets()) is Ellipsis:
                self._reader.feed(self.receive_bytes())
        except hiredis.ProtocolError as error:
            raise TransferError(f"{self.address}: {error}") from None
        return reply

    def receive_bytes(self) -> bytes:
        """Some bytes as they come. Raises TransferError at the end of the connection too."""
        try:
            data = self.socket.recv(limits.TRANSFER_READ_BYTES)
        except OSError as error:
            raise TransferError(f"{self.address}: {error}") from None
        if not data:
            raise TransferError(f"{self.address}: the server has closed the connection")
        return data


def _connected(address: Address) -> socket.socket:
    if address.path is not None:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(limits.TRANSFER_PATIENCE_S)
        connected.connect(address.path)
        return connected
    connected = socket.create_connection((address.host, address.port), limits.TRANSFER_PATIENCE_S)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if address.tls:
        return ssl.create_default_context().wrap_socket(connected, server_hostname=address.host)
    return connected
