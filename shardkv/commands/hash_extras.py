"""HGETDEL, HGETEX and HSETEX: getting and setting fields, and what becomes of them, in one.

What is logged are the older commands that come to the same.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from shardkv import errors
from shardkv.command import DENYOOM, FAST, WRITE, Key, command
from shardkv.commands.expire import UNITS
from shardkv.commands.hash_arguments import field_deadline, read_fields, read_numfields
from shardkv.commands.hash_expiry import give_deadline, say_deadline_given
from shardkv.commands.hashes import propagate_set, say_fields_removed, without_expired
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.structures.hash import Hash


@command(
    "HGETDEL key FIELDS numfields field [field ...]",
    group="hash",
    since="9.1.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS DELETE"),),
    complexity="O(N) where N is the number of fields to be retrieved and deleted.",
)
def hgetdel(db: Database, args: list[Any]) -> Any:
    """Returns the values of one or more fields and deletes them from a hash."""
    slot, key, *words = args
    found = db.edit_as(Hash, key, slot)
    fields = read_fields(words, "hgetdel")
    found = without_expired(db, key, found, fields)
    if found is None:
        return [None] * len(fields)
    values, removed = [], []
    for field in fields:
        value = found.get(field, db.shard.now_ms)
        values.append(value)
        if value is not None:
            found.discard([field])
            removed.append(field)
    if removed:
        say_fields_removed(db, key, found, slot)
        db.shard.propagate(db, b"HDEL", key, *removed)
    return values


@command(
    "HGETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT "
    "unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]",
    group="hash",
    since="9.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
    complexity="O(N) where N is the number of specified fields.",
)
def hgetex(db: Database, args: list[Any]) -> Any:
    """Gets the value of one or more fields of a given hash key, and optionally sets their expiration time
    or time-to-live (TTL)."""
    slot, key, *words = args
    found = db.edit_as(Hash, key, slot)
    option = words[0].upper()
    at_ms = field_deadline(db, words[1], UNITS[option], "hgetex") if option in UNITS else None
    persists = option == b"PERSIST"
    fields = read_fields(words[2:] if at_ms is not None else words[1:] if persists else words, "hgetex")
    found = without_expired(db, key, found, fields)
    if found is None:
        return [None] * len(fields)
    if at_ms is not None:
        return _get_and_expire(db, key, found, fields, at_ms, slot)
    values = [found.get(field, db.shard.now_ms) for field in fields]
    if persists:
        _persist(db, key, found, fields)
    return values


def _get_and_expire(
    db: Database, key: bytes, found: Hash, fields: list[bytes], at_ms: int, slot: int
) -> list[bytes | None]:
    found.prepare_for_deadlines()
    values, given = [], []
    for field in fields:
        value = found.get(field, db.shard.now_ms)
        values.append(value)
        if value is not None:
            give_deadline(db, found, field, at_ms)
            given.append(field)
    if given:
        say_deadline_given(db, key, found, given, at_ms, slot)
    return values


def _persist(db: Database, key: bytes, found: Hash, fields: list[bytes]) -> None:
    found.prepare_for_deadlines()
    persisted = [field for field in fields if found.persist(field)]
    if persisted:
        db.changed(key, "hpersist")
        db.shard.propagate(db, b"HPERSIST", key, b"FIELDS", b"%d" % len(persisted), *persisted)


# -- HSETEX -----------------------------------------------------------------------------------


class SetOptions(NamedTuple):
    """What HSETEX is asked for."""

    conditions: set[bytes]
    """NX or XX, about the key, and FNX or FXX, about the fields."""
    at_ms: int | None
    keeps_deadlines: bool
    pairs: list[bytes]
    """Field, value, field, value …"""


_CONTRARY = {b"NX": b"XX", b"XX": b"NX"}
_MOST_FIELDS = 2**31 - 1


def _read_set_options(db: Database, words: list[bytes]) -> SetOptions:
    """Takes what follows the key. Raises CommandError."""
    conditions: set[bytes] = set()
    at_ms: int | None = None
    keeps = False
    rest = enumerate(words)
    for place, given in rest:
        word = given.upper()
        if word == b"FIELDS":
            return SetOptions(conditions, at_ms, keeps, _read_pairs(words[place + 1 :]))
        if word in (b"FNX", b"FXX"):
            if conditions & {b"FNX", b"FXX"}:
                raise CommandError(errors.FXX_AND_FNX)
            conditions.add(word)
        elif word in _CONTRARY:
            if _CONTRARY[word] in conditions:
                raise CommandError(errors.SYNTAX)
            conditions.add(word)
        elif word in UNITS or word == b"KEEPTTL":
            if keeps or at_ms is not None:
                raise CommandError(errors.SEVERAL_EXPIRES)
            keeps = word == b"KEEPTTL"
            if not keeps:
                _, text = next(rest, (0, None))
                if text is None:
                    raise CommandError(errors.MISSING_EXPIRE)
                at_ms = field_deadline(db, text, UNITS[word], "hsetex")
        else:
            raise CommandError(errors.unknown_argument(given))
    raise CommandError(errors.wrong_arity("hsetex"))


def _read_pairs(words: list[bytes]) -> list[bytes]:
    if len(words) < 3:
        raise CommandError(errors.wrong_arity("hsetex"))
    number = read_numfields(words[0], _MOST_FIELDS, errors.NUMFIELDS_INVALID)
    if len(words) - 1 != 2 * number:
        raise CommandError(errors.wrong_arity("hsetex"))
    return words[1:]


def _hold(conditions: set[bytes], db: Database, found: Hash | None, fields: list[bytes]) -> bool:
    exists = found is not None and found.count > found.expired_count(db.shard.now_ms)
    there = [field for field in fields if found is not None and field in found]
    return not (
        (b"NX" in conditions and exists)
        or (b"XX" in conditions and not exists)
        or (b"FNX" in conditions and there)
        or (b"FXX" in conditions and len(there) < len(fields))
    )


# NX and XX, about the key, are Valkey's; all else is as in Redis 8.2.
@command(
    "HSETEX key [NX | XX] [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds "
    "| PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
    group="hash",
    since="9.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW INSERT"),),
    complexity="O(N) where N is the number of specified fields.",
)
def hsetex(db: Database, args: list[Any]) -> Any:
    """Sets the value of one or more fields of a given hash key, and optionally sets their expiration time."""
    slot, key, *words = args
    conditions, at_ms, keeps_deadlines, pairs = _read_set_options(db, words)
    fields = list(dict.fromkeys(pairs[::2]))
    found = without_expired(db, key, db.edit_as(Hash, key, slot), fields)
    if conditions and not _hold(conditions, db, found, fields):
        return 0
    if found is None:
        found = Hash.of(pairs, db.shard.config)
        db.put(key, found, "hset", slot)
    else:
        found.put(pairs, db.shard.config)
        db.changed(key, "hset")
    if at_ms is not None:
        if at_ms > db.shard.now_ms:
            db.shard.propagate(db, b"HSET", key, *pairs)
        for field in fields:
            give_deadline(db, found, field, at_ms)
        say_deadline_given(db, key, found, fields, at_ms, slot)
        return 1
    if not keeps_deadlines:
        for field in fields:
            found.persist(field)
    propagate_set(db, key, found, pairs)
    return 1
