"""Slots move between shards, and shards come and go: no key is lost, doubled or hidden, whoever dies at
whatever step."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from shardkv import limits
from shardkv.slotmap import balanced
from shardkv.slots import SLOTS, even_slot_table
from tests.simulation import Script, Simulation
from tests.test_atomicity import Bank, failed


@pytest.fixture(autouse=True)
def small_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few keys take many moves."""
    monkeypatch.setattr(limits, "MOVE_WEIGHT", 2)


class Counters:
    """Keys that some clients count up. A count that was lost, or made twice, shows in the next reply.

    tried, acknowledged   by key: how often it may have been counted up, and how often it was for certain.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.tried: Counter[str] = Counter()
        self.acknowledged: Counter[str] = Counter()

    def open(self, rounds: int) -> None:
        """Lets the clients in."""
        proxies = self.simulation.config.proxies
        for number in range(6):
            self.simulation.client(number % proxies, self.counts(f"count:{number}", rounds))
            self.simulation.client(number % proxies, self.watches(f"watched:{number % 3}", rounds))

    def counts(self, name: str, rounds: int) -> Script:
        for number in range(rounds):
            key = f"{name}:{number % 4}"
            self.tried[key] += 1
            reply = yield ["INCR", key]
            if failed(reply):
                continue
            assert self.acknowledged[key] < reply <= self.tried[key], (key, reply)
            self.acknowledged[key] += 1

    def watches(self, key: str, rounds: int) -> Script:
        """Counts a key up that others count up as well, by looking and setting; with another that is not
        watched, so that what is watched and what is changed lies on several shards."""
        for _ in range(rounds):
            if failed((yield ["WATCH", key])):
                continue
            found = yield ["GET", key]
            if failed(found):
                continue
            self.tried[key] += 1
            reply = yield [["SET", key, int(found or 0) + 1], ["INCR", f"by:{key}"]]
            if not failed(reply) and reply is not None:
                self.acknowledged[key] += 1

    def check(self) -> None:
        content = self.simulation.content()
        found = {
            key.decode(): int(value[0][2])
            for (_, key), (value, _) in content.items()
            if key.startswith((b"count:", b"watched:", b"by:"))
        }
        for key, acknowledged in self.acknowledged.items():
            assert acknowledged <= found[key] <= self.tried[key], key
            assert found.get(f"by:{key}", found[key]) == found[key]


def run(seed: int, *, proxies: int, deaths: int, reshardings: int = 20) -> Simulation:
    random.seed(seed)
    simulation = Simulation(seed, proxies=proxies, shards=3)
    bank = Bank(simulation, 10)
    simulation.client(0, bank.open(deaths, 3, reshardings))
    counters = Counters(simulation)
    counters.open(30)
    simulation.danger = 0.005
    simulation.run()
    bank.check()
    counters.check()
    simulation.check_nothing_is_left()
    return simulation


@pytest.mark.parametrize("proxies", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_slots_move_under_clients(seed: int, proxies: int) -> None:
    simulation = run(seed, proxies=proxies, deaths=0)
    assert simulation.happened["saved a slot map"] > 4


@pytest.mark.parametrize("proxies", [1, 2])
@pytest.mark.parametrize("seed", range(7))
def test_nothing_is_lost_or_doubled_whoever_dies(seed: int, proxies: int) -> None:
    run(seed, proxies=proxies, deaths=20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_deaths() -> None:
    happened: Counter[str] = Counter()
    for seed in range(1000, 1400):
        happened += run(seed, proxies=seed % 3 + 1, deaths=seed % 40, reshardings=seed % 10).happened
    assert happened["end of a worker"] > 100
    assert happened["saved a slot map"] > 3000


# -- who gets what ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_a_balanced_table_changes_no_more_than_it_has_to(seed: int) -> None:
    drawn = random.Random(seed)
    before, after = drawn.randint(1, 9), drawn.randint(1, 9)
    table = even_slot_table(before)
    for _ in range(drawn.choice([0, 1000])):
        table[drawn.randrange(SLOTS)] = drawn.randrange(before)
    wanted = balanced(table, after)
    counts = Counter(wanted)
    assert set(counts) == set(range(after))
    assert max(counts.values()) - min(counts.values()) <= 1
    # Whoever has more than its share gives away just that.
    surplus = sum(
        count if shard >= after else max(0, count - counts[shard]) for shard, count in Counter(table).items()
    )
    assert sum(one != other for one, other in zip(table, wanted, strict=True)) == surplus
