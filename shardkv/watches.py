"""The keys that clients watch (WATCH), and who of them must not have his transaction carried out.

Pure bookkeeping of one shard. It observes changes only while somebody watches something.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shardkv.locks import LockKey
from shardkv.slots import slot_of

if TYPE_CHECKING:
    from shardkv.keyspace import Database
    from shardkv.shard import Shard

WatcherId = tuple[int, int]
"""(proxy, client): who watches."""


@dataclass(slots=True, eq=False)
class _Watcher:
    keys: set[LockKey] = field(default_factory=set)
    touched: bool = False


class Watches:
    """Who watches which keys of a shard."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._watchers: dict[WatcherId, _Watcher] = {}
        self._by_key: dict[LockKey, set[_Watcher]] = {}

    def __len__(self) -> int:
        """How many keys are watched."""
        return len(self._by_key)

    def watch(
        self, watcher_id: WatcherId, db: Database, keys: Iterable[bytes], *, further: bool = False
    ) -> None:
        """A client begins to watch keys, in addition to those that it watches.

        further   whether it believes to watch others here. If it is not known, the shard was restarted since,
                  and they may have been touched.
        """
        if not self._watchers:
            self._shard.observers.append(self._observe)
        watcher = self._watchers.get(watcher_id)
        if watcher is None:
            watcher = self._watchers[watcher_id] = _Watcher(touched=further)
        for key in keys:
            # What has expired already is gone from here on, and no change when it is removed.
            db.peek(key)
            watcher.keys.add((db.index, key))
            self._by_key.setdefault((db.index, key), set()).add(watcher)

    def forget(self, watcher_id: WatcherId) -> None:
        """A client ceases to watch anything."""
        watcher = self._watchers.pop(watcher_id, None)
        if watcher is None:
            return
        for key in watcher.keys:
            watchers = self._by_key[key]
            watchers.discard(watcher)
            if not watchers:
                del self._by_key[key]
        if not self._watchers:
            self._shard.observers.remove(self._observe)

    def forget_proxy(self, proxy: int) -> None:
        """A proxy is gone, and its clients with it."""
        for watcher_id in [watcher_id for watcher_id in self._watchers if watcher_id[0] == proxy]:
            self.forget(watcher_id)

    def is_touched(self, watcher_id: WatcherId) -> bool:
        """Whether any of a client's keys has changed, or expired, since it began to watch it.

        So it is for a client that is not known here: the shard was restarted since, and has forgotten it.
        """
        watcher = self._watchers.get(watcher_id)
        if watcher is None:
            return True
        if not watcher.touched:
            for index, key in watcher.keys:
                self._shard.database(index).peek(key)
        return watcher.touched

    def replaced(self, old: Database, new: Database | None = None) -> None:
        """The contents of a database are about to be replaced by those of another, or to be emptied: what is
        in either counts as touched."""
        for (index, key), watchers in self._by_key.items():
            if index == old.index and (_holds(old, key) or (new is not None and _holds(new, key))):
                _touch(watchers)

    def moved(self, slots: frozenset[int]) -> None:
        """Keys of these slots belong to another shard now, so that their changes are not seen here any more:
        they count as touched."""
        for (_, key), watchers in self._by_key.items():
            if slot_of(key) in slots:
                _touch(watchers)

    def _observe(self, db: Database, key: bytes, event: str) -> None:
        watchers = self._by_key.get((db.index, key))
        if watchers is not None:
            _touch(watchers)


def _holds(db: Database, key: bytes) -> bool:
    return key in db.slots[slot_of(key)]


def _touch(watchers: Iterable[_Watcher]) -> None:
    for watcher in watchers:
        watcher.touched = True
