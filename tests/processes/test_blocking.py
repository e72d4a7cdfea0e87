"""Clients that wait, with real processes: pipelines, silence, ends of all kinds, many at once."""

from __future__ import annotations

import os
import random
import selectors
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from shardkv import clock
from shardkv.slots import even_slot_table, slot_of
from tests.processes.server import Shardkv, client_id, eventually, on_proxy, shardkv
from tests.wire import Connection, pack


def waiting(server: Shardkv) -> int:
    """How many requests wait on all shards."""
    lines = server.info("shards").values()
    return sum(int(line.partition("waiting=")[2].partition(",")[0]) for line in lines if "waiting=" in line)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def keys_over(shards: int) -> list[str]:
    """A key of each shard."""
    table = even_slot_table(shards)
    found: dict[int, str] = {}
    for number in range(1000):
        found.setdefault(table[slot_of(b"q%d" % number)], f"q{number}")
    return [found[shard] for shard in range(shards)]


@pytest.fixture(
    scope="module", params=[(1, 1), (3, 1), (3, 2)], ids=lambda layout: f"{layout[0]}x{layout[1]}"
)
def server(request: pytest.FixtureRequest) -> Iterator[Shardkv]:
    workers, proxies = request.param
    with shardkv(workers=workers, proxies=proxies) as running:
        yield running


# -- order --------------------------------------------------------------------------------------------


def test_replies_before_a_waiting_request_come_at_once_and_those_after_it_later(server: Shardkv) -> None:
    with server.wire() as connection, server.wire() as other:
        requests = [("SET", "k", "1"), ("PING",), ("BLPOP", "q1", "q2", "q3", "0"), ("GET", "k"), ("PING",)]
        connection.send_bytes(b"".join(pack(*words) for words in requests))
        assert connection.receive() == b"+OK\r\n"
        assert connection.receive() == b"+PONG\r\n"
        eventually(lambda: waiting(server) > 0)
        assert other.ask("SET", "k", "2") == b"+OK\r\n"
        assert other.ask("RPUSH", "q2", "x") == b":1\r\n"
        assert connection.receive() == b"*2\r\n$2\r\nq2\r\n$1\r\nx\r\n"
        assert connection.receive() == b"$1\r\n2\r\n"
        assert connection.receive() == b"+PONG\r\n"


def test_a_wrong_request_in_the_middle_of_a_pipeline(server: Shardkv) -> None:
    with server.wire() as connection:
        wrong = pack("BLMOVE", "q1", "q2", "FOO", "LEFT", "0") + pack("BLMPOP", "0", "2", "q1", "q2", "FOO")
        connection.send_bytes(pack("PING") + wrong + pack("ECHO", "x") + wrong + pack("PING"))
        syntax = b"-ERR syntax error\r\n"
        expected = [b"+PONG\r\n", syntax, syntax, b"$1\r\nx\r\n", syntax, syntax, b"+PONG\r\n"]
        assert [connection.receive() for _ in expected] == expected


def test_a_reply_before_wait_comes_at_once(server: Shardkv) -> None:
    with server.wire() as connection, server.wire() as other:
        number = client_id(connection)
        connection.send_bytes(pack("SET", "k", "1") + pack("WAIT", "1", "0") + pack("PING"))
        assert connection.receive() == b"+OK\r\n"
        eventually(lambda: other.ask("CLIENT", "UNBLOCK", number) == b":1\r\n")
        assert connection.receive() == b":0\r\n"
        assert connection.receive() == b"+PONG\r\n"


def test_the_next_command_of_who_pushes_comes_after_the_pop(server: Shardkv) -> None:
    with server.wire() as connection, server.wire() as other:
        for _ in range(20):
            connection.send("BLPOP", "q1", "q2", "q3", "0")
            eventually(lambda: waiting(server) > 0)
            other.send_bytes(pack("RPUSH", "q3", "x") + pack("LLEN", "q3"))
            assert other.receive() == b":1\r\n"
            assert other.receive() == b":0\r\n"
            assert connection.receive().endswith(b"x\r\n")


