"""Unions, intersections and differences of sorted sets and sets, which may lie on several shards.

Then each shard packs what its keys hold into one piece of memory each. What is to be stored is combined by
the shard of the destination, so that the proxy only hands the pieces on; what is to be replied, by the proxy.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any, NamedTuple, Protocol

import msgspec

from shardkv import errors, values
from shardkv.command import DENYOOM, MOVABLEKEYS, READONLY, WRITE, Key, command
from shardkv.commands.set_algebra import difference, intersection
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import double, integer
from shardkv.plan import Call, Hop, Plan, Read, Values, Write, check
from shardkv.resp.replies import Pairs
from shardkv.structures.ranking import in_order
from shardkv.structures.set import Set
from shardkv.structures.zset import SortedSet

# -- inputs -----------------------------------------------------------------------------------


class Scores(Protocol):
    """Members with scores, in any order."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __contains__(self, member: object, /) -> bool: ...
    def __getitem__(self, member: bytes, /) -> float: ...
    def items(self) -> Iterable[tuple[bytes, float]]: ...


class _EqualScores:
    """The members of a set, all of which have the score 1."""

    def __init__(self, members: Set) -> None:
        self._members = members

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._members)

    def __contains__(self, member: object) -> bool:
        return member in self._members

    def __getitem__(self, member: bytes) -> float:
        return 1.0

    def items(self) -> Iterable[tuple[bytes, float]]:
        return zip(self._members, repeat(1.0))


Inputs = Callable[[bytes], Scores]
"""Tells what a key holds. Raises CommandError if that is neither a sorted set nor a set."""


def _inputs(db: Database, given: dict[bytes, bytes] | None = None) -> Inputs:
    """What the keys of a database hold, and those of other shards, which are given in packed form."""

    def scores_of(key: bytes) -> Scores:
        if given and key in given:
            return unpack_scores(given[key])
        value = db.peek(key)
        if value is not None and values.type_name(value) == Set.type_name:
            members = db.read_as(Set, key)
            return {} if members is None else _EqualScores(members)
        return db.read_as(SortedSet, key) or {}

    return scores_of


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[bytes], bytes]).decode


def pack_scores(scores: Scores) -> bytes:
    """Members and their scores, 8 bytes each, in one piece."""
    return _encode((list(scores), array("d", [score for _, score in scores.items()]).tobytes()))


def unpack_scores(packed: bytes) -> dict[bytes, float]:
    """What `pack_scores` has packed."""
    members, scores = _decode(packed)
    return dict(zip(members, array("d", scores), strict=True))


@command(
    "ZINPUTS key [key ...]",
    group="sorted-set",
    since="0.1.0",
    flags=READONLY,
    keys=(Key(1, last=-1),),
    internal=True,
)
def zinputs(db: Database, args: list[Any]) -> list[bytes]:
    """Returns what each of the keys holds, packed."""
    return [pack_scores(scores) for scores in map(_inputs(db), args[1:])]


def _read_inputs(
    call: Call, keys: Sequence[bytes], *, without: int = -1
) -> Generator[Hop, Values, dict[bytes, bytes]]:
    """What the keys hold, packed; but not those of the shard `without`."""
    by_shard: dict[int, list[bytes]] = {}
    for key in dict.fromkeys(keys):
        by_shard.setdefault(call.shard_of(key), []).append(key)
    by_shard.pop(without, None)
    values = yield Read({shard: [[b"ZINPUTS", *own]] for shard, own in by_shard.items()})
    check(values)
    return {
        key: packed
        for shard, own in by_shard.items()
        for key, packed in zip(own, values[shard][0], strict=True)
    }


# -- combining --------------------------------------------------------------------------------

Aggregate = Callable[[float, float], float]


def _sum(one: float, other: float) -> float:
    total = one + other
    return total if total == total else 0.0


_AGGREGATES: dict[bytes, Aggregate] = {b"SUM": _sum, b"MIN": min, b"MAX": max}
"""What becomes of the scores that a member has in several inputs. If the other one is not a number, which a
weight can bring about, MIN and MAX keep the first."""


