"""What one set of rules allows: the root permissions of a user, or a selector of one
(https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/).

The texts of errors, and the form in which rules are told, are those of Redis 7.2 as valkey-server 9.1.2 has
them.
"""

from __future__ import annotations

import re
from copy import copy
from dataclasses import dataclass, field
from typing import NamedTuple

from shardkv import errors, glob
from shardkv.command import CATEGORIES, COMMANDS, Command, named
from shardkv.errors import CommandError
from shardkv.glob import Matcher

READ, WRITE = 1, 2

_ACCESS = {b"": READ | WRITE, b"%R": READ, b"%W": WRITE, b"%RW": READ | WRITE, b"%WR": READ | WRITE}
"""What may be done with the keys of a pattern, by what stands before its `~`."""

_BLANK = re.compile(rb"[ \t\n\v\f\r\0]")

_SIGNS = {READ | WRITE: b"~", READ: b"%R~", WRITE: b"%W~"}


class Pattern(NamedTuple):
    """What keys, or channels, match; of keys, what may be done with them."""

    text: bytes
    matches: Matcher
    access: int = 0


@dataclass
class Permissions:
    """What is allowed, and how that is told."""

    any_command: bool = False
    """Whether commands are allowed that nothing else is said of."""
    said: list[bytes] = field(default_factory=list)
    """The rules about single commands and categories that count, in their order."""
    commands: frozenset[str] = frozenset()
    """The names of those that are allowed."""
    first_arguments: dict[str, frozenset[bytes]] = field(default_factory=dict)
    """Of other commands, with which first argument they are allowed, in lower case."""
    any_key: bool = False
    keys: list[Pattern] = field(default_factory=list)
    any_channel: bool = False
    channels: list[Pattern] = field(default_factory=list)

    @property
    def everything(self) -> bool:
        """Whether nothing is forbidden."""
        forbids = any(rule.startswith(b"-") for rule in self.said)
        return self.any_command and not forbids and self.any_key and self.any_channel

    def copied(self) -> Permissions:
        """A copy, which may be changed."""
        made = copy(self)
        made.said, made.keys, made.channels = [*self.said], [*self.keys], [*self.channels]
        made.first_arguments = {**self.first_arguments}
        return made

    # -- rules ----------------------------------------------------------------------------------

    def apply(self, rule: bytes) -> None:
        """Follows one rule. Raises CommandError, with the reason alone, if there is no such."""
        lower = rule.lower()
        match lower:
            case b"allcommands" | b"+@all" | b"nocommands" | b"-@all":
                self._set_all(allowed=lower in (b"allcommands", b"+@all"))
            case b"allkeys" | b"~*":
                self.any_key, self.keys = True, []
            case b"resetkeys":
                self.any_key, self.keys = False, []
            case b"allchannels" | b"&*":
                self.any_channel, self.channels = True, []
            case b"resetchannels":
                self.any_channel, self.channels = False, []
            case _:
                self._apply_pattern_or_command(rule, lower)

    def _apply_pattern_or_command(self, rule: bytes, lower: bytes) -> None:
        match rule[:1]:
            case b"~" | b"%":
                self._add_key(rule)
            case b"&":
                self._add_channel(rule[1:])
            case (b"+" | b"-") as sign if rule[1:2] == b"@":
                self._set_category(lower[2:], sign)
            case b"+":
                self._allow(lower[1:])
            case b"-":
                self._forbid(lower[1:])
            case _:
                raise CommandError(errors.ACL_SYNTAX)

    def _add_key(self, rule: bytes) -> None:
        if self.any_key:
            raise CommandError(errors.ACL_KEYS_ARE_ALL)
        flags, _, text = rule.partition(b"~")
        access = _ACCESS.get(flags.upper())
        if access is None:
            raise CommandError(errors.ACL_SYNTAX)
        _check_word(text)
        for place, known in enumerate(self.keys):
            if known.text == text:
                self.keys[place] = known._replace(access=known.access | access)
                return
        self.keys.append(Pattern(text, glob.compile(text), access))

    def _add_channel(self, text: bytes) -> None:
        if self.any_channel:
            raise CommandError(errors.ACL_CHANNELS_ARE_ALL)
        _check_word(text)
        if all(known.text != text for known in self.channels):
            self.channels.append(Pattern(text, glob.compile(text)))

    # -- commands -------------------------------------------------------------------------------

    def _set_all(self, *, allowed: bool) -> None:
        self.any_command = allowed
        self.said, self.first_arguments = [], {}
        self.commands = frozenset(COMMANDS) if allowed else frozenset()

    def _set_category(self, category: bytes, sign: bytes) -> None:
        name = category.decode("latin-1")
        if name not in CATEGORIES:
            raise CommandError(errors.ACL_UNKNOWN_COMMAND)
        self._say(sign, b"@" + category)
        self._set([one for one in COMMANDS.values() if name in one.acl_categories()], allowed=sign == b"+")

    def _allow(self, word: bytes) -> None:
        name, bar, argument = word.rpartition(b"|")
        declared = named(name if bar else word)
        if declared is None:
            raise CommandError(errors.ACL_UNKNOWN_COMMAND)
        if bar:
            if declared.container is not None:
                raise CommandError(errors.ACL_ARGUMENT_OF_SUBCOMMAND)
            if not argument:
                raise CommandError(errors.ACL_SYNTAX)
            if not declared.is_container:
                _check_word(argument)
                self._say(b"+", word)
                before = self.first_arguments.get(declared.name, frozenset())
                self.first_arguments[declared.name] = before | {argument}
                return
            declared = named(word)
            if declared is None:
                raise CommandError(errors.ACL_UNKNOWN_COMMAND)
        self._say(b"+", word)
        self._set([declared, *declared.subcommands.values()], allowed=True)

    def _forbid(self, word: bytes) -> None:
        declared = named(word)
        if declared is None:
            raise CommandError(errors.ACL_UNKNOWN_COMMAND)
        self._say(b"-", word)
        self._set([declared, *declared.subcommands.values()], allowed=False)

    def _set(self, commands: list[Command], *, allowed: bool) -> None:
        names = {one.name for one in commands}
        self.commands = self.commands | names if allowed else self.commands - names
        for name in names:
            self.first_arguments.pop(name, None)

    def _say(self, sign: bytes, word: bytes) -> None:
        """Keeps in mind what is said of a command or category, in the place of what was said before of it,
        or of its subcommands."""
        self.said = [rule for rule in self.said if rule[1:] != word and not rule[1:].startswith(word + b"|")]
        self.said.append(sign + word)

    # -- as text --------------------------------------------------------------------------------

    def told_commands(self) -> bytes:
        """`+@all -get`"""
        return b" ".join([b"+@all" if self.any_command else b"-@all", *self.said])

    def told_keys(self) -> bytes:
        """`~a* %R~b*`"""
        return b"~*" if self.any_key else b" ".join(_SIGNS[one.access] + one.text for one in self.keys)

    def told_channels(self) -> bytes:
        """`&news`"""
        return b"&*" if self.any_channel else b" ".join(b"&" + one.text for one in self.channels)

    def told(self) -> list[bytes]:
        """All rules, as they are written down."""
        first = [] if self.any_channel else [b"resetchannels"]
        words = [self.told_keys(), *first, self.told_channels(), self.told_commands()]
        return b" ".join(filter(None, words)).split(b" ")

    def description(self) -> dict[bytes, bytes]:
        """The same, as ACL GETUSER has it."""
        return {
            b"commands": self.told_commands(),
            b"keys": self.told_keys(),
            b"channels": self.told_channels(),
        }


def is_word(text: bytes) -> bool:
    """Whether a text, where rules are written down, is one word at most, as it has to be to be read again."""
    return _BLANK.search(text) is None


def _check_word(text: bytes) -> None:
    if not is_word(text):
        raise CommandError(errors.ACL_SYNTAX)
