"""The supervisor's part in moving slots: does what their state machine (proxy.resharding) wants done, with
real processes and the real slot map."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy import relay
from proxy.balance import Costs, SlotCost, balance, loads
from proxy.relay import Answers
from proxy.resharding import Action, AskProxies, AskShard, Begin, Discard, End, Resharding, Rest, Save, Steps
from shardkv import control, limits
from shardkv.slotmap import Layout, SlotMap, SlotMapUncertainError, from_table, save_slot_map

if TYPE_CHECKING:
    from proxy.supervisor import Child, Supervisor

logger = logging.getLogger("proxy.relocation")

_NOTHING = object()
_TRAVELLING = "moving.{}"


class Relocation:
    """The one change of shards and slots that is under way, if one is."""

    def __init__(self, supervisor: Supervisor, folder: Path, layout: Layout) -> None:
        self.supervisor = supervisor
        self.folder = folder
        self.resharding = Resharding(
            layout.table, layout.shards, layout.target, str(folder / _TRAVELLING), uneven=layout.uneven
        )
        self._steps: Steps | None = None
        self._outcome: Any = _NOTHING
        self._is_going_on = False
        self._rest_until_s: float | None = None
        self._rested_s = 0.0
        self._begun: Child | None = None
        self._ending: Child | None = None
        self._remove_leftovers()

    @property
    def active(self) -> bool:
        """Whether anything is being changed."""
        return self._steps is not None

    def _remove_leftovers(self) -> None:
        """Removes what travelled when a server died, and shards that the slot map does not know any more."""
        for path in self.folder.glob(_TRAVELLING.format("*")):
            path.unlink()
        for path in self.folder.glob("shard-*"):
            number = path.name.removeprefix("shard-")
            if number.isdigit() and int(number) >= self.resharding.shards:
                logger.info("%s: removed, for its slots have gone to other shards", path)
                shutil.rmtree(path)

    # -- what is wanted -------------------------------------------------------------------------

    def retarget(self, shards: int) -> None:
        """There are to be so many shards."""
        resharding = self.resharding
        if shards == resharding.target:
            return
        resharding.retarget(shards)
        self._save(resharding.table, resharding.shards)
        self.begin()

    def rebalance(self, costs: Costs, *, only_shown: bool) -> list[list[int]] | None:
        """Begins to move slots so that all shards bear about the same of these costs, or only finds out what
        that would be.

        Returns of each shard [slots, bytes, requests] before and after; None if slots are being moved
        already.
        """
        resharding = self.resharding
        if self.active or not resharding.done:
            return None
        shards = resharding.shards
        wanted = balance(resharding.table, shards, costs)
        outcome = [
            [*astuple(before), *astuple(after)]
            for before, after in zip(
                loads(resharding.table, shards, costs), loads(wanted, shards, costs), strict=True
            )
        ]
        if not only_shown and wanted != resharding.table:
            resharding.rebalance(wanted)
            self._save(resharding.table, shards)
            self.begin()
        return outcome

    def begin(self) -> None:
        """Begins to change what is not as it is wanted, unless that is being done."""
        resharding = self.resharding
        if self._steps is None and not resharding.done:
            logger.info(
                "from %d to %d shards: %d slots move", resharding.shards, resharding.target, resharding.left
            )
            self._rested_s = time.monotonic()
            self._steps = resharding.steps()
            self._go_on(None)

    # -- what happens ---------------------------------------------------------------------------

    def turn(self, now_s: float) -> None:
        """Looks whether what is waited for has happened."""
        if self._rest_until_s is not None and self._rest_until_s <= now_s:
            self._rest_until_s = None
            self._rested_s = now_s
            self._go_on(None)
        if self._begun is not None and self._begun.ready:
            self._begun = None
            self._go_on(None)
        if self._ending is not None and not self._ending.running:
            self._ended()

    def stop(self) -> None:
        """The server ends: what proxies hold back is sent on to who owns it, and nothing moves any more."""
        resharding = self.resharding
        self._steps = None
        if resharding.held is not None:
            number, slots = resharding.held
            owner = resharding.table[slots[0]] if slots else 0
            self.supervisor.relay.ask_group(
                self.supervisor.proxies,
                control.LET_GO_SLOTS,
                [number, slots, owner, resharding.shards],
                lambda answers: None,
            )

    def next_deadline(self) -> float | None:
        """When `turn` is next needed, by the monotonic clock."""
        return self._rest_until_s

    def _go_on(self, outcome: Any) -> None:
        """Goes on with the outcome of the last action, to where there is something to wait for."""
        self._outcome = outcome
        if self._is_going_on or self._steps is None or self.supervisor.stopping:
            return
        self._is_going_on = True
        while self._outcome is not _NOTHING:
            outcome, self._outcome = self._outcome, _NOTHING
            try:
                action = self._steps.send(outcome)
            except StopIteration:
                self._steps = None
                self._save(self.resharding.table, self.resharding.shards)
                logger.info("there are %d shards, as wanted", self.resharding.shards)
                break
            self._do(action)
        self._is_going_on = False

    def _do(self, action: Action) -> None:
        supervisor = self.supervisor
        match action:
            case AskShard(shard, name, body):
                worker = supervisor.workers[shard]
                if worker.channel is None or not worker.ready:
                    self._outcome = None
                    return
                supervisor.relay.ask_group([worker], name, body, self._shard_answered, patience_s=None)
            case AskProxies(name, body, patience_s):
                count = len(supervisor.proxies)
                supervisor.relay.ask_group(
                    supervisor.proxies,
                    name,
                    body,
                    lambda answers: self._proxies_answered(answers, count),
                    patience_s=patience_s,
                )
            case Save(table, shards):
                self._outcome = self._save(table, shards)
            case Begin(shard):
                self._begin_shard(shard)
            case End(shard):
                self._ending = supervisor.workers.pop()
                assert self._ending.index == shard
                supervisor.retire(self._ending)
            case Discard(number):
                Path(self.resharding.path.format(number)).unlink(missing_ok=True)
                self._outcome = None
            case Rest(seconds):
                now_s = time.monotonic()
                if seconds is None:
                    seconds = (now_s - self._rested_s) * limits.MOVE_REST
                self._rest_until_s = now_s + seconds

    def _shard_answered(self, answers: Answers) -> None:
        self._go_on(answers[0][2] if answers else None)

    def _proxies_answered(self, answers: Answers, count: int) -> None:
        self._go_on(len(answers) == count and all(answer is True for _, _, answer in answers))

    def _save(self, table: list[int], shards: int) -> bool:
        """Makes a slot map the one that counts."""
        supervisor, resharding = self.supervisor, self.resharding
        slot_map = from_table(
            table, shards, supervisor.config.colocate, resharding.target, uneven=resharding.uneven
        )
        try:
            self._write(slot_map)
        except OSError as error:
            logger.error("the slot map cannot be saved: %s", error)
            return False
        except SlotMapUncertainError as error:
            # Both shards have the keys still. At the next start the map says which of them counts.
            logger.critical("%s", error)
            supervisor.stop(1)
            return False
        resharding.table[:] = table
        resharding.shards = shards
        return True

    def _write(self, slot_map: SlotMap) -> None:
        save_slot_map(self.folder, slot_map)

    # -- shards ---------------------------------------------------------------------------------

    def _remove_folder(self, shard: int) -> None:
        shutil.rmtree(self.folder / f"shard-{shard}", ignore_errors=True)

    def _begin_shard(self, shard: int) -> None:
        supervisor = self.supervisor
        if len(supervisor.workers) <= shard:
            self._remove_folder(shard)
            supervisor.add_worker()
        self._begun = supervisor.workers[shard]
        if self._begun.ready:
            self._begun = None
            self._outcome = None

    def _ended(self) -> None:
        assert self._ending is not None
        shard, self._ending = self._ending.index, None
        self._remove_folder(shard)
        self._go_on(None)


@relay.topic("rebalance")
def _rebalance(supervisor: Supervisor, body: Any) -> Any:
    """Balances the shards: [[[slot, bytes, requests], …], whether only to show what would be moved]."""
    costs, only_shown = body
    known = {slot: SlotCost(size, requests) for slot, size, requests in costs}
    return supervisor.relocation.rebalance(known, only_shown=only_shown)
