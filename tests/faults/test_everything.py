"""Everything at once: transfers over all shards by many clients, while clients are killed, shards come and
go, and whatever looks at commands is turned on and off. Nobody sees half of a transfer, and nothing fails
that nobody has thought of."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shardkv import clock
from tests.processes.server import Shardkv, shardkv

Does = Callable[[Any, random.Random], None]

ACCOUNTS = [f"account:{number}" for number in range(12)]
FIRST = 100
CLIENTS = 8

DECLARED = "redis.call('DECRBY', KEYS[1], ARGV[1]) redis.call('INCRBY', KEYS[2], ARGV[1]) return 1"
"""A script that reaches its keys alone, as its text shows."""

FREE = "redis.call('DECRBY', ARGV[2] .. '', ARGV[1]) redis.call('INCRBY', ARGV[3] .. '', ARGV[1]) return 1"
"""The same, but it could reach any key."""

EXPECTED = ("no such key", "SHARDDOWN", "LOADING", "already", "in progress", "Slots are being moved")
"""What may be said to an honest client while shards come and go."""


class Everything:
    """Clients of one server. `found` is what was seen and should not have been."""

    def __init__(self, server: Shardkv, seed: int, seconds: float) -> None:
        self.server = server
        self.seed = seed
        self.until_s = clock.monotonic() + seconds
        self.found: list[str] = []
        self.looks = itertools.count()

    def connect(self, random_: random.Random) -> Any:
        """A client, in any protocol; some are of a user who may not do everything."""
        user: dict[str, Any] = {"username": "limited", "password": "secret"} if random_.random() < 0.2 else {}
        return redis.Redis(
            port=self.server.port,
            protocol=random_.choice([2, 3]),
            socket_timeout=20,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 0),
            **user,
        )

    def run(self) -> None:
        clients = [
            *(self._client(self.transfers, number) for number in range(CLIENTS)),
            self._client(self.disturbs, CLIENTS),
            *(threading.Thread(target=self._listens, args=(to,)) for to in ("monitor", "events")),
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join(60)
            assert not client.is_alive(), "somebody waits for ever"

    def _client(self, what: Does, number: int) -> threading.Thread:
        """A client that does one thing after the other, and connects again when it was disconnected."""

        def live() -> None:
            random_ = random.Random(self.seed * 1000 + number)
            while clock.monotonic() < self.until_s:
                with suppress(redis.ConnectionError):
                    client = self.connect(random_)
                    try:
                        self._go_on(client, random_, what)
                    finally:
                        client.close()

        return threading.Thread(target=live)

    def _go_on(
        self,
        client: Any,
        random_: random.Random,
        what: Does,
    ) -> None:
        while clock.monotonic() < self.until_s and random_.random() > 0.02:
            try:
                what(client, random_)
            except redis.WatchError:
                pass
            except redis.ResponseError as error:
                if not any(text in str(error) for text in EXPECTED):
                    self.found.append(f"{what.__name__}: {error}")
            except redis.TimeoutError as error:
                self.found.append(f"{what.__name__} waited too long: {error}")

    # -- what clients do ------------------------------------------------------------------------

    def transfers(self, client: Any, random_: random.Random) -> None:
        """Moves money in one of several ways, or looks at all of it."""
        source, destination = random_.sample(ACCOUNTS, 2)
        amount = random_.randrange(1, 5)
        match random_.randrange(9):
            case 0 | 1:
                with client.pipeline() as transaction:
                    transaction.decrby(source, amount).incrby(destination, amount).execute()
            case 2:
                client.eval(DECLARED, 2, source, destination, amount)
            case 3:
                client.eval(FREE, 1, "key", amount, source, destination)
            case 4:
                with client.pipeline() as transaction:
                    transaction.watch(source, destination)
                    balances = [int(transaction.get(account)) for account in (source, destination)]
                    transaction.multi()
                    transaction.set(source, balances[0] - amount).set(destination, balances[1] + amount)
                    transaction.execute()
            case 5:
                client.mset(
                    {f"spare:{random_.randrange(30)}": "v" * random_.choice([1, 300]) for _ in "123456"}
                )
            case 6:
                client.delete(*(f"spare:{random_.randrange(30)}" for _ in "1234"))
            case 7:
                client.blpop([f"queue:{random_.randrange(3)}" for _ in "12"], timeout=0.01)
                client.rpush(f"queue:{random_.randrange(3)}", "x")
            case _:
                next(self.looks)
                total = sum(map(int, client.mget(ACCOUNTS)))
                if total != FIRST * len(ACCOUNTS):
                    self.found.append(f"half of a transfer: {total}")

    def disturbs(self, client: Any, random_: random.Random) -> None:
        """Does what an operator may do at any time."""
        clock.sleep(random_.uniform(0.02, 0.2))
        settings = [
            ("slowlog-log-slower-than", ["0", "100", "-1"]),
            ("commandlog-reply-larger-than", ["0", "100", "-1"]),
            ("commandlog-request-larger-than", ["0", "100", "-1"]),
            ("latency-monitor-threshold", ["0", "1"]),
            ("notify-keyspace-events", ["", "KEA", "Kg"]),
            ("maxmemory", ["0", "1gb"]),
        ]
        match random_.randrange(8):
            case 0 | 1:
                client.client_kill_filter(_id=random_.choice(client.client_list(_type="normal"))["id"])
            case 2 | 3:
                name, values = random_.choice(settings)
                client.config_set(name, random_.choice(values))
            case 4:
                client.config_set("workers", random_.choice(["2", "3", "4"]))
            case 5:
                random_.choice([client.bgrewriteaof, client.script_flush, client.slowlog_get, client.info])()
            case 6:
                client.execute_command("CLIENT", "PAUSE", "20", random_.choice(["ALL", "WRITE"]))
            case _:
                client.execute_command(
                    "DEBUG", *random_.choice([("DIGEST",), ("RELOAD",), ("SLEEP", "0.02")])
                )

    def _listens(self, to: str) -> None:
        """Reads what everybody does, or what becomes of keys, and is now and then disconnected for it."""
        while clock.monotonic() < self.until_s:
            client: Any = redis.Redis(port=self.server.port, socket_timeout=0.5, retry=Retry(NoBackoff(), 0))
            with suppress(redis.ConnectionError, redis.TimeoutError), client:
                hear = self._monitors(client) if to == "monitor" else self._subscribes(client)
                while clock.monotonic() < self.until_s:
                    hear()

    def _monitors(self, client: Any) -> Callable[[], object]:
        return client.monitor().__enter__().next_command  # type: ignore[no-any-return]

    def _subscribes(self, client: Any) -> Callable[[], object]:
        subscriber = client.pubsub()
        subscriber.psubscribe("__key*__:*")
        return lambda: subscriber.get_message(timeout=0.1)


def run(folder: Path, seed: int, seconds: float) -> None:
    random_ = random.Random(seed)
    workers, proxies = random_.choice([2, 3]), seed % 2 + 1
    with shardkv(folder, workers=workers, proxies=proxies, enable_debug_command="local") as server:
        client: Any = redis.Redis(port=server.port)
        client.mset(dict.fromkeys(ACCOUNTS, FIRST))
        client.execute_command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-acl")
        before = server.pids("proxy")
        everything = Everything(server, seed, seconds)
        everything.run()
        assert everything.found == []
        assert next(everything.looks) > 10
        assert sum(map(int, client.mget(ACCOUNTS))) == FIRST * len(ACCOUNTS)
        assert server.pids("proxy") == before
        log = server.log.read_text()
        assert "Traceback" not in log, log
        client.close()


@pytest.mark.parametrize("seed", [0, 1])
def test_everything_at_once(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, 5.0)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(10, 20))
def test_everything_at_once_for_longer(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, 60.0)
