"""The figures of all processes, for INFO: each keeps its own, and tells them when it is asked."""

from __future__ import annotations

import asyncio
import os
import resource
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from proxy import identity, processes, relay
from proxy.processes import Usage
from proxy.saving import SavingFigures
from proxy.supervision import topic
from shardkv import clock, control
from shardkv.command import COMMANDS
from shardkv.errors import CommandError
from shardkv.figures import WorkerFigures
from shardkv.latency import Durations, merged
from shardkv.wire import RAW, pack_context

if TYPE_CHECKING:
    from proxy.relocation import Relocation
    from proxy.server import Proxy
    from proxy.supervisor import Child, Supervisor


class ProxyFigures(msgspec.Struct):
    """One proxy; sizes in bytes."""

    clients: int
    held_clients: int
    timed_clients: int
    """Of those, the ones that wait for a limited time."""
    pubsub_clients: int
    tracking_clients: int
    largest_query_bytes: int
    largest_output_bytes: int
    buffers_bytes: int
    connections: int
    rejected_connections: int
    processed: int
    bytes_in: int
    bytes_out: int
    per_second: tuple[float, float, float]
    """Commands, bytes in, bytes out."""
    output_limit_disconnections: int
    query_limit_disconnections: int
    evicted_clients: int
    commands: dict[str, tuple[int, int, int, int]]
    """Of each command that proxies answer or coordinate: calls, running time in ns, calls that failed, and
    requests that were rejected."""
    errors: dict[str, int]
    denied: dict[str, int]
    watching_clients: int
    cross_shard_commands: int
    cross_shard_transactions: int
    cross_shard_retries: int
    cross_shard_tokens: int
    cross_shard_token_wait_ns: int
    durations: dict[str, Durations]
    """How long commands took that proxies answer or coordinate (see shardkv.latency)."""


class ProcessFigures(msgspec.Struct):
    """What the supervisor knows of a process; the supervisor itself is one of them."""

    kind: str
    index: int
    pid: int
    """0 while it does not run."""
    ready: bool
    uptime_s: int
    restarts: int


class ReshardingFigures(msgspec.Struct):
    """What is being changed of shards and slots. `failures` is how often in a row the next step could not be
    made."""

    moving: bool
    shards: int
    target: int
    slots_moved: int
    slots_left: int
    failures: int


class SupervisorFigures(msgspec.Struct):
    """`children_user_s` and `children_system_s` are the processor time of processes that have ended."""

    processes: list[ProcessFigures]
    supervised: bool
    """Whether systemd started the server."""
    children_user_s: float
    children_system_s: float
    resharding: ReshardingFigures
    saving: SavingFigures


@dataclass
class Figures:
    """What is known of the whole server at one moment. Who did not answer in time is missing."""

    supervisor: SupervisorFigures | None = None
    workers: list[WorkerFigures] = field(default_factory=list)
    proxies: list[ProxyFigures] = field(default_factory=list)
    usage: dict[int, Usage] = field(default_factory=dict)
    """By process id."""
    sizes: dict[int, dict[str, Counter[int]]] = field(default_factory=dict)
    """By database and type of value: how many values there are whose size has so many bits."""

    def durations(self) -> dict[str, Durations]:
        """How long each command took, over all processes, if they were asked for that."""
        told = [worker.durations for worker in self.workers] + [one.durations for one in self.proxies]
        names = sorted({name for durations in told for name in durations})
        return {name: merged(durations.get(name, {}) for durations in told) for name in names}


async def gather(proxy: Proxy, *, usage: bool, durations: bool = False) -> Figures:
    """Asks all processes for their figures, with how long commands took if `durations` says so, and the
    kernel for what they use if `usage` does."""
    figures = Figures()
    for kind, _, body in sorted(
        await proxy.supervision.ask(control.EVERYONE, "figures", durations), key=lambda answer: answer[:2]
    ):
        if body is None:
            continue
        if kind == control.SUPERVISOR:
            figures.supervisor = msgspec.convert(body, SupervisorFigures)
        elif kind == "worker":
            figures.workers.append(msgspec.convert(body, WorkerFigures))
        else:
            figures.proxies.append(msgspec.convert(body, ProxyFigures))
    if usage and figures.supervisor is not None:
        pids = [process.pid for process in figures.supervisor.processes if process.pid]
        figures.usage = await asyncio.to_thread(processes.measure, pids)
    return figures


