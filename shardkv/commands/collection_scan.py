"""What SSCAN, HSCAN and ZSCAN are asked: the same options as SCAN has, but for TYPE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shardkv import errors, glob
from shardkv.commands.scan import DEFAULT_COUNT
from shardkv.errors import CommandError
from shardkv.numbers import integer


class ScanOptions(NamedTuple):
    """How many elements are to be looked at at least, which of them returned, and whether without what
    belongs to them (HSCAN and ZSCAN)."""

    least: int
    matches: glob.Matcher
    no_values: bool


def read_scan_options(
    words: Sequence[bytes], *, of_hash: bool = False, of_sorted_set: bool = False
) -> ScanOptions:
    """Takes what follows the cursor. Raises CommandError; NOVALUES is for hashes alone, NOSCORES for sorted
    sets."""
    least, pattern, no_values = DEFAULT_COUNT, b"*", False
    rest = iter(words)
    for given in rest:
        word = given.upper()
        if word == b"COUNT" and (value := next(rest, None)) is not None:
            least = integer(value)
            if least < 1:
                raise CommandError(errors.SYNTAX)
        elif word == b"MATCH" and (value := next(rest, None)) is not None:
            pattern = value
        elif word == b"NOVALUES":
            if not of_hash:
                raise CommandError(errors.NO_VALUES_OUTSIDE_HSCAN)
            no_values = True
        elif word == b"NOSCORES":
            if not of_sorted_set:
                raise CommandError(errors.NO_SCORES_OUTSIDE_ZSCAN)
            no_values = True
        else:
            raise CommandError(errors.SYNTAX)
    return ScanOptions(least, glob.compile(pattern), no_values)
