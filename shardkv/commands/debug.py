"""What DEBUG has shards do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardkv import clock, digest
from shardkv.command import NO_FLAGS, WRITE, Key, command
from shardkv.commands.internal import at_one_moment, whole_shard
from shardkv.keyspace import Database
from shardkv.rdb import decode, encode, kinds
from shardkv.rdb.payload import dump
from shardkv.rdb.reader import Reader
from shardkv.slots import slot_of
from shardkv.values import Value, encoding, unpacked

if TYPE_CHECKING:
    from shardkv.shard import Shard


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


@command(
    "DIGEST",
    group="server",
    since="0.1.0",
    flags=NO_FLAGS,
    locks=whole_shard,
    plan=at_one_moment,
    internal=True,
)
def digest_of_everything(db: Database, args: list[Any]) -> Any:
    """This shard's part of the fingerprint of all data: [number of a database, hexadecimal digits] of each
    that holds keys here."""
    shard: Shard = db.shard  # type: ignore[assignment]
    return [
        [one.index, digest.in_hex(digest.of_database(one))] for one in shard.databases.values() if len(one)
    ]


@command(
    "DIGESTVALUES key [key ...]",
    group="server",
    since="0.1.0",
    flags=NO_FLAGS,
    keys=(Key(1, last=-1),),
    internal=True,
)
def digest_values(db: Database, args: list[Any]) -> Any:
    """The fingerprints of what keys hold, in hexadecimal digits."""
    return [digest.in_hex(digest.of_value(db, key)) for key in args[1:]]


@command(
    "POPULATE first count prefix size",
    group="server",
    since="0.1.0",
    flags=WRITE,
    locks=whole_shard,
    internal=True,
)
def populate(db: Database, args: list[Any]) -> Any:
    """Makes those of the keys `prefix:first` and so on, so many of them, that belong to this shard and are
    not there yet. Each holds `value:` and its number, in so many bytes if `size` is not 0."""
    first, count, prefix, size = args[1:]
    shard: Shard = db.shard  # type: ignore[assignment]
    table = shard.slot_table
    for number in range(first, first + count):
        key = b"%b:%d" % (prefix, number)
        slot = slot_of(key)
        if (not table or table[slot] == shard.index) and db.peek(key, slot) is None:
            text = b"value:%d" % number
            if size:
                text = text[:size].ljust(size, b"\0")
            db.put(key, text, "set", slot)
            shard.propagate(db, b"SET", key, text)
    return True


@command("RELOAD first stop", group="server", since="0.1.0", flags=NO_FLAGS, internal=True)
def reload(db: Database, args: list[Any]) -> Any:
    """Writes the values of some slots, in all databases, as an RDB file has them, and reads them back."""
    first, stop = args[1:]
    shard: Shard = db.shard  # type: ignore[assignment]
    for one in shard.databases.values():
        for slot in range(first, stop):
            for key in list(one.keys_of_slot(slot)):
                value = one.peek(key, slot)
                if value is not None:
                    one.replace(key, _read_back(unpacked(value), shard.config), slot)
    return True


def _read_back(value: Value, config: Any) -> Value:
    # In this version of the format everything has its place that may be in a value.
    encoded = encode.value(value, kinds.VALKEY)
    return decode.value(encoded.kind, Reader(b"".join(encoded.parts), kinds.VALKEY), config)
