"""Whether a script reaches no other keys than those that it declares, as far as its text shows it.

Decided word by word, and only for what is beyond doubt: every call of a command stands where it can be read,
names the command, and has `KEYS[…]`, or a local name for one of them, wherever the command takes a key.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from shardkv.command import Command, Place, named

_TOKENS = re.compile(
    rb"""
      (?P<space> \s+ | --\[(?P<c>=*)\[.*?\](?P=c)\] | --[^\n\r]* )
    | (?P<long> \[(?P<s>=*)\[.*?\](?P=s)\] )
    | (?P<string> "(?:[^"\\\n\r]|\\.)*" | '(?:[^'\\\n\r]|\\.)*' )
    | (?P<number> 0[xX][0-9a-fA-F]+ | \.?[0-9](?:[eE][+-]?|[0-9a-zA-Z_.])* )
    | (?P<name> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<sign> \.\.\. | \.\. | == | ~= | <= | >= | . )
    """,
    re.VERBOSE | re.DOTALL,
)

_KEYWORDS = frozenset(
    b"and break do else elseif end false for function if in local nil not or repeat return then true until "
    b"while".split()
)

_GLOBALS = frozenset((b"_G", b"loadstring", b"load", b"getfenv", b"setfenv"))
"""By these a script could reach anything under another name."""

_TABLES = (b"redis", b"server")
_CALLS = (b"call", b"pcall")
_HARMLESS = frozenset(
    (
        *(b"error_reply", b"status_reply", b"sha1hex", b"log", b"setresp", b"replicate_commands"),
        *(b"LOG_DEBUG", b"LOG_VERBOSE", b"LOG_NOTICE", b"LOG_WARNING"),
        *(b"REDIS_VERSION", b"REDIS_VERSION_NUM", b"acl_check_cmd"),
    )
)
"""What else of `redis` a script may use: nothing of it touches a key."""

_WITHOUT_KEYS = frozenset((b"echo", b"ping", b"time"))
"""Commands that concern no key at all."""


class _DoubtError(Exception):
    """The text does not show it."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: bytes


def reaches_only_its_keys(body: bytes) -> bool:
    """Whether a script, the text that EVAL takes, certainly reaches no keys but those declared with it."""
    try:
        _Script(_tokens(body)).check()
    except _DoubtError:
        return False
    return True


def _tokens(body: bytes) -> list[_Token]:
    if body.startswith(b"#!"):
        body = body.partition(b"\n")[2]
    found = []
    at = 0
    for match in _TOKENS.finditer(body):
        if match.start() != at:
            raise _DoubtError
        at = match.end()
        kind = match.lastgroup
        for name in ("space", "long", "string", "number", "name", "sign"):
            if match[name] is not None:
                kind = name
        assert kind is not None
        if kind == "sign" and match[0] in (b'"', b"'"):
            raise _DoubtError
        if kind != "space":
            found.append(_Token(kind, match[0]))
    return found


