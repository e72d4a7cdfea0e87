"""CLIENT: the connections of all proxies, as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxy import clients, relay
from proxy.commands.connection import printable
from proxy.supervision import topic
from shardkv import clock, control, errors
from shardkv.command import ADMIN, ALLOW_BUSY, LOADING, NO_MULTI, NOSCRIPT, STALE, Place, command, container
from shardkv.commands.waiting import ERROR, TIMEOUT
from shardkv.errors import CommandError
from shardkv.numbers import INT64_MAX, integer
from shardkv.resp.replies import OK, Verbatim

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session
    from proxy.supervisor import Supervisor

container(
    "CLIENT",
    group="connection",
    since="2.4.0",
    help_since="5.0.0",
    summary="A container for client connection commands.",
)

# -- this connection --------------------------------------------------------------------------


@command(
    "CLIENT ID",
    group="connection",
    since="5.0.0",
    flags=NOSCRIPT | LOADING | STALE | ALLOW_BUSY,
    place=Place.PROXY,
)
def client_id(session: Session, args: list[Any]) -> Any:
    """Returns the unique client ID of the connection."""
    return session.id


@command(
    "CLIENT INFO",
    group="connection",
    since="6.2.0",
    flags=NOSCRIPT | LOADING | STALE,
    tips=("nondeterministic_output",),
    place=Place.PROXY,
)
def client_info(session: Session, args: list[Any]) -> Any:
    """Returns information about the connection."""
    return Verbatim(clients.line(session) + b"\n")


@command(
    "CLIENT GETNAME",
    group="connection",
    since="2.6.9",
    flags=NOSCRIPT | LOADING | STALE | ALLOW_BUSY,
    place=Place.PROXY,
)
def client_getname(session: Session, args: list[Any]) -> Any:
    """Returns the name of the connection."""
    return session.name or None


@command(
    "CLIENT SETNAME connection-name",
    group="connection",
    since="2.6.9",
    flags=NOSCRIPT | LOADING | STALE | ALLOW_BUSY,
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    place=Place.PROXY,
)
def client_setname(session: Session, args: list[Any]) -> Any:
    """Sets the connection name."""
    session.name = printable(args[2], "Client names")
    return OK


@command(
    "CLIENT SETINFO <LIB-NAME libname | LIB-VER libver>",
    group="connection",
    since="7.2.0",
    flags=NOSCRIPT | LOADING | STALE | ALLOW_BUSY,
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    place=Place.PROXY,
)
def client_setinfo(session: Session, args: list[Any]) -> Any:
    """Sets information specific to the client or connection."""
    option = args[2].lower()
    if option not in session.library:
        raise CommandError(errors.unrecognized_option(args[2]))
    session.library[option] = printable(args[3], args[2].decode())
    return OK


@command(
    "CLIENT REPLY <ON | OFF | SKIP>",
    group="connection",
    since="3.2.0",
    flags=NOSCRIPT | LOADING | STALE | NO_MULTI | ALLOW_BUSY,
    place=Place.PROXY,
)
def client_reply(session: Session, args: list[Any]) -> Any:
    """Instructs the server whether to reply to commands."""
    match args[2].upper():
        case b"ON":
            session.replies_off = session.muted = False
        case b"OFF":
            session.replies_off = session.muted = True
        case b"SKIP":
            session.muted = True
            session.skip_reply = not session.replies_off
        case _:
            raise CommandError(errors.SYNTAX)
    session.settle()
    return OK


@command(
    "CLIENT NO-EVICT <ON | OFF>",
    group="connection",
    since="7.0.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE | ALLOW_BUSY,
    place=Place.PROXY,
)
def client_no_evict(session: Session, args: list[Any]) -> Any:
    """Sets the client eviction mode of the connection."""
    session.no_evict = _on_or_off(args[2])
    return OK


@command(
    "CLIENT NO-TOUCH <ON | OFF>",
    group="connection",
    since="7.2.0",
    flags=NOSCRIPT | LOADING | STALE | ALLOW_BUSY,
    place=Place.PROXY,
)
def client_no_touch(session: Session, args: list[Any]) -> Any:
    """Controls whether commands sent by the client affect the LRU/LFU of accessed keys."""
    session.no_touch = _on_or_off(args[2])
    session.settle()
    return OK


def _on_or_off(word: bytes) -> bool:
    if word.lower() not in (b"on", b"off"):
        raise CommandError(errors.SYNTAX)
    return word.lower() == b"on"


# -- all connections --------------------------------------------------------------------------


def _filters(
    session: Session, words: list[Any], invalid_id: bytes
) -> tuple[list[clients.Filter], bool | None]:
    """What the words ask for (see `clients.parse`)."""
    proxy = session.proxy
    return clients.parse(words, databases=proxy.config.databases, users=proxy.users, invalid_id=invalid_id)


@command(
    "CLIENT LIST [TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]] "
    "[USER username] [ADDR ip:port] [LADDR ip:port] [SKIPME <YES | NO>] [MAXAGE maxage] [NAME"
    " name] [IDLE idle] [FLAGS flags] [LIB-NAME lib-name] [LIB-VER lib-ver] [DB db] [CAPA "
    "capa] [IP ip] [NOT-TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [NOT-ID not-client-id "
    "[not-client-id ...]] [NOT-USER not-username] [NOT-ADDR ip:port] [NOT-LADDR ip:port] "
    "[NOT-NAME not-name] [NOT-FLAGS not-flags] [NOT-LIB-NAME not-lib-name] [NOT-LIB-VER "
    "not-lib-ver] [NOT-DB not-db] [NOT-CAPA not-capa] [NOT-IP not-ip]",
    group="connection",
    since="2.4.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    complexity="O(N) where N is the number of client connections",
    tips=("nondeterministic_output",),
    history=(
        ("2.8.12", "Added unique client `id` field."),
        ("5.0.0", "Added optional `TYPE` filter."),
        ("6.0.0", "Added `user` field."),
        ("6.2.0", "Added `argv-mem`, `tot-mem`, `laddr` and `redir` fields and the optional `ID` filter."),
        ("7.0.0", "Added `resp`, `multi-mem`, `rbs` and `rbp` fields."),
        ("7.0.3", "Added `ssub` field."),
        (
            "8.0.0",
            "Replaced `master` `TYPE` with `primary`. `master` still supported for backward compatibility.",
        ),
        ("8.1.0", "Added filters USER, ADDR, LADDR, SKIPME, and MAXAGE."),
        (
            "9.0.0",
            "Added filters NAME, IDLE, FLAGS, LIB-NAME, LIB-VER, DB, CAPA, and IP. And negative "
            "filters NOT-ID, NOT-TYPE, NOT-ADDR, NOT-LADDR, NOT-USER, NOT-FLAGS, NOT-NAME, "
            "NOT-LIB-NAME, NOT-LIB-VER, NOT-DB, NOT-CAPA, NOT-IP.",
        ),
    ),
    place=Place.PROXY,
)
async def client_list(session: Session, args: list[Any]) -> Any:
    """Lists open connections."""
    filters, skip_me = _filters(session, args[2:], errors.INVALID_CLIENT_ID)
    if skip_me:
        filters.append(("ID", True, [session.id]))
    answers = await session.proxy.supervision.ask_all(control.PROXIES, "client list", filters)
    lines = sorted((number, text) for answer in answers if answer for number, text in answer)
    return Verbatim(b"".join(text + b"\n" for _, text in lines))


@topic("client list")
def _listed(proxy: Proxy, filters: Sequence[clients.Filter]) -> list[tuple[int, bytes]]:
    """The ids and lines of this proxy's clients that the filters choose."""
    chosen = (session for session in proxy.sessions.values() if clients.matches(session, filters))
    return [(session.id, clients.line(session)) for session in chosen]


