"""What a request passes before it is carried out, in this order.

Each gate lets the request pass or raises the error that the client gets instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from proxy import access
from proxy.multi import NOT_QUEUED
from shardkv import errors
from shardkv.command import Command, Flag
from shardkv.errors import CommandError

if TYPE_CHECKING:
    from proxy.session import Session

Gate = Callable[["Session", Command, list[Any]], None]


def arity(session: Session, command: Command, args: list[Any]) -> None:
    """The right number of arguments."""
    if not command.fits(len(args)):
        raise CommandError(errors.wrong_arity(command.name))


def authenticated(session: Session, command: Command, args: list[Any]) -> None:
    """A client that has not authenticated may only do that."""
    if not session.admitted and not command.flags & Flag.NO_AUTH:
        raise CommandError(errors.NO_AUTH)


def queueing(session: Session, command: Command, args: list[Any]) -> None:
    """Some commands cannot be part of a transaction. Those that are carried out at once, queue or not, have
    errors of their own."""
    if session.queue is not None and not command.can_be_queued and command.name not in NOT_QUEUED:
        raise CommandError(errors.NOT_IN_MULTI)


def permitted(session: Session, command: Command, args: list[Any]) -> None:
    """A client may do what its user may do."""
    if session.rights is not None:
        access.check(session, session.rights, command, args)


_WHILE_SUBSCRIBED = frozenset(
    {"subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe"}
    | {"ping", "quit", "reset"}
)


def subscribed(session: Session, command: Command, args: list[Any]) -> None:
    """With RESP2 a client that waits for messages can do little else."""
    if session.is_confined and command.name not in _WHILE_SUBSCRIBED:
        raise CommandError(errors.not_while_subscribed(command.name))


def memory(session: Session, command: Command, args: list[Any]) -> None:
    """While shards use more memory than they may, what concerns them is not queued, and what would need
    memory is refused. Commands of a single shard are refused by that itself, which knows better."""
    full = session.proxy.full_shards
    if not full:
        return
    queue = session.queue
    if queue is not None and command.name == "exec":
        requests = [(one, words) for one, words in queue.requests if one.needs_memory]
    elif (queue is not None and command.name not in NOT_QUEUED) or (
        command.needs_memory and len(_shards(session, command, args)) > 1
    ):
        requests = [(command, args)]
    else:
        return
    if any(full & _shards(session, one, words) for one, words in requests):
        raise CommandError(errors.OUT_OF_MEMORY)


def _shards(session: Session, command: Command, args: list[Any]) -> set[int]:
    """The shards that a command concerns: all, if it names none."""
    proxy = session.proxy
    slots = command.route_slots(args)
    if not slots:
        return set(range(len(proxy.backends)))
    return set(map(proxy.slot_table.__getitem__, slots))


GATES: tuple[Gate, ...] = (arity, authenticated, queueing, permitted, subscribed, memory)
