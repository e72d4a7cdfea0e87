"""A proxy in this very process whose shards are down: what it answers by itself shows without pipes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import proxy.commands
from proxy.pause import Pause
from proxy.server import Proxy
from proxy.session import Session
from shardkv import commands
from shardkv.command import number_commands
from shardkv.control import ControlChannel
from shardkv.settings import Config
from shardkv.slots import even_slot_table
from tests.wire import pack

assert commands
assert proxy.commands
number_commands()


class Transport:
    """What a client would have received. `waiting_bytes` is what it has not taken yet."""

    def __init__(self) -> None:
        self.written = b""
        self.waiting_bytes = 0
        self.reading = True
        self.closed = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.waiting_bytes

    def get_extra_info(self, name: str) -> Any:
        known = {"peername": ("127.0.0.1", 1234), "sockname": ("127.0.0.1", 6379), "socket": _Socket()}
        return known.get(name)


class _Socket:
    family = socket.AF_INET

    def fileno(self) -> int:
        return 7

    def setsockopt(self, *option: int) -> None:
        pass


class Stage:
    """A proxy and its clients. `config` are its settings, which a test may change at any time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, channel: ControlChannel, **settings: Any) -> None:
        self.loop = loop
        self.config = config = Config(**({"workers": 1, "proxies": 1} | settings))
        table = even_slot_table(config.workers)
        self.proxy = Proxy(0, config, table, loop, channel, shards=config.workers, pause=Pause())

    def client(self) -> tuple[Session, Transport]:
        """A client that has just connected."""
        session, transport = Session(self.proxy), Transport()
        session.connection_made(cast(asyncio.Transport, transport))
        return session, transport

    def turn(self) -> None:
        """Lets the loop do what is due now."""
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))


@contextmanager
def stage(**settings: Any) -> Iterator[Stage]:
    """A stage for a test, with these settings."""
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair()
    channel = ControlChannel(ours)
    try:
        yield Stage(loop, channel, **settings)
    finally:
        # What is still under way ends here, and not in the midst of another test.
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.close()
        channel.close()
        theirs.close()


def asks(session: Session, *requests: str) -> None:
    """Sends requests in one piece, each a line of words."""
    sends(session, b"".join(pack(*request.split()) for request in requests))


def sends(session: Session, data: bytes) -> None:
    """Sends bytes, which are taken up at once."""
    session.data_received(data)
    session.proxy.take_arrivals()
