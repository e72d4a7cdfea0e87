"""Clients that wait: for data of keys, or for time to pass.

A session whose client waits is suspended, and its `waiting` says what can end that beside the reply: its
timeout, CLIENT UNBLOCK, or the end of its connection.

What was taken out of a collection for a client that has gone meanwhile is put back.
"""

from __future__ import annotations

import asyncio
import select
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import hiredis

from proxy.actions import internal
from proxy.backend import NOBODY, Block, ValueBlock, new_block
from proxy.coordinator import Coordinator, Work
from proxy.waiting import Enlist, Offer, Withdraw, is_nothing, wait_and_transact
from shardkv import errors
from shardkv.blocking import Waits
from shardkv.command import COMMANDS, Command
from shardkv.commands.waiting import ERROR, GONE, TIMEOUT, outcome
from shardkv.errors import CommandError
from shardkv.locks import Transaction
from shardkv.plan import Call, coded
from shardkv.resp.replies import raw, unpack_raw
from shardkv.slots import slot_of
from shardkv.wire import RAW, SLOT_MOVED, pack_context, unpack

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session


class Waiting(Protocol):
    """Why a session is suspended, if that may take long."""

    timed: bool
    """Whether it ends by itself at some time."""

    @property
    def request(self) -> tuple[Command, list[Any]] | None:
        """What will be carried out when it ends, if that is not yet done."""

    async def unblock(self, why: str) -> bool:
        """Ends the waiting, by what shardkv.commands.waiting calls it; False if it is over already."""

    def leave(self) -> None:
        """The client is gone."""


class Blocking:
    """The clients of one proxy that wait for data."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._poll = select.poll()

    def timeout(self, command: Command, args: list[Any]) -> tuple[int, int] | None:
        """Where a request's timeout stands, and its ms; None for one that never waits."""
        waits: Waits | None = command.waits
        return None if waits is None else waits.timeout(args)

    def start(
        self, session: Session, command: Command, args: list[Any], slots: list[int], block: Block, index: int
    ) -> bool:
        """Carries out a request that may wait for data. False if this one must not."""
        timeout = self.timeout(command, args)
        if timeout is None or not slots:
            return False
        place, timeout_ms = timeout
        proxy = self.proxy
        block, index = session.set_apart(block, index)
        session.suspended = True
        coordinator = proxy.coordinator
        _, number = coordinator.number()
        shards = {proxy.slot_table[slot] for slot in slots}
        if len(shards) == 1:
            request = [session.context | command.code | slots[0], *args[1:]]
            request[place] = number
            LocalWait(session, command, args, block, index, number, timeout_ms).send(shards.pop(), request)
            return True
        call = Call(command, args, session.db, proxy.slot_table, len(proxy.backends))
        proxy.counters.of(command).calls += 1
        wait = CrossShardWait(coordinator, session, call, block, index, timeout_ms)
        # Not at once: one that fails by itself would resume the session in the middle of its dispatch.
        proxy.loop.call_soon(wait.step, None)
        return True

    def is_gone(self, session: Session) -> bool:
        """Whether a client has closed its connection, even if nobody has been told yet."""
        if session.transport.is_closing():
            return True
        descriptor = session.file_descriptor
        self._poll.register(descriptor, select.POLLRDHUP)
        found = self._poll.poll(0)
        self._poll.unregister(descriptor)
        return bool(found)

    def give_back(self, command: Command, args: list[Any], db: int, reply: Any) -> None:
        """Undoes what has led to a reply that nobody is there to get."""
        request = command.waits.give_back(args, reply)
        [coded_request] = coded(pack_context(db, RAW), [request])
        backend = self.proxy.slot_backends[slot_of(request[1])]
        self.proxy.send(backend, coded_request, new_block(NOBODY, 1, ValueBlock), 0)


