"""Lua scripts: EVAL and its like, SCRIPT.

What a script changes is logged as one MULTI … EXEC of the changes, never the script. Its commands are those
of the shard where it runs (see `script_host`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shardkv import clock, errors
from shardkv.command import (
    ALLOW_BUSY,
    LOADING,
    MOVABLEKEYS,
    NO_MANDATORY_KEYS,
    NOSCRIPT,
    READONLY,
    SKIP_MONITOR,
    STALE,
    Key,
    command,
    container,
)
from shardkv.commands.script_host import ShardHost
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.lua import Script, ScriptFlag
from shardkv.numbers import integer
from shardkv.plan import Call, Plan, Read, everywhere, first
from shardkv.resp.replies import OK
from shardkv.scripts import Running, Scripts

if TYPE_CHECKING:
    from shardkv.shard import Shard

SCRIPT_FLAGS = NOSCRIPT | STALE | SKIP_MONITOR | NO_MANDATORY_KEYS | MOVABLEKEYS
_SHA_LENGTH = 40
_DEPENDS = "Depends on the script that is executed."
_RW_NOTES = "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE"
_RO_NOTES = "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS"


def script_keys(access: str, notes: str = "") -> tuple[Key, ...]:
    """Where EVAL and its like hold their keys."""
    return (Key(2, numkeys=(0, 1, 1), access=access, notes=notes),)


def scripts_shard(db: Database) -> Shard:
    """The shard that a database belongs to."""
    return db.shard  # type: ignore[return-value]


def scripts_of(db: Database) -> Scripts:
    """The scripts of that shard."""
    return scripts_shard(db).scripts


# -- running a script ---------------------------------------------------------------------------


def keys_and_arguments(args: list[Any], not_a_number: bytes) -> tuple[list[bytes], list[bytes]]:
    """What stands behind the number of keys. Raises CommandError."""
    count = integer(args[2], not_a_number)
    if count > len(args) - 3:
        raise CommandError(errors.TOO_MANY_KEYS)
    if count < 0:
        raise CommandError(errors.NEGATIVE_NUMKEYS)
    return args[3 : 3 + count], args[3 + count :]


def run_as_script(
    db: Database,
    request: list[Any],
    name: bytes,
    keys: list[bytes],
    *,
    read_only: bool,
    is_function: bool,
    run: Callable[[ShardHost], Any],
    scarce: bool = False,
) -> Any:
    """Lets a script run, and has its changes logged. Raises CommandError if it fails, but not for nothing:
    what it has done until then counts.

    scarce   whether there is no memory for what it might begin with.
    """
    shard: Shard = db.shard  # type: ignore[assignment]
    running = Running(name, request, is_function, clock.monotonic())
    host = (shard.scripts.host or ShardHost)(db, running, keys, read_only=read_only)
    host.scarce = scarce
    outer_link, shard.link = shard.link, None
    shard.scripts.running = running
    try:
        value = run(host)
    finally:
        shard.scripts.running = None
        shard.link = outer_link
        shard.log_script([] if running.abandoned else host.effects)
        if host.user is not None:
            host.tell_denials()
    if value.__class__ is CommandError:
        raise value
    return value


def _evaluate(db: Database, args: list[Any], name: bytes, *, read_only: bool) -> Any:
    words = keys_and_arguments(args, errors.NOT_AN_INTEGER)
    return _run(db, args, name, scripts_of(db).of_body(args[1]), words, read_only=read_only)


def _evaluate_known(db: Database, args: list[Any], name: bytes, *, read_only: bool) -> Any:
    if len(args[1]) != _SHA_LENGTH:
        raise CommandError(errors.NO_SCRIPT)
    words = keys_and_arguments(args, errors.NOT_AN_INTEGER)
    script = scripts_of(db).find(args[1])
    if script is None:
        raise CommandError(errors.NO_SCRIPT)
    return _run(db, args, name, script, words, read_only=read_only)


def _run(
    db: Database,
    args: list[Any],
    name: bytes,
    script: Script,
    words: tuple[list[bytes], list[bytes]],
    *,
    read_only: bool,
) -> Any:
    keys, arguments = words
    flags = script.flags
    if flags is not None:
        if read_only and ScriptFlag.NO_WRITES not in flags:
            raise CommandError(errors.SCRIPT_WITH_WRITES_RO)
        read_only = read_only or ScriptFlag.NO_WRITES in flags
        refuse_if_it_would_write(db, flags)
    engine = scripts_of(db).engine
    return run_as_script(
        db,
        [name, *args[1:]],
        script.sha,
        keys,
        read_only=read_only,
        is_function=False,
        run=lambda host: engine.run(script, keys, arguments, host),
        scarce=flags is None and scripts_shard(db).lacks_memory(),
    )


def refuse_if_it_would_write(db: Database, flags: ScriptFlag) -> None:
    """While the log cannot be written, or there is no memory, a script that does not say that it only reads
    does not begin."""
    if ScriptFlag.NO_WRITES in flags:
        return
    shard = scripts_shard(db)
    if shard.refusal is not None:
        raise CommandError(shard.refusal)
    if shard.lacks_memory() and ScriptFlag.ALLOW_OOM not in flags:
        raise CommandError(errors.OUT_OF_MEMORY)


@command(
    "EVAL script numkeys [key [key ...]] [arg [arg ...]]",
    group="scripting",
    since="2.6.0",
    flags=SCRIPT_FLAGS,
    keys=script_keys("RW ACCESS UPDATE", _RW_NOTES),
    complexity=_DEPENDS,
    may_write=True,
    runs_script=True,
)
def eval_(db: Database, args: list[Any]) -> Any:
    """Executes a server-side Lua script."""
    return _evaluate(db, args, b"EVAL", read_only=False)


@command(
    "EVAL_RO script numkeys [key [key ...]] [arg [arg ...]]",
    group="scripting",
    since="7.0.0",
    flags=SCRIPT_FLAGS | READONLY,
    keys=script_keys("RO ACCESS", _RO_NOTES),
    complexity=_DEPENDS,
    runs_script=True,
)
def eval_ro(db: Database, args: list[Any]) -> Any:
    """Executes a read-only server-side Lua script."""
    return _evaluate(db, args, b"EVAL_RO", read_only=True)


@command(
    "EVALSHA sha1 numkeys [key [key ...]] [arg [arg ...]]",
    group="scripting",
    since="2.6.0",
    flags=SCRIPT_FLAGS,
    keys=script_keys("RW ACCESS UPDATE"),
    complexity=_DEPENDS,
    may_write=True,
    runs_script=True,
)
def evalsha(db: Database, args: list[Any]) -> Any:
    """Executes a server-side Lua script by SHA1 digest."""
    return _evaluate_known(db, args, b"EVALSHA", read_only=False)


@command(
    "EVALSHA_RO sha1 numkeys [key [key ...]] [arg [arg ...]]",
    group="scripting",
    since="7.0.0",
    flags=SCRIPT_FLAGS | READONLY,
    keys=script_keys("RO ACCESS"),
    complexity=_DEPENDS,
    runs_script=True,
)
def evalsha_ro(db: Database, args: list[Any]) -> Any:
    """Executes a read-only server-side Lua script by SHA1 digest."""
    return _evaluate_known(db, args, b"EVALSHA_RO", read_only=True)


# -- SCRIPT -------------------------------------------------------------------------------------

container(
    "SCRIPT",
    group="scripting",
    since="2.6.0",
    help_since="5.0.0",
    summary="A container for Lua scripts management commands.",
)


@command(
    "SCRIPT LOAD script",
    group="scripting",
    since="2.6.0",
    flags=NOSCRIPT | STALE,
    complexity="O(N) with N being the length in bytes of the script body.",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    plan=everywhere(first),
)
def script_load(db: Database, args: list[Any]) -> Any:
    """Loads a server-side Lua script to the script cache."""
    return scripts_of(db).load(args[2]).sha


def _known_anywhere(answers: list[list[int]]) -> list[int]:
    return [max(parts) for parts in zip(*answers, strict=True)]


@command(
    "SCRIPT EXISTS sha1 [sha1 ...]",
    group="scripting",
    since="2.6.0",
    flags=NOSCRIPT | STALE,
    complexity="O(N) with N being the number of scripts to check (so checking a single script is an O(1) "
    "operation).",
    tips=("request_policy:all_shards", "response_policy:agg_logical_and"),
    plan=everywhere(_known_anywhere),
)
def script_exists(db: Database, args: list[Any]) -> Any:
    """Determines whether server-side Lua scripts exist in the script cache."""
    scripts = scripts_of(db)
    return [int(scripts.find(sha) is not None) for sha in args[2:]]


@command(
    "SCRIPT FLUSH [ASYNC | SYNC]",
    group="scripting",
    since="2.6.0",
    flags=NOSCRIPT | STALE,
    complexity="O(N) with N being the number of scripts in cache",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    history=(("6.2.0", "Added the `ASYNC` and `SYNC` flushing mode modifiers."),),
    plan=everywhere(first),
)
def script_flush(db: Database, args: list[Any]) -> Any:
    """Removes all server-side Lua scripts from the script cache."""
    if len(args) > 3 or (len(args) == 3 and args[2].upper() not in (b"SYNC", b"ASYNC")):
        raise CommandError(errors.FLUSH_OPTION)
    scripts_of(db).flush()
    return OK


def plan_kill(call: Call) -> Plan:
    """Ends what runs on any shard. If that fails somewhere, the reply says why."""
    values = yield Read(call.everywhere())
    answers = [answer for [answer] in values.values()]
    failures = [answer for answer in answers if isinstance(answer, CommandError)]
    telling = [failure for failure in failures if failure.text != errors.NO_SCRIPT_RUNS]
    if telling or len(failures) == len(answers):
        raise (telling or failures)[0]
    return OK


@command(
    "SCRIPT KILL",
    group="scripting",
    since="2.6.0",
    flags=NOSCRIPT | ALLOW_BUSY,
    tips=("request_policy:all_shards", "response_policy:one_succeeded"),
    plan=plan_kill,
)
def script_kill(db: Database, args: list[Any]) -> Any:
    """Terminates a server-side Lua script during execution."""
    scripts_of(db).kill(function=False)
    return OK


def _shown_by_any(call: Call) -> Plan:
    values = yield Read(call.everywhere())
    answers = [answer for [answer] in values.values()]
    found = next((answer for answer in answers if not isinstance(answer, CommandError)), None)
    if found is None:
        raise answers[0]
    return found


@command(
    "SCRIPT SHOW sha1",
    group="scripting",
    since="8.0.0",
    flags=NOSCRIPT | STALE,
    complexity="O(1).",
    plan=_shown_by_any,
)
def script_show(db: Database, args: list[Any]) -> Any:
    """Show server-side Lua script in the script cache."""
    script = scripts_of(db).find(args[2])
    if script is None:
        raise CommandError(errors.NO_SCRIPT_TO_SHOW)
    return script.body


# -- between processes --------------------------------------------------------------------------


@command("LOADSCRIPT script", group="scripting", since="0.1.0", flags=LOADING | STALE, internal=True)
def load_script(db: Database, args: list[Any]) -> Any:
    """Compiles a script that came with EVAL, perhaps to another shard."""
    scripts_of(db).of_body(args[1])
    return OK


@command("KEEPSCRIPT script", group="scripting", since="0.1.0", flags=LOADING | STALE, internal=True)
def keep_script(db: Database, args: list[Any]) -> Any:
    """Loads a script as SCRIPT LOAD does."""
    scripts_of(db).load(args[1])
    return OK
