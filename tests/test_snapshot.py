"""A shard's part of a snapshot: several passes at the same time, and what goes through the pipe."""

from __future__ import annotations

import os
import random
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis
import msgspec
import pytest

from shardkv.dump_file import Loaded, load_dump
from shardkv.rdb import kinds
from shardkv.rdb.file_reader import RdbDamaged
from shardkv.rdb.file_writer import FileWriter
from shardkv.slots import SLOTS
from shardkv.snapshot import AGAIN, DATA, END, Feed, Snapshots
from shardkv.values import LARGE_COLLECTION
from shardkv.walk import Walk
from shardkv.wire import FrameReader
from tests.local import Local

LONG_S = 1000.0


class Pipe:
    """What comes out of a feed."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        self._reader = FrameReader(self.read_fd)
        self.frames: list[list[Any]] = []

    def drain(self) -> None:
        self.frames += [msgspec.msgpack.decode(frame) for frame in self._reader.receive()]

    def close(self) -> None:
        os.close(self.read_fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def complete(feed: Feed, pipe: Pipe) -> None:
    """Has a feed send all the rest."""
    while pipe.frames[-1:] == [] or pipe.frames[-1][0] == DATA:
        feed.step(0.001)
        feed.flush()
        pipe.drain()


def loaded(frames: list[list[Any]], local: Local, folder: Path) -> Local:
    """The shard that loads a file made of a feed's frames."""
    path = folder / "dump.rdb"
    with path.open("wb") as file:
        writer = FileWriter(file.write)
        writer.begin()
        for frame in frames:
            if frame[0] == DATA:
                writer.records(frame[1])
        writer.end()
    other = Local(1)
    [shard] = other.shards
    shard.begin_replay()
    for _ in load_dump(shard, path, [0] * SLOTS, Loaded(), local.shards[0].now_ms):
        pass
    other.set_clock(local.shards[0].now_ms)
    return other


Content = dict[tuple[int, bytes], Any]


def content(local: Local) -> Content:
    """What is there, without the order in which sorted sets have it in memory."""
    return {
        name: (sorted(word for words in requests for word in words), expire_at_ms)
        if name[1].startswith(b"zset")
        else (requests, expire_at_ms)
        for name, (requests, expire_at_ms) in local.content().items()
    }


def replayed(chunks: list[bytes], local: Local) -> Local:
    """The shard that a rewritten log makes."""
    other = Local(1)
    reader = hiredis.Reader()
    other.shards[0].begin_replay()
    for records in chunks:
        reader.feed(records)
        while (args := reader.gets()) is not False:
            other.shards[0].replay(args)
    other.set_clock(local.shards[0].now_ms)
    return other


@pytest.mark.parametrize("seed", range(8))
def test_passes_that_overlap_each_show_their_own_moment(seed: int, tmp_path: Path, pipe: Pipe) -> None:
    rng = random.Random(seed)
    local = Local(1)
    [shard] = local.shards

    def change() -> None:
        local.db = rng.choice([0, 0, 3])
        name = rng.randrange(200)
        match rng.randrange(8):
            case 0:
                local.call("DEL", f"key{name}", f"list{name % 30}")
            case 1:
                local.call("APPEND", f"key{name}", "x")
            case 2:
                local.call("PEXPIRE", f"key{name}", rng.randrange(1, 100_000))
            case 3:
                local.call("HSET", f"hash{name % 30}", rng.randrange(10), rng.random())
            case 4:
                local.call("RPUSH", f"list{name % 30}", rng.random())
            case 5:
                local.call("ZADD", f"zset{name % 30}", rng.random(), rng.randrange(100))
            case 6:
                local.call("XADD", f"stream{name % 30}", "*", "a", rng.random())
            case _:
                local.call("SET", f"key{name}", rng.random())

    local.db = 0
    local.call("RPUSH", "large", *range(LARGE_COLLECTION * 30))
    for _ in range(400):
        change()
    first = content(local)
    chunks: list[bytes] = []
    walk = Walk(list(shard.databases.values()), chunks.append)
    for _ in range(rng.randrange(5)):
        walk.step(0)
        change()
    second = content(local)
    feed = Feed(shard, 1, pipe.write_fd, 9)
    feed.begin()
    while feed.wants_slices or not walk.done:
        feed.step(0)
        pipe.drain()
        walk.step(0)
        if rng.random() < 0.5:
            change()
            local.db = 0
            local.call("RPUSH", "large", "more")
    complete(feed, pipe)
    feed.close()
    assert all(db.walk is None for db in shard.databases.values())
    assert pipe.frames[-1] == [END, len(second)]
    assert content(replayed(chunks, local)) == first
    assert content(loaded(pipe.frames, local, tmp_path)) == second


