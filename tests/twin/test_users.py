"""ACL, AUTH and what users may not do, of several clients at once, beside a real server.

A script has a line a request: who sends it, and its words.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest

from tests.processes.server import Shardkv, shardkv
from tests.twin.compare import parsed
from tests.twin.servers import Server, valkey
from tests.wire import Connection

SCRIPTS = {
    "users": """
a ACL WHOAMI | a ACL USERS | a ACL LIST | a ACL GETUSER default | a ACL GETUSER nobody
a ACL SETUSER bob | a ACL GETUSER bob | a ACL LIST | a ACL SETUSER bob on >secret ~k* +get | a ACL LIST
b AUTH bob wrong | b AUTH bob secret | b ACL WHOAMI | b GET k1 | b GET x | b SET k1 1 | b ACL LIST | b AUTH nobody x
a ACL SETUSER bob nosuchrule | a ACL SETUSER bob +nosuch | a ACL SETUSER bob +@nosuch | a ACL SETUSER "x y" on
a ACL SETUSER bob off | b GET k1 | c AUTH bob secret | a ACL SETUSER bob on | c AUTH bob secret | c ACL WHOAMI
a ACL DELUSER default | a ACL DELUSER nobody | a ACL DELUSER bob nobody | a ACL USERS
a ACL | a ACL NOSUCH | a ACL SETUSER | a ACL DELUSER | a ACL GETUSER | a ACL WHOAMI x | a ACL LIST x
""",
    "authentication": """
a AUTH any | a AUTH default any | a AUTH a b c | a CONFIG SET requirepass secret | a ACL GETUSER default
b PING | b AUTH secret | b PING | c AUTH default secret | c ACL WHOAMI | c RESET | c PING
a ACL SETUSER default >other | c AUTH other | a ACL SETUSER default <secret | b RESET | b AUTH secret | b AUTH other
a ACL SETUSER default nopass | a CONFIG GET requirepass | d PING | a CONFIG SET requirepass "" | a ACL LIST
a ACL SETUSER ann on >p +@all ~* &* | a ACL SETUSER default off | e PING | e AUTH x | e AUTH default x | e AUTH ann p | e PING
e HELLO 2 AUTH ann x | e HELLO 2 AUTH default x | e AUTH ann p | e CLIENT GETNAME | e RESET | e PING
a ACL SETUSER default on | e PING | a MULTI | a AUTH ann p | a ACL WHOAMI | a EXEC | a ACL WHOAMI | a RESET
a ACL SETUSER few on nopass +acl|whoami | a AUTH few x | a ACL WHOAMI | a PING | a RESET | a PING
""",
    "commands": """
a ACL SETUSER bob on nopass ~* &* +@all -flushall -config +config|get -@scripting | b AUTH bob x
b FLUSHALL | b CONFIG GET maxmemory | b CONFIG SET hz 10 | b CONFIG | b EVAL "return 1" 0 | b NOSUCH | b GET | b FLUSHALL x y z
b MULTI | b FLUSHALL | b SET k 1 | b EXEC | b MULTI | b SET k 1 | a ACL SETUSER bob -set | b EXEC | b GET k
b MULTI | b GET k | b SET k 1 | b EXEC | a ACL SETUSER bob -exec | b MULTI | b GET k | b EXEC | b DISCARD
a ACL SETUSER bob -@all +multi | b PING | b MULTI | b PING | b RESET | b PING
""",
    "keys": """
a ACL SETUSER bob on nopass +@all %R~r* %W~w* ~k* | b AUTH bob x | a MSET r1 1 w1 1 k1 1 x1 1
b GET r1 | b SET r1 2 | b GET w1 | b SET w1 2 | b SET w1 2 GET | b GET k1 | b SET k1 2 GET | b GET x1
b MGET r1 k1 | b MGET r1 w1 | b COPY r1 w2 | b COPY w1 r2 | b RENAME k1 r3 | b RENAME k1 k3 | b APPEND w1 x | b STRLEN w1
b EXISTS w1 | b EXISTS x1 | b TYPE x1 | b TOUCH w1 | b DEL r1 | b DEL w1 k3 x1 | b WATCH x1 | b WATCH k1 | b UNWATCH
b RPUSH kl 3 1 2 | b SORT kl | b SORT kl STORE k4 | b SORT kl STORE r4 | b SORT kl BY w_* | b SORT kl GET # | b SORT kl BY nosort
b SORT kl GET w_* x | b SORT kl x GET w_* | b MULTI | b SORT kl BY w_* | b EXEC | b SORT_RO kl GET k_*
a ACL SETUSER bob %R~* | b SORT kl GET w_* | b SORT kl BY w_* STORE w5 | b KEYS nosuch
a ACL SETUSER bob resetkeys "(~s* +get)" | b GET s1 | b SET s1 1 | b GET k1 | b XREAD STREAMS k s 0 0 | b EVAL "return 1" 1 s1
b ZUNIONSTORE k9 2 r1 r2 | b OBJECT ENCODING r1 | b BITOP AND k r x | b LMPOP 2 k1 k2 LEFT | b LMPOP x k1 LEFT
""",
    "channels": """
