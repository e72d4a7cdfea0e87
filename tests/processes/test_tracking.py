"""Clients that track keys hear of the changes of which they hear from a real server."""

from __future__ import annotations

import itertools
import os
import random
import shlex
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

from tests.processes.server import Shardkv, eventually, on_proxy, shardkv
from tests.twin.servers import Server
from tests.wire import Connection, pack

PROXIES = 2

READS = """
a CLIENT TRACKING ON | a GET k | b SET k 1 | b SET k 1 | a GET k | a SET k 2 | a GET k | b SELECT 3
b SET k 1 | b SELECT 0 | a GET k | b FLUSHDB | b FLUSHALL | a GET k | b SWAPDB 0 3 | b SWAPDB 0 3
a MGET k l m n o | b MSET l 1 m 1 k 1 n 1 | b DEL k l m n o | a GET k | b SET k 1 | a GET k | b EXPIRE k 100
a GET k | b RENAME k l | a TTL k | a TYPE l | a EXISTS l m | b DEL k l m | a KEYS * | a DBSIZE | a SCAN 0
a RANDOMKEY | b SET k 1 | a SINTERSTORE d k2 | b SADD k2 x | a SUNION k2 k3 k4 | b SADD k3 x | b SADD k4 x
a SORT lst BY w_* | b RPUSH lst x | a SORT_RO lst | b RPUSH lst x | a OBJECT ENCODING k | b SET k 1
a GETEX k | b SET k 1 | a XREAD STREAMS x 0 | b XADD x * a 1 | a HGETALL h | b HSET h a 1 | a HGET h a
b HDEL h a | a ZRANGE z 0 -1 | b ZADD z 1 a | a GET k | b APPEND k x | b LPUSH big 1 2 3 | a LRANGE big 0 -1
b LPOP big | a GET k | b GETDEL k | a GET k | b COPY l k | b SET k v | b COPY k l REPLACE | a GET k
b LMOVE big k LEFT LEFT | a DUMP k | b DEL k | a GET k | b PING | a CLIENT TRACKINGINFO | a CLIENT GETREDIR
a CLIENT TRACKING OFF | b SET k 1 | a GET k | b SET k 1 | a CLIENT TRACKINGINFO | a CLIENT GETREDIR
a CLIENT TRACKING ON | a GET k | a RESET | a HELLO 3 | b SET k 1 | a GET k | b SET k 1
"""

TRANSACTIONS = """
a CLIENT TRACKING ON | a MULTI | a GET k | a SET k 3 | a EXEC | b SET k 1 | a MULTI | a GET k | a GET l
a EXEC | b MULTI | b SET k 1 | b SET l 2 | b INCR k | b EXEC | a GET k
b EVAL "return redis.call('set', KEYS[1], 1)" 1 k | a EVAL "return redis.call('get', KEYS[1])" 1 k
b SET k 1 | a EVAL_RO "return redis.call('get', 'k')" 0 | b SET k 1
a EVAL "return redis.call('set', KEYS[1], 1)" 1 k | b SET k 1
a EVAL "return {redis.call('mget', 'k', 'l', 'm')}" 0 | b MSET k 1 l 1 m 1 | a MULTI
a EVAL "return redis.call('get', 'k')" 0 | a EXEC | b SET k 1 | a MULTI | a MGET k l m | a EXEC | b SET l 1
a WATCH k | a MULTI | a GET k | a EXEC | b SET k 1
"""

NO_LOOP = """
a CLIENT TRACKING ON NOLOOP | a GET k | a SET k 2 | b SET k 2 | a GET k | b SET k 2 | a MGET k l m
a MSET k 1 l 1 m 1 | b MSET k 1 l 1 m 1 | a GET k | a EVAL "return redis.call('set', KEYS[1], 1)" 1 k
a GET k | a MULTI | a SET k 1 | a EXEC | a MGET k l m | a MULTI | a SET k 1 | a SET l 1 | a RENAME m n
a EXEC | a GET k | a FLUSHDB | a GET k | b FLUSHDB
"""

