"""MULTI … EXEC: the commands that a client has queued, and how they are carried out as one.

What concerns a single shard is one request to it. Otherwise the queued commands become one call over several
shards (see proxy.transaction): their keys are locked at once, each shard pledges its part, and carries it
out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from inspect import iscoroutinefunction
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from proxy.backend import Block
from proxy.interactive import Interaction, Steps
from shardkv import errors, limits
from shardkv.command import COMMANDS, Command, Place, lock_keys
from shardkv.errors import CommandError
from shardkv.locks import LockKey
from shardkv.plan import SINGLE_HOP, Call, Hop, Parts, Plan, Read, Values, Write, coded
from shardkv.resp.replies import NULL_ARRAY, OK, Encoded, unpack_raw
from shardkv.slots import slot_of
from shardkv.watches import WatcherId
from shardkv.wire import RAW, pack_context

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session


NOT_QUEUED = frozenset({"multi", "exec", "discard", "watch", "quit", "reset"})
"""Commands that are carried out between MULTI and EXEC at once."""

REFUSED_AT_EXEC = {"ssubscribe": errors.SSUBSCRIBE_INSIDE_MULTI}
"""Commands that can be queued, but not carried out."""


@dataclass
class Queue:
    """What a client has sent since MULTI."""

    requests: list[tuple[Command, list[Any]]] = field(default_factory=list)
    is_broken: bool = False
    """Whether any of it was refused, so that nothing of it will be carried out."""
    writes: bool = False

    def add(self, command: Command, args: list[Any]) -> None:
        """Queues a command. Raises CommandError if there are too many."""
        if len(self.requests) >= limits.MAX_QUEUED_COMMANDS:
            raise CommandError(errors.TOO_MANY_QUEUED)
        self.requests.append((command, args))
        self.writes = self.writes or command.writes


@dataclass
class Watch:
    """The keys that a client watches, and the name by which the shards know it."""

    watcher: WatcherId
    shards: frozenset[int] = frozenset()
    keys: set[LockKey] = field(default_factory=set)


@dataclass
class _Merge:
    """A command over several shards, whose replies its plan makes one of."""

    plan: Plan
    hop: Hop
    start: dict[int, int]
    """Where its replies begin among those of each shard."""

    def reply(self, session: Session, replies: dict[int, list[bytes]]) -> bytes:
        values: Values = {
            shard: [unpack_raw(reply) for reply in replies[shard][at : at + len(self.hop.parts[shard])]]
            for shard, at in self.start.items()
        }
        try:
            self.plan.send(values)
        except StopIteration as stop:
            return session.encode(stop.value)
        except CommandError as error:
            return session.encode(error)
        raise AssertionError("a plan with a single hop has had another one")


Reply = bytes | tuple[int, int] | _Merge
"""Where a queued command's reply is to be found: here, or at a place among a shard's replies, or from
several of them."""


@dataclass
class _Queued:
    """A queued command of the shards, with what the session was when its turn came."""

    call: Call
    shards: set[int]
    """The shards of its keys."""
    slot: int
    """The slot of the first one."""
    context: int
    place: int
    """Of its reply."""


class Execution:
    """An EXEC on its way: begins when the session has a place for its reply."""

    def __init__(self, session: Session, queue: Queue, watch: Watch | None) -> None:
        self.session = session
        self.proxy: Proxy = session.proxy
        self.queue = queue
        self.watch = watch
        self.parts: Parts = {}
        self.replies: list[Reply] = []
        self.keys: list[LockKey] = []
        self.whole = False
        self.queued: list[_Queued] = []
        self.is_interactive = False
        """Whether a command's work on one shard depends on what is found on another."""
        self.before: list[tuple[int, Command, list[Any]]] = []
        self.after: list[tuple[int, Command, list[Any]]] = []
        """Commands of the proxy that wait for their turn, because they take time or follow one that does, and
        the places of their replies. Those that follow a message's publishing are carried out after the
        shards' commands, because they may change who gets it; all others before."""
        self.publishes = False
        self.is_done = False
        """Whether the shards' commands are carried out."""

    def begin(self, block: Block, index: int) -> None:
        """Has everything carried out; the reply goes to a place in a block."""
        for command, args in self.queue.requests:
            if command.place is Place.PROXY:
                self._call(command, args)
            else:
                self._add(command, args)
        self.is_interactive = not all(self._is_simple(queued) for queued in self.queued)
        if not self.is_interactive:
            for queued in self.queued:
                self._distribute(queued)
            if self._is_of_one_shard():
                self._execute(block, index)
                return
        proxy = self.proxy
        call = ExecCall(
            COMMANDS["exec"],
            [b"EXEC"],
            0,
            proxy.slot_table,
            len(proxy.backends),
            execution=self,
        )
        if self.before or self.after:
            self.session.await_(COMMANDS["exec"], self._await(call), block, index)
        else:
            proxy.coordinator.carry_out(self.session, call, block, index)

    async def _await(self, call: ExecCall) -> Encoded:
        """Carries out, beside the shards' commands, what takes the proxy itself some time."""
        await self._take_turns(self.before)
        reply = await self.proxy.coordinator.reply_of(self.session, call)
        if not self.after or not self.is_done:
            return Encoded(reply)
        await self._take_turns(self.after)
        return self.array()

    async def _take_turns(self, commands: list[tuple[int, Command, list[Any]]]) -> None:
        session = self.session
        for place, command, args in commands:
            value = session.call(command, args)
            if value.__class__ is CoroutineType:
                value = await session.outcome(command, value)
            self.replies[place] = session.encode(value)

    def array(self) -> Encoded:
        """All replies as one, when each is there."""
        self.is_done = True
        return Encoded(b"*%d\r\n%b" % (len(self.replies), b"".join(self.replies)))  # type: ignore[arg-type]

    # -- where each command goes ------------------------------------------------------------------

    def _call(self, command: Command, args: list[Any]) -> None:
        """Carries out a command of the proxy itself, or has it wait for its turn."""
        value: Any = None
        if command.name in REFUSED_AT_EXEC:
            value = CommandError(REFUSED_AT_EXEC[command.name])
        elif self.before or self.after or iscoroutinefunction(command.handler):
            turns = self.after if self.publishes else self.before
            turns.append((len(self.replies), command, args))
        else:
            value = self.session.call(command, args)
        self.replies.append(self.session.encode(value))

    def _add(self, command: Command, args: list[Any]) -> None:
        """Finds out what one command needs."""
        session, proxy = self.session, self.proxy
        self.publishes = self.publishes or bool(command.routed_by)
        keys, whole = lock_keys(session.db, command, args)
        self.keys += keys
        self.whole = self.whole or whole
        slots = [slot_of(args[position]) for position in command.route_positions(args)]
        shards = {proxy.slot_table[slot] for slot in slots}
        call = Call(command, args, session.db, proxy.slot_table, len(proxy.backends))
        slot = slots[0] if slots else 0
        self.queued.append(_Queued(call, shards, slot, session.context, len(self.replies)))
        self.replies.append(b"")

    def _goes_to_one_shard(self, queued: _Queued) -> bool:
        one = len(queued.shards) == 1 and not queued.call.spreads
        return one or len(self.proxy.backends) == 1

    def _is_simple(self, queued: _Queued) -> bool:
        """Whether it is known before anything is looked at what each shard has to do for a command."""
        return self._goes_to_one_shard(queued) or queued.call.command.plan in SINGLE_HOP

    def _distribute(self, queued: _Queued) -> None:
        """Finds out what has to be asked of whom for one command."""
        call = queued.call
        if self._goes_to_one_shard(queued):
            request = [queued.context | call.command.code | queued.slot, *call.args[1:]]
            self.replies[queued.place] = self._ask(self.proxy.slot_table[queued.slot], request)
            return
        plan = call.plan()
        try:
            hop = next(plan)
        except CommandError as error:
            self.replies[queued.place] = self.session.encode(error)
            return
        context = pack_context(call.db, RAW, no_touch=self.session.no_touch)
        start: dict[int, int] = {}
        for shard, requests in hop.parts.items():
            start[shard] = len(self.parts.get(shard, ()))
            for request in coded(context, requests):
                self._ask(shard, request)
        self.replies[queued.place] = _Merge(plan, hop, start)

    def _ask(self, shard: int, request: list[Any]) -> tuple[int, int]:
        requests = self.parts.setdefault(shard, [])
        requests.append(request)
        return shard, len(requests) - 1

    # -- one shard --------------------------------------------------------------------------------

    def _is_of_one_shard(self) -> bool:
        shards = self.parts.keys() | (self.watch.shards if self.watch is not None else set())
        return len(shards) == 1 and all(isinstance(reply, tuple) for reply in self.replies)

    def _execute(self, block: Block, index: int) -> None:
        [(shard, requests)] = self.parts.items()
        watcher = None if self.watch is None else self.watch.watcher
        code = self.session.context | COMMANDS["execute"].code
        self.proxy.send(self.proxy.backends[shard], [code, watcher, requests], block, index)


