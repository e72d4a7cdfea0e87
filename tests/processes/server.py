"""shardkv as a user runs it: its own processes, a port, a data folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shardkv import clock
from tests.twin.servers import Server, free_port
from tests.wire import Connection

ROOT = Path(__file__).parents[2]

START_S = 30.0
STOP_S = 30.0
_POLL_S = 0.005


@dataclass(frozen=True)
class Shardkv(Server):
    """A running server. `port` is where it listens, `folder` what it works in."""

    process: subprocess.Popen[bytes]
    log: Path

    def wire(self, protocol: int = 2) -> Connection:
        """A bare connection."""
        return Connection(self.port, protocol)

    def info(self, section: str = "everything") -> dict[str, str]:
        """The fields of INFO."""
        with self.wire() as connection:
            return fields(connection.text("INFO", section))

    def pids(self, kind: str) -> list[int]:
        """The processes whose titles say that they are such: `worker`, `proxy`."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if f": {kind}-" in _title(pid)]

    def stop(self) -> int:
        """Has the server end by itself; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


def _title(pid: str) -> str:
    """A process's title; empty if it has just ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def fields(text: str) -> dict[str, str]:
    """The lines `name:value` of INFO."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def client_id(connection: Connection) -> int:
    return int(connection.ask("CLIENT", "ID")[1:])


def on_proxy(server: Shardkv, proxy: int, proxies: int) -> Connection:
    """A connection to that proxy."""
    while True:
        connection = server.wire()
        if (client_id(connection) - 1) % proxies == proxy:
            return connection
        connection.socket.close()


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Waits until something is so. Raises AssertionError if it does not happen."""
    deadline = clock.monotonic() + timeout_s
    while not condition():
        assert clock.monotonic() < deadline, "it did not happen in time"
        clock.sleep(_POLL_S)


@contextmanager
def shardkv(
    folder: Path | None = None, *, config: Path | None = None, exit_code: int = 0, **settings: str | int
) -> Iterator[Shardkv]:
    """Runs shardkv on a free port until the block ends, then by SIGTERM if it has not ended before.

    Takes settings with `_` for the `-` in their names. Without a `folder` the data folder is a temporary one.
    Raises RuntimeError, with what it printed, if it does not start; AssertionError if it ends with another
    exit code than is expected.
    """
    with tempfile.TemporaryDirectory(prefix="shardkv-") as temporary:
        data = folder or Path(temporary)
        port = free_port()
        given = {"port": port, "dir": data, "workers": 2, "proxies": 1} | settings
        options = [
            word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        command = [sys.executable, "-m", "shardkv", *([str(config)] if config else []), *options]
        log = Path(temporary, "shardkv.log")
        environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, env=environment)
        try:
            server = Shardkv(port, data, process, log)
            _wait_until_ready(server)
            yield server
            if process.poll() is None:
                server.stop()
            assert process.returncode == exit_code, log.read_text()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait_until_ready(server: Shardkv) -> None:
    deadline = clock.monotonic() + START_S
    while clock.monotonic() < deadline and server.process.poll() is None:
        try:
            with server.wire() as connection:
                # A shard that has not loaded yet says so; any other error comes from a server that is ready.
                # No reply at all comes from one that has ended.
                reply = connection.ask("DBSIZE")
                if reply and not reply.startswith((b"-LOADING", b"-SHARDDOWN")):
                    return
                clock.sleep(_POLL_S)
        except ConnectionRefusedError:
            clock.sleep(_POLL_S)
    raise RuntimeError(f"shardkv does not answer on port {server.port}:\n{server.log.read_text()}")