class Options(NamedTuple):
    """What follows the keys."""

    weights: Sequence[float]
    aggregate: Aggregate = _sum
    with_scores: bool = False


def _weighted(scores: Iterable[tuple[bytes, float]], weight: float) -> dict[bytes, float]:
    """Scores with their weight, 0 where that is not a number."""
    if weight == 1:
        return dict(scores)
    return {member: weighted if (weighted := score * weight) == weighted else 0.0 for member, score in scores}


def _by_size(inputs: Sequence[Scores], options: Options) -> list[tuple[Scores, float]]:
    """The inputs with their weights in the order in which Redis adds the scores up: the smallest first."""
    return sorted(zip(inputs, options.weights, strict=True), key=lambda pair: len(pair[0]))


def _union(inputs: Sequence[Scores], options: Options) -> dict[bytes, float]:
    (smallest, weight), *others = _by_size(inputs, options)
    total = _weighted(smallest.items(), weight)
    aggregate = options.aggregate
    for scores, weight in others:
        if not total:
            total = _weighted(scores.items(), weight)
            continue
        for member, score in _weighted(scores.items(), weight).items():
            before = total.get(member)
            total[member] = score if before is None else aggregate(before, score)
    return total


def _intersection(inputs: Sequence[Scores], options: Options) -> dict[bytes, float]:
    (smallest, weight), *others = _by_size(inputs, options)
    total = _weighted(smallest.items(), weight)
    aggregate = options.aggregate
    for scores, weight in others:
        total = {
            member: aggregate(score, scores[member] * weight)
            for member, score in total.items()
            if member in scores
        }
    return total


def _difference(inputs: Sequence[Scores], options: Options) -> dict[bytes, float]:
    first = inputs[0]
    return {member: first[member] for member in difference(inputs)}


class Algebra(NamedTuple):
    """A way to combine sorted sets."""

    combine: Callable[[Sequence[Scores], Options], dict[bytes, float]]
    weighs: bool = True
    """Whether the scores of several inputs go into the result."""


_ALGEBRAS = {
    "zunion": Algebra(_union),
    "zinter": Algebra(_intersection),
    "zdiff": Algebra(_difference, weighs=False),
}


def _read_keys(words: Sequence[bytes], name: str) -> Sequence[bytes]:
    """The keys, of which the first word is the number. Raises CommandError."""
    number = integer(words[0])
    if number < 1:
        raise CommandError(errors.no_input_keys(name))
    if number >= len(words):
        raise CommandError(errors.SYNTAX)
    return words[1 : 1 + number]


def _read_options(words: Sequence[bytes], count: int, *, weighs: bool, replies: bool) -> Options:
    """What follows the keys, of which there are so many. Raises CommandError."""
    options = Options([1.0] * count)
    at = 0
    while at < len(words):
        word, left = words[at].upper(), len(words) - at - 1
        if weighs and word == b"WEIGHTS" and left >= count:
            weights = [double(text, errors.WEIGHT_NOT_A_FLOAT) for text in words[at + 1 : at + 1 + count]]
            options = options._replace(weights=weights)
            at += count
        elif weighs and word == b"AGGREGATE" and left and words[at + 1].upper() in _AGGREGATES:
            options = options._replace(aggregate=_AGGREGATES[words[at + 1].upper()])
            at += 1
        elif replies and word == b"WITHSCORES":
            options = options._replace(with_scores=True)
        else:
            raise CommandError(errors.SYNTAX)
        at += 1
    return options


def _combine(words: Sequence[bytes], name: str, inputs: Inputs) -> tuple[dict[bytes, float], Options]:
    """Carries a request out from the number of its keys on. Raises CommandError: as in Redis, what is wrong
    with an input comes before what is wrong with the options."""
    keys = _read_keys(words, name)
    found = [inputs(key) for key in keys]
    algebra = _ALGEBRAS[name.removesuffix("store")]
    replies = not name.endswith("store")
    options = _read_options(words[1 + len(keys) :], len(keys), weighs=algebra.weighs, replies=replies)
    return algebra.combine(found, options), options


# -- replying ---------------------------------------------------------------------------------


