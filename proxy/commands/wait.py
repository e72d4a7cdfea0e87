"""WAIT and WAITAOF: until writes are as safe as the client wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.blocking import Sleep
from shardkv import errors
from shardkv.blocking import milliseconds
from shardkv.command import BLOCKING, Place, command
from shardkv.errors import CommandError
from shardkv.numbers import integer

if TYPE_CHECKING:
    from proxy.session import Session

REPLICAS = 0
"""How many replicas have what was written."""


@command(
    "WAIT numreplicas timeout",
    group="generic",
    since="3.0.0",
    flags=BLOCKING,
    categories=("connection",),
    tips=("request_policy:all_shards", "response_policy:agg_min"),
    place=Place.PROXY,
)
async def wait(session: Session, args: list[Any]) -> Any:
    """Blocks until the asynchronous replication of all preceding write commands sent by the connection is
    completed."""
    replicas = integer(args[1])
    timeout_ms = milliseconds(args[2])
    if replicas > REPLICAS and session.may_wait:
        await Sleep(session, timeout_ms).over()
    return REPLICAS


@command(
    "WAITAOF numlocal numreplicas timeout",
    group="generic",
    since="7.2.0",
    flags=BLOCKING,
    categories=("connection",),
    tips=("request_policy:all_shards", "response_policy:agg_min"),
    place=Place.PROXY,
)
async def waitaof(session: Session, args: list[Any]) -> Any:
    """Blocks until all of the preceding write commands sent by the connection are written to the append-only
    file of the primary and/or replicas."""
    local = integer(args[1])
    if not 0 <= local <= 1:
        raise CommandError(errors.NOT_0_OR_1)
    replicas = integer(args[2], errors.NOT_A_COUNT)
    if replicas < 0:
        raise CommandError(errors.NOT_A_COUNT)
    timeout_ms = milliseconds(args[3])
    has_log = session.proxy.config.appendonly
    if local and not has_log:
        raise CommandError(errors.NO_LOG_TO_WAIT_FOR)
    on_disk = await _on_disk(session, timeout_ms, for_long=bool(local)) if has_log else False
    if replicas > REPLICAS and session.may_wait:
        await Sleep(session, timeout_ms).over()
    return [int(on_disk), REPLICAS]


async def _on_disk(session: Session, timeout_ms: int, *, for_long: bool) -> bool:
    """Whether all shards have on disk what was written before this; may wait for that."""
    told = session.proxy.ask_shards("durable", for_long and session.may_wait)
    sleep = Sleep(session, timeout_ms)
    told.add_done_callback(lambda done: sleep.end())
    await sleep.over()
    return told.done() and all(value is True for value in told.result())
