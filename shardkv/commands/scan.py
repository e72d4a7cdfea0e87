"""SCAN and RANDOMKEY: keys of a database, some at a time.

SCAN goes through the slots in their order, whichever shards own them, so that its place is a slot, and in a
large slot a place in a snapshot of it (see shardkv.scans). The cursor holds both and nothing else: it stays
good when slots move to other shards.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from shardkv import errors, glob, limits
from shardkv.command import READONLY, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.locks import LockKey
from shardkv.numbers import UINT64_MAX, integer
from shardkv.plan import Call, Plan, Read, check
from shardkv.slots import SLOT_BITS, SLOT_MASK, SLOTS
from shardkv.values import type_name

DEFAULT_COUNT = 10

_CURSOR = re.compile(rb"[ \t-\r]*\+?[0-9]+")


class Options(NamedTuple):
    """What is asked for: how many keys are to be looked at at least, and which of them returned."""

    least: int
    pattern: bytes
    type_name: bytes
    """Of their values, in lower case; empty for any."""


def read_cursor(text: bytes) -> int:
    """The number that a cursor is. Raises CommandError if it is none of 64 bits."""
    if len(text) < 100 and _CURSOR.fullmatch(text):
        number = int(text)
        if number <= UINT64_MAX:
            return number
    raise CommandError(errors.INVALID_CURSOR)


def _read_options(words: Sequence[bytes]) -> Options:
    count, pattern, wanted_type = DEFAULT_COUNT, b"*", b""
    rest = iter(words)
    for given in rest:
        word, value = given.upper(), next(rest, None)
        if value is None:
            raise CommandError(errors.SYNTAX)
        if word == b"COUNT":
            count = integer(value)
            if count < 1:
                raise CommandError(errors.SYNTAX)
        elif word == b"MATCH":
            pattern = value
        elif word == b"TYPE":
            wanted_type = value.lower()
        else:
            raise CommandError(errors.SYNTAX)
    return Options(count, pattern, wanted_type)


class Page(NamedTuple):
    """What a part of a scan has found, and where the scan goes on: `slot` is SLOTS at the end."""

    slot: int
    place: int
    """In the snapshot of a large slot, else 0."""
    keys: list[bytes]
    looked_at: int


def _scan(db: Database, slot: int, place: int, stop: int, options: Options) -> Page:
    """Looks at the keys of slots from `slot` on, `options.least` of them or some more, before slot `stop`."""
    shard = db.shard
    wanted = _filter(db, options)
    found: list[bytes] = []
    looked_at = 0
    while looked_at < options.least:
        if not place:
            slot = db.occupied_slot(slot, stop)
        if slot == stop:
            break
        keys = db.keys_of_slot(slot)
        if place or len(keys) > max(limits.SCAN_SLOT_KEYS, options.least):
            of = (db.index, slot)
            page, place = shard.snapshots.page(of, place, options.least, lambda: list(keys), shard.now_s)  # noqa: B023
        else:
            page = list(keys)
        found += [key for key in page if wanted(key, slot)]
        looked_at += len(page)
        if not place:
            slot += 1
    return Page(slot, place, found, looked_at)


def _filter(db: Database, options: Options) -> Callable[[bytes, int], bool]:
    """Tells of a key, given its slot, whether it is there and wanted."""
    matches = glob.compile(options.pattern)
    wanted_type = options.type_name.decode("latin-1")
    peek = db.peek
    if wanted_type:
        return lambda key, slot: (
            matches(key) and (value := peek(key, slot)) is not None and type_name(value) == wanted_type
        )
    return lambda key, slot: matches(key) and peek(key, slot) is not None


def _reply(slot: int, place: int, keys: list[bytes]) -> list[Any]:
    return [b"%d" % (0 if slot == SLOTS else place << SLOT_BITS | slot), keys]


def _no_locks(db: int, args: Sequence[Any]) -> tuple[list[LockKey], bool]:
    """A scan promises nothing about a moment, so it need not wait for anything."""
    return [], False


def _plan_scan(call: Call) -> Plan:
    cursor, options = read_cursor(call.args[1]), _read_options(call.args[2:])
    slot, place = cursor & SLOT_MASK, cursor >> SLOT_BITS
    keys: list[bytes] = []
    missing = options.least
    while slot < SLOTS and missing > 0:
        shard, stop = call.run_of(slot, limits.SCAN_WINDOW_SLOTS)
        values = yield Read({shard: [[b"SCANSLOTS", slot, place, stop, missing, *options[1:]]]})
        check(values)
        [(slot, place, found, looked_at)] = values[shard]
        keys += found
        missing -= looked_at
    return _reply(slot, place, keys)


@command(
    "SCANSLOTS slot place stop count pattern type",
    group="generic",
    since="0.1.0",
    flags=READONLY,
    internal=True,
)
def scan_slots(db: Database, args: list[Any]) -> list[Any]:
    """Does one shard's part of a SCAN."""
    slot, place, stop, *options = args[1:]
    return list(_scan(db, slot, place, stop, Options(*options)))


@command(
    "SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]",
    group="generic",
    since="2.8.0",
    flags=READONLY,
    complexity="O(1) for every call. O(N) for a complete iteration, including enough command calls for "
    "the cursor to return back to 0. N is the number of elements inside the collection.",
    tips=("nondeterministic_output", "request_policy:special", "response_policy:special"),
    history=(("6.0.0", "Added the `TYPE` subcommand."),),
    plan=_plan_scan,
    locks=_no_locks,
)
def scan(db: Database, args: list[Any]) -> Any:
    """Iterates over the key names in the database."""
    cursor, options = read_cursor(args[1]), _read_options(args[2:])
    page = _scan(db, cursor & SLOT_MASK, cursor >> SLOT_BITS, SLOTS, options)
    return _reply(page.slot, page.place, page.keys)


# -- RANDOMKEY --------------------------------------------------------------------------------


def _plan_randomkey(call: Call) -> Plan:
    values = yield Read({shard: [[b"RANDOMKEYOF"]] for shard in range(call.shards)})
    check(values)
    samples = [answers[0] for answers in values.values()]
    weights = [max(1, size) if key is not None else 0 for size, key in samples]
    if not any(weights):
        return None
    [(_, chosen)] = random.choices(samples, weights)  # noqa: S311
    return chosen


@command("RANDOMKEYOF", group="generic", since="0.1.0", flags=READONLY, internal=True)
def random_key_of(db: Database, args: list[Any]) -> list[Any]:
    """Returns how many keys there are, as of a moment ago, and one of them."""
    return [db.sizes().keys, db.random_key()]


@command(
    "RANDOMKEY",
    group="generic",
    since="1.0.0",
    flags=READONLY,
    tips=("request_policy:all_shards", "response_policy:special", "nondeterministic_output"),
    plan=_plan_randomkey,
    locks=_no_locks,
)
def randomkey(db: Database, args: list[Any]) -> Any:
    """Returns a random key name from the database."""
    return db.random_key()
