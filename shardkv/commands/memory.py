"""What keys take: MEMORY USAGE.

Measured on the Python objects themselves. Of a large collection only some parts are looked at.
"""

from __future__ import annotations

from collections.abc import Collection as Parts
from collections.abc import Iterator, Sequence
from itertools import islice
from sys import getsizeof
from typing import Any

from shardkv import errors, limits
from shardkv.command import READONLY, Key, command, container
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.slots import slot_of
from shardkv.structures.field_deadlines import FieldDeadlines
from shardkv.structures.ranking import Ranking

_ALIGNMENT_BYTES = 16
"""Memory is handed out in multiples of this."""

_DEADLINE_BYTES = 120
"""What it takes that a key expires: the time, an entry in the table and one in a bucket of keys."""

_ATOMS = frozenset({bytes, int, float})
_SHARED = (str, bool, type(None), type)
"""Kinds of things of which there is one for all."""

_BESIDE_TABLE = (Ranking, FieldDeadlines)
"""What orders or marks the members of a table: their names are the table's."""


class Measurement:
    """Adds up what a value and its parts take, in bytes. Each part counts once."""

    def __init__(self, samples: int) -> None:
        """Of many strings or numbers in one place, only so many are looked at; all, if 0."""
        self._samples = samples
        self._seen: set[int] = set()

    def of(self, thing: Any, *, names: bool = True) -> float:
        """What a thing takes; without the strings in it if `names` is false."""
        if isinstance(thing, _SHARED) or id(thing) in self._seen or (isinstance(thing, bytes) and not names):
            return 0
        self._seen.add(id(thing))
        own = _own_bytes(thing)
        if thing.__class__ in _ATOMS or isinstance(thing, bytes):
            return own
        if isinstance(thing, dict):
            return own + self._of_parts(thing.keys(), names) + self._of_parts(thing.values(), names)
        if isinstance(thing, list | tuple | set):
            return own + self._of_parts(thing, names)
        names = names and not isinstance(thing, _BESIDE_TABLE)
        return own + sum(self.of(part, names=names) for part in _attributes(thing))

    def _of_parts(self, parts: Parts[Any], names: bool) -> float:
        if not parts or (not names and isinstance(next(iter(parts)), bytes)):
            return 0
        most = self._samples
        if most and next(iter(parts)).__class__ not in _ATOMS:
            # An entry of a directory may be there several times.
            parts = list({id(part): part for part in parts}.values())
            most = max(most, limits.MEASURED_PARTS)
        if not most or len(parts) <= most:
            return sum(self.of(part, names=names) for part in parts)
        return sum(self.of(part, names=names) for part in _some(parts, most)) * len(parts) / most


def _own_bytes(thing: Any) -> int:
    """What a thing takes without its parts."""
    return -(-getsizeof(thing) // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _some(parts: Parts[Any], count: int) -> Iterator[Any]:
    """So many of the parts, from everywhere if that is easy."""
    if isinstance(parts, Sequence):
        return (parts[number * len(parts) // count] for number in range(count))
    return islice(parts, count)


def _attributes(thing: Any) -> Iterator[Any]:
    for kind in reversed(type(thing).__mro__):
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(thing, name, None)
    yield from getattr(thing, "__dict__", {}).values()


def _table_bytes(db: Database, key: bytes) -> int:
    """What the keyspace takes for a key: its share of the table of its slot, and for its deadline."""
    count = min(len(db.keys_of_slot(slot_of(key))), limits.MEASURED_TABLE_KEYS)
    table = getsizeof(dict.fromkeys(range(count))) - getsizeof({})
    return table // count + (_DEADLINE_BYTES if key in db.expires else 0)


def usage(db: Database, key: bytes, samples: int) -> int | None:
    """What a key, its value and its places in tables take, in bytes; None if there is no such key."""
    value = db.peek(key)
    if value is None:
        return None
    return _own_bytes(key) + _table_bytes(db, key) + round(Measurement(samples).of(value))


container(
    "MEMORY",
    group="server",
    since="4.0.0",
    help_since="4.0.0",
    summary="A container for memory diagnostics commands.",
)


@command(
    "MEMORY USAGE key [SAMPLES count]",
    group="server",
    since="4.0.0",
    flags=READONLY,
    keys=(Key(2, access="RO"),),
    complexity="O(N) where N is the number of samples.",
)
def memory_usage(db: Database, args: list[Any]) -> Any:
    """Estimates the memory usage of a key."""
    samples = limits.MEMORY_SAMPLES
    options = iter(args[3:])
    for option in options:
        number = next(options, None)
        if option.upper() != b"SAMPLES" or number is None:
            raise CommandError(errors.SYNTAX)
        samples = integer(number)
        if samples < 0:
            raise CommandError(errors.SYNTAX)
    return usage(db, args[2], samples)
