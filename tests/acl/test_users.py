"""Who there is: rules of users, passwords, lines of files."""

from __future__ import annotations

import hashlib
import hmac

import pytest

import proxy.commands
import shardkv.commands
from shardkv import errors, limits
from shardkv.acl.users import DEFAULT, User, Users
from shardkv.errors import CommandError

DECLARING = (shardkv.commands, proxy.commands)


def made(*rules: str, name: bytes = b"bob") -> User:
    """A user that these rules make."""
    return Users().change(name, [rule.encode() for rule in rules])


def line(*rules: str) -> str:
    """What ACL LIST tells of a user that these rules make, after the name."""
    return made(*rules).line().decode().removeprefix("user bob ")


def refusal(*rules: str) -> str:
    with pytest.raises(CommandError) as refused:
        made(*rules)
    return refused.value.text.decode()


# -- rules ------------------------------------------------------------------------------------


def test_a_new_user_may_do_nothing() -> None:
    assert line() == "off resetchannels -@all"
    assert not made().everything


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("-@all +get +@hash -hset", "off resetchannels -@all +get +@hash -hset"),
        ("+@all -@write +set +SET", "off resetchannels +@all -@write +set"),
        ("+get -get +get", "off resetchannels -@all +get"),
        ("+config|get +config|set -config", "off resetchannels -@all -config"),
        ("+select|0 +select|1", "off resetchannels -@all +select|0 +select|1"),
        ("~a %R~b %W~b %r~c %W~d %RW~e %wr~f", "off ~a ~b %R~c %W~d ~e ~f resetchannels -@all"),
        ("~a ~*", "off ~* resetchannels -@all"),
        ("&a &a &b", "off resetchannels &a &b -@all"),
        (
            "(~a +get) (%R~b)",
            "off resetchannels -@all (~a resetchannels -@all +get) (%R~b resetchannels -@all)",
        ),
        ("(~a) clearselectors on reset", "off resetchannels -@all"),
        ("on nopass allkeys allchannels allcommands", "on nopass ~* &* +@all"),
    ],
)
def test_rules_are_told(rules: str, told: str) -> None:
    assert line(*rules.split()) == told


def test_a_rule_that_says_nothing_changes_nothing() -> None:
    assert line("on", "") == "on resetchannels -@all"


@pytest.mark.parametrize("rule", ["%RR~a", "%~a", "%X~a", "%", "bogus", "+get|a b", "+get|a\tb", "+get|"])
@pytest.mark.parametrize("selector", [False, True])
def test_rules_that_are_none(rule: str, selector: bool) -> None:
    if selector and ("\t" in rule or " " in rule):
        rule = f'"{rule}"'
    rule = f"({rule})" if selector else rule
    assert refusal(rule) == f"ERR Error in ACL SETUSER modifier '{rule}': Syntax error"


@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\v", "\f", "\r", "\0"])
def test_names_and_patterns_are_words(blank: str) -> None:
    """So that what is written down is read as it was."""
    for rule in (f"~a{blank}+@all", f"%R~a{blank}b", f"&a{blank}b"):
        assert refusal(rule) == f"ERR Error in ACL SETUSER modifier '{rule}': Syntax error"
    with pytest.raises(CommandError) as refused:
        made("on", name=f"a{blank}b".encode())
    assert refused.value.text == errors.USER_NAME


@pytest.mark.parametrize("selector", ['(~")', "(~'a +get)", "(~a\0b)"])
def test_a_selector_that_cannot_be_read_is_refused(selector: str) -> None:
    assert refusal(selector).endswith("Syntax error")


def test_all_rules_count_or_none() -> None:
    users = Users()
    before = users.change(b"bob", [b"on", b"~a", b"(~b)", b">p", b"+get|x"])
    for wrong in (b"bogus", b"(+nosuch)", b"#abc", b"<q", b"(~x"):
        with pytest.raises(CommandError):
            users.change(b"bob", [b"off", b"~c", b"+get|y", b"+set", b"clearselectors", b"resetpass", wrong])
        assert users.get(b"bob") is before
        with pytest.raises(CommandError):
            users.change(b"ann", [b"on", wrong])
        assert users.get(b"ann") is None


def test_a_change_makes_another_user() -> None:
    users = Users()
    before = users.change(b"bob", [b"+get|x", b"~a", b"(~b)", b">p"])
    told = before.line()
    after = users.change(b"bob", [b"+get|y", b"+set", b"~c", b"&d", b"(~e)", b">q", b"on"])
    assert after is not before
    assert after is users.get(b"bob")
    assert before.line() == told


