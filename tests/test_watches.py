"""Watched keys: who is told that one was touched."""

from __future__ import annotations

import pytest

from tests.local import Local

ME = (0, 1)
OTHER = (1, 1)


@pytest.fixture
def local() -> Local:
    return Local(1)


def watch(local: Local, *keys: bytes, who: tuple[int, int] = ME, db: int = 0, further: bool = False) -> None:
    [shard] = local.shards
    shard.watches.watch(who, shard.database(db), keys, further=further)


def is_touched(local: Local, who: tuple[int, int] = ME) -> bool:
    return local.shards[0].watches.is_touched(who)


def test_a_change_touches_those_who_watch_the_key(local: Local) -> None:
    watch(local, b"a", b"b")
    watch(local, b"c", who=OTHER)
    local.call("SET", "x", 1)
    local.call("GET", "a")
    local.call("DEL", "a")
    assert not is_touched(local)
    local.call("SET", "b", 1)
    assert is_touched(local)
    assert not is_touched(local, OTHER)


def test_a_key_of_another_database_is_another_key(local: Local) -> None:
    watch(local, b"a", db=1)
    local.call("SET", "a", 1)
    assert not is_touched(local)
    local.db = 1
    local.call("SET", "a", 1)
    assert is_touched(local)


def test_expiry_touches_only_what_had_not_expired_before(local: Local) -> None:
    local.call("SET", "a", 1, "PX", 10)
    local.call("SET", "b", 1, "PX", 100)
    local.advance(50)
    watch(local, b"a")
    assert not is_touched(local)
    watch(local, b"b")
    assert not is_touched(local)
    local.advance(51)
    assert is_touched(local)


def test_emptying_and_swapping_touch_what_is_there(local: Local) -> None:
    local.call("SET", "a", 1)
    watch(local, b"a")
    watch(local, b"none", who=OTHER)
    local.call("FLUSHALL")
    assert is_touched(local)
    assert not is_touched(local, OTHER)
    local.shards[0].watches.forget(ME)
    local.db = 1
    local.call("SET", "none", 1)
    watch(local, b"a")
    local.call("SWAPDB", 0, 1)
    assert not is_touched(local)
    assert is_touched(local, OTHER)


def test_swapping_a_database_with_itself_touches_nothing(local: Local) -> None:
    local.call("SET", "a", 1)
    watch(local, b"a")
    assert local.call("SWAPDB", 0, 0) == b"OK"
    assert not is_touched(local)


def test_who_is_not_known_must_not_go_on(local: Local) -> None:
    """The shard was restarted: it has forgotten what may have been touched."""
    assert is_touched(local)
    watch(local, b"b", further=True)
    assert is_touched(local)
    local.shards[0].watches.forget(ME)
    watch(local, b"b")
    watch(local, b"c", further=True)
    assert not is_touched(local)


def test_nobody_observes_when_nobody_watches(local: Local) -> None:
    [shard] = local.shards
    watch(local, b"a", b"b")
    watch(local, b"b", who=OTHER)
    assert len(shard.watches) == 2
    shard.watches.forget_proxy(0)
    assert len(shard.watches) == 1
    assert shard.observers
    shard.watches.forget(OTHER)
    shard.watches.forget(OTHER)
    assert not len(shard.watches)
    assert not shard.observers
