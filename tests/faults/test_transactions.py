"""Transactions over several shards stay whole, whoever dies."""

from __future__ import annotations

import random
import signal
import threading
from pathlib import Path

import pytest

from shardkv import clock
from tests.faults.test_kills import kill_one
from tests.processes.server import Shardkv, eventually, shardkv
from tests.wire import Connection

TRANSFER = """
redis.call('DECRBY', ARGV[1], ARGV[3])
redis.call('INCRBY', ARGV[2], ARGV[3])
return redis.call('INCR', KEYS[1])
"""

ACCOUNTS = [f"account:{number}" for number in range(12)]


class Teller(threading.Thread):
    """A client that moves money between accounts, passes a token on, and counts what it has done, in
    transactions whose keys lie on all shards.

    Every transfer adds one to a counter, so that one that was carried out twice would show. The token is
    passed on by itself or, where its new place depends on what a shard has found, within a transaction.
    """

    def __init__(self, port: int, name: str, counted: int) -> None:
        super().__init__(name=name, daemon=True)
        self.port = port
        self.counter = f"count:{name}"
        self.random = random.Random(name)
        self.acknowledged = self.attempted = counted
        self.stopping = False

    def run(self) -> None:
        while not self.stopping:
            try:
                with Connection(self.port) as connection:
                    while not self.stopping and self._transfer(connection):
                        self._pass_token(connection)
            except OSError:
                clock.sleep(0.005)

    def _transfer(self, connection: Connection) -> bool:
        """Moves some money, by a block of commands or by a script; False if the connection ended."""
        source, destination = self.random.sample(ACCOUNTS, 2)
        amount = self.random.randrange(100)
        if self.random.random() < 0.5:
            self.attempted += 1
            reply = connection.ask("EVAL", TRANSFER, 1, self.counter, source, destination, amount)
            self.acknowledged += reply.startswith(b":")
            return reply.endswith(b"\r\n")
        connection.send("MULTI")
        connection.send("DECRBY", source, amount)
        connection.send("INCRBY", destination, amount)
        connection.send("INCR", self.counter)
        connection.send("EXEC")
        self.attempted += 1
        for _ in range(4):
            connection.receive()
        reply = connection.receive()
        if reply.startswith(b"*3"):
            self.acknowledged += 1
        return reply.endswith(b"\r\n")

    def _pass_token(self, connection: Connection) -> None:
        """Renames a key, of which there is only one, to some other name."""
        names = [f"token:{self.name}:{number}" for number in range(4)]
        for name in names:
            rename = ("RENAME", name, self.random.choice(names))
            if self.random.random() < 0.5:
                connection.ask(*rename)
                continue
            connection.send("MULTI")
            connection.send(*rename)
            connection.send("INCR", f"renamed:{self.name}")
            connection.send("EXEC")
            for _ in range(4):
                connection.receive()


def check(server: Shardkv, tellers: list[Teller]) -> None:
    with server.wire() as connection:
        # What a death has left in doubt is locked until it is settled, so this waits for it.
        eventually(lambda: connection.ask("DBSIZE").startswith(b":"))
        balances = [connection.ask("GET", account) for account in ACCOUNTS]
        assert sum(int(reply.split(b"\r\n")[1]) for reply in balances) == 1000 * len(ACCOUNTS)
        for teller in tellers:
            count = connection.text("GET", teller.counter)
            done = int(count)
            assert teller.acknowledged <= done <= teller.attempted, teller.name
            names = [f"token:{teller.name}:{number}" for number in range(4)]
            assert connection.ask("EXISTS", *names) == b":1\r\n"


def open_accounts(server: Shardkv, tellers: int) -> None:
    with server.wire() as connection:
        pairs = [word for account in ACCOUNTS for word in (account, 1000)]
        assert connection.ask("MSET", *pairs) == b"+OK\r\n"
        for number in range(tellers):
            assert connection.ask("SET", f"token:teller{number}:0", "token") == b"+OK\r\n"
            assert connection.ask("SET", f"count:teller{number}", 0) == b"+OK\r\n"


def run_bank(folder: Path, seed: int, *, lives: int, kills_a_life: int, tellers: int = 4) -> int:
    """Lets servers on one folder live one after the other, each losing processes while tellers work, and at
    last all of them at once. Checks the books after each life; returns how many transfers there were."""
    rng = random.Random(seed)
    counted = [0] * tellers
    for life in range(lives):
        with shardkv(folder, workers=3, proxies=2, appendfsync="always", exit_code=-signal.SIGKILL) as server:
            if not life:
                open_accounts(server, tellers)
            working = [Teller(server.port, f"teller{number}", counted[number]) for number in range(tellers)]
            for teller in working:
                teller.start()
            for _ in range(kills_a_life):
                clock.sleep(rng.uniform(0.02, 0.1))
                for _ in range(rng.choice((1, 1, 2))):
                    kill_one(server, rng.choice(["worker", "proxy"]), rng)
            clock.sleep(rng.uniform(0.05, 0.3))
            server.process.kill()
            server.process.wait()
            for teller in working:
                teller.stopping = True
            for teller in working:
                teller.join(20)
                assert not teller.is_alive()
        with shardkv(folder, workers=3, proxies=1, appendfsync="always") as server:
            check(server, working)
            counted = [_count(server, teller) for teller in working]
    return sum(counted)


def _count(server: Shardkv, teller: Teller) -> int:
    with server.wire() as connection:
        return int(connection.text("GET", teller.counter))


def test_money_is_neither_lost_nor_made(tmp_path: Path) -> None:
    assert run_bank(tmp_path, seed=1, lives=2, kills_a_life=6)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(5))
def test_hundreds_of_kills_leave_every_transaction_whole(tmp_path: Path, seed: int) -> None:
    assert run_bank(tmp_path, seed=100 + seed, lives=10, kills_a_life=10)
