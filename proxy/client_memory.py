"""The limit of what all clients' buffers may take together (maxmemory-clients).

A proxy measures its clients in turn, some at each tick, and always those that do not take their replies as
fast as they come. The supervisor tells it what the clients of the other proxies take (see proxy.shares).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from proxy.supervision import topic
from shardkv import control, limits

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session

logger = logging.getLogger("proxy.client_memory")


class ClientMemory:
    """What the clients of one proxy take."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.evicted = 0
        self.others_bytes = 0
        self.others_largest_bytes = 0
        self._measured: dict[Session, int] = {}
        self._turn: Iterator[Session] = iter(())

    @property
    def limit_bytes(self) -> int:
        """What all clients may take; 0 if there is no limit."""
        config = self.proxy.config
        size = config.maxmemory_clients
        if size < 0:
            size = config.maxmemory * -size // 100
        return max(size, limits.LEAST_CLIENTS_BYTES) if size else 0

    def tick(self) -> None:
        """Measures some clients, and disconnects those that take most while all together take too much."""
        limit_bytes = self.limit_bytes
        if not limit_bytes:
            self._measured.clear()
            return
        self._measure()
        while self.total_bytes + self.others_bytes > limit_bytes and self._evict_largest():
            pass

    def _measure(self) -> None:
        measured, sessions = self._measured, self.proxy.sessions
        some = list(islice(self._turn, limits.MEASURED_CLIENTS))
        if len(some) < limits.MEASURED_CLIENTS:
            # All have had their turn, or there are few.
            self._turn = iter(list(sessions.values()))
            some += islice(self._turn, limits.MEASURED_CLIENTS - len(some))
        for session in some:
            measured[session] = session.taken_bytes
        for slow in self.proxy.slow_readers:
            if (found := sessions.get(slow.id)) is not None:
                measured[found] = found.taken_bytes
        for session in [session for session in measured if session.id not in sessions]:
            del measured[session]

    @property
    def total_bytes(self) -> int:
        return sum(self._measured.values())

    @property
    def largest_bytes(self) -> int:
        """Of those that may be disconnected."""
        return max((size for session, size in self._measured.items() if not session.no_evict), default=0)

    def _evict_largest(self) -> bool:
        """Disconnects the client that takes most, unless that is one of another proxy, or may not be; whether
        there was one."""
        able = {session: size for session, size in self._measured.items() if size and not session.no_evict}
        if not able:
            return False
        largest = max(able, key=able.__getitem__)
        if able[largest] < self.others_largest_bytes:
            return False
        logger.warning("client id=%d evicted: it took %d bytes", largest.id, able[largest])
        del self._measured[largest]
        self.evicted += 1
        largest.abort()
        return True


@topic(control.CLIENTS_MEMORY)
def _share(proxy: Proxy, body: list[int]) -> list[int]:
    """Takes what the clients of other proxies take, all and the largest of them; returns the same of this
    one's."""
    memory = proxy.client_memory
    memory.others_bytes, memory.others_largest_bytes = body
    return [memory.total_bytes, memory.largest_bytes]


@topic(control.FULL)
def _full(proxy: Proxy, body: list[int]) -> None:
    """Takes the shards that refuse what needs memory."""
    proxy.full_shards = frozenset(body)
    proxy.look_around()
