"""Scripts that may reach any key of any shard. No client can send these requests.

The coordinator of such a script holds the cross-shard token and has the script run, as a part of its
transaction, on one shard: RUNSCRIPT. There it runs in a greenlet. A command whose keys are this shard's and
not locked by others is carried out at once, into the transaction's draft. For any other the script is
suspended, and the answer says what it wants; the coordinator has that carried out and answers in turn:
RESUMESCRIPT. Meanwhile the shard serves everybody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from shardkv import errors
from shardkv.command import BY_ID, COMMANDS, Command, Flag, command, lock_keys
from shardkv.commands.internal import owner_of
from shardkv.commands.script_host import ShardHost
from shardkv.errors import CommandError, caught
from shardkv.keyspace import Database
from shardkv.lua import Function, Script
from shardkv.resp.replies import raw, unpack_raw
from shardkv.scripts import Running, Scripts
from shardkv.shard import LATER
from shardkv.slots import SLOT_BITS, SLOT_MASK
from shardkv.wire import RAW, pack_code, pack_context, unpack_context

if TYPE_CHECKING:
    from shardkv.locks import Transaction
    from shardkv.propagation import Effects
    from shardkv.shard import Shard

WANTS = "wants"
DONE = "done"
"""How an answer begins: [WANTS, database, words] or [DONE, whether the script has changed anything on its
shard, its encoded reply]."""


class RemoteHost(ShardHost):
    """Carries out what it can on its shard, and asks the coordinator for the rest."""

    run: RemoteScript

    def _is_local(self, command: Command, words: list[bytes], slot: int) -> bool:
        shard = self.shard
        if command.routed_by:
            return bool(shard.owns(words[command.routed_by]))
        keys, whole = lock_keys(self.db.index, command, words)
        if whole or command.spreads(words) or not keys:
            return False
        if not all(shard.owns(key) for _, key in keys):
            return False
        return shard.locks.lock(self.run.owner, keys, whole=False, exclusive=True)

    def _keep(self, effects: Effects) -> None:
        if self.logs:
            for index, effect in effects:
                self.shard.append(index, effect)

    def foreign(self, command: Command, words: list[bytes]) -> Any:
        return self.run.ask(self.db.index, words)


class RemoteScript:
    """A script on its way."""

    def __init__(
        self, shard: Shard, owner: Transaction, request: list[Any], user: bytes | None = None
    ) -> None:
        self.shard = shard
        self.owner = owner
        self.user = user
        """Whose rights limit it; None if nobody's."""
        self.scripts = remote_scripts(shard)
        self.is_abandoned = False
        context = unpack_context(request[0] >> SLOT_BITS)
        self._command = BY_ID[context.command_id]
        self._db = shard.database(context.db)
        self._args = [request[0] & SLOT_MASK, *request[1:]]
        self._running: Running | None = None
        self._greenlet = greenlet(self._run)

    def _run(self, nothing: None) -> Any:
        try:
            return self._command.handler(self._db, self._args)
        except CommandError as error:
            return caught(error)

    def ask(self, db: int, words: list[bytes]) -> Any:
        """Suspends the script until somebody has carried out a command for it; the command's value."""
        if self.is_abandoned:
            return CommandError(errors.GIVEN_UP)
        return getcurrent().parent.switch((db, words))

    def go_on(self, value: Any) -> list[Any]:
        """Lets the script run until it is done or wants something; `value` is that of what it wanted."""
        shard, transactions = self.shard, self.shard.transactions
        outer = shard.scripts, shard.link
        self.scripts.run = self
        self.scripts.running = self._running
        shard.scripts = self.scripts
        try:
            with transactions.draft(self.owner).open():
                outcome = self._greenlet.switch(value)
        finally:
            self._running, self.scripts.running = self.scripts.running, None
            shard.scripts, shard.link = outer
        if not self._greenlet.dead:
            transactions.remote_scripts[self.owner] = self
            return [WANTS, *outcome]
        transactions.remote_scripts.pop(self.owner, None)
        return [DONE, not transactions.drafts[self.owner].is_empty, raw(outcome)]

    def abandon(self) -> None:
        """Ends the script wherever it is: its transaction is given up."""
        self.is_abandoned = True
        if self._running is not None:
            self._running.end = errors.GIVEN_UP
        if not self._greenlet.dead:
            self.go_on(CommandError(errors.GIVEN_UP))


class RemoteScripts(Scripts):
    """The scripts of a shard in a world of their own, for one of them is suspended while others run."""

    run: RemoteScript

    def __init__(self, known: Scripts) -> None:
        super().__init__()
        self._known = known
        self.on_busy = known.on_busy
        self.host = self._host

    def _host(self, db: Database, running: Running, keys: list[bytes], *, read_only: bool) -> ShardHost:
        host = RemoteHost(db, running, keys, read_only=read_only)
        host.run = self.run
        host.user = self.run.user
        return host

    def find(self, sha: bytes) -> Script | None:
        known = self._known.find(sha)
        return None if known is None else self.of_body(known.body)

    def function(self, name: bytes) -> Function | None:
        known = self._known.function(name)
        if known is None:
            return None
        library = next(one for one in self._known.libraries.values() if known.name in one.functions)
        mine = self.libraries.get(library.name)
        if mine is None or mine.code != library.code:
            self.flush_libraries()
            self.load_library(library.code, replace=True)
        return super().function(name)


def remote_scripts(shard: Shard) -> RemoteScripts:
    """The world of those that reach other shards; made when it is first needed."""
    if shard.remote_scripts is None:
        shard.remote_scripts = RemoteScripts(shard.scripts)
    found: RemoteScripts = shard.remote_scripts
    return found


@command(
    "RUNSCRIPT transaction request user",
    group="transactions",
    since="0.1.0",
    flags=Flag(0),
    internal=True,
)
def run_script(db: Database, args: list[Any]) -> Any:
    """Begins to run a script for a transaction that holds the token; returns what it wants, or its reply."""
    shard: Shard = db.shard  # type: ignore[assignment]
    owner = owner_of(args[1])
    args[0] = pack_code(pack_context(db.index, RAW), COMMANDS["runscript"].id, 0)
    # It locks keys as it comes to them, but from now on the shard knows of the transaction.
    if not shard.transactions.claim(owner, [], whole=False, exclusive=True, wait=shard.link, args=args):
        return LATER
    return RemoteScript(shard, owner, args[2], args[3]).go_on(None)


@command(
    "RESUMESCRIPT transaction value",
    group="transactions",
    since="0.1.0",
    flags=Flag(0),
    internal=True,
)
def resume_script(db: Database, args: list[Any]) -> Any:
    """Gives a suspended script the value of what it wanted; returns as RUNSCRIPT does."""
    shard: Shard = db.shard  # type: ignore[assignment]
    script = shard.transactions.remote_scripts.get(owner_of(args[1]))
    if script is None:
        raise CommandError(errors.GIVEN_UP)
    return script.go_on(unpack_raw(args[2]))
