"""The supervisor: starts every process, keeps them running, relays what they have to say to one another.

It never touches clients' data, and it never starts a thread, so that it can fork at any time: a restarted
worker is there within milliseconds, and all processes share the memory of the modules they have in common.
What a child needs comes through its control channel: for every pair of a worker and a proxy two pipes, made
anew whenever either is started, so that nothing a dead process left behind is ever read.
"""

from __future__ import annotations

import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sdnotify
import setproctitle

from proxy import server
from proxy.child import die_with_parent, reset_signals
from proxy.listeners import Listeners
from proxy.pause import Pause
from proxy.relay import Answers, Relay, topic
from proxy.relocation import Relocation
from proxy.resolver import Message, Resolver
from proxy.saving import Saving
from proxy.shares import Shares
from shardkv import control, logs, worker
from shardkv.acl.users import Users
from shardkv.proxy_link import enlarge_pipe
from shardkv.slotmap import Layout

logger = logging.getLogger("proxy.supervisor")

WORKER = "worker"
PROXY = "proxy"

_FIRST_RESTART_DELAY_S = 0.0
_LONGEST_RESTART_DELAY_S = 5.0
_ASK_AGAIN_S = 1.0
"""After so long shards that could not answer are asked again about transactions in doubt."""

_LONGEST_SAVE_S = 24 * 3600.0
"""How long clients may not write, at most, while the last snapshot is taken."""

_STEADY_S = 10.0
"""A process that has run so long is no longer counted as one that keeps dying."""


@dataclass(eq=False)
class Child:
    """A process the supervisor has started, or is about to start again."""

    kind: str
    index: int
    pid: int = 0
    channel: control.ControlChannel | None = None
    ready: bool = False
    started_at: float = 0.0
    deaths: int = 0
    """How often in a row it died soon after its start."""
    restarts: int = 0
    restart_at: float = 0.0
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.index}"

    @property
    def running(self) -> bool:
        return self.pid != 0


