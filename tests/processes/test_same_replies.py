"""What clients get back is, byte for byte, what a real server answers."""

from __future__ import annotations

import re
import shlex
from typing import Any

import hiredis
import pytest

from tests.processes.server import Shardkv
from tests.twin.servers import Server
from tests.wire import Connection

HANDSHAKES = """
AUTH x | AUTH default x | AUTH bob x | AUTH a b c | AUTH | auth
HELLO 4 | HELLO 1 | HELLO x | HELLO 03 | HELLO 3 AUTH | HELLO 3 AUTH a | HELLO 3 AUTH x b | HELLO 3 SETNAME
HELLO 3 SETNAME "a b" | CLIENT GETNAME | HELLO 3 FOO | HELLO 3 setname x foo | CLIENT GETNAME
HELLO 2 setname x setname y | CLIENT GETNAME | HELLO 3 AUTH default any SETNAME z | CLIENT GETNAME | HELLO | HELLO 2
RESET | CLIENT GETNAME | RESET a | GET
"""

OWN_STATE = """
PING | PING a | PING a b | ping | ECHO a | ECHO | ECHO a b | ECHO ""
SELECT 16 | SELECT -1 | SELECT x | SELECT 15 | CLIENT INFO | SELECT 99999999999999999999 | SELECT 3 4 | SELECT 0
CLIENT | CLIENT FOO | CLIENT ID x | CLIENT GETNAME | CLIENT GETNAME x
CLIENT SETNAME "a b" | CLIENT SETNAME "a\x01" | CLIENT SETNAME é | CLIENT SETNAME abc | CLIENT GETNAME | CLIENT INFO
CLIENT SETNAME "" | CLIENT GETNAME | CLIENT SETNAME
CLIENT SETINFO foo bar | CLIENT SETINFO Lib-Name "a b" | CLIENT SETINFO lib-name "ab(c_d;e)" | CLIENT INFO
CLIENT SETINFO LIB-VER 1.2 | CLIENT SETINFO lib-ver | CLIENT INFO | CLIENT SETINFO lib-ver "" | CLIENT INFO
CLIENT NO-EVICT foo | CLIENT NO-EVICT on | CLIENT INFO | CLIENT NO-EVICT OFF
CLIENT NO-TOUCH foo | CLIENT NO-TOUCH on | CLIENT INFO | CLIENT NO-TOUCH off | CLIENT INFO
CLIENT REPLY | CLIENT REPLY foo | CLIENT REPLY ON | CLIENT REPLY ON x
NOSUCH | NOSUCH a b | "no such\\r\\n" | CLIENT NOSUCH x | "" | "" a
"""

FILTERS = """
CLIENT LIST TYPE foo | CLIENT LIST TYPE | CLIENT LIST ID | CLIENT LIST FOO | CLIENT LIST FOO x | CLIENT LIST NAME
CLIENT LIST ID 1 x | CLIENT LIST ID 9999999 8888888 TYPE normal
CLIENT LIST USER nobody | CLIENT LIST NOT-USER nobody | CLIENT LIST SKIPME foo
CLIENT LIST MAXAGE x | CLIENT LIST MAXAGE 0 | CLIENT LIST MAXAGE -1 | CLIENT LIST MAXAGE 999999
CLIENT LIST IDLE x | CLIENT LIST idle 0 | CLIENT LIST IDLE 999999 | CLIENT LIST NOT-IDLE 1 | CLIENT LIST NOT-MAXAGE 1
CLIENT LIST ADDR 1.2.3.4:5 | CLIENT LIST LADDR x | CLIENT LIST IP 1.2.3.4 | CLIENT LIST NAME nobody
CLIENT LIST FLAGS ? | CLIENT LIST FLAGS Nb | CLIENT LIST FLAGS S | CLIENT LIST NOT-FLAGS N? | CLIENT LIST FLAGS P
CLIENT LIST LIB-NAME nobody | CLIENT LIST LIB-VER 99 | CLIENT LIST NAME "" | CLIENT LIST LIB-NAME ""
CLIENT LIST DB 22 | CLIENT LIST DB x | CLIENT LIST DB 13 | CLIENT LIST NOT-DB x | CLIENT LIST NOT-DB -1
CLIENT LIST CAPA r | CLIENT LIST CAPA foo | CLIENT LIST NOT-CAPA foo | CLIENT LIST NOT-ID x | CLIENT LIST NOT-ID 0
CLIENT LIST NOT-TYPE normal | CLIENT LIST NOT-TYPE x | CLIENT LIST NOT-FOO x | CLIENT LIST TYPE replica
CLIENT LIST TYPE PUBSUB | CLIENT LIST TYPE slave | CLIENT LIST TYPE master | CLIENT LIST TYPE primary
CLIENT KILL | CLIENT KILL foo | CLIENT KILL 1.1.1.1:1 | CLIENT KILL ID 7777777 | CLIENT KILL ID 0 | CLIENT KILL ID -1
CLIENT KILL ID 7777777 8888888 | CLIENT KILL ID 7777777 FOO | CLIENT KILL ID 5 SKIPME | CLIENT KILL SKIPME foo
CLIENT KILL TYPE foo | CLIENT KILL TYPE pubsub | CLIENT KILL TYPE master | CLIENT KILL TYPE primary
CLIENT KILL USER bob | CLIENT KILL user bob NAME x | CLIENT KILL ADDR 1.1.1.1:1 | CLIENT KILL LADDR 1.1.1.1:1
CLIENT KILL MAXAGE 100000 | CLIENT KILL MAXAGE x | CLIENT KILL MAXAGE -1 | CLIENT KILL FOO BAR
CLIENT KILL ID 8888888 ID 7777777 | CLIENT KILL IDLE 100000 | CLIENT KILL IDLE x | CLIENT KILL FLAGS ?
CLIENT KILL DB x | CLIENT KILL CAPA x | CLIENT KILL ADDR 1 2 | CLIENT KILL NAME nobody NOT-ID 1 2 3
CLIENT PAUSE | CLIENT PAUSE x | CLIENT PAUSE -1 | CLIENT PAUSE 99999999999999999999 | CLIENT PAUSE 1 foo
CLIENT PAUSE 9223372036854775807 | CLIENT PAUSE 0 | CLIENT PAUSE 1 WRITE | CLIENT UNPAUSE | CLIENT UNPAUSE x
"""

