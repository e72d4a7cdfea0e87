"""Queues of waiting requests."""

from __future__ import annotations

from typing import Any, cast

from shardkv.structures.list import List
from shardkv.structures.stream import Stream
from shardkv.waiters import Waiter, Waiters, is_kind


class _Database:
    index = 3


DB = cast(Any, _Database())


def waiter(number: int, *keys: bytes, on_loss: bool = False) -> Waiter:
    return Waiter((0, number), 3, list(keys), List, on_loss)


def test_first_come_first_served() -> None:
    waiters = Waiters()
    first, second, third = waiter(1, b"a", b"b"), waiter(2, b"b"), waiter(3, b"b", b"a")
    for one in (first, second, third):
        waiters.enter(one)
    assert list(waiters.in_order((3, b"a"))) == [first, third]
    assert list(waiters.in_order((3, b"b"))) == [first, second, third]
    assert list(waiters.in_order((3, b"c"))) == []
    assert list(waiters.in_order((0, b"a"))) == []
    assert (len(waiters), waiters.keys) == (3, 2)


def test_they_may_leave_while_they_are_served() -> None:
    waiters = Waiters()
    some = [waiter(number, b"a") for number in range(6)]
    for one in some:
        waiters.enter(one)
    served = []
    for one in waiters.in_order((3, b"a")):
        served.append(one)
        if one not in (some[2], some[4]):
            waiters.leave(one)
        if one is some[3]:
            waiters.leave(some[5])
    assert served == some[:5]
    assert list(waiters.in_order((3, b"a"))) == [some[2], some[4]]


def test_a_change_counts_only_for_keys_that_are_waited_for() -> None:
    waiters = Waiters()
    one = waiter(1, b"a", b"b", b"a")
    waiters.enter(one)
    for key in (b"b", b"x", b"a", b"b"):
        waiters.look_at(DB, key, "lpush")
    assert list(waiters.ready) == [(3, b"b"), (3, b"a")]
    waiters.ready.clear()
    # A group that is set back is no news, as in Redis.
    waiters.look_at(DB, b"a", "xgroup-setid")
    assert not waiters.ready
    waiters.look_at(DB, b"a", "xadd")
    waiters.leave(one)
    assert not waiters.ready
    assert not waiters
    waiters.look_at(DB, b"a", "lpush")
    assert not waiters.ready


def test_all_keys_of_a_database() -> None:
    waiters = Waiters()
    waiters.enter(waiter(1, b"a", b"b"))
    waiters.enter(Waiter((0, 2), 4, [b"c"], List))
    waiters.look_at_all(3)
    assert list(waiters.ready) == [(3, b"a"), (3, b"b")]


def test_by_identity_and_by_proxy() -> None:
    waiters = Waiters()
    one, other = waiter(1, b"a"), Waiter((5, 1), 3, [b"a"], List)
    waiters.enter(one)
    waiters.enter(other)
    assert waiters.find((0, 1)) is one
    assert waiters.find((0, 2)) is None
    assert waiters.of_proxy(5) == [other]


def test_who_wants_to_know_of_a_loss() -> None:
    waiters = Waiters()
    one, other = waiter(1, b"a", on_loss=True), waiter(2, b"a")
    waiters.enter(one)
    waiters.enter(other)
    assert waiters.on_loss == {(3, b"a"): 1}
    assert one.is_for(None)
    assert one.is_for(b"text")
    assert not other.is_for(None)
    assert not other.is_for(b"text")
    assert other.is_for(List())
    waiters.leave(one)
    assert not waiters.on_loss


def test_kinds() -> None:
    found = List()
    found.push_right([b"x"], _Config())
    packed = found.pack()
    assert packed is not None
    assert is_kind(packed, List)
    assert is_kind(found, List)
    assert not is_kind(packed, Stream)
    assert not is_kind(b"x", List)


class _Config:
    list_max_listpack_size = -2
    list_compress_depth = 0
