"""Connections, and CLIENT: one space over all proxies."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from shardkv import clock
from tests.processes.server import Shardkv, eventually, fields, shardkv
from tests.wire import Connection, pack

FIELDS = (
    "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free argv-mem multi-mem rbs "
    "rbp obl oll omem tot-mem events cmd user redir resp lib-name lib-ver tot-net-in tot-net-out tot-cmds"
)
"""Those of Redis 7.2, and of those that came later the ones that mean something here, in Redis' order."""


def parsed(line: str) -> dict[str, str]:
    """The fields of a line of CLIENT LIST."""
    return dict(field.split("=", 1) for field in line.split(" "))


def listed(connection: Connection, *filters: str | int) -> list[dict[str, str]]:
    return [parsed(line) for line in connection.text("CLIENT", "LIST", *filters).splitlines()]


@contextmanager
def several(server: Shardkv, count: int) -> Iterator[list[Connection]]:
    """Connections enough that, with two proxies, each is likely to have some."""
    with ExitStack() as stack:
        yield [stack.enter_context(server.wire()) for _ in range(count)]


def in_turn(connections: list[Connection], *words: str | int) -> list[bytes]:
    return [connection.ask(*words) for connection in connections]


# -- this connection --------------------------------------------------------------------------


def test_a_line_has_the_fields_of_redis(server: Shardkv) -> None:
    with server.wire() as connection:
        connection.ask("CLIENT", "SETNAME", "me")
        connection.ask("CLIENT", "SETINFO", "lib-name", "redis-py(x)")
        connection.ask("SELECT", 3)
        text = connection.text("CLIENT", "INFO")
        assert text.endswith("\n")
        line = parsed(text.rstrip("\n"))
        assert list(line) == FIELDS.split()
        assert line["addr"] == f"127.0.0.1:{connection.port}"
        assert line["laddr"] == f"127.0.0.1:{server.port}"
        expected = {
            "name": "me",
            "lib-name": "redis-py(x)",
            "db": "3",
            "cmd": "client|info",
            "user": "default",
        }
        assert line.items() >= expected.items()
        assert (
            line.items() >= {"flags": "N", "multi": "-1", "events": "r", "resp": "2", "redir": "-1"}.items()
        )


def test_a_line_tells_what_a_client_has_sent_and_got(server: Shardkv) -> None:
    with server.wire() as connection:
        sent = [pack("SET", "sent", "x" * 1000), pack("GET", "sent"), pack("MGET", "sent", "sent2", "sent3")]
        for data in sent:
            connection.send_bytes(data)
        got = sum(len(connection.receive()) for _ in sent)
        line = parsed(connection.text("CLIENT", "INFO").rstrip("\n"))
        told = [int(line[name]) for name in ("tot-net-in", "tot-net-out", "tot-cmds")]
        assert told == [sum(map(len, sent)) + len(pack("CLIENT", "INFO")), got, 4]


def test_the_last_command_is_shown_by_its_full_name(server: Shardkv) -> None:
    with server.wire() as connection, server.wire() as other:
        own = int(other.ask("CLIENT", "ID")[1:])
        for words, name in [
            (("GET", "a"), "get"),
            (("config", "get", "x"), "config|get"),
            (("PING",), "ping"),
        ]:
            other.ask(*words)
            assert listed(connection, "ID", own)[0]["cmd"] == name


def test_quit_answers_what_came_before_it_and_drops_what_came_after(server: Shardkv) -> None:
    with server.wire() as connection:
        connection.send_bytes(pack("SET", "quit", "1") + pack("QUIT") + pack("SET", "quit", "2"))
        assert connection.ends() == b"+OK\r\n+OK\r\n"
    with server.wire() as connection:
        assert connection.ask("GET", "quit") == b"$1\r\n1\r\n"


def test_what_was_asked_before_a_protocol_error_is_answered_before_it(server: Shardkv) -> None:
    many = b"".join(pack("ECHO", str(number)) for number in range(3000))
    with server.wire() as connection:
        connection.send_bytes(many + pack("CLIENT", "LIST", "ID", 1_000_000) + b"*1\r\n!\r\n")
        replies = connection.ends()
    assert replies.endswith(b"$0\r\n\r\n-ERR Protocol error: expected '$', got '!'\r\n")
    assert replies.startswith(b"$1\r\n0\r\n$1\r\n1\r\n")
    assert replies.count(b"$") == 3000 + 2


