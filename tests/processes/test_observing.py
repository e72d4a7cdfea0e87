"""What operators see: MONITOR, SLOWLOG, COMMANDLOG, LATENCY, MEMORY, of all processes as of one."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hiredis
import pytest

from shardkv import clock
from tests.processes.server import Shardkv, client_id, eventually, on_proxy, shardkv
from tests.twin.servers import Server, redis_7, redis_8
from tests.wire import Connection, pack

# -- the same as a real server ----------------------------------------------------------------

SAME_REPLIES = [
    "SLOWLOG",
    "SLOWLOG FOO",
    "SLOWLOG GET 1 2",
    "SLOWLOG GET -2",
    "SLOWLOG GET foo",
    "SLOWLOG GET 0",
    "SLOWLOG LEN x",
    "SLOWLOG RESET x",
    "SLOWLOG RESET",
    "COMMANDLOG GET",
    "COMMANDLOG GET 1",
    "COMMANDLOG GET 1 foo",
    "COMMANDLOG GET -3 slow",
    "COMMANDLOG GET x slow",
    "COMMANDLOG GET -3 foo",
    "COMMANDLOG LEN foo",
    "COMMANDLOG LEN LARGE-request",
    "COMMANDLOG RESET foo",
    "COMMANDLOG RESET large-reply",
    "LATENCY FOO",
    "LATENCY GRAPH",
    "LATENCY GRAPH foo",
    "LATENCY HISTORY foo",
    "LATENCY LATEST",
    "LATENCY LATEST x",
    "LATENCY RESET",
    "LATENCY RESET foo bar",
    "LATENCY HISTOGRAM nosuch",
    "MEMORY FOO",
    "MEMORY DOCTOR x",
    "MEMORY PURGE",
    "MEMORY USAGE",
    "MEMORY USAGE key SAMPLES",
    "MONITOR x",
    "CONFIG SET latency-tracking-info-percentiles x",
    "CONFIG SET latency-tracking-info-percentiles 101",
    "CONFIG GET latency-tracking*",
    "CONFIG SET commandlog-reply-larger-than -2",
    "CONFIG GET commandlog*",
    "CONFIG GET slowlog*",
]


@pytest.mark.parametrize("request_line", SAME_REPLIES)
def test_replies_are_those_of_a_real_server(server: Shardkv, twin_server: Server, request_line: str) -> None:
    with server.wire(3) as ours, Connection(twin_server.port, 3) as theirs:
        assert ours.ask(*request_line.split()) == theirs.ask(*request_line.split())


MONITORED = [
    *("set a b", "get a", "nosuch x", "get", "LPUSH a x"),
    *("MULTI", "SET q 1", "GET q", "EXEC"),
    *("MULTI", "SET x", "EXEC", "MULTI", "set y 1", "DISCARD"),
    *("WATCH a", "MULTI", "set a 2", "AUTH x y", "CONFIG GET port", "MSET a 3 b 4", "EXEC"),
    'EVAL redis.call("set",KEYS[1],"y");return(redis.call("get",KEYS[1])) 1 k',
    'EVAL redis.call("set","k1","y");redis.call("set","k2","y");return(redis.call("mget","k1","k2")) 0',
    *("BLPOP l 0.001", "RPUSH l 1", "BLPOP l none 0"),
    *("AUTH x y", "AUTH y", "HELLO 3 AUTH default x SETNAME bob", "HELLO 2"),
    *("CONFIG GET port", "SLOWLOG LEN", "LATENCY RESET", "CLIENT ID", "CLIENT LIST", "DEBUG HELP"),
    *(
        "SELECT 2",
        "SELECT x",
        "PING",
        "DBSIZE",
        "MSET a 1 b 2 c 3",
        "DEL a b c",
        "SUBSCRIBE ch",
        "PUBLISH ch x",
    ),
    *("MEMORY USAGE a", "OBJECT ENCODING a", "COMMAND COUNT", "TIME", "RESET", "ECHO end"),
]

STAMP = re.compile(rb"\+\d{10}\.\d{6} \[(\d+) (127.0.0.1:\d+|lua)\] (.*)\r\n", re.DOTALL)


def monitored(monitor: Connection, client: Connection) -> list[tuple[bytes, bytes, bytes]]:
    """What a client that monitors is shown of another one, up to the last: database, source, command."""
    shown: list[tuple[bytes, bytes, bytes]] = []
    own = b"127.0.0.1:%d" % client.port
    while not shown or shown[-1][2] != b'"ECHO" "end"':
        line = monitor.receive()
        found = STAMP.fullmatch(line)
        assert found is not None, line
        db, source, words = found.groups()
        if source in (own, b"lua"):
            shown.append((db, b"client" if source == own else source, words))
    return shown


def test_monitors_see_what_those_of_a_real_server_see(server: Shardkv) -> None:
    with redis_7() as real, Connection(real.port) as monitor, Connection(real.port) as client:
        assert monitor.ask("MONITOR") == b"+OK\r\n"
        for request in MONITORED:
            client.ask(*request.split())
        expected = monitored(monitor, client)
    proxies = len(server.pids("proxy"))
    monitors = [on_proxy(server, number % proxies, proxies) for number in range(2)]
    for monitor in monitors:
        assert monitor.ask("MONITOR") == b"+OK\r\n"
    with server.wire() as client:
        for request in MONITORED:
            client.ask(*request.split())
        for monitor in monitors:
            assert monitored(monitor, client) == expected
            monitor.socket.close()
        client.ask("FLUSHALL")


def test_words_are_shown_in_one_line(server: Shardkv) -> None:
    with server.wire() as monitor, server.wire() as client:
        monitor.ask("MONITOR")
        client.ask("ECHO", b'a"\\\n\r\t\a\b\x00\xff ')
        assert monitor.receive().endswith(b'] "ECHO" "a\\"\\\\\\n\\r\\t\\a\\b\\x00\\xff "\r\n')


def test_who_monitors_cannot_touch_keys_and_is_shown_as_such(server: Shardkv) -> None:
    with server.wire() as monitor:
        number = client_id(monitor)
        assert monitor.ask("MONITOR") == b"+OK\r\n"
        for request in ("GET a", "SET a b", "PUBLISH a b", "MGET a b"):
            refused = b"-ERR Replica can't interact with the keyspace\r\n"
            assert _first(monitor, request.split(), refused) == refused
        with server.wire() as other:
            assert " flags=O " in other.text("CLIENT", "LIST", "ID", str(number))
        assert _first(monitor, ["RESET"], b"+RESET\r\n") == b"+RESET\r\n"
        assert monitor.ask("GET", "a") == b"$-1\r\n"
        assert " flags=N " in monitor.text("CLIENT", "INFO")


def _first(monitor: Connection, words: Sequence[str], reply: bytes) -> bytes:
    """The reply to a request among the lines that come beside it."""
    received = monitor.ask(*words)
    while STAMP.fullmatch(received):
        received = monitor.receive()
    return received


def test_not_within_a_transaction(server: Shardkv, debuggable_twin: Server) -> None:
    with server.wire() as ours, Connection(debuggable_twin.port) as theirs:
        for request in ("MULTI", "MONITOR", "EXEC", "PING"):
            assert ours.ask(request) == theirs.ask(request)


def test_a_pipeline_of_any_length_is_shown_whole_and_in_order(server: Shardkv) -> None:
    count = 5000
    with server.wire() as monitor, server.wire() as client:
        monitor.ask("MONITOR")
        client.send_bytes(b"".join(pack("GET", str(number)) for number in range(count)))
        for _ in range(count):
            assert client.receive() == b"$-1\r\n"
        words = [STAMP.fullmatch(monitor.receive()) for _ in range(count)]
        assert [found and found[3] for found in words] == [b'"GET" "%d"' % number for number in range(count)]


def test_it_ends_when_nobody_monitors_any_more(server: Shardkv) -> None:
    """Then requests go the fast way again: the gate is gone, and scripts are not told of."""
    with server.wire() as client:
        with server.wire() as monitor:
            monitor.ask("MONITOR")
            client.ask("EVAL", "return redis.call('get', KEYS[1])", 1, "a")
        eventually(lambda: "flags=O" not in client.text("CLIENT", "LIST"))
        with server.wire() as monitor:
            monitor.ask("MONITOR")
            client.ask("EVAL", "return redis.call('get', KEYS[1])", 1, "a")
            assert b'"EVAL"' in monitor.receive()
            assert b'[0 lua] "get" "a"' in monitor.receive()


def test_secrets_are_shown_to_nobody(server: Shardkv) -> None:
    with server.wire() as monitor, server.wire() as client, slower_than(server, 0):
        client.ask("SLOWLOG", "RESET")
        monitor.ask("MONITOR")
        for request in (
            "AUTH hunter2",
            "AUTH default hunter2",
            "HELLO 2 AUTH default hunter2",
            "HELLO 2 SETNAME me AUTH default hunter2",
            "CONFIG SET timeout 0 requirepass hunter2",
            "CONFIG SET requirepass ",
        ):
            client.ask(*request.split(" "))
        client.ask("ECHO", "end")
        shown = b""
        while not shown.endswith(b'"ECHO" "end"\r\n'):
            shown += monitor.receive()
        entries = client.ask("SLOWLOG", "GET", -1)
        assert b"(redacted)" in shown
        assert b"(redacted)" in entries
        assert b"hunter2" not in shown + entries


def test_a_monitor_that_does_not_read_is_closed() -> None:
    with (
        shardkv(proxies=1, client_output_buffer_limit="normal 1mb 0 0") as server,
        server.wire() as monitor,
        server.wire() as client,
    ):
        monitor.ask("MONITOR")
        monitor_id = client_id_of(server, "O")
        value = "x" * 500_000
        for _ in range(40):
            client.ask("SET", "a", value)
        eventually(lambda: f"id={monitor_id} " not in client.text("CLIENT", "LIST"))
        assert int(server.info()["client_output_buffer_limit_disconnections"]) == 1


def client_id_of(server: Shardkv, flag: str) -> int:
    """The id of the only client with a flag."""
    with server.wire() as connection:
        [line] = [
            line for line in connection.text("CLIENT", "LIST").splitlines() if f" flags={flag} " in line
        ]
    return int(line.removeprefix("id=").split(" ")[0])


def test_processes_that_are_started_anew_tell_as_well() -> None:
    with shardkv(proxies=2, workers=1) as server, on_proxy(server, 0, 2) as monitor:
        monitor.ask("MONITOR")
        before = set(server.pids("proxy"))
        with on_proxy(server, 1, 2) as victim:
            os.kill(pid_of_proxy(server, 1), signal.SIGKILL)
            victim.ends()
        eventually(lambda: len(server.pids("proxy")) == 2 and set(server.pids("proxy")) != before)
        [worker] = server.pids("worker")
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: server.pids("worker") not in ([], [worker]))
        with on_proxy(server, 1, 2) as client:
            script = ("EVAL", "return redis.call('get', KEYS[1])", 1, "a")
            eventually(lambda: client.ask(*script) == b"$-1\r\n")
            client.ask("ECHO", "end")
            shown = monitored(monitor, client)
            assert shown[-2:] == [(b"0", b"lua", b'"get" "a"'), (b"0", b"client", b'"ECHO" "end"')]


def pid_of_proxy(server: Shardkv, index: int) -> int:
    for pid in server.pids("proxy"):
        with open(f"/proc/{pid}/cmdline") as title:
            if f"proxy-{index}" in title.read():
                return pid
    raise AssertionError(f"no proxy {index}")


def test_a_proxy_that_dies_monitors_no_more() -> None:
    with (
        shardkv(proxies=2, workers=1) as server,
        on_proxy(server, 1, 2) as monitor,
        on_proxy(server, 0, 2) as client,
    ):
        monitor.ask("MONITOR")
        before = set(server.pids("proxy"))
        os.kill(pid_of_proxy(server, 1), signal.SIGKILL)
        monitor.ends()
        eventually(lambda: len(server.pids("proxy")) == 2 and set(server.pids("proxy")) != before)
        # Whoever monitors next is told everything once.
        with on_proxy(server, 1, 2) as next_monitor:
            next_monitor.ask("MONITOR")
            client.ask("PING")
            client.ask("ECHO", "end")
            assert [words for _, _, words in monitored(next_monitor, client)] == [
                b'"PING"',
                b'"ECHO" "end"',
            ]


# -- slow and large requests ------------------------------------------------------------------


@contextmanager
def slower_than(server: Shardkv, us: int) -> Iterator[None]:
    with server.wire() as connection:
        connection.ask("CONFIG", "SET", "slowlog-log-slower-than", us)
        try:
            yield
        finally:
            connection.ask("CONFIG", "SET", "slowlog-log-slower-than", 10000)
            connection.ask("SLOWLOG", "RESET")


def parsed(reply: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


def entries(connection: Connection, kind: str = "slow", count: int = -1) -> list[Any]:
    """The log's entries, the newest first."""
    found: list[Any] = parsed(connection.ask("COMMANDLOG", "GET", count, kind))
    return found


