"""MULTI … EXEC: the commands that a client has queued, and how they are carried out as one.

What concerns a single shard is one request to it. Otherwise the queued commands become one call over several
shards (see proxy.transaction): their keys are locked at once, each shard pledges its part, and carries it
out.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from proxy import access
from proxy.backend import Block
from proxy.interactive import Interaction, Steps
from proxy.scripts import request_of
from shardkv import errors, limits
from shardkv.command import COMMANDS, Command, Place, does_not_spread, lock_keys
from shardkv.errors import CommandError
from shardkv.locks import LockKey
from shardkv.numbers import canonical_integer
from shardkv.plan import SINGLE_HOP, Call, Hop, Parts, Plan, Read, Values, Write, coded
from shardkv.resp.replies import NULL_ARRAY, OK, Encoded, unpack_raw
from shardkv.shard import ENCODERS
from shardkv.slots import SLOT_BITS, slot_of
from shardkv.watches import WatcherId
from shardkv.wire import RAW, pack_context, part_context, unpack_context

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session


NOT_QUEUED = frozenset({"multi", "exec", "discard", "watch", "quit", "reset"})
"""Commands that are carried out between MULTI and EXEC at once."""

_CHANGES_USER = frozenset({"auth", "hello"})

REFUSED_AT_EXEC = {
    "monitor": errors.NO_MONITOR_IN_MULTI,
    "ssubscribe": errors.SSUBSCRIBE_INSIDE_MULTI,
}
"""Commands that can be queued, but not carried out."""


@dataclass
class Queue:
    """What a client has sent since MULTI."""

    requests: list[tuple[Command, list[Any]]] = field(default_factory=list)
    is_broken: bool = False
    """Whether any of it was refused, so that nothing of it will be carried out."""
    writes: bool = False

    def add(self, command: Command, args: list[Any]) -> None:
        """Queues a command. Raises CommandError if there are too many."""
        if len(self.requests) >= limits.MAX_QUEUED_COMMANDS:
            raise CommandError(errors.TOO_MANY_QUEUED)
        self.requests.append((command, args))
        self.writes = self.writes or command.writes


@dataclass
class Watch:
    """The keys that a client watches, and the name by which the shards know it."""

    watcher: WatcherId
    shards: frozenset[int] = frozenset()
    keys: set[LockKey] = field(default_factory=set)

    def lost(self, shard: int, watcher: WatcherId) -> Watch:
        """The same after a shard is gone whose keys have moved: by a name that no shard knows, so that each
        says that a key was touched."""
        return Watch(watcher, (self.shards - {shard}) or frozenset({0}), self.keys)


@dataclass
class _Merge:
    """A command over several shards, whose replies its plan makes one of."""

    plan: Plan
    hop: Hop
    start: dict[int, int]
    """Where its replies begin among those of each shard."""
    encode: Callable[[Any], bytes]

    def reply(self, replies: dict[int, list[bytes]]) -> bytes:
        values: Values = {
            shard: [unpack_raw(reply) for reply in replies[shard][at : at + len(self.hop.parts[shard])]]
            for shard, at in self.start.items()
        }
        try:
            self.plan.send(values)
        except StopIteration as stop:
            return self.encode(stop.value)
        except CommandError as error:
            return self.encode(error)
        raise AssertionError("a plan with a single hop has had another one")


Reply = bytes | tuple[int, int] | _Merge
"""Where a queued command's reply is to be found: here, or at a place among a shard's replies, or from
several of them."""


Turn = tuple[int, Command, Coroutine[Any, Any, Any]]
"""The place of a reply, the command, and the work that gives it."""


@dataclass
class _Queued:
    """A queued command of the shards."""

    call: Call
    shards: set[int]
    """The shards of its keys."""
    slot: int
    """The slot of the first one."""
    place: int
    """Of its reply."""
    context: int = 0
    """What the session is when its turn comes."""
    is_refused: bool = False
    """Whether the session's user may not do it any more then."""


