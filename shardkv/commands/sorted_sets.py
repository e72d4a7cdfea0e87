"""Sorted sets: the commands that name members, and those that list them or draw them at random."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from random import choices
from typing import Any

from shardkv import errors, limits
from shardkv.command import DENYOOM, FAST, READONLY, WRITE, Key, command
from shardkv.commands.collection_scan import read_scan_options
from shardkv.commands.scan import read_cursor
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import INT64_MAX, INT64_MIN, double, format_double, integer
from shardkv.resp.replies import NULL_ARRAY, Pairs
from shardkv.structures.zset import LISTPACK, SortedSet

# -- adding -----------------------------------------------------------------------------------

_ADD_OPTIONS = frozenset((b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"))
_NO_OPTIONS: frozenset[bytes] = frozenset()


@command(
    "ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
    group="sorted-set",
    since="1.2.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW UPDATE"),),
    complexity="O(log(N)) for each item added, where N is the number of elements in the sorted set.",
    history=(
        ("2.4.0", "Accepts multiple elements."),
        ("3.0.2", "Added the `XX`, `NX`, `CH` and `INCR` options."),
        ("6.2.0", "Added the `GT` and `LT` options."),
    ),
)
def zadd(db: Database, args: list[Any]) -> Any:
    """Adds one or more members to a sorted set, or updates their scores. Creates the key if it doesn't
    exist."""
    options, at = _NO_OPTIONS, 2
    while at < len(args) and (word := args[at].upper()) in _ADD_OPTIONS:
        options |= {word}
        at += 1
    texts, members = args[at::2], args[at + 1 :: 2]
    if len(texts) != len(members) or not members:
        raise CommandError(errors.SYNTAX)
    if options:
        _check_add_options(options, len(members))
    scores = [double(text) for text in texts]
    if b"INCR" in options:
        return _increment(db, args[1], members[0], scores[0], options, args[0])
    return add(db, args[1], members, scores, options, args[0])


def _check_add_options(options: frozenset[bytes], count: int) -> None:
    if b"NX" in options and b"XX" in options:
        raise CommandError(errors.NX_AND_XX)
    if len(options & {b"NX", b"GT", b"LT"}) > 1:
        raise CommandError(errors.GT_LT_AND_NX)
    if b"INCR" in options and count > 1:
        raise CommandError(errors.INCR_OF_SEVERAL)


def add(
    db: Database,
    key: bytes,
    members: list[bytes],
    scores: Iterable[float],
    options: frozenset[bytes],
    slot: int = -1,
) -> int:
    """Adds members, which may be there, with their scores; returns how many were added, and with CH among
    the options also those that got another score."""
    found = db.edit_as(SortedSet, key, slot)
    if found is None:
        if b"XX" in options:
            return 0
        made = SortedSet()
        added, updated = _put(made, members, scores, options, db.shard.config)
        db.put(key, made, "zadd", slot)
    else:
        added, updated = _put(found, members, scores, options, db.shard.config)
        if added or updated:
            db.changed(key, "zadd")
    return added + updated if b"CH" in options else added


def _put(
    found: SortedSet, members: list[bytes], scores: Iterable[float], options: frozenset[bytes], config: Any
) -> tuple[int, int]:
    """Returns how many members were added, and how many got another score."""
    added = updated = 0
    found.make_room(members, config)
    for member, score in zip(members, scores, strict=True):
        if options and not _is_wanted(found.get(member), score, options):
            continue
        before = found.put(member, score, config)
        if before is None:
            added += 1
        elif before != score:
            updated += 1
    return added, updated


def _is_wanted(before: float | None, score: float, options: frozenset[bytes]) -> bool:
    """Whether a member, there with a score or not, is to get this score."""
    if before is None:
        return b"XX" not in options
    if b"NX" in options:
        return False
    return not ((b"GT" in options and score <= before) or (b"LT" in options and score >= before))


def _increment(
    db: Database, key: bytes, member: bytes, increment: float, options: frozenset[bytes], slot: int
) -> float | None:
    """Adds to a member's score; returns the new one, or None if the options left it as it was."""
    found = db.edit_as(SortedSet, key, slot)
    before = None if found is None else found.get(member)
    score = increment if before is None else before + increment
    if before is not None and b"NX" in options:
        return None
    if math.isnan(score):
        raise CommandError(errors.SCORE_NOT_A_NUMBER)
    if options and not _is_wanted(before, score, options):
        return None
    made = SortedSet() if found is None else found
    made.make_room([member], db.shard.config)
    made.put(member, score, db.shard.config)
    if found is None:
        db.put(key, made, "zincr", slot)
    elif before != score:
        db.changed(key, "zincr")
    return score


