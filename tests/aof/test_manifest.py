"""The manifest: its format, and that no damage to it goes unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Disk
from shardkv.aof.manifest import (
    BASE,
    INCREMENT,
    Entry,
    Manifest,
    is_file_of_log,
    manifest_name,
    read_manifest,
    write_manifest,
)

SAMPLE = Manifest(
    "appendonly.aof",
    (
        Entry("appendonly.aof.2.base.aof", 2, BASE, 0x1F, 47, 0xABC),
        Entry("appendonly.aof.7.incr.aof", 7, INCREMENT, 0x2F, 100, 0xDEF),
        Entry("appendonly.aof.8.incr.aof", 8, INCREMENT, 0x3F),
    ),
)


def _read(folder: Path) -> Manifest | None:
    return read_manifest(Disk(), folder, "appendonly.aof")


def _put(folder: Path, data: bytes) -> None:
    (folder / "appendonly.aof.manifest").write_bytes(data)


def test_a_manifest_reads_as_written(tmp_path: Path) -> None:
    assert _read(tmp_path) is None
    write_manifest(Disk(), tmp_path, SAMPLE)
    assert _read(tmp_path) == SAMPLE
    assert [path.name for path in tmp_path.iterdir()] == ["appendonly.aof.manifest"]


def test_the_format_does_not_change_unnoticed() -> None:
    assert SAMPLE.encode().splitlines() == [
        b"file appendonly.aof.2.base.aof seq 2 type b first 000000000000001f bytes 47 last 0000000000000abc",
        b"file appendonly.aof.7.incr.aof seq 7 type i first 000000000000002f bytes 100 last 0000000000000def",
        b"file appendonly.aof.8.incr.aof seq 8 type i first 000000000000003f",
        b"#shardkv de35b4cf923c7375",
    ]


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    data = SAMPLE.encode()
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        _put(tmp_path, bytes(flipped))
        with pytest.raises(AofDamaged, match="manifest"):
            _read(tmp_path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = SAMPLE.encode()
    for size in range(len(data)):
        _put(tmp_path, data[:size])
        with pytest.raises(AofDamaged, match="no checksum line"):
            _read(tmp_path)


def test_another_programs_manifest_is_refused(tmp_path: Path) -> None:
    _put(
        tmp_path,
        b"file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n",
    )
    with pytest.raises(AofDamaged, match="written by another program"):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ((), "not one base"),
        (SAMPLE.entries[1:], "not one base"),
        (SAMPLE.entries[:1], "not one base"),
        ((SAMPLE.entries[0], *SAMPLE.entries), "not one base"),
        ((SAMPLE.entries[0], SAMPLE.entries[2], SAMPLE.entries[1]), "out of order"),
        ((SAMPLE.entries[0], SAMPLE.entries[2], SAMPLE.entries[2]), "out of order"),
        ((Entry("appendonly.aof.2.base.aof", 2, BASE, 1), *SAMPLE.entries[1:]), "no size"),
        ((SAMPLE.entries[0], Entry("x.8.incr.aof", 8, INCREMENT, 1)), "not of this log"),
        ((SAMPLE.entries[0], Entry("appendonly.aof.9.incr.aof", 8, INCREMENT, 1)), "not of this log"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    tmp_path: Path, entries: tuple[Entry, ...], what: str
) -> None:
    _put(tmp_path, Manifest("appendonly.aof", entries).encode())
    with pytest.raises(AofDamaged, match=what):
        _read(tmp_path)


def test_names() -> None:
    assert SAMPLE.next_name(BASE) == ("appendonly.aof.3.base.aof", 3)
    assert SAMPLE.next_name(INCREMENT) == ("appendonly.aof.9.incr.aof", 9)
    own = ["appendonly.aof.3.base.aof", "appendonly.aof.12.incr.aof", "temp-appendonly.aof.manifest"]
    others = [
        "appendonly.aof.manifest",
        "appendonly.aof.3.base.rdb",
        "Xappendonly.aof.3.base.aof",
        "notes.txt",
    ]
    assert all(is_file_of_log("appendonly.aof", name) for name in own)
    assert not any(is_file_of_log("appendonly.aof", name) for name in others)
    for unusable in ("", "a b", 'a"b', "a/b", "é"):
        with pytest.raises(ValueError, match="not a usable name"):
            manifest_name(unusable)
