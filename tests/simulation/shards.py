"""A worker's process: the shard and its journal are real, the loop around them is made of events."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from shardkv import control, errors
from shardkv.aof.background import Background
from shardkv.errors import CommandError
from shardkv.journal import Journal, Safe
from shardkv.locks import Transaction
from shardkv.moving import Errand, drop_foreign, set_owner
from shardkv.questions import QUESTIONS
from shardkv.settings import Config
from shardkv.shard import ENCODERS, Shard
from shardkv.slots import SLOT_BITS
from shardkv.wire import Batch, Reply, unpack_context
from tests.aof.disks import Deferred, MemoryDisk
from tests.simulation.links import Channel, Event, Link

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

MOST_AT_ONCE = 3
"""Requests that a shard takes from one pipe in a turn."""


class ShardProcess:
    """One life of a worker. See shardkv.worker, whose turns these are."""

    def __init__(self, world: Simulation, index: int, channel: Channel, disk: MemoryDisk) -> None:
        self.random: random.Random = world.random
        self.index = index
        self.config: Config = world.config
        self.disk = disk
        self.channel = channel
        self.shard = Shard(index, self.config)
        self.world = world
        self.slot_table = list(world.supervisor.slot_table)
        """As it was when the process was forked."""
        set_owner(self, [], index)  # type: ignore[arg-type]
        self.errands: list[tuple[int, Errand]] = []
        self.background = Deferred()
        background: Background = self.background
        self.journal = Journal(self, disk=disk, background=background)  # type: ignore[arg-type]
        self.loading = True
        self.links: dict[int, Link] = {}

    def wake(self) -> None:
        """The loop looks at everything in each turn anyway."""

    # -- what can happen --------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        if self.loading:
            yield self.load
        if self.channel.to_process or any(link.requests or link.proxy_gone for link in self.links.values()):
            yield self.turn
        if self.background.steps:
            yield self.work
        if self.errands and not self.loading:
            yield self.run_errand
        if self.journal.wants_slices or (self.journal.rewriting and not self.background.steps):
            yield self.chores

    def load(self) -> None:
        for _ in self.journal.load():
            pass
        drop_foreign(self)  # type: ignore[arg-type]
        self.world.check_owners(self.shard, self.slot_table)
        assert self.journal.commit() is Safe.EVERYTHING
        self.loading = False
        self.channel.to_supervisor.append(control.Ready())
        self._report_doubt(list(self.shard.transactions.open))

    def work(self) -> None:
        """The next step of a rewrite, which a thread of its own does."""
        self.background.steps.pop(0)()

    def run_errand(self) -> None:
        """A slice of what takes longer to answer."""
        number, errand = self.errands[0]
        try:
            next(errand)
        except StopIteration as stop:
            self.errands.pop(0)
            assert self.journal.commit() is Safe.EVERYTHING
            self.channel.to_supervisor.append(control.Answer(number, stop.value))
        else:
            assert self.journal.commit() is Safe.EVERYTHING

    def chores(self) -> None:
        self.journal.step(0.0)

    def turn(self) -> None:
        """Takes some of what has come, from whom it may be, writes the log, and answers."""
        answered: list[tuple[Link, list[Reply]]] = []
        sources = [*self.links.values(), self.channel]
        self.random.shuffle(sources)
        for source in sources:
            if isinstance(source, Link):
                answered += [(source, replies) for replies in self._take(source)]
            else:
                self._listen()
        assert self.journal.commit() is Safe.EVERYTHING
        for link, replies in answered:
            link.replies += [(None, reply) for reply in replies]
        for link in self.links.values():
            link.replies += [(late.ticket, late.reply) for late in link.late]
            link.late.clear()

    # -- proxies ----------------------------------------------------------------------------------

    def _take(self, link: Link) -> Iterator[list[Reply]]:
        if self.links.get(link.proxy) is not link:
            return
        count = min(len(link.requests), self.random.randint(0, MOST_AT_ONCE))
        if count:
            batch = [link.requests.popleft() for _ in range(count)]
            yield self._answer_loading(batch) if self.loading else self.shard.run(batch, link)
        if link.proxy_gone and not link.requests:
            self._detach(link)

    def _answer_loading(self, batch: Batch) -> list[Reply]:
        error = CommandError(errors.LOADING)
        return [ENCODERS[unpack_context(args[0] >> SLOT_BITS).protocol](error) for args in batch]

    def _detach(self, link: Link) -> None:
        del self.links[link.proxy]
        self.shard.watches.forget_proxy(link.proxy)
        self._report_doubt(self.shard.transactions.forget_proxy(link.proxy))

    def _report_doubt(self, transactions: list[Transaction]) -> None:
        if transactions:
            participants = self.shard.transactions.open
            body: list[Any] = [self.index, [(owner, participants[owner]) for owner in transactions]]
            self.channel.to_supervisor.append(control.Ask(0, control.SUPERVISOR, control.IN_DOUBT, body))

    # -- the supervisor ---------------------------------------------------------------------------

    def _listen(self) -> None:
        for _ in range(min(len(self.channel.to_process), self.random.randint(0, MOST_AT_ONCE))):
            message, link = self.channel.to_process.popleft()
            match message:
                case control.Attach(proxy):
                    assert link is not None
                    if proxy in self.links:
                        self._detach(self.links[proxy])
                    self.links[proxy] = link
                case control.Question(number, topic, body):
                    answer = QUESTIONS[topic](self, body)  # type: ignore[arg-type]
                    if isinstance(answer, GeneratorType):
                        self.errands.append((number, answer))
                        continue
                    self.channel.to_supervisor.append(control.Answer(number, answer))

                case control.Stop():
                    self.world.end(self)

    # -- the end ----------------------------------------------------------------------------------

    def die(self) -> MemoryDisk:
        """Everything but the disk is gone."""
        for link in self.links.values():
            link.shard_gone = True
        for _, unused in self.channel.to_process:
            if unused is not None:
                unused.shard_gone = True
        return self.disk.after_kill()


FOLDER = Path("/data")
"""Where the data of all shards are, each on a disk of its own."""
