"""Clients as CLIENT LIST shows them, and the filters that CLIENT LIST and CLIENT KILL choose them by.

A filter is parsed where the command arrives and matched in every proxy, so it consists of what MessagePack
can carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from shardkv import clock, errors
from shardkv.errors import CommandError
from shardkv.numbers import canonical_integer

if TYPE_CHECKING:
    from proxy.session import Session
    from shardkv.acl.users import Users

Filter = tuple[str, bool, Any]
"""The name, whether it is negated, and the value that the client must (not) have."""

_FLAGS = b"AbBcdeEiIMNOPrRStTuUx"
_CAPABILITIES = b"r"
_TYPES = {
    b"normal": "normal",
    b"master": "master",
    b"primary": "master",
    b"slave": "replica",
    b"replica": "replica",
    b"pubsub": "pubsub",
}


# -- parsing ----------------------------------------------------------------------------------


def parse(
    words: Sequence[bytes], *, databases: int, users: Users, invalid_id: bytes
) -> tuple[list[Filter], bool | None]:
    """The filters that the words ask for, as Valkey 9.1 defines them, and what SKIPME says, if it stands
    there.

    `invalid_id` is the error for an ID that is no number. Raises CommandError.
    """
    filters: list[Filter] = []
    skip_me = None
    position = 0
    while position < len(words):
        name = words[position].upper().decode("latin-1")
        values = words[position + 1 :]
        if not values:
            raise CommandError(errors.SYNTAX)
        negated = name.startswith("NOT-")
        bare = name.removeprefix("NOT-")
        taken = 1
        if name == "SKIPME":
            skip_me = _yes_or_no(values[0])
        elif bare == "ID":
            ids = _ids(values, errors.SYNTAX if negated else invalid_id)
            if negated and min(ids) <= 0:
                raise CommandError(errors.not_positive("client-id"))
            taken = len(ids)
            filters.append(("ID", negated, ids))
        elif bare in _ONE_VALUE and not (negated and bare in _NEVER_NEGATED):
            value = _ONE_VALUE[bare](values[0], name, databases)
            if bare == "USER" and users.get(value) is None:
                raise CommandError(errors.no_such_user(value))
            filters.append((bare, negated, value))
        else:
            raise CommandError(errors.SYNTAX)
        position += 1 + taken
    return filters, skip_me


def _yes_or_no(word: bytes) -> bool:
    if word.lower() not in (b"yes", b"no"):
        raise CommandError(errors.SYNTAX)
    return word.lower() == b"yes"


def _ids(words: Sequence[bytes], invalid: bytes) -> list[int]:
    """The numbers that the words begin with, at least one."""
    found: list[int] = []
    for word in words:
        number = canonical_integer(word)
        if number is None:
            break
        found.append(number)
    if not found:
        raise CommandError(invalid)
    return found


def _text(word: bytes, name: str, databases: int) -> bytes:
    return word


def _type(word: bytes, name: str, databases: int) -> str:
    known = _TYPES.get(word.lower())
    if known is None:
        raise CommandError(errors.unknown_client_type(word))
    return known


def _seconds(word: bytes, name: str, databases: int) -> int:
    number = canonical_integer(word)
    if number is None:
        raise CommandError(errors.filter_not_an_integer(name.lower()))
    if number <= 0:
        raise CommandError(errors.not_positive(name.lower()))
    return number


def _database(word: bytes, name: str, databases: int) -> int:
    number = canonical_integer(word)
    if number is None:
        raise CommandError(errors.filter_not_an_integer(name))
    if not 0 <= number < databases:
        raise CommandError(errors.filter_db_out_of_range(name, databases))
    return number


def _flags(word: bytes, name: str, databases: int) -> bytes:
    if not set(word) <= set(_FLAGS):
        raise CommandError(errors.unknown_in_filter("flags", name, word))
    return word


def _capabilities(word: bytes, name: str, databases: int) -> bytes:
    if not set(word) <= set(_CAPABILITIES):
        raise CommandError(errors.unknown_in_filter("capa", name, word))
    return word


_ONE_VALUE: dict[str, Callable[[bytes, str, int], Any]] = {
    "TYPE": _type,
    "USER": _text,
    "ADDR": _text,
    "LADDR": _text,
    "MAXAGE": _seconds,
    "NAME": _text,
    "IDLE": _seconds,
    "FLAGS": _flags,
    "LIB-NAME": _text,
    "LIB-VER": _text,
    "DB": _database,
    "CAPA": _capabilities,
    "IP": _text,
}
"""The filters with one value, each with what makes it of the word, the filter's name and the number of
databases."""

_NEVER_NEGATED = ("MAXAGE", "IDLE")

# -- matching ---------------------------------------------------------------------------------


def matches(session: Session, filters: Sequence[Filter]) -> bool:
    """Whether a client has all that the filters ask for."""
    return all(_MATCHES[name](session, value) != negated for name, negated, value in filters)


def _age_s(since_s: float) -> int:
    return int(clock.monotonic() - since_s)


def _address(session: Session) -> bytes:
    return session.addresses[0].encode()


def _ip(session: Session) -> bytes:
    return _address(session).rpartition(b":")[0].strip(b"[]")


_MATCHES: dict[str, Callable[[Session, Any], bool]] = {
    "ID": lambda session, ids: session.id in ids,
    "TYPE": lambda session, kind: bool(kind == client_type(session)),
    "USER": lambda session, user: bool(user == session.user),
    "ADDR": lambda session, address: bool(address == _address(session)),
    "LADDR": lambda session, address: bool(address == session.addresses[1].encode()),
    "MAXAGE": lambda session, seconds: bool(_age_s(session.created_s) >= seconds),
    "NAME": lambda session, name: bool(name) and name == session.name,
    "IDLE": lambda session, seconds: bool(_age_s(session.last_active_s) >= seconds),
    "FLAGS": lambda session, wanted: set(wanted) <= set(flags(session).encode()),
    "LIB-NAME": lambda session, name: bool(name) and name == session.library[b"lib-name"],
    "LIB-VER": lambda session, version: bool(version) and version == session.library[b"lib-ver"],
    "DB": lambda session, db: bool(db == session.db),
    "CAPA": lambda session, wanted: not wanted,
    "IP": lambda session, ip: bool(ip == _ip(session)),
}

# -- showing ----------------------------------------------------------------------------------


def client_type(session: Session) -> str:
    """The class of a client, as TYPE filters name it."""
    return "pubsub" if session.is_subscribed else "normal"


def flags(session: Session) -> str:
    """What is particular about a client, a letter each
    (https://redis.io/docs/latest/commands/client-list/)."""
    letters = "P" if session.is_subscribed else ""
    if session.is_monitor:
        letters += "O"
    if session.held:
        letters += "b"
    if session.queue is not None:
        letters += "x"
    if session.tracker is not None:
        letters += session.tracker.letters
    if session.closing:
        letters += "c"
    if session.is_local_socket:
        letters += "U"
    if session.no_evict:
        letters += "e"
    if session.no_touch:
        letters += "T"
    return letters or "N"


def line(session: Session) -> bytes:
    """A client's line in CLIENT LIST, with the fields of Redis 7.2, and watch and tot-* of later ones,
    without a line break.

    There may be ten thousand of them, so it is all one format.
    """
    address, own_address = session.addresses
    query, waiting, replies = session.waiting_bytes
    command = session.last_command
    queued = -1 if session.queue is None else len(session.queue.requests)
    watched = 0 if session.watch is None else len(session.watch.keys)
    queued_bytes = session.queued_bytes
    library = session.library
    redirect = -1 if session.tracker is None else session.tracker.redirect
    names = ((), (), ()) if session.subscriber is None else session.subscriber.names
    channels, patterns, shard_channels = map(len, names)
    return (
        f"id={session.id} addr={address} laddr={own_address} fd={session.file_descriptor} "
        f"name={_shown(session.name)} age={_age_s(session.created_s)} idle={_age_s(session.last_active_s)} "
        f"flags={flags(session)} db={session.db} sub={channels} psub={patterns} "
        f"ssub={shard_channels} multi={queued} watch={watched} "
        f"qbuf={query} qbuf-free=0 argv-mem={waiting} multi-mem={queued_bytes} rbs=0 rbp=0 "
        f"obl=0 oll={int(replies > 0)} omem={replies} tot-mem={query + waiting + queued_bytes + replies} "
        f"events={'rw' if replies else 'r'} cmd={'NULL' if command is None else command.name} "
        f"user={_shown(session.user)} redir={redirect} resp={session.protocol} "
        f"lib-name={_shown(library[b'lib-name'])} lib-ver={_shown(library[b'lib-ver'])} "
        f"tot-net-in={session.bytes_in} tot-net-out={session.bytes_out} tot-cmds={session.requests}"
    ).encode()


def _shown(text: bytes) -> str:
    return text.decode("ascii", "replace")
