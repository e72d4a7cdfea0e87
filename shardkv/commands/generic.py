"""Commands for keys of any type."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from shardkv import errors, values
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command, container
from shardkv.commands.transfer import content
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.locks import LockKey
from shardkv.numbers import canonical_integer, integer
from shardkv.plan import Call, Plan, Read, Write, check, sum_of_keys
from shardkv.recency import CountedDatabase
from shardkv.resp.replies import OK, Status
from shardkv.slots import slot_of

_INT_MIN, _INT_MAX = -(2**31), 2**31 - 1


# -- keys counted -----------------------------------------------------------------------------


@command(
    "DEL key [key ...]",
    group="generic",
    since="1.0.0",
    flags=WRITE,
    keys=(Key(1, last=-1, access="RM DELETE"),),
    complexity="O(N) where N is the number of keys that will be removed. When a key to remove holds a "
    "value other than a string, the individual complexity for this key is O(M) where M is the"
    " number of elements in the list, set, sorted set or hash. Removing a single key that "
    "holds a string value is O(1).",
    tips=("request_policy:multi_shard", "response_policy:agg_sum"),
    plan=sum_of_keys,
)
def del_(db: Database, args: list[Any]) -> Any:
    """Deletes one or more keys."""
    return _delete(db, args[1:])


@command(
    "UNLINK key [key ...]",
    group="generic",
    since="4.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, last=-1, access="RM DELETE"),),
    complexity="O(1) for each key removed regardless of its size. Then the command does O(N) work in a "
    "different thread in order to reclaim memory, where N is the number of allocations the "
    "deleted objects where composed of.",
    tips=("request_policy:multi_shard", "response_policy:agg_sum"),
    plan=sum_of_keys,
)
def unlink(db: Database, args: list[Any]) -> Any:
    """Asynchronously deletes one or more keys."""
    return _delete(db, args[1:])


def _delete(db: Database, keys: list[bytes]) -> int:
    deleted = 0
    for key in keys:
        slot = slot_of(key)
        if db.peek(key, slot) is not None:
            db.remove(key, slot)
            db.changed(key, "del")
            deleted += 1
    return deleted


@command(
    "EXISTS key [key ...]",
    group="generic",
    since="1.0.0",
    flags=READONLY | FAST,
    keys=(Key(1, last=-1, access="RO"),),
    complexity="O(N) where N is the number of keys to check.",
    tips=("request_policy:multi_shard", "response_policy:agg_sum"),
    history=(("3.0.3", "Accepts multiple `key` arguments."),),
    plan=sum_of_keys,
)
def exists(db: Database, args: list[Any]) -> Any:
    """Determines whether one or more keys exist."""
    return sum(db.glance(key) is not None for key in args[1:])


@command(
    "TOUCH key [key ...]",
    group="generic",
    since="3.2.1",
    flags=READONLY | FAST,
    keys=(Key(1, last=-1, access="RO"),),
    complexity="O(N) where N is the number of keys that will be touched.",
    tips=("request_policy:multi_shard", "response_policy:agg_sum"),
    plan=sum_of_keys,
)
def touch(db: Database, args: list[Any]) -> Any:
    """Returns the number of existing keys out of those specified after updating the time they were last
    accessed."""
    return sum(db.read(key) is not None for key in args[1:])


# -- what a key holds -------------------------------------------------------------------------


@command(
    "TYPE key",
    group="generic",
    since="1.0.0",
    flags=READONLY | FAST,
    keys=(Key(1, access="RO"),),
)
def type_(db: Database, args: list[Any]) -> Any:
    """Determines the type of value stored at a key."""
    value = db.glance(args[1], args[0])
    return Status(b"none" if value is None else values.type_name(value).encode())


container(
    "OBJECT",
    group="generic",
    since="2.2.3",
    help_since="6.2.0",
    summary="A container for object introspection commands.",
)


@command(
    "OBJECT ENCODING key",
    group="generic",
    since="2.2.3",
    flags=READONLY,
    keys=(Key(2, access="RO"),),
    tips=("nondeterministic_output",),
)
def object_encoding(db: Database, args: list[Any]) -> Any:
    """Returns the internal encoding of an object."""
    value = db.peek(args[2])
    return None if value is None else values.encoding(value, db.shard.config).encode()


@command(
    "OBJECT FREQ key",
    group="generic",
    since="4.0.0",
    flags=READONLY,
    keys=(Key(2, access="RO"),),
    tips=("nondeterministic_output",),
)
def object_freq(db: Database, args: list[Any]) -> Any:
    """Returns the logarithmic access frequency counter of an object."""
    if db.peek(args[2]) is None:
        return None
    if not isinstance(db, CountedDatabase):
        raise CommandError(errors.NO_FREQUENCY)
    return db.frequency(args[2])


@command(
    "OBJECT IDLETIME key",
    group="generic",
    since="2.2.3",
    flags=READONLY,
    keys=(Key(2, access="RO"),),
    tips=("nondeterministic_output",),
)
def object_idletime(db: Database, args: list[Any]) -> Any:
    """Returns the time since the last access to an object."""
    if db.peek(args[2]) is None:
        return None
    if isinstance(db, CountedDatabase):
        raise CommandError(errors.NO_IDLE_TIME)
    return db.idle_s(args[2])


@command(
    "OBJECT REFCOUNT key",
    group="generic",
    since="2.2.3",
    flags=READONLY,
    keys=(Key(2, access="RO"),),
    tips=("nondeterministic_output",),
)
def object_refcount(db: Database, args: list[Any]) -> Any:
    """Returns the reference count of a value of a key."""
    return None if db.peek(args[2]) is None else 1


# -- another name -----------------------------------------------------------------------------


def _plan_rename(call: Call) -> Plan:
    source, destination = call.args[1:]
    here, there = call.shard_of(source), call.shard_of(destination)
    found = yield Read({here: [[b"CONTENT", source, destination]], there: [[b"EXISTS", destination]]})
    check(found)
    [requests], [exists_already] = found[here], found[there]
    if requests is None:
        raise CommandError(errors.NO_SUCH_KEY)
    only_new = call.command.name == "renamenx"
    if only_new and exists_already:
        return 0
    parts = {
        here: [[b"TAKE", source, "rename_from"]],
        there: [[b"BUILD", call.db, destination, "rename_to", True, requests]],
    }
    check((yield Write(parts)))
    return 1 if only_new else OK


@command(
    "RENAME key newkey",
    group="generic",
    since="1.0.0",
    flags=WRITE,
    keys=(Key(1, access="RW ACCESS DELETE"), Key(2, access="OW UPDATE")),
    plan=_plan_rename,
)
def rename(db: Database, args: list[Any]) -> Any:
    """Renames a key and overwrites the destination."""
    source, destination = args[1:]
    if db.peek(source) is None:
        raise CommandError(errors.NO_SUCH_KEY)
    if source != destination:
        _move(db, source, "rename_from", db, destination, "rename_to")
    return OK


@command(
    "RENAMENX key newkey",
    group="generic",
    since="1.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS DELETE"), Key(2, access="OW INSERT")),
    history=(
        ("3.2.0", "The command no longer returns an error when source and destination names are the same."),
    ),
    plan=_plan_rename,
)
def renamenx(db: Database, args: list[Any]) -> Any:
    """Renames a key only when the target key name doesn't exist."""
    source, destination = args[1:]
    if db.peek(source) is None:
        raise CommandError(errors.NO_SUCH_KEY)
    if db.peek(destination) is not None:
        return 0
    _move(db, source, "rename_from", db, destination, "rename_to")
    return 1


