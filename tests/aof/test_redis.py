"""Real servers load what the log writes, and redis-check-aof accepts every file of it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from shardkv import clock
from shardkv.aof import record
from tests.aof.disks import Inline
from tests.aof.logs import open_log, put, replay
from tests.twin.servers import valkey

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server here")
needs_check = pytest.mark.skipif(shutil.which("redis-check-aof") is None, reason="no redis-check-aof here")

ODD = b"binary \x00\xff\r\n#shardkv *3\r\n$3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A shard's folder with a base and two increments, batches with keys, annotations and transactions."""
    folder = tmp_path / "appendonlydir" / "shard-0"
    log = open_log(folder, background=Inline())
    put(log, b"SELECT", 0)
    put(log, b"SET", b"gone", b"1")
    assert log.commit()
    rewrite = log.begin_rewrite()
    assert rewrite.start()
    rewrite.write(record([b"SELECT", 0]) + record([b"SET", b"base", ODD]))
    rewrite.write(record([b"RPUSH", b"list", b"a", b"b"]))
    rewrite.finish()
    put(log, b"SELECT", 0)
    put(log, b"MULTI")
    put(log, b"INCR", b"counter")
    put(log, b"INCR", b"counter")
    put(log, b"EXEC")
    assert log.commit()
    rewrite = log.begin_rewrite()
    assert rewrite.start()
    log.add_timestamp(1_700_000_000)
    put(log, b"RPUSH", b"list", b"c")
    log.add_batch(
        [record([b"MULTI"]), record([b"INCR", b"counter"]), record([b"EXEC"])], b"txid=1-17 shards=0,3"
    )
    assert log.commit()
    rewrite.abandon()
    for number in range(20):
        put(log, b"SET", b"key:%d" % number, number)
        assert log.commit()
    put(log, b"SELECT", 3)
    put(log, b"SET", b"other", b"first")
    log.close()
    assert len(list(folder.glob("*.incr.aof"))) == 2
    return folder


def _settings(folder: Path) -> dict[str, str]:
    return {
        "appendonly": "yes",
        "appenddirname": folder.name,
        "appendfilename": "appendonly.aof",
        "aof-use-rdb-preamble": "no",
    }


def _check_data(server: redis.Redis) -> None:
    assert server.get("base") == ODD
    assert server.get("gone") is None
    assert server.get("counter") == b"3"
    assert server.lrange("list", 0, -1) == [b"a", b"b", b"c"]
    assert server.get("key:19") == b"19"
    assert server.dbsize() == 23
    server.select(3)
    assert server.get("other") == b"first"


@contextmanager
def _redis_server(folder: Path) -> Iterator[redis.Redis]:
    """redis-server on a unix socket, with the log in `folder`."""
    socket = folder.parent.parent / "redis.sock"
    options = {"port": "0", "unixsocket": str(socket), "save": "", "dir": str(folder.parent)} | _settings(
        folder
    )
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen(
        ["redis-server", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
    )
    client = redis.Redis(unix_socket_path=str(socket))
    try:
        deadline = clock.monotonic() + 20
        while True:
            try:
                client.ping()
                break
            except (redis.ConnectionError, redis.BusyLoadingError):
                if process.poll() is not None or clock.monotonic() > deadline:
                    process.kill()
                    raise AssertionError(process.communicate()[0].decode()) from None
        yield client
    finally:
        client.close()
        process.kill()
        process.communicate()


@needs_redis
def test_redis_server_loads_it(folder: Path) -> None:
    with _redis_server(folder) as server:
        _check_data(server)


def test_valkey_server_loads_it(folder: Path) -> None:
    with valkey(dir=str(folder.parent), **_settings(folder)) as server:
        client = server.connect()
        client.ping()
        _check_data(client)
        client.close()


@needs_check
def test_redis_check_aof_accepts_every_file(folder: Path) -> None:
    paths = sorted(folder.iterdir())
    assert len(paths) == 4
    for path in paths:
        checked = subprocess.run(["redis-check-aof", path], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout
        assert "valid" in checked.stdout


@needs_check
def test_redis_check_aof_can_cut_at_a_timestamp(folder: Path) -> None:
    """Its cut falls into the batch of the timestamp, which is a torn tail to us."""
    path = max(folder.glob("*.incr.aof"))
    before = [words for words in replay(folder).records if words != [b"RPUSH", b"list", b"c"]]
    assert b"#TS:1700000000\r\n" in path.read_bytes()
    subprocess.run(
        ["redis-check-aof", "--truncate-to-timestamp", "1699999999", folder / "appendonly.aof.manifest"],
        input="y\n",
        capture_output=True,
        text=True,
        check=True,
    )
    found = replay(folder)
    assert found.records == before[: len(found.records)]
    assert [b"INCR", b"counter"] in found.records
    assert len(found.result.warnings) == 1
    open_log(folder, background=Inline()).close()
    assert replay(folder, accept_torn=False).records == found.records


@needs_redis
def test_redis_server_loads_what_a_repair_leaves(folder: Path) -> None:
    """What is kept of the torn batch stands in a file of its own, in the database it belongs to."""
    log = open_log(folder, background=Inline())
    put(log, b"SET", b"other", b"database")
    put(log, b"SET", b"torn", b"x")
    log.close()
    path = max(folder.glob("*.incr.aof"))
    path.write_bytes(path.read_bytes()[:-5])
    before = len(list(folder.iterdir()))
    open_log(folder, background=Inline()).close()
    assert len(list(folder.iterdir())) == before + 1
    with _redis_server(folder) as server:
        assert server.get("counter") == b"3"
        server.select(3)
        assert server.get("other") == b"database"
        assert server.get("torn") is None


@needs_redis
def test_a_log_that_redis_went_on_with_is_refused_by_name(folder: Path) -> None:
    """What Redis appends has no headers, so where ours end is named."""
    path = max(folder.glob("*.incr.aof"))
    size = path.stat().st_size
    with _redis_server(folder) as server:
        server.set("by", "redis")
        server.config_set("appendfsync", "always")
        server.set("by", "redis")
    with pytest.raises(Exception, match=f"{path.name}: at byte {size}: not the header of a batch"):
        replay(folder)