@pytest.mark.parametrize("name", ["POST", "Host:"])
@pytest.mark.parametrize("inline", [True, False])
def test_http_gets_its_connection_closed_and_nothing_runs(server: Shardkv, name: str, inline: bool) -> None:
    first = f"{name} / HTTP/1.1\r\n".encode() if inline else pack(name, "/")
    with server.wire() as connection:
        connection.send_bytes(first + pack("SET", "http", "1"))
        assert connection.ends() == b""
    with server.wire() as connection:
        assert connection.ask("GET", "http") == b"$-1\r\n"


def test_replies_keep_their_order_around_commands_that_take_time(server: Shardkv) -> None:
    with server.wire() as connection:
        connection.send_bytes(
            pack("SET", "order", "1")
            + pack("CLIENT", "KILL", "ID", 1 << 60)
            + pack("GET", "order")
            + pack("PING")
        )
        assert [connection.receive() for _ in range(4)] == [
            b"+OK\r\n",
            b":0\r\n",
            b"$1\r\n1\r\n",
            b"+PONG\r\n",
        ]


def test_a_command_that_takes_time_sees_what_came_before_it(server: Shardkv) -> None:
    with server.wire() as connection:
        for number in range(20):
            sets = [pack("SELECT", 5)] + [pack("SET", f"k{number}-{each}", "x") for each in range(10)]
            connection.send_bytes(b"".join([*sets, pack("INFO", "keyspace")]))
            for _ in sets:
                connection.receive()
            keys = fields(connection.receive().decode())["db5"]
            assert keys.startswith(f"keys={(number + 1) * 10},")


def test_client_reply_off_silences_commands_of_shards_and_errors(server: Shardkv) -> None:
    with server.wire() as connection:
        for words in [
            ("CLIENT", "REPLY", "OFF"),
            ("SET", "mute", "1"),
            ("NOSUCH",),
            ("GET",),
            ("CLIENT", "LIST"),
        ]:
            connection.send(*words)
        connection.send("MGET", "mute", "b", "c")
        assert connection.ask("CLIENT", "REPLY", "ON") == b"+OK\r\n"
        assert connection.ask("GET", "mute") == b"$1\r\n1\r\n"


def test_client_reply_skip_silences_one_command(server: Shardkv) -> None:
    skipped: list[tuple[str, ...]] = [
        ("SET", "skip", "1"),
        ("NOSUCH",),
        ("GET",),
        ("CLIENT", "LIST"),
        ("PING",),
    ]
    with server.wire() as connection:
        for words in skipped:
            connection.send_bytes(pack("CLIENT", "REPLY", "SKIP") + pack(*words) + pack("ECHO", "next"))
            assert connection.receive() == b"$4\r\nnext\r\n"


# -- all connections --------------------------------------------------------------------------


def test_every_client_has_an_id_of_its_own(server: Shardkv) -> None:
    with several(server, 20) as connections:
        ids = [int(reply[1:]) for reply in in_turn(connections, "CLIENT", "ID")]
        assert len(set(ids)) == 20
        assert {int(client["id"]) for client in listed(connections[0])} >= set(ids)


def test_filters_choose_among_the_clients_of_all_proxies(server: Shardkv) -> None:
    with several(server, 12) as connections:
        for number, connection in enumerate(connections):
            connection.ask("CLIENT", "SETNAME", f"filter-{number % 3}")
            connection.ask("SELECT", number % 4)
            connection.ask("CLIENT", "NO-TOUCH", "on" if number % 2 else "off")
        first = connections[0]
        own = int(first.ask("CLIENT", "ID")[1:])
        others = [client["id"] for client in listed(first, "NAME", "filter-1")]
        assert len(others) == 4
        assert len(listed(first, "NAME", "filter-0", "DB", 0)) == 1
        assert len(listed(first, "NAME", "filter-0", "SKIPME", "yes")) == 3
        assert len(listed(first, "FLAGS", "T", "NAME", "filter-1")) == 2
        assert len(listed(first, "NOT-FLAGS", "T", "NAME", "filter-1")) == 2
        assert [client["id"] for client in listed(first, "ID", *others)] == others
        assert [client["id"] for client in listed(first, "ID", *others, "NOT-ID", *others[1:])] == others[:1]
        assert len(listed(first, "ADDR", f"127.0.0.1:{connections[5].port}")) == 1
        assert len(listed(first, "ID", own, "NOT-ADDR", f"127.0.0.1:{first.port}")) == 0
        assert len(listed(first, "ID", own, "LADDR", f"127.0.0.1:{server.port}", "IP", "127.0.0.1")) == 1
        assert listed(first, "TYPE", "replica") == []
        assert listed(first, "MAXAGE", 100000) == []


