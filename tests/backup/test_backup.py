"""Backups of a running server: one moment over all shards, only what has come since, and what is put back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.backup.store import FILE_NAME, Backup, Point
from proxy.backup.until import until
from proxy.transfer.connection import TransferError
from shardkv import clock
from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Disk
from shardkv.aof.file import BatchFile
from shardkv.aof.manifest import BASE, INCREMENT, file_name
from shardkv.aof.record import record
from shardkv.aof.scan import scan
from shardkv.slotmap import from_table
from shardkv.slots import even_slot_table
from tests.processes.server import ROOT, Shardkv, eventually, shardkv
from tests.processes.test_snapshots import ACCOUNTS, TOTAL, Teller
from tests.transfer.contents import Client, contents, difference, fill

FILENAME = "appendonly.aof"


def run(*words: Any, exit_code: int = 0) -> str:
    """Runs a tool; what it says."""
    command = [sys.executable, "-m", "shardkv", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == exit_code, said
    return said


def backup(server: Shardkv, folder: Path, *, exit_code: int = 0) -> str:
    return run("backup", folder, "--from", f"redis://127.0.0.1:{server.port}", exit_code=exit_code)


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.glob("shard-*/*")}


def test_everything_comes_back_for_any_number_of_shards(tmp_path: Path) -> None:
    dest, data = tmp_path / "backup", tmp_path / "data"
    data.mkdir()
    with shardkv(data, workers=3) as server, Client(server.port) as client:
        fill(client, field_deadlines=True)
        expected = contents(client)
        backup(server, dest)
        client.ask([("FLUSHALL",)])
    for workers in (1, 4):
        folder = tmp_path / f"restored-{workers}"
        assert "restored into" in run("restore", dest, "--dir", folder, "--workers", workers)
        with shardkv(folder, workers=workers) as server, Client(server.port) as client:
            # When consumers were seen last is not in the log, as in Redis.
            assert not difference(expected, contents(client), b"seen-time")
            assert client.ask([("FCALL", "f", 0, "x")]) == [b"x"]
    assert "there is data in" in run("restore", dest, "--dir", folder, exit_code=1)


def test_no_transaction_is_half_in_a_backup_and_only_what_is_new_is_copied(tmp_path: Path) -> None:
    dest, data = tmp_path / "backup", tmp_path / "data"
    data.mkdir()
    with shardkv(data, workers=2, proxies=2) as server, server.wire() as connection:
        for account in ACCOUNTS:
            connection.ask("SET", account, TOTAL // len(ACCOUNTS))
        connection.ask("MSET", *(word for n in range(2000) for word in (f"fill:{n}", os.urandom(500))))
        tellers = [Teller(server.port, name) for name in ("one", "two")]
        for teller in tellers:
            teller.start()
        said = [backup(server, dest) for _ in range(2)]
        connection.ask("BGREWRITEAOF")
        eventually(lambda: server.log.read_text().count("rewrote the append-only file") == 2)
        said.append(backup(server, dest))
        for teller in tellers:
            teller.stopping = True
        for teller in tellers:
            teller.join()
    copied = [int(text.split("of which ")[1].split()[0].replace(",", "")) for text in map(flat, said)]
    assert copied[0] > 1_000_000
    assert copied[1] < copied[0] / 2
    # A rewritten file is another one.
    assert copied[2] > 1_000_000
    assert len(Backup(dest).points) == 3
    points = Backup(dest).points
    for number in (1, 2):
        only = tmp_path / f"only-{number}"
        shutil.copytree(dest, only)
        (only / FILE_NAME).unlink()
        Backup(only).add(points[number])
        folder = tmp_path / f"restored-{number}"
        run("restore", only, "--dir", folder, "--workers", 2)
        with shardkv(folder, workers=2) as server, server.wire() as connection:
            assert sum(int(connection.text("GET", account)) for account in ACCOUNTS) == TOTAL
            assert connection.ask("DBSIZE") == b":%d\r\n" % (2000 + len(ACCOUNTS))


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_backup_that_was_cut_short(tmp_path: Path) -> None:
    dest, data = tmp_path / "backup", tmp_path / "data"
    data.mkdir()
    with shardkv(data, workers=2) as server, server.wire() as connection:
        connection.ask("MSET", "a", 1, "b", 2, "c", 3)
        backup(server, dest)
        named = (dest / FILE_NAME).read_bytes()
        (dest / FILE_NAME).unlink()
        restored = tmp_path / "restored"
        assert "not a complete backup" in run("restore", dest, "--dir", restored, exit_code=1)
        # Cut short in a later point: what it has left behind what counts goes, and the file is gone on with.
        (dest / FILE_NAME).write_bytes(named)
        connection.ask("MSET", "d", 4, "e", 5, "f", 6)
        for path in dest.glob("shard-*/*.aof"):
            with path.open("ab") as file:
                file.write(b"half a batch")
        run("restore", dest, "--dir", tmp_path / "first")
        # Killed at any moment, or with no room for what is to be copied.
        connection.ask("SET", "d", "x" * 100_000)
        address = f"redis://127.0.0.1:{server.port}"
        command = [sys.executable, "-m", "shardkv", "backup", str(dest), "--from", address]
        for delay_s in (0.3, 0.5, 0.6, 0.7):
            with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
                clock.sleep(delay_s)
                process.kill()
        connection.ask("SET", "e", "y" * 100_000)
        full = subprocess.run(
            ["prlimit", "--fsize=50000", *command], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert full.returncode == 1
        assert "File too large" in full.stderr
        backup(server, dest)
        run("restore", dest, "--dir", restored)
        # One of another server is not mixed in.
    other = tmp_path / "other"
    other.mkdir()
    with shardkv(other, workers=2) as server:
        assert "another server" in backup(server, dest, exit_code=1)
    for folder, count in ((tmp_path / "first", 3), (restored, 6)):
        with shardkv(folder, workers=0) as server, server.wire() as connection:
            assert connection.ask("DBSIZE") == b":%d\r\n" % count


def test_damage_is_found(tmp_path: Path) -> None:
    dest, data = tmp_path / "backup", tmp_path / "data"
    data.mkdir()
    with shardkv(data, workers=1) as server, server.wire() as connection:
        connection.ask("SET", "a", "x" * 1000)
        backup(server, dest)
    path = dest / "shard-0" / file_name(FILENAME, 1, INCREMENT)
    whole = path.read_bytes()
    path.write_bytes(whole[:-500] + b"y" + whole[-499:])
    said = run("restore", dest, "--dir", tmp_path / "restored", exit_code=1)
    assert "at byte" in said
    assert not (tmp_path / "restored" / "appendonlydir").exists()
    path.write_bytes(whole)
    named = (dest / FILE_NAME).read_bytes()
    (dest / FILE_NAME).write_bytes(named.replace(b'"at_ms": 1', b'"at_ms": 2'))
    assert "checksum" in run("restore", dest, "--dir", tmp_path / "restored", exit_code=1)


def test_without_an_append_only_file_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with shardkv(tmp_path, appendonly="no") as server:
        dest = tmp_path / "backup"
        assert "there is no append-only file" in backup(server, dest, exit_code=1)
        assert "not a complete backup" in run("restore", dest, "--dir", tmp_path / "x", exit_code=1)


# -- an earlier moment ------------------------------------------------------------------------


def test_a_moment_of_a_running_server(tmp_path: Path) -> None:
    dest, data = tmp_path / "backup", tmp_path / "data"
    data.mkdir()
    with shardkv(data, workers=2, aof_timestamp_enabled="yes") as server, server.wire() as connection:
        connection.ask("MSET", "a", 1, "b", 1, "c", 1)
        at_s = clock.now_ms() // 1000
        eventually(lambda: clock.now_ms() // 1000 > at_s + 1)
        connection.ask("MSET", "a", 2, "b", 2, "c", 2, "d", 2)
        backup(server, dest)
        check = shutil.which("redis-check-aof")
        assert check is not None
        for folder in (data / "appendonlydir").glob("shard-*"):
            subprocess.run([check, folder / f"{FILENAME}.manifest"], check=True, capture_output=True)
    run("restore", dest, "--dir", tmp_path / "then", "--until", at_s)
    run("restore", dest, "--dir", tmp_path / "end")
    later = at_s + 100_000
    assert "taken before" in run("restore", dest, "--dir", tmp_path / "x", "--until", later, exit_code=1)
    for name, value in (("then", b"1"), ("end", b"2")):
        with shardkv(tmp_path / name, workers=0) as server, server.wire() as connection:
            assert connection.ask("MGET", "a", "b", "c") == b"*3\r\n" + 3 * (b"$1\r\n" + value + b"\r\n")
            assert connection.ask("EXISTS", "d") == (b":0\r\n" if name == "then" else b":1\r\n")


class Made:
    """A backup of two shards, made batch by batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = []
        for shard in range(2):
            place = folder / f"shard-{shard}"
            place.mkdir(parents=True)
            names = [(file_name(FILENAME, 1, kind), 1, kind) for kind in (BASE, INCREMENT)]
            self.files.append([BatchFile.create(Disk(), place, *name) for name in names])

    def time(self, shard: int, at_s: int) -> None:
        self.files[shard][1].append([(b"body=annotation", b"#TS:%d\r\n" % at_s)])

    def change(self, shard: int, name: str, transaction: int | None = None) -> None:
        keys = b"" if transaction is None else b"tx=%x" % transaction
        records = record([b"SELECT", b"0"]) + record([b"SET", name.encode(), b"1"])
        self.files[shard][1].append([(keys, records)])

    def done(self, at_s: int) -> Backup:
        rows: Any = [
            [
                (e.name, e.seq, e.kind, e.first, e.size, e.last)
                for e in (file.closed_entry() for file in files)
            ]
            for files in self.files
        ]
        for files in self.files:
            for file in files:
                file.close()
        made = Backup(self.folder)
        made.add(Point(at_s * 1000, "", FILENAME, from_table(even_slot_table(2), 2), rows))
        return made

    def counting(self, at_s: int) -> list[list[str]]:
        """The keys that count on each shard at a moment."""
        point, manifests = until(Backup(self.folder), at_s)
        assert len(point.shards) == 2
        return [
            [
                name.decode()
                for entry in manifest.entries
                for found in scan(Disk(), self.folder / f"shard-{shard}" / entry.name, entry.size or 0)
                for name in _names((self.folder / f"shard-{shard}" / entry.name).read_bytes(), found)
            ]
            for shard, manifest in enumerate(manifests)
        ]


