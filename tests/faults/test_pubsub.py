"""Publish/subscribe when processes die and clients do not read."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack

import hiredis
import psutil

from shardkv import clock, limits
from shardkv.slots import even_slot_table, slot_of
from tests.faults.test_flow import MIB, rss
from tests.processes.server import Shardkv, eventually, on_proxy, shardkv
from tests.wire import Connection, pack


def channel_of_shard(shard: int, shards: int = 2) -> str:
    """A channel that is at home on a shard of a new data folder."""
    table = even_slot_table(shards)
    return next(name for name in map("news{}".format, range(1000)) if table[slot_of(name.encode())] == shard)


def message(channel: str, text: str) -> bytes:
    return pack("message", channel, text)


def kill(server: Shardkv, kind: str, index: int = 0) -> None:
    """Kills a process, and waits until another has taken its place."""
    before = server.pids(kind)
    titles = {" ".join(psutil.Process(pid).cmdline()): pid for pid in before}
    victim = next(pid for title, pid in titles.items() if f"{kind}-{index}" in title)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(server.pids(kind)) == len(before) and victim not in server.pids(kind))


def published(connection: Connection, channel: str, text: str) -> int:
    """Publishes as soon as the channel's shard is there; returns how many have received it."""
    while (reply := connection.ask("PUBLISH", channel, text)).startswith((b"-SHARDDOWN", b"-LOADING")):
        clock.sleep(0.001)
    return int(reply[1:])


def test_a_restarted_shard_knows_the_subscribers_of_all_proxies() -> None:
    channels = [channel_of_shard(0), channel_of_shard(1)]
    with shardkv(workers=2, proxies=2) as server, ExitStack() as stack:
        subscribers = [stack.enter_context(server.wire()) for _ in range(8)]
        for subscriber in subscribers:
            for channel in channels:
                subscriber.ask("SUBSCRIBE", channel)
            subscriber.ask("PSUBSCRIBE", "news*")
        publisher = stack.enter_context(server.wire())
        for number in range(5):
            kill(server, "worker", number % 2)
            for channel in channels:
                assert published(publisher, channel, str(number)) == 16
        for subscriber in subscribers:
            for number in range(5):
                for channel in channels:
                    assert subscriber.receive() == message(channel, str(number))
                    assert subscriber.receive() == pack("pmessage", "news*", channel, number)


def test_a_client_subscribes_while_the_shard_of_its_channel_is_down() -> None:
    channel = channel_of_shard(0)
    with shardkv(workers=2) as server, server.wire() as subscriber, server.wire() as publisher:
        [victim] = [
            pid for pid in server.pids("worker") if "worker-0" in " ".join(psutil.Process(pid).cmdline())
        ]
        os.kill(victim, signal.SIGKILL)
        subscriber.send("SUBSCRIBE", channel)
        assert subscriber.receive().startswith(b"*3\r\n$9\r\nsubscribe")
        assert published(publisher, channel, "hello") == 1
        assert subscriber.receive() == message(channel, "hello")


def test_the_subscribers_of_a_dead_proxy_are_not_counted() -> None:
    channel = channel_of_shard(1)
    with shardkv(workers=2, proxies=2) as server, ExitStack() as stack:
        subscribers = [stack.enter_context(on_proxy(server, number % 2, 2)) for number in range(16)]
        for subscriber in subscribers:
            subscriber.ask("SUBSCRIBE", channel)
            subscriber.ask("PSUBSCRIBE", "*")
        kill(server, "proxy")
        with server.wire() as publisher:
            alive = []
            for subscriber in subscribers:
                subscriber.send("PING")
                if subscriber.receive():
                    alive.append(subscriber)
            assert len(alive) < len(subscribers)
            eventually(lambda: server.info("clients")["pubsub_clients"] == str(len(alive)))
            assert published(publisher, channel, "hello") == 2 * len(alive)
            for subscriber in alive:
                assert subscriber.receive() == message(channel, "hello")


