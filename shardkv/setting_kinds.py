"""The kinds of values that settings have (how each is read from text, checked and written), and what the
declaration of a setting says."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from shardkv import errors, limits
from shardkv.numbers import INT64_MAX, canonical_integer
from shardkv.quoting import quote
from shardkv.slots import PATTERN_START_BYTES

INT_MAX = 2**31 - 1
UNSIGNED_MAX = 2**32 - 1

KB, MB, GB = 2**10, 2**20, 2**30

T = TypeVar("T")

_MEMORY = re.compile(r"([0-9]{1,127})(b|k|kb|m|mb|g|gb)?", re.IGNORECASE)
_UNITS = {"b": 1, "k": 10**3, "kb": KB, "m": 10**6, "mb": MB, "g": 10**9, "gb": GB}
_OCTAL = re.compile(r"[0-7]{1,20}")


class Kind(ABC, Generic[T]):
    """How the values of a setting are read and written.

    `meaning` says for the documentation which values there are.
    """

    meaning: str

    @abstractmethod
    def parse(self, words: Sequence[str], current: T) -> T:
        """The value that the words of a directive give to a setting that is now `current`.

        Raises ValueError with the reason, in the words of Redis where it has the same check.
        """

    def format(self, value: T) -> str:
        """The value in one text, as CONFIG GET shows it; parse() reads it back."""
        return str(value)

    def lines(self, value: T) -> list[str]:
        """The value as it is written after the name in a configuration file: one text for each line."""
        return [quote(self.format(value))]


class OneWord(Kind[T]):
    """A value of one word."""

    def parse(self, words: Sequence[str], current: T) -> T:
        if len(words) != 1:
            raise ValueError(errors.WRONG_NUMBER_OF_VALUES)
        return self.read(words[0])

    @abstractmethod
    def read(self, text: str) -> T:
        """The value that `text` spells. Raises ValueError with the reason."""


class Text(OneWord[str]):
    """Any text. Bytes that are no UTF-8 are held as surrogate escapes."""

    meaning = "any text"

    def read(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class BareName(OneWord[str]):
    """The name of a file or folder without a path.

    Takes the setting's name and the word for what it names, for the reason given when it is refused.
    """

    setting: str
    noun: str
    meaning = "a name without a path"

    def read(self, text: str) -> str:
        if not text:
            raise ValueError(f"{self.setting} can't be empty")
        if "/" in text or "\\" in text or text in (".", ".."):
            raise ValueError(f"{self.setting} can't be a path, just a {self.noun}")
        return text


class Folder(OneWord[str]):
    """An existing folder; a relative path is made absolute when it is read."""

    meaning = "the path of a folder that exists"

    def read(self, text: str) -> str:
        if not os.path.isdir(text):
            raise ValueError("No such file or directory")
        return os.path.abspath(text)


class YesNo(OneWord[bool]):
    meaning = "yes or no"

    def read(self, text: str) -> bool:
        if text.lower() not in ("yes", "no"):
            raise ValueError(errors.NOT_YES_OR_NO)
        return text.lower() == "yes"

    def format(self, value: bool) -> str:
        return "yes" if value else "no"


class Choice(OneWord[str]):
    """One of a few names, in upper or lower case."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.meaning = f"{', '.join(names[:-1])} or {names[-1]}"

    def read(self, text: str) -> str:
        if text.lower() not in self.names:
            raise ValueError(errors.not_one_of(self.names))
        return text.lower()


class Integer(OneWord[int]):
    """A whole number from `low` to `high`; what is allowed but out of `clamp` is taken for its nearer end."""

    def __init__(self, low: int = 0, high: int = INT_MAX, clamp: tuple[int, int] | None = None) -> None:
        self.low, self.high = low, high
        self.clamp = clamp or (low, high)
        end = f"to {high}" if high < INT_MAX else "up"
        self.meaning = f"a number from {low} {end}"

    def read(self, text: str) -> int:
        number = canonical_integer(text.encode("utf-8", "surrogateescape"))
        if number is None:
            raise ValueError(errors.NOT_PARSED_AS_INTEGER)
        if not self.low <= number <= self.high:
            raise ValueError(errors.not_between(str(self.low), str(self.high)))
        lowest, highest = self.clamp
        return min(max(number, lowest), highest)


