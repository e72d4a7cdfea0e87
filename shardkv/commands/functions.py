"""Functions: libraries of Lua that stay, on every shard and over restarts. FUNCTION, FCALL."""

from __future__ import annotations

from typing import Any

from shardkv import errors, glob
from shardkv.command import ALLOW_BUSY, DENYOOM, NOSCRIPT, READONLY, WRITE, command, container
from shardkv.commands.scripting import (
    SCRIPT_FLAGS,
    keys_and_arguments,
    plan_kill,
    refuse_if_it_would_write,
    run_as_script,
    script_keys,
    scripts_of,
)
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.lua import Function, Library, ScriptFlag
from shardkv.plan import Call, Plan, Read, check, everywhere, first
from shardkv.rdb import functions as payload
from shardkv.rdb.payload import PayloadError
from shardkv.rdb.reader import FormatError
from shardkv.resp.replies import OK, Unordered
from shardkv.scripts import Scripts

_ALL_SHARDS = ("request_policy:all_shards", "response_policy:all_succeeded")
_RW_NOTES = "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE"
_RO_NOTES = "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS"
_DEPENDS = "Depends on the function that is executed."

# -- calling them -------------------------------------------------------------------------------


def _call(db: Database, args: list[Any], name: bytes, *, read_only: bool) -> Any:
    scripts = scripts_of(db)
    function = scripts.function(args[1])
    if function is None:
        raise CommandError(errors.FUNCTION_NOT_FOUND)
    keys, arguments = keys_and_arguments(args, errors.INVALID_FUNCTION_KEYS)
    reads = ScriptFlag.NO_WRITES in function.flags
    if read_only and not reads:
        raise CommandError(errors.SCRIPT_WITH_WRITES_RO)
    refuse_if_it_would_write(db, function.flags)
    return run_as_script(
        db,
        [name, *args[1:]],
        function.name,
        keys,
        read_only=reads,
        is_function=True,
        run=lambda host: scripts.engine.run_function(function, keys, arguments, host),
    )


@command(
    "FCALL function numkeys [key [key ...]] [arg [arg ...]]",
    group="scripting",
    since="7.0.0",
    flags=SCRIPT_FLAGS,
    keys=script_keys("RW ACCESS UPDATE", _RW_NOTES),
    complexity=_DEPENDS,
    may_write=True,
    runs_script=True,
)
def fcall(db: Database, args: list[Any]) -> Any:
    """Invokes a function."""
    return _call(db, args, b"FCALL", read_only=False)


@command(
    "FCALL_RO function numkeys [key [key ...]] [arg [arg ...]]",
    group="scripting",
    since="7.0.0",
    flags=SCRIPT_FLAGS | READONLY,
    keys=script_keys("RO ACCESS", _RO_NOTES),
    complexity=_DEPENDS,
    runs_script=True,
)
def fcall_ro(db: Database, args: list[Any]) -> Any:
    """Invokes a read-only function."""
    return _call(db, args, b"FCALL_RO", read_only=True)


# -- FUNCTION -----------------------------------------------------------------------------------

container(
    "FUNCTION",
    group="scripting",
    since="7.0.0",
    help_since="7.0.0",
    summary="A container for function commands.",
)


@command(
    "FUNCTION LOAD [REPLACE] function-code",
    group="scripting",
    since="7.0.0",
    flags=WRITE | DENYOOM | NOSCRIPT,
    complexity="O(1) (considering compilation time is redundant)",
    tips=_ALL_SHARDS,
    plan=everywhere(first),
)
def function_load(db: Database, args: list[Any]) -> Any:
    """Creates a library."""
    *options, code = args[2:]
    replace = False
    for option in options:
        if option.upper() != b"REPLACE":
            raise CommandError(errors.unknown_function_option(option))
        replace = True
    library = scripts_of(db).load_library(code, replace=replace)
    db.shard.dirty += 1
    return library.name


@command(
    "FUNCTION DELETE library-name",
    group="scripting",
    since="7.0.0",
    flags=WRITE | NOSCRIPT,
    tips=_ALL_SHARDS,
    plan=everywhere(first),
)
def function_delete(db: Database, args: list[Any]) -> Any:
    """Deletes a library and its functions."""
    scripts_of(db).delete_library(args[2])
    db.shard.dirty += 1
    return OK


@command(
    "FUNCTION FLUSH [ASYNC | SYNC]",
    group="scripting",
    since="7.0.0",
    flags=WRITE | NOSCRIPT,
    complexity="O(N) where N is the number of functions deleted",
    tips=_ALL_SHARDS,
    plan=everywhere(first),
)
def function_flush(db: Database, args: list[Any]) -> Any:
    """Deletes all libraries and functions."""
    if len(args) > 3 or (len(args) == 3 and args[2].upper() not in (b"SYNC", b"ASYNC")):
        raise CommandError(errors.FUNCTION_FLUSH_OPTION)
    scripts_of(db).flush_libraries()
    db.shard.dirty += 1
    return OK


