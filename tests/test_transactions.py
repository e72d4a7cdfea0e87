"""A shard's part in transactions, where the order of messages is rare."""

from __future__ import annotations

import re
from typing import Any

import pytest

from shardkv import errors
from shardkv.aof.record import record
from shardkv.command import COMMANDS
from shardkv.errors import CommandError
from shardkv.locks import Transaction
from shardkv.plan import coded
from shardkv.resp.replies import raw
from shardkv.shard import Shard
from shardkv.slots import slot_of
from shardkv.transactions import COMMITTED, PREPARED, UNKNOWN, Late, Transactions
from shardkv.wire import RAW, Batch, pack_context
from tests.local import START_MS, Local

OWNER: Transaction = (0, 1)


def test_a_draft_is_undone_before_its_locks_are_given_up() -> None:
    """Another participant died with its pledge, and the supervisor has settled the transaction, before this
    one was asked to pledge."""
    local = Local(1)
    local.call("SET", "a", "before")
    [shard] = local.shards
    transactions = shard.transactions
    assert transactions.claim(OWNER, [(0, b"a")], whole=False, exclusive=True, wait=None, args=[])
    transactions.run_draft(OWNER, coded(pack_context(0, RAW), [[b"SET", b"a", b"draft"]]))
    assert transactions.freeze(OWNER) == UNKNOWN
    transactions.settle(OWNER, commit=False)
    assert not shard.locks
    assert local.call("GET", "a") == b"before"
    local.call("SET", "a", "after")
    transactions.release(OWNER)
    assert local.call("GET", "a") == b"after"
    assert not transactions.drafts


def test_what_is_redone_after_a_death_is_not_taken_for_the_next_commands_doing() -> None:
    """That would be logged even if it has failed, and the log could not be loaded any more."""
    local = Local(1)
    [shard] = local.shards
    transactions = shard.transactions
    redone = record([b"SELECT", 0]) + record([b"SET", b"a", b"redone"])
    keys = [(0, b"a")]
    transactions.recall(["pledge", *OWNER, [0, 1], keys, False, START_MS, [], redone])
    transactions.lock_in_doubt()
    transactions.settle(OWNER, commit=True)
    assert local.call("GET", "a") == b"redone"
    assert local.logged() == [[b"MULTI"], [b"SET", b"a", b"redone"], [b"EXEC"]]
    assert local.error("RENAME", "missing", "b") == "ERR no such key"
    assert local.logged() == []


# -- messages that come at the wrong time ---------------------------------------------------------------

OTHER: Transaction = (1, 2)
A = (0, b"a")


def set_a() -> Batch:
    """What changes the key. Running a request changes it as well."""
    return coded(pack_context(0, RAW), [[b"SET", b"a", b"new"]])


class Link:
    """A proxy of several."""

    def __init__(self, proxy: int) -> None:
        self.proxy = proxy
        self.late: list[Late] = []
        self.tickets = 0

    def next_ticket(self) -> int:
        self.tickets += 1
        return self.tickets - 1


@pytest.fixture
def local() -> Local:
    made = Local(1)
    made.call("SET", "a", "old")
    made.logged()
    return made


@pytest.fixture
def shard(local: Local) -> Shard:
    [shard] = local.shards
    return shard


@pytest.fixture
def transactions(shard: Shard) -> Transactions:
    shard.transactions.notes = []
    return shard.transactions


def lock(transactions: Transactions, owner: Transaction = OWNER) -> None:
    assert transactions.claim(owner, [A], whole=False, exclusive=True, wait=None, args=[])


def pledged(transactions: Transactions, owner: Transaction = OWNER) -> None:
    lock(transactions, owner)
    transactions.pledge(owner, [0, 1], set_a())


def ask(shard: Shard, link: Link, *words: bytes) -> list[bytes | None]:
    """Has a proxy ask for a key."""
    command = COMMANDS[words[0].decode().lower()]
    code = pack_context(0, RAW) | command.code | slot_of(words[1])
    return shard.run([[code, *words[1:]]], link)