@command(
    "ZINCRBY key increment member",
    group="sorted-set",
    since="1.2.0",
    flags=WRITE | DENYOOM | FAST,
    keys=(Key(1, access="RW ACCESS UPDATE"),),
    complexity="O(log(N)) where N is the number of elements in the sorted set.",
)
def zincrby(db: Database, args: list[Any]) -> Any:
    """Increments the score of a member in a sorted set."""
    return _increment(db, args[1], args[3], double(args[2]), _NO_OPTIONS, args[0])


# -- looking ----------------------------------------------------------------------------------


@command(
    "ZCARD key",
    group="sorted-set",
    since="1.2.0",
    flags=READONLY | FAST,
    keys=(Key(1, access="RO"),),
)
def zcard(db: Database, args: list[Any]) -> Any:
    """Returns the number of members in a sorted set."""
    found = db.read_as(SortedSet, args[1], args[0])
    return 0 if found is None else found.count


@command(
    "ZSCORE key member",
    group="sorted-set",
    since="1.2.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
)
def zscore(db: Database, args: list[Any]) -> Any:
    """Returns the score of a member in a sorted set."""
    found = db.read_as(SortedSet, args[1], args[0])
    return None if found is None else found.get(args[2])


@command(
    "ZMSCORE key member [member ...]",
    group="sorted-set",
    since="6.2.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(N) where N is the number of members being requested.",
)
def zmscore(db: Database, args: list[Any]) -> Any:
    """Returns the score of one or more members in a sorted set."""
    slot, key, *members = args
    found = db.read_as(SortedSet, key, slot)
    return [None] * len(members) if found is None else [found.get(member) for member in members]


@command(
    "ZRANK key member [WITHSCORE]",
    group="sorted-set",
    since="2.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(log(N))",
    history=(("7.2.0", "Added the optional `WITHSCORE` argument."),),
)
def zrank(db: Database, args: list[Any]) -> Any:
    """Returns the index of a member in a sorted set ordered by ascending scores."""
    return _rank(db, args, "zrank")


@command(
    "ZREVRANK key member [WITHSCORE]",
    group="sorted-set",
    since="2.0.0",
    flags=READONLY | FAST,
    keys=(Key(1),),
    complexity="O(log(N))",
    history=(("7.2.0", "Added the optional `WITHSCORE` argument."),),
)
def zrevrank(db: Database, args: list[Any]) -> Any:
    """Returns the index of a member in a sorted set ordered by descending scores."""
    return _rank(db, args, "zrevrank")


def _rank(db: Database, args: list[Any], name: str) -> Any:
    with_score = len(args) > 3
    if with_score:
        if len(args) > 4:
            raise CommandError(errors.wrong_arity(name))
        if args[3].upper() != b"WITHSCORE":
            raise CommandError(errors.SYNTAX)
    slot, key, member = args[:3]
    found = db.read_as(SortedSet, key, slot)
    score = None if found is None else found.get(member)
    if found is None or score is None:
        return NULL_ARRAY if with_score else None
    rank = found.ranking.rank(score, member)
    if name == "zrevrank":
        rank = found.count - 1 - rank
    return [rank, score] if with_score else rank


