"""Who there is: the users, each with passwords and permissions."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any, Protocol

from shardkv import errors, limits, quoting
from shardkv.acl.rules import Permissions, is_word
from shardkv.errors import CommandError
from shardkv.resp.replies import Unordered

DEFAULT = b"default"
"""The user that everybody is who has not said who he is. It is always there."""

_HASH = re.compile(rb"[0-9a-f]{64}")


class User:
    """One user. It is not changed any more once it is among the users: a change makes another one."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.enabled = False
        """Whether anybody may become this user; who is already stays."""
        self.nopass = False
        self.hashes: list[bytes] = []
        """Of the passwords: SHA-256 in hexadecimal digits."""
        self.root = Permissions()
        self.selectors: list[Permissions] = []
        self.everything = False
        """Whether it may do everything, so that nothing has to be checked."""

    def copied(self) -> User:
        """A copy, which may be changed."""
        made = copy(self)
        made.hashes = [*self.hashes]
        made.root = self.root.copied()
        made.selectors = [*self.selectors]
        return made

    def matches(self, password: bytes) -> bool:
        """Whether this is a password of the user; any is, if it needs none. The time it takes does not depend
        on how much of a password is right."""
        given = _hash(password)
        found = False
        for known in self.hashes:
            found |= hmac.compare_digest(known, given)
        return found or self.nopass

    @property
    def permissions(self) -> Iterator[Permissions]:
        """Of these, one has to allow all of a request."""
        yield self.root
        yield from self.selectors

    # -- rules ----------------------------------------------------------------------------------

    def apply(self, rule: bytes, channels: str) -> None:
        """Follows one rule; `channels` is the one that a new user begins with. Raises CommandError, with the
        reason alone, if there is no such."""
        match rule.lower():
            case b"":
                pass
            case b"on" | b"off":
                self.enabled = rule.lower() == b"on"
            case b"nopass" | b"resetpass":
                self.nopass, self.hashes = rule.lower() == b"nopass", []
            case b"reset":
                fresh = new_user(self.name, channels)
                self.__dict__.update(fresh.__dict__)
            case b"clearselectors":
                self.selectors = []
            case b"sanitize-payload" | b"skip-sanitize-payload":
                pass  # what RESTORE is given is always looked at in full
            case _ if rule[:1] in (b">", b"<", b"#", b"!"):
                self._apply_password(rule)
            case _ if rule[:1] == b"(" and rule[-1:] == b")":
                self.selectors.append(_selector(rule[1:-1], channels))
            case _:
                self.root.apply(rule)

    def _apply_password(self, rule: bytes) -> None:
        sign, word = rule[:1], rule[1:]
        hashed = _hash(word) if sign in (b">", b"<") else word
        if not _HASH.fullmatch(hashed):
            raise CommandError(errors.ACL_HASH)
        if sign in (b">", b"#"):
            self.nopass = False
            if hashed not in self.hashes:
                self.hashes.append(hashed)
        elif hashed in self.hashes:
            self.hashes.remove(hashed)
        else:
            raise CommandError(errors.ACL_NO_SUCH_PASSWORD)

    # -- as text --------------------------------------------------------------------------------

    def line(self) -> bytes:
        """The user as ACL LIST and files have it."""
        words = [b"user", self.name, b"on" if self.enabled else b"off"]
        words += [b"nopass"] if self.nopass else []
        words += [b"#" + hashed for hashed in self.hashes]
        words += self.root.told()
        words += [b"(%b)" % b" ".join(map(_quoted, selector.told())) for selector in self.selectors]
        return b" ".join(words)

    def description(self) -> dict[bytes, Any]:
        """The user as ACL GETUSER has it."""
        flags = [b"on" if self.enabled else b"off", *([b"nopass"] if self.nopass else [])]
        return {
            b"flags": Unordered(flags),
            b"passwords": [*self.hashes],
            **self.root.description(),
            b"selectors": [selector.description() for selector in self.selectors],
        }


def new_user(name: bytes, channels: str) -> User:
    """A user who may do nothing."""
    user = User(name)
    user.root.apply(channels.encode())
    return user


def _selector(rules: bytes, channels: str) -> Permissions:
    made = Permissions()
    made.apply(channels.encode())
    for rule in _words(rules):
        made.apply(rule)
    return made


def _words(rules: bytes) -> list[bytes]:
    """The rules of a selector, some of which may stand in quotes."""
    try:
        if b"\0" not in rules:
            return quoting.split(rules)
    except ValueError:
        pass
    raise CommandError(errors.ACL_SYNTAX)


def _quoted(rule: bytes) -> bytes:
    """A rule as it is read again within a selector: there a quote opens, and a parenthesis may end it all."""
    return quoting.shown(rule) if b'"' in rule or b"'" in rule or rule.endswith(b")") else rule


