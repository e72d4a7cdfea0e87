"""A transaction whose steps depend on one another, as a state machine: scripts, and EXEC with commands that
go from shard to shard.

It holds the cross-shard token, so that it may lock any key of any shard at any time. Each step changes the
data at once, as a draft (see shardkv.drafts). In the end the shards that have changed anything pledge to let
their drafts count, and are then told to. If a shard is lost before that, all is undone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from proxy.actions import (
    Action,
    Commit,
    Forget,
    GiveToken,
    Pledge,
    Prepare,
    Release,
    ResumeScript,
    RunScript,
    Step,
    TakeToken,
)
from proxy.transaction import Counters, answered, transact
from shardkv.command import lookup
from shardkv.commands import carried_script, remote_script
from shardkv.errors import CommandError, caught
from shardkv.locks import LockKey, Transaction
from shardkv.plan import Call, Plan, Read, coded
from shardkv.resp.replies import Encoded, raw, unpack_raw
from shardkv.slots import SLOT_BITS
from shardkv.wire import RAW, Batch, part_context, unpack_context

Steps = Generator[Action, Any, Any]


class GivenUpError(Exception):
    """The transaction cannot go on: a shard is lost. Carries the error that the client gets."""

    def __init__(self, error: CommandError) -> None:
        super().__init__(error)
        self.error = error


class Interaction:
    """An interactive transaction on its way."""

    def __init__(self, transaction: Transaction, context: int = 0) -> None:
        self.transaction = transaction
        self._context = context
        """The client's session's (see wire.pack_context)."""
        self.locked: set[int] = set()
        """The shards that know of it."""
        self.changed: set[int] = set()
        """Those that have changed anything for it."""
        self._keys: set[tuple[int, LockKey]] = set()
        self._unconfirmed: set[int] = set()
        """Those that have not been asked anything since a key was locked on another: they may have been
        started anew before that, and then others may have changed what was seen there."""

    def lock(self, keys: dict[int, list[LockKey]], whole: bool, call: Call) -> Steps:
        """Locks keys, or all shards as a whole; False if a key that the call's client watches was
        touched."""
        self._will_lock(keys, whole)
        answers = yield Prepare(
            self.transaction, keys, whole, True, True, {}, watcher=call.watcher, watching=call.watching
        )
        _check(answers)
        if False in answers.values():
            # It goes no further, so it does not matter who holds what.
            self._unconfirmed.clear()
            return False
        return True

    def context(self, call: Call) -> int:
        """What the requests of a command have in common."""
        return part_context(self._context, call.db, looks=call.command.looks)

    def perform(self, call: Call, context: int) -> Steps:
        """Carries out one command; returns the reply's value, or as the context says, of one shard's reply
        the encoded form."""
        shards = list(call.positions)
        keys, whole = call.locks()
        if call.command.runs_script:
            return (yield from self._run_script(call, shards[0] if shards else _some_shard(call)))
        if call.command.plan is None or (len(shards) == 1 and not call.spreads):
            shard = shards[0] if shards else 0
            batch = coded(context, [call.args])
            replies = yield from self.step({shard: keys.get(shard, [])}, False, {shard: batch})
            [reply] = replies[shard]
            is_value = unpack_context(context >> SLOT_BITS).protocol == RAW
            return unpack_raw(reply) if is_value else Encoded(reply)
        return (yield from self._follow(call, keys, whole))

    def _run_script(self, call: Call, shard: int) -> Steps:
        """Has a script run on a shard, and carries out what it wants of others; returns its reply's value."""
        context = self.context(call)
        [request] = coded(context, [call.args])
        action: Action = RunScript(self.transaction, shard, request, call.user)
        while True:
            # It may lock further keys there.
            self._unconfirmed |= self.locked - {shard}
            self.locked.add(shard)
            answers = yield action
            _check(answers)
            match answers[shard]:
                case [remote_script.DONE, has_changed, reply]:
                    if has_changed:
                        self.changed.add(shard)
                    return unpack_raw(reply)
                case [remote_script.WANTS, db, words]:
                    command = lookup(words)
                    assert command is not None
                    wanted = Call(command, words, db, call.slot_table, call.shards)
                    value = yield from self.perform(wanted, self.context(wanted))
                    action = ResumeScript(self.transaction, shard, raw(value))

    def _follow(self, call: Call, keys: dict[int, list[LockKey]], whole: bool) -> Steps:
        """Carries out a command by its plan; returns the reply's value."""
        context = self.context(call)
        plan = call.plan()
        try:
            hop = next(plan)
            while True:
                if isinstance(hop, Read):
                    for shard, names in hop.keys.items():
                        keys.setdefault(shard, []).extend((call.db, name) for name in names)
                parts = {shard: coded(context, requests) for shard, requests in hop.parts.items()}
                for shard in parts:
                    keys.setdefault(shard, [])
                replies = yield from self.step(keys, whole, parts)
                keys, whole = {}, False
                hop = plan.send(
                    {shard: [unpack_raw(reply) for reply in replies[shard]] for shard in hop.parts}
                )
        except StopIteration as stop:
            return stop.value
        except CommandError as error:
            return caught(error)

    def step(self, keys: dict[int, list[LockKey]], whole: bool, parts: dict[int, Batch]) -> Steps:
        """Locks keys and has shards run requests; returns their encoded replies."""
        holding = frozenset(self.locked)
        self._will_lock(keys, whole)
        answers = yield Step(self.transaction, keys, whole, parts, holding)
        _check(answers)
        self.changed |= {shard for shard, (has_changed, _) in answers.items() if has_changed}
        return {shard: replies for shard, (_, replies) in answers.items()}

    def _will_lock(self, keys: dict[int, list[LockKey]], whole: bool) -> None:
        """Keeps in mind what is locked, and whom to ask again."""
        named = {(shard, name) for shard, names in keys.items() for name in names}
        grows = whole or not named <= self._keys
        self._keys |= named
        self.locked |= keys.keys()
        if grows:
            self._unconfirmed |= self.locked
        if not grows or len(keys) == 1:
            self._unconfirmed -= keys.keys()

    def commit(self) -> Steps:
        """Lets all that was changed count. Raises CommandError if that cannot be done, or it is not known
        whether it was."""
        changed = sorted(self.changed)
        unconfirmed = self._unconfirmed - (self.changed if len(changed) > 1 else set())
        if unconfirmed:
            yield from self.step({shard: [] for shard in unconfirmed}, False, {})
        if len(changed) > 1:
            answered((yield Pledge(self.transaction, changed)))
        if changed:
            answered((yield Commit(self.transaction, dict.fromkeys(changed))))
            self.locked -= self.changed
        if len(changed) > 1:
            yield Forget(self.transaction, changed)


