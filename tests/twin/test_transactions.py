"""MULTI, EXEC, WATCH and their like, of several clients at once, beside a real server.

A script has a line a request: who sends it, and its words. `a.` sends without waiting for a reply, `a+` takes
a reply that is still to come, `a!` closes the connection, `a~` sends bytes as they are and waits for the end
of the connection.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes.server import Shardkv, shardkv
from tests.twin.servers import Server, redis_7
from tests.wire import Connection

SCRIPTS = {
    "queueing": """
a MULTI | a SET k1 1 | a SET k2 2 | a GET k1 | b GET k1 | a MGET k1 k2 k3 | a EXEC | b GET k1 | a EXEC
a MULTI | a EXEC | a MULTI | a PING | a PING x | a ECHO y | a EXEC
a MULTI | a DISCARD | a DISCARD | a EXEC | a GET k1
a MULTI | a multi | a INCR k1 | a EXEC | a MULTI x | a EXEC x | a DISCARD x | a EXEC | a WATCH | a UNWATCH x
a MULTI | a INCR k1 | a DISCARD | a GET k1
a MULTI | a SET k1 | a SET k1 9 | a EXEC | a GET k1 | a EXEC
a MULTI | a NOSUCH x | a EXEC | a MULTI | a GET | a DISCARD | a MULTI | a CLIENT NOSUCH | a EXEC
a MULTI | a CONFIG | a EXEC | a MULTI | a INCR k1 | a EXEC x | a EXEC | a GET k1
a MULTI | a WATCH k1 | a INCR k1 | a EXEC | a MULTI | a UNWATCH | a INCR k2 | a EXEC
a MULTI | a DISCARD x | a EXEC | a MULTI | a MULTI x | a INCR k1 | a EXEC
""",
    "errors inside": """
a SET k1 text | a RPUSH k2 1 2 3
a MULTI | a INCR k1 | a SET k3 1 | a LPUSH k1 x | a GET k2 | a INCR k3 | a EXEC | a GET k3
a MULTI | a SET k1 1 | a INCRBY k1 x | a EXPIRE k1 x | a SETRANGE k1 -1 x | a MSET k4 1 k5 | a EXEC | a GET k1
a MULTI | a SETEX k6 0 v | a MSETNX k7 1 k8 2 | a MSETNX k8 1 k9 1 | a EXEC | a MGET k7 k8 k9
a MULTI | a RENAME nosuch k1 | a SET k9 9 | a LMOVE k1 k2 LEFT RIGHT | a EXEC | a GET k9
a MULTI | a SUNIONSTORE d1 k1 k2 | a SADD s1 a b | a SADD s2 c | a SUNIONSTORE d1 s1 s2 | a SMEMBERS d2 | a EXEC
""",
    "over shards": """
a MULTI | a MSET k1 1 k2 2 k3 3 k4 4 k5 5 | a INCR k1 | a MGET k1 k2 k3 k4 k5 | a DEL k1 k2 | a EXISTS k1 k3 k3 | a EXEC
a MULTI | a DBSIZE | a RENAME k3 k6 | a MGET k3 k6 | a COPY k6 k7 | a DBSIZE | a MGET k6 k7 | a EXEC
a MULTI | a RPUSH l1 a b c | a LMOVE l1 l2 LEFT RIGHT | a LMOVE l1 l3 RIGHT LEFT | a LRANGE l1 0 -1 | a EXEC
a LRANGE l2 0 -1 | a LRANGE l3 0 -1 | a MULTI | a RENAME l2 l9 | a RENAMENX l9 l3 | a EXEC | a EXISTS l2 l9 l3
a MULTI | a SADD s1 a b | a SMOVE s1 s2 a | a SMOVE s1 s3 nosuch | a SCARD s1 | a SCARD s2 | a EXEC
a MULTI | a ZADD z1 1 a 2 b | a ZADD z2 3 a | a ZUNIONSTORE z3 2 z1 z2 | a ZRANGE z3 0 -1 WITHSCORES | a EXEC
a MULTI | a SET n1 1 | a RENAME n1 n2 | a INCR n2 | a RENAME n2 n3 | a INCR n3 | a GET n1 | a GET n3 | a EXEC | a GET n3
a MULTI | a FLUSHDB | a DBSIZE | a SET k1 x | a DBSIZE | a EXEC | a DBSIZE | a GET k1
a MULTI | a SET k2 x | a RENAME k1 k3 | a FLUSHALL | a DBSIZE | a SET k4 1 | a EXEC | a MGET k1 k2 k3 k4 | a DBSIZE
a MULTI | a HSET h1 f 1 | a RENAME h1 h2 | a HGETALL h2 | a HINCRBYFLOAT h2 f 1.5 | a EXEC | a HGETALL h2
a MULTI | a PFADD p1 a | a PFADD p2 b | a PFMERGE p3 p1 p2 | a PFCOUNT p1 p2 | a PFCOUNT p3 | a BITOP OR b1 p1 p2 | a EXEC
a MULTI | a RPUSH l5 3 1 2 | a SORT l5 STORE l6 | a LRANGE l6 0 -1 | a SORT l5 BY w_* GET # GET w_* | a EXEC
a MULTI | a KEYS l5 | a SWAPDB 0 1 | a DBSIZE | a SELECT 1 | a EXISTS l5 l6 | a SWAPDB 0 1 | a EXEC | a SELECT 0 | a EXISTS l5
""",
    "watching": """
