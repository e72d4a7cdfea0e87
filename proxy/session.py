"""A client's session: requests in, replies out in the same order.

Requests are dispatched as they come, each to the shard of its key, and their replies gather in blocks. A
request that must be finished before the next one starts (one that spans shards, waits, or asks other
processes) suspends the session; what the client sent meanwhile waits in the backlog."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections import deque
from collections.abc import Coroutine
from functools import cached_property
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from xxhash import xxh3_64_intdigest

from proxy.backend import NOBODY, Block, new_block
from proxy.multi import NOT_QUEUED, Execution, Queue, Watch, WatchKeys
from shardkv import clock, errors, limits
from shardkv.command import Command, Place
from shardkv.errors import CommandError, ProtocolError
from shardkv.resp.replies import encode_error, resp2, resp3
from shardkv.resp.requests import RequestReader
from shardkv.slots import PATTERN_START_BYTES, SLOT_MASK, hashed_part
from shardkv.wire import pack_context

if TYPE_CHECKING:
    from proxy.blocking import Waiting
    from proxy.pubsub import Subscriber
    from proxy.server import Proxy

logger = logging.getLogger("proxy.session")

_OPEN_BRACE = ord("{")
_NOTHING: dict[bytes, tuple[int, int, int, Command]] = {}


class Session(asyncio.Protocol):
    """One client's connection."""

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        config = proxy.config
        self.reader = RequestReader(config.proto_max_bulk_len, config.client_query_buffer_limit)
        self.id = 0
        self.name = b""
        self.library = {b"lib-name": b"", b"lib-ver": b""}
        self.user = b"default"
        self.authenticated = not config.requirepass
        self.db = 0
        self.protocol = 2
        self.created_s = self.last_active_s = clock.monotonic()
        self.last_command: Command | None = None
        self.no_evict = False
        self.no_touch = False
        self.replies_off = False
        self.skip_reply = False
        """Whether the next request gets no reply."""
        self.muted = False
        """Whether the request that is carried out now, if a proxy answers it, gets no reply."""
        self.suspended = False
        self.waiting: Waiting | None = None
        """What the client waits for, if that may take long."""
        self.may_wait = True
        """Whether a command may wait at all; if not, it is answered as if its time were over."""
        self.stalled = False
        """Whether the next request waits until its shard takes requests again, or a pause ends."""
        self.closing = False
        self.leaving = False
        """Whether it is closing, and what it has asked beyond what is under way is not carried out."""
        self.over_soft_limit_s: float | None = None
        """Since when more replies wait for the client than the soft limit allows."""
        self.queue: Queue | None = None
        """What the client has sent since MULTI, if it has."""
        self.watch: Watch | None = None
        self.subscriber: Subscriber | None = None
        """What the client has subscribed to, if it has."""
        self._blocks: deque[Block] = deque()
        self._outstanding = 0
        self._window = limits.FIRST_BLOCK_REQUESTS
        self._backlog: deque[list[Any]] = deque()
        self._going_on = False
        self._write_paused = False
        self._reading_paused = False
        self._last_words = b""
        self._turn: tuple[asyncio.Future[None], Block, int] | None = None
        self.settle()

    # -- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.proxy.welcome(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = self.leaving = True
        self._backlog.clear()
        self._blocks.clear()
        self.unwatch()
        self.proxy.dismiss(self)
        if self.waiting is not None:
            self.waiting.leave()
        if self._turn is not None:
            self._look_at_turn()

    def eof_received(self) -> bool:
        """The client will send no more; what it asked is still answered, then the connection closes."""
        self.end()
        return True

    def end(self) -> None:
        """As `finish`, but a client that waits for what may never come is let go."""
        if self.waiting is None:
            self.finish()
        else:
            self.closing = True
            self.transport.close()

    def pause_writing(self) -> None:
        self._write_paused = True
        self.proxy.slow_readers.add(self)

    def resume_writing(self) -> None:
        self._write_paused = False
        self.over_soft_limit_s = None
        self.proxy.slow_readers.discard(self)
        self._go_on()

    def finish(self) -> None:
        """Closes the connection once everything asked so far is answered."""
        self.closing = True
        self._close_if_done()

    def leave(self) -> None:
        """Closes the connection once what is under way is answered; what waits behind it is dropped."""
        self.leaving = True
        self._backlog.clear()
        self.finish()

    def refuse(self, text: bytes) -> None:
        """Takes nothing more from the client; it learns why, after the replies due to it, and is gone."""
        self._last_words = encode_error(text) if text else b""
        self.finish()

    def abort(self) -> None:
        """Closes the connection at once."""
        self.closing = True
        self.transport.abort()

    def _close_if_done(self) -> None:
        if self._blocks or self._backlog or self.suspended or self.transport.is_closing():
            return
        if self._last_words:
            self._write(self._last_words)
        self.transport.close()

    # -- requests in ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self.last_active_s = clock.monotonic()
        self.proxy.counters.bytes_in += len(data)
        reader = self.reader
        requests = reader.feed(data)
        if requests:
            if self._backlog or self._held_up():
                self._backlog.extend(requests)
            else:
                self._dispatch(requests)
        if reader.deferred and not self._held_up():
            self.data_received(b"")
        elif reader.error is not None:
            self.refuse(reader.error.text)
        elif (self._backlog or reader.deferred) and not self._reading_paused and not self._listens():
            self._reading_paused = True
            self.transport.pause_reading()

    def _listens(self) -> bool:
        """Whether it is read from although nothing is dispatched: else nobody would notice that a client that
        waits is gone."""
        return (
            self.waiting is not None
            and len(self._backlog) < limits.WAITING_BACKLOG_REQUESTS
            and self.waiting_bytes[1] < limits.WAITING_BACKLOG_BYTES
        )

    def _held_up(self) -> bool:
        """Whether nothing more may be dispatched now."""
        return self.suspended or self.stalled or self._write_paused or self._outstanding >= self._window

    def _go_on(self) -> None:
        """Takes up the backlog, as far as nothing holds it up."""
        if self._going_on:
            return
        self._going_on = True
        backlog = self._backlog
        while backlog and not self._held_up():
            count = min(len(backlog), self._window - self._outstanding)
            self._dispatch([backlog.popleft() for _ in range(count)])
        self._going_on = False
        if self._listens() or (not backlog and not self._held_up()):
            if self.reader.deferred and not self._held_up():
                self.data_received(b"")
            if self._reading_paused and not self.transport.is_closing():
                self._reading_paused = False
                self.transport.resume_reading()
        if self.closing:
            self._close_if_done()

    def unstall(self) -> None:
        """What stalled the session may be over."""
        self.stalled = False
        self._go_on()

    def _dispatch(self, requests: list[list[Any]]) -> None:
        """Sends each request where it belongs, in order, until one suspends the session."""
        count = len(requests)
        room = self._window - self._outstanding
        if count > room:
            self._backlog.extendleft(reversed(requests[room:]))
            del requests[room:]
            count = room
        proxy = self.proxy
        backends = proxy.slot_backends
        block = new_block(self, count)
        self._blocks.append(block)
        self._outstanding += count
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
        proxy.flush_soon()
        if None not in block:
            self.deliver()

    def _enqueue(self, args: list[Any], block: Block, index: int) -> bool:
        """Queues a command of the most frequent kind, between MULTI and EXEC; False if it is another."""
        assert self.queueing is not None
        known = self.proxy.fast.get(args[0])
        if known is None or not known[1] <= len(args) <= known[2]:
            return False
        try:
            self.queueing.add(known[3], args)
        except CommandError as error:
            self._reject(known[3], error, block, index)
        else:
            block[index] = b"+QUEUED\r\n"
        return True

    def _put_back(self, requests: list[list[Any]], block: Block, start: int) -> None:
        """Returns the requests from `start` on to the backlog, and their places; who leaves drops them."""
        rest = requests[start:]
        if rest:
            if not self.leaving:
                self._backlog.extendleft(reversed(rest))
            del block[start:]
            self._outstanding -= len(rest)
            self.proxy.counters.requests -= len(rest)
            if not block:
                self._blocks.remove(block)

    # -- one request, by the long way -----------------------------------------------------------

    def _perform(self, args: list[Any], block: Block, index: int) -> bool:
        """Puts a request through the gates and has it carried out. False if it cannot start yet."""
        proxy = self.proxy
        command = None
        try:
            command = proxy.find(args)
            for gate in proxy.gates:
                gate(self, command, args)
            if proxy.pause.holds(command, writes=self._writes_at_exec(command)):
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
        if not self.proxy.route(self, command, args, new_block(NOBODY, 1), 0):
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
        counters.ns += clock.perf_counter_ns() - begun_ns
        kind = value.__class__
        if kind is CoroutineType:
            self.await_(command, value, block, index)
            return
        if kind is Execution or kind is WatchKeys:
            if self.muted:
                block[index] = b""
                block, index = new_block(NOBODY, 1), 0
            value.begin(block, index)
            return
        if value.__class__ is CommandError:
            self.proxy.counters.fail(command, value)
        block[index] = b"" if self.muted else self.encode(value)

    def call(self, command: Command, args: list[Any]) -> Any:
        """What a command of the proxy itself returns; a CommandError if it has failed."""
        try:
            return command.handler(self, args)
        except CommandError as error:
            return error
        except Exception:
            logger.exception("%s failed", command.name)
            return CommandError(errors.INTERNAL)

    def await_(self, command: Command, work: Coroutine[Any, Any, Any], block: Block, index: int) -> None:
        """Suspends the session until a command that takes time is done; it begins when everything before it
        is answered."""

        async def carry_out() -> None:
            await self._turn_of(block, index)
            begun_ns = clock.perf_counter_ns()
            value = await self.outcome(command, work)
            self.proxy.counters.of(command).ns += clock.perf_counter_ns() - begun_ns
            self.resume(block, index, b"" if self.muted else self.encode(value))

        block, index = self.set_apart(block, index)
        self.suspended = True
        self.proxy.start_task(carry_out())

    async def outcome(self, command: Command, work: Coroutine[Any, Any, Any]) -> Any:
        """What comes of a command that takes time; a CommandError if it fails."""
        try:
            value = await work
        except CommandError as error:
            value = error
        except Exception:
            logger.exception("%s failed", command.name)
            value = CommandError(errors.INTERNAL)
        if value.__class__ is CommandError:
            self.proxy.counters.fail(command, value)
        return value

    def set_apart(self, block: Block, index: int) -> tuple[Block, int]:
        """Gives the request that is dispatched now, which suspends the session, a block of its own, so that
        the replies before it need not wait for its reply. Returns its new place."""
        if not index or block.owner is not self:
            return block, index
        del block[index:]
        apart = new_block(self, 1)
        self._blocks.append(apart)
        return apart, 0

    async def _turn_of(self, block: Block, index: int) -> None:
        """Waits until all requests before the one at this place have their replies."""
        future: asyncio.Future[None] = self.proxy.loop.create_future()
        self._turn = (future, block, index)
        self._look_at_turn()
        await future

    def _look_at_turn(self) -> None:
        assert self._turn is not None
        future, block, index = self._turn
        if not self._blocks or (self._blocks[0] is block and None not in block[:index]):
            self._turn = None
            future.set_result(None)

    def resume(self, block: Block, index: int, reply: bytes) -> None:
        """The command that suspended the session is done, and this is its reply."""
        self.suspended = False
        block[index] = reply
        self.deliver()
        if self.subscriber is not None:
            self.subscriber.release()
        self._go_on()

    # -- replies out ----------------------------------------------------------------------------

    def deliver(self) -> None:
        """Writes the replies that are complete, in the requests' order."""
        blocks = self._blocks
        if blocks and None not in blocks[0]:
            ready: list[Any] = blocks.popleft()
            while blocks and None not in blocks[0]:
                ready += blocks.popleft()
            self._outstanding -= len(ready)
            data = b"".join(ready)
            if data:
                self._write(data)
                if self._window != limits.BLOCK_REQUESTS or len(data) > limits.BLOCK_REPLY_BYTES:
                    self._fit_window(len(data) // len(ready) + 1)
            if self._backlog or self._reading_paused or self.closing:
                self._go_on()
        if self._turn is not None:
            self._look_at_turn()

    def _fit_window(self, average_bytes: int) -> None:
        """Lets more requests out at once, or, where replies are large, fewer."""
        wanted = min(limits.BLOCK_REQUESTS, limits.BLOCK_REPLY_BYTES // average_bytes)
        self._window = max(1, min(wanted, self._window * 2))

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.proxy.counters.bytes_out += len(data)
            self.transport.write(data)
            if self._write_paused:
                self.check_output_limit()

    def push(self, data: bytes) -> None:
        """Writes something the client did not ask for in this order."""
        self._write(data)

    def check_output_limit(self) -> None:
        """Closes the connection if too many replies wait for a client that does not read them."""
        if self.transport.is_closing():
            return
        waiting_bytes = self.transport.get_write_buffer_size()
        classes = self.proxy.config.client_output_buffer_limit
        limit = classes.pubsub if self.is_subscribed else classes.normal
        now_s = clock.monotonic()
        if not limit.soft_bytes or waiting_bytes < limit.soft_bytes:
            self.over_soft_limit_s = None
        elif self.over_soft_limit_s is None:
            self.over_soft_limit_s = now_s
        over_s = 0.0 if self.over_soft_limit_s is None else now_s - self.over_soft_limit_s
        if 0 < limit.hard_bytes <= waiting_bytes or over_s > limit.soft_seconds:
            self.drop_slow_reader(waiting_bytes)

    def drop_slow_reader(self, waiting_bytes: int) -> None:
        """Closes the connection because of all that waits for the client."""
        logger.warning("client id=%d closed: %d bytes that it does not read", self.id, waiting_bytes)
        self.proxy.counters.output_limit_disconnections += 1
        self.abort()

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
        self.context = pack_context(self.db, self.protocol, no_touch=self.no_touch)
        self.encode = resp3 if self.protocol == 3 else resp2
        self.reader.restricted = not self.authenticated
        # Whether every gate is open and each request gets a reply: then the fast way is the right one.
        open_to_all = (
            self.authenticated and not self.replies_off and not self.skip_reply and not self.is_confined
        )
        self.plain = open_to_all and self.queue is None
        self.queueing = self.queue if open_to_all else None
        """The queue between MULTI and EXEC, if frequent commands can go there without passing the gates."""

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

    @property
    def waiting_bytes(self) -> tuple[int, int, int]:
        """What is held for the client: of an unfinished request, of requests not begun, and of replies."""
        requests = sum(len(word) for args in self._backlog for word in args if isinstance(word, bytes))
        return self.reader.buffered_bytes, requests, self.transport.get_write_buffer_size()

    @cached_property
    def is_local_socket(self) -> bool:
        """Whether it came through the unix socket."""
        sock: socket.socket = self.transport.get_extra_info("socket")
        return sock.family == socket.AF_UNIX

    @cached_property
    def file_descriptor(self) -> int:
        """The number of the connection's socket in this process."""
        sock: socket.socket = self.transport.get_extra_info("socket")
        return sock.fileno()

    @property
    def is_from_this_host(self) -> bool:
        """Whether nobody but a process of this host can be its client."""
        if self.is_local_socket:
            return True
        peer = self.transport.get_extra_info("peername")
        return bool(peer) and is_loopback(peer[0])

    @cached_property
    def addresses(self) -> tuple[str, str]:
        """The client's and the server's end, as `ip:port` or `path:0`."""
        if self.is_local_socket:
            path = f"{self.proxy.config.unixsocket}:0"
            return path, path
        peer, own = self.transport.get_extra_info("peername"), self.transport.get_extra_info("sockname")
        return _endpoint(peer), _endpoint(own)


def is_loopback(address: str) -> bool:
    """Whether an IP address is one of this host's loopback interface."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _endpoint(address: Any) -> str:
    if not address:
        return "?:0"
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
