"""Which slot a key belongs to.

The keyspace is cut into 16384 slots, as in Redis Cluster. A slot is what moves when the number of
shards changes; which shard owns a slot stands in the slot table, never in a formula.
"""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

SLOTS = 16384
SLOT_MASK = SLOTS - 1
SLOT_BITS = 14

_OPEN_BRACE = ord("{")


def slot_of(key: bytes) -> int:
    """The slot of a key, 0 to 16383: of its `{tag}` if it has a non-empty one, else of the whole key."""
    if _OPEN_BRACE in key:
        key = hashtag(key)
    return xxh3_64_intdigest(key) & SLOT_MASK


def hashtag(key: bytes) -> bytes:
    """What of a key is hashed: the text between the first `{` and the next `}`, or the key itself if there
    is no such text (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags)."""
    start = key.find(b"{")
    if start < 0:
        return key
    end = key.find(b"}", start + 1)
    return key[start + 1 : end] if end > start + 1 else key


def even_slot_table(shards: int) -> list[int]:
    """A slot table for a new data folder: entry `slot` is the shard that owns it, in equal contiguous
    runs."""
    return [slot * shards // SLOTS for slot in range(SLOTS)]
