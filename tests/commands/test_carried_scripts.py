"""Scripts that reach no keys but their own, which lie on two shards: they do what they would do on one."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.actions import RunScript
from shardkv import limits
from shardkv.errors import CommandError
from shardkv.slots import even_slot_table, slot_of
from tests.local import Local

HERE, THERE = (
    next(key for key in map("k{}".format, range(99)) if even_slot_table(2)[slot_of(key.encode())] == shard)
    for shard in (0, 1)
)


class Watched(Local):
    """Shards that tell whether a script has run with the token."""

    with_token = False

    def _act(self, action: Any) -> Any:
        self.with_token = self.with_token or isinstance(action, RunScript)
        return super()._act(action)


def fill(local: Local) -> None:
    for name in (HERE, THERE):
        local.call("SET", f"{{{name}}}string", "1", "EX", 100)
        local.call("RPUSH", f"{{{name}}}list", *range(5))
        local.call("HSET", f"{{{name}}}hash", "a", 1, "b", 2)
        local.call("SADD", f"{{{name}}}set", "a", "b")
        local.call("ZADD", f"{{{name}}}sorted", 1, "a", 2, "b")
        local.call("XADD", f"{{{name}}}stream", "1-1", "a", 1)


BODIES = [
    ("string", "return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])}"),
    (
        "string",
        "return {redis.call('INCR', KEYS[1]), redis.call('INCR', KEYS[2]), redis.call('INCR', KEYS[2])}",
    ),
    ("string", "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('SET', KEYS[2], ARGV[1])"),
    ("string", "return {redis.call('DEL', KEYS[1], KEYS[2]), redis.call('EXISTS', KEYS[2])}"),
    (
        "string",
        "return {redis.call('PERSIST', KEYS[1]), redis.call('PTTL', KEYS[2]), redis.call('PTTL', KEYS[1])}",
    ),
    (
        "string",
        "redis.call('EXPIRE', KEYS[2], 50) return {redis.call('TTL', KEYS[1]), redis.call('TTL', KEYS[2])}",
    ),
    ("string", "redis.call('INCRBYFLOAT', KEYS[1], 1.5) return redis.call('APPEND', KEYS[2], 'x')"),
    ("string", "redis.call('SET', KEYS[1], 7) return redis.call('LPUSH', KEYS[2], 'x')"),
    ("string", "redis.call('SET', KEYS[2], 7) return redis.pcall('LPUSH', KEYS[1], 'x')"),
    (
        "string",
        "redis.call('DEL', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x', redis.call('GET', KEYS[2]))",
    ),
    ("string", "return redis.call('MGET', KEYS[1], KEYS[2])"),
    ("string", "return redis.error_reply('MY own')"),
    ("string", "error('mine')"),
    (
        "list",
        "redis.call('RPUSH', KEYS[2], redis.call('LPOP', KEYS[1])) return redis.call('LPOP', KEYS[2])",
    ),
    (
        "list",
        "redis.call('LPOP', KEYS[1], 5) return {redis.call('EXISTS', KEYS[1]), redis.call('LLEN', KEYS[2])}",
    ),
    (
        "hash",
        "redis.call('HINCRBY', KEYS[1], 'a', redis.call('HGET', KEYS[2], 'b')) return KEYS[1]",
    ),
    (
        "set",
        "redis.call('SREM', KEYS[1], 'a') redis.call('SADD', KEYS[2], 'c') return KEYS[2]",
    ),
    ("set", "return #redis.call('SINTER', KEYS[1], KEYS[2])"),
    (
        "sorted",
        "redis.call('ZINCRBY', KEYS[2], 5, 'a') return redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')",
    ),
    (
        "stream",
        "redis.call('XADD', KEYS[1], '2-1', 'a', 'b') return redis.call('XLEN', KEYS[2])",
    ),
]


@pytest.mark.parametrize("names", [(HERE, THERE), (THERE, HERE)], ids=["from the first", "from the second"])
@pytest.mark.parametrize(("kind", "body"), BODIES)
def test_as_on_one_shard(kind: str, body: str, names: tuple[str, str]) -> None:
    keys = [f"{{{name}}}{kind}" for name in names]
    one, two = Local(1), Watched(2)
    fill(one)
    fill(two)
    reply = one.call("EVAL", body, 2, *keys, "value")
    assert two.call("EVAL", body, 2, *keys, "value") == reply
    assert not two.with_token
    assert two.content() == one.content()
    # Nothing is left behind, neither of keys of other shards nor of locks.
    for number, shard in enumerate(two.shards):
        assert all(
            two.slot_table[slot_of(key)] == number for db in shard.databases.values() for key in _keys(db)
        )
        assert not shard.locks
        assert shard.dirty == 0
    assert two.replayed().content() == two.content()


def _keys(db: Any) -> list[bytes]:
    return [key for slot in db.slots for key in slot] + list(db.expires)


def test_only_what_has_changed_is_logged() -> None:
    local = Watched(2)
    fill(local)
    local.logged()
    body = "redis.call('INCR', KEYS[2]) redis.call('GET', KEYS[1]) return redis.call('SET', KEYS[3], 'x')"
    keys = [f"{{{HERE}}}string", f"{{{THERE}}}string", f"{{{THERE}}}new"]
    local.call("EVAL", body, 3, *keys)
    assert local.logged() == [
        [b"MULTI"],
        [b"INCR", keys[1].encode()],
        [b"SET", keys[2].encode(), b"x"],
        [b"EXEC"],
    ]


def test_a_key_may_be_named_twice() -> None:
    local = Watched(2)
    local.call("RPUSH", THERE, 1, 2)
    body = "redis.call('RPUSH', KEYS[3], 3) return redis.call('LRANGE', KEYS[2], 0, -1)"
    assert local.call("EVAL", body, 3, HERE, THERE, THERE) == [b"1", b"2", b"3"]
    assert local.call("LLEN", THERE) == 3


def test_a_key_that_has_expired_is_not_there() -> None:
    local = Watched(2)
    local.call("SET", THERE, 1, "PX", 10)
    local.call("SET", HERE, 1, "PX", 10)
    local.advance(20)
    body = "return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), redis.call('INCR', KEYS[2])}"
    assert local.call("EVAL", body, 2, HERE, THERE) == [None, None, 1]
    assert local.call("GET", THERE) == b"1"


@pytest.mark.parametrize(
    "body",
    [
        "return redis.call('RENAME', KEYS[1], KEYS[2])",
        "return redis.call('SMOVE', KEYS[1], KEYS[2], 'a')",
    ],
)
def test_a_change_of_keys_on_both_needs_the_token(body: str) -> None:
    one, two = Local(1), Watched(2)
    for local in (one, two):
        local.call("SADD", HERE, "a", "b")
    assert two.call("EVAL", body, 2, HERE, THERE) == one.call("EVAL", body, 2, HERE, THERE)
    assert two.with_token
    assert two.content() == one.content()


def test_and_so_does_a_key_that_holds_much() -> None:
    local = Watched(2)
    local.call("SET", THERE, "x" * limits.PORTABLE_BYTES)
    body = "redis.call('INCR', KEYS[1]) return redis.call('STRLEN', KEYS[2])"
    assert local.call("EVAL", body, 2, HERE, THERE) == limits.PORTABLE_BYTES
    assert local.with_token
    assert local.call("GET", HERE) == b"1"


def test_what_cannot_be_logged_is_not_done() -> None:
    local = Watched(2)
    local.shards[1].refuse_writes(b"MISCONF no")
    body = "redis.call('SET', KEYS[1], 1) return redis.call('SET', KEYS[2], 1)"
    assert local.call("EVAL", body, 2, HERE, THERE) == CommandError("MISCONF no")
    assert local.content() == {}
