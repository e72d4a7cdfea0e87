"""The sections of INFO.

The names are those of Redis 7.2 (https://redis.io/docs/latest/commands/info/), so that clients and exporters
find what they know. A figure is measured, or it is constant because the thing it counts does not exist here;
what is neither is left out."""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from proxy import identity, processes
from proxy.figures import Figures
from proxy.processes import Usage
from proxy.saving import SavingFigures
from shardkv import REDIS_VERSION, __version__, clock
from shardkv.command import COMMANDS
from shardkv.commands.keysizes import UNITS
from shardkv.latency import percentile_us

if TYPE_CHECKING:
    from proxy.server import Proxy
    from shardkv.figures import LogFigures
    from shardkv.settings import Config

Fields = dict[str, Any]
Section = Callable[["Proxy", Figures], Fields]

SECTIONS: dict[str, Section] = {}
"""Every section by its name in lower case, in the order in which they are told."""

NOT_BY_DEFAULT = frozenset({"commandstats", "latencystats"})
"""What a bare INFO leaves out."""

ON_REQUEST = frozenset({"keysizes"})
"""What is told only to who names it, because every key has to be looked at."""

WITHOUT_FIGURES = frozenset({"server", "replication", "modules", "cluster"})
"""What can be told without asking other processes for their figures."""

WITH_USAGE = frozenset({"memory", "cpu", "shards"})
"""What needs to be measured for each process."""


def section(tell: Section) -> Section:
    """Declares the decorated function as what tells the fields of a section, which is named as it is."""
    SECTIONS[tell.__name__] = tell
    return tell


def text(name: str, fields: Fields) -> bytes:
    """A section as INFO shows it."""
    lines = [f"# {name.capitalize() if name != 'cpu' else 'CPU'}"]
    lines += [f"{field}:{value}" for field, value in fields.items()]
    return "".join(line + "\r\n" for line in lines).encode("utf-8", "surrogateescape")


_UNITS = "KMGTPE"


