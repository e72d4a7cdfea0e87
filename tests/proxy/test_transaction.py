"""The coordinator's side of commands over several shards: what it wants done, answer by answer."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import Any

import pytest

import proxy.commands
from proxy.actions import Action, Commit, Forget, GiveToken, Pause, Prepare, Release, Run, TakeToken
from proxy.transaction import BUSY, TRIES_WITHOUT_TOKEN, Counters, transact, try_once
from shardkv import commands, errors
from shardkv.command import COMMANDS, number_commands
from shardkv.errors import CommandError
from shardkv.plan import Call
from shardkv.resp.replies import OK, raw
from shardkv.slots import even_slot_table
from tests.proxy.test_coordinator import HERE, THERE

assert commands
assert proxy.commands
number_commands()

DIED = CommandError(errors.shard_died(1))


class Driven:
    """A command whose shards a test answers for. `reply` is there when it is done."""

    def __init__(self, *words: str, lock_reads: bool = True) -> None:
        args = [word.encode() for word in words]
        self.call = Call(COMMANDS[words[0].lower()], args, 0, even_slot_table(2), 2)
        self.counters = Counters()
        numbers = itertools.count(1)
        self.steps: Generator[Action, Any, Any] = transact(
            self.call, lambda: (0, next(numbers)), lock_reads=lock_reads, counters=self.counters
        )
        self.reply: Any = None
        self.at: Action | None = next(self.steps)

    def wants(self, action: Action) -> bool:
        """Whether this is what it wants done now."""
        return self.at == action

    def prepares(self) -> Prepare:
        assert isinstance(self.at, Prepare), self.at
        return self.at

    def answer(self, outcome: Any = None) -> Driven:
        """Tells it what came of what it wanted done."""
        try:
            self.at = self.steps.send(outcome)
        except StopIteration as stop:
            self.reply, self.at = stop.value, None
        return self


def test_what_changes_several_shards_is_pledged_by_each() -> None:
    driven = Driven("MSET", HERE, "1", THERE, "2")
    prepare = driven.prepares()
    assert prepare.exclusive
    assert not prepare.wait
    assert prepare.pledge.keys() == prepare.keys.keys() == {0, 1}
    driven.answer({0: [], 1: []})
    # What was pledged is not said again.
    assert driven.wants(Commit(prepare.transaction, {0: None, 1: None}))
    driven.answer({0: [raw(OK)], 1: [raw(OK)]})
    assert driven.wants(Forget(prepare.transaction, [0, 1]))
    assert driven.answer().reply == OK


def test_who_finds_a_lock_taken_holds_nothing_and_tries_again() -> None:
    driven = Driven("MSET", HERE, "1", THERE, "2")
    names = set()
    for _ in range(TRIES_WITHOUT_TOKEN):
        prepare = driven.prepares()
        names.add(prepare.transaction)
        assert not prepare.wait
        driven.answer({0: [], 1: None})
        assert driven.wants(Release(prepare.transaction, [0]))
        assert isinstance(driven.answer().at, Pause)
        driven.answer()
    assert driven.wants(TakeToken())
    driven.answer()
    prepare = driven.prepares()
    names.add(prepare.transaction)
    # Each try is a transaction of its own: a shard may have given up the one before.
    assert len(names) == TRIES_WITHOUT_TOKEN + 1
    assert prepare.wait
    driven.answer({0: [], 1: []}).answer({0: [raw(OK)], 1: [raw(OK)]})
    assert driven.wants(Forget(prepare.transaction, [0, 1]))
    assert driven.answer().wants(GiveToken())
    assert driven.answer().reply == OK
    assert (driven.counters.retries, driven.counters.tokens) == (TRIES_WITHOUT_TOKEN, 1)


def test_the_token_is_given_back_if_a_shard_is_lost() -> None:
    driven = Driven("MSET", HERE, "1", THERE, "2")
    for _ in range(TRIES_WITHOUT_TOKEN):
        driven.answer({0: None, 1: None}).answer().answer()
    assert driven.wants(TakeToken())
    driven.answer()
    prepare = driven.prepares()
    # The one that has answered with an error may know the transaction, too.
    driven.answer({0: [], 1: DIED})
    assert driven.wants(Release(prepare.transaction, [0, 1]))
    assert driven.answer().wants(GiveToken())
    assert driven.answer().reply == DIED


def test_what_one_shard_changes_needs_no_pledge_and_the_others_only_unlock() -> None:
    driven = Driven("SUNIONSTORE", HERE, HERE, THERE)
    prepare = driven.prepares()
    assert not prepare.pledge
    assert prepare.parts.keys() == {0, 1}
    driven.answer({0: [raw([b"a"])], 1: [raw([b"b"])]})
    assert driven.wants(Release(prepare.transaction, [1]))
    driven.answer()
    assert isinstance(driven.at, Commit)
    assert driven.at.parts.keys() == {0}
    assert driven.at.parts[0] is not None
    assert driven.answer({0: [raw(2)]}).reply == 2


def test_what_is_pledged_later_is_asked_of_who_holds_the_locks() -> None:
    """A shard that has lost them meanwhile must not pledge what was decided by them."""
    driven = Driven("RENAME", HERE, THERE)
    first = driven.prepares()
    assert first.holding == frozenset()
    driven.answer({0: [raw([[b"SET", b"v"]])], 1: [raw(0)]})
    second = driven.prepares()
    assert second.pledge.keys() == {0, 1}
    assert second.holding == {0, 1}
    assert not second.whole
    assert all(not keys for keys in second.keys.values())
    driven.answer({0: [], 1: DIED})
    assert driven.wants(Release(first.transaction, [0, 1]))
    assert driven.answer().reply == DIED


def test_a_lost_shards_value_is_the_reply_and_nothing_is_held() -> None:
    driven = Driven("MGET", HERE, THERE)
    prepare = driven.prepares()
    assert not prepare.exclusive
    driven.answer({0: [raw([b"v"])], 1: [raw(DIED)]})
    assert driven.wants(Release(prepare.transaction, [0, 1]))
    assert driven.answer().reply == DIED


def test_looks_are_locked_only_if_others_could_come_between() -> None:
    driven = Driven("MGET", HERE, THERE, lock_reads=False)
    assert isinstance(driven.at, Run)
    assert driven.answer({0: [raw([b"1"])], 1: [raw([b"2"])]}).reply == [b"1", b"2"]
    driven = Driven("EXISTS", HERE, THERE, lock_reads=False)
    assert driven.answer({0: [raw(1)], 1: [raw(DIED)]}).reply == DIED


def test_what_is_answered_while_a_script_is_busy_waits_for_no_locks() -> None:
    driven = Driven("FUNCTION|STATS")
    assert isinstance(driven.at, Run)


def test_several_commands_in_one_do_not_wait_for_locks() -> None:
    """And say that they are several, for who waits for data has to see what comes between them."""
    call = Driven("MSET", HERE, "1", THERE, "2").call
    steps = try_once(call, lambda: (0, 1))
    prepare = next(steps)
    assert isinstance(prepare, Prepare)
    assert prepare.several
    assert not prepare.wait
    assert steps.send({0: [], 1: None}) == Release((0, 1), [0])
    with pytest.raises(StopIteration) as stopped:
        next(steps)
    assert stopped.value.value is BUSY
