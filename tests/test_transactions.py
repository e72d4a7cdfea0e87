"""A shard's part in transactions, where the order of messages is rare."""

from __future__ import annotations

from shardkv.aof.record import record
from shardkv.locks import Transaction
from shardkv.plan import coded
from shardkv.transactions import UNKNOWN
from shardkv.wire import RAW, pack_context
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