def test_with_a_threshold_of_0_everything_is_logged(server: Shardkv) -> None:
    requests = [
        *(f"SET key{number} {number}" for number in range(30)),
        *("GET key1", "MGET key1 key2 key3", "DEL key4 key5 key6", "LPUSH l 1 2 3", "BLPOP l 0.5"),
        *("BLPOP none 0.001", "PING", "NOSUCH", "GET", "INCR nokey", "LPUSH nokey 1"),
        *("MULTI", "SET key1 2", "MSET key1 1 key2 2", "EXEC", "ECHO end"),
    ]
    with server.wire() as client, server.wire() as other, slower_than(server, 0):
        client.ask("CLIENT", "SETNAME", "bob")
        other.ask("SLOWLOG", "RESET")
        client.send_bytes(b"".join(pack(*request.split()) for request in requests))
        replies = [client.receive() for _ in requests]
        assert replies[-2].startswith(b"*2\r\n+OK")
        logged = [entry for entry in entries(other) if entry[5] == b"bob"]
        expected = sorted({*requests} - {"NOSUCH", "GET", "EXEC"})
        assert sorted(b" ".join(entry[3]).decode() for entry in logged) == expected
        numbers = [entry[0] for entry in logged]
        assert numbers == sorted(set(numbers), reverse=True)
        assert {entry[4] for entry in logged} == {b"127.0.0.1:%d" % client.port}
        now_s = clock.now_ms() // 1000
        assert all(now_s - 20 <= entry[1] <= now_s for entry in logged)
        newest = parsed(other.ask("SLOWLOG", "GET", 3))
        assert len(newest) == 3
        assert newest[0][0] > numbers[0]
        client.ask("FLUSHALL")


