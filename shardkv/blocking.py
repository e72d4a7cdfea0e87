"""What a command declares that can wait for data: BLPOP and its like.

On the way to its shard, a request that may wait has a number in the place of its timeout: the proxy keeps the
time, and withdraws the request by that number. A request with its timeout still in place does not wait (it is
part of a transaction or a script, or the timeout is wrong): it is answered as if its time were over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shardkv import clock, errors, longdouble
from shardkv.errors import CommandError
from shardkv.numbers import INT64_MAX, integer, strtod
from shardkv.plan import Call, Plan
from shardkv.values import Collection

Wish = list[bytes]
"""A key that something is waited for at, and what the command needs to know whether it is there."""


@dataclass(frozen=True)
class Waits:
    """How the requests of a command wait.

    kind       what it waits for under one of its keys.
    place      where a request's timeout stands, None if it has none; of a request for a shard, too.
    read_ms    reads the timeout: ms, 0 for no end. Raises CommandError.
    wishes     what a request waits for.
    granted    whether a wish can be fulfilled now, given the database and the wish.
    on_loss    whether a key that is gone, or holds something of another kind, ends the waiting as well.
    exclusive  whether only one client gets what there is, so that it has to be kept for it.
    take       what is done about a key with a granted wish, if that is less than the command's own plan.
    pin        makes of a call one that means the same whenever it is carried out.
    give_back  the request that undoes what has led to a reply, for a client that is not there any more; takes
               the request and the reply's value.
    """

    kind: type[Collection]
    place: Callable[[Sequence[Any]], int | None]
    read_ms: Callable[[bytes], int]
    wishes: Callable[[Sequence[bytes]], list[Wish]]
    granted: Callable[[Any, Wish], bool]
    on_loss: bool = False
    exclusive: bool = True
    take: Callable[[Call, bytes], Plan] | None = None
    pin: Callable[[Call], Plan] | None = None
    give_back: Callable[[Sequence[bytes], Any], list[bytes]] | None = None

    def timeout(self, args: Sequence[bytes]) -> tuple[int, int] | None:
        """Where the timeout of a client's request stands, and its ms; None if the request cannot wait."""
        place = self.place(args)
        if place is None:
            return None
        try:
            return place, self.read_ms(args[place])
        except CommandError:
            return None

    def number(self, args: Sequence[Any]) -> int | None:
        """The number in the place of the timeout, of a request for a shard; None if it must not wait."""
        place = self.place(args)
        found = None if place is None else args[place]
        return found if isinstance(found, int) else None


def last_word(args: Sequence[Any]) -> int:
    """For commands whose last word is the timeout."""
    return len(args) - 1


def first_word(args: Sequence[Any]) -> int:
    """For commands whose first argument is the timeout."""
    return 1


def seconds(text: bytes) -> int:
    """Reads a timeout in seconds, perhaps with a fraction; returns ms. Raises CommandError."""
    longdouble.parse(text, errors.TIMEOUT_NOT_A_FLOAT)
    timeout_s = strtod(text) or 0.0
    if timeout_s * 1000 > INT64_MAX:
        raise CommandError(errors.PAUSE_OUT_OF_RANGE)
    return _checked(-1 if math.isinf(timeout_s) else math.ceil(timeout_s * 1000))


def milliseconds(text: bytes) -> int:
    """Reads a timeout in ms. Raises CommandError."""
    return _checked(integer(text, errors.PAUSE_NOT_AN_INTEGER))


def _checked(timeout_ms: int) -> int:
    """A timeout that is not negative, and ends at a time that 64 bits can hold."""
    if timeout_ms < 0:
        raise CommandError(errors.PAUSE_NEGATIVE)
    if timeout_ms > INT64_MAX - clock.now_ms():
        raise CommandError(errors.PAUSE_OUT_OF_RANGE)
    return timeout_ms


def check_seconds(word: bytes | int) -> None:
    """Checks the timeout of a request for a shard, unless the proxy has done so."""
    if not isinstance(word, int):
        seconds(word)
