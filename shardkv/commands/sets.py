"""Sets: the commands of one set, and SMOVE."""

from __future__ import annotations

from itertools import filterfalse
from random import choices
from typing import Any

from shardkv import errors, limits
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.commands.collection_scan import read_scan_options
from shardkv.commands.scan import read_cursor
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import INT64_MIN, integer
from shardkv.plan import Call, Plan, Read, Write, check
from shardkv.resp.replies import Unordered
from shardkv.structures.set import HASHTABLE, Set, requests

_UNKNOWN_SLOT = -1

# -- members ----------------------------------------------------------------------------------


@command(
    "SADD key member [member ...]",
    group="set",
    since="1.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW INSERT"),),
    complexity="O(1) for each element added, so O(N) to add N elements when the command is called with "
    "multiple arguments.",
    history=(("2.4.0", "Accepts multiple `member` arguments."),),
)
def sadd(db: Database, args: list[Any]) -> Any:
    """Adds one or more members to a set. Creates the key if it doesn't exist."""
    found = db.edit_as(Set, args[1], args[0])
    if found is None:
        made = Set.of(args[2:], db.shard.config)
        db.put(args[1], made, "sadd", args[0])
        return made.count
    added = found.add(args[2:], db.shard.config)
    if added:
        db.changed(args[1], "sadd")
    return added


@command(
    "SREM key member [member ...]",
    group="set",
    since="1.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(N) where N is the number of members to be removed.",
    history=(("2.4.0", "Accepts multiple `member` arguments."),),
)
def srem(db: Database, args: list[Any]) -> Any:
    """Removes one or more members from a set. Deletes the set if the last member was removed."""
    found = db.edit_as(Set, args[1], args[0])
    return 0 if found is None else _discard(db, args[1], found, args[2:], args[0])


def _discard(db: Database, key: bytes, found: Set, members: list[bytes], slot: int = _UNKNOWN_SLOT) -> int:
    removed = found.discard(members)
    if removed:
        db.changed(key, "srem")
        _remove_if_empty(db, key, found, slot)
    return removed


def _remove_if_empty(db: Database, key: bytes, found: Set, slot: int) -> None:
    if not found.count:
        db.remove(key, slot)
        db.changed(key, "del")


def _plan_smove(call: Call) -> Plan:
    _, source, destination, member = call.args
    here, there = call.shard_of(source), call.shard_of(destination)
    values = yield Read(
        {here: [[b"SISMEMBER", source, member], [b"EXISTS", source]], there: [[b"SCARD", destination]]}
    )
    is_member, exists = values[here]
    if not exists:
        return 0
    check(values)
    if not is_member:
        return 0
    check((yield Write({here: [[b"SREM", source, member]], there: [[b"SADD", destination, member]]})))
    return 1


@command(
    "SMOVE source destination member",
    group="set",
    since="1.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS DELETE"), Key(2, access="RW INSERT")),
    plan=_plan_smove,
)
def smove(db: Database, args: list[Any]) -> Any:
    """Moves a member from one set to another."""
    source, destination, member = args[1:]
    origin = db.edit_as(Set, source)
    if origin is None:
        return 0
    target = db.edit_as(Set, destination)
    if member not in origin:
        return 0
    if origin is not target:
        _discard(db, source, origin, [member])
        sadd(db, [_UNKNOWN_SLOT, destination, member])
    return 1


# -- looking ----------------------------------------------------------------------------------


@command(
    "SCARD key",
    group="set",
    since="1.0.0",
    flags=READONLY | FAST,
    keys=(Key(1, access="RO"),),
)
def scard(db: Database, args: list[Any]) -> Any:
    """Returns the number of members in a set."""
    found = db.read_as(Set, args[1], args[0])
    return 0 if found is None else found.count


@command(
    "SISMEMBER key member",
    group="set",
    since="1.0.0",
    flags=READONLY | FAST,
    keys=(Key(1, access="RO"),),
)
def sismember(db: Database, args: list[Any]) -> Any:
    """Determines whether a member belongs to a set."""
    found = db.read_as(Set, args[1], args[0])
    return 1 if found is not None and args[2] in found else 0


@command(
    "SMISMEMBER key member [member ...]",
    group="set",
    since="6.2.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(N) where N is the number of elements being checked for membership",
)
def smismember(db: Database, args: list[Any]) -> Any:
    """Determines whether multiple members belong to a set."""
    found = db.read_as(Set, args[1], args[0]) or ()
    return [1 if member in found else 0 for member in args[2:]]


@command(
    "SMEMBERS key",
    group="set",
    since="1.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) where N is the set cardinality.",
    tips=("nondeterministic_output_order",),
)
def smembers(db: Database, args: list[Any]) -> Any:
    """Returns all members of a set."""
    return Unordered(db.read_as(Set, args[1], args[0]) or ())


