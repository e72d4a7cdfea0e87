"""Shards in this very process, for tests of commands: no pipes, no proxies, no files, and a clock the test
moves.

`Local(shards=3).call("SET", "key", "value")` carries a command out as a proxy and its workers would: through
the same routing, plans, locks and `Shard.run`, with messages that went through the same encoding.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hiredis
import msgspec

import proxy.commands
from proxy.actions import (
    Commit,
    Forget,
    GiveToken,
    Pause,
    Pledge,
    Prepare,
    Release,
    ResumeScript,
    Run,
    RunScript,
    Step,
    TakeToken,
    internal,
)
from proxy.interactive import CarriedScript, ScriptCall, Steps, carry, interact
from proxy.transaction import Counters, transact
from shardkv import commands, wire
from shardkv.command import COMMANDS, Command, Place, number_commands
from shardkv.errors import CommandError, unknown_command, unknown_subcommand, wrong_arity
from shardkv.keyspace import Database
from shardkv.locks import Transaction
from shardkv.lua.reach import reaches_only_its_keys
from shardkv.plan import Call, coded
from shardkv.resp.replies import unpack_raw
from shardkv.settings import Config
from shardkv.shard import ENCODERS, Shard
from shardkv.slots import even_slot_table, slot_of
from shardkv.transactions import Late
from shardkv.values import recreate

assert commands
assert proxy.commands
number_commands()

START_MS = 1_700_000_000_000
"""What the clock of a `Local` shows first, in ms since 1970."""


class _Link:
    proxy = 0

    def __init__(self) -> None:
        self.late: list[Late] = []

    def next_ticket(self) -> int:
        raise AssertionError("nothing waits here: there is one client")


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return str(value).encode()


class Local:
    """Some shards and one client.

    Attributes: `shards`, the Shard objects; `db`, the selected database; `config`, the settings that all
    share. `lock_reads` has commands over several shards lock what they read, as with several proxies.
    """

    def __init__(self, shards: int = 1, *, lock_reads: bool = False, **settings: Any) -> None:
        self.config = Config()
        for name, value in settings.items():
            setattr(self.config, name, value)
        self.shards = [Shard(index, self.config) for index in range(shards)]
        self.slot_table = even_slot_table(shards)
        self.db = 0
        self.lock_reads = lock_reads
        self._numbers = itertools.count(1)
        for shard in self.shards:
            shard.records = []
            shard.slot_table = self.slot_table if shards > 1 else []
        self.set_clock(START_MS)

    # -- time -----------------------------------------------------------------------------------

    def set_clock(self, now_ms: int) -> None:
        """Lets the shards see this time, in ms since 1970."""
        for shard in self.shards:
            shard.now_ms = now_ms
            shard.now_s = now_ms // 1000

    def advance(self, ms: int) -> None:
        """Lets time pass."""
        self.set_clock(self.shards[0].now_ms + ms)

    # -- commands -------------------------------------------------------------------------------

    def call(self, *words: Any) -> Any:
        """Carries out a command; returns the reply as a Python value (see shardkv.resp.replies; tuples come
        back as lists), an error reply as the CommandError."""
        return unpack_raw(self._carry_out([_bytes(word) for word in words], wire.RAW))

    def resp(self, *words: Any, protocol: int = 2) -> bytes:
        """Carries out a command; returns the reply's bytes."""
        return self._carry_out([_bytes(word) for word in words], protocol)

    def error(self, *words: Any) -> str:
        """Carries out a command that must fail; returns the error's text."""
        reply = self.call(*words)
        assert isinstance(reply, CommandError), reply
        return reply.text.decode()

    def find(self, args: list[bytes]) -> Command:
        """The command that a request names, as the proxy finds it."""
        command = COMMANDS.get(args[0].lower().decode())
        if command is None:
            raise CommandError(unknown_command(args[0], args[1:]))
        if command.is_container and len(args) > 1:
            subcommand = command.subcommands.get(args[1].lower().decode())
            if subcommand is None:
                raise CommandError(unknown_subcommand(command.name, args[1]))
            return subcommand
        return command

    def _carry_out(self, args: list[bytes], protocol: int) -> bytes:
        encode = ENCODERS[protocol]
        try:
            command = self.find(args)
            if not command.fits(len(args)):
                raise CommandError(wrong_arity(command.name))
            if command.place is Place.PROXY:
                return encode(command.handler(None, args))
        except CommandError as error:
            return encode(error)
        slots = command.route_slots(args)
        shards = {self.slot_table[slot] for slot in slots}
        is_contained = command.name == "eval" and reaches_only_its_keys(args[1])
        if command.runs_script and len(self.shards) > 1 and (len(shards) != 1 or not is_contained):
            place = self.db, self.slot_table, len(self.shards), slots
            if is_contained and slots:
                carried = CarriedScript(command, args, *place)
                return encode(self._drive(carry(carried, self._number, Counters(), self._with_token)))
            return encode(self._drive(self._with_token(ScriptCall(command, args, *place))))
        if len(self.shards) == 1 or (len(shards) == 1 and not command.spreads(args)):
            code = wire.pack_code(wire.pack_context(self.db, protocol), command.id, slots[0] if slots else 0)
            [reply] = self._run(shards.pop() if shards else 0, [[code, *args[1:]]])
            return reply
        assert command.plan is not None, f"{command.name} has no plan for several shards"
        return encode(self._transact(Call(command, args, self.db, self.slot_table, len(self.shards))))

    def _with_token(self, script: ScriptCall, context: int = 0) -> Steps:
        return interact(script.conduct, self._number, Counters(), context)

    def _run(self, shard: int, batch: list[list[Any]]) -> list[bytes]:
        travelled = wire.decode_batch(msgspec.msgpack.encode(batch))
        replies = self.shards[shard].run(travelled, _Link())
        return [reply for reply in replies if reply is not None]

    def _number(self) -> Transaction:
        return 0, next(self._numbers)

    def _transact(self, call: Call) -> Any:
        return self._drive(transact(call, self._number, lock_reads=self.lock_reads, counters=Counters()))

    def _drive(self, steps: Steps) -> Any:
        """Does what a state machine wants done, until it has a reply."""
        outcome: Any = None
        try:
            while True:
                outcome = self._act(steps.send(outcome))
        except StopIteration as stop:
            return stop.value

    def _act(self, action: Any) -> Any:
        match action:
            case Run(parts):
                return {
                    shard: self._run(shard, self._requests(requests)) for shard, requests in parts.items()
                }
            case Prepare() | Step() | RunScript() | ResumeScript() | Pledge() | Commit():
                messages = action.messages(wire.pack_context(self.db, wire.RAW))
                return {shard: self._answer(shard, message) for shard, message in messages.items()}
            case Release(transaction, shards):
                for shard in shards:
                    self._tell(shard, "release", transaction)
            case Forget(transaction, shards):
                for shard in shards:
                    self._tell(shard, "forget", [transaction])
            case TakeToken() | GiveToken():
                pass
            case Pause():
                raise AssertionError("one client never meets a lock")
        return None

    def _requests(self, requests: list[list[Any]]) -> list[list[Any]]:
        return coded(wire.pack_context(self.db, wire.RAW), requests)

    def _tell(self, shard: int, name: str, *args: Any) -> None:
        assert self._answer(shard, internal(wire.pack_context(0, wire.RAW), name, *args)) is True

    def _answer(self, shard: int, message: list[Any]) -> Any:
        [reply] = self._run(shard, [message])
        return unpack_raw(reply)

    def database_of(self, key: bytes) -> Database:
        """The selected database on the shard that owns a key."""
        return self.shards[self.slot_table[slot_of(key)]].database(self.db)

    # -- the log --------------------------------------------------------------------------------

    def logged(self) -> list[list[bytes]]:
        """What has been logged since the last call, all shards' records one after the other, no SELECT."""
        found = []
        for shard in self.shards:
            assert shard.records is not None
            found += [args for args in _parse(b"".join(shard.records)) if args[0] != b"SELECT"]
            shard.records.clear()
        return found

    def replayed(self) -> Local:
        """Other shards that have only the log of these; takes the log (`logged` will not show it)."""
        other = Local(len(self.shards))
        for mine, theirs in zip(self.shards, other.shards, strict=True):
            assert mine.records is not None
            theirs.config = self.config
            theirs.begin_replay()
            for args in _parse(b"".join(mine.records)):
                theirs.replay(args)
            mine.records.clear()
            theirs.end_replay()
        other.config = self.config
        other.set_clock(self.shards[0].now_ms)
        return other

    def content(self) -> dict[tuple[int, bytes], tuple[Any, int | None]]:
        """Every key that has not expired: (database, key) → (what recreates its value, its deadline)."""
        found: dict[tuple[int, bytes], tuple[Any, int | None]] = {}
        for shard in self.shards:
            for db in shard.databases.values():
                for key in list(db.keys()):
                    value = db.peek(key)
                    assert value is not None
                    found[(db.index, key)] = (list(recreate(key, value, None)), db.expires.get(key))
        return found


def _parse(data: bytes) -> Iterator[list[bytes]]:
    reader = hiredis.Reader()
    reader.feed(data)
    while (args := reader.gets()) is not False:
        yield args


@contextmanager
def selected(local: Local, db: int) -> Iterator[Local]:
    """Another database for a while."""
    before, local.db = local.db, db
    try:
        yield local
    finally:
        local.db = before
