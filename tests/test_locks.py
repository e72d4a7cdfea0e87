"""The locks of one shard."""

from __future__ import annotations

from shardkv.locks import LockKey, Locks, Transaction

FIRST: Transaction = (0, 1)
SECOND: Transaction = (1, 1)
A: LockKey = (0, b"a")
B: LockKey = (0, b"b")


def lock(locks: Locks, owner: Transaction, *keys: LockKey, exclusive: bool = True) -> bool:
    return locks.lock(owner, keys, whole=False, exclusive=exclusive)


def lock_all(locks: Locks, owner: Transaction, *, exclusive: bool = True) -> bool:
    return locks.lock(owner, [], whole=True, exclusive=exclusive)


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


def test_nor_does_a_request_overtake_one_that_waits() -> None:
    locks = Locks()
    locks.enter([A], whole=False)
    assert locks.must_wait([A], whole=False, writes=False)
    assert locks.must_wait([], whole=True, writes=False)
    assert not locks.must_wait([B], whole=False, writes=True)
    assert not lock_all(locks, FIRST)
    locks.leave([A], whole=False)
    locks.enter([], whole=True)
    assert locks.must_wait([B], whole=False, writes=False)
    assert not lock(locks, FIRST, B)
    assert not lock_all(locks, FIRST)
    locks.leave([], whole=True)
    assert not locks.must_wait([A, B], whole=True, writes=True)
    assert lock_all(locks, FIRST)


def test_who_has_the_whole_shard_has_every_key() -> None:
    locks = Locks()
    assert lock_all(locks, FIRST)
    for whole, keys in ((False, [A]), (True, [])):
        assert locks.must_wait(keys, whole=whole, writes=False)
    assert locks.is_locked([A], writes=False)
    assert not lock(locks, SECOND, A, exclusive=False)
    assert not lock_all(locks, SECOND, exclusive=False)
    assert lock(locks, FIRST, A)
    locks.release(FIRST)
    assert lock(locks, SECOND, A)
    assert not lock_all(locks, FIRST)
    assert locks.must_wait([], whole=True, writes=False)


def test_or_lets_others_look_at_every_key() -> None:
    locks = Locks()
    assert lock_all(locks, FIRST, exclusive=False)
    for whole, keys in ((False, [A]), (True, [])):
        assert not locks.must_wait(keys, whole=whole, writes=False)
        assert locks.must_wait(keys, whole=whole, writes=True)
    assert not locks.is_locked([A], writes=False)
    assert locks.is_locked([A], writes=True)
    assert lock(locks, SECOND, A, exclusive=False)
    assert not lock(locks, (2, 1), B)
    assert not lock_all(locks, (2, 1))


def test_a_key_that_others_look_at_is_locked_for_who_changes_it() -> None:
    locks = Locks()
    assert lock(locks, FIRST, A, exclusive=False)
    assert not lock(locks, SECOND, A)
    assert not locks.is_locked([A], writes=False)
    assert locks.is_locked([A], writes=True)


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
    lock_all(locks, FIRST)
    lock_all(locks, FIRST)
    locks.release(FIRST)
    assert vars(locks) == vars(Locks())
