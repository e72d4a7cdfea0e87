"""The listening sockets, before and after anybody may connect."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from proxy.listeners import Listeners, open_listeners
from shardkv.settings import Config
from tests.twin.servers import free_port


def test_nobody_connects_before_the_server_is_sure_that_it_starts(tmp_path: Path) -> None:
    path = tmp_path / "shardkv.sock"
    config = Config(bind=("127.0.0.1",), port=free_port(), unixsocket=str(path))
    listeners = open_listeners(config)
    addresses = [sock.getsockname() for sock in listeners.sockets]
    try:
        for sock, address in zip(listeners.sockets, addresses, strict=True):
            with socket.socket(sock.family) as client, pytest.raises(ConnectionRefusedError):
                client.connect(address)
        listeners.listen(config.tcp_backlog)
        for sock, address in zip(listeners.sockets, addresses, strict=True):
            with socket.socket(sock.family) as client:
                client.connect(address)
    finally:
        listeners.close()
        listeners.remove_files()
    assert not path.exists()


def test_a_port_of_another_server_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            open_listeners(Config(bind=("127.0.0.1",), port=port))


def test_what_systemd_hands_over_keeps_its_backlog() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=7) as handed:
        Listeners([handed]).listen(500)
        assert _backlog(handed) == 7
        handed.listen(8)
        assert _backlog(handed) == 8


def _backlog(sock: socket.socket) -> int:
    """How many connections may wait: for a listening socket the field tcpi_sacked of linux/tcp.h says it."""
    return int(struct.unpack_from("=I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 28)[0])
