"""Snapshots of a running server: one moment over all shards, files that real servers load, save points."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from proxy.transfer.sources import mapped
from shardkv import clock
from shardkv.rdb.file_reader import FileReader, Key
from shardkv.settings import Config
from tests.processes.server import Shardkv, eventually, shardkv
from tests.transfer.contents import Client, contents, difference, fill
from tests.twin.servers import Server, redis_7, redis_8, valkey
from tests.wire import Connection

DUMP = "dump.rdb"


def values_in(path: Path) -> dict[bytes, Any]:
    """The strings in a snapshot."""
    reader = FileReader(mapped(path), path)
    return {event.key: reader.value(Config()) for event in reader if isinstance(event, Key)}


# -- one moment -------------------------------------------------------------------------------

ACCOUNTS = [f"account:{number}" for number in range(12)]
TRANSFER = "redis.call('DECRBY', ARGV[1], ARGV[3]) redis.call('INCRBY', ARGV[2], ARGV[3])"
TOTAL = 12_000


class Teller(threading.Thread):
    """Moves money between accounts on all shards, by blocks of commands and by scripts."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.random = random.Random(name)
        self.stopping = False
        self.transfers = 0

    def run(self) -> None:
        with Connection(self.port) as connection:
            while not self.stopping:
                source, destination = self.random.sample(ACCOUNTS, 2)
                amount = self.random.randrange(100)
                if self.random.random() < 0.5:
                    connection.ask("EVAL", TRANSFER, 0, source, destination, amount)
                else:
                    connection.send("MULTI")
                    connection.send("DECRBY", source, amount)
                    connection.send("INCRBY", destination, amount)
                    connection.send("EXEC")
                    for _ in range(4):
                        connection.receive()
                self.transfers += 1


