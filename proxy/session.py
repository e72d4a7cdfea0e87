"""A client's session: its state, and the way of each of its requests.

Requests are dispatched as they come, each to the shard of its key. A request that must be finished before the
next one starts (one that spans shards, waits, or asks other processes) suspends the session. The bytes, and
the order of replies, are the connection's business (proxy/connection.py)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from xxhash import xxh3_64_intdigest

from proxy.access import DEFAULT
from proxy.backend import Block, new_block
from proxy.connection import Connection
from proxy.multi import NOT_QUEUED, Execution, Queue, Watch, WatchKeys
from shardkv import clock, errors
from shardkv.command import Command, Place
from shardkv.errors import CommandError, ProtocolError, caught
from shardkv.resp.replies import encode_error, resp2, resp3
from shardkv.setting_kinds import BufferLimit
from shardkv.slots import PATTERN_START_BYTES, SLOT_MASK, hashed_part
from shardkv.wire import pack_context

if TYPE_CHECKING:
    from proxy.pubsub import Subscriber
    from proxy.server import Proxy
    from proxy.tracking import Tracker
    from shardkv.acl.users import User

logger = logging.getLogger("proxy.session")

_OPEN_BRACE = ord("{")
_NOTHING: dict[bytes, tuple[int, int, int, Command]] = {}


class _Unread:
    """Owns the replies that a client does not want."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def deliver(self) -> None:
        pass