def test_waiting_is_not_slow(server: Shardkv) -> None:
    with server.wire() as client, server.wire() as other, slower_than(server, 50_000):
        assert client.ask("BLPOP", "none", "0.1") == b"*-1\r\n"
        assert client.ask("BLPOP", "none1", "none2", "none3", "0.1") == b"*-1\r\n"
        assert entries(other) == []


BUSY_LOOP = "local i = 0; while i < %d do i = i + 1 end; return i"


def test_one_slow_command_in_a_pipeline_is_found(server: Shardkv) -> None:
    script = BUSY_LOOP % 3_000_000
    with server.wire() as client, server.wire() as other:
        other.ask("SLOWLOG", "RESET")
        client.ask("CLIENT", "SETNAME", "slow one")
        client.ask("CLIENT", "SETNAME", "slow_one")
        pipeline = [pack("SET", "a", "1")] * 20 + [pack("EVAL", script, 1, "a")] + [pack("GET", "a")] * 20
        client.send_bytes(b"".join(pipeline))
        for _ in pipeline:
            client.receive()
        [entry] = [entry for entry in entries(other) if entry[3][0] == b"EVAL"]
        assert entry[2] >= 10_000
        assert entry[3] == [b"EVAL", script.encode(), b"1", b"a"]
        assert entry[4:] == [b"127.0.0.1:%d" % client.port, b"slow_one"]
        client.ask("DEL", "a")


