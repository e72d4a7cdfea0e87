"""Whatever anybody sends, no process falls, and whoever behaves is served meanwhile."""

from __future__ import annotations

import random
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from shardkv import clock
from tests.faults.canary import Canary
from tests.faults.hostile import stream
from tests.faults.test_flow import rss
from tests.processes.server import Shardkv, eventually, shardkv
from tests.wire import Connection, pack

MIB = 1024 * 1024


@contextmanager
def unharmed(server: Shardkv) -> Iterator[None]:
    """None of its processes ends meanwhile, and nothing fails in a way that nobody has thought of."""
    before = server.pids("worker") + server.pids("proxy")
    yield
    assert server.pids("worker") + server.pids("proxy") == before
    log = server.log.read_text()
    assert "Traceback" not in log, log


def throw(server: Shardkv, seed: int, count: int) -> None:
    """Sends about so many inputs."""
    draw = random.Random(seed)
    left = count
    while left > 0:
        with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
            sent = stream(draw)
            left -= len(sent)
            try:
                connection.sendall(b"".join(sent))
                connection.shutdown(socket.SHUT_WR)
                # All that it has asked for is answered then, and nothing keeps the connection open.
                while connection.recv(MIB):
                    pass
            except ConnectionError:
                continue


@pytest.mark.parametrize("count", [5_000, pytest.param(200_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(900)
def test_hostile_inputs(count: int, pytestconfig: pytest.Config) -> None:
    # The quick selection is always the same; the long run looks for what is new.
    seed = 2 if count <= 5_000 else random.SystemRandom().randrange(2**32)
    print("seed", seed)
    with shardkv(workers=2) as server:
        throw(server, 1, 200)
        before = rss(server)
        with unharmed(server), Canary(server.port) as canary:
            throw(server, seed, count)
        print(f"{canary.asked} replies, the slowest after {canary.worst_ms:.0f} ms")
        print(f"{(rss(server) - before) / MIB:.1f} MiB more")
        assert canary.asked > 100
        assert canary.worst_ms < 100
        assert rss(server) - before < 64 * MIB


# -- too much of something ------------------------------------------------------------------------


def test_a_deep_transaction() -> None:
    with shardkv(workers=2) as server, server.wire() as connection:
        count = 20_000
        connection.send_bytes(pack("MULTI") + pack("INCR", "n") * count + pack("INCR", "m") + pack("EXEC"))
        assert connection.receive() == b"+OK\r\n"
        for _ in range(count + 1):
            assert connection.receive() == b"+QUEUED\r\n"
        reply = connection.receive()
        assert reply.startswith(b"*%d\r\n:1\r\n:2\r\n" % (count + 1))
        assert reply.endswith(b":%d\r\n:1\r\n" % count)


def test_clients_that_begin_a_request_and_never_end_it() -> None:
    with shardkv(workers=2) as server, ExitStack() as stack, unharmed(server):
        before = rss(server)
        for _ in range(200):
            half = stack.enter_context(server.wire())
            half.send_bytes(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\nbegun")
        with server.wire() as other:
            for _ in range(100):
                assert other.ask("PING") == b"+PONG\r\n"
        assert rss(server) - before < 16 * MIB


def test_too_many_clients_do_not_disturb_those_that_are_there() -> None:
    with shardkv(workers=2, maxclients=20) as server, ExitStack() as stack, unharmed(server):
        with Canary(server.port) as canary:
            for _ in range(19):
                assert stack.enter_context(server.wire()).ask("PING") == b"+PONG\r\n"
            for _ in range(300):
                with server.wire() as refused:
                    assert refused.ends() == b"-ERR max number of clients reached\r\n"
        assert canary.worst_ms < 100


def test_without_file_descriptors_a_proxy_neither_dies_nor_spins() -> None:
    with shardkv(workers=2) as server, ExitStack() as stack, unharmed(server):
        [pid] = server.pids("proxy")
        held = stack.enter_context(server.wire())
        assert held.ask("PING") == b"+PONG\r\n"
        open_now = psutil.Process(pid).num_fds()
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now + 3, hard))
        waiting = [stack.enter_context(Connection(server.port)) for _ in range(20)]
        # The descriptors are gone; who is in is served as before.
        eventually(lambda: psutil.Process(pid).num_fds() >= open_now + 2)
        begun_cpu_s, begun_s = sum(psutil.Process(pid).cpu_times()[:2]), clock.monotonic()
        while clock.monotonic() < begun_s + 1.0:
            assert held.ask("PING") == b"+PONG\r\n"
            clock.sleep(0.01)
        assert sum(psutil.Process(pid).cpu_times()[:2]) - begun_cpu_s < 0.3
        for connection in waiting:
            connection.socket.close()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))

        def is_let_in() -> bool:
            with server.wire() as newcomer:
                return newcomer.ask("PING") == b"+PONG\r\n"

        eventually(is_let_in)


@pytest.mark.parametrize("count", [1_000, pytest.param(15_000, marks=pytest.mark.slow)])
def test_idle_clients(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 100:
        pytest.skip("the system does not allow so many open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 1000), hard))
    try:
        with shardkv(workers=2, maxclients=count + 10) as server, ExitStack() as stack:
            before = rss(server)
            for _ in range(count):
                assert stack.enter_context(server.wire()).ask("PING") == b"+PONG\r\n"
            each = (rss(server) - before) / count / 1024
            print(f"{each:.1f} KiB for each idle client")
            assert each < 40
            with Canary(server.port):
                throw(server, 2, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