def test_nothing_stands_within_a_record(pipe: Pipe) -> None:
    local = Local(1)
    [shard] = local.shards
    local.call("SADD", "large", *(os.urandom(60) for _ in range(20_000)))
    for number in range(3000):
        local.call("SET", f"key{number}", "x" * 50)
    feed = Feed(shard, 1, pipe.write_fd, 9)
    feed.begin()
    local.call("SADD", "large", "new")
    number = 0
    while pipe.frames[-1:] == [] or pipe.frames[-1][0] == DATA:
        feed.step(0)
        feed.flush()
        pipe.drain()
        local.call("SET", f"key{number % 3000}", "changed")
        number += 1
    feed.close()
    whole = [frame[2] for frame in pipe.frames if frame[0] == DATA]
    within = [place for place, flag in enumerate(whole) if not flag]
    assert len(within) > 10
    # The pieces of the one large value stand together.
    assert within == list(range(within[0], within[-1] + 1))
    assert whole[-1]


def test_a_pass_waits_while_the_pipe_is_full(pipe: Pipe) -> None:
    local = Local(1)
    [shard] = local.shards
    for number in range(6000):
        local.call("SET", f"key{number}", os.urandom(1000))
    feed = Feed(shard, 1, pipe.write_fd, 9)
    feed.begin()
    feed.step(LONG_S)
    for _ in range(100):
        feed.step(0.001)
    assert not feed.wants_slices or feed.keys == 6000
    assert feed.waits_for_room
    complete(feed, pipe)
    feed.close()


def test_it_is_begun_anew_when_the_keyspace_is_replaced(pipe: Pipe) -> None:
    local = Local(1)
    [shard] = local.shards
    local.call("SET", "a", 1)
    with select.epoll() as poll:
        snapshots = Snapshots(shard, poll)
        snapshots.prepare(7, pipe.write_fd, 9)
        assert not snapshots.begin(6)
        assert snapshots.begin(7)
        local.call("FLUSHALL")
        pipe.drain()
        assert pipe.frames[-1][:2] == [AGAIN, 9]
        snapshots.drop()


def test_it_is_begun_anew_for_what_the_version_has_no_form_for(pipe: Pipe) -> None:
    local = Local(1)
    local.call("HSET", "hash", "field", 1)
    local.call("HPEXPIRE", "hash", 100_000, "FIELDS", 1, "field")
    feed = Feed(local.shards[0], 1, pipe.write_fd, 9)
    feed.begin()
    # A client that changes it meets no error.
    assert local.call("HSET", "hash", "field", 2) == 0
    feed.step(LONG_S)
    pipe.drain()
    assert pipe.frames[-1][:2] == [AGAIN, kinds.LATEST_OF_REDIS]
    assert "hash" in pipe.frames[-1][2]
    feed.close()


def test_changes_count_until_they_are_saved(pipe: Pipe) -> None:
    local = Local(1)
    [shard] = local.shards
    with select.epoll() as poll:
        snapshots = Snapshots(shard, poll)
        local.call("MSET", "a", 1, "b", 2)
        snapshots.prepare(1, pipe.write_fd, 9)
        assert snapshots.begin(1)
        local.call("SET", "c", 3)
        snapshots.saved(1, ok=False)
        assert shard.changes_since_save == 3
        snapshots.saved(2, ok=True)
        assert shard.changes_since_save == 3
        snapshots.saved(1, ok=True)
        assert shard.changes_since_save == 1
        snapshots.saved(1, ok=True)
        assert shard.changes_since_save == 1
        snapshots.drop()


def test_who_writes_the_file_is_gone() -> None:
    local = Local(1)
    [shard] = local.shards
    for number in range(1000):
        local.call("SET", f"key{number}", "x" * 500)
    pipe = Pipe()
    with select.epoll() as poll:
        snapshots = Snapshots(shard, poll)
        snapshots.prepare(1, pipe.write_fd, 9)
        assert snapshots.begin(1)
        pipe.close()
        [(fd, event)] = poll.poll(5)
        assert snapshots.attend(fd, event)
    assert snapshots.feed is None
    assert all(db.walk is None for db in shard.databases.values())
    assert local.call("SET", "key1", 1)


def test_a_damaged_file_is_not_loaded(tmp_path: Path, pipe: Pipe) -> None:
    local = Local(1)
    local.call("SET", "a", "x" * 100)
    feed = Feed(local.shards[0], 1, pipe.write_fd, 9)
    feed.begin()
    complete(feed, pipe)
    feed.close()
    assert content(loaded(pipe.frames, local, tmp_path)) == content(local)
    path = tmp_path / "dump.rdb"
    whole = path.read_bytes()
    for damaged in (whole[:-12] + b"?" + whole[-11:], whole[:-20], b""):
        path.write_bytes(damaged)
        with pytest.raises(RdbDamaged, match=r"dump\.rdb: at byte"):
            list(load_dump(Local(1).shards[0], path, [0] * SLOTS, Loaded(), 0))
