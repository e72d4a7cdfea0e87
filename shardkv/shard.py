"""A shard's execution: every command of every client passes through `Shard.run`.

The shard holds the databases, the locks of transactions and the buffer of the append-only file. It does no
I/O and knows no pipes: batches of requests come in, lists of encoded replies go out.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, cast

from shardkv import clock, errors
from shardkv.acl.users import Users
from shardkv.channels import Channels
from shardkv.command import BY_ID, Command, Flag, Handler, lock_keys
from shardkv.drafts import Draft
from shardkv.errors import CommandError, caught
from shardkv.expiry import Deadlines
from shardkv.keyspace import Database, Slot, with_doors
from shardkv.locks import Transaction
from shardkv.notifications import Notifications
from shardkv.propagation import Effects, Propagation
from shardkv.recency import door_of
from shardkv.resp.replies import NULL_ARRAY, raw, resp2, resp3
from shardkv.scans import Snapshots
from shardkv.scripts import Scripts
from shardkv.serving import Request, Serving
from shardkv.slots import SLOT_BITS, SLOT_MASK, slot_of
from shardkv.slow import Slow
from shardkv.stats import CommandStats, Stats
from shardkv.tracking import Tracking
from shardkv.transactions import Late, Link, Parked, Transactions
from shardkv.values import Collection
from shardkv.watches import Watches
from shardkv.wire import RAW, Batch, Reply, unpack_context

logger = logging.getLogger("shardkv.shard")

LATER = object()
"""What a handler returns when its reply comes later, from `Shard.answer`."""

ENCODERS: tuple[Callable[[Any], bytes], ...] = (raw, raw, resp2, resp3)
"""By the protocol in a request's code."""


Bound = tuple[Handler, Database, Callable[[Any], bytes], bool, Command, CommandStats]
"""What a request's code stands for, looked up once: handler, database, encoder, writes, command, figures."""


