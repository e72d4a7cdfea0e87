"""Changes of the users, which all processes take over in the same order, so that all have the same users.

A change is a list that says what is done: ["setuser", name, rules], ["deluser", names] or ["load", lines, the
file that they come from].
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from shardkv.acl.users import DEFAULT, Users


def carry_out(users: Users, change: list[Any]) -> Any:
    """Changes the users; returns how many were deleted, or None. Raises CommandError, and changes nothing, if
    that is refused."""
    match change:
        case ["setuser", name, rules]:
            users.change(name, rules)
        case ["deluser", names]:
            return sum(users.delete(name) for name in names)
        case ["load", lines, source]:
            users.replace(lines, source)
        case _:
            raise AssertionError(f"no change of users: {change[0]}")
    return None


def names_in(change: list[Any]) -> Collection[bytes] | None:
    """The users that a change concerns; None if it may be any."""
    match change:
        case ["setuser", name, _]:
            return [name]
        case ["deluser", names]:
            found: Collection[bytes] = names
            return found
    return None


def set_password(users: Users, password: str) -> None:
    """Gives the user default the password of the setting requirepass, and takes away all others; with an
    empty one anybody is let in."""
    word = password.encode("utf-8", "surrogateescape")
    users.change(DEFAULT, [b"resetpass", b">" + word] if word else [b"nopass"])
