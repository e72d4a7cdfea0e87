"""A Lua state with its bounds, and what functions of Python need to serve scripts in it.

What Python hands over to Lua is pushed by code that Lua's own errors would tear apart, and running out of
memory is such an error. So the bound on memory has a reserve: a script above the bound is ended when it next
calls a function of Python, or at the next tick; only one that uses up the reserve in between meets Lua's own
error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from lupa import lua51

from shardkv import clock, errors, limits


class ScriptError(Exception):
    """ScriptError by a function of Python for the script that has called it.

    `plain` errors are strings, as those of Lua's own libraries; the others are tables with a field `err`.
    """

    def __init__(self, text: bytes, *, plain: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.plain = plain


class FatalError(ScriptError):
    """Ends the script, whatever it does to catch errors."""


def _refuse(*args: Any) -> Any:
    raise AttributeError("scripts must not look into objects of Python")


class State:
    """One Lua state."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        self.next_tick_s = 0.0
        """When the next tick is due."""
        self.runtime = lua51.LuaRuntime(
            encoding=None,
            unpack_returned_tuples=True,
            register_eval=False,
            register_builtins=False,
            attribute_handlers=(_refuse, _refuse),
            max_memory=memory_bytes + limits.SCRIPT_MEMORY_RESERVE_BYTES,
        )
        self._base_bytes = self.runtime.get_memory_used()
        self.table = self.runtime.table_from
        self.as_function = self.runtime.eval("python.as_function")
        """Makes a function of Python one of C, for Lua alone: Python itself would get back the former."""
        self._where: Callable[[], tuple[bytes, bytes]]
        self._entries: Callable[..., Any]
        self._array: Callable[..., Any]
        self._slice: Callable[..., Any]
        self._flatten: Callable[..., Any]
        self.forget_error: Callable[[], None]

    def adopt(self, world: Any, tick: Callable[[], bytes | None]) -> None:
        """Takes over the functions that the sandbox has for Python, and the one to be called at a tick."""
        self._tick = tick
        self._where = world[b"where"]
        self._entries = world[b"entries"]
        self._array = world[b"array"]
        self._slice = world[b"slice"]
        self._flatten = world[b"flatten"]
        self.forget_error = world[b"forget_error"]

    # -- functions of Python ----------------------------------------------------------------------

    def function(self, function: Callable[..., Any]) -> Any:
        """A function of Python for scripts to call."""

        used_bytes, now_s = self.runtime.get_memory_used, clock.monotonic

        def guarded(*args: Any) -> Any:
            if used_bytes() > self.memory_bytes or now_s() >= self.next_tick_s:
                self._check()
            return function(*args)

        return guarded

    def library(self, functions: dict[bytes, Any]) -> Any:
        """A table of functions of Python, and of constants."""
        return self.table(
            {name: self.function(part) if callable(part) else part for name, part in functions.items()}
        )

    def _place(self) -> tuple[bytes, bytes]:
        """Where the script is, as text before a message, and the name of the function it has called."""
        # A function runs in the coroutine where Python first met it, a chunk in the one that runs now.
        found: tuple[bytes, bytes] = self.runtime.execute(b"local a, b = (...)() return a, b", self._where)
        return found

    def fail(self, text: bytes) -> ScriptError:
        """The error of a library function, which says where it was called."""
        place, _ = self._place()
        return ScriptError(place + text, plain=True)

    def bad_argument(self, number: int, what: bytes) -> ScriptError:
        """The error of a library function that was given a wrong argument."""
        place, name = self._place()
        return ScriptError(b"%bbad argument #%d to '%b' (%b)" % (place, number, name, what), plain=True)

    # -- memory -----------------------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        """What Lua uses now."""
        used: int = self.runtime.get_memory_used()
        return used

    def _check(self) -> None:
        """A tick, for scripts that spend their time in functions of Python. Raises FatalError."""
        text = self._tick()
        if text is not None:
            # What is raised needs some memory as well.
            self.unbound()
            raise FatalError(text)

    def make_room(self, size: int) -> None:
        """Called before so many bytes are handed over to Lua. Raises FatalError if they are too many."""
        if self.runtime.get_memory_used() + size > self.memory_bytes:
            self.unbound()
            raise FatalError(errors.SCRIPT_OUT_OF_MEMORY)

    def unbound(self) -> None:
        """Lets Lua have what it needs, until `bound`: for what is built piece by piece, and measured."""
        self.runtime.set_max_memory(0)

    def bound(self) -> None:
        """The bound holds (again)."""
        self.runtime.set_max_memory(self.memory_bytes + limits.SCRIPT_MEMORY_RESERVE_BYTES)

    def collect(self) -> None:
        """Frees all that nobody refers to."""
        self.runtime.gccollect()

    # -- tables -----------------------------------------------------------------------------------

    def entries(self, table: Any) -> Iterator[tuple[Any, Any]]:
        """Keys and values of a table, by no other way than Lua's `next`."""
        found = self._entries(table)
        while found:
            yield from zip(found[::2], found[1::2], strict=True)
            found = self._entries(table, found[-2])

    def flat(self, values: tuple[Any, ...], depth: int) -> list[Any]:
        """Values and what is in them in a row; see the sandbox."""
        row, size = self._flatten(depth, *values)
        return self.values(row, size, [])

    def array(self, table: Any) -> list[Any]:
        """The values of a table from 1 on, up to the first that is missing."""
        found = self._array(table)
        return [] if found == 0 else self.values(table, found[0], list(found[1:]))

    def values(self, table: Any, count: int, values: list[Any]) -> list[Any]:
        """The values of a table from 1 to `count`, of which some are known."""
        while len(values) < count:
            more = self._slice(table, len(values) + 1, min(count, len(values) + limits.SCRIPT_VALUES_AT_ONCE))
            values += more if isinstance(more, tuple) else [more]
        return values


TABLE, FUNCTION = "table", "function"


def kind(value: Any) -> str:
    """What `type` says of a value in Lua."""
    found = lua51.lua_type(value)
    if found is not None:
        return str(found)
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "boolean"
    return "string" if isinstance(value, bytes) else "number"
