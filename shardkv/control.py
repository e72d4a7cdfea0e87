"""The control channel: what a process has to say to its supervisor, and through it to the others.

Each worker and proxy has one stream socket to the supervisor. Everything that is not about one key goes this
way: settings, CLIENT LIST and KILL, figures for INFO, the cross-shard token, shutdown. Messages are
length-prefixed MessagePack; file descriptors travel beside the message they belong to.

A question (`Ask`) goes to processes of one kind; the supervisor relays it, collects the answers and sends
them back together.
"""

from __future__ import annotations

import os
import socket
from typing import Any, Final

import msgspec

from shardkv import limits

_HEADER_BYTES: Final = 4
_MAX_FDS: Final = 2

WORKERS: Final = "workers"
PROXIES: Final = "proxies"
SUPERVISOR: Final = "supervisor"
EVERYONE: Final = "everyone"

IN_DOUBT: Final = "in doubt"
FREEZE: Final = "freeze"
SETTLE: Final = "settle"
FORGET: Final = "forget"
"""What is said about transactions whose outcome is not known (see proxy.resolver)."""

SLOT_COSTS: Final = "slot costs"
WEIGH_SLOTS: Final = "weigh slots"
SEND_SLOTS: Final = "send slots"
TAKE_SLOTS: Final = "take slots"
DROP_SLOTS: Final = "drop slots"
LIBRARIES: Final = "libraries"
TAKE_LIBRARIES: Final = "take libraries"
MAY_LEAVE: Final = "may leave"
OF_SLOTS: Final = (
    SLOT_COSTS,
    WEIGH_SLOTS,
    SEND_SLOTS,
    TAKE_SLOTS,
    DROP_SLOTS,
    LIBRARIES,
    TAKE_LIBRARIES,
    MAY_LEAVE,
)
"""What shards are told when slots move (see proxy.resharding)."""

HOLD_SLOTS: Final = "hold slots"
LET_GO_SLOTS: Final = "let go slots"
"""What proxies are told then."""

RECONNECT: Final = "reconnect"
"""A proxy and a worker need fresh pipes to one another, though both are there."""

BEGIN_ANEW: Final = "begin anew"
"""A worker is to end in good order, so that it is started again and loads its data."""

USERS: Final = "users"
"""What is said when users change (see shardkv.acl.changes)."""

SHARE: Final = "share"
FULL: Final = "full shards"
CLIENTS_MEMORY: Final = "clients' memory"
"""What is said about the limit of memory (see proxy.shares)."""

SNAPSHOT: Final = "snapshot"
CUT: Final = "cut"
SAVED: Final = "saved"
"""What is said about snapshots: to the shards that there will be one; to a proxy that its moment is to come;
to everyone that it is saved, or has failed (see proxy.saving)."""


class Attach(msgspec.Struct, tag="attach"):
    """Comes with two file descriptors, to read from and to write to a process that has been (re)started."""

    peer: int
    """The number of the worker (told to a proxy) or of the proxy (told to a worker)."""


class Ready(msgspec.Struct, tag="ready"):
    """A worker has loaded its data, or a proxy is listening."""


class Ask(msgspec.Struct, tag="ask"):
    """A question for every process of a kind; `number` is the asker's."""

    number: int
    to: str
    topic: str
    body: Any = None


class Question(msgspec.Struct, tag="question"):
    """A question relayed by the supervisor, whose number it is."""

    number: int
    topic: str
    body: Any = None


class Answer(msgspec.Struct, tag="answer"):
    """A process's answer to a Question."""

    number: int
    body: Any = None


class Answers(msgspec.Struct, tag="answers"):
    """All answers to an Ask, each with the kind and number of its process. Who died or took too long is
    missing."""

    number: int
    answers: list[tuple[str, int, Any]]


class Stop(msgspec.Struct, tag="stop"):
    """An orderly end: finish what is under way, make it durable, exit with 0."""


class Alive(msgspec.Struct, tag="alive"):
    """Says that the process's loop turns. `state` is shown by INFO while a worker loads."""

    state: dict[str, Any]


Message = Attach | Ready | Ask | Question | Answer | Answers | Stop | Alive

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class ControlChannel:
    """One end of a control channel. Never blocks: what the socket does not take is kept for `flush`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.closed = False
        self._received = b""
        self._fds: list[int] = []
        self._unsent: list[tuple[memoryview, list[int]]] = []

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def wants_to_write(self) -> bool:
        """Whether something waits for `flush`."""
        return bool(self._unsent)

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Sends a message, and copies of file descriptors with it. A peer that is gone is no error: its end
        shows when it is read from."""
        body = _encode(message)
        data = len(body).to_bytes(_HEADER_BYTES, "little") + body
        self._unsent.append((memoryview(data), [_duplicate(fd) for fd in fds]))
        self.flush()

    def flush(self) -> None:
        """Sends what the socket takes now."""
        while self._unsent:
            data, fds = self._unsent[0]
            try:
                sent = socket.send_fds(self.socket, [data], fds) if fds else self.socket.send(data)
            except BlockingIOError:
                return
            except OSError:
                self.closed = True
                self._drop_unsent()
                return
            _close_all(fds)
            if sent < len(data):
                self._unsent[0] = (data[sent:], [])
                return
            self._unsent.pop(0)

    def _drop_unsent(self) -> None:
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()

    def receive(self) -> list[Message]:
        """The messages that have come; sets `closed` at the end of the stream. Raises ValueError or
        msgspec.DecodeError if the peer breaks the protocol."""
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, 256 * 1024, _MAX_FDS)
        except BlockingIOError:
            return []
        except OSError:
            data, fds = b"", []
        self._fds += fds
        if not data:
            self.closed = True
            return []
        data = self._received + data
        messages = []
        start = 0
        while len(data) - start >= _HEADER_BYTES:
            body = start + _HEADER_BYTES
            size = int.from_bytes(data[start:body], "little")
            if size > limits.MAX_CONTROL_BYTES:
                raise ValueError(f"control message of {size} bytes")
            if len(data) - body < size:
                break
            messages.append(_decode(memoryview(data)[body : body + size]))
            start = body + size
        self._received = data[start:]
        return messages

    def take_fds(self, count: int = 2) -> list[int]:
        """The file descriptors of the message at hand, so many, which belong to the caller from now on."""
        taken = self._fds[:count]
        del self._fds[:count]
        return taken

    def close(self) -> None:
        self._drop_unsent()
        _close_all(self._fds)
        self.socket.close()


def _duplicate(fd: int) -> int:
    return os.dup(fd)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
    fds.clear()
