"""cjson.decode: JSON as lua-cjson reads it.

What is strict JSON in UTF-8, which nearly all is, msgspec reads. Anything else is read token by token as
lua-cjson does, with its leniency and its errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from shardkv.lua.state import State, kind

_read = msgspec.json.Decoder(strict=True).decode

_CLOSING = b"unexpected end of string"
_ESCAPES = {
    b'"': b'"',
    b"\\": b"\\",
    b"/": b"/",
    b"b": b"\b",
    b"t": b"\t",
    b"n": b"\n",
    b"f": b"\f",
    b"r": b"\r",
}

_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\0]*')
_HEX4 = re.compile(rb"[0-9A-Fa-f]{4}")
_UNUSUAL = re.compile(rb"\+|-?0[xX0-9]|-?(?:inf|nan)", re.IGNORECASE)
_NUMBER = re.compile(
    rb"[+-]?(?:(0[xX](?:[0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)(?:[pP][+-]?[0-9]+)?)"
    rb"|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|(?:inf(?:inity)?|nan))",
    re.IGNORECASE,
)
_STRUCTURE = {
    b"{": b"T_OBJ_BEGIN",
    b"}": b"T_OBJ_END",
    b"[": b"T_ARR_BEGIN",
    b"]": b"T_ARR_END",
    b":": b"T_COLON",
    b",": b"T_COMMA",
    b"": b"T_END",
    b"\0": b"T_END",
}
_WORDS = {b"true": (b"T_BOOLEAN", True), b"false": (b"T_BOOLEAN", False)}
_OPENING = {b"T_OBJ_BEGIN": b"T_OBJ_END", b"T_ARR_BEGIN": b"T_ARR_END"}
_SCALARS = (b"T_STRING", b"T_NUMBER", b"T_BOOLEAN", b"T_NULL")

_NESTED = 100
"""So deep the quick way goes."""


class JsonError(Exception):
    """Carries lua-cjson's message."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class Decoder:
    """Decodes into tables of one Lua state."""

    def __init__(self, state: State, null: Callable[[], Any]) -> None:
        self.state = state
        self._null = null

    def library_function(self, settings: Callable[[], tuple[int, bool]]) -> Any:
        """`cjson.decode` of one instance of the library; `settings` gives its greatest depth and whether
        unusual numbers are taken."""
        return self.state.function(lambda *args: self._decode(settings, args))

    def _decode(self, settings: Callable[[], tuple[int, bool]], args: tuple[Any, ...]) -> Any:
        if len(args) != 1:
            raise self.state.bad_argument(1, b"expected 1 argument")
        text = args[0]
        if isinstance(text, int | float) and not isinstance(text, bool):
            text = b"%.14g" % text
        if not isinstance(text, bytes):
            raise self.state.bad_argument(1, b"string expected, got %b" % kind(text).encode())
        depth, unusual = settings()
        self.state.make_room(_LUA_BYTES * len(text))
        self.state.unbound()
        null = self._null()
        try:
            return self._to_lua(_quick(text, depth), null)
        except (msgspec.DecodeError, RecursionError, OverflowError):
            pass
        try:
            reading = Slow(text, depth=depth, unusual=unusual, null=null, make=self.state.table)
            return reading.document()
        except JsonError as error:
            raise self.state.fail(error.text) from None

    def _to_lua(self, value: Any, null: Any) -> Any:
        type_ = value.__class__
        if type_ is str:
            return value.encode()
        if type_ is list:
            return self.state.table([self._to_lua(item, null) for item in value])
        if type_ is dict:
            return self.state.table(
                {
                    key.encode() if key.__class__ is str else key: self._to_lua(item, null)
                    for key, item in value.items()
                }
            )
        if value is None:
            return null
        return float(value) if type_ is int else value


_LUA_BYTES = 8
"""A byte of JSON takes at most about so many bytes of Lua."""


def _quick(text: bytes, depth: int) -> Any:
    """Reads strict JSON. Raises msgspec.DecodeError for what is none or might be read otherwise."""
    if text.count(b"[") + text.count(b"{") > min(depth, _NESTED) or b"-0" in text:
        raise msgspec.DecodeError("perhaps too deep")
    return _read(text)