class Execution:
    """An EXEC on its way: begins when the session has a place for its reply."""

    def __init__(self, session: Session, queue: Queue, watch: Watch | None) -> None:
        self.session = session
        self.proxy: Proxy = session.proxy
        self.queue = queue
        self.watch = watch
        self.parts: Parts = {}
        self.replies: list[Reply] = [b""] * len(queue.requests)
        self.keys: list[LockKey] = []
        self.whole = False
        self.queued: list[_Queued] = []
        self.is_limited = session.rights is not None
        """Whether the user may lack the right to some of it."""
        self.own: list[tuple[int, Command, list[Any]]] = []
        """Commands that the proxy itself carries out, and the places of their replies."""
        self.before: list[Turn] = []
        self.after: list[Turn] = []
        """Those of them that take time, or follow one that does. Those that follow a message's publishing are
        carried out after the shards' commands, because they may change who gets it; the others before, unless
        it is not known then whether anything may be done."""
        self.first_published = len(queue.requests)
        """The place of the first command that publishes a message."""
        self.has_set_out = False
        self.is_done = False
        """Whether the shards' commands are carried out."""
        self.is_idle = False
        self.is_interactive = False
        """Whether a command's work on one shard depends on what is found on another."""

    def begin(self, block: Block, index: int) -> None:
        """Has everything carried out; the reply goes to a place in a block."""
        if not self.is_limited and self._has_one_key_each_on_one_shard():
            self._execute(block, index)
            return
        self._look_ahead()
        self.is_interactive = not all(self._is_simple(queued) for queued in self.queued)
        if self.watch is None or not self.own:
            self.set_out()
            if not self.is_interactive and self._is_of_one_shard():
                self._execute(block, index)
                return
        # Else nothing may be done before it is known that no watched key was touched.
        proxy = self.proxy
        proxy.coordinator.counters.transactions += 1
        call = ExecCall(
            COMMANDS["exec"],
            [b"EXEC"],
            0,
            proxy.slot_table,
            len(proxy.backends),
            execution=self,
        )
        if self.before or self.after or (self.own and not self.has_set_out):
            proxy.coordinator.begins(self)
            self.session.await_(COMMANDS["exec"], self._await(call), block, index)
        else:
            proxy.coordinator.carry_out(self.session, call, block, index)

    async def _await(self, call: ExecCall) -> Encoded:
        """Carries out, beside the shards' commands, what takes the proxy itself some time."""
        try:
            return await self._await_turns(call)
        finally:
            self.proxy.coordinator.ends(self)

    async def _await_turns(self, call: ExecCall) -> Encoded:
        before, self.before = self.before, []
        await self._take_turns(before)
        reply = await self.proxy.coordinator.reply_of(self.session, call)
        turns = self.before + self.after
        if turns and self.is_done:
            await self._take_turns(turns)
            return self.array()
        for _, _, work in turns:
            work.close()
        return Encoded(reply)

    async def _take_turns(self, turns: list[Turn]) -> None:
        session = self.session
        session.may_wait = False
        for place, command, work in turns:
            self.replies[place] = session.encode(await session.outcome(command, work))
        session.may_wait = True

    def array(self) -> Encoded:
        """All replies as one, when each is there."""
        self.is_done = True
        return Encoded(b"*%d\r\n%b" % (len(self.replies), b"".join(self.replies)))  # type: ignore[arg-type]

    # -- where each command goes ------------------------------------------------------------------

    def _look_ahead(self) -> None:
        """Finds out what each command needs; does nothing yet."""
        db = self.session.db
        for place, (command, args) in enumerate(self.queue.requests):
            if command.place is Place.PROXY:
                self.own.append((place, command, args))
                self.is_limited = self.is_limited or command.name in _CHANGES_USER
                if command.name == "select":
                    db = selected(args[1], db, self.proxy.config.databases)
            else:
                self._add(command, args, db, place)

    def _add(self, command: Command, args: list[Any], db: int, place: int) -> None:
        proxy = self.proxy
        if command.group == "scripting":
            proxy.scripts.ready_for(command, args)
        keys, whole = lock_keys(db, command, args)
        self.keys += keys
        self.whole = self.whole or whole
        if command.routed_by:
            self.first_published = min(self.first_published, place)
        slots = command.route_slots(args)
        shards = {proxy.slot_table[slot] for slot in slots}
        call = Call(command, args, db, proxy.slot_table, len(proxy.backends))
        self.queued.append(_Queued(call, shards, slots[0] if slots else 0, place))

    def set_out(self) -> None:
        """Carries out the commands of the proxy itself, and finds out what has to be asked of whom for the
        others, each as the session is when its turn comes."""
        self.has_set_out = True
        own = iter([*self.own, None])
        next_own = next(own)
        for queued in [*self.queued, None]:
            while next_own is not None and (queued is None or next_own[0] < queued.place):
                self._call(*next_own)
                next_own = next(own)
            if queued is None:
                break
            queued.context = self.session.context
            if self.session.rights is not None:
                self._heed_rights(queued)
            if not queued.is_refused and not self.is_interactive:
                self._distribute(queued)

    def _heed_rights(self, queued: _Queued) -> None:
        """Of a client that may not do everything: refuses what it may not do any more."""
        session, call = self.session, queued.call
        refusal = access.refusal_at_exec(session, call.command, call.args)
        if refusal is not None:
            queued.is_refused = True
            self.replies[queued.place] = session.encode(refusal)
        queued.call = replace(call, user=session.acting)

    def _call(self, place: int, command: Command, args: list[Any]) -> None:
        """Carries out a command of the proxy itself, or has it wait for its turn."""
        value: Any = access.refusal_at_exec(self.session, command, args)
        if value is not None:
            pass
        elif command.name in REFUSED_AT_EXEC:
            value = CommandError(REFUSED_AT_EXEC[command.name])
        elif (self.before or self.after) and (command.group == "pubsub" or command.name == "ping"):
            value = self._in_turn(command, args)
        else:
            value = self.session.call(command, args)
        if value.__class__ is CoroutineType:
            turns = self.before if place < self.first_published else self.after
            turns.append((place, command, value))
        else:
            self.replies[place] = self.session.encode(value)

    async def _in_turn(self, command: Command, args: list[Any]) -> Any:
        """Carries out a command that is about subscriptions when those before it are done."""
        value = self.session.call(command, args)
        return await value if value.__class__ is CoroutineType else value

    def _goes_to_one_shard(self, queued: _Queued) -> bool:
        call = queued.call
        one = len(queued.shards) == 1 and not call.spreads
        roams = self.proxy.scripts.roams(call.command, call.args)
        return (one and not roams) or len(self.proxy.backends) == 1

    def _is_simple(self, queued: _Queued) -> bool:
        """Whether it is known before anything is looked at what each shard has to do for a command. What a
        shard has pledged it may have to do after a crash, when it is not known any more for whom: so a script
        whose user has not all rights has done it before that."""
        if self.is_limited and queued.call.command.runs_script and len(self.proxy.backends) > 1:
            return False
        return self._goes_to_one_shard(queued) or queued.call.command.plan in SINGLE_HOP

    def _distribute(self, queued: _Queued) -> None:
        """Finds out what has to be asked of whom for one command."""
        call = queued.call
        if self._goes_to_one_shard(queued):
            request = request_of(queued.context, call.command, call.args, queued.slot, call.user)
            self.replies[queued.place] = self._ask(self.proxy.slot_table[queued.slot], request)
            return
        plan = call.plan()
        try:
            hop = next(plan)
        except CommandError as error:
            self.replies[queued.place] = self.session.encode(error)
            return
        context = part_context(queued.context, call.db, looks=call.command.looks)
        start: dict[int, int] = {}
        for shard, requests in hop.parts.items():
            start[shard] = len(self.parts.get(shard, ()))
            for request in coded(context, requests):
                self._ask(shard, request)
        self.replies[queued.place] = _Merge(plan, hop, start, self.session.encode)

    def _ask(self, shard: int, request: list[Any]) -> tuple[int, int]:
        requests = self.parts.setdefault(shard, [])
        requests.append(request)
        return shard, len(requests) - 1

    # -- one shard --------------------------------------------------------------------------------

    def _has_one_key_each_on_one_shard(self) -> bool:
        """Whether it is the most frequent kind of transaction; then `parts` holds what to ask of its shard.
        Nothing else has to be known of such a one."""
        slot_table, context = self.proxy.slot_table, self.session.context
        shards = set() if self.watch is None else set(self.watch.shards)
        requests = []
        for command, args in self.queue.requests:
            if not command.one_key or command.spreads is not does_not_spread:
                return False
            slot = slot_of(args[1])
            shards.add(slot_table[slot])
            requests.append([context | command.code | slot, *args[1:]])
        if len(shards) != 1 or not requests:
            return False
        self.parts = {shards.pop(): requests}
        return True

    def _is_of_one_shard(self) -> bool:
        shards = self.parts.keys() | (self.watch.shards if self.watch is not None else set())
        return len(shards) == len(self.parts) == 1 and all(isinstance(reply, tuple) for reply in self.replies)

    def _execute(self, block: Block, index: int) -> None:
        [(shard, requests)] = self.parts.items()
        watcher = None if self.watch is None else self.watch.watcher
        code = self.session.context | COMMANDS["execute"].code
        self.proxy.send(self.proxy.backends[shard], [code, watcher, requests], block, index)


