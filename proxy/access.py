"""Who a client is, and what it may do.

All processes have the same users (see shardkv.acl.changes); what a change of them means for the clients of a
proxy is seen to here. What a script may call is up to the shard where it runs (see
shardkv.commands.script_host)."""

from __future__ import annotations

from collections.abc import Collection, Coroutine
from typing import TYPE_CHECKING, Any

from proxy.acl_log import AUTH, MULTI, TOPLEVEL
from shardkv import errors
from shardkv.acl.beyond import refusal_beyond
from shardkv.acl.permissions import denial, may_listen
from shardkv.acl.users import DEFAULT
from shardkv.channels import KINDS, PATTERN
from shardkv.errors import CommandError

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session
    from shardkv.acl.users import User
    from shardkv.command import Command

__all__ = ["DEFAULT", "authenticate", "check", "follow", "refusal_at_exec"]


def authenticate(session: Session, user: bytes, password: bytes, command: bytes) -> None:
    """Makes the client that user. `command` is how it has spelled the command that says so. Raises
    CommandError if it may not be.

    The time a comparison takes tells nothing of the password.
    """
    known = session.proxy.users.get(user)
    if known is None or not known.enabled or not known.matches(password):
        session.proxy.acl_log.add(session, AUTH, _context(session), command, user)
        raise CommandError(errors.WRONG_PASSWORD)
    session.user = user
    session.authenticated = True
    session.settle()


def check(session: Session, user: User, command: Command, args: list[Any]) -> None:
    """Raises CommandError, and logs that, if a request is not one that the user may make."""
    denied = denial(user, command, args)
    if denied is not None:
        session.proxy.acl_log.add(session, denied.reason, _context(session), denied.object, session.user)
        raise CommandError(errors.no_permission(errors.denied(session.user, denied.reason, denied.object)))
    if session.queue is None:
        refused = refusal_beyond(user, command, args)
        if refused is not None:
            raise CommandError(refused)


def refusal_at_exec(session: Session, command: Command, args: list[Any]) -> CommandError | None:
    """Why a command that was queued is not carried out, if its client may not do that any more."""
    user = session.rights
    if user is None:
        return None
    denied = denial(user, command, args)
    if denied is not None:
        session.proxy.acl_log.add(session, denied.reason, MULTI, denied.object, session.user)
        refused: bytes | None = errors.acl_at_exec(denied.reason)
    else:
        refused = refusal_beyond(user, command, args)
    if refused is None:
        return None
    error = CommandError(refused)
    session.proxy.counters.fail(command, error)
    return error


def _context(session: Session) -> str:
    return TOPLEVEL if session.queue is None else MULTI


# -- users that change ------------------------------------------------------------------------


def follow(proxy: Proxy, names: Collection[bytes] | None, asker: int = 0) -> list[Coroutine[Any, Any, bool]]:
    """Has the clients of users, or all, follow a change of these users.

    Who is nobody any more is disconnected, and so is who has subscribed to what he may not listen to now;
    the client that has asked for the change, when it has its answer. Returns the work, if any, of ending what
    clients wait for and may not do any more.
    """
    work = []
    for session in list(proxy.sessions.values()):
        if names is not None and session.user not in names:
            continue
        user = proxy.users.get(session.user)
        if user is None:
            session.user = DEFAULT
            session.authenticated = False
        session.settle()
        if user is None or not _may_listen_on(session, user):
            if session.id == asker:
                session.leave()
            else:
                session.abort()
        elif session.rights is not None and session.waiting is not None and session.waiting.request:
            refusal = _refusal(session, session.rights, *session.waiting.request)
            if refusal is not None:
                work.append(session.waiting.unblock(refusal.decode("latin-1")))
    return work


def _may_listen_on(session: Session, user: User) -> bool:
    """Whether a user may listen to everything that a client of his has subscribed to."""
    subscriber = session.subscriber
    return subscriber is None or all(
        may_listen(user, name, is_pattern=kind == PATTERN)
        for kind in KINDS
        for name in subscriber.names[kind]
    )


def _refusal(session: Session, user: User, command: Command, args: list[Any]) -> bytes | None:
    try:
        check(session, user, command, args)
    except CommandError as error:
        return error.text
    return None