class Session(Connection):
    """One client's state, and what is done with each of its requests."""

    __slots__ = (
        *("name", "library", "user", "authenticated", "admitted", "rights", "acting"),
        *("db", "protocol", "last_command", "is_replica"),
        *("no_evict", "no_touch", "replies_off", "skip_reply", "muted", "may_wait", "queue", "watch"),
        *("subscriber", "told_request", "tracker", "context", "encode", "plain", "queueing"),
    )

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(proxy)
        self.name: bytes = b""
        self.library: dict[bytes, bytes] = {b"lib-name": b"", b"lib-ver": b""}
        self.user: bytes = DEFAULT
        self.authenticated = proxy.users.lets_in_anybody
        """Whether the client has said who it is, or did not have to."""
        self.admitted = False
        """Whether it may ask for anything at all."""
        self.rights: User | None = None
        """What its user may do, if that is not everything; then `acting` is that user's name."""
        self.acting: bytes | None = None
        self.db: int = 0
        self.protocol = 2
        self.last_command: Command | None = None
        self.is_replica = False
        """Whether it has said that it wants to be kept up to date."""
        self.no_evict = False
        self.no_touch = False
        self.replies_off = False
        self.skip_reply = False
        """Whether the next request gets no reply."""
        self.muted = False
        """Whether the request that is carried out now, if a proxy answers it, gets no reply."""
        self.may_wait = True
        """Whether a command may wait at all; if not, it is answered as if its time were over."""
        self.queue: Queue | None = None
        """What the client has sent since MULTI, if it has."""
        self.watch: Watch | None = None
        self.subscriber: Subscriber | None = None
        """What the client has subscribed to, if it has."""
        self.told_request: list[Any] | None = None
        """The last request that clients which monitor were told of, while there are such."""
        self.tracker: Tracker | None = None
        """What it wants to know of changed keys, if it does."""
        self.settle()

    # -- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.proxy.entrance.welcome(self)

    def _is_gone(self) -> None:
        self.unwatch()
        self.proxy.entrance.dismiss(self)
        self.subscriber = None
        if self.waiting is not None:
            self.waiting.leave()

    def _release_pushes(self) -> None:
        if self.subscriber is not None:
            self.subscriber.release()
        if self.tracker is not None:
            self.tracker.release()

    @property
    def output_limit(self) -> BufferLimit:
        classes = self.proxy.config.client_output_buffer_limit
        return classes.pubsub if self.is_subscribed else classes.normal

    # -- requests in ----------------------------------------------------------------------------

    def _dispatch(self, requests: list[list[Any]]) -> None:
        """Sends each request where it belongs, in order, until one suspends the session."""
        count = len(requests)
        if count > self._window - self._outstanding:
            count = self._window - self._outstanding
            self._backlog.extendleft(reversed(requests[count:]))
            del requests[count:]
        proxy = self.proxy
        backends = proxy.slot_backends
        block = new_block(self, count)
        self._blocks.append(block)
        self._outstanding += count
        self.requests += count
        proxy.counters.requests += count
        # What is the same for every request is looked up once, and again after a request that may change it.
        fast = proxy.fast if self.plain else _NOTHING
        context = self.context
        starts = proxy.colocated_starts
        command = None
        for index, args in enumerate(requests):
            known = fast.get(args[0])
            if known is None:
                if self.queueing is not None and self._enqueue(args, block, index):
                    continue
                if not self._perform(args, block, index):
                    self.stalled = True
                    if self.tracker is not None:
                        self.tracker.will_try_again()
                    proxy.stalled.add(self)
                    self._put_back(requests, block, index)
                    break
                if self.suspended or self.leaving:
                    self._put_back(requests, block, index + 1)
                    break
                fast = proxy.fast if self.plain else _NOTHING
                context = self.context
                command = None
                continue
            code, least, most, command = known
            if least <= len(args) <= most:
                key = args[1]
                if _OPEN_BRACE in key or (starts and key[:PATTERN_START_BYTES] in starts):
                    key = hashed_part(key)
                slot = xxh3_64_intdigest(key) & SLOT_MASK
                args[0] = context | code | slot
                backend = backends[slot]
                backend.add_request(args)
                backend.add_block(block)
                backend.add_index(index)
            else:
                self._reject(command, CommandError(errors.wrong_arity(command.name)), block, index)
        if command is not None:
            self.last_command = command
        if not proxy.flush_scheduled:
            proxy.flush_soon()
        if None not in block:
            self.deliver()

    def _enqueue(self, args: list[Any], block: Block, index: int) -> bool:
        """Queues a command of the most frequent kind, between MULTI and EXEC; False if it is another."""
        assert self.queueing is not None
        known = self.proxy.queueable.get(args[0])
        if known is None or not known[1] <= len(args) <= known[2]:
            return False
        try:
            self.queueing.add(known[3], args)
        except CommandError as error:
            self._reject(known[3], error, block, index)
        else:
            block[index] = b"+QUEUED\r\n"
        return True

    # -- one request, by the long way -----------------------------------------------------------

    def _perform(self, args: list[Any], block: Block, index: int) -> bool:
        """Puts a request through the gates and has it carried out. False if it cannot start yet."""
        proxy = self.proxy
        command = None
        if self.tracker is not None:
            self.tracker.next_request(args)
        try:
            command = proxy.find(args)
            for gate in proxy.gates:
                gate(self, command, args)
            if proxy.pause.holds(command, writes=self._writes_at_exec(command)):
                return False
            if proxy.move is not None and proxy.move.holds(self, command, args):
                return False
            self.last_command = command
            if self.queue is not None and command.name not in NOT_QUEUED:
                self.queue.add(command, args)
                block[index] = b"" if self._takes_mute() else b"+QUEUED\r\n"
                return True
            if command.place is Place.PROXY:
                self._answer(command, args, block, index)
                return True
            if self.replies_off or self.skip_reply:
                return self._route_muted(command, args, block, index)
            return proxy.route(self, command, args, block, index)
        except CommandError as error:
            self._reject(command, error, block, index)
        except ProtocolError as error:
            block[index] = b""
            self.leave()
            self.refuse(error.text)
        except Exception:
            # Whatever it was, the client must not wait for a reply that never comes.
            logger.exception("%s failed", "a request" if command is None else command.name)
            self._reject(command, CommandError(errors.INTERNAL), block, index)
        return True

    def _reject(self, command: Command | None, error: CommandError, block: Block, index: int) -> None:
        """Answers a request with an error instead of carrying it out."""
        if command is not None and command.name == "exec":
            error = self._abort_exec(error)
        elif self.queue is not None:
            self.queue.is_broken = True
        self.proxy.counters.reject(command, error)
        block[index] = b"" if self._takes_mute() else encode_error(error.text)

    def _takes_mute(self) -> bool:
        """Whether a request gets no reply. Asked once for each, because CLIENT REPLY SKIP is good for one."""
        if not self.skip_reply:
            return self.replies_off
        self.skip_reply = False
        self.settle()
        return True

    def _route_muted(self, command: Command, args: list[Any], block: Block, index: int) -> bool:
        """Sends a request whose reply nobody reads."""
        if not self.proxy.route(self, command, args, new_block(_Unread(self), 1), 0):
            return False
        self._takes_mute()
        block[index] = b""
        return True

    def _answer(self, command: Command, args: list[Any], block: Block, index: int) -> None:
        """Carries out a command of the proxy itself."""
        self.muted = self._takes_mute()
        counters = self.proxy.counters.of(command)
        counters.calls += 1
        begun_ns = clock.perf_counter_ns()
        value = self.call(command, args)
        took_ns = clock.perf_counter_ns() - begun_ns
        counters.ns += took_ns
        kind = value.__class__
        if kind is CoroutineType:
            self.await_(command, value, block, index, args)
            return
        if kind is Execution or kind is WatchKeys:
            if self.muted:
                block[index] = b""
                block, index = new_block(_Unread(self), 1), 0
            value.begin(block, index)
            return
        if value.__class__ is CommandError:
            self.proxy.counters.fail(command, value)
        reply = b"" if self.muted else self.encode(value)
        block[index] = reply
        self.proxy.log.done(self, command, args, took_ns, reply)

    def call(self, command: Command, args: list[Any]) -> Any:
        """What a command of the proxy itself returns; a CommandError if it has failed."""
        try:
            return command.handler(self, args)
        except CommandError as error:
            return caught(error)
        except Exception:
            logger.exception("%s failed", command.name)
            return CommandError(errors.INTERNAL)

    def await_(
        self,
        command: Command,
        work: Coroutine[Any, Any, Any],
        block: Block,
        index: int,
        args: Sequence[Any] = (),
    ) -> None:
        """Suspends the session until a command that takes time is done; it begins when everything before it
        is answered. Without `args` somebody else has it logged."""

        async def carry_out() -> None:
            await self._turn_of(block, index)
            begun_ns = clock.perf_counter_ns()
            value = await self.outcome(command, work)
            took_ns = clock.perf_counter_ns() - begun_ns
            self.proxy.counters.of(command).ns += took_ns
            reply = b"" if self.muted else self.encode(value)
            if args:
                self.proxy.log.done(self, command, args, took_ns, reply)
            self.resume(block, index, reply)

        block, index = self.set_apart(block, index)
        self.suspended = True
        self.proxy.start_task(carry_out())

    async def outcome(self, command: Command, work: Coroutine[Any, Any, Any]) -> Any:
        """What comes of a command that takes time; a CommandError if it fails."""
        try:
            value = await work
        except CommandError as error:
            value = caught(error)
        except Exception:
            logger.exception("%s failed", command.name)
            value = CommandError(errors.INTERNAL)
        if value.__class__ is CommandError:
            self.proxy.counters.fail(command, value)
        return value

    # -- transactions ----------------------------------------------------------------------------

    def _writes_at_exec(self, command: Command) -> bool:
        """Whether a command is the EXEC of a transaction that may change something."""
        return self.queue is not None and self.queue.writes and command.name == "exec"

    def _abort_exec(self, error: CommandError) -> CommandError:
        """An EXEC that is refused ends its transaction; returns the error that says so."""
        self.queue = None
        self.settle()
        self.unwatch()
        return CommandError(errors.exec_refused(error.text))

    def unwatch(self) -> None:
        """Watches no keys any more."""
        if self.watch is not None:
            self.proxy.end_watch(self.watch)
            self.watch = None

    # -- state ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Derives what follows from the session's state; called after each change of it."""
        tracker = self.tracker
        self.context = pack_context(
            self.db,
            self.protocol,
            no_touch=self.no_touch,
            tracker=0 if tracker is None else tracker.number,
            remembers=tracker is not None and tracker.remembers,
        )
        self.encode = resp3 if self.protocol == 3 else resp2
        users = self.proxy.users
        user = users.get(self.user)
        self.rights = None if user is None or user.everything else user
        self.acting = None if self.rights is None else self.user
        self.admitted = user is not None and (self.authenticated or users.lets_in_anybody)
        self.reader.restricted = not self.admitted
        self.settle_queue()

    def settle_queue(self) -> None:
        """The same where only the queue, or its absence, is new."""
        tracker = self.tracker
        # Whether every gate is open and each request gets a reply: then the fast way is the right one.
        open_to_all = (
            self.admitted
            and self.rights is None
            and not self.replies_off
            and not self.skip_reply
            and not self.is_confined
            and (tracker is None or not tracker.caching)
        )
        self.plain = open_to_all and self.queue is None
        self.queueing = self.queue if open_to_all else None
        """The queue between MULTI and EXEC, if frequent commands can go there without passing the gates."""

    @property
    def is_monitor(self) -> bool:
        """Whether it is shown the commands of all clients."""
        return self in self.proxy.monitoring.clients

    @property
    def queued_bytes(self) -> int:
        """What the client has queued since MULTI."""
        if self.queue is None:
            return 0
        return sum(len(word) for _, args in self.queue.requests for word in args)

    @property
    def taken_bytes(self) -> int:
        """What is held for the client in all: `tot-mem` of CLIENT LIST."""
        return sum(self.waiting_bytes) + self.queued_bytes

    @property
    def is_subscribed(self) -> bool:
        """Whether it waits for messages."""
        return self.subscriber is not None and self.subscriber.is_listening

    @property
    def is_confined(self) -> bool:
        """Whether it may ask for few things only, because its protocol cannot tell replies from messages."""
        return self.protocol == 2 and self.is_subscribed

    @property
    def held(self) -> bool:
        """Whether a command or a pause keeps it waiting."""
        return self.waiting is not None or (self.stalled and self.proxy.pause.active)