class Shard(Propagation):
    """One shard: its data, and the one function that runs commands on it."""

    def __init__(self, index: int, config: Any, users: Users | None = None) -> None:
        super().__init__()
        self.index = index
        self.config = config
        self.databases: dict[int, Database] = {}
        self.doors: dict[str, type[Database]] = {}
        """What makes the databases a special kind, by the reason for it."""
        self.new_database: type[Database] = Database
        self.memory: MemoryLimit | None = None
        """While there is a limit."""
        self.transactions = Transactions(self)
        self.locks = self.transactions.locks
        self.watches = Watches(self)
        self.tracking = Tracking(self)
        self.serving = Serving(self)
        self.ready = self.serving.waiters.ready
        self.channels = Channels()
        self.notifications = Notifications(self)
        self.tick()
        self.slow = Slow(config)
        self.stats = Stats(self.slow)
        self.hits = self.misses = self.expired_keys = self.evicted_keys = 0
        self.use_door("recency", door_of(config.maxmemory_policy))
        self.graveyard: deque[list[Slot] | Collection | Deadlines] = deque()
        """What flushed databases held, and large collections that no key holds any more: freed in slices."""
        self.snapshots = Snapshots()
        """What scans of large slots and collections are at."""
        self.on_flush: list[Callable[[], None]] = []
        """Called before databases are emptied or swapped as a whole."""
        self.begin_snapshot: Callable[[int], bool] = lambda number: False
        """Called at the moment that the snapshot of that number shows; whether it is known here."""
        self.log_position: Callable[[], list[list[Any]] | None] = lambda: None
        """Says which files of the log hold everything up to now (see shardkv.journal)."""
        self.is_durable: Callable[[], bool] = lambda: True
        """Whether all that has been logged will be on disk when the replies of this turn leave."""
        self.until_durable: list[tuple[Link, int]] = []
        """Requests, with their tickets, that wait for that."""
        self.draft: Draft | None = None
        """Of the transaction that runs now, if it may still be undone."""
        self._bounds: dict[int, Bound] = {}
        self.last_batch_s = 0
        """When requests were last run, in s since 1970."""
        self.link: Link | None = None
        """The proxy that the requests which run now came from, if they may wait."""
        self.scripts = Scripts()
        self.remote_scripts: Any = None
        """Those that reach other shards, which have a world of their own."""
        self.slot_table: list[int] = []
        """Which shard owns each slot; empty if this one owns all."""
        self.users = users or Users()
        """Who there is, for scripts of clients that may not do everything."""
        self.acting: bytes | None = None
        """Whose rights limit the script that runs now; None if nobody's."""
        self.tells_calls: set[int] = set()
        """The proxies that want to know what scripts of their clients call."""
        self.running: tuple[Batch, list[Reply], Link] | None = None
        """The batch of a link that runs now, and the replies that it has so far."""

    def tick(self) -> None:
        """Takes the time by which keys expire; it stands still while a batch runs."""
        self.now_ms = clock.now_ms()
        self.now_s = self.now_ms // 1000

    # -- databases ------------------------------------------------------------------------------

    def database(self, index: int) -> Database:
        """The database of that number, made when first used."""
        db = self.databases.get(index)
        if db is None:
            db = self.databases[index] = self.new_database(self, index)
            if self.draft is not None:
                db.join(self.draft)
        return db

    def use_door(self, reason: str, door: type[Database] | None) -> None:
        """Has the databases be of a special kind from now on, or not any more if it is None."""
        if door is None:
            self.doors.pop(reason, None)
        else:
            self.doors[reason] = door
        self.new_database = with_doors(*(self.doors[reason] for reason in sorted(self.doors)))
        for db in self.databases.values():
            db.__class__ = self.new_database

    def follow_policy(self) -> None:
        """Keeps of the use of keys from now on what the setting maxmemory-policy asks for."""
        door = door_of(self.config.maxmemory_policy)
        if door is not self.doors.get("recency"):
            self.use_door("recency", door)
            for db in self.databases.values():
                self.graveyard += [cast(list[Slot], db.marks)] if db.marks else []
                db.begin_marks()

    def owns(self, key: bytes) -> bool:
        """Whether the shard is the one that a key, or a channel, belongs to."""
        return not self.slot_table or self.slot_table[slot_of(key)] == self.index

    def flush(self, indexes: list[int]) -> int:
        """Empties databases; returns how many keys they held. Their memory is freed in slices."""
        for prepare in self.on_flush:
            prepare()
        removed = 0
        for index in indexes:
            self.serving.waiters.look_at_all(index)
            db = self.databases.get(index)
            count = 0 if db is None else len(db)
            if db is not None and count:
                removed += count
                self.watches.replaced(db)
                if self.draft is not None:
                    self.draft.empty(db)
                else:
                    self.graveyard += db.clear()
        self.snapshots.clear()
        if self.draft is None:
            self.tracking.flushed()
        elif self.tracking:
            self.draft.flushes = True
        return removed

    def observe(self, db: Database, key: bytes, event: str) -> None:
        """Tells whoever wants to hear of it that a key has changed."""
        for observer in self.observers:
            observer(db, key, event)

    def publish(self, kind: int, channel: bytes, message: bytes) -> int:
        """Has a message sent to the subscribers of a channel (see shardkv.channels), by a transaction that
        may still be undone only when it counts; returns how many they are."""
        if self.draft is None:
            return self.channels.publish(kind, channel, message)
        self.draft.messages.append((kind, channel, message))
        return self.channels.receivers(kind, channel)

    def swap(self, first: int, second: int) -> None:
        """Exchanges the contents of two databases."""
        if first == second:
            return
        for prepare in self.on_flush:
            prepare()
        one, other = self.database(first), self.database(second)
        self.watches.replaced(one, other)
        self.watches.replaced(other, one)
        if self.draft is not None:
            self.draft.before_swap(one, other)
        one.exchange(other)
        self.snapshots.clear()
        self.serving.waiters.look_at_all(first)
        self.serving.waiters.look_at_all(second)

    # -- running --------------------------------------------------------------------------------

    def run(self, batch: Batch, link: Link | None = None, *, locked: bool = False) -> list[Reply]:
        """Runs a batch of requests; returns a reply for each, in order, or None for one that comes later.

        Without a `link` no request may wait. `locked` says that the caller's transaction holds the locks
        that the requests need, so that they are not asked for.

        Figures are kept per command. The clock is read where one command follows another, so that a batch of
        the same short command costs two readings in all.
        """
        bounds = self._bounds
        held: Any = () if locked else self.locks.held
        replies: list[Reply] = []
        reply = replies.append
        outer_link, self.link = self.link, link
        self.last_batch_s = self.now_s
        outer_running = self.running
        if link is not None:
            self.running = batch, replies, link
        now_ns = clock.perf_counter_ns
        look_ns = self.slow.least_ns
        measured = self.stats
        if measured.tracked_batches:
            measured.tracked_batches -= 1
            look_ns = 0
        timed: CommandStats | None = None
        calls = last_ns = 0
        for args in batch:
            code = args[0]
            try:
                handler, db, encode, writes, command, stats = bounds[code >> SLOT_BITS]
            except KeyError:
                handler, db, encode, writes, command, stats = self._bind(code >> SLOT_BITS)
            if stats is not timed:
                started_ns = now_ns()
                if timed is not None:
                    took_ns = started_ns - last_ns
                    timed.calls += calls
                    timed.ns += took_ns
                    if took_ns >= look_ns:
                        measured.look_at(timed, batch, replies, calls, took_ns)
                timed, calls, last_ns = stats, 0, started_ns
            if held and link is not None and self._parks(link, db, command, args, encode):
                reply(None)
                continue
            calls += 1
            args[0] = code & SLOT_MASK
            try:
                value = handler(db, args)
            except CommandError as error:
                value = caught(error)
                self.stats.failed(stats, error)
            except Exception:
                logger.exception("%s failed", command.name)
                value = CommandError(errors.INTERNAL)
                self.stats.failed(stats, value)
            if writes and self.dirty:
                self.log_change(db, command, args)
            if value is LATER:
                if self.serving.newcomer is not None:
                    self._let_wait(code, args)
                reply(None)
            else:
                reply(encode(value))
        if timed is not None:
            took_ns = now_ns() - last_ns
            timed.calls += calls
            timed.ns += took_ns
            if took_ns >= look_ns:
                measured.look_at(timed, batch, replies, calls, took_ns)
        self.link, self.running = outer_link, outer_running
        if self.ready and outer_link is None and not self.together and self.scripts.running is None:
            # Keys that have expired when somebody looked at them.
            self.serving.serve()
        return replies

    def _bind(self, context: int) -> Bound:
        index, no_touch, protocol, command_id, tracker, remembers = unpack_context(context)
        command = BY_ID[command_id]
        part = protocol == RAW
        stats = self.stats.of(command, part=part)
        handler = command.handler
        if self.refusal is not None and command.flags & Flag.WRITE:
            handler = self._refuse
        elif self.memory is not None and command.needs_memory:
            handler = self.memory.guarded(handler)
        if no_touch and command.name != "touch":
            handler = _without_touching(handler, command)
        singly = self.slow.times_singly(command)
        if singly:
            handler = self.slow.timed(handler, stats)
        stats.together = not singly
        if tracker:
            handler = self.tracking.followed(handler, command, tracker, remembers=remembers)
        bound = (handler, self.database(index), ENCODERS[protocol], command.writes, command, stats)
        self._bounds[context] = bound
        return bound

    def settings_changed(self) -> None:
        """Follows the settings about what is measured."""
        self.stats.settings_changed()
        self._bounds.clear()

    def unbind(self, tracker: int) -> None:
        """Forgets what the codes of a client that tracks keys stand for."""
        for context in [one for one in self._bounds if unpack_context(one).tracker == tracker]:
            del self._bounds[context]

    def limit_memory(self, memory: MemoryLimit | None) -> None:
        """From now on has what needs memory ask for it; with None, does not."""
        self.memory = memory
        self._bounds.clear()

    def lacks_memory(self) -> bool:
        """Whether what would need memory is to be refused now, though as many keys were evicted as could
        be."""
        memory = self.memory
        if memory is None or memory.used_bytes <= memory.share_bytes:
            return False
        # In the midst of a transaction, none of its keys may vanish.
        return memory.is_full if self.together else not memory.make_room()

    def check_memory(self, requests: Batch) -> None:
        """Raises CommandError if one of the requests would need memory, and there is none."""
        if self.memory is not None and any(map(_needs_memory, requests)) and self.lacks_memory():
            raise CommandError(errors.OUT_OF_MEMORY)

    def reset_stats(self) -> None:
        """Has the figures of commands and errors begin at zero."""
        self.stats.reset()
        self._bounds.clear()

    def refuse_writes(self, text: bytes | None) -> None:
        """From now on answers every writing command with this error; with None, carries them out again."""
        self.refusal = text
        # What codes stand for is looked up anew, so that the refusal costs nothing while there is none.
        self._bounds.clear()

    def _refuse(self, db: Database, args: list[Any]) -> Any:
        assert self.refusal is not None
        raise CommandError(self.refusal)

    # -- scripts --------------------------------------------------------------------------------

    def call_from_script(
        self, db: Database, command: Command, words: list[bytes], slot: int
    ) -> tuple[Any, Effects]:
        """Carries out a command for a script; returns its value, or the CommandError that it has failed with,
        and what is to be logged of it. `slot` is that of its key, if it has a single one."""
        if self.refusal is not None and command.writes:
            return CommandError(self.refusal), []
        measured = self.stats
        stats = measured.commands.get(command.name) or measured.of(command)
        args: list[Any] = [slot, *words[1:]]
        if self.tracking.reader and command.only_reads:
            self.tracking.remember(self.tracking.reader, command, args)
        if self.memory is not None and command.needs_memory:
            self.memory.note_growth(args)
        begun_ns = clock.perf_counter_ns()
        value: Any
        try:
            value = command.handler(db, args)
        except CommandError as error:
            value = caught(error)
            self.stats.failed(stats, error)
        except Exception:
            logger.exception("%s failed", command.name)
            value = CommandError(errors.INTERNAL)
            self.stats.failed(stats, value)
        measured.took(stats, words, clock.perf_counter_ns() - begun_ns)
        if not self.dirty:
            return value, []
        self.changes_since_save += self.dirty
        self.dirty = 0
        effects, self._effects = self._effects, []
        return value, effects or [(db.index, [command.propagated_name, *args[1:]])]

    # -- requests that wait for data --------------------------------------------------------------

    def wait(
        self, db: Database, number: Any, keys: list[bytes], kind: type[Collection], *, on_loss: bool = False
    ) -> Any:
        """For a handler that has found nothing: what it returns. LATER if its request waits; if it must not,
        what there is to say when its time is over.

        number    what stands in the place of its timeout (see shardkv.blocking).
        kind      what it waits for, under any of these keys.
        on_loss   whether it is tried again as well when one of the keys is gone or holds something else.
        """
        waits = self.serving.wait(self.link, db, number, keys, kind, on_loss=on_loss)
        return LATER if waits else NULL_ARRAY

    def _let_wait(self, code: int, args: list[Any]) -> None:
        """The request that has just been run waits for data."""
        handler, db, encode, _, command, stats = self._bounds[code >> SLOT_BITS]
        link, newcomer = self.link, self.serving.newcomer
        assert link is not None
        assert newcomer is not None
        locks = newcomer.places if command.internal else lock_keys(db.index, command, args)[0]
        slot, ticket = code & SLOT_MASK, link.next_ticket()
        writes = command.writes or command.internal
        self.serving.begin(
            Request(link, ticket, handler, db, slot, args, encode, command, stats, locks, writes)
        )

    def retry(self, request: Request) -> tuple[bytes | None, bool]:
        """Runs a request once more that waits for data: the reply, or None if it waits on, and whether
        anything was logged."""
        db, command, args = request.db, request.command, request.args
        args[0] = request.slot
        try:
            value = request.handler(db, args)
        except CommandError as error:
            value = caught(error)
            self.stats.failed(request.stats, error)
        except Exception:
            logger.exception("%s failed", command.name)
            value = CommandError(errors.INTERNAL)
            self.stats.failed(request.stats, value)
        changes = command.writes and self.dirty > 0
        if changes:
            self.log_change(db, command, args)
        return (None if value is LATER else request.encode(value)), changes

    def answer(
        self, link: Link, ticket: int, reply: bytes, encode: Callable[[Any], bytes] | None = None
    ) -> None:
        """Sends the reply of a request that had to wait."""
        link.late.append(Late(ticket, reply, encode))

    def wait_until_durable(self) -> bool:
        """Lets the running request wait until what has been logged so far is on disk; False if it must
        not."""
        if self.link is None:
            return False
        self.until_durable.append((self.link, self.link.next_ticket()))
        return True

    def withdraw(self, identity: Transaction, value: Any) -> bool:
        """A request is not to wait any longer, for data or for locks, and gets this reply; None for none.
        False if it does not wait."""
        if self.serving.withdraw(identity, value):
            return True
        parked = self.transactions.withdraw(identity)
        if parked is None:
            return False
        self.answer(parked.link, parked.ticket, b"" if value is None else parked.encode(value))
        return True

    # -- transactions that span shards ------------------------------------------------------------

    def _parks(
        self, link: Link, db: Database, command: Command, args: list[Any], encode: Callable[[Any], bytes]
    ) -> bool:
        """Lets a request wait if it concerns locked keys; whether it does."""
        if command.internal and command.locks is None:
            return False
        keys, whole = lock_keys(db.index, command, args)
        writes = command.writes or command.internal
        if not self.locks.must_wait(keys, whole=whole, writes=writes):
            return False
        self.transactions.park(Parked(link, link.next_ticket(), args, keys, whole, writes, encode))
        return True

    def run_together(self, batch: Batch, transaction: Transaction | None = None) -> list[Reply]:
        """Runs requests as one: their effects are logged as one MULTI … EXEC.

        Those of a transaction over several shards get a batch of the log of their own, with its number, even
        if there are none: from it a shard knows after a crash that they are carried out.
        """
        records, refusal = self.records, self.refusal
        if records is not None:
            self.records = []
        if transaction is not None and refusal is not None:
            # What was promised is done even if the log cannot be written now; it will be when it can.
            self.refuse_writes(None)
        self.together = True
        try:
            replies = self.run(batch, locked=True)
        finally:
            self.together = False
            effects, self.records = self.records, records
            if refusal is not self.refusal:
                self.refuse_writes(refusal)
        if effects is not None:
            self.log_together(effects, transaction)
        return replies


class MemoryLimit(Protocol):
    """What a shard has to know of the limit of its memory (see shardkv.eviction)."""

    used_bytes: int
    share_bytes: int
    is_full: bool

    def guarded(self, handler: Handler) -> Handler:
        """The handler of a command that needs memory, behind a check that there is some."""

    def make_room(self) -> bool:
        """Evicts keys, for a short time; False if there is too little that could be evicted."""

    def note_growth(self, args: list[Any]) -> None:
        """A request will be carried out that needs memory."""


def _needs_memory(request: list[Any]) -> bool:
    return BY_ID[unpack_context(request[0] >> SLOT_BITS).command_id].needs_memory


def _without_touching(handler: Handler, command: Command) -> Handler:
    """For clients that asked for it (CLIENT NO-TOUCH): the handler leaves the times of access as they are."""

    def handle(db: Database, args: list[Any]) -> Any:
        before = db.touched_s[:]
        keys = [args[position] for position in command.key_positions(args)] if db.marks else []
        marks = [(key, mark) for key in keys if (mark := db.mark(key)) is not None]
        try:
            return handler(db, args)
        finally:
            db.touched_s[:] = before
            for key, mark in marks:
                db.put_mark_back(key, mark)

    return handle
