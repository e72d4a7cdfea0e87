r"""Glob patterns as Redis matches them (KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET, …).

`*` stands for any bytes, `?` for one byte, `[abc]`, `[a-z]` and `[^a-z]` for one byte of a set, `\x` for the
byte x itself. The corner cases are those of Redis' stringmatchlen on x86-64, as observed on redis-server
7.0.15 and valkey-server 9.1.2: a set that is not closed ends with the pattern, `[]` matches nothing, range
ends may be in either order and compare as signed bytes, a `-` before the closing bracket still makes a
range, and the empty string is matched by the patterns `` and `*` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

from shardkv import errors, limits
from shardkv.errors import CommandError

Matcher = Callable[[bytes], bool]

_ONE_LITERAL = re.compile(rb"(\*?)([^*?\[\\]+)(\*?)")
_ANY = frozenset(range(256))


def compile(pattern: bytes, ignore_case: bool = False) -> Matcher:
    """A function that tells whether its argument, the whole of it, matches `pattern`.

    The function's time is at worst the product of both lengths, whatever the pattern. `ignore_case` is for
    ASCII letters. Raises CommandError for a pattern with wildcards of more than limits.MAX_PATTERN_BYTES.
    """
    if pattern == b"*":
        return _always
    one_literal = _ONE_LITERAL.fullmatch(pattern)
    if one_literal and not (ignore_case and pattern.lower() != pattern.upper()):
        return _around_literal(*one_literal.groups())
    if len(pattern) > limits.MAX_PATTERN_BYTES:
        raise CommandError(errors.PATTERN_TOO_LONG)
    return _general(pattern, ignore_case)


def _always(_: bytes) -> bool:
    return True


def _around_literal(before: bytes, literal: bytes, after: bytes) -> Matcher:
    """The patterns `literal`, `literal*`, `*literal` and `*literal*`: nearly all that are in use."""
    if before and after:
        return lambda string: literal in string
    if before:
        return lambda string: string.endswith(literal)
    if after:
        return lambda string: string.startswith(literal)
    return literal.__eq__


@lru_cache(maxsize=64)
def _general(pattern: bytes, ignore_case: bool) -> Matcher:
    segments = _segments(pattern, ignore_case)
    if len(segments) > 1 and not any(segments):
        return bool
    match = re.compile(_expression(segments), re.DOTALL).fullmatch
    return lambda string: match(string) is not None


def _expression(segments: list[list[frozenset[int]]]) -> bytes:
    """A regular expression for segments with a star between each two.

    The first match of a segment after a star is as good as any later one, so an atomic group may forbid to
    come back to it: this is what keeps hostile patterns from exponential time. The last segment has to end
    the string, and since each of its elements is one byte, it is looked for there and nowhere else.
    """
    first, *others = segments
    if not others:
        return _segment(first)
    *middle, last = others
    atoms = b"".join(b"(?>.*?%b)" % _segment(segment) for segment in middle if segment)
    ending = b"(?<=%b)" % _segment(last) if last else b""
    return b"%b%b.{%d,}+%b" % (_segment(first), atoms, len(last), ending)


def _segment(elements: list[frozenset[int]]) -> bytes:
    return b"".join(map(_byte_set, elements))


def _byte_set(members: frozenset[int]) -> bytes:
    if members == _ANY:
        return b"."
    if not members:
        return b"(?!)."
    if len(members) == 1:
        return b"\\x%02x" % min(members)
    return b"[%b]" % b"".join(b"\\x%02x-\\x%02x" % run for run in _runs(members))


def _runs(members: frozenset[int]) -> Iterator[tuple[int, int]]:
    """The first and last of each run of neighbours."""
    firsts = sorted(member for member in members if member - 1 not in members)
    lasts = sorted(member for member in members if member + 1 not in members)
    return zip(firsts, lasts, strict=True)


def _segments(pattern: bytes, ignore_case: bool) -> list[list[frozenset[int]]]:
    """What stands between the stars: for each byte to match, the set of bytes that do."""
    segments: list[list[frozenset[int]]] = [[]]
    position = 0
    while position < len(pattern):
        byte = pattern[position : position + 1]
        position += 1
        if byte == b"*":
            segments.append([])
        elif byte == b"?":
            segments[-1].append(_ANY)
        elif byte == b"[":
            members, position = _set(pattern, position, ignore_case)
            segments[-1].append(members)
        else:
            if byte == b"\\" and position < len(pattern):
                byte = pattern[position : position + 1]
                position += 1
            segments[-1].append(_cases(byte, ignore_case))
    return segments


def _set(pattern: bytes, position: int, ignore_case: bool) -> tuple[frozenset[int], int]:
    """The bytes that the set opened before `position` matches, and where the pattern goes on."""
    negated = pattern.startswith(b"^", position)
    position += negated
    members: set[int] = set()
    while position < len(pattern) and pattern[position] != ord("]"):
        remaining = len(pattern) - position
        if pattern[position] == ord("\\") and remaining >= 2:
            members.add(pattern[position + 1])  # not both its cases, Redis has it so
            position += 2
        elif remaining >= 3 and pattern[position + 1] == ord("-"):
            members |= _range(pattern[position], pattern[position + 2], ignore_case)
            position += 3
        else:
            members |= _cases(pattern[position : position + 1], ignore_case)
            position += 1
    return frozenset(_ANY - members if negated else members), position + 1


def _cases(byte: bytes, ignore_case: bool) -> frozenset[int]:
    return frozenset(byte.lower() + byte.upper() if ignore_case else byte)


def _range(start: int, end: int, ignore_case: bool) -> frozenset[int]:
    low, high = sorted((_signed(start), _signed(end)))
    if not ignore_case:
        return frozenset(byte for byte in _ANY if low <= _signed(byte) <= high)
    low, high = _lower(low), _lower(high)
    return frozenset(byte for byte in _ANY if low <= _lower(_signed(byte)) <= high)


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _lower(byte: int) -> int:
    return byte + 32 if ord("A") <= byte <= ord("Z") else byte
