"""Nobody can make the server hang or hoard: not a peer that never reads, not a process that stands still."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from shardkv import clock
from shardkv.slots import even_slot_table, slot_of
from tests.processes.server import Shardkv, eventually, shardkv
from tests.wire import Connection, pack

MIB = 1024 * 1024


def rss(server: Shardkv) -> int:
    """Bytes of memory of all processes together."""
    tree = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children()]
    return sum(process.memory_info().rss for process in tree)


def test_a_value_of_100_mib_goes_in_and_out() -> None:
    value = os.urandom(MIB) * 100
    with shardkv(workers=2) as server, server.wire() as connection:
        assert connection.ask("SET", "large", value) == b"+OK\r\n"
        connection.ask("SET", "small", "value")
        connection.send("GET", "large")
        connection.send("GET", "small")
        received = bytearray()
        while not received.endswith(b"$5\r\nvalue\r\n"):
            received += connection.socket.recv(MIB)
        assert received == b"$%d\r\n%b\r\n$5\r\nvalue\r\n" % (len(value), value)


def test_a_client_that_never_reads_costs_bounded_memory() -> None:
    with shardkv(workers=2) as server, server.wire() as connection, server.wire() as other:
        other.ask("SET", "large", b"x" * MIB)
        before = rss(server)
        connection.socket.settimeout(1)
        sent = 0
        with pytest.raises(TimeoutError):
            # Replies of 4 GiB are asked for; the server stops reading long before.
            for _ in range(4096):
                connection.send_bytes(pack("GET", "large") * 64)
                sent += 64
        for _ in range(100):
            assert other.ask("PING") == b"+PONG\r\n"
        assert rss(server) - before < 64 * MIB
        # What it asked for is all there, in order, once it reads.
        connection.socket.settimeout(20)
        expected = b"$%d\r\n%b\r\n" % (MIB, b"x" * MIB)
        for _ in range(20):
            assert connection.receive() == expected


def key_of_shard(shard: int, shards: int = 2) -> str:
    """A key that lies on a shard of a new data folder."""
    table = even_slot_table(shards)
    return next(key for key in map("key{}".format, range(1000)) if table[slot_of(key.encode())] == shard)


def test_a_stopped_worker_holds_up_only_its_own_keys() -> None:
    stuck_key, free_key = key_of_shard(0), key_of_shard(1)
    value = b"x" * 100_000
    with shardkv(workers=2) as server, ExitStack() as stack:
        titles = {Path(f"/proc/{pid}/cmdline").read_bytes(): pid for pid in server.pids("worker")}
        victim = next(pid for title, pid in titles.items() if b"worker-0" in title)
        clients = [stack.enter_context(server.wire()) for _ in range(4)]
        other = stack.enter_context(server.wire())
        os.kill(victim, signal.SIGSTOP)
        before = rss(server)
        sent = [flood(client, pack("SET", stuck_key, value), 1000) for client in clients]
        assert all(count < 1000 for count in sent)
        assert rss(server) - before < 64 * MIB
        for _ in range(100):
            assert other.ask("SET", free_key, "value") == b"+OK\r\n"
        os.kill(victim, signal.SIGCONT)
        for client, count in zip(clients, sent, strict=True):
            for _ in range(count):
                assert client.receive() == b"+OK\r\n"


def flood(connection: Connection, request: bytes, count: int) -> int:
    """Sends whole requests until nobody takes any more; returns how many, with the one that was begun
    finished later, in a thread."""
    connection.socket.settimeout(0.3)
    for number in range(count):
        view = memoryview(request)
        try:
            while view:
                view = view[connection.socket.send(view) :]
        except TimeoutError:
            connection.socket.settimeout(20)
            if len(view) < len(request):
                threading.Thread(target=connection.socket.sendall, args=[view]).start()
                return number + 1
            return number
    return count


def test_a_pipeline_longer_than_every_buffer_is_answered_in_order() -> None:
    count = 50_000
    with shardkv(workers=2) as server, server.wire() as connection:
        connection.ask("MSET", *(word for number in range(100) for word in (f"key{number}", number)))
        requests = b"".join(pack("GET", f"key{number % 100}") for number in range(count))
        connection.socket.settimeout(0.0)
        received, sent = b"", 0
        deadline = clock.monotonic() + 30
        while received.count(b"\r\n") < 2 * count:
            assert clock.monotonic() < deadline
            try:
                sent += connection.socket.send(requests[sent : sent + 65536]) if sent < len(requests) else 0
            except BlockingIOError:
                pass
            try:
                received += connection.socket.recv(1 << 20)
            except BlockingIOError:
                pass
        expected = b"".join(
            b"$%d\r\n%d\r\n" % (len(str(number % 100)), number % 100) for number in range(count)
        )
        assert received == expected


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with (
        shardkv(tmp_path),
        pytest.raises(RuntimeError, match="another server"),
        shardkv(tmp_path, exit_code=1),
    ):
        pass


def test_an_idle_server_sleeps() -> None:
    with shardkv(workers=2, proxies=1) as server:
        tree = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children()]
        eventually(lambda: len(tree) == 4)

        def cpu_s() -> float:
            return sum(sum(process.cpu_times()[:2]) for process in tree)

        before = cpu_s()
        clock.sleep(3)
        assert cpu_s() - before < 0.03 * 3
