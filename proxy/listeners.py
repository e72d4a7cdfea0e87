"""The listening sockets: opened once, by the supervisor, and shared by all proxies."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Collection, Sequence
from typing import Any

logger = logging.getLogger("proxy.listeners")

_SYSTEMD_FIRST_FD = 3


class Listeners:
    """All listening sockets of the server; `tls` are those of them where clients speak TLS."""

    def __init__(
        self, sockets: list[socket.socket], unix_path: str = "", tls: Collection[socket.socket] = ()
    ) -> None:
        self.sockets = sockets
        self.tls = tls
        self._unix_path = unix_path

    def listen(self, backlog: int) -> None:
        """From now on clients may connect, and wait until a proxy takes them. Raises OSError."""
        for sock in self.sockets:
            # What systemd hands over listens already, with the backlog of its unit.
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                sock.listen(backlog)

    @property
    def title(self) -> str:
        """Where the server listens, in short: `127.0.0.1:6379`."""
        first = self.sockets[0]
        if first.family == socket.AF_UNIX:
            return f"unix:{first.getsockname()}"
        host, port = first.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """For a process that accepts no clients."""
        for sock in self.sockets:
            sock.close()

    def remove_files(self) -> None:
        """Removes the unix socket's file, at the very end."""
        if self._unix_path:
            try:
                os.unlink(self._unix_path)
            except OSError:
                pass


def open_listeners(config: Any) -> Listeners:
    """Takes the sockets that systemd hands over, or else opens those of the settings `bind`, `port`,
    `tls-port` and `unixsocket`, which do not listen yet: a server that finds something wrong before it starts
    has let nobody connect. Raises OSError if none can be had."""
    handed = _from_systemd()
    if handed:
        return handed
    plain = _all_tcp(config.bind, config.port) if config.port else []
    tls = _all_tcp(config.bind, config.tls_port) if config.tls_port else []
    sockets = plain + tls
    if config.unixsocket:
        sockets.append(_unix(config.unixsocket, config.unixsocketperm))
    if not sockets:
        raise OSError("no port and no unix socket to listen on")
    return Listeners(sockets, config.unixsocket, tls)


def _from_systemd() -> Listeners | None:
    """The sockets of systemd's socket activation (sd_listen_fds(3)), if it started this process. Clients
    speak TLS at those that the socket unit calls `tls` (FileDescriptorName=)."""
    count = int(os.environ.get("LISTEN_FDS", "0"))
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count:
        return None
    sockets = [socket.socket(fileno=fd) for fd in range(_SYSTEMD_FIRST_FD, _SYSTEMD_FIRST_FD + count)]
    for sock in sockets:
        sock.setblocking(False)
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    return Listeners(sockets, tls=[sock for sock, name in zip(sockets, names, strict=False) if name == "tls"])


def _all_tcp(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Takes a port of all these addresses. Raises OSError if there is none of them."""
    found = [_tcp(address, port) for address in addresses]
    sockets = [sock for sock in found if sock is not None]
    if not sockets:
        raise OSError(f"none of the addresses {' '.join(addresses)} can be listened on")
    return sockets


def _tcp(address: str, port: int) -> socket.socket | None:
    """Takes a TCP address. One written with a leading `-` may be missing on this host."""
    optional = address.startswith("-")
    host = address.removeprefix("-")
    host = {"*": "0.0.0.0", "::*": "::"}.get(host, host)  # noqa: S104
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _bound(family, (host, port))
    except OSError as error:
        if optional:
            logger.info("not listening on %s: %s", host, error.strerror)
            return None
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from None


def _bound(family: socket.AddressFamily, address: tuple[str, int]) -> socket.socket:
    """A socket at this address. Raises OSError if another has it, or if this host does not know such ones."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _unix(path: str, mode: int) -> socket.socket:
    """Takes a unix socket. The file never has more rights than asked for, not even for a moment."""
    if os.path.exists(path):
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(0o777)
    try:
        sock.bind(path)
    finally:
        os.umask(previous)
    os.chmod(path, mode or 0o777 & ~previous)
    sock.setblocking(False)
    return sock
