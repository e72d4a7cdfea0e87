"""What scripts find in the table `redis`, and the random numbers of `math`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

from shardkv import errors
from shardkv.errors import CommandError
from shardkv.lua.packing import given, number_of, whole
from shardkv.lua.state import ScriptError, State
from shardkv.lua.values import Replies, size_of, word
from shardkv.resp.replies import Status

VERSION = b"7.2.4"
VERSION_NUMBER = 0x00070204

LOG_LEVELS = {b"LOG_DEBUG": 0, b"LOG_VERBOSE": 1, b"LOG_NOTICE": 2, b"LOG_WARNING": 3}
REPL_NONE, REPL_AOF, REPL_REPLICA, REPL_ALL = range(4)


class Host(Protocol):
    """Where a script runs: carries out its commands. `call` may let other work go on before it returns."""

    def call(self, words: list[bytes]) -> Any:
        """Carries out a command; returns its reply, which is a CommandError if it fails."""

    def interrupt(self) -> bytes | None:
        """Called now and then while the script runs; the text of the error that is to end it, if any."""

    def may_call(self, words: list[bytes]) -> bool:
        """Whether the script's user may carry out a command. Raises CommandError if there is no such
        command."""

    def set_replication(self, mode: int) -> None:
        """Says whether what the script writes from now on is logged (REPL_AOF) and replicated
        (REPL_REPLICA)."""

    def log(self, level: int, message: bytes) -> None:
        """Writes to the server's log."""


class Api:
    """The functions, for whatever script runs at the time."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._table = state.table
        self.host: Host
        self.resp3 = False
        """Whether the script has chosen RESP3 for what commands reply."""
        self._replies = Replies(state)

    def begin(self, host: Host) -> None:
        """A script begins to run."""
        self.host = host
        self.resp3 = False

    def for_scripts(self) -> dict[bytes, Any]:
        """What EVAL's scripts find in `redis`."""
        # There is no debugger that these could stop for.
        return self.for_functions() | {b"replicate_commands": lambda *args: True}

    def for_functions(self) -> dict[bytes, Any]:
        """What functions find there."""
        return self.while_loading() | {
            b"call": self._call,
            b"pcall": self._pcall,
            b"error_reply": self._error_reply,
            b"status_reply": self._status_reply,
            b"sha1hex": self._sha1hex,
            b"setresp": self._setresp,
            b"set_repl": self._set_repl,
            b"acl_check_cmd": self._acl_check_cmd,
            b"REPL_NONE": REPL_NONE,
            b"REPL_AOF": REPL_AOF,
            b"REPL_SLAVE": REPL_REPLICA,
            b"REPL_REPLICA": REPL_REPLICA,
            b"REPL_ALL": REPL_ALL,
        }

    def while_loading(self) -> dict[bytes, Any]:
        """What a library finds there while it is loaded, beside `register_function`."""
        return {
            b"log": self._log,
            b"REDIS_VERSION": VERSION,
            b"REDIS_VERSION_NUM": VERSION_NUMBER,
            **LOG_LEVELS,
        }

    # -- commands ---------------------------------------------------------------------------------

    def _call(self, *args: Any) -> Any:
        words = _words(args)
        reply = self.host.call(words)
        kind = reply.__class__
        if kind is bytes:
            if len(reply) > _SMALL_BYTES:
                self.state.make_room(len(reply))
            return reply
        if kind is int:
            return reply
        if kind is Status:
            return self._table({b"ok": bytes(reply)})
        if kind is CommandError:
            raise ScriptError(reply.text)
        return self._given(reply)

    def _pcall(self, *args: Any) -> Any:
        try:
            words = _words(args)
        except ScriptError as error:
            return self._failed(error.text)
        reply = self.host.call(words)
        if reply.__class__ is CommandError:
            return self._failed(reply.text)
        return self._given(reply)

    def _failed(self, text: bytes) -> Any:
        return self.state.table({b"err": text, b"ignore_error_stats_update": True})

    def _given(self, reply: Any) -> Any:
        if reply is not None:
            self.state.make_room(size_of(reply))
            self.state.unbound()
        return self._replies.resp3(reply) if self.resp3 else self._replies.resp2(reply)

    def _acl_check_cmd(self, *args: Any) -> bool:
        words = _words(args)
        try:
            return self.host.may_call(words)
        except CommandError as error:
            raise ScriptError(error.text) from None

    # -- replies ----------------------------------------------------------------------------------

    def _error_reply(self, *args: Any) -> Any:
        if len(args) != 1 or not isinstance(args[0], bytes):
            return self._failed(errors.WRONG_REPLY_ARGUMENTS)
        text = args[0].removeprefix(b"-")
        if b" " not in text:
            text = b"ERR " + text
        return self.state.table({b"err": text})

    def _status_reply(self, *args: Any) -> Any:
        if len(args) != 1 or not isinstance(args[0], bytes):
            return self._failed(errors.WRONG_REPLY_ARGUMENTS)
        return self.state.table({b"ok": args[0]})

    # -- the rest ---------------------------------------------------------------------------------

    def _sha1hex(self, *args: Any) -> bytes:
        if len(args) != 1:
            raise ScriptError(errors.SHA1HEX_ARGUMENTS)
        return sha1hex(word(args[0]) or b"")

    def _setresp(self, *args: Any) -> None:
        if len(args) != 1:
            raise ScriptError(errors.SETRESP_ARGUMENTS)
        if args[0] not in (2, 3):
            raise ScriptError(errors.SETRESP_VERSION)
        self.resp3 = args[0] == 3

    def _set_repl(self, *args: Any) -> None:
        if len(args) != 1:
            raise ScriptError(errors.SET_REPL_ARGUMENTS)
        mode = args[0] if isinstance(args[0], int | float) else 0
        if int(mode) & ~REPL_ALL:
            raise ScriptError(errors.SET_REPL_MODE)
        self.host.set_replication(int(mode))

    def _log(self, *args: Any) -> None:
        if len(args) < 2:
            raise ScriptError(errors.LOG_ARGUMENTS)
        if args[0].__class__ not in (int, float):
            raise ScriptError(errors.LOG_LEVEL_NO_NUMBER)
        level = int(args[0])
        if level not in LOG_LEVELS.values():
            raise ScriptError(errors.INVALID_LOG_LEVEL)
        self.host.log(level, b" ".join(filter(None, map(word, args[1:]))))


