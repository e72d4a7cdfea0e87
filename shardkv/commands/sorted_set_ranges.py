"""Sorted sets: the commands that concern a range of ranks, of scores, or of members of the same score."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

from shardkv import errors
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.commands.sorted_set_algebra import pack_scores, store, store_elsewhere
from shardkv.commands.sorted_set_pops import remove_between
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer, strtod
from shardkv.plan import Call, Plan
from shardkv.resp.replies import Pairs
from shardkv.structures.zset import SortedSet

# -- ranges -----------------------------------------------------------------------------------


class Range(Protocol):
    """A range of a sorted set."""

    def ranks(self, found: SortedSet) -> tuple[int, int]:
        """The first rank in the range, and the first one after it that is not."""


class Ranks(NamedTuple):
    """Ranks from one to another, which is included; below 0 they count from the end."""

    first: int
    last: int

    def ranks(self, found: SortedSet) -> tuple[int, int]:
        count = found.count
        first, last = (rank + count if rank < 0 else rank for rank in self)
        return max(0, first), min(count, last + 1)


class ScoreBound(NamedTuple):
    """An end of a range of scores."""

    score: float
    included: bool


class ScoreRange(NamedTuple):
    """Scores from one to another."""

    lowest: ScoreBound
    highest: ScoreBound

    def ranks(self, found: SortedSet) -> tuple[int, int]:
        below = found.ranking.below
        lowest, highest = self
        return (
            below(lowest.score, inclusive=not lowest.included),
            below(highest.score, inclusive=highest.included),
        )


class LexBound(NamedTuple):
    """An end of a range of members: a member; or before all of them, or after all."""

    member: bytes
    included: bool
    before_all: bool = False
    after_all: bool = False


class LexRange(NamedTuple):
    """Members from one to another, by their bytes: of a sorted set in which all have the same score."""

    lowest: LexBound
    highest: LexBound

    def ranks(self, found: SortedSet) -> tuple[int, int]:
        lowest, highest = self
        return (
            _rank_of(found, lowest, after=not lowest.included),
            _rank_of(found, highest, after=highest.included),
        )


def _rank_of(found: SortedSet, bound: LexBound, *, after: bool) -> int:
    if bound.before_all:
        return 0
    return found.count if bound.after_all else found.ranking.before(bound.member, inclusive=after)


# The first of all is the empty member.
_BEFORE_ALL = LexBound(b"", included=False, before_all=True)
_AFTER_ALL = LexBound(b"", included=False, after_all=True)


def _read_ranks(first: bytes, last: bytes) -> Ranks:
    return Ranks(integer(first), integer(last))


def _read_scores(lowest: bytes, highest: bytes) -> ScoreRange:
    return ScoreRange(_score_bound(lowest), _score_bound(highest))


def _read_lex(lowest: bytes, highest: bytes) -> LexRange:
    return LexRange(_lex_bound(lowest), _lex_bound(highest))


def _score_bound(text: bytes) -> ScoreBound:
    """A score, after a `(` if it is not included itself. As in Redis, whose C reads it, nothing is 0, and a
    zero byte ends it."""
    excluded = text.startswith(b"(")
    text = text.removeprefix(b"(").partition(b"\0")[0]
    score = strtod(text) if text else 0.0
    if score is None:
        raise CommandError(errors.SCORE_BOUND_NOT_A_FLOAT)
    return ScoreBound(score, not excluded)


def _lex_bound(text: bytes) -> LexBound:
    if text == b"-":
        return _BEFORE_ALL
    if text == b"+":
        return _AFTER_ALL
    if text[:1] not in (b"[", b"("):
        raise CommandError(errors.INVALID_LEX_BOUND)
    return LexBound(text[1:], included=text[:1] == b"[")


# -- what is asked for ------------------------------------------------------------------------


class Selection(NamedTuple):
    """What ZRANGE and its like are asked for."""

    range: Range
    reverse: bool
    offset: int
    most: int
    """Below 0: all."""
    with_scores: bool

    def of(self, found: SortedSet) -> tuple[list[bytes], list[float]]:
        """The members selected of a sorted set, and their scores."""
        start, stop = self.range.ranks(found)
        if self.reverse and isinstance(self.range, Ranks):
            start, stop = found.count - stop, found.count - start
        if self.offset < 0:
            return [], []
        most = found.count if self.most < 0 else self.most
        if self.reverse:
            stop -= self.offset
            members, scores = found.ranking.between(max(start, stop - most), stop)
            return members[::-1], scores[::-1]
        start += self.offset
        return found.ranking.between(start, min(stop, start + most))


_RANKS = frozenset[bytes]()
_SCORES = frozenset((b"BYSCORE",))
_LEX = frozenset((b"BYLEX",))
_REVERSE = frozenset((b"REV",))
_WITH_SCORES = frozenset((b"WITHSCORES",))
_ANY = _SCORES | _LEX | _REVERSE

_RULED_OUT = {b"BYSCORE": _SCORES | _LEX, b"BYLEX": _SCORES | _LEX, b"REV": _REVERSE, b"WITHSCORES": _RANKS}
"""Options that may not come after one."""


def _read_selection(
    words: Sequence[bytes], implied: frozenset[bytes], allowed: frozenset[bytes] = _WITH_SCORES
) -> Selection:
    """Reads the two ends and the options behind them. Raises CommandError.

    implied   the options that the command's name stands for.
    allowed   those that may be given, beside LIMIT.
    """
    asked, offset, most = implied, 0, -1
    options = iter(words[2:])
    for word in map(bytes.upper, options):
        if word == b"LIMIT":
            limit = list(islice(options, 2))
            if len(limit) < 2:
                raise CommandError(errors.SYNTAX)
            offset, most = map(integer, limit)
        elif word in allowed:
            asked |= {word}
            allowed -= _RULED_OUT[word]
        else:
            raise CommandError(errors.SYNTAX)
    reverse, with_scores = b"REV" in asked, b"WITHSCORES" in asked
    if not asked & (_SCORES | _LEX):
        if most != -1:
            raise CommandError(errors.LIMIT_OF_RANKS)
        return Selection(_read_ranks(words[0], words[1]), reverse, 0, most, with_scores)
    if with_scores and b"BYLEX" in asked:
        raise CommandError(errors.SCORES_BY_LEX)
    lowest, highest = (words[1], words[0]) if reverse else (words[0], words[1])
    chosen = _read_lex(lowest, highest) if b"BYLEX" in asked else _read_scores(lowest, highest)
    return Selection(chosen, reverse, offset, most, with_scores)


# -- listing ----------------------------------------------------------------------------------


def _list(db: Database, args: list[Any], selection: Selection) -> Any:
    found = db.read_as(SortedSet, args[1], args[0])
    if found is None:
        return []
    members, scores = selection.of(found)
    return Pairs(zip(members, scores, strict=True)) if selection.with_scores else members


@command(
    "ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
    group="sorted-set",
    since="1.2.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M the number of "
    "elements returned.",
    history=(("6.2.0", "Added the `REV`, `BYSCORE`, `BYLEX` and `LIMIT` options."),),
)
def zrange(db: Database, args: list[Any]) -> Any:
    """Returns members in a sorted set within a range of indexes."""
    return _list(db, args, _read_selection(args[2:], _RANKS, _ANY | _WITH_SCORES))


@command(
    "ZREVRANGE key start stop [WITHSCORES]",
    group="sorted-set",
    since="1.2.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M the number of "
    "elements returned.",
    deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `REV` argument",
)
def zrevrange(db: Database, args: list[Any]) -> Any:
    """Returns members in a sorted set within a range of indexes in reverse order."""
    return _list(db, args, _read_selection(args[2:], _REVERSE))


@command(
    "ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]",
    group="sorted-set",
    since="1.0.5",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M the number of "
    "elements being returned. If M is constant (e.g. always asking for the first 10 elements "
    "with LIMIT), you can consider it O(log(N)).",
    history=(("2.0.0", "Added the `WITHSCORES` modifier."),),
    deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `BYSCORE` argument",
)
def zrangebyscore(db: Database, args: list[Any]) -> Any:
    """Returns members in a sorted set within a range of scores."""
    return _list(db, args, _read_selection(args[2:], _SCORES))


@command(
    "ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]",
    group="sorted-set",
    since="2.2.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M the number of "
    "elements being returned. If M is constant (e.g. always asking for the first 10 elements "
    "with LIMIT), you can consider it O(log(N)).",
    history=(("2.1.6", "`min` and `max` can be exclusive."),),
    deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `REV` and `BYSCORE` arguments",
)
def zrevrangebyscore(db: Database, args: list[Any]) -> Any:
    """Returns members in a sorted set within a range of scores in reverse order."""
    return _list(db, args, _read_selection(args[2:], _SCORES | _REVERSE))


@command(
    "ZRANGEBYLEX key min max [LIMIT offset count]",
    group="sorted-set",
    since="2.8.9",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M the number of "
    "elements being returned. If M is constant (e.g. always asking for the first 10 elements "
    "with LIMIT), you can consider it O(log(N)).",
    deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `BYLEX` argument",
)
def zrangebylex(db: Database, args: list[Any]) -> Any:
    """Returns members in a sorted set within a lexicographical range."""
    return _list(db, args, _read_selection(args[2:], _LEX))


@command(
    "ZREVRANGEBYLEX key max min [LIMIT offset count]",
    group="sorted-set",
    since="2.8.9",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M the number of "
    "elements being returned. If M is constant (e.g. always asking for the first 10 elements "
    "with LIMIT), you can consider it O(log(N)).",
    deprecated_since="6.2.0",
    replaced_by="`ZRANGE` with the `REV` and `BYLEX` arguments",
)
def zrevrangebylex(db: Database, args: list[Any]) -> Any:
    """Returns members in a sorted set within a lexicographical range in reverse order."""
    return _list(db, args, _read_selection(args[2:], _LEX | _REVERSE))


# -- counting ---------------------------------------------------------------------------------


def _count(db: Database, args: list[Any], range: Range) -> int:
    found = db.read_as(SortedSet, args[1], args[0])
    if found is None:
        return 0
    start, stop = range.ranks(found)
    return max(0, stop - start)


@command(
    "ZCOUNT key min max",
    group="sorted-set",
    since="2.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(log(N)) with N being the number of elements in the sorted set.",
)
def zcount(db: Database, args: list[Any]) -> Any:
    """Returns the count of members in a sorted set that have scores within a range."""
    return _count(db, args, _read_scores(args[2], args[3]))


@command(
    "ZLEXCOUNT key min max",
    group="sorted-set",
    since="2.8.9",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(log(N)) with N being the number of elements in the sorted set.",
)
def zlexcount(db: Database, args: list[Any]) -> Any:
    """Returns the number of members in a sorted set within a lexicographical range."""
    return _count(db, args, _read_lex(args[2], args[3]))


# -- removing ---------------------------------------------------------------------------------


def _remove(db: Database, args: list[Any], range: Range, event: str) -> int:
    slot, key = args[:2]
    found = db.edit_as(SortedSet, key, slot)
    if found is None:
        return 0
    start, stop = range.ranks(found)
    if start >= stop:
        return 0
    members, _ = remove_between(db, key, found, start, stop, event, slot)
    return len(members)


@command(
    "ZREMRANGEBYRANK key start stop",
    group="sorted-set",
    since="2.0.0",
    flags=WRITE,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M the number of "
    "elements removed by the operation.",
)
def zremrangebyrank(db: Database, args: list[Any]) -> Any:
    """Removes members in a sorted set within a range of indexes. Deletes the sorted set if all members
    were removed."""
    return _remove(db, args, _read_ranks(args[2], args[3]), "zremrangebyrank")


@command(
    "ZREMRANGEBYSCORE key min max",
    group="sorted-set",
    since="1.2.0",
    flags=WRITE,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M the number of "
    "elements removed by the operation.",
)
def zremrangebyscore(db: Database, args: list[Any]) -> Any:
    """Removes members in a sorted set within a range of scores. Deletes the sorted set if all members were
    removed."""
    return _remove(db, args, _read_scores(args[2], args[3]), "zremrangebyscore")


@command(
    "ZREMRANGEBYLEX key min max",
    group="sorted-set",
    since="2.8.9",
    flags=WRITE,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M the number of "
    "elements removed by the operation.",
)
def zremrangebylex(db: Database, args: list[Any]) -> Any:
    """Removes members in a sorted set within a lexicographical range. Deletes the sorted set if all
    members were removed."""
    return _remove(db, args, _read_lex(args[2], args[3]), "zremrangebylex")


# -- storing ----------------------------------------------------------------------------------


def _select(db: Database, args: list[Any]) -> dict[bytes, float]:
    """What a ZRANGESTORE is to store: `args` from the key that is looked at on."""
    selection = _read_selection(args[1:], _RANKS, _ANY)
    found = db.read_as(SortedSet, args[0])
    if found is None:
        return {}
    members, scores = selection.of(found)
    return dict(zip(members, scores, strict=True))


@command("ZSELECT request", group="sorted-set", since="0.1.0", flags=READONLY, internal=True)
def zselect(db: Database, args: list[Any]) -> bytes:
    """Returns what a ZRANGESTORE is to store, packed."""
    return pack_scores(_select(db, args[1][2:]))


def _plan_zrangestore(call: Call) -> Plan:
    destination, source = call.args[1:3]
    request = [b"ZSELECT", call.args]
    return store_elsewhere(call, source, request, destination, call.command.name)


@command(
    "ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
    group="sorted-set",
    since="6.2.0",
    flags=WRITE | DENYOOM,
    keys=(Key(1, access="OW UPDATE"), Key(2)),
    complexity="O(log(N)+M) with N being the number of elements in the sorted set and M the number of "
    "elements stored into the destination key.",
    plan=_plan_zrangestore,
)
def zrangestore(db: Database, args: list[Any]) -> Any:
    """Stores a range of members from sorted set in a key."""
    return store(db, args[1], _select(db, args[2:]), "zrangestore")
