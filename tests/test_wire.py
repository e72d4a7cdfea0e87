"""Frames between processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkv import limits, wire
from shardkv.slots import SLOT_BITS
from shardkv.wire import FrameReader, FrameWriter


@dataclass
class Pipe:
    reader: FrameReader
    writer: FrameWriter

    def received(self) -> list[object]:
        return [wire.decode_batch(bytes(frame)) for frame in self.reader.receive()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    yield Pipe(FrameReader(read_fd), FrameWriter(write_fd))
    os.close(read_fd)
    try:
        os.close(write_fd)
    except OSError:
        pass


def test_frames_come_whole_and_in_order(pipe: Pipe) -> None:
    for number in range(3):
        pipe.writer.send([[number, b"key"]])
    assert pipe.received() == [[[0, b"key"]], [[1, b"key"]], [[2, b"key"]]]
    assert pipe.received() == []


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 3 * limits.PIPE_READ_BYTES), min_size=1, max_size=5))
def test_frames_of_any_size_pass_a_full_pipe(sizes: list[int]) -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    reader, writer = FrameReader(read_fd), FrameWriter(write_fd)
    received = []
    for number, size in enumerate(sizes):
        writer.send([[number, bytes([number]) * size]])
    for _ in range(10_000):
        done = writer.flush()
        received += [wire.decode_batch(bytes(frame)) for frame in reader.receive()]
        if done and len(received) == len(sizes):
            break
    assert writer.backlog_bytes == 0
    assert received == [[[number, bytes([number]) * size]] for number, size in enumerate(sizes)]
    os.close(read_fd)
    os.close(write_fd)


@given(cuts=st.lists(st.integers(1, 40), max_size=30))
def test_frames_may_come_in_any_pieces(cuts: list[int]) -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    reader = FrameReader(read_fd)
    frames = [[[number, b"x" * number]] for number in range(12)]
    stream = b""
    for frame in frames:
        body = msgspec.msgpack.encode(frame)
        stream += len(body).to_bytes(wire.HEADER_BYTES, "little") + body
    received = []
    for cut in [*cuts, len(stream)]:
        os.write(write_fd, stream[:cut]) if stream else None
        stream = stream[cut:]
        received += [wire.decode_batch(bytes(body)) for body in reader.receive()]
    assert received == frames
    os.close(read_fd)
    os.close(write_fd)


def test_the_end_of_the_stream_shows(pipe: Pipe) -> None:
    pipe.writer.send([[1]])
    os.close(pipe.writer.fd)
    assert pipe.received() == [[[1]]]
    assert not pipe.reader.closed
    assert pipe.received() == []
    assert pipe.reader.closed


def test_a_frame_of_impossible_size_is_refused(pipe: Pipe) -> None:
    os.write(pipe.writer.fd, (limits.MAX_FRAME_BYTES + 1).to_bytes(wire.HEADER_BYTES, "little"))
    with pytest.raises(ValueError, match="frame of"):
        pipe.received()


def test_a_slow_reader_makes_a_backlog_that_is_counted(pipe: Pipe) -> None:
    for _ in range(10):
        pipe.writer.send([[0, b"x" * 100_000]])
    assert 800_000 < pipe.writer.backlog_bytes < 1_100_000
    assert not pipe.writer.flush()


@given(
    db=st.integers(0, 2**16 - 1),
    no_touch=st.booleans(),
    protocol=st.integers(0, 3),
    command=st.integers(0, 1023),
    slot=st.integers(0, 16383),
    tracker=st.integers(0, 2**20 - 1),
    remembers=st.booleans(),
)
def test_a_code_holds_what_was_packed(
    db: int, no_touch: bool, protocol: int, command: int, slot: int, tracker: int, remembers: bool
) -> None:
    context = wire.pack_context(db, protocol, no_touch=no_touch, tracker=tracker, remembers=remembers)
    code = wire.pack_code(context, command, slot)
    assert code < 2**64
    assert code & (2**SLOT_BITS - 1) == slot
    assert wire.unpack_context(code >> SLOT_BITS) == (db, no_touch, protocol, command, tracker, remembers)
    for looks in (False, True):
        part = wire.unpack_context(wire.part_context(context, 3, looks=looks) >> SLOT_BITS)
        assert part == (3, no_touch, wire.RAW, 0, tracker, remembers and looks)
