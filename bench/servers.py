"""The servers that are compared: how each is started, and what its processes use together."""

from __future__ import annotations

import platform
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis

import shardkv

HOST = "127.0.0.1"

_START_S = 120.0
_STOP_S = 60.0
_POLL_S = 0.002

SAME_FOR_BOTH = {
    "bind": HOST,
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    # A rewrite that begins by itself in the middle of a measurement would make the rounds differ.
    "auto-aof-rewrite-percentage": "0",
}


@dataclass(frozen=True)
class Program:
    """A server that can be started: what to call it, its command, and the settings that it alone gets."""

    name: str
    command: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)


def shardkv_program(workers: int, proxies: int) -> Program:
    """The shardkv of this checkout."""
    return Program(
        f"shardkv {shardkv.__version__} (Python {platform.python_version()})",
        (sys.executable, "-m", "shardkv"),
        {"workers": str(workers), "proxies": str(proxies)},
    )


def redis_program(binary: str) -> Program:
    """A redis-server, or a server that takes the same options, such as valkey-server.

    Raises OSError if there is no such program, ValueError if it tells its version in another way.
    """
    told = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, timeout=_START_S, check=False
    ).stdout
    match = re.search(r"(\w+) server v=(\S+)", told, re.IGNORECASE)
    if match is None:
        raise ValueError(f"{binary} --version does not look like redis-server's: {told!r}")
    return Program(f"{match[1].lower()} {match[2]}", (binary,))


class Server:
    """A server on a free port of the loopback interface, in a folder of its own.

    Attributes: `program`, `folder`, `port`, and `log`, the file with what it has printed.
    """

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.port = _free_port()
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Starts it and waits until it has loaded its data; returns how many seconds that took.

        Raises RuntimeError, with what it printed, if it ends or does not get that far in two minutes.
        """
        settings = {**SAME_FOR_BOTH, **self.program.settings, "port": str(self.port), "dir": str(self.folder)}
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        begun_s = time.perf_counter()
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self.program.command, *options], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        while not self._answers():
            if self._process.poll() is not None or time.perf_counter() - begun_s > _START_S:
                self.kill()
                raise RuntimeError(
                    f"{self.program.name} does not start:\n{self.log.read_text(errors='replace')}"
                )
            time.sleep(_POLL_S)
        return time.perf_counter() - begun_s

    def _answers(self) -> bool:
        """Whether it is there and has loaded all: DBSIZE needs every shard, while PING may not."""
        try:
            with socket.create_connection((HOST, self.port), timeout=_START_S) as connection:
                connection.sendall(b"DBSIZE\r\n")
                return connection.recv(100).startswith(b":")
        except (ConnectionRefusedError, ConnectionResetError):
            return False

    def stop(self) -> None:
        """Has it end in order. Raises RuntimeError if that takes more than a minute; it is dead then, too."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.program.name} did not stop on SIGTERM") from None

    def kill(self) -> None:
        """Ends it and all its processes at once, if it still runs."""
        if self._process is None or self._process.poll() is not None:
            return
        for process in self.processes():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        self._process.wait()

    def client(self) -> redis.Redis:
        """A new connection to it."""
        return redis.Redis(host=HOST, port=self.port)

    def processes(self) -> list[psutil.Process]:
        """All its processes; none if it has ended."""
        assert self._process is not None
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_times_s(self) -> Mapping[int, float]:
        """The processor time, of user and kernel together, that each of its processes has used so far.

        The kernel tells it in steps of 10 ms, so what is measured should use a second or more.
        """
        times = {process.pid: process.cpu_times() for process in self.processes()}
        return {pid: used.user + used.system for pid, used in times.items()}

    def cpu_since_s(self, before: Mapping[int, float]) -> float:
        """The processor time that all its processes have used since `cpu_times_s` gave `before`.

        Raises RuntimeError if one of them has died or come since: what it used is not known.
        """
        now = self.cpu_times_s()
        if now.keys() != before.keys():
            raise RuntimeError(f"{self.program.name} lost a process:\n{self.log.read_text(errors='replace')}")
        return sum(now.values()) - sum(before.values())

    def memory_bytes(self) -> int:
        """The proportional set size of all its processes: a page that several share counts once."""
        return sum(_proportional_set_bytes(process.pid) for process in self.processes())


@contextmanager
def running(program: Program) -> Iterator[Server]:
    """Runs a server until the block ends; its data goes with it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        server = Server(program, Path(folder))
        try:
            server.start()
            yield server
            server.stop()
        finally:
            server.kill()


def _proportional_set_bytes(pid: int) -> int:
    """From /proc/PID/smaps_rollup, see proc(5); 0 if the process has just ended, as a forked child may."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    match = re.search(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