@dataclass(frozen=True, kw_only=True)
class ExecCall(Call):
    """The queued commands as one call over several shards."""

    execution: Execution

    @property
    def is_interactive(self) -> bool:
        return self.execution.is_interactive

    @property
    def watcher(self) -> WatcherId | None:
        return None if self.execution.watch is None else self.execution.watch.watcher

    @property
    def watching(self) -> frozenset[int]:
        return frozenset() if self.execution.watch is None else self.execution.watch.shards

    @property
    def writes(self) -> bool:
        return self.execution.queue.writes

    @property
    def needs_locks(self) -> bool:
        return True

    def locks(self) -> tuple[dict[int, list[LockKey]], bool]:
        watch = self.execution.watch
        watched = list(watch.keys) if watch is not None else []
        return self.locks_by_shard(self.execution.keys + watched, self.execution.whole)

    def value_of(self, reply: bytes) -> Any:
        return reply

    def plan(self) -> Plan:
        execution = self.execution
        found: dict[int, list[bytes]] = {}
        if execution.parts:
            found = yield Write(execution.parts) if self.writes else Read(execution.parts)
        for place, reply in enumerate(execution.replies):
            if isinstance(reply, _Merge):
                execution.replies[place] = reply.reply(execution.session, found)
            elif isinstance(reply, tuple):
                shard, number = reply
                execution.replies[place] = found[shard][number]
        return execution.array()

    def conduct(self, interaction: Interaction) -> Steps:
        """Carries out one command after the other."""
        execution = self.execution
        keys, whole = self.locks()
        if not (yield from interaction.lock(keys, whole, self)):
            return NULL_ARRAY
        for queued in execution.queued:
            reply = yield from interaction.perform(queued.call, queued.context)
            execution.replies[queued.place] = execution.session.encode(reply)
        return execution.array()

    def done(self) -> None:
        if self.execution.watch is not None:
            self.execution.proxy.end_watch(self.execution.watch)


