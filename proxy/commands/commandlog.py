"""SLOWLOG and COMMANDLOG: the requests that took long, or were large, of all proxies as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.commandlog import KINDS, Logged
from proxy.supervision import topic
from shardkv import control, errors
from shardkv.command import ADMIN, LOADING, STALE, Place, command, container
from shardkv.errors import CommandError
from shardkv.numbers import integer
from shardkv.resp.replies import OK
from shardkv.slow import SLOW

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session

_FLAGS = ADMIN | LOADING | STALE
_DEFAULT_COUNT = 10


def _count(word: bytes) -> int:
    """How many entries are wanted; -1 for all."""
    count = integer(word, errors.BELOW_MINUS_ONE)
    if count < -1:
        raise CommandError(errors.BELOW_MINUS_ONE)
    return count


def _kind(word: bytes) -> int:
    kind = KINDS.get(word.lower())
    if kind is None:
        raise CommandError(errors.NO_COMMANDLOG_TYPE)
    return kind


async def _entries(session: Session, kind: int, count: int) -> list[Any]:
    """The newest entries of all proxies, the newest first."""
    length = session.proxy.log.lengths[kind]
    most = length if count < 0 else min(count, length)
    answers = await session.proxy.supervision.ask_all(control.PROXIES, "commandlog get", [kind, most])
    logged = sorted((entry for answer in answers if answer for entry in answer), reverse=True)
    return [list(entry) for entry in logged[:most]]


async def _length(session: Session, kind: int) -> int:
    answers = await session.proxy.supervision.ask_all(control.PROXIES, "commandlog len", kind)
    number: int = sum(answer for answer in answers if answer)
    return min(session.proxy.log.lengths[kind], number)


async def _reset(session: Session, kind: int) -> Any:
    await session.proxy.supervision.ask(control.PROXIES, "commandlog reset", kind)
    return OK


@topic("commandlog get")
def _logged(proxy: Proxy, body: Any) -> list[Logged]:
    """This proxy's newest entries of a kind."""
    kind, most = body
    return proxy.log.newest(kind, most)


@topic("commandlog len")
def _number_logged(proxy: Proxy, kind: int) -> int:
    return len(proxy.log.entries[kind])


@topic("commandlog reset")
def _forget(proxy: Proxy, kind: int) -> None:
    proxy.log.entries[kind].clear()


container(
    "SLOWLOG",
    group="server",
    since="2.2.12",
    help_since="6.2.0",
    summary="A container for slow log commands.",
)


@command(
    "SLOWLOG GET [count]",
    group="server",
    since="2.2.12",
    flags=_FLAGS,
    complexity="O(N) where N is the number of entries returned",
    tips=("request_policy:all_nodes", "nondeterministic_output"),
    history=(("4.0.0", "Added client IP address, port and name to the reply."),),
    place=Place.PROXY,
)
async def slowlog_get(session: Session, args: list[Any]) -> Any:
    """Returns the slow log's entries."""
    if len(args) > 3:
        raise CommandError(errors.wrong_subcommand(b"SLOWLOG", args[1]))
    return await _entries(session, SLOW, _count(args[2]) if len(args) > 2 else _DEFAULT_COUNT)


@command(
    "SLOWLOG LEN",
    group="server",
    since="2.2.12",
    flags=_FLAGS,
    tips=("request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"),
    place=Place.PROXY,
)
async def slowlog_len(session: Session, args: list[Any]) -> Any:
    """Returns the number of entries in the slow log."""
    return await _length(session, SLOW)


@command(
    "SLOWLOG RESET",
    group="server",
    since="2.2.12",
    flags=_FLAGS,
    complexity="O(N) where N is the number of entries in the slowlog",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    place=Place.PROXY,
)
async def slowlog_reset(session: Session, args: list[Any]) -> Any:
    """Clears all entries from the slow log."""
    return await _reset(session, SLOW)


container(
    "COMMANDLOG",
    group="server",
    since="8.1.0",
    help_since="8.1.0",
    summary="A container for command log commands.",
)


@command(
    "COMMANDLOG GET count type",
    group="server",
    since="8.1.0",
    flags=_FLAGS,
    complexity="O(N) where N is the number of entries returned",
    tips=("request_policy:all_nodes", "nondeterministic_output"),
    place=Place.PROXY,
)
async def commandlog_get(session: Session, args: list[Any]) -> Any:
    """Returns the specified command log's entries."""
    count = _count(args[2])
    return await _entries(session, _kind(args[3]), count)


@command(
    "COMMANDLOG LEN type",
    group="server",
    since="8.1.0",
    flags=_FLAGS,
    tips=("request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"),
    place=Place.PROXY,
)
async def commandlog_len(session: Session, args: list[Any]) -> Any:
    """Returns the number of entries in the specified type of command log."""
    return await _length(session, _kind(args[2]))


@command(
    "COMMANDLOG RESET type",
    group="server",
    since="8.1.0",
    flags=_FLAGS,
    complexity="O(N) where N is the number of entries in the commandlog",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    place=Place.PROXY,
)
async def commandlog_reset(session: Session, args: list[Any]) -> Any:
    """Clears all entries from the specified type of command log."""
    return await _reset(session, _kind(args[2]))
