"""Several clients whose commands come one after the other, here and at a real server: who waits and who gets
what must be the same.

A script is a list of steps, `(client, words)`; `{A}` in a word stands for the id of client A, and the words
`("close",)` close a client's connection. After each step everybody is given the time to settle: who waits at
the real server has to wait here, and who is answered there has to get the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardkv import clock
from shardkv.command import lookup
from shardkv.slots import even_slot_table, slot_of
from tests.processes.server import Shardkv, eventually
from tests.twin.compare import encoded
from tests.twin.servers import Server
from tests.wire import Connection

Step = tuple[str, tuple[Any, ...]]

_CLOSE = ("close",)


class Clients:
    """The clients of one server."""

    def __init__(self, port: int, names: Sequence[str], protocol: int) -> None:
        self.control = Connection(port)
        self.control.ask("FLUSHALL")
        self.connections = {name: Connection(port, protocol) for name in names}
        self.ids = {
            name: int(connection.ask("CLIENT", "ID")[1:]) for name, connection in self.connections.items()
        }

    def close(self) -> None:
        for connection in (self.control, *self.connections.values()):
            connection.socket.close()

    def start(self, name: str, words: Sequence[Any]) -> None:
        """Has a client send its command, or close its connection."""
        if tuple(words) == _CLOSE:
            self.connections.pop(name).socket.close()
            identity = self.ids.pop(name)
            eventually(lambda: f"id={identity} " not in self.control.text("CLIENT", "LIST"))
            return
        text = [encoded(word).decode("latin-1").format(**self.ids).encode("latin-1") for word in words]
        self.connections[name].send(*text)

    def waiting(self) -> set[str]:
        """Who waits."""
        flags = {}
        for line in self.control.text("CLIENT", "LIST").splitlines():
            fields = dict(field.split("=", 1) for field in line.split(" ") if "=" in field)
            flags[int(fields["id"])] = fields["flags"]
        return {name for name, identity in self.ids.items() if "b" in flags.get(identity, "")}


def waits_for_long(words: Sequence[Any]) -> bool:
    """Whether a command may wait without end."""
    args = [encoded(word) for word in words]
    command = lookup(args)
    if command is None or command.waits is None:
        return False
    timeout = command.waits.timeout(args)
    return timeout is not None and timeout[1] == 0


class Interleaved:
    """The same clients at a real server and at ours. `workers` is how many shards ours has."""

    def __init__(
        self, server: Shardkv, twin: Server, *, workers: int, names: Sequence[str], protocol: int = 2
    ) -> None:
        self.table = even_slot_table(workers)
        self.ours = Clients(server.port, names, protocol)
        self.theirs = Clients(twin.port, names, protocol)
        self.asked: dict[str, tuple[Any, ...]] = {}
        """What those have asked who wait."""
        self.told: list[str] = []
        """What has happened, for a failure's message."""

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()

    def step(self, name: str, words: tuple[Any, ...]) -> None:
        """Carries out a step on both sides, and compares what comes of it."""
        self.told.append(f"{name}: {' '.join(map(str, words))}")
        self.theirs.start(name, words)
        self.ours.start(name, words)
        if words == _CLOSE:
            self.asked.pop(name, None)
        else:
            self.asked[name] = words
        waiting = self.theirs.waiting() if self.asked.keys() - {name} or waits_for_long(words) else set()
        for answered in [asking for asking in self.asked if asking not in waiting]:
            del self.asked[answered]
            expected = self.theirs.connections[answered].receive()
            reply = self.ours.connections[answered].receive()
            self.told.append(f"  {answered} gets {expected!r}")
            assert reply == expected, "\n".join(self.told)
        expected_requests = sum(self._shards_of(words) for words in self.asked.values())
        deadline_s = clock.monotonic() + 10
        while self._waiting_requests() != expected_requests:
            assert clock.monotonic() < deadline_s, "\n".join([*self.told, f"{self.asked} should wait"])

    def _waiting_requests(self) -> int:
        lines = self.ours.control.text("INFO", "shards").splitlines()
        found = [line.partition("waiting=")[2].partition(",")[0] for line in lines if "waiting=" in line]
        return sum(map(int, found))

    def _shards_of(self, words: tuple[Any, ...]) -> int:
        """On how many shards a command waits."""
        args = [encoded(word).replace(b"{{", b"{").replace(b"}}", b"}") for word in words]
        command = lookup(args)
        assert command is not None
        return len({self.table[slot_of(wish[0])] for wish in command.waits.wishes(args)})


def play(server: Shardkv, twin: Server, script: Sequence[Step], *, workers: int, protocol: int) -> None:
    """Plays a script on both sides."""
    names = sorted({name for name, _ in script})
    interleaved = Interleaved(server, twin, workers=workers, names=names, protocol=protocol)
    try:
        for name, words in script:
            interleaved.step(name, words)
    finally:
        interleaved.close()