a WATCH k1 | b SET k1 1 | a MULTI | a SET k2 2 | a EXEC | a GET k2
a WATCH k1 | a MULTI | a SET k2 2 | a EXEC | a GET k2 | a WATCH k1 | b GET k1 | a MULTI | a GET k1 | a EXEC
a WATCH k1 k2 k3 k4 | b SET k3 1 | a MULTI | a PING | a EXEC | a MULTI | a PING | a EXEC
a WATCH k1 | b SET k1 2 | a MULTI | a EXEC | a WATCH k1 k2 | b SET k2 2 | a MULTI | a EXEC | a MULTI | a EXEC
a WATCH k1 | b SET k1 3 | a UNWATCH | a MULTI | a INCR k1 | a EXEC
a WATCH k1 | b SET k1 3 | a MULTI | a DISCARD | a MULTI | a INCR k1 | a EXEC
a WATCH k1 | b SET k1 3 | a MULTI | a NOSUCH | a EXEC | a MULTI | a INCR k1 | a EXEC
a WATCH k1 | a SET k1 7 | a MULTI | a INCR k1 | a EXEC | a GET k1
a WATCH k1 | a WATCH k2 | b SET k2 0 | a MULTI | a INCR k1 | a EXEC | a WATCH k1 k1 | a MULTI | a INCR k1 | a EXEC
a WATCH k1 k2 | b MSET k1 1 k2 2 | a MULTI | a RENAME k1 k2 | a EXEC | a MGET k1 k2
a WATCH k1 k2 | a MULTI | a RENAME k1 k2 | a MGET k1 k2 | a EXEC | a MGET k1 k2
a WATCH k1 k2 k3 | b WATCH k1 k2 k3 | a MULTI | a INCR k2 | b MULTI | b INCR k3 | b EXEC | a EXEC
a WATCH k8 | b MULTI | b SET k8 1 | b SET k9 1 | a MULTI | a SET k7 1 | b EXEC | a EXEC | a EXISTS k7
a WATCH k8 | b MULTI | b SET k1 1 | b RENAME k8 k6 | b EXEC | a MULTI | a SET k7 1 | a EXEC
a WATCH k6 | b MULTI | b SET k1 1 | b RENAME k1 k5 | b GET k6 | b EXEC | a MULTI | a SET k7 1 | a EXEC
""",
    "what touches": """
