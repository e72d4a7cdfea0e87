"""The strings that the servers hold when something is measured: known keys with known values of 64 bytes."""

from __future__ import annotations

import socket

from bench.servers import HOST

VALUE_BYTES = 64

_BATCH = 1000
_TIMEOUT_S = 60.0


def key_of(number: int) -> bytes:
    """The key of this number, as redis-benchmark makes it from `key:__rand_int__`."""
    return b"key:%012d" % number


def value_of(number: int) -> bytes:
    """The value that `fill` stores there; no two are equal."""
    return b"value:%058d" % number


def fill(port: int, count: int) -> None:
    """Stores the strings 0 to count - 1, a SET for each. Raises RuntimeError if one is refused."""
    with socket.create_connection((HOST, port), timeout=_TIMEOUT_S) as connection:
        for first in range(0, count, _BATCH):
            numbers = range(first, min(first + _BATCH, count))
            connection.sendall(b"".join(map(_set_request, numbers)))
            _expect(connection, b"+OK\r\n" * len(numbers))


def _set_request(number: int) -> bytes:
    key, value = key_of(number), value_of(number)
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


def _expect(connection: socket.socket, replies: bytes) -> None:
    received = b""
    while len(received) < len(replies):
        data = connection.recv(1 << 16)
        received += data
        if not data or not replies.startswith(received):
            raise RuntimeError(f"SET was answered with {received[:200]!r}")