@pytest.mark.parametrize("chosen", ["address", "ID", "NAME", "DB"])
def test_kill(server: Shardkv, chosen: str) -> None:
    with server.wire() as killer, several(server, 6) as connections:
        victim = connections[3]
        victim.ask("CLIENT", "SETNAME", "victim")
        victim.ask("SELECT", 7)
        number = victim.ask("CLIENT", "ID")[1:].strip()
        if chosen == "address":
            assert killer.ask("CLIENT", "KILL", f"127.0.0.1:{victim.port}") == b"+OK\r\n"
        else:
            value = {"ID": number.decode(), "NAME": "victim", "DB": "7"}[chosen]
            assert killer.ask("CLIENT", "KILL", chosen, value) == b":1\r\n"
        assert victim.ends() == b""
        alive = [connection for connection in connections if connection is not victim]
        assert in_turn(alive, "PING") == [b"+PONG\r\n"] * 5


def test_kill_spares_oneself_unless_told_otherwise(server: Shardkv) -> None:
    with server.wire() as connection:
        own = connection.ask("CLIENT", "ID")[1:].strip()
        assert connection.ask("CLIENT", "KILL", "ID", own) == b":0\r\n"
        assert connection.ask("CLIENT", "KILL", "ID", own, "SKIPME", "no") == b":1\r\n"
        assert connection.ends() == b""


def test_a_client_that_kills_itself_gets_the_reply_and_nothing_more_runs(server: Shardkv) -> None:
    with server.wire() as connection:
        kill = pack("CLIENT", "KILL", f"127.0.0.1:{connection.port}")
        connection.send_bytes(pack("SET", "kill", "1") + kill + pack("SET", "kill", "2"))
        assert connection.ends() == b"+OK\r\n+OK\r\n"
    with server.wire() as connection:
        assert connection.ask("GET", "kill") == b"$1\r\n1\r\n"


# -- pause ------------------------------------------------------------------------------------


def test_a_pause_of_writes_holds_writes_of_all_proxies_until_it_is_ended(server: Shardkv) -> None:
    with server.wire() as pausing, several(server, 8) as connections:
        pausing.ask("SET", "paused", "0")
        assert pausing.ask("CLIENT", "PAUSE", 60000, "WRITE") == b"+OK\r\n"
        for connection in connections:
            connection.send_bytes(pack("GET", "paused") + pack("INCR", "paused") + pack("GET", "paused"))
            assert connection.receive() == b"$1\r\n0\r\n"
        eventually(lambda: int(fields(pausing.text("INFO", "clients"))["blocked_clients"]) == 8)
        assert len(listed(pausing, "FLAGS", "b")) == 8
        assert fields(pausing.text("INFO", "clients"))["paused_actions"] == "write"
        assert pausing.ask("GET", "paused") == b"$1\r\n0\r\n"
        assert pausing.ask("CLIENT", "UNPAUSE") == b"+OK\r\n"
        assert sorted(connection.receive() for connection in connections) == [
            b":%d\r\n" % n for n in range(1, 9)
        ]
        for connection in connections:
            connection.receive()
        assert pausing.ask("GET", "paused") == b"$1\r\n8\r\n"


def test_a_pause_of_all_holds_everything_but_errors_and_ends_by_itself(server: Shardkv) -> None:
    with server.wire() as pausing, several(server, 4) as connections:
        begun_s = clock.monotonic()
        assert pausing.ask("CLIENT", "PAUSE", 300) == b"+OK\r\n"
        assert in_turn(connections, "NOSUCH")[0].startswith(b"-ERR unknown command")
        assert clock.monotonic() - begun_s < 0.3
        for connection in connections:
            connection.send("PING")
        assert [connection.receive() for connection in connections] == [b"+PONG\r\n"] * 4
        assert clock.monotonic() - begun_s >= 0.3