def _names(data: bytes, found: Any) -> list[bytes]:
    words = data[found.start : found.end].split(b"\r\n")
    return [words[number + 2] for number, word in enumerate(words) if word == b"SET"]


def test_transactions_at_the_moment_are_there_as_a_whole(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for shard in (0, 1):
        made.time(shard, 100)
    made.change(0, "a")
    made.change(1, "b")
    made.time(1, 101)
    # On the first shard they are still of the second before.
    made.change(0, "first part", 1)
    made.change(1, "before the second part")
    made.change(1, "second part", 1)
    made.change(1, "another's first part", 2)
    made.change(1, "in the same second", 3)
    made.time(0, 101)
    made.change(0, "between")
    made.change(0, "another's second part", 2)
    made.change(0, "not needed", 3)
    made.done(103)
    assert made.counting(99) == [[], []]
    assert made.counting(100) == [["a", "first part"], ["b", "before the second part", "second part"]]
    assert made.counting(101)[0][-1] == "not needed"
    with pytest.raises(TransferError, match="was taken before"):
        made.counting(104)


def test_transactions_that_hang_together(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.time(0, 100)
    made.change(0, "one", 1)
    made.time(0, 101)
    made.change(0, "two", 2)
    made.change(0, "left out", 3)
    made.time(1, 101)
    made.change(1, "two", 2)
    made.change(1, "one", 1)
    made.change(1, "left out", 3)
    made.done(103)
    assert made.counting(100) == [["one", "two"], ["two", "one"]]


def test_without_times_there_is_only_the_end(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.files[0][0].append([(b"", record([b"SELECT", b"0"]) + record([b"SET", b"base", b"1"]))])
    made.change(0, "a")
    made.done(103)
    with pytest.raises(TransferError, match="aof-timestamp-enabled was no"):
        made.counting(100)


def test_what_a_rewrite_has_forgotten_cannot_be_had(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.files[0][0].append([(b"", record([b"SELECT", b"0"]) + record([b"SET", b"base", b"1"]))])
    made.time(0, 100)
    made.change(0, "a")
    made.done(110)
    with pytest.raises(TransferError, match="rewritten"):
        made.counting(101)
    assert made.counting(102) == [["base", "a"], []]


def test_a_scan_names_the_place_of_damage(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.change(0, "a")
    made.change(0, "b")
    made.done(1)
    path = tmp_path / "shard-0" / file_name(FILENAME, 1, INCREMENT)
    size = path.stat().st_size
    places = [found.start for found in scan(Disk(), path, size)]
    assert len(places) == 3
    data = bytearray(path.read_bytes())
    data[places[2] + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(AofDamaged, match=f"at byte {places[2]}: "):
        list(scan(Disk(), path, size))
    with pytest.raises(AofDamaged, match="the file ends here"):
        list(scan(Disk(), path, size + 1))