def size_text(size: int) -> str:
    """Bytes for people, as Redis writes them: `1.50M`."""
    if size < 1024:
        return f"{size}B"
    power = min((size.bit_length() - 1) // 10, len(_UNITS))
    return f"{size / 1024**power:.2f}{_UNITS[power - 1]}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:.2f}"


# -- the server -------------------------------------------------------------------------------


@section
def server(proxy: Proxy, figures: Figures) -> Fields:
    uptime_s = int(clock.monotonic() - identity.STARTED_S)
    host = os.uname()
    config = proxy.config
    return {
        "redis_version": REDIS_VERSION,
        "server_name": "shardkv",
        "shardkv_version": __version__,
        "redis_git_sha1": "00000000",
        "redis_git_dirty": 0,
        "redis_build_id": 0,
        "redis_mode": "standalone",
        "os": f"{host.sysname} {host.release} {host.machine}",
        "arch_bits": sys.maxsize.bit_length() + 1,
        "monotonic_clock": "POSIX clock_gettime",
        "multiplexing_api": "epoll",
        "python_version": platform.python_version(),
        "process_id": os.getppid(),
        "process_supervised": "systemd" if "NOTIFY_SOCKET" in os.environ else "no",
        "run_id": identity.RUN_ID,
        "tcp_port": config.port,
        "server_time_usec": clock.now_us(),
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86400,
        "hz": config.hz,
        "configured_hz": config.hz,
        "lru_clock": clock.now_ms() // 1000 & 0xFFFFFF,
        "executable": sys.executable,
        "config_file": identity.config_file or "",
        "io_threads_active": 0,
        **_listeners(config),
        "workers": config.workers,
        "proxies": config.proxies,
    }


def _listeners(config: Config) -> Fields:
    """Where the server listens, a line each."""
    found = []
    for name, port in (("tcp", config.port), ("tls", config.tls_port)):
        if port and config.bind:
            addresses = "".join(f",bind={address.removeprefix('-')}" for address in config.bind)
            found.append(f"name={name}{addresses},port={port}")
    if config.unixsocket:
        found.append(f"name=unix,bind={config.unixsocket}")
    return {f"listener{number}": line for number, line in enumerate(found)}


@section
def clients(proxy: Proxy, figures: Figures) -> Fields:
    pause = proxy.pause
    return {
        "connected_clients": sum(one.clients for one in figures.proxies),
        "cluster_connections": 0,
        "maxclients": proxy.config.maxclients,
        "client_recent_max_input_buffer": max(
            (one.largest_query_bytes for one in figures.proxies), default=0
        ),
        "client_recent_max_output_buffer": max(
            (one.largest_output_bytes for one in figures.proxies), default=0
        ),
        "blocked_clients": sum(one.held_clients for one in figures.proxies),
        "tracking_clients": sum(one.tracking_clients for one in figures.proxies),
        "pubsub_clients": sum(one.pubsub_clients for one in figures.proxies),
        "watching_clients": sum(one.watching_clients for one in figures.proxies),
        "total_watched_keys": sum(worker.watched_keys for worker in figures.workers),
        "clients_in_timeout_table": sum(one.timed_clients for one in figures.proxies),
        "total_blocking_keys": sum(one.blocking_keys for one in figures.workers),
        "total_blocking_keys_on_nokey": sum(one.blocking_keys_on_loss for one in figures.workers),
        "paused_actions": "none" if not pause.active else "write" if pause.writes_only else "all",
        "paused_timeout_milliseconds": pause.remaining_ms,
    }


@section
def memory(proxy: Proxy, figures: Figures) -> Fields:
    used = processes.total(figures.usage.values())
    # The kernel knows the highest of the resident sizes; what is shared is about the same at all times.
    peak = used.used_bytes + used.peak_bytes - used.resident_bytes
    host = processes.host_memory_bytes()
    buffers = sum(one.buffers_bytes for one in figures.proxies)
    return {
        "used_memory": used.used_bytes,
        "used_memory_human": size_text(used.used_bytes),
        "used_memory_rss": used.resident_bytes,
        "used_memory_rss_human": size_text(used.resident_bytes),
        "used_memory_peak": peak,
        "used_memory_peak_human": size_text(peak),
        "used_memory_peak_perc": _percent(used.used_bytes, peak) + "%",
        "total_system_memory": host,
        "total_system_memory_human": size_text(host),
        "number_of_cached_scripts": max((worker.cached_scripts for worker in figures.workers), default=0),
        "number_of_functions": max((worker.functions for worker in figures.workers), default=0),
        "number_of_libraries": max((worker.libraries for worker in figures.workers), default=0),
        "maxmemory": proxy.config.maxmemory,
        "maxmemory_human": size_text(proxy.config.maxmemory),
        "maxmemory_policy": proxy.config.maxmemory_policy,
        "mem_fragmentation_ratio": f"{used.resident_bytes / used.used_bytes if used.used_bytes else 0:.2f}",
        "mem_fragmentation_bytes": used.resident_bytes - used.used_bytes,
        "mem_not_counted_for_evict": 0,
        "mem_replication_backlog": 0,
        "mem_total_replication_buffers": 0,
        "mem_clients_slaves": 0,
        "mem_clients_normal": buffers,
        "mem_cluster_links": 0,
        "mem_aof_buffer": sum(log.pending_bytes for log in _logs(figures)),
        "mem_allocator": "libc",
        "active_defrag_running": 0,
        "lazyfree_pending_objects": sum(worker.lazyfree_pending for worker in figures.workers),
    }


def _logs(figures: Figures) -> list[LogFigures]:
    return [worker.log for worker in figures.workers if worker.log is not None]


_NO_SAVING = SavingFigures(
    in_progress=False,
    saves=0,
    failures=0,
    last_save_s=identity.STARTED_MS // 1000,
    last_ok=True,
    last_duration_s=-1.0,
    current_duration_s=-1.0,
    last_size=0,
    keys=0,
)
"""While the supervisor does not answer."""


def _saving(figures: Figures) -> SavingFigures:
    return _NO_SAVING if figures.supervisor is None else figures.supervisor.saving


def _all_keys(figures: Figures) -> int:
    return sum(database.keys for worker in figures.workers for database in worker.databases)


@section
def persistence(proxy: Proxy, figures: Figures) -> Fields:
    logs = _logs(figures)
    loading = [worker for worker in figures.workers if worker.loading]
    saving = _saving(figures)
    fields: Fields = {
        "loading": int(bool(loading)),
        "async_loading": 0,
        "current_cow_peak": 0,
        "current_cow_size": 0,
        "current_cow_size_age": 0,
        "current_fork_perc": "0.00",
        "current_save_keys_processed": sum(worker.snapshot_keys for worker in figures.workers),
        "current_save_keys_total": _all_keys(figures) if saving.in_progress else 0,
        "rdb_changes_since_last_save": sum(worker.changes for worker in figures.workers),
        "rdb_bgsave_in_progress": int(saving.in_progress),
        "rdb_last_save_time": saving.last_save_s,
        "rdb_last_bgsave_status": "ok" if saving.last_ok else "err",
        "rdb_last_bgsave_time_sec": int(saving.last_duration_s),
        "rdb_current_bgsave_time_sec": int(saving.current_duration_s),
        "rdb_saves": saving.saves,
        "rdb_saves_consecutive_failures": saving.failures,
        "rdb_last_save_size": saving.last_size,
        "rdb_last_save_keys": saving.keys,
        "rdb_last_cow_size": 0,
        "rdb_last_load_keys_expired": sum(worker.dump_keys_expired for worker in figures.workers),
        "rdb_last_load_keys_loaded": sum(worker.dump_keys for worker in figures.workers),
        "aof_enabled": int(proxy.config.appendonly),
        "aof_rewrite_in_progress": int(any(log.rewriting for log in logs)),
        "aof_rewrite_scheduled": int(any(log.rewrite_asked for log in logs)),
        "aof_last_rewrite_time_sec": max((int(log.last_rewrite_s) for log in logs), default=-1),
        "aof_current_rewrite_time_sec": max((int(log.current_rewrite_s) for log in logs), default=-1),
        "aof_last_bgrewrite_status": "ok" if all(log.last_rewrite_ok for log in logs) else "err",
        "aof_rewrites": sum(log.rewrites for log in logs),
        "aof_rewrites_consecutive_failures": max((log.rewrite_failures for log in logs), default=0),
        "aof_last_write_status": "ok" if all(log.write_ok for log in logs) else "err",
        "aof_last_cow_size": 0,
        "module_fork_in_progress": 0,
        "module_fork_last_cow_size": 0,
    }
    if logs:
        fields |= {
            "aof_current_size": sum(log.current_size for log in logs),
            "aof_base_size": sum(log.base_size for log in logs),
            "aof_pending_rewrite": 0,
            "aof_buffer_length": sum(log.pending_bytes for log in logs),
            "aof_pending_bio_fsync": sum(log.pending_fsync for log in logs),
            "aof_delayed_fsync": sum(log.delayed_fsync for log in logs),
        }
    if loading:
        begun_ms = min(worker.load_started_ms for worker in loading)
        total = sum(worker.load_total_bytes for worker in loading)
        done = sum(worker.loaded_bytes for worker in loading)
        elapsed_s = (clock.now_ms() - begun_ms) / 1000
        fields |= {
            "loading_start_time": begun_ms // 1000,
            "loading_total_bytes": total,
            "loading_loaded_bytes": done,
            "loading_loaded_perc": _percent(done, total),
            "loading_eta_seconds": int(elapsed_s * (total - done) / done) if done else 1,
        }
    return fields


@section
def stats(proxy: Proxy, figures: Figures) -> Fields:
    proxies, workers = figures.proxies, figures.workers
    commands, received, sent = (sum(one.per_second[number] for one in proxies) for number in range(3))
    return {
        "total_connections_received": sum(one.connections for one in proxies),
        "total_commands_processed": sum(one.processed for one in proxies),
        "instantaneous_ops_per_sec": round(commands),
        "total_net_input_bytes": sum(one.bytes_in for one in proxies),
        "total_net_output_bytes": sum(one.bytes_out for one in proxies),
        "total_net_repl_input_bytes": 0,
        "total_net_repl_output_bytes": 0,
        "instantaneous_input_kbps": f"{received / 1024:.2f}",
        "instantaneous_output_kbps": f"{sent / 1024:.2f}",
        "instantaneous_input_repl_kbps": "0.00",
        "instantaneous_output_repl_kbps": "0.00",
        "rejected_connections": sum(one.rejected_connections for one in proxies),
        "sync_full": 0,
        "sync_partial_ok": 0,
        "sync_partial_err": 0,
        "expired_time_cap_reached_count": sum(worker.expire_cycles_cut_short for worker in workers),
        "expire_cycle_cpu_milliseconds": sum(worker.expire_cycle_ns for worker in workers) // 1_000_000,
        "expired_keys": sum(worker.expired_keys for worker in workers),
        "evicted_keys": sum(worker.evicted_keys for worker in workers),
        "evicted_clients": sum(one.evicted_clients for one in proxies),
        "total_eviction_exceeded_time": max((worker.eviction_exceeded_ms for worker in workers), default=0),
        "current_eviction_exceeded_time": max(
            (worker.eviction_exceeding_ms for worker in workers), default=0
        ),
        "keyspace_hits": sum(worker.hits for worker in workers),
        "keyspace_misses": sum(worker.misses for worker in workers),
        "pubsub_channels": sum(worker.pubsub_channels for worker in workers),
        "pubsub_patterns": max((worker.pubsub_patterns for worker in workers), default=0),
        "pubsubshard_channels": sum(worker.pubsubshard_channels for worker in workers),
        "latest_fork_usec": 0,
        "total_forks": 0,
        "migrate_cached_sockets": 0,
        "slave_expires_tracked_keys": 0,
        "active_defrag_hits": 0,
        "active_defrag_misses": 0,
        "active_defrag_key_hits": 0,
        "active_defrag_key_misses": 0,
        "total_active_defrag_time": 0,
        "current_active_defrag_time": 0,
        "tracking_total_keys": sum(worker.tracked_keys for worker in workers),
        "tracking_total_items": sum(worker.tracked_items for worker in workers),
        "tracking_total_prefixes": max((worker.tracked_prefixes for worker in workers), default=0),
        "acl_access_denied_auth": sum(one.denied.get("auth", 0) for one in proxies),
        "acl_access_denied_cmd": sum(one.denied.get("command", 0) for one in proxies),
        "acl_access_denied_key": sum(one.denied.get("key", 0) for one in proxies),
        "acl_access_denied_channel": sum(one.denied.get("channel", 0) for one in proxies),
        "unexpected_error_replies": 0,
        "total_error_replies": sum(_errors(figures).values()),
        "dump_payload_sanitizations": 0,
        "client_query_buffer_limit_disconnections": sum(one.query_limit_disconnections for one in proxies),
        "client_output_buffer_limit_disconnections": sum(one.output_limit_disconnections for one in proxies),
        "cross_shard_commands": sum(one.cross_shard_commands for one in proxies),
        "cross_shard_transactions": sum(one.cross_shard_transactions for one in proxies),
        "cross_shard_retries": sum(one.cross_shard_retries for one in proxies),
        "cross_shard_tokens": sum(one.cross_shard_tokens for one in proxies),
        "cross_shard_token_wait_usec": sum(one.cross_shard_token_wait_ns for one in proxies) // 1000,
    }


@section
def replication(proxy: Proxy, figures: Figures) -> Fields:
    return {
        "role": "master",
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": identity.REPLICATION_ID,
        "master_replid2": "0" * 40,
        "master_repl_offset": 0,
        "second_repl_offset": -1,
        "repl_backlog_active": 0,
        "repl_backlog_size": 0,
        "repl_backlog_first_byte_offset": 0,
        "repl_backlog_histlen": 0,
    }


@section
def cpu(proxy: Proxy, figures: Figures) -> Fields:
    used = processes.total(figures.usage.values())
    ended = figures.supervisor
    return {
        "used_cpu_sys": f"{used.system_s:.6f}",
        "used_cpu_user": f"{used.user_s:.6f}",
        "used_cpu_sys_children": f"{ended.children_system_s if ended else 0:.6f}",
        "used_cpu_user_children": f"{ended.children_user_s if ended else 0:.6f}",
    }


@section
def modules(proxy: Proxy, figures: Figures) -> Fields:
    return {}


# -- commands ---------------------------------------------------------------------------------


@section
def commandstats(proxy: Proxy, figures: Figures) -> Fields:
    calls: Counter[str] = Counter()
    ns: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for worker in figures.workers:
        for name, (its_calls, its_ns, its_failed) in worker.commands.items():
            calls[name] += its_calls
            ns[name] += its_ns
            failed[name] += its_failed
        ns.update(worker.parts_ns)
    for one in figures.proxies:
        for name, (its_calls, its_ns, its_failed, its_rejected) in one.commands.items():
            calls[name] += its_calls
            ns[name] += its_ns
            failed[name] += its_failed
            rejected[name] += its_rejected
    return {
        f"cmdstat_{name}": _command(calls[name], ns[name] // 1000, rejected[name], failed[name])
        for name, declared in sorted(COMMANDS.items())
        if not declared.internal and (calls[name] or rejected[name])
    }


def _command(calls: int, usec: int, rejected: int, failed: int) -> str:
    each = usec / calls if calls else 0
    return (
        f"calls={calls},usec={usec},usec_per_call={each:.2f},rejected_calls={rejected},failed_calls={failed}"
    )


@section
def errorstats(proxy: Proxy, figures: Figures) -> Fields:
    return {f"errorstat_{code}": f"count={count}" for code, count in sorted(_errors(figures).items())}


def _errors(figures: Figures) -> Counter[str]:
    counts: Counter[str] = Counter()
    for worker in figures.workers:
        counts.update(worker.errors)
    for one in figures.proxies:
        counts.update(one.errors)
    return counts


@section
def latencystats(proxy: Proxy, figures: Figures) -> Fields:
    percentiles = proxy.config.latency_tracking_info_percentiles
    return {
        f"latency_percentiles_usec_{name}": ",".join(
            f"p{percent:g}={percentile_us(durations, percent):.3f}" for percent in percentiles
        )
        for name, durations in figures.durations().items()
        if durations
    }


# -- data -------------------------------------------------------------------------------------


@section
def cluster(proxy: Proxy, figures: Figures) -> Fields:
    return {"cluster_enabled": 0}


@section
def keyspace(proxy: Proxy, figures: Figures) -> Fields:
    parts = [database for worker in figures.workers for database in worker.databases]
    fields = {}
    for index in sorted({part.index for part in parts}):
        own = [part for part in parts if part.index == index]
        keys, expires = sum(part.keys for part in own), sum(part.expires for part in own)
        ttl_ms = sum(part.average_ttl_ms * part.expires for part in own) // expires if expires else 0
        fields[f"db{index}"] = f"keys={keys},expires={expires},avg_ttl={ttl_ms}"
    return fields


@section
def keysizes(proxy: Proxy, figures: Figures) -> Fields:
    return {
        f"db{index}_distrib_{unit}": ",".join(
            f"{_size_label(bits)}={count}" for bits, count in sorted(counts[kind].items())
        )
        for index, counts in figures.sizes.items()
        for kind, unit in UNITS.items()
        if kind in counts
    }


def _size_label(bits: int) -> str:
    """The lowest size that has so many bits: `512`, `4K`."""
    size = 1 << bits - 1 if bits else 0
    power = max(0, (size.bit_length() - 1) // 10)
    return f"{size >> 10 * power}{_UNITS[power - 1] if power else ''}"


@section
def shards(proxy: Proxy, figures: Figures) -> Fields:
    """A line for each shard, also for one that is down or does not answer; and what is being changed of
    them."""
    known = {worker.shard: worker for worker in figures.workers}
    fields: Fields = {}
    for process in figures.supervisor.processes if figures.supervisor else ():
        if process.kind != "worker":
            continue
        worker = known.get(process.index)
        usage = figures.usage.get(process.pid, Usage())
        if not process.pid:
            state = "down"
        elif worker is None:
            state = "busy"
        else:
            state = "loading" if worker.loading else "up"
        line: Fields = {
            "state": state,
            "pid": process.pid,
            "uptime": process.uptime_s,
            "restarts": process.restarts,
            "slots": proxy.slot_table.count(process.index),
            "memory": usage.used_bytes,
        }
        if worker is not None:
            line["keys"] = sum(database.keys for database in worker.databases)
            line["expires"] = sum(database.expires for database in worker.databases)
            if worker.share_bytes:
                line["memory_counted"] = worker.counted_bytes
                line["memory_share"] = worker.share_bytes
                line["evicted"] = worker.evicted_keys
            line["hits"] = worker.hits
            line["misses"] = worker.misses
            line["waiting"] = worker.waiting_requests
            line["transactions"] = worker.transactions
            line["in_doubt"] = worker.transactions_in_doubt
            line["parked"] = worker.parked_requests
            line["watched_keys"] = worker.watched_keys
            line["changes_since_save"] = worker.changes
            line["snapshot_keys"] = worker.snapshot_keys
            if worker.log is not None:
                line["aof_size"] = worker.log.current_size
                line["aof_base_size"] = worker.log.base_size
                line["aof_rewriting"] = int(worker.log.rewriting)
                line["aof_status"] = "ok" if worker.log.write_ok else "err"
                line["aof_pending"] = worker.log.pending_bytes
                line["aof_pending_fsync"] = int(worker.log.pending_fsync)
                line["aof_delayed_fsync"] = worker.log.delayed_fsync
                line["aof_rewrites"] = worker.log.rewrites
                line["aof_last_rewrite"] = "ok" if worker.log.last_rewrite_ok else "err"
        fields[f"shard{process.index}"] = _line(line.items())
    if figures.supervisor is not None:
        change = figures.supervisor.resharding
        fields |= {
            "reshard_state": "moving" if change.moving else "done",
            "reshard_shards": change.shards,
            "reshard_target": change.target,
            "reshard_slots_moved": change.slots_moved,
            "reshard_slots_left": change.slots_left,
            "reshard_failures": change.failures,
        }
    return fields


def _line(pairs: Iterable[tuple[str, Any]]) -> str:
    return ",".join(f"{name}={value}" for name, value in pairs)
