"""EVAL and its like, SCRIPT, FUNCTION, FCALL: on shards, and what is logged."""

from __future__ import annotations

from typing import Any

import pytest

from shardkv import errors
from shardkv.errors import CommandError
from shardkv.lua import sha1hex
from shardkv.resp.replies import OK
from shardkv.shard import Shard
from tests.local import START_MS, Local

LIBRARY = """#!lua name=lib
redis.register_function('put', function(keys, args) return redis.call('set', keys[1], args[1]) end)
redis.register_function{function_name='look', flags={'no-writes'},
    callback=function(keys) return redis.call('get', keys[1]) end}
"""


def every(local: Local) -> list[Shard]:
    return local.shards


# -- commands of scripts ----------------------------------------------------------------------


def test_a_script_works_on_its_keys(local: Local) -> None:
    body = "redis.call('set', KEYS[1], ARGV[1]) return redis.call('get', KEYS[1])"
    assert local.call("EVAL", body, 1, "key", "value") == b"value"
    assert local.call("GET", "key") == b"value"
    assert local.logged() == [[b"SET", b"key", b"value"]]


def test_two_subcommands_of_one_command_are_two(local: Local) -> None:
    body = """
        redis.call('xgroup', 'create', KEYS[1], 'group', '0', 'mkstream')
        return redis.call('xgroup', 'destroy', KEYS[1], 'group')
    """
    assert local.call("EVAL", body, 1, "key") == 1
    assert local.call("XINFO", "GROUPS", "key") == []


def test_all_that_a_script_changes_is_logged_as_one(local: Local) -> None:
    body = """
        redis.call('set', KEYS[1], 'a', 'px', 100)
        redis.call('sadd', KEYS[2], 'member')
        redis.call('spop', KEYS[2])
        redis.call('get', KEYS[1])
        redis.call('del', 'nothing{t}')
        return redis.call('incrbyfloat', KEYS[3], 0.5)
    """
    assert local.call("EVAL", body, 3, "{t}1", "{t}2", "{t}3") == b"0.5"
    assert local.logged() == [
        [b"MULTI"],
        [b"SET", b"{t}1", b"a", b"PXAT", b"%d" % (START_MS + 100)],
        [b"SADD", b"{t}2", b"member"],
        [b"SREM", b"{t}2", b"member"],
        [b"SET", b"{t}3", b"0.5", b"KEEPTTL"],
        [b"EXEC"],
    ]
    content = local.content()
    local.call("EVAL", body, 3, "{t}1", "{t}2", "{t}3")
    assert local.content() != content


def test_what_was_done_before_an_error_counts(local: Local) -> None:
    assert local.error("EVAL", "redis.call('set', KEYS[1], 1) error('x')", 1, "key").startswith(
        "ERR user_script:1: x script: "
    )
    assert local.logged() == [[b"SET", b"key", b"1"]]
    assert local.call("GET", "key") == b"1"


def test_what_is_not_to_be_replicated_is_not_logged(local: Local) -> None:
    body = """
        redis.call('set', KEYS[1], 1)
        redis.set_repl(redis.REPL_NONE) redis.call('set', KEYS[1], 2)
        redis.set_repl(redis.REPL_AOF) redis.call('append', KEYS[1], 3)
        redis.set_repl(redis.REPL_REPLICA) redis.call('append', KEYS[1], 4)
    """
    local.call("EVAL", body, 1, "key")
    assert local.call("GET", "key") == b"234"
    assert local.logged() == [[b"MULTI"], [b"SET", b"key", b"1"], [b"APPEND", b"key", b"3"], [b"EXEC"]]
    local.call("EVAL", "redis.set_repl(0) redis.call('set', KEYS[1], 1)", 1, "key")
    assert local.logged() == []


def test_databases(local: Local) -> None:
    local.call(
        "EVAL", "redis.call('set', KEYS[1], 0) redis.call('select', 3) redis.call('set', KEYS[1], 3)", 1, "k"
    )
    assert local.call("GET", "k") == b"0"
    local.db = 3
    assert local.call("GET", "k") == b"3"
    content = local.content()
    assert local.replayed().content() == content


def test_nothing_waits_within_a_script(local: Local) -> None:
    assert local.call("EVAL", "return redis.call('lpop', KEYS[1])", 1, "k") is None


