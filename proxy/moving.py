"""A proxy's part in moving slots to another shard: nobody asks for their keys while they are on their way.

First what is under way in commands over several shards comes to its end, while new ones that could touch
these slots wait. Then requests for the slots are held back in a gate that stands in the place of their
shard's backend, where the fast way of requests finds it without a look. When the shards have confirmed that
everything sent before has come, the slots are held. They are let go again with their owner, who may be
another one then; what was held back goes there.

A session whose request has to wait is stalled, like one whose shard is congested, and tries it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from proxy.backend import Block
from proxy.multi import NOT_QUEUED
from proxy.supervision import topic
from shardkv import control
from shardkv.command import COMMANDS, Command, Place
from shardkv.errors import CommandError
from shardkv.slots import SLOT_MASK, slot_of
from shardkv.wire import RAW, pack_context

if TYPE_CHECKING:
    from proxy.coordinator import Running
    from proxy.server import Proxy
    from proxy.session import Session


class Gate:
    """Takes requests for slots that are held, as a backend does."""

    def __init__(self) -> None:
        self.requests: list[list[Any]] = []
        self.blocks: list[Block] = []
        self.indexes: list[int] = []
        self.add_request = self.requests.append
        self.add_block = self.blocks.append
        self.add_index = self.indexes.append


class Move:
    """Slots that are held, or about to be, while `source` gives them to `target`.

    number   names the move.
    asked    the shards that are to confirm that everything has come.
    """

    def __init__(
        self, proxy: Proxy, number: int, slots: list[int], source: int, target: int, asked: list[int]
    ) -> None:
        self.proxy = proxy
        self.number = number
        self.slots = frozenset(slots)
        self.source = source
        self.target = target
        self.over = proxy.loop.create_future()
        """Done when the slots are let go."""
        self._asked = asked
        self._gate = Gate()
        self._afterwards: list[Callable[[], None]] = []
        self._under_way = {work for work in proxy.coordinator.running if not work.is_idle}
        self._calm = proxy.loop.create_future()
        self._inherits = False

    # -- holding --------------------------------------------------------------------------------

    async def hold(self) -> bool:
        """Holds the slots; False if that could not be."""
        proxy = self.proxy
        if self._under_way:
            await self._calm
        elif not self._calm.done():
            self._calm.set_result(None)
        if self.over.done():
            return False
        for slot in self.slots:
            proxy.slot_backends[slot] = self._gate
        if self.slots:
            self._inherits = True
            proxy.pubsub.share(self.source, self.target, self.slots)
        request = [pack_context(0, RAW) | COMMANDS["barrier"].code]
        confirmed = await proxy.ask_each({shard: list(request) for shard in self._asked})
        if self.over.done() or any(isinstance(value, CommandError) for value in confirmed):
            return False
        if self._inherits:
            proxy.pubsub.share_audiences()
        return True

    def work_begins(self, work: Running) -> bool:
        """Whether work that was idle may go on now; if not, it has to come back `afterwards`."""
        if self._calm.done():
            return False
        self._under_way.add(work)
        return True

    def work_goes_on(self, work: Running, successor: Running) -> None:
        """What was begun as one thing is carried on as another: if the one was under way when the slots were
        to be held, so is the other."""
        if work in self._under_way:
            self._under_way.add(successor)

    def work_ends(self, work: Running) -> None:
        """A command over several shards is done, or idle."""
        self._under_way.discard(work)
        if not self._under_way and not self._calm.done():
            self._calm.set_result(None)

    def afterwards(self, work: Callable[[], None]) -> None:
        """Has something done when the slots are let go."""
        self._afterwards.append(work)

    # -- what has to wait -----------------------------------------------------------------------

    def holds(self, session: Session, command: Command, args: list[Any]) -> bool:
        """Whether a request has to wait. Raises CommandError if its keys cannot be told."""
        if command.name == "exec":
            return self._holds_exec(session)
        if session.queue is not None and command.name not in NOT_QUEUED:
            return False
        if command.name == "watch":
            return self._concerns(args[1:])
        return self._holds(command, args)

    def _holds_exec(self, session: Session) -> bool:
        queue, watch = session.queue, session.watch
        if queue is None:
            return False
        return (watch is not None and self._concerns([key for _, key in watch.keys])) or any(
            self._holds(command, args) for command, args in queue.requests
        )

    def _holds(self, command: Command, args: list[Any]) -> bool:
        if command.place is Place.PROXY:
            return command.group == "pubsub"
        if command.group == "scripting" and (
            not command.runs_script or self.proxy.scripts.roams(command, args)
        ):
            return True
        slots = command.route_slots(args)
        return not slots or command.spreads(args) or not self.slots.isdisjoint(slots)

    def _concerns(self, keys: list[bytes]) -> bool:
        return any(slot_of(key) in self.slots for key in keys)

    # -- letting go -----------------------------------------------------------------------------

    def let_go(self, owner: int) -> None:
        """Sends on what was held back, to the shard that owns the slots now."""
        proxy = self.proxy
        self.over.set_result(None)
        if not self._calm.done():
            self._calm.set_result(None)
        if self._inherits:
            proxy.pubsub.settle(moved=owner == self.target)
        for work in self._afterwards:
            work()
        gate, backends = self._gate, proxy.slot_backends
        for request, block, index in zip(gate.requests, gate.blocks, gate.indexes, strict=True):
            proxy.send(backends[request[0] & SLOT_MASK], request, block, index)


@topic(control.HOLD_SLOTS)
async def _hold(proxy: Proxy, body: Any) -> bool:
    """Holds slots: [number, slots, their owner, their next one, shards that are to confirm it]. Returns
    whether they are held."""
    if proxy.move is not None:
        return False
    move = proxy.move = Move(proxy, *body)
    return await move.hold()


@topic(control.LET_GO_SLOTS)
def _let_go(proxy: Proxy, body: Any) -> bool:
    """Lets slots go: [number, slots, their owner, the number of shards]."""
    number, slots, owner, shards = body
    proxy.resize(shards)
    for slot in slots:
        proxy.slot_table[slot] = owner
        proxy.slot_backends[slot] = proxy.backends[owner]
    move = proxy.move
    if move is not None and move.number == number:
        proxy.move = None
        move.let_go(owner)
    proxy.look_around()
    return True
