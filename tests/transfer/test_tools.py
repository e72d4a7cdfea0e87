"""`shardkv import` and `shardkv export` where things are not as they should be."""

from __future__ import annotations

import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy.transfer.full_sync import Payload, SyncRefused
from proxy.transfer.sources import ShardSource
from shardkv import limits
from shardkv.aof.record import record
from shardkv.aof.side_log import SideLog
from shardkv.rdb import kinds
from shardkv.rdb.file_reader import Key
from shardkv.rdb.file_writer import FileWriter
from shardkv.rdb.writer import length
from shardkv.settings import Config
from shardkv.shard import Shard
from shardkv.slots import even_slot_table, slot_of
from shardkv.structures.set import Set
from tests.processes.server import ROOT, Shardkv, shardkv
from tests.rdb import forms
from tests.rdb.test_file_reader import file, key, module_number
from tests.transfer.contents import LATER_MS, LIBRARY, Client, contents, difference
from tests.transfer.tools import FAILED, INCOMPLETE, tool
from tests.twin.servers import redis_7

CONFIG: Any = Config()


@pytest.fixture(scope="module")
def server() -> Iterator[Shardkv]:
    with shardkv(workers=2) as running:
        yield running


@pytest.fixture
def to(server: Shardkv) -> str:
    """The address of an empty server."""
    server.ask("FLUSHALL")
    return f"redis://127.0.0.1:{server.port}"


def dump(path: Path, *parts: bytes, version: int = 11) -> Path:
    path.write_bytes(file(version, *parts))
    return path


JSON = key(b"doc", kinds.MODULE_2, length(module_number("ReJSON-RL")) + b"\x05\x02{}\x00")


def text(name: bytes, value: bytes = b"x") -> bytes:
    return key(name, kinds.STRING, forms.plain(value))


# -- into a server ------------------------------------------------------------------------------


def test_keys_that_are_there_are_kept_or_replaced(tmp_path: Path, server: Shardkv, to: str) -> None:
    path = dump(tmp_path / "dump.rdb", text(b"a", b"new"), key(b"b", kinds.LIST, b"\x01\x03new"), text(b"c"))
    server.ask("MSET", "a", "old", "b", "old")
    told = tool("import", path, "--to", to, exit_code=INCOMPLETE)
    assert "1 keys in" in told
    assert "kept as they were 2" in " ".join(told.split())
    assert server.ask("MGET", "a", "b", "c") == [b"old", b"old", b"x"]
    tool("import", path, "--to", to, "--replace")
    assert server.ask("GET", "a") == b"new"
    assert server.ask("LRANGE", "b", 0, -1) == [b"new"]


def test_what_cannot_be_represented(tmp_path: Path, server: Shardkv, to: str) -> None:
    path = dump(tmp_path / "dump.rdb", text(b"before"), JSON, text(b"after"))
    for into in (("--to", to), ("--into", tmp_path / "data")):
        told = tool("import", path, *into, exit_code=FAILED)
        assert "key b'doc' of database 0 at byte 19: a value of the module type ReJSON-RL" in told
        told = tool("import", path, *into, "--replace", "--skip", exit_code=INCOMPLETE)
        assert "2 keys in" in told
        assert "refused: key b'doc' of database 0: a value of the module type ReJSON-RL" in told
    assert server.ask("DBSIZE") == 2


def test_keys_whose_time_is_over(tmp_path: Path, server: Shardkv, to: str) -> None:
    expired = b"\xfc" + (1_700_000_000_000).to_bytes(8, "little")
    later = b"\xfc" + LATER_MS.to_bytes(8, "little")
    path = dump(tmp_path / "dump.rdb", expired + text(b"a"), later + text(b"b"))
    told = tool("import", path, "--to", to)
    assert "left out 1" in " ".join(told.split())
    assert server.ask("PEXPIRETIME", "b") == LATER_MS
    assert server.ask("DBSIZE") == 1


def test_a_database_that_there_is_not(tmp_path: Path, to: str) -> None:
    path = dump(tmp_path / "dump.rdb", text(b"a"), b"\xfe\x10", text(b"b"))
    for into in (("--to", to), ("--into", tmp_path / "data")):
        assert "there are only 16 databases" in tool("import", path, *into, exit_code=FAILED)


