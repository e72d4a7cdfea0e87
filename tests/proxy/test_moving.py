"""Slots are held while they move: what a proxy asks of shards whose processes are in the hands of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.supervision import TOPICS
from shardkv import control
from shardkv.resp.replies import OK, raw
from shardkv.slots import slot_of
from tests.proxy.stage import Stage, asks, stage
from tests.proxy.test_coordinator import HERE, THERE, Process

NUMBER = 5
SOURCE, TARGET = 0, 1


def hold(on_stage: Stage, keys: list[str], number: int = NUMBER) -> asyncio.Task[bool]:
    """Begins to hold the slots of keys."""
    slots = [slot_of(key.encode()) for key in keys]
    answer = TOPICS[control.HOLD_SLOTS](on_stage.proxy, [number, slots, SOURCE, TARGET, [SOURCE, TARGET]])
    task = on_stage.loop.create_task(answer)
    on_stage.turn()
    return task


def let_go(on_stage: Stage, keys: list[str], owner: int, number: int = NUMBER) -> None:
    """Lets them go again."""
    slots = [slot_of(key.encode()) for key in keys]
    assert TOPICS[control.LET_GO_SLOTS](on_stage.proxy, [number, slots, owner, 2])
    on_stage.turn()


@pytest.fixture
def on_stage() -> Iterator[Stage]:
    # With several proxies, reads over several shards take locks.
    with stage(workers=2, proxies=2) as made:
        yield made


@pytest.fixture
def shards(on_stage: Stage) -> Iterator[list[Process]]:
    made = [Process(on_stage, 0), Process(on_stage, 1)]
    yield made
    for process in made:
        process.dies()
    on_stage.turn()


def ask(on_stage: Stage, request: str) -> Any:
    """A new client's transport, when it has asked something."""
    session, transport = on_stage.client()
    asks(session, *request.split("; "))
    on_stage.turn()
    return transport


def test_slots_are_held_when_all_that_was_sent_before_has_come(
    on_stage: Stage, shards: list[Process]
) -> None:
    ask(on_stage, f"SET {HERE} before")
    held = hold(on_stage, [HERE])
    ask(on_stage, f"SET {HERE} after")
    assert [process.names() for process in shards] == [["set"], ["barrier"]]
    shards[SOURCE].answers(OK)
    shards[TARGET].answers(True)
    on_stage.turn()
    assert not held.done()
    assert shards[SOURCE].names() == ["barrier"]
    shards[SOURCE].answers(True)
    on_stage.turn()
    assert held.result() is True
    let_go(on_stage, [HERE], TARGET)
    # What was held back goes to the new owner.
    assert shards[TARGET].names() == ["set"]
    assert shards[SOURCE].names() == []


def test_they_are_not_if_a_shard_cannot_say_so(on_stage: Stage, shards: list[Process]) -> None:
    held = hold(on_stage, [HERE])
    shards.pop(TARGET).dies()
    shards[SOURCE].answers(True)
    on_stage.turn()
    assert held.result() is False
    let_go(on_stage, [HERE], SOURCE)


def test_nor_if_they_were_let_go_meanwhile(on_stage: Stage, shards: list[Process]) -> None:
    held = hold(on_stage, [HERE])
    let_go(on_stage, [HERE], SOURCE)
    for process in shards:
        process.answers(True)
    on_stage.turn()
    assert held.result() is False


def test_what_has_travelled_with_others_and_goes_on_alone_ends_first_too(
    on_stage: Stage, shards: list[Process]
) -> None:
    ask(on_stage, f"MSET {HERE} v {THERE} v")
    assert [process.names() for process in shards] == [["prepare"], ["prepare"]]
    held = hold(on_stage, [HERE])
    # Another transaction is in the way on one of them.
    shards[SOURCE].answers(None)
    shards[TARGET].answers([])
    on_stage.turn()
    assert [process.names() for process in shards] == [["prepare"], ["release", "prepare"]]
    shards[SOURCE].answers([])
    shards[TARGET].answers(True, [])
    on_stage.turn()
    assert [process.names() for process in shards] == [["commit"], ["commit"]]
    assert not held.done()
    for process in shards:
        process.answers([raw(OK)])
    on_stage.turn()
    assert [process.names() for process in shards] == [["barrier"], ["barrier"]]
    for process in shards:
        process.answers(True)
    on_stage.turn()
    assert held.result() is True
    let_go(on_stage, [HERE], SOURCE)