def _move(
    db: Database, source: bytes, event_from: str, target: Database, destination: bytes, event_to: str
) -> None:
    """Takes a value that is there, with its deadline, to another key or database."""
    # What has expired there is gone before anything is moved.
    target.peek(destination)
    at_ms = db.expires.get(source)
    value = db.take(source)
    assert value is not None
    db.changed(source, event_from)
    _place(target, destination, value, at_ms, event_to)


def _place(db: Database, key: bytes, value: values.Value, at_ms: int | None, event: str) -> None:
    if db.peek(key) is not None:
        # As in Redis, which removes what is there, so that the key is a new one.
        db.created(key)
    db.put(key, value, event)
    if at_ms is not None:
        db.set_deadline(key, at_ms)


# -- another database -------------------------------------------------------------------------


def _database(db: Database, text: bytes) -> Database:
    """The database that a client names. Raises CommandError if there is none."""
    index = integer(text)
    if not _INT_MIN <= index <= _INT_MAX:
        raise CommandError(errors.NOT_AN_INT)
    if not 0 <= index < db.shard.config.databases:
        raise CommandError(errors.DB_OUT_OF_RANGE)
    return db.shard.database(index)


def _locks_of_move(db: int, args: Sequence[Any]) -> tuple[list[LockKey], bool]:
    target = canonical_integer(args[2])
    return [(db, args[1]), (db if target is None else target, args[1])], False


