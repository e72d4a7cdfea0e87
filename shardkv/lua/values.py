"""Values on their way between commands and scripts: what Redis calls the conversion of RESP and Lua types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shardkv import errors, limits
from shardkv.errors import CommandError
from shardkv.lua.state import TABLE, State, kind
from shardkv.numbers import format_double
from shardkv.resp.replies import (
    OK,
    BigNumber,
    FormattedText,
    MapPairs,
    NullArray,
    Pairs,
    PlainDouble,
    Push,
    Status,
    Unordered,
    Verbatim,
    format_plain,
)

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


def word(value: Any) -> bytes | None:
    """An argument of redis.call as a word of the request; None if it is none."""
    kind_ = value.__class__
    if kind_ is bytes:
        return value  # type: ignore[no-any-return]
    if kind_ is int:
        return b"%d" % value
    if kind_ is float:
        return b"-nan" if value != value else format_double(value)
    return None


# -- replies for scripts ------------------------------------------------------------------------


class Replies:
    """Makes replies of commands values of Lua."""

    def __init__(self, state: State) -> None:
        self._table: Callable[[Any], Any] = state.table
        self._resp2: dict[type, Callable[[Any], Any]] = {
            bytes: _itself,
            bytearray: bytes,
            Verbatim: bytes,
            BigNumber: bytes,
            FormattedText: lambda text: text.text,
            int: _itself,
            bool: int,
            type(None): _false,
            NullArray: _false,
            Status: lambda text: self._table({b"ok": bytes(text)}),
            CommandError: lambda error: self._table({b"err": error.text}),
            list: self._array2,
            tuple: self._array2,
            set: self._array2,
            Unordered: self._array2,
            Push: self._array2,
            MapPairs: self._array2,
            Pairs: lambda pairs: self._array2([part for pair in pairs for part in pair]),
            dict: lambda pairs: self._array2([part for pair in pairs.items() for part in pair]),
            float: format_double,
            PlainDouble: format_plain,
        }
        self._resp3: dict[type, Callable[[Any], Any]] = {
            **self._resp2,
            bool: _itself,
            type(None): _itself,
            NullArray: _nothing,
            list: self._array3,
            tuple: self._array3,
            Push: self._array3,
            Pairs: self._array3,
            set: self._set,
            Unordered: self._set,
            dict: lambda pairs: self._map(pairs.items()),
            MapPairs: self._map,
            float: lambda number: self._table({b"double": float(number)}),
            PlainDouble: lambda number: self._table({b"double": float(number)}),
            BigNumber: lambda digits: self._table({b"big_number": bytes(digits)}),
            Verbatim: lambda text: self._verbatim(b"txt", bytes(text)),
            FormattedText: lambda text: self._verbatim(text.format, text.text),
        }

    def resp2(self, value: Any) -> Any:
        """The value as a script sees it that has not chosen RESP3."""
        return self._resp2[value.__class__](value)

    def resp3(self, value: Any) -> Any:
        """The value as a script sees it that has."""
        return self._resp3[value.__class__](value)

    def _array2(self, values: Sequence[Any]) -> Any:
        return self._table(list(map(self.resp2, values)))

    def _array3(self, values: Sequence[Any]) -> Any:
        return self._table(list(map(self.resp3, values)))

    def _map(self, pairs: Any) -> Any:
        return self._table({b"map": self._table({self.resp3(key): self.resp3(item) for key, item in pairs})})

    def _set(self, members: Any) -> Any:
        return self._table({b"set": self._table({self.resp3(member): True for member in members})})

    def _verbatim(self, style: bytes, text: bytes) -> Any:
        return self._table({b"verbatim_string": self._table({b"format": style, b"string": text})})


def _itself(value: Any) -> Any:
    return value


def _false(value: Any) -> bool:
    return False


def _nothing(value: Any) -> None:
    return None


def size_of(value: Any) -> int:
    """About how many bytes a reply takes in Lua."""
    if isinstance(value, bytes | bytearray):
        return len(value) + 40
    if isinstance(value, dict):
        return 80 + sum(size_of(key) + size_of(item) for key, item in value.items())
    if isinstance(value, list | tuple | set):
        return 80 + sum(map(size_of, value))
    return 40


# -- what scripts return ------------------------------------------------------------------------


class Results:
    """Makes what scripts return values that a reply is made of."""

    def __init__(self, state: State, reply: Callable[[Any], Any]) -> None:
        self.state = state
        self.reply = reply
        """What a table stands for; see the sandbox."""

    def value(self, found: Any, parts: tuple[Any, ...], *, resp3: bool) -> Any:
        """The value of a script's reply, from what the script has returned or, if that is a table, the parts
        that it stands for. `resp3` says whether the script has chosen RESP3.

        Raises CommandError if it is nested too deep.
        """
        return self._parts(parts, resp3, 1) if parts else self._value(found, resp3, 0)

    def _value(self, found: Any, resp3: bool, depth: int) -> Any:
        kind_ = found.__class__
        if kind_ is bytes or found is None:
            return found
        if kind_ is int or kind_ is float:
            return integer(found)
        if kind_ is bool:
            return found if resp3 else 1 if found else None
        if kind(found) != TABLE:
            return None
        if depth > limits.SCRIPT_REPLY_DEPTH:
            raise CommandError(errors.SCRIPT_REPLY_TOO_DEEP)
        return self._parts(self.reply(found), resp3, depth + 1)

    def _parts(self, parts: tuple[Any, ...], resp3: bool, depth: int) -> Any:
        match parts:
            case (b"array", table, count, *values):
                return [self._value(item, resp3, depth) for item in self.state.values(table, count, values)]
            case (b"err", text):
                return CommandError(text)
            case (b"ok", text):
                return OK if text == OK else Status(text.replace(b"\r", b" ").replace(b"\n", b" "))
            case (b"double", number):
                return float(number)
            case (b"map", part):
                return {
                    _hashable(self._value(key, resp3, depth)): self._value(item, resp3, depth)
                    for key, item in self.state.entries(part)
                }
            case (b"set", part):
                return Unordered(self._value(member, resp3, depth) for member, _ in self.state.entries(part))
            case (b"big_number", digits):
                return BigNumber(digits.replace(b"\r", b" ").replace(b"\n", b" "))
            case (b"verbatim_string", style, text):
                return FormattedText(style[:3].ljust(3), text)
        raise AssertionError("the sandbox knows another kind of reply")


def integer(number: float) -> int:
    """A number as C's cast to a long long makes it on most machines."""
    # Neither infinity is in that range, nor is what is not a number.
    return int(number) if _INT64_MIN <= number <= _INT64_MAX else _INT64_MIN


def _hashable(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key
