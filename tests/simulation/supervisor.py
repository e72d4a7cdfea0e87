"""The supervisor, whose children are processes of a simulation."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast
from unittest.mock import patch

from proxy.listeners import Listeners
from proxy.relocation import Relocation
from proxy.supervisor import WORKER, Child, Supervisor
from shardkv import control
from shardkv.slotmap import Layout, SlotMap
from tests.simulation.links import Channel, Event, Link

if TYPE_CHECKING:
    from tests.simulation.world import Simulation


class SimulatedRelocation(Relocation):
    """Moves slots of a simulation. Files travel in a folder of its own, the slot map is kept by the world."""

    def __init__(self, supervisor: SimulatedSupervisor, layout: Layout) -> None:
        self.world = supervisor.world
        super().__init__(supervisor, self.world.travelling, layout)

    def _remove_leftovers(self) -> None:
        for shard in [shard for shard in self.world.disks if shard >= self.resharding.shards]:
            del self.world.disks[shard]

    def _remove_folder(self, shard: int) -> None:
        self.world.disks.pop(shard, None)

    def _write(self, slot_map: SlotMap) -> None:
        self.world.save(slot_map)

    @property
    def can_go_on(self) -> bool:
        """Whether there is something that `turn` would find to do."""
        return (
            self._rest_until_s is not None
            or (self._begun is not None and self._begun.ready)
            or (self._ending is not None and not self._ending.running)
        )


class SimulatedSupervisor(Supervisor):
    """Starts processes of a simulation instead of real ones."""

    relocation: SimulatedRelocation

    def __init__(self, world: Simulation) -> None:
        self.world = world
        with patch("sdnotify.SystemdNotifier"):
            super().__init__(world.config, cast(Listeners, None), world.layout(), -1)
        self._selector.close()
        self._announced = True
        self.dead: list[Child] = []
        """Children that have died, which it does not know yet."""

    def _relocation(self, layout: Layout) -> Relocation:
        return SimulatedRelocation(self, layout)

    def events(self) -> Iterator[Event]:
        if self.relocation.can_go_on:
            yield lambda: self.relocation.turn(float("inf"))
        elif not self.relocation.active and not self.relocation.resharding.done:
            yield self.relocation.begin
        for child in self.children:
            if not child.running and child in self._retired:
                continue
            if not child.running:
                yield lambda child=child: self._start(child)  # type: ignore[misc]
            elif child.channel is not None and cast(Channel, child.channel).to_supervisor:
                yield lambda child=child: self._receive(child)  # type: ignore[misc]
        for child in self.dead:
            yield lambda child=child: self._bury(child)  # type: ignore[misc]
        if self.resolver.doubts:
            yield self.resolve

    def lose_patience(self) -> None:
        """Who has not answered by now is left out."""
        self.relay.expire(sys.float_info.max)

    def _bury(self, child: Child) -> None:
        self.dead.remove(child)
        self._buried(child, -9)

    def _start(self, child: Child) -> None:
        channel = Channel()
        child.pid = 1
        child.channel = cast(control.ControlChannel, channel)
        child.ready = False
        self.world.start(child.kind, child.index, channel)
        for peer in self.proxies if child.kind == WORKER else self.workers:
            if peer.channel is not None:
                self._connect(child, peer)

    def _connect(self, one: Child, other: Child) -> None:
        worker, proxy = (one, other) if one.kind == WORKER else (other, one)
        link = Link(proxy.index, worker.index)
        # It may be dead already, which the supervisor does not know yet.
        link.shard_gone, link.proxy_gone = worker in self.dead, proxy in self.dead
        cast(Channel, one.channel).send(control.Attach(other.index), link)
        cast(Channel, other.channel).send(control.Attach(one.index), link)

    def _close_channel(self, child: Child) -> None:
        child.channel = None
