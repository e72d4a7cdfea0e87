"""Client-side caching, a proxy's part: which of its clients track keys, and telling them what has changed.

The shards remember what is read (see shardkv.tracking) and say, in the stream of what is published, whose
keys have changed. A client must hear of that behind the reply of any read that came before the change, or it
would keep what it has read for ever. So what is told goes behind the last reply that has come by then, even
if that still waits for replies before it, and behind the reply of a command over several shards that is still
under way. When a shard's process is gone, what it has remembered is gone as well: its clients are told that
everything may have changed.
"""

from __future__ import annotations

import asyncio
import secrets
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shardkv import control, errors, limits
from shardkv.command import COMMANDS
from shardkv.errors import CommandError
from shardkv.resp.replies import resp2, resp3
from shardkv.wire import RAW, Batch, pack_context

if TYPE_CHECKING:
    from proxy.backend import Backend, Block
    from proxy.server import Proxy
    from proxy.session import Session

CHANNEL = b"__redis__:invalidate"

_PUSH_HEAD = b">2\r\n" + resp2(b"invalidate")
_MESSAGE_HEAD = b"*3\r\n" + resp2(b"message") + resp2(CHANNEL)
_EVERYTHING = b"_\r\n"
"""In RESP2 as well, as Redis has it."""

_ARMED = 1
_IN_USE = 2
"""What CLIENT CACHING has said counts for the next request, or for the one that is carried out now."""


@dataclass(frozen=True)
class Wishes:
    """What CLIENT TRACKING ON asks for.

    redirect    the client that is told instead, or 0.
    prefixes    for the mode BCAST, what the keys begin with; else None.
    opt_in      whether only what is read after CLIENT CACHING YES counts; or, with `opt_out`, all but what is
                read after CLIENT CACHING NO.
    """

    redirect: int = 0
    prefixes: tuple[bytes, ...] | None = None
    opt_in: bool = False
    opt_out: bool = False
    no_loop: bool = False


class Tracker:
    """A client that tracks keys."""

    def __init__(self, session: Session, number: int, wishes: Wishes) -> None:
        self.session = session
        self.number = number
        self.wishes = wishes
        self.caching = 0
        self.is_broken = False
        """Whether the client that is to be told instead was found to be gone."""
        self._held: list[bytes] = []
        self._rides: tuple[Block, int, int] | None = None
        """The reply that what was told last stands behind, and how long it is by itself."""

    @property
    def redirect(self) -> int:
        """The client that is told instead, or 0."""
        return self.wishes.redirect

    @property
    def letters(self) -> str:
        """What CLIENT LIST says of it."""
        return "t" + "R" * self.is_broken + "B" * (self.wishes.prefixes is not None)

    @property
    def remembers(self) -> bool:
        """Whether what is read now counts."""
        wishes = self.wishes
        if wishes.prefixes is not None:
            return False
        if wishes.opt_in:
            return self.caching > 0
        return not (wishes.opt_out and self.caching)

    # -- CLIENT CACHING -------------------------------------------------------------------------

    def cache_next(self, *, wanted: bool) -> None:
        """Whether what the next request reads counts. Raises CommandError if the mode does not ask for
        that."""
        wishes = self.wishes
        if wanted and not wishes.opt_in:
            raise CommandError(errors.CACHING_YES_WITHOUT_OPTIN)
        if not wanted and not wishes.opt_out:
            raise CommandError(errors.CACHING_NO_WITHOUT_OPTOUT)
        command = self.session.last_command
        # What is said in a transaction counts up to its end.
        self.caching = _IN_USE if command is not None and command.name == "exec" else _ARMED
        self.session.settle()

    def next_request(self, args: list[Any]) -> None:
        """A request is about to be looked at. Those of CLIENT do not count, and a transaction is one."""
        if self.caching == _IN_USE and self.session.queue is None:
            self.caching = 0
            self.session.settle()
        elif self.caching == _ARMED and args[0].upper() != b"CLIENT":
            self.caching = _IN_USE

    def will_try_again(self) -> None:
        """The request could not begin yet."""
        if self.caching:
            self.caching = _ARMED

    # -- what it is told ------------------------------------------------------------------------

    def push(self, data: bytes) -> None:
        """Tells the client something, behind the replies of what has been carried out before."""
        if self._is_reading():
            self._hold(data)
            return
        session = self.session
        place = session.last_reply_place()
        if place is None:
            self._rides = None
            session.push(data)
            return
        block, index = place
        reply = block[index]
        assert reply is not None
        if self._rides is None or self._rides[0] is not block or self._rides[1] != index:
            self._rides = (block, index, len(reply))
        alone = self._rides[2]
        if len(reply) - alone > limits.PUSHES_BEHIND_REPLY_BYTES:
            reply, data = reply[:alone], _PUSH_HEAD + _EVERYTHING
        block[index] = reply + data

    def _is_reading(self) -> bool:
        """Whether a command is under way that may have read something on one of several shards, or of which
        nobody knows what it does."""
        session = self.session
        if session.suspended:
            return session.waiting is None
        return any(work.session is session for work in session.proxy.coordinator.running)

    def _hold(self, data: bytes) -> None:
        self._held.append(data)
        if len(self._held) > limits.PUSHES_HELD:
            self._held = [_PUSH_HEAD + _EVERYTHING]

    def release(self) -> None:
        """A command that was under way is answered: what was held back follows."""
        if self._held and not self._is_reading():
            held, self._held = self._held, []
            self.push(b"".join(held))


