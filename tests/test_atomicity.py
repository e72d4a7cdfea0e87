"""What changes several shards is all or nothing, and what was acknowledged is there, whoever dies at whatever
step; and nobody ever sees half of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import hiredis
import pytest

from tests.simulation import LOST, Script, Simulation

ACCOUNTS = [f"account:{number}" for number in range(6)]
VAULTS = [f"vault:{number}" for number in range(3)]
SETS = [f"set:{number}" for number in range(3)]
NAMES = [f"name:{number}" for number in range(4)]
TWINS = [f"twin:{number}" for number in range(4)]

SETS_ALL = "for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1]) end return #KEYS"
"""A script that needs no token, wherever its keys are."""

SETS_ALL_FREELY = "for i = 1, #KEYS do redis.call('SET', 'twin:' .. i - 1, ARGV[1]) end return #KEYS"
"""The same without saying which they are: it locks them one after the other, as it goes."""

FIRST_BALANCE = 1000
FIRST_COINS = 6
EMPTY = b"0"


def failed(reply: Any) -> bool:
    """Whether a command may or may not have been carried out. No error but that of a dead shard is right."""
    if isinstance(reply, hiredis.ReplyError):
        assert str(reply).startswith(("SHARDDOWN", "LOADING")), reply
        return True
    return reply is LOST


class Bank:
    """What there is, and what clients were told has happened to it.

    Every change leaves a mark of its own, so that one that was lost, made twice, or made in part would show.
    """

    def __init__(self, simulation: Simulation, rounds: int) -> None:
        self.random = simulation.random
        self.simulation = simulation
        self.rounds = rounds
        self.tried: dict[str, list[str]] = {}
        """The marks that may be found, by the key they are in."""
        self.acknowledged: set[str] = set()
        """The marks that must be found."""
        self.seen = 0
        """How often somebody has looked, and all was well."""

    # -- clients that change something --------------------------------------------------------------

    def open(self, deaths: int, rewrites: int, reshardings: int = 0) -> Script:
        """Puts there what there is in the beginning, then lets the others in, and death."""
        coins = [f"coin:{number}" for number in range(FIRST_COINS)]
        yield ["MSET", *(word for account in ACCOUNTS for word in (account, FIRST_BALANCE))]
        yield ["MSET", *(word for twin in TWINS for word in (twin, EMPTY))]
        yield ["RPUSH", VAULTS[0], *coins]
        yield ["SADD", SETS[0], *coins]
        reply = yield ["RPUSH", NAMES[0], "first"]
        assert reply == 1
        clients = [
            *(self.transfers(f"teller:{number}") for number in range(2)),
            *(self.moves_coins(f"carrier:{number}") for number in range(2)),
            *(self.renames() for _ in range(1)),
            *(self.sets_twins(number) for number in range(2)),
            *(self.moves_members() for _ in range(1)),
            *(self.adds(f"adder:{number}") for number in range(2)),
            *(self.watches(f"watcher:{number}") for number in range(2)),
            *(self.looks() for _ in range(3)),
        ]
        for number, client in enumerate(clients):
            self.simulation.client(number % self.simulation.config.proxies, client)
        self.simulation.deaths_left, self.simulation.rewrites_left = deaths, rewrites
        self.simulation.reshardings_left = reshardings

    def _mark(self, key: str) -> str:
        marks = self.tried.setdefault(key, [])
        marks.append(f"{key}:{len(marks)}")
        return marks[-1]

    def transfers(self, name: str) -> Script:
        """Moves money: what each shard has to do is known at once."""
        for _ in range(self.rounds):
            source, destination = self.random.sample(ACCOUNTS, 2)
            mark = self._mark(name)
            amount = self.random.randrange(100)
            changes = [
                ["DECRBY", source, amount],
                ["INCRBY", destination, amount],
                ["RPUSH", name, mark],
            ]
            if not failed((yield changes)):
                self.acknowledged.add(mark)

    def moves_coins(self, name: str) -> Script:
        """Moves coins and money in one: what one shard has to do depends on what another finds."""
        for _ in range(self.rounds):
            vaults = self.random.sample(VAULTS, 2)
            source, destination = self.random.sample(ACCOUNTS, 2)
            mark = self._mark(name)
            changes = [
                ["DECRBY", source, 1],
                ["LMOVE", *vaults, "LEFT", "RIGHT"],
                ["INCRBY", destination, 1],
                ["RPUSH", name, mark],
            ]
            if not failed((yield changes)):
                self.acknowledged.add(mark)
            yield ["LMOVE", *self.random.sample(VAULTS, 2), "RIGHT", "LEFT"]

    def renames(self) -> Script:
        for _ in range(self.rounds * 2):
            yield ["RENAME", *self.random.sample(NAMES, 2)]

    def sets_twins(self, name: int) -> Script:
        for number in range(self.rounds):
            if self.random.random() < 0.5:
                yield ["MSET", *(word for twin in TWINS for word in (twin, f"{name}.{number}"))]
            else:
                script = self.random.choice([SETS_ALL, SETS_ALL_FREELY])
                yield ["EVAL", script, len(TWINS), *TWINS, f"{name}.{number}"]

    def moves_members(self) -> Script:
        for _ in range(self.rounds):
            yield ["SMOVE", *self.random.sample(SETS, 2), f"coin:{self.random.randrange(FIRST_COINS)}"]

    def adds(self, name: str) -> Script:
        """Changes single keys that others move about: adds coins to vaults, and to the list whose name
        changes."""
        for _ in range(self.rounds):
            mark = self._mark(f"{name}:coin")
            if not failed((yield [self.random.choice(["RPUSH", "LPUSH"]), self.random.choice(VAULTS), mark])):
                self.acknowledged.add(mark)
            mark = self._mark(f"{name}:entry")
            reply = yield ["RPUSHX", self.random.choice(NAMES), mark]
            if not failed(reply) and reply:
                self.acknowledged.add(mark)

    def watches(self, name: str) -> Script:
        """Counts up by reading and writing, which is right only if nobody comes between."""
        counter = "watched"
        for _ in range(self.rounds):
            reply = yield ["WATCH", counter]
            if failed(reply):
                continue
            found = yield ["GET", counter]
            if failed(found):
                continue
            mark = self._mark(name)
            changes = [["SET", counter, int(found or 0) + 1], ["RPUSH", name, mark]]
            reply = yield changes
            if not failed(reply) and reply is not None:
                self.acknowledged.add(mark)

    # -- clients that look ------------------------------------------------------------------------

    def looks(self) -> Script:
        for _ in range(self.rounds * 2):
            look = self.random.choice([self._money, self._twins, self._coins, self._members, self._names])
            yield from look()

    def _money(self) -> Script:
        balances = yield ["MGET", *ACCOUNTS]
        if not failed(balances):
            assert sum(map(int, balances)) == FIRST_BALANCE * len(ACCOUNTS), balances
            self.seen += 1

    def _twins(self) -> Script:
        values = yield ["MGET", *self.random.sample(TWINS, len(TWINS))]
        if not failed(values):
            assert len(set(values)) == 1, values
            self.seen += 1

    def _coins(self) -> Script:
        lists = yield [["LRANGE", vault, 0, -1] for vault in VAULTS]
        if not failed(lists):
            once([coin.decode() for found in lists for coin in found])
            assert {coin for found in lists for coin in found if coin.startswith(b"coin:")} == {
                b"coin:%d" % number for number in range(FIRST_COINS)
            }
            self.seen += 1

    def _members(self) -> Script:
        union = yield ["SUNION", *SETS]
        if not failed(union):
            assert len(union) == FIRST_COINS, union
            self.seen += 1

    def _names(self) -> Script:
        found = yield self.random.choice([["KEYS", "name:*"], ["EXISTS", *NAMES]])
        if not failed(found):
            assert (found if isinstance(found, int) else len(found)) == 1, found
            self.seen += 1

    # -- afterwards -------------------------------------------------------------------------------

    def check(self) -> None:
        """What was acknowledged is there, nothing is there twice or in part."""
        content = self.simulation.content()
        found = {key.decode(): value for (_, key), (value, _) in content.items()}
        balances = [int(found[account][0][2]) for account in ACCOUNTS]
        assert sum(balances) == FIRST_BALANCE * len(ACCOUNTS)
        assert len({found[twin][0][2] for twin in TWINS}) == 1
        marks = [*elements(found, [*VAULTS, *NAMES, *self.tried])]
        once(marks)
        assert self.acknowledged <= set(marks), self.acknowledged - set(marks)
        assert len([*elements(found, SETS)]) == FIRST_COINS
        assert sum(name in found for name in NAMES) == 1
        counted = int(found["watched"][0][2]) if "watched" in found else 0
        assert counted == sum(mark.startswith("watcher:") for mark in marks)


def elements(found: dict[str, Any], keys: Iterable[str]) -> Iterable[str]:
    """All that the lists, or sets, under some keys hold."""
    for key in keys:
        for request in found.get(key, ()):
            yield from (word.decode() for word in request[2:])


def once(marks: list[str]) -> None:
    twice = [mark for mark, count in Counter(marks).items() if count > 1]
    assert not twice, twice


def run_bank(seed: int, *, proxies: int, deaths: int, rounds: int = 10, rewrites: int = 0) -> Simulation:
    random.seed(seed)
    simulation = Simulation(seed, proxies=proxies, shards=3)
    bank = Bank(simulation, rounds)
    simulation.client(0, bank.open(deaths, rewrites))
    simulation.run()
    bank.check()
    simulation.check_nothing_is_left()
    assert bank.seen or deaths
    return simulation


@pytest.mark.parametrize("proxies", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_nobody_sees_half_of_anything(seed: int, proxies: int) -> None:
    run_bank(seed, proxies=proxies, deaths=0)


@pytest.mark.parametrize("proxies", [1, 2])
@pytest.mark.parametrize("seed", range(10))
def test_everything_is_all_or_nothing_whoever_dies(seed: int, proxies: int) -> None:
    run_bank(seed, proxies=proxies, deaths=10, rewrites=3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_steps() -> None:
    steps = 0
    for seed in range(1000, 2000):
        steps += run_bank(seed, proxies=seed % 3 + 1, deaths=seed % 20, rewrites=seed % 5).steps
        if steps >= 1_000_000:
            break
    assert steps >= 1_000_000