def test_a_slow_reader_is_dropped_and_nobody_else() -> None:
    with (
        shardkv(client_output_buffer_limit="pubsub 4mb 0 0") as server,
        server.wire() as slow,
        server.wire() as quick,
        server.wire() as other,
        server.wire() as publisher,
    ):
        for subscriber in (slow, quick):
            subscriber.ask("SUBSCRIBE", "news")
        other.ask("SET", "key", "value")
        before = rss(server)
        text = "x" * 100_000
        receivers = 2
        sent = 0
        while receivers == 2:
            receivers = int(publisher.ask("PUBLISH", "news", text)[1:])
            sent += 1
            assert quick.receive() == message("news", text)
            assert sent < 1000
        assert receivers == 1
        assert rss(server) - before < 64 * MIB
        assert len(slow.ends()) < sent * len(message("news", text))
        assert other.ask("GET", "key") == b"$5\r\nvalue\r\n"
        assert server.info("stats")["client_output_buffer_limit_disconnections"] == "1"


def test_normal_clients_keep_their_own_limit() -> None:
    with shardkv(client_output_buffer_limit="pubsub 64kb 0 0") as server, server.wire() as connection:
        value = b"x" * 50_000
        connection.ask("SET", "key", value)
        connection.send_bytes(pack("GET", "key") * 400)
        clock.sleep(0.2)
        for _ in range(400):
            assert connection.receive() == b"$%d\r\n%b\r\n" % (len(value), value)


def test_a_proxy_that_stands_still_costs_bounded_memory() -> None:
    with shardkv(workers=1, proxies=2) as server, ExitStack() as stack:
        clients = [stack.enter_context(on_proxy(server, number % 2, 2)) for number in range(16)]
        for client in clients:
            client.ask("SUBSCRIBE", "news")
        stuck = server.pids("proxy")[0]
        before = rss(server)
        os.kill(stuck, signal.SIGSTOP)
        try:
            publisher = _client_that_is_served(server, stack)
            text = "x" * 1_000_000
            drains = _Drains(clients)
            for _ in range(2 * limits.MESSAGES_BACKLOG_BYTES // len(text)):
                assert publisher.ask("PUBLISH", "news", text) == b":16\r\n"
            assert rss(server) - before < 2 * limits.MESSAGES_BACKLOG_BYTES
        finally:
            os.kill(stuck, signal.SIGCONT)
        # Who has missed messages is told so by losing the connection.
        eventually(lambda: publisher.ask("PUBLISH", "news", "end") not in (b":16\r\n", b":0\r\n"))
        count = int(publisher.ask("PUBLISH", "news", "end")[1:])
        eventually(lambda: sum(drains.ended) == 16 - count)
        drains.stop()


def _client_that_is_served(server: Shardkv, stack: ExitStack) -> Connection:
    """A client of a proxy that does not stand still."""
    while True:
        connection = stack.enter_context(server.wire())
        connection.socket.settimeout(0.3)
        try:
            assert connection.ask("PING") == b"+PONG\r\n"
        except TimeoutError:
            continue
        connection.socket.settimeout(20)
        return connection


class _Drains:
    """Reads all that comes for some clients, in a thread each. `ended` says whose connections have ended."""

    def __init__(self, clients: list[Connection]) -> None:
        self.ended = [False] * len(clients)
        self._clients = clients
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._drain, args=[number]) for number in range(len(clients))
        ]
        for thread in self._threads:
            thread.start()

    def _drain(self, number: int) -> None:
        client = self._clients[number]
        client.socket.settimeout(0.05)
        while not self._stopping:
            try:
                if not client.socket.recv(MIB):
                    self.ended[number] = True
                    return
            except TimeoutError:
                pass
            except ConnectionResetError:
                self.ended[number] = True
                return

    def stop(self) -> None:
        self._stopping = True
        for thread in self._threads:
            thread.join()