class Tracking:
    """The clients of a proxy that track keys."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self._trackers: dict[int, Tracker] = {}
        self._proxies = max(1, proxy.config.proxies)
        self._room = limits.MAX_TRACKERS // self._proxies - 1
        """How many numbers there are for this proxy's clients."""
        # Shards may remember something of the numbers of a predecessor of this process.
        self._last = secrets.randbelow(self._room)
        self._elsewhere: list[list[Any]] = []
        """What clients of other proxies have to be told: [client, keys, the tracker's number]."""
        for backend in proxy.backends:
            self.expect(backend)

    def expect(self, backend: Backend) -> None:
        """A shard's process has to know of all who track keys, and they have to know of its end."""
        backend.greetings.append(self.greeting)
        backend.lost = self.forget_all

    def __len__(self) -> int:
        return len(self._trackers)

    # -- beginning and ending -------------------------------------------------------------------

    def turn_on(self, session: Session, wishes: Wishes) -> asyncio.Future[list[Any]]:
        """A client tracks keys from now on, or otherwise than before; when the future ends, it misses no
        change of anybody. Raises CommandError if there is no number left."""
        tracker = session.tracker
        if tracker is None:
            tracker = session.tracker = Tracker(session, self._number(), wishes)
            self._trackers[tracker.number] = tracker
        tracker.wishes, tracker.is_broken = wishes, False
        session.settle()
        return self.proxy.ask_shards("track", *_of_shards(tracker))

    def turn_off(self, session: Session) -> None:
        """A client does not track keys any more, or is gone."""
        tracker, session.tracker = session.tracker, None
        assert tracker is not None
        del self._trackers[tracker.number]
        code = pack_context(0, RAW) | COMMANDS["untrack"].code
        for backend in self.proxy.backends:
            if backend.up:
                self.proxy.tell(backend.shard, [code, tracker.number])
        session.settle()

    def _number(self) -> int:
        """A number that no client of any proxy has, and none has had for long."""
        if len(self._trackers) >= self._room:
            raise CommandError(errors.TOO_MANY_TRACKERS)
        while True:
            self._last = self._last % self._room + 1
            number = self._last * self._proxies + self.proxy.index
            if number not in self._trackers:
                return number

    def greeting(self) -> Batch:
        """What a shard's new process has to know before anything is asked of it."""
        code = pack_context(0, RAW) | COMMANDS["track"].code
        return [[code, *_of_shards(tracker)] for tracker in self._trackers.values()]

    # -- what the shards say --------------------------------------------------------------------

    def invalidate(self, packed: bytes, keys: list[bytes]) -> None:
        """Keys have changed, or without any all may have; `packed` are the numbers of those who want to
        know."""
        content = _EVERYTHING if not keys else resp2(keys)
        for number in array("I", packed):
            tracker = self._trackers.get(number)
            if tracker is not None:
                self._tell(tracker, content)

    def forget_all(self) -> None:
        """It is not known what has changed: the shard that knew is gone, or was not listened to in time."""
        for tracker in self._trackers.values():
            self._tell(tracker, _EVERYTHING)

    def _tell(self, tracker: Tracker, content: bytes) -> None:
        session = tracker.session
        if not tracker.redirect:
            if session.protocol == 3:
                tracker.push(_PUSH_HEAD + content)
            return
        if (tracker.redirect - 1) % self._proxies == self.proxy.index:
            if not self.tell_instead(tracker.redirect, content):
                self._redirection_is_broken(tracker)
            return
        if not self._elsewhere:
            self.proxy.loop.call_soon(self._tell_elsewhere)
        self._elsewhere.append([tracker.redirect, content, tracker.number])

    def tell_instead(self, client: int, content: bytes) -> bool:
        """Tells a client what another one wants it to be told; False if it is not there."""
        session = self.proxy.sessions.get(client)
        if session is None:
            return False
        if session.tracker is not None and session.protocol == 3:
            session.tracker.push(_PUSH_HEAD + content)
        elif session.protocol == 3:
            session.push(_PUSH_HEAD + content)
        elif session.subscriber is not None and session.subscriber.is_listening:
            data = _MESSAGE_HEAD + content
            if session.subscriber.is_holding:
                session.subscriber.hold(data)
            else:
                session.push(data)
        return True

    def _tell_elsewhere(self) -> None:
        messages, self._elsewhere = self._elsewhere, []
        self.proxy.start_task(self._relay(messages))

    async def _relay(self, messages: list[list[Any]]) -> None:
        """Has other proxies tell their clients; who of these is gone is known from the answers."""
        answers = await self.proxy.supervision.ask_all(control.PROXIES, "invalidate", messages)
        found = {client for answer in answers if answer for client in answer}
        for client, _, number in messages:
            tracker = self._trackers.get(number)
            if tracker is not None and client not in found and tracker.redirect == client:
                self._redirection_is_broken(tracker)

    def _redirection_is_broken(self, tracker: Tracker) -> None:
        tracker.is_broken = True
        if tracker.session.protocol == 3:
            tracker.push(b">2\r\n" + resp3(b"tracking-redir-broken") + resp3(tracker.redirect))


def _of_shards(tracker: Tracker) -> tuple[int, bool, Sequence[bytes]]:
    """What shards have to know of it."""
    return tracker.number, tracker.wishes.no_loop, tracker.wishes.prefixes or ()