def _reply(words: Sequence[bytes], name: str, inputs: Inputs) -> Any:
    scores, options = _combine(words, name, inputs)
    members = in_order(scores)
    return Pairs((member, scores[member]) for member in members) if options.with_scores else members


def _plan_reply(call: Call) -> Plan:
    name = call.command.name
    given = yield from _read_inputs(call, _read_keys(call.args[1:], name))
    return _reply(call.args[1:], name, lambda key: unpack_scores(given[key]))


@command(
    "ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
    group="sorted-set",
    since="6.2.0",
    flags=READONLY | MOVABLEKEYS,
    keys=(Key(1, numkeys=(0, 1, 1)),),
    complexity="O(N)+O(M*log(M)) with N being the sum of the sizes of the input sorted sets, and M being"
    " the number of elements in the resulting sorted set.",
    plan=_plan_reply,
)
def zunion(db: Database, args: list[Any]) -> Any:
    """Returns the union of multiple sorted sets."""
    return _reply(args[1:], "zunion", _inputs(db))


@command(
    "ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
    group="sorted-set",
    since="6.2.0",
    flags=READONLY | MOVABLEKEYS,
    keys=(Key(1, numkeys=(0, 1, 1)),),
    complexity="O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the "
    "number of input sorted sets and M being the number of elements in the resulting sorted "
    "set.",
    plan=_plan_reply,
)
def zinter(db: Database, args: list[Any]) -> Any:
    """Returns the intersect of multiple sorted sets."""
    return _reply(args[1:], "zinter", _inputs(db))


@command(
    "ZDIFF numkeys key [key ...] [WITHSCORES]",
    group="sorted-set",
    since="6.2.0",
    flags=READONLY | MOVABLEKEYS,
    keys=(Key(1, numkeys=(0, 1, 1)),),
    complexity="O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N"
    " is the size of the first set, and K is the size of the result set.",
    plan=_plan_reply,
)
def zdiff(db: Database, args: list[Any]) -> Any:
    """Returns the difference between multiple sorted sets."""
    return _reply(args[1:], "zdiff", _inputs(db))


# -- counting ---------------------------------------------------------------------------------


def _count(words: Sequence[bytes], inputs: Inputs) -> int:
    keys = _read_keys(words, "zintercard")
    found = [inputs(key) for key in keys]
    limit, options = 0, iter(words[1 + len(keys) :])
    for option in options:
        value = next(options, None)
        if option.upper() != b"LIMIT" or value is None:
            raise CommandError(errors.SYNTAX)
        limit = integer(value, errors.NEGATIVE_LIMIT)
        if limit < 0:
            raise CommandError(errors.NEGATIVE_LIMIT)
    return sum(1 for _ in islice(intersection(found), limit or None))


def _plan_zintercard(call: Call) -> Plan:
    given = yield from _read_inputs(call, _read_keys(call.args[1:], "zintercard"))
    return _count(call.args[1:], lambda key: unpack_scores(given[key]))


@command(
    "ZINTERCARD numkeys key [key ...] [LIMIT limit]",
    group="sorted-set",
    since="7.0.0",
    flags=READONLY | MOVABLEKEYS,
    keys=(Key(1, numkeys=(0, 1, 1)),),
    complexity="O(N*K) worst case with N being the smallest input sorted set, K being the number of "
    "input sorted sets.",
    plan=_plan_zintercard,
)
def zintercard(db: Database, args: list[Any]) -> Any:
    """Returns the number of members of the intersect of multiple sorted sets."""
    return _count(args[1:], _inputs(db))


# -- storing ----------------------------------------------------------------------------------


def store(db: Database, key: bytes, scores: dict[bytes, float], event: str) -> int:
    """Makes a key the sorted set of members with these scores, which nobody else changes; returns how many
    there are. Without any the key is removed."""
    if scores:
        db.put(key, SortedSet.holding(scores, db.shard.config), event)
    elif db.edit(key) is not None:
        db.remove(key)
        db.changed(key, "del")
    return len(scores)


