"""Strings: GET, SET and their like, and those that look at or change a part of a string."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shardkv import errors
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.commands.expire import MILLISECONDS, SECONDS, UNITS, Unit, expire_at, positive_deadline
from shardkv.errors import CommandError
from shardkv.keyspace import Database, string
from shardkv.numbers import integer
from shardkv.resp.replies import OK


@command(
    "GET key",
    group="string",
    since="1.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
)
def get(db: Database, args: list[Any]) -> Any:
    """Returns the string value of a key."""
    value = db.read(args[1], args[0])
    if value.__class__ is bytes or value is None:
        return value
    return string(value)


# -- options ----------------------------------------------------------------------------------

_CONDITIONS = frozenset({b"NX", b"XX", b"IFEQ"})
_WITH_VALUE = frozenset({b"IFEQ", *UNITS})
_SET_OPTIONS = frozenset({b"NX", b"XX", b"IFEQ", b"GET", b"KEEPTTL", *UNITS})
_GETEX_OPTIONS = frozenset({b"PERSIST", *UNITS})


@dataclass(slots=True)
class Options:
    """What stands after key and value."""

    condition: bytes = b""
    comparison: bytes = b""
    """What IFEQ compares with."""
    get: bool = False
    expiry: bytes = b""
    """What becomes of the deadline: a word of UNITS, KEEPTTL, PERSIST, or nothing."""
    time: bytes = b""

    def deadline(self, db: Database, name: str) -> int | None:
        """The time given, in ms since 1970, None if there is none. Raises CommandError if it is invalid."""
        unit = UNITS.get(self.expiry)
        return None if unit is None else positive_deadline(db, self.time, unit, name)


def read_options(words: Sequence[bytes], allowed: frozenset[bytes]) -> Options:
    """The options that words spell. Raises CommandError if one is not allowed, or two contradict each
    other."""
    found = Options()
    rest = iter(words)
    for given in rest:
        word = given.upper()
        value = next(rest, None) if word in _WITH_VALUE else b""
        if word not in allowed or value is None:
            raise CommandError(errors.SYNTAX)
        if word in _CONDITIONS:
            if found.condition not in (b"", word) or found.condition == b"IFEQ":
                raise CommandError(errors.SYNTAX)
            found.condition, found.comparison = word, value
        elif word == b"GET":
            found.get = True
        else:
            if found.expiry not in (b"", word):
                raise CommandError(errors.SYNTAX)
            found.expiry, found.time = word, value
    return found


# -- whole strings ----------------------------------------------------------------------------


def _access_of_set(args: Sequence[bytes]) -> str:
    return "RW ACCESS UPDATE" if b"GET" in (word.upper() for word in args[3:]) else "OW UPDATE"


@command(
    "SET key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds | PX milliseconds | "
    "EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
    group="string",
    since="1.0.0",
    flags=WRITE | DENYOOM,
    keys=(
        Key(
            1,
            access="RW ACCESS UPDATE VARIABLE_FLAGS",
            access_of=_access_of_set,
            notes="RW and ACCESS due to the optional `GET` argument",
        ),
    ),
    history=(
        ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
        ("6.0.0", "Added the `KEEPTTL` option."),
        ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
        ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
        ("8.1.0", "Added the `IFEQ` option."),
    ),
)
def set_(db: Database, args: list[Any]) -> Any:
    """Sets the string value of a key, ignoring its type. The key is created if it doesn't exist."""
    if len(args) == 3:
        db.put(args[1], args[2], "set", args[0])
        return OK
    slot, key, value = args[:3]
    if len(args) == 5 and (unit := UNITS.get(args[3])) is not None:
        store(db, key, value, slot, at_ms=positive_deadline(db, args[4], unit, "set"))
        return OK
    options = read_options(args[3:], _SET_OPTIONS)
    at_ms = options.deadline(db, "set")
    if options.get or options.condition == b"IFEQ":
        old = db.read_string(key, slot)
        there = old is not None
    else:
        old, there = None, db.peek(key, slot) is not None
    answer = old if options.get else None
    if (options.condition == b"NX" and there) or (options.condition == b"XX" and not there):
        return answer
    if options.condition == b"IFEQ" and old != options.comparison:
        return answer
    store(db, key, value, slot, at_ms=at_ms, keep_deadline=options.expiry == b"KEEPTTL")
    return answer if options.get else OK


