"""The collections that the servers hold when something is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from bench.requests import Word, send


@dataclass(frozen=True)
class Kind:
    """A type of collection.

    name      what to call it
    command   adds elements to one
    words     what the command says of the element of a number
    together  how many elements one request adds
    """

    name: str
    command: bytes
    words: Callable[[int], tuple[Word, ...]]
    together: int = 100

    def requests(self, key: bytes, count: int, first: int = 0) -> Iterator[tuple[Word, ...]]:
        """Requests that add the elements `first` to `first + count - 1` to a collection."""
        end = first + count
        for begin in range(first, end, self.together):
            numbers = range(begin, min(begin + self.together, end))
            yield (self.command, key, *chain.from_iterable(map(self.words, numbers)))


def element(number: int) -> bytes:
    """The element of a number, as redis-benchmark makes it from `element:__rand_int__`."""
    return b"element:%012d" % number


HASH = Kind("hash", b"HSET", lambda number: (element(number), b"value:%d" % number))
SET = Kind("set", b"SADD", lambda number: (element(number),))
SORTED_SET = Kind("sorted set", b"ZADD", lambda number: (number, element(number)))
LIST = Kind("list", b"RPUSH", lambda number: (element(number),))
STREAM = Kind("stream", b"XADD", lambda number: (b"*", b"field", element(number)), together=1)

KINDS = (HASH, SET, SORTED_SET, LIST, STREAM)


def fill(port: int, kind: Kind, key: bytes, count: int, first: int = 0) -> None:
    """Makes a collection of so many elements in place of what the key held. Raises RuntimeError if a request
    is refused."""
    send(port, chain([(b"DEL", key)], kind.requests(key, count, first)))


def fill_many(port: int, kind: Kind, collections: int, elements: int) -> None:
    """Makes so many collections of so many elements each."""
    send(
        port,
        chain.from_iterable(
            kind.requests(b"collection:%012d" % number, elements, first=number * elements)
            for number in range(collections)
        ),
    )