b SET k 1 | a WATCH k | b SET k 1 | a MULTI | a PING | a EXEC
a WATCH k | b DEL k | a MULTI | a PING | a EXEC | b SET k 1 | a WATCH k | b DEL k | b SET k 1 | a MULTI | a PING | a EXEC
a WATCH none | b DEL none | a MULTI | a PING | a EXEC | a WATCH none | b SET none x XX | a MULTI | a PING | a EXEC
a WATCH k | b SETNX k 2 | a MULTI | a PING | a EXEC | a WATCH k | b EXPIRE k 1000 | a MULTI | a PING | a EXEC
a WATCH k | b PERSIST k | a MULTI | a PING | a EXEC | a WATCH k | b PERSIST k | a MULTI | a PING | a EXEC
a WATCH k | b EXPIRE k 1000 NX | a MULTI | a PING | a EXEC | a WATCH k | b EXPIRE k 2000 NX | a MULTI | a PING | a EXEC
a WATCH k | b APPEND k "" | a MULTI | a PING | a EXEC | a WATCH k | b SETRANGE k 0 "" | a MULTI | a PING | a EXEC
a WATCH k | b TOUCH k | b TYPE k | b OBJECT ENCODING k | b TTL k | a MULTI | a PING | a EXEC
a WATCH k | b GETEX k | a MULTI | a PING | a EXEC | a WATCH k | b GETEX k EX 100 | a MULTI | a PING | a EXEC
a WATCH k | b GETDEL k | a MULTI | a PING | a EXEC | a WATCH k | b GETDEL k | a MULTI | a PING | a EXEC
b SET k 1 | a WATCH k | b RENAME k k2 | a MULTI | a PING | a EXEC | a WATCH k | b RENAME k2 k | a MULTI | a PING | a EXEC
b SET o 1 | a WATCH k | b RENAMENX o k | a MULTI | a PING | a EXEC | a WATCH k | b COPY o k | a MULTI | a PING | a EXEC
a WATCH k | b COPY o k REPLACE | a MULTI | a PING | a EXEC | a WATCH o | b COPY o k REPLACE | a MULTI | a PING | a EXEC
a WATCH k | b EXPIRE k -1 | a MULTI | a PING | a EXEC | b SADD s a | a WATCH s | b SADD s a | a MULTI | a PING | a EXEC
a WATCH s | b SREM s x | a MULTI | a PING | a EXEC | a WATCH s | b SADD s b | a MULTI | a PING | a EXEC
a WATCH s | b SMOVE s t a | a MULTI | a PING | a EXEC | a WATCH t | b SMOVE s t nosuch | a MULTI | a PING | a EXEC
a WATCH t | b SMOVE s t b | a MULTI | a PING | a EXEC | b HSET h f 1 | a WATCH h | b HSET h f 1 | a MULTI | a PING | a EXEC
a WATCH h | b HSETNX h f 2 | a MULTI | a PING | a EXEC | a WATCH h | b HDEL h g | a MULTI | a PING | a EXEC
a WATCH h | b HINCRBY h f 0 | a MULTI | a PING | a EXEC | b RPUSH l a b c | a WATCH l | b LTRIM l 0 -1 | a MULTI | a PING | a EXEC
a WATCH l | b LSET l 0 a | a MULTI | a PING | a EXEC | a WATCH l | b LREM l 0 x | a MULTI | a PING | a EXEC
a WATCH l | b LPUSHX none x | a MULTI | a PING | a EXEC | a WATCH l | b LMOVE l l LEFT LEFT | a MULTI | a PING | a EXEC
a WATCH l | b RPOPLPUSH l l | a MULTI | a PING | a EXEC | a WATCH m | b LMOVE l m LEFT RIGHT | a MULTI | a PING | a EXEC
a WATCH l | b LINSERT l BEFORE x y | a MULTI | a PING | a EXEC | a WATCH l | b LPOP l | a MULTI | a PING | a EXEC
b ZADD z 1 a | a WATCH z | b ZADD z 1 a | a MULTI | a PING | a EXEC | a WATCH z | b ZADD z NX 2 a | a MULTI | a PING | a EXEC
a WATCH z | b ZADD z XX 2 b | a MULTI | a PING | a EXEC | a WATCH z | b ZINCRBY z 0 a | a MULTI | a PING | a EXEC
a WATCH z | b ZREM z x | a MULTI | a PING | a EXEC | a WATCH z | b ZADD z 5 a | a MULTI | a PING | a EXEC
a WATCH d | b SUNIONSTORE d none | a MULTI | a PING | a EXEC | a WATCH d | b SUNIONSTORE d s t | a MULTI | a PING | a EXEC
a WATCH d | b SINTERSTORE d none | a MULTI | a PING | a EXEC | a WATCH d | b ZUNIONSTORE d 1 z | a MULTI | a PING | a EXEC
a WATCH l | b SORT l ALPHA | a MULTI | a PING | a EXEC | a WATCH l2 | b SORT l ALPHA STORE l2 | a MULTI | a PING | a EXEC
b SETBIT bits 1 1 | a WATCH bits | b SETBIT bits 1 1 | a MULTI | a PING | a EXEC | a WATCH bits | b BITOP NOT bits bits | a MULTI | a PING | a EXEC
a WATCH bits | b BITFIELD bits GET u8 0 | a MULTI | a PING | a EXEC | a WATCH bits | b BITFIELD bits SET u8 0 1 | a MULTI | a PING | a EXEC
b PFADD hll a | a WATCH hll | b PFADD hll a | a MULTI | a PING | a EXEC | a WATCH hll | b PFADD hll b | a MULTI | a PING | a EXEC
b XADD x 1-1 f v | a WATCH x | b XDEL x 5-5 | a MULTI | a PING | a EXEC | a WATCH x | b XADD x 1-2 f v | a MULTI | a PING | a EXEC
a WATCH x | b XTRIM x MAXLEN 10 | a MULTI | a PING | a EXEC | a WATCH x | b XRANGE x - + | a MULTI | a PING | a EXEC
b XGROUP CREATE x g 0 | b XREADGROUP GROUP g c STREAMS x > | a WATCH x | b XACK x g 1-1 | a MULTI | a PING | a EXEC
""",
    "databases": """
