"""The requests of a shard that wait for data: when keys have changed, they are tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardkv import errors
from shardkv.command import Command, Handler
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.locks import LockKey, Transaction
from shardkv.values import Collection
from shardkv.waiters import Waiter, Waiters
from shardkv.wire import SLOT_MOVED, pack

if TYPE_CHECKING:
    from shardkv.shard import Shard
    from shardkv.stats import CommandStats
    from shardkv.transactions import Link


@dataclass(slots=True)
class Request:
    """A request that waits, as `Shard.run` knew it."""

    link: Link
    ticket: int
    handler: Handler
    db: Database
    slot: int
    args: list[Any]
    encode: Callable[[Any], bytes]
    command: Command
    stats: CommandStats
    locks: list[LockKey]
    """What must not be locked when it is tried again."""
    writes: bool
    """Whether it may not be locked by readers either."""


class Serving:
    """Lets requests of one shard wait, and serves them in the order in which they came."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.waiters = Waiters()
        self.newcomer: Waiter | None = None
        """Who has begun to wait in the handler that has just returned LATER."""
        self._tried = False
        """Whether a request that waits is being tried again."""
        self._busy = False

    # -- waiting --------------------------------------------------------------------------------

    def wait(
        self,
        link: Link | None,
        db: Database,
        number: Any,
        keys: list[bytes],
        kind: type[Collection],
        *,
        on_loss: bool,
    ) -> bool:
        """Whether a request that has found nothing waits from now on, or goes on waiting. `number` is what
        stands in the place of its timeout (see shardkv.blocking)."""
        if self._tried:
            return True
        if link is None or not isinstance(number, int):
            return False
        self.newcomer = Waiter((link.proxy, number), db.index, keys, kind, on_loss)
        return True

    def begin(self, request: Request) -> None:
        """The newcomer's request."""
        waiter, self.newcomer = self.newcomer, None
        assert waiter is not None
        waiter.request = request
        if not self.waiters:
            self.shard.observers.append(self.waiters.look_at)
        self.waiters.enter(waiter)

    def _leave(self, waiter: Waiter) -> None:
        self.waiters.leave(waiter)
        if not self.waiters:
            self.shard.observers.remove(self.waiters.look_at)

    def withdraw(self, identity: Transaction, value: Any) -> bool:
        """A request is not to wait any longer, and gets this reply; None for none, because nobody is there.
        False if it does not wait."""
        waiter = self.waiters.find(identity)
        if waiter is None:
            return False
        self._leave(waiter)
        request = waiter.request
        reply = b"" if value is None else request.encode(value)
        self.shard.answer(request.link, request.ticket, reply)
        return True

    def moved(self, slots: frozenset[int]) -> None:
        """Keys of these slots belong to another shard now: who waits for one has to ask anew, with what its
        request has come to say meanwhile."""
        for waiter in self.waiters.of_slots(slots):
            self._leave(waiter)
            request = waiter.request
            if request.command.internal:
                reply = request.encode(CommandError(errors.SLOT_MOVED))
            else:
                reply = SLOT_MOVED + pack(request.args[1:])
            self.shard.answer(request.link, request.ticket, reply)

    def forget_proxy(self, proxy: int) -> None:
        """A proxy is gone, and with it its clients."""
        for waiter in self.waiters.of_proxy(proxy):
            self._leave(waiter)

    # -- serving --------------------------------------------------------------------------------

    def serve(self) -> None:
        """Tries the requests again that wait for keys which have changed. Those that wait for locked keys
        have to wait until these are unlocked, and all behind them."""
        if self._busy:
            # What is done for one may make data for another: that is looked at in its turn.
            return
        self._busy = True
        self.shard.tracking.writer = 0
        ready = self.waiters.ready
        held_up = []
        while ready:
            place = next(iter(ready))
            del ready[place]
            if not self._serve_key(place):
                held_up.append(place)
        ready.update(dict.fromkeys(held_up))
        self._busy = False

    def _serve_key(self, place: LockKey) -> bool:
        """Serves who waits for a key; False if a lock is in the way."""
        index, key = place
        db = self.shard.database(index)
        locks = self.shard.locks
        for waiter in self.waiters.in_order(place):
            value = db.peek(key)
            if value is None and place not in self.waiters.on_loss:
                break
            if not waiter.is_for(value):
                continue
            request = waiter.request
            if locks.held and locks.is_locked(request.locks, writes=request.writes):
                return False
            self._try_again(waiter, request)
        return True

    def _try_again(self, waiter: Waiter, request: Request) -> None:
        self._tried = True
        try:
            reply, logged = self.shard.retry(request)
        finally:
            self._tried = False
        if reply is not None:
            self._leave(waiter)
            encode = request.encode if logged else None
            self.shard.answer(request.link, request.ticket, reply, encode)
