"""Nothing that clients do leaves memory behind that only a garbage collector would free: there is none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.server import ROOT, Shardkv, eventually
from tests.twin.servers import free_port
from tests.wire import Connection, pack

TIMES = 10
"""Each is done so often: what is left once may be something that is kept for later."""

BROKEN = b"*1\r\n\\\r\n"
SCRIPT = "return redis.call('set', KEYS[1], redis.call('get', KEYS[2]))"

CASES: dict[str, bytes] = {
    "nothing": b"",
    "a read": pack("GET", "a"),
    "a failure in the shard": pack("SET", "s", 1) + pack("LPUSH", "s", 1) + pack("HGET", "s", "f"),
    "a wrong number of words": pack("GET"),
    "an unknown command": pack("NOPE"),
    "a broken request": pack("PING") + BROKEN,
    "a web browser": b"GET / HTTP/1.1\r\n\r\n",
    "several shards": pack("MSET", *"a1b2c3d4e5") + pack("MGET", *"abcde") + pack("DEL", *"abcde"),
    "a failure over several shards": pack("SET", "s", 1)
    + pack("SUNION", *"abcdes")
    + pack("RENAME", "x", "y"),
    "a transaction": pack("MULTI") + pack("SET", "a", 1) + pack("SET", "b", 1) + pack("EXEC"),
    "a transaction of one shard": pack("MULTI") + pack("SET", "a", 1) + pack("GET", "a") + pack("EXEC"),
    "a transaction that fails": pack("MULTI") + pack("SET", "a") + pack("EXEC"),
    "a transaction in which something fails": pack("MULTI")
    + pack("SET", "s", 1)
    + pack("LPUSH", "s", 1)
    + pack("LPUSH", "s", 1)
    + pack("EXEC"),
    "a transaction that is left": pack("WATCH", "a", "b") + pack("MULTI") + pack("SET", "a", 1),
    "watched": pack("WATCH", "a", "b")
    + pack("SET", "a", 1)
    + pack("MULTI")
    + pack("GET", "a")
    + pack("EXEC"),
    "waiting on one shard": pack("BLPOP", "none", 0),
    "waiting on several": pack("BLPOP", *"vwxyz", 0),
    "waiting for a time": pack("BLPOP", "none", "0.001") + pack("BLPOP", *"vwxyz", "0.001"),
    "served": pack("RPUSH", "l", 1) + pack("BLPOP", "none", "l", 0),
    "a stream": pack("XREAD", "BLOCK", 1, "STREAMS", "x", "y", 0, 0),
    "replicas": pack("WAIT", 1, 1) + pack("WAITAOF", 0, 0, 1),
    "subscribed": pack("SUBSCRIBE", "c", "d") + pack("PSUBSCRIBE", "p*") + pack("UNSUBSCRIBE"),
    "published": pack("PUBLISH", "c", "m"),
    "a script": pack("EVAL", "return redis.call('get', KEYS[1])", 1, "a"),
    "a script that fails": pack("EVAL", "return redis.call('get')", 1, "a") + pack("EVAL", "error('x')", 0),
    "a script that does not compile": pack("EVAL", "return (", 0),
    "a script over several shards": pack("EVAL", SCRIPT, 2, "a", "c") + pack("EVAL", SCRIPT, 2, "l", "b"),
    "an unknown script": pack("EVALSHA", "f" * 40, 0),
    "figures": pack("INFO", "everything") + pack("CLIENT", "LIST") + pack("CONFIG", "GET", "*"),
    "wrong settings": pack("CONFIG", "SET", "maxclients", "x") + pack("CONFIG", "SET", "nope", 1),
    "commands": pack("COMMAND", "DOCS", "get") + pack("COMMAND", "GETKEYS", "get") + pack("LOLWUT"),
    "a scan": pack("SCAN", 0) + pack("SCAN", "x") + pack("KEYS", "*") + pack("DBSIZE"),
    "another protocol": pack("HELLO", 3) + pack("GET", "a") + pack("HELLO", 4),
    "a wrong password": pack("AUTH", "x") + pack("AUTH", "nobody", "x"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shardkv]:
    folder, port = tmp_path_factory.mktemp("garbage"), free_port()
    log = folder / "log"
    options = ["--port", str(port), "--dir", str(folder), "--workers", "2", "--proxies", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.collecting", *options],
            stdout=output,
            stderr=output,
            cwd=folder,
            env=environment,
        )
    try:
        running = Shardkv(port, folder, process, log)
        eventually(lambda: b"Ready to accept" in log.read_bytes(), 30)
        yield running
        assert running.stop() == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def left_behind(server: Shardkv) -> dict[str, str]:
    """What each process has that nothing but a collector would free."""
    files = [server.folder / f"{name}.garbage" for name in ("proxy-0", "worker-0", "worker-1")]
    for file in files:
        file.unlink(missing_ok=True)
    for pid in server.pids("proxy") + server.pids("worker"):
        os.kill(pid, signal.SIGUSR1)
    with Connection(server.port) as connection:
        # They look at signals when they have something to do.
        connection.ask("DBSIZE")
    eventually(lambda: all(file.exists() for file in files))
    return {file.stem: file.read_text() for file in files if file.read_text()}


def do(server: Shardkv, requests: bytes) -> None:
    """Sends requests, and waits for the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(requests)
        connection.shutdown(socket.SHUT_WR)
        try:
            while connection.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left_behind(server: Shardkv, case: str) -> None:
    do(server, CASES[case])
    left_behind(server)
    for _ in range(TIMES):
        do(server, CASES[case])
    assert left_behind(server) == {}


def test_it_would_be_noticed(tmp_path: Path) -> None:
    code = (
        "import gc; gc.disable(); from tests.faults.collecting import tell; gc.collect(); "
        "circle = []; circle.append(circle); del circle; tell('self')"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)
    assert (tmp_path / "self.garbage").read_text() == "1 builtins.list"