def test_a_pause_outlives_a_proxy() -> None:
    with shardkv(proxies=1, workers=1) as server:
        with server.wire() as pausing:
            assert pausing.ask("CLIENT", "PAUSE", 60000, "WRITE") == b"+OK\r\n"
            [proxy] = server.pids("proxy")
            os.kill(proxy, signal.SIGKILL)
            pausing.ends()
        eventually(lambda: server.pids("proxy") not in ([], [proxy]))
        with server.wire() as writing, server.wire() as other:
            writing.send("SET", "a", "1")
            eventually(lambda: len(listed(other, "FLAGS", "b")) == 1)
            assert other.ask("CLIENT", "UNPAUSE") == b"+OK\r\n"
            assert writing.receive() == b"+OK\r\n"


def test_ids_are_not_used_again_when_a_proxy_is_started_anew() -> None:
    with shardkv(proxies=2, workers=1) as server:
        with several(server, 10) as connections:
            before = {int(reply[1:]) for reply in in_turn(connections, "CLIENT", "ID")}
            old = server.pids("proxy")
            for proxy in old:
                os.kill(proxy, signal.SIGKILL)
            for connection in connections:
                connection.ends()
        eventually(lambda: len(set(server.pids("proxy")) - set(old)) == 2)
        with several(server, 10) as connections:
            after = {int(reply[1:]) for reply in in_turn(connections, "CLIENT", "ID")}
        assert not before & after


# -- limits -----------------------------------------------------------------------------------


def test_maxclients_counts_the_clients_of_all_proxies() -> None:
    with shardkv(proxies=2, workers=1, maxclients=6) as server, ExitStack() as stack:
        connections = [stack.enter_context(server.wire())]
        eventually(lambda: len(listed(connections[0])) == 1)
        connections += [stack.enter_context(server.wire()) for _ in range(5)]
        assert in_turn(connections, "PING") == [b"+PONG\r\n"] * 6
        for _ in range(4):
            with server.wire() as refused:
                assert refused.ends() == b"-ERR max number of clients reached\r\n"
        stats = fields(connections[0].text("INFO", "stats", "clients"))
        assert stats["rejected_connections"] == "4"
        assert stats["connected_clients"] == "6"
        connections[5].socket.close()
        eventually(lambda: len(listed(connections[0])) == 5)
        with server.wire() as welcome:
            assert welcome.ask("PING") == b"+PONG\r\n"


def test_who_is_idle_for_too_long_is_closed() -> None:
    with shardkv(workers=1, timeout=1) as server, server.wire() as idle, server.wire() as busy:
        assert idle.ask("PING") == b"+PONG\r\n"
        begun_s = clock.monotonic()
        while idle.closed is False and clock.monotonic() - begun_s < 10:
            assert busy.ask("PING") == b"+PONG\r\n"
            idle.socket.settimeout(0.1)
            try:
                idle.ends()
            except TimeoutError:
                continue
        assert 0.9 < clock.monotonic() - begun_s < 5
        assert busy.ask("PING") == b"+PONG\r\n"


@pytest.mark.parametrize("limit", ["normal 1mb 0 0", "normal 0 1mb 1"], ids=["hard", "soft"])
def test_a_client_that_does_not_read_is_closed(limit: str) -> None:
    with shardkv(proxies=1, workers=1) as server, server.wire() as other:
        assert other.ask("CONFIG", "SET", "client-output-buffer-limit", limit) == b"+OK\r\n"
        other.ask("SET", "large", b"x" * 20_000_000)
        with server.wire() as slow:
            slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            assert slow.ask("PING") == b"+PONG\r\n"
            # Of small replies no more than the limit would wait: no further requests of the client are taken.
            slow.send("GET", "large")
            eventually(lambda: len(listed(other)) == 1)
        assert other.ask("PING") == b"+PONG\r\n"
        assert server.info("stats")["client_output_buffer_limit_disconnections"] == "1"


def test_keepalive_is_asked_of_the_kernel() -> None:
    with shardkv(proxies=1, workers=1, tcp_keepalive=77) as server, server.wire() as connection:
        connection.ask("PING")
        port = f"{connection.port:04X}"
        timers = [
            line.split()[5]
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
            if f":{port} " in line
        ]
        # The server's end of the connection has a keep-alive timer, which the kernel calls 02.
        assert any(timer.startswith("02:") for timer in timers)