@command(
    "CLIENT KILL <ip:port | <ID client-id [client-id ...] | TYPE <NORMAL | MASTER | PRIMARY |"
    " SLAVE | REPLICA | PUBSUB> | USER username | ADDR ip:port | LADDR ip:port | SKIPME <YES "
    "| NO> | MAXAGE maxage | NAME name | IDLE idle | FLAGS flags | LIB-NAME lib-name | "
    "LIB-VER lib-ver | DB db | CAPA capa | IP ip | NOT-TYPE <NORMAL | MASTER | PRIMARY | "
    "SLAVE | REPLICA | PUBSUB> | NOT-ID not-client-id [not-client-id ...] | NOT-USER "
    "not-username | NOT-ADDR ip:port | NOT-LADDR ip:port | NOT-NAME not-name | NOT-FLAGS "
    "not-flags | NOT-LIB-NAME not-lib-name | NOT-LIB-VER not-lib-ver | NOT-DB not-db | "
    "NOT-CAPA not-capa | NOT-IP not-ip> [...]>",
    group="connection",
    since="2.4.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    complexity="O(N) where N is the number of client connections",
    history=(
        ("2.8.12", "Added new filter format."),
        ("2.8.12", "`ID` option."),
        ("3.2.0", "Added `master` type in for `TYPE` option."),
        (
            "5.0.0",
            "Replaced `slave` `TYPE` with `replica`. `slave` still supported for backward compatibility.",
        ),
        ("6.2.0", "`LADDR` option."),
        ("8.0.0", "`MAXAGE` option."),
        (
            "8.0.0",
            "Replaced `master` `TYPE` with `primary`. `master` still supported for backward compatibility.",
        ),
        ("8.1.0", "`ID` option accepts multiple IDs."),
        (
            "9.0.0",
            "Added filters NAME, IDLE, FLAGS, LIB-NAME, LIB-VER, DB, CAPA, and IP. And negative "
            "filters NOT-ID, NOT-TYPE, NOT-ADDR, NOT-LADDR, NOT-USER, NOT-FLAGS, NOT-NAME, "
            "NOT-LIB-NAME, NOT-LIB-VER, NOT-DB, NOT-CAPA, NOT-IP.",
        ),
    ),
    place=Place.PROXY,
)
async def client_kill(session: Session, args: list[Any]) -> Any:
    """Terminates open connections."""
    if len(args) == 3:
        if not await _kill(session, [("ADDR", False, args[2])]):
            raise CommandError(errors.NO_SUCH_CLIENT)
        return OK
    not_positive = errors.not_positive("client-id")
    filters, skip_me = _filters(session, args[2:], not_positive)
    if any(name == "ID" and not negated and min(ids) <= 0 for name, negated, ids in filters):
        raise CommandError(not_positive)
    if skip_me is not False:
        filters.append(("ID", True, [session.id]))
    return await _kill(session, filters)


