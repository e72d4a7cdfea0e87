"""What redis-benchmark asks of the servers. A workload more is an entry more in `WORKLOADS`."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

from bench import elements, strings
from bench.requests import send
from shardkv.slots import SLOTS, slot_of

RANDOM = "__rand_int__"
"""redis-benchmark puts a number of 12 digits here, a random one below its option -r in each request."""

VALUE = "x" * strings.VALUE_BYTES

CLIENTS = 50


@dataclass(frozen=True)
class Workload:
    """One kind of request.

    name        what to call it
    command     its words
    prepare     gets a server ready for a run, unmeasured: takes its port, the size of the keyspace and the
                number of requests to come
    pipelines   how many requests a client sends at once, in one run each
    operations  what one request counts for: 10 for an MSET of ten keys
    share       of the usual number of requests; less for slow ones
    clients     how many send them: one alone where there are so few requests that the others would have
                none, for redis-benchmark has those turn idly
    least       the goals of operations per second, as ratios, by pipeline
    most_cpu    the goals of processor time per operation, likewise
    """

    name: str
    command: Sequence[str]
    prepare: Callable[[int, int, int], None] | None = None
    pipelines: Sequence[int] = (1, 16)
    operations: int = 1
    share: float = 1.0
    clients: int = CLIENTS
    least: Mapping[int, float] = field(default_factory=dict)
    most_cpu: Mapping[int, float] = field(default_factory=dict)


# -- what a run begins with ---------------------------------------------------------------------


def _strings(port: int, keyspace: int, requests: int) -> None:
    strings.fill(port, keyspace)


def _without(key: str) -> Callable[[int, int, int], None]:
    """Nothing under this key, so that the run makes the collection."""

    def prepare(port: int, keyspace: int, requests: int) -> None:
        send(port, [("DEL", key)])

    return prepare


def _enough(kind: elements.Kind, key: str) -> Callable[[int, int, int], None]:
    """A collection that has an element for every request to come, so that none finds it empty."""

    def prepare(port: int, keyspace: int, requests: int) -> None:
        elements.fill(port, kind, key.encode(), requests)

    return prepare


def _values(size: int) -> Callable[[int, int, int], None]:
    """A list of so many values."""

    def prepare(port: int, keyspace: int, requests: int) -> None:
        send(port, [("DEL", "mylist"), ("RPUSH", "mylist", *repeat(VALUE, size))])

    return prepare


def _halves_in_common(kind: elements.Kind, keys: Sequence[str]) -> Callable[[int, int, int], None]:
    """Two collections as large as the keyspace that have half of their elements in common."""

    def prepare(port: int, keyspace: int, requests: int) -> None:
        for number, key in enumerate(keys):
            elements.fill(port, kind, key.encode(), keyspace, first=number * keyspace // 2)

    return prepare


def _shuffled_numbers(port: int, keyspace: int, requests: int) -> None:
    """A list of the numbers below the size of the keyspace."""
    numbers = random.Random(1).sample(range(keyspace), keyspace)
    parts = (numbers[first : first + 100] for first in range(0, keyspace, 100))
    send(port, chain([("DEL", "numbers")], (("RPUSH", "numbers", *part) for part in parts)))


def _apart(name: str) -> tuple[str, str]:
    """Two keys that lie on different shards, as long as there are two: at the two ends of the slots."""
    names = [f"{name}:{number}" for number in range(1000)]
    return (
        next(key for key in names if slot_of(key.encode()) < SLOTS // 16),
        next(key for key in names if slot_of(key.encode()) >= SLOTS - SLOTS // 16),
    )


# -- the workloads ------------------------------------------------------------------------------

_LEAST = {1: 0.80, 16: 0.70}
_MOST_CPU = {1: 1.7, 16: 2.0}
_LEAST_OF_COLLECTIONS = {1: 0.75, 16: 0.55}
_LEAST_OF_LARGE = {1: 0.3}

_VALUES = elements.Kind("list", b"RPUSH", lambda number: (VALUE,))
_SETS = ("{sets}:1", "{sets}:2")
SETS_APART = _apart("set")
_SORTED_SETS = ("{sorted}:1", "{sorted}:2")
SORTED_SETS_APART = _apart("sorted")
_ELEMENT = f"element:{RANDOM}"


def _collection(
    name: str,
    command: str,
    prepare: Callable[[int, int, int], None],
    share: float = 1.0,
    operations: int = 1,
) -> Workload:
    """A workload of short requests."""
    return Workload(
        name, command.split(), prepare, share=share, operations=operations, least=_LEAST_OF_COLLECTIONS
    )


def _large(name: str, command: Sequence[str], prepare: Callable[[int, int, int], None]) -> Workload:
    """A workload of requests that take very long."""
    return Workload(name, command, prepare, pipelines=(1,), share=0.00015, clients=1, least=_LEAST_OF_LARGE)


WORKLOADS = (
    Workload("GET", ("GET", f"key:{RANDOM}"), prepare=_strings, least=_LEAST, most_cpu=_MOST_CPU),
    Workload("SET", ("SET", f"key:{RANDOM}", VALUE), least=_LEAST, most_cpu=_MOST_CPU),
    Workload("INCR", ("INCR", f"counter:{RANDOM}"), least=_LEAST, most_cpu=_MOST_CPU),
    _collection("MSET, 10 keys", "MSET " + f"key:{RANDOM} {VALUE} " * 10, _strings, share=0.2, operations=10),
    _collection("HSET", f"HSET myhash {_ELEMENT} {VALUE}", _without("myhash")),
    _collection("LPUSH", f"LPUSH mylist {VALUE}", _without("mylist")),
    _collection("RPOP", "RPOP mylist", _enough(_VALUES, "mylist")),
    _collection("LRANGE_100", "LRANGE mylist 0 99", _values(1000), share=0.2),
    _collection("LRANGE_300", "LRANGE mylist 0 299", _values(1000), share=0.1),
    _collection("LRANGE_600", "LRANGE mylist 0 599", _values(1000), share=0.05),
    _collection("SADD", f"SADD myset {_ELEMENT}", _without("myset")),
    _collection("SPOP", "SPOP myset", _enough(elements.SET, "myset")),
    _collection("ZADD", f"ZADD mysorted {RANDOM} {_ELEMENT}", _without("mysorted")),
    _collection("ZPOPMIN", "ZPOPMIN mysorted", _enough(elements.SORTED_SET, "mysorted")),
    _collection("XADD", f"XADD mystream * field {VALUE}", _without("mystream")),
    _large("SINTER, one shard", ("SINTER", *_SETS), _halves_in_common(elements.SET, _SETS)),
    _large("SINTER, two shards", ("SINTER", *SETS_APART), _halves_in_common(elements.SET, SETS_APART)),
    _large(
        "ZUNIONSTORE, one shard",
        ("ZUNIONSTORE", "{sorted}:3", "2", *_SORTED_SETS),
        _halves_in_common(elements.SORTED_SET, _SORTED_SETS),
    ),
    _large(
        "ZUNIONSTORE, two shards",
        ("ZUNIONSTORE", "union", "2", *SORTED_SETS_APART),
        _halves_in_common(elements.SORTED_SET, SORTED_SETS_APART),
    ),
    _large("SORT", ("SORT", "numbers"), _shuffled_numbers),
)
