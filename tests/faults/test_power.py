"""Power fails at moments of a run of real processes: what is found then is within the promise of
`appendfsync`."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from shardkv import clock
from tests.faults.power import Trace
from tests.faults.shim import Acknowledged, Shim, needs_gcc, shimmed
from tests.processes.server import Shardkv, eventually, shardkv
from tests.wire import Connection

pytestmark = needs_gcc

PROMISED_MS = 2000
"""What `everysec` may lose, at most."""

KEYS = 6
WORKERS = 3


class Noting(threading.Thread):
    """A client that writes ever larger numbers: to keys of its own, and to pairs of keys on several shards,
    both of which always get the same."""

    def __init__(self, port: int, name: str, acknowledged: Acknowledged) -> None:
        super().__init__(name=name, daemon=True)
        self._port = port
        self._acknowledged = acknowledged
        self._random = random.Random(name)
        self.written = 0
        self.stopping = False

    def run(self) -> None:
        with Connection(self._port) as connection:
            while not self.stopping:
                self.written += 1
                words = self._request(connection)
                if not words:
                    return
                self._acknowledged.note(*words, self.written)

    def _request(self, connection: Connection) -> list[str]:
        """Makes a change; the keys that have the number now, none if the connection ended."""
        number = self._random.randrange(KEYS)
        pair = [f"{self.name}:pair:{number}:{end}" for end in range(2)]
        match self._random.randrange(4):
            case 0:
                keys, reply = pair, connection.ask("MSET", pair[0], self.written, pair[1], self.written)
            case 1:
                connection.send("MULTI")
                for key in pair:
                    connection.send("SET", key, self.written)
                connection.send("EXEC")
                for _ in range(3):
                    connection.receive()
                keys, reply = pair, connection.receive()
            case _:
                keys = [f"{self.name}:{number}"]
                reply = connection.ask("SET", keys[0], self.written)
        return keys if reply.startswith((b"+OK", b"*2\r\n+OK")) else []


def run_and_trace(shim: Shim, policy: str, *, seconds: float, clients: int = 3) -> Trace:
    """Lets a server work for a while, rewrites included, until all of it is killed."""
    acknowledged = Acknowledged(shim)
    with shardkv(shim.folder, workers=WORKERS, appendfsync=policy, exit_code=-9) as server:
        working = [Noting(server.port, f"client{number}", acknowledged) for number in range(clients)]
        for client in working:
            client.start()
        until_s = clock.monotonic() + seconds
        with server.wire() as connection:
            while clock.monotonic() < until_s:
                connection.ask("BGREWRITEAOF")
                clock.sleep(seconds / 5)
        server.process.kill()
        server.process.wait()
        for client in working:
            client.join(20)
            assert client.written > 20
    return Trace(shim.trace, shim.folder, shim.graves)


def check(server: Shardkv, promised: list[list[str]], told: list[list[str]], *, whole: bool) -> None:
    """What was promised is there, and pairs are the same if transactions have to be whole."""
    least: dict[str, int] = {}
    for *keys, number in promised:
        least |= dict.fromkeys(keys, int(number))
    keys = sorted({key for words in told for key in words[:-1]})
    with server.wire() as connection:
        eventually(lambda: connection.ask("DBSIZE").startswith(b":"))
        found = {key: connection.text("GET", key) for key in keys}
    lost = {key: (number, found[key]) for key, number in least.items() if int(found[key] or 0) < number}
    assert not lost
    if whole:
        for key in keys:
            if key.endswith(":0") and ":pair:" in key:
                assert found[key] == found[key.removesuffix(":0") + ":1"], key


def cut(tmp_path: Path, policy: str, *, seed: int, cuts: int, seconds: float) -> None:
    choose = random.Random(seed)
    with shimmed(tmp_path, traced=True) as shim:
        trace = run_and_trace(shim, policy, seconds=seconds)
    first = next(number for number, (_, words) in enumerate(trace.events) if words[0] == "acknowledged")
    for number in range(cuts):
        count = choose.randint(first + 1, len(trace.events))
        target = tmp_path / f"cut{number}"
        trace.cut_power(count, choose, target)
        told = trace.acknowledged(count)
        promised = trace.acknowledged(count, older_than_ms=0 if policy == "always" else PROMISED_MS)
        with shardkv(target, workers=WORKERS, appendfsync=policy) as server:
            check(server, promised, told, whole=policy == "always")


def test_always_loses_nothing_acknowledged_and_cuts_no_transaction(tmp_path: Path) -> None:
    cut(tmp_path, "always", seed=1, cuts=6, seconds=1.0)


def test_everysec_loses_no_more_than_two_seconds(tmp_path: Path) -> None:
    cut(tmp_path, "everysec", seed=2, cuts=3, seconds=4.0)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("policy", ["always", "everysec"])
@pytest.mark.parametrize("seed", range(10, 15))
def test_many_power_cuts(tmp_path: Path, policy: str, seed: int) -> None:
    cut(tmp_path, policy, seed=seed, cuts=40, seconds=1.5 if policy == "always" else 5.0)