def test_a_client_without_replies_waits_as_well(server: Shardkv) -> None:
    with server.wire() as connection, server.wire() as other:
        for keys in (("q1",), ("q1", "q2", "q3")):
            connection.send("CLIENT", "REPLY", "OFF")
            connection.send("BLPOP", *keys, "0")
            connection.send("RPUSH", "after", "x")
            connection.send("CLIENT", "REPLY", "ON")
            eventually(lambda: waiting(server) > 0)
            assert other.ask("EXISTS", "after") == b":0\r\n"
            assert other.ask("RPUSH", "q1", "x") == b":1\r\n"
            assert connection.receive() == b"+OK\r\n"
            # Nobody has waited for the end of the silent request.
            eventually(lambda: other.ask("DEL", "after") == b":1\r\n")
            assert other.ask("EXISTS", "q1") == b":0\r\n"


# -- time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [("q1",), ("q1", "q2", "q3")])
def test_timeouts_are_kept_to_the_millisecond_or_so(server: Shardkv, keys: tuple[str, ...]) -> None:
    with server.wire() as connection:
        late_s = []
        for timeout_s in (0.001, 0.02, 0.0333, 0.05, 0.02, 0.01):
            begun_s = clock.monotonic()
            assert connection.ask("BLPOP", *keys, str(timeout_s)) == b"*-1\r\n"
            late_s.append(clock.monotonic() - begun_s - timeout_s)
        assert min(late_s) > -0.001
        # The machine may be busy, but not all the time.
        assert min(late_s) < 0.02
    assert waiting(server) == 0


def test_a_pause_holds_up_who_would_wait(server: Shardkv) -> None:
    with server.wire() as connection, server.wire() as other:
        assert other.ask("CLIENT", "PAUSE", "100000", "WRITE") == b"+OK\r\n"
        connection.send("BLPOP", "q1", "q2", "0")
        eventually(lambda: server.info("clients")["blocked_clients"] == "1")
        assert waiting(server) == 0
        assert other.ask("CLIENT", "UNPAUSE") == b"+OK\r\n"
        eventually(lambda: waiting(server) > 0)
        assert other.ask("RPUSH", "q1", "x") == b":1\r\n"
        assert connection.receive().endswith(b"x\r\n")


def test_idle_clients_are_closed_but_not_those_who_wait() -> None:
    with shardkv(timeout=1) as server, server.wire() as connection, server.wire() as idle:
        connection.send("BLPOP", "q1", "q2", "q3", "0")
        assert idle.ends() == b""
        with server.wire() as other:
            assert other.ask("RPUSH", "q1", "x") == b":1\r\n"
            assert connection.receive().endswith(b"x\r\n")


# -- figures ------------------------------------------------------------------------------------------


def test_figures(server: Shardkv) -> None:
    with server.wire() as connection, server.wire() as timed, server.wire() as other:
        assert other.ask("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM") == b"+OK\r\n"
        connection.send("BLPOP", "q1", "q2", "q3", "0")
        timed.send("XREADGROUP", "GROUP", "g", "c", "BLOCK", "100000", "STREAMS", "s", ">")

        def known() -> bool:
            info = server.info("clients")
            names = (
                "blocked_clients",
                "clients_in_timeout_table",
                "total_blocking_keys",
                "total_blocking_keys_on_nokey",
            )
            return [info[name] for name in names] == ["2", "1", "4", "1"]

        eventually(known)
        line = other.text("CLIENT", "LIST", "ID", client_id_of(other, "blpop"))
        assert " flags=b " in line
        assert other.ask("DEL", "s") == b":1\r\n"
        assert other.ask("RPUSH", "q1", "x") == b":1\r\n"
        assert timed.receive().startswith(b"-NOGROUP ")
        assert connection.receive().endswith(b"x\r\n")
        calls = server.info("commandstats")["cmdstat_blpop"]
        assert int(calls.partition("calls=")[2].partition(",")[0]) > 0
        assert server.info("clients")["blocked_clients"] == "0"


def client_id_of(connection: Connection, command: str) -> int:
    """The id of the client that has called a command last."""
    for line in connection.text("CLIENT", "LIST").splitlines():
        if f" cmd={command} " in line:
            return int(line.partition("id=")[2].partition(" ")[0])
    raise AssertionError(command)


