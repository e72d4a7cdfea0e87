"""MEMORY USAGE."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest

from tests.local import Local

MEMBERS = 5000
Fill = Callable[[Local, list[str]], None]


def _zadd(local: Local, names: list[str]) -> None:
    local.call("ZADD", "key", *(word for name in names for word in (hash(name) % 1000 + 0.5, name)))


def _hset_with_deadlines(local: Local, names: list[str]) -> None:
    local.call("HSET", "key", *(word for name in names for word in (name, name)))
    for name in names:
        local.call("HPEXPIRE", "key", 10**6 + hash(name) % 10**6, "FIELDS", 1, name)


def _xadd(local: Local, names: list[str]) -> None:
    for name in names:
        local.call("XADD", "key", "*", "name", name)


FILLS: dict[str, Fill] = {
    "string": lambda local, names: local.call("APPEND", "key", "".join(names)),
    "list": lambda local, names: local.call("RPUSH", "key", *names),
    "set": lambda local, names: local.call("SADD", "key", *names),
    "hash": lambda local, names: local.call(
        "HSET", "key", *(word for name in names for word in (name, name))
    ),
    "hash with deadlines": _hset_with_deadlines,
    "zset": _zadd,
    "stream": _xadd,
}


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS.keys())
def test_it_tells_about_what_is_really_allocated(fill: Fill) -> None:
    local = Local()
    local.call("SET", "other", "x")
    names = [f"member:{number}" for number in range(MEMBERS)]
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for start in range(0, MEMBERS, 100):
        fill(local, names[start : start + 100])
        local.logged()
    gc.collect()
    allocated = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    for options in ([], ["SAMPLES", 0], ["SAMPLES", 20]):
        assert local.call("MEMORY", "USAGE", "key", *options) == pytest.approx(allocated, rel=0.3)


def test_a_longer_key_a_longer_value_and_a_deadline_take_more(local: Local) -> None:
    def usage(key: str) -> int:
        found = local.call("MEMORY", "USAGE", key)
        assert isinstance(found, int)
        return found

    local.call("SET", "key", "x")
    short = usage("key")
    local.call("SET", "key", "x" * 1000)
    assert usage("key") - short == pytest.approx(1000, abs=16)
    local.call("EXPIRE", "key", 100)
    assert usage("key") - short > 1050
    local.call("SET", "k" * 500, "x")
    assert usage("k" * 500) - short == pytest.approx(500, abs=16)


def test_a_packed_collection_takes_less(local: Local) -> None:
    local.call("HSET", "key", *(word for number in range(20) for word in (f"field:{number}", number)))
    before = local.call("MEMORY", "USAGE", "key")
    db = local.database_of(b"key")
    value = db.peek(b"key")
    db.replace(b"key", value.pack())  # type: ignore[union-attr, arg-type]
    assert local.call("MEMORY", "USAGE", "key") < before / 3


def test_no_such_key(local: Local) -> None:
    assert local.call("MEMORY", "USAGE", "nosuch") is None
    local.call("SET", "key", "x", "PX", 10)
    local.advance(11)
    assert local.call("MEMORY", "USAGE", "key") is None


def test_errors(local: Local) -> None:
    local.call("SET", "key", "x")
    assert local.error("MEMORY", "USAGE", "key", "SAMPLES", -1) == "ERR syntax error"
    assert local.error("MEMORY", "USAGE", "key", "SAMPLES") == "ERR syntax error"
    assert local.error("MEMORY", "USAGE", "key", "OTHER", 1) == "ERR syntax error"
    assert (
        local.error("MEMORY", "USAGE", "key", "SAMPLES", "x") == "ERR value is not an integer or out of range"
    )
    assert local.error("MEMORY", "USAGE") == "ERR wrong number of arguments for 'memory|usage' command"
    assert local.error("MEMORY", "NOSUCH", "key") == "ERR unknown subcommand 'NOSUCH'. Try MEMORY HELP."


def test_help(local: Local) -> None:
    assert b"USAGE key [SAMPLES count]" in local.call("MEMORY", "HELP")