@dataclass
class ScriptCall(Call):
    """A script that may reach any key, or whose keys lie on several shards."""

    @property
    def is_interactive(self) -> bool:
        return True

    @property
    def has_single_hop(self) -> bool:
        return False

    @property
    def needs_locks(self) -> bool:
        return True

    def conduct(self, interaction: Interaction) -> Steps:
        # Its keys are locked as it comes to them; as the holder of the token it can wait for any.
        return (yield from interaction.perform(self, interaction.context(self)))


@dataclass
class CarriedScript(Call):
    """A script that reaches no keys but those it declares, which lie on several shards (see
    shardkv.commands.carried_script). The value of its reply may be `NEEDS_TOKEN`."""

    context: int = 0
    """The client's session's."""

    @property
    def needs_locks(self) -> bool:
        return True

    @property
    def has_single_hop(self) -> bool:
        return False

    def plan(self) -> Plan:
        context = part_context(self.context, self.db, looks=self.command.looks)
        [request] = coded(context, [self.args])
        return carried_script.plan_script(self, request)


def carry(
    call: CarriedScript,
    number: Callable[[], Transaction],
    counters: Counters,
    with_token: Callable[[ScriptCall, int], Steps],
) -> Steps:
    """Carries out a script without the token if that can be; else as one that may do anything, which
    `with_token` does, given it and its client's session's context. Returns the reply's value."""
    reply = yield from transact(call, number, lock_reads=True, counters=counters)
    if reply is not carried_script.NEEDS_TOKEN:
        return reply
    counters.commands -= 1
    script = ScriptCall(call.command, call.args, call.db, call.slot_table, call.shards, call.slots)
    return (yield from with_token(script, call.context))


def _some_shard(call: Call) -> int:
    """Where a script without keys runs: always the same shard for the same script."""
    return call.shard_of(call.args[1])


def interact(
    conduct: Callable[[Interaction], Steps],
    number: Callable[[], Transaction],
    counters: Counters,
    context: int = 0,
) -> Steps:
    """Carries out an interactive transaction; returns what `conduct`, which makes its steps, returns, or the
    CommandError that tells why it has failed as a whole. `context` is the client's session's."""
    counters.commands += 1
    counters.tokens += 1
    yield TakeToken()
    interaction = Interaction(number(), context)
    try:
        reply = yield from conduct(interaction)
        yield from interaction.commit()
    except GivenUpError as given_up:
        reply = caught(given_up.error)
    except CommandError as error:
        reply = caught(error)
    if interaction.locked:
        yield Release(interaction.transaction, sorted(interaction.locked))
    yield GiveToken()
    return reply


def _check(answers: dict[int, Any]) -> None:
    """Raises GivenUpError if a shard is lost."""
    for answer in answers.values():
        if isinstance(answer, CommandError):
            raise GivenUpError(answer)
