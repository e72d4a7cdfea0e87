"""Keyspace notifications: which events of keys are published, and on which channels.

Every change of a key ends in `Shard.observe` with the event's name. While the setting notify-keyspace-events
asks for any events, an observer publishes those that are wanted, and the databases of the shard are of a kind
that tells as well what is no change: keys that were looked for in vain, and keys that are new. Otherwise
nothing of this is there.

An event arises in the shard of its key, so every shard knows who listens to these channels (see
shardkv.channels), and the events of a key come in their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardkv.channels import CHANNEL
from shardkv.keyspace import Database
from shardkv.slots import slot_of
from shardkv.values import Value

if TYPE_CHECKING:
    from shardkv.shard import Shard

_EVENTS = {
    "g": "del expire persist rename_from rename_to move_from move_to copy_to restore",
    "$": "set append setrange incrby incrbyfloat setbit pfadd",
    "l": "lpush rpush lpop rpop linsert lset lrem ltrim sortstore",
    "s": "sadd srem spop sinterstore sunionstore sdiffstore",
    "h": "hset hdel hincrby hincrbyfloat hexpire hpersist hexpired",
    "z": "zadd zincr zrem zremrangebyscore zremrangebyrank zremrangebylex zpopmin zpopmax zunionstore "
    "zinterstore zdiffstore zrangestore geosearchstore georadiusstore",
    "t": "xadd xtrim xdel xsetid xgroup-create xgroup-createconsumer xgroup-setid xgroup-destroy "
    "xgroup-delconsumer",
    "x": "expired",
    "e": "evicted",
    "m": "keymiss",
    "n": "new",
}
"""The events of each class, by the letter that asks for it
(https://redis.io/docs/latest/develop/use/keyspace-notifications/)."""

MISS = "keymiss"
NEW = "new"


class Notifications:
    """What a shard publishes of the events of its keys."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard
        self._names: dict[str, bytes] = {}
        """The events that are wanted, as they are told."""
        self._by_key = self._by_event = False

    def follow(self, letters: frozenset[str]) -> None:
        """Publishes what the setting asks for, from now on."""
        shard = self._shard
        classes = letters & _EVENTS.keys() if letters & {"K", "E"} else frozenset()
        if self._names:
            shard.observers.remove(self.tell)
        self._names = {name: name.encode() for letter in classes for name in _EVENTS[letter].split()}
        self._by_key, self._by_event = "K" in letters, "E" in letters
        if self._names:
            shard.observers.append(self.tell)
        shard.use_door("notifications", _TellingDatabase if self._names else None)

    def tell(self, db: Database, key: bytes, event: str) -> None:
        """Publishes an event of a key, if it is wanted."""
        name = self._names.get(event)
        if name is None:
            return
        channels = self._shard.channels
        if self._by_key:
            channels.publish(CHANNEL, b"__keyspace@%d__:%b" % (db.index, key), name)
        if self._by_event:
            channels.publish(CHANNEL, b"__keyevent@%d__:%b" % (db.index, name), key)


class _TellingDatabase(Database):
    """A database that tells which keys were not there, and which are new."""

    __slots__ = ()

    def read(self, key: bytes, slot: int = -1) -> Value | None:
        value = super().read(key, slot)
        if value is None:
            self._miss(key)
        return value

    def glance(self, key: bytes, slot: int = -1) -> Value | None:
        value = super().glance(key, slot)
        if value is None:
            self._miss(key)
        return value

    def _miss(self, key: bytes) -> None:
        # That it was missed cannot be undone, so it is told at once even in a draft. Where nothing is told at
        # all there are no observers.
        if self.shard.observers:
            self.shard.notifications.tell(self, key, MISS)

    def put(
        self, key: bytes, value: Value, event: str, slot: int = -1, *, keep_deadline: bool = False
    ) -> None:
        if slot < 0:
            slot = slot_of(key)
        if key in self.slots[slot]:
            # What had expired before is told to have done so before it is there again.
            self.expire_if_due(key)
        if key not in self.slots[slot]:
            self.created(key)
        super().put(key, value, event, slot, keep_deadline=keep_deadline)

    def created(self, key: bytes) -> None:
        if self.shard.observers:
            self.shard.observe(self, key, NEW)
