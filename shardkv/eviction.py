"""The limit of a shard's memory, and evicting keys to stay below it.

The supervisor tells each shard its share of the setting maxmemory, several times a second (see
proxy.shares). What the shard uses is measured often, but not before every command: in between it is
estimated, from what commands bring in and what is evicted. When the estimate exceeds the share, it is
measured if that has not been done just before; then keys are evicted, before the command runs that needs the
memory.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import getsizeof
from typing import TYPE_CHECKING, Any

from shardkv import allocator, clock, errors, limits
from shardkv.chores import bury
from shardkv.command import Handler
from shardkv.commands.memory import usage
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.victims import Victim, Victims

if TYPE_CHECKING:
    from shardkv.shard import Shard

_WORD_BYTES = 50
_REQUEST_BYTES = 50
"""What a request that stores something takes beyond the bytes of its words, for each and in all: the headers
of objects, and places in tables."""

_SPARE_BYTES = 16 * 1024

_OVERDRAFT_PART = 20

_VICTIMS_AT_A_TIME = 16
"""Keys that are evicted between two looks at the clock."""


class Eviction:
    """One shard's use of memory, while there is a limit."""

    def __init__(
        self, shard: Shard, *, beside_bytes: int = 0, measure: Callable[[], int] = allocator.used_bytes
    ) -> None:
        """`beside_bytes` is what the process takes beside what its allocators have handed out, and `measure`
        tells."""
        self.shard = shard
        self.used_bytes = 0
        """As far as is known."""
        self.share_bytes: int = shard.config.maxmemory
        """What the shard may use; until somebody says so, as much as the whole server."""
        self.is_short = False
        """Whether it uses more than its share, and found nothing that it could evict."""
        self.is_full = False
        """Whether besides it uses so much more that what needs memory is refused."""
        self.exceeded_ms = 0
        """How long it was short, in sum."""
        self.coldest = 0
        """The worth of what was evicted last (see shardkv.victims)."""
        self._evicted_bytes = 0
        """Since the supervisor was told of it."""
        self._measure = measure
        self._beside_bytes = beside_bytes
        self._next_measurement_s = 0.0
        self._victims = Victims(shard)
        self._short_since_s: float | None = None
        self._sparse: dict[tuple[int, int], Database] = {}
        """Slots, each with the index of its database, from which keys were evicted."""
        self.measure()

    # -- how much is used -----------------------------------------------------------------------

    def measure(self) -> None:
        """Has it measured what the shard uses."""
        begun_s = clock.monotonic()
        self.used_bytes = self._beside_bytes + self._measure()
        took_s = clock.monotonic() - begun_s
        self._next_measurement_s = begun_s + took_s * limits.MEMORY_MEASUREMENT_REST

    def note_growth(self, args: list[Any]) -> None:
        """A request will be carried out that may store what it brings."""
        self.used_bytes += _growth(args)

    def guarded(self, handler: Handler) -> Handler:
        """The handler of a command that needs memory, behind a check that there is some."""
        shard = self.shard

        def handle(db: Database, args: list[Any]) -> Any:
            if self.used_bytes > self.share_bytes and not shard.together and not self.make_room():
                raise CommandError(errors.OUT_OF_MEMORY)
            self.used_bytes += _growth(args)
            return handler(db, args)

        return handle

    # -- evicting -------------------------------------------------------------------------------

    def make_room(self) -> bool:
        """Evicts keys until the shard uses no more than its share, or for as long as the setting
        maxmemory-eviction-tenacity allows. False if there is too little that could be evicted."""
        now_s = clock.monotonic()
        if self.used_bytes > self.share_bytes and now_s >= self._next_measurement_s:
            self.measure()
        self._set_short(not self._evict(now_s + _patience_s(self.shard.config)))
        self.is_full = self.is_short and self.used_bytes > self.share_bytes + self._overdraft_bytes()
        return not self.is_full

    def _overdraft_bytes(self) -> int:
        """What a shard with nothing to evict may use beyond its share, while the others are made to evict for
        it. All together come to a twentieth of the limit at most."""
        config = self.shard.config
        workers: int = config.workers
        limit: int = config.maxmemory
        return 0 if config.maxmemory_policy == "noeviction" else limit // (_OVERDRAFT_PART * max(1, workers))

    def _evict(self, until_s: float) -> bool:
        evicted = 0
        # A little more, so that it is not the next command's turn again.
        enough_bytes = self.share_bytes - min(_SPARE_BYTES, self.share_bytes // 1000)
        while self.used_bytes > (enough_bytes if evicted else self.share_bytes):
            victim = self._victims.take()
            if victim is None:
                self._tidy()
                return self.used_bytes <= self.share_bytes
            self._remove(victim, until_s)
            evicted += 1
            if evicted % _VICTIMS_AT_A_TIME == 0:
                now_s = clock.monotonic()
                if now_s >= until_s:
                    # The rest is done when there is time, and with the next command.
                    break
                if now_s >= self._next_measurement_s:
                    self.measure()
        self._tidy()
        return True

    def _remove(self, victim: Victim, until_s: float) -> None:
        shard, db, key = self.shard, victim.db, victim.key
        size = _size(db, key, db.slots[victim.slot][key])
        self.used_bytes -= size
        self._evicted_bytes += size
        self.coldest = victim.worth
        db.remove(key, victim.slot)
        shard.evicted_keys += 1
        shard.propagate_removal(db, key)
        if shard.observers:
            shard.observe(db, key, "evicted")
        if shard.graveyard and not shard.config.lazyfree_lazy_eviction:
            bury(shard, max(0.0, until_s - clock.monotonic()))
        self._sparse[db.index, victim.slot] = db

    def _tidy(self) -> None:
        """Gives tables of slots that have become far too large for what is left in them the right size."""
        for (_, slot), db in self._sparse.items():
            for tables in (db.slots, db.marks):
                if tables and _is_sparse(tables[slot]):
                    tables[slot] = dict(tables[slot])  # type: ignore[arg-type]
        self._sparse.clear()

    # -- in between -----------------------------------------------------------------------------

    def cron(self) -> bool:
        """To be called when there is time, several times a second; whether it should be called again soon."""
        now_s = clock.monotonic()
        if now_s >= self._next_measurement_s:
            self.measure()
        if self.used_bytes <= self.share_bytes:
            self._set_short(False)
            return False
        return self.make_room() and self.used_bytes > self.share_bytes

    def share(self, share_bytes: int) -> list[int]:
        """From now on the shard may use so much. Returns what the supervisor has to know: the bytes in use,
        whether it is short and whether it is full, the bytes that were evicted since it was told last, and
        the worth of the last of them."""
        self.share_bytes = share_bytes
        if self.used_bytes <= share_bytes:
            self._set_short(False)
        evicted_bytes, self._evicted_bytes = self._evicted_bytes, 0
        return [self.used_bytes, int(self.is_short), int(self.is_full), evicted_bytes, self.coldest]

    def settings_changed(self, changed: dict[str, Any]) -> None:
        """Follows settings that have been changed while running."""
        if "maxmemory-policy" in changed:
            self._victims = Victims(self.shard)
        if "maxmemory" in changed:
            self.share_bytes = self.shard.config.maxmemory

    def _set_short(self, short: bool) -> None:
        self.is_full = self.is_full and short
        if short == self.is_short:
            return
        self.is_short = short
        if short:
            self._short_since_s = clock.monotonic()
        else:
            self.exceeded_ms += self.current_exceeded_ms
            self._short_since_s = None

    @property
    def current_exceeded_ms(self) -> int:
        """How long the shard has used too much by now; 0 if it does not."""
        return 0 if self._short_since_s is None else int((clock.monotonic() - self._short_since_s) * 1000)


def _growth(args: list[Any]) -> int:
    """What a request may add to what is stored: an estimate rather too high."""
    size = _REQUEST_BYTES
    for word in args:
        if word.__class__ is bytes:
            size += len(word) + _WORD_BYTES
    return size


def _size(db: Database, key: bytes, value: Any) -> int:
    """What is freed when a key goes."""
    if value.__class__ is bytes:
        return len(key) + len(value) + _REQUEST_BYTES + 2 * _WORD_BYTES
    return usage(db, key, limits.MEMORY_SAMPLES) or 0


def _patience_s(config: Any) -> float:
    """How long a command waits for keys to be evicted at most."""
    tenacity: int = config.maxmemory_eviction_tenacity
    if tenacity >= _NEVER_GIVES_UP:
        return float("inf")
    if tenacity <= _USUAL_TENACITY:
        return limits.EVICTION_S * tenacity / _USUAL_TENACITY
    return limits.EVICTION_S * limits.EVICTION_GROWTH ** (tenacity - _USUAL_TENACITY)


_USUAL_TENACITY = 10
_NEVER_GIVES_UP = 100


def _is_sparse(table: dict[bytes, Any]) -> bool:
    return getsizeof(table) > _LEAST_TABLE_BYTES + _ENTRY_BYTES * len(table) and len(table) < _MOST_MOVED


_LEAST_TABLE_BYTES = 232
_ENTRY_BYTES = 60
"""A table of just the right size has up to so many bytes for each entry; one whose entries come and go may
have several times as many."""
_MOST_MOVED = 10_000
"""A table with more entries is left as it is, for moving them takes too long."""
