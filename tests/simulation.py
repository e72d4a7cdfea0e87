"""Clients, proxies and shards in one process, driven step by step by a seeded random order.

Everything that decides is the real thing (state machines of transactions, plans, shards with their locks);
only the pipes are lists. A message waits in its pipe until the scheduler picks it, so pipes keep their own
order and nothing else is in order. A seed that fails replays exactly.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

from proxy.actions import (
    Commit,
    Forget,
    GiveToken,
    Pause,
    Pledge,
    Prepare,
    Release,
    Run,
    Step,
    TakeToken,
    internal,
)
from proxy.transaction import Counters, transact
from proxy.waiting import Enlist, Offer, Withdraw, wait_and_transact
from shardkv import wire
from shardkv.command import Command
from shardkv.commands.waiting import GONE, OUTCOMES, TIMEOUT
from shardkv.plan import Call, coded
from shardkv.resp.replies import unpack_raw
from shardkv.shard import Shard
from shardkv.slots import slot_of
from shardkv.transactions import Late
from tests.local import Local

Script = Generator[list[Any], Any, None]
"""What a client does: yields commands, gets their replies."""


_CONTEXT = wire.pack_context(0, wire.RAW)


class Link:
    """Both pipes between a proxy and a shard."""

    def __init__(self, proxy: int) -> None:
        self.proxy = proxy
        self.requests: deque[tuple[list[Any], Callable[[Any], None]]] = deque()
        self.replies: deque[tuple[Any, Callable[[Any], None]]] = deque()
        self.late: list[Late] = []
        self.waiting: dict[int, Callable[[Any], None]] = {}
        self._tickets = 0

    def next_ticket(self) -> int:
        self._tickets += 1
        return self._tickets - 1


class _Wait:
    """A command that waits, until it is `over`."""

    def __init__(self, done: Callable[[Any], None]) -> None:
        self.over = False
        self.timed_out = False
        self.end: Callable[[], None] = self.run_out
        """What the end of its time does."""
        self._done = done

    def run_out(self) -> None:
        """It does not wait just now, and is not to wait again."""
        self.timed_out = True

    def finish(self, reply: Any) -> None:
        self.over = True
        self._done(reply)


class Simulation:
    """Some proxies over some shards, and clients on them."""

    def __init__(self, seed: int, *, proxies: int, shards: int) -> None:
        self.random = random.Random(seed)
        self.local = Local(shards)
        self.shards: list[Shard] = self.local.shards
        self.links = [[Link(proxy) for _ in self.shards] for proxy in range(proxies)]
        self.counters = Counters()
        self.steps = 0
        self._ready: list[Callable[[], None]] = []
        self._token_held = False
        self._token_queue: deque[Callable[[Any], None]] = deque()
        self._numbers = itertools.count(1)
        self.running = 0

    # -- clients --------------------------------------------------------------------------------

    def client(self, proxy: int, script: Script) -> None:
        """Adds a client, which sends its next command when it has the reply to the last."""
        self.running += 1

        def go_on(reply: Any) -> None:
            try:
                words = script.send(reply)
            except StopIteration:
                self.running -= 1
                return
            self._carry_out(
                proxy, [word if isinstance(word, bytes) else str(word).encode() for word in words], go_on
            )

        self._ready.append(lambda: go_on(None))

    def run(self, limit: int = 200_000) -> None:
        """Lets things happen in random order until every client is done and every pipe is empty."""
        while self._happen():
            self.steps += 1
            assert self.steps < limit, f"no progress: {self.running} clients wait"
        assert not self.running, f"deadlock: {self.running} clients wait"

    def _happen(self) -> bool:
        deliverable = [
            deliver
            for links in self.links
            for number, link in enumerate(links)
            for deliver in self._deliverable(link, number)
        ]
        choices = deliverable + self._ready
        if not choices:
            return False
        chosen = self.random.choice(choices)
        if chosen in self._ready:
            self._ready.remove(chosen)
        chosen()
        return True

    def _deliverable(self, link: Link, shard: int) -> Iterator[Callable[[], None]]:
        if link.requests:
            yield lambda: self._serve(link, shard)
        if link.replies:
            yield lambda: self._receive(link)

    # -- shards ---------------------------------------------------------------------------------

    def _serve(self, link: Link, shard: int) -> None:
        request, then = link.requests.popleft()
        first_ticket = link._tickets
        [reply] = self.shards[shard].run([request], link)
        if reply is None:
            link.waiting[first_ticket] = then
        else:
            link.replies.append((reply, then))
        for other in (links[shard] for links in self.links):
            for late in other.late:
                other.replies.append((late.reply, other.waiting.pop(late.ticket)))
            other.late.clear()

    def _receive(self, link: Link) -> None:
        reply, then = link.replies.popleft()
        then(reply)

    # -- proxies --------------------------------------------------------------------------------

    def _carry_out(self, proxy: int, args: list[bytes], done: Callable[[Any], None]) -> None:
        command = self.local.find(args)
        slots = [slot_of(args[position]) for position in command.key_positions(args)]
        shards = {self.local.slot_table[slot] for slot in slots}
        timeout = None if command.waits is None else command.waits.timeout(args)
        if timeout is not None:
            self._carry_out_waiting(proxy, command, args, slots, timeout, done)
            return
        if len(shards) == 1 and not command.spreads(args):
            code = wire.pack_code(wire.pack_context(0, wire.RAW), command.id, slots[0])
            self.links[proxy][shards.pop()].requests.append(
                ([code, *args[1:]], lambda reply: done(unpack_raw(reply)))
            )
            return
        call = Call(command, args, 0, self.local.slot_table, len(self.shards))
        steps = transact(
            call, partial(self._number, proxy), lock_reads=len(self.links) > 1, counters=self.counters
        )
        self._step(proxy, steps, None, done)

    def _number(self, proxy: int) -> tuple[int, int]:
        return proxy, next(self._numbers)

    def _carry_out_waiting(
        self,
        proxy: int,
        command: Command,
        args: list[bytes],
        slots: list[int],
        timeout: tuple[int, int],
        done: Callable[[Any], None],
    ) -> None:
        """As `proxy.blocking` does it. A timeout that is not 0 may end at any moment."""
        place, timeout_ms = timeout
        shards = {self.local.slot_table[slot] for slot in slots}
        number = partial(self._number, proxy)
        wait = _Wait(done)
        if len(shards) == 1:
            [shard] = shards
            request: list[Any] = [wire.pack_code(_CONTEXT, command.id, slots[0]), *args[1:]]
            identity = number()
            request[place] = identity[1]
            self.links[proxy][shard].requests.append((request, _unpacked(wait.finish)))
            wait.end = partial(self._withdraw, proxy, identity, [shard], TIMEOUT)
        else:
            call = Call(command, args, 0, self.local.slot_table, len(self.shards))
            lock_reads = len(self.links) > 1
            steps = wait_and_transact(call, number, lock_reads=lock_reads, counters=self.counters)
            self._step(proxy, steps, None, wait.finish, wait)
        if timeout_ms:
            self._ready.append(lambda: None if wait.over else wait.end())

    def _withdraw(self, proxy: int, identity: tuple[int, int], shards: list[int], why: str) -> None:
        for shard in shards:
            self._send(proxy, shard, internal(_CONTEXT, "withdraw", identity, why))

    def _enlist(self, proxy: int, action: Enlist, wait: _Wait, go_on: Callable[[Any], None]) -> None:
        if wait.timed_out:
            self._ready.append(lambda: go_on(OUTCOMES[TIMEOUT]))
            return
        answered = False

        def answer(outcome: Any) -> None:
            nonlocal answered
            if not answered:
                answered = True
                wait.end = wait.run_out
                go_on(outcome)

        def end() -> None:
            wait.timed_out = True
            answer(OUTCOMES[TIMEOUT])

        wait.end = end
        for shard, wishes in action.wishes.items():
            request = internal(_CONTEXT, "enlist", action.transaction, action.name, wishes)

            def take(key: Any, shard: int = shard) -> None:
                answer(Offer(shard, key))

            self.links[proxy][shard].requests.append((request, _unpacked(take)))

    def _step(
        self,
        proxy: int,
        steps: Generator[Any, Any, Any],
        outcome: Any,
        done: Callable[[Any], None],
        waiting: _Wait | None = None,
    ) -> None:
        try:
            action = steps.send(outcome)
            while isinstance(action, Release | Forget | GiveToken | Withdraw):
                self._tell(proxy, action)
                action = next(steps)
        except StopIteration as stop:
            done(stop.value)
            return

        def go_on(value: Any) -> None:
            self._step(proxy, steps, value, done, waiting)

        match action:
            case Enlist():
                assert waiting is not None
                self._enlist(proxy, action, waiting, go_on)
            case Run(parts):
                asked = {shard: coded(_CONTEXT, requests) for shard, requests in parts.items()}
                self._ask(proxy, asked, False, go_on)
            case Prepare() | Step() | Pledge() | Commit():
                messages = action.messages(_CONTEXT)
                self._ask(proxy, {shard: [message] for shard, message in messages.items()}, True, go_on)
            case Pause():
                self._ready.append(lambda: go_on(None))
            case TakeToken():
                if self._token_held:
                    self._token_queue.append(go_on)
                else:
                    self._token_held = True
                    go_on(None)

    def _tell(self, proxy: int, action: Release | Forget | GiveToken | Withdraw) -> None:
        match action:
            case Withdraw(transaction, shards):
                self._withdraw(proxy, transaction, shards, GONE)
            case Release(transaction, shards):
                for shard in shards:
                    self._send(proxy, shard, internal(_CONTEXT, "release", transaction))
            case Forget(transaction, shards):
                for shard in shards:
                    self._send(proxy, shard, internal(_CONTEXT, "forget", [transaction]))
            case GiveToken() if self._token_queue:
                granted = self._token_queue.popleft()
                self._ready.append(lambda: granted(None))
            case GiveToken():
                self._token_held = False

    def _send(self, proxy: int, shard: int, request: list[Any]) -> None:
        self.links[proxy][shard].requests.append((request, lambda value: None))

    def _ask(
        self, proxy: int, parts: dict[int, list[list[Any]]], nested: bool, go_on: Callable[[Any], None]
    ) -> None:
        values: dict[int, list[Any]] = {shard: [] for shard in parts}
        missing = sum(map(len, parts.values()))

        def take(shard: int, value: Any) -> None:
            nonlocal missing
            missing -= 1
            values[shard].append(value)
            if not missing:
                go_on({shard: unpack_raw(found[0]) if nested else found for shard, found in values.items()})

        for shard, requests in parts.items():
            for request in requests:
                self.links[proxy][shard].requests.append((request, partial(take, shard)))


def _unpacked(then: Callable[[Any], None]) -> Callable[[bytes], None]:
    """Takes an encoded reply; an empty one is that of a client that is gone."""
    return lambda reply: then(unpack_raw(reply) if reply else None)
