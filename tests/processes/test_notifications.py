"""Keyspace notifications of a running server reach the subscribers of every proxy, wherever the key is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.processes.server import Shardkv, eventually, on_proxy, shardkv
from tests.wire import Connection

KEYS = [f"key:{number}" for number in range(12)]
"""They lie on all shards."""


@pytest.fixture(scope="module")
def crowd() -> Iterator[Shardkv]:
    with shardkv(workers=3, proxies=2, notify_keyspace_events="KEA") as running:
        yield running


def words(message: bytes) -> list[bytes]:
    return message.split(b"\r\n")[2::2]


def subscribed(server: Shardkv, stack: ExitStack, *request: str) -> list[Connection]:
    """A client of each proxy that has asked for messages."""
    clients = [stack.enter_context(on_proxy(server, proxy, 2)) for proxy in (0, 1)]
    for client in clients:
        assert b"subscribe" in client.ask(*request)
    return clients


def test_events_of_all_shards_reach_all_proxies(crowd: Shardkv) -> None:
    with ExitStack() as stack:
        by_event = subscribed(crowd, stack, "SUBSCRIBE", "__keyevent@0__:set")
        by_pattern = subscribed(crowd, stack, "PSUBSCRIBE", "__keyspace@0__:key:*")
        asking = stack.enter_context(crowd.wire())
        for key in KEYS:
            assert asking.ask("SET", key, "1") == b"+OK\r\n"
        for client in by_event:
            told = [words(client.receive()) for _ in KEYS]
            assert sorted(told) == sorted([b"message", b"__keyevent@0__:set", key.encode()] for key in KEYS)
        for client in by_pattern:
            channels = {words(client.receive())[2] for _ in KEYS}
            assert channels == {b"__keyspace@0__:" + key.encode() for key in KEYS}


def test_subscribers_of_such_a_channel_are_counted_once(crowd: Shardkv) -> None:
    with ExitStack() as stack:
        listening = subscribed(crowd, stack, "SUBSCRIBE", "__keyevent@3__:set")
        asking = stack.enter_context(crowd.wire())
        numbers = asking.ask("PUBSUB", "NUMSUB", "__keyevent@3__:set")
        assert numbers == b"*2\r\n$18\r\n__keyevent@3__:set\r\n:2\r\n"
        assert asking.ask("PUBSUB", "CHANNELS", "__keyevent@3*") == b"*1\r\n$18\r\n__keyevent@3__:set\r\n"
        assert crowd.info()["pubsub_channels"] == "1"
        # What somebody publishes there himself comes once as well.
        assert asking.ask("PUBLISH", "__keyevent@3__:set", "x") == b":2\r\n"
        assert asking.ask("PUBLISH", "__keyevent@3__:set", "y") == b":2\r\n"
        for client in listening:
            assert [words(client.receive())[2] for _ in "xy"] == [b"x", b"y"]


def test_a_transaction_over_shards_tells_each_of_its_events_once(crowd: Shardkv) -> None:
    with ExitStack() as stack:
        [client, _] = subscribed(crowd, stack, "PSUBSCRIBE", "__keyevent@0__:*")
        asking = stack.enter_context(crowd.wire())
        script = "for _, k in ipairs(KEYS) do redis.call('append', k, 'x') end redis.call('del', 'key:0')"
        for request in (["MULTI"], ["MSET", *[word for key in KEYS for word in (key, "1")]], ["EXEC"]):
            asking.ask(*request)
        asking.ask("EVAL", script, len(KEYS), *KEYS)
        told = [words(client.receive())[2:] for _ in range(2 * len(KEYS) + 1)]
        for key in KEYS[1:]:
            mine = [event for event, name in told if name == key.encode()]
            assert mine == [b"__keyevent@0__:set", b"__keyevent@0__:append"]
        assert [event for event, name in told if name == b"key:0"][-1] == b"__keyevent@0__:del"


def test_what_expires_is_told(crowd: Shardkv) -> None:
    with ExitStack() as stack:
        listening = subscribed(crowd, stack, "SUBSCRIBE", "__keyevent@0__:expired")
        asking = stack.enter_context(crowd.wire())
        for key in KEYS:
            asking.ask("SET", key, "1", "PX", "1")
        for client in listening:
            assert {words(client.receive())[2].decode() for _ in KEYS} == set(KEYS)


def test_a_client_of_resp3_hears_of_its_own_change_after_the_reply(crowd: Shardkv) -> None:
    with crowd.wire(3) as client:
        client.ask("PSUBSCRIBE", "__keyevent@0__:*")
        assert client.ask("SET", "own", "1") == b"+OK\r\n"
        assert words(client.receive())[2:] == [b"__keyevent@0__:set", b"own"]


def test_the_setting_counts_from_its_change_on(crowd: Shardkv) -> None:
    with ExitStack() as stack:
        [client, _] = subscribed(crowd, stack, "PSUBSCRIBE", "__key*@0__:*")
        asking = stack.enter_context(crowd.wire())
        assert asking.ask("CONFIG", "SET", "notify-keyspace-events", "") == b"+OK\r\n"
        for key in KEYS:
            asking.ask("SET", key, "1")
        assert asking.ask("CONFIG", "SET", "notify-keyspace-events", "Eg") == b"+OK\r\n"
        for key in KEYS:
            asking.ask("DEL", key)
        assert {words(client.receive())[2] for _ in KEYS} == {b"__keyevent@0__:del"}
        assert asking.ask("CONFIG", "SET", "notify-keyspace-events", "KEA") == b"+OK\r\n"


def test_what_is_asked_for_while_a_script_keeps_shards_busy_counts_after_it() -> None:
    with shardkv(workers=2, busy_reply_threshold=50) as server, ExitStack() as stack:
        [script, asking, reader, listening] = [stack.enter_context(server.wire(3)) for _ in range(4)]
        listening.ask("PSUBSCRIBE", "__keyevent@0__:*")
        script.send("EVAL", "while true do end", "0")
        eventually(lambda: any(asking.ask("GET", key).startswith(b"-BUSY") for key in KEYS))
        assert asking.ask("CONFIG", "SET", "notify-keyspace-events", "E$") == b"+OK\r\n"
        reader.send("CLIENT", "TRACKING", "ON")
        assert asking.ask("SCRIPT", "KILL") == b"+OK\r\n"
        assert b"killed" in script.receive()
        assert reader.receive() == b"+OK\r\n"
        for key in KEYS:
            reader.ask("GET", key)
        for key in KEYS:
            assert asking.ask("SET", key, "1") == b"+OK\r\n"
        assert {words(listening.receive())[3].decode() for _ in KEYS} == set(KEYS)
        assert {reader.receive().split(b"\r\n")[-2].decode() for _ in KEYS} == set(KEYS)


def test_a_shard_that_was_started_anew_tells_on() -> None:
    with shardkv(workers=2, proxies=2, notify_keyspace_events="Eg$") as server, ExitStack() as stack:
        listening = subscribed(server, stack, "SUBSCRIBE", "__keyevent@0__:del")
        asking = stack.enter_context(server.wire())
        for pid in server.pids("worker"):
            os.kill(pid, signal.SIGKILL)
        for key in KEYS:
            eventually(lambda key=key: asking.ask("SET", key, "1") == b"+OK\r\n")  # type: ignore[misc]
            assert asking.ask("DEL", key) == b":1\r\n"
        for client in listening:
            assert {words(client.receive())[2].decode() for _ in KEYS} == set(KEYS)
