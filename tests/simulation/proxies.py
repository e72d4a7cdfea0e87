"""A proxy's process: its coordinator, its side of the control channel and the queues of its clients are
real; pipes, event loop and sessions are not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import Mock

import hiredis

from proxy.backend import NOBODY, Block, ValueBlock, new_block
from proxy.blocking import Blocking, Waiting
from proxy.coordinator import Coordinator
from proxy.counters import Counters
from proxy.moving import Gate, Move
from proxy.multi import Execution, Queue, Watch, WatchKeys
from proxy.scripts import Scripts
from proxy.server import Proxy
from proxy.supervision import Supervision
from shardkv import control, errors
from shardkv.command import COMMANDS, Place
from shardkv.plan import Call
from shardkv.resp.replies import resp2
from shardkv.slots import slot_of
from shardkv.wire import pack_context
from tests.simulation.links import Channel, Event, Link, ProcessEnd, fill_error

if TYPE_CHECKING:
    from proxy.session import Session
    from tests.simulation.world import Simulation

Script = Generator[list[Any], Any, None]
"""What a client does: yields commands, gets their replies. A command is a list of words, or for MULTI … EXEC
a list of such lists. Errors are hiredis.ReplyError, or LOST if the connection has ended."""


class Lost:
    """The reply that does not come."""

    def __repr__(self) -> str:
        return "lost"


LOST = Lost()


class Timer:
    """What happens later, whenever the scheduler likes; unless it is cancelled before."""

    def __init__(self, loop: Loop, event: Event) -> None:
        self.loop = loop
        self.event = event

    def __call__(self) -> None:
        self.cancel()
        self.event()

    def cancel(self) -> None:
        if self in self.loop.later:
            self.loop.later.remove(self)


class Loop:
    """The event loop of a proxy, as far as it is needed."""

    def __init__(self) -> None:
        self.soon: deque[Event] = deque()
        self.later: list[Timer] = []

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> None:
        self.soon.append(lambda: _call(callback, args))

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: Any) -> Timer:
        timer = Timer(self, lambda: _call(callback, args))
        self.later.append(timer)
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(asyncio.AbstractEventLoop, self))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine from here on, as far as it gets each time."""
        try:
            future = work.send(None)
        except StopIteration:
            return
        future._asyncio_future_blocking = False
        future.add_done_callback(lambda done: self.run(work))

    def add_reader(self, fd: int, callback: Event) -> None:
        pass

    def get_debug(self) -> bool:
        return False

    def events(self) -> Iterator[Event]:
        if self.soon:
            yield lambda: self.soon.popleft()()
        yield from self.later


def _call(callback: Callable[..., object], args: tuple[Any, ...]) -> None:
    callback(*args)


