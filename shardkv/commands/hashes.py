"""Hashes: the commands of Redis 7. What came with the deadlines of fields stands in hash_expiry and
hash_extras."""

from __future__ import annotations

from itertools import chain
from typing import Any

from shardkv import errors, limits, longdouble
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.commands.collection_scan import read_scan_options
from shardkv.commands.scan import read_cursor
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import INT64_MAX, INT64_MIN, integer
from shardkv.resp.replies import OK, Pairs
from shardkv.structures.hash import HASHTABLE, Hash, merged

# -- setting ----------------------------------------------------------------------------------


def without_expired(db: Database, key: bytes, found: Hash | None, fields: list[bytes]) -> Hash | None:
    """The hash that `edit_as` has found, for a command that may change these fields: such of them as have
    expired are removed first. None if there is none, or none any more."""
    if found is None or found.deadlines is None:
        return found
    now_ms = db.shard.now_ms
    expired = [field for field in fields if found.has_expired(field, now_ms)]
    if expired:
        db.expire_fields(key, found, expired)
    return found if found.count else None


def set_fields(db: Database, key: bytes, found: Hash | None, pairs: list[bytes], slot: int) -> int:
    """Sets fields (field, value, field, value …) as HSET does; returns how many of them are new."""
    if found is None:
        made = Hash.of(pairs, db.shard.config)
        db.put(key, made, "hset", slot)
        return made.count
    if found.deadlines is not None:
        return _set_fields_for_good(db, key, found, pairs, slot)
    added = found.put(pairs, db.shard.config)
    db.changed(key, "hset")
    return added


def _set_fields_for_good(db: Database, key: bytes, found: Hash, pairs: list[bytes], slot: int) -> int:
    fields = pairs[::2]
    if without_expired(db, key, found, fields) is None:
        return set_fields(db, key, None, pairs, slot)
    added = found.put(pairs, db.shard.config)
    for field in fields:
        found.persist(field)
    db.changed(key, "hset")
    return added


@command(
    "HSET key field value [field value ...]",
    group="hash",
    since="2.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(1) for each field/value pair added, so O(N) to add N field/value pairs when the "
    "command is called with multiple field/value pairs.",
    history=(("4.0.0", "Accepts multiple `field` and `value` arguments."),),
)
def hset(db: Database, args: list[Any]) -> Any:
    """Creates or modifies the value of a field in a hash."""
    slot, key, *pairs = args
    if len(pairs) % 2:
        raise CommandError(errors.wrong_arity("hset"))
    return set_fields(db, key, db.edit_as(Hash, key, slot), pairs, slot)


@command(
    "HMSET key field value [field value ...]",
    group="hash",
    since="2.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(N) where N is the number of fields being set.",
    deprecated_since="4.0.0",
    replaced_by="`HSET` with multiple field-value pairs",
)
def hmset(db: Database, args: list[Any]) -> Any:
    """Sets the values of multiple fields."""
    slot, key, *pairs = args
    if len(pairs) % 2:
        raise CommandError(errors.wrong_arity("hmset"))
    set_fields(db, key, db.edit_as(Hash, key, slot), pairs, slot)
    return OK


@command(
    "HSETNX key field value",
    group="hash",
    since="2.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW INSERT"),),
)
def hsetnx(db: Database, args: list[Any]) -> Any:
    """Sets the value of a field in a hash only when the field doesn't exist."""
    slot, key, field, value = args
    found = without_expired(db, key, db.edit_as(Hash, key, slot), [field])
    if found is not None and field in found:
        return 0
    return set_fields(db, key, found, [field, value], slot)


# -- counting ---------------------------------------------------------------------------------


def _put_number(
    db: Database, key: bytes, found: Hash | None, field: bytes, number: bytes, event: str, slot: int
) -> None:
    """Sets a field whose deadline stays."""
    if found is None:
        db.put(key, Hash.of([field, number], db.shard.config), event, slot)
    else:
        found.put([field, number], db.shard.config)
        db.changed(key, event)