class WatchKeys:
    """A WATCH on its way."""

    def __init__(self, session: Session, keys: list[bytes]) -> None:
        self.session = session
        self.keys = keys

    def begin(self, block: Block, index: int) -> None:
        """Has the shards watch the keys; the reply goes to a place in a block."""
        session, proxy = self.session, self.session.proxy
        by_shard: dict[int, list[bytes]] = {}
        for key in self.keys:
            by_shard.setdefault(proxy.slot_table[slot_of(key)], []).append(key)
        watch = session.watch = session.watch or Watch(proxy.coordinator.number())
        watch.keys |= {(session.db, key) for key in self.keys}
        watch.shards |= by_shard.keys()
        code = COMMANDS["keepwatch"].code
        requests: dict[int, list[Any]] = {
            shard: [code, watch.watcher, keys] for shard, keys in by_shard.items()
        }
        if len(requests) == 1:
            [(shard, request)] = requests.items()
            request[0] |= session.context
            proxy.send(proxy.backends[shard], request, block, index)
        else:
            session.await_(COMMANDS["watch"], self._watch(requests), block, index)

    async def _watch(self, requests: dict[int, list[Any]]) -> Any:
        context = pack_context(self.session.db, RAW)
        for request in requests.values():
            request[0] |= context
        for value in await self.session.proxy.ask_each(requests):
            if isinstance(value, CommandError):
                return value
        return OK