def refused(error: bytes) -> Any:
    return pytest.raises(CommandError, match=re.escape(error.decode()))


def notes(transactions: Transactions) -> list[str]:
    assert transactions.notes is not None
    return [note[0] for note in transactions.notes]


def test_nothing_is_pledged_that_cannot_be_kept(shard: Shard, transactions: Transactions) -> None:
    lock(transactions)
    shard.refuse_writes(errors.log_failed("disk full"))
    with refused(errors.log_failed("disk full")):
        transactions.pledge(OWNER, [0, 1], set_a())
    shard.refuse_writes(None)
    shard.memory, shard.lacks_memory = object(), lambda: True  # type: ignore[assignment, method-assign]
    with refused(errors.OUT_OF_MEMORY):
        transactions.pledge(OWNER, [0, 1], set_a())
    with refused(errors.OUT_OF_MEMORY):
        transactions.commit(OWNER, set_a())
    shard.lacks_memory = lambda: False  # type: ignore[method-assign]
    transactions.pledge(OWNER, [0, 1], set_a())
    assert notes(transactions) == ["pledge"]


def test_who_holds_no_locks_changes_nothing(local: Local, transactions: Transactions) -> None:
    """The shard was started anew, and others may have changed what he has seen."""
    with refused(errors.GIVEN_UP):
        transactions.pledge(OWNER, [0, 1], set_a())
    with refused(errors.GIVEN_UP):
        transactions.commit(OWNER, set_a())
    with refused(errors.GIVEN_UP):
        transactions.commit(OWNER, None)
    assert not transactions.pledges
    assert local.call("GET", "a") == b"old"


def test_what_was_asked_about_is_pledged_no_more(transactions: Transactions) -> None:
    """Somebody has been told by now that it was not."""
    lock(transactions)
    assert transactions.freeze(OWNER) == UNKNOWN
    with refused(errors.GIVEN_UP):
        transactions.pledge(OWNER, [0, 1], set_a())
    transactions.settle(OWNER, commit=False)
    lock(transactions)
    with refused(errors.GIVEN_UP):
        transactions.pledge(OWNER, [0, 1], set_a())


def test_nor_what_was_given_up(transactions: Transactions) -> None:
    pledged(transactions)
    transactions.release(OWNER)
    assert notes(transactions) == ["pledge", "give up"]
    lock(transactions)
    with refused(errors.GIVEN_UP):
        transactions.pledge(OWNER, [0, 1], set_a())


def test_what_is_being_settled_is_nobody_elses(local: Local, transactions: Transactions) -> None:
    pledged(transactions)
    assert transactions.freeze(OWNER) == PREPARED
    with refused(errors.IN_DOUBT):
        transactions.commit(OWNER, None)
    transactions.release(OWNER)
    assert transactions.in_doubt == 1
    assert transactions.locks.is_locked([A], writes=False)
    transactions.settle(OWNER, commit=True)
    assert local.call("GET", "a") == b"new"
    assert transactions.freeze(OWNER) == COMMITTED


def test_all_that_comes_of_a_pledge_is_noted(transactions: Transactions) -> None:
    """The side log may be begun anew at any time, and the append-only file rewritten."""
    pledged(transactions)
    transactions.commit(OWNER, None)
    assert transactions.to_keep() == [["committed", *OWNER, [0, 1]]]
    transactions.forget([OWNER, OTHER])
    assert notes(transactions) == ["pledge", "commit", "forget"]
    assert transactions.to_keep() == []


def test_what_the_notes_tell_is_known_again(transactions: Transactions) -> None:
    lock(transactions)
    transactions.pledge(OWNER, [0, 1], set_a())
    kept = transactions.to_keep()
    assert transactions.notes == kept
    for end, is_pledged, is_committed in (
        ([], True, False),
        ([["commit", *OWNER]], False, True),
        ([["give up", *OWNER]], False, False),
        ([["commit", *OWNER], ["forget", *OWNER]], False, False),
    ):
        other = Local(1).shards[0].transactions
        for note in kept + end:
            other.recall(note)
        assert (OWNER in other.pledges, OWNER in other.committed) == (is_pledged, is_committed)
    other = Local(1).shards[0].transactions
    other.recall(["committed", *OWNER, [0, 1]])
    assert other.committed == {OWNER: [0, 1]}


