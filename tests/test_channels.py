"""A shard's knowledge of subscriptions."""

from __future__ import annotations

import pytest

from shardkv.channels import (
    CHANNEL,
    PATTERN,
    SHARD_CHANNEL,
    Channels,
    Entry,
    decode_told,
    encode_told,
)
from tests.local import Local


@pytest.fixture
def channels() -> Channels:
    made = Channels()
    made.listen(0, 0, [(CHANNEL, b"news", 2), (PATTERN, b"n*", 1), (PATTERN, b"?ews", 3)])
    made.listen(1, 0, [(CHANNEL, b"news", 1), (SHARD_CHANNEL, b"news", 5)])
    return made


def test_a_message_goes_once_to_each_proxy_that_wants_it(channels: Channels) -> None:
    assert channels.publish(CHANNEL, b"news", b"hello") == 2 + 1 + 3 + 1
    assert channels.outboxes == {
        0: [(CHANNEL, b"news", b"hello", [b"n*", b"?ews"])],
        1: [(CHANNEL, b"news", b"hello", [])],
    }


def test_only_patterns_that_match_count(channels: Channels) -> None:
    assert channels.publish(CHANNEL, b"night", b"hello") == 1
    assert channels.outboxes == {0: [(CHANNEL, b"night", b"hello", [b"n*"])]}
    assert channels.publish(CHANNEL, b"day", b"hello") == 0


def test_shard_channels_have_names_of_their_own_and_no_patterns(channels: Channels) -> None:
    assert channels.publish(SHARD_CHANNEL, b"news", b"hello") == 5
    assert channels.outboxes == {1: [(SHARD_CHANNEL, b"news", b"hello", [])]}
    assert channels.names(CHANNEL) == channels.names(SHARD_CHANNEL) == {b"news"}


def test_changes_are_acknowledged_among_the_messages(channels: Channels) -> None:
    channels.publish(CHANNEL, b"news", b"before")
    channels.listen(1, 7, [(CHANNEL, b"news", 0)])
    assert channels.publish(CHANNEL, b"news", b"after") == 6
    assert channels.outboxes[1] == [(CHANNEL, b"news", b"before", []), 7]


def test_a_pattern_is_forgotten_with_its_last_subscriber(channels: Channels) -> None:
    channels.listen(1, 0, [(PATTERN, b"n*", 1)])
    channels.listen(0, 0, [(PATTERN, b"n*", 0)])
    assert channels.names(PATTERN) == {b"n*", b"?ews"}
    assert channels.receivers(CHANNEL, b"night") == 1
    channels.listen(1, 0, [(PATTERN, b"n*", 0)])
    channels.listen(1, 0, [(PATTERN, b"n*", 0)])
    assert channels.names(PATTERN) == {b"?ews"}
    assert channels.receivers(CHANNEL, b"night") == 0


def test_a_proxy_that_is_gone_takes_its_subscriptions_with_it(channels: Channels) -> None:
    assert channels.proxies == 2
    channels.publish(CHANNEL, b"news", b"hello")
    channels.forget_proxy(0)
    channels.forget_proxy(0)
    assert channels.proxies == 1
    assert channels.names(PATTERN) == set()
    assert channels.outboxes.keys() == {1}
    assert channels.publish(CHANNEL, b"news", b"hello") == 1
    assert channels.subscribers(CHANNEL, b"news") == 1


def test_entries_travel() -> None:
    entries: list[Entry] = [(CHANNEL, b"a", b"\xff", [b"p"]), 3, None, (SHARD_CHANNEL, b"", b"", [])]
    assert decode_told(encode_told((5, entries))) == (5, entries)


@pytest.mark.parametrize("shards", [1, 3])
def test_publish_goes_to_the_shard_of_the_channel(shards: int) -> None:
    local = Local(shards)
    for shard in local.shards:
        shard.channels.listen(0, 0, [(CHANNEL, b"a", 1), (CHANNEL, b"b", 1), (SHARD_CHANNEL, b"a", 2)])
    assert [local.call("PUBLISH", name, "m") for name in "abc"] == [1, 1, 0]
    assert local.call("SPUBLISH", "a", "m") == 2
    told = [entry for shard in local.shards for entry in shard.channels.outboxes.get(0, ())]
    assert len(told) == 3
    assert local.logged() == []


def test_what_a_draft_publishes_waits_until_it_counts() -> None:
    shard = Local().shards[0]
    shard.channels.listen(0, 0, [(CHANNEL, b"a", 1)])
    draft = shard.transactions.draft((0, 1))
    with draft.open():
        assert shard.publish(CHANNEL, b"a", b"m") == 1
    assert not draft.is_empty
    assert shard.channels.outboxes == {}
    draft.publish()
    assert shard.channels.outboxes == {0: [(CHANNEL, b"a", b"m", [])]}


def test_what_a_draft_publishes_is_never_seen_if_it_is_undone() -> None:
    shard = Local().shards[0]
    shard.channels.listen(0, 0, [(CHANNEL, b"a", 1)])
    draft = shard.transactions.draft((0, 1))
    with draft.open():
        shard.publish(CHANNEL, b"a", b"m")
    draft.undo()
    assert shard.channels.outboxes == {}
