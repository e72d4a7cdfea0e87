"""Decisions: whether a user may make a request."""

from __future__ import annotations

import shlex

import pytest

import proxy.commands
import shardkv.commands
from shardkv import errors
from shardkv.acl.beyond import refusal_beyond
from shardkv.acl.permissions import Denial, denial, may_listen
from shardkv.acl.users import User, Users
from shardkv.command import lookup

DECLARING = (shardkv.commands, proxy.commands)

MAY = None


def user(rules: str) -> User:
    return Users().change(b"bob", [rule.encode() for rule in shlex.split(rules)])


def decision(rules: str, request: str) -> tuple[str, str] | None:
    """Why the user of these rules may not make a request, and what that is about."""
    words = request.encode().split()
    declared = lookup(words)
    assert declared is not None
    found = denial(user(rules), declared, words)
    return found and (found.reason, found.object.decode())


@pytest.mark.parametrize(
    ("rules", "request_line", "expected"),
    [
        # Commands.
        ("~* +get", "GET k", MAY),
        ("~* +get", "SET k v", ("command", "set")),
        ("~* +@read", "GET k", MAY),
        ("~* +@read -get", "GET k", ("command", "get")),
        ("~* +@read -get", "STRLEN k", MAY),
        ("~* +@all -@write +set", "SET k v", MAY),
        ("~* +@all -@write +set", "DEL k", ("command", "del")),
        ("+config|get", "CONFIG GET x", MAY),
        ("+config|get", "CONFIG SET x y", ("command", "config|set")),
        ("+config -config|set", "CONFIG SET x y", ("command", "config|set")),
        ("+config -config|set", "config get x", MAY),
        ("+select|0", "SELECT 0", MAY),
        ("+select|0", "SELECT 1", ("command", "select")),
        ("~* +set|x", "SET X 1", MAY),
        ("~* +set|x -set", "SET x 1", ("command", "set")),
        ("", "AUTH x", MAY),
        ("", "PING", ("command", "ping")),
        # Keys.
        ("+@all", "GET k", ("key", "k")),
        ("+@all", "PING", MAY),
        ("+@all ~a*", "MGET a ab b", ("key", "b")),
        ("+@all ~a* ~b", "MGET a ab b", MAY),
        ("+@all %R~a", "GET a", MAY),
        ("+@all %R~a", "SET a 1", ("key", "a")),
        ("+@all %W~a", "SET a 1", MAY),
        ("+@all %W~a", "GET a", ("key", "a")),
        ("+@all %W~a", "SET a 1 GET", ("key", "a")),
        ("+@all %W~a", "INCR a", ("key", "a")),
        ("+@all %W~a", "LPUSH a 1", MAY),
        ("+@all %W~a", "LPOP a", ("key", "a")),
        ("+@all %W~a", "DEL a", MAY),
        ("+@all %R~a", "DEL a", ("key", "a")),
        ("+@all %R~a %W~*", "INCR a", ("key", "a")),
        ("+@all %R~a %W~a", "INCR a", MAY),
        ("+@all %R~a %W~b", "COPY a b", MAY),
        ("+@all %R~a %W~b", "COPY b a", ("key", "b")),
        ("+@all %R~a %W~b", "ZUNIONSTORE b 1 a", MAY),
        ("+@all %R~a %W~b", "ZUNIONSTORE a 1 b", ("key", "a")),
        ("+@all %R~a", "SORT a", MAY),
        ("+@all %R~a", "SORT a STORE b", ("key", "b")),
        ("+@all %W~a", "EXISTS a", MAY),
        ("+@all %W~a", "EXISTS b", ("key", "b")),
        ("+@all ~a", "EVAL return 2 a b", ("key", "b")),
        ("+@all ~a", "XREAD STREAMS a b 0 0", ("key", "b")),
        ("+@all ~a", "PFMERGE b", ("key", "b")),
        ("+@all ~[a-c]?", "GET bx", MAY),
        ("+@all ~[a-c]?", "GET b", ("key", "b")),
        # Channels.
        ("+@all", "PUBLISH c x", ("channel", "c")),
        ("+@all &c*", "PUBLISH cd x", MAY),
        ("+@all &c*", "SUBSCRIBE c cd d", ("channel", "d")),
        ("+@all &c*", "SSUBSCRIBE d", ("channel", "d")),
        ("+@all &c*", "SPUBLISH d x", ("channel", "d")),
        ("+@all &c*", "PSUBSCRIBE c*", MAY),
        ("+@all &c*", "PSUBSCRIBE cd", ("channel", "cd")),
        ("+@all &*", "PSUBSCRIBE anything*", MAY),
        ("+@all &c*", "PUBSUB NUMSUB d", MAY),
        ("+@all &c*", "UNSUBSCRIBE d", MAY),
        # Selectors: one of them allows all of it, or none does.
        ("+get ~a (+set ~b)", "GET a", MAY),
        ("+get ~a '(+set ~b)'", "SET b 1", MAY),
        ("+get ~a '(+set ~b)'", "SET a 1", ("key", "a")),
        ("+mget ~a '(+mget ~b)'", "MGET a b", ("key", "b")),
        ("+get ~a '(+set ~b)'", "DEL a", ("command", "del")),
        ("+publish ~a '(+get ~b)'", "PUBLISH c x", ("channel", "c")),
    ],
)
def test_decisions(rules: str, request_line: str, expected: tuple[str, str] | None) -> None:
    assert decision(rules, request_line) == expected


