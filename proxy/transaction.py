"""The coordinator's side of a command that concerns several shards, as a state machine.

`transact` is a generator: it yields what has to be done next, and is sent what came of it. It does no I/O
and knows no clock, so that a simulation can drive it as well as a proxy.

Without locks, the parts of a reading command go out together; with a single proxy the order of messages in
the pipes is already a serial order. Otherwise a first message locks the command's keys on each shard and
lets the plan look at them, and a last one carries out what the plan decided, or only unlocks. A shard that
finds a lock taken refuses, and holds nothing; then everything is released and tried again, after a few times
with the cross-shard token, whose holder's claims wait for locks instead. Only the holder of the token ever
waits while it holds locks, so there is no deadlock.

What changes several shards is pledged by each of them before any carries it out, with the message that locks
if the plan has nothing to look at, and else with one more. From the first commit on it will be carried out
on all of them, whoever dies (see shardkv.transactions).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from proxy.actions import (
    Action,
    Commit,
    Forget,
    GiveToken,
    Pause,
    Prepare,
    Release,
    Run,
    TakeToken,
)
from shardkv.command import Flag
from shardkv.errors import CommandError, caught
from shardkv.locks import LockKey, Transaction
from shardkv.plan import Call, Hop, Parts, Read, Values, Write
from shardkv.resp.replies import NULL_ARRAY

TRIES_WITHOUT_TOKEN = 3

_BACKOFF_MS = (0.5, 2.0)
"""The range a back-off is drawn from; it doubles with each try."""


@dataclass
class Counters:
    """What INFO tells of cross-shard work."""

    commands: int = 0
    transactions: int = 0
    """Those of them that are MULTI … EXEC."""
    retries: int = 0
    tokens: int = 0
    token_wait_ns: int = 0
    """The time that transactions have waited for the token, in sum."""


def transact(
    call: Call, number: Callable[[], Transaction], *, lock_reads: bool, counters: Counters
) -> Generator[Action, Any, Any]:
    """Carries out a command by its plan; returns the reply's value, a CommandError among them.

    number       names a transaction as no other is named; each try is one.
    lock_reads   whether reading commands lock as well: needed as soon as there are several proxies. Those
                 that find in one hop what the next one looks at always do.
    """
    counters.commands += 1
    if not call.writes and not call.needs_locks:
        # What a shard answers even while a script keeps it busy must not wait for locks.
        if not lock_reads or call.command.flags & Flag.ALLOW_BUSY:
            return (yield from _look(call))
        keys, whole = call.locks()
        if not keys:
            return (yield from _look(call))
    else:
        keys, whole = call.locks()
    attempt = 0
    while True:
        attempt += 1
        with_token = attempt > TRIES_WITHOUT_TOKEN
        if with_token:
            counters.tokens += 1
            yield TakeToken()
        reply = yield from _attempt(call, number(), keys, whole, wait=with_token)
        if with_token:
            yield GiveToken()
        if reply is not BUSY:
            return reply
        counters.retries += 1
        low, high = _BACKOFF_MS
        yield Pause(random.uniform(low, high) * 2**attempt)  # noqa: S311


BUSY = object()
"""What comes of a try that has found a lock taken. It holds nothing any more."""


def try_once(call: Call, number: Callable[[], Transaction]) -> Generator[Action, Any, Any]:
    """The same for a call that is made of several commands, if it can have all locks at once; else returns
    BUSY."""
    keys, whole = call.locks()
    return (yield from _attempt(call, number(), keys, whole, wait=False, several=True))


def _look(call: Call) -> Generator[Action, Any, Any]:
    """Carries out a reading plan without locks."""
    plan = call.plan()
    try:
        hop = next(plan)
        while True:
            hop = plan.send(values_of(call, (yield Run(hop.parts))))
    except StopIteration as stop:
        return stop.value
    except CommandError as error:
        return caught(error)


def _attempt(
    call: Call,
    transaction: Transaction,
    keys: dict[int, list[LockKey]],
    whole: bool,
    *,
    wait: bool,
    several: bool = False,
) -> Generator[Action, Any, Any]:
    """Locks, carries out the plan, unlocks. Returns the reply's value, or BUSY."""
    plan = call.plan()
    locked: list[int] = []
    try:
        hop = next(plan)
        while True:
            pledge = _pledge(hop)
            parts = hop.parts if isinstance(hop, Read) else {}
            if not locked or parts or pledge:
                prepare = Prepare(
                    transaction,
                    keys if not locked else _further_keys(call, hop),
                    whole and not locked,
                    call.writes,
                    wait,
                    parts,
                    pledge,
                    call.watcher,
                    call.watching if not locked else frozenset(),
                    frozenset(locked),
                    several,
                )
                values = yield prepare
                granted = [shard for shard, answers in values.items() if isinstance(answers, list)]
                # A shard that is only asked something knows the transaction as well from now on, and so may
                # one that answers with an error.
                locked += [
                    shard
                    for shard, answers in values.items()
                    if isinstance(answers, list | CommandError) and shard not in locked
                ]
                if len(granted) < len(prepare.keys):
                    yield Release(transaction, locked)
                    return _refusal(values)
            if isinstance(hop, Write):
                values = yield from _commit(transaction, hop.parts, locked, pledged=bool(pledge))
                locked = []
            hop = plan.send(values_of(call, {shard: values[shard] for shard in hop.parts}))
    except StopIteration as stop:
        reply = stop.value
    except CommandError as error:
        reply = caught(error)
    if locked:
        yield Release(transaction, locked)
    return reply


