"""What follows from the declaration of a command."""

from __future__ import annotations

from typing import Any

import pytest

import shardkv.command as declarations
from shardkv.command import (
    ADMIN,
    BLOCKING,
    FAST,
    NO_FLAGS,
    PUBSUB,
    READONLY,
    WRITE,
    Command,
    Flag,
    Key,
    Place,
    command,
    container,
    help_lines,
    lookup,
    named,
)
from shardkv.errors import CommandError


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, Command]:
    """An empty command table."""
    table: dict[str, Command] = {}
    monkeypatch.setattr(declarations, "COMMANDS", table)
    return table


def declare(line: str, flags: Flag = NO_FLAGS, group: str = "string", **more: Any) -> Command:
    def handler(db: Any, args: list[Any]) -> Any:
        """Does it.

        In ways that no client needs to know."""

    command(line, group=group, since="1.0.0", flags=flags, **more)(handler)
    return next(reversed(declarations.COMMANDS.values()))


def words(request: str) -> list[bytes]:
    return request.encode().split()


# -- keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "request_line", "positions"),
    [
        (Key(1), "GET a", [1]),
        (Key(1, last=-1), "DEL a b c", [1, 2, 3]),
        (Key(1, last=-2), "BLPOP a b 0", [1, 2]),
        (Key(1, last=-1, step=2), "MSET a 1 b 2", [1, 3]),
        (Key(1, last=1), "LCS a b", [1, 2]),
        (Key(2, last=-1), "BITOP AND d a b", [2, 3, 4]),
        (Key(1, numkeys=(0, 1, 1)), "SINTERCARD 2 a b LIMIT 1", [2, 3]),
        (Key(1, numkeys=(0, 1, 2)), "MSETEX 2 a 1 b 2 EX 9", [2, 4]),
        (Key("STREAMS", last=-1, limit=2), "XREAD COUNT 1 streams a b 0 0", [4, 5]),
        (Key("STREAMS", last=-1, limit=2), "XREAD COUNT 1", []),
        (Key("STORE", search_from=6), "GEORADIUS STORE 0 0 1 m STORE d", [7]),
        (Key("STORE", search_from=6), "GEORADIUS STORE 0 0 1 m", []),
        (Key("KEYS", last=-1, search_from=-2), "MIGRATE h 1 k 0 9 KEYS a b", [7, 8]),
        (Key(None), "SORT a", []),
        (Key(None, find=lambda args: [len(args) - 1]), "SORT a STORE b", [3]),
    ],
)
def test_positions(spec: Key, request_line: str, positions: list[int]) -> None:
    found = spec.positions(words(request_line))
    assert found is not None
    assert list(found) == positions


@pytest.mark.parametrize("number", ["3", "0", "-1", "x", "", "99999999999999999999", "1e3"])
def test_a_wrong_number_of_keys(number: str) -> None:
    assert Key(2, numkeys=(0, 1, 1)).positions([b"EVAL", b"s", number.encode(), b"a", b"b"]) is None


def test_a_missing_number_of_keys() -> None:
    assert Key(1, numkeys=(1, 2, 1)).positions([b"X", b"a"]) is None


def test_keys_of_several_specifications(commands: dict[str, Command]) -> None:
    store = declare(
        "ZUNIONSTORE destination numkeys key [key ...]",
        keys=(Key(1, access="OW UPDATE"), Key(2, numkeys=(0, 1, 1))),
    )
    request = words("ZUNIONSTORE d 2 a b")
    assert list(store.key_positions(request)) == [1, 3, 4]
    assert store.key_access(request) == [(1, "OW UPDATE"), (3, "RO ACCESS"), (4, "RO ACCESS")]


def test_a_wrong_number_leaves_no_keys_at_all(commands: dict[str, Command]) -> None:
    store = declare("ZUNIONSTORE destination numkeys key [key ...]", keys=(Key(1), Key(2, numkeys=(0, 1, 1))))
    assert not store.key_positions(words("ZUNIONSTORE d 9 a b"))
    assert store.key_access(words("ZUNIONSTORE d 9 a b")) == []


def test_access_may_depend_on_the_request(commands: dict[str, Command]) -> None:
    def access(args: Any) -> str:
        return "RW ACCESS" if b"GET" in args else "OW UPDATE"

    keys = (Key(1, access="RW ACCESS UPDATE VARIABLE_FLAGS", access_of=access),)
    put = declare("PUT key value [GET]", keys=keys)
    assert put.key_access(words("PUT a b")) == [(1, "OW UPDATE")]
    assert put.key_access(words("PUT a b GET")) == [(1, "RW ACCESS")]


def test_channels_are_no_keys(commands: dict[str, Command]) -> None:
    publish = declare("SPUBLISH shardchannel message", keys=(Key(1, access="NOT_KEY"),))
    assert not publish.key_positions(words("SPUBLISH a b"))
    assert not publish.one_key


@pytest.mark.parametrize(
    ("line", "keys", "place", "one_key"),
    [
        ("GET key", (Key(1),), Place.SHARD, True),
        ("GET key", (Key(1),), Place.PROXY, False),
        ("DEL key [key ...]", (Key(1, last=-1),), Place.SHARD, False),
        ("RENAME key newkey", (Key(1), Key(2)), Place.SHARD, False),
        ("EVAL script numkeys", (Key(2, numkeys=(0, 1, 1)),), Place.SHARD, False),
        ("PING", (), Place.SHARD, False),
    ],
)
def test_one_key(
    commands: dict[str, Command], line: str, keys: tuple[Key, ...], place: Place, one_key: bool
) -> None:
    assert declare(line, keys=keys, place=place).one_key is one_key


