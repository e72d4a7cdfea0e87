"""Lists."""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

from shardkv import errors
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import INT64_MIN, integer
from shardkv.resp.replies import NULL_ARRAY, OK
from shardkv.structures.list import List

# -- the ends ---------------------------------------------------------------------------------


def push_left(db: Database, key: bytes, elements: list[bytes], slot: int = -1) -> int:
    """Adds elements in front of a list, which is made if there is none; returns its length."""
    found = db.edit_as(List, key, slot)
    if found is None:
        found = List()
        length = found.push_left(elements, db.shard.config)
        db.put(key, found, "lpush", slot)
        return length
    length = found.push_left(elements, db.shard.config)
    db.changed(key, "lpush")
    return length


def push_right(db: Database, key: bytes, elements: list[bytes], slot: int = -1) -> int:
    """Adds elements behind a list, which is made if there is none; returns its length."""
    found = db.edit_as(List, key, slot)
    if found is None:
        found = List()
        length = found.push_right(elements, db.shard.config)
        db.put(key, found, "rpush", slot)
        return length
    length = found.push_right(elements, db.shard.config)
    db.changed(key, "rpush")
    return length


@command(
    "LPUSH key element [element ...]",
    group="list",
    since="1.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW INSERT"),),
    complexity="O(1) for each element added, so O(N) to add N elements when the command is called with "
    "multiple arguments.",
    history=(("2.4.0", "Accepts multiple `element` arguments."),),
)
def lpush(db: Database, args: list[Any]) -> Any:
    """Prepends one or more elements to a list. Creates the key if it doesn't exist."""
    return push_left(db, args[1], args[2:], args[0])


@command(
    "RPUSH key element [element ...]",
    group="list",
    since="1.0.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW INSERT"),),
    complexity="O(1) for each element added, so O(N) to add N elements when the command is called with "
    "multiple arguments.",
    history=(("2.4.0", "Accepts multiple `element` arguments."),),
)
def rpush(db: Database, args: list[Any]) -> Any:
    """Appends one or more elements to a list. Creates the key if it doesn't exist."""
    return push_right(db, args[1], args[2:], args[0])


@command(
    "LPUSHX key element [element ...]",
    group="list",
    since="2.2.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW INSERT"),),
    complexity="O(1) for each element added, so O(N) to add N elements when the command is called with "
    "multiple arguments.",
    history=(("4.0.0", "Accepts multiple `element` arguments."),),
)
def lpushx(db: Database, args: list[Any]) -> Any:
    """Prepends one or more elements to a list only when the list exists."""
    slot, key = args[0], args[1]
    return 0 if db.edit_as(List, key, slot) is None else push_left(db, key, args[2:], slot)


@command(
    "RPUSHX key element [element ...]",
    group="list",
    since="2.2.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW INSERT"),),
    complexity="O(1) for each element added, so O(N) to add N elements when the command is called with "
    "multiple arguments.",
    history=(("4.0.0", "Accepts multiple `element` arguments."),),
)
def rpushx(db: Database, args: list[Any]) -> Any:
    """Appends one or more elements to a list only when the list exists."""
    slot, key = args[0], args[1]
    return 0 if db.edit_as(List, key, slot) is None else push_right(db, key, args[2:], slot)


@command(
    "LPOP key [count]",
    group="list",
    since="1.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS DELETE"),),
    complexity="O(N) where N is the number of elements returned",
    history=(("6.2.0", "Added the `count` argument."),),
)
def lpop(db: Database, args: list[Any]) -> Any:
    """Returns and removes one or more elements from the beginning of a list. Deletes the list if the last
    element was popped."""
    if len(args) > 2:
        return _pop_counted(db, args, "lpop")
    slot, key = args
    found = db.edit_as(List, key, slot)
    if found is None:
        return None
    element = found.pop_left()
    popped(db, key, found, "lpop", slot)
    return element


