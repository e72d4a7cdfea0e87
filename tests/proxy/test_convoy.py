"""Commands of several clients over the same shards, whose processes are in the hands of a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shardkv.errors import CommandError
from shardkv.resp.replies import OK, raw
from shardkv.slots import even_slot_table, slot_of
from shardkv.slow import SLOW
from shardkv.wire import NOTED, encode_note
from tests.proxy.stage import Stage, asks, stage
from tests.proxy.test_coordinator import Process

KEYS = [
    [key for key in map("k{}".format, range(99)) if even_slot_table(2)[slot_of(key.encode())] == shard]
    for shard in (0, 1)
]


class Shards:
    """Both of them; what they are asked is counted together, for it is always the same."""

    def __init__(self, on: Stage) -> None:
        self.on = on
        self.processes = [Process(on, 0), Process(on, 1)]

    def asked(self) -> int:
        """How many requests have come to each."""
        self.on.turn()
        counts = {process.asked() for process in self.processes}
        [count] = counts
        return count

    def answer(self, *values: object) -> None:
        for process in self.processes:
            process.answers(*values)
        self.on.turn()

    def die(self) -> None:
        for process in self.processes:
            process.dies()


@pytest.fixture
def on_stage() -> Iterator[Stage]:
    with stage(workers=2) as made:
        yield made


@pytest.fixture
def shards(on_stage: Stage) -> Iterator[Shards]:
    made = Shards(on_stage)
    yield made
    made.die()


def mset(number: int) -> str:
    return f"MSET {KEYS[0][number]} v {KEYS[1][number]} v"


def delete(number: int) -> str:
    return f"DEL {KEYS[0][number]} {KEYS[1][number]}"


def test_what_comes_together_is_one_transaction(on_stage: Stage, shards: Shards) -> None:
    clients = [on_stage.client() for _ in range(3)]
    for number, (session, _) in enumerate(clients):
        asks(session, mset(number))
    assert shards.asked() == 1
    shards.answer([])
    assert shards.asked() == 1
    assert [transport.written for _, transport in clients] == [b"", b"", b""]
    shards.answer([raw(OK)] * 3)
    assert [transport.written for _, transport in clients] == [b"+OK\r\n"] * 3
    assert on_stage.proxy.coordinator.counters.commands == 3
    assert not on_stage.proxy.coordinator.running


def test_each_gets_his_own_reply(on_stage: Stage, shards: Shards) -> None:
    (one, of_one), (other, of_other) = on_stage.client(), on_stage.client()
    asks(one, delete(0))
    asks(other, "MULTI", f"DEL {KEYS[0][1]}", f"DEL {KEYS[1][1]}", delete(0), "EXEC")
    assert shards.asked() == 1
    shards.answer([])
    assert shards.asked() == 1
    # What one has asked, what the other has asked a single shard, and his part of a command for both.
    shards.answer([raw(1), b":7\r\n", raw(2)])
    assert of_one.written == b":2\r\n"
    assert of_other.written.endswith(b"*3\r\n:7\r\n:7\r\n:4\r\n")


def test_the_next_gather_while_one_is_on_its_way(on_stage: Stage, shards: Shards) -> None:
    clients = [on_stage.client() for _ in range(3)]
    asks(clients[0][0], mset(0))
    assert shards.asked() == 1
    asks(clients[1][0], mset(1))
    asks(clients[2][0], mset(2))
    assert shards.asked() == 0
    shards.answer([])
    assert shards.asked() == 1
    shards.answer([raw(OK)])
    assert shards.asked() == 1
    shards.answer([])
    assert shards.asked() == 1
    shards.answer([raw(OK)] * 2)
    assert [transport.written for _, transport in clients] == [b"+OK\r\n"] * 3


def test_what_needs_memory_does_not_take_others_with_it(on_stage: Stage, shards: Shards) -> None:
    (one, of_one), (other, of_other) = on_stage.client(), on_stage.client()
    asks(one, mset(0))
    asks(other, delete(1))
    assert shards.asked() == 2
    shards.answer(CommandError("OOM none left"), [])
    # The one is given up on both, the other carried out.
    assert shards.asked() == 2
    shards.answer(True, [raw(1)])
    assert of_one.written == b"-OOM none left\r\n"
    assert of_other.written == b":2\r\n"


def test_nobody_departs_who_wants_a_key_that_is_travelling(on_stage: Stage, shards: Shards) -> None:
    clients = [on_stage.client() for _ in range(3)]
    asks(clients[0][0], mset(0))
    assert shards.asked() == 1
    # These would have a convoy of their own.
    asks(clients[1][0], delete(0))
    asks(clients[2][0], delete(1))
    assert shards.asked() == 0
    shards.answer([])
    # With what the first one still has to say goes the beginning of the last one, which wants other keys.
    assert shards.asked() == 2
    shards.answer([raw(OK)], [])
    assert shards.asked() == 1
    shards.answer([raw(1)])
    assert [transport.written for _, transport in clients] == [b"+OK\r\n", b"", b":2\r\n"]
    assert shards.asked() == 1
    shards.answer([])
    assert shards.asked() == 1
    shards.answer([raw(0)])
    assert clients[1][1].written == b":0\r\n"


def test_one_that_meets_locks_disbands(on_stage: Stage, shards: Shards) -> None:
    clients = [on_stage.client() for _ in range(2)]
    for number, (session, _) in enumerate(clients):
        asks(session, mset(number))
    assert shards.asked() == 1
    shards.processes[0].answers(None)
    shards.processes[1].answers([])
    on_stage.turn()
    # The one that has granted it is told to let go first.
    assert [process.asked() for process in shards.processes] == [2, 3]
    shards.processes[0].answers([], [])
    shards.processes[1].answers(True, [], [])
    assert shards.asked() == 2
    shards.answer([raw(OK)], [raw(OK)])
    assert [transport.written for _, transport in clients] == [b"+OK\r\n"] * 2
    counters = on_stage.proxy.coordinator.counters
    assert (counters.commands, counters.retries) == (2, 1)
    assert not on_stage.proxy.coordinator.running


@pytest.mark.parametrize("clients", [1, 2])
def test_what_took_long_is_logged_if_it_is_known_whose_it_is(clients: int) -> None:
    with stage(workers=2, slowlog_log_slower_than=0) as on_stage:
        shards = Shards(on_stage)
        there = [on_stage.client() for _ in range(clients)]
        for number, (session, _) in enumerate(there):
            asks(session, mset(number))
        assert shards.asked() == 1
        shards.answer([])
        assert shards.asked() == 1
        on_stage.proxy.log.entries[SLOW].clear()
        note = encode_note((False, 0, (SLOW, 1, 2000, [b"SET", b"k", b"v"])))
        for process in shards.processes:
            process.sends(raw([raw(OK)] * clients), (NOTED, note))
        on_stage.turn()
        assert [transport.written for _, transport in there] == [b"+OK\r\n"] * clients
        noted = [entry.words for entry in on_stage.proxy.log.newest(SLOW, -1) if entry.amount == 2000]
        assert noted == ([[b"SET", b"k", b"v"]] * 2 if clients == 1 else [])
        assert all(backend.up for backend in on_stage.proxy.backends)
        shards.die()


def test_if_a_shard_is_lost_all_are_told(on_stage: Stage, shards: Shards) -> None:
    clients = [on_stage.client() for _ in range(2)]
    for number, (session, _) in enumerate(clients):
        asks(session, mset(number))
    assert shards.asked() == 1
    lost = shards.processes.pop(0)
    lost.dies()
    shards.answer([])
    assert all(transport.written.startswith(b"-SHARDDOWN ") for _, transport in clients)
    # The other is told to let go.
    assert shards.asked() == 1
    assert not on_stage.proxy.coordinator.running


def test_who_watches_goes_alone(on_stage: Stage, shards: Shards) -> None:
    clients = [on_stage.client() for _ in range(2)]
    for number, (session, _) in enumerate(clients):
        asks(session, f"WATCH {KEYS[0][number]} {KEYS[1][number]}")
    assert shards.asked() == 2
    shards.answer(OK, OK)
    for number, (session, _) in enumerate(clients):
        asks(session, "MULTI", mset(number), "EXEC")
    assert shards.asked() == 2
