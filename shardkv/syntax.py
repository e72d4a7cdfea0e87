"""Reads the syntax line of a command's declaration.

The notation is that of the Redis documentation: lower-case words stand for arguments, upper-case words and
signs for themselves; `[…]` may be left out, `<a | b>` is one of several, `[word ...]` repeats the words
before it, and `[...]` the one thing before it, whatever that is:

    SET key value [NX | XX] [GET] [EX seconds | PX milliseconds]

From it come the arity and the argument tree of COMMAND DOCS.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_TOKEN = re.compile(r"\.\.\.|[][<>|]|[^][<>|\s]+")

_WORDS_OF_TYPE = {
    "key": "key key1 key2 newkey source sourcekey src destination destkey dst",
    "pattern": "pattern match-pattern",
    "integer": "bit bits client-id count db decrement destination-db entries-added entries-read frequency "
    "idle index index1 index2 len limit maxage milliseconds min-match-len ms not-client-id not-db "
    "num-matches numfields numids numkeys numlocal numreplicas offset port protover rank seconds slot ttl "
    "version weight",
    "double": "height increment latitude longitude radius score timeout width",
    "unix-time": "unix-time-seconds unix-time-milliseconds",
}
_TYPES = {word: type for type, words in _WORDS_OF_TYPE.items() for word in words.split()}
"""The type that fits a word wherever the documentation uses it; all others are strings."""


@dataclass(frozen=True)
class Argument:
    """A node of the argument tree, in the terms of COMMAND DOCS.

    `type` is `pure-token`, `oneof`, `block` or a value's type; `token` is the keyword that stands
    before (or, for a pure token, for) the value.
    """

    name: str
    type: str
    token: str | None = None
    optional: bool = False
    multiple: bool = False
    multiple_token: bool = False
    arguments: tuple[Argument, ...] = ()

    def least(self) -> int:
        """The fewest words it takes up in a request."""
        if self.optional:
            return 0
        if self.type == "pure-token":
            return 1
        own = 1 if self.token else 0
        if self.type == "oneof":
            return own + min(argument.least() for argument in self.arguments)
        if self.type == "block":
            return own + sum(argument.least() for argument in self.arguments)
        return own + 1


@dataclass
class _Parser:
    tokens: list[str]
    at: int = 0

    def peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self) -> str:
        token = self.tokens[self.at]
        self.at += 1
        return token

    def close(self, bracket: str) -> None:
        if self.take() != bracket:
            raise IndexError

    def sequence(self) -> list[Argument]:
        """Reads up to a closing bracket, an alternative's bar, or the end of the line."""
        found: list[Argument] = []
        while (word := self.peek()) is not None and word not in "]>|":
            if word == "[":
                self.optional(found)
            elif _is_keyword(word):
                found.append(self.keyword())
            else:
                found.append(self.value())
        return found

    def keyword(self) -> Argument:
        """Reads a keyword and, if there is one, the value it stands before."""
        keyword = self.take()
        word = self.peek()
        if word is None or word in "[]>|" or _is_keyword(word):
            return Argument(keyword.lower(), "pure-token", token=keyword)
        value = self.value()
        if value.token is None:
            return replace(value, token=keyword)
        return Argument(value.name, "block", token=keyword, arguments=(value,))

    def value(self) -> Argument:
        """Reads the name of an argument, or `<…>`."""
        word = self.take()
        return self.alternatives(">") if word == "<" else Argument(word, _TYPES.get(word, "string"))

    def optional(self, before: list[Argument]) -> None:
        """Reads `[…]`, and either appends to `before` or, for `[word ...]`, makes its end repeat."""
        self.take()
        start = self.at
        words = []
        while self.peek() not in ("]", "[", "<", "|", None):
            words.append(self.take())
        if self.peek() == "]" and words and words[-1] == "...":
            self.take()
            _repeat(before, words[:-1])
            return
        self.at = start
        before.append(replace(self.alternatives("]"), optional=True))

    def alternatives(self, bracket: str) -> Argument:
        """Reads one choice, or several with bars between them, and the closing bracket."""
        choices = [self.sequence()]
        while self.peek() == "|":
            self.take()
            choices.append(self.sequence())
        self.close(bracket)
        if not all(choices):
            raise IndexError
        arguments = tuple(_block(choice) for choice in choices)
        if len(arguments) == 1:
            return arguments[0]
        return Argument(
            "-or-".join(argument.name for argument in arguments[:2]), "oneof", arguments=arguments
        )


def _is_keyword(word: str) -> bool:
    return word != "<" and not any(character.islower() for character in word)


def _block(sequence: list[Argument]) -> Argument:
    """The arguments as one. A keyword before several values (`LIMIT offset count`) is the block's own."""
    if len(sequence) == 1:
        return sequence[0]
    first, second = sequence[:2]
    block = Argument(f"{first.name}-{second.name}", "block", arguments=tuple(sequence))
    if first.token and _is_value(first) and _is_value(second) and not second.token:
        arguments = (replace(first, token=None), *block.arguments[1:])
        return replace(block, token=first.token, arguments=arguments)
    return block


def _is_value(argument: Argument) -> bool:
    return not (argument.arguments or argument.optional or argument.type == "pure-token")


def _repeat(before: list[Argument], words: list[str]) -> None:
    """Marks the last arguments, named by `words`, as repeatable; several become one block."""
    count = sum(not _is_keyword(word) for word in words)
    with_token = bool(words) and _is_keyword(words[0])
    if count <= 1:
        before[-1] = replace(before[-1], multiple=True, multiple_token=with_token)
        return
    last = before[-count:]
    before[-count:] = [replace(_block(last), multiple=True, multiple_token=with_token)]


def parse(syntax: str) -> tuple[Argument, ...]:
    """The argument tree of a syntax line without the command's name. Raises ValueError if it is malformed."""
    parser = _Parser(_TOKEN.findall(syntax))
    try:
        arguments = parser.sequence()
    except IndexError:
        raise ValueError(f"malformed syntax: {syntax}") from None
    if parser.peek() is not None:
        raise ValueError(f"stray {parser.peek()} in syntax: {syntax}")
    return tuple(arguments)


def arity(name_words: int, arguments: tuple[Argument, ...]) -> int:
    """Redis' arity: the number of words with the name, negative if more may follow."""
    least = name_words + sum(argument.least() for argument in arguments)
    fixed = not any(_varies(argument) for argument in arguments)
    return least if fixed else -least


def _varies(argument: Argument) -> bool:
    if argument.optional or argument.multiple:
        return True
    if argument.type == "oneof" and len({choice.least() for choice in argument.arguments}) > 1:
        return True
    return any(_varies(inner) for inner in argument.arguments)