a ACL SETUSER bob on nopass +@all ~* &c* | b AUTH bob x | b PUBLISH c1 x | b PUBLISH d1 x | b SPUBLISH d1 x
b SUBSCRIBE d1 | b SUBSCRIBE c1 d1 | b PSUBSCRIBE c* | b PUNSUBSCRIBE | b PSUBSCRIBE * | b PSUBSCRIBE c1 | b PUNSUBSCRIBE
b SSUBSCRIBE d1 | b PUBSUB NUMSUB d1 | b MULTI | b PUBLISH c1 x | a ACL SETUSER bob resetchannels | b EXEC
""",
    "scripts": """
a ACL SETUSER bob on nopass +@all -flushall ~k* &c* | b AUTH bob x | b SET k1 v
b EVAL "return redis.call('get', 'x')" 0 | b EVAL "return redis.call('get', KEYS[1])" 1 k1 | b EVAL "return 1" 1 x
b EVAL "return redis.pcall('flushall')" 0 | b EVAL "return redis.pcall('publish', 'd', '')" 0
b EVAL "return redis.pcall('publish', 'c', '')" 0 | b EVAL "return redis.pcall('nosuch')" 0
b EVAL "return {redis.acl_check_cmd('get', 'x'), redis.acl_check_cmd('get', 'k'), redis.acl_check_cmd('flushall')}" 0
b EVAL "return redis.acl_check_cmd('nosuch')" 0 | b EVAL "redis.setresp(3); return redis.acl_check_cmd('get', 'x')" 0
b EVAL "redis.call('set', 'k2', '1'); return redis.pcall('set', 'x', '1')" 0 | b MGET k2 | a GET x
b EVAL "return redis.pcall('sort', 'k9', 'by', 'x*')" 0 | b EVAL_RO "return redis.pcall('get', 'x')" 0
b MULTI | b EVAL "return redis.pcall('get', 'x')" 0 | b EVAL "return redis.call('get', 'k1')" 1 k1 | b GET k1 | b EXEC
a FUNCTION LOAD "#!lua name=l\\nredis.register_function('f', function(k, a) return redis.pcall('get', a[1]) end)"
b FCALL f 0 x | b FCALL f 0 k1 | b FCALL f 1 x k1 | a FCALL f 0 x
a ACL SETUSER bob -@scripting | b EVAL "return 1" 0 | b FCALL f 0 k1 | b MULTI | b FCALL f 0 x | b EXEC | a FUNCTION FLUSH
""",
    "clients": """
a ACL SETUSER bob on nopass +@all ~* &* | b AUTH bob x | a CLIENT LIST USER nobody | a CLIENT KILL USER nobody
a CLIENT KILL USER bob | c AUTH bob x | d AUTH bob x | a ACL DELUSER bob | a ACL SETUSER bob on nopass | e AUTH bob x | e PING
""",
    "dry runs": """
a ACL SETUSER bob on nopass +@all -flushall ~k* &c* | a ACL DRYRUN bob GET k | a ACL DRYRUN bob GET x | a ACL DRYRUN bob FLUSHALL
a ACL DRYRUN bob PUBLISH c x | a ACL DRYRUN bob PUBLISH d x | a ACL DRYRUN bob MGET k x | a ACL DRYRUN bob CONFIG GET x
a ACL DRYRUN nobody GET x | a ACL DRYRUN bob NOSUCH | a ACL DRYRUN bob GET | a ACL DRYRUN bob CONFIG NOSUCH | a ACL DRYRUN bob
""",
    "what else": """
