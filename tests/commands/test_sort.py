"""SORT and SORT_RO."""

from __future__ import annotations

from typing import Any

import pytest

from shardkv import errors
from tests.local import Local
from tests.simulation import Script, Simulation

WRONG_TYPE = errors.WRONG_TYPE.decode()
NOT_SORTABLE = errors.NOT_SORTABLE.decode()


@pytest.fixture
def users(local: Local) -> Local:
    """A list of three users' ids, with a weight and a name for each, on whatever shards those lie."""
    local.call("RPUSH", "ids", 3, 1, 2)
    for number, weight, name in ((1, 30, "anna"), (2, 10, "bert"), (3, 20, "cleo")):
        local.call("SET", f"weight_{number}", weight)
        local.call("HSET", f"user_{number}", "name", name)
    local.logged()
    return local


def test_the_documented_examples(users: Local) -> None:
    assert users.call("SORT", "ids") == [b"1", b"2", b"3"]
    assert users.call("SORT", "ids", "DESC") == [b"3", b"2", b"1"]
    assert users.call("SORT", "ids", "ALPHA") == [b"1", b"2", b"3"]
    assert users.call("SORT", "ids", "LIMIT", 1, 5, "ALPHA", "DESC") == [b"2", b"1"]
    assert users.call("SORT", "ids", "BY", "weight_*") == [b"2", b"3", b"1"]
    assert users.call("SORT", "ids", "BY", "weight_*", "GET", "user_*->name") == [b"bert", b"cleo", b"anna"]
    assert users.call("SORT", "ids", "BY", "user_*->name", "ALPHA", "GET", "#", "GET", "weight_*") == [
        *(b"1", b"30", b"2", b"10", b"3", b"20")
    ]
    assert users.call("SORT", "ids", "BY", "nosort") == [b"3", b"1", b"2"]
    assert users.call("SORT", "ids", "BY", "weight_*", "STORE", "sorted") == 3
    assert users.call("LRANGE", "sorted", 0, -1) == [b"2", b"3", b"1"]


def test_sort_ro_is_the_same_without_store(users: Local) -> None:
    assert users.call("SORT_RO", "ids", "BY", "weight_*", "LIMIT", 0, 2) == [b"2", b"3"]
    assert users.error("SORT_RO", "ids", "STORE", "sorted") == "ERR syntax error"
    assert users.error("SORT_RO", "ids", "BY", "weight_*", "STORE", "sorted") == "ERR syntax error"
    assert users.logged() == []


def test_what_is_missing(users: Local) -> None:
    assert users.call("SORT", "nosuch", "GET", "weight_*") == []
    assert users.call("SORT", "ids", "GET", "nosuch_*") == [None, None, None]
    assert users.call("SORT", "ids", "GET", "user_*") == [None, None, None]
    assert users.call("SORT", "ids", "GET", "weight_*->name") == [None, None, None]
    assert users.call("SORT", "ids", "GET", "constant", "GET", "#") == [None, b"1", None, b"2", None, b"3"]
    users.call("DEL", "weight_1")
    assert users.call("SORT", "ids", "BY", "weight_*") == [b"1", b"2", b"3"]
    assert users.call("SORT", "ids", "BY", "weight_*", "ALPHA", "DESC") == [b"3", b"2", b"1"]
    assert users.call("SORT", "ids", "GET", "weight_*", "STORE", "sorted") == 3
    assert users.call("LRANGE", "sorted", 0, -1) == [b"", b"10", b"20"]


def test_errors(users: Local) -> None:
    users.call("SET", "text", "x")
    users.call("RPUSH", "texts", "x")
    users.call("SET", "weight_1", "heavy")
    assert users.error("SORT", "text") == WRONG_TYPE
    assert users.error("SORT", "text", "BY", "weight_*") == WRONG_TYPE
    assert users.error("SORT", "texts") == NOT_SORTABLE
    assert users.error("SORT", "ids", "BY", "weight_*", "STORE", "sorted") == NOT_SORTABLE
    assert users.error("SORT", "ids", "LIMIT", 0, "x") == "ERR value is not an integer or out of range"
    for options in (["BY"], ["GET"], ["LIMIT", 1], ["STORE"], ["BY", "weight_*", "x"]):
        assert users.error("SORT", "ids", *options) == "ERR syntax error"
    assert users.logged()
    assert users.call("EXISTS", "sorted") == 0


@pytest.mark.parametrize(
    ("text", "sortable"),
    [
        *(("0x10", True), (" 1", True), ("", True), ("-inf", True), ("1e-5", True), ("1" * 310, False)),
        *(("1e400", False), ("1e-400", False), ("nan", False), ("1_0", False), ("1 ", False), ("-", False)),
    ],
)
def test_numbers_are_read_as_c_does(text: str, sortable: bool) -> None:
    local = Local()
    local.call("RPUSH", "list", "0.5", text)
    reply = local.call("SORT", "list")
    assert isinstance(reply, list) is sortable


