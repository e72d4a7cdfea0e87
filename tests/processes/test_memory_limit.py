"""The limit of memory over all processes of a server."""

from __future__ import annotations

import random
from pathlib import Path

import psutil
import pytest
import redis

from tests.processes.server import Shardkv, eventually, shardkv
from tests.twin.servers import redis_7

MB = 2**20
LIMIT = 120 * MB
OOM = b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"


def used_bytes(server: Shardkv) -> int:
    """What all processes take, memory that they share counted once."""
    parent = psutil.Process(server.process.pid)
    return sum(process.memory_full_info().pss for process in (parent, *parent.children()))


def connect(server: Shardkv) -> redis.Redis:
    return redis.Redis(port=server.port)


def fill(client: redis.Redis, name: str, count: int, size: int, **options: int) -> int:
    """Sets so many keys to values of up to twice that size; returns how many were refused."""
    refused = 0
    rng = random.Random(name)
    for first in range(0, count, 500):
        pipeline = client.pipeline(transaction=False)
        for number in range(first, min(count, first + 500)):
            pipeline.set(f"{name}{number}", rng.randbytes(rng.randrange(1, 2 * size)), **options)  # type: ignore[arg-type]
        refused += sum(isinstance(reply, Exception) for reply in pipeline.execute(raise_on_error=False))
    return refused


def evicted(server: Shardkv) -> int:
    return int(server.info("stats")["evicted_keys"])


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "volatile-ttl"])
def test_filling_past_the_limit(policy: str, tmp_path: Path) -> None:
    volatile = policy.startswith("volatile")
    with shardkv(tmp_path, maxmemory=LIMIT, maxmemory_policy=policy, appendfsync="no") as server:
        client = connect(server)
        assert fill(client, "stays", 3000, 1000) == 0
        assert fill(client, "more", 20_000, 4000, **({"ex": 10_000} if volatile else {})) == 0
        eventually(lambda: used_bytes(server) <= 1.1 * LIMIT)
        assert used_bytes(server) >= 0.9 * LIMIT
        assert evicted(server) > 5000
        stays = client.exists(*(f"stays{number}" for number in range(3000)))
        assert stays == 3000 if volatile else stays < 3000
        client.config_set("maxmemory", 0)
        kept = sorted(client.scan_iter(count=5000))
    with shardkv(tmp_path, appendfsync="no") as server:
        assert sorted(connect(server).scan_iter(count=5000)) == kept


def test_without_eviction_only_what_needs_memory_is_refused() -> None:
    with shardkv(maxmemory=LIMIT) as server, server.wire() as connection:
        client = connect(server)
        assert fill(client, "key", 25_000, 4000) > 0
        assert used_bytes(server) <= 1.1 * LIMIT
        count = client.dbsize()
        assert count > 5000
        eventually(lambda: connection.ask("SET", "key0", "x" * 5000) == OOM)
        assert client.get("key0") is not None
        eventually(lambda: connection.ask("MSET", "a", "x", "b", "x", "c", "x") == OOM)
        assert client.exists("a", "b", "c") == 0
        for number in range(5000):
            client.delete(f"key{number}")
        eventually(lambda: connection.ask("SET", "key0", "x" * 5000) == b"+OK\r\n")
        eventually(lambda: connection.ask("MSET", "a", "x", "b", "x", "c", "x") == b"+OK\r\n")


def test_a_shard_that_has_nearly_all_keys_uses_what_the_other_leaves() -> None:
    with shardkv(maxmemory=LIMIT, maxmemory_policy="allkeys-lru", appendonly="no") as server:
        client = connect(server)
        assert fill(client, "{one}", 20_000, 4000) == 0
        eventually(lambda: used_bytes(server) <= 1.1 * LIMIT)
        assert used_bytes(server) >= 0.9 * LIMIT
        # What is used more recently than what the large shard holds has its room on the other as well, soon.
        names = [f"any{number}" for number in range(8000)]
        eventually(lambda: fill(client, "any", 8000, 1000) == 0 and client.exists(*names) > 7800, 20)


REFUSALS = """
SET a x | GET a | DEL a | APPEND a x | LPUSH l x | SETRANGE a 1 x | MSET a 1 b 2 c 3 d 4 | INCR n
EXPIRE a 10
MULTI | GET a | EXEC | MULTI | SET a x | EXEC | MULTI | DISCARD | MULTI | EXEC | MULTI | PING | DISCARD
COPY a b | RENAME a b | SUNIONSTORE a b c | SORT a STORE b | LMOVE a b LEFT LEFT | PFADD h x | BITOP NOT a b
EVAL return(1) 0 | EVALSHA 0 0 | PUBLISH c m | WATCH a | UNWATCH
"""


def test_refusals_are_those_of_redis() -> None:
    with redis_7() as twin, shardkv(proxies=1, workers=2) as ours:
        replies = []
        for server in (twin, ours):
            with Shardkv.wire(server) as connection:  # type: ignore[arg-type]
                connection.ask("SET", "a", "there")
                connection.ask("CONFIG", "SET", "maxmemory", 1)
                connection.ask("MULTI")
                eventually(lambda: connection.ask("GET", "a") == OOM)
                connection.ask("DISCARD")
                asked = [
                    request.split() for line in REFUSALS.strip().splitlines() for request in line.split(" | ")
                ]
                replies.append([(words, connection.ask(*words)) for words in asked])
        assert replies[0] == replies[1]


def test_the_client_that_takes_most_is_disconnected() -> None:
    with (
        shardkv(maxmemory_clients="8mb", proxies=2) as server,
        server.wire() as greedy,
        server.wire() as modest,
        server.wire() as spared,
    ):
        assert spared.ask("CLIENT", "NO-EVICT", "on") == b"+OK\r\n"
        for connection, size in ((spared, 6 * MB), (modest, MB), (greedy, 4 * MB)):
            # The beginning of a request.
            connection.send_bytes(b"*2\r\n$3\r\nGET\r\n$8000000\r\n" + b"x" * size)
        greedy.ends()
        assert int(server.info("stats")["evicted_clients"]) == 1
        spared.send_bytes(b"x" * (8_000_000 - 6 * MB) + b"\r\n")
        assert spared.receive() == b"$-1\r\n"
        assert not modest.closed


def test_an_unread_reply_counts() -> None:
    with (
        shardkv(maxmemory_clients="4mb", proxies=1) as server,
        server.wire() as connection,
        server.wire() as other,
    ):
        assert other.ask("SET", "key", "x" * MB) == b"+OK\r\n"
        for _ in range(30):
            connection.send("GET", "key")
        eventually(lambda: int(server.info("stats")["evicted_clients"]) == 1)
        assert other.ask("PING") == b"+PONG\r\n"
