"""What the libraries that pack values into strings have in common: how Lua's numbers become C's."""

from __future__ import annotations

from typing import Any

from shardkv.lua.state import State, kind
from shardkv.numbers import strtod

NO_VALUE = object()


def given(args: tuple[Any, ...], number: int) -> Any:
    """The argument of that number, counted from 1."""
    return args[number - 1] if number <= len(args) else NO_VALUE


def kind_of(value: Any) -> bytes:
    """What an error says that there was."""
    return b"no value" if value is NO_VALUE else kind(value).encode()


def number_of(state: State, value: Any, position: int) -> float:
    """A number, or a string that is one. Raises ScriptError."""
    if value.__class__ is int or value.__class__ is float:
        return float(value) if value.__class__ is float else int(value)
    if value.__class__ is bytes:
        found = _number(value)
        if found is not None:
            return found
    raise state.bad_argument(position, b"number expected, got %b" % kind_of(value))


def string_of(state: State, value: Any, position: int) -> bytes:
    """A string, or a number as one. Raises ScriptError."""
    if value.__class__ is bytes:
        return bytes(value)
    if value.__class__ is int or value.__class__ is float:
        return b"%.14g" % value
    raise state.bad_argument(position, b"string expected, got %b" % kind_of(value))


def _number(text: bytes) -> float | None:
    stripped = text.strip(b" \t\n\v\f\r")
    if stripped[:3].lower().lstrip(b"+-")[:2] == b"0x":
        try:
            return int(stripped, 16)
        except ValueError:
            return None
    return strtod(stripped)


def whole(number: float) -> int:
    """A number as C's cast to a 64-bit integer makes it."""
    if number != number or abs(number) >= 2**63:
        return -(2**63)
    return int(number)
