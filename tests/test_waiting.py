"""Clients that wait for data of several shards: nothing is lost, given twice or left behind."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hiredis
import pytest

from tests.simulation import Script, Simulation

LISTS = [b"a", b"b", b"c", b"d", b"e", b"f"]
SETS = [b"z" + key for key in LISTS]


class Exchange:
    """What was put in, and what was got out."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.random = simulation.random
        self.pushed: Counter[bytes] = Counter()
        self.popped: Counter[bytes] = Counter()

    def some(self, keys: list[bytes], most: int = 4) -> list[bytes]:
        return self.random.sample(keys, self.random.randint(1, most))

    def consumer(self, pops: int, *, endless: bool = False) -> Script:
        """Takes elements; `endless` clients stay until they have had them all."""
        timeout = 0 if endless else 1
        while pops:
            keys, members = self.some(LISTS), self.some(SETS)
            pick = 0 if endless else self.random.randrange(6)
            reply = yield [
                [self.random.choice(["BLPOP", "BRPOP"]), *(LISTS if endless else keys), timeout],
                ["BLMPOP", timeout, len(keys), *keys, "LEFT", "COUNT", 3],
                ["BZPOPMIN", *members, timeout],
                ["BZMPOP", timeout, len(members), *members, "MAX", "COUNT", 2],
                ["BLMOVE", *self.random.sample(LISTS, 2), "LEFT", "RIGHT", timeout],
                ["BRPOPLPUSH", *self.random.sample(LISTS, 2), timeout],
            ][pick]
            assert not isinstance(reply, hiredis.ReplyError), reply
            got = reply is not None
            if got and pick < 4:
                self.popped.update(_elements(pick, reply))
            if got or not endless:
                pops -= 1

    def producer(self, name: int, pushes: int) -> Script:
        """Puts elements in, by different ways."""
        for number in range(pushes):
            element = b"%d:%d" % (name, number)
            self.pushed[element] += 1
            own = b"own:%d" % name
            match self.random.randrange(4):
                case 0:
                    yield ["RPUSH", self.random.choice(LISTS), element]
                case 1:
                    yield ["ZADD", self.random.choice(SETS), number, element]
                case 2:
                    yield ["RPUSH", own, element]
                    yield ["LMOVE", own, self.random.choice(LISTS), "LEFT", "LEFT"]
                case 3:
                    # RENAME would replace what is there.
                    yield ["RPUSH", own, element]
                    reply = yield ["RENAMENX", own, self.random.choice(LISTS)]
                    if not reply:
                        yield ["LMOVE", own, self.random.choice(LISTS), "LEFT", "LEFT"]

    def left(self) -> Counter[bytes]:
        found: Counter[bytes] = Counter()
        for words in (words for requests, _ in self.simulation.content().values() for words in requests):
            found.update(words[3::2] if words[0] == b"ZADD" else words[2:])
        return found

    def check(self) -> None:
        assert self.popped + self.left() == self.pushed
        for shard in self.simulation.shards:
            assert not shard.serving.waiters
            assert not shard.ready
            assert not shard.observers
        self.simulation.check_nothing_is_left()


def _elements(pick: int, reply: Any) -> list[bytes]:
    if pick == 1:
        return list(reply[1])
    return [pair[0] for pair in reply[1]] if pick == 3 else [reply[1]]


@pytest.mark.parametrize("proxies", [1, 3])
@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_lost_or_given_twice(seed: int, proxies: int) -> None:
    simulation = Simulation(seed, proxies=proxies, shards=3)
    exchange = Exchange(simulation)
    for number in range(6):
        simulation.client(number % proxies, exchange.consumer(8))
    for number in range(4):
        simulation.client(number % proxies, exchange.producer(number, 12))
    simulation.run()
    assert exchange.popped
    exchange.check()


@pytest.mark.parametrize("proxies", [1, 3])
@pytest.mark.parametrize("seed", range(40))
def test_everybody_is_woken(seed: int, proxies: int) -> None:
    """Clients that wait for any of all lists, without end, get exactly what is pushed."""
    simulation = Simulation(1000 + seed, proxies=proxies, shards=3)
    exchange = Exchange(simulation)

    def producer(name: int) -> Script:
        for number in range(10):
            element = b"%d:%d" % (name, number)
            exchange.pushed[element] += 1
            yield ["LPUSH", simulation.random.choice(LISTS), element]

    for number in range(8):
        simulation.client(number % proxies, exchange.consumer(5, endless=True))
    for number in range(4):
        simulation.client((number + 1) % proxies, producer(number))
    simulation.run()
    assert exchange.popped == exchange.pushed
    exchange.check()
