"""What a worker tells of itself for INFO: counts since its start, and sizes as they are now."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from shardkv import clock
from shardkv.channels import CHANNEL, PATTERN, SHARD_CHANNEL, arises_anywhere
from shardkv.latency import Durations, scaled

if TYPE_CHECKING:
    from shardkv.aof.log import AppendLog
    from shardkv.journal import Journal
    from shardkv.keyspace import Database
    from shardkv.worker import Worker

_DEADLINES_SAMPLED = 1000
"""So many deadlines of a database make its average time to live."""


class DatabaseFigures(msgspec.Struct):
    """One database's part on this shard. `average_ttl_ms` is an estimate, 0 if nothing expires."""

    index: int
    keys: int
    expires: int
    average_ttl_ms: int


class LogFigures(msgspec.Struct):
    """The append-only file; sizes in bytes. A time of -1 means that there was no rewrite."""

    current_size: int
    base_size: int
    pending_bytes: int
    delayed_fsync: int
    fsyncs: int
    write_ok: bool
    rewriting: bool
    rewrites: int
    rewrite_failures: int
    last_rewrite_ok: bool
    last_rewrite_s: float
    current_rewrite_s: float
    rewrite_asked: bool
    """Whether another one begins when that which is under way has ended."""
    pending_fsync: bool


class WorkerFigures(msgspec.Struct):
    """One worker, with its shard and its log."""

    shard: int
    loading: bool
    load_started_ms: int
    loaded_bytes: int
    load_total_bytes: int
    dump_keys: int
    """Loaded from a snapshot, and below those that were left out because they had expired."""
    dump_keys_expired: int
    databases: list[DatabaseFigures]
    hits: int
    misses: int
    expired_keys: int
    evicted_keys: int
    eviction_exceeded_ms: int
    eviction_exceeding_ms: int
    """How long more memory was used than is allowed because there was nothing to evict: in all, and by now if
    it is so."""
    counted_bytes: int
    share_bytes: int
    """Of memory, what counts for the limit, and the limit of this shard: both 0 if there is none."""
    changes: int
    """Changes since the start that a snapshot would have to contain."""
    snapshot_keys: int
    """Keys that the snapshot under way has passed."""
    lazyfree_pending: int
    expire_cycle_ns: int
    """How long removing expired keys, of which nobody had asked, has taken."""
    expire_cycles_cut_short: int
    cached_scripts: int
    functions: int
    libraries: int
    waiting_requests: int
    """Requests that wait for data."""
    blocking_keys: int
    """Keys that clients wait for, and below those whose loss would end the waiting as well."""
    blocking_keys_on_loss: int
    transactions: int
    """Those over several shards that hold locks here."""
    transactions_in_doubt: int
    parked_requests: int
    """Requests that wait for locked keys."""
    watched_keys: int
    commands: dict[str, tuple[int, int, int]]
    """Of each command that clients call: calls, running time in ns, calls that failed."""
    parts_ns: dict[str, int]
    """Running time in ns of what commands over several shards had done here."""
    errors: dict[str, int]
    pubsub_channels: int
    pubsub_patterns: int
    """The same on every shard."""
    pubsubshard_channels: int
    tracked_keys: int
    """Keys that clients have read which want to know of changes, and pairs of such a key and a client."""
    tracked_items: int
    tracked_prefixes: int
    """The same on every shard."""
    log: LogFigures | None
    durations: dict[str, Durations]
    """Of each command that clients call: how long it took (see shardkv.latency)."""


