"""A shard hands out the keys of slots, takes in others, and lets nothing go that somebody still counts on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shardkv import errors
from shardkv.aof.batch import MAX_HEADER_BYTES
from shardkv.errors import CommandError
from shardkv.locks import Transaction
from shardkv.moving import Errand, drop, may_leave, send, take
from shardkv.plan import coded
from shardkv.resp.replies import raw
from shardkv.shard import Shard
from shardkv.slots import SLOTS, slot_of
from shardkv.structures.list import List
from shardkv.waiters import Waiter
from shardkv.wire import RAW, SLOT_MOVED, pack, pack_context
from tests.local import Local

OWNER: Transaction = (0, 1)
KEY, OTHER = b"key", b"other"
SLOT = [slot_of(KEY)]
assert slot_of(OTHER) not in SLOT


class Worker:
    """A worker, as far as moving slots needs one. Its log is what the test makes of it."""

    def __init__(self, shard: Shard, folder: Path, log: Any = None) -> None:
        self.shard = shard
        self.index = shard.index
        self.slot_table = [0] * SLOTS
        self.journal = SimpleNamespace(log=log, folder=folder / f"shard-{shard.index}")


@dataclass
class Log:
    """An append-only file, as far as moving slots needs one. What it has written is on disk when
    `synced` says so."""

    has_increment: bool = True
    pending_bytes: int = 0
    written: int = 10
    synced: int = 10
    fsync_error: OSError | None = None
    background: Any = None


@pytest.fixture
def local() -> Local:
    """The shard that moves slots away."""
    made = Local(1)
    made.call("SET", KEY, "value")
    made.call("SET", OTHER, "value")
    return made


@pytest.fixture
def source(local: Local, tmp_path: Path) -> Any:
    [shard] = local.shards
    return Worker(shard, tmp_path)


@pytest.fixture
def target(tmp_path: Path) -> Any:
    return Worker(Shard(1, Local(1).config), tmp_path)


def answer(errand: Errand) -> Any:
    """What an errand comes to if it can go on at once each time."""
    try:
        while True:
            assert next(errand)
    except StopIteration as stop:
        return stop.value


def claim(shard: Shard, key: bytes, *, whole: bool = False, exclusive: bool = True) -> None:
    keys = [] if whole else [(0, key)]
    granted = shard.transactions.claim(OWNER, keys, whole=whole, exclusive=exclusive, wait=None, args=[])
    assert granted


# -- handing out --------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_what_a_transaction_is_about_is_not_handed_out(
    source: Any, tmp_path: Path, *, whole: bool, exclusive: bool
) -> None:
    """It may have pledged to change the key; what it has changed elsewhere is done, or not, with this."""
    path = str(tmp_path / "moving")
    claim(source.shard, KEY, whole=whole, exclusive=exclusive)
    assert answer(send(source, SLOT, path)) is None
    source.shard.transactions.release(OWNER)
    assert answer(send(source, SLOT, path)) is not None


def test_nor_what_a_request_waits_for(source: Any, tmp_path: Path) -> None:
    """It would be carried out where nobody looks for the key any more."""
    path = str(tmp_path / "moving")
    source.shard.locks.enter([(0, KEY)], whole=False)
    assert answer(send(source, SLOT, path)) is None
    source.shard.locks.leave([(0, KEY)], whole=False)
    source.shard.locks.enter([], whole=True)
    assert answer(send(source, SLOT, path)) is None
    source.shard.locks.leave([], whole=True)
    assert answer(send(source, SLOT, path)) is not None


def test_transactions_about_other_keys_are_not_in_the_way(source: Any, tmp_path: Path) -> None:
    claim(source.shard, OTHER)
    assert answer(send(source, SLOT, str(tmp_path / "moving"))) is not None


def on_disk(folder: Path) -> None:
    """Puts something of a shard on disk."""
    (folder / "shard-0").mkdir()
    (folder / "shard-0" / "a.aof").write_bytes(b"x" * (MAX_HEADER_BYTES + 1))


def test_what_is_on_disk_has_to_keep_up(source: Any, target: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "moving")
    touched = answer(send(source, SLOT, path))
    on_disk(tmp_path)
    for log in (None, Log(has_increment=False)):
        source.journal.log = target.journal.log = log
        assert answer(send(source, SLOT, path)) is None
        assert answer(take(target, SLOT, 0, path, touched)) is None
        assert target.slot_table[SLOT[0]] == 0


# -- taking in ----------------------------------------------------------------------------------------


def moved(source: Any, target: Any, path: Path) -> Any:
    """Has the one hand the slots out, and the other take them in."""
    touched = answer(send(source, SLOT, str(path)))
    return answer(take(target, SLOT, 0, str(path), touched))


def test_what_is_handed_out_is_taken_in(source: Any, target: Any, tmp_path: Path) -> None:
    source.shard.database(0).touched_s[SLOT[0]] = 7
    source.shard.database(3)
    target.shard.database(0).touched_s[SLOT[0]] = 1
    assert moved(source, target, tmp_path / "moving") is True
    db = target.shard.database(0)
    assert db.peek(KEY) == b"value"
    assert db.peek(OTHER) is None
    assert db.touched_s[SLOT[0]] == 7
    assert target.slot_table[SLOT[0]] == 1


def test_what_an_earlier_try_has_left_is_removed(source: Any, target: Any, tmp_path: Path) -> None:
    gone = next(b"%d" % number for number in range(1_000_000) if slot_of(b"%d" % number) == SLOT[0])
    target.shard.database(0).slots[SLOT[0]][gone] = b"left"
    assert moved(source, target, tmp_path / "moving") is True
    assert set(target.shard.database(0).slots[SLOT[0]]) == {KEY}


def test_a_shard_that_cannot_write_takes_nothing_in(source: Any, target: Any, tmp_path: Path) -> None:
    target.shard.refusal = errors.log_failed("disk full")
    assert moved(source, target, tmp_path / "moving") is None
    assert target.slot_table[SLOT[0]] == 0


def test_it_counts_when_it_is_on_disk(source: Any, target: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "moving")
    touched = answer(send(source, SLOT, path))
    asked: list[Any] = []
    background = SimpleNamespace(run=asked.append)
    log = target.journal.log = Log(pending_bytes=5, synced=0, background=background)
    errand = take(target, SLOT, 0, path, touched)
    assert [next(errand) for _ in range(3)] == [True] * 3
    assert not asked
    log.pending_bytes = 0
    assert [next(errand) for _ in range(3)] == [False] * 3
    assert len(asked) == 1
    assert target.slot_table[SLOT[0]] == 0
    log.synced = log.written
    assert answer(errand) is True
    assert target.slot_table[SLOT[0]] == 1


def test_it_does_not_count_if_the_disk_fails(source: Any, target: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "moving")
    touched = answer(send(source, SLOT, path))
    log = target.journal.log = Log(synced=0, background=SimpleNamespace(run=lambda step: None))
    errand = take(target, SLOT, 0, path, touched)
    assert [next(errand), next(errand)] == [True, False]
    log.fsync_error = OSError()
    assert answer(errand) is None
    assert target.slot_table[SLOT[0]] == 0


# -- giving up ----------------------------------------------------------------------------------------


def test_who_counts_on_a_key_that_has_gone_is_told(source: Any) -> None:
    shard = source.shard
    watchers = shard.watches
    db = shard.database(0)
    watchers.watch((0, 1), db, [KEY], further=False)
    watchers.watch((0, 2), db, [OTHER], further=False)
    told: list[frozenset[int]] = []
    shard.serving.moved = shard.tracking.moved = told.append
    assert drop(source, SLOT, 1)
    assert watchers.is_touched((0, 1))
    assert not watchers.is_touched((0, 2))
    assert told == [frozenset(SLOT)] * 2
    assert db.peek(KEY) is None
    assert db.peek(OTHER) == b"value"
    assert source.slot_table[SLOT[0]] == 1


@pytest.mark.parametrize("internal", [True, False])
def test_who_waits_for_a_key_that_has_gone_asks_anew(source: Any, *, internal: bool) -> None:
    """A coordinator, of whose many shards this is one, gets an error; a client's request comes back as a
    whole."""
    serving = source.shard.serving
    link = SimpleNamespace(late=[])
    for number, key in ((1, KEY), (2, OTHER)):
        serving.newcomer = Waiter((0, number), 0, [key], List)
        serving.begin(
            SimpleNamespace(
                link=link,
                ticket=number,
                command=SimpleNamespace(internal=internal),
                encode=raw,
                args=[0, key, number],
            )
        )
    drop(source, SLOT, 1)
    [late] = link.late
    assert late.ticket == 1
    if internal:
        assert late.reply == raw(CommandError(errors.SLOT_MOVED))
    else:
        assert late.reply == SLOT_MOVED + pack([KEY, 1])
    assert len(serving.waiters) == 1


# -- shards that go -----------------------------------------------------------------------------------


def test_a_shard_that_has_a_part_in_a_transaction_does_not_leave(source: Any) -> None:
    shard = source.shard
    transactions = shard.transactions
    assert may_leave(shard)
    claim(shard, KEY)
    assert not may_leave(shard)
    transactions.pledge(OWNER, [0, 1], coded(pack_context(0, RAW), [[b"SET", KEY, b"new"]]))
    transactions.commit(OWNER, None)
    # Another one that has pledged may have to ask how it has ended.
    assert not shard.locks
    assert not may_leave(shard)
    transactions.forget([OWNER])
    assert may_leave(shard)


def test_nor_one_in_which_somebody_waits_for_data(source: Any) -> None:
    waiters = source.shard.serving.waiters
    waiter = Waiter(OWNER, 0, [KEY], List)
    waiters.enter(waiter)
    assert not may_leave(source.shard)
    waiters.leave(waiter)
    assert may_leave(source.shard)