def _hash(password: bytes) -> bytes:
    return hashlib.sha256(password).hexdigest().encode()


class Settings(Protocol):
    """What of the settings concerns users."""

    acl_pubsub_default: str


class _Defaults:
    acl_pubsub_default = "resetchannels"


class Users:
    """All users of a server. `settings` are followed as they change."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings: Settings = settings or _Defaults()
        self._users: dict[bytes, User] = {}
        self.change(DEFAULT, [b"on", b"nopass", b"~*", b"&*", b"+@all"])

    def get(self, name: bytes) -> User | None:
        """The user of that name."""
        return self._users.get(name)

    def names(self) -> list[bytes]:
        """All names, in their order."""
        return sorted(self._users)

    @property
    def has_no_password(self) -> bool:
        """Whether anybody who comes may be the user default, if anybody may."""
        return self._users[DEFAULT].nopass

    @property
    def lets_in_anybody(self) -> bool:
        """Whether who comes need not say who he is."""
        default = self._users[DEFAULT]
        return default.nopass and default.enabled

    def change(self, name: bytes, rules: Sequence[bytes]) -> User:
        """Changes a user by rules, or makes it; returns it as it is now. Raises CommandError, and changes
        nothing, if one of the rules is none."""
        if not is_word(name):
            raise CommandError(errors.USER_NAME)
        known = self._users.get(name)
        channels = self._settings.acl_pubsub_default
        user = new_user(name, channels) if known is None else known.copied()
        whole, opened = joined(rules)
        if opened is not None:
            raise CommandError(errors.unmatched_parenthesis(opened))
        for rule in whole:
            try:
                user.apply(rule, channels)
            except CommandError as error:
                raise CommandError(errors.acl_setuser(rule, error.text)) from None
        return self._keep(user)

    def _keep(self, user: User) -> User:
        user.everything = any(one.everything for one in user.permissions)
        self._users[user.name] = user
        return user

    def delete(self, name: bytes) -> bool:
        """Deletes a user; False if there is none of that name. The user default stays."""
        return name != DEFAULT and self._users.pop(name, None) is not None

    def lines(self) -> list[bytes]:
        """All users as lines of a file."""
        return [self._users[name].line() for name in self.names()]

    def replace(self, lines: Sequence[bytes], source: str) -> None:
        """Takes the users of these lines, which come from a file of that name, in the place of those there
        are. Raises CommandError, and changes nothing, if one of the lines is wrong."""
        fresh = Users(self._settings)
        seen: set[bytes] = set()
        mistakes: list[bytes] = []
        for number, line in enumerate(lines, start=1):
            words = line.strip(b" \t\r\n").split(b" ")
            if words != [b""]:
                mistakes += fresh._take(words, seen, source, number)
            if len(mistakes) >= limits.ACL_MISTAKES_TOLD:
                break
        if mistakes:
            raise CommandError(errors.acl_file(mistakes))
        self._users = fresh._users

    def _take(self, words: list[bytes], seen: set[bytes], source: str, number: int) -> list[bytes]:
        """Makes the user of a line; returns what is wrong with the line.

        Of rules that are none, those about commands are told. Of others, which may be passwords, it is told
        only what is wrong with the first.
        """
        if len(words) < 2 or words[0] != b"user":
            return [errors.acl_line_begins(source, number)]
        _, name, *rules = words
        if name in seen:
            return [errors.duplicate_user(name, number)]
        if not is_word(name):
            return [errors.acl_line_name(source, number, name)]
        seen.add(name)
        whole, opened = joined(rules)
        if opened is not None:
            return [errors.acl_line_parenthesis(source, number)]
        channels = self._settings.acl_pubsub_default
        user = new_user(name, channels)
        mistakes: list[bytes] = []
        one_untold = False
        for rule in whole:
            try:
                user.apply(rule, channels)
            except CommandError as error:
                told = rule if error.text == errors.ACL_UNKNOWN_COMMAND else None
                if told is not None or not one_untold:
                    mistakes.append(errors.acl_line(source, number, error.text, told))
                one_untold |= told is None
        self._keep(user)
        return mistakes


def joined(rules: Sequence[bytes]) -> tuple[list[bytes], bytes | None]:
    """The rules, with those that make up a selector as one; and if a selector has no end, its beginning."""
    found: list[bytes] = []
    opened: list[bytes] = []
    for rule in rules:
        if opened or (rule.startswith(b"(") and not rule.endswith(b")")):
            opened.append(rule)
            if rule.endswith(b")"):
                found.append(b" ".join(opened))
                opened = []
        else:
            found.append(rule)
    return found, opened[0] if opened else None