class Backend:
    """A shard as a proxy sees it."""

    def __init__(self, shard: int) -> None:
        self.shard = shard
        self.life = 0
        self.link: Link | None = None

    def attach(self, link: Link) -> None:
        self.detach()
        self.link = link
        self.life += 1

    def is_alive(self, life: int) -> bool:
        return self.link is not None and self.life == life and not self.link.shard_gone

    def detach(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            link.fail(errors.shard_died(self.shard))

    def events(self) -> Iterator[Event]:
        if self.link is not None and self.link.replies:
            yield self.link.receive
        if self.link is not None and self.link.shard_gone:
            yield self.detach


class _Blocking(Blocking):
    """Clients that wait. Those of a simulation are gone only with their proxy."""

    def is_gone(self, session: Session) -> bool:
        return False


class _Log:
    """The logs of requests that took long: time is not the simulation's business."""

    def done(self, *measured: Any) -> None:
        pass


class ProxyProcess:
    """One life of a proxy. See proxy.server."""

    def __init__(self, world: Simulation, index: int, channel: Channel) -> None:
        self.world = world
        self.index = index
        self.config = world.config
        self.loop = Loop()
        self.channel = channel
        self.counters = Counters()
        self.log = _Log()
        self.slot_table = list(world.supervisor.slot_table)
        shards = world.supervisor.relocation.resharding.shards
        self.backends = [Backend(shard) for shard in range(shards)]
        self.slot_backends: list[Backend | Gate] = [self.backends[shard] for shard in self.slot_table]
        self.move: Move | None = None
        self.pubsub = Mock()
        self._coming: dict[int, Backend] = {}
        self.clients: set[Client] = set()
        me = cast(Proxy, self)
        self.supervision = Supervision(me, cast(control.ControlChannel, ProcessEnd(channel)))
        self.coordinator = Coordinator(me)
        # What is random in a proxy must be the seed's.
        self.coordinator._numbers = world.numbers
        self.blocking = _Blocking(me)
        self.scripts = Scripts(me)

    def attach(self, shard: int, link: Link) -> None:
        if shard < len(self.backends):
            self.backends[shard].attach(link)
        else:
            self._coming.setdefault(shard, Backend(shard)).attach(link)

    def resize(self, shards: int) -> None:
        while len(self.backends) < shards:
            shard = len(self.backends)
            self.backends.append(self._coming.pop(shard, Backend(shard)))
        while len(self.backends) > shards:
            backend = self.backends.pop()
            self._coming[backend.shard] = backend
            self.coordinator.drop_shard(backend.shard)
            for client in self.clients:
                if client.watch is not None and backend.shard in client.watch.shards:
                    client.watch = client.watch.lost(backend.shard, self.coordinator.number())

    def look_around(self) -> None:
        pass

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run(work)

    def ask_each(self, requests: dict[int, list[Any]]) -> asyncio.Future[list[Any]]:
        return Proxy.ask_each(cast(Proxy, self), requests)

    # -- what can happen --------------------------------------------------------------------------

    def events(self) -> Iterator[Event]:
        yield from self.loop.events()
        if self.coordinator.convoys.gathering:
            yield self.coordinator.convoys.depart
        if self.channel.to_process:
            yield self.supervision._receive
        for backend in [*self.backends, *self._coming.values()]:
            yield from backend.events()

    # -- what coordinators and clients want of their proxy ------------------------------------------

    def send(self, backend: Backend | Gate, request: list[Any], block: Block, index: int) -> None:
        if isinstance(backend, Gate):
            backend.add_request(request)
            backend.add_block(block)
            backend.add_index(index)
        elif backend.link is None:
            self.loop.call_later(0, fill_error, (block, index), errors.shard_down(backend.shard))
        else:
            backend.link.ask(request, (block, index))

    def flush_soon(self) -> None:
        # Convoys depart when the scheduler likes.
        pass

    def tell(self, shard: int, request: list[Any]) -> None:
        self.send(self.backends[shard], request, new_block(NOBODY, 1, ValueBlock), 0)

    def end_watch(self, watch: Watch) -> None:
        Proxy.end_watch(cast(Proxy, self), watch)

    def die(self) -> None:
        """Its clients learn it; shards when they have read what it has sent."""
        for backend in [*self.backends, *self._coming.values()]:
            if backend.link is not None:
                backend.link.proxy_gone = True
        for _, link in self.channel.to_process:
            if link is not None:
                link.proxy_gone = True
        for client in self.clients:
            client.lost()


class Client:
    """A client and its session. Sends its next command when it has the reply to the last."""

    tracker = None
    rights = acting = None
    db = 0
    context = pack_context(0, 2)
    encode = staticmethod(resp2)

    def __init__(self, world: Simulation, proxy: int, script: Script) -> None:
        self.world = world
        self.proxy_index = proxy
        self.script = script
        self.suspended = False
        self.done = False
        self._connection_lost = False
        self.watch: Watch | None = None
        self.waiting: Waiting | None = None
        self._reply: Any = None
        self._block: Block | None = None
        self._held: tuple[list[Any], Move] | None = None
        """What it wants to send, and the move of slots for which it has to wait."""
        self.queue: Queue | None = None

    def begin_waiting(self, waiting: Waiting) -> None:
        self.waiting = waiting

    @property
    def proxy(self) -> ProxyProcess:
        return self.world.proxies[self.proxy_index]

    def can_go_on(self) -> bool:
        if self.done or self._block is not None or self.proxy_index not in self.world.proxies:
            return False
        return self._held is None or self.proxy.move is not self._held[1]

    def go_on(self) -> None:
        """Takes the reply and sends the next command. Who has lost his connection learns it then, and has
        another one."""
        if self._held is not None:
            words = self._held[0]
        else:
            reply, self._reply = self._reply, None
            try:
                words = self.script.send(reply)
            except StopIteration:
                self.done = True
                return
        self._held = None
        if self._connection_lost:
            # What it sends now goes nowhere.
            self._reply, self._connection_lost = LOST, False
            return
        move = self.proxy.move
        if move is not None and self._waits_for(move, words):
            self._held = words, move
            return
        block = self._block = new_block(self, 1)
        self.proxy.clients.add(self)
        if words[0] == "WATCH":
            WatchKeys(cast(Any, self), [_word(word) for word in words[1:]]).begin(block, 0)
        elif isinstance(words[0], list):
            queue = Queue()
            for command in words:
                args = [_word(word) for word in command]
                queue.add(COMMANDS[command[0].lower()], args)
            watch, self.watch = self.watch, None
            Execution(cast(Any, self), queue, watch).begin(block, 0)
        else:
            self._send([_word(word) for word in words], block)

    def _waits_for(self, move: Move, words: list[Any]) -> bool:
        """Whether what it wants to send has to wait until slots have moved. What has one key is held back
        behind its back."""
        if not isinstance(words[0], list):
            command = COMMANDS[words[0].lower()]
            args = [_word(word) for word in words]
            fast = command.one_key and command.place is not Place.PROXY
            return not fast and move.holds(cast(Any, self), command, args)
        self.queue = Queue([(COMMANDS[one[0].lower()], [_word(word) for word in one]) for one in words])
        try:
            return move.holds(cast(Any, self), COMMANDS["exec"], [b"EXEC"])
        finally:
            self.queue = None

    def _send(self, args: list[Any], block: Block) -> None:
        command = COMMANDS[args[0].decode().lower()]
        assert command.place is not Place.PROXY
        slots = [slot_of(args[position]) for position in command.key_positions(args)]
        shards = {self.proxy.slot_table[slot] for slot in slots}
        blocking = self.proxy.blocking
        if command.waits is not None and blocking.start(cast(Any, self), command, args, slots, block, 0):
            return
        if command.runs_script and len(shards) > 1:
            scripts = self.proxy.scripts
            scripts.remember(args[1], loaded=True)
            script = scripts.call(cast(Any, self), command, args, slots)
            self.proxy.coordinator.start(cast(Any, self), script, block, 0)
        elif len(shards) == 1 and not command.spreads(args):
            request = [self.context | command.code | slots[0], *args[1:]]
            self.proxy.send(self.proxy.slot_backends[slots[0]], request, block, 0)
        else:
            call = Call(command, args, 0, self.proxy.slot_table, len(self.proxy.backends))
            self.proxy.coordinator.start(cast(Any, self), call, block, 0)

    def set_apart(self, block: Block, index: int) -> tuple[Block, int]:
        return block, index

    def resume(self, block: Block, index: int, reply: bytes) -> None:
        self.suspended = False
        block[index] = reply
        block.owner.deliver()

    def deliver(self) -> None:
        block = self._block
        if block is None or block[0] is None:
            return
        reader = hiredis.Reader()
        reader.feed(block[0])
        self._reply, self._block = reader.gets(), None

    def lost(self) -> None:
        """The connection has ended: the client learns it in the place of a reply."""
        self.watch = None
        if self._block is not None:
            self._reply, self._block = LOST, None
        else:
            self._connection_lost = True


def _word(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()
