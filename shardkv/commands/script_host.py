"""Where scripts run: the shard, seen from inside a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shardkv import errors, limits
from shardkv.acl.beyond import refusal_beyond
from shardkv.acl.permissions import Denial, denial
from shardkv.command import COMMANDS, NOSCRIPT, Command, Place, lock_keys, lookup
from shardkv.errors import CommandError, caught
from shardkv.keyspace import Database
from shardkv.lua import REPL_AOF, Host
from shardkv.numbers import integer
from shardkv.resp.replies import OK, PONG
from shardkv.scripts import Running, monitor_line, write_script_log
from shardkv.slots import slot_of
from shardkv.slow import DENIED, trimmed
from shardkv.transactions import Late, Link
from shardkv.wire import CALLED

if TYPE_CHECKING:
    from shardkv.propagation import Effects
    from shardkv.shard import Shard


_KNOWN: dict[bytes, tuple[Command, bool, bool]] = {}
"""Of the names that scripts have called commands by: the command, whether it is forbidden to them, and
whether it is one of proxies. Asking a command for its flags takes longer."""


def _learn(words: list[bytes]) -> tuple[Command, bool, bool] | None:
    """What there is to know of a command; None if there is none of that name."""
    command = lookup(words)
    if command is None:
        return None
    known = command, bool(command.flags & NOSCRIPT), command.place is Place.PROXY
    if not (command.is_container or command.container) and len(_KNOWN) < _MOST_KNOWN:
        _KNOWN[words[0]] = known
    return known


_MOST_KNOWN = 2000
"""Spellings of names, in upper and lower case, that are kept in mind."""


class ShardHost(Host):
    """Carries out the commands of one run of a script on the shard where it runs."""

    logs = True
    """Whether what it changes from now on is logged."""
    scarce = False
    """Whether there was no memory when it began: then what it does first must not need any."""
    asker: Link | None = None
    """The proxy that wants to know what it calls, for clients that monitor."""
    _told_bytes = 0

    def __init__(self, db: Database, running: Running, declared: list[bytes], *, read_only: bool) -> None:
        self.shard: Shard = db.shard  # type: ignore[assignment]
        self.db = db
        self.running = running
        self.declared = (db.index, declared)
        """The keys that were free before it began, and their database."""
        self.read_only = read_only
        self.effects: Effects = []
        """What the log is to hold of it."""
        self.user = self.shard.acting
        """Whose rights limit it; None if nobody's."""
        self._denials: dict[Denial, int] = {}
        """What it was denied, and how often."""
        batch = self.shard.running
        if self.shard.tells_calls and batch is not None and batch[2].proxy in self.shard.tells_calls:
            self.asker = batch[2]

    def call(self, words: list[bytes]) -> Any:
        """Carries out a command; the checks are Redis', in its order."""
        if self.asker is not None:
            self._tell(self.asker, words)
        known = _KNOWN.get(words[0]) or _learn(words)
        if known is None:
            return CommandError(errors.UNKNOWN_COMMAND_FROM_SCRIPT)
        command, forbidden, elsewhere = known
        if not command.least <= len(words) <= command.most:
            return CommandError(errors.WRONG_ARITY_FROM_SCRIPT)
        if forbidden:
            return CommandError(errors.NOT_ALLOWED_FROM_SCRIPT)
        if self.user is not None and (refusal := self._refusal(command, words)) is not None:
            return refusal
        if command.writes:
            if self.read_only:
                return CommandError(errors.WRITE_IN_READ_ONLY_SCRIPT)
            if self.scarce and not self.running.wrote and command.needs_memory:
                return CommandError(errors.OUT_OF_MEMORY)
            self.running.wrote = True
        if elsewhere:
            return self._call_proxy(command, words)
        shard = self.shard
        slot = slot_of(words[1]) if command.one_key else 0
        if (shard.slot_table or shard.locks) and not self._is_local(command, words, slot):
            return self.foreign(command, words)
        value, effects = shard.call_from_script(self.db, command, words, slot)
        if effects:
            self._keep(effects)
        return value

    def _refusal(self, command: Command, words: list[bytes]) -> CommandError | None:
        """Why a command must not be called, by what its user may do now; None if it may."""
        assert self.user is not None
        user = self.shard.users.get(self.user)
        if user is None:
            why = errors.denied(self.user, "command", command.name.encode())
            return CommandError(errors.acl_in_script(why))
        denied = denial(user, command, words)
        if denied is None:
            refused = refusal_beyond(user, command, words)
            return None if refused is None else CommandError(refused)
        if denied in self._denials or len(self._denials) < limits.DENIALS_TOLD:
            self._denials[denied] = self._denials.get(denied, 0) + 1
        return CommandError(errors.acl_in_script(errors.denied(self.user, denied.reason, denied.object)))

    def tell_denials(self) -> None:
        """Has the proxy log what the script was denied."""
        for (reason, what), times in self._denials.items():
            entry = (DENIED, 0, times, trimmed([reason.encode(), what, self.user]))
            self.shard.slow.note(COMMANDS["eval"], entry, [], 0)

    def _tell(self, link: Link, words: list[bytes]) -> None:
        """Tells what is called, up to a bound."""
        told = monitor_line(self.db.index, b"lua", words)
        if self._told_bytes <= limits.MONITOR_BACKLOG_BYTES:
            self._told_bytes += len(told)
            is_too_much = self._told_bytes > limits.MONITOR_BACKLOG_BYTES
            link.late.append(Late(CALLED, b"" if is_too_much else told, None))

    def _keep(self, effects: Effects) -> None:
        """A command has changed this."""
        if self.logs:
            self.effects += effects

    def _is_local(self, command: Command, words: list[bytes], slot: int) -> bool:
        """Whether a command concerns this shard alone, and nothing that another transaction has locked.
        `slot` is that of its key, if it has a single one."""
        shard = self.shard
        slot_table = shard.slot_table
        if slot_table and command.keeps_to_one_key:
            if slot_table[slot] != shard.index:
                return False
        elif slot_table:
            positions = command.route_positions(words)
            if command.spreads(words) or (not positions and command.plan is not None):
                return False
            if not all(shard.owns(words[position]) for position in positions):
                return False
        # Within a transaction the locks may be its own.
        if not shard.locks or shard.together:
            return True
        keys, whole = lock_keys(self.db.index, command, words)
        db, declared = self.declared
        undeclared = [(index, key) for index, key in keys if index != db or key not in declared]
        return not shard.locks.must_wait(undeclared, whole=whole, writes=command.writes)

    def foreign(self, command: Command, words: list[bytes]) -> Any:
        """Carries out a command for keys that are on other shards, or locked by somebody else."""
        return CommandError(errors.KEY_OF_ANOTHER_SHARD)

    # -- commands that need no shard --------------------------------------------------------------

    def _call_proxy(self, command: Command, words: list[bytes]) -> Any:
        """Carries out a command of proxies, as far as it makes sense without a client's session."""
        answer = _WITHOUT_SESSION.get(command.name)
        if answer is None:
            return CommandError(errors.NOT_ALLOWED_FROM_SCRIPT)
        try:
            return answer(self, words)
        except CommandError as error:
            return caught(error)

    def select(self, words: list[bytes]) -> Any:
        """SELECT: for the rest of the script."""
        index = integer(words[1], errors.INVALID_DB_INDEX)
        if not 0 <= index < self.shard.config.databases:
            raise CommandError(errors.DB_OUT_OF_RANGE)
        self.db = self.shard.database(index)
        return OK

    # -- what else a script may ask ---------------------------------------------------------------

    def interrupt(self) -> bytes | None:
        running = self.running
        threshold_ms = self.shard.config.busy_reply_threshold
        if running.end is None and 0 < threshold_ms <= running.duration_ms:
            self.shard.scripts.on_busy()
        return running.end

    def may_call(self, words: list[bytes]) -> bool:
        command = lookup(words)
        if command is None:
            raise CommandError(errors.INVALID_COMMAND_TO_CHECK)
        if self.user is None:
            return True
        user = self.shard.users.get(self.user)
        return user is not None and denial(user, command, words) is None

    def set_replication(self, mode: int) -> None:
        self.logs = bool(mode & REPL_AOF)

    def log(self, level: int, message: bytes) -> None:
        write_script_log(level, message)


def _ping(host: ShardHost, words: list[bytes]) -> Any:
    if len(words) > 2:
        raise CommandError(errors.wrong_arity("ping"))
    return words[1] if len(words) == 2 else PONG


def _time(host: ShardHost, words: list[bytes]) -> Any:
    # As keys expire, so time stands still while a script runs.
    seconds, microseconds = divmod(host.shard.now_ms * 1000, 1_000_000)
    return [b"%d" % seconds, b"%d" % microseconds]


_WITHOUT_SESSION: dict[str, Callable[[ShardHost, list[bytes]], Any]] = {
    "echo": lambda host, words: words[1],
    "ping": _ping,
    "select": lambda host, words: host.select(words),
    "time": _time,
}