def test_a_large_value_is_built_bit_by_bit(tmp_path: Path, server: Shardkv, to: str) -> None:
    members = Set.holding([b"member:%d" % n for n in range(100_000)], CONFIG)
    path = tmp_path / "dump.rdb"
    with path.open("wb") as written:
        writer = FileWriter(written.write)
        writer.begin()
        writer.select(1)
        writer.key(b"large", members, LATER_MS)
        writer.end()
    assert path.stat().st_size > limits.TRANSFER_PAYLOAD_BYTES
    for options, exit_code in (((), 0), ((), INCOMPLETE), (("--replace",), 0)):
        tool("import", path, "--to", to, *options, exit_code=exit_code)
    with Client(server.port) as client:
        assert client.ask([("SELECT", 1), ("SCARD", "large"), ("PEXPIRETIME", "large")])[1:] == [
            100_000,
            LATER_MS,
        ]


def test_one_database_of_a_server(server: Shardkv, to: str) -> None:
    with shardkv(workers=1) as source:
        with Client(source.port) as client:
            client.ask([("SET", "a", 0), ("SELECT", 3), ("SET", "b", 3)])
        told = tool("import", f"redis://127.0.0.1:{source.port}/3", "--scan", "--to", to)
    assert "1 keys in" in told
    assert server.ask("DBSIZE") == 0


