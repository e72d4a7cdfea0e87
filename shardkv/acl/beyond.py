"""Requests that look at keys which their words do not name: SORT with BY and GET."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shardkv import errors
from shardkv.acl.permissions import reads_every_key
from shardkv.acl.users import User
from shardkv.command import Command


def refusal_beyond(user: User, command: Command, args: Sequence[Any]) -> bytes | None:
    """The error, if a request looks at such keys and the user may not read every key."""
    option = command.looks_beyond(args)
    if option is None or reads_every_key(user, command, args):
        return None
    return errors.sort_option_denied(option)
