"""What a shard remembers of the keys that clients have read, and whom it tells when they change."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import pytest

from shardkv import wire
from shardkv.channels import INVALIDATED
from shardkv.chores import bury
from shardkv.command import COMMANDS
from shardkv.drafts import Draft
from shardkv.plan import coded
from shardkv.shard import Shard
from tests.local import Local

READER, OTHER = 2, 3
"""Numbers of clients, of proxies 0 and 1."""


@pytest.fixture
def local() -> Iterator[Local]:
    made = Local(proxies=2, workers=1)
    yield made
    [shard] = made.shards
    assert shard.tracking.items == sum(map(len, shard.tracking._readers.values()))


@pytest.fixture
def shard(local: Local) -> Shard:
    [found] = local.shards
    found.tracking.track(READER, no_loop=False, prefixes=[])
    return found


def call(shard: Shard, number: int, *words: str, remembers: bool = True) -> bytes | None:
    """Carries out a request of a client that tracks keys."""
    context = wire.pack_context(0, 2, tracker=number, remembers=remembers)
    [reply] = shard.run(coded(context, [[word.encode() for word in words]]))
    return reply


def told(shard: Shard) -> list[tuple[int, list[int], list[bytes]]]:
    """Who is told what since the last time: proxy, clients, keys."""
    shard.tracking.hand_out()
    outboxes, shard.channels.outboxes = shard.channels.outboxes, {}
    found = []
    for proxy, entries in outboxes.items():
        for entry in entries:
            assert isinstance(entry, tuple)
            assert entry[0] == INVALIDATED
            found.append((proxy, list(array("I", entry[1])), entry[3]))
    return found


def test_who_has_read_is_told_once(local: Local, shard: Shard) -> None:
    shard.tracking.track(OTHER, no_loop=False, prefixes=[])
    call(shard, READER, "GET", "k")
    call(shard, OTHER, "MGET", "k", "l")
    local.call("SET", "k", "1")
    local.call("SET", "k", "2")
    assert sorted(told(shard)) == [(0, [READER], [b"k"]), (1, [OTHER], [b"k"])]


def test_what_does_not_count_is_not_remembered(local: Local, shard: Shard) -> None:
    call(shard, READER, "GET", "k", remembers=False)
    call(shard, READER, "SINTERSTORE", "d", "k")
    local.call("GET", "k")
    local.call("SET", "k", "1")
    assert told(shard) == []


def test_who_is_gone_is_not_told(local: Local, shard: Shard) -> None:
    shard.tracking.track(OTHER, no_loop=False, prefixes=[b"k"])
    call(shard, READER, "GET", "k")
    shard.tracking.forget_proxy(1)
    shard.tracking.untrack(READER)
    local.call("SET", "k", "1")
    assert told(shard) == []
    assert call(shard, READER, "GET", "k") == b"$1\r\n1\r\n"
    assert shard.tracking.keys == 0


def test_while_nobody_tracks_nothing_is_observed(local: Local, shard: Shard) -> None:
    assert shard.observers
    call(shard, READER, "GET", "k")
    shard.tracking.untrack(READER)
    assert not shard.observers
    assert not [context for context in shard._bounds if wire.unpack_context(context).tracker]
    bury(shard, 1)
    assert not shard.graveyard


def test_expired_and_removed_keys_have_changed(local: Local, shard: Shard) -> None:
    local.call("SET", "k", "1", "PX", "5")
    call(shard, READER, "GET", "k")
    local.advance(10)
    assert local.call("GET", "k") is None
    assert told(shard) == [(0, [READER], [b"k"])]


def test_a_draft_is_told_when_it_counts(local: Local, shard: Shard) -> None:
    for counts in (False, True):
        call(shard, READER, "GET", "k")
        draft = Draft(shard)
        with draft.open():
            local.call("SET", "k", "1")
            local.call("FLUSHALL")
        assert told(shard) == []
        if not counts:
            draft.undo()
            assert told(shard) == []
    draft.publish()
    # That everything may have changed says all; the key is forgotten with it.
    assert told(shard) == [(0, [READER], [])]


def test_a_flush_of_nothing_counts_as_well(local: Local, shard: Shard) -> None:
    draft = Draft(shard)
    with draft.open():
        local.call("FLUSHALL")
    assert not draft.is_empty
    local.call("FLUSHDB")
    assert told(shard) == [(0, [READER], [])]


def test_only_one_of_several_shards_tells_of_a_flush() -> None:
    local = Local(3, proxies=1)
    for shard in local.shards:
        shard.tracking.track(READER, no_loop=False, prefixes=[])
        call(shard, READER, "GET", "k")
    local.call("FLUSHALL")
    assert [told(shard) for shard in local.shards] == [[(0, [READER], [])], [], []]
    local.call("SET", "k", "1")
    assert [told(shard) for shard in local.shards] == [[], [], []]


def test_the_oldest_keys_go_if_there_are_too_many(local: Local, shard: Shard) -> None:
    local.config.tracking_table_max_keys = 3
    for name in "abcd":
        call(shard, READER, "GET", name)
    assert told(shard) == [(0, [READER], [b"a"])]
    assert (shard.tracking.keys, shard.tracking.items) == (3, 3)
    local.config.tracking_table_max_keys = 0
    for name in "efgh":
        call(shard, READER, "GET", name)
    assert shard.tracking.keys == 7


def test_prefixes_are_told_of_once_a_turn(local: Local, shard: Shard) -> None:
    shard.tracking.track(OTHER, no_loop=False, prefixes=[b"a:", b"b"])
    shard.tracking.track(OTHER + 2, no_loop=True, prefixes=[b"a:"])
    shard.tracking.untrack(READER)
    for name in ("a:2", "a:1", "a:2", "a", "b", "c"):
        local.call("SET", name, "1")
    call(shard, OTHER + 2, "SET", "a:3", "1")
    assert told(shard) == [
        (1, [OTHER + 2], [b"a:1", b"a:2"]),
        (1, [OTHER], [b"a:1", b"a:2", b"a:3"]),
        (1, [OTHER], [b"b"]),
    ]
    call(shard, OTHER + 2, "SET", "a:3", "1")
    assert told(shard) == [(1, [OTHER], [b"a:3"])]


def test_who_wants_no_loop_is_told_what_others_do_in_its_turn(local: Local, shard: Shard) -> None:
    """A client that waits is served within the transaction of another, but changes things by itself."""
    shard.tracking.track(READER, no_loop=True, prefixes=[])
    call(shard, READER, "GET", "l")
    request = coded(wire.pack_context(0, 2, tracker=READER, remembers=True), [[b"SET", b"l", b"1"]])
    code = wire.pack_context(0, 2, tracker=READER) | COMMANDS["execute"].code
    shard.run([[code, None, request]])
    assert told(shard) == []
    call(shard, READER, "GET", "l")
    local.call("SET", "l", "2")
    assert told(shard) == [(0, [READER], [b"l"])]


def test_what_is_loaded_has_not_changed(local: Local, shard: Shard) -> None:
    shard.tracking.track(OTHER, no_loop=False, prefixes=[b""])
    shard.begin_replay()
    shard.replay([b"SET", b"k", b"1"])
    shard.replay([b"FLUSHALL"])
    shard.end_replay()
    assert told(shard) == []
    local.call("SET", "k", "1")
    assert told(shard) == [(1, [OTHER], [b"k"])]