@command(
    "FUNCTION DUMP",
    group="scripting",
    since="7.0.0",
    flags=NOSCRIPT,
    complexity="O(N) where N is the number of functions",
    plan=everywhere(first),
)
def function_dump(db: Database, args: list[Any]) -> Any:
    """Dumps all libraries into a serialized binary payload."""
    return payload.dump([library.code for library in scripts_of(db).libraries.values()])


@command(
    "FUNCTION RESTORE serialized-value [FLUSH | APPEND | REPLACE]",
    group="scripting",
    since="7.0.0",
    flags=WRITE | DENYOOM | NOSCRIPT,
    complexity="O(N) where N is the number of functions on the payload",
    tips=_ALL_SHARDS,
    plan=everywhere(first),
)
def function_restore(db: Database, args: list[Any]) -> Any:
    """Restores all libraries from a payload."""
    if len(args) > 4:
        raise CommandError(errors.subcommand_syntax("FUNCTION", args[1]))
    policy = args[3].upper() if len(args) > 3 else b"APPEND"
    if policy not in (b"FLUSH", b"APPEND", b"REPLACE"):
        raise CommandError(errors.INVALID_RESTORE_POLICY)
    try:
        codes = payload.restore(args[2])
    except PayloadError:
        raise CommandError(errors.WRONG_PAYLOAD) from None
    except FormatError:
        raise CommandError(errors.NOT_A_FUNCTION) from None
    scripts_of(db).restore_libraries(codes, flush=policy == b"FLUSH", replace=policy == b"REPLACE")
    db.shard.dirty += 1
    # Not the payload, whose version not every server that may load the log knows.
    if policy == b"FLUSH":
        db.shard.propagate(db, b"FUNCTION", b"FLUSH")
    for code in codes:
        how = (b"REPLACE",) if policy == b"REPLACE" else ()
        db.shard.propagate(db, b"FUNCTION", b"LOAD", *how, code)
    return OK


@command(
    "FUNCTION LIST [LIBRARYNAME library-name-pattern] [WITHCODE]",
    group="scripting",
    since="7.0.0",
    flags=NOSCRIPT,
    complexity="O(N) where N is the number of functions",
    tips=("nondeterministic_output_order",),
    plan=everywhere(first),
)
def function_list(db: Database, args: list[Any]) -> Any:
    """Returns information about all libraries."""
    pattern, with_code = None, False
    words = iter(args[2:])
    for word in words:
        if not with_code and word.upper() == b"WITHCODE":
            with_code = True
        elif pattern is None and word.upper() == b"LIBRARYNAME":
            pattern = next(words, None)
            if pattern is None:
                raise CommandError(errors.LIBRARY_PATTERN_MISSING)
        else:
            raise CommandError(errors.unknown_function_list_argument(word))
    matches = glob.compile(b"*" if pattern is None else pattern, ignore_case=True)
    libraries = scripts_of(db).libraries.values()
    return [_described(library, with_code) for library in libraries if matches(library.name)]


def _described(library: Library, with_code: bool) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {
        b"library_name": library.name,
        b"engine": b"LUA",
        b"functions": [_function(function) for function in library.functions.values()],
    }
    if with_code:
        found[b"library_code"] = library.code
    return found


def _function(function: Function) -> dict[bytes, Any]:
    return {
        b"name": function.name,
        b"description": function.description,
        b"flags": Unordered(function.flags.written),
    }


def _plan_stats(call: Call) -> Plan:
    """What runs on any shard, and what all of them know."""
    values = yield Read(call.everywhere())
    check(values)
    answers = [answer for [answer] in values.values()]
    return next((answer for answer in answers if answer[b"running_script"] is not None), answers[0])


@command(
    "FUNCTION STATS",
    group="scripting",
    since="7.0.0",
    flags=NOSCRIPT | ALLOW_BUSY,
    tips=("nondeterministic_output", "request_policy:all_shards", "response_policy:special"),
    plan=_plan_stats,
)
def function_stats(db: Database, args: list[Any]) -> Any:
    """Returns information about a function during execution."""
    scripts = scripts_of(db)
    return {
        b"running_script": _running(scripts),
        b"engines": {
            b"LUA": {b"libraries_count": len(scripts.libraries), b"functions_count": scripts.functions}
        },
    }


def _running(scripts: Scripts) -> dict[bytes, Any] | None:
    running = scripts.running
    if running is None:
        return None
    return {
        b"name": running.name,
        b"command": list(running.request),
        b"duration_ms": running.duration_ms,
    }


@command(
    "FUNCTION KILL",
    group="scripting",
    since="7.0.0",
    flags=NOSCRIPT | ALLOW_BUSY,
    tips=("request_policy:all_shards", "response_policy:one_succeeded"),
    plan=plan_kill,
)
def function_kill(db: Database, args: list[Any]) -> Any:
    """Terminates a function during execution."""
    scripts_of(db).kill(function=True)
    return OK
