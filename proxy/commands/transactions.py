"""MULTI and its like: several commands as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.multi import Execution, Queue, WatchKeys
from shardkv import errors
from shardkv.command import (
    ALLOW_BUSY,
    FAST,
    LOADING,
    NO_MULTI,
    NOSCRIPT,
    SKIP_SLOWLOG,
    STALE,
    Key,
    Place,
    command,
)
from shardkv.errors import CommandError
from shardkv.resp.replies import OK

if TYPE_CHECKING:
    from proxy.session import Session

_ANY_TIME = NOSCRIPT | LOADING | STALE | ALLOW_BUSY


@command("MULTI", group="transactions", since="1.2.0", flags=_ANY_TIME | FAST | NO_MULTI, place=Place.PROXY)
def multi(session: Session, args: list[Any]) -> Any:
    """Starts a transaction."""
    if session.queue is not None:
        raise CommandError(errors.NESTED_MULTI)
    session.queue = Queue()
    session.settle_queue()
    return OK


@command(
    "EXEC",
    group="transactions",
    since="1.2.0",
    flags=NOSCRIPT | LOADING | STALE | SKIP_SLOWLOG,
    complexity="Depends on commands in the transaction",
    place=Place.PROXY,
)
def exec_(session: Session, args: list[Any]) -> Any:
    """Executes all commands in a transaction."""
    queue, watch = session.queue, session.watch
    if queue is None:
        raise CommandError(errors.EXEC_WITHOUT_MULTI)
    session.queue = None
    session.settle_queue()
    if queue.is_broken:
        session.unwatch()
        raise CommandError(errors.EXEC_ABORTED)
    session.watch = None
    return Execution(session, queue, watch)


@command(
    "DISCARD",
    group="transactions",
    since="2.0.0",
    flags=_ANY_TIME | FAST,
    complexity="O(N), when N is the number of queued commands",
    place=Place.PROXY,
)
def discard(session: Session, args: list[Any]) -> Any:
    """Discards a transaction."""
    if session.queue is None:
        raise CommandError(errors.DISCARD_WITHOUT_MULTI)
    session.queue = None
    session.settle_queue()
    session.unwatch()
    return OK


@command(
    "WATCH key [key ...]",
    group="transactions",
    since="2.2.0",
    flags=_ANY_TIME | FAST | NO_MULTI,
    keys=(Key(1, last=-1, access="RO"),),
    complexity="O(1) for every key.",
    place=Place.PROXY,
)
def watch(session: Session, args: list[Any]) -> Any:
    """Monitors changes to keys to determine the execution of a transaction."""
    if session.queue is not None:
        raise CommandError(errors.WATCH_INSIDE_MULTI)
    return WatchKeys(session, args[1:])


@command("UNWATCH", group="transactions", since="2.2.0", flags=_ANY_TIME | FAST, place=Place.PROXY)
def unwatch(session: Session, args: list[Any]) -> Any:
    """Forgets about watched keys of a transaction."""
    session.unwatch()
    return OK
