"""The strings that the servers hold when something is measured: known keys with known values of 64 bytes."""

from __future__ import annotations

from bench.requests import send

VALUE_BYTES = 64


def key_of(number: int) -> bytes:
    """The key of this number, as redis-benchmark makes it from `key:__rand_int__`."""
    return b"key:%012d" % number


def value_of(number: int) -> bytes:
    """The value that `fill` stores there; no two are equal."""
    return b"value:%058d" % number


def fill(port: int, count: int) -> None:
    """Stores the strings 0 to count - 1, a SET for each. Raises RuntimeError if one is refused."""
    send(port, ((b"SET", key_of(number), value_of(number)) for number in range(count)))
