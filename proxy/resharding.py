"""How slots are moved between shards, and shards added and removed, as a state machine.

`Resharding.steps` is a generator: it yields what has to be done next, and is sent what came of it. It does no
I/O and knows no clock, so that a simulation can drive it as well as the supervisor.

Some slots at a time are moved, in these steps:

1. hold: the proxies hold back requests for the slots, and what concerns all shards; nothing is under way;
2. send: their shard writes their keys into a file;
3. take: the next owner loads them, and has them on disk;
4. save: the slot map says who owns them. This is the moment from which on they have moved;
5. drop: the shard they came from removes them, in its log as well;
6. let go: the proxies send what was held back to the owner.

A shard that is loaded drops what it does not own by the slot map. So whoever dies at whatever step: before
the save the keys are where they were, and after it they are where they have gone to.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from shardkv import control, limits
from shardkv.slotmap import balanced
from shardkv.slots import SLOTS


@dataclass(frozen=True)
class AskShard:
    """Ask a shard; answered with its answer, None if it has none or is gone."""

    shard: int
    topic: str
    body: Any = None


@dataclass(frozen=True)
class AskProxies:
    """Ask every proxy; answered with whether all have said yes, in time if there is a time (in s)."""

    topic: str
    body: Any
    patience_s: float | None = None


@dataclass(frozen=True)
class Save:
    """Save the slot map; answered with whether it is saved. If not, the old one counts."""

    table: list[int]
    shards: int


@dataclass(frozen=True)
class Begin:
    """Start a further shard, and wait until it is there."""

    shard: int


@dataclass(frozen=True)
class End:
    """End a shard that owns nothing, and remove what it has on disk."""

    shard: int


@dataclass(frozen=True)
class Discard:
    """Remove the file that keys have travelled in."""

    number: int


@dataclass(frozen=True)
class Rest:
    """Wait so many seconds; or, if None, for a part of the time since the last rest."""

    seconds: float | None


Action = AskShard | AskProxies | Save | Begin | End | Discard | Rest
Steps = Generator[Action, Any, Any]


class Resharding:
    """Which shard owns which slots, and how that is changed.

    table     entry `slot` is the shard that owns it; shards: how many there are.
    target    how many there are to be. It may be changed at any time.
    path      where the keys of a move travel, a format for its number.
    deaths    how many processes have died: a move during which any did is not carried through.
    moved     how many slots have moved since the last change of the target; failures: how often in a row a
              move could not be made.
    """

    def __init__(
        self, table: list[int], shards: int, target: int, path: str, *, uneven: bool = False
    ) -> None:
        self.table = table
        self.shards = shards
        self.path = path
        self.begun = shards
        """How many have been started. One that is not counted among the shards yet, or any more, is to end
        unless it is wanted."""
        self.deaths = 0
        self.moved = 0
        self.failures = 0
        self.held: tuple[int, list[int]] | None = None
        """The number and the slots of the move for which proxies hold requests back."""
        self._numbers = itertools.count(1)
        self.uneven = uneven
        """Whether shards are to own unequally many slots."""
        self.retarget(target)
        if uneven:
            self.rebalance(table[:])

    def rebalance(self, wanted: list[int]) -> None:
        """The shards that there are shall own the slots as this table says."""
        self.wanted = wanted
        self.uneven = True
        self.moved = 0

    def retarget(self, target: int) -> None:
        """There are to be so many shards, with equally many slots."""
        self.target = target
        self.wanted = balanced(self.table, target)
        self.uneven = False
        self.moved = 0

    @property
    def left(self) -> int:
        """How many slots are not yet where they are wanted."""
        return sum(owner != wanted for owner, wanted in zip(self.table, self.wanted, strict=True))

    @property
    def done(self) -> bool:
        """Whether all is as it is wanted."""
        return self.begun == self.shards == self.target and self.table == self.wanted

    def steps(self) -> Steps:
        """Changes things until they are as they are wanted."""
        while not self.done:
            if self.begun > self.shards >= self.target:
                self.begun -= 1
                yield End(self.begun)
                continue
            if self.shards < self.target:
                done = yield from self._add()
            elif self.table != self.wanted:
                done = yield from self._move_some()
            else:
                done = yield from self._remove()
            if done:
                self.failures = 0
                yield Rest(None)
            else:
                shortest, longest = limits.MOVE_RETRY_S
                yield Rest(min(longest, shortest * 2**self.failures))
                self.failures = min(self.failures + 1, 10)

    # -- slots ----------------------------------------------------------------------------------

    def _move_some(self) -> Steps:
        source, target, slots = self._next()
        most = yield AskShard(source, control.WEIGH_SLOTS, [slots, limits.MOVE_WEIGHT])
        if not most:
            return False
        slots = slots[:most]
        number = next(self._numbers)
        deaths = self.deaths
        moved = False
        if (yield from self._hold(number, slots, source, target)):
            moved = yield from self._carry(number, slots, source, target, deaths)
        yield from self._let_go(number, slots, target if moved else source)
        self.moved += len(slots) if moved else 0
        return moved

    def _next(self) -> tuple[int, int, list[int]]:
        """Where slots go from and to next, and all that go that way."""
        table, wanted = self.table, self.wanted
        first = next(slot for slot in range(SLOTS) if table[slot] != wanted[slot])
        way = table[first], wanted[first]
        return *way, [slot for slot in range(first, SLOTS) if (table[slot], wanted[slot]) == way]

    def _carry(self, number: int, slots: list[int], source: int, target: int, deaths: int) -> Steps:
        """Carries the keys of slots that are held to their next owner; returns whether it owns them."""
        path = self.path.format(number)
        touched = yield AskShard(source, control.SEND_SLOTS, [slots, path])
        if touched is None:
            yield Discard(number)
            return False
        taken = yield AskShard(target, control.TAKE_SLOTS, [slots, source, path, touched])
        yield Discard(number)
        saved = False
        if taken and self.deaths == deaths:
            table = self.table[:]
            for slot in slots:
                table[slot] = target
            saved = yield Save(table, self.shards)
        if saved:
            yield AskShard(source, control.DROP_SLOTS, [slots, target])
        else:
            yield AskShard(target, control.DROP_SLOTS, [slots, source])
        return saved

    def _hold(self, number: int, slots: list[int], source: int, target: int) -> Steps:
        """Has the proxies hold slots; returns whether all do."""
        self.held = number, slots
        asked = [source, target] if slots else list(range(self.shards))
        body = [number, slots, source, target, asked]
        return (yield AskProxies(control.HOLD_SLOTS, body, limits.MOVE_PATIENCE_S))

    def _let_go(self, number: int, slots: list[int], owner: int) -> Steps:
        self.held = None
        yield AskProxies(control.LET_GO_SLOTS, [number, slots, owner, self.shards])

    # -- shards ---------------------------------------------------------------------------------

    def _add(self) -> Steps:
        """Adds a shard, which owns nothing yet."""
        shard = self.shards
        number = next(self._numbers)
        self.begun = shard + 1
        yield Begin(shard)
        if (yield from self._hold(number, [], 0, 0)):
            known = yield AskShard(0, control.LIBRARIES)
            if known is not None and (yield AskShard(shard, control.TAKE_LIBRARIES, known)):
                yield Save(self.table, shard + 1)
        yield from self._let_go(number, [], 0)
        return self.shards > shard

    def _remove(self) -> Steps:
        """Takes out the last shard, which owns nothing any more."""
        shard = self.shards - 1
        number = next(self._numbers)
        held = yield from self._hold(number, [], 0, 0)
        if held and (yield AskShard(shard, control.MAY_LEAVE)):
            yield Save(self.table, shard)
        yield from self._let_go(number, [], 0)
        return self.shards == shard
