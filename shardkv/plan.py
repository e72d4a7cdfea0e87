"""How a command that concerns several shards is spread over them.

A plan is a generator. It yields hops, gets the values that the shards answered, and returns the reply's
value:

    def sum_of_parts(call):
        values = yield Read(call.by_shard())
        return sum(number for parts in values.values() for [number] in [parts])

A hop names requests by shard, as clients write them. `Read` hops look; a `Write` hop is the last one, and all
its shards carry it out together. Who drives the plan (the coordinator in a proxy) has locked the command's
keys before the first hop of a writing command, so what a Read found still holds at the Write. If a lock is
taken, the plan may be given up between two hops and begun anew. A plan does no I/O, and knows neither
processes nor pipes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from shardkv.command import COMMANDS, Command, lock_keys
from shardkv.errors import CommandError
from shardkv.locks import LockKey
from shardkv.resp.replies import OK, unpack_raw
from shardkv.slots import SLOTS, slot_of
from shardkv.wire import Batch

Parts = dict[int, list[list[Any]]]
"""Requests by shard."""

Values = dict[int, list[Any]]
"""The values of those requests, by shard, in the same order."""


@dataclass
class Read:
    """A hop that looks.

    It may lock keys that only an earlier hop has found: only on shards that it asks something, and not in the
    first hop. Only commands that declare `spreads` do so.
    """

    parts: Parts
    keys: dict[int, list[bytes]] = field(default_factory=dict)


@dataclass
class Write:
    """The last hop: changes, made on all its shards or on none."""

    parts: Parts


Hop = Read | Write
Plan = Generator[Hop, Values, Any]


@dataclass
class Call:
    """A client's command, as a plan sees it."""

    command: Command
    args: list[Any]
    """The request, its name in the first place."""
    db: int
    slot_table: list[int] = field(repr=False)
    shards: int
    slots: list[int] | None = None
    """The slots of what `positions` finds, in the request's order, if they are known."""
    user: bytes | None = None
    """Whose rights limit what a script does that it runs; None if nobody's."""

    @property
    def watcher(self) -> tuple[int, int] | None:
        """The client whose watched keys must not have been touched."""
        return None

    @property
    def watching(self) -> frozenset[int]:
        """The shards that watch keys for it."""
        return frozenset()

    @property
    def has_single_hop(self) -> bool:
        """Whether it is known beforehand what each shard has to do for it."""
        return self.command.plan in SINGLE_HOP

    @property
    def needs_memory(self) -> bool:
        """Whether it may be refused because there is no memory."""
        return self.command.needs_memory

    @property
    def needs_locks(self) -> bool:
        """Whether it locks its keys even if it only looks, and no other proxy can come between."""
        return self.spreads

    @property
    def writes(self) -> bool:
        """Whether it may change anything."""
        return self.command.writes

    @property
    def is_interactive(self) -> bool:
        """Whether it is not carried out by a plan, but by the steps that its `conduct` makes."""
        return False

    def conduct(self, interaction: Any) -> Generator[Any, Any, Any]:
        """Makes the steps of an interactive call (see proxy.interactive)."""
        raise NotImplementedError

    def plan(self) -> Plan:
        """How it is carried out."""
        made: Plan = self.command.plan(self)
        return made

    def locks(self) -> tuple[dict[int, list[LockKey]], bool]:
        """What it needs for itself while it is carried out: keys by shard; or, if it has none, the whole of
        every shard."""
        if self.positions and self.command.locks is None and not self.command.routed_by:
            db, args = self.db, self.args
            return {
                shard: [(db, args[position]) for position in positions]
                for shard, positions in self.positions.items()
            }, False
        return self.locks_by_shard(*lock_keys(self.db, self.command, self.args))

    def locks_by_shard(self, keys: list[LockKey], whole: bool) -> tuple[dict[int, list[LockKey]], bool]:
        """The same, from what `lock_keys` says."""
        if whole:
            return {shard: [] for shard in range(self.shards)}, True
        found: dict[int, list[LockKey]] = {}
        for name in keys:
            found.setdefault(self.shard_of(name[1]), []).append(name)
        return found, False

    def done(self) -> None:
        """It is over."""

    def value_of(self, reply: bytes) -> Any:
        """What a shard's encoded reply stands for."""
        return unpack_raw(reply)

    @property
    def spreads(self) -> bool:
        """Whether it touches keys that its words do not name."""
        return self.command.spreads(self.args)

    def shard_of(self, key: bytes) -> int:
        """The shard that owns a key."""
        return self.slot_table[slot_of(key)]

    @cached_property
    def positions(self) -> dict[int, list[int]]:
        """The positions of the command's keys in its request, or of its channel, by shard."""
        args, command = self.args, self.command
        slots = command.route_slots(args) if self.slots is None else self.slots
        shards = map(self.slot_table.__getitem__, slots)
        found: dict[int, list[int]] = {}
        for position, shard in zip(command.route_positions(args), shards, strict=True):
            if shard in found:
                found[shard].append(position)
            else:
                found[shard] = [position]
        return found

    def by_shard(self) -> Parts:
        """The same command for each shard, with the shard's own keys and what follows each of them up to the
        next key. For commands that are a name and a list of keys, or of keys and values."""
        args, step = self.args, self.command.keys[0].step
        parts: Parts = {}
        for shard, positions in self.positions.items():
            words = [args[0]]
            if step == 1:
                words += map(args.__getitem__, positions)
            else:
                for at in positions:
                    words += args[at : at + step]
            parts[shard] = [words]
        return parts

    def run_of(self, slot: int, most: int) -> tuple[int, int]:
        """The shard that owns a slot, and the first slot after it that another owns, or that is `most` on."""
        shard = self.slot_table[slot]
        owners = self.slot_table[slot : slot + most]
        if owners.count(shard) == len(owners):
            return shard, slot + len(owners)
        return shard, next(number for number in range(slot, SLOTS) if self.slot_table[number] != shard)

    def everywhere(self) -> Parts:
        """The same request for every shard."""
        return {shard: [list(self.args)] for shard in range(self.shards)}


