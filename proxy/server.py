"""A proxy process: accepts clients, and carries their commands to the shards."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Coroutine
from typing import Any

import uvloop

from proxy import access
from proxy.acl_log import AclLog
from proxy.backend import NOBODY, Backend, Block, ValueBlock, new_block
from proxy.blocking import Blocking
from proxy.census import Census
from proxy.client_memory import ClientMemory
from proxy.commandlog import CommandLog
from proxy.connection import Connection
from proxy.coordinator import Coordinator
from proxy.counters import Counters, Rates
from proxy.entrance import Entrance, allow_open_files
from proxy.gates import GATES
from proxy.listeners import Listeners
from proxy.monitoring import Monitoring
from proxy.moving import Gate, Move
from proxy.multi import Watch
from proxy.pause import Pause
from proxy.pubsub import PubSub
from proxy.scripts import Scripts, request_of
from proxy.session import Session
from proxy.snapshots import Outcomes
from proxy.supervision import Supervision
from proxy.tracking import Tracking
from shardkv import clock, control, errors, logs
from shardkv.acl.changes import set_password
from shardkv.acl.users import DEFAULT, Users
from shardkv.command import COMMANDS, Command
from shardkv.errors import CommandError, ProtocolError
from shardkv.latency import Events
from shardkv.plan import Call
from shardkv.resp.replies import unpack_raw
from shardkv.resp.requests import is_http
from shardkv.settings import Config
from shardkv.slots import SLOTS, colocated_starts
from shardkv.wire import RAW, pack_context

logger = logging.getLogger("proxy.server")


class Proxy:
    """One proxy: its listeners' clients, its links to the shards, its channel to the supervisor."""

    def __init__(
        self,
        index: int,
        config: Config,
        slot_table: list[int],
        loop: asyncio.AbstractEventLoop,
        channel: control.ControlChannel,
        *,
        shards: int,
        pause: Pause,
        monitoring: set[int] = frozenset(),  # type: ignore[assignment]
        users: Users | None = None,
    ) -> None:
        self.users = users or Users()
        self.index = index
        self.config = config
        self.loop = loop
        self.slot_table = slot_table
        self.colocated_starts = colocated_starts()
        self.commands = lookup_table()
        self._fast = fast_table(self.commands)
        self.fast = self._fast
        """The commands that can go straight to the shard of their key: none while a shard is congested or
        clients are paused, so that every request is looked at before it goes anywhere."""
        self.queueable = self._fast
        """Those of them that can be queued between MULTI and EXEC without a look: none while a shard is
        full."""
        self.full_shards: frozenset[int] = frozenset()
        """Shards that refuse what needs memory, because they use more than they may."""
        self.gates = GATES
        self.pause = pause
        self.sessions: dict[int, Session] = {}
        self.counters = Counters()
        self.rates = Rates(self.counters)
        self.census = Census(index, config.proxies)
        self.stalled: set[Session] = set()
        self.slow_readers: set[Connection] = set()
        """Sessions whose clients do not take their replies as fast as they come."""
        self.log = CommandLog(self)
        self.acl_log = AclLog(self)
        self.monitoring = Monitoring(self, monitoring)
        self.events = Events(config.latency_monitor_threshold)
        """What took this process long, for LATENCY."""
        self.backends = [self._new_backend(shard) for shard in range(shards)]
        self.client_memory = ClientMemory(self)
        self.slot_backends: list[Backend | Gate] = [self.backends[slot_table[slot]] for slot in range(SLOTS)]
        self.move: Move | None = None
        """Of slots to another shard, while requests for them have to wait."""
        self._coming: dict[int, Backend] = {}
        """Shards that are not used yet."""
        self.pubsub = PubSub(self)
        self.tracking = Tracking(self)
        self.supervision = Supervision(self, channel)
        self.coordinator = Coordinator(self)
        self.blocking = Blocking(self)
        self.scripts = Scripts(self)
        self.outcomes = Outcomes(loop)
        self.entrance = Entrance(self)
        self._pause_end = loop.call_soon(lambda: None)
        self.arrivals: list[tuple[Connection, bytes]] = []
        """What has come from clients in this turn of the loop, and is still to be taken up."""
        self.flush_scheduled = False
        self.now_s = clock.monotonic()
        """The time, as it was a tick ago at most."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.monitoring.apply()
        self.look_around()
        self._tick()

    def attach(self, shard: int, read_fd: int, write_fd: int) -> None:
        """Uses fresh pipes to a shard's (new) process, which has to know the scripts before anything else."""
        if shard >= len(self.backends):
            self._expect(shard).attach(read_fd, write_fd)
            return
        backend = self.backends[shard]
        backend.attach(read_fd, write_fd)
        self.scripts.load_onto(backend)
        for request in self.monitoring.greeting():
            self.tell(shard, request)

    # -- shards that come and go ----------------------------------------------------------------

    def _new_backend(self, shard: int) -> Backend:
        backend = Backend(shard, self.loop, self.look_around, self.log)
        backend.called = self.monitoring.tell
        backend.broken = lambda: self.supervision.reconnect(shard)
        return backend

    def _expect(self, shard: int) -> Backend:
        """A shard that is being started, and not used yet."""
        if shard not in self._coming:
            backend = self._coming[shard] = self._new_backend(shard)
            self.pubsub.expect(backend)
            self.tracking.expect(backend)
        return self._coming[shard]

    def resize(self, shards: int) -> None:
        """From now on there are so many shards. Nothing is under way that concerns all of them."""
        while len(self.backends) < shards:
            backend = self._expect(len(self.backends))
            del self._coming[backend.shard]
            self.backends.append(backend)
            self.pubsub.add_home(backend)
            self.scripts.load_onto(backend)
            for request in (*self.monitoring.greeting(), *self.tracking.greeting()):
                self.tell(backend.shard, request)
        while len(self.backends) > shards:
            self.pubsub.remove_home()
            backend = self.backends.pop()
            # It may be wanted again before its process ends.
            self._coming[backend.shard] = backend
            backend.flush()
            self.coordinator.drop_shard(backend.shard)
            for session in self.sessions.values():
                if session.watch is not None and backend.shard in session.watch.shards:
                    session.watch = session.watch.lost(backend.shard, self.coordinator.number())

    # -- time -----------------------------------------------------------------------------------

    def _tick(self) -> None:
        """What has to be done now and then, `hz` times per second."""
        self.now_s = now_s = clock.monotonic()
        self.rates.sample(self.counters)
        self.counters.fold_durations(tracks=self.config.latency_tracking)
        for session in list(self.slow_readers):
            session.check_output_limit()
        self.client_memory.tick()
        self.entrance.tick(now_s)
        self.loop.call_later(1 / self.config.hz, self._tick)

    # -- settings and figures -------------------------------------------------------------------

    def settings_changed(self, changed: dict[str, Any]) -> None:
        """Follows settings that have been changed while running; takes their names and new values."""
        config = self.config
        if "loglevel" in changed:
            logs.set_level(config)
        self.entrance.settings_changed(changed)
        self.log.settings_changed()
        self.acl_log.settings_changed()
        self.counters.fold_durations(tracks=config.latency_tracking)
        self.events.set_threshold(config.latency_monitor_threshold)
        if "requirepass" in changed:
            set_password(self.users, config.requirepass)
            access.follow(self, [DEFAULT])
        if "proto-max-bulk-len" in changed or "client-query-buffer-limit" in changed:
            for session in self.sessions.values():
                session.reader.max_bulk_bytes = config.proto_max_bulk_len
                session.reader.query_buffer_bytes = config.client_query_buffer_limit

    def reset_figures(self) -> None:
        """Counts from zero again."""
        self.counters = Counters()
        self.rates = Rates(self.counters)
        self.client_memory.evicted = 0
        self.coordinator.reset_counters()

    # -- a pause --------------------------------------------------------------------------------

    def hold(self, until_s: float, *, writes_only: bool) -> None:
        """Begins a pause, or makes it longer."""
        self.pause.extend(until_s, writes_only=writes_only)
        self.look_around()

    def release(self) -> None:
        """Ends the pause."""
        self.pause.end()
        self.look_around()

    def look_around(self) -> None:
        """A shard has become congested or is so no more, or a pause has begun or ended: whoever waited for
        that tries again."""
        paused = self.pause.active
        congested = any(backend.congested for backend in self.backends)
        careful = paused or congested or self.monitoring.active
        self.fast = {} if careful else self._fast
        self.queueable = {} if careful or self.full_shards else self._fast
        stalled, self.stalled = self.stalled, set()
        for session in stalled:
            session.unstall()
        if paused:
            self._pause_end.cancel()
            self._pause_end = self.loop.call_later(self.pause.remaining_ms / 1000, self.look_around)

    # -- commands -------------------------------------------------------------------------------

    def find(self, args: list[Any]) -> Command:
        """The command or subcommand that a request names. Raises CommandError for an unknown one."""
        name = args[0]
        command = self.commands.get(name) or self.commands.get(name.upper())
        if command is None:
            if is_http(name):
                logger.warning("a web browser was made to speak to this port, its connection is closed")
                raise ProtocolError(b"")
            raise CommandError(errors.unknown_command(name, args[1:]))
        if command.is_container and len(args) > 1:
            subcommand = command.subcommands.get(args[1].lower().decode("latin-1"))
            if subcommand is None:
                raise CommandError(errors.unknown_subcommand(command.name, args[1]))
            return subcommand
        return command

    def route(self, session: Session, command: Command, args: list[Any], block: Block, index: int) -> bool:
        """Sends a request to the shard of its keys, or has the coordinator spread it over several.

        False if the shard takes no more now.
        """
        slots = command.route_slots(args)
        shards = set(map(self.slot_table.__getitem__, slots))
        if command.group == "scripting":
            if not self.scripts.ready_for(command, args):
                return False
            if command.runs_script and self.scripts.roams_from(shards, args):
                script = self.scripts.call(session, command, args, slots)
                self.coordinator.start(session, script, block, index)
                return True
        for shard in shards:
            if self.backends[shard].congested:
                return False
        if command.waits is not None and self.blocking.start(session, command, args, slots, block, index):
            return True
        if len(self.backends) == 1 or (len(shards) == 1 and not command.spreads(args)):
            slot = slots[0] if slots else 0
            request = request_of(session.context, command, args, slot, session.acting)
            self.send(self.slot_backends[slot], request, block, index)
            return True
        if command.plan is None:
            raise AssertionError(f"{command.name} has no plan for several shards")
        call = Call(command, args, session.db, self.slot_table, len(self.backends), slots)
        self.coordinator.start(session, call, block, index)
        return True

    def send(self, backend: Backend | Gate, request: list[Any], block: Block, index: int) -> None:
        """Adds a request to a shard's batch."""
        backend.add_request(request)
        backend.add_block(block)
        backend.add_index(index)
        self.flush_soon()

    def tell(self, shard: int, request: list[Any]) -> None:
        """Sends a shard a request whose answer nobody waits for."""
        self.send(self.backends[shard], request, new_block(NOBODY, 1, ValueBlock), 0)

    def flush_soon(self) -> None:
        """Has what has come taken up, and the batches sent, when the event loop has looked once more at which
        clients have sent something, if there are several: a frame of many requests costs little more than a
        frame of one."""
        if not self.flush_scheduled:
            self.flush_scheduled = True
            self.loop.call_soon(self._look_once_more if len(self.sessions) > 1 else self._flush)

    def _look_once_more(self) -> None:
        self.loop.call_soon(self._flush)

    def take_arrivals(self) -> None:
        """Takes up what has come from all clients by now."""
        arrivals, self.arrivals = self.arrivals, []
        for connection, data in arrivals:
            try:
                connection.take(data)
            except Exception:
                logger.exception("client id=%d closed", connection.id)
                connection.abort()

    def _flush(self) -> None:
        self.take_arrivals()
        if self.coordinator.convoys.gathering:
            self.coordinator.convoys.depart()
        self.flush_scheduled = False
        for backend in self.backends:
            backend.flush()

    def ask_shards(self, name: str, *args: Any) -> asyncio.Future[list[Any]]:
        """Has every shard carry out an internal command; the future gives their values, in the shards'
        order."""
        code = pack_context(0, RAW) | COMMANDS[name].code
        return self.ask_each({shard: [code, *args] for shard in range(len(self.backends))})

    def ask_each(self, requests: dict[int, list[Any]]) -> asyncio.Future[list[Any]]:
        """Sends shards a request each; the future gives their values, in the order of the requests."""
        asked = _ValuesOfShards(self.loop, len(requests))
        for place, (shard, request) in enumerate(requests.items()):
            self.send(self.backends[shard], request, asked.block, place)
        return asked.future

    def end_watch(self, watch: Watch) -> None:
        """Has the shards forget what a client watches."""
        for shard in watch.shards:
            self.tell(shard, [pack_context(0, RAW) | COMMANDS["endwatch"].code, watch.watcher])

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine beside everything else; what it raises is logged."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task failed", exc_info=task.exception())


