"""A proxy process: accepts clients, and carries their commands to the shards."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import socket
from collections.abc import Coroutine
from typing import Any

from shardkv import control, errors
from shardkv.command import COMMANDS, Command
from shardkv.errors import CommandError
from shardkv.plan import Call
from shardkv.slots import SLOTS, slot_of

from proxy.backend import Backend, Block
from proxy.coordinator import Coordinator
from proxy.gates import GATES
from proxy.session import Session
from proxy.supervision import Supervision

logger = logging.getLogger("proxy.server")


class Proxy:
    """One proxy: its listeners' clients, its links to the shards, its channel to the supervisor."""

    def __init__(
        self,
        index: int,
        config: Any,
        slot_table: list[int],
        loop: asyncio.AbstractEventLoop,
        channel: control.ControlChannel,
        *,
        shards: int,
        first_client_id: int,
    ) -> None:
        self.index = index
        self.config = config
        self.loop = loop
        self.slot_table = slot_table
        self.commands = lookup_table()
        self.gates = GATES
        self.sessions: dict[int, Session] = {}
        self.careful = False
        """Whether every request must be looked at before it goes to its shard: one of them is congested."""
        self.stalled: set[Session] = set()
        self.backends = [Backend(shard, loop, self._backend_changed) for shard in range(shards)]
        self.slot_backends = [self.backends[slot_table[slot]] for slot in range(SLOTS)]
        self.supervision = Supervision(self, channel)
        self.coordinator = Coordinator(self)
        self._client_ids = itertools.count(first_client_id, max(1, config.proxies))
        self._flush_scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Accepts clients on sockets that are bound already and shared with the other proxies."""
        for sock in sockets:
            factory = lambda: Session(self)  # noqa: E731
            if sock.family == socket.AF_UNIX:
                await self.loop.create_unix_server(factory, sock=sock, backlog=self.config.tcp_backlog)
            else:
                await self.loop.create_server(factory, sock=sock, backlog=self.config.tcp_backlog)

    # -- clients --------------------------------------------------------------------------------

    def welcome(self, session: Session) -> None:
        """A client has connected."""
        session.id = next(self._client_ids)
        self.sessions[session.id] = session

    def dismiss(self, session: Session) -> None:
        """A client is gone."""
        self.sessions.pop(session.id, None)
        self.stalled.discard(session)

    # -- commands -------------------------------------------------------------------------------

    def find(self, args: list[Any]) -> Command:
        """The command or subcommand that a request names. Raises CommandError for an unknown one."""
        name = args[0]
        command = self.commands.get(name) or self.commands.get(name.upper())
        if command is None:
            raise CommandError(errors.unknown_command(name, args[1:]))
        if command.is_container and len(args) > 1:
            subcommand = command.subcommands.get(args[1].lower().decode("latin-1"))
            if subcommand is None:
                raise CommandError(errors.unknown_subcommand(command.name, args[1]))
            return subcommand
        return command

    def count_rejected(self, error: CommandError) -> None:
        """Counts an error that a client got without a shard's doing."""

    def route(self, session: Session, command: Command, args: list[Any], block: Block, index: int) -> bool:
        """Sends a request to the shard of its keys, or has the coordinator spread it over several.

        False if the shard takes no more now.
        """
        positions = command.key_positions(args)
        slots = [slot_of(args[position]) for position in positions]
        shards = {self.slot_table[slot] for slot in slots}
        if any(self.backends[shard].congested for shard in shards):
            return False
        if len(shards) == 1 or (not shards and len(self.backends) == 1):
            slot = slots[0] if slots else 0
            self.send(self.slot_backends[slot], [session.context | command.code | slot, *args[1:]], block, index)
            return True
        if command.plan is None:
            raise AssertionError(f"{command.name} has no plan for several shards")
        call = Call(command, args, session.db, self.slot_table, len(self.backends))
        self.coordinator.start(session, call, block, index)
        return True

    def send(self, backend: Backend, request: list[Any], block: Block, index: int) -> None:
        """Adds a request to a shard's batch."""
        backend.add_request(request)
        backend.add_block(block)
        backend.add_index(index)
        self.flush_soon()

    def flush_soon(self) -> None:
        """Has the batches sent at the end of this turn of the event loop."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        for backend in self.backends:
            backend.flush()

    def _backend_changed(self) -> None:
        self.careful = any(backend.congested for backend in self.backends)
        stalled, self.stalled = self.stalled, set()
        for session in stalled:
            session.unstall()

    def start_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine beside everything else; what it raises is logged."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task failed", exc_info=task.exception())


def lookup_table() -> dict[bytes, Command]:
    """The commands that clients may call, by their names in upper and in lower case."""
    table = {}
    for name, declared in COMMANDS.items():
        if not declared.internal and declared.container is None:
            table[name.encode()] = table[name.upper().encode()] = declared
    return table


def run(
    index: int,
    config: Any,
    slot_table: list[int],
    shards: int,
    sockets: list[socket.socket],
    channel: control.ControlChannel,
    first_client_id: int,
) -> None:
    """The life of a proxy process. Returns when the supervisor says stop, or is gone."""
    import uvloop

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    proxy = Proxy(index, config, slot_table, loop, channel, shards=shards, first_client_id=first_client_id)
    loop.run_until_complete(proxy.listen(sockets))
    gc.collect()
    gc.freeze()
    gc.disable()
    proxy.supervision.ready()
    loop.run_forever()
