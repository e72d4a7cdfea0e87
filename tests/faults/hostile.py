"""Inputs that no honest client sends: broken frames, lies about lengths, commands with arguments that make no
sense. Every one follows from the generator it is drawn with."""

from __future__ import annotations

import random

import proxy.commands  # noqa: F401 - declares what clients can ask for,
import shardkv.commands  # noqa: F401 - here and there
from shardkv.command import COMMANDS
from tests.wire import pack

SPARED = {
    "acl", "bgrewriteaof", "bgsave", "client", "config", "debug", "failover", "flushall", "flushdb",
    "function", "monitor", "pfselftest", "psync", "replicaof", "reset", "save", "script", "shutdown",
    "slaveof", "swapdb", "sync",
}  # fmt: skip
"""Commands that would end, pause or empty the server for the others too, which is their purpose, or are meant
to take long."""

NAMES = sorted(
    name
    for name, command in COMMANDS.items()
    if not command.internal and command.container is None and name not in SPARED
)

_WORDS = (
    b"", b"0", b"1", b"-1", b"2", b"3", b"100", b"1e400", b"nan", b"inf", b"-inf", b"0x10", b" 1", b"1.5",
    b"8589934592", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"$", b">", b"*",
    b"-", b"+", b"(", b"[", b"(1", b"[a", b"0-1", b"1-1", b"a", b"b", b"c", b"key", b"{t}a", b"{t}b", b"\x00",
    b"\xff" * 9, b"x" * 200, b"EX", b"PX", b"NX", b"XX", b"GET", b"KEYS", b"COUNT", b"MATCH", b"LIMIT", b"BY",
    b"STORE", b"WEIGHTS", b"AGGREGATE", b"STREAMS", b"BLOCK", b"GROUP", b"FIELDS", b"WITHSCORES", b"LEFT",
    b"RIGHT", b"MAXLEN", b"~", b"=", b"ID", b"ASC", b"return 1", b"return redis.call('get', KEYS[1])",
)  # fmt: skip

_LIES = (
    b"*2147483648\r\n", b"*-1\r\n", b"*-2\r\n", b"*\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$536870913\r\n",
    b"*1\r\n$99999999999999999999\r\n", b"*1048577\r\n", b"*1\r\n:1\r\n", b"*1\r\n+PING\r\n",
    b"*1\r\n*1\r\n$4\r\nPING\r\n", b"*2\r\n$4\r\nPING\r\n", b"*1\r\n$4\r\nPINGxx", b"$4\r\nPING\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"set 'x\r\n", b'get "x\\x\r\n',
    b"\r\n" * 500, b"\x00" * 500, b"\xff" * 500, b"\n", b" \r\n", b"%1\r\n+a\r\n+b\r\n", b"~1\r\n+a\r\n",
    b"_\r\n", b"#t\r\n", b",1.5\r\n", b"(1\r\n", b"=7\r\ntxt:abc\r\n", b"*1\r\n$0\r\n\r\n",
)  # fmt: skip


def command(draw: random.Random) -> bytes:
    """A command that there is, with arguments drawn from words that mean something somewhere."""
    words = [draw.choice(_WORDS) for _ in range(draw.randrange(7))]
    name = draw.choice(NAMES)
    if COMMANDS[name].is_container:
        words.insert(0, draw.choice(sorted(COMMANDS[name].subcommands)).encode())
    return pack(name, *words)


def damaged(draw: random.Random) -> bytes:
    """Good requests with some bytes changed, left out or doubled."""
    data = bytearray(b"".join(command(draw) for _ in range(draw.randrange(1, 4))))
    for _ in range(draw.randrange(1, 4)):
        place = draw.randrange(len(data))
        match draw.randrange(3):
            case 0:
                data[place] = draw.randrange(256)
            case 1:
                del data[place : place + draw.randrange(1, 9)]
            case _:
                data[place:place] = data[place : place + draw.randrange(1, 9)]
        if not data:
            return b""
    return bytes(data)


def lie(draw: random.Random) -> bytes:
    return draw.choice(_LIES) * draw.randrange(1, 3)


def noise(draw: random.Random) -> bytes:
    return draw.randbytes(draw.randrange(1, 300))


def transaction(draw: random.Random) -> bytes:
    return b"".join([pack("MULTI"), *(command(draw) for _ in range(draw.randrange(5))), pack("EXEC")])


def stream(draw: random.Random) -> list[bytes]:
    """What one connection sends: some inputs that it survives, and one that may end it."""
    bearable = [draw.choice((command, command, transaction))(draw) for _ in range(draw.randrange(30))]
    return [*bearable, draw.choice((damaged, lie, noise))(draw)]