@dataclass
class _Script:
    tokens: list[_Token]
    keys: set[bytes] = field(default_factory=set)
    """Local names that stand for one of the declared keys wherever they are seen."""
    calls: set[bytes] = field(default_factory=set)
    """Local names that stand for redis.call or redis.pcall."""

    def check(self) -> None:
        """Raises _DoubtError unless the script reaches only its keys."""
        self._find_locals()
        for at, token in enumerate(self.tokens):
            if token.kind != "name" or self._text(at - 1) in (b".", b":"):
                continue
            if token.text in _GLOBALS:
                raise _DoubtError
            if token.text == b"KEYS":
                self._check_use_of_keys(at)
            elif token.text in _TABLES:
                self._check_use_of_table(at)
            elif token.text in self.calls and not self._is_bound_at(at):
                self._check_call(at + 1)

    def _text(self, at: int) -> bytes:
        return self.tokens[at].text if 0 <= at < len(self.tokens) else b""

    # -- local names ------------------------------------------------------------------------------

    def _find_locals(self) -> None:
        """Finds the names that are bound once, to a key or to a function that calls commands."""
        bound: Counter[bytes] = Counter()
        for at, token in enumerate(self.tokens):
            if token.text == b"function" and token.kind == "name":
                bound.update(self._names_until(at + 1, b")"))
            elif token.text == b"for" and token.kind == "name":
                bound.update(self._names_until(at + 1, b"in", b"="))
            elif token.text == b"=":
                bound.update(self._targets(at))
            elif token.text == b"local" and token.kind == "name":
                bound.update(self._declared_without_value(at + 1))
        for at, token in enumerate(self.tokens):
            if token.text == b"local" and token.kind == "name":
                self._learn_local(at + 1, bound)
            elif token.text == b"for" and token.kind == "name":
                self._learn_loop(at + 1, bound)

    def _names_until(self, at: int, *ends: bytes) -> list[bytes]:
        found = []
        while at < len(self.tokens) and self._text(at) not in ends:
            if self.tokens[at].kind == "name":
                found.append(self._text(at))
            at += 1
        return found

    def _targets(self, at: int) -> list[bytes]:
        """The names that might be assigned to before a `=`: rather too many than too few."""
        found = []
        at -= 1
        while at >= 0 and (self.tokens[at].kind != "sign" or self._text(at) in (b",", b".", b"[", b"]")):
            token = self.tokens[at]
            if token.kind == "name" and token.text in _KEYWORDS:
                break
            if token.kind == "name":
                found.append(token.text)
            at -= 1
        return found

    def _declared_without_value(self, at: int) -> list[bytes]:
        names, at = self._list_of_names(at)
        return names if self._text(at) != b"=" else []

    def _list_of_names(self, at: int) -> tuple[list[bytes], int]:
        names = []
        while at < len(self.tokens) and self.tokens[at].kind == "name" and self._text(at) not in _KEYWORDS:
            names.append(self._text(at))
            at += 1
            if self._text(at) != b",":
                break
            at += 1
        return names, at

    def _learn_local(self, at: int, bound: Counter[bytes]) -> None:
        """`local a, b = KEYS[1], KEYS[2]`, `local call = redis.call`."""
        names, at = self._list_of_names(at)
        if self._text(at) != b"=":
            return
        at += 1
        for name in names:
            end = self._end_of_key(at)
            if end is None and self._is_call(at):
                end = at + 3
                kind = self.calls
            else:
                kind = self.keys
            if end is None or not self._ends_expression(end):
                return
            if bound[name] == 1:
                kind.add(name)
            elif kind is self.calls:
                raise _DoubtError
            if self._text(end) != b",":
                return
            at = end + 1

    def _learn_loop(self, at: int, bound: Counter[bytes]) -> None:
        """`for _, key in ipairs(KEYS) do`."""
        names, at = self._list_of_names(at)
        rest = [self._text(at + step) for step in range(6)]
        if (
            len(names) == 2
            and rest == [b"in", b"ipairs", b"(", b"KEYS", b")", b"do"]
            and bound[names[1]] == 1
        ):
            self.keys.add(names[1])

    def _is_bound_at(self, at: int) -> bool:
        """Whether a name stands where it is bound."""
        back = at
        while self._text(back - 1) == b"," and self.tokens[back - 2].kind == "name":
            back -= 2
        return self._text(back - 1) == b"local"

    # -- expressions ------------------------------------------------------------------------------

    def _ends_expression(self, at: int) -> bool:
        """Whether what stands there cannot go on with the expression before it."""
        text = self._text(at)
        if not text or text in (b",", b")", b";", b"}", b"="):
            return text != b"="
        return self.tokens[at].kind == "name" and text not in (b"and", b"or")

    def _end_of_key(self, at: int) -> int | None:
        """Where `KEYS[…]`, or a name for it, ends that stands here; None if it is something else."""
        if self._text(at) in self.keys and self.tokens[at].kind == "name":
            return at + 1
        if self._text(at) != b"KEYS" or self._text(at + 1) != b"[":
            return None
        return self._closing(at + 1) + 1

    def _closing(self, at: int) -> int:
        """Where the bracket is closed that is opened here."""
        depth = 0
        while at < len(self.tokens):
            token = self.tokens[at]
            if token.kind == "sign":
                depth += token.text in (b"(", b"[", b"{")
                depth -= token.text in (b")", b"]", b"}")
                if not depth:
                    return at
            at += 1
        raise _DoubtError

    def _is_call(self, at: int) -> bool:
        dotted = self._text(at) in _TABLES and self._text(at + 1) == b"."
        return dotted and self._text(at + 2) in _CALLS and self.tokens[at].kind == "name"

    # -- what must not be -------------------------------------------------------------------------

    def _check_use_of_keys(self, at: int) -> None:
        """KEYS may be asked for its values and their number, and gone through; nothing may be put into it."""
        before = [self._text(at - step) for step in (1, 2)]
        if self._text(at + 1) == b"[":
            end = self._closing(at + 1) + 1
            targets = self._text(end) == b","
            if (
                self._text(end) == b"="
                or self._text(end) in (b".", b"[")
                or (targets and self._is_target(end))
            ):
                raise _DoubtError
            return
        if before[0] == b"#" or (before == [b"(", b"ipairs"] and self._text(at + 1) == b")"):
            return
        if before == [b"(", b"unpack"] and self._text(at + 1) == b")":
            return
        raise _DoubtError

    def _is_target(self, at: int) -> bool:
        """Whether a list that goes on here is one of assignments: `KEYS[1], a = …`."""
        while at < len(self.tokens) and self.tokens[at].kind != "string":
            text = self._text(at)
            if text == b"=":
                return True
            if text in (b"(", b")", b"{", b"}") or text in _KEYWORDS:
                return False
            at += 1
        return False

    def _check_use_of_table(self, at: int) -> None:
        if self._text(at + 1) != b".":
            raise _DoubtError
        member = self._text(at + 2)
        if member in _HARMLESS:
            return
        if member not in _CALLS:
            raise _DoubtError
        if self._text(at + 3) == b"(":
            self._check_call(at + 3)
        elif not self._is_value_of_local(at):
            raise _DoubtError

    def _is_value_of_local(self, at: int) -> bool:
        """Whether redis.call is what a local name is bound to that is known to stand for it."""
        back = at - 1
        while back >= 0 and self._text(back) != b"local":
            if self.tokens[back].kind == "string" or self._text(back) in (b"(", b")", b"{", b"}", b";"):
                return False
            back -= 1
        names, equals = self._list_of_names(back + 1)
        return self._text(equals) == b"=" and any(name in self.calls for name in names)

    # -- calls ------------------------------------------------------------------------------------

    def _check_call(self, at: int) -> None:
        """The arguments of a call of a command, whose opening bracket stands here."""
        if self._text(at) != b"(":
            raise _DoubtError
        arguments = self._arguments(at)
        if not arguments or len(arguments[0]) != 1 or arguments[0][0].kind != "string":
            raise _DoubtError
        name = arguments[0][0].text[1:-1]
        if b"\\" in name:
            raise _DoubtError
        if name.lower() in _WITHOUT_KEYS:
            return
        command = named(name)
        if command is None or command.is_container:
            raise _DoubtError
        self._check_keys(command, arguments)

    def _arguments(self, at: int) -> list[list[_Token]]:
        """The expressions in the brackets that are opened here."""
        end = self._closing(at)
        found: list[list[_Token]] = [[]]
        depth = 0
        for token in self.tokens[at + 1 : end]:
            if token.kind == "sign":
                depth += token.text in (b"(", b"[", b"{")
                depth -= token.text in (b")", b"]", b"}")
                if token.text == b"," and not depth:
                    found.append([])
                    continue
            found[-1].append(token)
        return found if found != [[]] else []

    def _check_keys(self, command: Command, arguments: list[list[_Token]]) -> None:
        if command.place is not Place.SHARD or command.locks is not None or len(command.keys) == 0:
            raise _DoubtError
        for spec in command.keys:
            if not isinstance(spec.begin, int) or spec.numkeys is not None or spec.find is not None:
                raise _DoubtError
        if command.spreads([b""] * max(command.least, len(arguments))):
            raise _DoubtError
        for spec in command.keys:
            assert isinstance(spec.begin, int)
            if spec.last >= 0:
                places: Sequence[int] = range(spec.begin, spec.begin + spec.last + 1, spec.step)
            elif spec.last == -1 and spec.limit <= 1 and (spec.step == 1 or not self._expands(arguments)):
                places = range(spec.begin, len(arguments), spec.step)
            else:
                raise _DoubtError
            for place in places:
                if place >= len(arguments) or not self._is_key(arguments[place], place, spec.step):
                    raise _DoubtError

    @staticmethod
    def _expands(arguments: list[list[_Token]]) -> bool:
        """Whether the last argument may stand for several."""
        last = arguments[-1][-1].text if arguments[-1] else b""
        return last in (b")", b"...")

    def _is_key(self, argument: list[_Token], place: int, step: int) -> bool:
        """Whether an argument is a declared key, or, where keys follow each other, all of them."""
        texts = [token.text for token in argument]
        if step == 1 and place and texts == [b"unpack", b"(", b"KEYS", b")"]:
            return True
        if len(argument) == 1:
            return argument[0].kind == "name" and texts[0] in self.keys
        inner = _Script(argument)
        return inner._end_of_key(0) == len(argument)