@command(
    "HINCRBY key field increment",
    group="hash",
    since="2.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
)
def hincrby(db: Database, args: list[Any]) -> Any:
    """Increments the integer value of a field in a hash by a number. Uses 0 as initial value if the field
    doesn't exist."""
    slot, key, field, increment = args
    number = integer(increment)
    found = without_expired(db, key, db.edit_as(Hash, key, slot), [field])
    old = found.get(field, db.shard.now_ms) if found is not None else None
    if old is not None:
        number += integer(old, errors.HASH_VALUE_NOT_AN_INTEGER)
        if not INT64_MIN <= number <= INT64_MAX:
            raise CommandError(errors.OVERFLOW)
    _put_number(db, key, found, field, b"%d" % number, "hincrby", slot)
    return number


@command(
    "HINCRBYFLOAT key field increment",
    group="hash",
    since="2.6.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
)
def hincrbyfloat(db: Database, args: list[Any]) -> Any:
    """Increments the floating point value of a field by a number. Uses 0 as initial value if the field
    doesn't exist."""
    slot, key, field, text = args
    increment = longdouble.parse(text)
    if increment is longdouble.INFINITY:
        raise CommandError(errors.INFINITE_INCREMENT)
    found = without_expired(db, key, db.edit_as(Hash, key, slot), [field])
    old = found.get(field, db.shard.now_ms) if found is not None else None
    total = increment
    if old is not None:
        total = longdouble.add(longdouble.parse(old, errors.HASH_VALUE_NOT_A_FLOAT), increment)
    new = longdouble.format_decimal(total)
    _put_number(db, key, found, field, new, "hincrbyfloat", slot)
    # Another machine's arithmetic must not have a say in what is loaded again.
    propagate_set(db, key, found, [field, new])
    return new


def propagate_set(db: Database, key: bytes, found: Hash | None, pairs: list[bytes]) -> None:
    """Has the log say that fields were set and have the deadlines that they have now."""
    db.shard.propagate(db, b"HSET", key, *pairs)
    if found is not None and found.deadlines is not None:
        for request in found.deadline_commands(key, pairs[::2]):
            db.shard.propagate(db, *request)


# -- removing ---------------------------------------------------------------------------------


@command(
    "HDEL key field [field ...]",
    group="hash",
    since="2.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(N) where N is the number of fields to be removed.",
    history=(("2.4.0", "Accepts multiple `field` arguments."),),
)
def hdel(db: Database, args: list[Any]) -> Any:
    """Deletes one or more fields and their values from a hash. Deletes the hash if no fields remain."""
    slot, key, *fields = args
    found = without_expired(db, key, db.edit_as(Hash, key, slot), fields)
    if found is None:
        return 0
    removed = found.discard(fields)
    if removed:
        say_fields_removed(db, key, found, slot)
    return removed


def say_fields_removed(db: Database, key: bytes, found: Hash, slot: int) -> None:
    """Tells that fields were removed; the key goes with the last of them."""
    db.changed(key, "hdel")
    if not found.count:
        db.remove(key, slot)
        db.changed(key, "del")


# -- looking at fields ------------------------------------------------------------------------


@command(
    "HGET key field",
    group="hash",
    since="2.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
)
def hget(db: Database, args: list[Any]) -> Any:
    """Returns the value of a field in a hash."""
    found = db.read_as(Hash, args[1], args[0])
    return None if found is None else found.get(args[2], db.shard.now_ms)


@command(
    "HMGET key field [field ...]",
    group="hash",
    since="2.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(N) where N is the number of fields being requested.",
)
def hmget(db: Database, args: list[Any]) -> Any:
    """Returns the values of all fields in a hash."""
    slot, key, *fields = args
    found = db.read_as(Hash, key, slot)
    if found is None:
        return [None] * len(fields)
    get, now_ms = found.get, db.shard.now_ms
    return [get(field, now_ms) for field in fields]


@command(
    "HEXISTS key field",
    group="hash",
    since="2.0.0",
    flags=READONLY | FAST,
    keys=(Key(1, access="RO"),),
)
def hexists(db: Database, args: list[Any]) -> Any:
    """Determines whether a field exists in a hash."""
    found = db.read_as(Hash, args[1], args[0])
    return 1 if found is not None and found.get(args[2], db.shard.now_ms) is not None else 0


@command(
    "HSTRLEN key field",
    group="hash",
    since="3.2.0",
    flags=READONLY | FAST,
    keys=(Key(1, access="RO"),),
)
def hstrlen(db: Database, args: list[Any]) -> Any:
    """Returns the length of the value of a field."""
    found = db.read_as(Hash, args[1], args[0])
    return 0 if found is None else len(found.get(args[2], db.shard.now_ms) or b"")


