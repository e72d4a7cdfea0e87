"""A proxy's link to one shard: batches out, replies in.

Requests gather during a turn of the event loop and leave as one frame. Each request's reply belongs at an
index of a `Block`, the list of replies of its session (or transaction) that fills up and goes out when it is
full.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from shardkv import errors, limits
from shardkv.errors import CommandError
from shardkv.resp.replies import encode_error, raw
from shardkv.wire import CALLED, PUBLISHED, Batch, FrameReader, FrameWriter, decode_note, decode_replies

if TYPE_CHECKING:
    from proxy.commandlog import Asked, CommandLog

logger = logging.getLogger("proxy.backend")


class BlockOwner(Protocol):
    """Who sent the requests of a block."""

    def deliver(self) -> None:
        """Some of the owner's replies have come."""


class Block(list[bytes | None]):
    """Places for the replies of requests sent together, filled in any order: None where a reply is
    awaited."""

    __slots__ = ("owner",)

    owner: BlockOwner

    values: ClassVar[bool] = False
    """Whether the replies are MessagePack values instead of RESP."""


class ValueBlock(Block):
    """The same for replies that a coordinator works with."""

    __slots__ = ()

    values = True


class _Nobody:
    def deliver(self) -> None:
        pass


NOBODY = _Nobody()
"""Owns blocks whose replies nobody reads."""

_PLACES = [(None,) * count for count in range(limits.BLOCK_REQUESTS + 1)]


def new_block(owner: BlockOwner, count: int, kind: type[Block] = Block) -> Block:
    """An empty block of so many places."""
    block = kind(_PLACES[count] if count < len(_PLACES) else (None,) * count)
    block.owner = owner
    return block