SERVER = """
CONFIG | CONFIG FOO | CONFIG GET | CONFIG GET timeout TIMEOUT | CONFIG GET nosuch
CONFIG GET maxmemory | CONFIG GET save | CONFIG GET [t]imeout | CONFIG GET client-output-buffer-limit
CONFIG SET | CONFIG SET a | CONFIG SET nosuch 1 | CONFIG SET timeout 0 timeout 0 | CONFIG SET timeout x
CONFIG SET timeout -1 | CONFIG SET databases 3 | CONFIG SET timeout 0 nosuch 3 | CONFIG SET timeout 0 maxclients
CONFIG SET appendfsync foo | CONFIG SET client-output-buffer-limit foo | CONFIG SET enable-debug-command yes
CONFIG SET TIMEOUT 0 | CONFIG REWRITE x | CONFIG REWRITE | CONFIG RESETSTAT x | CONFIG RESETSTAT
DEBUG | DEBUG FOO | DEBUG SLEEP | DEBUG SLEEP 0 | DEBUG SLEEP x | DEBUG SET-ACTIVE-EXPIRE 1 | DEBUG ERROR "X y"
DEBUG LOG x | DEBUG NOSUCH a b
SHUTDOWN foo | SHUTDOWN ABORT | SHUTDOWN NOSAVE SAVE | SHUTDOWN ABORT NOW | SHUTDOWN NOW NOW FOO
TIME x | LASTSAVE x | BGREWRITEAOF x | INFO nosuch | INFO "" x | INFO cluster | INFO CLUSTER nosuch
LOLWUT VERSION x
"""

# In Redis 7.2 an ID that is no number has errors of its own, and LIST finds nobody for one that is not positive.
FIRST_ID = {
    "CLIENT LIST ID x": b"-ERR Invalid client ID\r\n",
    "CLIENT KILL ID x": b"-ERR client-id should be greater than 0\r\n",
}

COMPARED_FIELDS = (
    *("name", "flags", "db", "sub", "psub", "ssub", "multi", "events", "cmd", "user", "redir", "resp"),
    *("lib-name", "lib-ver"),
)


def lines(script: str) -> list[str]:
    return [line.strip() for row in script.strip().splitlines() for line in row.split(" | ")]


def comparable(line: str, reply: bytes) -> Any:
    """What of a reply has to be the same."""
    if line.upper().startswith("HELLO") and not reply.startswith(b"-"):
        reader = hiredis.Reader()
        reader.feed(reply)
        told = reader.gets()
        if isinstance(told, list):
            told = dict(zip(told[::2], told[1::2], strict=True))
        return reply[:1], list(told), [told[name] for name in (b"proto", b"mode", b"role")]
    if line == "CLIENT INFO":
        fields = dict(field.split("=", 1) for field in reply.decode().split() if "=" in field)
        return reply[:1], [fields[name] for name in COMPARED_FIELDS], re.findall(rb"\n", reply)
    return reply


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize(
    "script", [HANDSHAKES, OWN_STATE, FILTERS], ids=["handshakes", "own state", "filters"]
)
def test_connection(server: Shardkv, twin_server: Server, script: str, protocol: int) -> None:
    compare(server, twin_server, script, protocol)


@pytest.mark.parametrize("protocol", [2, 3])
def test_server(server: Shardkv, debuggable_twin: Server, protocol: int) -> None:
    compare(server, debuggable_twin, SERVER, protocol)


def compare(server: Shardkv, twin: Server, script: str, protocol: int) -> None:
    differences = []
    with Connection(server.port, protocol) as ours, Connection(twin.port, protocol) as theirs:
        for line in lines(script):
            words = [word.encode() for word in shlex.split(line)]
            own, real = ours.ask(*words), theirs.ask(*words)
            if comparable(line, own) != comparable(line, real):
                differences.append((line, own, real))
    assert not differences


@pytest.mark.parametrize("line", FIRST_ID)
def test_ids_that_are_no_numbers(server: Shardkv, line: str) -> None:
    with server.wire() as connection:
        assert connection.ask(*line.split()) == FIRST_ID[line]
