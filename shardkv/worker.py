"""A worker process: the loop around a shard.

Each turn takes the batches that have come from the proxies, runs them, writes the log once, and sends the
replies. What is left of the turn goes to work that can wait: expired keys, freeing, rewriting the log.
"""

from __future__ import annotations

import gc
import logging
import os
import select
from collections.abc import Callable
from functools import partial
from types import GeneratorType
from typing import Any

from shardkv import allocator, clock, control, errors, limits, moving
from shardkv.acl.users import Users
from shardkv.busy import Busy, Postponed
from shardkv.channels import INVALIDATED, LOST, encode_told
from shardkv.chores import bury, expire_due
from shardkv.command import BY_ID, Command, Flag
from shardkv.errors import CommandError
from shardkv.eviction import Eviction
from shardkv.journal import Journal, Safe
from shardkv.latency import NEVER_NS
from shardkv.locks import Transaction
from shardkv.proxy_link import ProxyLink
from shardkv.questions import QUESTIONS
from shardkv.rdb.writer import compress_strings
from shardkv.rest import Rest
from shardkv.settings import Config
from shardkv.shard import ENCODERS, Shard
from shardkv.slots import SLOT_BITS, SLOT_MASK
from shardkv.slow import Entry
from shardkv.snapshot import Snapshots
from shardkv.transactions import Late, Link
from shardkv.wire import (
    NOTED,
    PUBLISHED,
    Batch,
    Reply,
    decode_batch,
    encode_note,
    unpack_context,
)

logger = logging.getLogger("shardkv.worker")

_CRON_S = 0.1
_IDLE_CRON_S = 0.01
"""Where nobody asks for anything and there is something to pack."""
_SHORTEST_SLICE_S = 0.0003
_LONGEST_SLICE_S = 0.002


