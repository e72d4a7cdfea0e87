"""Death at every system call: of the process, or of the power.

A seeded run appends the numbers 0, 1, 2 … in commits of several kinds, while rewrites begin, go on, end and
are given up. It is repeated as often as it makes system calls that change the disk, and dies at each of them
in turn. What is loaded then must be a beginning of the sequence: nothing acknowledged is missing (after a
power cut: nothing that was fsynced), nothing is there twice, no transaction is there in part.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from shardkv.aof import AppendLog, Rewrite, Stage, record
from shardkv.aof.log import Policy
from shardkv.aof.manifest import read_manifest
from tests.aof.disks import Dead, Deferred, MemoryDisk
from tests.aof.logs import FOLDER, Replay, replay

STEPS = 40


class Run:
    """One seeded run, until it ends or dies. `tried`: how many numbers were appended, at the most."""

    def __init__(self, seed: int, policy: Policy, disk: MemoryDisk) -> None:
        self.choose = random.Random(seed)
        self.policy = policy
        self.disk = disk
        self.work = Deferred()
        self.tried = 0
        self.acknowledged = 0
        self.whole = {0}
        """Numbers of numbers that no transaction is cut by."""
        self.log: AppendLog | None = None
        self.rewrite: Rewrite | None = None
        self.to_write: list[int] = []
        self.positions: list[tuple[int, int]] = []
        """(bytes written, numbers in them) after each commit."""

    def go(self) -> None:
        try:
            loaded = replay(FOLDER, self.disk).result
            self.log = AppendLog.open(FOLDER, loaded, fsync=self.policy, disk=self.disk, background=self.work)
            for _ in range(STEPS):
                self._step(self.log)
            self.log.close()
        except Dead:
            pass

    def surely_synced(self) -> int:
        """How many numbers a power cut must leave."""
        if self.policy == "always":
            return self.acknowledged
        synced = self.log.synced if self.log else 0
        return max((numbers for written, numbers in self.positions if written <= synced), default=0)

    def _step(self, log: AppendLog) -> None:
        kind = self.choose.choices(["commit", "sync", "background", "rewrite"], [5, 2, 4, 4])[0]
        if kind == "commit":
            self._commit(log)
        elif kind == "sync":
            self.work.let_sync()
        elif kind == "background" and self.work.steps:
            self.work.steps.pop(0)()
        elif kind == "rewrite":
            self._go_on_rewriting(log)

    def _commit(self, log: AppendLog) -> None:
        for _ in range(self.choose.randint(1, 3)):
            kind = self.choose.choice(["plain", "plain", "transaction", "keys"])
            if kind == "plain":
                log.records.append(self._next())
                self.whole.add(self.tried)
            else:
                records = [record([b"MULTI"]), self._next(), self._next(), record([b"EXEC"])]
                self.whole.add(self.tried)
                if kind == "keys":
                    log.add_batch(records, b"txid=%d" % self.tried)
                else:
                    log.records += records
        assert log.commit()
        self.acknowledged = self.tried
        self.positions.append((log.written, self.tried))

    def _next(self) -> bytes:
        self.tried += 1
        return record([b"ADD", self.tried - 1, b"x" * 20])

    def _go_on_rewriting(self, log: AppendLog) -> None:
        rewrite = self.rewrite
        if log.rewrite is None:
            self.rewrite = log.begin_rewrite()
        elif rewrite is not None and rewrite.stage is not Stage.FINISHING and self.choose.random() < 0.1:
            rewrite.abandon()
        elif rewrite is not None and rewrite.stage is Stage.READY:
            if rewrite.start():
                self.to_write = list(range(self.tried))
        elif rewrite is not None and rewrite.takes_more:
            count = self.choose.randint(1, 10)
            if self.to_write:
                part, self.to_write = self.to_write[:count], self.to_write[count:]
                rewrite.write(b"".join(record([b"ADD", number, b"short"]) for number in part))
            else:
                rewrite.finish()


def _numbers(found: Replay) -> list[int]:
    return [int(words[1]) for words in found.records if words[0] == b"ADD"]


def _check(run: Run, disk: MemoryDisk, at_least: int) -> int:
    """Loads, and returns how many numbers are there."""
    found = _numbers(replay(FOLDER, disk))
    assert found == list(range(len(found)))
    assert at_least <= len(found) <= run.tried
    assert len(found) in run.whole
    return len(found)


def _check_going_on(disk: MemoryDisk, count: int) -> None:
    """Opens, appends a number under `always`, cuts the power, and finds it; no orphans are left."""
    loaded = replay(FOLDER, disk).result
    log = AppendLog.open(FOLDER, loaded, fsync="always", disk=disk, background=Deferred())
    manifest = read_manifest(disk, FOLDER, "appendonly.aof")
    assert manifest is not None
    assert set(disk.names(FOLDER)) == {"appendonly.aof.manifest"} | manifest.names
    log.records.append(record([b"ADD", count]))
    assert log.commit()
    found = replay(FOLDER, disk.after_power_cut(random.Random(count)), accept_torn=False)
    assert _numbers(found) == list(range(count + 1))


def _die_while_opening(run: Run, disk: MemoryDisk, count: int, choose: random.Random) -> None:
    """Repairs are no less safe: dies at each of their calls, then loads again."""
    calls = 0
    while True:
        calls += 1
        opening = disk.after_kill()
        loaded = replay(FOLDER, opening).result
        opening.dies_at = calls
        opening.torn = choose.random()
        try:
            AppendLog.open(FOLDER, loaded, fsync="always", disk=opening, background=Deferred())
        except Dead:
            assert _check(run, opening.after_kill(), count) == count
            after = opening.after_power_cut(choose)
            _check_going_on(after, _check(run, after, run.surely_synced()))
            continue
        return


def _die_at_every_call(seed: int, policy: Policy) -> int:
    """The number of deaths."""
    whole = Run(seed, policy, MemoryDisk())
    whole.go()
    assert _check(whole, whole.disk, whole.acknowledged) == whole.tried
    choose = random.Random(seed)
    for call in range(1, whole.disk.changes + 1):
        run = Run(seed, policy, MemoryDisk(dies_at=call, torn=choose.choice([0.0, 0.3, 0.6, 0.95, 1.0])))
        run.go()
        killed = run.disk.after_kill()
        count = _check(run, killed, run.acknowledged)
        if call % 5 == 0:
            _die_while_opening(run, killed, count, choose)
        _check_going_on(killed, count)
        for _ in range(3):
            cut = run.disk.after_power_cut(choose)
            count = _check(run, cut, run.surely_synced())
            if choose.random() < 0.1:
                _die_while_opening(run, cut, count, choose)
            _check_going_on(cut, count)
    return whole.disk.changes


@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
@pytest.mark.parametrize("seed", [1002, 1050, 1061])
def test_death_at_every_system_call(seed: int, policy: Policy) -> None:
    assert _die_at_every_call(seed, policy) > 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
def test_death_at_every_system_call_of_many_runs(policy: Policy) -> None:
    assert sum(_die_at_every_call(seed, policy) for seed in range(2000, 2050)) > 2_000


def test_death_at_every_call_of_a_start_over(tmp_path: Path) -> None:
    """Either the old state is there, or the new one with everything that was acknowledged since."""
    old = Run(1, "always", MemoryDisk())
    old.go()
    before = _numbers(replay(FOLDER, old.disk))
    call = 0
    finished = False
    while not finished:
        call += 1
        disk = old.disk.after_kill()
        work = Deferred()
        acknowledged = 0
        done = False
        disk.dies_at = call
        disk.torn = 0.5
        try:
            log = AppendLog.start_over(FOLDER, fsync="always", disk=disk, background=work)
            rewrite = log.begin_rewrite()
            work.work()
            assert rewrite.start()
            for number in range(1000, 1003):
                rewrite.write(record([b"ADD", number]))
            log.records.append(record([b"ADD", 1003]))
            assert log.commit()
            acknowledged = 1
            rewrite.finish()
            work.work()
            done = True
            log.records.append(record([b"ADD", 1004]))
            assert log.commit()
            acknowledged = 2
            finished = True
        except Dead:
            pass
        for after in (disk.after_kill(), disk.after_power_cut(random.Random(call))):
            found = _numbers(replay(FOLDER, after))
            if found != before or done:
                assert found == list(range(1000, 1000 + len(found)))
                assert len(found) >= 3 + acknowledged
            AppendLog.open(FOLDER, replay(FOLDER, after).result, fsync="no", disk=after, background=work)
            assert _numbers(replay(FOLDER, after, accept_torn=False)) == found
    assert call > 10