class Octal(OneWord[int]):
    """File permissions."""

    meaning = "an octal number from 0 to 777"

    def read(self, text: str) -> int:
        if not _OCTAL.fullmatch(text):
            raise ValueError(errors.NOT_PARSED_AS_OCTAL)
        number = int(text, 8)
        if number > 0o777:
            raise ValueError(errors.not_between("0", "777"))
        return number

    def format(self, value: int) -> str:
        return f"{value:o}"


class Memory(OneWord[int]):
    """A size in bytes, with or without a unit."""

    def __init__(self, low: int = 0, high: int = INT64_MAX) -> None:
        self.low, self.high = low, high
        least = f", at least {memory_text(low)}" if low else ""
        self.meaning = f"a size in bytes, kb, mb or gb{least}"

    def read(self, text: str) -> int:
        size = memory_size(text)
        if not self.low <= size <= self.high:
            raise ValueError(errors.not_between(str(self.low), str(self.high)))
        return size

    def lines(self, value: int) -> list[str]:
        return [memory_text(value)]


class MemoryOrPercent(OneWord[int]):
    """A size in bytes, or a percentage as a negative number."""

    meaning = "a size in bytes, kb, mb or gb, or a percentage from 0% to 100%"

    def read(self, text: str) -> int:
        if text.endswith("%"):
            percent = canonical_integer(text[:-1].encode("utf-8", "surrogateescape"))
            if percent is None or percent < 0:
                raise ValueError(errors.NOT_A_MEMORY_OR_PERCENT_VALUE)
            if percent > 100:
                raise ValueError(errors.OVER_100_PERCENT)
            return -percent
        try:
            size = memory_size(text)
        except ValueError:
            raise ValueError(errors.NOT_A_MEMORY_OR_PERCENT_VALUE) from None
        if size > INT64_MAX:
            raise ValueError(errors.not_between("-100", str(INT64_MAX)))
        return size

    def format(self, value: int) -> str:
        return f"{-value}%" if value < 0 else str(value)

    def lines(self, value: int) -> list[str]:
        return [self.format(value) if value < 0 else memory_text(value)]


def memory_size(text: str) -> int:
    """The bytes that a text such as 512, 64kb or 1gb stands for.

    As in Redis' memtoull, k, m and g are powers of 1000; kb, mb and gb of 1024. Raises ValueError with the
    reason.
    """
    spelled = _MEMORY.fullmatch(text)
    if not spelled:
        raise ValueError(errors.NOT_A_MEMORY_VALUE)
    digits, unit = spelled.groups()
    return int(digits) * _UNITS[(unit or "b").lower()]