@pytest.mark.parametrize(
    ("rules", "everything"),
    [
        ("+@all ~* &*", True),
        ("+@all ~* &* -get +get", True),
        ("+@all ~* &* -get", False),
        ("+@all ~* &a", False),
        ("+@all %R~* &*", False),
        ("+@all -@dangerous ~* &*", False),
        ("-@all +@read +@write ~* &*", False),
    ],
)
def test_who_may_do_everything(rules: str, everything: bool) -> None:
    assert made(*rules.split()).everything is everything
    assert made(f"({rules})").everything is everything


# -- passwords --------------------------------------------------------------------------------


def test_passwords() -> None:
    hashed = hashlib.sha256(b"two").hexdigest()
    user = made(">one", f"#{hashed}", ">one")
    assert [user.matches(word) for word in (b"one", b"two", b"three", b"")] == [True, True, False, False]
    assert len(user.hashes) == 2
    assert b"one" not in user.line()
    user = made(">one", ">two", "<one", f"!{hashed}")
    assert user.hashes == []
    assert not user.matches(b"one")
    assert made("nopass").matches(b"any")
    assert not made("nopass", ">one").matches(b"any")
    assert not made(">one", "resetpass").matches(b"one")
    assert not made().matches(b"")


def test_every_password_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of them is the right one, it takes as long."""
    compared = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append(known)
        return known == given

    user = made(">one", ">two", ">three")
    monkeypatch.setattr(hmac, "compare_digest", compare)
    for word in (b"one", b"three", b"none"):
        compared.clear()
        user.matches(word)
        assert compared == user.hashes


@pytest.mark.parametrize("rule", ["#", "#abc", "#" + "a" * 63 + "A", "#" + "a" * 65, "#" + "a" * 64 + "\n"])
def test_hashes_that_are_none(rule: str) -> None:
    assert refusal(rule).endswith(errors.ACL_HASH.decode())


# -- all of them ------------------------------------------------------------------------------


def test_the_user_default_stays() -> None:
    users = Users()
    assert users.lines() == [b"user default on nopass ~* &* +@all"]
    assert not users.delete(DEFAULT)
    users.change(b"bob", [])
    assert users.delete(b"bob")
    assert not users.delete(b"bob")
    users.replace([b"user ann on"], "file")
    assert users.lines() == [b"user ann on resetchannels -@all", b"user default on nopass ~* &* +@all"]


TELLING = [
    ["on", ">p", "nopass", "~a*", "%R~b", "&c", "+@all", "-get", "-@write", "+config|get", "+select|0"],
    ["(~a +get)", "(%R~b &c -@all +@read)", "()"],
    ['~"a', "~'", "&)", "~(", "+get|\"'"],
    ['("~a)" +get)', "(~b'c' &d)", '("~e\'" +get|f) +set)', "('&\"g)')", "(~\\ ~\\n)"],
    ["~", "&", "(~ &)"],
    ["~\xfc\xe9", "(~\xfc) +get)", '("~\\xff\\xfe\\"")'],
]
"""Rules of users who are not easily written down."""


@pytest.mark.parametrize("name", [b"bob", b"(", b">p", b"user", b"", b"\xff", b'"q'])
@pytest.mark.parametrize("rules", TELLING, ids=range(len(TELLING)))
def test_lines_say_who_there_is(rules: list[str], name: bytes) -> None:
    users = Users()
    user = users.change(name, [rule.encode() for rule in rules])
    other = Users()
    other.replace(users.lines(), "file")
    assert other.lines() == users.lines()
    read = other.get(name)
    assert read is not None
    assert read.description() == user.description()
    assert [one.commands for one in read.permissions] == [one.commands for one in user.permissions]


def test_a_file_with_mistakes_changes_nothing() -> None:
    users = Users()
    users.change(b"ann", [b"on"])
    before = users.lines()
    with pytest.raises(CommandError) as refused:
        users.replace([b"user bob on", b"", b"user cem +nosuch", b"bogus", b"user bob off"], "/a/file")
    assert refused.value.text == (
        b"ERR /a/file:3: Error in applying operation '+nosuch': Unknown command or category name in ACL. "
        b"/a/file:4 should start with user keyword followed by the username. "
        b"WARNING: Duplicate user 'bob' found on line 5. "
    )
    assert users.lines() == before


def test_what_may_be_a_password_is_not_told() -> None:
    """The error stands in the log, when the server starts."""
    with pytest.raises(CommandError) as refused:
        Users().replace([b"user bob secret", b"user ann <secret", b"user cem #secret (~x secret)"], "file")
    assert b"secret" not in refused.value.text
    assert refused.value.text.count(b"file:") == 3


def test_so_many_mistakes_are_told_and_no_more() -> None:
    with pytest.raises(CommandError) as refused:
        Users().replace([b"bogus"] * 100_000, "file")
    assert refused.value.text.count(b"file:") == limits.ACL_MISTAKES_TOLD
