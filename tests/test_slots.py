"""What of a key makes its slot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shardkv import slots
from shardkv.setting_kinds import KeyPatterns
from shardkv.slotmap import SlotMapError, from_table, open_slot_map, read_slot_map, save_slot_map
from shardkv.slots import SLOTS, even_slot_table, hashed_part, slot_of
from tests.processes.server import shardkv


@pytest.fixture
def patterns() -> Iterator[None]:
    slots.colocate(["bull:*:", "rq:", "a.b*c"])
    yield
    slots.colocate(())


@pytest.mark.parametrize(
    ("key", "part"),
    [
        (b"plain", b"plain"),
        (b"{tag}rest", b"tag"),
        (b"before{tag}rest{other}", b"tag"),
        (b"{}rest", b"{}rest"),
        (b"open{tag", b"open{tag"),
        (b"rq:job:1", b"rq:"),
        (b"rq", b"rq"),
        (b"bull:mail:wait", b"bull:mail:"),
        (b"bull:mail:17:lock", b"bull:mail:"),
        (b"bull:mail", b"bull:mail"),
        (b"bull::x", b"bull::x"),
        (b"bull:a\nb:x", b"bull:a\nb:"),
        (b"bull:{mail}:wait", b"mail"),
        (b"bull:{}:wait", b"bull:{}:"),
        (b"a.bxxcxxc", b"a.bxxc"),
        (b"axbxxc", b"axbxxc"),
        (b"", b""),
    ],
)
def test_what_is_hashed(patterns: None, key: bytes, part: bytes) -> None:
    assert hashed_part(key) == part
    assert 0 <= slot_of(key) < SLOTS
    assert slot_of(key) == slot_of(part)


@pytest.mark.parametrize("words", [["b*:"], ["bull:*"], ["bull:**:"], ["bu{ll:"], ["x"]])
def test_patterns_that_are_none(words: list[str]) -> None:
    with pytest.raises(ValueError, match="a pattern is"):
        KeyPatterns().parse(words, ())


def test_the_folder_keeps_its_patterns(tmp_path: Path) -> None:
    open_slot_map(tmp_path, 2, ["rq:"])
    open_slot_map(tmp_path, 2, ["rq:", "bull:*:"])
    shard = tmp_path / "shard-0"
    shard.mkdir()
    (shard / "appendonly.aof.1.incr.aof").write_bytes(b"x" * 1000)
    open_slot_map(tmp_path, 2, ["rq:", "bull:*:"])
    assert open_slot_map(tmp_path, 2, []).colocate == ("rq:", "bull:*:")
    with pytest.raises(
        SlotMapError,
        match=r"with `colocate rq: bull:\*:`, and cannot be laid out with `colocate \"\"` while",
    ):
        open_slot_map(tmp_path, 2, [], loads=False)


def test_keys_of_a_queue_are_on_one_shard_and_stay_there(tmp_path: Path) -> None:
    keys = [f"bull:mail:{number}" for number in range(50)]
    for _ in range(2):
        with shardkv(tmp_path, workers=4) as server, server.wire() as connection:
            for key in keys:
                connection.ask("SETNX", key, "value")
            assert connection.ask("EXISTS", *keys) == b":50\r\n"
            figures = [server.info()[f"shard{number}"] for number in range(4)]
            assert sorted("keys=50" in line for line in figures) == [False, False, False, True], figures


def test_a_map_that_was_written_before_shards_could_be_uneven_is_read(tmp_path: Path) -> None:
    path = tmp_path / "slots.json"
    path.write_text(
        '{"version": 2, "shards": 1, "runs": [[0, 16383, 0]], "colocate": ["rq:"], "target": 0, '
        '"checksum": "c79c368b0f8e0135"}'
    )
    assert not read_slot_map(path).uneven


def test_a_table_that_is_to_stay_uneven_stays_so_for_as_many_shards(tmp_path: Path) -> None:
    uneven = from_table([0] * 16000 + [1] * 384, 2, uneven=True)
    for slot_map in (from_table(even_slot_table(2), 2), uneven):
        save_slot_map(tmp_path, slot_map)
        assert read_slot_map(tmp_path / "slots.json").uneven is slot_map.uneven
        assert open_slot_map(tmp_path, 2, []).uneven is slot_map.uneven
    assert not open_slot_map(tmp_path, 3, []).uneven