class Slow:
    """Reads one text as lua-cjson does."""

    def __init__(
        self, text: bytes, *, depth: int, unusual: bool, null: Any, make: Callable[[Any], Any]
    ) -> None:
        """`make` makes a table of a list or dict."""
        self.text = text
        self.depth = depth
        self.unusual = unusual
        self.at = 0
        self.index = 0
        """Where the token at hand begins."""
        self._words = _WORDS | {b"null": (b"T_NULL", null)}
        self._make = make
        self._root: Any = None
        self._stack: list[list[Any] | dict[Any, Any]] = []
        """Open arrays and objects."""
        self._keys: list[Any] = []
        """Of each of them, the key that the next value gets."""

    def document(self) -> Any:
        """The whole text's value. Raises JsonError."""
        if len(self.text) >= 2 and (not self.text[0] or not self.text[1]):
            raise JsonError(b"JSON parser does not support UTF-16 or UTF-32")
        token, value = self._next()
        while True:
            if token in _OPENING:
                self._open(token)
                closing = _OPENING[token]
                token, value = self._next()
                if token != closing:
                    token, value = self._begin_item(token, value)
                    continue
                value = self._close()
            elif token not in _SCALARS:
                raise self._unexpected(b"value", token)
            if self._end_item(value):
                return self._root
            token, value = self._begin_item(*self._next())

    def _open(self, token: bytes) -> None:
        self._stack.append({} if token == b"T_OBJ_BEGIN" else [])
        self._keys.append(None)
        if len(self._stack) > self.depth:
            raise JsonError(
                b"Found too many nested data structures (%d) at character %d" % (len(self._stack), self.at)
            )

    def _close(self) -> Any:
        self._keys.pop()
        return self._make(self._stack.pop())

    def _begin_item(self, token: bytes, value: Any) -> tuple[bytes, Any]:
        """Reads what comes before the next value of what is open; returns the value's first token."""
        if isinstance(self._stack[-1], list):
            return token, value
        if token != b"T_STRING":
            raise self._unexpected(b"object key string", token)
        self._keys[-1] = value
        token, _ = self._next()
        if token != b"T_COLON":
            raise self._unexpected(b"colon", token)
        return self._next()

    def _end_item(self, value: Any) -> bool:
        """Puts a value in its place, and likewise what is closed after it; whether that was the last."""
        while self._stack:
            opened = self._stack[-1]
            if isinstance(opened, list):
                opened.append(value)
                closing, expected = b"T_ARR_END", b"comma or array end"
            else:
                opened[self._keys[-1]] = value
                closing, expected = b"T_OBJ_END", b"comma or object end"
            token, _ = self._next()
            if token == b"T_COMMA":
                return False
            if token != closing:
                raise self._unexpected(expected, token)
            value = self._close()
        token, _ = self._next()
        if token != b"T_END":
            raise self._unexpected(b"the end", token)
        self._root = value
        return True

    def _unexpected(self, expected: bytes, found: bytes) -> JsonError:
        return JsonError(b"Expected %b but found %b at character %d" % (expected, found, self.index + 1))

    # -- tokens -----------------------------------------------------------------------------------

    def _next(self) -> tuple[bytes, Any]:
        """The next token and its value; a broken one's description in place of its name."""
        text = self.text
        space = _SPACE.match(text, self.at)
        assert space is not None
        self.at = self.index = space.end()
        char = text[self.at : self.at + 1]
        known = _STRUCTURE.get(char)
        if known is not None:
            self.at += char not in (b"", b"\0")
            return known, None
        if char == b'"':
            return self._string()
        if char == b"-" or char.isdigit():
            if not self.unusual and _UNUSUAL.match(text, self.at):
                return b"invalid number", None
            return self._number()
        for word, found in self._words.items():
            if text.startswith(word, self.at):
                self.at += len(word)
                return found[0], found[1]
        if self.unusual and char in b"fFiInNtT+" and _UNUSUAL.match(text, self.at):
            return self._number()
        return b"invalid token", None

    def _number(self) -> tuple[bytes, Any]:
        found = _NUMBER.match(self.text, self.at)
        if found is None:
            return b"invalid number", None
        self.at = found.end()
        digits = found[0].decode().lower()
        return b"T_NUMBER", float.fromhex(digits) if found[1] else float(digits)

    def _string(self) -> tuple[bytes, Any]:
        text = self.text
        parts = []
        at = self.at + 1
        while True:
            plain = _PLAIN.match(text, at)
            assert plain is not None
            parts.append(plain[0])
            at = plain.end()
            char = text[at : at + 1]
            if char == b'"':
                self.at = at + 1
                return b"T_STRING", b"".join(parts)
            self.index = at
            if char != b"\\":
                return _CLOSING, None
            escape = text[at + 1 : at + 2]
            if escape == b"u":
                character, length = _unicode(text, at)
                if not length:
                    return b"invalid unicode escape code", None
                parts.append(character)
                at += length
            elif escape in _ESCAPES:
                parts.append(_ESCAPES[escape])
                at += 2
            else:
                return b"invalid escape code", None


def _unicode(text: bytes, at: int) -> tuple[bytes, int]:
    """The character of an escape like \\u00e9, or of two that are a surrogate pair, in UTF-8; and the length
    of the escape, 0 if it is none."""
    first = _HEX4.match(text, at + 2)
    if first is None:
        return b"", 0
    code = int(first[0], 16)
    if code & 0xF800 != 0xD800:
        return chr(code).encode(), 6
    second = _HEX4.match(text, at + 8)
    if code & 0x400 or text[at + 6 : at + 8] != b"\\u" or second is None:
        return b"", 0
    low = int(second[0], 16)
    if low & 0xFC00 != 0xDC00:
        return b"", 0
    return chr(0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF)).encode(), 12
