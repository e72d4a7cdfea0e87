"""Decisions: whether a user may make a request."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from shardkv.acl.rules import READ, WRITE, Pattern, Permissions
from shardkv.acl.users import User
from shardkv.command import Command, Flag

COMMAND, KEY, CHANNEL = "command", "key", "channel"
"""Why a request is denied. If several sets of rules deny it for different reasons, the last of these
counts."""

_REASONS = (COMMAND, KEY, CHANNEL)

_WRITES = frozenset({"INSERT", "UPDATE", "DELETE"})


class Denial(NamedTuple):
    """A request is denied: why, and which command, key or channel it is about."""

    reason: str
    object: bytes


def denial(user: User, command: Command, args: Sequence[Any]) -> Denial | None:
    """Why a user may not make a request, which begins with the command's name; None if it may. One of the
    user's sets of rules has to allow all of it."""
    worst = _denied_by(user.root, command, args)
    if worst is None:
        return None
    for permissions in user.selectors:
        found = _denied_by(permissions, command, args)
        if found is None:
            return None
        worst = max(worst, found)
    reason, _, what = worst
    return Denial(_REASONS[reason], what)


def _denied_by(
    permissions: Permissions, command: Command, args: Sequence[Any]
) -> tuple[int, int, bytes] | None:
    """The place of the reason, the position of the word that it is about, and what that is."""
    if not _allows_command(permissions, command, args):
        return _REASONS.index(COMMAND), 0, command.name.encode()
    if not permissions.any_key:
        for position, access in command.key_access(args):
            if not _allows_key(permissions, args[position], _wanted(access)):
                return _REASONS.index(KEY), position, args[position]
    if not permissions.any_channel:
        for position in command.channel_positions(args):
            if not _allows_channel(permissions, args[position], is_pattern=command.name == "psubscribe"):
                return _REASONS.index(CHANNEL), position, args[position]
    return None


def _allows_command(permissions: Permissions, command: Command, args: Sequence[Any]) -> bool:
    if command.name in permissions.commands or command.flags & Flag.NO_AUTH:
        return True
    arguments = permissions.first_arguments.get(command.name)
    return arguments is not None and len(args) > 1 and args[1].lower() in arguments


@cache
def _wanted(access: str) -> int:
    """What a request does with a key, by the flags of its specification. Nothing, if it only looks at whether
    there is one, and of what kind: then any pattern will do."""
    flags = set(access.split())
    return (READ if "ACCESS" in flags else 0) | (WRITE if flags & _WRITES else 0)


def _allows_key(permissions: Permissions, key: bytes, wanted: int) -> bool:
    # A loop is quicker than any(), and there are requests with many keys.
    for _, matches, access in permissions.keys:  # noqa: SIM110
        if access & wanted == wanted and matches(key):
            return True
    return False


def _allows_channel(permissions: Permissions, channel: bytes, *, is_pattern: bool) -> bool:
    """A pattern of channels is allowed only as it stands in a rule."""
    return permissions.any_channel or any(
        one.text == channel if is_pattern else one.matches(channel) for one in permissions.channels
    )


def may_listen(user: User, channel: bytes, *, is_pattern: bool) -> bool:
    """Whether a user may be subscribed to a channel, or to a pattern of channels."""
    return any(_allows_channel(one, channel, is_pattern=is_pattern) for one in user.permissions)


def reads_every_key(user: User, command: Command, args: Sequence[Any]) -> bool:
    """Whether a user may make a request that looks at keys which cannot be told from its words."""
    return any(
        _denied_by(one, command, args) is None and (one.any_key or any(map(_is_all, one.keys)))
        for one in user.permissions
    )


def _is_all(pattern: Pattern) -> bool:
    return pattern.text == b"*" and bool(pattern.access & READ)