def test_messages_of_a_publisher_come_in_order_to_all_and_none_is_missing() -> None:
    count = 5000
    with shardkv(workers=3, proxies=2) as server, ExitStack() as stack:
        subscribers = [stack.enter_context(server.wire(protocol)) for protocol in (2, 3) * 4]
        for subscriber in subscribers:
            subscriber.ask("SUBSCRIBE", "a")
            subscriber.ask("PSUBSCRIBE", "b*")
        publishers = [stack.enter_context(server.wire()) for _ in range(3)]

        def publish(number: int) -> None:
            connection = publishers[number]
            requests = (pack("PUBLISH", "ab"[at % 2], f"{number}:{at}") for at in range(count))
            connection.send_bytes(b"".join(requests))
            for _ in range(count):
                assert connection.receive() == b":8\r\n"

        threads = [threading.Thread(target=publish, args=[number]) for number in range(3)]
        for thread in threads:
            thread.start()
        for subscriber in subscribers:
            assert _in_order(subscriber, 3 * count)
        for thread in threads:
            thread.join()


def _in_order(subscriber: Connection, count: int) -> bool:
    """Whether so many messages come, and those of each publisher on each channel in their order."""
    reader = hiredis.Reader()
    last: dict[tuple[bytes, bytes], int] = {}
    while count:
        reader.feed(subscriber.socket.recv(MIB))
        while (told := reader.gets()) is not False:
            *_, channel, text = told
            publisher, number = text.split(b":")
            assert int(number) == last.get((channel, publisher), -2 + (channel == b"b")) + 2
            last[(channel, publisher)] = int(number)
            count -= 1
    return True


def test_who_waits_for_replies_is_heard_in_order_on_all_channels() -> None:
    with shardkv(workers=3, proxies=2) as server, ExitStack() as stack:
        subscribers = [stack.enter_context(server.wire()) for _ in range(8)]
        for subscriber in subscribers:
            subscriber.ask("PSUBSCRIBE", "*")
        publishers = [stack.enter_context(server.wire()) for _ in range(4)]
        for number in range(2000):
            # Whoever it is that publishes: the one before has had a reply.
            assert publishers[number % 4].ask("PUBLISH", f"channel{number % 7}", number) == b":8\r\n"
        for subscriber in subscribers:
            for number in range(2000):
                assert subscriber.receive() == pack("pmessage", "*", f"channel{number % 7}", number)


def test_idle_subscribers_are_left_alone() -> None:
    with shardkv(timeout=1) as server, server.wire() as idle, server.wire() as subscriber:
        subscriber.ask("SUBSCRIBE", "news")
        assert idle.ends() == b""
        with server.wire() as publisher:
            assert publisher.ask("PUBLISH", "news", "hello") == b":1\r\n"
        assert subscriber.receive() == message("news", "hello")


def test_clients_that_leave_are_not_counted_any_more() -> None:
    with shardkv(workers=2, proxies=2) as server, server.wire() as publisher:
        for channel in (channel_of_shard(0), channel_of_shard(1)):
            with server.wire() as subscriber:
                subscriber.ask("SUBSCRIBE", channel)
                assert publisher.ask("PUBLISH", channel, "hello") == b":1\r\n"
                assert publisher.ask("CLIENT", "KILL", "TYPE", "pubsub") == b":1\r\n"
                while publisher.ask("PUBLISH", channel, "hello") != b":0\r\n":
                    clock.sleep(0.001)
        info = server.info()
        assert [info[name] for name in ("pubsub_channels", "pubsub_patterns", "pubsub_clients")] == ["0"] * 3


def test_figures_and_lists() -> None:
    with shardkv(workers=2, proxies=2) as server, server.wire() as first, server.wire() as second:
        first.ask("SUBSCRIBE", channel_of_shard(0))
        first.ask("SUBSCRIBE", channel_of_shard(1))
        first.ask("PSUBSCRIBE", "*")
        second.ask("SUBSCRIBE", channel_of_shard(1))
        second.ask("PSUBSCRIBE", "*")
        second.ask("SSUBSCRIBE", "x")
        info = server.info()
        names = ("pubsub_channels", "pubsub_patterns", "pubsubshard_channels", "pubsub_clients")
        assert [info[name] for name in names] == ["2", "1", "1", "2"]
        with server.wire() as other:
            listed = other.text("CLIENT", "LIST", "TYPE", "pubsub").splitlines()
        assert [" flags=P " in line for line in listed] == [True, True]
        assert any(" sub=2 psub=1 ssub=0 " in line for line in listed)
        assert any(" sub=1 psub=1 ssub=1 " in line for line in listed)
