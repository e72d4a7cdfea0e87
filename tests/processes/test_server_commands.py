"""CONFIG, INFO, SHUTDOWN and the like: one server, though it has many processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import redis

from shardkv import clock
from tests.processes.server import Shardkv, eventually, shardkv
from tests.wire import pack

# -- CONFIG -----------------------------------------------------------------------------------


def test_settings_change_in_every_process(server: Shardkv) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(server.wire()) for _ in range(10)]
        changed = connections[0].ask("CONFIG", "SET", "timeout", 1234, "TCP-KEEPALIVE", 55)
        assert changed == b"+OK\r\n"
        for connection in connections:
            told = connection.ask("CONFIG", "GET", "timeout", "tcp-keep*")
            assert told == b"*4\r\n$7\r\ntimeout\r\n$4\r\n1234\r\n$13\r\ntcp-keepalive\r\n$2\r\n55\r\n"
        assert connections[1].ask("CONFIG", "SET", "timeout", 0, "tcp-keepalive", 300) == b"+OK\r\n"


def test_settings_change_together_or_not_at_all(server: Shardkv) -> None:
    with server.wire() as connection:
        assert connection.ask("CONFIG", "SET", "timeout", 5, "tcp-keepalive", "x").startswith(
            b"-ERR CONFIG SET failed"
        )
        assert connection.ask("CONFIG", "SET", "timeout", 5, "tcp-keepalive") == b"-ERR syntax error\r\n"
        assert connection.ask("CONFIG", "GET", "timeout") == b"*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n"


def test_a_process_that_is_started_anew_has_the_changed_settings() -> None:
    with shardkv(proxies=1, workers=2) as server:
        with server.wire() as connection:
            assert connection.ask("CONFIG", "SET", "timeout", 99, "requirepass", "x") == b"+OK\r\n"
            [proxy] = server.pids("proxy")
            os.kill(proxy, signal.SIGKILL)
            connection.ends()
        eventually(lambda: server.pids("proxy") not in ([], [proxy]))
        with server.wire() as connection:
            assert connection.ask("PING") == b"-NOAUTH Authentication required.\r\n"
            assert connection.ask("AUTH", "x") == b"+OK\r\n"
            assert connection.ask("CONFIG", "GET", "timeout") == b"*2\r\n$7\r\ntimeout\r\n$2\r\n99\r\n"


def test_rewrite_keeps_the_changed_settings(tmp_path: Path) -> None:
    file = tmp_path / "own.conf"
    file.write_text("# mine\ntimeout 7\n")
    data = tmp_path / "data"
    data.mkdir()
    with shardkv(data, config=file) as server, server.wire() as connection:
        assert server.info("server")["config_file"] == str(file)
        connection.ask("CONFIG", "SET", "timeout", 8, "maxclients", 77)
        assert connection.ask("CONFIG", "REWRITE") == b"+OK\r\n"
    lines = file.read_text().splitlines()
    assert lines[:2] == ["# mine", "timeout 8"]
    assert "maxclients 77" in lines
    with shardkv(data, config=file) as server, server.wire() as connection:
        assert connection.ask("CONFIG", "GET", "maxclients") == b"*2\r\n$10\r\nmaxclients\r\n$2\r\n77\r\n"


def test_the_number_of_processes_stays_open_in_a_rewritten_file(tmp_path: Path) -> None:
    file = tmp_path / "own.conf"
    file.write_text("workers 0\nproxies 0\n")
    with shardkv(config=file, workers=0, proxies=0) as server, server.wire() as connection:
        assert connection.ask("CONFIG", "REWRITE") == b"+OK\r\n"
    assert file.read_text().splitlines()[:2] == ["workers 0", "proxies 0"]


def test_without_a_file_there_is_nothing_to_rewrite(server: Shardkv) -> None:
    with server.wire() as connection:
        assert connection.ask("CONFIG", "REWRITE") == b"-ERR The server is running without a config file\r\n"


def test_the_limit_on_arguments_follows_its_setting() -> None:
    with shardkv(proxies=2) as server, server.wire() as connection, server.wire() as other:
        assert connection.ask("CONFIG", "SET", "proto-max-bulk-len", "1mb") == b"+OK\r\n"
        other.send_bytes(b"*2\r\n$4\r\nECHO\r\n$1048577\r\n")
        assert other.ends() == b"-ERR Protocol error: invalid bulk length\r\n"


# -- INFO -------------------------------------------------------------------------------------


def sections(text: str) -> list[str]:
    return re.findall(r"^# (\w+)\r$", text, re.MULTILINE)


def test_sections(server: Shardkv) -> None:
    default = [
        *("Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Modules"),
        *("Errorstats", "Cluster", "Keyspace", "Shards"),
    ]
    every = [*default[:8], "Commandstats", "Errorstats", "Latencystats", *default[9:]]
    with server.wire() as connection:
        assert sections(connection.text("INFO")) == default
        assert sections(connection.text("INFO", "default")) == default
        assert sections(connection.text("INFO", "ALL")) == every
        assert sections(connection.text("INFO", "everything")) == every
        assert sections(connection.text("INFO", "cpu", "nosuch", "Server")) == ["Server", "CPU"]
        assert connection.ask("INFO", "nosuch") == b"$0\r\n\r\n"


def test_redis_py_reads_all_of_it(server: Shardkv) -> None:
    client = redis.Redis(port=server.port)
    told = client.info("everything")
    client.close()
    assert told["redis_version"] == "7.2.4"
    assert told["role"] == "master"
    assert told["shard0"]["state"] == "up"
    assert told["shard1"]["slots"] == 8192
    assert told["used_memory"] > 10_000_000
    assert told["connected_clients"] >= 1
    assert re.fullmatch("[0-9a-f]{40}", told["run_id"])
    assert told["run_id"] != told["master_replid"]


def test_identity_outlives_processes() -> None:
    with shardkv(proxies=1, workers=1) as server:
        before = server.info()
        for kind in ("proxy", "worker"):
            [pid] = server.pids(kind)
            os.kill(pid, signal.SIGKILL)
            eventually(lambda kind=kind, pid=pid: server.pids(kind) not in ([], [pid]))  # type: ignore[misc]
        eventually(lambda: "state=up" in server.info()["shard0"])
        after = server.info()
        same = ("run_id", "master_replid", "process_id")
        assert [before[name] for name in same] == [after[name] for name in same]
        assert "restarts=1" in after["shard0"]


def test_counts_are_of_all_shards_and_proxies() -> None:
    with shardkv(proxies=2, workers=2) as server, ExitStack() as stack:
        # What was asked until the server was ready does not count.
        with server.wire() as connection:
            assert connection.ask("CONFIG", "RESETSTAT") == b"+OK\r\n"
        connections = [stack.enter_context(server.wire()) for _ in range(8)]
        for number, connection in enumerate(connections):
            connection.ask("SET", f"key{number}", "x" * 1000)
            connection.ask("SET", f"brief{number}", "x", "EX", 100)
        for number, connection in enumerate(connections):
            connection.ask("GET", f"key{number}")
            connection.ask("GET", f"none{number}")
            connection.ask("GET")
            connection.ask("NOSUCH")
            connection.ask("INCR", f"key{number}")
            connection.ask("MGET", "key0", "key1", "key2", "key3")
        told = server.info()
        assert told["db0"].startswith("keys=16,expires=8,avg_ttl=9")
        assert told["keyspace_hits"] == str(8 + 8 * 4)
        assert told["keyspace_misses"] == "8"
        assert told["errorstat_ERR"] == "count=24"
        assert told["total_error_replies"] == "24"
        assert told["cmdstat_get"].startswith("calls=16,")
        assert told["cmdstat_get"].endswith(",rejected_calls=8,failed_calls=0")
        assert told["cmdstat_incr"].endswith(",rejected_calls=0,failed_calls=8")
        assert told["cmdstat_mget"].startswith("calls=8,usec=")
        assert int(told["cross_shard_commands"]) == 8
        assert int(told["total_net_input_bytes"]) > 9_000
        assert int(told["total_net_output_bytes"]) > 40_000
        assert int(told["total_connections_received"]) == 9
        assert int(told["rdb_changes_since_last_save"]) >= 16
        assert int(told["aof_current_size"]) > 8_000
        calls = [int(re.match(r"calls=(\d+)", told[name])[1]) for name in told if name.startswith("cmdstat_")]  # type: ignore[index]
        # The INFO that tells this has begun, but is not counted yet.
        assert sum(calls) == int(told["total_commands_processed"])


def test_info_tells_of_transactions() -> None:
    with shardkv(proxies=2, workers=2) as server, server.wire() as one, server.wire() as other:
        keys = [f"key{number}" for number in range(8)]
        one.ask("WATCH", *keys)
        one.ask("MULTI")
        one.ask("SET", "key0", "x" * 100)
        told = server.info()
        assert told["watching_clients"] == "1"
        assert told["total_watched_keys"] == "8"
        # The keys of one client are watched on the shards that hold them.
        shards = [dict(field.split("=") for field in told[f"shard{index}"].split(",")) for index in (0, 1)]
        assert sum(int(shard["watched_keys"]) for shard in shards) == 8
        assert [shard["in_doubt"] for shard in shards] == ["0", "0"]
        line = next(line for line in other.text("CLIENT", "LIST").splitlines() if " multi=1 " in line)
        assert " multi-mem=107 " in line
        assert " flags=x " in line
        assert one.ask("EXEC") == b"*1\r\n+OK\r\n"
        for _ in range(3):
            one.ask("MULTI")
            one.ask("RPUSH", "list0", "x")
            for number in range(4):
                one.ask("LMOVE", f"list{number}", f"list{number + 1}", "LEFT", "RIGHT")
            one.ask("EXEC")
        told = server.info()
        assert told["watching_clients"] == told["total_watched_keys"] == "0"
        assert int(told["cross_shard_transactions"]) == 4
        assert int(told["cross_shard_tokens"]) >= 3
        assert int(told["cross_shard_token_wait_usec"]) > 0


def test_resetstat_counts_from_zero() -> None:
    with shardkv(proxies=2, workers=2) as server, server.wire() as connection:
        for number in range(20):
            connection.ask("SET", f"key{number}", "x")
            connection.ask("GET", f"key{number}")
        assert connection.ask("CONFIG", "RESETSTAT") == b"+OK\r\n"
        told = server.info()
        assert "cmdstat_set" not in told
        assert told["keyspace_hits"] == "0"
        assert told["total_connections_received"] == "1"
        assert told["db0"] == "keys=20,expires=0,avg_ttl=0"


def test_memory_is_that_of_all_processes() -> None:
    with shardkv(proxies=1, workers=2) as server, server.wire() as connection:
        before = int(server.info("memory")["used_memory"])
        for number in range(50):
            connection.ask("SET", f"key{number}", b"x" * 1_000_000)
        told = server.info("memory")
        own = psutil.Process(server.process.pid)
        used = sum(process.memory_full_info().pss for process in [own, *own.children(recursive=True)])
        assert int(told["used_memory"]) == pytest.approx(used, rel=0.1)
        assert int(told["used_memory"]) - before > 50_000_000
        assert int(told["used_memory_peak"]) >= int(told["used_memory"])


def test_operations_per_second() -> None:
    with shardkv(proxies=2, workers=1) as server, server.wire() as connection:
        begun_s = clock.monotonic()
        count = 0
        while clock.monotonic() - begun_s < 2:
            connection.ask("GET", "a")
            count += 1
        rate = count / (clock.monotonic() - begun_s)
        assert float(server.info("stats")["instantaneous_ops_per_sec"]) == pytest.approx(rate, rel=0.5)
        eventually(lambda: float(server.info("stats")["instantaneous_ops_per_sec"]) < rate / 5)


def test_a_shard_that_is_busy_does_not_hold_up_info() -> None:
    with (
        shardkv(proxies=1, workers=2, enable_debug_command="yes") as server,
        server.wire() as sleeping,
        server.wire() as connection,
    ):
        sleeping.send("DEBUG", "SLEEP", "3")
        eventually(lambda: "busy" in connection.text("INFO", "shards"), timeout_s=4)
        assert sleeping.receive() == b"+OK\r\n"


# -- files and the end ------------------------------------------------------------------------


def test_bgrewriteaof_shortens_the_files_of_all_shards() -> None:
    with shardkv(workers=2) as server, server.wire() as connection:
        for number in range(2000):
            connection.send("SET", f"key{number % 10}", "x" * 100)
        for _ in range(2000):
            connection.receive()
        before = int(server.info("persistence")["aof_current_size"])
        assert connection.ask("BGREWRITEAOF") == b"+Background append only file rewriting started\r\n"
        eventually(lambda: server.info("persistence")["aof_rewrites"] == "2")
        assert int(server.info("persistence")["aof_current_size"]) < before / 10


@pytest.mark.parametrize(
    "how", ["SHUTDOWN", "SHUTDOWN NOSAVE", "SHUTDOWN SAVE NOW FORCE", "SIGTERM", "SIGINT"]
)
@pytest.mark.parametrize("proxies", [1, 2])
def test_an_orderly_end_loses_nothing(how: str, proxies: int, tmp_path: Path) -> None:
    with shardkv(tmp_path, proxies=proxies, workers=2) as server, ExitStack() as stack:
        writers = [stack.enter_context(server.wire()) for _ in range(4)]
        for number, writer in enumerate(writers):
            writer.send_bytes(b"".join(pack("SET", f"key{number}-{each}", each) for each in range(500)))
        with server.wire() as connection:
            if how.startswith("SHUTDOWN"):
                connection.send(*how.split())
            else:
                server.process.send_signal(getattr(signal, how))
            assert connection.ends() == b""
        answered = [writer.ends().count(b"+OK\r\n") for writer in writers]
        server.process.wait(20)
    with shardkv(tmp_path, workers=2) as server, server.wire() as connection:
        eventually(lambda: server.info("persistence")["loading"] == "0")
        for number, count in enumerate(answered):
            connection.send_bytes(b"".join(pack("GET", f"key{number}-{each}") for each in range(count)))
            kept = [connection.receive() for _ in range(count)]
            assert kept == [b"$%d\r\n%d\r\n" % (len(str(each)), each) for each in range(count)]


def test_who_is_held_up_does_not_hold_up_the_end() -> None:
    with shardkv(workers=1, shutdown_timeout=2) as server, server.wire() as held, server.wire() as other:
        other.ask("CLIENT", "PAUSE", 60000, "WRITE")
        held.send("SET", "a", "1")
        eventually(lambda: " flags=b " in other.text("CLIENT", "LIST"))
        begun_s = clock.monotonic()
        assert server.stop() == 0
        assert clock.monotonic() - begun_s < 5


def test_without_an_append_only_file_there_is_nothing_to_rewrite() -> None:
    with shardkv(workers=1, appendonly="no") as server, server.wire() as connection:
        assert connection.ask("BGREWRITEAOF").startswith(b"-ERR there is no append only file")
        connection.send("SHUTDOWN")
        connection.ends()
        assert server.process.wait(20) == 0


def test_redis_cli_and_its_shutdown() -> None:
    with shardkv(workers=1) as server:
        run = subprocess.run(
            ["redis-cli", "-p", str(server.port), "-3", "CONFIG", "GET", "maxcl*"],
            capture_output=True,
            check=True,
        )
        assert b"10000" in run.stdout
        subprocess.run(["redis-cli", "-p", str(server.port), "SHUTDOWN"], check=True)
        assert server.process.wait(20) == 0


# -- at rest ----------------------------------------------------------------------------------


def test_an_idle_server_is_idle() -> None:
    with shardkv(workers=2, proxies=1) as server:
        eventually(lambda: "state=up" in server.info()["shard1"])
        processes = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children()]

        def used_s() -> float:
            return sum(sum(process.cpu_times()[:2]) for process in processes)

        before_s = used_s()
        time.sleep(3)
        assert used_s() - before_s < 0.01 * 3 + 0.02
