"""Scripts in a real server of two shards: busy ones, killed ones, and what outlives a process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardkv import clock
from shardkv.errors import BUSY_SCRIPT
from shardkv.lua import sha1hex
from shardkv.slots import even_slot_table, slot_of
from tests.processes.server import Shardkv, eventually, shardkv
from tests.twin.servers import redis_7
from tests.wire import Connection

SPIN = "while true do end"
LIBRARY = """#!lua name=lib
redis.register_function('f', function(keys) return redis.call('incr', keys[1]) end)
"""
TABLE = even_slot_table(2)


def key_of(shard: int, number: int = 0) -> str:
    """A key of a shard."""
    found = [key for key in map("key:{}".format, range(100)) if TABLE[slot_of(key.encode())] == shard]
    return found[number]


HERE, THERE = key_of(0), key_of(1)


@pytest.fixture(scope="module", params=[1, 2], ids=["1 proxy", "2 proxies"])
def scripting(request: pytest.FixtureRequest) -> Iterator[Shardkv]:
    with shardkv(proxies=request.param, busy_reply_threshold=100) as server:
        yield server


def until_busy(other: Connection, key: str = HERE) -> None:
    eventually(lambda: other.ask("GET", key).startswith(b"-BUSY"))


def test_a_busy_shard(scripting: Shardkv) -> None:
    with scripting.wire() as runner, scripting.wire() as other:
        other.ask("SET", THERE, "value")
        runner.send("EVAL", SPIN, 1, HERE)
        runner.send("PING")
        runner.send("SET", key_of(0, 1), "after")
        until_busy(other)
        # The other shard serves on, and so do commands that need none.
        assert other.ask("GET", THERE) == b"$5\r\nvalue\r\n"
        assert other.ask("INCR", key_of(1, 1)).startswith(b":")
        assert other.ask("PING") == b"+PONG\r\n"
        for request in (("SET", HERE, 1), ("MGET", HERE, THERE), ("MSET", HERE, 1, THERE, 2), ("DBSIZE",)):
            assert other.ask(*request).startswith(
                b"-BUSY Redis is busy running a script. You can only call SCRIPT"
            )
        assert b"running_script" in other.ask("FUNCTION", "STATS")
        assert other.ask("FUNCTION", "KILL").startswith(b"-BUSY")
        assert other.ask("SCRIPT", "KILL") == b"+OK\r\n"
        assert runner.receive().startswith(b"-ERR Script killed by user with SCRIPT KILL. script: ")
        assert runner.receive() == b"+PONG\r\n"
        # What is pipelined behind a script that runs for so long is not carried out.
        assert runner.receive() == b"-" + BUSY_SCRIPT + b"\r\n"
        assert other.ask("GET", key_of(0, 1)) == b"$-1\r\n"
        assert other.ask("MSET", HERE, 1, THERE, 2) == b"+OK\r\n"
        assert other.ask("SCRIPT", "KILL").startswith(b"-NOTBUSY")


def test_a_script_that_has_written_cannot_be_killed(scripting: Shardkv) -> None:
    body = """
        redis.call('set', KEYS[1], 'written')
        local begun = os.clock()
        while os.clock() - begun < 1 do end
        redis.call('append', KEYS[1], ' twice')
    """
    with scripting.wire() as runner, scripting.wire() as other:
        runner.send("EVAL", body, 1, HERE)
        until_busy(other)
        assert other.ask("SCRIPT", "KILL").startswith(b"-UNKILLABLE")
        assert runner.receive() == b"$-1\r\n"
        assert other.ask("GET", HERE) == b"$13\r\nwritten twice\r\n"


def test_clients_come_and_go_while_a_script_runs(scripting: Shardkv) -> None:
    with scripting.wire() as watcher:
        with scripting.wire() as runner:
            runner.send("EVAL", SPIN, 1, HERE)
            until_busy(watcher)
        for _ in range(20):
            with scripting.wire() as passing:
                passing.send("GET", HERE)
        with scripting.wire() as passing:
            assert passing.ask("GET", HERE).startswith(b"-BUSY")
        assert watcher.ask("SCRIPT", "KILL") == b"+OK\r\n"
        eventually(lambda: not watcher.ask("GET", HERE).startswith(b"-BUSY"))


def test_a_transaction_with_an_endless_script(scripting: Shardkv) -> None:
    with scripting.wire() as runner, scripting.wire() as other:
        runner.ask("MULTI")
        runner.ask("SET", HERE, "in")
        runner.ask("EVAL", SPIN, 1, HERE)
        runner.send("EXEC")
        until_busy(other)
        assert other.ask("SCRIPT", "KILL") == b"+OK\r\n"
        assert b"Script killed by user" in runner.receive()
        assert other.ask("GET", HERE) == b"$2\r\nin\r\n"


def test_evalsha_after_eval_anywhere(scripting: Shardkv) -> None:
    body = f"return KEYS[1] -- {os.getpid()}"
    sha = sha1hex(body.encode())
    with scripting.wire() as one:
        assert one.ask("EVAL", body, 1, HERE).endswith(HERE.encode() + b"\r\n")
    for _ in range(4):
        with scripting.wire() as other:
            for key in (HERE, THERE):
                assert other.ask("EVALSHA", sha, 1, key).endswith(key.encode() + b"\r\n")
    with scripting.wire() as one:
        assert one.ask("SCRIPT", "EXISTS", sha) == b"*1\r\n:1\r\n"
        assert one.ask("EVAL", "x x", 1, HERE).startswith(b"-ERR Error compiling script")
        assert one.ask("EVAL", "x x", 1, HERE).startswith(b"-ERR Error compiling script")


def test_a_script_without_keys(scripting: Shardkv) -> None:
    with scripting.wire() as connection:
        assert connection.ask("EVAL", "return ARGV[1]", 0, "here") == b"$4\r\nhere\r\n"
        assert connection.ask("EVALSHA", sha1hex(b"return ARGV[1]"), 0, "again") == b"$5\r\nagain\r\n"
        assert connection.ask("MULTI") == b"+OK\r\n"
        assert connection.ask("EVAL", "return ARGV[1]", 0, "queued") == b"+QUEUED\r\n"
        assert connection.ask("EXEC") == b"*1\r\n$6\r\nqueued\r\n"


def kill_shard(server: Shardkv, number: int) -> None:
    """Kills the process of a shard, and waits until another serves."""
    old = server.pids("worker")
    titles = {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in old}
    [pid] = [pid for pid, title in titles.items() if f"worker-{number}" in title]
    os.kill(pid, signal.SIGKILL)
    with server.wire() as connection:
        eventually(lambda: pid not in server.pids("worker") and len(server.pids("worker")) == 2)
        key = key_of(number)
        eventually(lambda: not connection.ask("GET", key).startswith((b"-SHARDDOWN", b"-LOADING")))


def test_scripts_and_functions_outlive_a_shard_s_process() -> None:
    with shardkv(proxies=2) as server, server.wire() as connection, server.wire() as other:
        evaluated = sha1hex(b"return 'evaluated'")
        connection.ask("EVAL", "return 'evaluated'", 1, HERE)
        loaded = connection.ask("SCRIPT", "LOAD", "return 'loaded'")[5:-2]
        connection.ask("FUNCTION", "LOAD", LIBRARY)
        for number in (0, 1):
            kill_shard(server, number)
        for key in (HERE, THERE):
            for client in (connection, other):
                assert client.ask("EVALSHA", evaluated, 1, key) == b"$9\r\nevaluated\r\n"
                assert client.ask("EVALSHA", loaded, 1, key) == b"$6\r\nloaded\r\n"
                assert client.ask("FCALL", "f", 1, key).startswith(b":")
        assert connection.ask("SCRIPT", "FLUSH") == b"+OK\r\n"
        kill_shard(server, 0)
        assert connection.ask("EVALSHA", loaded, 1, HERE).startswith(b"-NOSCRIPT")


def test_functions_over_a_restart(tmp_path: Path) -> None:
    with shardkv(tmp_path) as server, server.wire() as connection:
        connection.ask("FUNCTION", "LOAD", LIBRARY)
        connection.ask("FCALL", "f", 1, HERE)
        connection.ask("EVAL", "redis.call('set', KEYS[1], 1) redis.call('incr', KEYS[1])", 1, THERE)
    with shardkv(tmp_path) as server, server.wire() as connection:
        assert connection.ask("FCALL", "f", 1, HERE) == b":2\r\n"
        assert connection.ask("BGREWRITEAOF").startswith(b"+")
        eventually(lambda: int(server.info("persistence").get("aof_rewrite_in_progress", "1")) == 0)
        assert connection.ask("FCALL", "f", 1, THERE) == b":3\r\n"
    with shardkv(tmp_path) as server, server.wire() as connection:
        assert connection.ask("FCALL", "f", 1, HERE) == b":3\r\n"
        assert connection.ask("FCALL", "f", 1, THERE) == b":4\r\n"


def test_a_real_server_loads_our_functions(tmp_path: Path) -> None:
    with shardkv(tmp_path) as server, server.wire() as connection:
        connection.ask("FUNCTION", "LOAD", LIBRARY)
        connection.ask("FCALL", "f", 1, HERE)
        connection.ask("EVAL", "redis.call('set', KEYS[1], 1) redis.call('incr', KEYS[1])", 1, key_of(0, 1))
        connection.ask("BGREWRITEAOF")
        eventually(lambda: int(server.info("persistence").get("aof_rewrite_in_progress", "1")) == 0)
        connection.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY)
        connection.ask("FCALL", "f", 1, HERE)
    folder = f"{tmp_path}/appendonlydir"
    with (
        redis_7(dir=folder, appenddirname="shard-0", appendonly="yes") as real,
        Connection(real.port) as connection,
    ):
        eventually(lambda: not connection.ask("GET", HERE).startswith(b"-LOADING"))
        assert connection.ask("FCALL", "f", 1, HERE) == b":3\r\n"
        assert connection.ask("GET", key_of(0, 1)) == b"$1\r\n2\r\n"


@pytest.mark.parametrize("proxies", [1, 2])
def test_shutdown_while_a_script_spins(tmp_path: Path, proxies: int) -> None:
    settings: Any = {"proxies": proxies, "busy_reply_threshold": 100, "shutdown_timeout": 2}
    with shardkv(tmp_path, **settings) as server, server.wire() as runner, server.wire() as other:
        other.ask("SET", HERE, "before")
        runner.send("EVAL", "redis.call('set', KEYS[1], 'lost') while true do end", 1, HERE)
        until_busy(other)
        begun_s = clock.monotonic()
        other.send("SHUTDOWN", "NOSAVE")
        assert server.process.wait(20) == 0
        assert clock.monotonic() - begun_s < 10
    with shardkv(tmp_path) as server, server.wire() as connection:
        assert connection.ask("GET", HERE) == b"$6\r\nbefore\r\n"
