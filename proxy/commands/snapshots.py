"""Snapshots of all shards: SAVE, BGSAVE, and what a client is sent that asks for a full sync."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from proxy import identity
from proxy.backup.store import Point, Told
from proxy.snapshots import at_one_moment, send_snapshot
from shardkv import clock, control, errors, slotmap
from shardkv.command import (
    ADMIN,
    ALLOW_BUSY,
    FAST,
    LOADING,
    NO_ASYNC_LOADING,
    NO_MULTI,
    NOSCRIPT,
    STALE,
    Place,
    command,
)
from shardkv.errors import CommandError
from shardkv.resp.replies import OK, Status

if TYPE_CHECKING:
    from proxy.session import Session


async def _ask(session: Session, topic: str) -> Any:
    """What the supervisor answers."""
    [(_, _, answer)] = await session.proxy.supervision.ask(control.SUPERVISOR, topic)
    return answer


@command(
    "SAVE",
    group="server",
    since="1.0.0",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI,
    complexity="O(N) where N is the total number of keys in all databases",
    place=Place.PROXY,
)
async def save(session: Session, args: list[Any]) -> Any:
    """Synchronously saves the database(s) to disk."""
    number = await _ask(session, "save")
    if number is None:
        raise CommandError(errors.SAVE_IN_PROGRESS)
    outcome = await session.proxy.outcomes.of(number)
    if "ok" not in outcome:
        raise CommandError(errors.SAVE_FAILED)
    return OK


@command(
    "BGSAVE [SCHEDULE | CANCEL]",
    group="server",
    since="1.0.0",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING,
    history=(
        ("3.2.2", "Added the `SCHEDULE` option."),
        ("8.1.0", "Added the `CANCEL` option."),
    ),
    place=Place.PROXY,
)
async def bgsave(session: Session, args: list[Any]) -> Any:
    """Asynchronously saves the database(s) to disk."""
    match [word.upper() for word in args[1:]]:
        case [b"CANCEL"]:
            if not await _ask(session, "cancel save"):
                raise CommandError(errors.NO_SAVE_IN_PROGRESS)
            return Status(b"Background saving cancelled")
        case [] | [b"SCHEDULE"]:
            if await _ask(session, "save") is None:
                raise CommandError(errors.SAVE_IN_PROGRESS)
            # In a transaction nothing may wait, and there Redis begins when the transaction is over.
            return Status(
                b"Background saving started" if session.may_wait else b"Background saving scheduled"
            )
    raise CommandError(errors.SYNTAX)


@command(
    "LASTSAVE",
    group="server",
    since="1.0.0",
    flags=LOADING | STALE | FAST,
    categories=("admin", "dangerous"),
    tips=("nondeterministic_output",),
    place=Place.PROXY,
)
async def lastsave(session: Session, args: list[Any]) -> Any:
    """Returns the Unix timestamp of the last successful save to disk."""
    return await _ask(session, "last save")


# -- a full sync ------------------------------------------------------------------------------


@command(
    "REPLCONF",
    group="server",
    since="3.0.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE | ALLOW_BUSY,
    arity=-1,
    place=Place.PROXY,
)
def replconf(session: Session, args: list[Any]) -> Any:
    """An internal command for configuring the replication stream."""
    words = args[1:]
    if len(words) % 2:
        raise CommandError(errors.SYNTAX)
    for name, value in zip(words[::2], words[1::2], strict=True):
        match name.lower():
            case b"listening-port" | b"ip-address":
                session.is_replica = True
            case b"capa" | b"version" | b"rdb-only":
                pass
            case b"rdb-filter-only":
                if value.strip():
                    raise CommandError(errors.NO_FILTERED_SYNC)
            case _:
                raise CommandError(errors.unknown_replconf(name))
    return OK


@command(
    "SYNC",
    group="server",
    since="1.0.0",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI,
    complexity="",
    place=Place.PROXY,
)
async def sync(session: Session, args: list[Any]) -> Any:
    """An internal command used in replication."""
    return await _full_sync(session)


@command(
    "PSYNC replicationid offset",
    group="server",
    since="2.8.0",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI,
    complexity="",
    arity=-3,
    place=Place.PROXY,
)
async def psync(session: Session, args: list[Any]) -> Any:
    """An internal command used in replication."""
    if not session.is_replica:
        session.push(b"+FULLRESYNC %b 0\r\n" % identity.REPLICATION_ID.encode())
    return await _full_sync(session)


async def _full_sync(session: Session) -> Any:
    """Sends one snapshot, after which there is nothing more to say: no changes will follow."""
    if session.is_replica:
        raise CommandError(errors.NO_REPLICAS)
    if not await send_snapshot(session):
        raise CommandError(errors.SAVE_FAILED)
    session.muted = True
    session.leave()
    return OK


# -- a backup ---------------------------------------------------------------------------------


@command(
    "BACKUP",
    group="server",
    since="0.1.0",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI,
    place=Place.PROXY,
)
async def backup(session: Session, args: list[Any]) -> Any:
    """Names one moment over all shards, and the files that hold everything up to it, as JSON."""
    proxy = session.proxy
    shards = await at_one_moment(proxy, "logposition")
    if isinstance(shards, CommandError):
        raise shards
    if None in shards:
        raise CommandError(errors.NO_LOG_TO_BACK_UP)
    config = proxy.config
    slots = slotmap.from_table(proxy.slot_table, len(proxy.backends), config.colocate)
    point = Point(clock.now_ms(), identity.RUN_ID, config.appendfilename, slots, shards)
    return msgspec.json.encode(Told(str(Path(config.dir) / config.appenddirname), point))
