"""How large the values of a shard are, for INFO keysizes: counted in steps, so that nobody has to wait."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

from shardkv import limits
from shardkv.command import NO_FLAGS, command
from shardkv.keyspace import Database
from shardkv.values import Value, type_name, unpacked

UNITS = {"string": "strings_sizes", "list": "lists_items", "set": "sets_items", "zset": "zsets_items"} | {
    "hash": "hashes_items"
}
"""What is counted of each type: the bytes of strings, the elements of others."""


@command("KEYSIZES slot offset", group="server", since="0.1.0", flags=NO_FLAGS, internal=True)
def keysizes(db: Database, args: list[Any]) -> Any:
    """Counts some values from a place in a slot on. Returns the place to go on from, or None at the end, and
    of each type how many values are of which size: by the bits that the size has."""
    _, slot, offset = args
    counts: dict[str, Counter[int]] = {}
    left = limits.SIZED_KEYS
    end = min(len(db.slots), slot + limits.SIZED_SLOTS)
    while slot < end:
        values = list(islice(db.slots[slot].values(), offset, offset + left))
        for value in values:
            kind = type_name(value)
            if kind in UNITS:
                counts.setdefault(kind, Counter())[_size(value).bit_length()] += 1
        left -= len(values)
        if left <= 0:
            return [[slot, offset + len(values)], counts]
        slot, offset = slot + 1, 0
    return [[slot, 0] if slot < len(db.slots) else None, counts]


def _size(value: Value) -> int:
    value = unpacked(value)
    return len(b"%d" % value) if isinstance(value, int) else len(value)