@command(
    "MOVE key db",
    group="generic",
    since="1.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
    locks=_locks_of_move,
)
def move(db: Database, args: list[Any]) -> Any:
    """Moves a key to another database."""
    key, target = args[1], _database(db, args[2])
    if target is db:
        raise CommandError(errors.SAME_OBJECT)
    if db.peek(key) is None or target.peek(key) is not None:
        return 0
    _move(db, key, "move_from", target, key, "move_to")
    return 1


def _locks_of_copy(db: int, args: Sequence[Any]) -> tuple[list[LockKey], bool]:
    target = db
    for word, value in pairwise(args[3:]):
        if word.upper() == b"DB":
            index = canonical_integer(value)
            target = db if index is None else index
    return [(db, args[1]), (target, args[2])], False


def _plan_copy(call: Call) -> Plan:
    source, destination = call.args[1:3]
    here, there = call.shard_of(source), call.shard_of(destination)
    found = yield Read({here: [[b"COPYCONTENT", *call.args[1:]]]})
    check(found)
    [(index, replace, requests)] = found[here]
    if requests is None:
        return 0
    done = yield Write({there: [[b"BUILD", index, destination, "copy_to", replace, requests]]})
    check(done)
    return done[there][0]


def _read_copy(db: Database, args: list[Any]) -> tuple[Database, bool]:
    """Whereto a request copies, and whether it may replace something there. Raises CommandError."""
    target, replace = db, False
    rest = iter(args[3:])
    for given in rest:
        word = given.upper()
        if word == b"REPLACE":
            replace = True
        elif word == b"DB" and (index := next(rest, None)) is not None:
            target = _database(db, index)
        else:
            raise CommandError(errors.SYNTAX)
    if target is db and args[1] == args[2]:
        raise CommandError(errors.SAME_OBJECT)
    return target, replace


@command(
    "COPYCONTENT source destination [option ...]",
    group="generic",
    since="0.1.0",
    flags=READONLY,
    keys=(Key(1),),
    internal=True,
)
def copy_content(db: Database, args: list[Any]) -> Any:
    """Returns what the other shard needs for a COPY: the index of the database, whether to replace, and the
    requests that build the key there, or None if there is nothing to copy."""
    target, replace = _read_copy(db, args)
    db.read(args[1])
    return [target.index, replace, content(db, args[:3])]


@command(
    "COPY source destination [DB destination-db] [REPLACE]",
    group="generic",
    since="6.2.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1), Key(2, access="OW UPDATE")),
    complexity="O(N) worst case for collections, where N is the number of nested items. O(1) for string "
    "values.",
    plan=_plan_copy,
    locks=_locks_of_copy,
)
def copy(db: Database, args: list[Any]) -> Any:
    """Copies the value of a key to a new key."""
    source, destination = args[1:3]
    target, replace = _read_copy(db, args)
    value = db.read(source)
    if value is None or (target.peek(destination) is not None and not replace):
        return 0
    _place(target, destination, values.copy(value), db.expires.get(source), "copy_to")
    return 1