@command(
    "RPOP key [count]",
    group="list",
    since="1.0.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW ACCESS DELETE"),),
    complexity="O(N) where N is the number of elements returned",
    history=(("6.2.0", "Added the `count` argument."),),
)
def rpop(db: Database, args: list[Any]) -> Any:
    """Returns and removes one or more elements from the end of a list. Deletes the list if the last
    element was popped."""
    if len(args) > 2:
        return _pop_counted(db, args, "rpop")
    slot, key = args
    found = db.edit_as(List, key, slot)
    if found is None:
        return None
    element = found.pop_right()
    popped(db, key, found, "rpop", slot)
    return element


def _pop_counted(db: Database, args: list[Any], name: str) -> Any:
    if len(args) > 3:
        raise CommandError(errors.wrong_arity(name))
    slot, key, _ = args
    count = _not_negative(args[2], errors.NOT_A_COUNT)
    found = db.edit_as(List, key, slot)
    if found is None:
        return NULL_ARRAY
    return pop_many(db, key, found, count, slot, left=name == "lpop") if count else []


def pop_many(db: Database, key: bytes, found: List, count: int, slot: int = -1, *, left: bool) -> list[bytes]:
    """Takes so many elements out at an end of a list, or all, the outermost first."""
    elements = found.pop_many_left(count) if left else found.pop_many_right(count)
    popped(db, key, found, "lpop" if left else "rpop", slot)
    return elements


def popped(db: Database, key: bytes, found: List, event: str, slot: int = -1) -> None:
    """Says that elements were taken out of a list. The key goes with the last one."""
    if found.count:
        db.changed(key, event)
    else:
        db.remove(key, slot)
        db.changed(key, event)
        db.changed(key, "del")


# -- positions --------------------------------------------------------------------------------


@command(
    "LLEN key",
    group="list",
    since="1.0.0",
    flags=READONLY | FAST,
    keys=(Key(1, access="RO"),),
)
def llen(db: Database, args: list[Any]) -> Any:
    """Returns the length of a list."""
    found = db.read_as(List, args[1], args[0])
    return 0 if found is None else found.count


@command(
    "LINDEX key index",
    group="list",
    since="1.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) where N is the number of elements to traverse to get to the element at index. This "
    "makes asking for the first or the last element of the list O(1).",
)
def lindex(db: Database, args: list[Any]) -> Any:
    """Returns an element from a list by its index."""
    found = db.read_as(List, args[1], args[0])
    return None if found is None else found.get(integer(args[2]))


@command(
    "LSET key index element",
    group="list",
    since="1.0.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(N) where N is the length of the list. Setting either the first or the last element of "
    "the list is O(1).",
)
def lset(db: Database, args: list[Any]) -> Any:
    """Sets the value of an element in a list by its index."""
    slot, key, index, element = args
    found = db.edit_as(List, key, slot)
    if found is None:
        raise CommandError(errors.NO_SUCH_KEY)
    if not found.set(integer(index), element, db.shard.config):
        raise CommandError(errors.INDEX_OUT_OF_RANGE)
    db.changed(key, "lset")
    return OK


@command(
    "LRANGE key start stop",
    group="list",
    since="1.0.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(S+N) where S is the distance of start offset from HEAD for small lists, from nearest "
    "end (HEAD or TAIL) for large lists; and N is the number of elements in the specified "
    "range.",
)
def lrange(db: Database, args: list[Any]) -> Any:
    """Returns a range of elements from a list."""
    start, stop = integer(args[2]), integer(args[3])
    found = db.read_as(List, args[1], args[0])
    if found is None:
        return []
    return found.between(*_span(start, stop, found.count))


@command(
    "LTRIM key start stop",
    group="list",
    since="1.0.0",
    flags=WRITE,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(N) where N is the number of elements to be removed by the operation.",
)
def ltrim(db: Database, args: list[Any]) -> Any:
    """Removes elements from both ends of a list. Deletes the list if all elements were trimmed."""
    slot, key = args[0], args[1]
    start, stop = integer(args[2]), integer(args[3])
    found = db.edit_as(List, key, slot)
    if found is None:
        return OK
    start, stop = _span(start, stop, found.count)
    if start >= stop:
        db.remove(key, slot)
        db.changed(key, "ltrim")
        db.changed(key, "del")
    elif start > 0 or stop < found.count:
        found.trim(start, stop)
        db.changed(key, "ltrim")
    elif db.shard.observers:
        # Nothing goes, and nothing is logged, but Redis tells of it all the same.
        db.tell(key, "ltrim")
    return OK