BROADCAST = """
a CLIENT TRACKING ON BCAST PREFIX a: PREFIX b: | b SET a:1 1 | b MSET a:1 1 a:2 2 b:1 1 c:1 1 | a SET a:1 1
b SET c:1 1 | a GET c:1 | b SET c:1 1 | b DEL a:1 a:2 | b SET a 1 | b SET a: 1 | b FLUSHDB
a CLIENT TRACKINGINFO | a CLIENT TRACKING ON BCAST PREFIX c: | b SET c:1 1
a CLIENT TRACKING ON BCAST PREFIX c:1 | a CLIENT TRACKINGINFO | a CLIENT TRACKING ON BCAST NOLOOP
a CLIENT TRACKINGINFO | a MSET x 1 y 1 z 1 | b SET x 1 | b SET zz 1 | a MULTI | a SET x 1 | a SET y 1
a EXEC | a CLIENT TRACKING ON | a CLIENT TRACKING OFF | b SET x 1 | a CLIENT TRACKING ON BCAST
b SET anything 1 | b SELECT 5 | b SET other 1 | a CLIENT TRACKING OFF | b SET other 1
"""

OPTIONAL = """
a CLIENT TRACKING ON OPTIN | a GET k | b SET k 1 | a CLIENT CACHING YES | a GET k | a GET k2 | b SET k 1
b SET k2 1 | a CLIENT CACHING YES | a CLIENT ID | a GET k | b SET k 1 | a CLIENT CACHING YES | a PING
a GET k | b SET k 1 | a CLIENT CACHING YES | a MULTI | a GET k | a GET k2 | a EXEC | a GET k3 | b SET k 1
b SET k2 1 | b SET k3 1 | a CLIENT CACHING YES | a NOSUCH | a GET k | b SET k 1 | a CLIENT CACHING YES
a GET | a GET k | b SET k 1 | a MULTI | a CLIENT CACHING YES | a GET k | a EXEC | a GET k2 | b SET k 1
b SET k2 1 | a CLIENT CACHING YES | a MGET k k2 k3 | a MGET k4 k5 k6 | b MSET k 1 k2 1 k3 1 k4 1 k5 1 k6 1
a CLIENT CACHING NO | a CLIENT CACHING FOO | a CLIENT TRACKINGINFO | a CLIENT CACHING YES
a CLIENT TRACKINGINFO | a CLIENT TRACKING ON OPTOUT | a CLIENT TRACKING OFF | a CLIENT CACHING YES
a CLIENT TRACKING ON OPTOUT | a GET k | b SET k 1 | a CLIENT CACHING NO | a GET k | a GET k2 | b SET k 1
b SET k2 1 | a CLIENT CACHING YES | a CLIENT CACHING NO | a CLIENT TRACKINGINFO | a CLIENT TRACKING ON OPTIN
"""

REDIRECTED = """
c SUBSCRIBE __redis__:invalidate | a CLIENT TRACKING ON REDIRECT {c} | a GET k | b SET k 1
a CLIENT GETREDIR | a CLIENT TRACKINGINFO | b FLUSHALL | c UNSUBSCRIBE | a GET k | b SET k 1
c PSUBSCRIBE x | a GET k | b SET k 1 | a CLIENT TRACKING OFF | a GET k | b SET k 1
a CLIENT TRACKING ON BCAST PREFIX a: REDIRECT {c} | b SET a:1 1 | b SET b:1 1 | c PUNSUBSCRIBE | c HELLO 3
b SET a:1 1
"""

