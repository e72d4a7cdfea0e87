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
from dataclasses import dataclass, field
from typing import Any

from shardkv.command import COMMANDS
from shardkv.errors import CommandError
from shardkv.locks import LockKey, Transaction
from shardkv.plan import Call, Hop, Parts, Read, Values, Write, coded
from shardkv.resp.replies import NULL_ARRAY
from shardkv.watches import WatcherId

TRIES_WITHOUT_TOKEN = 3

_BACKOFF_MS = (0.5, 2.0)
"""The range a back-off is drawn from; it doubles with each try."""


@dataclass(frozen=True)
class Run:
    """Have each shard run requests; answered with a list of values a shard."""

    parts: Parts


@dataclass(frozen=True)
class Prepare:
    """Have each shard lock keys and run requests under the lock; answered with a list of values a shard, or
    None for a shard where a lock was taken."""

    transaction: Transaction
    keys: dict[int, list[LockKey]]
    whole: bool
    exclusive: bool
    wait: bool
    parts: Parts
    pledge: Parts = field(default_factory=dict)
    """What each shard that changes anything is to pledge."""
    watcher: WatcherId | None = None
    watching: frozenset[int] = frozenset()
    """The client whose watched keys must be as they were, and the shards that watch for it. A shard where one
    was touched answers False, and locks nothing."""

    def messages(self, context: int) -> dict[int, list[Any]]:
        """The request to each shard."""
        mode = [self.exclusive, self.whole, self.wait]
        participants = sorted(self.pledge)
        return {
            shard: internal(
                context,
                "prepare",
                self.transaction,
                mode,
                locks,
                coded(context, self.parts.get(shard, [])),
                [participants, coded(context, self.pledge[shard])] if shard in self.pledge else None,
                self.watcher if shard in self.watching else None,
            )
            for shard, locks in self.keys.items()
        }


@dataclass(frozen=True)
class Commit:
    """Have each shard run requests, or for None those it has pledged, as one and unlock; answered with a list
    of values a shard."""

    transaction: Transaction
    parts: dict[int, list[list[Any]] | None]

    def messages(self, context: int) -> dict[int, list[Any]]:
        """The request to each shard."""
        return {
            shard: internal(
                context, "commit", self.transaction, None if requests is None else coded(context, requests)
            )
            for shard, requests in self.parts.items()
        }


@dataclass(frozen=True)
class Release:
    """Have each of these shards unlock; nobody waits for an answer."""

    transaction: Transaction
    shards: list[int]


@dataclass(frozen=True)
class Forget:
    """Have each of these shards forget the transaction, some time: all of them have carried it out."""

    transaction: Transaction
    shards: list[int]


@dataclass(frozen=True)
class Pause:
    """Wait for so many ms."""

    ms: float


@dataclass(frozen=True)
class TakeToken:
    """Wait until this transaction has the cross-shard token."""


@dataclass(frozen=True)
class GiveToken:
    """Give the token back."""


Action = Run | Prepare | Commit | Release | Forget | Pause | TakeToken | GiveToken


@dataclass
class Counters:
    """What INFO tells of cross-shard work."""

    commands: int = 0
    retries: int = 0
    tokens: int = 0


def transact(
    call: Call, number: Callable[[], Transaction], *, lock_reads: bool, counters: Counters
) -> Generator[Action, Any, Any]:
    """Carries out a command by its plan; returns the reply's value, a CommandError among them.

    number       names a transaction as no other is named; each try is one.
    lock_reads   whether reading commands lock as well: needed as soon as there are several proxies. Those
                 that find in one hop what the next one looks at always do.
    """
    counters.commands += 1
    keys, whole = locked_keys(call)
    locks_reads = call.spreads or (lock_reads and keys) or call.watching
    if not call.writes and not locks_reads:
        return (yield from _look(call))
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
        if reply is not _BUSY:
            return reply
        counters.retries += 1
        low, high = _BACKOFF_MS
        yield Pause(random.uniform(low, high) * 2**attempt)  # noqa: S311


_BUSY = object()


def locked_keys(call: Call) -> tuple[dict[int, list[LockKey]], bool]:
    """What a command locks: keys by shard; or, if it has none, the whole of every shard."""
    keys, whole = call.locks()
    if whole:
        return {shard: [] for shard in range(call.shards)}, True
    found: dict[int, list[LockKey]] = {}
    for db, key in keys:
        found.setdefault(call.shard_of(key), []).append((db, key))
    return found, False


def _look(call: Call) -> Generator[Action, Any, Any]:
    """Carries out a reading plan without locks."""
    plan = call.plan()
    try:
        hop = next(plan)
        while True:
            hop = plan.send(_answered((yield Run(hop.parts))))
    except StopIteration as stop:
        return stop.value
    except CommandError as error:
        return error


def _attempt(
    call: Call, transaction: Transaction, keys: dict[int, list[LockKey]], whole: bool, *, wait: bool
) -> Generator[Action, Any, Any]:
    """Locks, carries out the plan, unlocks. Returns the reply's value, or `_BUSY`."""
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
                )
                values = yield prepare
                # A shard that is only asked something knows the transaction as well from now on.
                granted = [shard for shard, answers in values.items() if isinstance(answers, list)]
                locked += [shard for shard in granted if shard not in locked]
                if len(granted) < len(prepare.keys):
                    yield Release(transaction, locked)
                    return _refusal(values)
            if isinstance(hop, Write):
                values = yield from _commit(transaction, hop.parts, locked, pledged=bool(pledge))
                locked = []
            hop = plan.send({shard: values[shard] for shard in hop.parts})
    except StopIteration as stop:
        reply = stop.value
    except CommandError as error:
        reply = error
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
    return next((answer for answer in refused if isinstance(answer, CommandError)), _BUSY)


def _further_keys(call: Call, hop: Hop) -> dict[int, list[LockKey]]:
    """What a hop after the first locks, for each shard that it asks something."""
    keys = hop.keys if isinstance(hop, Read) else {}
    return {shard: [(call.db, key) for key in keys.get(shard, ())] for shard in hop.parts}


def _commit(
    transaction: Transaction, parts: Parts, locked: list[int], *, pledged: bool
) -> Generator[Action, Any, Values]:
    """Has the shards carry out the last hop; those that have nothing to do in it only unlock."""
    idle = [shard for shard in locked if shard not in parts]
    if idle:
        yield Release(transaction, idle)
    values = yield Commit(transaction, dict.fromkeys(parts) if pledged else dict(parts))
    answered = _answered(values)
    if pledged:
        yield Forget(transaction, list(parts))
    return answered


def internal(context: int, name: str, *args: Any) -> list[Any]:
    """A request that only coordinators send."""
    return [context | COMMANDS[name].code, *args]


def _answered(values: dict[int, Any]) -> Values:
    """The shards' values, if every shard gave some. Raises the error that stands for those of a lost
    shard."""
    for answers in values.values():
        if isinstance(answers, CommandError):
            raise answers
    return values