def store(
    db: Database, key: bytes, value: bytes, slot: int, *, at_ms: int | None, keep_deadline: bool = False
) -> None:
    """Stores a string with its deadline, or what comes to the same if that has passed, and has it logged.

    at_ms           in ms since 1970; None for none.
    keep_deadline   the one that the key has stays; it must have been looked up, so that it has not expired.
    """
    if at_ms is None:
        db.put(key, value, "set", slot, keep_deadline=keep_deadline)
        db.shard.propagate(db, b"SET", key, value, *([b"KEEPTTL"] if keep_deadline else []))
    elif at_ms > db.shard.now_ms:
        # The deadline there may be is replaced, so `put` need not take it away first.
        db.put(key, value, "set", slot, keep_deadline=True)
        db.set_deadline(key, at_ms)
        db.changed(key, "expire")
        db.shard.propagate(db, b"SET", key, value, b"PXAT", b"%d" % at_ms)
    elif db.peek(key, slot) is not None:
        expire_at(db, key, at_ms, slot)


@command(
    "SETEX key seconds value",
    group="string",
    since="2.0.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="OW UPDATE"),),
    deprecated_since="2.6.12",
    replaced_by="`SET` with the `EX` argument",
)
def setex(db: Database, args: list[Any]) -> Any:
    """Sets the string value and expiration time of a key. Creates the key if it doesn't exist."""
    return _set_for(db, args, SECONDS, "setex")


@command(
    "PSETEX key milliseconds value",
    group="string",
    since="2.6.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="OW UPDATE"),),
    deprecated_since="2.6.12",
    replaced_by="`SET` with the `PX` argument",
)
def psetex(db: Database, args: list[Any]) -> Any:
    """Sets both string value and expiration time in milliseconds of a key. The key is created if it
    doesn't exist."""
    return _set_for(db, args, MILLISECONDS, "psetex")


def _set_for(db: Database, args: list[Any], unit: Unit, name: str) -> Any:
    slot, key, time, value = args
    store(db, key, value, slot, at_ms=positive_deadline(db, time, unit, name))
    return OK


@command(
    "SETNX key value",
    group="string",
    since="1.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="OW INSERT"),),
    deprecated_since="2.6.12",
    replaced_by="`SET` with the `NX` argument",
)
def setnx(db: Database, args: list[Any]) -> Any:
    """Sets the string value of a key only when the key doesn't exist."""
    slot, key, value = args
    if db.peek(key, slot) is not None:
        return 0
    db.put(key, value, "set", slot)
    return 1


@command(
    "GETSET key value",
    group="string",
    since="1.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
    deprecated_since="6.2.0",
    replaced_by="`SET` with the `!GET` argument",
)
def getset(db: Database, args: list[Any]) -> Any:
    """Returns the previous string value of a key after setting it to a new value."""
    slot, key, value = args
    old = db.read_string(key, slot)
    db.put(key, value, "set", slot)
    return old


@command(
    "GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT "
    "unix-time-milliseconds | PERSIST]",
    group="string",
    since="6.2.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE", notes="RW and UPDATE because it changes the TTL"),),
)
def getex(db: Database, args: list[Any]) -> Any:
    """Returns the string value of a key after setting its expiration time."""
    slot, key = args[:2]
    options = read_options(args[2:], _GETEX_OPTIONS)
    value = db.read_string(key, slot)
    if value is None:
        return None
    at_ms = options.deadline(db, "getex")
    if at_ms is not None:
        expire_at(db, key, at_ms, slot)
    elif options.expiry == b"PERSIST" and db.persist(key):
        db.changed(key, "persist")
        db.shard.propagate(db, b"PERSIST", key)
    return value


@command(
    "GETDEL key",
    group="string",
    since="6.2.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS DELETE"),),
)
def getdel(db: Database, args: list[Any]) -> Any:
    """Returns the string value of a key after deleting the key."""
    slot, key = args
    value = db.read_string(key, slot)
    if value is not None:
        _delete(db, key, slot)
    return value


