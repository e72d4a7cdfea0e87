"""What tells a client of a changed key comes behind what it has read of the key before."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.session import Session
from shardkv import errors, limits, wire
from shardkv.channels import INVALIDATED, encode_told
from shardkv.command import COMMANDS
from shardkv.resp.replies import encode_error, raw
from shardkv.slots import SLOT_BITS, slot_of
from shardkv.wire import PUBLISHED, Batch, FrameReader, FrameWriter, decode_batch
from tests.proxy.stage import Stage, Transport, asks, stage

PUSH = b">2\r\n$10\r\ninvalidate\r\n"
EVERYTHING = PUSH + b"_\r\n"


class Shard:
    """The worker's end of the pipes to the stage's proxy, in the hands of a test."""

    def __init__(self, stage: Stage, index: int) -> None:
        self.stage = stage
        self.backend = stage.proxy.backends[index]
        theirs, write_fd = os.pipe()
        read_fd, ours = os.pipe()
        os.set_blocking(theirs, False)
        self.reader, self.writer = FrameReader(theirs), FrameWriter(ours)
        self.backend.attach(read_fd, write_fd)

    def close(self) -> None:
        self.backend.detach()
        os.close(self.reader.fd)
        os.close(self.writer.fd)

    def batches(self) -> list[Batch]:
        """What the proxy has sent since the last time."""
        self.stage.turn()
        return [decode_batch(frame) for frame in self.reader.receive()]

    def answer(self, *replies: bytes) -> None:
        """Answers a batch; nobody looks at it yet."""
        self.writer.send((list(replies), ()))

    def tell(self, number: int, *keys: bytes) -> None:
        """Tells that keys that the client with this number has read have changed; all, without any."""
        told = encode_told((0, [(INVALIDATED, array("I", [number]).tobytes(), b"", list(keys))]))
        self.writer.send((None, [(PUBLISHED, told)]))


class Scene:
    """A client that tracks keys, and two shards."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.shards = [Shard(stage, index) for index in (0, 1)]
        self.agree()
        self.look()
        self.session: Session
        self.transport: Transport
        self.session, self.transport = stage.client()
        asks(self.session, "HELLO 3", "CLIENT TRACKING ON")
        for shard in self.shards:
            [[track]] = shard.batches()
            assert wire.unpack_context(track[0] >> SLOT_BITS).command_id == COMMANDS["track"].id
            shard.answer(raw(True))
        self.look()
        assert self.written().endswith(b"+OK\r\n")
        assert self.session.tracker is not None
        self.number = self.session.tracker.number
        table = stage.proxy.slot_table
        owners = {table[slot_of(name.encode())]: name for name in map("k{}".format, range(99))}
        self.keys = [owners[0], owners[1]]

    def agree(self) -> None:
        """Has the shards answer that what they were told is well."""
        for shard in self.shards:
            for batch in shard.batches():
                shard.answer(*[raw(True)] * len(batch))

    def look(self) -> None:
        """Lets the proxy take what the shards have sent."""
        for shard in self.shards:
            shard.backend.receive()
        self.stage.turn()

    def written(self) -> bytes:
        """What the client has received since the last time."""
        found, self.transport.written = self.transport.written, b""
        return found

    def push(self, shard: int) -> bytes:
        """What tells of that shard's key."""
        return PUSH + b"*1\r\n$%d\r\n%b\r\n" % (len(self.keys[shard]), self.keys[shard].encode())


@contextmanager
def scene() -> Iterator[Scene]:
    with stage(workers=2) as made:
        playing = Scene(made)
        yield playing
        for shard in playing.shards:
            shard.close()


@pytest.fixture
def play() -> Iterator[Scene]:
    with scene() as playing:
        yield playing


def test_it_comes_at_once_to_a_client_that_waits_for_nothing(play: Scene) -> None:
    play.shards[0].tell(play.number, play.keys[0].encode())
    play.look()
    assert play.written() == play.push(0)


