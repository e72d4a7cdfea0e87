"""Up to which size values are kept in their compact form."""

from __future__ import annotations

from dataclasses import dataclass

from shardkv.numbers import INT64_MAX
from shardkv.setting_kinds import INT_MAX, Integer, Memory, setting

ENCODINGS = "Encodings of small values"


@dataclass(kw_only=True)
class Encodings:
    """The settings of the encodings of small values."""

    __slots__ = ()

    list_max_listpack_size: int = setting(
        ENCODINGS,
        -2,
        Integer(-INT_MAX - 1),
        """Lists up to this size are encoded as listpack, larger ones as quicklist. A positive number counts
        elements; -1 to -5 stand for 4, 8, 16, 32 and 64 kb.""",
        aliases=("list-max-ziplist-size",),
    )
    hash_max_listpack_entries: int = setting(
        ENCODINGS,
        512,
        Integer(0, INT64_MAX),
        """Hashes with more fields than this are encoded as hashtable instead of listpack.""",
        aliases=("hash-max-ziplist-entries",),
    )
    hash_max_listpack_value: int = setting(
        ENCODINGS,
        64,
        Memory(),
        """Hashes with a longer field or value than this are encoded as hashtable instead of listpack.""",
        aliases=("hash-max-ziplist-value",),
    )
    set_max_intset_entries: int = setting(
        ENCODINGS,
        512,
        Integer(0, INT64_MAX),
        """Sets of integers with at most so many members are encoded as intset.""",
    )
    set_max_listpack_entries: int = setting(
        ENCODINGS,
        128,
        Integer(0, INT64_MAX),
        """Sets with more members than this that are no intset are encoded as hashtable instead of
        listpack.""",
    )
    set_max_listpack_value: int = setting(
        ENCODINGS,
        64,
        Memory(),
        """Sets with a longer member than this are encoded as hashtable instead of listpack.""",
    )
    zset_max_listpack_entries: int = setting(
        ENCODINGS,
        128,
        Integer(0, INT64_MAX),
        """Sorted sets with more members than this are encoded as skiplist instead of listpack.""",
        aliases=("zset-max-ziplist-entries",),
    )
    zset_max_listpack_value: int = setting(
        ENCODINGS,
        64,
        Memory(),
        """Sorted sets with a longer member than this are encoded as skiplist instead of listpack.""",
        aliases=("zset-max-ziplist-value",),
    )
    hll_sparse_max_bytes: int = setting(
        ENCODINGS,
        3000,
        Memory(),
        """HyperLogLogs longer than this change from their sparse to their dense form of 12 kb.""",
    )
    stream_node_max_bytes: int = setting(
        ENCODINGS,
        4096,
        Memory(),
        """The size of one node of a stream; XTRIM with ~ removes whole nodes. 0: no bound.""",
    )
    stream_node_max_entries: int = setting(
        ENCODINGS,
        100,
        Integer(0, INT64_MAX),
        """The entries of one node of a stream. 0: no bound.""",
    )
