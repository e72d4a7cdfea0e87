"""The IDs of stream entries: two numbers of 64 bits, a time in ms and a sequence number within it.

Here an ID is a tuple, so that IDs compare as they should and cost little; `b"%d-%d" % stream_id` is its text.
"""

from __future__ import annotations

import re

from shardkv import errors
from shardkv.errors import CommandError
from shardkv.numbers import UINT64_MAX, canonical_integer

StreamID = tuple[int, int]

LEAST: StreamID = (0, 0)
GREATEST: StreamID = (UINT64_MAX, UINT64_MAX)

_LONGEST = 127
"""Bytes of a text that Redis looks at."""

_LENIENT = re.compile(rb"[\t-\r ]*([+-]?)([0-9]+)")


def parse(text: bytes, missing: int = 0) -> StreamID:
    """The ID that a text spells, `<ms>-<seq>` or `<ms>` alone, which gets the sequence number `missing`.

    Raises CommandError(INVALID_STREAM_ID); for the special IDs `-` and `+` as well.
    """
    ms, dash, seq = text.partition(b"-")
    if ms.isdigit() and len(text) <= _LONGEST:
        if not dash and int(ms) <= UINT64_MAX:
            return int(ms), missing
        if seq.isdigit() and int(ms) <= UINT64_MAX and int(seq) <= UINT64_MAX:
            return int(ms), int(seq)
    return _parse_leniently(text, missing)


def _parse_leniently(text: bytes, missing: int) -> StreamID:
    """As `parse`, with all that the C library takes for a number."""
    if len(text) > _LONGEST:
        raise CommandError(errors.INVALID_STREAM_ID)
    ms, dash, seq = text.partition(b"\0")[0].partition(b"-")
    return number(ms), number(seq) if dash else missing


def number(text: bytes) -> int:
    """A number without sign as Redis reads one half of an ID: strictly first, and then as strtoull does,
    which skips white space and wraps negative numbers round. Raises CommandError(INVALID_STREAM_ID)."""
    strict = canonical_integer(text)
    if strict is None:
        found = _LENIENT.fullmatch(text)
        if found is not None and int(found[2]) <= UINT64_MAX:
            return -int(found[2]) & UINT64_MAX if found[1] == b"-" else int(found[2])
    elif strict >= 0:
        return strict
    raise CommandError(errors.INVALID_STREAM_ID)


def parse_any(text: bytes, missing: int = 0) -> StreamID:
    """As `parse`, but `-` is the least ID there can be and `+` the greatest."""
    if text == b"-":
        return LEAST
    if text == b"+":
        return GREATEST
    return parse(text, missing)


def parse_start(text: bytes) -> StreamID:
    """The first ID of a range. With `(` before it, the one after it. Raises CommandError."""
    if text[:1] != b"(" or len(text) == 1:
        return parse_any(text)
    after = following(parse(text[1:]))
    if after is None:
        raise CommandError(errors.INVALID_START_ID)
    return after


def parse_end(text: bytes) -> StreamID:
    """The last ID of a range. With `(` before it, the one before it. Raises CommandError."""
    if text[:1] != b"(" or len(text) == 1:
        return parse_any(text, UINT64_MAX)
    before = preceding(parse(text[1:], UINT64_MAX))
    if before is None:
        raise CommandError(errors.INVALID_END_ID)
    return before


def following(stream_id: StreamID) -> StreamID | None:
    """The next ID there can be; None after the greatest."""
    ms, seq = stream_id
    if seq < UINT64_MAX:
        return ms, seq + 1
    return (ms + 1, 0) if ms < UINT64_MAX else None


def preceding(stream_id: StreamID) -> StreamID | None:
    """The ID just before; None before the least."""
    ms, seq = stream_id
    if seq:
        return ms, seq - 1
    return (ms - 1, UINT64_MAX) if ms else None