def log_as_made(db: Database, key: bytes) -> None:
    """Has the log say what a key holds now, instead of what it was made of."""
    if not db.shard.dirty:
        return
    db.shard.propagate(db, b"DEL", key)
    made = db.peek(key)
    if isinstance(made, SortedSet):
        for request in made.commands(key):
            db.shard.propagate(db, *request)


@command("ZSTORE key event packed", group="sorted-set", since="0.1.0", flags=WRITE, internal=True)
def zstore(db: Database, args: list[Any]) -> int:
    """Stores a packed sorted set of another shard; returns the number of its members."""
    key, event, packed = args[1:]
    stored = store(db, key, unpack_scores(packed), event)
    log_as_made(db, key)
    return stored


@command("ZCOMBINE name request packed", group="sorted-set", since="0.1.0", flags=WRITE, internal=True)
def zcombine(db: Database, args: list[Any]) -> int:
    """Carries out a ZUNIONSTORE or the like with inputs that are given in packed form, by their keys, where
    they are not of this shard."""
    name, request, given = args[1:]
    stored = _store(db, request, name, _inputs(db, given))
    log_as_made(db, request[1])
    return stored


def store_elsewhere(call: Call, source: bytes, request: list[Any], destination: bytes, event: str) -> Plan:
    """A plan that stores on the shard of the destination the packed scores that a request gives on the shard
    of the source; returns how many there are."""
    here, there = call.shard_of(source), call.shard_of(destination)
    values = yield Read({here: [request]})
    check(values)
    values = yield Write({there: [[b"ZSTORE", destination, event, *values[here]]]})
    check(values)
    return values[there][0]


def _store(db: Database, args: list[Any], name: str, inputs: Inputs) -> int:
    scores, _ = _combine(args[2:], name, inputs)
    return store(db, args[1], scores, name)


def _plan_store(call: Call) -> Plan:
    name, destination = call.command.name, call.args[1]
    there = call.shard_of(destination)
    given = yield from _read_inputs(call, _read_keys(call.args[2:], name), without=there)
    values = yield Write({there: [[b"ZCOMBINE", name, call.args, given]]})
    check(values)
    return values[there][0]


@command(
    "ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE "
    "<SUM | MIN | MAX>]",
    group="sorted-set",
    since="2.0.0",
    flags=WRITE | DENYOOM | MOVABLEKEYS,
    keys=(Key(1, access="OW UPDATE"), Key(2, numkeys=(0, 1, 1))),
    complexity="O(N)+O(M log(M)) with N being the sum of the sizes of the input sorted sets, and M being"
    " the number of elements in the resulting sorted set.",
    plan=_plan_store,
)
def zunionstore(db: Database, args: list[Any]) -> Any:
    """Stores the union of multiple sorted sets in a key."""
    return _store(db, args, "zunionstore", _inputs(db))


@command(
    "ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE "
    "<SUM | MIN | MAX>]",
    group="sorted-set",
    since="2.0.0",
    flags=WRITE | DENYOOM | MOVABLEKEYS,
    keys=(Key(1, access="OW UPDATE"), Key(2, numkeys=(0, 1, 1))),
    complexity="O(N*K)+O(M*log(M)) worst case with N being the smallest input sorted set, K being the "
    "number of input sorted sets and M being the number of elements in the resulting sorted "
    "set.",
    plan=_plan_store,
)
def zinterstore(db: Database, args: list[Any]) -> Any:
    """Stores the intersect of multiple sorted sets in a key."""
    return _store(db, args, "zinterstore", _inputs(db))


@command(
    "ZDIFFSTORE destination numkeys key [key ...]",
    group="sorted-set",
    since="6.2.0",
    flags=WRITE | DENYOOM | MOVABLEKEYS,
    keys=(Key(1, access="OW UPDATE"), Key(2, numkeys=(0, 1, 1))),
    complexity="O(L + (N-K)log(N)) worst case where L is the total number of elements in all the sets, N"
    " is the size of the first set, and K is the size of the result set.",
    plan=_plan_store,
)
def zdiffstore(db: Database, args: list[Any]) -> Any:
    """Stores the difference of multiple sorted sets in a key."""
    return _store(db, args, "zdiffstore", _inputs(db))
