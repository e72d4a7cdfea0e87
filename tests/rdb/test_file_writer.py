"""Whole files as they are written: what redis-check-rdb says of them, and what servers make of them."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shardkv.rdb import kinds
from shardkv.rdb.file_writer import VERSIONS, FileWriter, NotRepresentable, pieces, record
from shardkv.settings import Config
from shardkv.structures.hash import Hash
from shardkv.structures.list import List
from shardkv.structures.set import Set
from shardkv.structures.zset import SortedSet
from shardkv.values import Value
from tests.rdb.test_versions import _stream

CONFIG: Any = Config()

LATER_MS = 4_102_444_800_000


def _hash_with_deadlines() -> Hash:
    made = Hash.of([b"a", b"1", b"b", b"2", b"c", b"3"], CONFIG)
    made.set_deadline(b"a", LATER_MS + 5)
    made.set_deadline(b"b", LATER_MS)
    return made


VALUES: dict[bytes, Value] = {
    b"text": b"hello",
    b"number": 12345678901,
    b"changed": bytearray(b"x" * 70),
    b"long": b"abc" * 100_000,
    b"list": List.of([b"%d" % n for n in range(1000)], CONFIG),
    b"set": Set.holding([b"m%d" % n for n in range(1000)], CONFIG),
    b"zset": SortedSet.holding({b"m%d" % n: n / 3 for n in range(1000)}, CONFIG),
    b"hash": Hash.of([b"w%d" % n for n in range(1000)], CONFIG),
    b"stream": _stream(),
}


def write(version: int, values: dict[bytes, Value], codes: tuple[bytes, ...] = ()) -> bytes:
    """A file with some values in two databases, every third of them with a deadline."""
    file = io.BytesIO()
    writer = FileWriter(file.write, version)
    writer.begin({"redis-ver": "7.2.4", "redis-bits": 64, "ctime": 1_700_000_000})
    for code in codes:
        writer.function(code)
    for index in (0, 3):
        writer.select(index, len(values), len(values) // 3)
        for number, (key, value) in enumerate(values.items()):
            writer.key(key, value, LATER_MS if number % 3 == 1 else None)
    writer.end()
    assert writer.written == len(file.getvalue())
    return file.getvalue()


@pytest.mark.parametrize("version", [9, 10])
def test_redis_check_rdb_finds_nothing(tmp_path: Path, version: int) -> None:
    tool = shutil.which("redis-check-rdb")
    if tool is None:
        pytest.skip("no redis-check-rdb here")
    path = tmp_path / "dump.rdb"
    code = b"#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    path.write_bytes(write(version, VALUES, (code,)))
    found = subprocess.run([tool, path], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
    assert "Checksum OK" in found.stdout
    assert "18 keys read" in found.stdout
    path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-8:])
    assert subprocess.run([tool, path], capture_output=True, check=False).returncode


def test_records_made_elsewhere_make_the_same_file() -> None:
    for version in VERSIONS:
        file = io.BytesIO()
        writer = FileWriter(file.write, version)
        writer.begin({"redis-ver": "7.2.4", "redis-bits": 64, "ctime": 1_700_000_000})
        for index in (0, 3):
            writer.select(index, len(VALUES), len(VALUES) // 3)
            for number, (key, value) in enumerate(VALUES.items()):
                writer.records(record(key, value, LATER_MS if number % 3 == 1 else None, version))
        writer.end()
        assert file.getvalue() == write(version, VALUES)


def test_large_collections_come_bit_by_bit() -> None:
    members = Set.holding([b"member:%d" % n for n in range(100_000)], CONFIG)
    found = list(pieces(b"key", members, None))
    assert len(found) > 10
    assert max(map(len, found)) < 70_000


def test_what_has_no_form_is_refused() -> None:
    value = _hash_with_deadlines()
    for version in (9, 10, 11):
        file = io.BytesIO()
        writer = FileWriter(file.write, version)
        with pytest.raises(NotRepresentable, match="fields that expire"):
            writer.key(b"key", value)
        writer.end()
        assert writer.written == 9
    for version in (kinds.LATEST_OF_REDIS, kinds.VALKEY):
        assert record(b"key", value, None, version)
    with pytest.raises(ValueError):
        FileWriter(io.BytesIO().write, 8)