@dataclass(kw_only=True)
class ExecCall(Call):
    """The queued commands as one call over several shards."""

    execution: Execution

    @property
    def is_interactive(self) -> bool:
        return self.execution.is_interactive

    @property
    def watcher(self) -> WatcherId | None:
        return None if self.execution.watch is None else self.execution.watch.watcher

    @property
    def watching(self) -> frozenset[int]:
        return frozenset() if self.execution.watch is None else self.execution.watch.shards

    @property
    def writes(self) -> bool:
        return self.execution.queue.writes

    @property
    def has_single_hop(self) -> bool:
        return self.execution.has_set_out and not self.execution.is_interactive

    @property
    def needs_memory(self) -> bool:
        return any(command.needs_memory for command, _ in self.execution.queue.requests)

    @property
    def needs_locks(self) -> bool:
        return True

    def locks(self) -> tuple[dict[int, list[LockKey]], bool]:
        watch = self.execution.watch
        watched = list(watch.keys) if watch is not None else []
        keys, whole = self.locks_by_shard(self.execution.keys + watched, self.execution.whole)
        for shard in self.watching:
            # It has to be asked even if all that it watches has gone to other shards.
            keys.setdefault(shard, [])
        return keys, whole

    def value_of(self, reply: bytes) -> Any:
        return reply

    def plan(self) -> Plan:
        execution = self.execution
        if execution.watch is not None and not execution.parts:
            # Locks the watched keys, and finds out whether one was touched.
            yield Read({})
        if not execution.has_set_out:
            execution.set_out()
        found: dict[int, list[bytes]] = {}
        if execution.parts:
            found = yield Write(execution.parts) if self.writes else Read(execution.parts)
        for place, reply in enumerate(execution.replies):
            if isinstance(reply, _Merge):
                execution.replies[place] = reply.reply(found)
            elif isinstance(reply, tuple):
                shard, number = reply
                execution.replies[place] = found[shard][number]
        return execution.array()

    def conduct(self, interaction: Interaction) -> Steps:
        """Carries out one command after the other."""
        execution = self.execution
        keys, whole = self.locks()
        if not (yield from interaction.lock(keys, whole, self)):
            return NULL_ARRAY
        if not execution.has_set_out:
            execution.set_out()
        for queued in execution.queued:
            if queued.is_refused:
                continue
            reply = yield from interaction.perform(queued.call, queued.context)
            execution.replies[queued.place] = ENCODERS[unpack_context(queued.context >> SLOT_BITS).protocol](
                reply
            )
        return execution.array()

    def done(self) -> None:
        if self.execution.watch is not None:
            self.execution.proxy.end_watch(self.execution.watch)


