"""The locks of one shard."""

from __future__ import annotations

from shardkv.locks import LockKey, Locks, Transaction

FIRST: Transaction = (0, 1)
SECOND: Transaction = (1, 1)
A: LockKey = (0, b"a")
B: LockKey = (0, b"b")


def lock(locks: Locks, owner: Transaction, *keys: LockKey, exclusive: bool = True) -> bool:
    return locks.lock(owner, keys, whole=False, exclusive=exclusive)


def test_a_lock_is_held_by_one_or_shared() -> None:
    locks = Locks()
    assert lock(locks, FIRST, A)
    assert not lock(locks, SECOND, A, B)
    assert lock(locks, SECOND, B)
    locks.release(FIRST)
    locks.release(SECOND)
    assert lock(locks, FIRST, A, exclusive=False)
    assert lock(locks, SECOND, A, exclusive=False)
    assert locks.must_wait([A], whole=False, writes=True)
    assert not locks.must_wait([A], whole=False, writes=False)


def test_who_waits_comes_before_who_comes_later() -> None:
    locks = Locks()
    assert lock(locks, FIRST, A)
    locks.enter([A, B], whole=False)
    assert not lock(locks, SECOND, B)
    locks.leave([A, B], whole=False)
    assert lock(locks, SECOND, B)


def test_who_holds_something_is_not_held_up_by_those_who_wait_for_it() -> None:
    """Else the two would wait for each other."""
    locks = Locks()
    assert lock(locks, FIRST, A)
    locks.enter([A, B], whole=False)
    locks.enter([], whole=True)
    assert lock(locks, FIRST, B)
    assert not lock(locks, SECOND, (0, b"c"))


def test_nothing_is_left_over() -> None:
    locks = Locks()
    lock(locks, FIRST, A)
    lock(locks, FIRST, A, B)
    lock(locks, SECOND, (0, b"c"), exclusive=False)
    locks.enter([A], whole=True)
    locks.leave([A], whole=True)
    assert locks
    assert locks.release(FIRST)
    assert locks.release(SECOND)
    assert not locks.release(SECOND)
    assert not locks