async def gather_sizes(proxy: Proxy, figures: Figures) -> None:
    """Has every shard count how large its values are, database by database, in steps."""
    shards = range(len(proxy.backends))
    for index in sorted({part.index for worker in figures.workers for part in worker.databases}):
        counts: dict[str, Counter[int]] = {}
        code = pack_context(index, RAW) | COMMANDS["keysizes"].code
        places: dict[int, list[int]] = {shard: [0, 0] for shard in shards}
        while places:
            answers = await proxy.ask_each({shard: [code, *place] for shard, place in places.items()})
            for shard, answer in zip(list(places), answers, strict=True):
                if isinstance(answer, CommandError) or answer[0] is None:
                    del places[shard]
                else:
                    places[shard] = answer[0]
                if not isinstance(answer, CommandError):
                    for kind, found in answer[1].items():
                        counts.setdefault(kind, Counter()).update(found)
        figures.sizes[index] = counts


# -- answers ----------------------------------------------------------------------------------


@topic("figures")
def _of_proxy(proxy: Proxy, body: Any) -> ProxyFigures:
    counters, cross_shard = proxy.counters, proxy.coordinator.counters
    held = [session.waiting_bytes for session in proxy.sessions.values()]
    return ProxyFigures(
        clients=len(proxy.sessions),
        held_clients=sum(session.held for session in proxy.sessions.values()),
        timed_clients=sum(
            session.waiting is not None and session.waiting.timed for session in proxy.sessions.values()
        ),
        pubsub_clients=sum(session.is_subscribed for session in proxy.sessions.values()),
        tracking_clients=len(proxy.tracking),
        largest_query_bytes=max((query for query, _, _ in held), default=0),
        largest_output_bytes=max((output for _, _, output in held), default=0),
        buffers_bytes=sum(map(sum, held)),
        connections=counters.connections,
        rejected_connections=counters.rejected_connections,
        processed=counters.requests - counters.rejected,
        bytes_in=counters.bytes_in,
        bytes_out=counters.bytes_out,
        per_second=proxy.rates.per_second(),
        output_limit_disconnections=counters.output_limit_disconnections,
        query_limit_disconnections=counters.query_limit_disconnections,
        evicted_clients=proxy.client_memory.evicted,
        commands={
            name: (command.calls, command.ns, command.failed, command.rejected)
            for name, command in counters.commands.items()
        },
        errors=counters.errors,
        denied=counters.denied,
        watching_clients=sum(session.watch is not None for session in proxy.sessions.values()),
        cross_shard_commands=cross_shard.commands,
        cross_shard_transactions=cross_shard.transactions,
        cross_shard_retries=cross_shard.retries,
        cross_shard_tokens=cross_shard.tokens,
        cross_shard_token_wait_ns=cross_shard.token_wait_ns,
        durations={
            name: command.durations
            for name, command in counters.commands.items()
            if body and command.durations
        },
    )


@relay.topic("figures")
def _of_supervisor(supervisor: Supervisor, body: Any) -> SupervisorFigures:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return SupervisorFigures(
        processes=[_of_itself(), *map(_of_child, supervisor.children)],
        supervised="NOTIFY_SOCKET" in os.environ,
        children_user_s=ended.ru_utime,
        children_system_s=ended.ru_stime,
        saving=supervisor.saving.figures(),
        resharding=_of_resharding(supervisor.relocation),
    )


def _of_resharding(relocation: Relocation) -> ReshardingFigures:
    state = relocation.resharding
    return ReshardingFigures(
        relocation.active, state.shards, state.target, state.moved, state.left, state.failures
    )


def _of_itself() -> ProcessFigures:
    return ProcessFigures(
        control.SUPERVISOR, 0, os.getpid(), True, int(clock.monotonic() - identity.STARTED_S), 0
    )


def _of_child(child: Child) -> ProcessFigures:
    uptime_s = int(clock.monotonic() - child.started_at) if child.running else 0
    return ProcessFigures(child.kind, child.index, child.pid, child.ready, uptime_s, child.restarts)
