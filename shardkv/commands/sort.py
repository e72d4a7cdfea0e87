"""SORT: the elements of a list, set or sorted set, in their own order or in that of what other keys hold.

The patterns of BY and GET name keys on any shard. `_results` says which strings it has to know, and does not
know where they are: the handler looks them up in the database, the plan has each shard look up its own.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from shardkv import errors
from shardkv.command import DENYOOM, MOVABLEKEYS, READONLY, WRITE, Key, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import double, integer
from shardkv.plan import Call, Hop, Plan, Read, Values, Write, check
from shardkv.structures.hash import Hash
from shardkv.structures.list import List
from shardkv.structures.set import Set
from shardkv.structures.zset import SKIPLIST, SortedSet
from shardkv.values import unpacked

Column = tuple[bytes | None, list[bytes]]
"""Keys of strings to be looked up; or, with a field, of hashes in which it is looked up."""

Texts = list[bytes | None]
"""What was found in a column: None where there is no such string."""

# -- the request --------------------------------------------------------------------------------


class Pattern(NamedTuple):
    """What BY or GET looks at: the key that has the element between `before` and `after`; with a `field`,
    that field of the hash there."""

    before: bytes
    after: bytes
    field: bytes | None

    @classmethod
    def of(cls, text: bytes) -> Pattern | None:
        """What a text such as `weight_*` or `user_*->name` means; None if it has no place for the element."""
        before, star, after = text.partition(b"*")
        if not star:
            return None
        key_end, _, field = after.partition(b"->")
        return cls(before, key_end, field) if field else cls(before, after, None)

    def column(self, elements: Iterable[bytes]) -> Column:
        before, after = self.before, self.after
        return self.field, [before + element + after for element in elements]


_ELEMENT = b"#"
"""GET of the element itself."""


@dataclass(slots=True)
class Sorting:
    """What a client asks for."""

    by: Pattern | None = None
    """What to sort by; None for the elements themselves."""
    unsorted: bool = False
    descending: bool = False
    alpha: bool = False
    """Whether to compare bytes, and not numbers."""
    offset: int = 0
    most: int = -1
    """How many elements to return, from `offset` on; all if negative."""
    gets: list[bytes] = field(default_factory=list)
    store: bytes | None = None

    def window(self, length: int) -> slice:
        """Which of so many elements in order are to be returned."""
        start = min(max(self.offset, 0), length)
        return slice(start, length if self.most < 0 else min(start + self.most, length))


_VALUES = {b"BY": 1, b"GET": 1, b"STORE": 1, b"LIMIT": 2}
"""The words that follow an option."""

_WORDS = frozenset({b"ASC", b"DESC", b"ALPHA", *_VALUES})
"""All options."""


def _options(args: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """The options of a request, in upper case, with their positions."""
    position = 2
    while position < len(args):
        word = args[position].upper()
        yield word, position
        position += 1 + _VALUES.get(word, 0)


def _read_request(args: Sequence[bytes], *, may_store: bool = True) -> Sorting:
    """Raises CommandError."""
    asked = Sorting()
    for word, position in _options(args):
        given = args[position + 1 : position + 1 + _VALUES.get(word, 0)]
        if len(given) < _VALUES.get(word, 0):
            raise CommandError(errors.SYNTAX)
        match word:
            case b"ASC" | b"DESC":
                asked.descending = word == b"DESC"
            case b"ALPHA":
                asked.alpha = True
            case b"LIMIT":
                asked.offset, asked.most = map(integer, given)
            case b"BY":
                asked.by = Pattern.of(given[0])
                asked.unsorted = asked.unsorted or asked.by is None
            case b"GET":
                asked.gets.append(given[0])
            case b"STORE" if may_store:
                asked.store = given[0]
            case _:
                raise CommandError(errors.SYNTAX)
    if asked.unsorted:
        asked.by = None
    return asked


def _find_store(args: Sequence[bytes]) -> Sequence[int]:
    """The position of the key that the result goes to: of the last one, if several are given."""
    found = [at + 1 for word, at in _options(args) if word == b"STORE" and at + 1 < len(args)]
    return found[-1:]


def _spreads(args: Sequence[bytes]) -> bool:
    """Whether a request names keys by patterns."""
    return any(
        word in (b"BY", b"GET") and at + 1 < len(args) and b"*" in args[at + 1] for word, at in _options(args)
    )


def _looks_beyond(args: Sequence[bytes]) -> str | None:
    """The option that names keys by a pattern, as Redis takes them; None if there is none, or a mistake
    before it."""
    for word, at in _options(args):
        if at + _VALUES.get(word, 0) >= len(args) or word not in _WORDS:
            return None
        if word == b"GET" or (word == b"BY" and b"*" in args[at + 1]):
            return word.decode()
    return None


# -- the order ----------------------------------------------------------------------------------


def _elements(db: Database, key: bytes, asked: Sorting) -> list[bytes]:
    """The elements of a key, sorted and cut as far as that needs no other keys. Raises CommandError."""
    value = db.read(key)
    if value is None:
        return []
    found = unpacked(value)
    if not isinstance(found, List | Set | SortedSet):
        raise CommandError(errors.WRONG_TYPE)
    if isinstance(found, SortedSet):
        # Redis gives a sorted set this encoding before it sorts it.
        found.form = SKIPLIST
    if asked.by is not None:
        return list(found)
    if not asked.unsorted:
        return _in_order(list(found), None, asked)
    if isinstance(found, Set):
        # What is stored must not depend on the order in which a set happens to be kept.
        elements = list(found) if asked.store is None else sorted(found, reverse=asked.descending)
        return elements[asked.window(len(elements))]
    return _as_they_stand(found, asked)


def _as_they_stand(found: List | SortedSet, asked: Sorting) -> list[bytes]:
    """The elements that are asked for, in the order that the collection has itself."""
    length = len(found)
    window = asked.window(length)
    start, stop = window.start, window.stop
    if asked.descending:
        start, stop = length - stop, length - start
    elements = (
        found.between(start, stop) if isinstance(found, List) else found.ranking.between(start, stop)[0]
    )
    return elements[::-1] if asked.descending else elements


def _in_order(elements: list[bytes], weights: Texts | None, asked: Sorting) -> list[bytes]:
    """Sorts elements by their weights, or by themselves, and cuts out what is asked for. Raises CommandError
    if something is no number that has to be one."""
    descending = asked.descending
    keys: dict[bytes, Any]
    if not asked.alpha:
        keys = dict(zip(elements, _numbers(elements if weights is None else weights), strict=True))
        if len(set(keys.values())) < len(keys):
            # Elements with the same number are in the order of their bytes.
            elements = sorted(elements, reverse=descending)
        ordered = sorted(elements, key=keys.__getitem__, reverse=descending)
    elif weights is not None:
        # No weight comes before the empty one.
        prefixed = (b"" if weight is None else b"=" + weight for weight in weights)
        keys = dict(zip(elements, prefixed, strict=True))
        ordered = sorted(elements, key=keys.__getitem__, reverse=descending)
    else:
        ordered = sorted(elements, reverse=descending)
    return ordered[asked.window(len(ordered))]


_PLAIN_CHARACTERS = b"0123456789.-"
_PLAIN_BYTES = 300
"""Below this length, what is spelled in these characters alone is neither too large nor too small for a
double, and Python reads it as C does."""

_SPACES = b" \t\n\v\f\r"


def _numbers(texts: Sequence[bytes | None]) -> list[float]:
    """Texts as numbers: nothing is 0. Raises CommandError."""
    filled = [text or b"0" for text in texts]
    if not b"".join(filled).translate(None, _PLAIN_CHARACTERS):
        try:
            if max(map(len, filled), default=0) < _PLAIN_BYTES:
                return list(map(float, filled))
        except ValueError:
            pass
    return list(map(_number, filled))


def _number(text: bytes) -> float:
    # Redis has strtod read it, which skips spaces in front and sees the end in a zero byte.
    text = text.partition(b"\0")[0]
    return double(text.lstrip(_SPACES), errors.NOT_SORTABLE) if text else 0.0


# -- what other keys hold -------------------------------------------------------------------------


def _results(asked: Sorting, elements: list[bytes]) -> Generator[list[Column], list[Texts], Texts]:
    """What SORT returns or stores, of what `_elements` gave. Yields columns to be looked up and is sent what
    was found. Raises CommandError."""
    if asked.by is not None:
        [weights] = yield [asked.by.column(elements)]
        elements = _in_order(elements, weights, asked)
    if not asked.gets:
        return list(elements)
    patterns = list(map(Pattern.of, asked.gets))
    found = iter((yield [pattern.column(elements) for pattern in patterns if pattern is not None]))
    columns: list[Sequence[bytes | None]] = []
    for get, pattern in zip(asked.gets, patterns, strict=True):
        if pattern is not None:
            columns.append(next(found))
        else:
            columns.append(elements if get == _ELEMENT else [None] * len(elements))
    return list(chain.from_iterable(zip(*columns, strict=True)))


def _look_up(db: Database, columns: list[Column]) -> list[Texts]:
    return [[_text(db, key, field) for key in keys] for field, keys in columns]


def _text(db: Database, key: bytes, field: bytes | None) -> bytes | None:
    """A string, or a field of a hash. A key that holds anything else is taken for missing."""
    try:
        if field is None:
            text = db.read_string(key)
            return None if text is None else bytes(text)
        found = db.read_as(Hash, key)
    except CommandError:
        return None
    return None if found is None else found.get(field, db.shard.now_ms)


def _look_up_everywhere(call: Call, columns: list[Column]) -> Generator[Hop, Values, list[Texts]]:
    """The same for keys on any shard, each of which is asked once."""
    owners = [[call.shard_of(key) for key in keys] for _, keys in columns]
    shares: dict[int, list[Column]] = {
        shard: [(field, []) for field, _ in columns] for shard in set().union(*owners)
    }
    for number, (_, keys) in enumerate(columns):
        for key, shard in zip(keys, owners[number], strict=True):
            shares[shard][number][1].append(key)
    if not shares:
        return [[] for _ in columns]
    locks = {shard: [key for _, keys in share for key in keys] for shard, share in shares.items()}
    values = yield Read({shard: [[b"SORTLOOKUP", share]] for shard, share in shares.items()}, locks)
    check(values)
    rest = {shard: list(map(iter, answers[0])) for shard, answers in values.items()}
    return [[next(rest[shard][number]) for shard in owned] for number, owned in enumerate(owners)]


# -- the commands -------------------------------------------------------------------------------


def _sort(db: Database, key: bytes, asked: Sorting) -> Texts:
    steps = _results(asked, _elements(db, key, asked))
    try:
        columns = next(steps)
        while True:
            columns = steps.send(_look_up(db, columns))
    except StopIteration as stop:
        found: Texts = stop.value
        return found


def _plan(call: Call) -> Plan:
    asked = _read_request(call.args, may_store=call.command.writes)
    here = call.shard_of(call.args[1])
    values = yield Read({here: [[b"SORTSOURCE", *call.args[1:]]]})
    check(values)
    found = yield from _plan_results(call, _results(asked, values[here][0]))
    if asked.store is None:
        return found
    check((yield Write({call.shard_of(asked.store): [[b"SORTSTORE", asked.store, found]]})))
    return len(found)


def _plan_results(
    call: Call, steps: Generator[list[Column], list[Texts], Texts]
) -> Generator[Hop, Values, Texts]:
    try:
        columns = next(steps)
        while True:
            columns = steps.send((yield from _look_up_everywhere(call, columns)))
    except StopIteration as stop:
        found: Texts = stop.value
        return found


@command(
    "SORTSOURCE key [option ...]",
    group="generic",
    since="0.1.0",
    flags=READONLY,
    keys=(Key(1),),
    internal=True,
)
def sort_source(db: Database, args: list[Any]) -> list[bytes]:
    """Takes a SORT's arguments; returns the elements of its key, sorted and cut as far as that needs no other
    keys."""
    return _elements(db, args[1], _read_request(args))


@command("SORTLOOKUP columns", group="generic", since="0.1.0", flags=READONLY, internal=True)
def sort_lookup(db: Database, args: list[Any]) -> list[Texts]:
    """Returns what was found in each column."""
    return _look_up(db, args[1])


@command("SORTSTORE destination texts", group="generic", since="0.1.0", flags=WRITE, internal=True)
def sort_store(db: Database, args: list[Any]) -> int:
    """Makes a list of what SORT has found, in place of anything the key holds. What is missing becomes an
    empty string. Returns the length."""
    destination, texts = args[1:]
    shard = db.shard
    if db.edit(destination) is not None:
        shard.propagate(db, b"DEL", destination)
        if not texts:
            db.remove(destination)
            db.changed(destination, "del")
    if texts:
        made = List.of([text or b"" for text in texts], shard.config)
        db.put(destination, made, "sortstore")
        for request in made.commands(destination):
            shard.propagate(db, *request)
    return len(texts)


_PATTERN_KEYS = Key(
    None,
    notes="For the optional BY/GET keyword. It is marked 'unknown' because the key names derive "
    "from the content of the key we sort",
)


@command(
    "SORT key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] "
    "[ALPHA] [STORE destination]",
    group="generic",
    since="1.0.0",
    flags=WRITE | DENYOOM | MOVABLEKEYS,
    keys=(
        Key(1),
        _PATTERN_KEYS,
        Key(
            None,
            access="OW UPDATE",
            find=_find_store,
            notes="For the optional STORE keyword. It is marked 'unknown' because the keyword can appear "
            "anywhere in the argument array",
        ),
    ),
    complexity="O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the "
    "number of returned elements. When the elements are not sorted, complexity is O(N).",
    categories=("dangerous", "list", "set", "sortedset"),
    plan=_plan,
    spreads=_spreads,
    looks_beyond=_looks_beyond,
)
def sort(db: Database, args: list[Any]) -> Any:
    """Sorts the elements in a list, a set, or a sorted set, optionally storing the result."""
    asked = _read_request(args)
    found = _sort(db, args[1], asked)
    return found if asked.store is None else sort_store(db, [0, asked.store, found])


@command(
    "SORT_RO key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]",
    group="generic",
    since="7.0.0",
    flags=READONLY | MOVABLEKEYS,
    keys=(Key(1), _PATTERN_KEYS),
    complexity="O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the "
    "number of returned elements. When the elements are not sorted, complexity is O(N).",
    categories=("dangerous", "list", "set", "sortedset"),
    plan=_plan,
    spreads=_spreads,
    looks_beyond=_looks_beyond,
)
def sort_ro(db: Database, args: list[Any]) -> Any:
    """Returns the sorted elements of a list, a set, or a sorted set."""
    return _sort(db, args[1], _read_request(args, may_store=False))
