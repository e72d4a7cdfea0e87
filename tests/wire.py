"""A bare connection to a server: what exactly comes back, byte for byte."""

from __future__ import annotations

import socket
from types import TracebackType

import hiredis

TIMEOUT_S = 20.0
_NOTHING_YET = object()


class Connection:
    """Sends requests and gives the replies as the bytes they are."""

    def __init__(self, port: int, protocol: int = 2) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self.closed = False
        """Whether the server has closed the connection, as far as anybody has looked."""
        self._received = b""
        if protocol == 3:
            self.ask("HELLO", 3)

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    @property
    def port(self) -> int:
        """The client's own port."""
        return int(self.socket.getsockname()[1])

    def send(self, *words: str | bytes | int) -> None:
        """Sends a request, and does not wait for what it gives."""
        self.send_bytes(pack(*words))

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bytes:
        """The next reply. Empty if the connection is closed instead."""
        while True:
            end = _end_of_reply(self._received)
            if end:
                reply, self._received = self._received[:end], self._received[end:]
                return reply
            if not self._more():
                rest, self._received = self._received, b""
                return rest

    def ask(self, *words: str | bytes | int) -> bytes:
        """The reply to a request."""
        self.send(*words)
        return self.receive()

    def text(self, *words: str | bytes | int) -> str:
        """The content of a bulk or verbatim string that a request gives."""
        reply = self.ask(*words)
        content = reply.partition(b"\r\n")[2].removesuffix(b"\r\n").decode()
        return content.removeprefix("txt:") if reply.startswith(b"=") else content

    def ends(self) -> bytes:
        """Waits for the end of the connection; returns what came before it."""
        while self._more():
            pass
        rest, self._received = self._received, b""
        return rest

    def _more(self) -> bool:
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self._received += data
        self.closed = not data
        return bool(data)


def pack(*words: str | bytes | int) -> bytes:
    """A request as clients write it."""
    return bytes(hiredis.pack_command(words))  # type: ignore[arg-type]


def _end_of_reply(data: bytes) -> int:
    """Where the first whole reply ends; 0 if there is none yet."""
    reader = hiredis.Reader(notEnoughData=_NOTHING_YET)
    fed = 0
    # A reply ends with a line, so it is enough to look after each.
    while fed < len(data):
        end = data.find(b"\n", fed) + 1 or len(data)
        reader.feed(data[fed:end])
        fed = end
        if reader.gets() is not _NOTHING_YET:
            return fed
    return 0
