"""MEMORY: what all processes use, and what can be done about it. MEMORY USAGE is the shards' (see
shardkv.commands.memory)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy import processes, relay
from proxy.advice import memory_report
from proxy.figures import Figures, gather
from proxy.supervision import topic
from shardkv import allocator, control
from shardkv.command import LOADING, NO_FLAGS, Place, command
from shardkv.commands.memory import DatabaseMemory, WorkerMemory, worker_memory
from shardkv.resp.replies import OK, Verbatim

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session
    from proxy.supervisor import Supervisor

_TIPS = ("nondeterministic_output", "request_policy:all_shards", "response_policy:special")


async def _shards(session: Session) -> list[WorkerMemory]:
    """What each shard knows of its memory."""
    answers = await session.proxy.supervision.ask_all(control.WORKERS, "memory")
    return [worker_memory(answer) for answer in answers if answer]


def _by_name(figures: Figures) -> dict[str, processes.Usage]:
    """What each process uses, by its name."""
    if figures.supervisor is None:
        return {}
    return {
        process.kind if process.kind == control.SUPERVISOR else f"{process.kind}-{process.index}": usage
        for process in figures.supervisor.processes
        if (usage := figures.usage.get(process.pid)) is not None
    }


@command(
    "MEMORY DOCTOR",
    group="server",
    since="4.0.0",
    flags=NO_FLAGS,
    tips=_TIPS,
    place=Place.PROXY,
)
async def memory_doctor(session: Session, args: list[Any]) -> Any:
    """Outputs a memory problems report."""
    figures = await gather(session.proxy, usage=True)
    keys = sum(database.keys for worker in figures.workers for database in worker.databases)
    clients = sum(one.clients for one in figures.proxies)
    buffers = sum(one.buffers_bytes for one in figures.proxies)
    return Verbatim(memory_report(_by_name(figures), keys, clients, buffers).encode())


@command(
    "MEMORY MALLOC-STATS",
    group="server",
    since="4.0.0",
    flags=LOADING,
    complexity="Depends on how much memory is allocated, could be slow",
    tips=_TIPS,
    place=Place.PROXY,
)
async def memory_malloc_stats(session: Session, args: list[Any]) -> Any:
    """Returns the allocator statistics."""
    answers = await session.proxy.supervision.ask(control.EVERYONE, "malloc stats")
    lines = [
        f"{kind}-{index}: " + " ".join(f"{name}={value}" for name, value in told.items())
        for kind, index, told in sorted(answers, key=lambda answer: answer[:2])
        if told
    ]
    return Verbatim("".join(line + "\n" for line in lines).encode())


@command(
    "MEMORY PURGE",
    group="server",
    since="4.0.0",
    flags=LOADING,
    complexity="Depends on how much memory is allocated, could be slow",
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
    place=Place.PROXY,
)
async def memory_purge(session: Session, args: list[Any]) -> Any:
    """Asks the allocator to release memory."""
    await session.proxy.supervision.ask(control.EVERYONE, "memory purge")
    return OK


@command(
    "MEMORY STATS",
    group="server",
    since="4.0.0",
    flags=NO_FLAGS,
    tips=_TIPS,
    place=Place.PROXY,
)
async def memory_stats(session: Session, args: list[Any]) -> Any:
    """Returns details about memory usage."""
    figures = await gather(session.proxy, usage=True)
    shards = await _shards(session)
    used = processes.total(figures.usage.values())
    peak = used.used_bytes + used.peak_bytes - used.resident_bytes
    keys = sum(database.keys for shard in shards for database in shard.databases)
    dataset = sum(database.values_bytes for shard in shards for database in shard.databases)
    logs = [worker.log for worker in figures.workers if worker.log is not None]
    told: dict[str, Any] = {
        "peak.allocated": peak,
        "total.allocated": used.used_bytes,
        "replication.backlog": 0,
        "clients.slaves": 0,
        "clients.normal": sum(one.buffers_bytes for one in figures.proxies),
        "cluster.links": 0,
        "aof.buffer": sum(log.pending_bytes for log in logs),
        "lua.caches": sum(shard.scripts_bytes for shard in shards),
        "functions.caches": sum(shard.functions_bytes for shard in shards),
    }
    for index in sorted({database.index for shard in shards for database in shard.databases}):
        told[f"db.{index}"] = _database(
            [one for shard in shards for one in shard.databases if one.index == index]
        )
    told |= {
        "overhead.total": max(0, used.used_bytes - dataset),
        "keys.count": keys,
        "keys.bytes-per-key": dataset // keys if keys else 0,
        "dataset.bytes": dataset,
        "dataset.percentage": 100 * dataset / used.used_bytes if used.used_bytes else 0.0,
        "peak.percentage": 100 * used.used_bytes / peak if peak else 0.0,
        "fragmentation": used.resident_bytes / used.used_bytes if used.used_bytes else 0.0,
        "fragmentation.bytes": used.resident_bytes - used.used_bytes,
    }
    return {name.encode(): value for name, value in told.items()}


def _database(parts: list[DatabaseMemory]) -> dict[bytes, int]:
    """One database of all shards."""
    return {
        b"overhead.hashtable.main": sum(part.table_bytes for part in parts),
        b"overhead.hashtable.expires": sum(part.deadlines_bytes for part in parts),
    }


@topic("malloc stats")
def _statistics(proxy: Proxy, body: Any) -> dict[str, int]:
    return allocator.statistics()


@topic("memory purge")
def _purge(proxy: Proxy, body: Any) -> bool:
    return allocator.purge()


@relay.topic("malloc stats")
def _statistics_of_supervisor(supervisor: Supervisor, body: Any) -> dict[str, int]:
    return allocator.statistics()


@relay.topic("memory purge")
def _purge_supervisor(supervisor: Supervisor, body: Any) -> bool:
    return allocator.purge()
