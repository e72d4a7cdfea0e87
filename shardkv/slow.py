"""Which of a shard's requests are slow, and what is told of them to the proxy that knows their clients.

`Shard.run` reads the clock where one command follows another. What it has measured goes to `look_at` only if
it took as long as something asks for, so nothing is done while nothing is slow. A run of several requests of
the same command, which were timed together, is then put down to the one with the most to do; this is for
commands whose work grows with the bytes of the request and its reply. All others are timed one by one
(scripts, KEYS, SORT, ZUNIONSTORE …), and so is every command while the threshold is low."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from shardkv import clock, limits
from shardkv.command import Command, Flag, Handler
from shardkv.latency import NEVER_NS, Events
from shardkv.slots import SLOT_MASK
from shardkv.wire import Batch, Reply

if TYPE_CHECKING:
    from shardkv.stats import CommandStats

SLOW: Final = 0
LARGE_REQUEST: Final = 1
LARGE_REPLY: Final = 2
"""Why a request is logged: it has taken long, or it or its reply is large."""

DENIED: Final = 3
"""A script was denied what it has called: so many times, and the words are the reason, what was denied, and
the user."""

Entry = tuple[int, int, int, list[bytes]]
"""A request that is logged: why, when it was done in s since 1970, the µs it took or its bytes, and its
words, trimmed."""


def trimmed(words: Sequence[Any]) -> list[bytes]:
    """A request as it is logged: not more of its words, and of each of them, than the limits say."""
    most = limits.LOGGED_WORDS
    shown = [_trimmed(word) for word in words[: most - 1 if len(words) > most else most]]
    if len(words) > most:
        shown.append(b"... (%d more arguments)" % (len(words) - most + 1))
    return shown


def _trimmed(word: Any) -> bytes:
    if not isinstance(word, bytes):
        return b"%d" % word
    more = len(word) - limits.LOGGED_WORD_BYTES
    if more <= 0:
        return word
    return b"%b... (%d more bytes)" % (word[: limits.LOGGED_WORD_BYTES], more)


class Slow:
    """What is slow on one shard."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.events = Events(config.latency_monitor_threshold)
        self.note: Callable[[Command, Entry, Batch, int], None] = lambda command, entry, batch, place: None
        """Takes the entry of a request, and its place in a batch; without a batch it is the request that runs
        now."""
        self.settings_changed()

    def settings_changed(self) -> None:
        """Follows the settings."""
        slower_us = self.config.slowlog_log_slower_than
        self.logged_ns = NEVER_NS if slower_us < 0 or not self.config.slowlog_max_len else slower_us * 1000
        self.events.set_threshold(self.config.latency_monitor_threshold)
        self.least_ns = min(self.logged_ns, self.events.threshold_ns)
        """What takes as long is to be looked at."""
        self.tracks: bool = self.config.latency_tracking
        """Whether it is counted how long requests take."""

    def times_singly(self, command: Command) -> bool:
        """Whether each request of a command has to be timed by itself."""
        if command.internal:
            return False
        if self.least_ns < limits.TIMED_SINGLY_BELOW_US * 1000:
            return True
        return self.least_ns < NEVER_NS and not _works_by_size(command)

    def timed(self, handler: Handler, stats: CommandStats) -> Handler:
        """The handler of a command, timed by itself."""
        now_ns, least_ns = clock.perf_counter_ns, self.least_ns

        def timed(db: Any, args: list[Any]) -> Any:
            begun_ns = now_ns()
            try:
                return handler(db, args)
            finally:
                took_ns = now_ns() - begun_ns
                if took_ns >= least_ns:
                    self.took(stats, args, took_ns)

        return timed

    def took(self, stats: CommandStats, args: list[Any], took_ns: int) -> None:
        """The request that runs now has taken so long, which something asks for."""
        self.events.add(event_of(stats.command), took_ns)
        if self._logs(stats, took_ns):
            self.note(stats.command, self._entry(stats.command, args, took_ns), [], 0)

    def look_at(
        self, stats: CommandStats, batch: Batch, replies: list[Reply], calls: int, took_ns: int
    ) -> None:
        """One of the last `calls` requests of those that have replies took so long; they were timed
        together."""
        if took_ns < self.least_ns:
            return
        self.events.add(event_of(stats.command), took_ns)
        if self._logs(stats, took_ns):
            done = [place for place in range(len(replies)) if not _is_parked(batch[place], replies[place])]
            place = max(done[-calls:], key=lambda place: _size(batch[place], replies[place]))
            self.note(stats.command, self._entry(stats.command, batch[place], took_ns), batch, place)

    def _logs(self, stats: CommandStats, took_ns: int) -> bool:
        """Whether a request is logged; the coordinator logs a command whose parts were run."""
        return took_ns >= self.logged_ns and not stats.part and not stats.command.flags & Flag.SKIP_SLOWLOG

    def _entry(self, command: Command, args: list[Any], took_ns: int) -> Entry:
        words = [command.propagated_name, *args[1:]]
        return SLOW, clock.now_ms() // 1000, took_ns // 1000, trimmed(words)


def _works_by_size(command: Command) -> bool:
    """Whether the more a request of this command has to do the larger it is, or its reply: what is done at
    once, or for each word, or reads what it replies."""
    is_short = command.flags & Flag.FAST or command.complexity == "O(1)"
    reads_one = command.one_key and command.flags & Flag.READONLY
    return bool(is_short or reads_one or command.complexity.startswith(_FOR_EACH_KEY))


_FOR_EACH_KEY: Final = "O(N) where N is the number of keys"


def event_of(command: Command) -> str:
    """What LATENCY calls the event that a command is slow."""
    return "fast-command" if command.is_fast else "command"


def _is_parked(args: list[Any], reply: Reply) -> bool:
    """Whether a request was not run, because it waits for locks: its code is still there."""
    return reply is None and isinstance(args[0], int) and args[0] > SLOT_MASK


def _size(args: list[Any], reply: Reply) -> int:
    return sum(len(word) for word in args[1:] if isinstance(word, bytes)) + len(reply or b"")