def test_it_stands_behind_a_reply_that_waits_for_others(play: Scene) -> None:
    first, second = play.keys
    asks(play.session, f"GET {first}", f"GET {second}", f"GET {second}")
    assert [len(shard.batches()) for shard in play.shards] == [1, 1]
    # The second shard answers one read before the change, and one after it.
    play.shards[1].writer.send(([b"+old\r\n", None], ()))
    play.shards[1].tell(play.number, second.encode())
    play.look()
    assert play.written() == b""
    play.shards[1].writer.send((None, [(0, b"+new\r\n")]))
    play.look()
    play.shards[0].answer(b"+first\r\n")
    play.look()
    assert play.written() == b"+first\r\n+old\r\n" + play.push(1) + b"+new\r\n"


def test_it_stands_behind_the_reply_of_a_command_over_several_shards(play: Scene) -> None:
    asks(play.session, "MGET " + " ".join(play.keys))
    assert [len(shard.batches()) for shard in play.shards] == [1, 1]
    play.shards[1].answer(raw([b"old"]))
    play.shards[1].tell(play.number, play.keys[1].encode())
    play.look()
    assert play.written() == b""
    play.shards[0].answer(raw([b"first"]))
    play.look()
    assert play.written() == b"*2\r\n$5\r\nfirst\r\n$3\r\nold\r\n" + play.push(1)


def test_it_stands_behind_a_reply_that_another_shard_has_sent_before(play: Scene) -> None:
    asks(play.session, f"GET {play.keys[1]}")
    play.shards[1].batches()
    play.shards[1].answer(b"+old\r\n")
    # The first shard tells that all databases are empty, and is heard first.
    play.shards[0].tell(play.number)
    play.shards[0].backend.receive()
    assert play.written() == b"+old\r\n" + EVERYTHING


def test_what_waits_behind_a_reply_is_bounded(play: Scene) -> None:
    asks(play.session, f"GET {play.keys[0]}", f"GET {play.keys[1]}")
    for shard in play.shards:
        shard.batches()
    play.shards[1].answer(b"+second\r\n")
    for number in range(limits.PUSHES_BEHIND_REPLY_BYTES // 30):
        play.shards[1].tell(play.number, b"key%d" % number)
        play.look()
    play.shards[0].answer(b"+first\r\n")
    play.look()
    written = play.written()
    assert written.startswith(b"+first\r\n+second\r\n" + EVERYTHING)
    assert len(written) < limits.PUSHES_BEHIND_REPLY_BYTES


def test_what_waits_for_a_command_is_bounded(play: Scene) -> None:
    asks(play.session, "MGET " + " ".join(play.keys))
    for shard in play.shards:
        shard.batches()
    for number in range(limits.PUSHES_HELD + 1):
        play.shards[1].tell(play.number, b"key%d" % number)
        play.look()
    for shard in play.shards:
        shard.answer(raw([None]))
    play.look()
    assert play.written() == b"*2\r\n_\r\n_\r\n" + EVERYTHING


def test_a_shard_that_is_gone_leaves_nothing_to_rely_on(play: Scene) -> None:
    asks(play.session, f"GET {play.keys[0]}")
    play.shards[0].batches()
    play.shards[0].backend.detach()
    assert play.written() == encode_error(errors.shard_died(0)) + EVERYTHING


def test_a_client_that_is_gone_is_told_of_to_the_shards(play: Scene) -> None:
    play.session.connection_lost(None)
    for shard in play.shards:
        [[untrack]] = shard.batches()
        assert untrack[1] == play.number
        assert wire.unpack_context(untrack[0] >> SLOT_BITS).command_id == COMMANDS["untrack"].id


def test_clients_get_numbers_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_TRACKERS", 4)
    with scene() as play:
        others = [play.stage.client() for _ in range(3)]
        for session, _ in others:
            asks(session, "CLIENT TRACKING ON")
            play.agree()
            play.look()
        numbers = [session.tracker.number for session, _ in others if session.tracker is not None]
        assert len({play.number, *numbers}) == 3
        assert others[-1][1].written == b"-ERR too many clients track keys\r\n"
