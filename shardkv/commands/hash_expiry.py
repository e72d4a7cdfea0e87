"""The deadlines of a hash's fields: HEXPIRE and its like, HTTL and its like.

What a client gives as a time from now is logged as the time it stands for, and without its condition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shardkv import errors
from shardkv.command import FAST, READONLY, WRITE, Key, command
from shardkv.commands.expire import MILLISECONDS, SECONDS, UNIX_MILLISECONDS, UNIX_SECONDS, Unit
from shardkv.commands.hash_arguments import field_deadline, read_fields
from shardkv.commands.hashes import say_fields_removed, without_expired
from shardkv.keyspace import Database
from shardkv.structures.hash import Hash

_NO_FIELD, _NO_DEADLINE = -2, -1
_REFUSED, _SET, _REMOVED = 0, 1, 2

# -- setting a deadline -----------------------------------------------------------------------


@command(
    "HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    group="hash",
    since="9.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(N) where N is the number of specified fields.",
)
def hexpire(db: Database, args: list[Any]) -> Any:
    """Sets expiry time on hash fields."""
    return _expire(db, args, SECONDS, "hexpire")


@command(
    "HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    group="hash",
    since="9.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(N) where N is the number of specified fields.",
)
def hexpireat(db: Database, args: list[Any]) -> Any:
    """Sets expiry time on hash fields."""
    return _expire(db, args, UNIX_SECONDS, "hexpireat")


@command(
    "HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    group="hash",
    since="9.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(N) where N is the number of specified fields.",
)
def hpexpire(db: Database, args: list[Any]) -> Any:
    """Sets expiry time on hash object."""
    return _expire(db, args, MILLISECONDS, "hpexpire")


@command(
    "HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    group="hash",
    since="9.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(N) where N is the number of specified fields.",
)
def hpexpireat(db: Database, args: list[Any]) -> Any:
    """Sets expiration time on hash field."""
    return _expire(db, args, UNIX_MILLISECONDS, "hpexpireat")


def _expire(db: Database, args: list[Any], unit: Unit, name: str) -> list[int]:
    slot, key, text, *words = args
    found = db.edit_as(Hash, key, slot)
    at_ms = field_deadline(db, text, unit, name)
    allows = _CONDITIONS.get(words[0].upper())
    fields = read_fields(words if allows is None else words[1:], name, errors.NUMFIELDS_NOT_ABOVE_ZERO)
    found = without_expired(db, key, found, fields)
    if found is None:
        return [_NO_FIELD] * len(fields)
    found.prepare_for_deadlines()
    given: list[bytes] = []
    outcomes = []
    for field in fields:
        if field not in found:
            outcomes.append(_NO_FIELD)
        elif allows is not None and not allows(found.deadline(field), at_ms):
            outcomes.append(_REFUSED)
        else:
            given.append(field)
            outcomes.append(give_deadline(db, found, field, at_ms))
    if given:
        say_deadline_given(db, key, found, given, at_ms, slot)
    return outcomes


# A condition tells whether a deadline is allowed in the place of an old one, None for never.
_CONDITIONS: dict[bytes, Callable[[int | None, int], bool]] = {
    b"NX": lambda old_ms, new_ms: old_ms is None,
    b"XX": lambda old_ms, new_ms: old_ms is not None,
    b"GT": lambda old_ms, new_ms: old_ms is not None and new_ms > old_ms,
    b"LT": lambda old_ms, new_ms: old_ms is None or new_ms < old_ms,
}


def give_deadline(db: Database, found: Hash, field: bytes, at_ms: int) -> int:
    """Gives a field that is there a deadline, or removes it if that has passed; returns what HEXPIRE replies.

    The caller tells it by `say_deadline_given` once it is through with all fields.
    """
    if at_ms <= db.shard.now_ms:
        found.discard([field])
        return _REMOVED
    found.set_deadline(field, at_ms)
    return _SET


def say_deadline_given(
    db: Database, key: bytes, found: Hash, fields: list[bytes], at_ms: int, slot: int
) -> None:
    """Tells and logs that fields (one at least) were given a deadline, or removed because it has passed."""
    if at_ms <= db.shard.now_ms:
        say_fields_removed(db, key, found, slot)
        db.shard.propagate(db, b"HDEL", key, *fields)
    else:
        db.watch_fields(key, found)
        db.changed(key, "hexpire")
        db.shard.propagate(db, b"HPEXPIREAT", key, b"%d" % at_ms, b"FIELDS", b"%d" % len(fields), *fields)


@command(
    "HPERSIST key FIELDS numfields field [field ...]",
    group="hash",
    since="9.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(N) where N is the number of specified fields.",
)
def hpersist(db: Database, args: list[Any]) -> Any:
    """Remove the existing expiration on a hash key's field(s)."""
    slot, key, *words = args
    found = db.edit_as(Hash, key, slot)
    fields = read_fields(words, "hpersist")
    found = without_expired(db, key, found, fields)
    if found is None:
        return [_NO_FIELD] * len(fields)
    outcomes = [
        (_SET if found.persist(field) else _NO_DEADLINE) if field in found else _NO_FIELD for field in fields
    ]
    if _SET in outcomes:
        db.changed(key, "hpersist")
    return outcomes


