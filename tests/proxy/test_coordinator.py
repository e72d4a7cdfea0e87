"""Commands over several shards whose processes are in the hands of a test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from shardkv.command import BY_ID
from shardkv.resp.replies import raw
from shardkv.slots import SLOT_BITS, even_slot_table, slot_of
from shardkv.wire import Batch, FrameReader, FrameWriter, decode_batch, unpack_context
from tests.proxy.stage import Stage, asks, stage

HERE, THERE = (
    next(key for key in map("k{}".format, range(99)) if even_slot_table(2)[slot_of(key.encode())] == shard)
    for shard in (0, 1)
)


class Process:
    """A shard's process, which answers what it is told to."""

    def __init__(self, on: Stage, shard: int) -> None:
        from_proxy, to_process = os.pipe()
        from_process, to_proxy = os.pipe()
        on.proxy.backends[shard].attach(from_process, to_process)
        os.set_blocking(from_proxy, False)
        self._fds = (from_proxy, to_proxy)
        self._reader, self._writer = FrameReader(from_proxy), FrameWriter(to_proxy)
        # The proxy greets each process, and tells it what its clients have subscribed to.
        for _ in range(self.asked()):
            self.answers(True)

    def asked(self) -> int:
        """How many requests have come."""
        return len(self.requests())

    def requests(self) -> Batch:
        """The requests that have come."""
        return [request for frame in self._reader.receive() for request in decode_batch(frame)]

    def names(self) -> list[str]:
        """The commands that have come."""
        return [_name(request) for request in self.requests()]

    def answers(self, *values: object) -> None:
        self._writer.send(([raw(value) for value in values], ()))

    def sends(self, reply: bytes, *late: tuple[int, bytes]) -> None:
        """One encoded reply, and with it what comes late or beside."""
        self._writer.send(([reply], late))

    def dies(self) -> None:
        for fd in self._fds:
            os.close(fd)


def _name(request: list[Any]) -> str:
    return BY_ID[unpack_context(request[0] >> SLOT_BITS).command_id].name


@pytest.fixture
def on_stage() -> Iterator[Stage]:
    # With several proxies, reads over several shards take locks.
    with stage(workers=2, proxies=2) as made:
        yield made


def test_what_is_seen_of_several_shards_is_of_one_moment(on_stage: Stage) -> None:
    one, other = Process(on_stage, 0), Process(on_stage, 1)
    session, transport = on_stage.client()
    asks(session, f"MGET {HERE} {THERE}")
    on_stage.turn()
    assert one.asked() == other.asked() == 1
    one.answers([raw([b"1"])])
    on_stage.turn()
    # With it go its locks: the other may see what has come after that.
    one.dies()
    other.answers([raw([b"2"])])
    on_stage.turn()
    assert transport.written.startswith(b"-SHARDDOWN ")
    other.dies()


def test_and_counts_if_nobody_dies(on_stage: Stage) -> None:
    one, other = Process(on_stage, 0), Process(on_stage, 1)
    session, transport = on_stage.client()
    asks(session, f"MGET {HERE} {THERE}")
    on_stage.turn()
    one.answers([raw([b"1"])])
    other.answers([raw([b"2"])])
    on_stage.turn()
    assert transport.written == b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n"
    one.dies()
    other.dies()


@pytest.fixture
def alone() -> Iterator[Stage]:
    """A single proxy, for which the order in the pipes is enough for mere looks."""
    with stage(workers=2, proxies=1) as made:
        yield made


def test_looks_take_locks_while_another_locks_keys_as_it_goes_on(alone: Stage) -> None:
    processes = [Process(alone, 0), Process(alone, 1)]
    coordinator = alone.proxy.coordinator
    assert not coordinator.lock_reads
    session, transport = alone.client()
    asks(session, f"SORT {HERE} BY {THERE}*")
    alone.turn()
    assert coordinator.lock_reads
    for process in processes:
        process.dies()
    alone.turn()
    assert transport.written.startswith(b"-SHARDDOWN ")
    assert not coordinator.lock_reads
    assert not coordinator.running


def test_who_locks_keys_as_he_goes_on_lets_looks_without_locks_end_first(alone: Stage) -> None:
    """One may have seen one shard, and wait for a key on another that he would take before it."""
    processes = [Process(alone, 0), Process(alone, 1)]
    looker, seen = alone.client()
    asks(looker, f"MGET {HERE} {THERE}")
    explorer, _ = alone.client()
    asks(explorer, f"SORT {HERE} BY {THERE}*")
    late, _ = alone.client()
    asks(late, f"MGET {HERE} {THERE}")
    alone.turn()
    # The late one takes locks already.
    assert [process.names() for process in processes] == [["mget", "prepare"], ["mget", "prepare"]]
    processes[0].answers([b"1"], [raw([b"1"])])
    alone.turn()
    assert processes[0].names() == []
    processes[1].answers([b"2"], [raw([b"2"])])
    alone.turn()
    assert seen.written == b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n"
    assert "prepare" in processes[0].names()
    for process in processes:
        process.dies()
    alone.turn()
    assert not alone.proxy.coordinator.running


@pytest.mark.parametrize(("look", "waits"), [("MGET {} {}", False), ("SORT_RO {} BY {}*", True)])
def test_what_follows_a_look_waits_if_that_takes_locks(alone: Stage, look: str, *, waits: bool) -> None:
    """Else it could change what the look has still to see."""
    processes = [Process(alone, 0), Process(alone, 1)]
    session, _ = alone.client()
    asks(session, look.format(HERE, THERE), f"SET {HERE} v")
    alone.turn()
    names = [name for process in processes for name in process.names()]
    assert ("set" in names) is not waits
    assert ("prepare" in names) is waits
    for process in processes:
        process.dies()
    alone.turn()


def test_a_shard_that_is_there_no_more_is_told_nothing(alone: Stage) -> None:
    processes = [Process(alone, 0), Process(alone, 1)]
    coordinator = alone.proxy.coordinator
    coordinator.forget_later((0, 1), [0, 1])
    coordinator.drop_shard(1)
    coordinator._forget()
    alone.turn()
    assert [process.names() for process in processes] == [["forget"], []]
    for process in processes:
        process.dies()
    alone.turn()