def _words(args: tuple[Any, ...]) -> list[bytes]:
    """The request that a script's arguments make. Raises ScriptError."""
    for arg in args:
        if arg.__class__ is not bytes:
            return _converted(args)
    if not args:
        raise ScriptError(errors.NO_ARGUMENT_FROM_SCRIPT)
    return list(args)


def _converted(args: tuple[Any, ...]) -> list[bytes]:
    """The same where not every argument is a string."""
    words = [found for found in map(word, args) if found is not None]
    if len(words) < len(args):
        raise ScriptError(errors.WRONG_ARGUMENT_FROM_SCRIPT)
    return words


_SMALL_BYTES = 64 * 1024
"""A string that the reserve of memory has room for."""


def sha1hex(text: bytes) -> bytes:
    """A script's name: the SHA1 of its text."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


class Random:
    """`math.random`: as in Redis, POSIX' lrand48 from its standard beginning."""

    _MAX = 2**31 - 1

    def __init__(self, state: State) -> None:
        self.state = state
        self._x = 0x1234ABCD330E

    def seed(self, number: int) -> None:
        """Begins a sequence."""
        self._x = (number & 0xFFFFFFFF) << 16 | 0x330E

    def _next(self) -> int:
        self._x = (self._x * 0x5DEECE66D + 0xB) % 2**48
        return self._x >> 17

    def functions(self) -> dict[bytes, Callable[..., Any]]:
        """`random` and `randomseed`."""
        return {b"random": self._random, b"randomseed": self._randomseed}

    def _random(self, *args: Any) -> float:
        part = (self._next() % self._MAX) / self._MAX
        if not args:
            return part
        low, position = (1, 1) if len(args) == 1 else (self._integer(args, 1), 2)
        high = self._integer(args, position)
        if len(args) > 2:
            raise self.state.fail(b"wrong number of arguments")
        if low > high:
            raise self.state.bad_argument(position, b"interval is empty")
        return float(int(part * (high - low + 1)) + low)

    def _integer(self, args: tuple[Any, ...], position: int) -> int:
        number = whole(number_of(self.state, given(args, position), position))
        return (number + 2**31) % 2**32 - 2**31

    def _randomseed(self, *args: Any) -> None:
        self.seed(self._integer(args, 1))
