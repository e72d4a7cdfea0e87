"""What DEBUG has shards do."""

from __future__ import annotations

from typing import Any

from shardkv import clock
from shardkv.command import NO_FLAGS, Key, command
from shardkv.keyspace import Database
from shardkv.rdb.payload import dump
from shardkv.values import encoding, unpacked


@command("SLEEP seconds", group="server", since="0.1.0", flags=NO_FLAGS, internal=True)
def sleep(db: Database, args: list[Any]) -> Any:
    """Does nothing for a time, as a command does that takes long."""
    clock.sleep(args[1])
    return True


_BESIDE_VALUE_BYTES = 11
"""Of a payload of DUMP: the type, the version and the checksum."""


@command("DESCRIBE key", group="server", since="0.1.0", flags=NO_FLAGS, keys=(Key(1),), internal=True)
def describe(db: Database, args: list[Any]) -> Any:
    """What DEBUG OBJECT tells of a key: where its value is, its encoding, its size when serialized, and the
    seconds since it was last used; None if there is none."""
    value = db.peek(args[1])
    if value is None:
        return None
    size = len(dump(unpacked(value))) - _BESIDE_VALUE_BYTES
    return [id(value), encoding(value, db.shard.config), size, db.idle_s(args[1])]
