"""The supervisor's part in questions between processes: it asks who is meant and brings the answers back."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shardkv import control, limits

if TYPE_CHECKING:
    from proxy.supervisor import Child, Supervisor

logger = logging.getLogger("proxy.relay")

ANSWER_TIMEOUT_S = 2.0
"""Who has not answered by then is left out: a shard in the middle of a long command must not hold up INFO."""

_PATIENCE_S = {
    # Who takes a right away must not be told that this is done before it is so everywhere.
    control.USERS: None,
    control.SLOT_COSTS: limits.BALANCE_PATIENCE_S,
}
"""Where it is another time, or any."""

_NO_FDS: Mapping[Child, tuple[int, ...]] = {}

Answers = list[tuple[str, int, Any]]
"""Kind, number and answer of each process that has answered."""


@dataclass(eq=False)
class _Round:
    """A question under way."""

    then: Callable[[Answers], None]
    """Takes the answers when all are there, or time is up."""
    waiting: set[Child]
    deadline: float
    answers: Answers = field(default_factory=list)


TOPICS: dict[str, Callable[[Supervisor, Any], Any]] = {}
"""What the supervisor itself can be asked; each takes the question's body and returns the answer's."""


def topic(name: str) -> Callable[[Callable[[Supervisor, Any], Any]], Callable[[Supervisor, Any], Any]]:
    """Declares the decorated function as the supervisor's answer to a question of that name."""

    def declare(answer: Callable[[Supervisor, Any], Any]) -> Callable[[Supervisor, Any], Any]:
        TOPICS[name] = answer
        return answer

    return declare


class Relay:
    """All questions under way, and the one cross-shard token."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._numbers = itertools.count(1)
        self._rounds: dict[int, _Round] = {}
        self._token_holder: Child | None = None
        self._token_queue: deque[tuple[Child, int]] = deque()

    def ask(self, asker: Child, ask: control.Ask) -> None:
        """A process asks: relays the question to everyone meant."""
        if ask.to == control.SUPERVISOR:
            self._ask_supervisor(asker, ask)
            return
        supervisor = self.supervisor
        groups = {
            control.WORKERS: supervisor.workers,
            control.PROXIES: supervisor.proxies,
            control.EVERYONE: supervisor.children,
        }
        own = [(control.SUPERVISOR, 0, self._own_answer(ask))] if ask.to == control.EVERYONE else []
        self.ask_group(
            groups[ask.to],
            ask.topic,
            ask.body,
            lambda found: _reply(asker, ask.number, own + found),
            patience_s=_PATIENCE_S.get(ask.topic, ANSWER_TIMEOUT_S),
        )

    def ask_group(
        self,
        group: list[Child],
        topic: str,
        body: Any,
        then: Callable[[Answers], None],
        *,
        patience_s: float | None = ANSWER_TIMEOUT_S,
        fds: Mapping[Child, tuple[int, ...]] = _NO_FDS,
    ) -> None:
        """Asks those processes of a group that are there; `then` gets the answers that come in time: within
        `patience_s`, or, without that, while those who are asked live. File descriptors that are given for a
        process travel with its question."""
        number = next(self._numbers)
        targets = [child for child in group if child.channel is not None]
        deadline = math.inf if patience_s is None else time.monotonic() + patience_s
        self._rounds[number] = _Round(then, set(targets), deadline)
        for child in targets:
            assert child.channel is not None
            question = control.Question(number, topic, body)
            if child in fds:
                child.channel.send(question, fds[child])
            else:
                child.channel.send(question)
        self._finish_if_complete(number)

    def tell(self, group: list[Child], topic: str, body: Any) -> None:
        """Has the supervisor itself say something to those processes of a group that are there."""
        for child in group:
            if child.channel is not None:
                child.channel.send(control.Question(0, topic, body))

    def tell_everyone(self, topic: str, body: Any) -> None:
        """Has the supervisor itself say something to all processes, and take it in as well."""
        self._own_answer(control.Ask(0, control.EVERYONE, topic, body))
        self.tell(self.supervisor.children, topic, body)

    def _own_answer(self, ask: control.Ask) -> Any:
        answer = TOPICS.get(ask.topic)
        if answer is None:
            return None
        try:
            return answer(self.supervisor, ask.body)
        except Exception:
            # Nothing that somebody asks may end the supervisor, and with it the server.
            logger.exception("question %s failed", ask.topic)
            return None

    def _ask_supervisor(self, asker: Child, ask: control.Ask) -> None:
        if ask.topic == "take token":
            self._token_queue.append((asker, ask.number))
            self._grant_token()
            return
        if ask.topic == "give token":
            if self._token_holder is asker:
                self._token_holder = None
            self._grant_token()
        _reply(asker, ask.number, [(control.SUPERVISOR, 0, self._own_answer(ask))])

    def _grant_token(self) -> None:
        """Gives the token to the first in the queue, if nobody has it."""
        while self._token_holder is None and self._token_queue:
            child, number = self._token_queue.popleft()
            if child.channel is not None:
                self._token_holder = child
                _reply(child, number, [])

    # -- answers --------------------------------------------------------------------------------

    def answered(self, child: Child, number: int, body: Any) -> None:
        """A process has answered a relayed question."""
        begun = self._rounds.get(number)
        if begun is not None and child in begun.waiting:
            begun.waiting.discard(child)
            begun.answers.append((child.kind, child.index, body))
            self._finish_if_complete(number)

    def forget(self, child: Child) -> None:
        """A process is dead: nobody waits for its answers, and the token it may have had is free."""
        for number, begun in list(self._rounds.items()):
            begun.waiting.discard(child)
            self._finish_if_complete(number)
        if self._token_holder is child:
            self._token_holder = None
        self._token_queue = deque(entry for entry in self._token_queue if entry[0] is not child)
        self._grant_token()

    def expire(self, now: float) -> None:
        """Ends the questions that have taken too long, with the answers there are."""
        for number, begun in list(self._rounds.items()):
            if begun.deadline <= now:
                begun.waiting.clear()
                self._finish_if_complete(number)

    def next_deadline(self) -> float | None:
        """When `expire` is next needed, by the monotonic clock."""
        deadline = min((begun.deadline for begun in self._rounds.values()), default=math.inf)
        return None if deadline == math.inf else deadline

    def _finish_if_complete(self, number: int) -> None:
        begun = self._rounds[number]
        if not begun.waiting:
            del self._rounds[number]
            begun.then(begun.answers)


def _reply(asker: Child, number: int, answers: list[tuple[str, int, Any]]) -> None:
    if asker.channel is not None:
        asker.channel.send(control.Answers(number, answers))
