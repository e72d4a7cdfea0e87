"""The moment of a snapshot, brought about in shards whose processes are in the hands of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.snapshots import at_one_moment
from tests.proxy.stage import Stage, stage
from tests.proxy.test_coordinator import HERE, Process
from tests.proxy.test_moving import hold, let_go

KEEPS_ALL = 2
"""Where a PREPARE says how it locks, and what it runs under the locks."""
RUNS = 4


@pytest.fixture
def on_stage() -> Iterator[Stage]:
    with stage(workers=2) as made:
        yield made


@pytest.fixture
def shards(on_stage: Stage) -> Iterator[list[Process]]:
    made = [Process(on_stage, 0), Process(on_stage, 1)]
    yield made
    for process in made:
        process.dies()
    on_stage.turn()


def cut(on_stage: Stage) -> asyncio.Task[Any]:
    """Begins to have all shards cut."""
    task = on_stage.loop.create_task(at_one_moment(on_stage.proxy, "beginsnapshot", 7))
    on_stage.turn()
    return task


def test_no_shard_is_cut_before_all_are_locked(on_stage: Stage, shards: list[Process]) -> None:
    """Else a command over both could come between the cut of one and that of the other."""
    task = cut(on_stage)
    for process in shards:
        [request] = process.requests()
        exclusive, whole, *_ = request[KEEPS_ALL]
        assert not exclusive
        assert whole
        assert request[RUNS] == []
    shards[0].answers([])
    on_stage.turn()
    assert [process.asked() for process in shards] == [0, 0]
    shards[1].answers([])
    on_stage.turn()
    for process in shards:
        [request] = process.requests()
        [[_, number]] = request[RUNS]
        assert number == 7
        process.answers([b"\xc3"])
    on_stage.turn()
    # Only now may others change anything.
    assert [process.names() for process in shards] == [["release"], ["release"]]
    assert task.result() == [True, True]


def test_one_that_is_locked_already_has_no_shard_cut(on_stage: Stage, shards: list[Process]) -> None:
    task = cut(on_stage)
    assert [process.names() for process in shards] == [["prepare"], ["prepare"]]
    shards[0].answers([])
    shards[1].answers(None)
    on_stage.turn()
    assert [process.names() for process in shards] == [["release"], []]
    assert not task.done()
    task.cancel()


def test_it_waits_until_slots_have_moved(on_stage: Stage, shards: list[Process]) -> None:
    """Their keys would be in the files of both shards, or of none."""
    held = hold(on_stage, [HERE])
    for process in shards:
        assert process.names() == ["barrier"]
        process.answers(True)
    on_stage.turn()
    assert held.result()
    task = cut(on_stage)
    assert [process.asked() for process in shards] == [0, 0]
    let_go(on_stage, [HERE], 0)
    on_stage.turn()
    assert [process.names() for process in shards] == [["prepare"], ["prepare"]]
    task.cancel()