def test_time_stands_still(local: Local) -> None:
    body = (
        "return {redis.call('time')[1], redis.call('set', KEYS[1], 1, 'px', 1), redis.call('pttl', KEYS[1])}"
    )
    import proxy.commands  # noqa: F401

    assert local.call("EVAL", body, 1, "k") == [b"%d" % (START_MS // 1000), OK, 1]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("'nosuch'", errors.UNKNOWN_COMMAND_FROM_SCRIPT),
        ("'object', 'nosuch'", errors.UNKNOWN_COMMAND_FROM_SCRIPT),
        ("'prepare', 1, 2, 3, 4, 5, 6", errors.UNKNOWN_COMMAND_FROM_SCRIPT),
        ("'get'", errors.WRONG_ARITY_FROM_SCRIPT),
        ("'eval', 'return 1', 0", errors.NOT_ALLOWED_FROM_SCRIPT),
        ("'script', 'flush'", errors.NOT_ALLOWED_FROM_SCRIPT),
        ("", errors.NO_ARGUMENT_FROM_SCRIPT),
        ("'get', {}", errors.WRONG_ARGUMENT_FROM_SCRIPT),
    ],
)
def test_what_a_script_may_not_call(local: Local, call: str, error: bytes) -> None:
    assert local.call("EVAL", f"return redis.pcall({call})", 1, "key") == CommandError(error)
    assert (
        local.error("EVAL", f"return redis.call({call})", 1, "key").encode().startswith(error + b" script: ")
    )


@pytest.mark.parametrize("how", ["EVAL_RO", "flags", "FCALL_RO"])
def test_read_only(local: Local, how: str) -> None:
    local.call("SET", "key", "value")
    read, write = "return redis.call('get', KEYS[1])", "return redis.call('set', KEYS[1], 1)"
    if how == "FCALL_RO":
        local.call("FUNCTION", "LOAD", LIBRARY)
        assert local.call("FCALL_RO", "look", 1, "key") == b"value"
        assert local.error("FCALL_RO", "put", 1, "key", 1) == errors.SCRIPT_WITH_WRITES_RO.decode()
    else:
        name, prefix = ("EVAL", "#!lua flags=no-writes\n") if how == "flags" else (how, "")
        assert local.call(name, prefix + read, 1, "key") == b"value"
        assert "Write commands are not allowed" in local.error(name, prefix + write, 1, "key")
    assert local.call("GET", "key") == b"value"


def test_while_the_log_cannot_be_written(local: Local) -> None:
    local.call("SET", "key", "value")
    for shard in every(local):
        shard.refuse_writes(b"MISCONF no")
    assert local.call("EVAL", "return redis.call('get', KEYS[1])", 1, "key") == b"value"
    assert local.error("EVAL", "return redis.call('set', KEYS[1], 1)", 1, "key").startswith(
        "MISCONF no script:"
    )
    assert local.error("EVAL", "#!lua\nreturn 1", 1, "key") == "MISCONF no"
    assert local.call("EVAL", "#!lua flags=no-writes\nreturn 1", 1, "key") == 1


def test_figures() -> None:
    local = Local()
    local.call("EVAL", "redis.call('set', KEYS[1], 'x') redis.pcall('incr', KEYS[1])", 1, "key")
    stats = local.shards[0].stats.commands
    assert (stats["set"].calls, stats["incr"].calls, stats["incr"].failed) == (1, 1, 1)


# -- several shards ---------------------------------------------------------------------------


def test_keys_of_other_shards() -> None:
    local = Local(3)
    keys = [b"key:%d" % number for number in range(20)]
    by_shard: dict[int, bytes] = {}
    for key in keys:
        by_shard.setdefault(local.database_of(key).shard.index, key)  # type: ignore[attr-defined]
    here, there, elsewhere = by_shard[0], by_shard[1], by_shard[2]
    # Declared or not, before or after the first change, also within a call that may fail.
    body = """
        redis.call('set', KEYS[1], 'a')
        redis.call('set', ARGV[1], 'b')
        local ok, text = pcall(function() return redis.call('incr', ARGV[1]) end)
        redis.call('rename', ARGV[1], ARGV[2])
        return {redis.call('mget', KEYS[1], ARGV[1], ARGV[2]), ok, redis.call('dbsize')}
    """
    assert local.call("EVAL", body, 1, here, there, elsewhere) == [[b"a", None, b"b"], None, 2]
    assert local.call("EVAL", "return redis.call('get', KEYS[2])", 2, here, elsewhere) == b"b"
    replayed = local.replayed()
    assert replayed.content() == local.content()
    assert not any(shard.locks for shard in local.shards)
    assert local.call("EVAL", "return redis.call('flushall')", 0) == b"OK"
    assert local.call("DBSIZE") == 0


