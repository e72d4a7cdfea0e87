"""MONITOR, a proxy's part: every command of all clients, in the order in which each proxy took it.

While somebody monitors, on any proxy, the commands of all clients pass the gates, and the last of these tells
of them. While nobody does, there is no such gate. What a proxy has to tell to clients of the others goes
through the supervisor, one message at a time: what comes meanwhile waits, within a bound."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxy.gates import GATES
from proxy.multi import NOT_QUEUED, selected
from shardkv import control, errors, limits
from shardkv.command import COMMANDS, Command, Flag
from shardkv.errors import CommandError
from shardkv.scripts import monitor_line
from shardkv.wire import RAW, pack_context

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session

logger = logging.getLogger("proxy.monitoring")

_CHUNK_BYTES = 1024 * 1024
"""What one message to the other proxies holds, about."""


class Monitoring:
    """Who monitors, and what is still to be told."""

    def __init__(self, proxy: Proxy, elsewhere: set[int]) -> None:
        self.proxy = proxy
        self.clients: set[Session] = set()
        """This proxy's clients that monitor."""
        self.elsewhere = set(elsewhere)
        """The other proxies with such clients."""
        self._lines: list[bytes] = []
        self._flush_scheduled = False
        self._outgoing: deque[bytes] = deque()
        self._outgoing_bytes = 0
        self._is_sending = False
        self._has_lost = False

    @property
    def active(self) -> bool:
        """Whether anybody monitors."""
        return bool(self.clients or self.elsewhere)

    # -- who monitors -------------------------------------------------------------------------------

    async def join(self, session: Session) -> None:
        """A client is shown everything from now on."""
        if not self.clients:
            await self._announce(True)
        if not session.closing:
            self.clients.add(session)
            self.apply()

    def leave(self, session: Session) -> None:
        """A client monitors no more."""
        if session in self.clients:
            self._show_lines()
            self.clients.discard(session)
            if not self.clients:
                self.proxy.start_task(self._announce(False))
                self.apply()

    async def _announce(self, begins: bool) -> None:
        """Tells all proxies, and the supervisor for those that it will start."""
        body = [self.proxy.index, begins]
        self.proxy.supervision.ask(control.SUPERVISOR, "monitor", body)
        await self.proxy.supervision.ask(control.PROXIES, "monitor", body)

    def announced(self, proxy: int, *, begins: bool) -> None:
        """A proxy's clients begin to monitor, or do so no more."""
        if proxy == self.proxy.index:
            return
        if begins:
            self.elsewhere.add(proxy)
        else:
            self.elsewhere.discard(proxy)
        if not self.elsewhere:
            self._forget_outgoing()
        self.apply()

    def apply(self) -> None:
        """Has commands told, or not, by whether anybody wants to know."""
        proxy = self.proxy
        gates = (*GATES, self.gate) if self.active else GATES
        if gates != proxy.gates:
            proxy.gates = gates
            for session in proxy.sessions.values():
                session.told_request = None
            proxy.look_around()
            for shard in range(len(proxy.backends)):
                proxy.tell(shard, self._wish())

    def _wish(self) -> list[Any]:
        return [pack_context(0, RAW) | COMMANDS["tellcalls"].code, self.active]

    def greeting(self) -> list[list[Any]]:
        """What a shard's new process has to know."""
        return [self._wish()] if self.active else []

    # -- what is told -------------------------------------------------------------------------------

    def gate(self, session: Session, command: Command, args: list[Any]) -> None:
        """Tells of a request that is about to be carried out. One that has to wait before it begins, and
        comes here again, is told of once."""
        if session in self.clients and _touches_data(command):
            raise CommandError(errors.NOT_WHILE_MONITORING)
        if session.told_request is args:
            return
        waits = session.queue is not None and command.name not in NOT_QUEUED
        if waits or self.proxy.pause.holds(command):
            return
        session.told_request = args
        if command.name == "exec" and session.queue is not None and not session.queue.is_broken:
            for queued, words in session.queue.requests:
                self._tell(session, queued, words)
        self._tell(session, command, args)

    def _tell(self, session: Session, command: Command, args: Sequence[bytes]) -> None:
        if command.flags & Flag.ADMIN:
            return
        db = session.db
        if command.name == "select":
            db = selected(args[1], db, self.proxy.config.databases)
        elif command.name == "reset":
            db = 0
        address = session.addresses[0]
        if session.is_local_socket:
            address = f"unix:{address.removesuffix(':0')}"
        self.tell(monitor_line(db, address.encode(), command.redacted(args)))

    def tell(self, lines: bytes) -> None:
        """Shows lines to all who monitor; empty: that some are lost."""
        if not lines:
            self._lose()
            return
        if self.clients:
            self._lines.append(lines)
        if self.elsewhere:
            self._outgoing.append(lines)
            self._outgoing_bytes += len(lines)
            if self._outgoing_bytes > limits.MONITOR_BACKLOG_BYTES:
                self._forget_outgoing()
                self._has_lost = True
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.proxy.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        self._show_lines()
        self._send()

    def _show_lines(self) -> None:
        lines, self._lines = self._lines, []
        self.show(b"".join(lines))

    def show(self, lines: bytes) -> None:
        """Writes lines to this proxy's clients that monitor."""
        if lines:
            for session in list(self.clients):
                session.push(lines)

    def _lose(self) -> None:
        self._has_lost = bool(self.elsewhere)
        self.lost()
        self._send()

    def lost(self) -> None:
        """Some lines are lost. Who monitors must not believe that nothing is missing."""
        for session in list(self.clients):
            logger.warning("client id=%d closed: it could not be told of all commands", session.id)
            session.abort()

    # -- the other proxies ----------------------------------------------------------------------------

    def _send(self) -> None:
        """Sends what is there to the other proxies, if they have taken what came before."""
        if self._is_sending or not (self._outgoing or self._has_lost):
            return
        chunk: list[bytes] = []
        size = 0
        if self._has_lost:
            self._has_lost = False
        else:
            while self._outgoing and size < _CHUNK_BYTES:
                chunk.append(self._outgoing.popleft())
                size += len(chunk[-1])
        self._outgoing_bytes -= size
        self._is_sending = True
        body = [self.proxy.index, b"".join(chunk)]
        self.proxy.supervision.ask(control.PROXIES, "monitor lines", body).add_done_callback(self._sent)

    def _sent(self, done: Any) -> None:
        self._is_sending = False
        self._send()

    def _forget_outgoing(self) -> None:
        self._outgoing.clear()
        self._outgoing_bytes = 0


def _touches_data(command: Command) -> bool:
    """Whether a command looks at keys or has an effect that a replica would have to know of."""
    by_flags = command.flags & (Flag.WRITE | Flag.READONLY)
    return bool(by_flags or command.routed_by or command.runs_script)
