"""The supervisor, whose children are processes of a simulation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast
from unittest.mock import patch

from proxy.listeners import Listeners
from proxy.supervisor import WORKER, Child, Supervisor
from shardkv import control
from tests.simulation.links import Channel, Event, Link

if TYPE_CHECKING:
    from tests.simulation.world import Simulation


class SimulatedSupervisor(Supervisor):
    """Starts processes of a simulation instead of real ones."""

    def __init__(self, world: Simulation) -> None:
        with patch("sdnotify.SystemdNotifier"):
            super().__init__(world.config, cast(Listeners, None), world.slot_table, -1)
        self._selector.close()
        self._announced = True
        self.world = world
        self.dead: list[Child] = []
        """Children that have died, which it does not know yet."""

    def events(self) -> Iterator[Event]:
        for child in self.children:
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
        self.relay.expire(float("inf"))

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
