"""Client-side caching, a shard's part: who is to be told when a key changes.

A client that tracks keys has a number, its tracker's, that stands in the code of each of its requests (see
shardkv.wire). So what a request reads is remembered where and when it is read, whatever way the request has
come. When such a key changes, the proxies of these clients are told so in the stream in which they are told
what is published (see shardkv.channels), behind the replies that came before. Clients that have asked for all
keys with a prefix are told so of all that have changed in a turn at once. As in Redis, a key is known by its
name alone, in whatever database it is.

While nobody tracks anything, nothing of this is there.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardkv import limits
from shardkv.channels import INVALIDATED
from shardkv.command import Command, Flag, Handler
from shardkv.slots import slot_of

if TYPE_CHECKING:
    from shardkv.keyspace import Database
    from shardkv.shard import Shard


def proxy_of(number: int, proxies: int) -> int:
    """The proxy whose client has this number."""
    return number % max(1, proxies)


@dataclass(slots=True)
class _Tracker:
    """What a client that tracks keys has asked for."""

    no_loop: bool
    prefixes: list[bytes]


class Tracking:
    """The clients that want to know of changed keys of a shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._trackers: dict[int, _Tracker] = {}
        self._readers: OrderedDict[bytes, set[int]] = OrderedDict()
        """By key: who has read it since it changed."""
        self._prefixes: dict[bytes, dict[int, None]] = {}
        """By prefix: who has asked for it."""
        self._prefix_lengths: set[int] = set()
        self._changed: dict[bytes, dict[bytes, int]] = {}
        """By prefix: the keys that have changed in this turn, and whose change it was."""
        self.writer = 0
        """The client whose command changes something now, if it does not want to hear of that."""
        self.reader = 0
        """The client whose script reads now, if that counts."""
        self.items = 0
        """How many pairs of a key and a client are remembered."""

    def __len__(self) -> int:
        """How many clients there are."""
        return len(self._trackers)

    @property
    def keys(self) -> int:
        """How many keys are remembered."""
        return len(self._readers)

    @property
    def prefixes(self) -> int:
        """How many prefixes are asked for."""
        return len(self._prefixes)

    # -- who tracks -----------------------------------------------------------------------------

    def track(self, number: int, *, no_loop: bool, prefixes: list[bytes]) -> None:
        """A client begins to track keys, or does so otherwise than before; with prefixes, all keys that begin
        so instead of those that it reads."""
        self.untrack(number)
        if not self._trackers:
            self._shard.observers.append(self._observe)
        self._trackers[number] = _Tracker(no_loop, prefixes)
        for prefix in prefixes:
            self._prefixes.setdefault(prefix, {})[number] = None
        self._prefix_lengths = set(map(len, self._prefixes))

    def untrack(self, number: int) -> None:
        """A client ceases to track anything. What it has read is forgotten when it changes."""
        tracker = self._trackers.pop(number, None)
        if tracker is None:
            return
        for prefix in tracker.prefixes:
            del self._prefixes[prefix][number]
            if not self._prefixes[prefix]:
                del self._prefixes[prefix]
                self._changed.pop(prefix, None)
        self._prefix_lengths = set(map(len, self._prefixes))
        self._shard.unbind(number)
        if not self._trackers:
            self._shard.observers.remove(self._observe)
            self._forget_keys()

    def forget_proxy(self, proxy: int) -> None:
        """A proxy is gone, and its clients with it."""
        for number in [number for number in self._trackers if self._proxy_of(number) == proxy]:
            self.untrack(number)

    def _proxy_of(self, number: int) -> int:
        return proxy_of(number, self._shard.config.proxies)

    # -- what is read ---------------------------------------------------------------------------

    def followed(self, handler: Handler, command: Command, number: int, *, remembers: bool) -> Handler:
        """The handler of a command as a client that tracks keys calls it. `remembers` says whether what it
        reads counts."""
        if command.flags & Flag.READONLY and not command.runs_script:
            return self._remembering(handler, command, number) if remembers else handler
        tracker = self._trackers.get(number)
        writer = number if tracker is not None and tracker.no_loop else 0
        reader = number if remembers else 0

        def handle(db: Database, args: list[Any]) -> Any:
            self.writer, self.reader = writer, reader
            try:
                return handler(db, args)
            finally:
                self.writer = self.reader = 0

        return handle

    def _remembering(self, handler: Handler, command: Command, number: int) -> Handler:
        def handle(db: Database, args: list[Any]) -> Any:
            self.remember(number, command, args)
            return handler(db, args)

        return handle

    def remember(self, number: int, command: Command, args: list[Any]) -> None:
        """A client reads the keys of a request."""
        if number not in self._trackers:
            return
        readers = self._readers
        for position in command.key_positions(args):
            key = args[position]
            clients = readers.get(key)
            if clients is None:
                clients = readers[key] = set()
            if number not in clients:
                clients.add(number)
                self.items += 1
        self._keep_bound()

    def _keep_bound(self) -> None:
        """Tells those who have read what was read first that it has changed, if there is too much."""
        config = self._shard.config
        limit = config.tracking_table_max_keys
        if not limit:
            return
        share = max(1, limit // max(1, config.workers))
        while len(self._readers) > share:
            key, clients = self._readers.popitem(last=False)
            self.items -= len(clients)
            self._tell(clients, [key])

    # -- what changes ---------------------------------------------------------------------------

    def _observe(self, db: Database, key: bytes, event: str) -> None:
        if self._shard.replaying:
            return
        clients = self._readers.pop(key, None)
        if clients is not None:
            self.items -= len(clients)
            self._tell(clients - {self.writer}, [key])
        for length in self._prefix_lengths:
            prefix = key[:length]
            if prefix in self._prefixes and len(prefix) == length:
                self._changed.setdefault(prefix, {}).setdefault(key, self.writer)
                for number in self._prefixes[prefix]:
                    # So the shard has something to hand out at the end of the turn.
                    self._outbox(self._proxy_of(number))

    def moved(self, slots: frozenset[int]) -> None:
        """Keys of these slots belong to another shard now, which does not know who has read them: they count
        as changed. Where many are remembered all do, for looking at each would take long."""
        if len(self._readers) > limits.MOVE_TRACKED_KEYS:
            self._forget_keys()
            self._tell(self._trackers, [])
            return
        for key in [key for key in self._readers if slot_of(key) in slots]:
            clients = self._readers.pop(key)
            self.items -= len(clients)
            self._tell(clients, [key])

    def flushed(self) -> None:
        """Databases were emptied. As that is always done on all shards, whose locks are given up only when
        it is done, one of them tells the clients."""
        self._forget_keys()
        if self._shard.index == 0 and not self._shard.replaying:
            self._tell(self._trackers, [])

    def _forget_keys(self) -> None:
        if self._readers:
            self._shard.graveyard.append([self._readers])  # type: ignore[list-item]
        self._readers = OrderedDict()
        self.items = 0

    def hand_out(self) -> None:
        """The turn is over: tells who has asked for prefixes which keys have changed."""
        changed, self._changed = self._changed, {}
        for prefix in sorted(changed):
            keys = changed[prefix]
            every = sorted(keys)
            others = []
            for number in self._prefixes[prefix]:
                if self._trackers[number].no_loop and number in keys.values():
                    wanted = [key for key in every if keys[key] != number]
                    if wanted:
                        self._tell([number], wanted)
                else:
                    others.append(number)
            self._tell(others, every)

    def _tell(self, clients: Iterable[int], keys: list[bytes]) -> None:
        """Has clients told that keys have changed; without any, that all may have."""
        by_proxy: dict[int, array[int]] = {}
        for number in clients:
            if number in self._trackers:
                by_proxy.setdefault(self._proxy_of(number), array("I")).append(number)
        for proxy, numbers in by_proxy.items():
            self._outbox(proxy).append((INVALIDATED, numbers.tobytes(), b"", keys))

    def _outbox(self, proxy: int) -> list[Any]:
        return self._shard.channels.outboxes.setdefault(proxy, [])
