"""The figures of commands on one shard: how often they were carried out, how long it took, how often they
have failed."""

from __future__ import annotations

from dataclasses import dataclass, field

from shardkv import limits
from shardkv.command import Command
from shardkv.errors import CommandError
from shardkv.latency import Durations, count, fold
from shardkv.slow import Slow
from shardkv.wire import Batch, Reply


@dataclass(slots=True)
class CommandStats:
    """The figures of one command for INFO commandstats; `ns` is its running time in sum."""

    command: Command
    calls: int = 0
    ns: int = 0
    failed: int = 0
    part: bool = False
    """Whether these were parts of commands over several shards, whose calls and errors their coordinators
    count."""
    durations: Durations = field(default_factory=dict)
    """Of those requests whose time was looked at."""
    together: bool = True
    """Whether its requests are timed together where they follow each other, and not one by one as well."""


class Stats:
    """Those of all commands.

    commands          by name
    parts             the same for the parts of commands over several shards
    errors            how often each error was a reply, by its first word
    tracked_batches   of so many batches that come next the times are counted
    """

    def __init__(self, slow: Slow) -> None:
        self._slow = slow
        self.commands: dict[str, CommandStats] = {}
        self.parts: dict[str, CommandStats] = {}
        self.errors: dict[str, int] = {}
        self.tracked_batches = limits.TRACKED_BATCHES if slow.tracks else 0

    def of(self, command: Command, *, part: bool = False) -> CommandStats:
        """The figures of a command."""
        known = self.parts if part else self.commands
        return known.setdefault(command.name, CommandStats(command, part=part))

    def look_at(
        self, stats: CommandStats, batch: Batch, replies: list[Reply], calls: int, took_ns: int
    ) -> None:
        """Looks at the time that the last requests took together: because they are to be counted by it, or
        because it was as long as something asks for."""
        if not calls or stats.command.internal:
            return
        if self._slow.tracks and not stats.part:
            count(stats.durations, took_ns // calls, calls)
        if took_ns >= self._slow.least_ns and stats.together:
            others = stats.calls - calls
            usual_ns = (stats.ns - took_ns) / others if others else took_ns / calls
            self._slow.look_at(stats, batch, replies, calls, took_ns - int((calls - 1) * usual_ns))

    def took(self, stats: CommandStats, words: list[bytes], took_ns: int) -> None:
        """A script has called a command, which took so long."""
        stats.calls += 1
        stats.ns += took_ns
        if self.tracked_batches:
            count(stats.durations, took_ns)
        if took_ns >= self._slow.least_ns:
            self._slow.took(stats, words, took_ns)

    def failed(self, stats: CommandStats, error: CommandError) -> None:
        """A request has failed."""
        stats.failed += 1
        if stats.part:
            return
        code = error.text.split(b" ", 1)[0].decode("ascii", "replace")
        self.errors[code] = self.errors.get(code, 0) + 1

    def settings_changed(self) -> None:
        """Follows the settings about what is measured."""
        self._slow.settings_changed()
        if not self._slow.tracks:
            for stats in self.commands.values():
                stats.durations.clear()
        self.keep_measuring()

    def keep_measuring(self) -> None:
        """To be called regularly: from here on the times of so many batches are counted, and the tables of
        times that have become large are made small."""
        self.tracked_batches = limits.TRACKED_BATCHES if self._slow.tracks else 0
        for stats in self.commands.values():
            fold(stats.durations)

    def reset(self) -> None:
        """Counts from zero again."""
        self.commands.clear()
        self.parts.clear()
        self.errors = {}
