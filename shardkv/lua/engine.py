"""Runs Lua scripts: compiles them, carries them out for a host, and gives what they return.

Pure: it knows no shard and does no I/O. What a script calls goes to its `Host`, which may take its time; one
engine runs one script at a time, and there may be several engines.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lupa import lua51

from shardkv import clock, errors, limits
from shardkv.errors import CommandError
from shardkv.lua.api import Api, Host, Random, sha1hex
from shardkv.lua.bits import bit_library
from shardkv.lua.json import Decoder
from shardkv.lua.msgpack import msgpack_library
from shardkv.lua.shebang import FLAGS, NO_SCRIPT_FLAGS, ScriptFlag, read_library, read_script
from shardkv.lua.state import FUNCTION, TABLE, FatalError, ScriptError, State, kind
from shardkv.lua.structs import struct_library
from shardkv.lua.values import Results

logger = logging.getLogger("shardkv.lua")

_SANDBOX = Path(__file__).with_name("sandbox.lua")
_SCRIPT, _FUNCTION = b"@user_script", b"@user_function"


@dataclass(frozen=True, eq=False)
class Script:
    """A script that has been compiled. `flags` is None if it has no shebang."""

    sha: bytes
    body: bytes
    flags: ScriptFlag | None
    function: Any


@dataclass(frozen=True, eq=False)
class Function:
    """A function of a library."""

    name: bytes
    description: bytes | None
    flags: ScriptFlag
    function: Any


@dataclass(frozen=True, eq=False)
class Library:
    """A library that has been loaded: its code as it came, and the functions that it has registered."""

    name: bytes
    code: bytes
    functions: dict[bytes, Function]


class Engine:
    """One world of scripts."""

    def __init__(self, memory_bytes: int = limits.SCRIPT_MEMORY_BYTES) -> None:
        self.state = state = State(memory_bytes)
        self._api = api = Api(state)
        self._registered: dict[bytes, Function] = {}
        decoder = Decoder(state, lambda: self._null)
        randoms = Random(state).functions()
        # What is needed of it is taken out at once: to look into a table disturbs a script that runs.
        world = state.runtime.compile(_SANDBOX.read_bytes(), name=b"=sandbox")(
            state.table(
                {
                    b"describe": _describe,
                    b"raise": _raise,
                    b"is_fatal": lambda err: isinstance(err, FatalError),
                    b"out_of_memory": errors.SCRIPT_OUT_OF_MEMORY,
                    b"tick": self._tick,
                    b"instructions_per_tick": limits.SCRIPT_INSTRUCTIONS_PER_TICK,
                    b"json_decoder": decoder.library_function,
                    b"random": state.function(randoms[b"random"]),
                    b"randomseed": state.function(randoms[b"randomseed"]),
                    b"bit": state.library(bit_library(state)),
                    b"struct": state.library(struct_library(state)),
                    b"cmsgpack": state.library(msgpack_library(state)),
                    b"eval_api": state.library(api.for_scripts()),
                    b"function_api": state.library(api.for_functions()),
                    b"loading_api": state.library(
                        api.while_loading() | {b"register_function": self._register_function}
                    ),
                }
            ),
            state.as_function,
        )
        state.adopt(world, self._tick)
        self._null = world[b"null"]
        self._results = Results(state, world[b"reply"])
        self._compile_script = world[b"compile_script"]
        self._compile_library = world[b"compile_library"]
        self._load_library = world[b"load_library"]
        self._run_script = world[b"run_script"]
        self._run_function = world[b"run_function"]

    # -- scripts ----------------------------------------------------------------------------------

    def compile(self, body: bytes) -> Script:
        """Makes a script of the text that EVAL takes. Raises CommandError."""
        flags, code = read_script(body)
        function, problem = self._compile(self._compile_script, code, _SCRIPT)
        if function is None:
            raise CommandError(errors.script_not_compiled(problem))
        return Script(sha1hex(body), body, flags, function)

    def _compile(self, compile_: Any, code: bytes, name: bytes) -> tuple[Any, bytes]:
        self.state.bound()
        try:
            self.state.make_room(_COMPILED_BYTES * len(code))
            found = compile_(code, name)
        except (lua51.LuaError, ScriptError):
            self.state.collect()
            return None, b"not enough memory"
        return found if isinstance(found, tuple) else (found, b"")

    def run(self, script: Script, keys: list[bytes], args: list[bytes], host: Host) -> Any:
        """Runs a script; returns the value of its reply (see shardkv.resp.replies), which may be a
        CommandError that the script has returned. Raises CommandError for one that has ended it."""
        return self._carry_out(self._run_script, script.function, script.sha, keys, args, host)

    def run_function(self, function: Function, keys: list[bytes], args: list[bytes], host: Host) -> Any:
        """The same for a function of a library."""
        return self._carry_out(self._run_function, function.function, function.name, keys, args, host)

    def _carry_out(
        self, run: Any, function: Any, name: bytes, keys: list[bytes], args: list[bytes], host: Host
    ) -> Any:
        state = self.state
        self._api.begin(host)
        state.bound()
        try:
            if len(keys) + len(args) <= limits.SCRIPT_VALUES_AT_ONCE:
                found = run(function, len(keys), *keys, *args)
            else:
                found = run(function, -1, state.table(keys), state.table(args))
            if found.__class__ is tuple and found[0] is True:
                value = found[1]
                if value.__class__ is bytes:
                    return value
                parts = found[2:]
                if parts:
                    state.unbound()
                return self._results.value(value, parts, resp3=self._api.resp3)
        except lua51.LuaError as error:
            found = (False, None, str(error).encode())
        finally:
            if state.used_bytes > state.memory_bytes // 2:
                state.forget_error()
                state.collect()
        if found is True:
            return None
        raise CommandError(self._error(name, *found[1:]))

    @staticmethod
    def _error(name: bytes, text: Any, source: Any = None, line: Any = None, ignored: Any = None) -> bytes:
        """The text of an error that has ended a script."""
        if text is None:
            return errors.script_failed(name, source or b"")
        if text.__class__ is not bytes:
            text = errors.UNKNOWN_SCRIPT_ERROR if text is False else b"%.14g" % text
        if source is None or line is None:
            return bytes(text)
        return errors.at_place_in_script(text, name, source, line)

    def _tick(self) -> bytes | None:
        """Called by Lua now and then while a script runs; the error that is to end it."""
        state = self.state
        if state.used_bytes > state.memory_bytes:
            state.unbound()
            return errors.SCRIPT_OUT_OF_MEMORY
        state.bound()
        state.next_tick_s = clock.monotonic() + limits.SCRIPT_TICK_S
        return self._api.host.interrupt()

    # -- libraries --------------------------------------------------------------------------------

    def load_library(self, code: bytes, host: Host) -> Library:
        """Runs the code of a library, which registers its functions. Raises CommandError."""
        name, rest = read_library(code)
        function, problem = self._compile(self._compile_library, rest, _FUNCTION)
        if function is None:
            raise CommandError(errors.library_not_compiled(problem))
        self._registered = {}
        self._api.begin(host)
        self.state.bound()
        found = self._load_library(function)
        if found is not True and found[0] is not True:
            raise CommandError(errors.library_not_registered(self._loading_error(*found[1:])))
        registered, self._registered = self._registered, {}
        if not registered:
            raise CommandError(errors.NO_FUNCTIONS_REGISTERED)
        return Library(name, code, registered)

    @staticmethod
    def _loading_error(text: Any, source: Any = None, line: Any = None) -> bytes:
        if text is None:
            return bytes(source or b"")
        if text.__class__ is not bytes:
            text = errors.UNKNOWN_SCRIPT_ERROR
        return bytes(text)

    def _register_function(self, *args: Any) -> None:
        if not 1 <= len(args) <= 2:
            raise ScriptError(errors.WRONG_REGISTER_ARGUMENTS)
        name, description, flags, callback = (
            self._named_arguments(args[0]) if len(args) == 1 else self._positional_arguments(*args)
        )
        if not name.isascii() or not name.replace(b"_", b"a").isalnum():
            raise ScriptError(errors.INVALID_LIBRARY_NAME)
        if name in self._registered:
            raise ScriptError(errors.FUNCTION_REGISTERED_TWICE)
        self._registered[name] = Function(name, description, flags, callback)

    def _positional_arguments(self, name: Any, callback: Any) -> tuple[bytes, bytes | None, ScriptFlag, Any]:
        name = _text(name)
        if name is None:
            raise ScriptError(errors.FIRST_REGISTER_ARGUMENT)
        if kind(callback) != FUNCTION:
            raise ScriptError(errors.SECOND_REGISTER_ARGUMENT)
        return name, None, NO_SCRIPT_FLAGS, callback

    def _named_arguments(self, table: Any) -> tuple[bytes, bytes | None, ScriptFlag, Any]:
        if kind(table) != TABLE:
            raise ScriptError(errors.REGISTER_ARGUMENT_NO_TABLE)
        name = description = callback = None
        flags = NO_SCRIPT_FLAGS
        for key, value in self.state.entries(table):
            match key:
                case b"function_name":
                    name = _text(value)
                    if name is None:
                        raise ScriptError(errors.FUNCTION_NAME_NO_STRING)
                case b"description":
                    description = _text(value)
                    if description is None:
                        raise ScriptError(errors.DESCRIPTION_NO_STRING)
                case b"callback":
                    if kind(value) != FUNCTION:
                        raise ScriptError(errors.CALLBACK_NO_FUNCTION)
                    callback = value
                case b"flags":
                    flags = self._flags(value)
                case bytes() | int() | float():
                    raise ScriptError(errors.UNKNOWN_REGISTER_ARGUMENT)
                case _:
                    raise ScriptError(errors.REGISTER_KEY_NO_STRING)
        if name is None:
            raise ScriptError(errors.NO_FUNCTION_NAME)
        if callback is None:
            raise ScriptError(errors.NO_CALLBACK)
        return name, description, flags, callback

    def _flags(self, table: Any) -> ScriptFlag:
        if kind(table) != TABLE:
            raise ScriptError(errors.FLAGS_NO_TABLE)
        flags = NO_SCRIPT_FLAGS
        for name in self.state.array(table):
            if name not in FLAGS:
                raise ScriptError(errors.UNKNOWN_FUNCTION_FLAG)
            flags |= FLAGS[name]
        return flags


_COMPILED_BYTES = 10
"""A byte of a script takes at most about so many bytes when it is compiled."""


def _text(value: Any) -> bytes | None:
    """A string, or a number as one."""
    if value.__class__ in (int, float):
        return b"%.14g" % value
    return value if value.__class__ is bytes else None


def _raise() -> None:
    raise ScriptError(b"")


def _describe(err: Any) -> Any:
    """For what a function of Python has raised: its message, and whether that is all there is of it."""
    if isinstance(err, ScriptError):
        return err.text, err.plain
    if isinstance(err, lua51.LuaError):
        return errors.SCRIPT_OUT_OF_MEMORY, False
    if isinstance(err, BaseException):
        logger.error("a script's call failed", exc_info=err)
        return errors.INTERNAL, False
    return None