b SET k1 1 | a WATCH k1 | b FLUSHDB | a MULTI | a PING | a EXEC | a WATCH k1 | b FLUSHDB | a MULTI | a PING | a EXEC
a WATCH k1 | b FLUSHALL | a MULTI | a PING | a EXEC | b SET k1 1 | a WATCH k1 | b FLUSHALL | a MULTI | a PING | a EXEC
b SET k1 1 | a WATCH k1 | b SELECT 1 | b FLUSHDB | b SELECT 0 | a MULTI | a PING | a EXEC
b SET k1 1 | a WATCH k1 | b SWAPDB 0 1 | a MULTI | a PING | a EXEC | a WATCH k1 | b SWAPDB 0 1 | a MULTI | a PING | a EXEC
a WATCH none | b SWAPDB 0 1 | a MULTI | a PING | a EXEC | b SWAPDB 0 1 | a WATCH k1 | b SWAPDB 2 3 | a MULTI | a PING | a EXEC
a WATCH k1 | b SWAPDB 0 0 | a MULTI | a PING | a EXEC | a WATCH k1 | b MOVE k1 1 | a MULTI | a PING | a EXEC | b SELECT 1 | b MOVE k1 0
b SELECT 0 | a SELECT 2 | a WATCH k1 | b SET k1 2 | a MULTI | a PING | a EXEC | a WATCH k1 | b SELECT 2 | b SET k1 2 | a MULTI | a PING | a EXEC
a WATCH k1 | a SELECT 0 | a WATCH k2 | b SET k1 3 | a MULTI | a PING | a EXEC | b SELECT 0
a MULTI | a SELECT 3 | a SET k1 x | a SELECT 0 | a GET k1 | a SELECT 99 | a SELECT 3 | a GET k1 | a EXEC | a GET k1 | a SELECT 0
a MULTI | a SELECT 4 | a MSET k1 1 k2 2 k3 3 | a RENAME k1 k9 | a SELECT 5 | a MSET k1 5 | a EXEC | a DBSIZE | a SELECT 4 | a DBSIZE | a SELECT 0
a MULTI | a SELECT 3 | a DISCARD | a DBSIZE | a WATCH k5 | b SET k5 1 | a MULTI | a SELECT 3 | a SET k1 no | a EXEC | a CLIENT INFO | a DBSIZE
a MULTI | a COPY k1 k2 DB 7 | a MOVE k5 7 | a SELECT 7 | a MGET k1 k2 k5 | a EXEC | a SELECT 0
""",
    "the connection": """
