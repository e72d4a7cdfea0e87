"""Finds out what became of transactions that were under way when a process died.

Pure bookkeeping of the supervisor: reports and answers of the shards come in, messages to them go out. A
shard reports a transaction that is in doubt. Every shard with a part in it is asked to freeze it, so that
nothing is decided elsewhere any more, and to say how it stands there. If any has carried it out, all do; else
all give it up. A shard that is down is waited for, unless another's answer is enough. Once all have made the
outcome durable, they may forget it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shardkv import control
from shardkv.locks import Transaction
from shardkv.transactions import COMMITTED, UNKNOWN

logger = logging.getLogger("proxy.resolver")


class Message(NamedTuple):
    """What a shard is to be told: topic and body of a question."""

    shard: int
    topic: str
    body: list[Any]


@dataclass
class _Doubt:
    participants: frozenset[int]
    asked: set[int] = field(default_factory=set)
    """Who was asked, or told the outcome, and has not answered."""
    answers: dict[int, str] = field(default_factory=dict)
    commit: bool | None = None
    """The outcome, once it is known."""
    settled: set[int] = field(default_factory=set)
    """Who has made it durable."""


class Resolver:
    """The transactions in doubt, and which shards can be asked."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        """Those with higher numbers are there no more. They have left when nobody could have to ask them: of
        what is in doubt with a part of theirs, they have carried out nothing."""
        self.doubts: dict[Transaction, _Doubt] = {}
        self._up: set[int] = set()

    # -- what happens -----------------------------------------------------------------------------

    def reported(self, transaction: Transaction, participants: Iterable[int]) -> None:
        """A shard does not know the outcome of a transaction."""
        if transaction not in self.doubts:
            doubt = self.doubts[transaction] = _Doubt(frozenset(participants))
            self._leave_out_the_gone(doubt)
            logger.warning("transaction %x is in doubt", transaction[1])

    def resized(self, shards: int) -> None:
        """There are so many shards now."""
        self.shards = shards
        for doubt in self.doubts.values():
            self._leave_out_the_gone(doubt)

    def _leave_out_the_gone(self, doubt: _Doubt) -> None:
        there = frozenset(shard for shard in doubt.participants if shard < self.shards)
        if len(there) < len(doubt.participants):
            doubt.participants = there
            doubt.answers[self.shards] = UNKNOWN

    def came_up(self, shard: int) -> None:
        """A shard has loaded its data and can be asked."""
        self._up.add(shard)

    def went_down(self, shard: int) -> None:
        """A shard's process is gone. What it said counts no more: it may have died before that was on
        disk."""
        self._up.discard(shard)
        for doubt in self.doubts.values():
            doubt.answers.pop(shard, None)
            doubt.asked.discard(shard)
            doubt.settled.discard(shard)

    def answered(self, message: Message, answer: list[str] | bool | None) -> None:
        """A shard has answered: to FREEZE how each transaction stands there, to SETTLE whether the outcomes
        are durable there. None if it did not answer in time."""
        shard = message.shard
        for number, word in enumerate(message.body):
            transaction = word[0] if message.topic == control.SETTLE else word
            doubt = self.doubts.get(transaction)
            if doubt is None or shard not in doubt.asked:
                continue
            doubt.asked.discard(shard)
            if isinstance(answer, list):
                doubt.answers[shard] = answer[number]
            elif answer:
                doubt.settled.add(shard)

    # -- what to do -------------------------------------------------------------------------------

    def next_messages(self) -> list[Message]:
        """What has to be said now: questions that can be asked, outcomes that are known, and what is over."""
        bodies: dict[tuple[int, str], list[Any]] = {}
        for transaction, doubt in list(self.doubts.items()):
            if doubt.commit is None:
                doubt.commit = self._outcome(doubt)
                if doubt.commit is not None:
                    doubt.asked.clear()
            if doubt.settled >= doubt.participants:
                del self.doubts[transaction]
                for shard in doubt.participants & self._up:
                    bodies.setdefault((shard, control.FORGET), []).append(transaction)
            elif doubt.commit is not None:
                for shard in (doubt.participants & self._up) - doubt.settled - doubt.asked:
                    doubt.asked.add(shard)
                    bodies.setdefault((shard, control.SETTLE), []).append((transaction, doubt.commit))
            else:
                for shard in (doubt.participants & self._up) - doubt.answers.keys() - doubt.asked:
                    doubt.asked.add(shard)
                    bodies.setdefault((shard, control.FREEZE), []).append(transaction)
        return [Message(shard, topic, body) for (shard, topic), body in bodies.items()]

    def _outcome(self, doubt: _Doubt) -> bool | None:
        """Whether the transaction is to be carried out; None while that is not known."""
        answers = doubt.answers
        if COMMITTED in answers.values():
            return True
        if answers.keys() >= doubt.participants:
            return False
        # Some shard cannot be asked. A transaction that one of the others knows nothing of was never carried
        # out anywhere: it was not pledged there, or given up.
        waits_for_answers = (doubt.participants & self._up) - answers.keys()
        if UNKNOWN in answers.values() and not waits_for_answers:
            return False
        return None