def test_what_is_under_way_over_several_shards_ends_first(on_stage: Stage, shards: list[Process]) -> None:
    ask(on_stage, f"MGET {HERE} {THERE}")
    assert [process.names() for process in shards] == [["prepare"], ["prepare"]]
    held = hold(on_stage, [HERE])
    late = ask(on_stage, f"MGET {HERE} {THERE}")
    assert [process.names() for process in shards] == [[], []]
    for process in shards:
        process.answers([raw([b"v"])])
    on_stage.turn()
    assert [process.names() for process in shards] == [["release", "barrier"]] * 2
    for process in shards:
        process.answers(True, True)
    on_stage.turn()
    assert held.result() is True
    # What has begun later waits until the slots are let go.
    assert [process.names() for process in shards] == [[], []]
    let_go(on_stage, [HERE], SOURCE)
    assert [process.names() for process in shards] == [["prepare"], ["prepare"]]
    assert late.written == b""


def test_slots_that_were_let_go_before_that_are_not_held(on_stage: Stage, shards: list[Process]) -> None:
    ask(on_stage, f"MGET {HERE} {THERE}")
    held = hold(on_stage, [HERE])
    let_go(on_stage, [HERE], SOURCE)
    assert held.result() is False
    assert [process.names() for process in shards] == [["prepare"], ["prepare"]]
    for process in shards:
        process.answers([raw([b"v"])])
    on_stage.turn()
    ask(on_stage, f"SET {HERE} v")
    assert [process.names() for process in shards] == [["release"], ["release"]]
    shards[SOURCE].answers(True)
    on_stage.turn()
    assert shards[SOURCE].names() == ["set"]


def test_one_move_at_a_time(on_stage: Stage, shards: list[Process]) -> None:
    hold(on_stage, [HERE])
    other = hold(on_stage, [THERE], number=NUMBER + 1)
    assert other.result() is False
    # To let go what was never held changes nothing for what is.
    let_go(on_stage, [THERE], TARGET, number=NUMBER + 1)
    for process in shards:
        assert process.names() == ["barrier"]
        process.answers(True)
    ask(on_stage, f"SET {HERE} v")
    assert shards[SOURCE].names() == []
    let_go(on_stage, [HERE], SOURCE)
    assert shards[SOURCE].names() == ["set"]


def test_what_was_idle_goes_on_before_the_slots_are_held_or_after_that(
    on_stage: Stage, shards: list[Process]
) -> None:
    idle: Any = object()
    ask(on_stage, f"MGET {HERE} {THERE}")
    held = hold(on_stage, [HERE])
    move = on_stage.proxy.move
    assert move is not None
    # There is something else to wait for, so it may as well.
    assert move.work_begins(idle)
    assert [process.names() for process in shards] == [["prepare"], ["prepare"]]
    for process in shards:
        process.answers([raw([b"v"])])
    on_stage.turn()
    assert [process.names() for process in shards] == [["release"], ["release"]]
    move.work_ends(idle)
    for process in shards:
        process.answers(True)
    on_stage.turn()
    assert [process.names() for process in shards] == [["barrier"], ["barrier"]]
    assert not move.work_begins(idle)
    done: list[bool] = []
    move.afterwards(lambda: done.append(True))
    for process in shards:
        process.answers(True)
    on_stage.turn()
    assert held.result() is True
    assert not done
    let_go(on_stage, [HERE], TARGET)
    assert done == [True]


def test_a_transaction_that_watches_what_moves_waits(on_stage: Stage, shards: list[Process]) -> None:
    session, _ = on_stage.client()
    asks(session, f"WATCH {HERE}")
    on_stage.turn()
    assert shards[SOURCE].names() == ["keepwatch"]
    shards[SOURCE].answers(b"OK")
    on_stage.turn()
    hold(on_stage, [HERE])
    for process in shards:
        assert process.names() == ["barrier"]
        process.answers(True)
    asks(session, "MULTI", f"SET {THERE} v", "EXEC")
    on_stage.turn()
    assert [process.names() for process in shards] == [[], []]
    let_go(on_stage, [HERE], SOURCE)
    assert [process.names() for process in shards] == [["prepare"], ["prepare"]]
