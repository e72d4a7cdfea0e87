"""LCS: the longest common subsequence of two strings.

The lengths of the common subsequences of all prefixes make a table. Redis keeps it as 32-bit numbers; here a
row is the bits of one integer, which tell where the length rises, so that a row is calculated at once, in a
few operations on it (Hyyrö: Bit-Parallel LCS-length Computation Revisited, 2004).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from shardkv import errors
from shardkv.command import NO_FLAGS, READONLY, Key, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.plan import Call, Plan, Read, check
from shardkv.values import is_string

_TABLE_CELL_BYTES = 4
"""Of Redis' table; what proto-max-bulk-len bounds is its size."""


class Run(NamedTuple):
    """A piece that both strings have in common: where it begins in each, and its length in bytes."""

    first: int
    second: int
    length: int


def _rows(short: bytes, long: bytes) -> Iterator[tuple[int, int]]:
    """For each prefix of the shorter string, bits that tell for which prefixes of the longer one the length
    of the common subsequence is greater than with one byte less: of the longer one, of the shorter one."""
    places = {byte: _places(byte, long) for byte in set(short)}
    every = flat = (1 << len(long)) - 1
    for byte in short:
        matches = flat & places[byte]
        added = flat + matches
        # What is carried out of a bit's place is a rise along the shorter string.
        carries = flat ^ matches ^ added
        flat = (added | (flat - matches)) & every
        yield flat ^ every, carries >> 1


def _places(byte: int, string: bytes) -> int:
    """Has a bit for each place where a byte stands in a string."""
    digits = bytearray(b"0" * 256)
    digits[byte] = ord("1")
    return int(string.translate(digits)[::-1], 2)


class _Rises:
    """Where the length of the common subsequence rises as the second string's prefix gets longer."""

    def __init__(self, first: bytes, second: bytes) -> None:
        self._by_first = len(first) <= len(second)
        if self._by_first:
            self._bits = [0, *(along_long for along_long, _ in _rows(first, second))]
        else:
            self._bits = [0, *(along_short for _, along_short in _rows(second, first))]

    def at(self, first: int, second: int) -> bool:
        """Whether the prefixes of these lengths have more in common than with one byte less of the second."""
        row, place = (first, second) if self._by_first else (second, first)
        return bool(self._bits[row] >> place - 1 & 1)

    def before(self, first: int, second: int) -> int:
        """The greatest length below `second` at which there may be a rise, with this prefix of the first; 0
        if there is none."""
        if self._by_first:
            return (self._bits[first] & ((1 << second - 1) - 1)).bit_length()
        return second - 1


def length_in_common(first: bytes, second: bytes) -> int:
    """The length of the longest common subsequence."""
    short, long = sorted((first, second), key=len)
    last = deque(_rows(short, long), maxlen=1)
    return last[0][0].bit_count() if last else 0


def runs_in_common(first: bytes, second: bytes) -> list[Run]:
    """The pieces that make up the longest common subsequence, from the last one to the first.

    Among several longest ones it is that which Redis chooses: where the last bytes differ, and leaving out
    the one string's leaves as much in common as leaving out the other's, the second's is left out.
    """
    rises = _Rises(first, second)
    runs: list[Run] = []
    i, j = len(first), len(second)
    while i and j:
        if first[i - 1] == second[j - 1]:
            length = 1
            while length < min(i, j) and first[i - 1 - length] == second[j - 1 - length]:
                length += 1
            i, j = i - length, j - length
            runs.append(Run(i, j, length))
        elif rises.at(i, j):
            # What makes it rise is the last byte of this kind.
            i = first.rfind(second[j - 1], 0, i) + 1
        else:
            j = max(second.rfind(first[i - 1], 0, j) + 1, rises.before(i, j))
    return runs


# -- the command ------------------------------------------------------------------------------


class _Options(NamedTuple):
    length: bool
    indexes: bool
    least: int
    """The length from which on a run is shown."""
    with_lengths: bool


def _read_options(words: list[bytes]) -> _Options:
    length = indexes = with_lengths = False
    least = 0
    rest = iter(words)
    for given in rest:
        word = given.upper()
        if word == b"LEN":
            length = True
        elif word == b"IDX":
            indexes = True
        elif word == b"WITHMATCHLEN":
            with_lengths = True
        elif word == b"MINMATCHLEN" and (number := next(rest, None)) is not None:
            least = integer(number)
        else:
            raise CommandError(errors.SYNTAX)
    if length and indexes:
        raise CommandError(errors.LCS_LEN_AND_IDX)
    return _Options(length, indexes, least, with_lengths)


def _answer(first: bytes, second: bytes, words: list[bytes], max_bytes: int) -> Any:
    """The reply for two strings and the options."""
    options = _read_options(words)
    if (len(first) + 1) * (len(second) + 1) * _TABLE_CELL_BYTES > max_bytes:
        raise CommandError(errors.LCS_TOO_LARGE)
    if options.length:
        return length_in_common(first, second)
    runs = runs_in_common(first, second)
    if not options.indexes:
        return b"".join(first[run.first : run.first + run.length] for run in reversed(runs))
    shown = [_show(run, with_length=options.with_lengths) for run in runs if run.length >= options.least]
    return {b"matches": shown, b"len": sum(run.length for run in runs)}


def _show(run: Run, *, with_length: bool) -> list[Any]:
    ranges = [[begin, begin + run.length - 1] for begin in (run.first, run.second)]
    return [*ranges, run.length] if with_length else ranges


def _plan(call: Call) -> Plan:
    shard = call.shard_of(call.args[1])
    other = call.shard_of(call.args[2])
    values = yield Read({shard: [[b"LCSTEXT", call.args[1]]], other: [[b"LCSTEXT", call.args[2]]]})
    check(values)
    # It may take a while, which a shard can afford rather than a proxy with all its clients.
    texts = [values[shard][0], values[other][0]]
    values = yield Read({shard: [[b"LCSOF", *texts, *call.args[3:]]]})
    check(values)
    return values[shard][0]


@command("LCSTEXT key", group="string", since="0.1.0", flags=READONLY, keys=(Key(1),), internal=True)
def lcs_text(db: Database, args: list[Any]) -> bytes:
    """Returns a string that LCS compares, for a command over several shards."""
    return _text(db, args[1])


@command("LCSOF text1 text2 [option ...]", group="string", since="0.1.0", flags=NO_FLAGS, internal=True)
def lcs_of(db: Database, args: list[Any]) -> Any:
    """Compares two strings that two shards hold."""
    return _answer(args[1], args[2], args[3:], db.shard.config.proto_max_bulk_len)


def _text(db: Database, key: bytes) -> bytes:
    value = db.read(key)
    if value is None:
        return b""
    if not is_string(value):
        raise CommandError(errors.LCS_OF_NO_STRINGS)
    return b"%d" % value if isinstance(value, int) else bytes(value)  # type: ignore[arg-type]


@command(
    "LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
    group="string",
    since="7.0.0",
    flags=READONLY,
    keys=(Key(1, last=1),),
    complexity="O(N*M) where N and M are the lengths of s1 and s2, respectively",
    plan=_plan,
)
def lcs(db: Database, args: list[Any]) -> Any:
    """Finds the longest common substring."""
    return _answer(_text(db, args[1]), _text(db, args[2]), args[3:], db.shard.config.proto_max_bulk_len)