def test_who_may_do_everything_is_denied_nothing() -> None:
    for request in ("FLUSHALL", "SET k v", "PUBLISH c x", "CONFIG SET a b"):
        assert decision("+@all ~* &*", request) is None


@pytest.mark.parametrize(
    ("rules", "channel", "is_pattern", "expected"),
    [
        ("&c*", b"cd", False, True),
        ("&c*", b"d", False, False),
        ("&c*", b"c*", True, True),
        ("&c*", b"cd", True, False),
        ("&*", b"cd", True, True),
        ("resetchannels", b"c", False, False),
        ("&a (&b)", b"b", False, True),
    ],
)
def test_who_may_listen(rules: str, channel: bytes, is_pattern: bool, expected: bool) -> None:
    assert may_listen(user(rules), channel, is_pattern=is_pattern) is expected


@pytest.mark.parametrize(
    ("rules", "request_line", "option"),
    [
        ("+@all %R~*", "SORT k BY w*", None),
        ("+@all ~*", "SORT k GET w*", None),
        ("+@all %W~* %R~k", "SORT k BY w*", "BY"),
        ("+@all ~k ~w*", "SORT k BY w*", "BY"),
        ("+@all ~k", "SORT k GET #", "GET"),
        ("+@all ~k", "SORT k BY nosort", None),
        ("+@all ~k '(~* +get)'", "SORT k BY w*", "BY"),
        ("+@all ~k '(~* +sort)'", "SORT k BY w*", None),
        ("+@all ~k", "SORT_RO k GET w*", "GET"),
        ("+@all ~k", "GET k", None),
    ],
)
def test_who_may_sort_by_other_keys(rules: str, request_line: str, option: str | None) -> None:
    words = request_line.encode().split()
    declared = lookup(words)
    assert declared is not None
    expected = option and errors.sort_option_denied(option)
    assert refusal_beyond(user(rules), declared, words) == expected


def test_what_is_said_of_it() -> None:
    command, key, channel = Denial("command", b"get"), Denial("key", b"k"), Denial("channel", b"c")
    assert [errors.no_permission(errors.denied(b"bob", *one)) for one in (command, key, channel)] == [
        b"NOPERM User bob has no permissions to run the 'get' command",
        b"NOPERM No permissions to access a key",
        b"NOPERM No permissions to access a channel",
    ]
    assert [errors.denied(b"bob", *one, verbose=True) for one in (command, key, channel)] == [
        b"User bob has no permissions to run the 'get' command",
        b"User bob has no permissions to access the 'k' key",
        b"User bob has no permissions to access the 'c' channel",
    ]
