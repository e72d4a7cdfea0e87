"""The settings: every one is declared here once, with its kind, default and meaning.

The configuration file's syntax, CONFIG GET, SET and REWRITE, and conf/shardkv.conf follow from these
declarations. Names, meanings and defaults are those of Redis wherever it has the setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from shardkv import errors, glob, limits
from shardkv.errors import CommandError
from shardkv.foreign_directives import FIXED
from shardkv.numbers import INT64_MAX
from shardkv.setting_kinds import (
    INT_MAX,
    UNSIGNED_MAX,
    Addresses,
    BareName,
    BufferLimit,
    BufferLimits,
    Choice,
    ClientBufferLimits,
    EventClasses,
    Folder,
    Integer,
    KeyPatterns,
    Memory,
    MemoryOrPercent,
    Octal,
    Percentiles,
    SavePoint,
    SavePoints,
    Setting,
    Text,
    YesNo,
    setting,
)

NETWORK = "Network"
TLS = "TLS"
CLIENTS = "Clients and their limits"
PROCESSES = "Processes"
KEYSPACE = "Keyspace"
PERSISTENCE = "Append-only file"
MEMORY = "Memory"
SNAPSHOTS = "Snapshots"
LOGGING = "Log and measurements"
ENCODINGS = "Encodings of small values"

KB, MB, GB = 2**10, 2**20, 2**30


@dataclass(slots=True, kw_only=True)
class Config:
    """What the server runs with. Made by shardkv.config_file.load(), changed by set()."""

    bind: tuple[str, ...] = setting(
        NETWORK,
        ("127.0.0.1", "-::1"),
        Addresses(),
        """Listens on these addresses only. An address with a - before it may be missing on this host; * and
        ::* stand for every IPv4 and IPv6 address. The default serves programs on this host alone; before you
        add other addresses, set requirepass. Empty: no TCP listener.""",
        mutable=False,
    )
    port: int = setting(
        NETWORK,
        6379,
        Integer(0, 65535),
        """Accepts TCP connections on this port. With 0 there is no TCP listener, only the unix socket.""",
        mutable=False,
    )
    protected_mode: bool = setting(
        NETWORK,
        True,
        YesNo(),
        """While no password is set, connections from other hosts are answered with an error and closed, even
        if bind lets them in. Turn it off only where a firewall does this work.""",
    )
    tcp_backlog: int = setting(
        NETWORK,
        511,
        Integer(),
        """Connections that may wait to be accepted. The kernel cuts it to net.core.somaxconn; raise both if
        clients connect in bursts.""",
        mutable=False,
    )
    unixsocket: str = setting(
        NETWORK,
        "",
        Text(),
        """Also listens on a unix socket of this path. Empty: no unix socket.""",
        mutable=False,
    )
    unixsocketperm: int = setting(
        NETWORK,
        0,
        Octal(),
        """Permissions of the unix socket, such as 770: who may connect to it. 0 leaves what the process's
        umask gives.""",
        mutable=False,
    )
    tcp_keepalive: int = setting(
        NETWORK,
        300,
        Integer(),
        """Seconds of silence after which the kernel probes whether the client's host is still there, so that
        connections of vanished hosts are closed. 0: never.""",
    )
    tls_port: int = setting(
        TLS,
        0,
        Integer(0, 65535),
        """Accepts connections with TLS on this port, at the addresses of bind. Set port to 0 to accept no
        others. 0: no TLS.""",
        mutable=False,
    )
    tls_cert_file: str = setting(
        TLS,
        "",
        Text(),
        """The server's certificate in PEM, followed by those between it and its authority. CONFIG SET, and
        SIGHUP, read it and the key again even if the path is the same: connections made from then on get the
        new one, others go on.""",
        rereads=True,
    )
    tls_key_file: str = setting(
        TLS,
        "",
        Text(),
        """The key of that certificate, in PEM.""",
        rereads=True,
    )
    tls_key_file_pass: str = setting(
        TLS,
        "",
        Text(),
        """What the key is encrypted with, if it is.""",
        secret=True,
    )
    tls_ca_cert_file: str = setting(
        TLS,
        "",
        Text(),
        """Authorities, in PEM, that the certificates of clients must come from.""",
        rereads=True,
    )
    tls_ca_cert_dir: str = setting(
        TLS,
        "",
        Text(),
        """A folder of such authorities, prepared with `openssl rehash`.""",
        rereads=True,
    )
    tls_auth_clients: str = setting(
        TLS,
        "yes",
        Choice("no", "yes", "optional"),
        """Whether a client must show a certificate. yes: none connects without one. optional: one that is
        shown must be valid. no: none is asked for.""",
    )
    tls_protocols: str = setting(
        TLS,
        "",
        Text(),
        """The versions that are spoken, such as "TLSv1.2 TLSv1.3". Empty: both of these; older ones are not
        supported.""",
    )
    tls_ciphers: str = setting(
        TLS,
        "",
        Text(),
        """The ciphers for TLSv1.2 in OpenSSL's syntax (ciphers(1ssl)). Empty: OpenSSL's choice of safe
        ones.""",
    )
    tls_prefer_server_ciphers: bool = setting(
        TLS,
        False,
        YesNo(),
        """Whether the server's order of ciphers counts, not the client's.""",
    )
    tls_dh_params_file: str = setting(
        TLS,
        "",
        Text(),
        """Parameters for Diffie-Hellman key exchange, in PEM; only old clients need them.""",
        rereads=True,
    )
    timeout: int = setting(
        CLIENTS,
        0,
        Integer(),
        """Closes the connection of a client that has sent nothing for so many seconds; clients that wait in a
        blocking command or are subscribed are left alone. 0: never.""",
    )
    maxclients: int = setting(
        CLIENTS,
        10000,
        Integer(1, UNSIGNED_MAX),
        """Clients connected at the same time, to all proxies together. Further ones get an error and are
        closed. Each needs a file descriptor; the server raises its limit as far as the system lets it.""",
    )
    requirepass: str = setting(
        CLIENTS,
        "",
        Text(),
        """The password that clients must send with AUTH or HELLO before anything else: the password of the
        user default. Choose a long one, for thousands can be tried in a second. Empty: none.""",
        secret=True,
    )
    aclfile: str = setting(
        CLIENTS,
        "",
        Text(),
        """A file with a line for each user, as ACL LIST shows them; ACL LOAD reads it again, ACL SAVE writes
        it. Without one, users may be declared in this file by lines of the same form, such as: user alice on
        >password ~cached:* +get. Both together are refused. What user lines say counts when the server
        starts.""",
        mutable=False,
    )
    acllog_max_len: int = setting(
        CLIENTS,
        128,
        Integer(0, INT64_MAX),
        """Entries that ACL LOG keeps of what users were denied. 0: none.""",
    )
    acl_pubsub_default: str = setting(
        CLIENTS,
        "resetchannels",
        Choice("allchannels", "resetchannels"),
        """Which channels a new user may publish to and subscribe to: all, or none.""",
    )
    proto_max_bulk_len: int = setting(
        CLIENTS,
        512 * MB,
        Memory(MB),
        """The longest argument of a request, and the longest string that APPEND, SETRANGE and their like may
        make. Longer ones get an error.""",
    )
    client_query_buffer_limit: int = setting(
        CLIENTS,
        GB,
        Memory(MB),
        """The longest unfinished request of one client. A client that exceeds it is closed.""",
    )
    client_output_buffer_limit: BufferLimits = setting(  # noqa: RUF009 - makes a field
        CLIENTS,
        BufferLimits(
            normal=BufferLimit(0, 0, 0),
            replica=BufferLimit(256 * MB, 64 * MB, 60),
            pubsub=BufferLimit(32 * MB, 8 * MB, 60),
        ),
        ClientBufferLimits(),
        """Closes a client that does not read its replies when more of them wait than the hard limit, or more
        than the soft limit for so many seconds without a break. 0 bytes: no such limit. The classes are
        normal, replica, and pubsub for clients with subscriptions; each may have a line of its own.""",
    )
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
    workers: int = setting(
        PROCESSES,
        0,
        Integer(0, limits.MAX_WORKERS),
        """Worker processes: each holds one shard of the keys and runs the commands for them. 0: one per core.
        Changed at a start or with CONFIG SET, keys move while clients are served, and none is lost; see
        docs/resharding.md. 0 leaves the number as it is where there is data.""",
    )
    proxies: int = setting(
        PROCESSES,
        0,
        Integer(0, limits.MAX_PROXIES),
        """Proxy processes: they talk to the clients and pass their commands to the workers. 0: one for every
        4 cores, and at least one.""",
        mutable=False,
    )
    pidfile: str = setting(
        PROCESSES,
        "",
        Text(),
        """Writes the supervisor's process id to this file. Empty: no such file; systemd needs none.""",
        mutable=False,
    )
    hz: int = setting(
        PROCESSES,
        10,
        Integer(clamp=(1, 500)),
        """Rounds of background work per second, such as removing expired keys and closing idle clients; taken
        as 1 to 500. A higher number makes these more punctual and costs processor time when idle.""",
    )
    busy_reply_threshold: int = setting(
        PROCESSES,
        5000,
        Integer(0, INT64_MAX),
        """Milliseconds after which a shard whose script still runs answers other commands with BUSY, and
        SCRIPT KILL can end the script; all other shards serve on. 0: never.""",
        aliases=("lua-time-limit",),
    )
    shutdown_timeout: int = setting(
        PROCESSES,
        10,
        Integer(),
        """Seconds that a shutdown waits for requests under way. What has not finished then is cut off, after
        the append-only files are safe.""",
    )
    enable_debug_command: str = setting(
        PROCESSES,
        "no",
        Choice("no", "yes", "local"),
        """Whether clients may use DEBUG: none, all, or those connected from this host. It is made for tests
        and can stall the server.""",
        mutable=False,
    )
    dir: str = setting(
        PERSISTENCE,
        "./",
        Folder(),
        """The folder of all data: each shard's append-only files and the map of the shards. One server at a
        time can use it. A relative path starts where the server was started.""",
        mutable=False,
    )
    appendonly: bool = setting(
        PERSISTENCE,
        True,
        YesNo(),
        """Writes every change to the append-only files, from which the data is loaded at the next start.
        Without them everything is lost when the server stops. This differs from Redis, where the default is
        no.""",
    )
    appenddirname: str = setting(
        PERSISTENCE,
        "appendonlydir",
        BareName("appenddirname", "dirname"),
        """The folder, in dir, of the append-only files; each shard has a folder in it.""",
        mutable=False,
    )
    appendfilename: str = setting(
        PERSISTENCE,
        "appendonly.aof",
        BareName("appendfilename", "filename"),
        """What the names of the append-only files start with.""",
        mutable=False,
    )
    appendfsync: str = setting(
        PERSISTENCE,
        "everysec",
        Choice("everysec", "always", "no"),
        """When changes are forced to the disk. always: before the reply, so that no acknowledged write is
        lost; requests that come together share one fsync. everysec: a power cut may cost about the last
        second, the death of a process nothing. no: when the system likes, often after 30 seconds.""",
    )
    no_appendfsync_on_rewrite: bool = setting(
        PERSISTENCE,
        False,
        YesNo(),
        """With yes nothing is forced to the disk while a rewrite runs, as if appendfsync were no: fewer slow
        replies on slow disks, but a power cut may cost all changes since the rewrite began.""",
    )
    auto_aof_rewrite_percentage: int = setting(
        PERSISTENCE,
        100,
        Integer(),
        """Rewrites a shard's append-only file by itself when it has grown by so many percent since its last
        rewrite. 0: never.""",
    )
    auto_aof_rewrite_min_size: int = setting(
        PERSISTENCE,
        64 * MB,
        Memory(),
        """A shard's append-only file is not rewritten by itself while it is smaller than this.""",
    )
    aof_load_truncated: bool = setting(
        PERSISTENCE,
        True,
        YesNo(),
        """What to do at the start with an append-only file whose end is missing, as after a power cut. yes:
        cuts the torn record off, logs its place and goes on. no: refuses to start.""",
    )
    aof_timestamp_enabled: bool = setting(
        PERSISTENCE,
        False,
        YesNo(),
        """Writes the time into the append-only files, once in each second with changes, so that a backup can
        be restored as it was at any second: shardkv restore --until.""",
    )
    save: tuple[SavePoint, ...] = setting(
        SNAPSHOTS,
        (),
        SavePoints(),
        """Takes a snapshot by itself, as BGSAVE does, when so many seconds have passed since the last one and
        so many changes were made: 3600 1 300 100 for at least one change within an hour, or 100 within five
        minutes. With save points the server also saves when it is shut down. This differs from Redis, where
        the default is 3600 1 300 100 60 10000: here the append-only file keeps the data.""",
    )
    dbfilename: str = setting(
        SNAPSHOTS,
        "dump.rdb",
        BareName("dbfilename", "filename"),
        """The snapshot, one file in dir with the keys of all shards, in the format of Redis. It is loaded at
        the start if appendonly is no.""",
        mutable=False,
    )
    rdb_version: str = setting(
        SNAPSHOTS,
        "9",
        Choice("9", "10", "11", "12", "80"),
        """The version of the format that snapshots are written in. 9 is read by Redis since 5.0 and by every
        Valkey, 10 by Redis since 7.0, 11 since 7.2, 12 since 7.4; 80 by Valkey since 9.0. Before 10 the
        counters of streams are not kept (entries-added, max-deleted-entry-id, entries-read), nor does this
        server have them after it has loaded such a snapshot. Only the last two can hold hashes with fields
        that expire: where there are such, 12 is taken instead of an older one.""",
    )
    rdbcompression: bool = setting(
        SNAPSHOTS,
        True,
        YesNo(),
        """Compresses strings in snapshots, and in the payloads of DUMP, with LZF. no saves processor
        time.""",
    )
    rdbchecksum: bool = setting(
        SNAPSHOTS,
        True,
        YesNo(),
        """Ends a snapshot with a checksum of all its bytes, by which damage is found when it is loaded.""",
        mutable=False,
    )
    stop_writes_on_bgsave_error: bool = setting(
        SNAPSHOTS,
        True,
        YesNo(),
        """If there are save points and the last snapshot could not be saved, refuses commands that change
        data, until one is saved.""",
    )
    loglevel: str = setting(
        LOGGING,
        "notice",
        Choice("debug", "verbose", "notice", "warning", "nothing"),
        """How much is logged: messages of this importance and above, debug being the least; nothing turns the
        log off.""",
    )
    logfile: str = setting(
        LOGGING,
        "",
        Text(),
        """Appends the log to this file. Empty: to the standard output, from where systemd collects it.""",
        mutable=False,
    )
    slowlog_log_slower_than: int = setting(
        LOGGING,
        10000,
        Integer(-1, INT64_MAX),
        """Commands that run for at least so many microseconds are kept for SLOWLOG. 0: all, -1: none.""",
        aliases=("commandlog-execution-slower-than",),
    )
    slowlog_max_len: int = setting(
        LOGGING,
        128,
        Integer(0, INT64_MAX),
        """Entries that SLOWLOG keeps; the oldest make room. They take memory.""",
        aliases=("commandlog-slow-execution-max-len",),
    )
    commandlog_request_larger_than: int = setting(
        LOGGING,
        MB,
        Integer(-1, INT64_MAX),
        """Requests of at least so many bytes are kept for COMMANDLOG. 0: all, -1: none.""",
    )
    commandlog_large_request_max_len: int = setting(
        LOGGING,
        128,
        Integer(0, INT64_MAX),
        """Large requests that COMMANDLOG keeps.""",
    )
    commandlog_reply_larger_than: int = setting(
        LOGGING,
        MB,
        Integer(-1, INT64_MAX),
        """Requests whose reply has at least so many bytes are kept for COMMANDLOG. 0: all, -1: none.""",
    )
    commandlog_large_reply_max_len: int = setting(
        LOGGING,
        128,
        Integer(0, INT64_MAX),
        """Requests with large replies that COMMANDLOG keeps.""",
    )
    latency_monitor_threshold: int = setting(
        LOGGING,
        0,
        Integer(0, INT64_MAX),
        """Events that take at least so many milliseconds are kept for LATENCY. 0: none.""",
    )
    latency_tracking: bool = setting(
        LOGGING,
        True,
        YesNo(),
        """Counts for each command how long it takes, for LATENCY HISTOGRAM and INFO latencystats.""",
    )
    latency_tracking_info_percentiles: tuple[float, ...] = setting(
        LOGGING,
        (50.0, 99.0, 99.9),
        Percentiles(),
        """The percentiles of these times that INFO latencystats tells.""",
    )
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

    def get(self, *patterns: bytes) -> dict[str, str]:
        """The settings that the patterns name, with the values as texts: the reply to CONFIG GET.

        Older names are found beside the current ones. A pattern without wildcards is a name in upper or lower
        case, which is returned in the same spelling.
        """
        found: dict[str, tuple[str, str]] = {}
        for pattern in patterns:
            if any(wildcard in pattern for wildcard in b"[*?"):
                matches = glob.compile(pattern, ignore_case=True)
                for name in filter(lambda name: matches(name.encode()), _NAMES):
                    found.setdefault(name, (name, self._text(name)))
            else:
                spelled = pattern.decode("utf-8", "surrogateescape")
                if spelled.lower() in _NAMES:
                    found.setdefault(spelled.lower(), (spelled, self._text(spelled.lower())))
        return dict(found.values())

    def _text(self, name: str) -> str:
        declared = find(name)
        return declared.kind.format(getattr(self, declared.attribute)) if declared else FIXED[name][0]

    def set(self, pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
        """Changes all the named settings, or none: CONFIG SET with its pairs of name and value.

        Returns the settings whose value is another one now, by their current names. Raises CommandError with
        the text of Redis 7.2.
        """
        changes = self.check(pairs)
        for name, value in changes.items():
            setattr(self, SETTINGS[name].attribute, value)
        return changes

    def check(self, pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, Any]:
        """What set() would change. Raises CommandError if it would be refused."""
        names = _settable_names(pairs)
        values: dict[str, Any] = {}
        for name, (_, text) in zip(names, pairs, strict=True):
            words = [text.decode("utf-8", "surrogateescape")]
            declared = find(name)
            try:
                if declared is None:
                    check_fixed(words, FIXED[name])
                else:
                    current = values.get(declared.name, getattr(self, declared.attribute))
                    values[declared.name] = declared.kind.parse(words, current)
            except ValueError as reason:
                raise CommandError(errors.config_set_failed(name, str(reason))) from None
        return {
            name: value
            for name, value in values.items()
            if value != self.value(name) or SETTINGS[name].rereads
        }

    def value(self, name: str) -> Any:
        """The value of the setting of this name."""
        return getattr(self, SETTINGS[name].attribute)


def _settable_names(pairs: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """The names in lower case. Raises CommandError for the first that cannot be set."""
    names: list[str] = []
    for spelled, _ in pairs:
        name = spelled.lower().decode("utf-8", "surrogateescape")
        if name not in _NAMES:
            raise CommandError(errors.unknown_setting(spelled))
        declared = find(name)
        if declared and not declared.mutable:
            raise CommandError(errors.config_set_failed(spelled.decode(), errors.IMMUTABLE_SETTING))
        if name in names:
            raise CommandError(errors.config_set_failed(spelled.decode(), errors.DUPLICATE_SETTING))
        names.append(name)
    return names


def check_fixed(words: Sequence[str], accepted: Sequence[str]) -> None:
    """Raises ValueError unless the words are a value that a directive without support is accepted with."""
    if " ".join(words).lower() not in accepted:
        raise ValueError(errors.unsupported_setting(accepted))


def default_proxies(cores: int) -> int:
    """How many proxy processes a host with so many cores gets when `proxies` is 0."""
    return max(1, cores // 4)


def find(name: str) -> Setting[Any] | None:
    """The setting of this name, current or older, in lower case."""
    return SETTINGS.get(name) or _ALIASES.get(name)


def _declared(config: type[Config]) -> dict[str, Setting[Any]]:
    names = {declared.name.replace("_", "-"): declared for declared in fields(config)}
    return {name: replace(declared.metadata["setting"], name=name) for name, declared in names.items()}


SETTINGS = _declared(Config)
"""Every setting by its name, in the order of the declarations."""

_ALIASES = {alias: declared for declared in SETTINGS.values() for alias in declared.aliases}
_NAMES = sorted({*SETTINGS, *_ALIASES, *FIXED})
"""What CONFIG GET and SET know."""