a MULTI | a CLIENT GETNAME | a CLIENT SETNAME joe | a CLIENT GETNAME | a EXEC | a CLIENT GETNAME
a WATCH k1 | b SET k1 1 | a MULTI | a CLIENT SETNAME jim | a EXEC | a CLIENT GETNAME
a MULTI | a CONFIG GET maxmemory | a TIME | a INFO nosuch | a COMMAND COUNT | a LASTSAVE x | a EXEC
a MULTI | a LASTSAVE x | a DBSIZE | a EXEC | a MULTI | a DBSIZE | a CLIENT NO-EVICT on | a EXEC | a CLIENT INFO
a MULTI | a HELLO 3 | a EXEC | a HELLO 2 | a MULTI | a SADD s x | a HELLO 3 | a SMEMBERS s | a HELLO 2 | a SMEMBERS s | a EXEC | a PING
a HELLO 3 | a MULTI | a HSET h f v | a HGETALL h | a SMEMBERS s | a SMISMEMBER s x | a GET none | a EXEC | a HELLO 2
a MULTI | a SET k1 1 | a RESET | a EXEC | a GET k1 | a WATCH k1 | b SET k1 2 | a RESET | a MULTI | a PING | a EXEC
a SELECT 3 | a MULTI | a RESET | a CLIENT INFO | a MULTI | a AUTH x | a EXEC | a MULTI | a SELECT x | a EXEC
a MULTI | a INCR k7 | a QUIT | b GET k7
c MULTI | c INCR k7 | c! | b GET k7 | b WATCH k7 | b MULTI | b INCR k7 | b EXEC
d MULTI | d INCR k7 | d~ "*1\\r\\n$x\\r\\n" | b GET k7
e MULTI | e~ "*-5\\r\\n*1\\r\\n!\\r\\n" | b GET k7
f WATCH k7 | f MULTI | f INCR k7 | f! | g WATCH k7 | g MULTI | g INCR k7 | g EXEC | b GET k7
g MULTI | g DISCARD | g CLIENT INFO | g WATCH a b | g CLIENT INFO | g MULTI | g PING | g EXEC | g CLIENT INFO
""",
    "muted": """
a. CLIENT REPLY SKIP | a. MULTI | a INCR k2 | a EXEC | a. CLIENT REPLY OFF | a. MULTI | a. INCR k3 | a. EXEC | a CLIENT REPLY ON | a GET k3
a. CLIENT REPLY SKIP | a. NOSUCH | a MULTI | a. INCR k4 | a. EXEC | a. GET k4 | a+ | a+ | a+
""",
    "inside": """
a MULTI | a SHUTDOWN foo | a DISCARD | a MULTI | a DEBUG | a EXEC
a MULTI | a CONFIG SET timeout x | a CONFIG SET timeout 0 | a CONFIG GET timeout | a EXEC
a MULTI | a SCAN 0 COUNT 1000 | a RANDOMKEY | a EXEC | a SET k1 v | a MULTI | a RANDOMKEY | a TYPE k1 | a OBJECT ENCODING k1 | a EXEC
a MULTI | a CLIENT LIST ID 999999 | a CLIENT KILL ID 999999 | a CLIENT NOSUCH | a EXEC
a MULTI | a COMMAND GETKEYS GET k | a COMMAND INFO nosuch | a LOLWUT VERSION x | a EXEC
a MULTI | a GET k1 | a CLIENT UNPAUSE | a INCR k2 | a EXEC
""",
}  # fmt: skip

COMPARED_FIELDS = ("name", "flags", "db", "sub", "psub", "ssub", "multi", "cmd", "user", "resp")


class Stage:
    """A server and the connections of a script's clients, which appear when they are first named."""

    def __init__(self, port: int, protocol: int) -> None:
        self.port = port
        self.protocol = protocol
        self.connections: dict[str, Connection] = {}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *error: object) -> None:
        for connection in self.connections.values():
            connection.socket.close()

    def act(self, line: str) -> Any:
        """Carries out a line of a script; returns what came back."""
        who, _, rest = line.partition(" ")
        name, how = who[0], who[1:]
        connection = self.connections.get(name)
        if connection is None:
            connection = self.connections[name] = Connection(self.port, self.protocol)
        words = shlex.split(rest)
        match how:
            case "":
                return comparable(words, connection.ask(*words))
            case ".":
                return connection.send(*words)
            case "+":
                return connection.receive()
            case "~":
                connection.send_bytes(words[0].encode().decode("unicode_escape").encode())
                return connection.ends()
            case "!":
                self.connections.pop(name).socket.close()
        return None


