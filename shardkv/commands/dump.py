"""DUMP and RESTORE: values that travel between servers."""

from __future__ import annotations

from typing import Any, NamedTuple

from shardkv import clock, errors
from shardkv.command import DENYOOM, READONLY, WRITE, Key, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import INT64_MAX, integer
from shardkv.rdb.payload import PayloadError, dump, is_plain, restore
from shardkv.rdb.reader import FormatError
from shardkv.recency import MOST_FREQUENT, CountedDatabase, TimedDatabase
from shardkv.resp.replies import OK
from shardkv.structures.hash import Hash
from shardkv.values import Value, recreate


@command(
    "DUMP key",
    group="generic",
    since="2.6.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(1) to access the key and additional O(N*M) to serialize it, where N is the number of "
    "objects composing the value and M their average size. For small string values the time "
    "complexity is thus O(1)+O(1*M) where M is small, so simply O(1).",
    tips=("nondeterministic_output",),
)
def dump_(db: Database, args: list[Any]) -> Any:
    """Returns a serialized representation of the value stored at a key."""
    value = db.read(args[1], args[0])
    return None if value is None else dump(value)


class _Options(NamedTuple):
    replace: bool
    absolute: bool
    idle_s: int
    frequency: int


def _options(words: list[bytes]) -> _Options:
    """What stands behind the payload. Raises CommandError."""
    replace = absolute = False
    idle_s = frequency = -1
    rest = iter(words)
    left = len(words)
    for given in rest:
        left -= 1
        word = given.upper()
        if word == b"REPLACE":
            replace = True
        elif word == b"ABSTTL":
            absolute = True
        elif word == b"IDLETIME" and left and frequency < 0:
            idle_s = integer(next(rest))
            left -= 1
            if idle_s < 0:
                raise CommandError(errors.INVALID_IDLETIME)
        elif word == b"FREQ" and left and idle_s < 0:
            frequency = integer(next(rest))
            left -= 1
            if not 0 <= frequency <= MOST_FREQUENT:
                raise CommandError(errors.INVALID_FREQUENCY)
        else:
            raise CommandError(errors.SYNTAX)
    return _Options(replace, absolute, idle_s, frequency)


@command(
    "RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
    group="generic",
    since="2.6.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="OW UPDATE"),),
    complexity="O(1) to create the new key and additional O(N*M) to reconstruct the serialized value, "
    "where N is the number of objects composing the value and M their average size. For small"
    " string values the time complexity is thus O(1)+O(1*M) where M is small, so simply O(1)."
    " However for sorted set values the complexity is O(N*M*log(N)) because inserting values "
    "into sorted sets is O(log(N)).",
    categories=("dangerous", "keyspace"),
    history=(
        ("3.0.0", "Added the `REPLACE` modifier."),
        ("5.0.0", "Added the `ABSTTL` modifier."),
        ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
    ),
)
def restore_(db: Database, args: list[Any]) -> Any:
    """Creates a key from the serialized representation of a value."""
    slot, key, ttl, payload = args[:4]
    options = _options(args[4:])
    there = db.peek(key, slot) is not None
    if there and not options.replace:
        raise CommandError(errors.BUSY_KEY)
    at_ms = _deadline(db, ttl, options)
    value = _restored(db, payload)
    if at_ms is not None and not db.shard.now_ms < at_ms <= INT64_MAX:
        # Redis lets a time from now on that is out of range wrap round, into the past.
        if there:
            db.remove(key, slot)
            db.changed(key, "del")
            db.shard.propagate(db, b"DEL", key)
        return OK
    touched_s = db.touched_s[slot]
    if there:
        db.created(key)
    db.put(key, value, "restore", slot)
    if at_ms is not None:
        db.set_deadline(key, at_ms)
    if options.idle_s >= 0:
        _age(db, key, slot, options.idle_s, touched_s)
    elif options.frequency >= 0 and isinstance(db, CountedDatabase):
        db.seem_used(key, options.frequency)
    _log(db, key, value, at_ms, payload if is_plain(payload) else None, replace=there)
    return OK


def _deadline(db: Database, ttl: bytes, options: _Options) -> int | None:
    """When the key is to expire, in ms since 1970; None for never. Raises CommandError."""
    ttl_ms = integer(ttl)
    if ttl_ms < 0:
        raise CommandError(errors.INVALID_TTL)
    if not ttl_ms:
        return None
    # While a log is replayed, the shard's clock stands still.
    return ttl_ms if options.absolute else ttl_ms + (db.shard.now_ms or clock.now_ms())


def _restored(db: Database, payload: bytes) -> Value:
    try:
        return restore(payload, db.shard.config)
    except PayloadError:
        raise CommandError(errors.WRONG_PAYLOAD) from None
    except FormatError:
        raise CommandError(errors.BAD_DATA_FORMAT) from None


def _age(db: Database, key: bytes, slot: int, idle_s: int, touched_s: int) -> None:
    """Has a key seem idle for so long, as far as that is not denied by others, which share its slot."""
    if isinstance(db, TimedDatabase):
        db.seem_idle(key, idle_s)
    since_s = db.shard.now_s - idle_s
    db.touched_s[slot] = since_s if len(db.keys_of_slot(slot)) == 1 else max(since_s, touched_s)


def _log(
    db: Database, key: bytes, value: Value, at_ms: int | None, payload: bytes | None, *, replace: bool
) -> None:
    """Has a form logged that Redis 7.0 can read: the payload that came in, or another if it is None."""
    if isinstance(value, Hash) and value.deadlines is not None:
        # Which has none for fields that expire.
        if replace:
            db.shard.propagate(db, b"DEL", key)
        for request in recreate(key, value, at_ms):
            db.shard.propagate(db, *request)
    else:
        how = (b"REPLACE", b"ABSTTL") if replace else (b"ABSTTL",)
        db.shard.propagate(db, b"RESTORE", key, b"%d" % (at_ms or 0), payload or dump(value), *how)