ERRORS = """
a CLIENT TRACKING | a CLIENT TRACKING x | a CLIENT TRACKING on foo | a CLIENT TRACKING on redirect
a CLIENT TRACKING on redirect x | a CLIENT TRACKING on redirect 999999 | a CLIENT TRACKING on prefix a
a CLIENT TRACKING on bcast optin | a CLIENT TRACKING on bcast optout | a CLIENT TRACKING on optin optout
a CLIENT TRACKING on bcast prefix a prefix ab | a CLIENT TRACKING on bcast prefix a prefix a
a CLIENT TRACKING on bcast prefix ab prefix b prefix abc | a CLIENT TRACKING x redirect 999999
a CLIENT CACHING yes | a CLIENT CACHING x | a CLIENT CACHING | a CLIENT TRACKINGINFO x | a CLIENT GETREDIR x
a CLIENT TRACKING on redirect 0 | a CLIENT TRACKING on redirect -1 | a CLIENT TRACKING off x
a CLIENT TRACKING off prefix a | a CLIENT TRACKING off optin optout
a CLIENT TRACKING on redirect {c} redirect {c} | a CLIENT TRACKING on prefix
a CLIENT TRACKING on bcast prefix foo prefix bar | a CLIENT TRACKING on bcast prefix foob
a CLIENT TRACKING on bcast prefix fo | a CLIENT TRACKING on bcast prefix "" | a CLIENT TRACKING on
"""


UNLIKE = ("SCAN", "XADD", "XREAD", "RANDOMKEY", "DUMP", "HELLO", "SUNION", "KEYS")
"""Commands whose replies are a matter of chance or order; other tests compare them."""


@pytest.fixture(scope="module", params=[(1, 1), (3, 2)], ids=["1 shard, 1 proxy", "3 shards, 2 proxies"])
def crowd(request: pytest.FixtureRequest) -> Iterator[Shardkv]:
    workers, proxies = request.param
    with shardkv(workers=workers, proxies=proxies) as running:
        yield running


@pytest.fixture(scope="module")
def spread() -> Iterator[Shardkv]:
    with shardkv(workers=3, proxies=PROXIES) as running:
        yield running


Keys = frozenset[bytes] | None
"""What a message says has changed; None if everything may have."""


def is_told(reply: bytes) -> bool:
    """Whether what comes is no reply, but tells of changed keys."""
    return reply[:1] == b">" or b"__redis__:invalidate\r\n*" in reply or b"__redis__:invalidate\r\n_" in reply


def keys_of(message: bytes) -> Keys:
    """The keys that a message tells of."""
    content = message.partition(b"invalidate\r\n")[2]
    return None if content == b"_\r\n" else frozenset(content.split(b"\r\n")[2::2])


class Side:
    """The clients at one of the servers: `a` tracks keys, `b` changes them, `c` is told instead of `a`."""

    def __init__(self, server: Server, stack: ExitStack) -> None:
        protocols = {"a": 3, "b": 2, "c": 2}
        self.clients = {
            name: stack.enter_context(Connection(server.port, protocol))
            for name, protocol in protocols.items()
        }
        self.id_of_c = self.clients["c"].ask("CLIENT", "ID")[1:-2]
        self.told: dict[str, Counter[bytes | None]] = {name: Counter() for name in protocols}
        self.clients["b"].ask("FLUSHALL")

    def step(self, name: str, words: list[str]) -> bytes:
        """The reply to a request; what else comes is noted."""
        self.clients[name].send(*(word.encode().replace(b"{c}", self.id_of_c) for word in words))
        reply = self.reply_of(name)
        # Ids are different on both sides.
        return reply.replace(b":" + self.id_of_c, b":{c}") if words[0] == "CLIENT" else reply

    def reply_of(self, name: str) -> bytes:
        while is_told(found := self.clients[name].receive()):
            self._note(name, found)
        return found

    def wait_for(self, name: str, count: int) -> None:
        """Waits until so many keys have been told of."""
        while self.told[name].total() < count:
            found = self.clients[name].receive()
            assert is_told(found), found
            self._note(name, found)

    def _note(self, name: str, message: bytes) -> None:
        self.told[name].update(keys_of(message) or [None])

    def settle(self) -> None:
        """Lets all come that is on its way."""
        # The one passes by all shards, and what comes with it follows it.
        for name, words in itertools.product("ac", (["DBSIZE"], ["PING"])):
            if name == "a" or words == ["PING"]:
                self.step(name, words)


