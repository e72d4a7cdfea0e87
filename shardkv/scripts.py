"""The scripts and functions that a shard knows, and the one that runs."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from shardkv import clock, errors, limits
from shardkv.errors import CommandError
from shardkv.lua import Engine, Function, Library, Script, read_library
from shardkv.quoting import shown

logger = logging.getLogger("shardkv.script")

_LOG_LEVELS = (logging.DEBUG, logging.DEBUG, logging.INFO, logging.WARNING)
"""By the numbers of redis.LOG_DEBUG, LOG_VERBOSE, LOG_NOTICE and LOG_WARNING."""


def write_script_log(level: int, message: bytes) -> None:
    """Writes what a script wants to have in the server's log."""
    logger.log(_LOG_LEVELS[level], "%s", message.decode("utf-8", "backslashreplace"))


@dataclass(eq=False, slots=True)
class Running:
    """A script that runs."""

    name: bytes
    request: list[bytes]
    """The client's request, its name first."""
    is_function: bool
    begun_s: float
    wrote: bool = False
    """Whether it has called a command that writes."""
    end: bytes | None = None
    """The error that is to end it, once somebody wants that."""
    abandoned: bool = False
    """Whether the shard stops, so that nothing of it counts."""

    @property
    def duration_ms(self) -> int:
        return int((clock.monotonic() - self.begun_s) * 1000)

    @property
    def busy_error(self) -> bytes:
        """What other clients are told."""
        return errors.BUSY_FUNCTION if self.is_function else errors.BUSY_SCRIPT


def monitor_line(db: int, source: bytes, words: Sequence[bytes]) -> bytes:
    """A command as MONITOR shows it; `source` is the client's address, or `lua` for a script."""
    seconds, microseconds = divmod(clock.now_us(), 1_000_000)
    told = b" ".join(map(shown, words))
    return b"+%d.%06d [%d %b] %b\r\n" % (seconds, microseconds, db, source, told)