def test_a_script_that_made_its_shard_busy_is_put_down_to_its_client() -> None:
    with (
        shardkv(proxies=1, workers=1, busy_reply_threshold=50) as server,
        server.wire() as client,
        server.wire() as other,
    ):
        client.ask("CLIENT", "SETNAME", "busy")
        other.ask("CLIENT", "SETNAME", "other")
        script = pack("EVAL", BUSY_LOOP % 30_000_000, 1, "a")
        client.send_bytes(pack("SET", "a", "1") + script + pack("ECHO", "end"))
        eventually(lambda: other.ask("GET", "a").startswith(b"-BUSY"))
        assert [client.receive()[:1] for _ in range(3)] == [b"+", b":", b"$"]
        [entry] = entries(other)
        assert entry[3][0] == b"EVAL"
        assert entry[5] == b"busy"
        assert entry[2] >= 50_000


def test_the_log_has_its_length(server: Shardkv) -> None:
    with server.wire() as client, slower_than(server, 0):
        client.ask("CONFIG", "SET", "slowlog-max-len", 5)
        for number in range(20):
            client.ask("SET", "a", number)
        assert client.ask("SLOWLOG", "LEN") == b":5\r\n"
        assert len(entries(client)) == 5
        assert len(entries(client, count=2)) == 2
        client.ask("CONFIG", "SET", "slowlog-max-len", 0)
        assert entries(client) == []
        client.ask("CONFIG", "SET", "slowlog-max-len", 128)
        client.ask("DEL", "a")