def test_no_transaction_is_half_in_a_snapshot(tmp_path: Path) -> None:
    with shardkv(tmp_path, workers=3, proxies=2) as server, server.wire() as connection:
        for account in ACCOUNTS:
            connection.ask("SET", account, TOTAL // len(ACCOUNTS))
        for first in range(0, 6000, 1000):
            connection.ask("MSET", *(word for n in range(first, first + 1000) for word in (f"fill:{n}", n)))
        tellers = [Teller(server.port, name) for name in ("one", "two", "three")]
        for teller in tellers:
            teller.start()
        seen = set()
        for _ in range(12):
            before = sum(teller.transfers for teller in tellers)
            assert connection.ask("SAVE") == b"+OK\r\n"
            found = values_in(tmp_path / DUMP)
            balances = [int(found[account.encode()]) for account in ACCOUNTS]
            assert sum(balances) == TOTAL
            seen.add(tuple(balances))
            eventually(lambda: sum(teller.transfers for teller in tellers) > before)  # noqa: B023
        for teller in tellers:
            teller.stopping = True
        for teller in tellers:
            teller.join()
        assert len(seen) > 3


# -- files ------------------------------------------------------------------------------------

COUNTERS = (b"entries-added", b"max-deleted-entry-id", b"entries-read", b"recorded-first-entry-id")
"""What version 9 of the format does not say of streams."""

READERS: dict[str, tuple[Callable[..., AbstractContextManager[Server]], int]] = {
    "redis 7.0": (redis_7, 10),
    "redis 8.2": (redis_8, 12),
    "valkey 9.1": (valkey, 80),
}


def test_real_servers_load_the_file_to_the_same_data(tmp_path: Path) -> None:
    """The file of version 9, and the newest that each server reads."""
    with shardkv(tmp_path, workers=3) as server, Client(server.port) as client:
        fill(client, field_deadlines=False)
        expected = contents(client)
        files = {}
        for version in (9, 10, 12, 80):
            client.ask(
                [
                    (
                        "CONFIG",
                        "SET",
                        "rdb-version",
                        version,
                        "rdbcompression",
                        "no" if version == 10 else "yes",
                    )
                ]
            )
            assert client.ask([("SAVE",)])
            files[version] = tmp_path / f"{version}.rdb"
            shutil.copy(tmp_path / DUMP, files[version])
    check = shutil.which("redis-check-rdb")
    assert check is not None
    for version in (9, 10):
        subprocess.run([check, files[version]], check=True, capture_output=True)
    assert files[10].stat().st_size > files[9].stat().st_size
    for name, (run, newest) in READERS.items():
        for version in {9, newest}:
            folder = tmp_path / f"{name}-{version}"
            folder.mkdir()
            shutil.copy(files[version], folder / DUMP)
            with run(dir=str(folder)) as real, Client(real.port) as client:
                unknown = COUNTERS if version == 9 else ()
                assert not difference(expected, contents(client), *unknown), (name, version)


def test_what_expires_within_a_hash_needs_a_newer_version(tmp_path: Path) -> None:
    with shardkv(tmp_path, appendonly="no", save="3600 1") as server, Client(server.port) as client:
        fill(client, field_deadlines=True)
        expected = contents(client)
        assert client.ask([("SAVE",)])
        assert "written in version 12" in server.log.read_text()
        assert server.stop() == 0
    with shardkv(tmp_path, appendonly="no") as server, Client(server.port) as client:
        assert not difference(expected, contents(client))
        assert int(server.info()["rdb_last_load_keys_loaded"]) == len(expected)


def test_a_file_is_loaded_only_without_an_append_only_file(tmp_path: Path) -> None:
    with shardkv(tmp_path) as server, server.wire() as connection:
        connection.ask("SET", "a", "1")
        connection.ask("SAVE")
        connection.ask("SET", "a", "2")
    with shardkv(tmp_path) as server, server.wire() as connection:
        assert connection.ask("GET", "a") == b"$1\r\n2\r\n"
    shutil.rmtree(tmp_path / "appendonlydir")
    with shardkv(tmp_path) as server, server.wire() as connection:
        assert connection.ask("GET", "a") == b"$-1\r\n"
        assert "dump.rdb is not loaded" in server.log.read_text()
    with shardkv(tmp_path, appendonly="no") as server, server.wire() as connection:
        assert connection.ask("GET", "a") == b"$1\r\n1\r\n"
        assert connection.ask("CONFIG", "SET", "appendonly", "yes") == b"+OK\r\n"
        eventually(lambda: "rewrote the append-only file" in server.log.read_text())
    with shardkv(tmp_path) as server, server.wire() as connection:
        assert connection.ask("GET", "a") == b"$1\r\n1\r\n"


# -- when it is saved -------------------------------------------------------------------------


def test_save_points(tmp_path: Path) -> None:
    with shardkv(tmp_path, appendonly="no") as server, server.wire() as connection:
        begun_s = int(connection.ask("LASTSAVE")[1:])
        connection.ask("MSET", "a", 1, "b", 2)
        assert connection.ask("CONFIG", "SET", "save", "1 3 900 1") == b"+OK\r\n"
        assert connection.ask("CONFIG", "GET", "save").endswith(b"1 3 900 1\r\n")
        connection.ask("SET", "c", 3)
        eventually(lambda: server.info()["rdb_saves"] == "1")
        told = server.info()
        assert told["rdb_changes_since_last_save"] == "0"
        assert told["rdb_last_bgsave_status"] == "ok"
        assert int(told["rdb_last_save_time"]) == int(connection.ask("LASTSAVE")[1:]) >= begun_s
        assert values_in(tmp_path / DUMP) == {b"a": b"1", b"b": b"2", b"c": b"3"}


@pytest.mark.parametrize("how", ["SIGTERM", "SHUTDOWN", "SHUTDOWN SAVE", "SHUTDOWN NOSAVE"])
def test_the_end(how: str, tmp_path: Path) -> None:
    save = "" if how == "SHUTDOWN SAVE" else "3600 1000"
    with shardkv(tmp_path, appendonly="no", save=save) as server, server.wire() as connection:
        connection.ask("SET", "a", 1)
        if how == "SIGTERM":
            server.stop()
        else:
            connection.send(*how.split())
            assert connection.ends() == b""
            assert server.process.wait(20) == 0
    assert (tmp_path / DUMP).exists() == (how != "SHUTDOWN NOSAVE")
    with shardkv(tmp_path, appendonly="no") as server, server.wire() as connection:
        assert connection.ask("EXISTS", "a") == (b":0\r\n" if how == "SHUTDOWN NOSAVE" else b":1\r\n")


def test_several_at_a_time(tmp_path: Path) -> None:
    with shardkv(tmp_path) as server, server.wire() as one, server.wire() as other:
        # Enough to be under way for a moment.
        for first in range(0, 30_000, 1000):
            one.ask("MSET", *(word for n in range(first, first + 1000) for word in (f"fill:{n}", "x" * 200)))
        one.send("SAVE")
        eventually(lambda: server.info()["rdb_bgsave_in_progress"] == "1")
        assert other.ask("BGSAVE") == b"-ERR Background save already in progress\r\n"
        assert other.ask("BGSAVE", "SCHEDULE") == b"-ERR Background save already in progress\r\n"
        assert other.ask("SAVE") == b"-ERR Background save already in progress\r\n"
        # A rewrite has its own pass, at the same time.
        assert other.ask("BGREWRITEAOF") == b"+Background append only file rewriting started\r\n"
        assert one.receive() == b"+OK\r\n"
        eventually(lambda: server.info()["aof_rewrite_in_progress"] == "0")
        assert other.ask("BGSAVE", "CANCEL").startswith(
            b"-ERR Background saving is currently not in progress"
        )
        assert other.ask("BGSAVE") == b"+Background saving started\r\n"
        assert other.ask("BGSAVE", "CANCEL") == b"+Background saving cancelled\r\n"
        eventually(lambda: server.info()["rdb_bgsave_in_progress"] == "0")
        one.ask("MULTI")
        one.ask("BGSAVE")
        assert one.ask("EXEC") == b"*1\r\n+Background saving scheduled\r\n"
        eventually(lambda: server.info()["rdb_saves"] == "2")
        one.send("FLUSHALL")
        assert other.ask("SAVE") == b"+OK\r\n"
        assert one.receive() == b"+OK\r\n"
    assert not list(tmp_path.glob("temp*"))


# -- for others -------------------------------------------------------------------------------


def snapshot_over(server: Shardkv, *words: str) -> bytes:
    """What comes after a request for a full sync, until the connection ends."""
    with server.wire() as connection:
        assert connection.ask("REPLCONF", "capa", "eof", "rdb-only", "1") == b"+OK\r\n"
        connection.send(*words)
        return connection.ends()


def test_a_full_sync(tmp_path: Path) -> None:
    with shardkv(tmp_path) as server, server.wire() as connection:
        connection.ask("MSET", "a", 1, "b", "x" * 100_000)
        answers = [snapshot_over(server, "SYNC"), snapshot_over(server, "PSYNC", "?", "-1")]
        assert answers[1].startswith(b"+FULLRESYNC ")
        for number, answer in enumerate(answers):
            head, _, rest = answer[answer.index(b"$") :].partition(b"\r\n")
            assert len(rest) == int(head[1:])
            path = tmp_path / f"{number}.rdb"
            path.write_bytes(rest)
            assert values_in(path) == {b"a": b"1", b"b": b"x" * 100_000}
        changes = server.info()["rdb_changes_since_last_save"]
        assert changes == "2"
        run = ["redis-cli", "-p", str(server.port), "--rdb", str(tmp_path / "cli.rdb")]
        subprocess.run(run, check=True, capture_output=True)
        assert len(values_in(tmp_path / "cli.rdb")) == 2
        assert not list(tmp_path.glob("temp*"))


def test_a_replica_is_told_that_there_is_nothing_for_it(tmp_path: Path) -> None:
    with shardkv(tmp_path) as server, server.wire() as connection:
        assert connection.ask("REPLCONF", "listening-port", "1234") == b"+OK\r\n"
        refused = b"-ERR this server sends one snapshot"
        assert connection.ask("PSYNC", "?", "-1").startswith(refused)
        assert connection.ask("SYNC").startswith(refused)
        assert connection.ask("REPLCONF", "foo", "1").startswith(b"-ERR Unrecognized REPLCONF option: foo")
        assert connection.ask("REPLCONF", "foo") == b"-ERR syntax error\r\n"


def test_a_client_that_goes_while_its_snapshot_is_made_leaves_nothing(tmp_path: Path) -> None:
    with shardkv(tmp_path) as server, server.wire() as connection:
        connection.ask("MSET", *(word for n in range(3000) for word in (f"fill:{n}", "x" * 200)))
        for _ in range(3):
            with server.wire() as other:
                other.send("SYNC")
        eventually(lambda: server.log.read_text().count("saved ") == 3)
        eventually(lambda: not list(tmp_path.glob("temp*")))
        begun_s = clock.monotonic()
        assert connection.ask("PING") == b"+PONG\r\n"
        assert clock.monotonic() - begun_s < 5


LINES = """
SAVE x | BGSAVE foo | BGSAVE SCHEDULE x | BGSAVE CANCEL | LASTSAVE x | SYNC x | CONFIG GET dbfilename
CONFIG GET rdbcompression | CONFIG GET rdbchecksum | CONFIG GET stop-writes-on-bgsave-error
CONFIG GET aof-timestamp-enabled | CONFIG SET save abc | CONFIG SET save 1 | CONFIG SET save "1 1 2"
CONFIG SET save "0 1" | CONFIG SET save "1 -1" | CONFIG SET save "" | CONFIG GET save
CONFIG SET save "3600 1 300 100" | CONFIG GET save | CONFIG SET save "" | CONFIG SET rdbcompression x
CONFIG SET rdbchecksum no | SAVE | BGSAVE CANCEL
"""


def test_the_words_of_real_servers(server: Shardkv, twin_server: Server) -> None:
    lines = [line.strip() for row in LINES.strip().splitlines() for line in row.split(" | ")]
    with server.wire() as ours, twin_server_connection(twin_server) as theirs:
        for line in lines:
            words = _words(line)
            assert ours.ask(*words) == theirs.ask(*words), line


def twin_server_connection(twin: Server) -> Connection:
    return Connection(twin.port)


def _words(line: str) -> list[str]:
    name, *rest = line.split('"')
    return [*name.split(), *rest[:1]]
