"""What the state machines of transactions want done: messages to the shards, the token, a while of waiting.

Who drives them (proxy.coordinator, or a simulation) does it, and tells them what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shardkv.command import COMMANDS
from shardkv.locks import LockKey, Transaction
from shardkv.plan import Parts, coded
from shardkv.watches import WatcherId


@dataclass(slots=True)
class Run:
    """Have each shard run requests; answered with a list of values a shard."""

    parts: Parts


@dataclass(slots=True)
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
    holding: frozenset[int] = frozenset()
    """The shards that hold locks for it already, and answer with an error if they have lost them."""
    several: bool = False
    """Whether it is made of several commands. A key that somebody waits for data of counts as locked then: he
    has to see what comes between them."""

    def messages(self, context: int) -> dict[int, list[Any]]:
        """The request to each shard."""
        participants = sorted(self.pledge)
        return {
            shard: internal(
                context,
                "prepare",
                self.transaction,
                [self.exclusive, self.whole, self.wait, shard in self.holding, self.several],
                locks,
                coded(context, self.parts.get(shard, [])),
                [participants, coded(context, self.pledge[shard])] if shard in self.pledge else None,
                self.watcher if shard in self.watching else None,
            )
            for shard, locks in self.keys.items()
        }


@dataclass(slots=True)
class Step:
    """Have each shard lock keys, waiting for them, and run requests at once, as a draft; answered with
    [whether the transaction has changed anything there, encoded replies] a shard. For the holder of the
    token."""

    transaction: Transaction
    keys: dict[int, list[LockKey]]
    whole: bool
    parts: Parts
    """The requests, coded."""
    holding: frozenset[int]
    """As for Prepare."""

    def messages(self, context: int) -> dict[int, list[Any]]:
        """The request to each shard."""
        return {
            shard: internal(
                context,
                "step",
                self.transaction,
                [self.whole, shard in self.holding],
                locks,
                self.parts.get(shard, []),
            )
            for shard, locks in self.keys.items()
        }


@dataclass(slots=True)
class RunScript:
    """Have a shard begin to run a script, a coded request; answered with what it wants, or its reply (see
    shardkv.commands.remote_script). For the holder of the token."""

    transaction: Transaction
    shard: int
    request: list[Any]
    user: bytes | None = None
    """Whose rights limit it; None if nobody's."""

    def messages(self, context: int) -> dict[int, list[Any]]:
        """The request to the shard."""
        return {self.shard: internal(context, "runscript", self.transaction, self.request, self.user)}


@dataclass(slots=True)
class ResumeScript:
    """Give a script the encoded value of what it wanted; answered likewise."""

    transaction: Transaction
    shard: int
    value: bytes

    def messages(self, context: int) -> dict[int, list[Any]]:
        """The request to the shard."""
        return {self.shard: internal(context, "resumescript", self.transaction, self.value)}


@dataclass(slots=True)
class Pledge:
    """Have each of these shards pledge to let its draft count; answered with an empty list a shard."""

    transaction: Transaction
    shards: list[int]

    def messages(self, context: int) -> dict[int, list[Any]]:
        """The request to each shard."""
        return {shard: internal(context, "pledge", self.transaction, self.shards) for shard in self.shards}


@dataclass(slots=True)
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


@dataclass(slots=True)
class Release:
    """Have each of these shards unlock; nobody waits for an answer."""

    transaction: Transaction
    shards: list[int]


@dataclass(slots=True)
class Forget:
    """Have each of these shards forget the transaction, some time: all of them have carried it out."""

    transaction: Transaction
    shards: list[int]


@dataclass(slots=True)
class Pause:
    """Wait for so many ms."""

    ms: float


@dataclass(slots=True)
class TakeToken:
    """Wait until this transaction has the cross-shard token."""


@dataclass(slots=True)
class GiveToken:
    """Give the token back."""


Action = (
    Run
    | Prepare
    | Step
    | RunScript
    | ResumeScript
    | Pledge
    | Commit
    | Release
    | Forget
    | Pause
    | TakeToken
    | GiveToken
)


def internal(context: int, name: str, *args: Any) -> list[Any]:
    """A request that only coordinators send."""
    return [context | COMMANDS[name].code, *args]