def test_what_a_script_has_done_before_it_fails_counts_on_all_shards() -> None:
    local = Local(3)
    body = "for n = 1, 20 do redis.call('set', 'key:' .. n, n) end error('no more')"
    assert "no more" in local.error("EVAL", body, 0)
    assert local.call("DBSIZE") == 20
    assert len(local.logged()) == 20 + 2 * 3


def test_locked_keys_are_not_touched() -> None:
    local = Local()
    shard = local.shards[0]
    shard.locks.lock((9, 9), [(0, b"locked")], whole=False, exclusive=True)
    body = "return redis.pcall('get', ARGV[1])"
    assert local.call("EVAL", body, 1, "free", "locked") == CommandError(errors.KEY_OF_ANOTHER_SHARD)
    assert local.call("EVAL", body, 1, "free", "other") is None


# -- SCRIPT -----------------------------------------------------------------------------------


def test_script_cache(local: Local) -> None:
    body = b"return {KEYS[1], 7}"
    sha = sha1hex(body)
    assert local.call("SCRIPT", "EXISTS", sha, "x") == [0, 0]
    assert local.error("EVALSHA", sha, 1, "a") == errors.NO_SCRIPT.decode()
    assert local.call("SCRIPT", "LOAD", body) == sha
    for key in ("a", "b", "c", "d"):
        assert local.call("EVALSHA", sha, 1, key) == [key.encode(), 7]
        assert local.call("EVALSHA_RO", sha.upper(), 1, key) == [key.encode(), 7]
    assert local.call("SCRIPT", "EXISTS", sha.upper()) == [1]
    assert local.call("SCRIPT", "SHOW", sha) == body
    assert local.call("SCRIPT", "FLUSH") == OK
    assert local.call("SCRIPT", "EXISTS", sha) == [0]
    assert local.error("SCRIPT", "SHOW", sha) == errors.NO_SCRIPT_TO_SHOW.decode()
    assert local.logged() == []


def test_scripts_of_eval_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardkv.limits.SCRIPTS_COMPILED", 3)
    local = Local()
    kept = local.call("SCRIPT", "LOAD", "return 'kept'")
    bodies = [f"return {number}".encode() for number in range(6)]
    for body in bodies:
        local.call("EVAL", body, 0)
    local.call("EVAL", "return 'kept'", 0)
    assert local.call("SCRIPT", "EXISTS", kept, *map(sha1hex, bodies)) == [1, 0, 0, 0, 1, 1, 1]
    assert local.call("EVAL", bodies[0], 0) == 0


def test_kill_without_a_script(local: Local) -> None:
    assert local.error("SCRIPT", "KILL") == errors.NO_SCRIPT_RUNS.decode()
    assert local.error("FUNCTION", "KILL") == errors.NO_SCRIPT_RUNS.decode()


def run_until_busy(body: str, *requests: tuple[Any, ...]) -> tuple[Any, list[Any], Local]:
    """Runs a script; when it has run for too long, has the shard answer other requests."""
    local = Local(busy_reply_threshold=20)
    answers: list[Any] = []

    def on_busy() -> None:
        if not answers:
            answers.extend(local.call(*request) for request in requests)

    local.shards[0].scripts.on_busy = on_busy
    return local.call("EVAL", body, 1, "key"), answers, local


def test_kill() -> None:
    reply, answers, local = run_until_busy("while true do end", ("FUNCTION", "KILL"), ("SCRIPT", "KILL"))
    assert answers == [CommandError(errors.BUSY_SCRIPT), OK]
    assert reply.text.startswith(errors.SCRIPT_KILLED)
    assert local.shards[0].scripts.running is None


def test_a_script_that_has_written_is_not_killed() -> None:
    body = """
        redis.call('set', KEYS[1], 1)
        local begun = os.clock()
        while os.clock() - begun < 0.2 do end
        return 'done'
    """
    reply, answers, local = run_until_busy(body, ("SCRIPT", "KILL"), ("FUNCTION", "STATS"))
    assert reply == b"done"
    assert answers[0] == CommandError(errors.UNKILLABLE)
    running = answers[1][b"running_script"]
    assert running[b"command"][:3] == [b"EVAL", body.encode(), b"1"]
    assert running[b"duration_ms"] >= 20
    assert local.logged() == [[b"SET", b"key", b"1"]]


