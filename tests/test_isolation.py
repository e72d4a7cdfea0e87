"""Commands over several shards are atomic and isolated, whatever order things happen in."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from tests.simulation import Script, Simulation

KEYS = [b"key:%d" % number for number in range(6)]


def writer(name: int, rounds: int, keys: list[bytes]) -> Script:
    """Sets all keys to the same value, again and again."""
    for number in range(rounds):
        value = b"%d.%d" % (name, number)
        reply = yield ["MSET", *(word for key in keys for word in (key, value))]
        assert reply == b"OK"


def reader(rounds: int, keys: list[bytes], seen: list[Any]) -> Script:
    for _ in range(rounds):
        reply = yield ["MGET", *keys]
        seen.append(reply)


def single_writer(rounds: int, key: bytes) -> Script:
    for number in range(rounds):
        reply = yield ["INCR", key]
        assert reply == number + 1


@pytest.mark.parametrize("proxies", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_nobody_sees_half_of_a_write(seed: int, proxies: int) -> None:
    simulation = Simulation(seed, proxies=proxies, shards=3)
    seen: list[Any] = []
    for number in range(4):
        order = simulation.random.sample(KEYS, len(KEYS))
        simulation.client(number % proxies, writer(number, 8, order))
        simulation.client(number % proxies, reader(8, order, seen))
        simulation.client(number % proxies, single_writer(8, b"counter:%d" % number))
    simulation.run()
    assert len(seen) == 32
    for values in seen:
        assert len(set(values)) == 1, values
    simulation.check_nothing_is_left()


SETS_ALL = """
local before = redis.call('MGET', unpack(KEYS))
for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1]) end
return before
"""


def script_writer(name: int, rounds: int, keys: list[bytes], seen: list[Any]) -> Script:
    """The same with a script, which sees them as well."""
    for number in range(rounds):
        seen.append((yield ["EVAL", SETS_ALL, len(keys), *keys, b"%d.%d" % (name, number)]))


@pytest.mark.parametrize("proxies", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_a_script_without_the_token_comes_between_nothing(seed: int, proxies: int) -> None:
    simulation = Simulation(seed, proxies=proxies, shards=3)
    seen: list[Any] = []
    for number in range(4):
        order = simulation.random.sample(KEYS, len(KEYS))
        simulation.client(number % proxies, writer(number, 4, order))
        simulation.client(number % proxies, reader(8, order, seen))
        simulation.client(number % proxies, script_writer(number + 4, 6, order, seen))
    simulation.run()
    assert len(seen) == 56
    for values in seen:
        assert len(set(values)) == 1, values
    simulation.check_nothing_is_left()


@pytest.mark.parametrize("seed", range(20))
def test_a_name_is_taken_once(seed: int) -> None:
    simulation = Simulation(seed, proxies=2, shards=3)
    won: list[int] = []

    def contender(name: int) -> Script:
        for number in range(10):
            reply = yield ["MSETNX", b"lock:a:%d" % number, name, b"lock:b:%d" % number, name]
            if reply == 1:
                won.append(number)

    for name in range(5):
        simulation.client(name % 2, contender(name))
    simulation.run()
    assert sorted(won) == list(range(10))


@pytest.mark.parametrize("seed", range(20))
def test_a_renamed_key_is_always_in_one_place(seed: int) -> None:
    """A key is passed around by renaming; whoever looks at all places finds it exactly once."""
    simulation = Simulation(seed, proxies=2, shards=3)
    places = KEYS[:4]
    seen: list[Any] = []

    def put() -> Script:
        yield ["SET", places[0], b"treasure"]
        for number in range(2):
            simulation.client(number, mover())
            simulation.client(number, reader(15, places, seen))

    def mover() -> Script:
        for _ in range(15):
            source, destination = simulation.random.sample(places, 2)
            reply = yield ["RENAME", source, destination]
            assert reply == b"OK" or isinstance(reply, hiredis.ReplyError)

    simulation.client(0, put())
    simulation.run()
    for values in seen:
        assert [value for value in values if value is not None] == [b"treasure"]