class Scripts:
    """Those of one shard. The engine is made when it is first needed."""

    host: Callable[..., Any] | None = None
    """What makes the host of a script that runs, if that is a special one."""

    def __init__(self) -> None:
        self.running: Running | None = None
        self.on_busy: Callable[[], None] = lambda: None
        """Called now and then while a script has run for too long."""
        self.libraries: dict[bytes, Library] = {}
        self._functions: dict[bytes, Function] = {}
        self._by_body: dict[bytes, Script] = {}
        self._evaluated: OrderedDict[bytes, Script] = OrderedDict()
        """Scripts that came with EVAL, by their SHA1, the one that has not been used for longest first."""
        self._loaded: dict[bytes, Script] = {}

    @cached_property
    def engine(self) -> Engine:
        """What runs them."""
        return Engine()

    # -- scripts ----------------------------------------------------------------------------------

    def of_body(self, body: bytes) -> Script:
        """The script of this text. Raises CommandError if it cannot be compiled."""
        script = self._by_body.get(body)
        if script is None:
            script = self._by_body[body] = self.engine.compile(body)
            self._evaluated[script.sha] = script
            if len(self._evaluated) > limits.SCRIPTS_COMPILED:
                _, oldest = self._evaluated.popitem(last=False)
                del self._by_body[oldest.body]
        elif script.sha in self._evaluated:
            self._evaluated.move_to_end(script.sha)
        return script

    def load(self, body: bytes) -> Script:
        """The same for SCRIPT LOAD: the script stays."""
        script = self.of_body(body)
        if self._evaluated.pop(script.sha, None) is not None:
            self._loaded[script.sha] = script
        return script

    def find(self, sha: bytes) -> Script | None:
        """The script of this name, in any case of letters; None if it is not known."""
        sha = sha.lower()
        script = self._loaded.get(sha)
        if script is None:
            script = self._evaluated.get(sha)
            if script is not None:
                self._evaluated.move_to_end(sha)
        return script

    def flush(self) -> None:
        """Forgets all scripts."""
        self._by_body.clear()
        self._evaluated.clear()
        self._loaded.clear()

    # -- functions --------------------------------------------------------------------------------

    def function(self, name: bytes) -> Function | None:
        """The function of this name, in any case of letters."""
        return self._functions.get(name.lower())

    @property
    def functions(self) -> int:
        """How many there are."""
        return len(self._functions)

    @property
    def cached(self) -> int:
        """How many scripts are kept."""
        return len(self._evaluated.keys() | self._loaded.keys())

    @property
    def text_bytes(self) -> tuple[int, int]:
        """The size of the texts of all scripts, and of those of all libraries."""
        scripts = {**self._evaluated, **self._loaded}.values()
        libraries = self.libraries.values()
        return sum(len(script.body) for script in scripts), sum(len(library.code) for library in libraries)

    def load_library(self, code: bytes, *, replace: bool) -> Library:
        """Loads a library. Raises CommandError."""
        name, _ = read_library(code)
        if name in self.libraries and not replace:
            raise CommandError(errors.library_exists(name))
        library = self._run_library(code)
        self._add(library, replace=replace)
        return library

    def _run_library(self, code: bytes) -> Library:
        return self.engine.load_library(code, _Loading())

    def _add(self, library: Library, *, replace: bool) -> None:
        old = self.libraries.get(library.name)
        if old is not None and not replace:
            raise CommandError(errors.library_exists(library.name))
        for name in library.functions:
            found = self._functions.get(name.lower())
            if found is not None and (old is None or found not in old.functions.values()):
                raise CommandError(errors.function_exists(name))
        if old is not None:
            self.delete_library(library.name)
        self.libraries[library.name] = library
        self._functions |= {name.lower(): function for name, function in library.functions.items()}

    def delete_library(self, name: bytes) -> None:
        """Deletes a library. Raises CommandError if there is none of that name."""
        library = self.libraries.pop(name, None)
        if library is None:
            raise CommandError(errors.LIBRARY_NOT_FOUND)
        for function in library.functions:
            del self._functions[function.lower()]

    def flush_libraries(self) -> None:
        """Deletes all libraries."""
        self.libraries.clear()
        self._functions.clear()

    def restore_libraries(self, codes: list[bytes], *, flush: bool, replace: bool) -> None:
        """Loads libraries, all or none. Raises CommandError."""
        libraries = [self._run_library(code) for code in codes]
        before = dict(self.libraries), dict(self._functions)
        if flush:
            self.flush_libraries()
        try:
            for library in libraries:
                self._add(library, replace=replace)
        except CommandError:
            self.libraries, self._functions = before
            raise

    def requests(self) -> Iterator[list[bytes]]:
        """Requests that load all libraries anew."""
        for library in self.libraries.values():
            yield [b"FUNCTION", b"LOAD", library.code]

    # -- the one that runs ------------------------------------------------------------------------

    def kill(self, *, function: bool) -> None:
        """Ends the running script, or the running function. Raises CommandError if that cannot be."""
        running = self.running
        if running is None:
            raise CommandError(errors.NO_SCRIPT_RUNS)
        if running.wrote:
            raise CommandError(errors.UNKILLABLE)
        if running.is_function is not function:
            raise CommandError(running.busy_error)
        running.end = errors.FUNCTION_KILLED if function else errors.SCRIPT_KILLED

    def abandon(self) -> None:
        """Ends the running script, whatever it has done: the shard stops, and nothing of it is logged."""
        if self.running is not None:
            self.running.abandoned = True
            self.running.end = errors.SCRIPT_KILLED


class _Loading:
    """Where a library is while it is loaded: nowhere, and not for long. It is offered `log` alone."""

    def __init__(self) -> None:
        self._until_s = clock.monotonic() + limits.LIBRARY_LOAD_S

    def call(self, words: list[bytes]) -> Any:
        return CommandError(errors.NOT_ALLOWED_FROM_SCRIPT)

    def interrupt(self) -> bytes | None:
        return errors.FUNCTION_LOAD_TIMEOUT if clock.monotonic() >= self._until_s else None

    def may_call(self, words: list[bytes]) -> bool:
        return False

    def set_replication(self, mode: int) -> None:
        pass

    def log(self, level: int, message: bytes) -> None:
        write_script_log(level, message)
