"""Which shard may use how much of the setting maxmemory: the supervisor's part in the limit of memory.

Several times a second every shard says what it uses, and is told what it may use (see shardkv.eviction). The
supervisor and the proxies come first; the shards get what is left. What nobody uses yet goes above all to
those that grow. When all is used, each shard evicts for what it takes in itself, and besides room passes
slowly from the shards that evict what is worth least to those that evict what is worth most, so that the
keys of all shards are kept, or not, by the same measure.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shardkv import allocator, clock, control, limits

if TYPE_CHECKING:
    from proxy.relay import Answers
    from proxy.supervisor import Child, Supervisor

logger = logging.getLogger("proxy.shares")

_PASSED_ON = 1 / 200
_MOST_PASSED_ON = 1 / 20
"""So much of the limit passes from one shard to another at a time: what the other has just evicted, within
these bounds."""

_RESERVED = 1 / 100
"""So much of it the other shards clear at a time for one that has nothing to evict itself."""


@dataclass(slots=True)
class Use:
    """What a shard has said: the bytes it uses, and how many more these are than before; whether that is too
    much and it found nothing to evict, and whether it refuses what needs memory; the bytes that it has
    evicted since, and the worth of the last of them (see shardkv.victims)."""

    used: int = 0
    grown: int = 0
    is_short: bool = False
    is_full: bool = False
    evicted: int = 0
    coldest: int = 0


def divide(limit: int, uses: list[Use], policy: str, now_ms: int) -> list[int]:
    """What each shard may use of so many bytes."""
    free = limit - sum(use.used for use in uses)
    if policy == "noeviction":
        # Nobody is refused what is free. Several together may take it twice, until they have told.
        return [use.used + free for use in uses]
    reserved = [int(limit * _RESERVED) if use.is_short else 0 for use in uses]
    if not all(reserved):
        free -= sum(reserved)
    else:
        reserved = [0] * len(uses)
    weights = _weights(uses, grows=free >= 0)
    found = [
        use.used + extra + int(free * weight)
        for use, extra, weight in zip(uses, reserved, weights, strict=True)
    ]
    if free < limit * _PASSED_ON * len(uses):
        _pass_on(found, uses, policy, now_ms, limit)
    return found


def _weights(uses: list[Use], *, grows: bool) -> list[float]:
    """The parts of what is free that each gets, or of what is missing that each gives."""
    count = len(uses)
    if grows:
        grown = sum(use.grown for use in uses)
        return [(1 / count + use.grown / grown) / 2 if grown else 1 / count for use in uses]
    gives = [0 if use.is_short else use.used for use in uses]
    total = sum(gives)
    return [given / total if total else 1 / count for given in gives]


def _pass_on(found: list[int], uses: list[Use], policy: str, now_ms: int, limit: int) -> None:
    able = [number for number, use in enumerate(uses) if not use.is_short]
    if len(able) < 2:
        return
    coldest = min(able, key=lambda number: uses[number].coldest)
    warmest = max(able, key=lambda number: uses[number].coldest)
    if _is_colder(uses[coldest].coldest, uses[warmest].coldest, policy, now_ms):
        size = int(min(max(limit * _PASSED_ON, uses[warmest].evicted), limit * _MOST_PASSED_ON))
        found[coldest] -= size
        found[warmest] += size


def _is_colder(one: int, other: int, policy: str, now_ms: int) -> bool:
    """Whether what one shard evicts is worth so much less than what another does that it matters."""
    if policy.endswith("-lru"):
        return now_ms - one > 1.25 * (now_ms - other) + 1000
    if policy.endswith("-lfu"):
        return one + 1 < other
    return policy == "volatile-ttl" and one + 1000 < other


@dataclass(slots=True)
class _Shard:
    """A shard as the supervisor sees it; `pid` is the process that `use` is about."""

    pid: int = 0
    use: Use = field(default_factory=Use)
    is_asked: bool = False


class Shares:
    """Divides the memory, while there is a limit."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._shards: list[_Shard] = []
        self._next_s = 0.0
        self._beside: dict[int, int] = {}
        """Of proxies, by process id, what is to be subtracted from the resident size, because others have it
        as well."""
        self._told_full: dict[int, list[int]] = {}
        """What each proxy, by process id, was told of the shards that are full."""
        self._clients: dict[int, list[int]] = {}
        """Of proxies, by process id, the bytes of all clients' buffers and of the largest of them."""

    def settings_changed(self) -> None:
        """Looks at once."""
        self._next_s = 0.0

    def next_deadline(self) -> float | None:
        """When `tick` is next needed, by the monotonic clock."""
        config = self.supervisor.config
        return self._next_s if config.maxmemory or config.maxmemory_clients else None

    def tick(self, now_s: float) -> None:
        """Tells everybody what is to be told, if it is time."""
        config = self.supervisor.config
        if now_s < self._next_s or not (config.maxmemory or config.maxmemory_clients):
            return
        self._next_s = now_s + limits.MEMORY_SHARES_S
        if config.maxmemory:
            self._divide()
        if config.maxmemory_clients and len(self.supervisor.proxies) > 1:
            self._share_clients()
        self._tell_full()

    # -- shards ---------------------------------------------------------------------------------

    def _divide(self) -> None:
        supervisor = self.supervisor
        config = supervisor.config
        # There may be more of them, or fewer, than the last time.
        count = len(supervisor.workers)
        self._shards = [*self._shards[:count], *(_Shard() for _ in range(count - len(self._shards)))]
        for child, shard in zip(supervisor.workers, self._shards, strict=True):
            if shard.pid != child.pid:
                shard.pid, shard.use, shard.is_asked = child.pid, Use(), False
        left = config.maxmemory - self._used_by_others()
        found = divide(left, [shard.use for shard in self._shards], config.maxmemory_policy, clock.now_ms())
        for child, shard, share in zip(supervisor.workers, self._shards, found, strict=True):
            if child.channel is not None and child.ready and not shard.is_asked:
                self._tell(child, shard, share)

    def _tell(self, child: Child, shard: _Shard, share: int) -> None:
        pid = child.pid

        def take(answers: Answers) -> None:
            if shard.pid != pid:
                return
            shard.is_asked = False
            if answers and answers[0][2] is not None:
                used, is_short, is_full, evicted, coldest = answers[0][2]
                grown = max(0, used - shard.use.used)
                shard.use = Use(used, grown, bool(is_short), bool(is_full), evicted, coldest)

        shard.is_asked = True
        self.supervisor.relay.ask_group([child], control.SHARE, share, take)

    def _used_by_others(self) -> int:
        """What the supervisor and the proxies use. What all processes have in common counts as the
        supervisor's."""
        used = allocator.resident_bytes(os.getpid())
        known, self._beside = self._beside, {}
        for proxy in self.supervisor.proxies:
            if proxy.pid:
                resident = allocator.resident_bytes(proxy.pid)
                beside = known.get(proxy.pid)
                if beside is None:
                    beside = resident - allocator.private_bytes(proxy.pid)
                self._beside[proxy.pid] = beside
                used += max(0, resident - beside)
        return used

    def _tell_full(self) -> None:
        """Says to the proxies which shards refuse what needs memory, if that has changed."""
        limited = self.supervisor.config.maxmemory > 0
        full = [number for number, shard in enumerate(self._shards) if limited and shard.use.is_full]
        told, self._told_full = self._told_full, {}
        for proxy in self.supervisor.proxies:
            if proxy.channel is not None and proxy.ready:
                self._told_full[proxy.pid] = full
                if told.get(proxy.pid, []) != full:
                    proxy.channel.send(control.Question(0, control.FULL, full))

    # -- clients --------------------------------------------------------------------------------

    def _share_clients(self) -> None:
        """Lets each proxy know what the clients of the others take, so that the largest of all can be
        found."""
        proxies = [proxy for proxy in self.supervisor.proxies if proxy.channel is not None and proxy.ready]
        self._clients = {proxy.pid: self._clients.get(proxy.pid, [0, 0]) for proxy in proxies}
        for proxy in proxies:
            others = [use for pid, use in self._clients.items() if pid != proxy.pid]
            body = [sum(total for total, _ in others), max((largest for _, largest in others), default=0)]
            self.supervisor.relay.ask_group([proxy], control.CLIENTS_MEMORY, body, self._taker(proxy.pid))

    def _taker(self, pid: int) -> Any:
        def take(answers: Answers) -> None:
            if answers and pid in self._clients:
                self._clients[pid] = answers[0][2] or [0, 0]

        return take