# -- asking for it ----------------------------------------------------------------------------


@command(
    "HTTL key FIELDS numfields field [field ...]",
    group="hash",
    since="9.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(N) where N is the number of specified fields.",
)
def httl(db: Database, args: list[Any]) -> Any:
    """Returns the remaining time to live (in seconds) of a hash key's field(s) that have an associated
    expiration."""
    now_ms = db.shard.now_ms
    return _deadlines(db, args, "httl", lambda at_ms: _seconds(at_ms - now_ms))


@command(
    "HPTTL key FIELDS numfields field [field ...]",
    group="hash",
    since="9.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(N) where N is the number of specified fields.",
)
def hpttl(db: Database, args: list[Any]) -> Any:
    """Returns the remaining time to live in milliseconds of a hash key's field(s) that have an associated
    expiration."""
    now_ms = db.shard.now_ms
    return _deadlines(db, args, "hpttl", lambda at_ms: at_ms - now_ms)


@command(
    "HEXPIRETIME key FIELDS numfields field [field ...]",
    group="hash",
    since="9.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(N) where N is the number of specified fields.",
)
def hexpiretime(db: Database, args: list[Any]) -> Any:
    """Returns Unix timestamps in seconds since the epoch at which the given key's field(s) will expire."""
    return _deadlines(db, args, "hexpiretime", _seconds)


@command(
    "HPEXPIRETIME key FIELDS numfields field [field ...]",
    group="hash",
    since="9.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(N) where N is the number of specified fields.",
)
def hpexpiretime(db: Database, args: list[Any]) -> Any:
    """Returns the Unix timestamp in milliseconds since Unix epoch at which the given key's field(s) will
    expire."""
    return _deadlines(db, args, "hpexpiretime", lambda at_ms: at_ms)


def _deadlines(db: Database, args: list[Any], name: str, shown: Callable[[int], int]) -> list[int]:
    slot, key, *words = args
    found = db.read_as(Hash, key, slot)
    fields = read_fields(words, name)
    if found is None:
        return [_NO_FIELD] * len(fields)
    now_ms = db.shard.now_ms
    replies = []
    for field in fields:
        at_ms = found.deadline(field)
        if found.get(field, now_ms) is None:
            replies.append(_NO_FIELD)
        else:
            replies.append(_NO_DEADLINE if at_ms is None else shown(at_ms))
    return replies


def _seconds(ms: int) -> int:
    """Rounded up, as Redis does here (and not for keys): a field with half a second left has 1."""
    return (ms + 999) // 1000
