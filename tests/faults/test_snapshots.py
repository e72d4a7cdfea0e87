"""Whoever dies while a snapshot is made, and whatever the disk says: the one before stays, nothing unfinished
is left, and the next one works."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from tests.faults.canary import Canary
from tests.processes.server import Shardkv, eventually, shardkv
from tests.processes.test_snapshots import values_in
from tests.wire import Connection

KEYS = 20_000
DUMP = "dump.rdb"


def filled(connection: Connection) -> None:
    """More than fits into the pipes, so that a snapshot is under way until its saver goes on."""
    for first in range(0, KEYS, 1000):
        words = [w for n in range(first, first + 1000) for w in (f"fill:{n}", os.urandom(300))]
        assert connection.ask("MSET", *words) == b"+OK\r\n"


def stopped_saver(server: Shardkv, connection: Connection) -> int:
    """Begins a snapshot and stops the process that writes it; returns that."""
    assert connection.ask("BGSAVE") == b"+Background saving started\r\n"
    eventually(lambda: bool(list(server.folder.glob("temp*"))))
    [saver] = server.pids("saver")
    os.kill(saver, signal.SIGSTOP)
    assert list(server.folder.glob("temp*")), "it was done already"
    return saver


def is_failed(server: Shardkv) -> bool:
    told = server.info("persistence")
    return told["rdb_bgsave_in_progress"] == "0" and told["rdb_last_bgsave_status"] == "err"


@pytest.mark.parametrize("who", ["saver", "worker", "proxy"])
def test_someone_dies_while_it_is_made(who: str, tmp_path: Path) -> None:
    with shardkv(tmp_path, workers=2, proxies=1) as server, server.wire() as connection:
        connection.ask("SET", "a", "before")
        assert connection.ask("SAVE") == b"+OK\r\n"
        before = (tmp_path / DUMP).read_bytes()
        filled(connection)
        saver = stopped_saver(server, connection)
        os.kill(saver if who == "saver" else server.pids(who)[0], signal.SIGKILL)
        os.kill(saver, signal.SIGCONT)
        with_proxy = who == "proxy"
        if with_proxy:
            # It has had its part in it long before, or the snapshot has failed with it.
            eventually(lambda: server.info("persistence")["rdb_bgsave_in_progress"] == "0")
        else:
            eventually(lambda: is_failed(server))
            assert (tmp_path / DUMP).read_bytes() == before
        eventually(lambda: not list(tmp_path.glob("temp*")))
    with shardkv(tmp_path, workers=2) as server, server.wire() as connection:
        assert connection.ask("SET", "a", "after") == b"+OK\r\n"
        assert connection.ask("SAVE") == b"+OK\r\n"
        assert server.info("persistence")["rdb_last_bgsave_status"] == "ok"
        found = values_in(tmp_path / DUMP)
        assert len(found) == KEYS + 1
        assert found[b"a"] == b"after"


def test_everything_dies_while_it_is_made(tmp_path: Path) -> None:
    with shardkv(tmp_path, appendonly="no", exit_code=-9) as server, server.wire() as connection:
        filled(connection)
        assert connection.ask("SAVE") == b"+OK\r\n"
        connection.ask("SET", "a", "lost")
        stopped_saver(server, connection)
        server.process.kill()
        server.process.wait()
    with shardkv(tmp_path, appendonly="no") as server, server.wire() as connection:
        assert not list(tmp_path.glob("temp*"))
        assert connection.ask("DBSIZE") == b":%d\r\n" % KEYS
        assert connection.ask("EXISTS", "a") == b":0\r\n"


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with shardkv(tmp_path, appendonly="no", save="3600 1000000") as server, server.wire() as connection:
        connection.ask("SET", "a", 1)
        assert connection.ask("SAVE") == b"+OK\r\n"
        before = (tmp_path / DUMP).read_bytes()
        filled(connection)
        no_limit = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1_000_000, no_limit[1]))
        assert connection.ask("SAVE").startswith(b"-ERR the snapshot could not be saved")
        assert "File too large" in server.log.read_text()
        assert (tmp_path / DUMP).read_bytes() == before
        assert not list(tmp_path.glob("temp*"))
        eventually(lambda: connection.ask("SET", "b", 1).startswith(b"-MISCONF Redis is configured to save"))
        assert connection.ask("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "b").startswith(b"-MISCONF")
        assert connection.ask("GET", "a") == b"$1\r\n1\r\n"
        assert connection.ask("SHUTDOWN") == b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n"
        # A worker that is started anew refuses as well. (It has what the last snapshot has.)
        os.kill(server.pids("worker")[0], signal.SIGKILL)
        eventually(lambda: server.info()["rdb_last_load_keys_loaded"] != "0" or is_failed(server))
        for name in ("c", "d", "e", "f"):
            eventually(lambda: connection.ask("SET", name, 1).startswith(b"-MISCONF"))  # noqa: B023
        assert connection.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "no") == b"+OK\r\n"
        assert connection.ask("SET", "b", 1) == b"+OK\r\n"
        assert connection.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes") == b"+OK\r\n"
        assert connection.ask("SET", "b", 1).startswith(b"-MISCONF")
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, no_limit)
        assert connection.ask("SAVE") == b"+OK\r\n"
        eventually(lambda: connection.ask("SET", "b", 2) == b"+OK\r\n")


def test_a_slow_disk_holds_up_nobody(tmp_path: Path) -> None:
    with shardkv(tmp_path) as server, server.wire() as connection:
        filled(connection)
        saver = stopped_saver(server, connection)
        with Canary(server.port) as canary, server.wire() as other:
            for number in range(3000):
                assert other.ask("SET", f"fill:{number}", "changed") == b"+OK\r\n"
        assert canary.asked > 10
        assert canary.worst_ms < 1000
        assert server.info("persistence")["rdb_bgsave_in_progress"] == "1"
        os.kill(saver, signal.SIGCONT)
        eventually(lambda: server.info("persistence")["rdb_saves"] == "1")
        found = values_in(tmp_path / DUMP)
        assert len(found) == KEYS
        assert all(len(found[b"fill:%d" % number]) == 300 for number in range(3000))
