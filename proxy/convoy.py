"""Convoys: commands of several clients that change the same shards travel as one transaction.

A command over several shards costs each of them two messages, locks, a pledge on disk and a batch of the log.
Where many clients send such commands, those that have come together share all of that. A convoy is as atomic
as each of its members has to be, and every shard carries them out in the same order.

Only what is known beforehand travels so: commands, and EXECs without watched keys, that ask each shard once
(see shardkv.plan.SINGLE_HOP). While a convoy is on its way, the next one over the same shards gathers, and
nobody departs who wants a key that is travelling; so convoys never meet each other's locks. One that meets
another transaction's disbands: its members go on alone, and who does not want what is locked need not wait.
Only who wants the same shards travels together, so that a shard that is slow or lost concerns nobody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from proxy.transaction import values_of
from shardkv import clock, limits
from shardkv.errors import CommandError, caught
from shardkv.locks import LockKey
from shardkv.plan import Call, Parts, Plan, Write, coded
from shardkv.wire import part_context

if TYPE_CHECKING:
    from proxy.backend import Block
    from proxy.coordinator import Coordinator
    from proxy.session import Session

Road = tuple[tuple[int, ...], bool]
"""What the members of a convoy have in common: their shards, and whether they need memory, which may be
refused."""


class Member:
    """A client's command that travels in a convoy."""

    __slots__ = ("begun_ns", "call", "encode", "keys", "names", "parts", "place", "plan", "session", "start")

    def __init__(
        self,
        session: Session,
        call: Call,
        plan: Plan,
        parts: Parts,
        keys: dict[int, list[LockKey]],
        block: Block,
        index: int,
    ) -> None:
        self.session = session
        self.call = call
        self.plan = plan
        self.place = (block, index)
        # What the session was when it sent the command decides how the reply looks.
        self.encode = session.encode
        self.begun_ns = clock.perf_counter_ns()
        context = part_context(session.context, call.db, looks=call.command.looks)
        self.parts = {shard: coded(context, requests) for shard, requests in parts.items()}
        self.keys = keys
        self.names = [name for names in self.keys.values() for name in names]
        self.start: dict[int, int] = {}
        """Where its requests begin among those of each shard."""

    suspends = True
    """Whether its session waits for it."""

    @property
    def is_idle(self) -> bool:
        return False

    def join(self, parts: Parts) -> None:
        """Adds what it asks to what the convoy asks."""
        for shard, requests in self.parts.items():
            together = parts.setdefault(shard, [])
            self.start[shard] = len(together)
            together += requests

    def outcome(self, replies: dict[int, list[bytes]]) -> Any:
        """The value of its reply, from all that the shards have answered."""
        mine = {
            shard: replies[shard][start : start + len(self.parts[shard])]
            for shard, start in self.start.items()
        }
        try:
            self.plan.send(values_of(self.call, mine))
        except StopIteration as stop:
            return stop.value
        except CommandError as error:
            return caught(error)
        raise AssertionError("a plan with a single hop has had another one")


@dataclass(kw_only=True)
class ConvoyCall(Call):
    """All that the members of a convoy want, as one call. The value of its reply is those of theirs."""

    members: list[Member]

    @property
    def needs_locks(self) -> bool:
        return True

    @property
    def writes(self) -> bool:
        return True

    def locks(self) -> tuple[dict[int, list[LockKey]], bool]:
        found: dict[int, list[LockKey]] = {}
        for member in self.members:
            for shard, keys in member.keys.items():
                found.setdefault(shard, []).extend(keys)
        return found, False

    def value_of(self, reply: bytes) -> Any:
        return reply

    def plan(self) -> Plan:
        parts: Parts = {}
        for member in self.members:
            member.join(parts)
        replies = yield Write(parts)
        return [member.outcome(replies) for member in self.members]


class Convoys:
    """Those of one proxy."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator
        self.gathering: dict[Road, list[Member]] = {}
        """Who is to travel next."""
        self._travelling: set[Road] = set()
        """The roads on which one is on its way."""
        self._keys: set[LockKey] = set()
        """What these lock."""

    def takes(self, session: Session, call: Call, block: Block, index: int) -> bool:
        """Whether a command travels with a convoy; if so it is under way."""
        if not call.has_single_hop or not call.writes or call.watching:
            return False
        plan = call.plan()
        try:
            hop = next(plan)
        except (CommandError, StopIteration):
            # It has nothing to ask of any shard, and will say so again.
            return False
        keys, whole = call.locks()
        if not isinstance(hop, Write) or len(hop.parts) < 2 or whole:
            return False
        member = Member(session, call, plan, hop.parts, keys, block, index)
        road = tuple(sorted(hop.parts)), call.needs_memory
        self.gathering.setdefault(road, []).append(member)
        self.coordinator.begins(member)
        self.coordinator.proxy.flush_soon()
        return True

    def depart(self) -> None:
        """Sends on their way all that have gathered and can go now."""
        for road in [road for road in self.gathering if road not in self._travelling]:
            members, waiting = self._who_can_go(self.gathering.pop(road))
            if waiting:
                self.gathering[road] = waiting
            if members:
                self._travelling.add(road)
                self.coordinator.send_convoy(members, road)

    def _who_can_go(self, gathered: list[Member]) -> tuple[list[Member], list[Member]]:
        """Of those that have gathered, who travels now, and who waits."""
        members: list[Member] = []
        waiting: list[Member] = []
        for member in gathered:
            can_go = len(members) < limits.CONVOY_MEMBERS and self._keys.isdisjoint(member.names)
            (members if can_go else waiting).append(member)
        self._keys.update(*(member.names for member in members))
        return members, waiting

    def arrived(self, members: list[Member], road: Road) -> None:
        """A convoy is done, or has disbanded."""
        self._travelling.remove(road)
        # Members may have had keys in common, but no others have.
        self._keys.difference_update(*(member.names for member in members))
        if self.gathering:
            self.coordinator.proxy.flush_soon()
