"""Any flipped bit is found and named, and `shardkv check` and `shardkv repair` say what is so and what it
costs."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main
from shardkv.aof import record
from shardkv.aof.check import Findings, check
from shardkv.shard import Shard
from shardkv.slotmap import SlotMapError, read_slot_map
from tests.aof.disks import MemoryDisk
from tests.aof.logs import open_log
from tests.local import Local
from tests.processes.server import eventually, shardkv

SHARDS = 2


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a server has left that was killed: bases with data, increments, side logs, a slot map."""
    folder = tmp_path_factory.mktemp("written")
    with shardkv(folder, workers=SHARDS, appendfsync="always", exit_code=-signal.SIGKILL) as server:
        with server.wire() as client:
            pairs = [word for number in range(3) for word in (f"key{number}", "value")]
            assert client.ask("MSET", *pairs) == b"+OK\r\n"
            client.ask("BGREWRITEAOF")
            eventually(lambda: server.info("persistence")["aof_rewrites"] == str(SHARDS))
            for number in range(4):
                client.ask("RPUSH", f"list{number}", "a", "b")
            assert client.ask("MSET", *pairs) == b"+OK\r\n"
            for number in range(2):
                client.ask("SET", f"late{number}", "late")
        server.process.kill()
        server.process.wait()
    return folder / "appendonlydir"


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    copy = tmp_path / "copy"
    shutil.copytree(written, copy)
    return copy


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def findings(folder: Path, disk: MemoryDisk, shard: Shard | None = None) -> Findings:
    """What a check of a shard on a disk in memory finds."""
    checking = check(folder, apply=shard.replay if shard else lambda argv: None, disk=disk)
    while True:
        try:
            next(checking)
        except StopIteration as stop:
            found: Findings = stop.value
            return found


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def in_memory(folder: Path) -> MemoryDisk:
    disk = MemoryDisk()
    for path, content in files(folder).items():
        disk.write(disk.create(path), [content])
    return disk


def is_found(disk: MemoryDisk, path: Path, bit: int) -> bool:
    """Whether a flipped bit of a shard's file is refused, with the name of the file."""
    content = disk.files[path]
    whole = content.data
    content.data = flipped(whole, bit)
    try:
        found = findings(path.parent, disk)
    finally:
        content.data = whole
    return [damage.path for damage in found.damage] == [path] and found.damage[0].offset <= len(whole)


def test_every_flipped_bit_of_a_data_folder_is_refused_and_named(written: Path) -> None:
    missed = []
    flips = 0
    for folder in sorted(written.glob("shard-*")):
        disk = in_memory(folder)
        assert findings(folder, disk).good
        for path, content in disk.files.items():
            for bit in range(8 * len(content.data)):
                flips += 1
                if not is_found(disk, path, bit):
                    missed.append((path.name, bit))
    assert not missed
    assert flips > 8_000


