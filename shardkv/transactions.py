"""A shard's part in the transactions that span shards.

A transaction locks keys here; what others ask of those keys waits. If it is to change several shards, each of
them first pledges to carry out its part: it puts the part on disk (see shardkv.aof.side_log), and from then
on neither gives up the locks nor the part by itself. A commit carries it out. If a process dies in between,
the transaction is in doubt until the supervisor has asked every shard that has a part in it (see
proxy.resolver): it freezes the transaction, so that nobody else decides any more, and then settles it. It is
committed if any shard has committed it, and else given up.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from shardkv import errors, limits
from shardkv.command import BY_ID, COMMANDS
from shardkv.drafts import Draft
from shardkv.errors import CommandError
from shardkv.locks import LockKey, Locks, Transaction
from shardkv.resp.replies import raw
from shardkv.slots import SLOT_BITS, SLOT_MASK
from shardkv.wire import RAW, Batch, Reply, pack_context, unpack_context

if TYPE_CHECKING:
    from shardkv.commands.remote_script import RemoteScript
    from shardkv.shard import Shard

logger = logging.getLogger("shardkv.transactions")

COMMITTED = "committed"
PREPARED = "prepared"
UNKNOWN = "unknown"


class Late(NamedTuple):
    """The reply of a request that had to wait."""

    ticket: int
    reply: bytes
    encode: Callable[[Any], bytes] | None
    """How to encode another reply, for a request that may have been logged in this turn."""


class Link(Protocol):
    """The proxy a batch came from, as far as the shard knows it."""

    proxy: int

    @property
    def late(self) -> list[Late]:
        """Replies of requests that had to wait, with their tickets."""

    def next_ticket(self) -> int:
        """The ticket of a request that is answered with nil now."""


class Resumed:
    """The link of a request that has waited for locks already, and has its ticket."""

    def __init__(self, link: Link, ticket: int) -> None:
        self.proxy = link.proxy
        self._link = link
        self._ticket = ticket

    @property
    def late(self) -> list[Late]:
        return self._link.late

    def next_ticket(self) -> int:
        return self._ticket


@dataclass(slots=True)
class Parked:
    """A request that waits for locked keys. `args[0]` still holds its code."""

    link: Link
    ticket: int
    args: list[Any]
    keys: list[LockKey]
    whole: bool
    writes: bool
    encode: Callable[[Any], bytes]
    lock: tuple[Transaction, bool] | None = None
    """For the token holder's claim of locks: whose, and whether exclusive; its request runs once it holds
    them."""


@dataclass(slots=True)
class Pledge:
    """What a shard has promised to do if a transaction is committed.

    participants   the shards that have pledged something for it, this one among them.
    keys, whole    what it has locked here.
    now_ms         the time that counts for its requests.
    requests       the requests to run, coded; they are run again if the shard dies before they are logged.
    records        or, for what is done already as a draft, the records to log.
    frozen         whether its outcome is for the supervisor alone to settle.
    """

    participants: list[int]
    keys: list[LockKey]
    whole: bool
    now_ms: int
    requests: Batch
    records: bytes = b""
    frozen: bool = False


class Transactions:
    """The locks of one shard, the requests that wait for them, and what the shard has pledged."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.locks = Locks()
        self.pledges: dict[Transaction, Pledge] = {}
        self.drafts: dict[Transaction, Draft] = {}
        self.remote_scripts: dict[Transaction, RemoteScript] = {}
        """Scripts that are suspended until something on another shard is done."""
        self.committed: dict[Transaction, list[int]] = {}
        """Those carried out here whose coordinator has not said that they are everywhere, with their
        participants: another shard may have to ask for the outcome."""
        self.notes: list[list[Any]] | None = None
        """What the side log has to be told; None while there is no append-only file."""
        self._given_up: deque[Transaction] = deque(maxlen=limits.GIVEN_UP_TRANSACTIONS)
        """Transactions that nothing may be pledged for any more, for their outcome is settled."""
        self._parked: list[Parked] = []

    # -- requests that wait -----------------------------------------------------------------------

    def park(self, parked: Parked) -> None:
        """Lets a request wait until its keys are free."""
        self._parked.append(parked)
        self.locks.enter(parked.keys, whole=parked.whole)

    def _run_parked(self) -> None:
        """Runs, in order of arrival, every waiting request that nothing holds up any more."""
        self.shard.tracking.writer = 0
        waiting, self._parked = self._parked, []
        for parked in waiting:
            self.locks.leave(parked.keys, whole=parked.whole)
        for parked in waiting:
            if parked.lock is not None:
                owner, exclusive = parked.lock
                ready = self.locks.lock(owner, parked.keys, whole=parked.whole, exclusive=exclusive)
            else:
                ready = not self.locks.must_wait(parked.keys, whole=parked.whole, writes=parked.writes)
            if not ready:
                self.park(parked)
                continue
            link = Resumed(parked.link, parked.ticket)
            [reply] = self.shard.run([parked.args], link, locked=True)
            # One without a reply waits for data now.
            if reply is not None:
                encode = parked.encode if parked.writes else None
                self.shard.answer(parked.link, parked.ticket, reply, encode)

    def withdraw(self, identity: tuple[int, int]) -> Parked | None:
        """Takes out a request that may wait for data (see shardkv.blocking) and still waits for locks; None
        if it does not wait."""
        for parked in self._parked:
            command = BY_ID[unpack_context(parked.args[0] >> SLOT_BITS).command_id]
            if command.waits is None or parked.link.proxy != identity[0]:
                continue
            if command.waits.number(parked.args) == identity[1]:
                self._parked.remove(parked)
                self.locks.leave(parked.keys, whole=parked.whole)
                return parked
        return None

    def forget_proxy(self, proxy: int) -> list[Transaction]:
        """A proxy is gone: its waiting requests are dropped and its transactions given up, but for those
        with a pledge, kept or not. Returns these: their outcome has to be known everywhere."""
        for parked in [parked for parked in self._parked if parked.link.proxy == proxy]:
            self._parked.remove(parked)
            self.locks.leave(parked.keys, whole=parked.whole)
        shard = self.shard
        shard.serving.forget_proxy(proxy)
        shard.until_durable = [waiting for waiting in shard.until_durable if waiting[0].proxy != proxy]
        in_doubt = [owner for owner in self.open if owner[0] == proxy]
        for owner in self.locks.held_by(proxy):
            if owner not in self.pledges:
                self._undo(owner)
                self.locks.release(owner)
        shard.serving.serve()
        self._run_parked()
        return in_doubt

    # -- locks ------------------------------------------------------------------------------------

    def claim(
        self,
        owner: Transaction,
        keys: list[LockKey],
        *,
        whole: bool,
        exclusive: bool,
        wait: Link | None,
        args: list[Any],
    ) -> bool | None:
        """Locks keys for a transaction. True when it has them; False when another has; None when the claim
        waits, as one from the holder of the token does, and `args`, the whole request, is run again once it
        has them; `wait` is where its reply goes then."""
        if self.locks.lock(owner, keys, whole=whole, exclusive=exclusive):
            return True
        if wait is None:
            return False
        lock = (owner, exclusive)
        self.park(Parked(wait, wait.next_ticket(), args, keys, whole, exclusive, raw, lock=lock))
        return None

    def check_holds(self, owner: Transaction) -> None:
        """Raises CommandError if a transaction does not hold the locks that it believes to hold: the shard
        was started anew, and others may have changed what it has seen."""
        if owner not in self.locks.held:
            raise CommandError(errors.GIVEN_UP)

    def release(self, owner: Transaction) -> None:
        """Gives a transaction up, unless its outcome is being settled, and lets the requests run that waited
        for its keys."""
        pledge = self.pledges.get(owner)
        if pledge is not None:
            if pledge.frozen:
                return
            self._drop(owner)
        self._undo(owner)
        self._unlock(owner)

    def _undo(self, owner: Transaction) -> None:
        script = self.remote_scripts.pop(owner, None)
        if script is not None:
            script.abandon()
        draft = self.drafts.pop(owner, None)
        if draft is not None:
            draft.undo()

    def _unlock(self, owner: Transaction) -> None:
        if not self.locks.release(owner):
            return
        if self.shard.ready:
            # They came before the requests that have only waited for the transaction.
            self.shard.serving.serve()
        if self._parked:
            self._run_parked()

    # -- pledges ----------------------------------------------------------------------------------

    def pledge(self, owner: Transaction, participants: list[int], requests: Batch) -> None:
        """Promises to run requests if the transaction is committed. Raises CommandError if that cannot be
        promised."""
        shard = self.shard
        if shard.refusal is not None:
            raise CommandError(shard.refusal)
        if owner in self._given_up:
            raise CommandError(errors.GIVEN_UP)
        self.check_holds(owner)
        shard.check_memory(requests)
        held = self.locks.held[owner]
        draft = self.drafts.get(owner)
        records = b"" if draft is None else b"".join(draft.records)
        pledge = Pledge(participants, [*held.keys], held.whole, shard.now_ms, requests, records)
        self.pledges[owner] = pledge
        if self.notes is not None:
            self.notes.append(["pledge", *owner, *_kept(pledge)])

    def run_draft(self, owner: Transaction, requests: Batch) -> list[Reply]:
        """Runs requests of a transaction, which holds the locks for them, at once; what they change can still
        be undone. Returns the encoded replies."""
        with self.draft(owner).open():
            return self.shard.run(requests, locked=True)

    def draft(self, owner: Transaction) -> Draft:
        """The draft of a transaction, begun if there is none."""
        draft = self.drafts.get(owner)
        if draft is None:
            draft = self.drafts[owner] = Draft(self.shard)
        return draft

    def commit(self, owner: Transaction, requests: Batch | None) -> list[Reply]:
        """Carries a transaction out and gives up its locks; returns the encoded replies.

        requests   None for what was pledged, or is done already as a draft. Raises CommandError if there is
                   neither, or the outcome is being settled.
        """
        if requests is not None:
            self.check_holds(owner)
            self.shard.check_memory(requests)
            replies = self.shard.run_together(requests)
        elif owner in self.drafts and owner not in self.pledges:
            replies = self._finish(self.drafts.pop(owner), None)
        else:
            pledge = self.pledges.get(owner)
            if pledge is None:
                raise CommandError(errors.GIVEN_UP)
            if pledge.frozen:
                raise CommandError(errors.IN_DOUBT)
            replies = self._carry_out(owner, pledge)
        self._unlock(owner)
        return replies

    def _carry_out(self, owner: Transaction, pledge: Pledge) -> list[Reply]:
        draft = self.drafts.pop(owner, None)
        if draft is not None:
            replies = self._finish(draft, owner)
        elif pledge.records:
            replies = self.shard.redo(pledge.records, owner)
        else:
            replies = self.shard.run_together(pledge.requests, owner)
        del self.pledges[owner]
        self.committed[owner] = pledge.participants
        self._note("commit", owner)
        return replies

    def _finish(self, draft: Draft, owner: Transaction | None) -> list[Reply]:
        """Lets what is done already count."""
        self.shard.log_together(draft.records, owner)
        self.shard.start_of_file()
        draft.publish()
        return []

    def _drop(self, owner: Transaction) -> None:
        del self.pledges[owner]
        self._undo(owner)
        self._given_up.append(owner)
        self._note("give up", owner)

    def forget(self, owners: list[Transaction]) -> None:
        """These are carried out everywhere, so that nobody will ask for them."""
        for owner in owners:
            if self.committed.pop(owner, None) is not None:
                self._note("forget", owner)

    def _note(self, what: str, owner: Transaction) -> None:
        if self.notes is not None:
            self.notes.append([what, *owner])

    # -- doubt ------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many requests wait for locked keys."""
        return len(self._parked)

    @property
    def in_doubt(self) -> int:
        """How many pledges wait for the supervisor to settle them."""
        return sum(pledge.frozen for pledge in self.pledges.values())

    @property
    def open(self) -> dict[Transaction, list[int]]:
        """Transactions whose outcome is not known everywhere, with their participants."""
        return {owner: pledge.participants for owner, pledge in self.pledges.items()} | self.committed

    def freeze(self, owner: Transaction) -> str:
        """From now on only `settle` decides on a transaction; returns how it stands here."""
        if owner in self.committed:
            return COMMITTED
        pledge = self.pledges.get(owner)
        if pledge is None:
            self._given_up.append(owner)
            return UNKNOWN
        pledge.frozen = True
        return PREPARED

    def settle(self, owner: Transaction, *, commit: bool) -> None:
        """Carries out, or gives up, a transaction whose outcome has been found out."""
        pledge = self.pledges.get(owner)
        if pledge is not None:
            outcome = "carried out" if commit else "given up"
            logger.warning("transaction %x over shards %s: %s", owner[1], pledge.participants, outcome)
            if commit:
                shard = self.shard
                now_ms, shard.now_ms = shard.now_ms, pledge.now_ms
                self._carry_out(owner, pledge)
                shard.now_ms = now_ms
            else:
                self._drop(owner)
        # It may be here as a draft that was not pledged any more.
        self._undo(owner)
        self._unlock(owner)

    # -- the side log -----------------------------------------------------------------------------

    def to_keep(self) -> list[list[Any]]:
        """The notes that a new side log has to begin with."""
        pledged = [["pledge", *owner, *_kept(pledge)] for owner, pledge in self.pledges.items()]
        carried_out = [["committed", *owner, shards] for owner, shards in self.committed.items()]
        return pledged + carried_out

    def recall(self, note: list[Any]) -> None:
        """Takes in a note of the side log, of those in its order, while the shard loads."""
        what, owner = note[0], (note[1], note[2])
        match what:
            case "pledge":
                self.pledges[owner] = _recalled(*note[3:])
            case "committed":
                self.committed[owner] = note[3]
            case "commit":
                pledge = self.pledges.pop(owner, None)
                if pledge is not None:
                    self.committed[owner] = pledge.participants
            case "give up" | "forget":
                self.pledges.pop(owner, None)
                self.committed.pop(owner, None)

    def recall_commit(self, number: int) -> None:
        """The append-only file says that the transaction with this number was carried out here."""
        for owner in [owner for owner in self.pledges if owner[1] == number]:
            self.committed[owner] = self.pledges.pop(owner).participants

    def lock_in_doubt(self) -> None:
        """After loading: what was pledged and not carried out is locked, and frozen until it is settled.

        What was carried out may be known from the append-only file alone, and a rewrite would remove that.
        """
        for owner in self.committed:
            self._note("commit", owner)
        for owner, pledge in self.pledges.items():
            pledge.frozen = True
            locked = self.locks.lock(owner, pledge.keys, whole=pledge.whole, exclusive=True)
            assert locked, f"two pledges for the same keys, one of {owner}"


def _kept(pledge: Pledge) -> list[Any]:
    """A pledge as the side log keeps it: with names in the place of codes, which another version may give to
    other commands."""
    requests = []
    for code, *args in pledge.requests:
        context = unpack_context(code >> SLOT_BITS)
        requests.append([BY_ID[context.command_id].name, context.db, code & SLOT_MASK, *args])
    return [pledge.participants, pledge.keys, pledge.whole, pledge.now_ms, requests, pledge.records]


def _recalled(
    participants: list[int],
    keys: list[Any],
    whole: bool,
    now_ms: int,
    kept: list[list[Any]],
    records: bytes,
) -> Pledge:
    requests = [[pack_context(db, RAW) | COMMANDS[name].code | slot, *args] for name, db, slot, *args in kept]
    return Pledge(participants, [(db, key) for db, key in keys], whole, now_ms, requests, records)
