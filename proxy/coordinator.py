"""Carries out the commands that span shards: drives their state machines (proxy.transaction) with real
messages. Those of several clients that can travel together do (proxy.convoy)."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol, cast

from proxy.actions import (
    Action,
    Commit,
    Forget,
    GiveToken,
    Pause,
    Pledge,
    Prepare,
    Release,
    ResumeScript,
    Run,
    RunScript,
    Step,
    TakeToken,
    internal,
)
from proxy.backend import NOBODY, Block, ValueBlock, new_block
from proxy.convoy import ConvoyCall, Convoys, Member, Road
from proxy.interactive import CarriedScript, ScriptCall, Steps, carry, interact
from proxy.transaction import BUSY, Counters, transact, try_once
from shardkv import clock, errors, limits, wire
from shardkv.command import COMMANDS
from shardkv.errors import CommandError
from shardkv.locks import Transaction
from shardkv.plan import Call, Parts, coded
from shardkv.resp.replies import raw, unpack_raw

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session


Event = Callable[[], None]


class Coordinator:
    """Starts transactions of one proxy and knows what runs."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.counters = Counters()
        self.running: set[Running] = set()
        self.convoys = Convoys(self)
        self.exploring = 0
        """How many of them lock keys as they go on."""
        self._looks: set[Work] = set()
        """Mere looks under way that take no locks."""
        self._held_up: list[tuple[set[Work], Event]] = []
        """What goes on when some of these are done."""
        # No transaction of any proxy, this one before a restart among them, may have the same number.
        self._numbers = itertools.count(secrets.randbits(62))
        self._to_forget: dict[int, list[Transaction]] = {}

    def reset_counters(self) -> None:
        """Counts from zero again."""
        self.counters = Counters()

    def forget_later(self, transaction: Transaction, shards: list[int]) -> None:
        """Tells shards, some time, that a transaction is carried out everywhere."""
        if not self._to_forget:
            self.proxy.loop.call_later(limits.FORGET_AFTER_S, self._forget)
        for shard in shards:
            self._to_forget.setdefault(shard, []).append(transaction)

    def _forget(self) -> None:
        to_forget, self._to_forget = self._to_forget, {}
        context = wire.pack_context(0, wire.RAW)
        for shard, transactions in to_forget.items():
            self.proxy.tell(shard, internal(context, "forget", transactions))

    def begins(self, work: Running) -> None:
        """Something is under way that has to be done before slots can move."""
        self.running.add(work)

    def ends(self, work: Running) -> None:
        """It is done."""
        self.running.discard(work)
        if work in self._looks:
            self._looks.discard(work)
            self._look_is_done(work)
        if self.proxy.move is not None:
            self.proxy.move.work_ends(work)

    def after_looks(self, go_on: Event) -> None:
        """Has something done when the looks are over that take no locks and are under way now.

        Such a look may have seen one shard and wait for a key on another. A transaction that comes after it
        does not take that key, unless it holds another there already: and so does who locks keys as he goes.
        """
        if self._looks:
            self._held_up.append((set(self._looks), go_on))
        else:
            go_on()

    def _look_is_done(self, look: Work) -> None:
        for looks, _ in self._held_up:
            looks.discard(look)
        ready = [go_on for looks, go_on in self._held_up if not looks]
        self._held_up = [held for held in self._held_up if held[0]]
        for go_on in ready:
            go_on()

    def drop_shard(self, shard: int) -> None:
        """A shard is there no more."""
        self._to_forget.pop(shard, None)

    def number(self) -> Transaction:
        """A name for a transaction, or for a request that may wait, that no other has."""
        return self.proxy.index, next(self._numbers)

    def start(self, session: Session, call: Call, block: Block, index: int) -> None:
        """Carries out a client's command; its reply goes to a place in a block."""
        self.proxy.counters.of(call.command).calls += 1
        self.carry_out(session, call, block, index)

    def carry_out(self, session: Session, call: Call, block: Block, index: int) -> None:
        """The same for what is counted already. The session waits for it, unless it is a mere look that needs
        no locks, whose place in the order the pipes keep."""
        suspends = call.writes or self.lock_reads or call.needs_locks
        session.suspended = session.suspended or suspends
        if self.convoys.takes(session, call, block, index):
            return
        work = Work(self, session, call, self._steps(session, call), block, index, suspends=suspends)
        if not suspends:
            self._looks.add(work)
        work.begin()

    def _steps(self, session: Session, call: Call) -> Steps:
        """The state machine that carries a call of a client out."""
        if isinstance(call, CarriedScript):
            return carry(call, self.number, self.counters, self._with_token)
        if call.is_interactive:
            return interact(call.conduct, self.number, self.counters, session.context)
        return transact(call, self.number, lock_reads=self.lock_reads, counters=self.counters)

    def _with_token(self, script: ScriptCall, context: int) -> Steps:
        """Carries out a script that turns out to need the token."""
        self.exploring += 1
        reply = yield from interact(script.conduct, self.number, self.counters, context)
        self.exploring -= 1
        return reply

    def send_convoy(self, members: list[Member], road: Road) -> None:
        """Has commands carried out that travel together."""
        proxy = self.proxy
        call = ConvoyCall(
            COMMANDS["exec"], [b"EXEC"], 0, proxy.slot_table, len(proxy.backends), members=members
        )
        _Convoy(self, call, road).begin()

    def disband(self, members: list[Member]) -> None:
        """Has each of some commands carried out by itself."""
        for member in members:
            steps = self._steps(member.session, member.call)
            work = Work(self, member.session, member.call, steps, *member.place, suspends=True)
            if self.proxy.move is not None:
                self.proxy.move.work_goes_on(member, work)
            self.ends(member)
            work.begin()

    def answer(self, asked: Work | Member, value: Any) -> None:
        """Gives a client the reply with this value to what it has asked."""
        call, session = asked.call, asked.session
        call.done()
        if isinstance(value, CommandError):
            self.proxy.counters.fail(call.command, value)
        block, index = asked.place
        reply = asked.encode(value)
        if not call.command.internal:
            took_ns = clock.perf_counter_ns() - asked.begun_ns
            self.proxy.log.done(session, call.command, call.args, took_ns, reply)
        if asked.suspends:
            session.resume(block, index, reply)
        else:
            block[index] = reply
            if session.tracker is not None:
                session.tracker.release()
            block.owner.deliver()

    @property
    def lock_reads(self) -> bool:
        """Whether mere looks need locks: clients of other proxies could come between them, or a transaction
        that locks keys as it goes on."""
        return self.proxy.config.proxies > 1 or self.exploring > 0

    async def reply_of(self, session: Session, call: Call) -> bytes:
        """The reply of a call that is part of a command the session waits for anyway."""
        reply = _Reply(self.proxy.loop)
        Work(self, session, call, self._steps(session, call), reply.block, 0, suspends=False).begin()
        return await reply.future

    async def value_of(self, call: Call) -> Any:
        """The value of a call that no client has sent; a CommandError if it has failed."""
        return unpack_raw(await self.reply_of(cast("Session", _NoClient()), call))


