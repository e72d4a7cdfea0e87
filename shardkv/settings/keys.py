"""The keys: where they lie, what memory they may take, who hears of them."""

from __future__ import annotations

from dataclasses import dataclass

from shardkv import limits
from shardkv.numbers import INT64_MAX
from shardkv.setting_kinds import (
    Choice,
    EventClasses,
    Integer,
    KeyPatterns,
    Memory,
    MemoryOrPercent,
    YesNo,
    setting,
)
from shardkv.settings.clients import CLIENTS

KEYSPACE = "Keyspace"
MEMORY = "Memory"


@dataclass(kw_only=True)
class Keys:
    """The settings of the keyspace and of its memory, and of what is remembered about keys for clients."""

    __slots__ = ()

    databases: int = setting(
        KEYSPACE,
        16,
        Integer(1, limits.MAX_DATABASES),
        """Databases that SELECT can choose from, numbered from 0.""",
        mutable=False,
    )
    colocate: tuple[str, ...] = setting(
        KEYSPACE,
        ("arq:", "bq:*:", "bull:*:", "dramatiq:", "huey.", "rq:", "saq:"),
        KeyPatterns(),
        """Keys that begin with the same text, as far as one of these patterns matches it, are kept on one
        shard: bull:*: keeps together all keys of one queue of BullMQ, rq: all keys of RQ. In a pattern *
        stands for any text, up to what follows it. Commands over keys of one shard are faster; they work
        as well over all shards. A {tag} in a key has precedence. The default is for the common job queues.
        Where there is data, a start with other patterns first lays it out anew.""",
        mutable=False,
    )
    maxmemory: int = setting(
        MEMORY,
        0,
        Memory(),
        """The most memory that all processes of the server may use together, their own 50 to 100 MB
        included. Beyond it keys are evicted before a command that needs memory, or such commands are refused,
        as maxmemory-policy says. See docs/memory.md. 0: no limit.""",
    )
    maxmemory_policy: str = setting(
        MEMORY,
        "noeviction",
        Choice(
            *("volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"),
            *("allkeys-lru", "allkeys-lfu", "allkeys-random", "noeviction"),
        ),
        """Which keys are evicted: of all keys or of those with a deadline (volatile), those that were used
        least recently (lru) or least frequently (lfu), any (random), or those with the nearest deadline
        (ttl). noeviction: none, commands that need memory get an error. While it is one with lru or lfu, each
        key takes some 50 bytes more.""",
    )
    maxmemory_samples: int = setting(
        MEMORY,
        5,
        Integer(1, 64),
        """How exact lru and lfu are: what is evicted is among the least used of about twice so many keys.""",
    )
    maxmemory_eviction_tenacity: int = setting(
        MEMORY,
        10,
        Integer(0, 100),
        """How long a command may be held up by evicting keys: 10 stands for half a millisecond, 100 for as
        long as it takes. What is left then is done between commands.""",
    )
    lazyfree_lazy_eviction: bool = setting(
        MEMORY,
        True,
        YesNo(),
        """Whether large values that are evicted are freed between commands, so that the limit may be
        exceeded by as much for a moment. With no, commands that need memory wait for that, as long as for
        evicting.""",
    )
    maxmemory_clients: int = setting(
        MEMORY,
        0,
        MemoryOrPercent(),
        """The most memory that the unfinished requests and unread replies of all clients may take together,
        as a size or in percent of maxmemory. Beyond it the clients that take most are disconnected, except
        for those with CLIENT NO-EVICT. 0: no limit.""",
    )
    lfu_log_factor: int = setting(
        MEMORY,
        10,
        Integer(),
        """How slowly the access counters of the lfu policies, which OBJECT FREQ shows, grow: with 10 they are
        full after about a million accesses, with 100 after ten million.""",
    )
    lfu_decay_time: int = setting(
        MEMORY,
        1,
        Integer(),
        """Minutes after which such an access counter is lowered by one. 0: never.""",
    )
    notify_keyspace_events: frozenset[str] = setting(
        KEYSPACE,
        frozenset(),
        EventClasses(),
        """Events of keys to publish, on the channels __keyspace@<db>__:<key> (K) and
        __keyevent@<db>__:<event> (E), of which at least one has to be asked for, with these classes: g
        generic commands, $ strings, l lists, s sets, h hashes, z sorted sets, t streams, x expired keys, e
        evicted keys, d modules, A all of these; n new keys, m keys that were not there. Empty: none, which
        costs nothing.""",
    )
    tracking_table_max_keys: int = setting(
        CLIENTS,
        1_000_000,
        Integer(0, INT64_MAX),
        """Keys that are remembered, over all shards, for clients that cache what they have read (CLIENT
        TRACKING). Beyond that the clients of other keys are told that these have changed. 0: no limit.""",
    )
