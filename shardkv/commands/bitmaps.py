"""Strings as arrays of bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardkv import errors
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.commands.strings import growing
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.plan import Call, Plan, Read, Write, check
from shardkv.resp.replies import OK
from shardkv.structures import bits

# -- single bits ------------------------------------------------------------------------------


def bit_offset(db: Database, text: bytes, unit: int = 1) -> int:
    """The place of a bit, counted in so many bits. Raises CommandError if no string may be so long."""
    offset = integer(text, errors.INVALID_BIT_OFFSET) * unit
    if not 0 <= offset >> 3 < db.shard.config.proto_max_bulk_len:
        raise CommandError(errors.INVALID_BIT_OFFSET)
    return offset


def stretched(db: Database, key: bytes, slot: int, old: bytes | bytearray, length: int) -> bytearray:
    """A key's string in the form that can be changed in place, made at least so long with zeros."""
    value = growing(db, key, slot, old)
    if len(value) < length:
        value += bytes(length - len(value))
    return value


@command(
    "GETBIT key offset",
    group="bitmap",
    since="2.2.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
)
def getbit(db: Database, args: list[Any]) -> Any:
    """Returns a bit value by offset."""
    offset = bit_offset(db, args[2])
    value = db.read_string(args[1], args[0])
    place = offset >> 3
    if value is None or place >= len(value):
        return 0
    return value[place] >> (7 - (offset & 7)) & 1


@command(
    "SETBIT key offset value",
    group="bitmap",
    since="2.2.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
)
def setbit(db: Database, args: list[Any]) -> Any:
    """Sets or clears the bit at offset of the string value. Creates the key if it doesn't exist."""
    slot, key = args[:2]
    offset = bit_offset(db, args[2])
    bit = integer(args[3], errors.INVALID_BIT)
    if bit not in (0, 1):
        raise CommandError(errors.INVALID_BIT)
    place, shift = offset >> 3, 7 - (offset & 7)
    old = db.edit_string(key, slot)
    if old is None:
        value = bytearray(place + 1)
        value[place] = bit << shift
        db.put(key, value, "setbit", slot)
        return 0
    length = len(old)
    value = stretched(db, key, slot, old, place + 1)
    before = value[place] >> shift & 1
    if before != bit:
        value[place] ^= 1 << shift
    if before != bit or len(value) > length:
        db.changed(key, "setbit")
    return before


# -- ranges -----------------------------------------------------------------------------------

_UNITS = {b"BYTE": 8, b"BIT": 1}


def _read_range(words: Sequence[bytes]) -> tuple[int, int | None, int]:
    """Start, end (None if it is not given) and the bits of what they count. Raises CommandError."""
    if len(words) > 3:
        raise CommandError(errors.SYNTAX)
    start = integer(words[0]) if words else 0
    end = integer(words[1]) if len(words) > 1 else None
    unit = _UNITS.get(words[2].upper()) if len(words) > 2 else 8
    if unit is None:
        raise CommandError(errors.SYNTAX)
    return start, end, unit


def _clamped(start: int, end: int | None, length: int) -> tuple[int, int]:
    """Where a range within so many elements starts and stops; negative numbers count from the end."""
    if end is None:
        end = length - 1
    if start < 0:
        start = max(0, start + length)
    if end < 0:
        end = max(0, end + length)
    return start, min(end + 1, length)