class _NoClient:
    """Stands for the session of a call that no client has sent."""

    context = wire.pack_context(0, wire.RAW)
    encode = staticmethod(raw)
    tracker = None


class _Reply:
    """Waits for one reply."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[bytes] = loop.create_future()
        self.block = new_block(self, 1)

    def deliver(self) -> None:
        [reply] = self.block
        if reply is not None:
            self.block.owner = NOBODY
            self.future.set_result(reply)


class Running(Protocol):
    """What is under way over several shards. It is idle while it holds nothing and does nothing, and cannot
    go on by itself."""

    session: Session

    @property
    def is_idle(self) -> bool: ...


class Work:
    """One command on its way: does what its state machine says, and tells it what came of it."""

    def __init__(
        self,
        coordinator: Coordinator,
        session: Session,
        call: Call,
        steps: Generator[Action, Any, Any],
        block: Block,
        index: int,
        *,
        suspends: bool,
    ) -> None:
        self.coordinator = coordinator
        self.proxy = coordinator.proxy
        self.session = session
        self.call = call
        self.steps = steps
        self.place = (block, index)
        # What the session was when it sent the command decides how the reply looks.
        self.encode = session.encode
        self.begun_ns = clock.perf_counter_ns()
        self._awaited: dict[int, tuple[Block, int]] = {}
        self._lives: dict[int, int] = {}
        """Of shards that look at something under locks, the processes that do."""
        self.suspends = suspends
        self._nested = False
        self._context = wire.part_context(session.context, call.db, looks=call.command.looks)
        self._explores = call.is_interactive or call.spreads
        coordinator.begins(self)
        coordinator.exploring += self._explores

    @property
    def is_idle(self) -> bool:
        return False

    def begin(self) -> None:
        """Makes the first step."""
        if self._explores:
            self.coordinator.after_looks(lambda: self.step(None))
        else:
            self.step(None)

    def step(self, outcome: Any) -> None:
        """Goes on to where the state machine has to wait again."""
        try:
            action = self.steps.send(outcome)
            while isinstance(action, Release | Forget | GiveToken):
                self._tell(action)
                action = next(self.steps)
        except StopIteration as stop:
            self._finish(stop.value)
            return
        self._start(action)

    def _start(self, action: Action) -> None:
        match action:
            case Run(parts):
                self._nested = False
                context = self._context
                self._ask({shard: coded(context, requests) for shard, requests in parts.items()})
            case Prepare() | Step() | RunScript() | ResumeScript() | Pledge() | Commit():
                self._nested = True
                messages = action.messages(self._context)
                self._ask({shard: [message] for shard, message in messages.items()})
                if isinstance(action, Prepare) and action.parts and len(messages) > 1:
                    self._lives = {shard: self.proxy.backends[shard].life for shard in messages}
            case Pause(ms):
                self.proxy.loop.call_later(ms / 1000, self.step, None)
            case TakeToken():
                begun_ns = clock.perf_counter_ns()
                future = self.proxy.supervision.take_token()
                future.add_done_callback(lambda done: self._go_on_with_token(begun_ns))

    def _go_on_with_token(self, begun_ns: int) -> None:
        self.coordinator.counters.token_wait_ns += clock.perf_counter_ns() - begun_ns
        self.coordinator.after_looks(lambda: self.step(None))

    def _tell(self, action: Release | Forget | GiveToken) -> None:
        match action:
            case GiveToken():
                self.proxy.supervision.give_token()
            case Forget(transaction, shards):
                self.coordinator.forget_later(transaction, shards)
            case Release(transaction, shards):
                for shard in shards:
                    self.proxy.tell(shard, internal(self._context, "release", transaction))

    # -- messages -------------------------------------------------------------------------------

    def _ask(self, parts: Parts) -> None:
        self._awaited = {}
        blocks = {shard: new_block(self, len(requests), ValueBlock) for shard, requests in parts.items()}
        for shard, requests in parts.items():
            self._awaited[shard] = (blocks[shard], len(requests))
            for index, request in enumerate(requests):
                self.proxy.send(self.proxy.backends[shard], request, blocks[shard], index)
        if not parts:
            self.proxy.loop.call_soon(self.step, {})

    def deliver(self) -> None:
        """Some of the shards' values have come; with the last of them the work goes on."""
        if not self._awaited or any(None in block for block, _ in self._awaited.values()):
            return
        awaited, self._awaited = self._awaited, {}
        answers = {shard: self._answers(block) for shard, (block, _) in awaited.items()}
        if self._lives:
            answers |= self._lost()
        self.step(answers)

    def _lost(self) -> dict[int, CommandError]:
        """For shards that have died since they were asked, what counts instead of their answers. One may have
        died before another answered, and its locks with it: what both have seen need not be of one moment."""
        lives, self._lives = self._lives, {}
        backends = self.proxy.backends
        return {
            shard: CommandError(errors.shard_died(shard))
            for shard, life in lives.items()
            if not backends[shard].is_alive(life)
        }

    def _answers(self, block: Block) -> Any:
        """A shard's encoded replies; of a message for transactions, what it has answered to that."""
        if not self._nested:
            return block
        [reply] = block
        assert reply is not None
        return unpack_raw(reply)

    def _finish(self, value: Any) -> None:
        self.coordinator.ends(self)
        self.coordinator.exploring -= self._explores
        self.coordinator.answer(self, value)


class _Convoy(Work):
    """Commands of several clients on their way together."""

    def __init__(self, coordinator: Coordinator, call: ConvoyCall, road: Road) -> None:
        steps = try_once(call, coordinator.number)
        nobody = cast("Session", _NoClient())
        super().__init__(coordinator, nobody, call, steps, new_block(NOBODY, 1), 0, suspends=False)
        self._members = call.members
        self._road = road
        if len(call.members) == 1:
            # What its shards have to tell of what took long is of one client then.
            self.session = call.members[0].session

    def _finish(self, value: Any) -> None:
        coordinator, members = self.coordinator, self._members
        coordinator.ends(self)
        coordinator.convoys.arrived(members, self._road)
        if value is BUSY:
            coordinator.counters.retries += 1
            coordinator.disband(members)
            return
        coordinator.counters.commands += len(members)
        values = [value] * len(members) if isinstance(value, CommandError) else value
        for member, found in zip(members, values, strict=True):
            coordinator.ends(member)
            coordinator.answer(member, found)