# -- looking at all ---------------------------------------------------------------------------


@command(
    "HLEN key",
    group="hash",
    since="2.0.0",
    flags=READONLY | FAST,
    keys=(Key(1, access="RO"),),
)
def hlen(db: Database, args: list[Any]) -> Any:
    """Returns the number of fields in a hash."""
    found = db.read_as(Hash, args[1], args[0])
    return 0 if found is None else found.count - found.expired_count(db.shard.now_ms)


def _live(db: Database, args: list[Any]) -> list[dict[bytes, bytes]]:
    """The fields and values of the hash that a request names, in pieces."""
    found = db.read_as(Hash, args[1], args[0])
    return [] if found is None else found.live(db.shard.now_ms)


@command(
    "HGETALL key",
    group="hash",
    since="2.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) where N is the size of the hash.",
    tips=("nondeterministic_output_order",),
)
def hgetall(db: Database, args: list[Any]) -> Any:
    """Returns all fields and values in a hash."""
    return merged(_live(db, args))


@command(
    "HKEYS key",
    group="hash",
    since="2.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) where N is the size of the hash.",
    tips=("nondeterministic_output_order",),
)
def hkeys(db: Database, args: list[Any]) -> Any:
    """Returns all fields in a hash."""
    return list(chain.from_iterable(_live(db, args)))


@command(
    "HVALS key",
    group="hash",
    since="2.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) where N is the size of the hash.",
    tips=("nondeterministic_output_order",),
)
def hvals(db: Database, args: list[Any]) -> Any:
    """Returns all values in a hash."""
    return list(chain.from_iterable(map(dict.values, _live(db, args))))


@command(
    "HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
    group="hash",
    since="2.8.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(1) for every call. O(N) for a complete iteration, including enough command calls for "
    "the cursor to return back to 0. N is the number of elements inside the collection.",
    tips=("nondeterministic_output",),
)
def hscan(db: Database, args: list[Any]) -> Any:
    """Iterates over fields and values of a hash."""
    place = read_cursor(args[2])
    found = db.read_as(Hash, args[1], args[0])
    if found is None:
        return [b"0", []]
    options = read_scan_options(args[3:], of_hash=True)
    # As Redis does: whatever is no hash table is returned at once.
    least = options.least if found.form is HASHTABLE else found.count
    pieces, place = found.scan(place, least)
    now_ms = db.shard.now_ms
    wanted = [
        pair
        for piece in pieces
        for pair in piece.items()
        if options.matches(pair[0]) and not found.has_expired(pair[0], now_ms)
    ]
    elements = [field for field, _ in wanted] if options.no_values else list(chain.from_iterable(wanted))
    return [b"%d" % place, elements]


# -- at random --------------------------------------------------------------------------------


@command(
    "HRANDFIELD key [count [WITHVALUES]]",
    group="hash",
    since="6.2.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) where N is the number of fields returned",
    tips=("nondeterministic_output",),
)
def hrandfield(db: Database, args: list[Any]) -> Any:
    """Returns one or more random fields from a hash."""
    if len(args) > 2:
        return _several_at_random(db, args)
    found = db.read_as(Hash, args[1], args[0])
    drawn = [] if found is None else found.draw_several(1, db.shard.now_ms)
    return drawn[0] if drawn else None


def _several_at_random(db: Database, args: list[Any]) -> list[Any]:
    slot, key, count_text, *options = args
    count = integer(count_text)
    if count == INT64_MIN:
        raise CommandError(errors.NOT_A_LONG)
    if options and (len(options) > 1 or options[0].upper() != b"WITHVALUES"):
        raise CommandError(errors.SYNTAX)
    if options and abs(count) > INT64_MAX // 2:
        raise CommandError(errors.OUT_OF_RANGE)
    found, now_ms = db.read_as(Hash, key, slot), db.shard.now_ms
    if found is None:
        return []
    if count < -limits.REPEATED_MEMBERS:
        raise CommandError(errors.OUT_OF_RANGE)
    chosen = found.choose(count, now_ms) if count >= 0 else found.draw_several(-count, now_ms)
    return Pairs((field, found.get(field, now_ms)) for field in chosen) if options else chosen