def test_what_the_log_alone_tells_is_noted_after_a_death(transactions: Transactions) -> None:
    """A rewrite of the log removes it there."""
    for owner in (OWNER, OTHER):
        transactions.recall(["pledge", *owner, [0, 1], [(0, b"%d" % owner[1])], False, START_MS, [], b""])
    transactions.recall_commit(OWNER[1])
    assert transactions.committed == {OWNER: [0, 1]}
    transactions.lock_in_doubt()
    assert notes(transactions) == ["commit"]
    assert transactions.in_doubt == 1
    assert transactions.locks.held_by(OTHER[0]) == [OTHER]


def test_what_is_redone_is_done_at_its_own_time(local: Local, shard: Shard) -> None:
    """All shards have to come to the same."""
    transactions = shard.transactions
    lock(transactions)
    relative = coded(pack_context(0, RAW), [[b"SET", b"a", b"new", b"EX", b"100"]])
    transactions.pledge(OWNER, [0, 1], relative)
    local.advance(5000)
    transactions.settle(OWNER, commit=True)
    assert local.call("PEXPIRETIME", "a") == START_MS + 100_000
    assert shard.now_ms == START_MS + 5000


# -- a proxy that dies -----------------------------------------------------------------------------------


def test_who_waited_for_the_locks_of_a_dead_proxy_goes_on(shard: Shard, transactions: Transactions) -> None:
    lock(transactions, OTHER)
    mine, its = Link(0), Link(OTHER[0])
    assert ask(shard, mine, b"GET", b"a") == [None]
    assert ask(shard, its, b"SET", b"a", b"late") == [None]
    assert transactions.waiting == 2
    assert transactions.forget_proxy(OTHER[0]) == []
    assert transactions.waiting == 0
    # What the dead one has wanted is not done any more.
    assert [late.reply for late in mine.late] == [raw(b"old")]
    assert its.late == []
    assert ask(shard, mine, b"GET", b"a") == [raw(b"old")]


def test_a_draft_of_a_dead_proxy_is_undone(local: Local, transactions: Transactions) -> None:
    lock(transactions, OTHER)
    transactions.run_draft(OTHER, set_a())
    assert transactions.forget_proxy(OTHER[0]) == []
    assert local.call("GET", "a") == b"old"
    assert not transactions.drafts


def test_but_what_it_has_had_pledged_stays(transactions: Transactions) -> None:
    pledged(transactions, OTHER)
    assert transactions.forget_proxy(OTHER[0]) == [OTHER]
    assert transactions.locks.is_locked([A], writes=False)
    assert OTHER in transactions.pledges


def test_nobody_waits_for_the_disk_any_more_who_is_gone(shard: Shard, transactions: Transactions) -> None:
    """The next proxy of that number would get replies that it has not asked for."""
    mine, its = Link(0), Link(1)
    shard.until_durable = [(mine, 0), (its, 0)]
    transactions.forget_proxy(1)
    assert shard.until_durable == [(mine, 0)]


def test_a_request_is_withdrawn_by_its_own_proxy_alone(shard: Shard, transactions: Transactions) -> None:
    lock(transactions)
    mine, its = Link(0), Link(1)
    number: Any = 5
    assert ask(shard, mine, b"BLPOP", b"a", number) == [None]
    assert transactions.withdraw((1, 5)) is None
    assert transactions.withdraw((0, 4)) is None
    assert ask(shard, its, b"BLPOP", b"a", number) == [None]
    withdrawn = transactions.withdraw((1, 5))
    assert withdrawn is not None
    assert withdrawn.link.proxy == 1
    assert transactions.waiting == 1
    assert transactions.withdraw((0, 5)) is not None
    transactions.release(OWNER)
    assert not shard.locks