@pytest.mark.parametrize(
    ("access", "writes"),
    [
        ("RO", False),
        ("RO ACCESS", False),
        ("RW ACCESS", True),
        ("OW", True),
        ("RM DELETE", True),
        ("NOT_KEY", False),
    ],
)
def test_writes(access: str, writes: bool) -> None:
    assert Key(1, access=access).writes is writes


# -- arity, name, categories ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "arity", "fits"),
    [
        ("GET key", 2, {2}),
        ("MGET key [key ...]", -2, {2, 3, 4, 5}),
        ("PING [message]", -1, {1, 2, 3, 4, 5}),
    ],
)
def test_arity(commands: dict[str, Command], line: str, arity: int, fits: set[int]) -> None:
    declared = declare(line)
    assert declared.arity == arity
    assert {count for count in range(1, 6) if declared.fits(count)} == fits


def test_arity_that_the_syntax_does_not_tell(commands: dict[str, Command]) -> None:
    assert declare("QUIT", arity=-1).arity == -1


def test_summary_is_the_first_paragraph(commands: dict[str, Command]) -> None:
    assert declare("GET key").summary == "Does it."


def test_a_command_is_declared_once(commands: dict[str, Command]) -> None:
    declare("GET key")
    with pytest.raises(AssertionError, match="get is declared twice"):
        declare("GET key")


@pytest.mark.parametrize(
    ("flags", "group", "categories", "expected"),
    [
        (WRITE, "string", None, ["write", "string", "slow"]),
        (READONLY | FAST, "hash", None, ["read", "hash", "fast"]),
        (READONLY, "scripting", None, ["slow", "scripting"]),
        (WRITE | BLOCKING, "list", None, ["write", "list", "slow", "blocking"]),
        (ADMIN, "server", None, ["admin", "slow", "dangerous"]),
        (PUBSUB, "pubsub", None, ["pubsub", "slow"]),
        (WRITE, "generic", ("dangerous", "keyspace"), ["keyspace", "write", "slow", "dangerous"]),
        (NO_FLAGS, "connection", (), ["slow"]),
    ],
)
def test_acl_categories(
    commands: dict[str, Command],
    flags: Flag,
    group: str,
    categories: tuple[str, ...] | None,
    expected: list[str],
) -> None:
    assert declare("X", flags, group, categories=categories).acl_categories() == expected


# -- subcommands, lookup, help ----------------------------------------------------------------


@pytest.fixture
def tree(commands: dict[str, Command]) -> dict[str, Command]:
    """GET, an internal command, and a container with two subcommands."""
    declare("GET key")
    declare("PREPARE keys", internal=True)
    container(
        "CONFIG", group="server", since="2.0.0", help_since="5.0.0", summary="A container for settings."
    )
    declare("CONFIG SET parameter value [parameter value ...]", group="server")
    declare("CONFIG GET parameter [parameter ...]", group="server")
    return commands


def test_subcommands(tree: dict[str, Command]) -> None:
    config = tree["config"]
    assert (config.arity, config.summary) == (-2, "A container for settings.")
    assert sorted(config.subcommands) == ["get", "help", "set"]
    assert tree["config|set"].container is config
    assert tree["config|set"].arity == -4
    assert tree["config|help"].arity == 2


def test_a_container_alone_wants_a_subcommand(tree: dict[str, Command]) -> None:
    with pytest.raises(CommandError) as caught:
        tree["config"].handler(None, [b"config"])
    assert caught.value.text == b"ERR wrong number of arguments for 'config' command"


def test_help_lines(tree: dict[str, Command]) -> None:
    assert help_lines(tree["config"]) == [
        b"CONFIG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        b"GET parameter [parameter ...]",
        b"    Does it.",
        b"SET parameter value [parameter value ...]",
        b"    Does it.",
        b"HELP",
        b"    Returns helpful text about the different subcommands.",
    ]
    assert tree["config|help"].handler(None, [b"config", b"help"]) == help_lines(tree["config"])


@pytest.mark.parametrize(
    ("request_line", "name"),
    [
        ("get a", "get"),
        ("GeT", "get"),
        ("config", "config"),
        ("CONFIG set a 1", "config|set"),
        ("CONFIG nosuch", None),
        ("config|set a 1", None),
        ("nosuch", None),
        ("prepare", None),
        ("gét", None),
    ],
)
def test_lookup(tree: dict[str, Command], request_line: str, name: str | None) -> None:
    found = lookup(words(request_line))
    assert (found and found.name) == name


@pytest.mark.parametrize(
    ("name", "found"),
    [(b"GET", "get"), (b"Config|Set", "config|set"), (b"get|set", None), (b"prepare", None), (b"\xff", None)],
)
def test_named(tree: dict[str, Command], name: bytes, found: str | None) -> None:
    declared = named(name)
    assert (declared and declared.name) == found


def test_numbering(tree: dict[str, Command], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declarations, "BY_ID", [])
    declarations.number_commands()
    assert [declared.name for declared in declarations.BY_ID] == sorted(tree)
    assert [declared.id for declared in declarations.BY_ID] == list(range(len(tree)))
