"""Every command by every road that can run it, for users who lack the right to it, or to its keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import proxy.commands
from proxy.multi import NOT_QUEUED
from shardkv import commands
from shardkv.command import COMMANDS, Command, Flag
from tests.processes.server import Shardkv, shardkv
from tests.wire import Connection

assert commands
assert proxy.commands

ALL = {
    name: declared
    for name, declared in COMMANDS.items()
    if not declared.internal and not (declared.is_container and declared.arity == -2)
}
"""What can be run: most commands that have subcommands do nothing without one."""

OPEN_TO_ALL = {name for name, declared in ALL.items() if declared.flags & Flag.NO_AUTH}
CHANNELS = {"publish", "spublish", "subscribe", "psubscribe", "ssubscribe"}

KEY = b"forbidden:key"
ALLOWED = b"allowed:key"
VALUE = b"untouched"

WITH_KEYWORDS = {
    "xread": "XREAD STREAMS {0} 0",
    "xreadgroup": "XREADGROUP GROUP g c STREAMS {0} 0",
    "sort": "SORT {0} STORE {0}",
    "georadius": "GEORADIUS {0} 1 1 1 m STORE {0}",
    "georadiusbymember": "GEORADIUSBYMEMBER {0} m 1 m STORE {0}",
}
"""Requests whose keys stand behind words."""

NOT_ALLOWED = (b"-ERR ACL failure in script", b"-ERR This Redis command is not allowed from script")

LIBRARY = """#!lua name=roads
redis.register_function('run', function(keys, args) return redis.pcall(unpack(args)) end)
"""


def request(declared: Command, key: bytes = KEY) -> list[bytes]:
    """A request with the right number of words, whose keys, or channels, are all this one."""
    if declared.name in WITH_KEYWORDS:
        return WITH_KEYWORDS[declared.name].format(key.decode()).encode().split()
    words = declared.name.upper().encode().split(b"|")
    least = [abs(declared.arity)]
    for spec in declared.keys:
        if spec.begin is None and spec.find is None:
            continue  # no word of the request names such a key
        assert isinstance(spec.begin, int), f"{declared.name} needs an example"
        _, first, _ = spec.numkeys or (0, 0, 0)
        least.append(spec.begin + first + 1 + max(0, -1 - spec.last))
    words += [b"1"] * (max(least) - len(words))
    for position in declared.key_positions(words):
        words[position] = key
    if declared.name in CHANNELS:
        words[1] = key
    assert declared.fits(len(words))
    return words


def has_objects(declared: Command) -> bool:
    """Whether a request names keys or channels."""
    return bool(declared.key_positions(request(declared))) or declared.name in CHANNELS


def script_of(declared: Command) -> tuple[bytes, list[bytes]]:
    """A script that calls a command with the keys that it declares, and with no others."""
    words = request(declared)
    keys = declared.key_positions(words)
    said = [
        f"KEYS[{keys.index(at) + 1}]" if at in keys else f"'{word.decode()}'" for at, word in enumerate(words)
    ]
    return f"return redis.pcall({', '.join(said)})".encode(), [words[at] for at in keys]


@pytest.fixture(scope="module")
def server() -> Iterator[Shardkv]:
    with shardkv(proxies=2, workers=3) as running:
        yield running


@pytest.fixture
def admin(server: Shardkv) -> Iterator[Connection]:
    """Who may do everything; sees at the end that nothing was done to the keys."""
    with server.wire() as connection:
        connection.ask("FLUSHALL")
        connection.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY)
        connection.ask("MSET", KEY, VALUE, ALLOWED, VALUE)
        yield connection
        assert connection.ask("MGET", KEY, ALLOWED) == b"*2\r\n" + b"$9\r\nuntouched\r\n" * 2
        assert connection.ask("DBSIZE") == b":2\r\n"


def login(server: Shardkv, admin: Connection, *rules: str) -> Connection:
    """A client of a user with these rules."""
    assert admin.ask("ACL", "SETUSER", "limited", "reset", "on", "nopass", *rules) == b"+OK\r\n"
    connection = server.wire()
    assert connection.ask("AUTH", "limited", "any") == b"+OK\r\n"
    return connection


def inline(connection: Connection, words: list[bytes]) -> bytes:
    connection.send_bytes(b" ".join(words) + b"\r\n")
    return connection.receive()


def in_multi(connection: Connection, words: list[bytes]) -> bytes:
    """The reply to what is sent between MULTI and EXEC."""
    assert connection.ask("MULTI") == b"+OK\r\n"
    reply = connection.ask(*words)
    assert connection.ask("DISCARD") == b"+OK\r\n"
    return reply


def roads(connection: Connection, words: list[bytes]) -> dict[str, bytes]:
    """The replies to a request by each road through scripts."""
    return {
        "EVAL": connection.ask("EVAL", "return redis.pcall(unpack(ARGV))", 0, *words),
        "FCALL": connection.ask("FCALL", "run", 0, *words),
        "EXEC": in_exec(connection, words),
    }


def in_exec(connection: Connection, words: list[bytes]) -> bytes:
    """The reply to a script in a transaction."""
    assert connection.ask("MULTI") == b"+OK\r\n"
    assert connection.ask("EVAL", "return redis.pcall(unpack(ARGV))", 0, *words) == b"+QUEUED\r\n"
    assert connection.ask("SET", b"allowed:other", 1).startswith((b"+QUEUED", b"-NOPERM"))
    return connection.ask("EXEC")


def test_the_examples_name_keys() -> None:
    """Else they would show nothing."""
    for declared in ALL.values():
        if any(not spec.is_channel for spec in declared.keys):
            assert declared.key_positions(request(declared)), declared.name
    assert {"auth", "hello", "reset", "quit"} == OPEN_TO_ALL
    assert sum(map(has_objects, ALL.values())) > 200


def test_without_the_right_to_any_command(server: Shardkv, admin: Connection) -> None:
    with login(server, admin, "~*", "&*", "-@all") as client:
        for name in ALL.keys() - OPEN_TO_ALL:
            words = request(ALL[name])
            denied = f"-NOPERM User limited has no permissions to run the '{name}' command\r\n".encode()
            if name == "exec":
                denied = b"-EXECABORT Transaction discarded because of: " + denied[1:]
            assert client.ask(*words) == denied
            assert inline(client, words) == denied


def test_without_the_right_to_a_command_in_a_transaction(server: Shardkv, admin: Connection) -> None:
    given = {"multi", "exec", "discard"}
    with login(server, admin, "~*", "&*", "-@all", *map("+{}".format, given)) as client:
        for name in ALL.keys() - OPEN_TO_ALL - given:
            refused = name not in NOT_QUEUED and ALL[name].flags & Flag.NO_MULTI
            reply = in_multi(client, request(ALL[name]))
            assert reply.startswith(b"-ERR Command not allowed" if refused else b"-NOPERM User limited"), name


def test_without_the_right_to_a_command_in_a_script(server: Shardkv, admin: Connection) -> None:
    given = {"multi", "exec", "eval", "fcall"}
    with login(server, admin, "~*", "&*", "-@all", *map("+{}".format, given)) as client:
        for name in ALL.keys() - OPEN_TO_ALL - given:
            words = request(ALL[name])
            script, keys = script_of(ALL[name])
            assert client.ask("EVAL", script, len(keys), *keys).startswith(NOT_ALLOWED), name
            assert client.ask("EVAL", "return redis.pcall(unpack(ARGV))", 0, *words).startswith(NOT_ALLOWED)
            assert client.ask("FCALL", "run", 0, *words).startswith(NOT_ALLOWED), name
            check = client.ask("EVAL", "return redis.acl_check_cmd(unpack(ARGV))", 0, *words)
            assert check == b"$-1\r\n", name


def test_without_the_right_to_the_key(server: Shardkv, admin: Connection) -> None:
    with login(server, admin, "~allowed:*", "&allowed:*", "+@all") as client:
        for name in filter(lambda name: has_objects(ALL[name]), ALL):
            words = request(ALL[name])
            assert client.ask(*words).startswith(b"-NOPERM No permissions to access a "), name
            assert inline(client, words).startswith(b"-NOPERM No permissions to access a "), name
            if name not in NOT_QUEUED:
                assert in_multi(client, words).startswith(b"-NOPERM No permissions to access a "), name
            for road, reply in roads(client, words).items():
                if road == "EXEC":
                    head, reply = reply[:4], reply[4:]
                    assert head == b"*2\r\n"
                assert reply.startswith(NOT_ALLOWED), (name, road)
            check = client.ask("EVAL", "return redis.acl_check_cmd(unpack(ARGV))", 0, *words)
            assert check == b"$-1\r\n", name
            assert client.ask("DEL", "allowed:other") == b":1\r\n"


def test_one_forbidden_key_among_others(server: Shardkv, admin: Connection) -> None:
    """Each key of a request with several."""
    with login(server, admin, "~allowed:*", "+@all") as client:
        for declared in ALL.values():
            words = request(declared, ALLOWED)
            if any(spec.last == -1 and spec.begin == 1 and spec.step == 1 for spec in declared.keys):
                words += [ALLOWED, ALLOWED]
            for position in declared.key_positions(words):
                asked = [*words]
                asked[position] = KEY
                assert client.ask(*asked) == b"-NOPERM No permissions to access a key\r\n", asked
                called = client.ask("EVAL", "return redis.pcall(unpack(ARGV))", 0, *asked)
                assert called.startswith(NOT_ALLOWED), asked


@pytest.mark.parametrize(("rule", "lacks"), [("%R~*", {"INSERT", "UPDATE", "DELETE"}), ("%W~*", {"ACCESS"})])
def test_half_of_the_right_to_the_key(server: Shardkv, admin: Connection, rule: str, lacks: set[str]) -> None:
    with login(server, admin, rule, "+@all") as client:
        for declared in ALL.values():
            words = request(declared)
            wanted = {flag for _, access in declared.key_access(words) for flag in access.split()}
            if wanted & lacks:
                assert client.ask(*words) == b"-NOPERM No permissions to access a key\r\n", words
                called = client.ask("EVAL", "return redis.pcall(unpack(ARGV))", 0, *words)
                assert called.startswith(NOT_ALLOWED), words


QUEUED = [
    name
    for name, declared in ALL.items()
    if name not in NOT_QUEUED | OPEN_TO_ALL and not declared.flags & Flag.NO_MULTI
]


@pytest.mark.parametrize(
    ("rules", "names", "reason"),
    [
        (["-@all", "+exec"], QUEUED, b"no permission to execute the command or subcommand"),
        (
            ["resetkeys"],
            [name for name in QUEUED if ALL[name].key_positions(request(ALL[name]))],
            b"no permission to touch the specified keys",
        ),
        (
            ["resetchannels"],
            sorted(CHANNELS),
            b"no permission to access one of the channels used as arguments",
        ),
    ],
    ids=["command", "key", "channel"],
)
def test_a_right_that_is_gone_when_the_transaction_is_carried_out(
    server: Shardkv, admin: Connection, rules: list[str], names: list[str], reason: bytes
) -> None:
    with login(server, admin, "~*", "&*", "+@all") as client:
        assert client.ask("MULTI") == b"+OK\r\n"
        for name in names:
            assert client.ask(*request(ALL[name])) == b"+QUEUED\r\n"
        assert admin.ask("ACL", "SETUSER", "limited", *rules) == b"+OK\r\n"
        refusal = (
            b"-NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC "
            b"call. This command is no longer allowed for the following reason: %b\r\n" % reason
        )
        assert client.ask("EXEC") == b"*%d\r\n" % len(names) + refusal * len(names)