class _ValuesOfShards:
    """Waits for a value from each shard."""

    def __init__(self, loop: asyncio.AbstractEventLoop, shards: int) -> None:
        self.future: asyncio.Future[list[Any]] = loop.create_future()
        self.block = new_block(self, shards, ValueBlock)

    def deliver(self) -> None:
        if None not in self.block:
            self.block.owner = NOBODY
            self.future.set_result([unpack_raw(value) for value in self.block if value is not None])


def fast_table(commands: dict[bytes, Command]) -> dict[bytes, tuple[int, int, int, Command]]:
    """Of the commands with a single key in first place, what a session needs of each for every request: code,
    fewest and most words, and the command itself."""
    return {
        name: (command.code, command.least, command.most, command)
        for name, command in commands.items()
        if command.one_key
    }


def lookup_table() -> dict[bytes, Command]:
    """The commands that clients may call, by their names in upper and in lower case."""
    table = {}
    for name, declared in COMMANDS.items():
        if not declared.internal and declared.container is None:
            table[name.encode()] = table[name.upper().encode()] = declared
    return table


def run(
    index: int,
    config: Config,
    slot_table: list[int],
    shards: int,
    listeners: Listeners,
    channel: control.ControlChannel,
    pause: Pause,
    monitoring: set[int],
    users: Users,
) -> None:
    """The life of a proxy process. Returns when the supervisor says stop, or is gone."""
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    allow_open_files(config.maxclients)
    proxy = Proxy(
        index,
        config,
        slot_table,
        loop,
        channel,
        shards=shards,
        pause=pause,
        monitoring=monitoring,
        users=users,
    )
    loop.run_until_complete(proxy.entrance.open(listeners))
    gc.collect()
    gc.freeze()
    gc.disable()
    proxy.supervision.ready()
    loop.run_forever()
