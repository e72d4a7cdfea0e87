"""The server as a whole: its end, its time, its files, and DEBUG."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxy import relay
from proxy.lolwut import picture
from shardkv import clock, control, errors
from shardkv.command import (
    ADMIN,
    ALLOW_BUSY,
    FAST,
    LOADING,
    NO_ASYNC_LOADING,
    NO_MULTI,
    NOSCRIPT,
    READONLY,
    STALE,
    Place,
    command,
)
from shardkv.errors import CommandError
from shardkv.resp.replies import OK, Status, Verbatim

if TYPE_CHECKING:
    from proxy.session import Session
    from proxy.supervisor import Supervisor

logger = logging.getLogger("proxy.commands.server")


@command(
    "TIME",
    group="server",
    since="2.6.0",
    flags=LOADING | STALE | FAST,
    tips=("nondeterministic_output",),
    place=Place.PROXY,
)
def time(session: Session, args: list[Any]) -> Any:
    """Returns the server time."""
    seconds, microseconds = divmod(clock.now_us(), 1_000_000)
    return [b"%d" % seconds, b"%d" % microseconds]


@command(
    "LOLWUT [VERSION version]",
    group="server",
    since="5.0.0",
    flags=READONLY | FAST,
    complexity="",
    place=Place.PROXY,
)
def lolwut(session: Session, args: list[Any]) -> Any:
    """Displays computer art and the server version."""
    return Verbatim(picture(args[1:]))


# -- the append-only file ---------------------------------------------------------------------


@command(
    "BGREWRITEAOF",
    group="server",
    since="1.0.0",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING,
    place=Place.PROXY,
)
async def bgrewriteaof(session: Session, args: list[Any]) -> Any:
    """Asynchronously rewrites the append-only file to disk."""
    begun = await session.proxy.supervision.ask_all(control.WORKERS, "rewrite")
    if not any(begun):
        appending = session.proxy.config.appendonly
        raise CommandError(errors.REWRITE_IN_PROGRESS if appending else errors.NO_APPEND_ONLY_FILE)
    return Status(b"Background append only file rewriting started")


# -- the end ----------------------------------------------------------------------------------


@command(
    "SHUTDOWN [[NOSAVE | SAVE] [NOW] [FORCE] [SAFE] [FAILOVER] | ABORT]",
    group="server",
    since="1.0.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE | NO_MULTI | ALLOW_BUSY,
    complexity="O(N) when saving, where N is the total number of keys in all databases when saving data,"
    " otherwise O(1)",
    history=(
        ("7.0.0", "Added the `NOW`, `FORCE` and `ABORT` modifiers."),
        ("9.0.0", "Added the `SAFE` and `FAILOVER` modifiers."),
    ),
    place=Place.PROXY,
)
async def shutdown(session: Session, args: list[Any]) -> Any:
    """Synchronously saves the database(s) to disk and shuts down the server."""
    modifiers = _modifiers(args[1:])
    if "ABORT" in modifiers:
        # A shutdown waits for nothing but requests under way, so there is never one to call off.
        raise CommandError(errors.NOT_SHUTTING_DOWN)
    proxy = session.proxy
    saves = "SAVE" in modifiers or (bool(proxy.config.save) and "NOSAVE" not in modifiers)
    body = [saves, "FORCE" in modifiers]
    if saves:
        [(_, _, number)] = await proxy.supervision.ask(control.SUPERVISOR, "shutdown", body)
        outcome = await proxy.outcomes.of(number)
        if "ok" not in outcome and "FORCE" not in modifiers:
            raise CommandError(errors.SHUTDOWN_REFUSED)
    session.muted = True
    session.leave()
    if not saves:
        await proxy.supervision.ask(control.SUPERVISOR, "shutdown", body)
    return OK


_MODIFIERS = ("NOSAVE", "SAVE", "NOW", "FORCE", "SAFE", "FAILOVER", "ABORT")


def _modifiers(words: Sequence[bytes]) -> set[str]:
    found = {word.upper().decode("ascii", "replace") for word in words}
    alone = "ABORT" in found and len(found) > 1
    if not found <= set(_MODIFIERS) or {"SAVE", "NOSAVE"} <= found or alone:
        raise CommandError(errors.SYNTAX)
    return found


@relay.topic("shutdown")
def _shut_down(supervisor: Supervisor, body: Any) -> int | None:
    """Ends the server: [whether to save first, whether to end even if that fails]. The answer is the number
    of the snapshot."""
    logger.info("SHUTDOWN: shutting down")
    save, force = body
    return supervisor.shut_down(save=save, force=force)
