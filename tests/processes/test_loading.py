"""What happens while data is loaded does not change what it was."""

from __future__ import annotations

from pathlib import Path

from shardkv import clock
from tests.processes.server import eventually, shardkv
from tests.wire import pack

LIFE_MS = 2000
FILLERS = 10_000
"""So many keys that a shard looks at its pipes while it loads them."""


def test_what_was_persisted_in_time_is_there_although_its_time_was_over_later(tmp_path: Path) -> None:
    with shardkv(tmp_path, workers=1) as server, server.wire() as client:
        over_ms = clock.now_ms() + LIFE_MS
        client.ask("SET", "kept", "1", "PXAT", over_ms)
        client.send_bytes(b"".join(pack("SET", f"filler:{number}", "x" * 100) for number in range(FILLERS)))
        for _ in range(FILLERS):
            client.receive()
        assert client.ask("PERSIST", "kept") == b":1\r\n"
    eventually(lambda: clock.now_ms() > over_ms)
    # Several proxies tell the shard of their clients while it loads.
    with shardkv(tmp_path, workers=1, proxies=3) as server, server.wire() as client:
        assert client.ask("GET", "kept") == b"$1\r\n1\r\n"