def test_numbers_are_unique_over_all_proxies() -> None:
    with shardkv(proxies=3, workers=1, slowlog_log_slower_than=0, slowlog_max_len=1000) as server:
        clients = [on_proxy(server, number, 3) for number in range(3)]
        for number in range(50):
            for client in clients:
                client.ask("SET", "a", number)
        numbers = [entry[0] for entry in entries(clients[0])]
        assert len(numbers) >= 150
        assert numbers == sorted(set(numbers), reverse=True)
        for client in clients:
            client.socket.close()


def test_large_requests_and_replies_are_logged(server: Shardkv) -> None:
    value = "x" * (2 << 20)
    with server.wire() as client:
        for kind in ("large-request", "large-reply"):
            client.ask("COMMANDLOG", "RESET", kind)
        requests = (
            ("SET", "large", value),
            ("GET", "large"),
            ("MSET", "large", value, "large2", "1", "large3", "1"),
            ("MGET", "large", "large2", "large3"),
            ("ECHO", value),
            ("APPEND", "small", "x"),
        )
        client.send_bytes(b"".join(pack(*request) for request in requests))
        replies = [client.receive() for _ in requests]
        sent = {request[0]: len(pack(*request)) for request in requests}
        got = {request[0]: len(reply) for request, reply in zip(requests, replies, strict=True)}
        requested = {entry[3][0].decode(): entry[2] for entry in entries(client, "large-request")}
        replied = {entry[3][0].decode(): entry[2] for entry in entries(client, "large-reply")}
        assert requested == {name: size for name, size in sent.items() if size > 1 << 20}
        assert replied == {name: size for name, size in got.items() if size > 1 << 20}
        client.ask("DEL", "large", "large2", "large3", "small")


def test_with_a_size_of_0_each_is_logged_once(server: Shardkv) -> None:
    with server.wire() as client:
        client.ask("CONFIG", "SET", "commandlog-request-larger-than", 0, "commandlog-reply-larger-than", 0)
        for kind in ("large-request", "large-reply"):
            client.ask("COMMANDLOG", "RESET", kind)
        client.ask("CLIENT", "SETNAME", "sizes")
        requests = ["SET a 1", "GET a", "MGET a b c", "MULTI", "GET b", "MGET a d", "EXEC", "PING"]
        for request in requests:
            client.ask(*request.split())
        client.ask("CONFIG", "SET", "commandlog-request-larger-than", -1, "commandlog-reply-larger-than", -1)
        large = {
            kind: sorted(
                b" ".join(entry[3]).decode() for entry in entries(client, kind) if entry[5] == b"sizes"
            )
            for kind in ("large-request", "large-reply")
        }
        single = ["SET a 1", "GET a", "MGET a b c", "MULTI", "PING"]
        assert set(single) <= set(large["large-reply"])
        assert set(single) | {"GET b"} <= set(large["large-request"])
        assert all(len(words) == len(set(words)) for words in large.values())
        client.ask(
            *("CONFIG", "SET", "commandlog-request-larger-than", 1 << 20),
            *("commandlog-reply-larger-than", 1 << 20),
        )
        client.ask("DEL", "a")