def test_equal_numbers_are_in_the_order_of_their_bytes(local: Local) -> None:
    local.call("RPUSH", "list", "1.0", "01", "1", "0")
    assert local.call("SORT", "list") == [b"0", b"01", b"1", b"1.0"]
    assert local.call("SORT", "list", "DESC") == [b"1.0", b"1", b"01", b"0"]
    assert local.call("SORT", "list", "BY", "nosuch_*") == [b"0", b"01", b"1", b"1.0"]


def test_sorted_sets_keep_their_own_order(local: Local) -> None:
    local.call("ZADD", "zset", 3, "a", 1, "b", 2, "c")
    assert local.call("SORT", "zset", "BY", "nosort", "LIMIT", 0, 2) == [b"b", b"c"]
    assert local.call("SORT", "zset", "BY", "nosort", "DESC", "LIMIT", 1, 2) == [b"c", b"b"]
    assert local.call("SORT", "zset", "BY", "nosort", "LIMIT", 9, 2) == []
    assert local.call("OBJECT", "ENCODING", "zset") == b"skiplist"


def test_sets_are_stored_in_a_fixed_order(local: Local) -> None:
    local.call("SADD", "set", "c", "a", "b")
    assert local.call("SORT", "set", "BY", "nosort", "STORE", "sorted") == 3
    assert local.call("LRANGE", "sorted", 0, -1) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("destination", ["sorted", "{ids}:sorted", "ids", "weight_1"])
def test_storing(users: Local, destination: str) -> None:
    expected = [b"1", b"2", b"3"]
    users.call("SET", "{ids}:sorted", "x", "EX", 100)
    users.logged()
    assert users.call("SORT", "ids", "STORE", destination) == 3
    logged = users.logged()
    assert [b"RPUSH", destination.encode(), *expected] in logged
    assert {args[0] for args in logged} <= {b"MULTI", b"EXEC", b"DEL", b"RPUSH"}
    assert users.call("TTL", destination) == -1
    assert users.call("LRANGE", destination, 0, -1) == expected
    assert users.call("SORT", "nosuch", "STORE", destination) == 0
    assert users.call("EXISTS", destination) == 0
    assert [b"DEL", destination.encode()] in users.logged()
    assert users.call("SORT", "nosuch", "STORE", destination) == 0
    assert users.logged() == []


def test_a_large_result_is_logged_in_portions(users: Local) -> None:
    for start in range(0, 5000, 100):
        users.call("RPUSH", "list", *range(start, start + 100))
    assert users.call("SORT", "list", "DESC", "GET", "#", "GET", "weight_*", "STORE", "sorted") == 10000
    assert users.call("LRANGE", "sorted", -6, -1) == [b"2", b"10", b"1", b"30", b"0", b""]
    requests = [args for args in users.logged() if args[1:2] == [b"sorted"]]
    assert max(map(len, requests)) < 1000
    again = Local()
    for args in requests:
        again.call(*args)
    assert again.call("LRANGE", "sorted", 0, -1) == users.call("LRANGE", "sorted", 0, -1)


def test_the_event(users: Local) -> None:
    events: list[Any] = []
    for shard in users.shards:
        shard.observers.append(lambda db, key, event: events.append((key, event)))
    users.call("SORT", "ids", "STORE", "sorted")
    users.call("SORT", "nosuch", "STORE", "sorted")
    assert events == [(b"sorted", "sortstore"), (b"sorted", "del")]


@pytest.mark.parametrize("command", ["SORT", "SORT_RO"])
@pytest.mark.parametrize("proxies", [1, 2])
@pytest.mark.parametrize("seed", range(15))
def test_it_sees_one_moment(seed: int, proxies: int, command: str) -> None:
    """While some set all weights to the same again and again, nobody sees two different ones; and what is
    being sorted may be renamed meanwhile."""
    simulation = Simulation(seed, proxies=proxies, shards=3)
    names = [b"a", b"b", b"c", b"d", b"e"]
    seen: list[Any] = []

    def begin() -> Script:
        yield ["RPUSH", "list", *names]
        for number in range(4):
            simulation.client(number % proxies, writer(number))
            simulation.client(number % proxies, reader())

    def writer(number: int) -> Script:
        for turn in range(6):
            order = simulation.random.sample(names, len(names))
            yield ["MSET", *(word for name in order for word in (b"w_" + name, b"%d.%d" % (number, turn)))]
            yield ["RENAME", "list", "other"] if turn % 2 else ["RENAME", "other", "list"]

    def reader() -> Script:
        for _ in range(6):
            seen.append((yield [command, "list", "BY", "w_*", "GET", "w_*"]))

    simulation.client(0, begin())
    simulation.run()
    assert len(seen) == 24
    for weights in seen:
        assert len(set(weights)) <= 1, weights
        assert len(weights) in (0, len(names))
    assert not any(shard.locks for shard in simulation.shards)