def test_a_server_that_hangs_up(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.rdb", *(text(b"%d" % n) for n in range(5000)))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            answers = iter((b"*2\r\n$9\r\ndatabases\r\n$2\r\n16\r\n", b"+OK\r\n"))
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                peer.recv(100)
                peer.sendall(next(answers, b""))
                peer.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        told = tool(
            "import", path, "--to", f"redis://127.0.0.1:{listener.getsockname()[1]}", exit_code=FAILED
        )
        assert f"127.0.0.1:{listener.getsockname()[1]}" in told
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_nobody_there(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.rdb")
    assert "refused" in tool("import", path, "--to", "redis://127.0.0.1:1", exit_code=FAILED)
    assert "no address" in tool("import", path, "--to", "redis://localhost:none", exit_code=FAILED)


# -- into a folder ------------------------------------------------------------------------------


def test_a_damaged_file_makes_nothing(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.rdb", *(text(b"%d" % n) for n in range(1000)))
    path.write_bytes(path.read_bytes()[:-20] + b"y" + path.read_bytes()[-19:])
    told = tool("import", path, "--into", tmp_path / "data", exit_code=FAILED)
    assert f"{path}: at byte " in told
    assert not list((tmp_path / "data").iterdir())


def test_a_folder_with_data_stays_as_it_is(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.rdb", text(b"a"))
    tool("import", path, "--into", tmp_path / "data", "--workers", 2)
    before = {found: found.read_bytes() for found in (tmp_path / "data").rglob("*.aof")}
    assert "there is data in" in tool("import", path, "--into", tmp_path / "data", exit_code=FAILED)
    assert {found: found.read_bytes() for found in (tmp_path / "data").rglob("*.aof")} == before


def test_a_library_that_is_none(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.rdb", b"\xf5" + forms.plain(b"#!lua name=lib\nreturn nonsense()"))
    assert "a library of functions" in tool("import", path, "--into", tmp_path / "data", exit_code=FAILED)


@contextmanager
def files_of_at_most(count: int) -> Iterator[None]:
    """No file can get larger than so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_space_left(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.rdb", *(text(b"%d" % n, b"x" * 60) for n in range(4000)))
    with files_of_at_most(100 * 1024):
        told = tool("import", path, "--into", tmp_path / "data", "--workers", 2, exit_code=FAILED)
    assert "File too large" in told
    assert not list((tmp_path / "data").iterdir())
    tool("import", path, "--into", tmp_path / "data", "--workers", 3)
    with files_of_at_most(100 * 1024):
        told = tool("export", tmp_path / "out.aof", "--dir", tmp_path / "data", exit_code=FAILED)
    assert "File too large" in told
    assert not list(tmp_path.glob("out*"))


def test_killed_on_the_way(tmp_path: Path) -> None:
    path = dump(tmp_path / "dump.rdb", *(text(b"%d" % n, b"x" * 200) for n in range(25_000)))
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-m", "shardkv", "import", path, "--into", data, "--workers", "1"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    assert path.stat().st_size > limits.TRANSFER_PARTED_BYTES
    while not list(data.glob("*.importing/shard-0/*.base.aof")):
        assert process.poll() is None
    process.kill()
    process.wait()
    assert not (data / "appendonlydir").exists()
    small = dump(tmp_path / "small.rdb", text(b"a"))
    while "1 keys in" not in (told := tool("import", small, "--into", data, exit_code=None)):
        # The processes that it has started may need a moment to notice.
        assert "another server" in told
    assert [found.name for found in data.iterdir()] == ["appendonlydir"]


# -- append-only files --------------------------------------------------------------------------

PAST_MS = b"1700000000000"


def commands(*requests: str | bytes) -> bytes:
    return b"".join(record([w if isinstance(w, bytes) else w.encode() for w in r.split()]) for r in requests)


AOF = (
    b"#TS:1700000000\r\n"
    + commands(
        "SELECT 0", "SET a 1", "INCR a", "RPUSH list x y z", "LPOP list", "SADD s 1 2 3", "SADD t 2 3 4"
    )
    + commands(
        "SINTERSTORE both s t", "RENAME a b", "COPY b c", "MSET d 1 e 2", "APPEND d 5", "SETRANGE e 3 z"
    )
    + b"#TS:1700000001\r\n"
    + commands("MULTI", "SET f 1", "SELECT 2", "SET f 2", "EXEC", "SET g 1", "SELECT 0", "EXPIRE b 1000000")
    + commands(
        "SET gone 1 PXAT 1700000000000", "INCR gone", "ZADD z 1 a 2 b", "ZUNIONSTORE w 1 z", "MOVE c 2"
    )
    + commands("XADD x 1-1 a b", "XGROUP CREATE x g 0", "HSET h a b", "DEL list", "FLUSHDB", "SET last 1")
    + commands("LMOVE nothing here LEFT RIGHT", "SDIFFSTORE both s t", "PFADD hll a b c", "BITOP NOT n last")
    + commands("EVAL redis.call('set',KEYS[1],'s') 1 scripted", "RPUSH l 3 1 2", "SORT l STORE sorted")
)


@pytest.mark.parametrize("preamble", [False, True])
def test_an_append_only_file_is_what_redis_makes_of_it(
    tmp_path: Path, server: Shardkv, to: str, preamble: bool
) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis 7 here")
    path = tmp_path / "appendonly.aof"
    start = (
        file(9, b"\xfa\x0caof-preamble\xc0\x01", text(b"p", b"0"), b"\xfe\x02", text(b"q"))
        if preamble
        else b""
    )
    if preamble:
        aof = commands("SELECT 0", "INCR p") + AOF.replace(commands("FLUSHDB"), b"")
    else:
        aof = AOF
    torn = commands("MULTI", "SET half 1") + b"*3\r\n$3\r\nSE"
    path.write_bytes(start + aof + torn)
    with redis_7(dir=str(tmp_path), appendonly="yes") as twin, Client(twin.port) as client:
        expected = contents(client)
    (tmp_path / "again.aof").write_bytes(start + aof + torn)
    told = tool("import", tmp_path / "again.aof", "--to", to)
    assert "torn at byte" in told
    with Client(server.port) as client:
        found = contents(client)
    for held in (found, expected):
        for name, value in list(held.items()):
            if value[2] > 0:
                # EXPIRE is relative in this file, which no Redis of today would write.
                assert value[2] > 1_700_000_000_000
                held[name] = (*value[:2], 1, *value[3:])
    assert not difference(found, expected)
    assert (0, b"gone") not in found


@pytest.mark.parametrize(
    ("aof", "what"),
    [
        (commands("SET a 1") + b"*2\r\n$x\r\n", "at byte 31"),
        (commands("SET a 1") + b"garbage garbage garbage garbage garbage", "at byte 27"),
        (commands("SET a 1") + b"*1\r\n$4\r\nPINGxx*1\r\n", "a word does not end"),
        (commands("SET a 1", "NONSENSE a"), "at byte 27: a request that cannot be carried out"),
        (commands("SET a 1", "LPUSH a 1"), "WRONGTYPE"),
        (b"*2000000\r\n" + b"$1\r\na\r\n" * 10, "a request of 2000000 words"),
    ],
)
def test_damaged_append_only_files(tmp_path: Path, aof: bytes, what: str) -> None:
    path = tmp_path / "appendonly.aof"
    path.write_bytes(aof)
    assert what in tool("import", path, "--into", tmp_path / "data", exit_code=FAILED)


@pytest.mark.parametrize(
    ("manifest", "what"),
    [
        (b"file a.base.rdb seq 1 type b\nfile missing.aof seq 1 type i\n", "missing.aof"),
        (b"file ../a seq 1 type b\n", "another folder"),
        (b"nonsense\n", "not a line of a manifest"),
        (b"file a.base.rdb seq 1 type b\nfile a.base.rdb seq 2 type b\n", "not one base"),
    ],
)
def test_damaged_manifests(tmp_path: Path, manifest: bytes, what: str) -> None:
    (tmp_path / "appendonly.aof.manifest").write_bytes(manifest)
    dump(tmp_path / "a.base.rdb", text(b"a"))
    assert what in tool("import", tmp_path, "--into", tmp_path / "data", exit_code=FAILED)


# -- out ----------------------------------------------------------------------------------------


def test_one_append_only_file_of_all_shards(tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis 7 here")
    data, out = tmp_path / "data", tmp_path / "appendonly.aof"
    data.mkdir()
    with shardkv(data, workers=3) as server, Client(server.port) as client:
        client.ask([("FUNCTION", "LOAD", LIBRARY), *(("SET", n, n) for n in range(1000)), ("SELECT", 5)])
        client.ask([("RPUSH", f"list:{n}", *range(n)) for n in range(1, 30)])
        client.ask([("PEXPIREAT", "list:7", LATER_MS), ("SELECT", 0), ("MSET", "a", 1, "b", 2, "c", 3)])
        assert "another server" in tool("export", out, "--dir", data, exit_code=FAILED)
        expected = contents(client)
    assert "1,032 keys in" in tool("export", out, "--dir", data)
    found = subprocess.run(["redis-check-aof", out], capture_output=True, text=True, check=False)
    assert "is valid" in found.stdout, found.stdout
    with redis_7(dir=str(tmp_path), appendonly="yes") as twin, Client(twin.port) as client:
        assert not difference(contents(client), expected)
        assert client.ask([("FCALL", "f", 0, "said")]) == [b"said"]
    assert "1,032 keys in" in tool("export", tmp_path / "dump.rdb", "--from", tmp_path / "data")
    assert "neither" in tool("export", tmp_path / "dump.txt", "--dir", data, exit_code=FAILED)


def test_a_transaction_that_is_not_settled(tmp_path: Path) -> None:
    dumped = dump(tmp_path / "dump.rdb", text(b"a"))
    tool("import", dumped, "--into", tmp_path, "--workers", 1)
    pledge = ["pledge", 0, 77, [0, 1], [[0, b"a"]], False, 0, [], b""]
    side = SideLog(tmp_path / "appendonlydir" / "shard-0", lambda: [pledge])
    side.notes.append(pledge)
    assert side.write()
    assert side.close()
    told = tool("export", tmp_path / "out.rdb", "--dir", tmp_path, exit_code=FAILED)
    assert "transactions are not settled" in told


def test_keys_count_where_their_slot_belongs() -> None:
    shards = [Shard(index, CONFIG) for index in range(2)]
    for shard in shards:
        for name in (b"a", b"b", b"c", b"d"):
            shard.database(0).put(name, b"%d" % shard.index, "set")
    owned = even_slot_table(2)
    source = ShardSource(shards, 2, owned)
    found = {event.key: source.value(CONFIG) for event in source if isinstance(event, Key)}
    assert found == {name: b"%d" % owned[slot_of(name)] for name in (b"a", b"b", b"c", b"d")}
    assert set(found.values()) == {b"0", b"1"}


# -- the answer to SYNC -------------------------------------------------------------------------

MARK = b"0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize("size", [1, 2, 7, 41, 1000])
@pytest.mark.parametrize("content", [b"", b"x", b"REDIS0009" * 30, MARK[:20] * 3])
def test_the_answer_in_any_pieces(size: int, content: bytes) -> None:
    for answer, rest in (
        (b"\n\n\n$%d\r\n" % len(content) + content, b"*1\r\n$4\r\nPING\r\n"),
        (b"\n$EOF:" + MARK + b"\r\n" + content + MARK, b""),
        (b"+FULLRESYNC 0123 17\r\n\n$EOF:" + MARK + b"\r\n" + content + MARK, b""),
    ):
        payload, found = Payload(), b""
        data = answer + rest
        for start in range(0, len(data), size):
            if not payload.done:
                found += payload.feed(data[start : start + size])
        assert payload.done
        assert found == content


def test_answers_that_are_none() -> None:
    with pytest.raises(SyncRefused, match="NOPERM no"):
        Payload().feed(b"-NOPERM no\r\n")
    for answer in (b"$x\r\n", b"hello\r\n", b"x" * 1000, b"$EOF:short\r\n"):
        with pytest.raises(ValueError):
            Payload().feed(answer)
