"""What redis-benchmark asks of the servers. A workload more is an entry more in `WORKLOADS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench import strings

RANDOM = "__rand_int__"
"""redis-benchmark puts a number of 12 digits here, a random one below its option -r in each request."""

VALUE = "x" * strings.VALUE_BYTES


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
    least       the goals of operations per second, as ratios, by pipeline
    most_cpu    the goals of processor time per operation, likewise
    """

    name: str
    command: Sequence[str]
    prepare: Callable[[int, int, int], None] | None = None
    pipelines: Sequence[int] = (1, 16)
    operations: int = 1
    share: float = 1.0
    least: Mapping[int, float] = field(default_factory=dict)
    most_cpu: Mapping[int, float] = field(default_factory=dict)


def _strings(port: int, keyspace: int, requests: int) -> None:
    strings.fill(port, keyspace)


_LEAST = {1: 0.80, 16: 0.70}
_MOST_CPU = {1: 1.7, 16: 2.0}

WORKLOADS = (
    Workload("GET", ("GET", f"key:{RANDOM}"), prepare=_strings, least=_LEAST, most_cpu=_MOST_CPU),
    Workload("SET", ("SET", f"key:{RANDOM}", VALUE), least=_LEAST, most_cpu=_MOST_CPU),
    Workload("INCR", ("INCR", f"counter:{RANDOM}"), least=_LEAST, most_cpu=_MOST_CPU),
)
