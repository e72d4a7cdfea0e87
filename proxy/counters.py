"""What a proxy counts of its own work, for INFO."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from shardkv import clock
from shardkv.command import Command
from shardkv.errors import CommandError
from shardkv.latency import Durations, fold

SAMPLE_S = 0.09
"""The least time between two samples of the rates: a little less than a tenth of a second, because timers are
not exact."""

SAMPLES = 16
"""So many samples make an `instantaneous_` figure, as in Redis."""


@dataclass(slots=True)
class CommandCounters:
    """One command, as far as proxies answer it or refuse it. `ns` is its running time in sum."""

    calls: int = 0
    ns: int = 0
    failed: int = 0
    rejected: int = 0
    durations: Durations = field(default_factory=dict)
    """How long it took, as far as proxies carry it out or coordinate it."""


@dataclass(slots=True)
class Counters:
    """Counts since the start of the proxy or the last CONFIG RESETSTAT; sizes in bytes."""

    connections: int = 0
    rejected_connections: int = 0
    requests: int = 0
    """Requests taken up, the rejected ones among them."""
    rejected: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    output_limit_disconnections: int = 0
    query_limit_disconnections: int = 0
    denied: dict[str, int] = field(default_factory=dict)
    """How often clients were denied something for want of a right, by the reason (see proxy.acl_log)."""
    commands: dict[str, CommandCounters] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    """Error replies by their first word."""

    def of(self, command: Command) -> CommandCounters:
        """The counters of a command."""
        counters = self.commands.get(command.name)
        if counters is None:
            counters = self.commands[command.name] = CommandCounters()
        return counters

    def fold_durations(self, *, tracks: bool) -> None:
        """Makes tables of durations small that have become large; empties them if nothing is to be
        counted."""
        for counters in self.commands.values():
            if tracks:
                fold(counters.durations)
            else:
                counters.durations.clear()

    def reject(self, command: Command | None, error: CommandError) -> None:
        """A request was refused before it was carried out; `command` is None if there is no such."""
        self.rejected += 1
        if command is not None:
            self.of(command).rejected += 1
        self.count_error(error)

    def fail(self, command: Command, error: CommandError) -> None:
        """A command that the proxy carried out ended with an error."""
        self.of(command).failed += 1
        self.count_error(error)

    def deny(self, reason: str, times: int) -> None:
        """A client was denied something, so many times."""
        self.denied[reason] = self.denied.get(reason, 0) + times

    def count_error(self, error: CommandError) -> None:
        code = error.text.partition(b" ")[0].decode("ascii", "replace")
        self.errors[code] = self.errors.get(code, 0) + 1


class Rates:
    """Requests and bytes per second, over the last one and a half seconds or so."""

    def __init__(self, counters: Counters) -> None:
        self._samples: deque[tuple[float, int, int, int]] = deque(maxlen=SAMPLES)
        self.sample(counters)

    def sample(self, counters: Counters) -> None:
        """Takes the counts of this moment; to be called often and regularly."""
        now_s = clock.monotonic()
        if not self._samples or now_s - self._samples[-1][0] >= SAMPLE_S:
            sample = (now_s, counters.requests - counters.rejected, counters.bytes_in, counters.bytes_out)
            self._samples.append(sample)

    def per_second(self) -> tuple[float, float, float]:
        """Commands, bytes in and bytes out per second."""
        begin_s, *begin = self._samples[0]
        end_s, *end = self._samples[-1]
        if end_s == begin_s:
            return 0.0, 0.0, 0.0
        commands, received, sent = (
            (last - first) / (end_s - begin_s) for first, last in zip(begin, end, strict=True)
        )
        return commands, received, sent