@command(
    "SSCAN key cursor [MATCH pattern] [COUNT count]",
    group="set",
    since="2.8.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(1) for every call. O(N) for a complete iteration, including enough command calls for "
    "the cursor to return back to 0. N is the number of elements inside the collection.",
    tips=("nondeterministic_output",),
)
def sscan(db: Database, args: list[Any]) -> Any:
    """Iterates over members of a set."""
    place = read_cursor(args[2])
    found = db.read_as(Set, args[1], args[0])
    if found is None:
        return [b"0", []]
    options = read_scan_options(args[3:])
    # As Redis does: whatever is no hash table is returned at once.
    least = options.least if found.form is HASHTABLE else found.count + 1
    pieces, place = found.scan(place, least)
    return [b"%d" % place, [member for piece in pieces for member in piece if options.matches(member)]]


# -- at random --------------------------------------------------------------------------------

_FEW_LEFT = 5
"""When SPOP takes at least so many times what it leaves, Redis makes a new set of what is left, perhaps in a
smaller encoding (SPOP_MOVE_STRATEGY_MUL)."""


@command(
    "SPOP key [count]",
    group="set",
    since="1.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS DELETE"),),
    complexity="Without the count argument O(1), otherwise O(N) where N is the value of the passed count.",
    tips=("nondeterministic_output",),
    history=(("3.2.0", "Added the `count` argument."),),
)
def spop(db: Database, args: list[Any]) -> Any:
    """Returns one or more random members from a set after removing them. Deletes the set if the last
    member was popped."""
    if len(args) > 2:
        return _pop_several(db, args)
    slot, key = args
    found = db.edit_as(Set, key, slot)
    if found is None:
        return None
    member = found.pop()
    db.shard.propagate(db, b"SREM", key, member)
    db.changed(key, "spop")
    _remove_if_empty(db, key, found, slot)
    return member


def _pop_several(db: Database, args: list[Any]) -> Unordered:
    if len(args) > 3:
        raise CommandError(errors.SYNTAX)
    slot, key = args[:2]
    count = integer(args[2], errors.NOT_A_COUNT)
    if count < 0:
        raise CommandError(errors.NOT_A_COUNT)
    found = db.edit_as(Set, key, slot)
    if found is None or count == 0:
        return Unordered()
    if count >= found.count:
        return _pop_all(db, key, found, slot)
    popped = _pop_some(db, key, found, count, slot)
    for request in requests(b"SREM", key, popped):
        db.shard.propagate(db, *request)
    return Unordered(popped)


def _pop_all(db: Database, key: bytes, found: Set, slot: int) -> Unordered:
    popped = Unordered(found)
    db.remove(key, slot)
    db.changed(key, "spop")
    db.changed(key, "del")
    db.shard.propagate(db, b"DEL", key)
    return popped


def _pop_some(db: Database, key: bytes, found: Set, count: int, slot: int) -> list[bytes]:
    """Removes fewer members than there are."""
    left = found.count - count
    if left * _FEW_LEFT > count:
        popped = [found.pop() for _ in range(count)]
        db.changed(key, "spop")
        return popped
    is_kept = set(found.choose(left)).__contains__
    popped = list(filterfalse(is_kept, found))
    rest = found.reduced_to(list(filter(is_kept, found)), db.shard.config)
    db.put(key, rest, "spop", slot, keep_deadline=True)
    return popped


@command(
    "SRANDMEMBER key [count]",
    group="set",
    since="1.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="Without the count argument O(1), otherwise O(N) where N is the absolute value of the "
    "passed count.",
    tips=("nondeterministic_output",),
    history=(("2.6.0", "Added the optional `count` argument."),),
)
def srandmember(db: Database, args: list[Any]) -> Any:
    """Gets one or multiple random members from a set."""
    if len(args) > 2:
        return _several_at_random(db, args)
    found = db.read_as(Set, args[1], args[0])
    return None if found is None else found.draw()


def _several_at_random(db: Database, args: list[Any]) -> list[bytes]:
    if len(args) > 3:
        raise CommandError(errors.SYNTAX)
    count = integer(args[2])
    if count == INT64_MIN:
        raise CommandError(errors.NOT_A_LONG)
    if count < -limits.REPEATED_MEMBERS:
        raise CommandError(errors.OUT_OF_RANGE)
    found = db.read_as(Set, args[1], args[0])
    if found is None:
        return []
    if count >= found.count:
        return list(found)
    return found.choose(count) if count >= 0 else _drawn(found, -count)


def _drawn(found: Set, count: int) -> list[bytes]:
    """So many members at random, any of them perhaps several times."""
    if count > found.count:
        return choices(list(found), k=count)  # noqa: S311
    return [found.draw() for _ in range(count)]
