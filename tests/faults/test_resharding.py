"""The number of shards changes under load, and processes die meanwhile."""

from __future__ import annotations

import os
import random
import signal
import threading
from pathlib import Path

import pytest

from shardkv import clock
from tests.faults.test_transactions import Teller, check, open_accounts
from tests.processes.server import Shardkv, eventually, shardkv
from tests.processes.test_resharding import settled
from tests.wire import Connection

FILLING = 6000


class Counting(threading.Thread):
    """A client that counts keys up, each reply one more than the last, and looks at others; it keeps how long
    each reply has taken, in s.

    A reply that is an error, or not the next number, is `wrong`.
    """

    def __init__(self, port: int, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.port = port
        self.took_s: list[float] = []
        self.wrong: list[bytes] = []
        self.stopping = False
        self.counts: dict[str, int] = {}

    def run(self) -> None:
        drawn = random.Random(self.name)
        with Connection(self.port) as connection:
            while not self.stopping:
                key = f"counter:{self.name}:{drawn.randrange(500)}"
                expected = self.counts.get(key, 0) + 1
                self.counts[key] = expected
                self._ask(connection, b":%d\r\n" % expected, "INCR", key)
                filled = drawn.randrange(FILLING)
                text = b"value:%d" % filled
                self._ask(connection, b"$%d\r\n%b\r\n" % (len(text), text), "GET", f"filled:{filled}")

    def _ask(self, connection: Connection, expected: bytes, *words: str) -> None:
        begun_s = clock.monotonic()
        reply = connection.ask(*words)
        self.took_s.append(clock.monotonic() - begun_s)
        if reply != expected:
            self.wrong.append(reply)


def fill(server: Shardkv) -> None:
    with server.wire() as connection:
        for number in range(FILLING):
            connection.send("SET", f"filled:{number}", f"value:{number}")
        for _ in range(FILLING):
            assert connection.receive() == b"+OK\r\n"


def p99_ms(took_s: list[float]) -> float:
    return sorted(took_s)[len(took_s) * 99 // 100] * 1000


def test_no_reply_is_wrong_while_slots_move() -> None:
    with shardkv(workers=1, proxies=2) as server, server.wire() as admin:
        fill(server)
        open_accounts(server, 2)
        counting = [Counting(server.port, f"client{number}") for number in range(3)]
        tellers = [Teller(server.port, f"teller{number}", 0) for number in range(2)]
        clients: list[Counting | Teller] = [*counting, *tellers]
        for client in clients:
            client.start()
        clock.sleep(1.0)
        before = [len(client.took_s) for client in counting]
        for workers in (4, 2, 3):
            assert admin.ask("CONFIG", "SET", "workers", workers) == b"+OK\r\n"
            eventually(lambda workers=workers: settled(server, workers), 60)  # type: ignore[misc]
        after = [len(client.took_s) for client in counting]
        for client in clients:
            client.stopping = True
            client.join(20)
            assert not client.is_alive()
        calm = [s for one, count in zip(counting, before, strict=True) for s in one.took_s[:count]]
        moving = [
            s
            for one, first, last in zip(counting, before, after, strict=True)
            for s in one.took_s[first:last]
        ]
        print(f"p99 of a reply: {p99_ms(calm):.1f} ms before, {p99_ms(moving):.1f} ms while slots moved")
        for counter in counting:
            assert not counter.wrong
            for key, count in counter.counts.items():
                assert admin.ask("GET", key) == b"$%d\r\n%d\r\n" % (len(str(count)), count)
        for teller in tellers:
            assert teller.acknowledged == teller.attempted > 0
        check(server, tellers)


def run_bank(folder: Path, seed: int, *, lives: int, kills_a_life: int, tellers: int = 3) -> None:
    """Servers with ever other numbers of workers live on one folder, and are asked for other numbers, while
    processes die, and at last all of them at once. Checks the books after each life."""
    rng = random.Random(seed)
    counted = [0] * tellers
    for life in range(lives):
        with shardkv(
            folder, workers=rng.randint(1, 4), proxies=2, appendfsync="always", exit_code=-signal.SIGKILL
        ) as server:
            if not life:
                fill(server)
                open_accounts(server, tellers)
            working = [Teller(server.port, f"teller{number}", counted[number]) for number in range(tellers)]
            for teller in working:
                teller.start()
            for _ in range(kills_a_life):
                if rng.random() < 0.5:
                    with server.wire() as connection:
                        connection.ask("CONFIG", "SET", "workers", rng.randint(1, 4))
                clock.sleep(rng.uniform(0.02, 0.2))
                victims = server.pids(rng.choice(["worker", "worker", "proxy"]))
                if victims:
                    os.kill(rng.choice(victims), signal.SIGKILL)
            clock.sleep(rng.uniform(0.05, 0.3))
            server.process.kill()
            server.process.wait()
            for teller in working:
                teller.stopping = True
            for teller in working:
                teller.join(20)
                assert not teller.is_alive()
        workers = rng.randint(1, 4)
        with shardkv(folder, workers=workers, proxies=1, appendfsync="always") as server:
            check(server, working)
            eventually(lambda workers=workers: settled(server, workers), 60)  # type: ignore[misc]
            check(server, working)
            with server.wire() as connection:
                for number in range(FILLING):
                    connection.send("GET", f"filled:{number}")
                for number in range(FILLING):
                    assert connection.receive().endswith(b"\r\nvalue:%d\r\n" % number)
                counted = [int(connection.text("GET", teller.counter)) for teller in working]
                assert sum(counted) > 0
                marks = [f"renamed:teller{number}" for number in range(tellers)]
                renamed = int(connection.ask("EXISTS", *marks)[1:])
                assert connection.ask("DBSIZE") == b":%d\r\n" % (FILLING + 12 + 2 * tellers + renamed)


def test_nothing_is_lost_or_doubled_whoever_dies(tmp_path: Path) -> None:
    run_bank(tmp_path, seed=1, lives=2, kills_a_life=6)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_deaths(tmp_path: Path, seed: int) -> None:
    run_bank(tmp_path, seed=seed, lives=8, kills_a_life=12)