class Worker:
    """One worker: its shard, its log, its links."""

    def __init__(
        self,
        index: int,
        config: Config,
        slot_table: list[int],
        channel: control.ControlChannel,
        users: Users | None = None,
    ) -> None:
        self.index = index
        self.config = config
        self.slot_table = slot_table
        self.shard = Shard(index, config, users)
        self.shard.slot_table = slot_table if set(slot_table) != {index} else []
        self.shard.scripts.on_busy = self._while_busy
        self.shard.slow.note = self._note
        self.channel = channel
        self.links: dict[int, ProxyLink] = {}
        self.loading = True
        self.started_ms = clock.now_ms()
        self.stopping = False
        self.exit_code = 0
        self.journal = Journal(self)
        self.rest = Rest(self.shard)
        self.taking: ProxyLink | Postponed | None = None
        """Whose requests run now."""
        self.busy: Busy | None = None
        """While a script runs for too long, and until what was put off meanwhile is done."""
        self.poll = select.epoll()
        self.snapshots = Snapshots(self.shard, self.poll)
        self.by_fd: dict[int, ProxyLink] = {}
        self.poll.register(channel.fileno(), select.EPOLLIN)
        self._wakeup, self._wakeup_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.poll.register(self._wakeup, select.EPOLLIN)
        self._next_cron_s = 0.0
        self.active_expire = True
        self._errands: list[tuple[int, moving.Errand]] = []
        """Questions that are answered in slices, each with its number."""
        self._errand_waits = False
        self.demand: list[int] | None = None
        """How many requests have come for each slot, while they are counted."""
        self.saves_fail = False
        """Whether the last snapshot that was to be kept could not be saved."""
        self.expire_cycle_ns = self.expire_cycles_cut_short = 0
        self.commit = self.journal.commit
        self.step = self.journal.step
        self.eviction: Eviction | None = None
        """While there is a limit of memory, as the shard."""
        self._beside_bytes = allocator.private_bytes(os.getpid()) - allocator.used_bytes()
        self.limit_memory({})
        self.settings_changed()

    def settings_changed(self) -> None:
        """Follows the settings about what is measured: nothing is, where nobody asks for it."""
        self.shard.settings_changed()
        monitored = self.shard.slow.events.threshold_ns < NEVER_NS
        self.commit = self._commit_timed if monitored else self.journal.commit
        self.step = self._step_timed if monitored else self.journal.step

    def _commit_timed(self) -> Safe:
        """Writes the log, and tells how long that took, and how long an fsync."""
        log = self.journal.log
        fsyncs = 0 if log is None else log.fsyncs
        begun_ns = clock.perf_counter_ns()
        safe = self.journal.commit()
        took_ns = clock.perf_counter_ns() - begun_ns
        events = self.shard.slow.events
        if log is not None and log.policy == "always" and log.fsyncs > fsyncs:
            fsync_ns = int(log.last_fsync_ms * 1_000_000)
            events.add("aof-fsync-always", fsync_ns)
            took_ns -= fsync_ns
        events.add("aof-write", took_ns)
        return safe

    def _step_timed(self, budget_s: float) -> None:
        """Goes on with the rewrite, and tells how long that took."""
        begun_ns = clock.perf_counter_ns()
        self.journal.step(budget_s)
        self.shard.slow.events.add("aof-rewrite-slice", clock.perf_counter_ns() - begun_ns)

    def follow_limits(self, changed: dict[str, Any]) -> None:
        """The same between two commands."""
        self._after_script(lambda: self.limit_memory(changed))

    def limit_memory(self, changed: dict[str, Any]) -> None:
        """Follows settings about the use of memory that have been changed while running."""
        shard = self.shard
        shard.follow_policy()
        if self.eviction is None and self.config.maxmemory:
            self.eviction = Eviction(shard, beside_bytes=self._beside_bytes)
            shard.limit_memory(self.eviction)
        elif not self.config.maxmemory:
            self.eviction = None
            shard.limit_memory(None)
        elif self.eviction is not None:
            self.eviction.settings_changed(changed)

    def heed_saves(self) -> None:
        """Refuses writes, or does so no longer, by how the last snapshot ended and what the settings say."""
        config, shard = self.config, self.shard
        stops = self.saves_fail and config.stop_writes_on_bgsave_error and config.save
        refusal = errors.SAVES_FAIL if stops else None
        if refusal is not shard.standing_refusal:
            before, shard.standing_refusal = shard.standing_refusal, refusal
            if shard.refusal is before:
                shard.refuse_writes(refusal)

    def wake(self) -> None:
        """Ends the loop's waiting; may be called in any thread."""
        try:
            os.write(self._wakeup_writer, b"w")
        except BlockingIOError:
            pass

    # -- the loop -------------------------------------------------------------------------------

    def load(self, proxies: int) -> None:
        """Loads the shard's data; meanwhile every request is answered with LOADING. So many proxies are there
        already."""
        for _ in self.journal.load():
            self.turn(0)
            if self.stopping:
                return
        if removed := moving.drop_foreign(self):
            logger.info("removed %d keys that have gone to other shards", removed)
        # Nothing is published before it is known who has subscribed.
        until_s = clock.monotonic() + limits.WAIT_FOR_SUBSCRIPTIONS_S
        while self.shard.channels.proxies < proxies and clock.monotonic() < until_s and not self.stopping:
            self.turn(max(0.0, until_s - clock.monotonic()))
        self.loading = False
        self.follow_events()
        self.channel.send(control.Ready())
        self._report_doubt(list(self.shard.transactions.open))

    def serve(self) -> None:
        """Runs until the supervisor says stop, or is gone."""
        while not self.stopping:
            errand = bool(self._errands) and not self._errand_waits
            chores = self.journal.wants_slices or bool(self.shard.graveyard) or errand
            next_s = min(self._next_cron_s, self.snapshots.next_slice_s)
            self.turn(0 if chores else max(0.0, next_s - clock.monotonic()))

    def turn(self, timeout_s: float) -> None:
        """One turn of the loop; waits at most so long for something to do."""
        events = self.poll.poll(timeout_s)
        begun_s = clock.monotonic()
        for fd, event in events:
            self.attend(fd, event, self._take)
        if self.busy is not None:
            self._end_busy([])
        self.finish_turn()
        if not self.loading and not self.stopping:
            self._do_chores(begun_s)

    def attend(self, fd: int, event: int, take: Callable[[ProxyLink], None]) -> None:
        """Sees to one file descriptor; `take` is what is done with a link that has requests."""
        link = self.by_fd.get(fd)
        if link is not None:
            if event & select.EPOLLOUT and fd == link.writer.fd:
                self._flush(link)
            elif not link.closed:
                take(link)
        elif fd == self._wakeup:
            os.read(fd, 4096)
        elif not self.snapshots.attend(fd, event):
            self._receive_control()

    def finish_turn(self) -> None:
        """Sends what has been answered. The log of what was done is written before any reply of it leaves."""
        safe = self.commit()
        if safe is not Safe.EVERYTHING:
            self._refuse_what_is_not(safe)
        if self.shard.channels.outboxes:
            self._hand_out_messages()
        for link in list(self.links.values()):
            if link.turn or link.late:
                self._send(link)

    def _do_chores(self, begun_s: float) -> None:
        """Work that can wait, when the replies are on their way."""
        now_s = clock.monotonic()
        # Chores get as long as requests took, within bounds: they must neither starve nor be felt.
        budget_s = min(_LONGEST_SLICE_S, max(_SHORTEST_SLICE_S, now_s - begun_s))
        if now_s >= self._next_cron_s:
            self._next_cron_s = now_s + _CRON_S
            self.shard.tick()
            # What is being handed out to another shard has to stay as it is.
            if self.active_expire and not self._errands:
                begun_ns = clock.perf_counter_ns()
                if expire_due(self.shard, budget_s):
                    self._next_cron_s = now_s
                    self.expire_cycles_cut_short += 1
                took_ns = clock.perf_counter_ns() - begun_ns
                self.expire_cycle_ns += took_ns
                self.shard.slow.events.add("expire-cycle", took_ns)
            self.shard.snapshots.drop_idle(self.shard.now_s)
            self.shard.stats.keep_measuring()
            self.journal.cron()
            if self.eviction is not None and self.eviction.cron():
                self._next_cron_s = now_s
            if self.rest.step(_LONGEST_SLICE_S) and self.shard.now_s > self.shard.last_batch_s + 1:
                self._next_cron_s = now_s + _IDLE_CRON_S
            if self.shard.ready:
                # Somebody waits for keys that have just expired.
                self.shard.serving.serve()
                self._next_cron_s = now_s
            if self.shard.channels.outboxes:
                # And somebody wants to hear of it.
                self._next_cron_s = now_s
        if self.shard.graveyard:
            bury(self.shard, budget_s)
        self.step(budget_s)
        self.snapshots.step(now_s)
        if self._errands:
            self._run_errand()

    def _run_errand(self) -> None:
        """Goes on with a question that takes longer to answer, for a slice."""
        number, errand = self._errands[0]
        until_s = clock.monotonic() + _LONGEST_SLICE_S
        answer = None
        try:
            while next(errand):
                if clock.monotonic() >= until_s:
                    self._errand_waits = False
                    return
            self._errand_waits = True
            return
        except StopIteration as stop:
            answer = stop.value
        except Exception:
            logger.exception("a question failed")
        self._errands.pop(0)
        self._errand_waits = False
        self.channel.send(control.Answer(number, answer))

    def _take(self, link: ProxyLink) -> None:
        """Runs the batches that have come from a proxy."""
        if not self.loading:
            # While data is loaded nothing expires, so time stands still.
            self.shard.tick()
        link.batches = self.receive(link)
        if self.demand is not None:
            self._count_demand(self.demand, link.batches)
        self.taking = link
        try:
            while link.batches:
                batch = link.batches.pop(0)
                if self.loading:
                    link.turn.append((batch, self._answer_loading(batch, link)))
                    continue
                replies = self.shard.run(batch, link)
                if self.busy is None:
                    link.turn.append((batch, replies))
                else:
                    self._end_busy(replies)
        except Exception:
            logger.exception("proxy %d sent a broken request", link.proxy)
            link.reader.closed = True
        self.taking = None
        if link.reader.closed:
            self.detach(link)

    def _count_demand(self, demand: list[int], batches: list[Batch]) -> None:
        for batch in batches:
            for args in batch:
                code = args[0]
                if BY_ID[unpack_context(code >> SLOT_BITS).command_id].keys:
                    demand[code & SLOT_MASK] += 1

    def receive(self, link: ProxyLink) -> list[Batch]:
        """The batches that have come from a proxy."""
        batches = []
        try:
            for frame in link.reader.receive():
                batches.append(decode_batch(frame))
        except Exception:
            logger.exception("proxy %d sent a broken frame", link.proxy)
            link.reader.closed = True
            self.channel.send(control.Ask(0, control.SUPERVISOR, control.RECONNECT, [link.proxy, self.index]))
        return batches

    def _note(self, command: Command, entry: Entry, batch: Batch, place: int) -> None:
        """A request is to be logged, which the proxy does, for it knows the client."""
        running = self.shard.running
        if running is None:
            return
        running_batch, replies, link = running
        if self.busy is not None and command.runs_script and self.busy.ticket is not None:
            # Its batch has been answered; its own reply comes late.
            self._note_late(link, self.busy.ticket, entry)
        elif isinstance(link, ProxyLink):
            if self.busy is None:
                own = batch is running_batch
                link.notes.append((len(link.turn), place if own else len(replies), entry))
        else:
            self._note_late(link, link.next_ticket(), entry)

    def _note_late(self, link: Link, ticket: int, entry: Entry) -> None:
        link.late.append(Late(NOTED, encode_note((True, ticket, entry)), None))

    def _while_busy(self) -> None:
        """Called now and then while a script has run for too long."""
        if self.busy is None:
            self.busy = Busy(self)
        self.busy.serve()

    def _end_busy(self, replies: list[Reply]) -> None:
        """It is done; `replies` are those of its batch."""
        assert self.busy is not None
        busy, self.busy = self.busy, None
        busy.end(replies)

    def _answer_loading(self, batch: Batch, link: ProxyLink) -> list[Reply]:
        """Refuses requests, but for those between processes that can be carried out at any time."""
        error = CommandError(errors.LOADING)
        replies: list[Reply] = []
        for args in batch:
            context = unpack_context(args[0] >> SLOT_BITS)
            command = BY_ID[context.command_id]
            if command.internal and command.flags & Flag.LOADING:
                replies += self.shard.run([args], link)
            else:
                replies.append(ENCODERS[context.protocol](error))
        return replies

    def _refuse_what_is_not(self, safe: Safe) -> None:
        """The log, or the side log, could not be written: who wrote in this turn must not believe it was."""
        if self.journal.broken:
            # After a failed fsync nobody knows what is on disk. The shard is loaded anew, from there.
            self.stopping = True
            self.exit_code = 1
            for link in self.links.values():
                link.turn.clear()
                link.notes.clear()
                link.late.clear()
            self.shard.channels.outboxes.clear()
            return
        for link in self.links.values():
            for batch, replies in link.turn:
                self.shard.refuse_logged(batch, replies, only_pledges=safe is Safe.ALL_BUT_PLEDGES)
            link.late = [self.shard.refuse_late(late) for late in link.late]

    def _hand_out_messages(self) -> None:
        """Adds what was published to what the proxies are sent. Those that only listen get it at once, so
        that it is on its way to them when a publisher hears that it is done."""
        self.shard.tracking.hand_out()
        told_ns = clock.perf_counter_ns()
        outboxes, self.shard.channels.outboxes = self.shard.channels.outboxes, {}
        for proxy, entries in outboxes.items():
            link = self.links.get(proxy)
            if link is None:
                continue
            loses = link.writer.backlog_bytes > limits.MESSAGES_BACKLOG_BYTES
            if loses:
                lost = [entry for entry in entries if isinstance(entry, tuple)]
                entries = [entry for entry in entries if isinstance(entry, int)]
                if not link.loses_messages:
                    logger.warning("proxy %d does not take what is published, its subscribers lose it", proxy)
                if not link.loses_messages or any(entry[0] == INVALIDATED for entry in lost):
                    entries.append(LOST)
            link.loses_messages = loses
            if entries:
                link.late.append(Late(PUBLISHED, encode_told((told_ns, entries)), None))
                if not link.turn:
                    self._send(link)

    # -- links ----------------------------------------------------------------------------------

    def attach(self, proxy: int, read_fd: int, write_fd: int) -> None:
        """Starts to serve a proxy that has been (re)started."""
        if proxy in self.links:
            self.detach(self.links[proxy])
        link = self.links[proxy] = ProxyLink(proxy, read_fd, write_fd)
        self.by_fd[read_fd] = self.by_fd[write_fd] = link
        self.poll.register(read_fd, select.EPOLLIN)

    def detach(self, link: ProxyLink) -> None:
        """A proxy is gone."""
        if self.links.get(link.proxy) is not link:
            return
        del self.links[link.proxy]
        for fd in (link.reader.fd, link.writer.fd):
            del self.by_fd[fd]
        link.close()
        self._after_script(lambda: self._forget_proxy(link.proxy))

    def _forget_proxy(self, proxy: int) -> None:
        self.shard.watches.forget_proxy(proxy)
        self.shard.channels.forget_proxy(proxy)
        self.shard.tells_calls.discard(proxy)
        self.shard.tracking.forget_proxy(proxy)
        self._report_doubt(self.shard.transactions.forget_proxy(proxy))

    def follow_events(self) -> None:
        """Publishes the events of keys that the settings ask for, and no others."""
        notifications = self.shard.notifications
        self._after_script(lambda: notifications.follow(self.config.notify_keyspace_events))

    def _after_script(self, work: Callable[[], None]) -> None:
        """Does at once what must not come into the midst of a script, or as soon as that is done."""
        if self.busy is None:
            work()
        else:
            self.busy.afterwards(work)

    def _send(self, link: ProxyLink) -> None:
        try:
            link.send()
        except OSError:
            self.detach(link)
            return
        if link.writer.backlog_bytes and not link.waits_for_room:
            link.waits_for_room = True
            self.poll.register(link.writer.fd, select.EPOLLOUT)
        if link.writer.backlog_bytes > limits.PIPE_BACKLOG_BYTES and not link.held_back:
            # It is far behind in taking replies, so it may not ask for more.
            link.held_back = True
            self.poll.unregister(link.reader.fd)

    def _flush(self, link: ProxyLink) -> None:
        try:
            done = link.writer.flush()
        except OSError:
            self.detach(link)
            return
        if done:
            link.waits_for_room = False
            self.poll.unregister(link.writer.fd)
        if link.held_back and link.writer.backlog_bytes <= limits.PIPE_BACKLOG_BYTES // 2:
            link.held_back = False
            self.poll.register(link.reader.fd, select.EPOLLIN)

    def _report_doubt(self, transactions: list[Transaction]) -> None:
        """Has the supervisor find out what became of transactions."""
        if transactions:
            participants = self.shard.transactions.open
            body = [self.index, [(owner, participants[owner]) for owner in transactions]]
            self.channel.send(control.Ask(0, control.SUPERVISOR, control.IN_DOUBT, body))

    # -- the supervisor -------------------------------------------------------------------------

    def _receive_control(self) -> None:
        for message in self.channel.receive():
            match message:
                case control.Attach(peer):
                    self.attach(peer, *self.channel.take_fds())
                case control.Question(number, topic, body) if topic in _BETWEEN_BATCHES:
                    self._after_script(partial(self._answer, number, topic, body))
                case control.Question(number, topic, body):
                    self._answer(number, topic, body)
                case control.Stop():
                    self.stopping = True
        if self.channel.closed:
            self.stopping = True

    def _answer(self, number: int, topic: str, body: Any) -> None:
        answer = None
        try:
            answer = QUESTIONS[topic](self, body)
        except Exception:
            logger.exception("question %s failed", topic)
        if isinstance(answer, GeneratorType):
            self._errands.append((number, answer))
            return
        self.channel.send(control.Answer(number, answer))


_BETWEEN_BATCHES = (control.FREEZE, control.SETTLE, control.FORGET, *control.OF_SLOTS)


def run(
    index: int,
    config: Config,
    slot_table: list[int],
    channel: control.ControlChannel,
    proxies: int,
    users: Users,
) -> int:
    """The life of a worker process, with so many proxies there when it begins; returns its exit code."""
    worker = Worker(index, config, slot_table, channel, users)
    compress_strings(config.rdbcompression)
    gc.collect()
    gc.freeze()
    # Values refer to no one, so there are no cycles to look for, and looking would take ever longer.
    gc.disable()
    worker.load(proxies)
    worker.serve()
    if not worker.journal.close():
        worker.exit_code = 1
    return worker.exit_code
