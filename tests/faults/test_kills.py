"""Processes die at any moment: what was acknowledged is there, and only what they served is disturbed."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from shardkv import clock
from tests.processes.server import Shardkv, eventually, on_proxy, shardkv
from tests.wire import Connection


class Writer(threading.Thread):
    """A client that writes ever larger numbers, from `first` on, to keys of its own, over any number of
    connections.

    `acknowledged` is the last number of each key that the server has confirmed; `sent` the last it was sent.
    """

    def __init__(self, port: int, name: str, keys: int = 8, *, first: int = 1) -> None:
        super().__init__(name=name, daemon=True)
        self.port = port
        self.first = first
        self.keys = [f"{name}:{number}" for number in range(keys)]
        self.acknowledged: dict[str, int] = {}
        self.sent: dict[str, int] = {}
        self.lost_connections = 0
        self.errors: set[bytes] = set()
        self.stopping = False

    def run(self) -> None:
        number = self.first - 1
        while not self.stopping:
            try:
                with Connection(self.port) as connection:
                    while not self.stopping:
                        number += 1
                        if not self._write(connection, number):
                            break
            except OSError:
                clock.sleep(0.005)
            self.lost_connections += 1

    def _write(self, connection: Connection, number: int) -> bool:
        """Writes a number to every key in one pipeline; False if the connection ended."""
        for key in self.keys:
            self.sent[key] = number
            connection.send("SET", key, number)
        for key in self.keys:
            reply = connection.receive()
            if reply == b"+OK\r\n":
                self.acknowledged[key] = number
            elif not reply.endswith(b"\r\n"):
                return False
            else:
                self.errors.add(reply.split(b" ")[0])
        return True

    def check(self, server: Shardkv) -> None:
        """Every key has what was confirmed last, or something sent later."""
        with server.wire() as connection:
            eventually(lambda: connection.ask("DBSIZE").startswith(b":"))
            for key, number in self.acknowledged.items():
                found = int(connection.text("GET", key))
                assert number <= found <= self.sent[key], (key, number, found)


def write_during(
    server: Shardkv, disturb: Callable[[], None], writers: int = 4, *, first: int = 1
) -> list[Writer]:
    """Lets writers write while something happens; returns them, stopped."""
    started = [Writer(server.port, f"writer{number}", first=first) for number in range(writers)]
    for writer in started:
        writer.start()
    disturb()
    for writer in started:
        writer.stopping = True
    for writer in started:
        writer.join(20)
        assert not writer.is_alive()
    return started


def kill_one(server: Shardkv, kind: str, rng: random.Random) -> None:
    """Kills a process of a kind, and waits until another has taken its place."""
    before = server.pids(kind)
    victim = rng.choice(before)
    os.kill(victim, signal.SIGKILL)

    def back() -> bool:
        now = server.pids(kind)
        # Of several there may have been one that had just been started, and had no title yet.
        return victim not in now and len(now) >= len(before)

    try:
        # One that has died often is started again after up to 5 s.
        eventually(back, 30)
    except AssertionError:
        raise AssertionError(f"{kind} {victim} of {before} is not back:\n{server.log.read_text()}") from None


@pytest.mark.parametrize("kind", ["worker", "proxy"])
def test_a_killed_process_comes_back_and_nothing_confirmed_is_lost(kind: str) -> None:
    rng = random.Random(1)
    with shardkv(workers=3, proxies=2, appendfsync="always") as server:

        def disturb() -> None:
            for _ in range(8):
                clock.sleep(rng.uniform(0.02, 0.1))
                kill_one(server, kind, rng)

        writers = write_during(server, disturb)
        for writer in writers:
            assert len(writer.acknowledged) == len(writer.keys)
            assert writer.errors <= {b"-SHARDDOWN", b"-LOADING"}
            writer.check(server)


def lose_nothing(folder: Path, seed: int, *, lives: int, kills_a_life: int) -> int:
    """Lets servers on one folder live one after the other, each losing processes while clients write, and at
    last all of them at once. Checks what was confirmed after each life; returns how many keys that was in
    the end."""
    rng = random.Random(seed)
    confirmed: dict[str, int] = {}
    for life in range(lives):
        with shardkv(folder, workers=2, proxies=2, appendfsync="always", exit_code=-signal.SIGKILL) as server:
            with server.wire() as connection:
                for key, number in confirmed.items():
                    assert int(connection.text("GET", key)) >= number, key

            def disturb(server: Shardkv = server) -> None:
                for _ in range(kills_a_life):
                    clock.sleep(rng.uniform(0.01, 0.05))
                    kill_one(server, rng.choice(["worker", "proxy"]), rng)
                clock.sleep(rng.uniform(0.05, 0.3))
                server.process.kill()
                server.process.wait()

            # What one life has sent and not confirmed must not look like less than what was confirmed before.
            for writer in write_during(server, disturb, first=1 + life * 1_000_000):
                confirmed |= writer.acknowledged
    return len(confirmed)


def test_whole_trees_killed_at_random_moments_lose_nothing_confirmed(tmp_path: Path) -> None:
    assert lose_nothing(tmp_path, seed=2, lives=5, kills_a_life=0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_hundreds_of_kills_lose_nothing_confirmed(tmp_path: Path) -> None:
    """200 of whole trees, and 200 of single processes."""
    assert lose_nothing(tmp_path, seed=5, lives=200, kills_a_life=1)


def test_other_shards_never_notice_a_dead_one() -> None:
    with shardkv(workers=2) as server, server.wire() as connection:
        keys = [f"key{number}" for number in range(50)]
        for key in keys:
            assert connection.ask("SET", key, "before") == b"+OK\r\n"
        os.kill(server.pids("worker")[0], signal.SIGSTOP)
        os.kill(server.pids("worker")[0], signal.SIGKILL)
        seen = {key: connection.ask("GET", key) for key in keys}
        assert set(seen.values()) <= {b"$6\r\nbefore\r\n"} | {
            reply for reply in seen.values() if reply.startswith((b"-SHARDDOWN", b"-LOADING"))
        }
        assert list(seen.values()).count(b"$6\r\nbefore\r\n") >= 10
        eventually(lambda: all(connection.ask("GET", key) == b"$6\r\nbefore\r\n" for key in keys))


def test_a_worker_is_back_within_a_moment() -> None:
    with shardkv(workers=2) as server, server.wire() as connection:
        connection.ask("SET", "key", "value")
        for pid in server.pids("worker"):
            os.kill(pid, signal.SIGKILL)
        begun = clock.monotonic()
        eventually(lambda: connection.ask("GET", "key") == b"$5\r\nvalue\r\n")
        assert clock.monotonic() - begun < 1.0


def test_a_killed_supervisor_takes_everyone_along(tmp_path: Path) -> None:
    with shardkv(tmp_path, workers=3, proxies=2, exit_code=-signal.SIGKILL) as server:
        pids = server.pids("worker") + server.pids("proxy")
        assert len(pids) == 5
        # A stopped process must die as well: it could go on later, beside a new server.
        os.kill(pids[0], signal.SIGSTOP)
        server.process.kill()
        server.process.wait()
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_clients_of_another_proxy_keep_their_connections() -> None:
    with shardkv(workers=1, proxies=2) as server:
        owners = {on_proxy(server, number % 2, 2): number % 2 for number in range(20)}
        os.kill(server.pids("proxy")[0], signal.SIGKILL)
        lost = {owner for connection, owner in owners.items() if connection.ask("PING") != b"+PONG\r\n"}
        assert len(lost) == 1
        eventually(lambda: len(server.pids("proxy")) == 2)
        for connection in owners:
            connection.socket.close()


def test_a_shard_that_cannot_start_leaves_the_others_alone(tmp_path: Path) -> None:
    with shardkv(tmp_path, workers=2) as server, server.wire() as connection:
        for number in range(40):
            connection.ask("SET", f"key{number}", "value")
        [log] = (tmp_path / "appendonlydir" / "shard-0").glob("*.incr.aof")
        content = bytearray(log.read_bytes())
        content[len(content) // 2] ^= 1
        log.write_bytes(content)
        victim = server.pids("worker")[0]
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: server.log.read_text().count("worker-0 ended") >= 3)
        replies = [connection.ask("GET", f"key{number}") for number in range(40)]
        assert replies.count(b"$5\r\nvalue\r\n") >= 8
        assert {reply[:10] for reply in replies} <= {b"$5\r\nvalue\r", b"-SHARDDOWN", b"-LOADING R"}
        assert any(reply.startswith(b"-") for reply in replies)
        assert str(log) in server.log.read_text()


def test_a_torn_tail_is_cut_with_a_warning(tmp_path: Path) -> None:
    with shardkv(tmp_path, workers=1) as server, server.wire() as connection:
        connection.ask("SET", "kept", "value")
        connection.ask("SET", "torn", "value")
    [log] = (tmp_path / "appendonlydir" / "shard-0").glob("*.incr.aof")
    log.write_bytes(log.read_bytes()[:-5])
    with shardkv(tmp_path, workers=1) as server, server.wire() as connection:
        assert connection.ask("GET", "kept") == b"$5\r\nvalue\r\n"
        assert connection.ask("GET", "torn") == b"$-1\r\n"
        assert log.name in server.log.read_text()