async def _kill(session: Session, filters: list[clients.Filter]) -> int:
    answers = await session.proxy.supervision.ask_all(control.PROXIES, "client kill", [session.id, filters])
    return sum(count for count in answers if count)


@topic("client kill")
def _killed(proxy: Proxy, body: Any) -> int:
    """Closes this proxy's clients that the filters choose, the asking one only after its reply; how many."""
    asking, filters = body
    chosen = [session for session in proxy.sessions.values() if clients.matches(session, filters)]
    for session in chosen:
        if session.id == asking:
            session.leave()
        else:
            session.abort()
    return len(chosen)


@command(
    "CLIENT UNBLOCK client-id [TIMEOUT | ERROR]",
    group="connection",
    since="5.0.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    complexity="O(log N) where N is the number of client connections",
    place=Place.PROXY,
)
async def client_unblock(session: Session, args: list[Any]) -> Any:
    """Unblocks a client blocked by a blocking command from a different connection."""
    why = TIMEOUT
    # Redis takes no notice of the fourth word if there is a fifth.
    if len(args) == 4:
        known = {b"TIMEOUT": TIMEOUT, b"ERROR": ERROR}.get(args[3].upper())
        if known is None:
            raise CommandError(errors.UNBLOCK_HOW)
        why = known
    client = integer(args[2])
    answers = await session.proxy.supervision.ask_all(control.PROXIES, "client unblock", [client, why])
    return int(any(answers))


@topic("client unblock")
async def _unblocked(proxy: Proxy, body: Any) -> bool:
    """Ends the waiting of a client of this proxy; whether there is such a client and it has waited."""
    client, why = body
    session = proxy.sessions.get(client)
    return session is not None and session.waiting is not None and await session.waiting.unblock(why)


# -- a pause ----------------------------------------------------------------------------------


@command(
    "CLIENT PAUSE timeout [WRITE | ALL]",
    group="connection",
    since="3.0.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    history=(("6.2.0", "`CLIENT PAUSE WRITE` mode added along with the `mode` option."),),
    place=Place.PROXY,
)
async def client_pause(session: Session, args: list[Any]) -> Any:
    """Suspends commands processing."""
    mode = args[3].upper() if len(args) > 3 else b"ALL"
    if mode not in (b"WRITE", b"ALL"):
        raise CommandError(errors.PAUSE_MODE)
    timeout_ms = integer(args[2], errors.PAUSE_NOT_AN_INTEGER)
    if timeout_ms < 0:
        raise CommandError(errors.PAUSE_NEGATIVE)
    if clock.now_ms() + timeout_ms > INT64_MAX:
        raise CommandError(errors.PAUSE_OUT_OF_RANGE)
    await _tell_proxies(session, "client pause", [clock.monotonic() + timeout_ms / 1000, mode == b"WRITE"])
    return OK


@command(
    "CLIENT UNPAUSE",
    group="connection",
    since="6.2.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    complexity="O(N) Where N is the number of paused clients",
    place=Place.PROXY,
)
async def client_unpause(session: Session, args: list[Any]) -> Any:
    """Resumes processing commands from paused clients."""
    await _tell_proxies(session, "client unpause", None)
    return OK


async def _tell_proxies(session: Session, what: str, body: Any) -> None:
    """Tells all proxies, and the supervisor, who passes it on to those that it will start."""
    supervision = session.proxy.supervision
    supervision.ask(control.SUPERVISOR, what, body)
    await supervision.ask(control.PROXIES, what, body)


@topic("client pause")
def _pause(proxy: Proxy, body: Any) -> None:
    until_s, writes_only = body
    proxy.hold(until_s, writes_only=writes_only)


@topic("client unpause")
def _unpause(proxy: Proxy, body: Any) -> None:
    proxy.release()


@relay.topic("client pause")
def _remember_pause(supervisor: Supervisor, body: Any) -> None:
    until_s, writes_only = body
    supervisor.pause.extend(until_s, writes_only=writes_only)


@relay.topic("client unpause")
def _forget_pause(supervisor: Supervisor, body: Any) -> None:
    supervisor.pause.end()