# -- clients that are gone ----------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [0, 1, 1000])
def test_what_comes_after_the_end_of_a_client_is_not_taken(server: Shardkv, behind: int) -> None:
    for keys in (("q1",), ("q1", "q2", "q3")):
        with server.wire() as other:
            connection = server.wire()
            connection.send_bytes(pack("BLPOP", *keys, "0") + pack("PING") * behind)
            eventually(lambda: waiting(server) > 0)
            connection.socket.close()
            if behind < 1000:
                eventually(lambda: waiting(server) == 0)
            assert other.ask("RPUSH", "q1", "x") == b":1\r\n"
            eventually(lambda: other.ask("LRANGE", "q1", 0, -1) == b"*1\r\n$1\r\nx\r\n")
            eventually(lambda: server.info("clients")["blocked_clients"] == "0")
            assert other.ask("DEL", "q1") == b":1\r\n"


def test_a_client_that_sends_no_more_is_gone(server: Shardkv) -> None:
    with server.wire() as connection:
        connection.send("BLPOP", "q1", "q2", "0")
        eventually(lambda: waiting(server) > 0)
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.ends() == b""
    eventually(lambda: waiting(server) == 0)


GIVEN_BACK = [
    (("BLPOP", "q1", "0"), ("RPUSH", "q1", "a", "b"), ("LRANGE", "q1", 0, -1), ["a", "b"]),
    (("BRPOP", "q1", "q2", "q3", "0"), ("RPUSH", "q1", "a", "b"), ("LRANGE", "q1", 0, -1), ["a", "b"]),
    (
        ("BLMPOP", "0", "1", "q1", "RIGHT", "COUNT", "2"),
        ("RPUSH", "q1", "a", "b", "c"),
        ("LRANGE", "q1", 0, -1),
        ["a", "b", "c"],
    ),
    (
        ("BZPOPMIN", "q1", "0"),
        ("ZADD", "q1", "1.5", "m"),
        ("ZRANGE", "q1", 0, -1, "WITHSCORES"),
        ["m", "1.5"],
    ),
    (
        ("BZMPOP", "0", "3", "q1", "q2", "q3", "MAX", "COUNT", "2"),
        ("ZADD", "q1", "1", "m", "2", "n"),
        ("ZRANGE", "q1", 0, -1, "WITHSCORES"),
        ["m", "1", "n", "2"],
    ),
    (("BLMOVE", "q1", "q9", "LEFT", "LEFT", "0"), ("RPUSH", "q1", "a"), ("LRANGE", "q9", 0, -1), ["a"]),
]


def test_a_client_that_has_sent_its_last_before_it_waits(server: Shardkv) -> None:
    with server.wire() as connection:
        connection.send_bytes(
            # The bad line is read at once, but the request before it has to wait for EXEC.
            pack("MULTI") + pack("LLEN", "q1") + pack("EXEC") + pack("BLPOP", "q1", "q2", 0) + b"*1\r\n\\\r\n"
        )
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.ends() == b"+OK\r\n+QUEUED\r\n*1\r\n:0\r\n"


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize(("pop", "push", "look", "expected"), GIVEN_BACK, ids=lambda words: str(words[0]))
def test_what_was_taken_for_a_client_that_has_gone_meanwhile_is_put_back(
    pop: tuple[str, ...], push: tuple[str, ...], look: tuple[str, ...], expected: list[str], killed: bool
) -> None:
    with shardkv(workers=2, proxies=2) as server:
        connection, other = on_proxy(server, 0, 2), on_proxy(server, 1, 2)
        number = client_id(connection)
        connection.send(*pop)
        eventually(lambda: waiting(server) > 0)
        [pid] = [pid for pid in server.pids("proxy") if _is_proxy_0(pid)]
        with stopped(pid):
            # The shard serves it, or makes an offer, but its proxy does not know.
            assert other.ask(*push).startswith(b":")
            if killed:
                other.send("CLIENT", "KILL", "ID", number)
            else:
                connection.socket.close()
        if killed:
            other.receive()
        reply = "".join(f"${len(word)}\r\n{word}\r\n" for word in expected)
        whole = f"*{len(expected)}\r\n{reply}".encode()
        if not killed:
            eventually(lambda: other.ask(*look) == whole)
        else:
            # It was killed after it was served, or before.
            got = connection.ends()
            eventually(lambda: bool(got) or other.ask(*look) == whole)
        other.socket.close()
        connection.socket.close()


def _is_proxy_0(pid: int) -> bool:
    with open(f"/proc/{pid}/cmdline") as title:
        return "proxy-0" in title.read()