def own_addresses() -> list[str]:
    """The addresses of this host that are not the loopback interface's."""
    found = [address for addresses in psutil.net_if_addrs().values() for address in addresses]
    return [
        address.address
        for address in found
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]


@pytest.mark.skipif(not own_addresses(), reason="this host has no address but the loopback interface's")
def test_protected_mode_keeps_other_hosts_out_while_there_is_no_password() -> None:
    address = own_addresses()[0]
    with shardkv(workers=1, bind=f"127.0.0.1 {address}") as server, server.wire() as local:

        def from_outside() -> bytes:
            with socket.create_connection((address, server.port), timeout=10) as client:
                client.sendall(pack("PING"))
                return client.recv(4096)

        assert from_outside().startswith(b"-DENIED Redis is running in protected mode")
        assert local.ask("CONFIG", "SET", "requirepass", "x") == b"+OK\r\n"
        assert from_outside() == b"-NOAUTH Authentication required.\r\n"
        assert local.ask("CONFIG", "SET", "requirepass", "", "protected-mode", "no") == b"+OK\r\n"
        assert from_outside() == b"+PONG\r\n"


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with shardkv(proxies=2, workers=1, unixsocket=str(path)) as server, server.wire() as other:
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        client.sendall(pack("CLIENT", "INFO"))
        line = client.recv(4096).decode()
        assert f" addr={path}:0 laddr={path}:0 " in line
        assert " flags=U " in line
        assert len(listed(other, "FLAGS", "U")) == 1
        client.close()


# -- passwords --------------------------------------------------------------------------------


def test_passwords_and_what_a_change_of_them_means() -> None:
    with (
        shardkv(proxies=2, workers=1, requirepass="old secret") as server,
        server.wire() as connection,
        server.wire() as late,
    ):
        assert connection.ask("GET", "a") == b"-NOAUTH Authentication required.\r\n"
        assert connection.ask("NOSUCH").startswith(b"-ERR unknown command")
        assert connection.ask("AUTH", "new secret").startswith(b"-WRONGPASS ")
        assert connection.ask("HELLO", 3).startswith(b"-NOAUTH HELLO must be called")
        assert connection.ask("HELLO", 3, "AUTH", "default", "old secret").startswith(b"%7\r\n")
        assert connection.ask("CONFIG", "SET", "requirepass", "new secret") == b"+OK\r\n"
        assert connection.ask("GET", "a") == b"_\r\n"
        assert late.ask("AUTH", "old secret").startswith(b"-WRONGPASS ")
        assert late.ask("AUTH", "default", "new secret") == b"+OK\r\n"
        assert late.ask("RESET") == b"+RESET\r\n"
        assert late.ask("PING") == b"-NOAUTH Authentication required.\r\n"
        assert connection.ask("CONFIG", "SET", "requirepass", "") == b"+OK\r\n"
        assert late.ask("PING") == b"+PONG\r\n"
        assert late.ask("AUTH", "any").startswith(b"-ERR AUTH <password> called without any password")


def test_the_bounds_before_authentication_end_with_it() -> None:
    many = pack("MGET", *[str(number) for number in range(20)])
    with shardkv(proxies=1, workers=2, requirepass="secret") as server:
        with server.wire() as connection:
            connection.send_bytes(many)
            assert connection.ends() == b"-ERR Protocol error: unauthenticated multibulk length\r\n"
        with server.wire() as connection:
            connection.send_bytes(pack("AUTH", "secret") + many + pack("PING"))
            assert connection.receive() == b"+OK\r\n"
            assert connection.receive() == b"*20\r\n" + b"$-1\r\n" * 20
            assert connection.receive() == b"+PONG\r\n"


def test_the_log_tells_no_password() -> None:
    with shardkv(requirepass="unspeakable", loglevel="debug") as secretive:
        with secretive.wire() as connection:
            connection.ask("AUTH", "unspeakable")
            connection.ask("CONFIG", "SET", "requirepass", "unspeakable too")
        secretive.stop()
        assert not re.search("unspeakable", secretive.log.read_text())
