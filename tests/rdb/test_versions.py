"""What is written differs by the version it is written for, and is read back the same."""

from __future__ import annotations

from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import pytest

from shardkv.rdb import decode, encode, kinds
from shardkv.rdb.reader import Reader
from shardkv.settings import Config
from shardkv.structures.consumer_group import UNKNOWN, Consumer, ConsumerGroup, Pending
from shardkv.structures.stream import Stream

CONFIG: Any = Config()


def _stream() -> Stream:
    made = Stream()
    for number in range(1, 251):
        made.add((number // 3, number), [b"field", b"x" * (number % 120)], CONFIG)
    made.delete((0, 2), CONFIG)
    group = made.groups[b"group"] = ConsumerGroup((1, 5), 5)
    group.consumers[b"idle"] = Consumer(1_700_000_000_001)
    consumer = group.consumers[b"busy"] = Consumer(1_700_000_000_002)
    consumer.active_ms = 1_700_000_000_000
    for stream_id in ((0, 1), (1, 4)):
        group.assign(stream_id, Pending(b"busy", 1_700_000_000_000, 3))
    return made


@pytest.mark.parametrize(
    ("version", "kind"), [(9, kinds.STREAM), (10, kinds.STREAM_2), (11, kinds.STREAM_3), (12, kinds.STREAM_3)]
)
def test_streams(version: int, kind: int) -> None:
    given = _stream()
    encoded = encode.value(given, version)
    assert encoded.kind == kind
    data = b"".join(encoded.parts)
    reader = Reader(data, version)
    found = decode.value(kind, reader, CONFIG)
    assert reader.at == len(data)
    assert isinstance(found, Stream)
    assert list(found) == list(given)
    assert (found.last_id, found.length) == (given.last_id, given.length)
    group = found.groups[b"group"]
    assert list(group.pending.since((0, 0))) == list(given.groups[b"group"].pending.since((0, 0)))
    assert group.last_id == (1, 5)
    assert [consumer.seen_ms for consumer in group.consumers.values()] == [
        1_700_000_000_001,
        1_700_000_000_002,
    ]
    active = [consumer.active_ms for consumer in group.consumers.values()]
    if version > 10:
        assert active == [UNKNOWN, 1_700_000_000_000]
    else:
        assert active == [consumer.seen_ms for consumer in group.consumers.values()]
    if version > 9:
        assert (found.entries_added, found.max_deleted_id) == (250, (0, 2))
        assert group.entries_read == 5


def test_values_in_a_file(tmp_path: Path) -> None:
    given = _stream()
    parts = [encode.value(value, 11) for value in (b"12", given, b"text " * 100)]
    path = tmp_path / "values"
    path.write_bytes(b"".join(part for encoded in parts for part in encoded.parts))
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        reader = Reader(data, 11)
        found: list[Any] = [decode.value(encoded.kind, reader, CONFIG) for encoded in parts]
        assert reader.at == len(data)
    assert (found[0], list(found[1]), found[2]) == (b"12", list(given), b"text " * 100)
