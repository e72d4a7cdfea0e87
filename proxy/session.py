"""A client's session: requests in, replies out in the same order.

Requests are dispatched as they come, each to the shard of its key, and their replies gather in blocks. A request that
must be finished before the next one starts (one that spans shards, waits, or asks other processes) suspends the
session; what the client sent meanwhile waits in the backlog.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, cast

from shardkv import clock, errors, limits
from shardkv.command import Command, Place
from shardkv.errors import CommandError
from shardkv.resp.replies import encode_error, resp2, resp3
from shardkv.resp.requests import RequestReader
from shardkv.slots import hashtag
from shardkv.wire import pack_context
from xxhash import xxh3_64_intdigest

from proxy.backend import Block, new_block

if TYPE_CHECKING:
    from proxy.server import Proxy

_OPEN_BRACE = ord("{")


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
        self.context = pack_context(0, 2)
        self.encode = resp2
        self.created = self.last_active = clock.monotonic()
        self.last_command = ""
        self.no_evict = False
        self.no_touch = False
        self.plain = self.authenticated
        """Whether every gate is open and each request gets a reply: the fast way is then the right one."""
        self.replies_off = False
        self.skip_replies = 0
        self.suspended = False
        self.stalled = False
        """Whether the next request waits until its shard takes requests again, or a pause ends."""
        self.closing = False
        self.commands = 0
        self.bytes_in = self.bytes_out = 0
        self._blocks: deque[Block] = deque()
        self._outstanding = 0
        self._window = limits.BLOCK_REQUESTS
        self._backlog: deque[list[Any]] = deque()
        self._write_paused = False
        self._reading_paused = False

    # -- the connection -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.proxy.welcome(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self._backlog.clear()
        self._blocks.clear()
        self.proxy.dismiss(self)

    def eof_received(self) -> bool:
        """The client will send no more; what it asked is still answered, then the connection closes."""
        self.finish()
        return True

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._go_on()

    def finish(self) -> None:
        """Closes the connection once everything asked so far is answered."""
        self.closing = True
        if not self._blocks and not self._backlog and not self.suspended:
            self.transport.close()

    def abort(self) -> None:
        """Closes the connection at once."""
        self.closing = True
        self.transport.abort()

    # -- requests in ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self.last_active = clock.monotonic()
        self.bytes_in += len(data)
        requests = self.reader.feed(data)
        if requests:
            if self._backlog or self._held_up():
                self._backlog.extend(requests)
            else:
                self._dispatch(requests)
        if self.reader.deferred and not self._held_up():
            self.data_received(b"")
        elif self.reader.error is not None:
            self._refuse(self.reader.error.text)
        elif self._backlog and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def _held_up(self) -> bool:
        """Whether nothing more may be dispatched now."""
        return self.suspended or self.stalled or self._write_paused or self._outstanding >= self._window

    def _refuse(self, text: bytes) -> None:
        """The client broke the protocol: it learns why, after the replies due to it, and is gone."""
        if text:
            block = new_block(self, 1)
            block[0] = encode_error(text)
            self._blocks.append(block)
            self._outstanding += 1
        self.finish()
        self.deliver()

    def _go_on(self) -> None:
        """Takes up the backlog, as far as nothing holds it up."""
        backlog = self._backlog
        while backlog and not self._held_up():
            count = min(len(backlog), self._window - self._outstanding)
            self._dispatch([backlog.popleft() for _ in range(count)])
        if not backlog and not self._held_up():
            if self.reader.deferred:
                self.data_received(b"")
            if self._reading_paused and not self.transport.is_closing():
                self._reading_paused = False
                self.transport.resume_reading()
            if self.closing:
                self.finish()

    def unstall(self) -> None:
        """What stalled the session may be over."""
        self.stalled = False
        self._go_on()

    def _dispatch(self, requests: list[list[Any]]) -> None:
        """Sends each request where it belongs, in order, until one suspends the session."""
        room = self._window - self._outstanding
        if len(requests) > room:
            self._backlog.extendleft(reversed(requests[room:]))
            del requests[room:]
        proxy = self.proxy
        table = proxy.commands
        backends = proxy.slot_backends
        block = new_block(self, len(requests))
        self._blocks.append(block)
        self._outstanding += len(requests)
        self.commands += len(requests)
        index = 0
        for args in requests:
            command = table.get(args[0])
            if command is None or not command.one_key or not self.plain or proxy.careful:
                if not self._perform(args, block, index):
                    self.stalled = True
                    proxy.stalled.add(self)
                    self._put_back(requests, block, index)
                    break
                if self.suspended:
                    self._put_back(requests, block, index + 1)
                    break
            elif command.least <= len(args) <= command.most:
                key = args[1]
                if _OPEN_BRACE in key:
                    key = hashtag(key)
                slot = xxh3_64_intdigest(key) & 16383
                backend = backends[slot]
                args[0] = self.context | command.code | slot
                backend.add_request(args)
                backend.add_block(block)
                backend.add_index(index)
            else:
                block[index] = encode_error(errors.wrong_arity(command.name))
            index += 1
        proxy.flush_soon()
        if None not in block:
            self.deliver()

    def _put_back(self, requests: list[list[Any]], block: Block, start: int) -> None:
        """Returns the requests from `start` on to the backlog, and their places."""
        rest = requests[start:]
        if rest:
            self._backlog.extendleft(reversed(rest))
            del block[start:]
            self._outstanding -= len(rest)
            self.commands -= len(rest)
            if not block:
                self._blocks.remove(block)

    # -- one request, by the long way -----------------------------------------------------------

    def _perform(self, args: list[Any], block: Block, index: int) -> bool:
        """Puts a request through the gates and has it carried out. False if it cannot start yet."""
        proxy = self.proxy
        try:
            command = proxy.find(args)
            for gate in proxy.gates:
                gate(self, command, args)
            self.last_command = command.name
            if self.replies_off or self.skip_replies:
                block = self._muted(block, index, command)
                index = 0
            if command.place is Place.PROXY:
                value = command.handler(self, args)
                if isinstance(value, Awaitable):
                    self._await(value, block, index)
                else:
                    block[index] = self.encode(value)
                return True
            return proxy.route(self, command, args, block, index)
        except CommandError as error:
            proxy.count_rejected(error)
            block[index] = encode_error(error.text)
        return True

    def _muted(self, block: Block, index: int, command: Command) -> Block:
        """Gives the reply of a request another place, whose content nobody reads."""
        block[index] = b""
        if self.skip_replies:
            self.skip_replies -= 1
            self.settle()
        return new_block(proxy_sink, 1)

    def _await(self, work: Awaitable[Any], block: Block, index: int) -> None:
        """Suspends the session until a command that takes time is done."""

        async def carry_out() -> None:
            try:
                value = await work
            except CommandError as error:
                value = error
            self.resume(block, index, self.encode(value))

        self.suspended = True
        self.proxy.start_task(carry_out())

    def resume(self, block: Block, index: int, reply: bytes) -> None:
        """The command that suspended the session is done, and this is its reply."""
        self.suspended = False
        block[index] = reply
        self.deliver()
        self._go_on()

    # -- replies out ----------------------------------------------------------------------------

    def deliver(self) -> None:
        """Writes the replies that are complete, in the requests' order."""
        blocks = self._blocks
        if not blocks or None in blocks[0]:
            return
        ready: list[Any] = blocks.popleft()
        while blocks and None not in blocks[0]:
            ready += blocks.popleft()
        self._outstanding -= len(ready)
        data = b"".join(ready)
        if data and not self.transport.is_closing():
            self.bytes_out += len(data)
            self.transport.write(data)
            # Where replies are large, fewer requests go out at once.
            average = len(data) // len(ready) + 1
            self._window = max(1, min(limits.BLOCK_REQUESTS, limits.SESSION_REPLY_BYTES // average))
        if self._backlog or self.closing:
            self._go_on()

    def push(self, data: bytes) -> None:
        """Writes something the client did not ask for in this order."""
        if not self.transport.is_closing():
            self.transport.write(data)

    # -- state ----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Derives what follows from the session's state; called after each change of it."""
        self.context = pack_context(self.db, self.protocol)
        self.encode = resp3 if self.protocol == 3 else resp2
        self.reader.restricted = not self.authenticated
        self.plain = self.authenticated and not self.replies_off and not self.skip_replies

    def address(self) -> tuple[str, str]:
        """The client's and the server's end, as `ip:port` or `path:0`."""
        sock: socket.socket = self.transport.get_extra_info("socket")
        if sock.family == socket.AF_UNIX:
            path = f"{self.proxy.config.unixsocket}:0"
            return path, path
        return _endpoint(self.transport.get_extra_info("peername")), _endpoint(self.transport.get_extra_info("sockname"))


def _endpoint(address: Any) -> str:
    if not address:
        return "?:0"
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Sink:
    """Owns blocks whose replies nobody reads."""

    def deliver(self) -> None:
        pass


proxy_sink = _Sink()
