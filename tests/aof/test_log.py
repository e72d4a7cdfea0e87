"""Appending: group commit, fsync policies, and a disk that is full, broken or slow."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import threading
from pathlib import Path

import pytest

from shardkv import clock, limits
from shardkv.aof import AppendLog, record
from tests.aof.disks import Deferred, FaultyDisk, Inline, MemoryDisk
from tests.aof.logs import FOLDER, open_log, put, refusal, replay

FIRST = "appendonly.aof.1.incr.aof"


def _set(number: int) -> list[bytes]:
    return [b"SET", b"key:%d" % number, b"value" * 5]


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


def _always(folder: Path, disk: FaultyDisk) -> AppendLog:
    log = open_log(folder, disk, fsync="always", background=Inline())
    disk.calls.clear()
    return log


# -- group commit -------------------------------------------------------------------------------


def test_a_commit_is_one_write_and_under_always_one_fsync(tmp_path: Path, disk: FaultyDisk) -> None:
    log = _always(tmp_path, disk)
    records = log.records
    for number in range(100):
        put(log, *_set(number))
    assert log.pending_bytes == sum(map(len, records))
    assert log.commit()
    assert disk.calls == ["write", "sync"]
    assert log.records is records
    assert records == []
    assert log.pending_bytes == 0
    assert log.synced == log.written > 0
    assert log.commit()
    assert disk.calls == ["write", "sync"]
    assert replay(tmp_path).records == [_set(number) for number in range(100)]


def test_more_batches_than_buffers_are_still_one_write(tmp_path: Path, disk: FaultyDisk) -> None:
    log = _always(tmp_path, disk)
    for number in range(limits.WRITE_BUFFERS):
        log.add_batch([record(_set(number))], b"txid=%d" % number)
    assert log.commit()
    assert disk.calls == ["write", "sync"]
    found = replay(tmp_path)
    assert len(found.records) == len(found.notes) == limits.WRITE_BUFFERS


def test_sizes_are_those_of_the_files(tmp_path: Path, disk: FaultyDisk) -> None:
    log = _always(tmp_path, disk)
    for number in range(3):
        put(log, *_set(number))
        assert log.commit()
        assert log.current_size == sum(path.stat().st_size for path in tmp_path.glob("*.aof"))
    assert log.close()
    again = open_log(tmp_path, background=Inline())
    assert again.current_size == log.current_size
    assert again.base_size == log.base_size == (tmp_path / "appendonly.aof.1.base.aof").stat().st_size
    again.close()


def test_folders_are_made(tmp_path: Path) -> None:
    open_log(tmp_path / "a" / "b" / "shard-0", background=Inline()).close()
    assert replay(tmp_path / "a" / "b" / "shard-0").result.manifest is not None


def test_another_name_for_the_files(tmp_path: Path) -> None:
    disk = MemoryDisk()
    log = AppendLog.open(FOLDER, replay(FOLDER, disk).result, fsync="no", filename="my.aof", disk=disk)
    log.close()
    assert {path.name for path in disk.files} == {"my.aof.manifest", "my.aof.1.base.aof", "my.aof.1.incr.aof"}


# -- a disk that is full or broken ----------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 20, 60, 100])
def test_a_full_disk_refuses_writes_until_there_is_room(
    tmp_path: Path, disk: FaultyDisk, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = _always(tmp_path, disk)
    put(log, *_set(1))
    assert log.commit()
    size = log.current_size
    disk.room = room
    put(log, *_set(2))
    put(log, *_set(3))
    for _ in range(3):
        assert not log.commit()
        assert log.error is not None
        assert log.error.errno == errno.ENOSPC
        assert log.current_size == size
        # Nothing torn is left behind, and what was acknowledged is all there.
        assert replay(tmp_path, accept_torn=False).records == [_set(1)]
        put(log, *_set(4))
    assert len(caplog.records) == 1
    disk.room = None
    assert log.commit()
    assert log.error is None
    assert log.records == []
    assert [message.levelno for message in caplog.records] == [logging.ERROR, logging.WARNING]
    assert replay(tmp_path, accept_torn=False).records == [_set(n) for n in (1, 2, 3, 4, 4, 4)]
    assert log.close()


def test_a_short_write_goes_on_where_it_ended(tmp_path: Path) -> None:
    class Halves(FaultyDisk):
        def write(self, fd: int, buffers: object) -> int:
            self.room = 37
            return super().write(fd, buffers)  # type: ignore[arg-type]

    log = open_log(tmp_path, background=Inline())
    log.close()
    disk = Halves()
    log = open_log(tmp_path, disk, background=Inline())
    for number in range(5):
        put(log, *_set(number))
    assert log.commit()
    assert disk.calls.count("write") > 5
    log.close()
    assert replay(tmp_path).records == [_set(number) for number in range(5)]


def test_what_could_not_be_cut_back_is_cut_before_the_next_append(tmp_path: Path, disk: FaultyDisk) -> None:
    log = _always(tmp_path, disk)
    put(log, *_set(1))
    assert log.commit()
    disk.room = 60
    disk.errors["truncate"] = errno.EIO
    put(log, *_set(2))
    assert not log.commit()
    disk.room = None
    assert not log.commit()
    assert log.error is not None
    assert log.error.errno == errno.EIO
    # If the process dies here, the tail is a torn one.
    assert replay(tmp_path).records == [_set(1)]
    del disk.errors["truncate"]
    assert log.commit()
    assert replay(tmp_path, accept_torn=False).records == [_set(1), _set(2)]


def test_a_write_error_refuses_writes(tmp_path: Path, disk: FaultyDisk) -> None:
    log = _always(tmp_path, disk)
    disk.errors["write"] = errno.EIO
    put(log, *_set(1))
    assert not log.commit()
    assert not log.close()
    assert replay(tmp_path, accept_torn=False).records == []


def test_a_failed_fsync_is_final(tmp_path: Path, disk: FaultyDisk) -> None:
    woken = []
    log = open_log(tmp_path, disk, fsync="always", background=Inline(), wake=lambda: woken.append(1))
    disk.errors["sync"] = errno.EIO
    put(log, *_set(1))
    assert not log.commit()
    assert log.fsync_error is not None
    assert woken
    disk.errors.clear()
    disk.calls.clear()
    put(log, *_set(2))
    assert not log.commit()
    log.set_fsync("everysec")
    assert not log.commit()
    log.set_fsync("always")
    assert not log.flush()
    assert disk.calls == []
    assert not log.close()


def test_what_an_fsync_has_lost_is_not_read_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel takes pages that it could not write for clean ones, and would show them to who reads
    next."""
    log = open_log(tmp_path, fsync="always", background=Inline())
    forgotten = []

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(
        os, "posix_fadvise", lambda fd, *how: forgotten.append(os.readlink(f"/proc/self/fd/{fd}"))
    )
    put(log, *_set(1))
    assert not log.commit()
    assert forgotten == [str(tmp_path / FIRST)]
    assert not log.close()