# -- what takes long --------------------------------------------------------------------------


def test_events_of_all_processes(server: Shardkv) -> None:
    with server.wire() as client, server.wire() as other:
        client.ask("CONFIG", "SET", "latency-monitor-threshold", 20)
        client.ask("LATENCY", "RESET")
        before_s = clock.now_ms() // 1000
        client.ask("EVAL", BUSY_LOOP % 5_000_000, 1, "a")
        client.ask("DEBUG", "SLEEP", "0.03")
        latest = {entry[0]: entry[1:] for entry in parsed(other.ask("LATENCY", "LATEST"))}
        assert b"command" in latest
        at_s, latest_ms, longest_ms = latest[b"command"]
        assert before_s <= at_s <= clock.now_ms() // 1000
        assert 20 <= latest_ms <= longest_ms
        history = parsed(other.ask("LATENCY", "HISTORY", "command"))
        assert history[-1] == [at_s, latest_ms]
        assert f"command - high {longest_ms} ms" in other.text("LATENCY", "GRAPH", "command")
        assert "command: " in other.text("LATENCY", "DOCTOR")
        assert parsed(other.ask("LATENCY", "RESET", b"\xff")) == 0
        assert parsed(other.ask("LATENCY", "RESET", "command", "nosuch")) == 1
        assert parsed(other.ask("LATENCY", "HISTORY", "command")) == []
        client.ask("CONFIG", "SET", "latency-monitor-threshold", 0)
        client.ask("LATENCY", "RESET")
        assert "not monitored" in other.text("LATENCY", "DOCTOR")


def test_how_long_commands_take(server: Shardkv) -> None:
    with server.wire(3) as client:
        client.ask("CONFIG", "RESETSTAT")
        for number in range(7):
            client.ask("SET", f"a{number}", 1)
            client.ask("GET", f"a{number}")
        client.ask("MGET", *(f"a{number}" for number in range(7)))
        client.ask("DEBUG", "SLEEP", "0.02")
        told = parsed(client.ask("LATENCY", "HISTOGRAM", "get", "SET", "mget", "debug", "nosuch"))
        calls = {name: entry[b"calls"] for name, entry in told.items()}
        assert calls == {b"get": 7, b"set": 7, b"mget": 1, b"debug": 1}
        for entry in told.values():
            counts = list(entry[b"histogram_usec"].values())
            assert counts == sorted(counts)
            assert counts[-1] == entry[b"calls"]
        assert min(told[b"debug"][b"histogram_usec"]) > 20_000
        latencies = client.text("INFO", "latencystats")
        found = re.search(
            r"latency_percentiles_usec_debug:p50=([\d.]+),p99=[\d.]+,p99.9=[\d.]+\r\n", latencies
        )
        assert found is not None
        assert float(found[1]) > 20_000
        assert set(parsed(client.ask("LATENCY", "HISTOGRAM", "client", "config"))) <= {b"config|resetstat"}
        client.ask("CONFIG", "RESETSTAT")
        assert b"get" not in parsed(client.ask("LATENCY", "HISTOGRAM"))
        client.ask("CONFIG", "SET", "latency-tracking", "no")
        client.ask("GET", "a")
        assert parsed(client.ask("LATENCY", "HISTOGRAM")) == {}
        assert client.text("INFO", "latencystats") == "# Latencystats\r\n"
        client.ask("CONFIG", "SET", "latency-tracking", "yes")
        client.ask("FLUSHALL")


# -- memory -----------------------------------------------------------------------------------


