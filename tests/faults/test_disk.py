"""A disk that is full, broken or slow, under a whole server: nothing acknowledged is lost, and it heals."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardkv import clock
from shardkv.aof.disk import Disk
from shardkv.aof.manifest import DEFAULT_FILENAME, manifest_name, read_manifest
from tests.faults.shim import (
    AOF,
    EVERYTHING,
    MANIFEST,
    SIDE_LOG,
    SLOT_MAP,
    UNLIMITED,
    Shim,
    needs_gcc,
    shimmed,
)
from tests.faults.test_kills import write_during
from tests.processes.server import Shardkv, eventually, shardkv
from tests.wire import Connection

pytestmark = needs_gcc

OK = b"+OK\r\n"
DIED = -signal.SIGKILL


@pytest.fixture
def shim(tmp_path: Path) -> Iterator[Shim]:
    with shimmed(tmp_path) as shim:
        yield shim


def misconf(reply: bytes) -> bool:
    return reply.startswith(b"-MISCONF Errors writing to the AOF file")


def kill(server: Shardkv) -> None:
    server.process.kill()
    server.process.wait()


def restarts(server: Shardkv) -> int:
    info = server.info("shards")
    lines = [line for line in info.values() if "restarts=" in line]
    return sum(int(line.split("restarts=")[1].split(",")[0]) for line in lines)


# -- no space, or errors, on append ---------------------------------------------------------------


@pytest.mark.parametrize(("policy", "room"), [("always", 150), ("everysec", 0)])
def test_a_full_disk_refuses_writes_serves_reads_and_heals(shim: Shim, policy: str, room: int) -> None:
    with (
        shardkv(shim.folder, workers=1, appendfsync=policy, exit_code=DIED) as server,
        server.wire() as client,
    ):
        assert client.ask("SET", "before", "1") == OK
        shim.kinds, shim.room = AOF, room
        for number in range(5):
            if client.ask("SET", f"during:{number}", "x" * 100) == OK:
                assert not number
        assert misconf(client.ask("SET", "refused", "1"))
        assert client.ask("GET", "before") == b"$1\r\n1\r\n"
        assert server.info("persistence")["aof_last_write_status"] == "err"
        shim.room = UNLIMITED
        eventually(lambda: client.ask("SET", "after", "2") == OK)
        assert server.info("persistence")["aof_last_write_status"] == "ok"
        kill(server)
    # No torn record may be left behind: with `no` it would be refused.
    with shardkv(shim.folder, workers=1, aof_load_truncated="no") as server, server.wire() as client:
        assert client.ask("MGET", "before", "after", "refused") == b"*3\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n"


def test_errors_of_the_disk_lose_nothing_acknowledged(shim: Shim) -> None:
    """Writers go on while writing fails again and again, at random places; at last everybody dies."""
    rng = random.Random(1)
    with shardkv(shim.folder, workers=2, appendfsync="always", exit_code=DIED) as server:

        def disturb() -> None:
            shim.kinds = AOF | SIDE_LOG
            for _ in range(8):
                clock.sleep(rng.uniform(0.02, 0.08))
                if rng.random() < 0.5:
                    shim.room = rng.randrange(3000)
                else:
                    shim.write_errno = errno.EIO
                clock.sleep(rng.uniform(0.02, 0.08))
                shim.well()
            clock.sleep(0.2)
            kill(server)

        writers = write_during(server, disturb)
        assert shim.failed
        assert any(b"-MISCONF" in writer.errors for writer in writers)
    with shardkv(shim.folder, workers=2, aof_load_truncated="no") as server:
        for writer in writers:
            assert writer.errors <= {b"-MISCONF"}
            assert len(writer.acknowledged) == len(writer.keys)
            writer.check(server)


def test_a_file_system_that_is_really_full(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(mount)]
    if (
        os.getuid()
        or shutil.which("mount") is None
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("a file system can be mounted by root alone")
    try:
        with (
            shardkv(mount, workers=1, appendfsync="always", exit_code=DIED) as server,
            server.wire() as client,
        ):
            acknowledged = 0
            while (reply := client.ask("SET", f"key{acknowledged}", "x" * 1000)) == OK:
                acknowledged += 1
            assert misconf(reply)
            assert acknowledged > 50
            assert client.ask("GET", "key0") == b"$1000\r\n" + b"x" * 1000 + b"\r\n"
            subprocess.run(["mount", "-o", "remount,size=1m", str(mount)], check=True)
            eventually(lambda: client.ask("SET", "again", "1") == OK)
            kill(server)
        with shardkv(mount, workers=1, aof_load_truncated="no") as server, server.wire() as client:
            found = client.ask("EXISTS", "again", *(f"key{number}" for number in range(acknowledged)))
            assert found == b":%d\r\n" % (acknowledged + 1)
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


# -- fsync ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_failed_fsync_has_the_shard_read_again_what_is_on_disk(shim: Shim, policy: str) -> None:
    with shardkv(shim.folder, workers=2, appendfsync=policy) as server, server.wire() as client:
        keys = [f"key{number}" for number in range(20)]
        for key in keys:
            assert client.ask("SET", key, "before") == OK
        assert client.ask("WAITAOF", 1, 0, 5000) == b"*2\r\n:1\r\n:0\r\n"
        shim.kinds, shim.sync_errno = AOF, errno.EIO
        reply = client.ask("SET", keys[0], "lost")
        assert reply.startswith(b"-SHARDDOWN" if policy == "always" else b"+OK")
        eventually(lambda: shim.failed > 0)
        replies = {client.ask("GET", key) for key in keys}
        assert b"$6\r\nbefore\r\n" in replies, "the other shard goes on"
        shim.well()
        eventually(lambda: restarts(server) >= 1)
        for key in keys[1:]:
            eventually(lambda key=key: client.ask("GET", key) == b"$6\r\nbefore\r\n")  # type: ignore[misc]
        eventually(lambda: client.ask("SET", keys[0], "after") == OK)
        assert "fsync has failed" in server.log.read_text()


def test_a_failed_fsync_of_the_side_log_is_no_less_final(shim: Shim) -> None:
    with shardkv(shim.folder, workers=2, appendfsync="always") as server, server.wire() as client:
        pairs = [word for number in range(20) for word in (f"key{number}", "before")]
        assert client.ask("MSET", *pairs) == OK
        shim.kinds, shim.sync_errno = SIDE_LOG, errno.EIO
        reply = client.ask("MSET", *pairs[::1][:-1], "after")
        assert reply.startswith(b"-")
        shim.well()
        eventually(lambda: restarts(server) >= 1)
        values = {b"before", b"after"}
        eventually(lambda: client.ask("MSET", *pairs) == OK, 20)
        found = client.ask("MGET", *pairs[::2])
        assert {word for word in found.split(b"\r\n")[2::2] if word} <= values


def test_a_slow_fsync_delays_writes_by_a_bounded_time_and_is_counted(shim: Shim) -> None:
    with shardkv(shim.folder, workers=1, appendfsync="everysec") as server, server.wire() as client:
        shim.kinds, shim.sync_delay_us = AOF, 3_500_000
        worst_s = 0.0

        def delayed() -> bool:
            nonlocal worst_s
            begun_s = clock.monotonic()
            assert client.ask("SET", "key", "value") == OK
            worst_s = max(worst_s, clock.monotonic() - begun_s)
            return server.info("persistence")["aof_delayed_fsync"] != "0"

        eventually(delayed, 15)
        assert "aof_delayed_fsync=0" not in server.info("shards")["shard0"]
        assert server.info("persistence")["aof_pending_bio_fsync"] == "1"
        shim.well()
        # Replies do not wait for what waits for the disk.
        assert worst_s < 2.5
        assert client.ask("WAITAOF", 1, 0, 10_000) == b"*2\r\n:1\r\n:0\r\n"


def test_waitaof_says_what_is_on_disk_also_when_it_fails(shim: Shim) -> None:
    with shardkv(shim.folder, workers=2, appendfsync="everysec") as server, server.wire() as client:
        assert client.ask("SET", "a", "1") == OK
        assert client.ask("WAITAOF", 1, 0, 5000) == b"*2\r\n:1\r\n:0\r\n"
        shim.kinds, shim.write_errno = AOF, errno.ENOSPC
        assert misconf(client.ask("SET", "a", "2"))
        assert client.ask("WAITAOF", 1, 0, 100) == b"*2\r\n:0\r\n:0\r\n"
        shim.well()
        assert client.ask("WAITAOF", 1, 0, 5000) == b"*2\r\n:1\r\n:0\r\n"
        shim.sync_errno = errno.EIO
        client.ask("SET", "a", "3")
        assert client.ask("WAITAOF", 1, 0, 3000) == b"*2\r\n:0\r\n:0\r\n"
        shim.well()
        eventually(lambda: client.ask("SET", "a", "4") == OK)
        assert client.ask("WAITAOF", 1, 0, 5000) == b"*2\r\n:1\r\n:0\r\n"


# -- files that are replaced --------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [MANIFEST, AOF | MANIFEST])
def test_a_rewrite_that_finds_no_space_changes_nothing(shim: Shim, kinds: int) -> None:
    with shardkv(shim.folder, workers=1, appendfsync="always") as server, server.wire() as client:
        for number in range(50):
            assert client.ask("SET", f"key{number}", "value") == OK
        shim.kinds, shim.room = kinds, 0
        client.ask("BGREWRITEAOF")
        eventually(lambda: server.info("persistence")["aof_last_bgrewrite_status"] == "err")
        shim.well()
        eventually(lambda: client.ask("SET", "after", "1") == OK)
        client.ask("BGREWRITEAOF")
        eventually(lambda: server.info("persistence")["aof_rewrites"] == "1")
        persistence = server.info("persistence")
        assert persistence["aof_last_bgrewrite_status"] == "ok"
        assert persistence["aof_rewrites_consecutive_failures"] == "0"
        assert len(list((shim.folder / "appendonlydir/shard-0").iterdir())) == 3
    with shardkv(shim.folder, workers=1, aof_load_truncated="no") as server, server.wire() as client:
        assert client.ask("DBSIZE") == b":51\r\n"


def test_a_rewrite_that_fails_again_and_again_is_not_begun_for_ever(shim: Shim) -> None:
    with (
        shardkv(shim.folder, workers=1, auto_aof_rewrite_min_size="64kb") as server,
        server.wire() as client,
    ):
        shim.kinds, shim.room = MANIFEST, 0
        for _ in range(100):
            assert client.ask("SET", "key", "x" * 1000) == OK
        eventually(lambda: server.info("persistence")["aof_rewrites_consecutive_failures"] == "3")
        until_s = clock.monotonic() + 0.5
        eventually(lambda: clock.monotonic() > until_s)
        assert server.info("persistence")["aof_rewrites_consecutive_failures"] == "3"
        # Who asks for one gets it at once.
        shim.well()
        client.ask("BGREWRITEAOF")
        eventually(lambda: server.info("persistence")["aof_rewrites"] == "1")


def test_a_log_that_cannot_be_begun_is_begun_when_it_can(shim: Shim) -> None:
    with shardkv(shim.folder, workers=1, appendonly="no") as server, server.wire() as client:
        assert client.ask("SET", "a", "1") == OK
        shim.room = 0
        client.ask("CONFIG", "SET", "appendonly", "yes")
        eventually(lambda: misconf(client.ask("SET", "b", "1")))
        assert client.ask("GET", "a") == b"$1\r\n1\r\n"
        shim.well()
        eventually(lambda: client.ask("SET", "c", "1") == OK)
        eventually(lambda: server.info("persistence")["aof_rewrites"] == "1")
    with shardkv(shim.folder, workers=1) as server, server.wire() as client:
        assert client.ask("MGET", "a", "c") == b"*2\r\n$1\r\n1\r\n$1\r\n1\r\n"


def test_a_slot_map_that_cannot_be_written_lets_nothing_begin(shim: Shim) -> None:
    shim.kinds, shim.write_errno = SLOT_MAP, errno.ENOSPC
    with pytest.raises(RuntimeError, match="No space left on device"), shardkv(shim.folder):
        pass
    shim.well()
    with shardkv(shim.folder) as server, server.wire() as client:
        assert client.ask("SET", "a", "1") == OK


# -- death at every call of a rewrite ---------------------------------------------------------------


def die_while_rewriting(shim: Shim, call: int, torn_percent: int) -> bool:
    """Has a worker die at its n-th call after a rewrite was asked for, while clients write; whether it had
    so many calls. Checks what there is then, and that no files pile up."""
    with shardkv(shim.folder, workers=1, appendfsync="always") as server, server.wire() as client:
        assert client.ask("MSET", *(word for n in range(20) for word in (f"key{n}", call))) == OK
        shim.torn_percent, shim.dies_at, shim.calls, shim.kinds = torn_percent, call, 0, EVERYTHING
        client.ask("BGREWRITEAOF")
        acknowledged = written = 0
        while not (done := server.info("persistence").get("aof_rewrites") == "1") and shim.calls < call:
            written += 1
            if client.ask("SET", "counter", written) == OK:
                acknowledged = written
        shim.kinds = 0
        if not done:
            eventually(lambda: restarts(server) == 1)
        eventually(lambda: client.ask("DBSIZE").startswith(b":"))
        _check(client, call, acknowledged, written)
        eventually(lambda: no_orphans(shim.folder / "appendonlydir/shard-0"))
        return not done


def no_orphans(folder: Path) -> bool:
    """Whether there is nothing but the manifest, and what it names."""
    manifest = read_manifest(Disk(), folder, DEFAULT_FILENAME)
    assert manifest is not None
    return {path.name for path in folder.iterdir()} == manifest.names | {manifest_name(DEFAULT_FILENAME)}


def _check(client: Connection, call: int, acknowledged: int, written: int) -> None:
    for number in range(20):
        assert client.text("GET", f"key{number}") == str(call)
    if acknowledged:
        assert acknowledged <= int(client.text("GET", "counter")) <= written


@pytest.mark.parametrize("seed", range(2))
def test_death_at_some_calls_of_a_rewrite(shim: Shim, seed: int) -> None:
    rng = random.Random(seed)
    died = [die_while_rewriting(shim, call, rng.randrange(101)) for call in rng.sample(range(1, 25), 4)]
    assert sum(died) >= 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("torn_percent", [0, 50, 100])
def test_death_at_every_call_of_a_rewrite(shim: Shim, torn_percent: int) -> None:
    call = 1
    while die_while_rewriting(shim, call, torn_percent) or call < 25:
        call += 1
    assert call > 25
