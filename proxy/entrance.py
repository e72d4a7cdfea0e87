"""Where clients come in, and go: who is accepted, for how long, and what becomes of all when the server
stops."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxy import tls
from proxy.listeners import Listeners
from proxy.session import Session
from shardkv import clock, errors, limits

if TYPE_CHECKING:
    from proxy.server import Proxy

logger = logging.getLogger("proxy.entrance")


class Entrance:
    """That of one proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._servers: list[asyncio.AbstractServer] = []
        self._tls_servers: Sequence[asyncio.AbstractServer] = ()
        self._tls_sockets: list[socket.socket] = []
        self._draining_until_s: float | None = None
        self._next_sweep_s = 0.0

    # -- listening --------------------------------------------------------------------------------

    async def open(self, listeners: Listeners) -> None:
        """Accepts clients on sockets that are bound already and shared with the other proxies."""
        loop, backlog = self.proxy.loop, self.proxy.config.tcp_backlog
        for sock in listeners.sockets:
            if sock in listeners.tls:
                continue
            if sock.family == socket.AF_UNIX:
                server = await loop.create_unix_server(self._new_session, sock=sock, backlog=backlog)
            else:
                server = await loop.create_server(self._new_session, sock=sock, backlog=backlog)
            self._servers.append(server)
        self._tls_sockets = list(listeners.tls)
        if self._tls_sockets:
            await self._open_with_tls()

    async def _open_with_tls(self) -> None:
        """Accepts clients with TLS; or does so anew, with certificates that have been read again. Raises
        OSError, and leaves all as it was, if they cannot be used."""
        config = self.proxy.config
        context = tls.server_context(config)
        servers = [
            await self.proxy.loop.create_server(
                self._new_session,
                # Whoever stops to listen closes the socket, which is still needed.
                sock=sock.dup(),
                backlog=config.tcp_backlog,
                ssl=context,
                ssl_handshake_timeout=limits.TLS_HANDSHAKE_S,
            )
            for sock in self._tls_sockets
        ]
        before, self._tls_servers = self._tls_servers, servers
        for server in before:
            server.close()

    async def _renew_tls(self) -> None:
        try:
            await self._open_with_tls()
        except OSError as error:
            logger.error("TLS stays as it was: %s", error)

    def _new_session(self) -> Session:
        return Session(self.proxy)

    def settings_changed(self, changed: dict[str, Any]) -> None:
        """Follows settings that have been changed while running; takes their names and new values."""
        if self._tls_sockets and any(name.startswith("tls-") for name in changed):
            self.proxy.start_task(self._renew_tls())
        if "maxclients" in changed:
            allow_open_files(self.proxy.config.maxclients)

    # -- clients --------------------------------------------------------------------------------

    def welcome(self, session: Session) -> None:
        """A client has connected: it is taken in, or told why not."""
        proxy = self.proxy
        if self._draining_until_s is not None:
            session.finish()
            return
        if refusal := self._refusal(session):
            proxy.counters.rejected_connections += 1
            session.refuse(refusal)
            return
        session.id = proxy.census.arrived()
        proxy.sessions[session.id] = session
        proxy.counters.connections += 1
        if not session.is_local_socket:
            keep_alive(session.transport.get_extra_info("socket"), proxy.config.tcp_keepalive)

    def _refusal(self, session: Session) -> bytes:
        """Why a client is not welcome; empty if it is."""
        proxy = self.proxy
        if proxy.census.clients >= proxy.config.maxclients:
            return errors.TOO_MANY_CLIENTS
        if proxy.config.protected_mode and proxy.users.has_no_password and not session.is_from_this_host:
            return errors.PROTECTED_MODE
        return b""

    def dismiss(self, session: Session) -> None:
        """A client is gone."""
        proxy = self.proxy
        if proxy.sessions.pop(session.id, None) is not None:
            proxy.census.left()
        if session.subscriber is not None:
            proxy.pubsub.dismiss(session.subscriber)
        proxy.monitoring.leave(session)
        if session.tracker is not None:
            proxy.tracking.turn_off(session)
        proxy.stalled.discard(session)
        proxy.slow_readers.discard(session)
        if self._draining_until_s is not None and not proxy.sessions:
            proxy.loop.stop()

    def tick(self, now_s: float) -> None:
        """Sees to those that have done nothing for too long; called regularly."""
        proxy, timeout_s = self.proxy, self.proxy.config.timeout
        if timeout_s and now_s >= self._next_sweep_s:
            self._next_sweep_s = now_s + limits.IDLE_SWEEP_S
            self.close_idle(now_s - timeout_s)
        if self._draining_until_s is not None and now_s >= self._draining_until_s:
            logger.warning("%d clients did not take their last replies in time", len(proxy.sessions))
            proxy.loop.stop()

    def close_idle(self, since_s: float) -> None:
        """Closes the connections of clients that have not sent anything since then and do not wait for
        anything."""
        for session in list(self.proxy.sessions.values()):
            waits = session.suspended or session.stalled or session.is_subscribed or session.is_monitor
            if session.last_active_s < since_s and not waits:
                session.abort()

    def drain(self) -> None:
        """The server stops: takes no more clients and no more requests, and ends when all that is under way
        is answered, or after the time that the setting shutdown-timeout leaves to the proxies."""
        if self._draining_until_s is not None:
            return
        proxy = self.proxy
        self._draining_until_s = clock.monotonic() + proxy.config.shutdown_timeout / 2
        proxy.take_arrivals()
        for server in (*self._servers, *self._tls_servers):
            server.close()
        for session in list(proxy.sessions.values()):
            session.end()
        if not proxy.sessions:
            proxy.loop.stop()


def keep_alive(sock: socket.socket, idle_s: int) -> None:
    """Has the kernel look after so many seconds of silence whether the peer is still there; 0 means never. It
    gives up after three probes within about as long again, as in Redis."""
    if idle_s:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle_s // 3))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def allow_open_files(clients: int) -> None:
    """Raises this process's limit of open files so that so many clients fit, as far as the system lets it."""
    wanted = clients + limits.FILES_BESIDE_CLIENTS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        logger.warning(
            "maxclients is %d, but the system allows a process only %d open files", clients, allowed
        )
