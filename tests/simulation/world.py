"""The scheduler of a simulation: what can happen next, what does, and who dies."""

from __future__ import annotations

import itertools
import logging
import random
import shutil
import tempfile
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import proxy.commands
from proxy.supervisor import PROXY, WORKER, Child
from shardkv import commands
from shardkv.command import number_commands
from shardkv.settings import Config
from shardkv.shard import Shard
from shardkv.slotmap import Layout, SlotMap, from_table
from shardkv.slots import even_slot_table
from tests.aof.disks import Dead, MemoryDisk
from tests.local import Local
from tests.simulation.links import Channel, Event
from tests.simulation.proxies import Client, ProxyProcess, Script
from tests.simulation.shards import FOLDER, ShardProcess
from tests.simulation.supervisor import SimulatedSupervisor

assert commands
assert proxy.commands
number_commands()

_MOST_CHANGES_OF_A_TURN = 5
"""A process that is to die while it writes its log dies at one of so many calls."""


class EverythingDies(BaseException):
    """All processes die at once, while the slot map is being saved."""


class Failures(logging.Handler):
    """Keeps what is logged as an error: an exception that the code has caught, so that a reply tells it, is
    none the less a failure here."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


class Simulation:
    """Some proxies over some shards, and clients on them.

    `workers` and `proxies` hold the processes that are alive.
    """

    def __init__(self, seed: int, *, proxies: int, shards: int) -> None:
        self.random = random.Random(seed)
        self.config = Config(workers=shards, appendfsync="always", dir=str(FOLDER))
        self.config.proxies = proxies
        self.slot_map = from_table(even_slot_table(shards), shards)
        """As it is on disk."""
        self.travelling = Path(tempfile.mkdtemp(prefix="simulation-"))
        """Where the keys of slots that move are."""
        weakref.finalize(self, shutil.rmtree, self.travelling)
        self.numbers = itertools.count(1)
        self.clients: list[Client] = []
        self.proxies: dict[int, ProxyProcess] = {}
        self.workers: dict[int, ShardProcess] = {}
        self.steps = 0
        self.happened: Counter[str] = Counter()
        self.deaths_left = self.rewrites_left = self.reshardings_left = 0
        """How many processes are still to die, how many logs to be rewritten, and how often the number of
        shards is to change, sooner or later."""
        self.danger: float | None = None
        """How probable it is at each step that somebody dies, while anybody is to; if None, the more the more
        deaths are left."""
        self.disks = {index: MemoryDisk() for index in range(shards)}
        self._failures = Failures()
        logging.getLogger().addHandler(self._failures)
        self.supervisor = SimulatedSupervisor(self)
        self._settle()

    @property
    def shards(self) -> list[Shard]:
        return [self.workers[index].shard for index in sorted(self.workers)]

    def client(self, proxy: int, script: Script) -> None:
        """Adds a client, which sends its next command when it has the reply to the last."""
        self.clients.append(Client(self, proxy, script))

    # -- slots ------------------------------------------------------------------------------------

    def layout(self) -> Layout:
        """The layout that the slot map on disk tells."""
        slot_map = self.slot_map
        return Layout(slot_map.shards, slot_map.table(), slot_map.target or slot_map.shards)

    def save(self, slot_map: SlotMap) -> None:
        """Replaces the slot map on disk; all may die at this moment."""
        self.happened["saved a slot map"] += 1
        dies = bool(self.deaths_left) and self.random.random() < 0.02
        if not dies or self.random.random() < 0.5:
            self.slot_map = slot_map
        if dies:
            self.deaths_left -= 1
            raise EverythingDies

    # -- processes --------------------------------------------------------------------------------

    def start(self, kind: str, index: int, channel: Channel) -> None:
        """The supervisor starts a process."""
        if kind == WORKER:
            disk = self.disks.setdefault(index, MemoryDisk())
            self.workers[index] = ShardProcess(self, index, channel, disk)
        else:
            self.proxies[index] = ProxyProcess(self, index, channel)

    def kill(self, kind: str, index: int) -> None:
        """A process dies as by kill -9."""
        self.happened[f"death of a {kind}"] += 1
        if kind == WORKER:
            self.disks[index] = self.workers.pop(index).die()
        else:
            self.proxies.pop(index).die()
        self.supervisor.dead.append(self._child(kind, index))

    def end(self, worker: ShardProcess) -> None:
        """A worker has ended, because it was told to."""
        self.happened["end of a worker"] += 1
        self.disks[worker.index] = self.workers.pop(worker.index).die()
        self.supervisor.dead.append(self._child(WORKER, worker.index))

    def _child(self, kind: str, index: int) -> Child:
        return next(child for child in self.supervisor.children if (child.kind, child.index) == (kind, index))

    def kill_everything(self) -> None:
        """All processes die at once, as when the host does."""
        for kind, group in ((WORKER, self.workers), (PROXY, self.proxies)):
            for index in list(group):
                self.kill(kind, index)
        self.supervisor = SimulatedSupervisor(self)

    # -- what happens -----------------------------------------------------------------------------

    def run(self, limit: int = 300_000) -> None:
        """Lets things happen in random order until every client is done, and nothing is under way."""
        try:
            while self._happen():
                self.steps += 1
                assert self.steps < limit, f"no progress: {self._waiting()} clients wait"
        finally:
            logging.getLogger().removeHandler(self._failures)
        assert not self._waiting(), f"deadlock: {self._waiting()} clients wait"

    def _settle(self) -> None:
        """Lets happen what happens without clients and deaths."""
        while self._happen():
            self.steps += 1

    def _waiting(self) -> int:
        return sum(not client.done for client in self.clients)

    def _happen(self) -> bool:
        events = self._events()
        if not events:
            return False
        owner, event = self.random.choice(events)
        danger = self.deaths_left / 1000 if self.danger is None else self.danger
        if self.deaths_left and self.random.random() < danger:
            self.deaths_left -= 1
            self._somebody_dies()
        elif self.reshardings_left and self.random.random() < self.reshardings_left / 1000:
            self.reshardings_left -= 1
            self._happen_to(lambda: self.supervisor.relocation.retarget(self.random.randint(1, 5)))
        elif isinstance(owner, ShardProcess):
            self._happen_to_shard(owner, event)
        else:
            self._happen_to(event)
        assert not self._failures.found, self._failures.found[0]
        return True

    def _events(self) -> list[tuple[object, Event]]:
        owners: list[ShardProcess | ProxyProcess | SimulatedSupervisor] = [
            *self.workers.values(),
            *self.proxies.values(),
            self.supervisor,
        ]
        found: list[tuple[object, Event]] = [(owner, event) for owner in owners for event in owner.events()]
        found += [(client, client.go_on) for client in self.clients if client.can_go_on()]
        return found

    def _happen_to(self, event: Event) -> None:
        try:
            event()
        except EverythingDies:
            self.kill_everything()

    def _happen_to_shard(self, worker: ShardProcess, event: Event) -> None:
        if self.rewrites_left and self.random.random() < 0.01 and worker.journal.begin_rewrite():
            self.rewrites_left -= 1
        try:
            event()
        except Dead:
            self.kill(WORKER, worker.index)

    def _somebody_dies(self) -> None:
        die = self.random.random()
        kind = self.random.choice([WORKER, WORKER, PROXY])
        alive = self.workers if kind == WORKER else self.proxies
        if die < 0.05:
            self.kill_everything()
        elif die < 0.1:
            self.supervisor.lose_patience()
        elif alive:
            index = self.random.choice(sorted(alive))
            worker = self.workers.get(index)
            if kind == WORKER and worker is not None and self.random.random() < 0.7:
                # Not now, but in the midst of what it writes next.
                worker.disk.dies_at = worker.disk.changes + self.random.randint(1, _MOST_CHANGES_OF_A_TURN)
                worker.disk.torn = self.random.random()
            else:
                self.kill(kind, index)

    # -- afterwards -------------------------------------------------------------------------------

    def content(self) -> dict[tuple[int, bytes], tuple[Any, int | None]]:
        """Every key, as `Local.content` gives it."""
        local = Local(len(self.shards))
        local.shards = self.shards
        return local.content()

    def check_nothing_is_left(self) -> None:
        """No lock, pledge, draft, doubt, watch or token is left, and the logs tell what is there."""
        for shard in self.shards:
            transactions = shard.transactions
            assert not shard.locks, shard.locks.held
            assert not transactions.pledges
            assert not transactions.drafts
            assert not transactions.committed
            assert not shard.watches
        assert not self.supervisor.resolver.doubts
        assert self.supervisor.relay._token_holder is None
        content = self.content()
        assert len(self.workers) == self.slot_map.shards
        assert not self.slot_map.target
        for shard in self.shards:
            self.check_owners(shard, self.slot_map.table())
        self.deaths_left = self.rewrites_left = self.reshardings_left = 0
        self.kill_everything()
        self._settle()
        assert self.content() == content

    def check_owners(self, shard: Shard, table: list[int]) -> None:
        """A shard holds only keys that it owns."""
        for db in shard.databases.values():
            for slot, keys in enumerate(db.slots):
                assert not keys or table[slot] == shard.index, (shard.index, slot, list(keys))
