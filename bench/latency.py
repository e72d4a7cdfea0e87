"""How long single replies take: for a connection that asks all the time, and for one that asks now and then.

    python -m bench.latency PORT KEYS PAUSE_S

is the second, the canary: it gets random ones of the strings that bench.strings has filled in (or, if KEYS is
0, strings that do not exist), with a pause after each, until its standard input ends, and then writes the
reply times in ns to its standard output, as JSON. It is a process of its own, so that nothing but the server
holds it up.
"""

from __future__ import annotations

import json
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench import strings
from bench.contest import Contest, in_turn
from bench.figures import Figure, Goal, Reading
from bench.servers import HOST, Server

CANARY_PAUSE_S = 0.001

_ABSENT = 1000
"""So many different strings that do not exist are asked for: they lie on all shards."""

_TIMEOUT_S = 60.0
_P50 = Figure("One connection", "GET, p50", "µs", Goal(2.2))
_P99 = Figure("One connection", "GET, p99", "µs")


def latency(contest: Contest) -> Iterator[Reading]:
    """Measures a single connection that sends one request after the other."""
    requests = max(100, contest.requests // 10)

    def measure(server: Server) -> list[int]:
        with _connection(server.port) as connection:
            return [timed_get(connection, contest.keyspace) for _ in range(requests)]

    for number in contest.each_round("one connection"):
        with contest.servers() as servers:
            for server in servers:
                strings.fill(server.port, contest.keyspace)
            times = in_turn(number, servers, measure)
        for figure, share in ((_P50, 0.5), (_P99, 0.99)):
            yield Reading(
                figure, percentile(times.shardkv, share) / 1e3, percentile(times.redis, share) / 1e3
            )


class Canary:
    """A client that goes on asking while something else happens to the server.

    Attributes: `times_ns`, the reply times, once it has ended.
    """

    def __init__(self) -> None:
        self.times_ns: list[int] = []


@contextmanager
def canary(port: int, keys: int) -> Iterator[Canary]:
    """Asks about every ms for one of so many strings, or for strings that do not exist if there are none,
    until the block ends. Raises RuntimeError if the canary died."""
    found = Canary()
    command = [sys.executable, "-m", __name__, str(port), str(keys), str(CANARY_PAUSE_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            # Its first line says that it has begun.
            assert process.stdout is not None
            process.stdout.readline()
            yield found
            output, _ = process.communicate(timeout=_TIMEOUT_S)
        finally:
            process.kill()
    if process.returncode != 0:
        raise RuntimeError("the canary client died")
    found.times_ns = json.loads(output)


def timed_get(connection: socket.socket, keys: int) -> int:
    """Gets one of the strings 0 to keys - 1, or, if there are none, one that does not exist; returns how long
    that took, in ns.

    Raises RuntimeError if the reply is not its value.
    """
    number = random.randrange(keys or _ABSENT)
    key, value = strings.key_of(number), strings.value_of(number)
    request = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)
    expected = b"$%d\r\n%b\r\n" % (len(value), value) if keys else b"$-1\r\n"
    begun = time.perf_counter_ns()
    connection.sendall(request)
    reply = connection.recv(4096)
    while len(reply) < len(expected) and expected.startswith(reply) and (more := connection.recv(4096)):
        reply += more
    took = time.perf_counter_ns() - begun
    if reply != expected:
        raise RuntimeError(f"GET {key.decode()} was answered with {reply!r}")
    return took


def percentile(times: Sequence[int], share: float) -> int:
    """The time within which this share of the replies came."""
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def _connection(port: int) -> socket.socket:
    connection = socket.create_connection((HOST, port), timeout=_TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _sing(port: int, keys: int, pause_s: float) -> None:
    """The life of the canary."""
    times = []
    with _connection(port) as connection:
        print("asking", flush=True)
        while True:
            times.append(timed_get(connection, keys))
            if select.select([sys.stdin], [], [], pause_s)[0]:
                break
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    _sing(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
