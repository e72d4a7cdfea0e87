"""What lies between the processes of a simulation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from proxy.backend import Block
from shardkv import control, wire
from shardkv.errors import CommandError
from shardkv.resp.replies import encode_error, raw
from shardkv.transactions import Late

Place = tuple[Block, int]
"""Where a reply belongs."""


class Link:
    """Both pipes between a process of a proxy and one of a shard. Whoever dies is marked as gone; what he has
    written stays until the other has read it."""

    def __init__(self, proxy: int, shard: int) -> None:
        self.proxy = proxy
        self.shard = shard
        self.requests: deque[list[Any]] = deque()
        self.replies: deque[tuple[int | None, bytes | None]] = deque()
        """Replies in the requests' order, None for one that comes later; and these, with their tickets."""
        self.proxy_gone = self.shard_gone = False
        self.late: list[Late] = []
        self._tickets_given = 0
        self._awaited: deque[Place] = deque()
        self._late_places: dict[int, Place] = {}
        self._tickets_taken = 0

    # -- the shard's end --------------------------------------------------------------------------

    def next_ticket(self) -> int:
        self._tickets_given += 1
        return self._tickets_given - 1

    # -- the proxy's end --------------------------------------------------------------------------

    def ask(self, request: list[Any], place: Place) -> None:
        self._awaited.append(place)
        if not self.shard_gone:
            self.requests += wire.decode_batch(msgspec.msgpack.encode([request]))

    def receive(self) -> None:
        """Puts the next reply into its place."""
        ticket, reply = self.replies.popleft()
        if ticket is not None:
            place = self._late_places.pop(ticket)
        else:
            place = self._awaited.popleft()
            if reply is None:
                self._late_places[self._tickets_taken] = place
                self._tickets_taken += 1
                return
        assert reply is not None
        fill(place, reply)

    def fail(self, text: bytes) -> None:
        """The shard is gone: everything that it has not answered gets an error."""
        lost = [*self._awaited, *self._late_places.values()]
        self.replies.clear()
        self._awaited.clear()
        self._late_places.clear()
        for place in lost:
            fill_error(place, text)


def fill(place: Place, reply: bytes) -> None:
    block, index = place
    block[index] = reply
    block.owner.deliver()


def fill_error(place: Place, text: bytes) -> None:
    fill(place, raw(CommandError(text)) if place[0].values else encode_error(text))


class Channel:
    """A control channel, as the supervisor sees it and as its process does: each sends to the other."""

    wants_to_write = False

    def __init__(self) -> None:
        self.to_process: deque[tuple[control.Message, Link | None]] = deque()
        self.to_supervisor: deque[control.Message] = deque()
        self.closed = False

    def send(self, message: control.Message, link: Link | None = None) -> None:
        self.to_process.append((message, link))

    def receive(self) -> list[control.Message]:
        return [self.to_supervisor.popleft()]


class ProcessEnd:
    """The process's end of a channel."""

    wants_to_write = False

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    closed = False

    def send(self, message: control.Message) -> None:
        self._channel.to_supervisor.append(message)

    def receive(self) -> list[control.Message]:
        message, self._link = self._channel.to_process.popleft()
        return [message]

    def take_fds(self) -> tuple[Link]:
        """What stands for the two file descriptors of the message at hand."""
        assert self._link is not None
        return (self._link,)

    def fileno(self) -> int:
        return -1


Event = Callable[[], None]
"""Something that can happen now."""