def test_a_server_that_stops_does_not_wait_for_them() -> None:
    with shardkv(workers=2) as server, server.wire() as connection, server.wire() as other:
        connection.send("BLPOP", "q1", "q2", "0")
        other.send("BLPOP", "q1", "0")
        eventually(lambda: waiting(server) >= 2)
        begun_s = clock.monotonic()
        assert server.stop() == 0
        assert clock.monotonic() - begun_s < 5
        assert connection.ends() == b""


# -- shards that are gone -----------------------------------------------------------------------------


def test_a_dead_shard_tells_who_waits_on_it_and_nobody_else() -> None:
    keys = keys_over(3)
    with shardkv(workers=3, proxies=2) as server, server.wire() as other, ExitStack() as open_connections:
        clients = [open_connections.enter_context(server.wire()) for _ in range(4)]
        clients[0].send("BLPOP", keys[0], "0")
        clients[1].send("BLPOP", *keys, "0")
        clients[2].send("BLMOVE", keys[1], keys[0], "LEFT", "LEFT", "0")
        clients[3].send("XREAD", "BLOCK", "0", "STREAMS", keys[2], "$")
        eventually(lambda: waiting(server) == 6)
        [victim] = [pid for pid in server.pids("worker") if _is_worker_0(pid)]
        os.kill(victim, signal.SIGKILL)
        for connection in clients[:2]:
            assert connection.receive().startswith(b"-SHARDDOWN shard 0 ")
        eventually(lambda: waiting(server) == 2)
        eventually(lambda: other.ask("EXISTS", *keys) == b":0\r\n")
        assert other.ask("RPUSH", keys[1], "x") == b":1\r\n"
        assert clients[2].receive() == b"$1\r\nx\r\n"
        assert other.ask("XADD", keys[2], "1-1", "f", "v") == b"$3\r\n1-1\r\n"
        assert b"1-1" in clients[3].receive()
        assert other.ask("DEL", *keys) == b":2\r\n"
        for connection in clients[:2]:
            connection.send("BLPOP", *keys, "0")
            eventually(lambda: waiting(server) == 3)
            assert other.ask("RPUSH", keys[0], "x") == b":1\r\n"
            assert connection.receive().endswith(b"x\r\n")


def test_a_dead_proxy_keeps_nothing() -> None:
    keys = keys_over(2)
    with shardkv(workers=2, proxies=2) as server:
        connection, other = on_proxy(server, 0, 2), on_proxy(server, 1, 2)
        lone = on_proxy(server, 0, 2)
        connection.send("BLPOP", *keys, "0")
        lone.send("BLPOP", keys[1], "0")
        eventually(lambda: waiting(server) == 3)
        [pid] = [pid for pid in server.pids("proxy") if _is_proxy_0(pid)]
        with stopped(pid):
            # An offer of which its proxy will never know.
            assert other.ask("RPUSH", keys[0], "x") == b":1\r\n"
            os.kill(pid, signal.SIGKILL)
        assert connection.ends() == b""
        eventually(lambda: waiting(server) == 0)
        assert other.ask("RPUSH", keys[1], "y") == b":1\r\n"
        assert other.ask("BLPOP", *keys, "0").endswith(b"x\r\n")
        assert other.ask("BLPOP", *keys, "0").endswith(b"y\r\n")
        for one in (connection, other, lone):
            one.socket.close()


def _is_worker_0(pid: int) -> bool:
    with open(f"/proc/{pid}/cmdline") as title:
        return "worker-0" in title.read()


# -- many ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number_of_keys", [1, 3])
def test_ten_thousand_clients_wait_at_once(number_of_keys: int) -> None:
    count = 10_000
    keys = keys_over(3)[:number_of_keys]
    with (
        shardkv(workers=3, maxclients=count + 100, tcp_backlog=4096) as server,
        server.wire() as other,
        ExitStack() as open_sockets,
    ):
        request = pack("BLPOP", *keys, "0")
        begun_s = clock.monotonic()
        clients = []
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            clients.append(open_sockets.enter_context(client))
            client.sendall(request)
        eventually(lambda: waiting(server) == count * number_of_keys, timeout_s=40)
        assert server.info("clients")["blocked_clients"] == str(count)
        served = count if number_of_keys == 1 else count // 5
        for number in range(served):
            other.send("RPUSH", keys[number % number_of_keys], number)
        elements = _elements(clients, served)
        assert sorted(elements.values()) == list(range(served))
        if number_of_keys == 1:
            assert [elements[client] for client in clients] == list(range(served)), "first come first served"
        for client in clients:
            if client not in elements:
                client.close()
        eventually(lambda: waiting(server) == 0, timeout_s=20)
        assert clock.monotonic() - begun_s < 60


