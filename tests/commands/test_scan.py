"""SCAN, and the snapshots that scans of large things keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkv import limits
from shardkv.scans import Snapshots
from tests.local import Local, selected

KEYS = [b"key:%d" % number for number in range(3000)]
TAGGED = [b"{together}:%d" % number for number in range(3000)]
"""Keys of one slot, which is large."""


def fill(local: Local, keys: list[bytes]) -> None:
    local.call("MSET", *(word for key in keys for word in (key, "1")))


def scan(local: Local, *options: Any, cursor: int = 0) -> Iterator[list[bytes]]:
    """The pages of a scan; checks that its cursors are numbers for everybody."""
    while True:
        next_cursor, keys = local.call("SCAN", cursor, *options)
        yield keys
        cursor = int(next_cursor)
        assert 0 <= cursor < 2**63
        if not cursor:
            return


def everything(pages: Iterator[list[bytes]]) -> list[bytes]:
    return [key for page in pages for key in page]


@pytest.mark.parametrize("count", [1, 10, 1000, 2**63 - 1])
def test_every_key_comes_once(local: Local, count: int) -> None:
    fill(local, KEYS[:300] + TAGGED[:30])
    assert sorted(everything(scan(local, "COUNT", count))) == sorted(KEYS[:300] + TAGGED[:30])


@pytest.mark.parametrize("count", [1, 100, 1000, 2000, 2**63 - 1])
def test_a_large_slot_comes_in_pages(local: Local, count: int) -> None:
    fill(local, TAGGED)
    pages = list(scan(local, "COUNT", count))
    assert sorted(key for page in pages for key in page) == sorted(TAGGED)
    assert max(map(len, pages)) == min(count, len(TAGGED))
    assert len(pages) <= len(TAGGED) // count + 2
    assert not any(len(shard.snapshots) for shard in local.shards)


def test_a_small_database_comes_at_once(local: Local) -> None:
    fill(local, KEYS[:9])
    cursor, keys = local.call("SCAN", 0)
    assert (cursor, sorted(keys)) == (b"0", KEYS[:9])


def test_options(local: Local) -> None:
    fill(local, KEYS[:50])
    local.call("RPUSH", "list", "element")
    assert everything(scan(local, "MATCH", "key:7")) == [b"key:7"]
    assert everything(scan(local, "TYPE", "LIST", "COUNT", 7)) == [b"list"]
    assert everything(scan(local, "match", "key:*", "type", "list")) == []
    assert everything(scan(local, "TYPE", "nosuch")) == []
    assert len(everything(scan(local, "MATCH", "key:*", "TYPE", "string"))) == 50


def test_it_is_the_selected_database_that_is_scanned(local: Local) -> None:
    fill(local, KEYS[:20])
    with selected(local, 5):
        assert everything(scan(local)) == []
        fill(local, TAGGED)
        pages = scan(local, "COUNT", 100)
        next(pages)
    # The cursor goes on in another database: allowed, and of no use.
    assert set(everything(pages)) <= set(KEYS)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.0", "1 ", str(2**64), "9" * 5000])
def test_what_is_no_cursor(local: Local, cursor: str) -> None:
    assert local.error("SCAN", cursor) == "ERR invalid cursor"


@given(st.integers(0, 2**64 - 1))
def test_any_number_is_a_cursor(cursor: int) -> None:
    for local in (Local(1), Local(3)):
        fill(local, KEYS[:5])
        assert set(everything(scan(local, cursor=cursor))) <= set(KEYS[:5])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("COUNT", 0), "ERR syntax error"),
        (("COUNT",), "ERR syntax error"),
        (("COUNT", "x"), "ERR value is not an integer or out of range"),
        (("HOW", 1), "ERR syntax error"),
    ],
)
def test_options_that_make_no_sense(local: Local, options: tuple[Any, ...], error: str) -> None:
    assert local.error("SCAN", 0, *options) == error


# -- while keys come and go -------------------------------------------------------------------


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCAN_SLOT_KEYS", 4)
    monkeypatch.setattr(limits, "SCAN_SNAPSHOTS", 2)
    monkeypatch.setattr(limits, "SCAN_WINDOW_SLOTS", 1000)


changes = st.one_of(
    st.tuples(st.sampled_from(["SET", "DEL"]), st.sampled_from(KEYS[:60] + TAGGED[:60])),
    st.just(("FLUSH", b"")),
    st.just(("PAGE", b"")),
    st.just(("PAGE", b"")),
)


@pytest.mark.usefixtures("small_limits")
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([1, 3]),
    st.lists(st.sampled_from(KEYS[:60] + TAGGED[:60]), max_size=100),
    st.lists(changes, max_size=60),
    st.integers(1, 20),
)
def test_what_is_there_all_the_time_is_returned(
    shards: int, before: list[bytes], steps: list[tuple[str, bytes]], count: int
) -> None:
    local = Local(shards)
    if before:
        fill(local, before)
    ever, always = set(before), set(before)
    pages = scan(local, "COUNT", count)
    found: set[bytes] = set()
    for step, key in steps:
        if step == "SET":
            local.call("SET", key, "1")
            ever.add(key)
        elif step == "DEL":
            local.call("DEL", key)
            always.discard(key)
        elif step == "FLUSH":
            local.call("FLUSHDB")
            always.clear()
        else:
            found |= set(next(pages, []))
    found |= set(everything(pages))
    assert always <= found <= ever


@pytest.mark.usefixtures("small_limits")
def test_more_scans_than_snapshots_come_to_an_end(local: Local) -> None:
    fill(local, TAGGED)
    scans = [scan(local, "COUNT", 10) for _ in range(7)]
    found: list[set[bytes]] = [set() for _ in scans]
    rounds = 0
    running = dict(enumerate(scans))
    while running:
        rounds += 1
        assert rounds < 100
        for number, pages in list(running.items()):
            page = next(pages, None)
            if page is None:
                del running[number]
            else:
                found[number] |= set(page)
        assert all(len(shard.snapshots) <= 2 for shard in local.shards)
    assert all(keys == set(TAGGED) for keys in found)


def test_what_is_gone_is_not_returned(local: Local) -> None:
    fill(local, TAGGED)
    cursor, _ = local.call("SCAN", 0, "COUNT", 100)
    local.call("DEL", *TAGGED[:1500])
    for key in TAGGED[1500:2000]:
        local.call("PEXPIRE", key, 10)
    local.advance(10)
    assert set(everything(scan(local, cursor=int(cursor)))) <= set(TAGGED[2000:])


def test_a_scan_goes_on_with_other_shards(local: Local) -> None:
    """Slots move to other shards, or a server starts again with more of them: the cursor stays good."""
    fill(local, KEYS + TAGGED)
    cursor = 0
    found: set[bytes] = set()
    for _ in range(30):
        text, keys = local.call("SCAN", cursor, "COUNT", 100)
        cursor, found = int(text), found | set(keys)
    assert cursor
    other = Local(4)
    fill(other, KEYS + TAGGED)
    assert found | set(everything(scan(other, "COUNT", 100, cursor=cursor))) == set(KEYS + TAGGED)


# -- snapshots --------------------------------------------------------------------------------

MEMBERS = [b"%d" % number for number in range(100)]


class Listing:
    """Lists members and counts how often."""

    def __init__(self, members: list[bytes] = MEMBERS) -> None:
        self.members = members
        self.times = 0

    def __call__(self) -> list[bytes]:
        self.times += 1
        return list(self.members)


def pages(
    snapshots: Snapshots, members: Callable[[], list[bytes]], count: int, of: str = "it"
) -> Iterator[list[bytes]]:
    place = 0
    while True:
        page, place = snapshots.page(of, place, count, members, 0)
        yield page
        if not place:
            return


@pytest.mark.parametrize("count", [1, 7, 99, 100, 101])
def test_what_is_scanned_is_listed_once(count: int) -> None:
    snapshots, members = Snapshots(), Listing()
    found = list(pages(snapshots, members, count))
    assert [member for page in found for member in page] == MEMBERS
    assert {len(page) for page in found[:-1]} <= {count}
    assert members.times == 1
    assert len(snapshots) == 0


def test_snapshots_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCAN_SNAPSHOTS", 3)
    snapshots = Snapshots()
    scans = [pages(snapshots, Listing(), 10, f"number {number}") for number in range(4)]
    for each in scans:
        next(each)
    assert len(snapshots) == 3
    # The first one's is gone: it begins again, with longer pages.
    assert next(scans[0]) == MEMBERS[:80]
    assert next(scans[3]) == MEMBERS[10:20]


def test_snapshots_are_bounded_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SCAN_SNAPSHOT_MEMBERS", 250)
    snapshots = Snapshots()
    for number in range(5):
        next(pages(snapshots, Listing(), 10, f"number {number}"))
        assert len(snapshots) == min(number + 1, 2)
    next(pages(snapshots, Listing(MEMBERS * 3), 10, "larger than the bound"))
    assert len(snapshots) == 1


def test_snapshots_that_nobody_uses_are_given_up() -> None:
    snapshots = Snapshots()
    _, place = snapshots.page("old", 0, 10, Listing(), 1000)
    snapshots.page("new", 0, 10, Listing(), 1000 + limits.SCAN_SNAPSHOT_IDLE_S - 1)
    assert len(snapshots) == 2
    snapshots.drop_idle(1000 + limits.SCAN_SNAPSHOT_IDLE_S)
    assert len(snapshots) == 1
    assert snapshots.page("old", place, 10, Listing(), 2000)[0] == MEMBERS[:80]
    snapshots.clear()
    assert len(snapshots) == 0


def test_a_place_in_something_else_is_none() -> None:
    snapshots = Snapshots()
    _, place = snapshots.page("one", 0, 10, Listing(), 0)
    page, _ = snapshots.page("other", place, 10, Listing([b"member"]), 0)
    assert page == [b"member"]
