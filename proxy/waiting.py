"""A command that waits for data of several shards, as a state machine.

`wait_and_transact` goes on like `proxy.transaction.transact`, which does what is done at once: it yields what
has to be done next and is sent what came of it. If there is nothing, every shard concerned gets an ENLIST
into the queues of its keys. The first one that has something offers it, locked, and is taken up on it; the
others are withdrawn. Nobody waits while it holds an offer: what is taken is taken by one COMMIT, and what
needs further locks gives up all it has if it cannot get them at once, and tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from proxy.actions import Action, Commit, Run
from proxy.transaction import Counters, transact, values_of
from shardkv import errors
from shardkv.blocking import Waits, Wish
from shardkv.errors import CommandError, caught
from shardkv.locks import Transaction
from shardkv.plan import Call, Plan, Read
from shardkv.resp.replies import NULL_ARRAY


@dataclass(frozen=True)
class Enlist:
    """Have each of these shards wait for what is wished for there. Answered by the first that has something,
    with an Offer; or, if something else happens before, with the reply that the client gets."""

    transaction: Transaction
    name: str
    wishes: dict[int, list[Wish]]


@dataclass(frozen=True)
class Withdraw:
    """Have each of these shards wait no longer, and keep nothing any more; nobody waits for an answer."""

    transaction: Transaction
    shards: list[int]


class Offer(NamedTuple):
    """A shard has something under a key."""

    shard: int
    key: bytes


Step = Action | Enlist | Withdraw


def wait_and_transact(
    call: Call, number: Callable[[], Transaction], *, lock_reads: bool, counters: Counters
) -> Generator[Step, Any, Any]:
    """Carries out a command that may wait; returns the reply's value, a CommandError among them. `number`
    names a transaction as no other is named."""
    waits: Waits = call.command.waits
    # Most clients that wait find nothing at first, and for that no locks are needed: if anything comes after
    # the look, the shards notice it when the client is enlisted.
    if (yield from _finds_nothing(call)):
        reply: Any = None
    else:
        reply = yield from transact(call, number, lock_reads=lock_reads, counters=counters)
    if waits.pin is not None and is_nothing(reply):
        call = yield from _run(call, waits.pin(call))
        if isinstance(call, CommandError):
            return call
    while is_nothing(reply):
        # The keys may have gone to other shards since it was looked at.
        call = replace(call)
        wishes: dict[int, list[Wish]] = {}
        for wish in waits.wishes(call.args):
            wishes.setdefault(call.shard_of(wish[0]), []).append(wish)
        transaction = number()
        outcome = yield Enlist(transaction, call.command.name, wishes)
        offers = [outcome.shard] if isinstance(outcome, Offer) else []
        yield Withdraw(transaction, [shard for shard in wishes if shard not in offers])
        if isinstance(outcome, CommandError) and outcome.text == errors.SLOT_MOVED:
            continue
        if not offers:
            return outcome
        call = replace(call)
        if waits.take is not None:
            return (yield from _run(call, waits.take(call, outcome.key), transaction))
        # The first try is the transaction that has the offer.
        numbers = chain((transaction,), iter(number, None))
        reply = yield from transact(call, partial(next, numbers), lock_reads=lock_reads, counters=counters)
    return reply


def is_nothing(reply: Any) -> bool:
    """Whether a reply says that there is nothing to be had yet."""
    return reply is None or reply is NULL_ARRAY


def _finds_nothing(call: Call) -> Generator[Step, Any, bool]:
    """Whether a command that takes things out has nothing to take, as far as a look without locks can say."""
    plan = call.command.plan(call)
    values: Any = None
    try:
        while isinstance(hop := plan.send(values), Read):
            values = values_of(call, (yield Run(hop.parts)))
    except StopIteration as stop:
        return is_nothing(stop.value)
    except CommandError:
        pass
    return False


def _run(call: Call, plan: Plan, transaction: Transaction | None = None) -> Generator[Step, Any, Any]:
    """Carries out a plan that needs no locks, or has a single hop, for which the transaction has them."""
    values: Any = None
    try:
        while True:
            parts = plan.send(values).parts
            replies = yield Run(parts) if transaction is None else Commit(transaction, dict(parts))
            values = values_of(call, replies)
    except StopIteration as stop:
        return stop.value
    except CommandError as error:
        return caught(error)