def _elements(clients: list[socket.socket], count: int) -> dict[socket.socket, int]:
    """What those of the clients get who are served; that so many are."""
    found: dict[socket.socket, int] = {}
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client, selectors.EVENT_READ, client)
        while len(found) < count:
            ready = selector.select(30)
            assert ready, f"only {len(found)} have been served"
            for event, _ in ready:
                found[event.data] = _last_number(event.data.recv(100))
                selector.unregister(event.data)
    return found


def _last_number(reply: bytes) -> int:
    return int(reply.split(b"\r\n")[-2])


class Worker(threading.Thread):
    """Takes elements from queues, in different ways, until it gets `stop`."""

    def __init__(self, port: int, seed: int, keys: list[str]) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.random = random.Random(seed)
        self.keys = keys
        self.got: Counter[bytes] = Counter()

    def run(self) -> None:
        with Connection(self.port) as connection:
            while True:
                some = self.random.sample(self.keys, self.random.randint(1, len(self.keys)))
                timeout = self.random.choice(["0.001", "0.01", "5"])
                words: tuple[str | int, ...] = self.random.choice(
                    [
                        ("BLPOP", *some, timeout),
                        ("BRPOP", *some, timeout),
                        ("BLMPOP", timeout, len(some), *some, "LEFT", "COUNT", "2"),
                        ("BLMOVE", *self.random.choices(self.keys, k=2), "LEFT", "RIGHT", timeout),
                    ]
                )
                reply = connection.ask(*words)
                if words[0] == "BLMOVE" or reply == b"*-1\r\n":
                    continue
                assert reply.startswith(b"*2"), reply
                elements = [word for word in reply.split(b"\r\n") if word.startswith((b"element", b"stop"))]
                self.got.update(word for word in elements if word != b"stop")
                if b"stop" in elements:
                    return


@pytest.mark.parametrize("proxies", [1, 2])
def test_nothing_is_lost_or_given_twice(proxies: int) -> None:
    keys = [f"q{number}" for number in range(6)]
    pushed: Counter[bytes] = Counter()
    with shardkv(workers=3, proxies=proxies) as server, server.wire() as other:
        workers = [Worker(server.port, seed, keys) for seed in range(8)]
        for worker in workers:
            worker.start()
        rng = random.Random(7)
        for number in range(3000):
            element = b"element%d" % number
            pushed[element] += 1
            other.send(rng.choice(["LPUSH", "RPUSH"]), rng.choice(keys), element)
            if number % 50 == 49:
                for _ in range(50):
                    assert other.receive().startswith(b":")
        while any(worker.is_alive() for worker in workers):
            other.ask("RPUSH", rng.choice(keys), "stop")
            clock.sleep(0.002)
        left: Counter[bytes] = Counter()
        for key in keys:
            left.update(
                word for word in other.ask("LRANGE", key, 0, -1).split(b"\r\n") if word.startswith(b"element")
            )
        assert sum((worker.got for worker in workers), left) == pushed
        assert waiting(server) == 0


# -- durability ---------------------------------------------------------------------------------------


def test_waitaof() -> None:
    with shardkv(workers=2) as server, server.wire() as connection:
        for number in range(3):
            assert connection.ask("SET", f"k{number}", "x") == b"+OK\r\n"
            assert connection.ask("WAITAOF", 1, 0, 0) == b"*2\r\n:1\r\n:0\r\n"
        assert connection.ask("WAITAOF", 1, 1, 10).endswith(b":0\r\n")
        assert connection.ask("CONFIG", "SET", "appendfsync", "always") == b"+OK\r\n"
        assert connection.ask("SET", "k", "x") == b"+OK\r\n"
        assert connection.ask("WAITAOF", 1, 0, 0) == b"*2\r\n:1\r\n:0\r\n"


def test_waitaof_without_a_log() -> None:
    with shardkv(workers=2, appendonly="no") as server, server.wire() as connection:
        assert connection.ask("WAITAOF", 0, 0, 0) == b"*2\r\n:0\r\n:0\r\n"
        assert connection.ask("WAITAOF", 1, 0, 0).startswith(b"-ERR WAITAOF cannot be used when numlocal ")