def selected(word: bytes, db: int, databases: int) -> int:
    """The database that SELECT with this word will leave selected."""
    index = canonical_integer(word)
    return db if index is None or not 0 <= index < databases else index


class WatchKeys:
    """A WATCH on its way."""

    def __init__(self, session: Session, keys: list[bytes]) -> None:
        self.session = session
        self.keys = keys

    def begin(self, block: Block, index: int) -> None:
        """Has the shards watch the keys; the reply goes to a place in a block."""
        session, proxy = self.session, self.session.proxy
        by_shard = self._by_shard()
        if len(by_shard) == 1:
            [(shard, request)] = self._requests(by_shard).items()
            request[0] |= session.context
            proxy.send(proxy.backends[shard], request, block, index)
        else:
            session.await_(COMMANDS["watch"], self._watch(), block, index, [b"WATCH", *self.keys])

    def _by_shard(self) -> dict[int, list[bytes]]:
        by_shard: dict[int, list[bytes]] = {}
        for key in self.keys:
            by_shard.setdefault(self.session.proxy.slot_table[slot_of(key)], []).append(key)
        return by_shard

    def _requests(self, by_shard: dict[int, list[bytes]]) -> dict[int, list[Any]]:
        """What each shard is to be told, which from now on watches for the client."""
        session, proxy = self.session, self.session.proxy
        watch = session.watch = session.watch or Watch(proxy.coordinator.number())
        code = COMMANDS["keepwatch"].code
        requests: dict[int, list[Any]] = {
            shard: [code, watch.watcher, keys, shard in watch.shards] for shard, keys in by_shard.items()
        }
        watch.keys |= {(session.db, key) for key in self.keys}
        watch.shards |= by_shard.keys()
        return requests

    async def _watch(self) -> Any:
        proxy = self.session.proxy
        while proxy.move is not None:
            await proxy.move.over
        # Slots may have moved since it was begun.
        requests = self._requests(self._by_shard())
        context = pack_context(self.session.db, RAW)
        for request in requests.values():
            request[0] |= context
        for value in await self.session.proxy.ask_each(requests):
            if isinstance(value, CommandError):
                return value
        return OK
