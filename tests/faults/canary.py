"""A client that behaves, in a process of its own: asks for its own data all the time until its input ends,
then prints how often it was answered and the ms that the slowest reply took. A wrong reply ends it."""

from __future__ import annotations

import select
import subprocess
import sys
from types import TracebackType

from shardkv import clock
from tests.wire import Connection, pack

_PAUSE_S = 0.002


class Canary:
    """Runs one beside a test. `asked` and `worst_ms` are known when the block has ended."""

    asked = 0
    worst_ms = 0.0

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", __name__, str(port)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def __enter__(self) -> Canary:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told, complaint = self._process.communicate(timeout=30)
        assert self._process.returncode == 0, complaint.decode()
        asked, worst_ms = told.split()
        self.asked, self.worst_ms = int(asked), float(worst_ms)


def sing(port: int) -> None:
    """What the process does."""
    asked, worst_s = 0, 0.0
    with Connection(port) as connection:
        connection.ask("PING")
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], _PAUSE_S)[0]:
            word = b"canary%d" % asked
            begun_s = clock.monotonic()
            connection.send_bytes(pack("ECHO", word) + pack("SET", word, word, "EX", 10))
            assert connection.receive() == b"$%d\r\n%b\r\n" % (len(word), word)
            assert connection.receive() == b"+OK\r\n"
            worst_s = max(worst_s, clock.monotonic() - begun_s)
            asked += 1
    print(asked, worst_s * 1000)


if __name__ == "__main__":
    sing(int(sys.argv[1]))
