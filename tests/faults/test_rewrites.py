"""Rewriting the append-only file while clients write, and what a real server makes of the files."""

from __future__ import annotations

import random
import shutil
import subprocess
from functools import partial
from pathlib import Path

import pytest

from shardkv import clock
from tests.faults.test_kills import kill_one, write_during
from tests.processes.server import Shardkv, eventually, shardkv
from tests.twin.servers import free_port
from tests.wire import Connection


def rewrites_done(server: Shardkv) -> int:
    return server.log.read_text().count("rewrote the append-only file")


def test_nothing_is_lost_when_workers_die_while_they_rewrite() -> None:
    rng = random.Random(3)
    with shardkv(workers=2, appendfsync="always") as server, server.wire() as connection:
        for first in range(0, 20_000, 1000):
            words = [word for number in range(first, first + 1000) for word in (f"fill{number}", number)]
            assert connection.ask("MSET", *words) == b"+OK\r\n"

        def disturb() -> None:
            for _ in range(6):
                with server.wire() as other:
                    other.ask("BGREWRITEAOF")
                clock.sleep(rng.uniform(0.0, 0.15))
                kill_one(server, "worker", rng)

        for writer in write_during(server, disturb):
            writer.check(server)
        eventually(lambda: connection.ask("GET", "fill19999") == b"$5\r\n19999\r\n")
        eventually(lambda: int(connection.ask("DBSIZE")[1:]) >= 20_000)
        for folder in (server.folder / "appendonlydir").glob("shard-*"):
            eventually(partial(no_orphans, folder))


def no_orphans(folder: Path) -> bool:
    """Whether only a base and what was appended since are left."""
    return len(list(folder.glob("*.aof"))) <= 3


def test_the_log_is_rewritten_by_itself_when_it_has_grown() -> None:
    with shardkv(workers=1, auto_aof_rewrite_min_size="64kb") as server, server.wire() as connection:
        for _ in range(1000):
            connection.ask("SET", "key", "x" * 200)
        eventually(lambda: rewrites_done(server) >= 1)
        assert connection.ask("GET", "key") == b"$200\r\n" + b"x" * 200 + b"\r\n"


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server to load the files")
def test_a_real_server_loads_the_files_to_the_same_data(tmp_path: Path) -> None:
    rng = random.Random(4)
    with shardkv(tmp_path, workers=1) as server, server.wire() as connection:
        for number in range(2000):
            key = f"key{rng.randrange(200)}"
            match rng.randrange(6):
                case 0:
                    connection.ask("INCRBY", f"counter{rng.randrange(50)}", number)
                case 1:
                    connection.ask("APPEND", key, number)
                case 2:
                    connection.ask("SET", key, number, "EX", 10_000)
                case 3:
                    connection.ask("DEL", key)
                case 4:
                    connection.ask("RENAME", key, f"key{rng.randrange(200)}")
                case _:
                    connection.ask("SELECT", rng.choice([0, 5]))
            if number == 1000:
                connection.ask("BGREWRITEAOF")
                eventually(lambda: rewrites_done(server) == 1)
        expected = {db: content(connection, db) for db in (0, 5)}
    assert expected[0]
    assert expected[5]
    port = free_port()
    command = [
        "redis-server",
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "yes",
    ]
    folder = ["--dir", str(tmp_path / "appendonlydir"), "--appenddirname", "shard-0"]
    process = subprocess.Popen([*command, *folder], stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: loaded(port), 20)
        with Connection(port) as connection:
            assert {db: content(connection, db) for db in (0, 5)} == expected
    finally:
        process.terminate()
        process.wait()


def loaded(port: int) -> bool:
    try:
        with Connection(port) as connection:
            return connection.ask("PING") == b"+PONG\r\n"
    except ConnectionRefusedError:
        return False


def content(connection: Connection, db: int) -> dict[bytes, tuple[bytes, bytes]]:
    """The keys of a database with their values and whether they have a deadline."""
    assert connection.ask("SELECT", db) == b"+OK\r\n"
    keys = connection.ask("KEYS", "*").split(b"\r\n")[2::2]
    return {key: (connection.ask("GET", key), connection.ask("EXPIRETIME", key)) for key in keys}
