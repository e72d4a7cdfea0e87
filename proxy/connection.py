"""A client's connection: bytes in, requests in order; replies in order, bytes out.

Replies gather in blocks, a place for each request. What the client sent while nothing more may be dispatched
waits in the backlog, and when that is not empty the socket is not read from. What a request means, and who
carries it out, is up to the session (proxy/session.py)."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from abc import ABC, abstractmethod
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, Any

from proxy.backend import Block, new_block
from shardkv import clock, limits
from shardkv.resp.replies import encode_error
from shardkv.resp.requests import RequestReader
from shardkv.setting_kinds import BufferLimit

if TYPE_CHECKING:
    from proxy.blocking import Waiting
    from proxy.server import Proxy

logger = logging.getLogger("proxy.connection")


class Connection(asyncio.Protocol, ABC):
    """One client's connection.

    Slots spare each client a dictionary, and each request the way through it. What is seldom asked for, and
    kept then, still goes into one.
    """

    __slots__ = (
        *(
            "proxy",
            "transport",
            "reader",
            "id",
            "created_s",
            "last_active_s",
            "bytes_in",
            "bytes_out",
            "requests",
        ),
        *("suspended", "waiting", "stalled", "lets_go", "closing", "leaving", "over_soft_limit_s"),
        *("_blocks", "_outstanding", "_window", "_backlog", "_going_on", "_write_paused", "_reading_paused"),
        *("_last_words", "_turn", "_room", "__dict__"),
    )

    transport: asyncio.Transport

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        config = proxy.config
        self.reader = RequestReader(config.proto_max_bulk_len, config.client_query_buffer_limit)
        self.id: int = 0
        self.created_s: float = clock.monotonic()
        self.last_active_s: float = self.created_s
        self.suspended = False
        self.waiting: Waiting | None = None
        """What the client waits for, if that may take long."""
        self.stalled = False
        """Whether the next request waits until its shard takes requests again, or a pause ends."""
        self.lets_go = False
        """Whether it closes rather than waits for what may never come."""
        self.bytes_in = self.bytes_out = self.requests = 0
        """What it has sent and received, in bytes, and how many requests that were."""
        self.closing = False
        self.leaving = False
        """Whether it is closing, and what it has asked beyond what is under way is not carried out."""
        self.over_soft_limit_s: float | None = None
        """Since when more replies wait for the client than the soft limit allows."""
        self._blocks: deque[Block] = deque()
        self._outstanding = 0
        self._window = limits.FIRST_BLOCK_REQUESTS
        self._backlog: deque[list[Any]] = deque()
        self._going_on = False
        self._write_paused = False
        self._reading_paused = False
        self._last_words = b""
        self._turn: tuple[asyncio.Future[None], Block, int] | None = None
        self._room: asyncio.Future[None] | None = None

    # -- what the session says --------------------------------------------------------------------

    @abstractmethod
    def _dispatch(self, requests: list[list[Any]]) -> None:
        """Sends each request where it belongs, in order, until one suspends the session; gives back what is
        left with `_put_back`."""

    @abstractmethod
    def _is_gone(self) -> None:
        """The connection is lost."""

    @abstractmethod
    def _release_pushes(self) -> None:
        """What was held back while a request suspended the session may be written."""

    @property
    @abstractmethod
    def output_limit(self) -> BufferLimit:
        """How much may wait for a client that does not read it."""

    # -- opening and closing ----------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.take_arrivals()
        self.closing = self.leaving = True
        self._backlog.clear()
        self._blocks.clear()
        self._is_gone()
        if self._turn is not None:
            self._look_at_turn()
        self._tell_room()

    def eof_received(self) -> bool:
        """The client will send no more; what it asked is still answered, then the connection closes. One with
        TLS, which cannot be half open, closes at once."""
        self.proxy.take_arrivals()
        self.end()
        return not self.is_encrypted

    def end(self) -> None:
        """As `finish`, but a client that waits for what may never come is let go."""
        self.lets_go = True
        self.finish()

    def begin_waiting(self, waiting: Waiting) -> None:
        """What the client has asked for last may take long, unless it is to be let go."""
        self.waiting = waiting
        if self.lets_go:
            self._close_if_done()

    def pause_writing(self) -> None:
        self._write_paused = True
        self.proxy.slow_readers.add(self)

    def resume_writing(self) -> None:
        self._write_paused = False
        self.over_soft_limit_s = None
        self.proxy.slow_readers.discard(self)
        self._tell_room()
        self._go_on()

    async def room(self, patience_s: float) -> bool:
        """Waits until the client has taken so much that more can be written; False if it does not within that
        time, or is gone."""
        if self._write_paused and not self.transport.is_closing():
            self._room = self.proxy.loop.create_future()
            try:
                await asyncio.wait_for(self._room, patience_s)
            except TimeoutError:
                return False
        return not self.transport.is_closing()

    def _tell_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

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
        if self.waiting is not None and self.lets_go and len(self._blocks) <= 1:
            # Everything before what it waits for is answered.
            self.transport.close()
            return
        if self._blocks or self._backlog or self.suspended or self.transport.is_closing():
            return
        if self._last_words:
            self._write(self._last_words)
        self.transport.close()

    # -- requests in ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Leaves what has come until the proxy takes up what has come from all clients, one after the other.

        Reading a socket, and then at once carrying out what it says, would have the kernel and the
        interpreter drive each other out of the processor's caches for every request. A large chunk is worth
        it by itself, and is not kept beside others.
        """
        proxy = self.proxy
        if len(data) > limits.KEPT_CHUNK_BYTES:
            proxy.take_arrivals()
            self.take(data)
            return
        proxy.arrivals.append((self, data))
        if not proxy.flush_scheduled:
            proxy.flush_soon()

    def take(self, data: bytes) -> None:
        """Takes up what the client has sent."""
        if self.closing:
            return
        proxy = self.proxy
        self.last_active_s = proxy.now_s
        self.bytes_in += len(data)
        proxy.counters.bytes_in += len(data)
        reader = self.reader
        requests = reader.feed(data)
        if requests:
            if (
                self._backlog
                or self.suspended
                or self.stalled
                or self._write_paused
                or self._outstanding >= self._window
            ):
                self._backlog.extend(requests)
            else:
                self._dispatch(requests)
        if self._backlog or reader.deferred or reader.error is not None:
            self._look_at_rest()

    def _look_at_rest(self) -> None:
        """Sees to what has come and could not be dispatched."""
        reader = self.reader
        if reader.deferred and not self._held_up():
            self.take(b"")
        elif reader.error is not None:
            # Nothing is said to who has sent more than may be held of a request.
            self.proxy.counters.query_limit_disconnections += not reader.error.text
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
                self.take(b"")
            if self._reading_paused and not self.transport.is_closing():
                self._reading_paused = False
                self.transport.resume_reading()
        if self.closing:
            self._close_if_done()

    def unstall(self) -> None:
        """What stalled the session may be over."""
        self.stalled = False
        self._go_on()

    def _put_back(self, requests: list[list[Any]], block: Block, start: int) -> None:
        """Returns the requests from `start` on to the backlog, and their places; who leaves drops them."""
        rest = requests[start:]
        if rest:
            if not self.leaving:
                self._backlog.extendleft(reversed(rest))
            del block[start:]
            self._outstanding -= len(rest)
            self.requests -= len(rest)
            self.proxy.counters.requests -= len(rest)
            if not block:
                self._blocks.remove(block)

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
            self.bytes_out += len(data)
            self.proxy.counters.bytes_out += len(data)
            self.transport.write(data)
            if self._write_paused:
                self.check_output_limit()

    def push(self, data: bytes) -> None:
        """Writes something the client did not ask for in this order."""
        self._write(data)

    def last_reply_place(self) -> tuple[Block, int] | None:
        """Where the last reply that has come waits for others before it; None if none does."""
        for block in reversed(self._blocks):
            for index in reversed(range(len(block))):
                if block[index] is not None:
                    return block, index
        return None

    def check_output_limit(self) -> None:
        """Closes the connection if too many replies wait for a client that does not read them."""
        if self.transport.is_closing():
            return
        waiting_bytes = self.transport.get_write_buffer_size()
        limit = self.output_limit
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

    # -- requests that suspend the session ---------------------------------------------------------

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
        self._release_pushes()
        self._go_on()

    # -- the socket -----------------------------------------------------------------------------

    @property
    def waiting_bytes(self) -> tuple[int, int, int]:
        """What is held for the client: of an unfinished request, of requests not begun, and of replies."""
        requests = sum(len(word) for args in self._backlog for word in args if isinstance(word, bytes))
        return self.reader.buffered_bytes, requests, self.transport.get_write_buffer_size()

    @property
    def is_local_socket(self) -> bool:
        """Whether it came through the unix socket."""
        sock: socket.socket = self.transport.get_extra_info("socket")
        return sock.family == socket.AF_UNIX

    @property
    def is_encrypted(self) -> bool:
        """Whether it speaks TLS."""
        return self.transport.get_extra_info("ssl_object") is not None

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