def test_a_function_is_killed_by_function_kill() -> None:
    local = Local(busy_reply_threshold=20)
    local.call(
        "FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('spin', function() while true do end end)"
    )
    answers: list[Any] = []

    def on_busy() -> None:
        if not answers:
            answers.extend([local.call("SCRIPT", "KILL"), local.call("FUNCTION", "KILL")])

    local.shards[0].scripts.on_busy = on_busy
    assert local.error("FCALL", "spin", 0).startswith(errors.FUNCTION_KILLED.decode())
    assert answers == [CommandError(errors.BUSY_FUNCTION), OK]


def test_nothing_of_an_abandoned_script_is_logged() -> None:
    local = Local(busy_reply_threshold=20)
    local.shards[0].scripts.on_busy = local.shards[0].scripts.abandon
    local.call("EVAL", "redis.call('set', KEYS[1], 1) while true do end", 1, "key")
    assert local.logged() == []


# -- functions --------------------------------------------------------------------------------


def test_functions_are_on_every_shard(local: Local) -> None:
    assert local.call("FUNCTION", "LOAD", LIBRARY) == b"lib"
    for number in range(10):
        assert local.call("FCALL", "put", 1, f"key{number}", number) == OK
        assert local.call("FCALL_RO", "look", 1, f"key{number}") == b"%d" % number
    assert local.call("FUNCTION", "STATS")[b"engines"] == {
        b"LUA": {b"libraries_count": 1, b"functions_count": 2}
    }


def test_functions_are_logged(local: Local) -> None:
    def libraries(of: Local) -> list[Any]:
        return [shard.scripts.libraries.keys() for shard in of.shards]

    local.call("FUNCTION", "LOAD", LIBRARY)
    assert [request for request in local.logged() if request[0] == b"FUNCTION"] == [
        [b"FUNCTION", b"LOAD", LIBRARY.encode()]
    ] * len(local.shards)
    local.call("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    local.call("FUNCTION", "LOAD", LIBRARY.replace("lib", "more").replace("put", "a").replace("look", "b"))
    payload = local.call("FUNCTION", "DUMP")
    local.call("FUNCTION", "DELETE", "lib")
    local.call("FUNCTION", "RESTORE", payload, "FLUSH")
    local.call("FUNCTION", "DELETE", "more")
    loaded = local.replayed()
    assert libraries(loaded) == libraries(local) == [{b"lib": 0}.keys()] * len(local.shards)
    assert loaded.call("FCALL", "put", 1, "k", "v") == OK


def test_a_failed_change_leaves_everything_as_it_was(local: Local) -> None:
    local.call("FUNCTION", "LOAD", LIBRARY)
    other = LIBRARY.replace("lib", "other")
    local.logged()
    for request in (
        ("FUNCTION", "LOAD", LIBRARY),
        ("FUNCTION", "LOAD", other),
        ("FUNCTION", "LOAD", "REPLACE", LIBRARY.replace("'get'", "'get")),
        ("FUNCTION", "RESTORE", "x"),
        ("FUNCTION", "DELETE", "other"),
    ):
        assert isinstance(local.call(*request), CommandError)
    assert local.logged() == []
    assert local.call("FCALL", "put", 1, "k", "v") == OK


def test_a_restored_library_must_not_clash(local: Local) -> None:
    local.call("FUNCTION", "LOAD", LIBRARY.replace("lib", "other"))
    payload = local.call("FUNCTION", "DUMP")
    local.call("FUNCTION", "FLUSH")
    local.call("FUNCTION", "LOAD", LIBRARY)
    assert local.error("FUNCTION", "RESTORE", payload) == "ERR Function put already exists"
    assert local.error("FUNCTION", "RESTORE", payload, "REPLACE") == "ERR Function put already exists"
    assert [found[b"library_name"] for found in local.call("FUNCTION", "LIST")] == [b"lib"]
    local.call("FUNCTION", "RESTORE", payload, "FLUSH")
    assert [found[b"library_name"] for found in local.call("FUNCTION", "LIST")] == [b"other"]
