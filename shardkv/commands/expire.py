"""The time at which a key expires: EXPIRE and its like, TTL and its like, and how such a time is given.

What a client gives as a time from now is logged as the time it stands for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from shardkv import clock, errors
from shardkv.command import FAST, READONLY, WRITE, Key, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import INT64_MAX, INT64_MIN, integer


class Unit(NamedTuple):
    """How a client counts time: the ms of one unit, and whether it counts from now or from 1970."""

    ms: int
    from_now: bool


SECONDS = Unit(1000, from_now=True)
MILLISECONDS = Unit(1, from_now=True)
UNIX_SECONDS = Unit(1000, from_now=False)
UNIX_MILLISECONDS = Unit(1, from_now=False)

UNITS = {b"EX": SECONDS, b"PX": MILLISECONDS, b"EXAT": UNIX_SECONDS, b"PXAT": UNIX_MILLISECONDS}
"""By the option of SET and its like."""


def deadline(db: Database, text: bytes, unit: Unit, name: str) -> int:
    """The time that a client gives, in ms since 1970; it may lie in the past.

    `name` is the command's. Raises CommandError if `text` is no integer or the time is out of range.
    """
    return _moment(db, integer(text), unit, name)


def positive_deadline(db: Database, text: bytes, unit: Unit, name: str) -> int:
    """As `deadline`, for commands that accept no time before now or 1970."""
    number = integer(text)
    if number <= 0:
        raise CommandError(errors.invalid_expire(name))
    return _moment(db, number, unit, name)


def _moment(db: Database, number: int, unit: Unit, name: str) -> int:
    at_ms = number * unit.ms
    if INT64_MIN <= at_ms <= INT64_MAX:
        if unit.from_now:
            # While a log is replayed, the shard's clock stands still.
            at_ms += db.shard.now_ms or clock.now_ms()
        if at_ms <= INT64_MAX:
            return at_ms
    raise CommandError(errors.invalid_expire(name))


def expire_at(db: Database, key: bytes, at_ms: int, slot: int) -> None:
    """Gives a key that is there a deadline, or removes it if that has passed."""
    if at_ms <= db.shard.now_ms:
        db.remove(key, slot)
        db.changed(key, "del")
        db.shard.propagate(db, b"DEL", key)
    else:
        db.set_deadline(key, at_ms)
        db.changed(key, "expire")
        db.shard.propagate(db, b"PEXPIREAT", key, b"%d" % at_ms)


# -- setting a deadline -----------------------------------------------------------------------

_CONDITIONS = frozenset({b"NX", b"XX", b"GT", b"LT"})


@command(
    "EXPIRE key seconds [NX | XX | GT | LT]",
    group="generic",
    since="1.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    history=(("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`."),),
)
def expire(db: Database, args: list[Any]) -> Any:
    """Sets the expiration time of a key in seconds."""
    return _expire(db, args, SECONDS, "expire")


@command(
    "EXPIREAT key unix-time-seconds [NX | XX | GT | LT]",
    group="generic",
    since="1.2.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    history=(("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`."),),
)
def expireat(db: Database, args: list[Any]) -> Any:
    """Sets the expiration time of a key to a Unix timestamp."""
    return _expire(db, args, UNIX_SECONDS, "expireat")


@command(
    "PEXPIRE key milliseconds [NX | XX | GT | LT]",
    group="generic",
    since="2.6.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    history=(("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`."),),
)
def pexpire(db: Database, args: list[Any]) -> Any:
    """Sets the expiration time of a key in milliseconds."""
    return _expire(db, args, MILLISECONDS, "pexpire")


@command(
    "PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]",
    group="generic",
    since="2.6.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    history=(("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`."),),
)
def pexpireat(db: Database, args: list[Any]) -> Any:
    """Sets the expiration time of a key to a Unix milliseconds timestamp."""
    return _expire(db, args, UNIX_MILLISECONDS, "pexpireat")


def _expire(db: Database, args: list[Any], unit: Unit, name: str) -> int:
    slot, key, text = args[:3]
    conditions = _read_conditions(args[3:]) if len(args) > 3 else ()
    at_ms = deadline(db, text, unit, name)
    if db.edit(key, slot) is None or (conditions and not _allows(conditions, db.expires.get(key), at_ms)):
        return 0
    expire_at(db, key, at_ms, slot)
    return 1


def _read_conditions(words: list[bytes]) -> set[bytes]:
    for word in words:
        if word.upper() not in _CONDITIONS:
            raise CommandError(errors.unsupported_option(word))
    conditions = {word.upper() for word in words}
    if b"NX" in conditions and len(conditions) > 1:
        raise CommandError(errors.NX_AND_OTHERS)
    if b"GT" in conditions and b"LT" in conditions:
        raise CommandError(errors.GT_AND_LT)
    return conditions


def _allows(conditions: set[bytes], old_ms: int | None, new_ms: int) -> bool:
    """Whether conditions allow a deadline in the place of an old one, None for never."""
    if old_ms is None:
        return b"XX" not in conditions and b"GT" not in conditions
    return not (
        b"NX" in conditions
        or (b"GT" in conditions and new_ms <= old_ms)
        or (b"LT" in conditions and new_ms >= old_ms)
    )


@command(
    "PERSIST key",
    group="generic",
    since="2.2.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
)
def persist(db: Database, args: list[Any]) -> Any:
    """Removes the expiration time of a key."""
    key = args[1]
    if db.edit(key, args[0]) is None or not db.persist(key):
        return 0
    db.changed(key, "persist")
    return 1


# -- asking for it ----------------------------------------------------------------------------

_NO_KEY, _NO_DEADLINE = -2, -1


@command(
    "TTL key",
    group="generic",
    since="1.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    tips=("nondeterministic_output",),
    history=(("2.8.0", "Added the -2 reply."),),
)
def ttl(db: Database, args: list[Any]) -> Any:
    """Returns the expiration time in seconds of a key."""
    return _seconds(_remaining_ms(db, args))


@command(
    "PTTL key",
    group="generic",
    since="2.6.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    tips=("nondeterministic_output",),
    history=(("2.8.0", "Added the -2 reply."),),
)
def pttl(db: Database, args: list[Any]) -> Any:
    """Returns the expiration time in milliseconds of a key."""
    return _remaining_ms(db, args)


@command(
    "EXPIRETIME key",
    group="generic",
    since="7.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
)
def expiretime(db: Database, args: list[Any]) -> Any:
    """Returns the expiration time of a key as a Unix timestamp."""
    return _seconds(_deadline_of(db, args))


@command(
    "PEXPIRETIME key",
    group="generic",
    since="7.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
)
def pexpiretime(db: Database, args: list[Any]) -> Any:
    """Returns the expiration time of a key as a Unix milliseconds timestamp."""
    return _deadline_of(db, args)


def _deadline_of(db: Database, args: list[Any]) -> int:
    if db.glance(args[1], args[0]) is None:
        return _NO_KEY
    return db.expires.get(args[1], _NO_DEADLINE)


def _remaining_ms(db: Database, args: list[Any]) -> int:
    at_ms = _deadline_of(db, args)
    return at_ms if at_ms < 0 else at_ms - db.shard.now_ms


def _seconds(ms: int) -> int:
    """Rounded to the nearest second; what stands for no time at all stays as it is."""
    return ms if ms < 0 else (ms + 500) // 1000
