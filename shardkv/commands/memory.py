"""What keys take: MEMORY USAGE, and a shard's part of MEMORY STATS.

Measured on the Python objects themselves. Of a large collection only some parts are looked at.
"""

from __future__ import annotations

import random
from collections.abc import Collection as Parts
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from sys import getsizeof
from typing import TYPE_CHECKING, Any

import msgspec

from shardkv import errors, limits
from shardkv.command import READONLY, Key, command, container
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.slots import slot_of
from shardkv.structures.field_deadlines import FieldDeadlines
from shardkv.structures.ranking import Ranking

if TYPE_CHECKING:
    from shardkv.shard import Shard

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


class DatabaseMemory(msgspec.Struct):
    """One database's part on a shard: the number of its keys; in bytes its tables, the deadlines of its keys,
    and, as an estimate from some of them, the keys with their values."""

    index: int
    keys: int
    table_bytes: int
    deadlines_bytes: int
    values_bytes: int


class WorkerMemory(msgspec.Struct):
    """What a shard knows of its memory, in bytes; of scripts and functions the texts."""

    databases: list[DatabaseMemory]
    scripts_bytes: int
    functions_bytes: int


def worker_memory(body: Any) -> WorkerMemory:
    """The same as it comes from another process."""
    return msgspec.convert(body, WorkerMemory)


def memory_of(shard: Shard) -> WorkerMemory:
    """What a shard holds now. Looks at some keys, and at the tables of all slots."""
    scripts_bytes, functions_bytes = shard.scripts.text_bytes
    return WorkerMemory(
        [_memory_of_database(db) for db in shard.databases.values() if len(db)],
        scripts_bytes,
        functions_bytes,
    )


def _memory_of_database(db: Database) -> DatabaseMemory:
    keys = len(db)
    first = random.randrange(len(db.slots))  # noqa: S311 - no secret
    slots = chain(db.slots[first:], db.slots[:first])
    sample = list(islice(chain.from_iterable(slots), limits.MEASURED_KEYS))
    sizes = [usage(db, key, limits.MEMORY_SAMPLES) or 0 for key in sample]
    return DatabaseMemory(
        index=db.index,
        keys=keys,
        table_bytes=sum(map(getsizeof, db.slots)),
        deadlines_bytes=_DEADLINE_BYTES * len(db.expires),
        values_bytes=sum(sizes) * keys // len(sizes) if sizes else 0,
    )


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
