"""Directives of Redis (up to 8.2) and Valkey (up to 9.1) that are no settings of shardkv.

They are known by name, so that a redis.conf can be used as it is: what is harmless to leave out is ignored
with a warning, and what somebody relies on is refused. Any other unknown name is a mistake.
"""

from __future__ import annotations

_HARMLESS = (
    # How Redis' own memory, tables and background threads work; nothing here corresponds to it.
    """
    activerehashing active-expire-effort activedefrag active-defrag-cycle-max active-defrag-cycle-min
    active-defrag-cycle-us active-defrag-ignore-bytes active-defrag-max-scan-fields
    active-defrag-threshold-lower active-defrag-threshold-upper dynamic-hz hash-seed jemalloc-bg-thread
    lazyexpire-nested-arbitrary-keys lazyfree-lazy-expire lazyfree-lazy-server-del
    lazyfree-lazy-user-del lazyfree-lazy-user-flush loading-process-events-interval-bytes
    vset-force-single-threaded-execution
    """
    # Threads and processor affinity: the settings here are workers and proxies.
    """
    aof-rewrite-cpulist aof_rewrite_cpulist bgsave-cpulist bgsave_cpulist bio-cpulist bio_cpulist
    events-per-io-thread io-threads io-threads-always-active io-threads-do-reads
    max-new-connections-per-cycle max-new-tls-connections-per-cycle min-io-threads-avoid-copy-reply
    min-string-size-avoid-copy-reply min-string-size-avoid-copy-reply-threaded prefetch-batch-max-size
    server-cpulist server_cpulist
    """
    # What of snapshots and of the append-only file is always or never done here.
    """
    aof-disable-auto-gc aof-rewrite-incremental-fsync aof-use-rdb-preamble
    key-load-delay rdb-del-sync-files rdb-key-save-delay rdb-save-incremental-fsync rdb-version-check
    sanitize-dump-payload
    """
    # Details of replication, which has no effect without replicaof.
    """
    replica-ignore-maxmemory slave-ignore-maxmemory
    dual-channel-replication-enabled masterauth masteruser min-replicas-max-lag min-slaves-max-lag primaryauth
    primaryuser propagation-error-behavior repl-backlog-size repl-backlog-ttl repl-disable-tcp-nodelay
    repl-diskless-load repl-diskless-sync repl-diskless-sync-delay repl-diskless-sync-max-replicas repl-mptcp
    repl-ping-replica-period repl-ping-slave-period repl-rdb-channel repl-timeout replica-announce-ip
    replica-announce-port replica-announced replica-full-sync-buffer-limit replica-ignore-disk-write-errors
    replica-lazy-flush replica-priority replica-read-only replica-serve-stale-data slave-announce-ip
    slave-announce-port slave-lazy-flush slave-priority slave-read-only slave-serve-stale-data
    """
    # Details of the cluster mode, which have no effect without cluster-enabled.
    """
    cluster-allow-pubsubshard-when-down cluster-allow-reads-when-down cluster-allow-replica-migration
    cluster-announce-bus-port cluster-announce-client-ipv4 cluster-announce-client-ipv6
    cluster-announce-client-port cluster-announce-client-tls-port cluster-announce-hostname
    cluster-announce-human-nodename cluster-announce-ip cluster-announce-port cluster-announce-tls-port
    cluster-blacklist-ttl cluster-compatibility-sample-ratio cluster-config-file cluster-config-save-behavior
    cluster-databases cluster-link-sendbuf-limit cluster-manual-failover-timeout cluster-message-gossip-perc
    cluster-migration-barrier cluster-node-timeout cluster-ping-interval cluster-port
    cluster-preferred-endpoint-type cluster-replica-no-failover cluster-replica-validity-factor
    cluster-require-full-coverage cluster-slave-no-failover cluster-slave-validity-factor
    cluster-slot-migration-log-max-len cluster-slot-stats-enabled slot-migration-max-failover-repl-bytes
    """
    # Details of RDMA, of TLS between servers, and of what OpenSSL sees to.
    """
    rdma-bind rdma-completion-vector rdma-rx-size tls-auth-clients-user tls-auto-reload-interval
    tls-client-cert-file tls-client-key-file tls-client-key-file-pass tls-cluster tls-replication
    tls-session-cache-size tls-session-cache-timeout tls-session-caching
    """
    # How the process presents itself, logs and ends; systemd and the container runtime see to the rest.
    """
    always-show-logo availability-zone crash-log-enabled crash-memcheck-enabled debug-context disable-thp
    enable-debug-assert hide-user-data-from-log ignore-warnings log-format log-timestamp-format oom-score-adj
    oom-score-adj-values proc-title-template set-proc-title shutdown-on-sigint shutdown-on-sigterm supervised
    syslog-enabled syslog-facility syslog-ident use-exit-on-panic watchdog-period
    """
    # Special properties of sockets.
    "bind-source-addr mptcp socket-mark-id unixsocketgroup "
    # Measurements and bounds of features that are not there, or that have fixed bounds.
    """
    enable-module-command enable-protected-configs
    extended-redis-compatibility list-compress-depth list-max-ziplist-entries list-max-ziplist-value
    locale-collate lua-enable-deprecated-api lua-enable-insecure-api
    """
)

IGNORED = frozenset(_HARMLESS.split())
"""Ignored with a warning in a configuration file, unknown to CONFIG GET and SET."""

FIXED: dict[str, tuple[str, ...]] = {
    "cluster-enabled": ("no",),
    "daemonize": ("no",),
    "import-mode": ("no",),
    "min-replicas-to-write": ("0",),
    "min-slaves-to-write": ("0",),
    "rdma-port": ("0",),
    "replicaof": ("", "no one"),
    "slaveof": ("", "no one"),
    "tls-ciphersuites": ("",),
}
"""Not supported, and somebody would miss it: accepted with these values only, which ask for nothing. The
first is what CONFIG GET tells."""

FIXED_IN_FILES: dict[str, tuple[str, ...]] = {
    "loadmodule": (),
    "loadmodule-ex": (),
    "rename-command": (),
}
"""Likewise, for directives that CONFIG GET and SET do not know in Redis either."""