class Backend:
    """One shard as a proxy sees it. `add_request`, `add_block` and `add_index` are called in turn for each
    request; they are plain list methods, because this is the hottest place of a proxy."""

    def __init__(
        self, shard: int, loop: asyncio.AbstractEventLoop, changed: Callable[[], None], log: CommandLog
    ) -> None:
        self.shard = shard
        self.up = False
        self.life = 0
        """The number of the shard's process: each new one has the next."""
        self._was_up = False
        self.congested = False
        """Whether the shard takes requests more slowly than they come."""
        self.greetings: list[Callable[[], Batch]] = []
        """Give the requests that a shard's new process gets before all others."""
        self.lost: Callable[[], None] = _nothing
        """Called when the shard's process is gone, and what it had not answered has an error."""
        self.broken: Callable[[], None] = _nothing
        """Called when the pipes were given up though the process is there, which needs fresh ones."""
        self.published: Callable[[list[bytes]], None] = _ignore
        """Takes what the shard has to tell subscribers."""
        self.called: Callable[[bytes], None] = _ignore_calls
        """Takes the commands that scripts on the shard have called, for clients that monitor."""
        self.log = log
        self._changed = changed
        self._loop = loop
        self._requests: list[list[Any]] = []
        self._blocks: list[Block] = []
        self._indexes: list[int] = []
        self.add_request = self._requests.append
        self.add_block = self._blocks.append
        self.add_index = self._indexes.append
        self._inflight: deque[tuple[list[Block], list[int], Asked]] = deque()
        self._late: dict[int, tuple[Block, int]] = {}
        self._tickets = 0
        self._reader: FrameReader | None = None
        self._writer: FrameWriter | None = None
        self._buffer_limit = limits.PIPE_BACKLOG_BYTES
        self._poll = select.poll()

    # -- the pipes ------------------------------------------------------------------------------

    def attach(self, read_fd: int, write_fd: int) -> None:
        """Starts to use fresh pipes to a shard's (new) process."""
        self._part()
        for fd in (read_fd, write_fd):
            os.set_blocking(fd, False)
        self._reader = FrameReader(read_fd)
        self._writer = FrameWriter(write_fd)
        self._loop.add_reader(read_fd, self.receive)
        # Asks for nothing but what is always told: that the other end is closed.
        self._poll.register(read_fd, 0)
        self.up = self._was_up = True
        self.life += 1
        self._greet()
        self._changed()

    def is_alive(self, life: int) -> bool:
        """Whether the process of that number is still there, even if its end has not shown yet."""
        return self.up and self.life == life and not self._poll.poll(0)

    def _part(self) -> None:
        """Gives up the pipes, if there are any. What the dead process has told subscribers is still passed
        on; its replies are not, for the state they speak of is gone."""
        told: list[bytes] = []
        try:
            for _ in range(limits.PIPE_BYTES // limits.PIPE_READ_BYTES + 1):
                for frame in self._reader.receive() if self._reader is not None else ():
                    _, late = decode_replies(frame)
                    told += [reply for ticket, reply in late if ticket == PUBLISHED]
        except Exception:
            logger.exception("shard %d died with a broken frame", self.shard)
        self.detach()
        if told:
            self.published(told)

    def _greet(self) -> None:
        assert self._writer is not None
        requests = [request for greeting in self.greetings for request in greeting()]
        if not requests:
            return
        block = new_block(NOBODY, len(requests), ValueBlock)
        self._inflight.append(([block] * len(requests), list(range(len(requests))), requests))
        try:
            self._writer.send(requests)
        except OSError:
            self._part()
            return
        if self._writer.backlog_bytes:
            self._loop.add_writer(self._writer.fd, self._flush_backlog)

    def detach(self, answered: Sequence[tuple[Block, int]] = ()) -> None:
        """Gives up the pipes: the shard's process is gone. What it had not answered gets an error, as does
        what it has answered in a way that cannot be trusted."""
        if self._reader is None or self._writer is None:
            return
        self._loop.remove_reader(self._reader.fd)
        self._loop.remove_writer(self._writer.fd)
        self._poll.unregister(self._reader.fd)
        os.close(self._reader.fd)
        os.close(self._writer.fd)
        self._reader = self._writer = None
        self.up = self.congested = False
        self._changed()
        error = errors.shard_died(self.shard)
        for block, index in answered:
            block[index] = None
        lost = [pair for blocks, indexes, _ in self._inflight for pair in zip(blocks, indexes, strict=True)]
        lost += [*self._late.values(), *answered]
        # What has not left yet is not for the next process either: it may be part of a transaction that the
        # others have given up since.
        unsent = list(zip(self._blocks, self._indexes, strict=True))
        self._forget_batch()
        self._inflight.clear()
        self._late.clear()
        self._tickets = 0
        _fail([pair for pair in lost if pair[0][pair[1]] is None], error)
        _fail(unsent, errors.shard_down(self.shard))
        self.lost()

    # -- requests -------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether requests wait for `flush`."""
        return bool(self._requests)

    def flush(self) -> None:
        """Sends the requests gathered so far as one frame.

        While the shard is still busy with a frame, a few requests wait for its replies to come: they will go
        out with what gathers meanwhile, and a frame of many costs little more than a frame of one.
        """
        if not self._requests or (self._inflight and len(self._requests) < limits.WAITING_REQUESTS):
            return
        blocks, indexes = self._blocks[:], self._indexes[:]
        writer = self._writer
        if writer is None:
            self._forget_batch()
            # Before it was ever there it is being started and will load its data.
            text = errors.shard_down(self.shard) if self._was_up else errors.LOADING
            _fail(list(zip(blocks, indexes, strict=True)), text)
            return
        requests = self._requests[:]
        self._inflight.append((blocks, indexes, requests))
        try:
            size = writer.send(requests)
        except OSError:
            self._forget_batch()
            self._part()
            return
        self._forget_batch()
        if size >= self.log.large_request_bytes:
            self.log.look_at_requests(requests, blocks)
        if size >= limits.SHORTENED_BATCH_BYTES:
            self._inflight[-1] = (blocks, indexes, self.log.shortened(requests))
        if writer.backlog_bytes:
            self._loop.add_writer(writer.fd, self._flush_backlog)
            if writer.backlog_bytes > self._buffer_limit and not self.congested:
                self.congested = True
                self._changed()

    def _forget_batch(self) -> None:
        self._requests.clear()
        self._blocks.clear()
        self._indexes.clear()

    def _flush_backlog(self) -> None:
        writer = self._writer
        assert writer is not None
        try:
            done = writer.flush()
        except OSError:
            self._part()
            return
        if done:
            self._loop.remove_writer(writer.fd)
        if self.congested and writer.backlog_bytes <= self._buffer_limit // 2:
            self.congested = False
            self._changed()

    # -- replies --------------------------------------------------------------------------------

    def receive(self) -> None:
        """Takes what the shard has sent by now."""
        reader = self._reader
        assert reader is not None
        touched: list[Block] = []
        blocks: list[Block] = []
        published: list[bytes] = []
        answered: list[tuple[list[Block], list[int]]] = []
        try:
            for frame in reader.receive():
                replies, late = decode_replies(frame)
                if replies is not None:
                    blocks, indexes, requests = self._inflight.popleft()
                    answered.append((blocks, indexes))
                    self._fill(blocks, indexes, replies, touched)
                    if len(frame) >= self.log.large_reply_bytes:
                        self.log.look_at_replies(requests, blocks, replies)
                for ticket, reply in late:
                    if ticket < 0:
                        if ticket == PUBLISHED:
                            published.append(reply)
                        elif ticket == CALLED:
                            self.called(reply)
                        else:
                            self._take_note(blocks, reply)
                        continue
                    block, index = self._late.pop(ticket)
                    answered.append(([block], [index]))
                    block[index] = reply
                    touched.append(block)
        except Exception:
            # The stream cannot be trusted any more. Nothing of it reaches a client: better no reply than
            # another's.
            logger.exception("shard %d sent a broken frame", self.shard)
            self.detach([pair for places in answered for pair in zip(*places, strict=True)])
            self.broken()
            return
        for block in touched:
            block.owner.deliver()
        if published:
            self.published(published)
        if reader.closed:
            self.detach()
        elif self._requests and not self._inflight:
            self._loop.call_soon(self.flush)

    def _take_note(self, blocks: list[Block], note: bytes) -> None:
        """A request is to be logged; it is one of those whose replies have just come, or one that has
        waited."""
        is_late, place, entry = decode_note(note)
        if is_late:
            blocks = [self._late[place][0]] if place in self._late else []
            place = 0
        if place < len(blocks):
            self.log.add(blocks[place].owner, entry)

    def _fill(
        self, blocks: list[Block], indexes: list[int], replies: list[bytes | None], touched: list[Block]
    ) -> None:
        """Puts replies in their places, and notes which blocks these are in."""
        last = None
        for block, index, reply in zip(blocks, indexes, replies, strict=True):
            block[index] = reply
            if block is not last:
                touched.append(block)
                last = block
        if None in replies:
            for block, index, reply in zip(blocks, indexes, replies, strict=True):
                if reply is None:
                    self._late[self._tickets] = (block, index)
                    self._tickets += 1


def _nothing() -> None:
    pass


def _ignore(told: list[bytes]) -> None:
    pass


def _ignore_calls(calls: bytes) -> None:
    pass


def _fail(places: list[tuple[Block, int]], text: bytes) -> None:
    """Answers each place with an error."""
    reply, value = encode_error(text), raw(CommandError(text))
    touched: dict[int, Block] = {}
    for block, index in places:
        block[index] = value if block.values else reply
        touched[id(block)] = block
    for block in touched.values():
        block.owner.deliver()