@command(
    "DELIFEQ key value",
    group="string",
    since="9.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RM DELETE"),),
)
def delifeq(db: Database, args: list[Any]) -> Any:
    """Delete key if value matches string."""
    slot, key, comparison = args
    if db.edit_string(key, slot) != comparison:
        return 0
    _delete(db, key, slot)
    return 1


def _delete(db: Database, key: bytes, slot: int) -> None:
    db.remove(key, slot)
    db.changed(key, "del")
    db.shard.propagate(db, b"DEL", key)


# -- parts of strings -------------------------------------------------------------------------


@command(
    "STRLEN key",
    group="string",
    since="2.2.0",
    flags=READONLY | FAST,
    keys=(Key(1, access="RO"),),
)
def strlen(db: Database, args: list[Any]) -> Any:
    """Returns the length of a string value."""
    return len(db.read_string(args[1], args[0]) or b"")


@command(
    "GETRANGE key start end",
    group="string",
    since="2.4.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) where N is the length of the returned string. The complexity is ultimately "
    "determined by the returned length, but because creating a substring from an existing "
    "string is very cheap, it can be considered O(1) for small strings.",
)
def getrange(db: Database, args: list[Any]) -> Any:
    """Returns a substring of the string stored at a key."""
    slot, key = args[:2]
    start, end = integer(args[2]), integer(args[3])
    value = db.read_string(key, slot) or b""
    if start < 0 and end < 0 and start > end:
        return b""
    if start < 0:
        start = max(0, start + len(value))
    if end < 0:
        end = max(0, end + len(value))
    return value[start : end + 1]


@command(
    "SUBSTR key start end",
    group="string",
    since="1.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) where N is the length of the returned string. The complexity is ultimately "
    "determined by the returned length, but because creating a substring from an existing "
    "string is very cheap, it can be considered O(1) for small strings.",
    deprecated_since="2.0.0",
    replaced_by="`GETRANGE`",
)
def substr(db: Database, args: list[Any]) -> Any:
    """Returns a substring from a string value."""
    return getrange(db, args)


@command(
    "APPEND key value",
    group="string",
    since="2.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW INSERT"),),
    complexity="O(1). The amortized time complexity is O(1) assuming the appended value is small and the"
    " already present value is of any size, since the dynamic string library used by the "
    "server will double the free space available on every reallocation.",
)
def append(db: Database, args: list[Any]) -> Any:
    """Appends a string to the value of a key. Creates the key if it doesn't exist."""
    slot, key, addition = args
    old = db.edit_string(key, slot)
    if old is None:
        db.put(key, addition, "append", slot)
        return len(addition)
    _check_length(db, len(old) + len(addition))
    grown = growing(db, key, slot, old)
    grown += addition
    db.changed(key, "append")
    return len(grown)


@command(
    "SETRANGE key offset value",
    group="string",
    since="2.2.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(1), not counting the time taken to copy the new string in place. Usually, this string "
    "is very small so the amortized complexity is O(1). Otherwise, complexity is O(M) with M "
    "being the length of the value argument.",
)
def setrange(db: Database, args: list[Any]) -> Any:
    """Overwrites a part of a string value with another by an offset. Creates the key if it doesn't exist."""
    slot, key, offset, part = *args[:2], integer(args[2]), args[3]
    if offset < 0:
        raise CommandError(errors.OFFSET_OUT_OF_RANGE)
    old = db.edit_string(key, slot)
    if not part:
        return len(old or b"")
    _check_length(db, offset + len(part))
    if old is None:
        db.put(key, bytearray(offset) + part, "setrange", slot)
        return offset + len(part)
    changed = growing(db, key, slot, old)
    if len(changed) < offset:
        changed += bytes(offset - len(changed))
    changed[offset : offset + len(part)] = part
    db.changed(key, "setrange")
    return len(changed)


def _check_length(db: Database, length: int) -> None:
    if length > db.shard.config.proto_max_bulk_len:
        raise CommandError(errors.STRING_TOO_LONG)


def growing(db: Database, key: bytes, slot: int, value: bytes | bytearray) -> bytearray:
    """A key's string in the form that can be changed in place, where it costs next to nothing to grow."""
    if isinstance(value, bytearray):
        return value
    growing = bytearray(value)
    db.replace(key, growing, slot)
    return growing
