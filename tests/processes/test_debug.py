"""DEBUG, on a whole server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardkv import clock
from tests.processes.server import Shardkv, eventually, fields, shardkv
from tests.twin.servers import valkey
from tests.wire import Connection, pack

DATA = [
    *("SET plain x", "SET number 12", "APPEND longer x", "SET brief x PX 100000000", "SETBIT bits 100 1"),
    *("RPUSH list a b c", "SADD ints 1 2 3", "SADD words a b c", "ZADD zset 1 a 0.1 b -inf c 1e300 d"),
    *("HSET hash f v g w", "XADD stream 1-1 a b c d", "XADD stream 2-1 e f", "XGROUP CREATE stream g 0"),
    *("PFADD hll a b c", "GEOADD geo 13.361389 38.115556 Palermo", "XADD empty MAXLEN 0 1-1 a b"),
]
"""Requests that make a key of every kind."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shardkv]:
    with shardkv(tmp_path_factory.mktemp("debug"), proxies=2, enable_debug_command="local") as server:
        yield server


@pytest.fixture
def connection(server: Shardkv) -> Iterator[Connection]:
    """A connection to a server that holds DATA, in two databases."""
    with server.wire() as connection:
        assert connection.ask("FLUSHALL") == b"+OK\r\n"
        fill(connection)
        yield connection


def fill(connection: Connection) -> None:
    for db in (5, 0):
        assert connection.ask("SELECT", db) == b"+OK\r\n"
        for request in DATA:
            assert not connection.ask(*request.split()).startswith(b"-")


def test_debug_sleep_stops_every_shard(server: Shardkv) -> None:
    with server.wire() as connection:
        begun_s = clock.monotonic()
        connection.send_bytes(pack("DEBUG", "SLEEP", "0.2") + pack("MGET", "a", "b", "c", "d"))
        assert connection.receive() == b"+OK\r\n"
        connection.receive()
        assert 0.2 <= clock.monotonic() - begun_s < 2


def test_debug_set_active_expire(server: Shardkv) -> None:
    with server.wire() as connection:
        connection.ask("SELECT", 9)
        assert connection.ask("DEBUG", "SET-ACTIVE-EXPIRE", "0") == b"+OK\r\n"
        connection.ask("SET", "brief", "x", "PX", 1)
        before = fields(connection.text("INFO", "keyspace", "stats"))
        time.sleep(0.5)
        assert fields(connection.text("INFO", "keyspace", "stats"))["expired_keys"] == before["expired_keys"]
        assert connection.ask("DEBUG", "SET-ACTIVE-EXPIRE", "1") == b"+OK\r\n"
        eventually(lambda: "db9" not in fields(connection.text("INFO", "keyspace")))


def test_debug_is_not_allowed_by_default() -> None:
    with shardkv(workers=1) as server, server.wire() as connection:
        assert connection.ask("DEBUG", "SLEEP", "0").startswith(b"-ERR DEBUG command not allowed.")
        assert connection.ask("DEBUG", "HELP").startswith(b"-ERR DEBUG command not allowed.")


def test_two_servers_with_the_same_data_have_the_same_digest(connection: Connection) -> None:
    """The same as another server has it, though the keys are on two shards."""
    with valkey(enable_debug_command="local") as real, Connection(real.port) as twin:
        fill(twin)
        keys = [request.split()[1] for request in DATA] + ["nothing"]
        for request in (("DEBUG", "DIGEST"), ("DEBUG", "DIGEST-VALUE", *keys, *keys)):
            told = connection.ask(*request)
            assert told == twin.ask(*request)
            assert len(told) > 40
        for one in (connection, twin):
            one.ask("DEL", *keys)
        assert connection.ask("DEBUG", "DIGEST") == twin.ask("DEBUG", "DIGEST")
        for one in (connection, twin):
            one.ask("FLUSHALL")
        assert connection.ask("DEBUG", "DIGEST") == twin.ask("DEBUG", "DIGEST") == b"+" + b"0" * 40 + b"\r\n"