def _span(start: int, stop: int, length: int) -> tuple[int, int]:
    """What a client means by the first and the last index of a range, as the first index and the one after
    the last."""
    if start < 0:
        start = max(0, start + length)
    if stop < 0:
        stop += length
    return start, min(stop + 1, length)


# -- content ----------------------------------------------------------------------------------


@command(
    "LINSERT key <BEFORE | AFTER> pivot element",
    group="list",
    since="2.2.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="RW INSERT"),),
    complexity="O(N) where N is the number of elements to traverse before seeing the value pivot. This "
    "means that inserting somewhere on the left end on the list (head) can be considered O(1)"
    " and inserting somewhere on the right end (tail) is O(N).",
)
def linsert(db: Database, args: list[Any]) -> Any:
    """Inserts an element before or after another element in a list."""
    slot, key, where, pivot, element = args
    where = where.upper()
    if where not in (b"BEFORE", b"AFTER"):
        raise CommandError(errors.SYNTAX)
    found = db.edit_as(List, key, slot)
    if found is None:
        return 0
    if not found.insert(pivot, element, db.shard.config, after=where == b"AFTER"):
        return -1
    db.changed(key, "linsert")
    return found.count


@command(
    "LREM key count element",
    group="list",
    since="1.0.0",
    flags=WRITE,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(N+M) where N is the length of the list and M is the number of elements removed.",
)
def lrem(db: Database, args: list[Any]) -> Any:
    """Removes elements from a list. Deletes the list if the last element was removed."""
    slot, key, _, element = args
    count = _long(args[2])
    found = db.edit_as(List, key, slot)
    if found is None:
        return 0
    removed = found.remove(element, abs(count) or found.count, backwards=count < 0)
    if removed:
        popped(db, key, found, "lrem", slot)
    return removed


class _Search(NamedTuple):
    """The options of LPOS."""

    rank: int
    matches: int | None
    """How many are wanted, 0 for all; None if only one is, and not in a list."""
    reach: int
    """How many elements are looked at; 0 for all."""


def _read_search(args: list[Any]) -> _Search:
    rank, matches, reach = 1, None, 0
    for number in range(3, len(args), 2):
        option = args[number].upper()
        if option not in (b"RANK", b"COUNT", b"MAXLEN") or number + 1 == len(args):
            raise CommandError(errors.SYNTAX)
        value = args[number + 1]
        if option == b"RANK":
            rank = _long(value)
            if rank == 0:
                raise CommandError(errors.ZERO_RANK)
        elif option == b"COUNT":
            matches = _not_negative(value, errors.NEGATIVE_COUNT)
        else:
            reach = _not_negative(value, errors.NEGATIVE_MAXLEN)
    return _Search(rank, matches, reach)


def _long(text: bytes) -> int:
    """A number whose negative is one as well."""
    number = integer(text)
    if number == INT64_MIN:
        raise CommandError(errors.NOT_A_LONG)
    return number


def _not_negative(text: bytes, error: bytes) -> int:
    number = integer(text, error)
    if number < 0:
        raise CommandError(error)
    return number


@command(
    "LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
    group="list",
    since="6.0.6",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) where N is the number of elements in the list, for the average case. When searching"
    " for elements near the head or the tail of the list, or when the MAXLEN option is "
    "provided, the command may run in constant time.",
)
def lpos(db: Database, args: list[Any]) -> Any:
    """Returns the index of matching elements in a list."""
    rank, matches, reach = _read_search(args)
    found = db.read_as(List, args[1], args[0])
    if found is None:
        return None if matches is None else []
    indexes = found.indexes(args[2], reach or found.count, backwards=rank < 0)
    ranked = islice(indexes, abs(rank) - 1, None)
    return next(ranked, None) if matches is None else list(islice(ranked, matches or None))