def comparable(words: list[str], reply: bytes) -> Any:
    """What of a reply has to be the same: ids, times and versions cannot be."""
    if words[0] == "HELLO":
        return reply[:1]
    reply = re.sub(rb"id=[0-9]+ addr[^\n]*", _fields, reply)
    reply = re.sub(rb"\*2\r\n\$10\r\n[0-9]{10}\r\n\$[0-9]+\r\n[0-9]+\r\n", b"<time>", reply)
    reply = re.sub(rb"[%*][0-9]+\r\n\$6\r\nserver\r\n(?s:.*?)modules\r\n\*0\r\n", b"<hello>", reply)
    if words[0] == "EXEC":
        reply = re.sub(rb"\$[0-9]+\r\n<fields>", b"<fields>", reply)
        reply = re.sub(rb"=[0-9]+\r\ntxt:<fields>", b"<fields>", reply)
        reply = re.sub(rb":[0-9]{3}\r\n", b"<count of commands>", reply)
    return re.sub(rb"^[$=][0-9]+\r\n(txt:)?<fields>", b"<fields>", reply)


def _fields(found: re.Match[bytes]) -> bytes:
    fields = dict(field.split("=", 1) for field in found[0].decode().split() if "=" in field)
    return b"<fields> " + repr([fields.get(name) for name in COMPARED_FIELDS]).encode()


@pytest.fixture(
    scope="session",
    params=[(1, 1), (3, 1), (3, 2)],
    ids=["1 shard", "3 shards", "3 shards and 2 proxies"],
)
def server(request: pytest.FixtureRequest) -> Iterator[Shardkv]:
    workers, proxies = request.param
    with shardkv(workers=workers, proxies=proxies, enable_debug_command="local") as running:
        yield running


@pytest.fixture(scope="module")
def real() -> Iterator[Server]:
    """The newer ones have other errors for MULTI and WATCH between MULTI and EXEC."""
    with redis_7(enable_debug_command="local") as running:
        yield running


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(server: Shardkv, real: Server, name: str, protocol: int) -> None:
    differences = []
    for number, row in enumerate(SCRIPTS[name].strip().splitlines()):
        if not number:
            empty(server, real)
        with Stage(server.port, protocol) as ours, Stage(real.port, protocol) as theirs:
            for line in row.split(" | "):
                own, expected = ours.act(line), theirs.act(line)
                if own != expected:
                    differences.append((row, line, own, expected))
    assert not differences, "\n".join(map(str, differences))


def empty(*servers: Server) -> None:
    for one in servers:
        with Connection(one.port) as connection:
            assert connection.ask("FLUSHALL") == b"+OK\r\n"


# -- any sequences of two clients -----------------------------------------------------------------

keys = st.sampled_from(["k1", "k2", "k3", "k4", "k5"])
values = st.sampled_from(["0", "1", "x", ""])
requests = st.one_of(
    st.sampled_from([["MULTI"], ["EXEC"], ["EXEC"], ["DISCARD"], ["UNWATCH"], ["RESET"]]),
    st.lists(keys, min_size=1, max_size=3).map(lambda some: ["WATCH", *some]),
    st.tuples(st.just("SET"), keys, values).map(list),
    st.tuples(st.sampled_from(["INCR", "DEL", "GET", "PERSIST", "GETDEL", "TYPE", "TOUCH"]), keys).map(list),
    st.tuples(st.sampled_from(["RENAME", "RENAMENX", "COPY", "MGET", "DEL", "SINTERSTORE"]), keys, keys).map(
        list
    ),
    st.tuples(st.sampled_from(["LMOVE"]), keys, keys, st.just("LEFT"), st.just("RIGHT")).map(list),
    st.tuples(st.sampled_from(["RPUSH", "SADD", "LPUSH", "APPEND"]), keys, values).map(list),
    st.tuples(st.sampled_from(["MSET", "MSETNX"]), keys, values, keys, values).map(list),
    st.sampled_from(
        [["DBSIZE"], ["FLUSHDB"], ["SELECT", "1"], ["SELECT", "0"], ["SWAPDB", "0", "1"], ["NOSUCH"]]
    ),
    st.sampled_from([["PING"], ["GET"], ["CLIENT", "SETNAME", "joe"], ["CLIENT", "GETNAME"]]),
)
sequences = st.lists(st.tuples(st.sampled_from("ab"), requests), min_size=3, max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=sequences)
def test_any_sequence_of_two_clients(
    server: Shardkv, real: Server, sequence: list[tuple[str, list[str]]]
) -> None:
    empty(server, real)
    with Stage(server.port, 2) as ours, Stage(real.port, 2) as theirs:
        for client, words in [*sequence, ("a", ["EXEC"]), ("b", ["EXEC"])]:
            line = f"{client} {shlex.join(words)}"
            assert ours.act(line) == theirs.act(line), line
