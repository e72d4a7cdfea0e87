"""Strings as arrays of integers of any width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from shardkv import errors
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.commands.bitmaps import bit_offset, stretched
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.structures.bits import Field, Overflow

_ARGUMENTS = {b"GET": 2, b"SET": 3, b"INCRBY": 3, b"OVERFLOW": 1}

_MOST_BITS = {b"i": 64, b"u": 63}


class _Operation(NamedTuple):
    name: bytes
    """GET, SET or INCRBY."""
    field: Field
    offset: int
    number: int
    """What is set or added."""
    overflow: Overflow


def _groups(words: Sequence[bytes]) -> Iterator[tuple[bytes, list[bytes]]]:
    """The subcommands, each with its arguments. Raises CommandError where there is none."""
    rest = iter(words)
    for given in rest:
        name = given.upper()
        count = _ARGUMENTS.get(name)
        arguments = list(islice(rest, count))
        if count is None or len(arguments) < count:
            raise CommandError(errors.SYNTAX)
        yield name, arguments


def _read_field(text: bytes) -> Field:
    """The type that `i8` or `u63` names. Raises CommandError."""
    count = integer(text[1:], errors.INVALID_FIELD_TYPE)
    if not 1 <= count <= _MOST_BITS.get(text[:1], 0):
        raise CommandError(errors.INVALID_FIELD_TYPE)
    return Field(text[:1] == b"i", count)


def _read_operations(db: Database, words: Sequence[bytes]) -> list[_Operation]:
    found = []
    overflow = Overflow.WRAP
    for name, arguments in _groups(words):
        if name == b"OVERFLOW":
            try:
                overflow = Overflow(arguments[0].upper())
            except ValueError:
                raise CommandError(errors.INVALID_OVERFLOW) from None
            continue
        field = _read_field(arguments[0])
        place = arguments[1]
        if place.startswith(b"#"):
            offset = bit_offset(db, place[1:], field.bits)
        else:
            offset = bit_offset(db, place)
        number = 0 if name == b"GET" else integer(arguments[2])
        found.append(_Operation(name, field, offset, number, overflow))
    return found


def _access_of(args: Sequence[bytes]) -> str:
    try:
        reads = all(name in (b"GET", b"OVERFLOW") for name, _ in _groups(args[2:]))
    except CommandError:
        reads = False
    return "RO ACCESS" if reads else "RW ACCESS UPDATE"


def _read(db: Database, key: bytes, slot: int, operations: list[_Operation]) -> list[int]:
    value = db.read_string(key, slot) or b""
    return [operation.field.read(value, operation.offset) for operation in operations]


@command(
    "BITFIELD key [<GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset"
    " value | INCRBY encoding offset increment>> [...]]",
    group="bitmap",
    since="3.2.0",
    flags=WRITE | DENYOOM,
    keys=(
        Key(
            1,
            access="RW ACCESS UPDATE VARIABLE_FLAGS",
            access_of=_access_of,
            notes="This command allows both access and modification of the key",
        ),
    ),
    complexity="O(1) for each subcommand specified",
)
def bitfield(db: Database, args: list[Any]) -> Any:
    """Performs arbitrary bitfield integer operations on strings."""
    slot, key = args[:2]
    operations = _read_operations(db, args[2:])
    ends = [one.offset + one.field.bits for one in operations if one.name != b"GET"]
    if not ends:
        return _read(db, key, slot, operations)
    length = (max(ends) + 7) >> 3
    old = db.edit_string(key, slot)
    length_before = 0 if old is None else len(old)
    value = bytearray(length) if old is None else stretched(db, key, slot, old, length)
    answers: list[int | None] = []
    changed = len(value) > length_before
    for operation in operations:
        before = operation.field.read(value, operation.offset)
        after = _carry_out(operation, before)
        answers.append(after if operation.name == b"INCRBY" else before)
        if after is None:
            answers[-1] = None
        elif after != before:
            operation.field.write(value, operation.offset, after)
            changed = True
    if old is None:
        db.put(key, value, "setbit", slot)
    elif changed:
        db.changed(key, "setbit")
    return answers


def _carry_out(operation: _Operation, before: int) -> int | None:
    """What a field holds after an operation; None if that would be too large or small for it."""
    if operation.name == b"GET":
        return before
    number = operation.number
    if operation.name == b"INCRBY":
        number += before
    elif not operation.field.signed:
        # Redis takes what is set for an unsigned 64-bit number, so that a negative one is too large.
        number &= (1 << 64) - 1
    return operation.field.fitted(number, operation.overflow)


@command(
    "BITFIELD_RO key [GET encoding offset [GET encoding offset ...]]",
    group="bitmap",
    since="6.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(1) for each subcommand specified",
)
def bitfield_ro(db: Database, args: list[Any]) -> Any:
    """Performs arbitrary read-only bitfield integer operations on strings."""
    operations = _read_operations(db, args[2:])
    if any(operation.name != b"GET" for operation in operations):
        raise CommandError(errors.ONLY_GET)
    return _read(db, args[1], args[0], operations)
