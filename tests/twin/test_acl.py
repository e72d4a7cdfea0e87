"""Users in this process, made of rules at random, beside those of a real server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hiredis
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import proxy.commands
import shardkv.commands
from proxy.commands.acl import acl_dryrun, acl_getuser
from shardkv import errors
from shardkv.acl.users import Users
from shardkv.command import CATEGORIES, COMMANDS
from shardkv.errors import CommandError
from shardkv.resp.replies import resp3
from tests.twin.compare import parsed
from tests.twin.servers import valkey
from tests.wire import Connection

DECLARING = (shardkv.commands, proxy.commands)

EXAMPLES = settings(max_examples=150, deadline=None)

NOT_THERE = {"backup", "rebalance", "xackdel", "xdelex"}
"""Commands that valkey does not have. All others it does, with the same categories: see
test_a_category_has_the_same_commands."""

NAMES = sorted(name for name, one in COMMANDS.items() if not one.internal and name not in NOT_THERE)


@pytest.fixture(scope="module")
def twin() -> Iterator[Connection]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "users.acl")
        path.touch()
        with valkey(aclfile=str(path), dir=folder) as server, Connection(server.port, 3) as connection:
            yield connection


# -- rules ------------------------------------------------------------------------------------

# What is left out, because ours differs on purpose (see docs/differences.md) or valkey dies of it: first
# arguments with blanks; selectors with quotes that are not closed; NULs, at which C ends a word. Selectors
# with quotes and parentheses in their patterns are told in another way: see test_quoted_selectors.

FREQUENT = [
    "get",
    "set",
    "mget",
    "config",
    "config|get",
    "config|set",
    "client",
    "client|id",
    "acl|whoami",
    "select",
]
commands = st.one_of(st.sampled_from(FREQUENT), st.sampled_from(NAMES))
commands = st.one_of(commands, commands, commands, commands.map(str.upper))

bare = st.sampled_from(["*", "a*", "k?", "", "[a", "x", "k1", "a\\*", "ü", "(x", "~", "a~b", "%", "a\xff"])
patterns = st.one_of(
    bare, bare, bare, st.sampled_from(["a b", "a\tb", "a\nb", "a\vb", "a\fb", "a\rb", "x)", '"', "'"])
)


def rules_of_keys(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = ["~", "~", "~", "%R~", "%W~", "%RW~", "%WR~", "%r~", "%~", "%X~", "%RR~", "%RWR~", "%R", "%"]
    return st.builds(str.__add__, st.sampled_from(signs), texts)


categories = st.sampled_from([*CATEGORIES, "all", "ALL", "READ", "nope", ""])
arguments = st.sampled_from(["x", "X", "get", "y", "", "a|b", "getx", "("])
words = st.one_of(
    st.builds("{}{}".format, st.sampled_from("+-"), commands),
    st.builds("{}@{}".format, st.sampled_from("+-"), categories),
    st.builds("{}{}|{}".format, st.sampled_from("+++-"), commands, arguments),
    st.sampled_from(
        ["+@all", "-@all", "allcommands", "nocommands", "+nope", "-nope", "+", "-", "+|", "+|get", "+get|"]
    ),
    st.sampled_from(["+config|nope", "-config|nope", "+config|get|x", "-config|get|x", "@read", "+@"]),
)


def permissions(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        rules_of_keys(texts),
        st.builds("&{}".format, texts),
        st.sampled_from(["allkeys", "resetkeys", "allchannels", "resetchannels", "ALLKEYS", "AllChannels"]),
        words,
        words,
    )


strange = st.sampled_from(["on", ">x", "reset", "(x)", "clearselectors", "bogus", "nopass"])
within = st.one_of(*[permissions(bare)] * 6, strange)
selectors = st.builds(
    lambda frame, rules: frame % " ".join(rules),
    st.sampled_from(["(%s)"] * 6 + ["( %s)", "(%s )", "(%s", "((%s))", "(\t%s)"]),
    st.lists(within, max_size=4),
)

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
passwords = st.sampled_from(
    ["nopass", "resetpass", ">test", ">other", "<test", "<other", "<", ">", ">a b", f"#{HASH}", f"!{HASH}"]
)
hashes = st.sampled_from([f"#{HASH.upper()}", f"#{HASH}0", "#abc", "#", "!", "#" + "a" * 64])
others = st.sampled_from(
    ["on", "off", "ON", "reset", "clearselectors", "", "bogus", "on ", "~", "@", "+", "(", ")", "()"]
)
payload = st.sampled_from(["sanitize-payload", "skip-sanitize-payload"])
root = permissions(patterns)
rules = st.one_of(root, root, root, root, root, selectors, passwords, hashes, others, payload)
changes = st.lists(st.lists(rules, min_size=1, max_size=3), min_size=1, max_size=5)


def error_text(reply: Any) -> str | None:
    """In one line, as the server sends it."""
    return str(reply).replace("\r", " ").replace("\n", " ") if isinstance(reply, hiredis.ReplyError) else None


def refusal(users: Users, some: list[str]) -> Any:
    try:
        users.change(b"u", [rule.encode() for rule in some])
    except CommandError as error:
        return hiredis.ReplyError(error.text.decode("utf-8", "surrogateescape"))
    return b"OK"


def described(reply: Any) -> Any:
    """What ACL GETUSER says, without what only Valkey says: the databases, and a flag of payloads."""
    if isinstance(reply, dict):
        flags = [flag for flag in reply.get(b"flags", ()) if not flag.endswith(b"sanitize-payload")]
        rest = {key: described(one) for key, one in reply.items() if key != b"databases"}
        return rest | ({b"flags": sorted(flags)} if flags else {})
    return [described(one) for one in reply] if isinstance(reply, list | set) else reply


def listed(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b" skip-sanitize-payload", b"").replace(b" sanitize-payload", b"") for line in lines]


@EXAMPLES
@given(made=changes)
def test_rules_make_the_same_user(twin: Connection, made: list[list[str]]) -> None:
    twin.ask("ACL", "DELUSER", "u")
    users = Users()
    session: Any = SimpleNamespace(proxy=SimpleNamespace(users=users))
    for some in made:
        expected = parsed(twin.ask("ACL", "SETUSER", "u", *some))
        found = refusal(users, some)
        assert error_text(found) == error_text(expected), made
        assert users.lines() == listed(parsed(twin.ask("ACL", "LIST"))), made
        ours = parsed(resp3(acl_getuser(session, [b"ACL", b"GETUSER", b"u"])))
        assert described(ours) == described(parsed(twin.ask("ACL", "GETUSER", "u"))), made
        event("refused" if error_text(found) else "taken")


@pytest.mark.parametrize(
    "selector", ['(~"a")', '(~"a" +get)', "(&'b c)", '("~a\\x62")', "('~a'  +get )", '("~a b")', "(~a)b)"]
)
def test_quoted_selectors(twin: Connection, selector: str) -> None:
    twin.ask("ACL", "DELUSER", "u")
    users = Users()
    expected = parsed(twin.ask("ACL", "SETUSER", "u", selector))
    if "'b c)" in selector:
        # A quote that is not closed makes an empty selector of it there.
        assert expected == b"OK"
        assert (
            error_text(refusal(users, [selector]))
            == errors.acl_setuser(selector.encode(), errors.ACL_SYNTAX).decode()
        )
        return
    assert error_text(refusal(users, [selector])) == error_text(expected)
    session: Any = SimpleNamespace(proxy=SimpleNamespace(users=users))
    ours = parsed(resp3(acl_getuser(session, [b"ACL", b"GETUSER", b"u"])))
    assert described(ours) == described(parsed(twin.ask("ACL", "GETUSER", "u")))


# -- decisions --------------------------------------------------------------------------------

simple = st.sampled_from(["k*", "a*", "x", "1", "2", "*", "STORE", "get", "w*", "c*", "k?", "[a-c]*"])
of_keys = st.builds(str.__add__, st.sampled_from(["~", "%R~", "%W~"]), simple)
of_channels = st.builds("&{}".format, simple)
of_commands = st.builds(
    "{}{}".format, st.sampled_from("+-"), st.one_of(commands, categories.filter(str).map("@{}".format))
)
some_rules = st.tuples(
    st.sampled_from(["+@all", "+@all", "+@all", "-@all"]),
    st.lists(of_commands, max_size=3),
    st.lists(of_keys, max_size=4),
    st.lists(of_channels, max_size=2),
).map(lambda parts: [parts[0], *parts[1], *parts[2], *parts[3]])

more_words = st.one_of(
    st.sampled_from(["k1", "k2", "a1", "b", "x", "c1", "w*", "#", "$", "X", "id", "g", "1", "2", "0", "3"]),
    st.sampled_from(["STORE", "BY", "GET", "get", "STREAMS", "COUNT", "KEYS", "GROUP", "LIMIT", "nosort"]),
    st.sampled_from(["WITHSCORES", "LEFT", "SET", "u8", "INCRBY", "EX", "PERSIST", "WEIGHTS"]),
)


@st.composite
def requests(draw: st.DrawFn) -> list[str]:
    """A request with the right number of words, whatever they are."""
    declared = COMMANDS[draw(st.sampled_from(NAMES).filter(lambda name: not COMMANDS[name].is_container))]
    request = declared.name.split("|")
    if draw(st.booleans()):
        request = [word.upper() for word in request]
    least = max(declared.least - len(request), 0)
    most = least + 4 if declared.arity < 0 else least
    return request + draw(st.lists(more_words, min_size=least, max_size=most))


def allowed_there_alone(request: list[str]) -> bool:
    """Valkey lets anybody have PFMERGE make an empty key: it finds no keys at all where one of the key
    specifications finds none."""
    return len(request) == 2 and request[0].upper() == "PFMERGE"


@EXAMPLES
@given(
    some=some_rules,
    selector=st.one_of(st.none(), some_rules),
    asked=st.lists(requests().filter(lambda one: not allowed_there_alone(one)), min_size=20, max_size=20),
)
def test_dry_runs_end_alike(
    twin: Connection, some: list[str], selector: list[str] | None, asked: list[list[str]]
) -> None:
    if selector is not None:
        some = [*some, f"({' '.join(selector)})"]
    twin.ask("ACL", "DELUSER", "u")
    users = Users()
    made = error_text(parsed(twin.ask("ACL", "SETUSER", "u", *some)))
    assert error_text(refusal(users, some)) == made
    if made:
        return
    session: Any = SimpleNamespace(proxy=SimpleNamespace(users=users))
    for request in asked:
        expected = parsed(twin.ask("ACL", "DRYRUN", "u", *request))
        try:
            found: Any = acl_dryrun(session, [b"ACL", b"DRYRUN", b"u", *map(str.encode, request)])
        except CommandError as error:
            found = error
        found = parsed(resp3(found))
        assert (error_text(found) or found) == (error_text(expected) or expected), (some, request)
        event(str(found).split("'")[0][-25:])


def test_the_key_that_valkey_does_not_see(twin: Connection) -> None:
    twin.ask("ACL", "DELUSER", "u")
    twin.ask("ACL", "SETUSER", "u", "+@all", "%R~*")
    assert parsed(twin.ask("ACL", "DRYRUN", "u", "PFMERGE", "k")) in ("OK", b"OK")


# -- files ------------------------------------------------------------------------------------

file_rules = st.one_of(rules, of_keys, of_commands, st.just("on")).filter(
    lambda rule: not set("\t\n\v\f\r\0") & set(rule) and not rule.startswith("(")
)
names = st.sampled_from(["a", "b", "c", "ü", "(", "", "a\tb", "user"])
file_lines = st.one_of(
    st.builds(lambda name, some: " ".join(["user", name, *some]), names, st.lists(file_rules, max_size=3)),
    st.builds(
        "user {} (~a +get) {}".format,
        names,
        selectors.filter(lambda one: one.endswith(")") and "\t" not in one),
    ),
    st.sampled_from(
        [
            "",
            "  ",
            "\t",
            "user",
            "bogus",
            "user\ta on",
            "  user d on \r",
            "USER a on",
            "# a",
            "user a (~a +get",
        ]
    ),
)


@EXAMPLES
@given(lines=st.lists(file_lines, max_size=4))
def test_files_make_the_same_users(twin: Connection, lines: list[str]) -> None:
    folder = parsed(twin.ask("CONFIG", "GET", "dir"))[b"dir"].decode()
    path = Path(folder, "users.acl")
    path.write_bytes("\n".join(lines).encode())
    reply = error_text(parsed(twin.ask("ACL", "LOAD")))
    users = Users()
    try:
        users.replace(path.read_bytes().split(b"\n"), str(path))
    except CommandError as error:
        assert reply is not None, lines
        ours = (error.text + errors.ACL_NOT_LOADED).decode()
        # There, a quote is left open and a space left out.
        theirs = reply.replace(f"'{path}", str(path)).replace("definition.", "definition. ")
        assert ours == theirs
        event("refused")
        return
    assert reply is None, lines
    assert users.lines() == listed(parsed(twin.ask("ACL", "LIST"))), lines
    event("taken")