def figures(worker: Worker, *, durations: bool) -> WorkerFigures:
    """The worker's figures of this moment; with how long commands took if `durations` says so."""
    shard = worker.shard
    eviction = worker.eviction
    loaded, total = worker.journal.progress
    return WorkerFigures(
        shard=worker.index,
        loading=worker.loading,
        load_started_ms=worker.started_ms,
        loaded_bytes=loaded,
        load_total_bytes=total,
        dump_keys=worker.journal.dump.keys,
        dump_keys_expired=worker.journal.dump.expired,
        databases=[_database(db, shard.now_ms) for db in shard.databases.values() if len(db)],
        hits=shard.hits,
        misses=shard.misses,
        expired_keys=shard.expired_keys,
        evicted_keys=shard.evicted_keys,
        eviction_exceeded_ms=0 if eviction is None else eviction.exceeded_ms + eviction.current_exceeded_ms,
        eviction_exceeding_ms=0 if eviction is None else eviction.current_exceeded_ms,
        counted_bytes=0 if eviction is None else eviction.used_bytes,
        share_bytes=0 if eviction is None else eviction.share_bytes,
        changes=shard.changes_since_save,
        snapshot_keys=worker.snapshots.keys,
        lazyfree_pending=len(shard.graveyard),
        expire_cycle_ns=worker.expire_cycle_ns,
        expire_cycles_cut_short=worker.expire_cycles_cut_short,
        cached_scripts=shard.scripts.cached,
        functions=shard.scripts.functions,
        libraries=len(shard.scripts.libraries),
        waiting_requests=len(shard.serving.waiters),
        blocking_keys=shard.serving.waiters.keys,
        blocking_keys_on_loss=len(shard.serving.waiters.on_loss),
        transactions=len(shard.locks.held),
        transactions_in_doubt=shard.transactions.in_doubt,
        parked_requests=shard.transactions.waiting,
        watched_keys=len(shard.watches),
        commands={
            name: (stats.calls, stats.ns, stats.failed) for name, stats in shard.stats.commands.items()
        },
        parts_ns={name: stats.ns for name, stats in shard.stats.parts.items()},
        errors=shard.stats.errors,
        # What is known to every shard is counted on one.
        pubsub_channels=sum(
            shard.index == 0 or not arises_anywhere(CHANNEL, name) for name in shard.channels.names(CHANNEL)
        ),
        pubsub_patterns=len(shard.channels.names(PATTERN)),
        pubsubshard_channels=len(shard.channels.names(SHARD_CHANNEL)),
        tracked_keys=shard.tracking.keys,
        tracked_items=shard.tracking.items,
        tracked_prefixes=shard.tracking.prefixes,
        log=None if worker.journal.log is None else _log(worker.journal, worker.journal.log),
        durations={
            name: scaled(stats.durations, stats.calls)
            for name, stats in shard.stats.commands.items()
            if durations and stats.durations
        },
    )


def _database(db: Database, now_ms: int) -> DatabaseFigures:
    sample = list(islice(db.expires.values(), _DEADLINES_SAMPLED))
    total_ms = sum(max(0, at_ms - now_ms) for at_ms in sample)
    return DatabaseFigures(db.index, len(db), len(db.expires), total_ms // len(sample) if sample else 0)


def _log(journal: Journal, log: AppendLog) -> LogFigures:
    rewrite = log.rewrite
    return LogFigures(
        current_size=log.current_size,
        base_size=log.base_size,
        pending_bytes=log.pending_bytes,
        delayed_fsync=log.delayed_fsync,
        fsyncs=log.fsyncs,
        write_ok=log.error is None and (journal.side is None or journal.side.error is None),
        rewriting=log.rewrite is not None,
        rewrites=log.rewrites,
        rewrite_failures=log.rewrite_failures,
        last_rewrite_ok=log.last_rewrite_ok,
        last_rewrite_s=log.last_rewrite_s,
        current_rewrite_s=-1.0 if rewrite is None else clock.monotonic() - rewrite.begun_s,
        rewrite_asked=journal.rewrite_asked,
        pending_fsync=log.pending_fsync,
    )


def reset(worker: Worker) -> None:
    """Counts from zero again, as CONFIG RESETSTAT wants it."""
    shard = worker.shard
    worker.expire_cycle_ns = worker.expire_cycles_cut_short = 0
    shard.hits = shard.misses = shard.expired_keys = shard.evicted_keys = 0
    shard.reset_stats()
    if worker.eviction is not None:
        worker.eviction.exceeded_ms = 0
    if worker.journal.log is not None:
        worker.journal.log.delayed_fsync = 0