class LocalWait:
    """A request that waits on one shard."""

    def __init__(
        self,
        session: Session,
        command: Command,
        args: list[Any],
        block: Block,
        index: int,
        number: int,
        timeout_ms: int,
    ) -> None:
        self.session = session
        self.proxy = session.proxy
        self.command = command
        self.args = args
        self.request = command, args
        self.db = session.db
        self.place = (block, index)
        self.identity: Transaction = (self.proxy.index, number)
        self.reply = new_block(self, 1)
        self.timed = timeout_ms > 0
        self._ended: str | None = None
        self._has_lost_its_place = False
        """Whether its slot has gone to another shard, which does not know of it yet."""
        session.begin_waiting(self)
        if self.timed:
            self._timer = self.proxy.loop.call_later(timeout_ms / 1000, self._withdraw, TIMEOUT)

    def send(self, shard: int, request: list[Any]) -> None:
        """Sends the request on its way."""
        self.shard = shard
        self.proxy.send(self.proxy.backends[shard], request, self.reply, 0)

    def _withdraw(self, why: str) -> Block:
        """Has the shard answer the request now, if it has not done so before."""
        answer = new_block(NOBODY, 1, ValueBlock)
        self._ended = self._ended or why
        if self._has_lost_its_place:
            answer[0] = raw(True)
            return answer
        code = pack_context(self.db, RAW) | COMMANDS["withdraw"].code
        self.proxy.send(self.proxy.backends[self.shard], [code, self.identity, why], answer, 0)
        return answer

    async def unblock(self, why: str) -> bool:
        answer = self._withdraw(why)
        if answer == [None]:
            answer.owner = told = _Told(self.proxy.loop)
            await told.future
        [value] = answer
        return value is not None and unpack_raw(value) is True

    def leave(self) -> None:
        self._withdraw(GONE)

    def deliver(self) -> None:
        """The shard has answered: that the reply comes later, or with it."""
        [reply] = self.reply
        if reply is None:
            return
        if reply.startswith(SLOT_MOVED):
            self._follow(reply)
            return
        self.reply.owner = NOBODY
        if self.timed:
            self._timer.cancel()
        session = self.session
        session.waiting = None
        if self.command.waits.give_back is not None and self.proxy.blocking.is_gone(session):
            self._keep(reply)
            reply = b""
        session.resume(*self.place, reply)

    def _follow(self, reply: bytes) -> None:
        """A slot of its keys is on its way to another shard: it asks there, as soon as it can."""
        self._has_lost_its_place = True
        words = unpack(reply[len(SLOT_MOVED) :])
        if self.proxy.move is not None:
            self.proxy.move.afterwards(partial(self._ask_again, words))
        else:
            self._ask_again(words)

    def _ask_again(self, words: list[Any]) -> None:
        session, proxy, command = self.session, self.proxy, self.command
        if self._ended is not None:
            self.reply[0] = b"" if self._ended == GONE else session.encode(outcome(self._ended))
            self.deliver()
            return
        if proxy.move is not None:
            # Slots are on their way again.
            proxy.move.afterwards(partial(self._ask_again, words))
            return
        self._has_lost_its_place = False
        args = [self.args[0], *words]
        slots = command.route_slots(args)
        shards = {proxy.slot_table[slot] for slot in slots}
        if len(shards) == 1:
            self.reply[0] = None
            self.send(shards.pop(), [session.context | command.code | slots[0], *words])
            return
        self.reply.owner = NOBODY
        remaining_ms = 0
        if self.timed:
            self._timer.cancel()
            remaining_ms = max(1, round((self._timer.when() - proxy.loop.time()) * 1000))
        place, _ = command.waits.timeout(self.args) or (0, 0)
        args[place] = self.args[place]
        call = Call(command, args, self.db, proxy.slot_table, len(proxy.backends))
        CrossShardWait(proxy.coordinator, session, call, *self.place, remaining_ms).step(None)

    def _keep(self, reply: bytes) -> None:
        """Puts back what the reply holds."""
        reader = hiredis.Reader()
        reader.feed(reply)
        value = reader.gets()
        if isinstance(value, list):
            self.proxy.blocking.give_back(self.command, self.args, self.db, value)
        self.session.abort()


