"""What a transaction has changed as a draft can be undone as if it had never been, or counts as a whole."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkv.channels import PATTERN
from shardkv.chores import bury, expire_due
from shardkv.drafts import Draft
from shardkv.walk import Walk
from tests.local import Local
from tests.twin import (
    test_bitmaps,
    test_generic,
    test_geo,
    test_hashes,
    test_hyperloglogs,
    test_lists,
    test_sets,
    test_sort,
    test_sorted_sets,
    test_streams,
    test_strings,
)
from tests.twin.compare import Words, call

FAMILIES: dict[str, Sequence[Any]] = {
    "strings": test_strings.calls,
    "bitmaps": test_bitmaps.calls,
    "lists": test_lists.calls,
    "hashes": [*test_hashes.classic, *test_hashes.valid],
    "sets": test_sets.calls,
    "sorted sets": test_sorted_sets.calls,
    "geo": test_geo.calls,
    "hyperloglogs": test_hyperloglogs.calls,
    "streams": [test_streams.mixed_calls],
    "sort": test_sort.calls,
    "generic": test_generic.calls,
}

ON_WHOLE_DATABASES = [
    call("FLUSHALL"),
    call("FLUSHDB"),
    call("SWAPDB", st.sampled_from("012"), st.sampled_from("012")),
    call("SELECT", st.sampled_from("012")),
]

State = list[Any]


def state(local: Local) -> State:
    """All that the shard holds, and when it will expire."""
    [shard] = local.shards
    found: State = [local.content()]
    for index, db in sorted(shard.databases.items()):
        if len(db):
            found.append((index, len(db), db.expires, db.field_deadlines.at_ms))
    return found


def carry_out(local: Local, calls: Sequence[Words]) -> list[bytes]:
    """Carries calls out; what is drawn at random is the same each time. Returns the replies."""
    replies = []
    for number, words in enumerate(calls):
        random.seed(number)
        if words[0] == "SELECT":
            local.db = int(words[1])
        else:
            replies.append(local.resp(*words))
    return replies


@contextmanager
def drafting(local: Local) -> Iterator[Draft]:
    """While it lasts, all that is changed is a draft."""
    [shard] = local.shards
    draft = Draft(shard)
    with draft.open():
        yield draft


def make(setup: Sequence[Words]) -> Local:
    local = Local(1)
    carry_out(local, setup)
    local.db = 0
    return local


@st.composite
def sequences(draw: st.DrawFn, *, whole: bool) -> list[list[Words]]:
    """Calls of one family: before the draft, in it, and after it."""
    family = st.one_of(FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))])
    inside = st.one_of(family, family, family, st.one_of(ON_WHOLE_DATABASES)) if whole else family
    return [draw(st.lists(kind, max_size=12)) for kind in (family, inside, family)]


@settings(max_examples=120, deadline=None)
@given(sequences(whole=True), st.sampled_from([0, 0, 1500, 10_000]))
def test_undone_it_has_never_been(calls: list[list[Words]], passes_ms: int) -> None:
    setup, inside, after = calls
    ours, other = make(setup), make(setup)
    for local in (ours, other):
        local.advance(passes_ms)
    with drafting(ours) as draft:
        carry_out(ours, inside)
    ours.db = 0
    draft.undo()
    assert state(ours) == state(other)
    assert ours.logged() == other.logged()
    # What the values are made of is right as well, and so are the times.
    assert carry_out(ours, after) == carry_out(other, after)
    assert state(ours) == state(other)
    for local in (ours, other):
        local.advance(100_000)
        expire_due(local.shards[0], 10.0)
    assert state(ours) == state(other)


@settings(max_examples=80, deadline=None)
@given(sequences(whole=True))
def test_published_it_is_in_the_log(calls: list[list[Words]]) -> None:
    setup, inside, after = calls
    local = make(setup)
    [shard] = local.shards
    with drafting(local) as draft:
        carry_out(local, inside)
    shard.log_together(draft.records, None)
    shard.start_of_file()
    draft.publish()
    assert not shard.draft
    carry_out(local, after)
    content = local.content()
    assert local.replayed().content() == content


@settings(max_examples=80, deadline=None)
@given(sequences(whole=False), st.integers(0, 30), st.booleans())
def test_a_pass_over_the_keyspace_does_not_see_it(calls: list[list[Words]], steps: int, undone: bool) -> None:
    setup, inside, after = calls
    local = make(setup)
    [shard] = local.shards
    # A call that changes databases as a whole would end the pass.
    inside, after = (
        [words for words in some if words[0] not in ("FLUSHALL", "FLUSHDB", "SWAPDB")]
        for some in (inside, after)
    )
    content = local.content()
    written: list[bytes] = []
    walk = Walk(list(shard.databases.values()), written.append)
    for _ in range(steps):
        walk.step(0)
    with drafting(local) as draft:
        carry_out(local, inside[:6])
    walk.step(0)
    if undone:
        draft.undo()
    else:
        draft.publish()
    carry_out(local, after)
    while not walk.step(1.0):
        pass
    shard.records = written
    other = local.replayed()
    other.set_clock(0)
    local.set_clock(0)
    assert other.content() == content


LARGE = 3000


@pytest.mark.parametrize(
    "request_line",
    [
        "DEL list hash set zset",
        "LTRIM list 10 20",
        "RPUSH list x",
        "RENAME list hash",
        "LMOVE list other LEFT LEFT",
        "HDEL hash 1 2 3",
        "HSET hash 1 x new y",
        "HEXPIRE hash 100 FIELDS 2 1 2",
        "SADD set x",
        "SMOVE set zset 1",
        "SMOVE set other 1",
        "ZADD zset 5 x",
        "ZREMRANGEBYRANK zset 0 1000",
        "SUNIONSTORE list set set",
        "ZUNIONSTORE set 1 zset",
        "COPY list hash REPLACE",
        "SORT list ALPHA STORE list",
        "FLUSHALL",
        "SWAPDB 0 1",
        "SET list x",
        "EXPIRE list 100",
        "XADD stream 5000-1 f v",
        "XTRIM stream MAXLEN 5",
    ],
)
def test_large_collections_come_back(request_line: str) -> None:
    words = [str(number) for number in range(LARGE)]
    setup = [
        ("RPUSH", "list", *words),
        ("HSET", "hash", *(word for pair in zip(words, words, strict=True) for word in pair)),
        ("HEXPIRE", "hash", 1000, "FIELDS", 2, "1", "7"),
        ("SADD", "set", *(f"member{word}" for word in words), "1"),
        ("ZADD", "zset", *(word for pair in zip(words, words, strict=True) for word in pair)),
        *(("XADD", "stream", f"{number + 1}-1", "f", number) for number in range(LARGE // 10)),
        ("EXPIRE", "zset", 500),
    ]
    ours, other = make(setup), make(setup)
    [shard] = ours.shards
    with drafting(ours) as draft:
        carry_out(ours, [tuple(request_line.split())])
        # What is freed in slices meanwhile is not what comes back.
        bury(shard, 10.0)
    draft.undo()
    bury(shard, 10.0)
    assert state(ours) == state(other)
    for key in ("list", "hash", "set", "zset", "stream"):
        assert carry_out(ours, [("DUMP", key)]) == carry_out(other, [("DUMP", key)])


def test_others_are_told_when_it_counts() -> None:
    local = Local(1)
    [shard] = local.shards
    seen: list[tuple[bytes, str]] = []
    shard.observers.append(lambda db, key, event: seen.append((key, event)))
    with drafting(local) as draft:
        local.call("SET", "a", 1)
        local.call("DEL", "a")
        assert draft.is_empty is False
    assert not seen
    assert local.logged() == []
    draft.publish()
    assert seen == [(b"a", "set"), (b"a", "del")]
    with drafting(local) as draft:
        local.call("GET", "a")
    assert draft.is_empty


def test_a_draft_that_is_undone_publishes_no_events() -> None:
    local = Local(notify_keyspace_events=frozenset("E$g"))
    [shard] = local.shards
    shard.notifications.follow(local.config.notify_keyspace_events)
    shard.channels.listen(0, 0, [(PATTERN, b"*", 1)])
    for counts in (False, True):
        draft = Draft(shard)
        with draft.open():
            local.call("SET", "k", "1")
            local.call("DEL", "k")
        assert not shard.channels.outboxes
        draft.publish() if counts else draft.undo()
    events = [entry[1] for entry in shard.channels.outboxes[0] if isinstance(entry, tuple)]
    assert events == [b"__keyevent@0__:set", b"__keyevent@0__:del"]
