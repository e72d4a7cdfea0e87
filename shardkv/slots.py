"""Which slot a key belongs to.

The keyspace is cut into 16384 slots, as in Redis Cluster. A slot is what moves when the number of
shards changes; which shard owns a slot stands in the slot table, never in a formula.

What is hashed of a key is its `{tag}`, or what the first of the patterns in the setting `colocate` matches of
its beginning, or else all of it. The patterns are the same in every process, from its start to its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from xxhash import xxh3_64_intdigest

SLOTS = 16384
SLOT_MASK = SLOTS - 1
SLOT_BITS = 14

_OPEN_BRACE = ord("{")


PATTERN_START_BYTES = 2
"""So many bytes at least stand before the first `*` of a pattern."""


class Colocation:
    """The patterns of keys that are kept together.

    starts   the first bytes of all patterns; a key with another beginning matches none.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        sources = [pattern.encode() for pattern in patterns]
        self.starts = frozenset(source[:PATTERN_START_BYTES] for source in sources)
        found = (re.escape(source).replace(rb"\*", b".+?") for source in sources)
        self._match = re.compile(b"|".join(found), re.DOTALL).match

    def part(self, key: bytes) -> bytes:
        """What is hashed of a key without a tag."""
        found = self._match(key)
        return key if found is None else found.group()


_colocation = Colocation(())
_starts: frozenset[bytes] = frozenset()


def colocate(patterns: Iterable[str]) -> None:
    """Keeps keys together from now on; to be called before any key is looked at."""
    global _colocation, _starts
    _colocation = Colocation(patterns)
    _starts = _colocation.starts


def colocated_starts() -> frozenset[bytes]:
    """The beginnings, of `PATTERN_START_BYTES`, of keys that have to be looked at for a pattern."""
    return _starts


def slot_of(key: bytes) -> int:
    """The slot of a key, 0 to 16383."""
    if _OPEN_BRACE in key or (_starts and key[:PATTERN_START_BYTES] in _starts):
        key = hashed_part(key)
    return xxh3_64_intdigest(key) & SLOT_MASK


def slots_of(keys: Sequence[bytes]) -> list[int]:
    """The slots of keys, in their order."""
    if _starts or _OPEN_BRACE in b"".join(keys):
        return list(map(slot_of, keys))
    return [digest & SLOT_MASK for digest in map(xxh3_64_intdigest, keys)]


def hashed_part(key: bytes) -> bytes:
    """What of a key is hashed: its `{tag}` if it has a non-empty one, or what a pattern matches, or all."""
    part = hashtag(key)
    if part is key and key[:PATTERN_START_BYTES] in _starts:
        return _colocation.part(key)
    return part


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
