"""The systemd units, and what the server does for systemd: says that it is ready, takes its sockets."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from shardkv.settings import Config

UNITS = Path(__file__).parent.parent / "systemd"
PATIENCE_S = 30.0

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")


def unit(name: str) -> dict[str, list[str]]:
    """The settings of a unit file, each with its values."""
    settings = defaultdict(list)
    for name_, value in re.findall(r"^(\w+)=(.*)$", (UNITS / name).read_text(), re.MULTILINE):
        settings[name_].append(value)
    return settings


@needs_systemd
def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    for path in UNITS.iterdir():
        text = path.read_text().replace("/usr/local/bin/shardkv", sys.executable)
        (tmp_path / path.name).write_text(text)
    found = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert "shardkv" not in found.stdout + found.stderr


@needs_systemd
def test_the_service_is_locked_up() -> None:
    # The threshold is in tenths of the exposure level that is printed: 1.5.
    found = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=15", str(UNITS / "shardkv.service")],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Overall exposure level for shardkv.service" in found.stdout
    assert found.returncode == 0, found.stdout


def test_the_units_fit_the_settings() -> None:
    service, listeners, config = unit("shardkv.service"), unit("shardkv.socket"), Config()
    assert int(service["TimeoutStopSec"][0]) >= 2 * config.shutdown_timeout
    assert int(service["LimitNOFILE"][0]) >= 2 * config.maxclients
    assert service["ExecStart"][0].endswith(f"--dir /var/lib/{service['StateDirectory'][0]}")
    hosts = [address.removeprefix("-") for address in config.bind]
    assert listeners["ListenStream"] == [
        f"[{host}]:{config.port}" if ":" in host else f"{host}:{config.port}" for host in hosts
    ]
    assert int(listeners["Backlog"][0]) == config.tcp_backlog


def wait_for(line: bytes, notifications: socket.socket) -> None:
    """Reads notifications up to one with this line, see sd_notify(3). Raises TimeoutError if none comes."""
    while line not in notifications.recv(4096).split(b"\n"):
        pass


def test_systemd_is_told_of_readiness_life_and_end(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(str(tmp_path / "notify"))
        notifications.settimeout(PATIENCE_S)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, "-m", "shardkv", "--port", str(port), "--dir", str(tmp_path), "--workers", "2"],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"},
        )
        try:
            wait_for(b"READY=1", notifications)
            socket.create_connection(("127.0.0.1", port)).close()
            for _ in range(3):
                wait_for(b"WATCHDOG=1", notifications)
            server.send_signal(signal.SIGTERM)
            wait_for(b"STOPPING=1", notifications)
            assert server.wait(PATIENCE_S) == 0
        finally:
            server.kill()
            server.wait()


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
def test_the_sockets_of_systemd_are_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    settings = ["--port", "0", "--dir", str(tmp_path), "--workers", "1"]
    server = subprocess.Popen(
        [
            "systemd-socket-activate",
            "-l",
            f"127.0.0.1:{address[1]}",
            sys.executable,
            "-m",
            "shardkv",
            *settings,
        ],
        stderr=subprocess.PIPE,
    )
    assert server.stderr is not None
    try:
        assert b"Listening on" in server.stderr.readline()
        with socket.create_connection(address, timeout=PATIENCE_S) as client:
            client.sendall(b"PING\r\n")
            assert client.recv(100).startswith((b"+PONG", b"-LOADING"))
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=PATIENCE_S)
        assert server.returncode == 0
    finally:
        server.kill()
        server.communicate()