class CrossShardWait(Work):
    """A command that waits on several shards at once."""

    def __init__(
        self,
        coordinator: Coordinator,
        session: Session,
        call: Call,
        block: Block,
        index: int,
        timeout_ms: int,
    ) -> None:
        steps: Any = wait_and_transact(
            call, coordinator.number, lock_reads=coordinator.lock_reads, counters=coordinator.counters
        )
        super().__init__(coordinator, session, call, steps, block, index, suspends=True)
        self.timed = timeout_ms > 0
        self.request = call.command, call.args
        self._enlistment: _Enlistment | None = None
        self._ended: str | None = None
        session.begin_waiting(self)
        if self.timed:
            self._timer = self.proxy.loop.call_later(timeout_ms / 1000, self._end, TIMEOUT)

    @property
    def is_idle(self) -> bool:
        return self._enlistment is not None

    def _start(self, action: Any) -> None:
        match action:
            case Enlist(transaction, name, wishes):
                if self._ended is not None:
                    self.proxy.loop.call_soon(self.step, outcome(self._ended))
                    return
                self._enlistment = _Enlistment(self, list(wishes))
                for shard, wished in wishes.items():
                    request = internal(self._context, "enlist", transaction, name, wished)
                    self.proxy.send(self.proxy.backends[shard], request, self._enlistment.blocks[shard], 0)
                if self.proxy.move is not None:
                    self.proxy.move.work_ends(self)
            case Withdraw(transaction, shards):
                for shard in shards:
                    self.proxy.tell(shard, internal(self._context, "withdraw", transaction, GONE))
                self.step(None)
            case _:
                super()._start(action)

    def offered(self, outcome: Any) -> None:
        """A shard has something, or is lost."""
        self._enlistment = None
        self._go_on(outcome)

    def _go_on(self, outcome: Any) -> None:
        """Goes on with an outcome, unless slots are on their way."""
        move = self.proxy.move
        if move is None or move.work_begins(self):
            self.step(outcome)
        else:
            move.afterwards(partial(self._go_on, outcome))

    def _end(self, why: str) -> bool:
        """Ends the waiting with the outcome that this has; at once, or as soon as it would wait again."""
        enlistment, self._enlistment = self._enlistment, None
        self._ended = self._ended or why
        if enlistment is None:
            return False
        enlistment.end()
        self.step(outcome(why))
        return True

    async def unblock(self, why: str) -> bool:
        # Who is just being served does not wait.
        return self._enlistment is not None and self._end(why)

    def leave(self) -> None:
        self._end(GONE)

    def _finish(self, value: Any) -> None:
        if self.timed:
            self._timer.cancel()
        session, call = self.session, self.call
        session.waiting = None
        served = not is_nothing(value) and not isinstance(value, CommandError)
        blocking = self.proxy.blocking
        if served and call.command.waits.give_back is not None and blocking.is_gone(session):
            blocking.give_back(call.command, call.args, call.db, value)
            session.abort()
        super()._finish(value)


class _Enlistment:
    """An ENLIST on each of some shards: the first answer counts."""

    def __init__(self, work: CrossShardWait, shards: list[int]) -> None:
        self.blocks = {shard: new_block(self, 1, ValueBlock) for shard in shards}
        self._work = work

    def end(self) -> None:
        """What comes from now on is not waited for."""
        for block in self.blocks.values():
            block.owner = NOBODY

    def deliver(self) -> None:
        for shard, [reply] in self.blocks.items():
            if reply is not None:
                self.end()
                value = unpack_raw(reply)
                self._work.offered(value if isinstance(value, CommandError) else Offer(shard, value))
                return


class Sleep:
    """A command of the proxy itself that waits for time to pass, or for something that comes before."""

    request = None

    def __init__(self, session: Session, timeout_ms: int) -> None:
        loop = session.proxy.loop
        self._future: asyncio.Future[None] = loop.create_future()
        self._session = session
        self.timed = timeout_ms > 0
        if self.timed:
            self._timer = loop.call_later(timeout_ms / 1000, self.end)
        session.begin_waiting(self)

    def end(self) -> None:
        """What it waits for has come."""
        if not self._future.done():
            self._future.set_result(None)

    async def over(self) -> None:
        """Waits for the end. Raises CommandError if CLIENT UNBLOCK says so."""
        try:
            await self._future
        finally:
            self._session.waiting = None
            if self.timed:
                self._timer.cancel()

    async def unblock(self, why: str) -> bool:
        if self._future.done():
            return False
        if why == ERROR:
            self._future.set_exception(CommandError(errors.UNBLOCKED))
        else:
            self.end()
        return True

    def leave(self) -> None:
        self.end()


class _Told:
    """Waits for a reply."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.future: asyncio.Future[None] = loop.create_future()

    def deliver(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
