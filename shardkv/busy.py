"""A worker while a script runs for too long: everybody else is told so, and SCRIPT KILL gets through.

The script runs inside of a batch, whose replies cannot leave before it ends. So the batch is answered at once
with what it has replies for; the script's own will come late, and what stands behind it or comes later is
answered with BUSY. Messages of transactions whose outcome is decided are carried out afterwards instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shardkv.command import BY_ID, Flag
from shardkv.errors import CommandError
from shardkv.resp.replies import raw, resp2
from shardkv.shard import ENCODERS
from shardkv.slots import SLOT_BITS
from shardkv.transactions import Late
from shardkv.wire import Batch, Reply, unpack_context

if TYPE_CHECKING:
    from shardkv.proxy_link import ProxyLink
    from shardkv.worker import Worker

_NOT_REFUSED = frozenset({"commit", "release", "forget", "endwatch", "withdraw", "track", "untrack"})

_FIRST_BYTE = 0x80
"""A message between processes of more than one byte begins with this byte or a higher one, a reply to a
client with a lower one."""


class Postponed:
    """A request whose reply comes late, as the link that it came from."""

    def __init__(self, link: ProxyLink, args: list[Any]) -> None:
        self.link = link
        self.args = args
        self.ticket = link.next_ticket()
        self.proxy = link.proxy

    @property
    def late(self) -> list[Late]:
        return self.link.late

    @late.setter
    def late(self, late: list[Late]) -> None:
        self.link.late = late

    def next_ticket(self) -> int:
        """The ticket of its reply if it has to wait even longer: the one that was promised."""
        return self.ticket

    def answer(self, reply: Reply) -> None:
        """Has the reply sent, if it is there yet."""
        if reply is not None and not self.link.closed:
            between_processes = len(reply) == 1 or reply[0] >= _FIRST_BYTE
            self.link.late.append(Late(self.ticket, reply, raw if between_processes else resp2))


class Busy:
    """From the moment on when a script has run for too long until what was put off is done."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._script: Postponed | None = None
        """The request that the script runs in."""
        self._rest: list[Postponed] = []
        self._afterwards: list[Callable[[], None]] = []
        link, running = worker.taking, worker.shard.running
        if link is not None and running is not None and not isinstance(link, Postponed):
            batch, replies, _ = running
            self._answer_batch(link, batch, replies)
        worker.finish_turn()

    def _answer_batch(self, link: ProxyLink, batch: Batch, replies: list[Reply]) -> None:
        """Answers what can be answered of what has come with the script's request."""
        done = len(replies)
        self._script = Postponed(link, batch[done])
        rest = batch[done + 1 :]
        # The shard will find nothing more to run.
        del batch[done + 1 :]
        link.turn.append((batch[:done], [*replies, None, *self._replies(link, rest)]))
        while link.batches:
            link.turn.append(([], self._replies(link, link.batches.pop(0))))

    def serve(self) -> None:
        """Answers what has come since."""
        worker = self.worker
        for fd, event in worker.poll.poll(0):
            worker.attend(fd, event, self._take)
        if worker.stopping:
            worker.shard.scripts.abandon()
        worker.finish_turn()

    def _take(self, link: ProxyLink) -> None:
        for batch in self.worker.receive(link):
            link.turn.append(([], self._replies(link, batch)))
        if link.reader.closed:
            self.worker.detach(link)

    def _replies(self, link: ProxyLink, batch: Batch) -> list[Reply]:
        return [self._reply(link, args) for args in batch]

    def _reply(self, link: ProxyLink, args: list[Any]) -> Reply:
        """The reply to a request for now: an error, unless it may come between or must not be refused."""
        shard = self.worker.shard
        context = unpack_context(args[0] >> SLOT_BITS)
        command = BY_ID[context.command_id]
        if command.name in _NOT_REFUSED:
            self._rest.append(Postponed(link, args))
            return None
        if command.flags & Flag.ALLOW_BUSY or (command.internal and command.flags & Flag.LOADING):
            [reply] = shard.run([args], link if command.internal else None)
            return reply
        running = shard.scripts.running
        assert running is not None
        return ENCODERS[context.protocol](CommandError(running.busy_error))

    @property
    def ticket(self) -> int | None:
        """The ticket of the script's reply; None if it is not a request's."""
        return None if self._script is None else self._script.ticket

    def afterwards(self, work: Callable[[], None]) -> None:
        """Has something done when the script is done."""
        self._afterwards.append(work)

    def end(self, replies: list[Reply]) -> None:
        """The script is done, and these are the replies of what remained of its batch; carries out what was
        put off."""
        worker = self.worker
        worker.shard.tick()
        if self._script is not None:
            self._script.answer(replies[-1])
        while self._rest and not worker.stopping:
            postponed = self._rest.pop(0)
            if postponed.link.closed:
                continue
            worker.taking = postponed
            [reply] = worker.shard.run([postponed.args], postponed)
            postponed.answer(reply)
            if worker.busy is not None:
                # That was another such script. What it has put off comes after what was put off before.
                self._rest += worker.busy._rest
                self._afterwards += worker.busy._afterwards
                worker.busy = None
        for work in self._afterwards:
            work()
