"""DEBUG: what tools and tests ask of a server.

It is refused unless the setting enable-debug-command allows it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from proxy.snapshots import at_one_moment
from shardkv import clock, control, digest, errors, limits
from shardkv.command import ADMIN, COMMANDS, LOADING, NOSCRIPT, STALE, Place, command
from shardkv.errors import CommandError
from shardkv.numbers import integer
from shardkv.resp.replies import OK, Status
from shardkv.slots import SLOTS, slot_of
from shardkv.wire import RAW, pack_context

if TYPE_CHECKING:
    from proxy.session import Session

logger = logging.getLogger("proxy.commands.debug")

_HELP = """\
DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:
DIGEST
    Output a hex signature of all data, at one moment over all shards.
DIGEST-VALUE <key> [<key> ...]
    Output a hex signature of the values of all the specified keys.
ERROR <string>
    Return a Redis protocol error with <string> as message. Useful for clients
    unit tests to simulate Redis errors.
LOADAOF
    Start all shards again from their append-only files.
LOG <message>
    Write <message> to the server log.
OBJECT <key>
    Show low level info about <key> and its value.
POPULATE <count> [<prefix>] [<size>]
    Create <count> string keys named key:<num>. If <prefix> is specified then
    it is used instead of the 'key' prefix.
RELOAD
    Write all values as an RDB file has them, and read them back.
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
            return [Status(line.encode()) for line in _HELP.splitlines()]
        case [b"DIGEST"]:
            return _digest(session)
        case [b"DIGEST-VALUE", *keys] if keys:
            return _digest_values(session, keys)
        case [b"ERROR", text]:
            raise CommandError(text.replace(b"\r", b" ").replace(b"\n", b" "))
        case [b"LOADAOF"]:
            return _load_again(session)
        case [b"LOG", message]:
            logger.warning("DEBUG LOG: %s", message.decode("utf-8", "backslashreplace"))
            return OK
        case [b"OBJECT", key]:
            return _object(session, key)
        case [b"POPULATE", count, *rest] if len(rest) <= 2:
            return _populate(session, count, *rest)
        case [b"RELOAD"]:
            return _reload(session)
        case [b"SET-ACTIVE-EXPIRE", switch]:
            return _set_active_expire(session, switch)
        case [b"SLEEP", seconds]:
            return _sleep(session, seconds)
    raise CommandError(errors.wrong_subcommand(b"DEBUG", args[1]))


async def _sleep(session: Session, seconds: bytes) -> Any:
    """Has every shard do nothing for a time; what is no number counts as 0, as in Redis."""
    try:
        duration_s = max(0.0, float(seconds))
    except ValueError:
        duration_s = 0.0
    await _everywhere(session, "sleep", duration_s)
    return OK


async def _object(session: Session, key: bytes) -> Any:
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


async def _everywhere(session: Session, name: str, *args: Any) -> None:
    """Has all shards carry out an internal command. Raises the first error among their answers."""
    for value in await session.proxy.ask_shards(name, *args):
        if isinstance(value, CommandError):
            raise value


async def _digest(session: Session) -> Any:
    """The fingerprint of all data, the same as that of a Redis that holds the same."""
    parts = await at_one_moment(session.proxy, "digest")
    if isinstance(parts, CommandError):
        raise parts
    return Status(
        digest.in_hex(digest.of_everything({index: int(told, 16) for index, told in part} for part in parts))
    )


async def _digest_values(session: Session, keys: list[bytes]) -> Any:
    proxy = session.proxy
    code = pack_context(session.db, RAW) | COMMANDS["digestvalues"].code
    requests: dict[int, list[Any]] = {}
    for key in keys:
        requests.setdefault(proxy.slot_table[slot_of(key)], [code]).append(key)
    told: dict[bytes, bytes] = {}
    for request, values in zip(list(requests.values()), await proxy.ask_each(requests), strict=True):
        if isinstance(values, CommandError):
            raise values
        told.update(zip(request[1:], values, strict=True))
    return [Status(told[key]) for key in keys]


async def _populate(session: Session, count: bytes, prefix: bytes = b"key", size: bytes = b"0") -> Any:
    """Makes keys, so many at a time that other clients have their turn in between."""
    total, size_bytes = (integer(word, errors.NOT_AN_INTEGER) for word in (count, size))
    if total < 0 or not 0 <= size_bytes <= session.proxy.config.proto_max_bulk_len:
        raise CommandError(errors.NOT_A_COUNT)
    at_once = max(1, limits.POPULATED_BYTES // max(size_bytes, 100))
    for first in range(0, total, at_once):
        await _everywhere(session, "populate", first, min(at_once, total - first), prefix, size_bytes)
    return OK


async def _reload(session: Session) -> Any:
    for first in range(0, SLOTS, _RELOADED_SLOTS):
        await _everywhere(session, "reload", first, first + _RELOADED_SLOTS)
    return OK


_RELOADED_SLOTS = 128
"""How many slots are reloaded before other clients have their turn."""


async def _load_again(session: Session) -> Any:
    """Waits until every shard has ended, been started again, and loaded its data."""
    proxy = session.proxy
    if not proxy.config.appendonly:
        raise CommandError(errors.NO_AOF_TO_LOAD)
    before = [backend.life for backend in proxy.backends]
    await proxy.supervision.ask(control.WORKERS, control.BEGIN_ANEW, None)
    while any(backend.life == life for backend, life in zip(proxy.backends, before, strict=False)) or any(
        isinstance(value, CommandError) for value in await proxy.ask_shards("sleep", 0.0)
    ):
        await asyncio.sleep(limits.LOADING_POLL_S)
    return OK