def test_every_flipped_bit_of_the_slot_map_is_refused_or_changes_nothing(
    written: Path, tmp_path: Path
) -> None:
    data = (written / "slots.json").read_bytes()
    good = read_slot_map(written / "slots.json")
    path = tmp_path / "slots.json"
    for bit in range(8 * len(data)):
        path.write_bytes(flipped(data, bit))
        try:
            assert read_slot_map(path) == good
        except SlotMapError:
            pass
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(SlotMapError):
            read_slot_map(path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_thousands_of_flips_in_a_larger_folder_are_refused(tmp_path: Path) -> None:
    """With values of all kinds: such that look like the log itself, zeros, several databases."""
    choose = random.Random(7)
    batch = b"#shardkv 0123456789abcdef 000000000005\r\n*1\r\n$4\r\n"
    odd = (batch, 3 * batch, bytes(100), b"\r\n" * 20)
    with shardkv(tmp_path, workers=SHARDS, appendfsync="always") as server, server.wire() as client:
        for number in range(3000):
            client.ask("SELECT", choose.randrange(3))
            value = choose.choice([*odd, choose.randbytes(choose.randrange(300))])
            client.ask("SET", f"key{number}", value)
            client.ask("MSET", f"one{number % 50}", value, f"other{number % 50}", value)
            if number == 1500:
                client.ask("BGREWRITEAOF")
    missed = []
    flips = 0
    for folder in sorted((tmp_path / "appendonlydir").glob("shard-*")):
        disk = in_memory(folder)
        for path, content in disk.files.items():
            for _ in range(1000):
                flips += 1
                bit = choose.randrange(8 * len(content.data))
                if not is_found(disk, path, bit):
                    missed.append((path, bit))
    assert not missed
    assert flips >= 8000


# -- check ------------------------------------------------------------------------------------------


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_check_says_good_and_changes_nothing(folder: Path) -> None:
    before = files(folder)
    result = run("check", folder)
    assert result.exit_code == 0, result.output
    assert "good: everything is what was written" in result.output
    assert files(folder) == before


def test_check_names_what_is_damaged(folder: Path) -> None:
    for name in ("*.base.aof", "*.incr.aof", "*.manifest", "prepared.*"):
        [path] = (folder / "shard-1").glob(name)
        whole = path.read_bytes()
        path.write_bytes(flipped(whole, 8 * (len(whole) * 2 // 3)))
        before = files(folder)
        result = run("check", folder)
        assert result.exit_code == 1
        assert f"damaged: {path}: at byte" in result.output
        assert "DAMAGED" in result.output
        assert files(folder) == before
        path.write_bytes(whole)


def test_check_tells_a_torn_end_from_damage(folder: Path) -> None:
    [path] = (folder / "shard-0").glob("*.incr.aof")
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    before = files(folder)
    result = run("check", folder)
    assert result.exit_code == 1
    assert "TORN" in result.output
    assert f"{path}: torn at byte" in result.output
    assert files(folder) == before


def test_check_misses_a_shard_or_a_slot_map_that_is_gone(folder: Path) -> None:
    shutil.rmtree(folder / "shard-1")
    result = run("check", folder)
    assert (result.exit_code, "the shard is missing" in result.output) == (1, True)
    (folder / "slots.json").unlink()
    result = run("check", folder)
    assert (result.exit_code, "the slot map is missing" in result.output) == (1, True)


def test_tools_leave_a_folder_alone_that_is_in_use(tmp_path: Path) -> None:
    with shardkv(tmp_path) as server:
        for tool in ("check", "repair"):
            result = run(tool, tmp_path)
            assert result.exit_code == 1
            assert f"a server (pid {server.process.pid}) uses the data folder" in result.output


# -- repair -----------------------------------------------------------------------------------------


def content(folder: Path) -> dict[bytes, object]:
    """All keys of a folder's shards, with what they hold."""
    local = Local(SHARDS)
    for index, shard in enumerate(local.shards):
        shard.begin_replay()
        path = folder / f"shard-{index}"
        assert findings(path, in_memory(path), shard).good
        shard.end_replay()
    return {key: value for (_, key), (value, _) in local.content().items()}


def test_repair_of_what_is_whole_changes_nothing(folder: Path) -> None:
    before = files(folder)
    result = run("repair", folder)
    assert result.exit_code == 0, result.output
    assert files(folder) == before


def places(folder: Path, choose: random.Random) -> Iterator[tuple[Path, int]]:
    for path in sorted(folder.glob("shard-*/*")):
        for _ in range(3):
            yield path, choose.randrange(8 * path.stat().st_size)


@pytest.mark.parametrize("way", ["cut", "salvage"])
def test_repair_makes_whole_what_is_damaged_and_keeps_a_copy(written: Path, tmp_path: Path, way: str) -> None:
    choose = random.Random(way)
    whole = content(written)
    kept_all = refused = 0
    for number, (path, bit) in enumerate(places(written, choose)):
        copy = tmp_path / str(number)
        shutil.copytree(written, copy)
        victim = copy / path.relative_to(written)
        damaged = flipped(victim.read_bytes(), bit)
        victim.write_bytes(damaged)
        before = files(copy)
        result = run("repair", *(["--salvage"] if way == "salvage" else []), copy)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        if result.exit_code:
            # Only a base cannot be cut, or a first batch that the manifest would have to be made from.
            assert ".base." in path.name
            assert way == "cut"
            assert "cannot be repaired" in result.output
            assert files(copy) == before
            refused += 1
            continue
        assert f"dropped: {victim}" in result.output
        [old] = copy.glob(f"before-repair-*/{victim.parent.name}/{victim.name}")
        assert old.read_bytes() == damaged
        assert run("check", copy).exit_code == 0
        found = content(copy)
        if "prepared" in path.name or "manifest" in path.name:
            assert found == whole
        else:
            # Every key is written by one record at a time, so that none can be half there.
            assert found.items() <= whole.items()
        kept_all += found == whole
        shutil.rmtree(copy)
    assert kept_all >= 5
    assert bool(refused) == (way == "cut")


def test_a_server_starts_after_a_repair_and_has_what_was_kept(folder: Path, tmp_path: Path) -> None:
    for shard in range(SHARDS):
        [path] = (folder / f"shard-{shard}").glob("*.incr.aof")
        data = path.read_bytes()
        at = data.index(b"list")
        path.write_bytes(flipped(data, 8 * at))
    result = run("repair", folder)
    assert result.exit_code == 0, result.output
    assert "list" in result.output or "readable records" in result.output
    place = tmp_path / "data"
    place.mkdir()
    folder.rename(place / "appendonlydir")
    with shardkv(place, workers=SHARDS) as server, server.wire() as client:
        assert client.ask("MGET", "key0", "key1") == b"*2\r\n" + 2 * b"$5\r\nvalue\r\n"
        assert client.ask("EXISTS", *(f"list{number}" for number in range(4))) != b":4\r\n"
        assert client.ask("SET", "after", "1") == b"+OK\r\n"


def test_a_lost_manifest_is_made_anew(folder: Path) -> None:
    whole = content(folder)
    for path in folder.glob("shard-*/*.manifest"):
        path.unlink()
    result = run("repair", folder)
    assert result.exit_code == 0, result.output
    assert "made anew" in result.output
    assert content(folder) == whole


def test_a_record_that_cannot_be_replayed_is_dropped(tmp_path: Path) -> None:
    log = open_log(tmp_path / "shard-0")
    for words in (
        [b"SELECT", b"0"],
        [b"SET", b"a", b"1"],
        [b"RENAME", b"missing", b"b"],
        [b"SET", b"c", b"1"],
    ):
        log.records.append(record(words))
        assert log.commit()
    log.close()
    assert run("check", tmp_path).exit_code == 1
    result = run("repair", "--salvage", tmp_path)
    assert "1 readable records, 2 keys: b, missing" in result.output
    assert findings(tmp_path / "shard-0", in_memory(tmp_path)).records == 4
