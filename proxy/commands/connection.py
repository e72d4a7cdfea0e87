"""A client's own connection: who it is, what it speaks, which database it has selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxy.access import DEFAULT, authenticate
from shardkv import REDIS_VERSION, errors
from shardkv.command import ALLOW_BUSY, FAST, LOADING, NO_AUTH, NOSCRIPT, STALE, Place, command
from shardkv.errors import CommandError
from shardkv.numbers import canonical_integer, integer
from shardkv.resp.replies import OK, PONG, Status

if TYPE_CHECKING:
    from proxy.session import Session


@command(
    "AUTH [username] password",
    group="connection",
    since="1.0.0",
    flags=NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY,
    complexity="O(N) where N is the number of passwords defined for the user",
    history=(("6.0.0", "Added ACL style (username and password)."),),
    place=Place.PROXY,
    # A name too: it may be a password in the wrong place.
    secrets=lambda args: range(1, len(args)),
)
def auth(session: Session, args: list[Any]) -> Any:
    """Authenticates the connection."""
    match args[1:]:
        case [password]:
            if session.proxy.users.has_no_password:
                raise CommandError(errors.NO_PASSWORD_SET)
            authenticate(session, DEFAULT, password, args[0])
        case [user, password]:
            authenticate(session, user, password, args[0])
        case _:
            raise CommandError(errors.SYNTAX)
    return OK


def _hello_secrets(args: Sequence[Any]) -> Sequence[int]:
    """Name and password behind AUTH, wherever that stands."""
    found = next(
        (place for place, word in enumerate(args) if place > 1 and word.upper() == b"AUTH"), len(args)
    )
    return range(found + 1, min(found + 3, len(args)))


@command(
    "HELLO [protover [AUTH username password] [SETNAME clientname]]",
    group="connection",
    since="6.0.0",
    flags=NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY,
    history=(
        (
            "6.2.0",
            "`protover` made optional; when called without arguments the command reports the current "
            "connection's context.",
        ),
    ),
    place=Place.PROXY,
    secrets=_hello_secrets,
)
def hello(session: Session, args: list[Any]) -> Any:
    """Handshakes with the server."""
    protocol = _protocol(args[1]) if len(args) > 1 else session.protocol
    credentials, name = _hello_options(args[2:])
    if credentials is not None:
        authenticate(session, *credentials, args[0])
    if not session.admitted:
        raise CommandError(errors.HELLO_WITHOUT_AUTH)
    if name is not None:
        session.name = name
    session.protocol = protocol
    session.settle()
    return {
        b"server": b"redis",
        b"version": REDIS_VERSION.encode(),
        b"proto": protocol,
        b"id": session.id,
        b"mode": b"standalone",
        b"role": b"master",
        b"modules": [],
    }


def _protocol(word: bytes) -> int:
    protocol = canonical_integer(word)
    if protocol is None:
        raise CommandError(errors.PROTOCOL_NOT_AN_INTEGER)
    if protocol not in (2, 3):
        raise CommandError(errors.UNSUPPORTED_PROTOCOL)
    return protocol


def _hello_options(words: Sequence[bytes]) -> tuple[tuple[bytes, bytes] | None, bytes | None]:
    """User and password, and the client's name, as far as they are given."""
    credentials = name = None
    while words:
        match [words[0].upper(), *words[1:]]:
            case [b"AUTH", user, password, *_]:
                credentials, words = (user, password), words[3:]
            case [b"SETNAME", given, *_]:
                name, words = printable(given, "Client names"), words[2:]
            case _:
                raise CommandError(errors.hello_option(words[0]))
    return credentials, name


def printable(text: bytes, what: str) -> bytes:
    """A text that is shown in CLIENT LIST. Raises CommandError if it would break a line or a field of it."""
    if not all(b"!"[0] <= byte <= b"~"[0] for byte in text):
        raise CommandError(errors.unprintable(what))
    return text


@command(
    "PING [message]",
    group="connection",
    since="1.0.0",
    flags=FAST,
    tips=("request_policy:all_shards", "response_policy:all_succeeded"),
    place=Place.PROXY,
)
def ping(session: Session, args: list[Any]) -> Any:
    """Returns the server's liveliness response."""
    if len(args) > 2:
        raise CommandError(errors.wrong_arity("ping"))
    if session.is_confined:
        return [b"pong", args[1] if len(args) == 2 else b""]
    return args[1] if len(args) == 2 else PONG


@command(
    "ECHO message",
    group="connection",
    since="1.0.0",
    flags=LOADING | STALE | FAST,
    place=Place.PROXY,
)
def echo(session: Session, args: list[Any]) -> Any:
    """Returns the given string."""
    return args[1]


@command(
    "SELECT index",
    group="connection",
    since="1.0.0",
    flags=LOADING | STALE | FAST | ALLOW_BUSY,
    place=Place.PROXY,
)
def select(session: Session, args: list[Any]) -> Any:
    """Changes the selected database."""
    index = integer(args[1])
    if not 0 <= index < session.proxy.config.databases:
        raise CommandError(errors.DB_OUT_OF_RANGE)
    session.db = index
    session.settle()
    return OK


@command(
    "RESET",
    group="connection",
    since="6.2.0",
    flags=NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY,
    place=Place.PROXY,
)
def reset(session: Session, args: list[Any]) -> Any:
    """Resets the connection."""
    return _unsubscribe_and_reset(session) if session.is_subscribed else _reset(session)


async def _unsubscribe_and_reset(session: Session) -> Status:
    await session.proxy.pubsub.unsubscribe_all(session)
    return _reset(session)


def _reset(session: Session) -> Status:
    session.queue = None
    session.unwatch()
    session.proxy.monitoring.leave(session)
    session.db = 0
    session.protocol = 2
    session.name = b""
    session.user = DEFAULT
    session.authenticated = session.proxy.users.lets_in_anybody
    session.no_evict = session.no_touch = False
    session.replies_off = session.muted = False
    if session.tracker is not None:
        session.proxy.tracking.turn_off(session)
    session.settle()
    return Status(b"RESET")


@command(
    "QUIT",
    group="connection",
    since="1.0.0",
    flags=NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY,
    arity=-1,
    deprecated_since="7.2.0",
    replaced_by="just closing the connection",
    place=Place.PROXY,
)
def quit_(session: Session, args: list[Any]) -> Any:
    """Closes the connection."""
    session.leave()
    return OK
