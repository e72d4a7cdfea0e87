"""The side log: what a shard has pledged is there after any death, and nothing else is."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import Any

import pytest

from shardkv import limits
from shardkv.aof import AofDamaged
from shardkv.aof.side_log import SideLog
from tests.aof.disks import Dead, FaultyDisk, MemoryDisk
from tests.aof.logs import FOLDER

Notes = list[list[Any]]


class Pledges:
    """What notes say, as transactions keep it: each is a pledge until it is given up."""

    def __init__(self) -> None:
        self.open: list[int] = []

    def recall(self, note: list[Any]) -> None:
        what, number = note[:2]
        if what == "pledge":
            self.open.append(number)
        elif number in self.open:
            self.open.remove(number)

    def to_keep(self) -> Notes:
        return [["pledge", number, b"x" * 50] for number in self.open]


def pledge(number: int) -> list[Any]:
    return ["pledge", number, b"x" * 50]


def give_up(number: int) -> list[Any]:
    return ["give up", number]


def opened(disk: MemoryDisk) -> tuple[SideLog, Pledges]:
    """The log as the next process finds it."""
    pledges = Pledges()
    log = SideLog(FOLDER, pledges.to_keep, disk)
    log.load(pledges.recall)
    return log, pledges


def note(log: SideLog, pledges: Pledges, *notes: list[Any]) -> bool:
    """Notes something, on disk."""
    for one in notes:
        pledges.recall(one)
        log.notes.append(one)
    written = log.write()
    if written:
        log.sync()
    return written


def found(disk: MemoryDisk) -> list[int]:
    return opened(disk)[1].open


def file_of(disk: MemoryDisk) -> Any:
    [(path, content)] = disk.files.items()
    return path, content


def test_what_was_noted_is_found() -> None:
    disk = MemoryDisk()
    log, pledges = opened(disk)
    assert not disk.files
    assert note(log, pledges, pledge(1), pledge(2))
    assert note(log, pledges, give_up(1), pledge(3))
    assert found(disk.after_kill()) == [2, 3]
    log, pledges = opened(disk.after_kill())
    assert note(log, pledges, give_up(2), pledge(4))
    assert found(log.disk) == [3, 4]  # type: ignore[arg-type]


def test_only_a_pledge_is_urgent() -> None:
    log, _ = opened(MemoryDisk())
    assert not log.is_urgent
    log.notes.append(give_up(1))
    assert not log.is_urgent
    log.notes.append(pledge(1))
    assert log.is_urgent
    log.notes[:] = [give_up(1)] * (limits.SIDE_LOG_NOTES + 1)
    assert log.is_urgent


def test_torn_at_every_byte() -> None:
    disk = MemoryDisk()
    log, pledges = opened(disk)
    ends = {}
    for number in range(4):
        note(log, pledges, pledge(number))
        ends[len(file_of(disk)[1].data)] = list(pledges.open)
    path, content = file_of(disk)
    whole = content.data
    for size in range(len(whole) + 1):
        torn = disk.after_kill()
        torn.files[path].data = whole[:size]
        expected = next((ends[end] for end in sorted(ends, reverse=True) if end <= size), [])
        assert found(torn) == expected, size
        # What is noted after that is found as well.
        log, pledges = opened(torn)
        note(log, pledges, pledge(9))
        assert found(torn.after_kill()) == [*expected, 9]


def test_every_flipped_bit_is_found_and_named() -> None:
    disk = MemoryDisk()
    log, pledges = opened(disk)
    for number in range(3):
        note(log, pledges, pledge(number))
    path, content = file_of(disk)
    whole = content.data
    for bit in range(8 * len(whole)):
        damaged = disk.after_kill()
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        damaged.files[path].data = bytes(data)
        refusal = load_damaged(damaged)[1]
        assert refusal is not None, bit
        assert refusal.path == path
        assert refusal.offset <= bit // 8


def test_a_torn_end_is_refused_if_the_settings_want_that() -> None:
    disk = MemoryDisk()
    log, pledges = opened(disk)
    for number in range(3):
        note(log, pledges, pledge(number))
    _, content = file_of(disk)
    content.data = content.data[:-5]
    with pytest.raises(AofDamaged, match="aof-load-truncated"):
        SideLog(FOLDER, pledges.to_keep, disk).load(lambda note: None, accept_torn=False)
    assert found(disk) == [0, 1]
    assert content.data.endswith(b"\n")


def test_zeros_hide_no_damage() -> None:
    disk = MemoryDisk()
    log, pledges = opened(disk)
    for number in range(3):
        note(log, pledges, pledge(number))
    path, content = file_of(disk)
    whole = content.data
    for place in range(100, len(whole) - 100):
        damaged = disk.after_kill()
        damaged.files[path].data = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] + bytes(50)
        assert load_damaged(damaged)[1] is not None, place


def load_damaged(disk: MemoryDisk) -> tuple[list[int], AofDamaged | None]:
    """The pledges found, or why none are."""
    try:
        return found(disk), None
    except AofDamaged as error:
        return [], error


def rotate(disk: MemoryDisk, rounds: int, acknowledged: Callable[[list[int]], None]) -> None:
    """Notes so much that the log goes on in new files."""
    log, pledges = opened(disk)
    for number in range(rounds):
        if len(pledges.open) > 3:
            note(log, pledges, give_up(pledges.open[0]))
        note(log, pledges, pledge(number))
        acknowledged(list(pledges.open))


def test_death_at_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDE_LOG_BYTES", 400)
    calm = MemoryDisk()
    rotate(calm, 12, lambda pledges: None)
    assert max(map(int, (path.name.split(".")[1] for path in calm.files))) > 2
    for dies_at in range(1, calm.changes + 1):
        for torn in (0.0, 0.5, 1.0):
            disk = MemoryDisk(dies_at=dies_at, torn=torn)
            known: list[list[int]] = [[]]
            with pytest.raises(Dead):
                rotate(disk, 12, known.append)
            choose = random.Random(dies_at)
            for left in (disk.after_kill(), disk.after_power_cut(choose), disk.after_power_cut(choose)):
                log, pledges = opened(left)
                # What was under way may be there, or a part of it: a pledge, or one that was given up.
                assert set(known[-1]) - set(pledges.open) <= set(known[-1][:1]), (dies_at, torn)
                assert set(pledges.open) - set(known[-1]) <= {max(known[-1], default=-1) + 1}, (dies_at, torn)
                note(log, pledges, pledge(99))
                assert found(left.after_kill()) == pledges.open


def test_a_full_disk_loses_nothing(tmp_path: Any) -> None:
    disk = FaultyDisk()
    pledges = Pledges()
    log = SideLog(tmp_path, pledges.to_keep, disk)
    log.load(pledges.recall)
    assert note(log, pledges, pledge(1))
    disk.room = 30
    assert not note(log, pledges, pledge(2))
    assert log.error is not None
    assert log.error.errno == errno.ENOSPC
    assert not note(log, pledges, pledge(3))
    assert [noted[1] for noted in log.notes] == [2, 3]
    disk.room = None
    assert log.write()
    assert log.error is None
    again = Pledges()
    SideLog(tmp_path, again.to_keep).load(again.recall)
    assert again.open == [1, 2, 3]


def test_a_full_disk_while_a_new_file_is_begun(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SIDE_LOG_BYTES", 100)
    disk = FaultyDisk()
    pledges = Pledges()
    log = SideLog(tmp_path, pledges.to_keep, disk)
    assert note(log, pledges, pledge(1))
    disk.room = 70
    assert not note(log, pledges, pledge(2))
    disk.room = None
    assert log.write()
    log.sync()
    again = Pledges()
    SideLog(tmp_path, again.to_keep).load(again.recall)
    assert again.open == [1, 2]


def test_begun_anew_it_keeps_what_matters() -> None:
    disk = MemoryDisk()
    log, pledges = opened(disk)
    note(log, pledges, pledge(1), pledge(2), give_up(1))
    log = SideLog(FOLDER, pledges.to_keep, disk)
    log.begin_anew()
    assert found(disk.after_kill()) == [2]
    nothing = SideLog(FOLDER, Pledges().to_keep, disk)
    nothing.begin_anew()
    assert not disk.files


@pytest.mark.parametrize("call", ["sync", "remove", "sync_folder"])
def test_a_new_file_that_may_not_be_the_one_that_counts_is_the_end(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """What the next process would find is not known then, so nothing is written any more as if it were."""
    disk = FaultyDisk()
    pledges = Pledges()
    log = SideLog(tmp_path, pledges.to_keep, disk)
    failures: list[OSError] = []
    log.fsync_failed = lambda error, path: failures.append(error)
    assert note(log, pledges, pledge(1))
    if call == "sync":
        log.notes.append(pledge(2))
        assert log.write()
        disk.errors[call] = errno.EIO
        with pytest.raises(OSError):
            log.sync()
    else:
        monkeypatch.setattr(limits, "SIDE_LOG_BYTES", 100)
        disk.errors[call] = errno.EIO
        assert not note(log, pledges, pledge(2))
    assert [error.errno for error in failures] == [errno.EIO]
    again = Pledges()
    SideLog(tmp_path, again.to_keep).load(again.recall)
    assert again.open[:1] == [1]