def assert_same(ours: Server, theirs: Server, text: str) -> None:
    with ExitStack() as stack:
        our_side, their_side = Side(ours, stack), Side(theirs, stack)
        for step in text.strip().replace("\n", " | ").split(" | "):
            name, *words = shlex.split(step)
            expected = their_side.step(name, words)
            their_side.settle()
            reply = our_side.step(name, words)
            if words[0] not in UNLIKE and words != ["CLIENT", "ID"]:
                assert reply == expected, step
            for client in "ac":
                our_side.wait_for(client, their_side.told[client].total())
            our_side.settle()
            assert our_side.told == their_side.told, step


@pytest.mark.parametrize(
    "text",
    [READS, TRANSACTIONS, NO_LOOP, BROADCAST, OPTIONAL, REDIRECTED, ERRORS],
    ids=["reads", "transactions", "noloop", "broadcast", "optional", "redirected", "errors"],
)
def test_clients_hear_what_they_hear_from_a_real_server(
    crowd: Shardkv, twin_server: Server, text: str
) -> None:
    assert_same(crowd, twin_server, text)


# -- nothing is stale -------------------------------------------------------------------------

NAMES = [f"key:{number}" for number in range(8)]
"""They lie on all shards."""


class Cache:
    """A client that keeps what it reads, asks for many things at once, and does as it is told."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.values: dict[str, bytes] = {}
        assert connection.ask("CLIENT", "TRACKING", "ON") == b"+OK\r\n"

    def read(self, chance: random.Random) -> None:
        """Sends some requests in one piece, and takes their replies."""
        requests: list[list[str]] = []
        for _ in range(chance.randint(1, 6)):
            names = chance.sample(NAMES, chance.randint(1, 4))
            match chance.randrange(4):
                case 0:
                    requests.append(["MGET", *names])
                case 1:
                    requests += [["MULTI"], *(["GET", name] for name in names), ["EXEC"]]
                case _:
                    requests.append(["GET", names[0]])
        self.connection.send_bytes(b"".join(pack(*request) for request in requests))
        queued: list[str] = []
        for request in requests:
            reply = self._reply()
            if reply == b"+QUEUED\r\n":
                queued.append(request[1])
                continue
            names, queued = (queued, []) if request[0] == "EXEC" else (request[1:], queued)
            self._keep(names, reply)

    def _keep(self, names: list[str], reply: bytes) -> None:
        values = reply.split(b"\r\n")
        if reply[:1] == b"*":
            values = values[1:]
        place = 0
        for name in names:
            if values[place] == b"_":
                self.values[name] = b""
                place += 1
            elif values[place][:1] == b"$":
                self.values[name] = values[place + 1]
                place += 2

    def _reply(self) -> bytes:
        while is_told(found := self.connection.receive()):
            self._drop(keys_of(found))
        return found

    def _drop(self, keys: Keys) -> None:
        if keys is None:
            self.values.clear()
        for key in keys or ():
            self.values.pop(key.decode(), None)

    def settle(self) -> None:
        """Takes what is on its way."""
        for words in (["DBSIZE"], ["PING"]):
            self.connection.send(*words)
            self._reply()


def change(connection: Connection, chance: random.Random) -> None:
    """Changes some keys, in one of many ways, without waiting for the one before."""
    names, value = chance.sample(NAMES, 4), str(chance.randrange(10**9))
    ways = [
        [["SET", names[0], value]],
        [["SET", names[0], value]],
        [["APPEND", names[0], "x"], ["DEL", names[1]]],
        [["MSET", *itertools.chain(*((name, value) for name in names))]],
        [["MULTI"], ["SET", names[0], value], ["SET", names[1], value], ["EXEC"]],
        [["SET", names[0], value], ["RENAME", names[0], names[1]]],
        [["SET", names[0], value, "PX", "2"]],
        [["EVAL", "return redis.call('set', KEYS[1], ARGV[1])", "1", names[0], value]],
        [["EVAL", "return redis.call('set', ARGV[1], ARGV[2])", "0", names[0], value]],
        [["FLUSHDB"]] if chance.random() < 0.2 else [["GETDEL", names[2]]],
    ]
    requests = chance.choice(ways)
    connection.send_bytes(b"".join(pack(*request) for request in requests))
    for _ in requests:
        connection.receive()


def write_until(connection: Connection, seed: int, done: threading.Event) -> None:
    chance = random.Random(seed)
    while not done.is_set():
        change(connection, chance)


def read_often(cache: Cache, seed: int, rounds: int) -> None:
    chance = random.Random(seed)
    for _ in range(rounds):
        cache.read(chance)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_kept_is_never_stale(spread: Shardkv, seed: int) -> None:
    with ExitStack() as stack:
        caches = [Cache(stack.enter_context(on_proxy_3(spread, proxy))) for proxy in (0, 1) for _ in range(2)]
        writers = [stack.enter_context(on_proxy(spread, proxy, PROXIES)) for proxy in (0, 1)]
        pool = stack.enter_context(ThreadPoolExecutor(len(caches) + len(writers)))
        kept = 0
        for phase in range(5):
            seeds = itertools.count(1000 * seed + 100 * phase)
            done = threading.Event()
            writing = [pool.submit(write_until, writer, next(seeds), done) for writer in writers]
            for reading in [pool.submit(read_often, cache, next(seeds), 40) for cache in caches]:
                reading.result()
            done.set()
            for one in writing:
                one.result()
            for cache in caches:
                # What is about to expire is told when it has.
                eventually(lambda cache=cache: is_true(cache, writers[0]))  # type: ignore[misc]
                kept += len(cache.values)
        assert kept


def is_true(cache: Cache, asking: Connection) -> bool:
    """Whether all that is kept is what is there."""
    cache.settle()
    wrong = {
        name: (value, found)
        for name, value in cache.values.items()
        if (found := asking.ask("GET", name).split(b"\r\n")[1:2]) != [value]
    }
    return not wrong


def on_proxy_3(server: Shardkv, proxy: int) -> Connection:
    connection = on_proxy(server, proxy, PROXIES)
    connection.ask("HELLO", 3)
    return connection


# -- several processes ------------------------------------------------------------------------


def test_a_client_of_another_proxy_is_told_instead(spread: Shardkv) -> None:
    with ExitStack() as stack:
        reader, told = (stack.enter_context(on_proxy(spread, proxy, PROXIES)) for proxy in (0, 1))
        writer = stack.enter_context(spread.wire())
        reader.ask("HELLO", 3)
        told.ask("SUBSCRIBE", "__redis__:invalidate")
        client = client_id_while_subscribed(spread, told)
        assert reader.ask("CLIENT", "TRACKING", "ON", "REDIRECT", client) == b"+OK\r\n"
        for name in NAMES:
            reader.ask("GET", name)
            writer.ask("SET", name, "1")
            assert keys_of(told.receive()) == frozenset({name.encode()})
        told.socket.close()

        def is_found_out() -> bool:
            reply_after_pushes(reader, "GET", NAMES[0])
            writer.ask("SET", NAMES[0], "1")
            return b"broken_redirect" in reply_after_pushes(reader, "CLIENT", "TRACKINGINFO")

        eventually(is_found_out)
        assert " flags=tR " in reply_after_pushes(reader, "CLIENT", "INFO").decode()


def client_id_while_subscribed(server: Shardkv, connection: Connection) -> int:
    with server.wire() as asking:
        clients = asking.text("CLIENT", "LIST").splitlines()
        [line] = [line for line in clients if f":{connection.port} " in line]
        return int(line.split()[0].removeprefix("id="))


def reply_after_pushes(connection: Connection, *words: str) -> bytes:
    connection.send(*words)
    while (found := connection.receive())[:1] == b">":
        pass
    return found


def test_when_a_shard_is_gone_everything_may_have_changed() -> None:
    with shardkv(workers=3, proxies=PROXIES) as server, ExitStack() as stack:
        readers = [stack.enter_context(on_proxy_3(server, proxy)) for proxy in (0, 1)]
        everything = [stack.enter_context(on_proxy_3(server, proxy)) for proxy in (0, 1)]
        writer = stack.enter_context(server.wire())
        for reader in readers:
            reader.ask("CLIENT", "TRACKING", "ON")
        for reader in everything:
            reader.ask("CLIENT", "TRACKING", "ON", "BCAST")
        for name in NAMES:
            for reader in readers:
                reader.ask("GET", name)
        os.kill(server.pids("worker")[0], signal.SIGKILL)
        for reader in [*readers, *everything]:
            assert keys_of(reader.receive()) is None
        for name in NAMES:
            # And the shard that is back knows who tracks keys.
            eventually(lambda name=name: writer.ask("SET", name, "1") == b"+OK\r\n")  # type: ignore[misc]
        for reader in readers:
            for name in NAMES:
                reply_after_pushes(reader, "GET", name)
        for name in NAMES:
            writer.ask("SET", name, "2")
        for reader in readers:
            assert {keys_of(reader.receive()) for _ in NAMES} == {
                frozenset({name.encode()}) for name in NAMES
            }
        for reader in everything:
            seen: set[bytes] = set()
            while seen != {name.encode() for name in NAMES}:
                seen |= keys_of(reader.receive()) or set()


def test_a_proxy_that_is_gone_takes_what_its_clients_have_read_with_it() -> None:
    with (
        shardkv(workers=2, proxies=PROXIES) as server,
        on_proxy_3(server, 1) as reader,
        on_proxy_3(server, 0) as other,
    ):
        other.ask("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "a", "PREFIX", "b")
        reader.ask("CLIENT", "TRACKING", "ON")
        for name in NAMES:
            reader.ask("GET", name)
        found = server.info()
        assert found["tracking_clients"] == "2"
        assert found["tracking_total_keys"] == found["tracking_total_items"] == str(len(NAMES))
        assert found["tracking_total_prefixes"] == "2"
        os.kill(server.pids("proxy")[1], signal.SIGKILL)
        reader.ends()
        eventually(lambda: server.info()["tracking_clients"] == "1")
        other.ask("CLIENT", "TRACKING", "OFF")
        eventually(lambda: server.info()["tracking_total_keys"] == "0")


def test_what_is_remembered_is_bounded() -> None:
    with shardkv(workers=2, proxies=1, tracking_table_max_keys=20) as server, server.wire(3) as reader:
        reader.ask("CLIENT", "TRACKING", "ON")
        told: set[bytes] = set()
        for number in range(100):
            reader.send("GET", f"k{number}")
            while (found := reader.receive())[:1] == b">":
                told |= keys_of(found) or set()
        eventually(lambda: int(server.info()["tracking_total_keys"]) <= 20)
        reader.send("PING")
        while (found := reader.receive())[:1] == b">":
            told |= keys_of(found) or set()
        assert len(told) + int(server.info()["tracking_total_keys"]) == 100


# -- a public client --------------------------------------------------------------------------


def test_the_cache_of_redis_py_works(spread: Shardkv, monkeypatch: pytest.MonkeyPatch) -> None:
    # It would have a server say that it is 7.4, where nothing about it has changed.
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.2.0")
    caching = redis.Redis(port=spread.port, protocol=3, cache_config=CacheConfig(), decode_responses=True)
    other = redis.Redis(port=spread.port, decode_responses=True)
    with caching, other:
        for name in NAMES:
            other.set(name, "before")
        assert [caching.get(name) for name in NAMES] == ["before"] * len(NAMES)
        assert caching.mget(NAMES) == ["before"] * len(NAMES)
        cache = caching.get_cache()
        assert cache is not None
        assert cache.size == len(NAMES) + 1
        gets = spread.info("commandstats")["cmdstat_get"].split(",")[0]
        assert [caching.get(name) for name in NAMES] == ["before"] * len(NAMES)
        assert spread.info("commandstats")["cmdstat_get"].split(",")[0] == gets
        for name in NAMES:
            other.set(name, "after")
        assert [caching.get(name) for name in NAMES] == ["after"] * len(NAMES)
        assert caching.mget(NAMES) == ["after"] * len(NAMES)
        other.flushdb()
        assert caching.get(NAMES[0]) is None
