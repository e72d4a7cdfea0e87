"""CLIENT TRACKING and what belongs to it: clients that cache what they read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from proxy.supervision import topic
from proxy.tracking import Wishes
from shardkv import control, errors
from shardkv.command import ALLOW_BUSY, LOADING, NOSCRIPT, STALE, Place, command
from shardkv.errors import CommandError
from shardkv.numbers import integer
from shardkv.resp.replies import OK, Unordered

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session

_FLAGS = NOSCRIPT | LOADING | STALE


@command(
    "CLIENT TRACKING <ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] "
    "[OPTOUT] [NOLOOP]",
    group="connection",
    since="6.0.0",
    flags=_FLAGS,
    complexity="O(1). Some options may introduce additional complexity.",
    place=Place.PROXY,
)
def client_tracking(session: Session, args: list[Any]) -> Any:
    """Controls server-assisted client-side caching for the connection."""
    options = _Options()
    options.read(args[3:])
    if options.redirect is not None and options.redirect not in session.proxy.sessions:
        return _track_for_client_elsewhere(session, args[2], options)
    return _track(session, args[2], options)


async def _track_for_client_elsewhere(session: Session, switch: bytes, options: _Options) -> Any:
    """The same if the client that is to be told instead is not one of this proxy, if it is there at all."""
    found = await session.proxy.supervision.ask_all(control.PROXIES, "client exists", options.redirect)
    if not any(found):
        raise CommandError(errors.TRACKING_REDIRECT_UNKNOWN)
    outcome = _track(session, switch, options)
    return await outcome if isinstance(outcome, CoroutineType) else outcome


def _track(session: Session, switch: bytes, options: _Options) -> Any:
    """Turns it on or off. What comes next in a transaction is tracked already; the client gets its answer
    when all shards know."""
    tracking, tracker = session.proxy.tracking, session.tracker
    match switch.upper():
        case b"ON":
            wishes = options.wishes(None if tracker is None else tracker.wishes)
            return _answered(tracking.turn_on(session, wishes))
        case b"OFF":
            if tracker is not None:
                tracking.turn_off(session)
            return OK
    raise CommandError(errors.SYNTAX)


async def _answered(all_know: asyncio.Future[Any]) -> Any:
    await all_know
    return OK


class _Options:
    """The options of CLIENT TRACKING."""

    def __init__(self) -> None:
        self.redirect: int | None = None
        self.prefixes: list[bytes] = []
        self.given: set[bytes] = set()
        """Those without a value."""

    def read(self, words: list[bytes]) -> None:
        """Takes in the words of a request. Raises CommandError if they are none of the options."""
        rest = iter(words)
        for word in rest:
            match word.upper():
                case b"BCAST" | b"OPTIN" | b"OPTOUT" | b"NOLOOP":
                    self.given.add(word.upper())
                case b"PREFIX":
                    self.prefixes.append(_value(rest))
                case b"REDIRECT":
                    client = _value(rest)
                    if self.redirect is not None:
                        raise CommandError(errors.TRACKING_ONE_REDIRECT)
                    self.redirect = integer(client)
                case _:
                    raise CommandError(errors.SYNTAX)

    def wishes(self, before: Wishes | None) -> Wishes:
        """What they ask for, of a client that has asked for something before or not. Raises CommandError if
        that does not go together."""
        is_broadcast = b"BCAST" in self.given
        opt_in, opt_out = b"OPTIN" in self.given, b"OPTOUT" in self.given
        if self.prefixes and not is_broadcast:
            raise CommandError(errors.TRACKING_PREFIX_WITHOUT_BCAST)
        if before is not None and (before.prefixes is not None) != is_broadcast:
            raise CommandError(errors.TRACKING_MODE)
        if is_broadcast and (opt_in or opt_out):
            raise CommandError(errors.TRACKING_BCAST_WITH_OPT)
        if opt_in and opt_out:
            raise CommandError(errors.TRACKING_BOTH_OPTS)
        if before is not None and ((opt_in and before.opt_out) or (opt_out and before.opt_in)):
            raise CommandError(errors.TRACKING_OPT)
        prefixes = None
        if is_broadcast:
            existing = () if before is None or before.prefixes is None else before.prefixes
            _check_overlaps(self.prefixes, existing)
            prefixes = tuple(sorted({*existing, *(self.prefixes or [b""])}))
        return Wishes(self.redirect or 0, prefixes, opt_in, opt_out, b"NOLOOP" in self.given)


def _value(words: Iterator[bytes]) -> bytes:
    """What follows an option."""
    value = next(words, None)
    if value is None:
        raise CommandError(errors.SYNTAX)
    return value


@topic("client exists")
def _exists(proxy: Proxy, client: int) -> bool:
    return client in proxy.sessions


@topic("invalidate")
def _invalidate(proxy: Proxy, messages: list[list[Any]]) -> list[int]:
    """Tells clients of this proxy what others want them to be told; returns which of them there are."""
    return [client for client, content, _ in messages if proxy.tracking.tell_instead(client, content)]


def _check_overlaps(prefixes: list[bytes], existing: tuple[bytes, ...]) -> None:
    """Raises CommandError if a key could begin with two prefixes of one client."""
    for place, prefix in enumerate(prefixes):
        for other in existing:
            if prefix.startswith(other) or other.startswith(prefix):
                raise CommandError(errors.overlapping_prefixes(prefix, other, existing=True))
        for other in prefixes[place + 1 :]:
            if prefix.startswith(other) or other.startswith(prefix):
                raise CommandError(errors.overlapping_prefixes(prefix, other, existing=False))


@command(
    "CLIENT CACHING <YES | NO>",
    group="connection",
    since="6.0.0",
    flags=_FLAGS | ALLOW_BUSY,
    place=Place.PROXY,
)
def client_caching(session: Session, args: list[Any]) -> Any:
    """Instructs the server whether to track the keys in the next request."""
    if session.tracker is None:
        raise CommandError(errors.CACHING_WITHOUT_OPT)
    match args[2].upper():
        case b"YES":
            session.tracker.cache_next(wanted=True)
        case b"NO":
            session.tracker.cache_next(wanted=False)
        case _:
            raise CommandError(errors.SYNTAX)
    return OK


@command(
    "CLIENT GETREDIR",
    group="connection",
    since="6.0.0",
    flags=_FLAGS | ALLOW_BUSY,
    place=Place.PROXY,
)
def client_getredir(session: Session, args: list[Any]) -> Any:
    """Returns the client ID to which the connection's tracking notifications are redirected."""
    return -1 if session.tracker is None else session.tracker.redirect


@command(
    "CLIENT TRACKINGINFO",
    group="connection",
    since="6.2.0",
    flags=_FLAGS,
    place=Place.PROXY,
)
def client_trackinginfo(session: Session, args: list[Any]) -> Any:
    """Returns information about server-assisted client-side caching for the connection."""
    tracker = session.tracker
    if tracker is None:
        return {b"flags": Unordered([b"off"]), b"redirect": -1, b"prefixes": []}
    wishes = tracker.wishes
    flags = {
        b"on": True,
        b"bcast": wishes.prefixes is not None,
        b"optin": wishes.opt_in,
        b"caching-yes": wishes.opt_in and tracker.caching > 0,
        b"optout": wishes.opt_out,
        b"caching-no": wishes.opt_out and tracker.caching > 0,
        b"noloop": wishes.no_loop,
        b"broken_redirect": tracker.is_broken,
    }
    return {
        b"flags": Unordered([name for name, is_so in flags.items() if is_so]),
        b"redirect": tracker.redirect,
        b"prefixes": list(wishes.prefixes or ()),
    }
