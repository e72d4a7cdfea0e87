"""ACL: users, and what they may do, in all processes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from proxy import access, acl_file, relay
from proxy.acl_log import Denied, merged
from proxy.supervision import topic
from shardkv import clock, control, errors
from shardkv.acl.changes import carry_out, names_in
from shardkv.acl.genpass import genpass
from shardkv.acl.permissions import denial
from shardkv.acl.users import DEFAULT
from shardkv.command import (
    ADMIN,
    CATEGORIES,
    COMMANDS,
    LOADING,
    NOSCRIPT,
    STALE,
    Place,
    command,
    container,
    lookup,
)
from shardkv.errors import CommandError
from shardkv.numbers import integer
from shardkv.resp.replies import OK

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from proxy.server import Proxy
    from proxy.session import Session
    from proxy.supervisor import Supervisor

logger = logging.getLogger("proxy.acl")

_FLAGS = NOSCRIPT | LOADING | STALE
_ADMIN = ADMIN | _FLAGS

container(
    "ACL",
    group="server",
    since="6.0.0",
    help_since="6.0.0",
    summary="A container for Access List Control commands.",
)


def _all_but_names(args: Sequence[Any]) -> Sequence[int]:
    """Rules may be passwords, and a name may be one in the wrong place."""
    return range(2, len(args))


# -- users ------------------------------------------------------------------------------------


@command(
    "ACL SETUSER username [rule [rule ...]]",
    group="server",
    since="6.0.0",
    flags=_ADMIN,
    complexity="O(N). Where N is the number of rules provided.",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    history=(
        ("6.2.0", "Added Pub/Sub channel patterns."),
        ("7.0.0", "Added selectors and key based permissions."),
    ),
    place=Place.PROXY,
    secrets=_all_but_names,
)
async def acl_setuser(session: Session, args: list[Any]) -> Any:
    """Creates and modifies an ACL user and its rules."""
    await _change(session, ["setuser", args[2], args[3:]])
    return OK


@command(
    "ACL DELUSER username [username ...]",
    group="server",
    since="6.0.0",
    flags=_ADMIN,
    complexity="O(1) amortized time considering the typical user.",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    place=Place.PROXY,
    secrets=_all_but_names,
)
async def acl_deluser(session: Session, args: list[Any]) -> Any:
    """Deletes ACL users, and terminates their connections."""
    if DEFAULT in args[2:]:
        raise CommandError(errors.DEFAULT_USER_STAYS)
    return await _change(session, ["deluser", args[2:]])


@command(
    "ACL GETUSER username",
    group="server",
    since="6.0.0",
    flags=_ADMIN,
    complexity="O(N). Where N is the number of password, command and pattern rules that the user has.",
    history=(
        ("6.2.0", "Added Pub/Sub channel patterns."),
        (
            "7.0.0",
            "Added selectors and changed the format of key and channel patterns from a list to their rule "
            "representation.",
        ),
    ),
    place=Place.PROXY,
    secrets=_all_but_names,
)
def acl_getuser(session: Session, args: list[Any]) -> Any:
    """Lists the ACL rules of a user."""
    user = session.proxy.users.get(args[2])
    return None if user is None else user.description()


@command(
    "ACL LIST",
    group="server",
    since="6.0.0",
    flags=_ADMIN,
    complexity="O(N). Where N is the number of configured users.",
    place=Place.PROXY,
)
def acl_list(session: Session, args: list[Any]) -> Any:
    """Dumps the effective rules in ACL file format."""
    return session.proxy.users.lines()


@command(
    "ACL USERS",
    group="server",
    since="6.0.0",
    flags=_ADMIN,
    complexity="O(N). Where N is the number of configured users.",
    place=Place.PROXY,
)
def acl_users(session: Session, args: list[Any]) -> Any:
    """Lists all ACL users."""
    return session.proxy.users.names()


@command(
    "ACL WHOAMI",
    group="server",
    since="6.0.0",
    flags=_FLAGS,
    place=Place.PROXY,
)
def acl_whoami(session: Session, args: list[Any]) -> Any:
    """Returns the authenticated username of the current connection."""
    return session.user


async def _change(session: Session, change: list[Any]) -> Any:
    """Has all processes change their users; returns what comes of it. Raises CommandError if it is refused,
    which it is by all of them, because all have the same users."""
    proxy = session.proxy
    answers = await proxy.supervision.ask(control.EVERYONE, control.USERS, [change, session.id])
    own = next(answer for kind, index, answer in answers if (kind, index) == ("proxy", proxy.index))
    if isinstance(own, dict):
        raise CommandError(own["error"])
    return own


@topic(control.USERS)
def _change_in_proxy(proxy: Proxy, body: Any) -> Any:
    """Changes the users; whom that concerns follows before it counts as done."""
    change, client = body
    outcome = carry_out(proxy.users, change)
    work = access.follow(proxy, names_in(change), client)
    return _when_done(work, outcome) if work else outcome


async def _when_done(work: list[Coroutine[Any, Any, bool]], outcome: Any) -> Any:
    # Whoever cannot be told is gone, and the change counts all the same.
    await asyncio.gather(*work, return_exceptions=True)
    return outcome


@relay.topic(control.USERS)
def _change_in_supervisor(supervisor: Supervisor, body: Any) -> None:
    """Changes the users that the processes have which are started anew."""
    change, _ = body
    with suppress(CommandError):
        carry_out(supervisor.users, change)


# -- the file ---------------------------------------------------------------------------------


@command(
    "ACL LOAD",
    group="server",
    since="6.0.0",
    flags=_ADMIN,
    complexity="O(N). Where N is the number of configured users.",
    place=Place.PROXY,
)
async def acl_load(session: Session, args: list[Any]) -> Any:
    """Reloads the rules from the configured ACL file."""
    config = session.proxy.config
    if not config.aclfile:
        raise CommandError(errors.NO_ACL_FILE)
    path = acl_file.path_of(config)
    lines = await asyncio.to_thread(acl_file.read, path)
    try:
        await _change(session, ["load", lines, str(path)])
    except CommandError as error:
        raise CommandError(error.text + errors.ACL_NOT_LOADED) from None
    return OK


@command(
    "ACL SAVE",
    group="server",
    since="6.0.0",
    flags=_ADMIN,
    complexity="O(N). Where N is the number of configured users.",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    place=Place.PROXY,
)
async def acl_save(session: Session, args: list[Any]) -> Any:
    """Saves the effective ACL rules in the configured ACL file."""
    config = session.proxy.config
    if not config.aclfile:
        raise CommandError(errors.NO_ACL_FILE)
    try:
        await asyncio.to_thread(acl_file.write, acl_file.path_of(config), session.proxy.users.lines())
    except OSError as error:
        logger.error("the users could not be saved: %s", error)
        raise CommandError(errors.ACL_NOT_SAVED) from None
    return OK


# -- what is allowed, and what was denied -------------------------------------------------------


@command(
    "ACL CAT [category]",
    group="server",
    since="6.0.0",
    flags=_FLAGS,
    complexity="O(1) since the categories and commands are a fixed set.",
    place=Place.PROXY,
)
def acl_cat(session: Session, args: list[Any]) -> Any:
    """Lists the ACL categories, or the commands inside a category."""
    match args[2:]:
        case []:
            return [category.encode() for category in CATEGORIES]
        case [word]:
            category = word.lower().decode("latin-1")
            if category not in CATEGORIES:
                raise CommandError(errors.unknown_category(word))
            return [
                name.encode()
                for name, declared in COMMANDS.items()
                if not declared.internal and category in declared.acl_categories()
            ]
    raise CommandError(errors.subcommand_syntax("ACL", args[1]))


@command(
    "ACL DRYRUN username command [arg [arg ...]]",
    group="server",
    since="7.0.0",
    flags=_ADMIN,
    complexity="O(1).",
    place=Place.PROXY,
)
def acl_dryrun(session: Session, args: list[Any]) -> Any:
    """Simulates the execution of a command by a user, without executing the command."""
    user = session.proxy.users.get(args[2])
    if user is None:
        raise CommandError(errors.user_not_found(args[2]))
    request = args[3:]
    declared = lookup(request)
    if declared is None:
        raise CommandError(errors.command_not_found(request[0]))
    if not declared.fits(len(request)):
        raise CommandError(errors.wrong_arity(declared.name))
    denied = denial(user, declared, request)
    if denied is None:
        return OK
    return errors.denied(args[2], denied.reason, denied.object, verbose=True)


@command(
    "ACL GENPASS [bits]",
    group="server",
    since="6.0.0",
    flags=_FLAGS,
    place=Place.PROXY,
)
def acl_genpass(session: Session, args: list[Any]) -> Any:
    """Generates a pseudorandom, secure password that can be used to identify ACL users."""
    match args[2:]:
        case []:
            return genpass()
        case [bits]:
            return genpass(integer(bits))
    raise CommandError(errors.subcommand_syntax("ACL", args[1]))


@command(
    "ACL LOG [count | RESET]",
    group="server",
    since="6.0.0",
    flags=_ADMIN,
    complexity="O(N) with N being the number of entries shown.",
    history=(("7.2.0", "Added entry ID, timestamp created, and timestamp last updated."),),
    place=Place.PROXY,
)
async def acl_log(session: Session, args: list[Any]) -> Any:
    """Lists recent security events generated due to ACL rules."""
    proxy = session.proxy
    match [word.upper() for word in args[2:]]:
        case [b"RESET"]:
            await proxy.supervision.ask(control.PROXIES, "acl log reset")
            return OK
        case []:
            most = _DEFAULT_COUNT
        case [_]:
            most = max(0, integer(args[2]))
        case _:
            raise CommandError(errors.subcommand_syntax("ACL", args[1]))
    answers = await proxy.supervision.ask_all(control.PROXIES, "acl log")
    entries = merged(answer for answer in answers if answer)
    return [_shown(entry) for entry in entries[: min(most, proxy.config.acllog_max_len)]]


_DEFAULT_COUNT = 10


def _shown(entry: Denied) -> dict[bytes, Any]:
    return {
        b"count": entry.times,
        b"reason": entry.reason.encode(),
        b"context": entry.context.encode(),
        b"object": entry.object,
        b"username": entry.user,
        b"age-seconds": (clock.now_ms() - entry.updated_ms) / 1000,
        b"client-info": entry.client,
        b"entry-id": entry.number,
        b"timestamp-created": entry.created_ms,
        b"timestamp-last-updated": entry.updated_ms,
    }


@topic("acl log")
def _log_of_proxy(proxy: Proxy, body: Any) -> list[Denied]:
    return list(proxy.acl_log.entries)


@topic("acl log reset")
def _forget_log(proxy: Proxy, body: Any) -> None:
    proxy.acl_log.entries.clear()