@command(
    "ZSCAN key cursor [MATCH pattern] [COUNT count] [NOSCORES]",
    group="sorted-set",
    since="2.8.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(1) for every call. O(N) for a complete iteration, including enough command calls for "
    "the cursor to return back to 0. N is the number of elements inside the collection.",
    tips=("nondeterministic_output",),
    history=(("8.0.0", "Added noscores option."),),
)
def zscan(db: Database, args: list[Any]) -> Any:
    """Iterates over members and scores of a sorted set."""
    place = read_cursor(args[2])
    found = db.read_as(SortedSet, args[1], args[0])
    if found is None:
        return [b"0", []]
    options = read_scan_options(args[3:], of_sorted_set=True)
    if found.form is LISTPACK:
        # As Redis does: a listpack is returned at once, and in its order.
        pieces, place = [dict(found.ranking)], 0
    else:
        pieces, place = found.scan(place, options.least)
    reply: list[bytes] = []
    for member, score in chain.from_iterable(piece.items() for piece in pieces):
        if options.matches(member):
            reply.append(member)
            if not options.no_values:
                reply.append(format_double(score) if found.form is LISTPACK else _in_17_digits(score))
    return [b"%d" % place, reply]


def _in_17_digits(score: float) -> bytes:
    """A score as Redis 7 spells it when it scans a skiplist (its ld2string)."""
    return b"%.17g" % score


# -- at random --------------------------------------------------------------------------------


@command(
    "ZRANDMEMBER key [count [WITHSCORES]]",
    group="sorted-set",
    since="6.2.0",
    flags=READONLY,
    keys=(Key(1),),
    complexity="O(N) where N is the number of members returned",
    tips=("nondeterministic_output",),
)
def zrandmember(db: Database, args: list[Any]) -> Any:
    """Returns one or more random members from a sorted set."""
    if len(args) > 2:
        return _several_at_random(db, args)
    found = db.read_as(SortedSet, args[1], args[0])
    return None if found is None else found.draw()


def _several_at_random(db: Database, args: list[Any]) -> Any:
    count = integer(args[2])
    if count == INT64_MIN:
        raise CommandError(errors.NOT_A_LONG)
    with_scores = len(args) > 3
    if len(args) > 4 or (with_scores and args[3].upper() != b"WITHSCORES"):
        raise CommandError(errors.SYNTAX)
    if count < -limits.REPEATED_MEMBERS or (with_scores and abs(count) > INT64_MAX // 2):
        raise CommandError(errors.OUT_OF_RANGE)
    found = db.read_as(SortedSet, args[1], args[0])
    if found is None:
        return []
    if count >= found.count:
        members = found.ranking.between(0, found.count)[0][::-1]
    else:
        members = found.choose(count) if count >= 0 else _drawn(found, -count)
    return Pairs((member, found[member]) for member in members) if with_scores else members


def _drawn(found: SortedSet, count: int) -> list[bytes]:
    """So many members at random, any of them perhaps several times."""
    if count > found.count:
        return choices(list(found), k=count)  # noqa: S311
    return [found.draw() for _ in range(count)]


# -- removing ---------------------------------------------------------------------------------


@command(
    "ZREM key member [member ...]",
    group="sorted-set",
    since="1.2.0",
    flags=WRITE | FAST,
    keys=(Key(1, access="RW DELETE"),),
    complexity="O(M*log(N)) with N being the number of elements in the sorted set and M the number of "
    "elements to be removed.",
    history=(("2.4.0", "Accepts multiple elements."),),
)
def zrem(db: Database, args: list[Any]) -> Any:
    """Removes one or more members from a sorted set. Deletes the sorted set if all members were removed."""
    slot, key, *members = args
    found = db.edit_as(SortedSet, key, slot)
    if found is None:
        return 0
    removed = sum(map(found.remove, members))
    if removed:
        db.changed(key, "zrem")
        if not found.count:
            db.remove(key, slot)
            db.changed(key, "del")
    return removed
