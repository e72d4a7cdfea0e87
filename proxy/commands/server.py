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
    COMMANDS,
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
from shardkv.slots import slot_of
from shardkv.wire import RAW, pack_context

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


# -- DEBUG ------------------------------------------------------------------------------------

_DEBUG_HELP = """\
DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
ERROR <string>
    Return a Redis protocol error with <string> as message. Useful for clients
    unit tests to simulate Redis errors.
LOG <message>
    Write <message> to the server log.
OBJECT <key>
    Show low level info about <key> and its value.
SET-ACTIVE-EXPIRE <0|1>
    Setting it to 0 disables expiring keys in background when they are not
    accessed (otherwise the Redis behavior). Setting it to 1 reenables back the
    default.
SLEEP <seconds>
    Stop the shards for <seconds>. Decimals allowed.
HELP
    Prints this help."""


@command(
    "DEBUG",
    group="server",
    since="1.0.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    complexity="Depends on subcommand.",
    arity=-2,
    place=Place.PROXY,
)
def debug(session: Session, args: list[Any]) -> Any:
    """A container for debugging commands."""
    allowed = session.proxy.config.enable_debug_command
    if allowed == "no" or (allowed == "local" and not session.is_from_this_host):
        raise CommandError(errors.DEBUG_NOT_ALLOWED)
    match [args[1].upper(), *args[2:]]:
        case [b"HELP"]:
            return [Status(line.encode()) for line in _DEBUG_HELP.splitlines()]
        case [b"SLEEP", seconds]:
            return _sleep(session, seconds)
        case [b"SET-ACTIVE-EXPIRE", switch]:
            return _set_active_expire(session, switch)
        case [b"OBJECT", key]:
            return _describe(session, key)
        case [b"LOG", message]:
            logger.warning("DEBUG LOG: %s", message.decode("utf-8", "backslashreplace"))
            return OK
        case [b"ERROR", text]:
            raise CommandError(text.replace(b"\r", b" ").replace(b"\n", b" "))
    raise CommandError(errors.wrong_subcommand(b"DEBUG", args[1]))


async def _sleep(session: Session, seconds: bytes) -> Any:
    """Has every shard do nothing for a time; what is no number counts as 0, as in Redis."""
    try:
        duration_s = max(0.0, float(seconds))
    except ValueError:
        duration_s = 0.0
    for value in await session.proxy.ask_shards("sleep", duration_s):
        if isinstance(value, CommandError):
            raise value
    return OK


async def _describe(session: Session, key: bytes) -> Any:
    """Tells of a key what only its shard knows."""
    proxy, slot = session.proxy, slot_of(key)
    code = pack_context(session.db, RAW) | COMMANDS["describe"].code | slot
    [told] = await proxy.ask_each({proxy.slot_table[slot]: [code, key]})
    if isinstance(told, CommandError):
        raise told
    if told is None:
        raise CommandError(errors.NO_SUCH_KEY)
    address, encoding, size, idle_s = told
    lru = (clock.now_ms() // 1000 - idle_s) & 0xFFFFFF
    return Status(
        f"Value at:{address:#x} refcount:1 encoding:{encoding} serializedlength:{size} lru:{lru} "
        f"lru_seconds_idle:{idle_s}".encode()
    )


async def _set_active_expire(session: Session, switch: bytes) -> Any:
    await session.proxy.supervision.ask(control.WORKERS, "active expire", switch != b"0")
    return OK