def test_the_real_kernel_refusing_to_write(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the first write is short, the next one
    fails."""
    log = open_log(tmp_path, fsync="always", background=Inline())
    put(log, *_set(1))
    assert log.commit()
    size = (tmp_path / FIRST).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, before[1]))
        put(log, *_set(2))
        assert not log.commit()
        assert log.error is not None
        assert log.error.errno == errno.EFBIG
        assert (tmp_path / FIRST).stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert log.commit()
    assert log.close()
    assert replay(tmp_path, accept_torn=False).records == [_set(1), _set(2)]


# -- policies -------------------------------------------------------------------------------------


def test_everysec_fsyncs_in_the_background(tmp_path: Path, disk: FaultyDisk) -> None:
    work = Deferred()
    log = open_log(tmp_path, disk, fsync="everysec", background=work)
    disk.calls.clear()
    for number in range(3):
        put(log, *_set(number))
        assert log.commit()
    assert disk.calls == ["write"] * 3
    assert log.synced == 0
    work.let_sync()
    assert disk.calls == ["write"] * 3 + ["sync"]
    assert log.synced == log.written
    assert log.fsyncs == 1
    # Nothing more is asked for until something is written.
    assert log.commit()
    assert work.sync is None
    put(log, *_set(4))
    assert log.commit()
    assert work.sync is not None
    assert log.synced < log.written


def test_no_never_fsyncs_by_itself(tmp_path: Path, disk: FaultyDisk) -> None:
    work = Deferred()
    log = open_log(tmp_path, disk, background=work)
    disk.calls.clear()
    put(log, *_set(1))
    assert log.commit()
    assert work.sync is None
    assert disk.calls == ["write"]
    assert log.flush()
    assert log.synced == log.written


def test_the_policy_can_change(tmp_path: Path, disk: FaultyDisk) -> None:
    work = Deferred()
    log = open_log(tmp_path, disk, background=work)
    put(log, *_set(1))
    assert log.commit()
    log.set_fsync("everysec")
    work.let_sync()
    assert log.synced == log.written
    log.set_fsync("no")
    put(log, *_set(2))
    assert log.commit()
    assert log.synced < log.written
    log.set_fsync("always")
    assert log.synced == log.written
    disk.calls.clear()
    put(log, *_set(3))
    assert log.commit()
    assert disk.calls == ["write", "sync"]


def test_a_failed_fsync_in_the_background_stops_the_log(tmp_path: Path, disk: FaultyDisk) -> None:
    work = Deferred()
    log = open_log(tmp_path, disk, fsync="everysec", background=work)
    put(log, *_set(1))
    assert log.commit()
    disk.errors["sync"] = errno.EIO
    work.let_sync()
    assert log.fsync_error is not None
    put(log, *_set(2))
    assert not log.commit()


def test_a_write_waits_for_a_slow_fsync_but_not_for_ever(
    tmp_path: Path, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(clock, "monotonic", lambda: now_s)
    begun, ended = threading.Event(), threading.Event()
    work = Deferred()
    log = open_log(tmp_path, disk, fsync="everysec", background=work)
    put(log, *_set(1))
    assert log.commit()

    def wait() -> None:
        begun.set()
        ended.wait()

    disk.before_sync = wait
    syncing = threading.Thread(target=work.let_sync)
    syncing.start()
    begun.wait()
    disk.calls.clear()
    put(log, *_set(2))
    for _ in range(3):
        assert log.commit()
        assert log.pending_bytes > 0
        now_s += limits.FSYNC_WAIT_S / 3 - 0.01
    assert disk.calls == []
    assert log.delayed_fsync == 0
    now_s += 0.1
    assert log.commit()
    assert disk.calls == ["write"]
    assert log.pending_bytes == 0
    assert log.delayed_fsync == 1
    # The next one waits anew, and is written as soon as the fsync has ended.
    put(log, *_set(3))
    assert log.commit()
    assert log.pending_bytes > 0
    ended.set()
    syncing.join()
    assert log.commit()
    assert log.pending_bytes == 0
    assert log.delayed_fsync == 1
    assert log.synced < log.written
    work.let_sync()
    assert log.synced == log.written
    assert log.close()


def test_the_fsync_thread(tmp_path: Path, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """With real threads and a short interval: what is written gets synced, and close ends the threads."""
    monkeypatch.setattr(limits, "FSYNC_INTERVAL_S", 0.01)
    woken = threading.Event()
    log = open_log(tmp_path, disk, fsync="everysec", wake=woken.set)
    for number in range(3):
        put(log, *_set(number))
        assert log.commit()
        while True:
            woken.clear()
            if log.synced == log.written and not log.pending_bytes:
                break
            assert woken.wait(10)
            assert log.commit()
    put(log, *_set(3))
    assert log.close()
    assert log.synced == log.written
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("aof")]
    assert replay(tmp_path).records == [_set(number) for number in range(4)]


# -- opening ----------------------------------------------------------------------------------------


def test_opening_puts_what_was_found_on_disk(tmp_path: Path, disk: FaultyDisk) -> None:
    """What a killed process had written without fsync is served from then on, so it must last."""
    open_log(tmp_path, background=Inline()).close()
    open_log(tmp_path, disk, background=Inline())
    assert disk.calls == ["sync_folder", "sync"] or disk.calls == ["sync", "sync_folder"]


def test_a_whole_log_is_opened_on_a_full_disk(tmp_path: Path, disk: FaultyDisk) -> None:
    log = open_log(tmp_path, background=Inline())
    put(log, *_set(1))
    assert log.commit()
    log.close()
    disk.room = 0
    log = open_log(tmp_path, disk, background=Inline())
    put(log, *_set(2))
    assert not log.commit()
    disk.room = None
    assert log.commit()
    log.close()
    assert replay(tmp_path).records == [_set(1), _set(2)]


def test_orphans_are_removed_and_nothing_else(tmp_path: Path) -> None:
    open_log(tmp_path, background=Inline()).close()
    kept = {path.name for path in tmp_path.iterdir()}
    others = {"appendonly.aof.1.base.rdb", "notes", "other.aof.9.incr.aof"}
    orphans = {"appendonly.aof.7.base.aof", "appendonly.aof.2.incr.aof", "temp-appendonly.aof.manifest"}
    for name in others | orphans:
        (tmp_path / name).write_bytes(b"something")
    open_log(tmp_path, background=Inline()).close()
    assert {path.name for path in tmp_path.iterdir()} == kept | others
    assert refusal(tmp_path) is None
