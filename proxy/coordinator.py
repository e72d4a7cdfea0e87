"""Carries out the commands that span shards: drives their state machines (proxy.transaction) with real
messages."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from proxy.backend import Block, ValueBlock, new_block
from proxy.transaction import (
    Action,
    Commit,
    Counters,
    GiveToken,
    Pause,
    Prepare,
    Release,
    Run,
    TakeToken,
    transact,
)
from shardkv import wire
from shardkv.command import COMMANDS
from shardkv.errors import CommandError
from shardkv.plan import Call, Parts, coded
from shardkv.resp.replies import unpack_raw

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session


class Coordinator:
    """Starts transactions of one proxy and knows what runs."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.counters = Counters()
        self.running: set[Work] = set()
        self._numbers = itertools.count(1)

    def reset_counters(self) -> None:
        """Counts from zero again."""
        self.counters = Counters()

    def start(self, session: Session, call: Call, block: Block, index: int) -> None:
        """Carries out a command; its reply goes to a place in a block. The session waits for it, unless it
        is a mere look that needs no locks, whose place in the order the pipes keep."""
        lock_reads = self.proxy.config.proxies > 1
        transaction = (self.proxy.index, next(self._numbers))
        self.proxy.counters.of(call.command).calls += 1
        steps = transact(call, transaction, lock_reads=lock_reads, counters=self.counters)
        suspends = call.command.writes or lock_reads or call.spreads
        session.suspended = session.suspended or suspends
        Work(self, session, call, steps, block, index, suspends=suspends).step(None)


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
        self._awaited: dict[int, tuple[Block, int]] = {}
        self._suspends = suspends
        self._nested = False
        self._context = wire.pack_context(call.db, wire.RAW, no_touch=session.no_touch)
        coordinator.running.add(self)

    def step(self, outcome: Any) -> None:
        """Goes on to where the state machine has to wait again."""
        try:
            action = self.steps.send(outcome)
            while isinstance(action, Release | GiveToken):
                self._tell(action)
                action = next(self.steps)
        except StopIteration as stop:
            self._finish(stop.value)
            return
        self._start(action)

    def _start(self, action: Action) -> None:
        context = self._context
        match action:
            case Run(parts):
                self._nested = False
                self._ask({shard: coded(context, requests) for shard, requests in parts.items()})
            case Prepare(transaction, keys, whole, exclusive, wait, parts):
                self._nested = True
                mode = [exclusive, whole, wait]
                self._ask(
                    {
                        shard: [
                            self._internal(
                                "prepare",
                                transaction,
                                mode,
                                locks,
                                coded(context, parts.get(shard, [])),
                            )
                        ]
                        for shard, locks in keys.items()
                    }
                )
            case Commit(transaction, parts):
                self._nested = True
                self._ask(
                    {
                        shard: [self._internal("commit", transaction, coded(context, requests))]
                        for shard, requests in parts.items()
                    }
                )
            case Pause(ms):
                self.proxy.loop.call_later(ms / 1000, self.step, None)
            case TakeToken():
                future = self.proxy.supervision.take_token()
                future.add_done_callback(lambda done: self.step(None))

    def _tell(self, action: Release | GiveToken) -> None:
        if isinstance(action, GiveToken):
            self.proxy.supervision.give_token()
            return
        for shard in action.shards:
            block = new_block(_nobody, 1, ValueBlock)
            self.proxy.send(
                self.proxy.backends[shard], self._internal("release", action.transaction), block, 0
            )

    # -- messages -------------------------------------------------------------------------------

    def _internal(self, name: str, *args: Any) -> list[Any]:
        return [self._context | COMMANDS[name].code, *args]

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
        self.step({shard: self._values(block) for shard, (block, _) in awaited.items()})

    def _values(self, block: Block) -> Any:
        values = [unpack_raw(reply) for reply in block if reply is not None]
        if not self._nested:
            lost = next(
                (value for value in values if isinstance(value, CommandError) and is_lost(value)), None
            )
            return values if lost is None else lost
        [answer] = values
        if isinstance(answer, list):
            return [unpack_raw(reply) for reply in answer]
        return answer

    def _finish(self, value: Any) -> None:
        self.coordinator.running.discard(self)
        if isinstance(value, CommandError):
            self.proxy.counters.fail(self.call.command, value)
        block, index = self.place
        reply = self.encode(value)
        if self._suspends:
            self.session.resume(block, index, reply)
        else:
            block[index] = reply
            self.session.deliver()


def is_lost(error: CommandError) -> bool:
    """Whether an error stands for a shard that could not answer."""
    return error.text.startswith(b"SHARDDOWN ")


class _Nobody:
    def deliver(self) -> None:
        pass


_nobody = _Nobody()