a ACL CAT | a ACL CAT nosuch | a ACL CAT a b | a ACL GENPASS 0 | a ACL GENPASS 4097 | a ACL GENPASS x | a ACL GENPASS 1 2
a ACL LOAD | a ACL SAVE | a ACL LOG x | a ACL LOG 1 2 | a ACL LOG RESET | a ACL LOG | a ACL LOG -1 | a CONFIG GET acl*
a CONFIG SET acllog-max-len 10 | a CONFIG SET acl-pubsub-default allchannels | a ACL SETUSER new on | a ACL GETUSER new
a CONFIG SET acl-pubsub-default resetchannels | a CONFIG SET aclfile x | a CONFIG SET user x | a ACL DELUSER new
""",
    "the log": """
a ACL LOG RESET | a ACL SETUSER bob on >p +@all -flushall ~k* &c* | b AUTH bob x | b auth bob x | b HELLO 2 AUTH zed x | b AUTH bob p
b FLUSHALL | b GET x | b MGET k x | b GET y | b PUBLISH d x | b EVAL "return redis.pcall('get', 'x')" 0
b EVAL "return redis.pcall('get', 'x')" 0 | b MULTI | b GET x | b EXEC | b MULTI | b GET k | a ACL SETUSER bob -get | b EXEC
a ACL SETUSER bob +config|get | b CONFIG GET x | b CONFIG SET x x | b SORT k BY x* | a ACL LOG 100 | a ACL LOG 1 | a ACL LOG
a ACL LOG RESET | a CONFIG SET acllog-max-len 2 | b FLUSHALL | b GET x | b GET y | a ACL LOG | a ACL LOG RESET
a CONFIG SET acllog-max-len 0 | b FLUSHALL | a ACL LOG
a CONFIG SET acllog-max-len 128
""",
}


@pytest.fixture(scope="module")
def twin() -> Iterator[Server]:
    """Its texts are those of Redis 7.2, where those of 7.0 are others."""
    with valkey() as server:
        yield server


@pytest.fixture(scope="module", params=[(1, 1), (2, 3)], ids=["1 shard", "3 shards"])
def ours(request: pytest.FixtureRequest) -> Iterator[Shardkv]:
    proxies, workers = request.param
    with shardkv(proxies=proxies, workers=workers) as server:
        yield server


_NAME_OF_SCRIPT = re.compile(r" script: .*on (@user_\w+:\d+)\.$")
_OF_OTHER_SERVERS = {
    b"databases",
    b"client-info",
    b"age-seconds",
    b"timestamp-created",
    b"timestamp-last-updated",
}


def comparable(value: Any) -> Any:
    """A reply without what differs from one server to the next, and from one run to the next."""
    if isinstance(value, hiredis.ReplyError):
        # Redis 7.2 tells the name of the script in other words.
        text = _NAME_OF_SCRIPT.sub(r" on \1", str(value))
        return type(value), text.replace("Unknown Redis", "Unknown").replace("server.acl", "redis.acl")
    if isinstance(value, dict):
        return {name: comparable(one) for name, one in value.items() if name not in _OF_OTHER_SERVERS}
    if isinstance(value, list):
        if value[:1] in ([b"flags"], [b"count"], [b"commands"]):
            return comparable(dict(zip(value[::2], value[1::2], strict=True)))
        return [comparable(one) for one in value]
    return value


def play(server: Server, script: str, protocol: int) -> list[tuple[str, Any]]:
    """The requests of a script with their replies. The numbers of log entries are told from the first on."""
    clients: dict[str, Connection] = {}
    played = []
    for line in script.strip().splitlines():
        for request in line.split(" | "):
            name, *words = shlex.split(request.replace("\\\\n", "\\n"))
            if name not in clients or clients[name].closed:
                clients[name] = Connection(server.port, 2)
                if protocol == 3 and name != "b":
                    clients[name].ask("HELLO", 3)
            reply = clients[name].ask(*[word.replace("\\n", "\n") for word in words])
            played.append((request, comparable(parsed(reply)) if reply else "closed"))
    for client in clients.values():
        client.socket.close()
    with Connection(server.port) as admin:
        for user in ("bob", "ann", "few", "new"):
            admin.ask("ACL", "DELUSER", user)
        admin.ask("FLUSHALL")
    return played


def numbered(played: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The same with the numbers of log entries from 0 on."""
    numbers = sorted({entry[b"entry-id"] for entry in _entries(played)})
    for entry in _entries(played):
        entry[b"entry-id"] = numbers.index(entry[b"entry-id"])
    return played