# The log does not tell when a consumer was last seen.
@pytest.mark.parametrize(
    ("subcommand", "of_stream"), [("RELOAD", "STREAM stream FULL"), ("LOADAOF", "GROUPS stream")]
)
def test_what_is_loaded_again_is_the_same(connection: Connection, subcommand: str, of_stream: str) -> None:
    for request in ("HEXPIRE hash 100000 FIELDS 1 f", "XREADGROUP GROUP g c STREAMS stream >"):
        assert not connection.ask(*request.split()).startswith(b"-")
    looks = [
        *("DEBUG DIGEST", f"XINFO {of_stream}", "HPEXPIRETIME hash FIELDS 1 f", "PEXPIRETIME brief"),
        *("OBJECT ENCODING longer", "OBJECT ENCODING list", "OBJECT ENCODING words", "DBSIZE"),
    ]
    before = [connection.ask(*look.split()) for look in looks]
    assert connection.ask("DEBUG", subcommand) == b"+OK\r\n"
    after = [connection.ask(*look.split()) for look in looks]
    differing = [look for look, *pair in zip(looks, before, after, strict=True) if pair[0] != pair[1]]
    # As in Redis: what is read back from a file has grown in no place.
    assert differing in ([], ["OBJECT ENCODING longer"])


def test_shards_that_begin_anew_are_other_processes_and_no_sign_of_trouble(
    server: Shardkv, connection: Connection
) -> None:
    pids = set(server.pids("worker"))
    begun_s = clock.monotonic()
    for _ in range(4):
        assert connection.ask("DEBUG", "LOADAOF") == b"+OK\r\n"
        assert connection.ask("EXISTS", "plain", "list", "hash") == b":3\r\n"
    assert not pids & set(server.pids("worker"))
    # Shards that keep dying would have had to wait longer and longer.
    assert clock.monotonic() - begun_s < 10


def test_without_a_log_there_is_nothing_to_load(tmp_path: Path) -> None:
    with (
        shardkv(tmp_path, workers=1, appendonly="no", enable_debug_command="local") as server,
        server.wire() as connection,
    ):
        connection.ask("SET", "key", "value")
        assert connection.ask("DEBUG", "LOADAOF").startswith(b"-ERR there is no append-only file to load")
        assert connection.ask("GET", "key") == b"$5\r\nvalue\r\n"


def test_populate(connection: Connection) -> None:
    connection.ask("FLUSHALL")
    connection.ask("SET", "key:3", "mine")
    assert connection.ask("DEBUG", "POPULATE", "50") == b"+OK\r\n"
    assert connection.ask("DEBUG", "POPULATE", "30", "long", "12") == b"+OK\r\n"
    assert connection.ask("DEBUG", "POPULATE", "30", "short", "3") == b"+OK\r\n"
    assert connection.ask("DBSIZE") == b":110\r\n"
    assert connection.ask("MGET", "key:3", "key:49", "long:29", "short:0", "key:50") == (
        b"*5\r\n$4\r\nmine\r\n$8\r\nvalue:49\r\n$12\r\nvalue:29\0\0\0\0\r\n$3\r\nval\r\n$-1\r\n"
    )
    before = connection.ask("DEBUG", "DIGEST")
    assert connection.ask("DEBUG", "LOADAOF") == b"+OK\r\n"
    assert connection.ask("DEBUG", "DIGEST") == before


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("POPULATE x", b"-ERR value is not an integer or out of range"),
        ("POPULATE -1", b"-ERR value is out of range, must be positive"),
        ("POPULATE 1 key -1", b"-ERR value is out of range, must be positive"),
        ("POPULATE 1 key 1 1", b"-ERR unknown subcommand or wrong number of arguments for 'POPULATE'"),
        ("DIGEST-VALUE", b"-ERR unknown subcommand or wrong number of arguments for 'DIGEST-VALUE'"),
        ("RELOAD MERGE", b"-ERR unknown subcommand or wrong number of arguments for 'RELOAD'"),
    ],
)
def test_what_debug_refuses(connection: Connection, words: str, error: bytes) -> None:
    assert connection.ask("DEBUG", *words.split()).startswith(error)
