"""A proxy's side of the control channel: questions to the other processes, and answers to theirs."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from shardkv import control, limits
from shardkv.errors import CommandError

if TYPE_CHECKING:
    from proxy.server import Proxy

logger = logging.getLogger("proxy.supervision")

Topic = Callable[["Proxy", Any], Any]
"""Answers a question about the proxy; takes the question's body, returns the answer's, or a coroutine that
does."""

TOPICS: dict[str, Topic] = {}
"""What the proxies can be asked."""


def topic(name: str) -> Callable[[Topic], Topic]:
    """Declares the decorated function as the answer to a question of that name."""

    def declare(answer: Topic) -> Topic:
        TOPICS[name] = answer
        return answer

    return declare


class Supervision:
    """The control channel of one proxy."""

    def __init__(self, proxy: Proxy, channel: control.ControlChannel) -> None:
        self.proxy = proxy
        self.channel = channel
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[list[tuple[str, int, Any]]]] = {}
        self._token_free = True
        self._token_queue: deque[asyncio.Future[None]] = deque()
        proxy.loop.add_reader(channel.fileno(), self._receive)

    def ready(self) -> None:
        """Tells the supervisor that clients are accepted."""
        self._send(control.Ready())

    def _send(self, message: control.Message) -> None:
        self.channel.send(message)
        if self.channel.wants_to_write:
            self.proxy.loop.add_writer(self.channel.fileno(), self._flush)

    def _flush(self) -> None:
        self.channel.flush()
        if not self.channel.wants_to_write:
            self.proxy.loop.remove_writer(self.channel.fileno())

    # -- questions ------------------------------------------------------------------------------

    def ask(self, to: str, topic: str, body: Any = None) -> asyncio.Future[list[tuple[str, int, Any]]]:
        """Asks all processes of a kind; the future gives (kind, number, answer) of who answers in time."""
        number = next(self._numbers)
        future = self._asked[number] = self.proxy.loop.create_future()
        self._send(control.Ask(number, to, topic, body))
        return future

    async def ask_all(self, to: str, topic: str, body: Any = None) -> list[Any]:
        """As `ask`, the answers alone, in the order of the processes' numbers."""
        answers = await self.ask(to, topic, body)
        return [answer for _, _, answer in sorted(answers, key=lambda answer: answer[:2])]

    def reconnect(self, shard: int) -> None:
        """Has the supervisor connect this proxy with a shard anew, soon."""
        body = [self.proxy.index, shard]
        self.proxy.loop.call_later(
            limits.RECONNECT_S, lambda: self.ask(control.SUPERVISOR, control.RECONNECT, body)
        )

    def _receive(self) -> None:
        for message in self.channel.receive():
            match message:
                case control.Attach(peer):
                    self.proxy.attach(peer, *self.channel.take_fds())
                case control.Answers(number, answers):
                    future = self._asked.pop(number, None)
                    if future is not None and not future.done():
                        future.set_result(answers)
                case control.Question(number, name, body):
                    answer = self._answer(name, body)
                    if answer.__class__ is CoroutineType:
                        self.proxy.start_task(self._answer_later(number, answer))
                    else:
                        self._send(control.Answer(number, answer))
                case control.Stop():
                    self.proxy.entrance.drain()
        if self.channel.closed:
            # Without its supervisor a proxy has no future: nobody would restart a shard or tell it of one.
            self.proxy.loop.stop()

    def _answer(self, name: str, body: Any) -> Any:
        try:
            return TOPICS[name](self.proxy, body)
        except CommandError as error:
            return {"error": error.text}
        except Exception:
            logger.exception("question %s failed", name)
            return None

    async def _answer_later(self, number: int, answer: Coroutine[Any, Any, Any]) -> None:
        self._send(control.Answer(number, await answer))

    # -- the cross-shard token ------------------------------------------------------------------

    def take_token(self) -> asyncio.Future[None]:
        """Waits for the one cross-shard token, first come first served. A single proxy grants it itself."""
        future: asyncio.Future[None] = self.proxy.loop.create_future()
        if self._token_free:
            self._token_free = False
            self._obtain_token(future)
        else:
            self._token_queue.append(future)
        return future

    def give_token(self) -> None:
        """Gives the token back; it goes to the next of this proxy's transactions only by way of the
        supervisor, so that no proxy can keep it from the others."""
        if self.proxy.config.proxies > 1:
            self.ask(control.SUPERVISOR, "give token")
        if self._token_queue:
            self._obtain_token(self._token_queue.popleft())
        else:
            self._token_free = True

    def _obtain_token(self, future: asyncio.Future[None]) -> None:
        if self.proxy.config.proxies == 1:
            future.set_result(None)
            return
        granted = self.ask(control.SUPERVISOR, "take token")
        granted.add_done_callback(lambda done: None if future.done() else future.set_result(None))