def memory_text(size: int) -> str:
    """The shortest exact spelling of a size in bytes."""
    for unit in ("gb", "mb", "kb"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


class EventClasses(OneWord[frozenset[str]]):
    """Classes of events of keys, a letter each, and where they are published."""

    meaning = 'letters, or ""'

    def read(self, text: str) -> frozenset[str]:
        letters = frozenset(text)
        if not letters <= set(_EVENT_LETTERS):
            raise ValueError(errors.wrong_event_class(_EVENT_LETTERS))
        return letters - {"A"} | _ALL_EVENTS if "A" in letters else letters

    def format(self, value: frozenset[str]) -> str:
        # As Redis tells it, which leaves out n where all of A are there.
        if value >= _ALL_EVENTS:
            value = value - _ALL_EVENTS - {"n"} | {"A"}
        return "".join(letter for letter in _SHOWN_EVENT_LETTERS if letter in value)

    def lines(self, value: frozenset[str]) -> list[str]:
        return [quote(self.format(value) + ("n" if value >= _ALL_EVENTS | {"n"} else ""))]


_EVENT_LETTERS = "Ag$lshzxeKEtmdn"
"""In the order in which an error names them."""
_SHOWN_EVENT_LETTERS = "Ag$lshzxetdnKEm"
_ALL_EVENTS = frozenset("g$lshzxetd")
"""What A stands for."""


class SeveralWords(Kind[T]):
    """A value of several words, which may also come as one text with blanks, as in CONFIG SET."""

    def parse(self, words: Sequence[str], current: T) -> T:
        if not words:
            raise ValueError(errors.WRONG_NUMBER_OF_VALUES)
        return self.read(words[0].split() if len(words) == 1 else words, current)

    @abstractmethod
    def read(self, words: Sequence[str], current: T) -> T:
        """As parse(), for the single words."""


class Addresses(SeveralWords[tuple[str, ...]]):
    """Network addresses to listen on."""

    meaning = 'addresses, or ""'

    def read(self, words: Sequence[str], current: tuple[str, ...]) -> tuple[str, ...]:
        if len(words) > limits.MAX_BIND_ADDRESSES:
            raise ValueError(errors.TOO_MANY_ADDRESSES)
        return tuple(words)

    def format(self, value: tuple[str, ...]) -> str:
        return " ".join(value)

    def lines(self, value: tuple[str, ...]) -> list[str]:
        return [" ".join(map(quote, value)) or '""']


class KeyPatterns(SeveralWords[tuple[str, ...]]):
    """Beginnings of keys, in which `*` stands for any text up to what follows it."""

    meaning = 'patterns, or ""'

    def read(self, words: Sequence[str], current: tuple[str, ...]) -> tuple[str, ...]:
        for word in words:
            head = word.partition("*")[0]
            if len(head) < PATTERN_START_BYTES or word.endswith("*") or "**" in word or "{" in word:
                raise ValueError(errors.WRONG_KEY_PATTERN)
        return tuple(words)

    def format(self, value: tuple[str, ...]) -> str:
        return " ".join(value)

    def lines(self, value: tuple[str, ...]) -> list[str]:
        return [" ".join(map(quote, value)) or '""']


class Percentiles(SeveralWords[tuple[float, ...]]):
    """Percentages, which need not be whole."""

    meaning = 'numbers from 0 to 100, or ""'

    def read(self, words: Sequence[str], current: tuple[float, ...]) -> tuple[float, ...]:
        try:
            percentiles = tuple(map(float, words))
        except ValueError:
            raise ValueError(errors.NO_PERCENTILES) from None
        if not all(0 <= percentile <= 100 for percentile in percentiles):
            raise ValueError(errors.PERCENTILE_OUT_OF_RANGE)
        return percentiles

    def format(self, value: tuple[float, ...]) -> str:
        return " ".join(f"{percentile:g}" for percentile in value)

    def lines(self, value: tuple[float, ...]) -> list[str]:
        return [self.format(value) or '""']


class SavePoint(NamedTuple):
    """A snapshot is taken when so many changes have been made and the last one is so many seconds ago."""

    seconds: int
    changes: int


class SavePoints(Kind[tuple[SavePoint, ...]]):
    """Pairs of seconds and changes. As in Redis, several lines of a configuration file add to one another,
    "" takes all away; a single text, as in CONFIG SET, replaces what was there."""

    meaning = 'pairs of seconds and changes, or ""'

    def parse(self, words: Sequence[str], current: tuple[SavePoint, ...]) -> tuple[SavePoint, ...]:
        if not words:
            return ()
        if len(words) == 1:
            return self._read(words[0].split())
        return tuple(dict.fromkeys((*current, *self._read(words))))

    def _read(self, words: Sequence[str]) -> tuple[SavePoint, ...]:
        numbers = [canonical_integer(word.encode("utf-8", "surrogateescape")) for word in words]
        points = list(zip(numbers[::2], numbers[1::2], strict=False))
        found = [
            SavePoint(seconds, changes)
            for seconds, changes in points
            if seconds is not None and changes is not None and seconds >= 1 and changes >= 0
        ]
        if len(words) % 2 or len(found) < len(points):
            raise ValueError(errors.WRONG_SAVE_POINTS)
        if len(found) > limits.MAX_SAVE_POINTS:
            raise ValueError(errors.WRONG_SAVE_POINTS)
        return tuple(found)

    def format(self, value: tuple[SavePoint, ...]) -> str:
        return " ".join(f"{point.seconds} {point.changes}" for point in value)

    def lines(self, value: tuple[SavePoint, ...]) -> list[str]:
        # The first line takes away what stands in lines before it.
        return ['""', *([self.format(value)] if value else [])]


class BufferLimit(NamedTuple):
    """When a client is closed: its replies exceed `hard_bytes`, or `soft_bytes` for `soft_seconds` without a
    break. 0 bytes: no limit."""

    hard_bytes: int
    soft_bytes: int
    soft_seconds: int


class BufferLimits(NamedTuple):
    """The limits of each class of clients."""

    normal: BufferLimit
    replica: BufferLimit
    pubsub: BufferLimit


class ClientBufferLimits(SeveralWords[BufferLimits]):
    """Groups of four words: class, hard limit, soft limit, seconds. Classes not named stay as they are."""

    meaning = "class, hard limit, soft limit, seconds"

    def read(self, words: Sequence[str], current: BufferLimits) -> BufferLimits:
        if len(words) % 4:
            raise ValueError(errors.WRONG_NUMBER_IN_BUFFER_LIMIT)
        for start in range(0, len(words), 4):
            name, *limit = words[start : start + 4]
            current = current._replace(**{self._class(name): self._limit(*limit)})
        return current

    def _class(self, name: str) -> str:
        name = "replica" if name.lower() == "slave" else name.lower()
        if name not in BufferLimits._fields:
            raise ValueError(errors.WRONG_CLASS_IN_BUFFER_LIMIT)
        return name

    def _limit(self, hard: str, soft: str, seconds: str) -> BufferLimit:
        try:
            limit = BufferLimit(memory_size(hard), memory_size(soft), Integer().read(seconds))
        except ValueError:
            raise ValueError(errors.WRONG_VALUE_IN_BUFFER_LIMIT) from None
        if max(limit) > INT64_MAX:
            raise ValueError(errors.WRONG_VALUE_IN_BUFFER_LIMIT)
        return limit

    def format(self, value: BufferLimits) -> str:
        classes = zip(("normal", "slave", "pubsub"), value, strict=True)
        return " ".join(f"{name} {hard} {soft} {seconds}" for name, (hard, soft, seconds) in classes)

    def lines(self, value: BufferLimits) -> list[str]:
        return [
            f"{name} {memory_text(hard)} {memory_text(soft)} {seconds}"
            for name, (hard, soft, seconds) in value._asdict().items()
        ]


@dataclass(frozen=True)
class Setting(Generic[T]):
    """The declaration of one setting.

    `name` is the directive's; `attribute` the field of Config. `secret` values are never logged. What
    `rereads` names a file: setting it to what it is has the file read again.
    """

    section: str
    default: T
    kind: Kind[T]
    doc: str
    mutable: bool
    aliases: tuple[str, ...]
    secret: bool
    rereads: bool
    name: str = ""

    @property
    def attribute(self) -> str:
        return self.name.replace("-", "_")

    def shown(self, value: T) -> str:
        """The value as it may be logged."""
        return "(hidden)" if self.secret else self.kind.format(value)


def setting(
    section: str,
    default: T,
    kind: Kind[T],
    doc: str,
    *,
    mutable: bool = True,
    aliases: tuple[str, ...] = (),
    secret: bool = False,
    rereads: bool = False,
) -> T:
    """Declares a field of Config: `mutable` if CONFIG SET may change it, with older names as `aliases`."""
    declared = Setting(section, default, kind, " ".join(doc.split()), mutable, aliases, secret, rereads)
    return field(default=default, repr=not secret, metadata={"setting": declared})
