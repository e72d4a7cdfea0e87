"""Loading the snapshot at the start, where there is no append-only file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING

from shardkv import clock, limits
from shardkv.rdb.file_reader import FileReader, Function, Key, RdbDamaged, ValueRefused
from shardkv.slots import slot_of

if TYPE_CHECKING:
    from shardkv.shard import Shard

_EVENT = "restore"


@dataclass
class Loaded:
    """What a shard has taken from a snapshot: how far in the file it is, and how long that is, in bytes; its
    keys, and those of them that had expired and were left out."""

    done: int = 0
    total: int = 0
    keys: int = 0
    expired: int = 0


def load_dump(shard: Shard, path: Path, owner: list[int], loaded: Loaded, now_ms: int) -> Iterator[None]:
    """Puts the shard's keys of a snapshot into it, in slices; those of the other shards are passed over, and
    those that have expired at `now_ms`, in ms since 1970.

    owner   which shard owns each slot

    Raises RdbDamaged, naming file and offset, if the file is not what was written or holds what cannot be
    had here; OSError.
    """
    with path.open("rb") as file:
        if not file.seek(0, 2):
            raise RdbDamaged(path, 0, "the file is empty")
        data = mmap(file.fileno(), 0, access=ACCESS_READ)
    reader = FileReader(data, path)
    loaded.total = reader.total
    until_s = clock.monotonic() + limits.LOAD_SLICE_S
    for event in reader:
        if event.__class__ is Key:
            _, name, expire_at_ms, _, _ = event
            slot = slot_of(name)
            if owner[slot] == shard.index:
                if expire_at_ms is not None and expire_at_ms <= now_ms:
                    loaded.expired += 1
                else:
                    _put(shard, reader, event, slot)
                    loaded.keys += 1
        elif isinstance(event, Function):
            shard.replay([b"FUNCTION", b"LOAD", b"REPLACE", event.code])
        if clock.monotonic() >= until_s:
            loaded.done = reader.at
            yield
            until_s = clock.monotonic() + limits.LOAD_SLICE_S
    loaded.done = loaded.total


def _put(shard: Shard, reader: FileReader, key: Key, slot: int) -> None:
    if key.db >= shard.config.databases:
        raise RdbDamaged(reader.path, key.at, f"there are only {shard.config.databases} databases")
    try:
        value = reader.value(shard.config)
    except ValueRefused as refusal:
        raise RdbDamaged(reader.path, key.at, f"key {key.key!r:.200}: {refusal}") from None
    db = shard.database(key.db)
    db.put(key.key, value, _EVENT, slot)
    if key.expire_at_ms is not None:
        db.set_deadline(key.key, key.expire_at_ms)