def _pledge(hop: Hop) -> Parts:
    """What has to be pledged for a hop: all that it changes, unless that is on one shard, which changes it
    all or nothing anyway."""
    return hop.parts if isinstance(hop, Write) and len(hop.parts) > 1 else {}


def _refusal(values: dict[int, Any]) -> Any:
    """The reply when not every shard has granted what was asked."""
    refused = [answer for answer in values.values() if not isinstance(answer, list)]
    if False in refused:
        return NULL_ARRAY
    return next((answer for answer in refused if isinstance(answer, CommandError)), BUSY)


def _further_keys(call: Call, hop: Hop) -> dict[int, list[LockKey]]:
    """What a hop after the first locks, for each shard that it asks something."""
    keys = hop.keys if isinstance(hop, Read) else {}
    return {shard: [(call.db, key) for key in keys.get(shard, ())] for shard in hop.parts}


def _commit(
    transaction: Transaction, parts: Parts, locked: list[int], *, pledged: bool
) -> Generator[Action, Any, dict[int, list[bytes]]]:
    """Has the shards carry out the last hop; those that have nothing to do in it only unlock."""
    idle = [shard for shard in locked if shard not in parts]
    if idle:
        yield Release(transaction, idle)
    values = yield Commit(transaction, dict.fromkeys(parts) if pledged else dict(parts))
    found = answered(values)
    if pledged:
        yield Forget(transaction, list(parts))
    return found


def answered(values: dict[int, Any]) -> dict[int, list[Any]]:
    """What the shards have answered, if each of them has. Raises the error that stands for those of a shard
    that has not."""
    for answers in values.values():
        if isinstance(answers, CommandError):
            raise answers
    return values


def values_of(call: Call, replies: dict[int, Any]) -> Values:
    """The values of shards' replies. Raises the error that a lost shard's stand for."""
    values = {
        shard: [call.value_of(reply) for reply in encoded] for shard, encoded in answered(replies).items()
    }
    for found in values.values():
        for value in found:
            if isinstance(value, CommandError) and is_lost(value):
                raise value
    return values


def is_lost(error: CommandError) -> bool:
    """Whether an error stands for a shard that could not answer."""
    return error.text.startswith(b"SHARDDOWN ")
