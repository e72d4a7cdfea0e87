"""What we declare of a command is what a real server says of it."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

import proxy.commands
import shardkv.commands
from proxy.commands import command as command_module
from shardkv.command import COMMANDS, lookup
from shardkv.errors import CommandError
from shardkv.resp.replies import resp2, resp3
from tests.twin.servers import Server

DECLARING = (shardkv.commands, proxy.commands, command_module)

DIFFERENCES = {
    ("exec", "flags"): "Redis 7.2 calls skip_slowlog what Valkey calls skip_commandlog",
    ("commandlog|help", "summary"): "every HELP has the same summary",
    ("slowlog|help", "summary"): "every HELP has the same summary",
    ("backup", "known"): "a command of ours",
    ("rebalance", "known"): "a command of ours",
    ("xackdel", "known"): "a command of Redis 8.2",
    ("xdelex", "known"): "a command of Redis 8.2",
}
"""Where we deliberately say something else, and why."""

NAMES = sorted(name for name, declared in COMMANDS.items() if not declared.internal)


def ours(*request: str, protocol: int = 3) -> Any:
    """Our reply as a client of that protocol reads it."""
    words = [word.encode() for word in request]
    declared = lookup(words)
    assert declared is not None
    try:
        value = declared.handler(None, words)
    except CommandError as error:
        value = error
    reader = hiredis.Reader()
    reader.feed((resp2 if protocol == 2 else resp3)(value))
    return reader.gets()


def unordered(reply: Any) -> Any:
    """The reply with lists of words in one order: those are sets, and come in any."""
    if isinstance(reply, hiredis.ReplyError):
        return str(reply)
    if isinstance(reply, dict):
        return {key: unordered(value) for key, value in reply.items()}
    if isinstance(reply, list):
        items = [unordered(item) for item in reply]
        return sorted(items) if all(isinstance(item, bytes) for item in items) else items
    return reply


def aspects(name: str, ask: Any) -> dict[str, Any]:
    """What COMMAND INFO and COMMAND DOCS say of one command."""
    (information,) = unordered(ask("COMMAND", "INFO", name))
    documentation = ask("COMMAND", "DOCS", name).get(name.encode())
    if information is None:
        return {"known": False}
    _, arity, flags, first, last, step, categories, _, keys, _ = information
    return {
        "known": True,
        "arity": arity,
        "flags": flags,
        "range": (first, last, step),
        "categories": categories,
        "keys": keys,
        "since": documentation[b"since"],
        "group": documentation[b"group"],
        "complexity": documentation.get(b"complexity", b""),
        "summary": documentation[b"summary"],
    }


@pytest.mark.parametrize("name", NAMES)
def test_declaration(twin_server: Server, name: str) -> None:
    real = aspects(name, twin_server.ask)
    declared = aspects(name, ours)
    comparable = {aspect: declared[aspect] for aspect in real}
    for aspect in [aspect for command, aspect in DIFFERENCES if command == name]:
        assert comparable.pop(aspect) != real.pop(aspect), f"{aspect}: no difference any more"
    assert comparable == real


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "request_line",
    [
        "COMMAND INFO get mset nosuch get|nosuch a|b|c COMMAND|docs",
        "COMMAND INFO",
        "COMMAND COUNT",
        "COMMAND DOCS nosuch get del",
        "COMMAND LIST FILTERBY PATTERN command|*",
        "COMMAND LIST FILTERBY PATTERN cOMMand|?ET[a-z]*",
        "COMMAND LIST FILTERBY ACLCAT nosuch",
        "COMMAND LIST FILTERBY ACLCAT @string",
        "COMMAND LIST FILTERBY MODULE nosuch",
        "COMMAND LIST FILTERBY nosuch x",
        "COMMAND LIST FILTERBY",
        "COMMAND LIST x",
    ],
)
def test_replies(twin_server: Server, request_line: str, protocol: int) -> None:
    request = request_line.split()
    reply = twin_server.ask(*request, protocol=protocol)
    if request_line in ("COMMAND INFO", "COMMAND COUNT"):
        assert type(ours(*request, protocol=protocol)) is type(reply)
    else:
        assert unordered(ours(*request, protocol=protocol)) == unordered(reply)


def test_a_container_s_information_holds_its_subcommands(twin_server: Server) -> None:
    def by_name(reply: Any) -> list[Any]:
        return sorted(unordered(reply[0][9]))

    assert by_name(ours("COMMAND", "INFO", "command")) == by_name(
        twin_server.ask("COMMAND", "INFO", "command")
    )


REQUESTS = """
get | get a | GET a b | set a 1 | set a 1 get | SET a 1 EX 9 GeT | strlen a | getex a PX 1 | delifeq a b
mset a 1 b 2 | mset a 1 b | msetex 2 a 1 b 2 EX 9 | msetex 0 a 1 | msetex 3 a 1 b 2 | mget a b | lcs a b LEN
del a b c | rename a b | copy a b DB 3 | touch a a | move a 1 | expire a 1 NX | keys * | scan 0 | randomkey
object encoding a | object | object nosuch a | object help | config get a | config | client kill ID 3
ping | command getkeys get a | sort a | sort a BY x STORE b GET STORE STORE d | sort_ro a BY x
hset a b 1 c 2 | hgetdel a FIELDS 1 b | lpush a b | blpop a b 0 | lmove a b LEFT RIGHT | lmpop 2 a b LEFT
blmpop 0 2 a b LEFT | blmpop 0 x a b LEFT | brpoplpush a b 0 | sadd a b | smove a b c | sinterstore d a b
sintercard 2 a b LIMIT 1 | sintercard 3 a b | zadd a 1 b | zdiff 1 a | zmpop 1 a MIN | bzpopmin a b 0
zunionstore d 2 a b | zunionstore d 0 a b | zunionstore d 3 a b | zrangestore d a 0 1 | xadd a * b c
xread COUNT 1 STREAMS a b 0 1 | xread COUNT 1 STREAMS a b c | xread COUNT 1 STREAMS | xread a b c
xreadgroup GROUP g c STREAMS a > | xgroup create a b $ | xinfo stream a | geosearchstore d a FROMMEMBER m
geosearchstore d a FROMMEMBER m BYRADIUS 1 m | georadius a 1 1 1 km STORE d | georadius a 1 1 1 km
bitop AND d a b | bitfield a | bitfield a GET u8 0 | bitfield a GET u8 0 SET u8 0 1 | bitfield_ro a GET u8 0
pfmerge d a b | pfcount a b | watch a b | eval s 0 | eval s 2 a b c | eval s 3 a | eval s -1 a | evalsha s 1 a
fcall f 1 a | publish a b | spublish a b | subscribe a | ssubscribe a
"""


def requests_we_know() -> list[str]:
    requests = [request.strip() for line in REQUESTS.strip().splitlines() for request in line.split(" | ")]
    return [request for request in requests if request.split()[0].lower() in COMMANDS]


@pytest.mark.parametrize("subcommand", ["GETKEYS", "GETKEYSANDFLAGS"])
@pytest.mark.parametrize("request_line", [*requests_we_know(), "nosuch a", "command|count"])
def test_keys(twin_server: Server, subcommand: str, request_line: str) -> None:
    request = ["COMMAND", subcommand, *request_line.split()]
    assert unordered(ours(*request)) == unordered(twin_server.ask(*request))