def coded(context: int, requests: list[list[Any]]) -> Batch:
    """The requests of a hop as a shard takes them: with the code in place of the command's name, unless it is
    there already.

    context   the database and the reply format (see `wire.pack_context`).
    """
    batch = []
    for request in requests:
        if isinstance(request[0], int):
            batch.append(request)
            continue
        command = COMMANDS[request[0].lower().decode()]
        if command.is_container:
            command = command.subcommands[request[1].lower().decode()]
        slot = slot_of(request[1]) if command.one_key else 0
        batch.append([context | command.code | slot, *request[1:]])
    return batch


def check(values: Values) -> None:
    """Raises the first error among the values."""
    for answers in values.values():
        for answer in answers:
            if isinstance(answer, CommandError):
                raise answer


SINGLE_HOP: set[Callable[[Call], Plan]] = set()
"""Plans that have one hop in any case."""


def single_hop(plan: Callable[[Call], Plan]) -> Callable[[Call], Plan]:
    """Says of the decorated plan that it has one hop, so that it can be a part of a transaction."""
    SINGLE_HOP.add(plan)
    return plan


def _hop(call: Call, parts: Parts) -> Hop:
    return Write(parts) if call.command.writes else Read(parts)


@single_hop
def sum_of_keys(call: Call) -> Plan:
    """Each shard gets its own keys; the reply is the sum of theirs. DEL, EXISTS, TOUCH."""
    values = yield _hop(call, call.by_shard())
    check(values)
    return sum(answers[0] for answers in values.values())


@single_hop
def values_of_keys(call: Call) -> Plan:
    """Each shard gets its own keys; the reply holds an element a key, in the request's order. MGET."""
    values = yield _hop(call, call.by_shard())
    check(values)
    found: dict[int, Any] = {}
    for shard, positions in call.positions.items():
        found.update(zip(positions, values[shard][0], strict=True))
    return list(map(found.__getitem__, sorted(found)))


@single_hop
def ok_of_keys(call: Call) -> Plan:
    """Each shard gets its own keys and values; the reply is OK. MSET."""
    check((yield _hop(call, call.by_shard())))
    return OK


def first_filled(call: Call, keys: Sequence[bytes], count: bytes) -> Plan:
    """A part of a plan: finds the first key that has any elements, by a command such as LLEN that counts
    them; None if there is no such key."""
    parts: Parts = {}
    for key in keys:
        parts.setdefault(call.shard_of(key), []).append([count, key])
    values = yield Read(parts)
    for key in keys:
        found = values[call.shard_of(key)].pop(0)
        if isinstance(found, CommandError):
            raise found
        if found:
            return key
    return None


def everywhere(merge: Callable[[list[Any]], Any]) -> Callable[[Call], Plan]:
    """A plan that puts the same request to every shard and merges their values, in the shards' order."""

    @single_hop
    def plan(call: Call) -> Plan:
        values = yield _hop(call, call.everywhere())
        check(values)
        return merge([values[shard][0] for shard in sorted(values)])

    return plan


def concatenate(lists: list[list[Any]]) -> list[Any]:
    """Merges the shards' lists into one."""
    return [item for part in lists for item in part]


def first(values: list[Any]) -> Any:
    """Takes the first shard's value, where all say the same."""
    return values[0]
