"""Scripts whose declared keys lie on several shards, and that reach no others (see shardkv.lua.reach). No
client can send these requests.

Such a script needs neither the token nor a step for each of its calls. All its keys are locked at once, and
the shards tell what those of theirs hold (PORTABLE). One shard runs the script as if all of them were its own
(TRYSCRIPT), says what it replies and what is to be changed, and leaves everything as it was. Then the changes
are made, each on the shard of its key, like those of any other command over several shards.

If a key holds much, or something is not as the text of the script has promised, it runs with the token after
all (see remote_script).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardkv import errors, limits
from shardkv.command import BY_ID, READONLY, Command, Flag, Key, command, lock_keys, lookup
from shardkv.commands.script_host import ShardHost
from shardkv.drafts import Draft
from shardkv.errors import CommandError, caught
from shardkv.keyspace import Database
from shardkv.plan import Call, Parts, Plan, Read, Write, check, coded
from shardkv.resp.replies import raw, unpack_raw
from shardkv.scripts import Running
from shardkv.slots import SLOT_BITS, SLOT_MASK
from shardkv.values import recreate
from shardkv.wire import RAW, pack_context, unpack_context

if TYPE_CHECKING:
    from shardkv.propagation import Effects
    from shardkv.shard import Shard

NEEDS_TOKEN = object()
"""The reply's value if a script cannot be carried out in this way. Nothing has been changed."""


def plan_script(call: Call, request: list[Any]) -> Plan:
    """Carries a script out; `request` is the client's, coded."""
    home = next(iter(call.positions))
    names = {
        shard: dict.fromkeys(call.args[position] for position in positions)
        for shard, positions in call.positions.items()
        if shard != home
    }
    values = yield Read({shard: [[b"PORTABLE", key] for key in keys] for shard, keys in names.items()})
    check(values)
    contents = [content for found in values.values() for content in found if content is not None]
    if False in contents:
        return NEEDS_TOKEN
    values = yield Read({home: [[b"TRYSCRIPT", request, contents]]})
    check(values)
    [outcome] = values[home]
    parts = None if outcome is None else _changes(call, outcome[1])
    if parts is None:
        return NEEDS_TOKEN
    if parts:
        check((yield Write(parts)))
    return unpack_raw(outcome[0])


def _changes(call: Call, effects: list[list[Any]]) -> Parts | None:
    """What each shard has to do; None if a change needs to know what several shards hold."""
    parts: Parts = {}
    for index, words in effects:
        change = lookup(words)
        assert change is not None
        part = Call(change, words, index, call.slot_table, call.shards)
        if len(part.positions) == 1:
            by_shard = {shard: [words] for shard in part.positions}
        elif part.has_single_hop and part.positions:
            by_shard = part.by_shard()
        else:
            return None
        for shard, requests in by_shard.items():
            parts.setdefault(shard, []).extend(coded(pack_context(index, RAW), requests))
    return parts


@command("PORTABLE key", group="scripting", since="0.1.0", flags=READONLY, keys=(Key(1),), internal=True)
def portable(db: Database, args: list[Any]) -> list[list[Any]] | bool | None:
    """Returns the requests that build what a key holds, and its deadline; None if there is no such key, False
    if it holds too much."""
    key = args[1]
    value = db.peek(key)
    if value is None:
        return None
    requests = []
    size = 0
    for request in recreate(key, value, db.expires.get(key)):
        size += sum(map(len, request))
        if size > limits.PORTABLE_BYTES:
            return False
        requests.append(request)
    return requests


class CarriedHost(ShardHost):
    """Carries out what a script wants of the keys that are locked for it, wherever they belong."""

    def __init__(self, db: Database, running: Running, declared: list[bytes], *, read_only: bool) -> None:
        super().__init__(db, running, declared, read_only=read_only)
        self.changes: Effects = []
        """What is to be changed, on any shard."""
        self.has_strayed = False
        """Whether the script has wanted something else."""

    def _is_local(self, command: Command, words: list[bytes], slot: int) -> bool:
        keys, whole = lock_keys(self.db.index, command, words)
        db, declared = self.declared
        if whole or not keys or command.spreads(words):
            return False
        return all(index == db and key in declared for index, key in keys)

    def call(self, words: list[bytes]) -> Any:
        if self.has_strayed:
            return CommandError(errors.KEY_OF_ANOTHER_SHARD)
        return super().call(words)

    def foreign(self, command: Command, words: list[bytes]) -> Any:
        self.has_strayed = True
        return super().foreign(command, words)

    def _keep(self, effects: Effects) -> None:
        self.changes += effects


@command("TRYSCRIPT request contents", group="scripting", since="0.1.0", flags=Flag(0), internal=True)
def try_script(db: Database, args: list[Any]) -> list[Any] | None:
    """Runs a script, a coded request, with what PORTABLE has told of the keys of other shards, and leaves
    everything as it was.

    Returns [its encoded reply, what is to be changed: a list of [database, request]]; None if it has wanted
    what it was not expected to.
    """
    _, request, contents = args
    shard: Shard = db.shard  # type: ignore[assignment]
    context = unpack_context(request[0] >> SLOT_BITS)
    database = shard.database(context.db)
    hosts: list[CarriedHost] = []

    def host(*words: Any, **flags: Any) -> CarriedHost:
        hosts.append(CarriedHost(*words, **flags))
        return hosts[0]

    draft, changes_since_save = Draft(shard), shard.changes_since_save
    outer, shard.scripts.host = shard.scripts.host, host
    try:
        with draft.open():
            for requests in contents:
                shard.rebuild(database, requests)
            shard.dirty = 0
            try:
                value = BY_ID[context.command_id].handler(database, [request[0] & SLOT_MASK, *request[1:]])
            except CommandError as error:
                value = caught(error)
    finally:
        shard.scripts.host = outer
        draft.undo()
        shard.dirty, shard.changes_since_save = 0, changes_since_save
    if any(made.running.abandoned for made in hosts):
        # The shard stops, and what the script has done until now is not what its client wanted.
        raise CommandError(errors.GIVEN_UP)
    if any(made.has_strayed for made in hosts):
        return None
    changes = [[index, [_word(word) for word in words]] for made in hosts for index, words in made.changes]
    return [raw(value), changes]


def _word(word: Any) -> bytes:
    return b"%d" % word if isinstance(word, int) else bytes(word)