def test_memory_of_all_processes(server: Shardkv) -> None:
    with server.wire(3) as client:
        client.ask("FLUSHALL")
        assert "no keys" in client.text("MEMORY", "DOCTOR")
        count, size = 2000, 1000
        client.send_bytes(b"".join(pack("SET", f"key{n}", "x" * size) for n in range(count)))
        for _ in range(count):
            client.receive()
        client.ask("SELECT", 3)
        client.ask("SET", "other", "x", "EX", 100)
        told = parsed(client.ask("MEMORY", "STATS"))
        assert told[b"keys.count"] == count + 1
        assert size < told[b"keys.bytes-per-key"] < size + 400
        assert told[b"dataset.bytes"] == pytest.approx(told[b"keys.bytes-per-key"] * count, rel=0.01)
        assert set(told[b"db.3"]) == {b"overhead.hashtable.main", b"overhead.hashtable.expires"}
        assert told[b"db.3"][b"overhead.hashtable.expires"] > 0
        assert told[b"db.0"][b"overhead.hashtable.expires"] == 0
        assert 0 < told[b"total.allocated"] <= told[b"peak.allocated"]
        processes = client.text("MEMORY", "MALLOC-STATS").splitlines()
        names = [line.split(":")[0] for line in processes]
        proxies = len(server.pids("proxy"))
        assert names == [*(f"proxy-{n}" for n in range(proxies)), "supervisor-0", "worker-0", "worker-1"]
        assert client.text("MEMORY", "DOCTOR")
        client.ask("FLUSHALL")


def test_the_sizes_of_values(server: Shardkv) -> None:
    """As Redis 8 tells them, over all shards."""
    requests = [
        *(("SET", f"s{bits}", "x" * (1 << bits)) for bits in range(13)),
        *(("SET", f"n{number}", 10**number) for number in range(12)),
        *(("SET", f"many{number}", "x" * 20) for number in range(1500)),
        ("SET", "empty", ""),
        ("RPUSH", "list", *range(600)),
        ("RPUSH", "list2", 1),
        *(("HSET", f"hash{number}", *range(2 * number)) for number in range(1, 9)),
        ("SADD", "set", *range(1025)),
        ("ZADD", "zset", *range(30)),
        ("XADD", "stream", "*", "a", "b"),
        ("SELECT", 9),
        ("SET", "other", "x"),
    ]
    with redis_8() as real, Connection(real.port) as theirs, server.wire() as ours:
        for connection in (ours, theirs):
            connection.ask("FLUSHALL")
            connection.send_bytes(b"".join(pack(*request) for request in requests))
            for _ in requests:
                connection.receive()
        expected = sorted(theirs.text("INFO", "keysizes").splitlines())
        assert sorted(ours.text("INFO", "keysizes").splitlines()) == expected
        assert len(expected) > 6
        ours.ask("FLUSHALL")


# -- DEBUG, and a pause -----------------------------------------------------------------------


def test_debug_object(server: Shardkv, debuggable_twin: Server) -> None:
    requests = ["SET s hello", "SET n 123", "RPUSH l a b c", "HSET h a b", "SADD i 1 2 3"]
    with server.wire() as ours, Connection(debuggable_twin.port) as theirs:
        for request in requests:
            key = request.split()[1]
            told = []
            for connection in (ours, theirs):
                connection.ask(*request.split())
                told.append(connection.ask("DEBUG", "OBJECT", key).decode())
                assert connection.ask("DEBUG", "OBJECT", "nosuch") == b"-ERR no such key\r\n"
            shape = re.compile(
                r"\+Value at:0x[0-9a-f]+ refcount:1 encoding:(\w+) serializedlength:(\d+) "
                r"lru:\d+ lru_seconds_idle:0\r\n"
            )
            found = [shape.fullmatch(text) for text in told]
            assert found[0] is not None, told[0]
            assert found[1] is not None, told[1]
            assert found[0][1] == found[1][1]
            if key in "sn":
                assert found[0][2] == found[1][2]
        ours.ask("FLUSHALL")


def test_a_pause_of_writes_holds_messages_back(server: Shardkv) -> None:
    with server.wire() as client, server.wire() as other:
        client.ask("CLIENT", "PAUSE", 10_000, "WRITE")
        other.send("PUBLISH", "a", "b")
        eventually(lambda: "flags=b" in client.text("CLIENT", "LIST"))
        client.ask("CLIENT", "UNPAUSE")
        assert other.receive() == b":0\r\n"