def _entries(played: list[tuple[str, Any]]) -> list[dict[bytes, Any]]:
    return [
        entry
        for _, reply in played
        if isinstance(reply, list)
        for entry in reply
        if isinstance(entry, dict) and b"entry-id" in entry
    ]


RULES = [
    "+select|0 | -select|0 | +config|get|x | +config| | +config|nope | -config|get | +get|x | +get|X +get|y -get",
    "+@all -config +config|get -config|get +config | +get -get +get | +@read -@read +get | +@nope | + | - | +nope",
    "+client|list -client +client|id -@connection +@connection | +@ALL -GET | ALLCOMMANDS | nocommands",
    "+@all +get | +@all -@write +set | -@all +@write -set | +@all -@all +get | +@read +@all | +get +@all -get",
    "allkeys ~x | ~a ~a %R~a %W~b %r~b %R~* | %~a | %X~a | %RW~* ~q | ~ | ~[a ~? | resetkeys ~a resetkeys",
    "&* &x | allchannels resetchannels &x &x | & | &x allchannels",
    "(~a | (~a +get) | (%R~b &c) (+set) | (on) | (>x) | clearselectors () | (+nosuch) | (~a (b) | (~a) clearselectors",
    ">a >a | > | <a | >a <a | <nope | !nope | #nope | nopass >b | >b nopass | resetpass | >a resetpass",
    "on OFF | bogus | reset | on >p ~k +get &c (+set) reset | @x | sanitize-payload | skip-sanitize-payload | ALLKEYS",
]
"""Rules for a new user each time."""


@pytest.mark.parametrize("name", ["user", "a:b", "ü", "(", ">"])
@pytest.mark.parametrize("rules", RULES)
def test_rules(ours: Shardkv, twin: Server, rules: str, name: str) -> None:
    with ours.wire() as connection, Connection(twin.port) as real:
        for some in rules.split(" | "):
            told = []
            for one in (real, connection):
                one.ask("ACL", "DELUSER", name)
                replies = [one.ask("ACL", "SETUSER", name, *some.split())]
                replies += [one.ask("ACL", *words) for words in (("LIST",), ("GETUSER", name))]
                told.append([comparable(parsed(reply)) for reply in replies])
                one.ask("ACL", "DELUSER", name)
            assert told[1] == told[0], some


def test_names_that_are_none(ours: Shardkv, twin: Server) -> None:
    with ours.wire() as connection, Connection(twin.port) as real:
        for name in ("x y", "x\0y", ""):
            assert connection.ask("ACL", "SETUSER", name, "on") == real.ask("ACL", "SETUSER", name, "on")
            for one in (connection, real):
                one.ask("ACL", "DELUSER", name)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", SCRIPTS)
def test_users(ours: Shardkv, twin: Server, name: str, protocol: int) -> None:
    expected = numbered(play(twin, SCRIPTS[name], protocol))
    found = numbered(play(ours, SCRIPTS[name], protocol))
    for (request, reply), (_, wanted) in zip(found, expected, strict=True):
        assert reply == wanted, request


def test_a_category_has_the_same_commands(ours: Shardkv, twin: Server) -> None:
    """As far as both servers have them."""
    with ours.wire() as connection, Connection(twin.port) as real:
        known = set(parsed(connection.ask("COMMAND", "LIST"))) & set(parsed(real.ask("COMMAND", "LIST")))
        for category in parsed(real.ask("ACL", "CAT")):
            found, wanted = (set(parsed(one.ask("ACL", "CAT", category))) for one in (connection, real))
            assert found & known == wanted & known, category


def test_passwords_that_are_made(ours: Shardkv) -> None:
    with ours.wire() as connection:
        assert re.fullmatch("[0-9a-f]{64}", connection.text("ACL", "GENPASS"))
        assert connection.text("ACL", "GENPASS") != connection.text("ACL", "GENPASS")
        for bits, digits in ((1, 1), (4, 1), (5, 2), (4096, 1024)):
            assert re.fullmatch(f"[0-9a-f]{{{digits}}}", connection.text("ACL", "GENPASS", bits))