class Supervisor:
    """The parent of all processes."""

    def __init__(
        self, config: Any, listeners: Listeners, layout: Layout, lock_fd: int, users: Users | None = None
    ) -> None:
        self.config = config
        self.users = users or Users()
        self.listeners = listeners
        self.slot_table = layout.table
        self.workers = [Child(WORKER, index) for index in range(layout.shards)]
        self.proxies = [Child(PROXY, index) for index in range(config.proxies)]
        self.stopping = False
        self.exit_code = 0
        self.relay = Relay(self)
        self.resolver = Resolver(layout.shards)
        self.relocation = self._relocation(layout)
        self._retired: list[Child] = []
        """Workers that are about to end and not to be started again."""
        self.pause = Pause()
        self.monitoring: set[int] = set()
        """The proxies with clients that monitor."""
        self.shares = Shares(self)
        self._lock_fd = lock_fd
        self._selector = selectors.DefaultSelector()
        self._signals: deque[int] = deque()
        self._notifier = sdnotify.SystemdNotifier()
        self._announced = False
        self._reload: Callable[[], None] = lambda: None
        self._asked_to_stop = False
        self.helpers: list[Child] = []
        """Processes that do one thing and end."""
        self.saving = Saving(self)

    def _relocation(self, layout: Layout) -> Relocation:
        return Relocation(self, data_folder(self.config), layout)

    @property
    def children(self) -> list[Child]:
        return [*self.workers, *self._retired, *self.proxies]

    # -- life -----------------------------------------------------------------------------------

    def run(self, reload: Callable[[], None]) -> int:
        """Starts everything and keeps it running until a signal or SHUTDOWN ends it; returns the exit code.

        `reload` is called on SIGHUP.
        """
        self._reload = reload
        self._catch_signals()
        gc.collect()
        gc.freeze()
        self.saving.remove_unfinished()
        for child in self.children:
            self._start(child)
        while not self.stopping:
            self._turn(self._next_timeout_s())
        self._stop_everything()
        return self.exit_code

    def stop(self, exit_code: int = 0) -> None:
        """Begins the orderly end."""
        self.stopping = True
        self.exit_code = exit_code

    def shut_down(self, *, save: bool, force: bool) -> int | None:
        """Begins the orderly end, after a snapshot if one is wanted, whose number is returned. Nothing is
        changed any more meanwhile. If it cannot be saved the server goes on, unless it is forced."""
        if not save:
            self.stop()
            return None
        until_s = time.monotonic() + _LONGEST_SAVE_S
        self.pause.extend(until_s, writes_only=True)
        self.relay.tell(self.proxies, "client pause", [until_s, True])

        def saved(outcome: dict[str, Any]) -> None:
            if "ok" in outcome or force:
                self.stop()
            else:
                logger.error("not shut down, because the data could not be saved")
                self.pause.end()
                self.relay.tell(self.proxies, "client unpause", None)

        return self.saving.save(saved, anew=True)

    def _catch_signals(self) -> None:
        """Queues signals for the loop; the wake-up socket ends its waiting."""
        reader, writer = socket.socketpair()
        for sock in (reader, writer):
            sock.setblocking(False)
        self._wakeup = (reader, writer)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda received, frame: self._signals.append(received))
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self._selector.register(reader, selectors.EVENT_READ, None)

    def _turn(self, timeout_s: float | None) -> None:
        for key, events in self._selector.select(timeout_s):
            child = key.data
            if child is None:
                self._wakeup[0].recv(4096)
            elif child.channel is not None:
                if events & selectors.EVENT_WRITE:
                    child.channel.flush()
                if events & selectors.EVENT_READ:
                    self._receive(child)
        while self._signals:
            self._handle_signal(self._signals.popleft())
        self.relay.expire(time.monotonic())
        self.resolve()
        self.saving.check(time.monotonic())
        now = time.monotonic()
        self.shares.tick(now)
        self.relocation.turn(now)
        for child in self.children:
            if not child.running and not self.stopping and child.restart_at <= now:
                if child not in self._retired:
                    self._start(child)
            elif child.channel is not None:
                self._watch(child)
        if self._announced:
            self._notifier.notify("WATCHDOG=1")

    def _watch(self, child: Child) -> None:
        assert child.channel is not None
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.channel.wants_to_write else 0)
        self._selector.modify(child.channel, events, child)

    def _next_timeout_s(self) -> float | None:
        """Until the next restart, overdue answer or sign of life for the watchdog."""
        now = time.monotonic()
        times = [child.restart_at - now for child in self.children if not child.running]
        if (deadline := self.relocation.next_deadline()) is not None:
            times.append(deadline - now)
        if (deadline := self.relay.next_deadline()) is not None:
            times.append(deadline - now)
        if (look_at := self.shares.next_deadline()) is not None:
            times.append(look_at - now)
        if self.resolver.doubts:
            times.append(_ASK_AGAIN_S)
        if (check_at := self.saving.next_deadline()) is not None:
            times.append(check_at - now)
        if (watchdog_us := os.environ.get("WATCHDOG_USEC")) is not None:
            times.append(int(watchdog_us) / 2e6 / 2)
        return max(0.0, min(times)) if times else None

    def _handle_signal(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._reap()
        elif number == signal.SIGHUP:
            logger.info("SIGHUP: reading the configuration again")
            self._reload()
        else:
            logger.info("%s: shutting down", signal.Signals(number).name)
            # Whoever asks twice does not want to wait. With an append-only file nothing is lost either way.
            save = bool(self.config.save) and not self._asked_to_stop
            self._asked_to_stop = True
            self.shut_down(save=save, force=self.config.appendonly)

    # -- children -------------------------------------------------------------------------------

    def add_worker(self) -> None:
        """Starts a further worker, whose shard owns nothing yet."""
        self.workers.append(Child(WORKER, len(self.workers)))
        self.resolver.resized(len(self.workers))
        self._start(self.workers[-1])

    def retire(self, child: Child) -> None:
        """Has a worker end that is not one of the workers any more."""
        self._retired.append(child)
        self.resolver.resized(len(self.workers))
        if child.channel is not None:
            child.channel.send(control.Stop())

    def _start(self, child: Child) -> None:
        """Starts a worker or a proxy, and connects it to the others."""
        proxies = sum(proxy.channel is not None for proxy in self.proxies)

        def live(channel: control.ControlChannel) -> int:
            if child.kind == WORKER:
                self.listeners.close()
                return worker.run(child.index, self.config, self.slot_table, channel, proxies, self.users)
            os.close(self._lock_fd)
            server.run(
                child.index,
                self.config,
                self.slot_table,
                self.relocation.resharding.shards,
                self.listeners,
                channel,
                self.pause,
                self.monitoring,
                self.users,
            )
            return 0

        self._fork(child, live)
        for peer in self.proxies if child.kind == WORKER else self.workers:
            if peer.channel is not None:
                self.connect(child, peer)
        if child.kind == WORKER and not self.saving.last_ok:
            self.relay.tell([child], control.SAVED, [0, False])

    def _fork(self, child: Child, life: Callable[[control.ControlChannel], int]) -> None:
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._live(child, control.ControlChannel(theirs), parent, life)
        theirs.close()
        child.pid = pid
        child.channel = control.ControlChannel(ours)
        child.ready = False
        child.started_at = time.monotonic()
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        logger.debug("started %s with pid %d", child.name, pid)

    def start_helper(self, kind: str, life: Callable[[control.ControlChannel], int]) -> Child:
        """Starts a process that does one thing and ends; `life` is what it does, and returns its exit code.
        Raises OSError."""
        child = Child(kind, 0)

        def live(channel: control.ControlChannel) -> int:
            self.listeners.close()
            return life(channel)

        self._fork(child, live)
        self.helpers.append(child)
        return child

    def kill(self, child: Child) -> None:
        """Kills a process at once."""
        if child.running:
            os.kill(child.pid, signal.SIGKILL)

    def connect(self, one: Child, other: Child) -> None:
        """Gives two processes fresh pipes to one another, if both are there."""
        if one.channel is None or other.channel is None:
            return
        read_1, write_1 = os.pipe()
        read_2, write_2 = os.pipe()
        for fd in (read_1, read_2):
            enlarge_pipe(fd)
        one.channel.send(control.Attach(other.index), (read_1, write_2))
        other.channel.send(control.Attach(one.index), (read_2, write_1))
        for fd in (read_1, write_1, read_2, write_2):
            os.close(fd)

    def _live(
        self,
        child: Child,
        channel: control.ControlChannel,
        parent: int,
        life: Callable[[control.ControlChannel], int],
    ) -> None:
        """The whole life of a forked child. Never returns."""
        code = 1
        try:
            die_with_parent(parent)
            reset_signals()
            self._selector.close()
            for sock in self._wakeup:
                sock.close()
            for other in [*self.children, *self.helpers]:
                if other.channel is not None:
                    other.channel.close()
            logs.configure(self.config, child.name, queued=True)
            setproctitle.setproctitle(f"shardkv: {child.name} {self.listeners.title}")
            code = life(channel)
        except BaseException:
            logger.exception("%s failed", child.name)
        finally:
            logs.close()
            os._exit(code)

    def _receive(self, child: Child) -> None:
        assert child.channel is not None
        for message in child.channel.receive():
            match message:
                case control.Ready():
                    child.ready = True
                    if child.kind == WORKER:
                        self.resolver.came_up(child.index)
                        self.resolve()
                    self._announce()
                case control.Alive(state):
                    child.state = state
                case control.Ask():
                    self.relay.ask(child, message)
                case control.Answer(number, body):
                    self.relay.answered(child, number, body)
        if child.channel is not None and child.channel.closed:
            self._close_channel(child)

    def _close_channel(self, child: Child) -> None:
        if child.channel is not None:
            self._selector.unregister(child.channel)
            child.channel.close()
            child.channel = None

    def _announce(self) -> None:
        """Tells systemd and the log once everything is there."""
        if self._announced or not all(child.ready for child in self.children):
            return
        self._announced = True
        self.relocation.begin()
        logger.info("Ready to accept connections on %s", self.listeners.title)
        self._notifier.notify(f"READY=1\nSTATUS={len(self.workers)} shards, {len(self.proxies)} proxies")

    def _reap(self) -> None:
        for child in [*self.children, *self.helpers]:
            if not child.running:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._buried(child, os.waitstatus_to_exitcode(status))

    def _buried(self, child: Child, exit_code: int) -> None:
        """A child is dead: it will be started again, at once the first time, then after ever longer
        delays."""
        if child in self.helpers:
            self._helper_ended(child)
            return
        self._close_channel(child)
        child.pid = 0
        self.relocation.resharding.deaths += 1
        self.relay.forget(child)
        if child in self._retired:
            self._retired.remove(child)
            return
        if child.kind == WORKER:
            self.resolver.went_down(child.index)
            self.resolve()
        elif child.index in self.monitoring:
            self.monitoring.discard(child.index)
            self.relay.ask_group(self.proxies, "monitor", [child.index, False], lambda answers: None)
        if self.stopping:
            if exit_code:
                logger.warning("%s ended with %s", child.name, _ending(exit_code))
                self.exit_code = self.exit_code or 1
            return
        now = time.monotonic()
        # One that has ended in good order was asked to.
        steady = now - child.started_at >= _STEADY_S or not exit_code
        child.deaths = 0 if steady else child.deaths + 1
        delay_s = 0.0 if child.deaths <= 1 else min(_LONGEST_RESTART_DELAY_S, 0.05 * 2**child.deaths)
        child.restart_at = now + delay_s
        child.restarts += 1
        logger.warning("%s ended with %s, restarting it in %.1f s", child.name, _ending(exit_code), delay_s)

    def _helper_ended(self, child: Child) -> None:
        """A process that does one thing has done it, or is dead."""
        if child.channel is not None:
            # It may have said something just before.
            self._receive(child)
        self._close_channel(child)
        child.pid = 0
        self.helpers.remove(child)
        self.saving.ended()

    # -- transactions in doubt ------------------------------------------------------------------

    def resolve(self) -> None:
        """Says to the shards what the resolver wants said now."""
        for message in self.resolver.next_messages():
            self._tell(message)

    def _tell(self, message: Message) -> None:
        def take(answers: Answers) -> None:
            answer = answers[0][2] if answers else None
            self.resolver.answered(message, answer)
            if answer:
                self.resolve()

        self.relay.ask_group([self.workers[message.shard]], message.topic, message.body, take)

    # -- the end --------------------------------------------------------------------------------

    def _stop_everything(self) -> None:
        """Lets the proxies answer what is under way, then the workers make everything durable."""
        self._notifier.notify("STOPPING=1")
        self.relocation.stop()
        for group in (self.proxies, self.workers):
            deadline = time.monotonic() + self.config.shutdown_timeout
            for child in group:
                if child.channel is not None:
                    child.channel.send(control.Stop())
            self._wait_for(group, deadline)
        for helper in self.helpers:
            self.kill(helper)
        self._wait_for(self.helpers, time.monotonic())
        self.saving.remove_unfinished()
        self.listeners.remove_files()
        if self.exit_code == 0:
            logger.info("bye")

    def _wait_for(self, group: list[Child], deadline: float) -> None:
        self._reap()
        while any(child.running for child in group):
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                for child in group:
                    if child.running:
                        logger.warning("%s did not stop in time", child.name)
                        os.kill(child.pid, signal.SIGKILL)
                deadline += 1.0
            self._turn(max(0.01, min(remaining_s, 1.0)))


@topic(control.IN_DOUBT)
def _in_doubt(supervisor: Supervisor, body: Any) -> None:
    """A shard does not know the outcome of transactions: [shard, [[transaction, participants], …]]."""
    _, doubts = body
    for (proxy, number), participants in doubts:
        supervisor.resolver.reported((proxy, number), participants)
    supervisor.resolve()


@topic(control.RECONNECT)
def _reconnect(supervisor: Supervisor, body: Any) -> None:
    """A proxy and a shard do not understand each other any more: [proxy, shard]."""
    proxy, shard = body
    if shard < len(supervisor.workers):
        supervisor.connect(supervisor.workers[shard], supervisor.proxies[proxy])


def _ending(exit_code: int) -> str:
    return f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"


def data_folder(config: Any) -> Path:
    """Where the shards' append-only files are."""
    return Path(config.dir) / str(config.appenddirname)