@command(
    "BITCOUNT key [start [end [BYTE | BIT]]]",
    group="bitmap",
    since="2.6.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N)",
    history=(
        ("7.0.0", "Added the `BYTE|BIT` option."),
        ("8.0.0", "`end` made optional; when called without argument the command reports the last BYTE."),
    ),
)
def bitcount(db: Database, args: list[Any]) -> Any:
    """Counts the number of set bits (population counting) in a string."""
    start, end, unit = _read_range(args[2:])
    value = db.read_string(args[1], args[0])
    if not value or (end is not None and end < start < 0):
        return 0
    start, stop = _clamped(start, end, len(value) * 8 // unit)
    return bits.count_ones(value, start * unit, stop * unit) if start < stop else 0


@command(
    "BITPOS key bit [start [end [BYTE | BIT]]]",
    group="bitmap",
    since="2.8.7",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N)",
    history=(("7.0.0", "Added the `BYTE|BIT` option."),),
)
def bitpos(db: Database, args: list[Any]) -> Any:
    """Finds the first set (1) or clear (0) bit in a string."""
    bit = integer(args[2])
    if bit not in (0, 1):
        raise CommandError(errors.NEITHER_BIT)
    start, end, unit = _read_range(args[3:])
    value = db.read_string(args[1], args[0])
    if value is None:
        return -1 if bit else 0
    start, stop = _clamped(start, end, len(value) * 8 // unit)
    if start >= stop:
        return -1
    place = bits.find_bit(value, bit, start * unit, stop * unit)
    if place < 0 and not bit and end is None:
        # Without an end the string is taken to go on with zeros.
        return len(value) * 8
    return place


# -- combining --------------------------------------------------------------------------------

_OF_TWO = frozenset({b"DIFF", b"DIFF1", b"ANDOR"})
"""Operations that tell the first key from the others."""

_KNOWN_TO_REDIS_7 = frozenset({b"AND", b"OR", b"XOR", b"NOT"})


def _read_operation(args: Sequence[Any]) -> bytes:
    """The operation that a BITOP asks for. Raises CommandError if there is none such of so many keys."""
    operation: bytes = args[1].upper()
    if operation != b"NOT" and operation not in bits.OPERATIONS:
        raise CommandError(errors.SYNTAX)
    if operation == b"NOT" and len(args) > 4:
        raise CommandError(errors.NOT_OF_SEVERAL)
    if operation in _OF_TWO and len(args) < 5:
        raise CommandError(errors.too_few_source_keys(operation))
    return operation


def _combine(operation: bytes, strings: Sequence[bytes | bytearray]) -> bytes:
    return bits.complement(strings[0]) if operation == b"NOT" else bits.combine(operation, strings)


def _plan_bitop(call: Call) -> Plan:
    operation = _read_operation(call.args)
    destination, *keys = call.args[2:]
    by_shard: dict[int, list[bytes]] = {}
    for key in dict.fromkeys(keys):
        by_shard.setdefault(call.shard_of(key), []).append(key)
    values = yield Read({shard: [[b"GET", key] for key in own] for shard, own in by_shard.items()})
    check(values)
    found = {
        key: value or b""
        for shard, own in by_shard.items()
        for key, value in zip(own, values[shard], strict=True)
    }
    result = _combine(operation, [found[key] for key in keys])
    request = [b"STOREBITS", destination, result] if result else [b"DEL", destination]
    check((yield Write({call.shard_of(destination): [request]})))
    return len(result)


@command(
    "BITOP <AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE> destkey key [key ...]",
    group="bitmap",
    since="2.6.0",
    flags=WRITE | DENYOOM,
    keys=(Key(2, access="OW UPDATE"), Key(3, last=-1)),
    complexity="O(N)",
    history=(("8.2.0", "Added the `DIFF`, `DIFF1`, `ANDOR` and `ONE` operations."),),
    plan=_plan_bitop,
)
def bitop(db: Database, args: list[Any]) -> Any:
    """Performs bitwise operations on multiple strings, and stores the result."""
    operation = _read_operation(args)
    destination, *keys = args[2:]
    result = _combine(operation, [db.read_string(key) or b"" for key in keys])
    if result:
        db.put(destination, bytearray(result), "set")
        if operation not in _KNOWN_TO_REDIS_7:
            db.shard.propagate(db, b"SET", destination, result)
    elif db.edit(destination) is not None:
        db.remove(destination)
        db.changed(destination, "del")
        db.shard.propagate(db, b"DEL", destination)
    return len(result)


@command(
    "STOREBITS key value",
    group="bitmap",
    since="0.1.0",
    flags=WRITE,
    keys=(Key(1, access="OW UPDATE"),),
    internal=True,
)
def store_bits(db: Database, args: list[Any]) -> Any:
    """Stores the result of a BITOP over several shards, in the encoding that such results have."""
    slot, key, result = args
    db.put(key, bytearray(result), "set", slot)
    db.shard.propagate(db, b"SET", key, result)
    return OK
