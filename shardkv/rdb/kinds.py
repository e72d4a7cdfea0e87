"""The numbers that stand for the type of a value and its form."""

from __future__ import annotations

from typing import Final

STRING: Final = 0
LIST: Final = 1
SET: Final = 2
ZSET: Final = 3
"""With scores as text."""
HASH: Final = 4
ZSET_2: Final = 5
"""With scores in binary."""
MODULE: Final = 6
"""Of release candidates of Redis 4.0: only the module itself knows where it ends."""
MODULE_2: Final = 7
"""Of a module, which alone knows what it means."""

HASH_ZIPMAP: Final = 9
LIST_ZIPLIST: Final = 10
SET_INTSET: Final = 11
ZSET_ZIPLIST: Final = 12
HASH_ZIPLIST: Final = 13
LIST_QUICKLIST: Final = 14
"""Ziplists in a row."""
STREAM: Final = 15
HASH_LISTPACK: Final = 16
ZSET_LISTPACK: Final = 17
LIST_QUICKLIST_2: Final = 18
"""Listpacks and large elements in a row."""
STREAM_2: Final = 19
"""What Redis 7.0 added: the first ID, the greatest deleted one, how many entries were ever added and read."""
SET_LISTPACK: Final = 20
STREAM_3: Final = 21
"""What Redis 7.2 added: when consumers were last active."""

HASH_2: Final = 22
"""Of Valkey 9: fields with deadlines. In other versions, HASH_DEADLINES_EARLY."""
HASH_DEADLINES_EARLY: Final = 22
HASH_LISTPACK_DEADLINES_EARLY: Final = 23
HASH_DEADLINES: Final = 24
"""Of Redis 7.4: fields with deadlines, relative to the first of them."""
HASH_LISTPACK_DEADLINES: Final = 25
"""Of Redis 7.4: field, value, deadline, by turns."""

PLAIN: Final = frozenset({STRING, LIST, SET, HASH, ZSET_2})
"""Those without any packing, which Redis reads since 4.0, and in which all but streams is written here."""

REDIS_7_0: Final = 10
"""The version of the format that Redis 7.0 writes."""
LATEST_OF_REDIS: Final = 12
"""That of Redis 8.2."""
WITH_CHECKSUM: Final = 5
"""The first version whose files end with a checksum."""
VALKEY: Final = 80
"""That of Valkey 9. Versions between this and Redis' belong to other servers."""


def is_known(version: int) -> bool:
    """Whether values of a version of the format can be read."""
    return version <= LATEST_OF_REDIS or version == VALKEY
