"""The rewrite: what it leaves, what it does while it runs, and when it fails."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from shardkv import limits
from shardkv.aof import AppendLog, Rewrite, Stage, record
from shardkv.aof.manifest import read_manifest
from tests.aof.disks import Deferred, FaultyDisk, Inline
from tests.aof.logs import open_log, put, replay


def _set(number: int) -> list[bytes]:
    return [b"SET", b"key:%d" % number, b"value"]


def _is(rewrite: Rewrite, stage: Stage) -> bool:
    return rewrite.stage is stage


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _files(base: int, *increments: int) -> set[str]:
    names = {f"appendonly.aof.{seq}.incr.aof" for seq in increments}
    return names | {f"appendonly.aof.{base}.base.aof", "appendonly.aof.manifest"}


def _log(folder: Path, disk: FaultyDisk, work: Deferred, records: int = 3) -> AppendLog:
    log = open_log(folder, disk, fsync="always", background=work)
    for number in range(records):
        put(log, *_set(number))
        assert log.commit()
    return log


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def work() -> Deferred:
    return Deferred()


def test_a_rewrite_replaces_everything_before_it(tmp_path: Path, disk: FaultyDisk, work: Deferred) -> None:
    log = _log(tmp_path, disk, work)
    old_size = log.current_size
    rewrite = log.begin_rewrite()
    assert log.rewrite is rewrite
    assert _is(rewrite, Stage.PREPARING)
    assert not rewrite.start()
    put(log, *_set(10))
    assert log.commit()
    work.work()
    assert _is(rewrite, Stage.READY)
    put(log, *_set(11))
    assert rewrite.start()
    assert log.records == []
    assert rewrite.takes_more
    put(log, *_set(12))
    assert log.commit()
    for number in (0, 1, 2, 10, 11):
        rewrite.write(record(_set(number)))
    assert rewrite.backlog_bytes > 0
    put(log, *_set(13))
    assert log.commit()
    rewrite.finish()
    assert _is(rewrite, Stage.FINISHING)
    put(log, *_set(14))
    assert log.commit()
    assert log.current_size > old_size
    work.work()
    assert _is(rewrite, Stage.DONE)
    assert rewrite.backlog_bytes == 0
    assert log.rewrite is None
    assert (log.rewrites, log.rewrite_failures, log.last_rewrite_ok) == (1, 0, True)
    assert log.last_rewrite_s >= 0
    assert _names(tmp_path) == _files(2, 2)
    assert log.current_size == log.base_size == sum(path.stat().st_size for path in tmp_path.glob("*.aof"))
    put(log, *_set(15))
    assert log.commit()
    log.close()
    expected = [_set(number) for number in (0, 1, 2, 10, 11, 12, 13, 14, 15)]
    assert replay(tmp_path, accept_torn=False).records == expected


def test_no_step_waits_for_the_disk_in_the_workers_thread(
    tmp_path: Path, disk: FaultyDisk, work: Deferred
) -> None:
    log = open_log(tmp_path, disk, fsync="everysec", background=work)
    put(log, *_set(1))
    assert log.commit()
    disk.calls.clear()
    rewrite = log.begin_rewrite()
    assert disk.calls == []
    work.work()
    disk.calls.clear()
    assert rewrite.start()
    rewrite.write(record(_set(1)))
    rewrite.finish()
    assert disk.calls == []
    work.work()
    log.close()


def test_two_rewrites_at_once_are_refused(tmp_path: Path, disk: FaultyDisk, work: Deferred) -> None:
    log = _log(tmp_path, disk, work)
    log.begin_rewrite()
    with pytest.raises(RuntimeError):
        log.begin_rewrite()


def test_rewrites_follow_each_other(tmp_path: Path, disk: FaultyDisk) -> None:
    log = _log(tmp_path, disk, Inline(), records=1)
    for number in range(1, 5):
        rewrite = log.begin_rewrite()
        assert rewrite.start()
        for written in range(number):
            rewrite.write(record(_set(written)))
        put(log, *_set(number))
        assert log.commit()
        rewrite.finish()
        assert rewrite.stage is Stage.DONE
        assert replay(tmp_path, accept_torn=False).records == [_set(n) for n in range(number + 1)]
    assert _names(tmp_path) == _files(5, 5)
    log.close()


def test_a_large_base_is_fsynced_on_the_way_and_bounded(
    tmp_path: Path, disk: FaultyDisk, work: Deferred
) -> None:
    log = _log(tmp_path, disk, work)
    rewrite = log.begin_rewrite()
    work.work()
    assert rewrite.start()
    work.work()
    large = record([b"SET", b"large", b"x" * 1_000_000])
    given = 0
    while rewrite.takes_more:
        rewrite.write(large)
        given += 1
    assert limits.REWRITE_BACKLOG_BYTES <= rewrite.backlog_bytes < limits.REWRITE_BACKLOG_BYTES + len(large)
    disk.calls.clear()
    work.work()
    assert rewrite.takes_more
    assert disk.calls.count("write") == given
    assert disk.calls.count("sync") == limits.REWRITE_BACKLOG_BYTES // limits.REWRITE_FSYNC_BYTES
    rewrite.finish()
    work.work()
    assert replay(tmp_path).records == [[b"SET", b"large", b"x" * 1_000_000]] * given
    log.close()


# -- giving up and failing ----------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["preparing", "ready", "started", "settled", "written", "finishing"])
def test_a_rewrite_can_be_abandoned_at_every_stage(
    tmp_path: Path, disk: FaultyDisk, work: Deferred, stage: str
) -> None:
    log = _log(tmp_path, disk, work)
    rewrite = log.begin_rewrite()
    expected = [_set(number) for number in range(3)]
    if stage != "preparing":
        work.work()
    if stage not in ("preparing", "ready"):
        assert rewrite.start()
    if stage not in ("preparing", "ready", "started"):
        work.work()
    if stage in ("written", "finishing"):
        rewrite.write(record(_set(1)))
        work.work()
    if stage == "finishing":
        rewrite.finish()
    put(log, *_set(3))
    assert log.commit()
    rewrite.abandon()
    rewrite.abandon()
    assert not rewrite.start()
    assert not rewrite.takes_more
    work.work()
    assert rewrite.stage is Stage.FAILED
    assert rewrite.error is None
    assert log.rewrite is None
    assert (log.rewrite_failures, log.last_rewrite_ok) == (0, True)
    put(log, *_set(4))
    assert log.commit()
    expected += [_set(3), _set(4)]
    assert replay(tmp_path, accept_torn=False).records == expected
    switched = stage not in ("preparing", "ready")
    assert _names(tmp_path) == (_files(1, 1, 2) if switched else _files(1, 1))
    # The next one works, and leaves nothing of this.
    rewrite = log.begin_rewrite()
    work.work()
    assert rewrite.start()
    rewrite.write(b"".join(map(record, expected)))
    rewrite.finish()
    work.work()
    assert rewrite.stage is Stage.DONE
    assert replay(tmp_path, accept_torn=False).records == expected
    assert _names(tmp_path) == (_files(2, 3) if switched else _files(2, 2))
    log.close()


@pytest.mark.parametrize("call", ["create", "write", "rename", "sync", "sync_folder"])
@pytest.mark.parametrize("stage", ["prepare", "settle", "write", "finish"])
def test_a_rewrite_that_fails_leaves_the_log_whole(
    tmp_path: Path, disk: FaultyDisk, work: Deferred, stage: str, call: str
) -> None:
    log = _log(tmp_path, disk, work)
    rewrite = log.begin_rewrite()
    steps = ["prepare", "settle", "write", "finish"]
    for step in steps[: steps.index(stage) + 1]:
        if step == "settle":
            assert rewrite.start()
        elif step == "write":
            rewrite.write(record([b"SET", b"large", b"x" * limits.REWRITE_FSYNC_BYTES]))
        elif step == "finish":
            rewrite.finish()
        if step == stage:
            disk.errors[call] = errno.EIO
            disk.calls.clear()
        work.work()
    happened = call in disk.calls
    disk.errors.clear()
    if not happened:
        assert rewrite.stage is not Stage.FAILED
        log.close()
        return
    assert rewrite.stage is Stage.FAILED
    assert isinstance(rewrite.error, OSError)
    assert log.rewrite is None
    assert (log.rewrite_failures, log.last_rewrite_ok) == (1, False)
    # A failed fsync of what holds acknowledged writes, or of the folder once the manifest was renamed, is
    # final.
    final = log.fsync_error is not None
    assert final == (
        (stage, call) in {("settle", "sync"), ("settle", "sync_folder"), ("finish", "sync_folder")}
    )
    if not final:
        put(log, *_set(3))
        assert log.commit()
    log.close()
    found = replay(tmp_path, accept_torn=False).records
    if final and stage == "finish":
        assert found == [[b"SET", b"large", b"x" * limits.REWRITE_FSYNC_BYTES]]
    else:
        assert found == [_set(number) for number in range(3 if final else 4)]
    log = open_log(tmp_path, background=Inline())
    manifest = read_manifest(disk, tmp_path, "appendonly.aof")
    assert manifest is not None
    assert _names(tmp_path) == {"appendonly.aof.manifest"} | manifest.names
    log.close()


def test_a_full_disk_when_the_cut_is_taken(tmp_path: Path, disk: FaultyDisk, work: Deferred) -> None:
    log = _log(tmp_path, disk, work)
    rewrite = log.begin_rewrite()
    work.work()
    disk.room = 10
    put(log, *_set(3))
    assert not rewrite.start()
    assert rewrite.stage is Stage.READY
    disk.room = None
    assert rewrite.start()
    rewrite.write(b"".join(record(_set(number)) for number in range(4)))
    rewrite.finish()
    work.work()
    assert replay(tmp_path).records == [_set(number) for number in range(4)]
    log.close()


def test_nothing_is_rewritten_after_a_failed_fsync(tmp_path: Path, disk: FaultyDisk, work: Deferred) -> None:
    log = _log(tmp_path, disk, work)
    disk.errors["sync"] = errno.EIO
    put(log, *_set(3))
    assert not log.commit()
    disk.errors.clear()
    disk.calls.clear()
    rewrite = log.begin_rewrite()
    work.work()
    assert rewrite.stage is Stage.FAILED
    assert rewrite.error is log.fsync_error
    assert disk.calls == []
    log.close()


# -- starting over --------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [False, True])
def test_starting_over_counts_only_when_it_is_done(tmp_path: Path, work: Deferred, before: bool) -> None:
    old: list[list[bytes]] = []
    if before:
        log = open_log(tmp_path, background=Inline())
        put(log, *_set(1))
        log.close()
        old = [_set(1)]
    log = AppendLog.start_over(tmp_path, fsync="always", background=work)
    rewrite = log.begin_rewrite()
    put(log, *_set(5))
    assert log.commit()
    work.work()
    assert rewrite.start()
    put(log, *_set(7))
    assert log.commit()
    rewrite.write(record(_set(6)))
    work.work()
    assert replay(tmp_path).records == old
    rewrite.finish()
    work.work()
    assert rewrite.stage is Stage.DONE
    assert replay(tmp_path, accept_torn=False).records == [_set(6), _set(7)]
    assert _names(tmp_path) == _files(2, 2)
    log.close()


def test_starting_over_can_be_abandoned(tmp_path: Path, work: Deferred) -> None:
    log = open_log(tmp_path, background=Inline())
    put(log, *_set(1))
    log.close()
    log = AppendLog.start_over(tmp_path, fsync="always", background=work)
    rewrite = log.begin_rewrite()
    work.work()
    assert rewrite.start()
    put(log, *_set(7))
    assert log.commit()
    log.close()
    assert replay(tmp_path).records == [_set(1)]
    open_log(tmp_path, background=Inline()).close()
    assert _names(tmp_path) == _files(1, 1)


# -- with threads ---------------------------------------------------------------------------------


def test_a_rewrite_with_real_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FSYNC_INTERVAL_S", 0.001)
    woken = threading.Event()
    log = open_log(tmp_path, fsync="everysec", wake=woken.set)
    state: dict[int, None] = {}
    number = 0

    def commit() -> None:
        nonlocal number
        state[number] = None
        put(log, *_set(number))
        number += 1
        assert log.commit()

    def wait(rewrite: Rewrite, stage: Stage) -> None:
        while rewrite.stage is not stage:
            assert rewrite.stage is not Stage.FAILED, rewrite.error
            commit()
            woken.clear()
            if rewrite.stage is not stage:
                assert woken.wait(10)

    for _ in range(5):
        rewrite = log.begin_rewrite()
        wait(rewrite, Stage.READY)
        assert rewrite.start()
        for key in list(state):
            commit()
            rewrite.write(record(_set(key)))
        rewrite.finish()
        wait(rewrite, Stage.DONE)
    assert log.rewrites == 5
    assert log.close()
    assert replay(tmp_path, accept_torn=False).records == [_set(n) for n in range(number)]
    assert _names(tmp_path) == _files(6, 6)
