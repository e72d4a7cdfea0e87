"""Sets."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from shardkv import limits
from shardkv.keyspace import Database
from shardkv.structures.set import PackedSet, Set
from tests.local import START_MS, Local

WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_POSITIVE = "ERR value is out of range, must be positive"

SOME_KEYS = [b"k:%d" % number for number in range(12)]
"""Keys that lie on all shards."""


def words(text: str) -> set[bytes]:
    return {word.encode() for word in text.split()}


def members(local: Local, key: Any) -> set[bytes]:
    found = local.call("SMEMBERS", key)
    assert isinstance(found, set)
    return found


def make(local: Local, **sets: str) -> None:
    """Makes sets of the words in a text."""
    for key, text in sets.items():
        local.call("SADD", key, *text.split())


def encoding(local: Local, key: Any) -> str:
    found = local.call("OBJECT", "ENCODING", key)
    assert isinstance(found, bytes)
    return found.decode()


def events_of(local: Local, *call: Any) -> list[tuple[bytes, str]]:
    """What a call tells those who want to hear of changed keys."""
    heard: list[tuple[bytes, str]] = []

    def observe(db: Database, key: bytes, event: str) -> None:
        heard.append((key, event))

    for shard in local.shards:
        shard.observers.append(observe)
    local.call(*call)
    for shard in local.shards:
        shard.observers.remove(observe)
    return heard


# -- members ------------------------------------------------------------------------------------


def test_adding_and_looking(local: Local) -> None:
    assert local.call("SADD", "myset", "Hello") == 1
    assert local.call("SADD", "myset", "World", "World", "") == 2
    assert local.call("SADD", "myset", "World") == 0
    assert members(local, "myset") == {b"Hello", b"World", b""}
    assert local.call("SCARD", "myset") == 3
    assert local.call("SISMEMBER", "myset", "Hello") == 1
    assert local.call("SISMEMBER", "myset", "hello") == 0
    assert local.call("SMISMEMBER", "myset", "World", "x", "") == [1, 0, 1]
    assert local.call("TYPE", "myset") == b"set"


def test_looking_at_nothing(local: Local) -> None:
    assert members(local, "none") == set()
    assert local.call("SCARD", "none") == 0
    assert local.call("SISMEMBER", "none", "a") == 0
    assert local.call("SMISMEMBER", "none", "a", "b") == [0, 0]
    assert local.call("SREM", "none", "a") == 0
    assert local.call("SPOP", "none") is None
    assert local.call("SPOP", "none", 3) == set()
    assert local.call("SRANDMEMBER", "none") is None
    assert local.call("SRANDMEMBER", "none", -3) == []
    assert local.call("SSCAN", "none", 0) == [b"0", []]
    assert local.logged() == []


def test_removing(local: Local) -> None:
    make(local, s="one two three")
    local.logged()
    assert local.call("SREM", "s", "one", "one", "four") == 1
    assert local.call("SREM", "s", "four") == 0
    assert local.logged() == [[b"SREM", b"s", b"one", b"one", b"four"]]
    assert local.call("SREM", "s", "three", "two") == 2
    assert local.call("EXISTS", "s") == 0
    assert local.replayed().content() == {}


def test_replies_are_sets_in_resp3(local: Local) -> None:
    make(local, s="a", t="a")
    call: list[Any]
    for call in (["SMEMBERS", "s"], ["SINTER", "s", "t"], ["SUNION", "s", "t"], ["SDIFF", "s", "u"]):
        assert local.resp(*call, protocol=2) == b"*1\r\n$1\r\na\r\n"
        assert local.resp(*call, protocol=3) == b"~1\r\n$1\r\na\r\n"
    for call in (["SMEMBERS", "u"], ["SINTER", "s", "u"], ["SUNION", "u", "v"], ["SPOP", "u", 1]):
        assert local.resp(*call, protocol=2) == b"*0\r\n"
        assert local.resp(*call, protocol=3) == b"~0\r\n"
    assert local.resp("SRANDMEMBER", "s", 1, protocol=3) == b"*1\r\n$1\r\na\r\n"
    assert local.resp("SPOP", "s", 1, protocol=3) == b"~1\r\n$1\r\na\r\n"
    assert local.resp("SPOP", "s", protocol=3) == b"_\r\n"
    assert local.resp("SPOP", "s", protocol=2) == b"$-1\r\n"


def test_wrong_type(local: Local) -> None:
    local.call("SET", "text", "abc")
    make(local, s="a")
    local.logged()
    for call in (
        *(["SADD", "text", "a"], ["SREM", "text", "a"], ["SCARD", "text"], ["SISMEMBER", "text", "a"]),
        *(["SMISMEMBER", "text", "a"], ["SMEMBERS", "text"], ["SPOP", "text"], ["SPOP", "text", 0]),
        *(["SRANDMEMBER", "text"], ["SRANDMEMBER", "text", 0], ["SSCAN", "text", 0, "FOO"]),
        *(["SMOVE", "text", "s", "a"], ["SMOVE", "s", "text", "a"], ["SMOVE", "s", "text", "none"]),
        *(["SINTER", "none", "text"], ["SUNION", "s", "text"], ["SDIFF", "none", "text"]),
        *(["SINTERCARD", 2, "none", "text"], ["SINTERSTORE", "d", "none", "text"]),
        *(["SUNIONSTORE", "d", "s", "text"], ["SDIFFSTORE", "d", "text", "s"]),
    ):
        assert local.error(*call) == WRONG_TYPE, call
    assert local.error("GET", "s") == WRONG_TYPE
    assert local.logged() == []
    assert local.call("SMOVE", "none", "text", "a") == 0


def test_deadlines_stay_when_members_change_and_go_when_the_set_is_replaced(local: Local) -> None:
    make(local, s=" ".join(map(str, range(1000))), t="a", d="x")
    local.call("PEXPIREAT", "s", START_MS + 1000)
    local.call("SADD", "s", "a")
    local.call("SREM", "s", "b")
    local.call("SPOP", "s")
    local.call("SPOP", "s", 990)
    assert local.call("PTTL", "s") == 1000
    local.call("PEXPIREAT", "d", START_MS + 1000)
    local.call("SUNIONSTORE", "d", "t")
    assert local.call("PTTL", "d") == -1
    replayed = local.replayed()
    assert (replayed.call("PTTL", "s"), replayed.call("PTTL", "d")) == (1000, -1)
    local.advance(1000)
    assert local.call("SCARD", "s") == 0
    assert local.call("SADD", "s", "a") == 1
    assert local.call("PTTL", "s") == -1


# -- SMOVE --------------------------------------------------------------------------------------


def test_moving(local: Local) -> None:
    for source, destination in pairwise(SOME_KEYS):
        local.call("DEL", source, destination)
        local.call("SADD", source, "one", "two")
        local.call("SADD", destination, "three")
        assert local.call("SMOVE", source, destination, "two") == 1
        assert local.call("SMOVE", source, destination, "two") == 0
        assert (members(local, source), members(local, destination)) == ({b"one"}, words("two three"))
        local.call("SADD", destination, "one")
        assert local.call("SMOVE", source, destination, "one") == 1
        assert (local.call("EXISTS", source), members(local, destination)) == (0, words("one two three"))
        assert local.call("SMOVE", destination, destination, "one") == 1
        assert local.call("SMOVE", destination, destination, "none") == 0
        assert local.call("SMOVE", destination, source, "one") == 1
        assert members(local, source) == {b"one"}
    content = local.content()
    assert local.replayed().content() == content


def test_a_move_of_nothing_is_not_logged(local: Local) -> None:
    make(local, s="a")
    local.logged()
    local.call("SMOVE", "none", "s", "a")
    local.call("SMOVE", "s", "t", "none")
    local.call("SMOVE", "s", "s", "a")
    assert local.logged() == []


def test_moving_is_told(local: Local) -> None:
    for source, destination in pairwise(SOME_KEYS):
        local.call("DEL", source, destination)
        local.call("SADD", source, "a")
        heard = events_of(local, "SMOVE", source, destination, "a")
        assert heard == [(source, "srem"), (source, "del"), (destination, "sadd")]


# -- at random ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_popping(local: Local, size: int) -> None:
    everything = {b"%d" % number for number in range(size)}
    local.call("SADD", "s", *everything)
    local.logged()
    popped = []
    while (member := local.call("SPOP", "s")) is not None:
        popped.append(member)
    assert len(popped) == size
    assert set(popped) == everything
    assert local.call("EXISTS", "s") == 0
    assert local.logged() == [[b"SREM", b"s", member] for member in popped]


@pytest.mark.parametrize("count", [1, 2, 599, 833, 834, 900, 999])
def test_popping_several(local: Local, count: int) -> None:
    everything = {b"%d" % number for number in range(1000)}
    local.call("SADD", "s", *everything)
    local.logged()
    popped = local.call("SPOP", "s", count)
    assert len(popped) == count
    assert members(local, "s") == everything - popped
    logged = [request for request in local.logged() if request not in ([b"MULTI"], [b"EXEC"])]
    assert all(request[:2] == [b"SREM", b"s"] for request in logged)
    assert max(map(len, logged)) <= limits.SET_REQUEST_MEMBERS + 2
    assert {member for request in logged for member in request[2:]} == popped


def test_popping_all(local: Local) -> None:
    for count in (3, 4, 2**63 - 1):
        make(local, s="a b c")
        local.logged()
        assert local.call("SPOP", "s", count) == words("a b c")
        assert local.call("EXISTS", "s") == 0
        assert local.logged() == [[b"DEL", b"s"]]


def test_popping_is_told(local: Local) -> None:
    make(local, s="a b c d e f g h i j")
    assert events_of(local, "SPOP", "s") == [(b"s", "spop")]
    assert events_of(local, "SPOP", "s", 0) == []
    assert events_of(local, "SPOP", "s", 8) == [(b"s", "spop")]
    assert events_of(local, "SPOP", "s") == [(b"s", "spop"), (b"s", "del")]
    make(local, s="a b")
    assert events_of(local, "SPOP", "s", 2) == [(b"s", "spop"), (b"s", "del")]


def test_what_pop_leaves_is_as_random_as_what_it_takes(local: Local) -> None:
    kept: Counter[bytes] = Counter()
    for _ in range(300):
        local.call("SADD", "s", *range(20))
        local.call("SPOP", "s", 18)
        kept.update(members(local, "s"))
        local.call("DEL", "s")
    assert len(kept) == 20
    # 30 of each on average; the bounds are more than four standard deviations off.
    assert min(kept.values()) > 6
    assert max(kept.values()) < 60


def test_members_at_random(local: Local) -> None:
    make(local, s="a b c d e f g h i j")
    local.logged()
    everything = members(local, "s")
    assert {local.call("SRANDMEMBER", "s") for _ in range(300)} == everything
    for count in (0, 1, 3, 4, 9, 10, 11, 2**63 - 1):
        found = local.call("SRANDMEMBER", "s", count)
        assert isinstance(found, list)
        assert len(set(found)) == len(found) == min(count, 10)
        assert set(found) <= everything
    assert {member for _ in range(100) for member in local.call("SRANDMEMBER", "s", 2)} == everything
    for count in (1, 3, 200, 1000):
        found = local.call("SRANDMEMBER", "s", -count)
        assert len(found) == count
        assert set(found) <= everything
    assert set(local.call("SRANDMEMBER", "s", -1000)) == everything
    assert local.logged() == []


def test_errors_of_random_members(local: Local) -> None:
    make(local, s="a")
    for key in ("s", "none"):
        assert local.error("SPOP", key, 1, 2) == SYNTAX
        assert local.error("SRANDMEMBER", key, 1, 2) == SYNTAX
        for count in ("x", "-1", "01", 2**63, -(2**63)):
            assert local.error("SPOP", key, count) == NOT_POSITIVE
        for count in ("x", "01", 2**63, -(2**63) - 1):
            assert local.error("SRANDMEMBER", key, count) == NOT_AN_INTEGER
        assert local.error("SRANDMEMBER", key, -(2**63)) == (
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
        )
        assert local.error("SRANDMEMBER", key, -limits.REPEATED_MEMBERS - 1) == "ERR value is out of range"


# -- SSCAN --------------------------------------------------------------------------------------


def scan(local: Local, key: str, *options: Any) -> list[bytes]:
    """All that a scan returns."""
    found: list[bytes] = []
    cursor = b"0"
    for _ in range(10_000):
        cursor, some = local.call("SSCAN", key, cursor, *options)
        found += some
        if cursor == b"0":
            return found
    raise AssertionError("no end")


def test_scanning(local: Local) -> None:
    everything = [b"member:%d" % number for number in range(3000)]
    local.call("SADD", "s", *everything)
    assert sorted(scan(local, "s")) == sorted(everything)
    assert sorted(scan(local, "s", "COUNT", 500)) == sorted(everything)
    assert sorted(scan(local, "s", "MATCH", "*99", "COUNT", 100)) == sorted(
        member for member in everything if member.endswith(b"99")
    )
    _, first = local.call("SSCAN", "s", 0, "COUNT", 10)
    assert 10 <= len(first) < 100


def test_small_encodings_are_scanned_at_once(local: Local) -> None:
    local.call("SADD", "i", *range(512))
    local.call("SADD", "l", "x", *range(127))
    for cursor in (0, 7, "007", "+3", " 0", 2**64 - 1):
        found_cursor, found = local.call("SSCAN", "l", cursor, "COUNT", 1)
        assert found_cursor == b"0"
        if cursor != 2**64 - 1:
            assert sorted(found) == sorted(members(local, "l"))
    assert sorted(scan(local, "i", "count", 1)) == sorted(members(local, "i"))


def test_errors_of_scanning(local: Local) -> None:
    make(local, s="a")
    for cursor in ("x", "-1", "1.5", "", "0x10", 2**64):
        assert local.error("SSCAN", "none", cursor) == "ERR invalid cursor"
    for options in ("COUNT", "MATCH", "COUNT 0", "COUNT -1", "FOO", "TYPE set", "COUNT 1 COUNT 0"):
        assert local.error("SSCAN", "s", 0, *options.split()) == SYNTAX
        assert local.call("SSCAN", "none", 0, *options.split()) == [b"0", []]
    assert local.error("SSCAN", "s", 0, "COUNT", "x") == NOT_AN_INTEGER
    assert local.error("SSCAN", "s", 0, "NOVALUES") == "ERR NOVALUES option can only be used in HSCAN"


# -- encodings ----------------------------------------------------------------------------------


def test_encodings(local: Local) -> None:
    local.call("SADD", "s", *range(512))
    assert encoding(local, "s") == "intset"
    local.call("SADD", "s", 512)
    assert encoding(local, "s") == "hashtable"
    local.call("SPOP", "s", 503)
    assert (local.call("SCARD", "s"), encoding(local, "s")) == (10, "listpack")
    local.call("SREM", "s", *range(600))
    local.call("SADD", "s", 1)
    assert encoding(local, "s") == "intset"
    local.call("SADD", "s", "a")
    assert encoding(local, "s") == "listpack"
    local.call("SADD", "s", "x" * 65)
    assert encoding(local, "s") == "hashtable"
    local.call("SREM", "s", "x" * 65)
    assert encoding(local, "s") == "hashtable"
    local.call("SUNIONSTORE", "s", "s")
    assert encoding(local, "s") == "listpack"


def test_what_pop_leaves_keeps_its_encoding_unless_it_is_little(local: Local) -> None:
    # As observed on valkey-server 9.1.2 and redis-server 8.2.3.
    for size, count, expected in ((200, 199, "listpack"), (200, 161, "hashtable"), (2000, 1800, "hashtable")):
        local.call("SADD", "s", *(f"s{number}" for number in range(size)))
        local.call("SPOP", "s", count)
        assert encoding(local, "s") == expected
        local.call("DEL", "s")
    local.call("SADD", "s", *range(500))
    local.call("SPOP", "s", 490)
    assert encoding(local, "s") == "intset"


@pytest.mark.parametrize(
    ("setting", "value", "expected"), [("entries", 5, "hashtable"), ("value", 3, "hashtable")]
)
def test_encodings_follow_the_settings(local: Local, setting: str, value: int, expected: str) -> None:
    setattr(local.config, f"set_max_listpack_{setting}", value)
    local.call("SADD", "s", "a", "b", "c", "d", "1234" if setting == "value" else "e")
    assert encoding(local, "s") == (expected if setting == "value" else "listpack")
    local.call("SADD", "s", "f")
    assert encoding(local, "s") == expected
    local.config.set_max_intset_entries = 0
    local.call("SADD", "t", "1")
    assert encoding(local, "t") == "listpack"
    local.config.set_max_intset_entries = 3
    local.call("SADD", "u", "1", "2", "1234")
    assert encoding(local, "u") == "intset"
    local.call("SADD", "u", "a")
    assert encoding(local, "u") == ("hashtable" if setting == "value" else "listpack")


# -- at rest ------------------------------------------------------------------------------------


def pack_all(local: Local) -> None:
    for shard in local.shards:
        for db in shard.databases.values():
            for slot in db.slots:
                for key, value in slot.items():
                    packed = value.pack() if isinstance(value, Set) else None
                    slot[key] = value if packed is None else packed


def test_commands_find_packed_sets(local: Local) -> None:
    sets: dict[Any, str] = {key: f"a b {number}" for number, key in enumerate(SOME_KEYS)}
    for call in (
        *(["SADD", "KEY", "c"], ["SREM", "KEY", "a"], ["SCARD", "KEY"], ["SISMEMBER", "KEY", "b"]),
        *(["SMEMBERS", "KEY"], ["SPOP", "KEY", 9], ["SRANDMEMBER", "KEY", 9], ["SSCAN", "KEY", 0]),
        *(["SINTER", *SOME_KEYS], ["SUNIONSTORE", "d", *SOME_KEYS], ["SMOVE", "KEY", SOME_KEYS[0], "b"]),
    ):
        replies = []
        for at_rest in (False, True):
            local.call("FLUSHALL")
            for key, text in sets.items():
                local.call("SADD", key, *text.split())
            if at_rest:
                pack_all(local)
                assert any(
                    isinstance(value, PackedSet)
                    for shard in local.shards
                    for slot in shard.database(0).slots
                    for value in slot.values()
                )
            reply = local.call(*(SOME_KEYS[5] if word == "KEY" else word for word in call))
            replies.append((reply, {key: members(local, key) for key in [*SOME_KEYS, "d"]}))
        assert replies[0] == replies[1], call


# -- intersections, unions, differences -----------------------------------------------------------


def test_the_documented_example(local: Local) -> None:
    make(local, key1="a b c d", key2="c", key3="a c e")
    assert local.call("SINTER", "key1", "key2", "key3") == words("c")
    assert local.call("SUNION", "key1", "key2", "key3") == words("a b c d e")
    assert local.call("SDIFF", "key1", "key2", "key3") == words("b d")
    assert local.call("SINTERSTORE", "key", "key1", "key2", "key3") == 1
    assert members(local, "key") == words("c")
    assert local.call("SUNIONSTORE", "key", "key1", "key2", "key3") == 5
    assert members(local, "key") == words("a b c d e")
    assert local.call("SDIFFSTORE", "key", "key1", "key2", "key3") == 2
    assert members(local, "key") == words("b d")
    content = local.content()
    assert local.replayed().content() == content


def test_algebra_with_what_is_not_there(local: Local) -> None:
    make(local, s="a b", t="b c")
    assert local.call("SINTER", "s", "none", "t") == set()
    assert local.call("SUNION", "none", "s", "nothing") == words("a b")
    assert local.call("SDIFF", "none", "s") == set()
    assert local.call("SDIFF", "s", "none", "t") == words("a")
    assert local.call("SINTER", "s") == local.call("SUNION", "s") == local.call("SDIFF", "s") == words("a b")
    assert local.call("SINTER", "s", "s") == words("a b")
    assert local.call("SDIFF", "s", "s") == set()


def test_algebra_is_python_s(local: Local) -> None:
    sets = {key: {b"%d" % (number * step) for number in range(400)} for step, key in enumerate(SOME_KEYS, 1)}
    for key, its_members in sets.items():
        local.call("SADD", key, *its_members)
    for first in range(4):
        keys = SOME_KEYS[first : 3 * first + 1]
        own = [sets[key] for key in keys]
        expected = {
            "SINTER": set.intersection(*own),
            "SUNION": set.union(*own),
            "SDIFF": set.difference(*own),
        }
        for name, its_members in expected.items():
            assert local.call(name, *keys) == its_members
            for destination in ("new", keys[-1]):
                assert local.call(name + "STORE", destination, *keys) == len(its_members)
                assert members(local, destination) == its_members
                local.call("DEL", keys[-1])
                local.call("SADD", keys[-1], *own[-1])
    content = local.content()
    assert local.replayed().content() == content


def test_a_destination_is_replaced_whatever_it_was(local: Local) -> None:
    make(local, s="a")
    for destination in SOME_KEYS:
        local.call("SET", destination, "text")
        assert local.call("SUNIONSTORE", destination, "s", "none") == 1
        assert members(local, destination) == {b"a"}
        local.call("SET", destination, "text")
        assert local.call("SINTERSTORE", destination, "s", "none") == 0
        assert local.call("EXISTS", destination) == 0
    content = local.content()
    assert local.replayed().content() == content


def test_storing_is_told(local: Local) -> None:
    make(local, s="a")
    for destination in SOME_KEYS:
        heard = [
            events_of(local, "SINTERSTORE", destination, "s", "s"),
            events_of(local, "SDIFFSTORE", destination, "s", "none"),
            events_of(local, "SUNIONSTORE", destination, "none", "nothing"),
            events_of(local, "SUNIONSTORE", destination, "none", "nothing"),
        ]
        assert heard == [
            [(destination, "sinterstore")],
            [(destination, "sdiffstore")],
            [(destination, "del")],
            [],
        ]


def test_storing_nothing_in_nothing_is_not_logged(local: Local) -> None:
    for destination in SOME_KEYS:
        assert local.call("SINTERSTORE", destination, "none", "nothing") == 0
    assert local.logged() == []


def test_counting_the_intersection(local: Local) -> None:
    for key in SOME_KEYS:
        local.call("SADD", key, "a", "b", "c", key)
    assert local.call("SINTERCARD", 1, "none") == 0
    assert local.call("SINTERCARD", 12, *SOME_KEYS) == 3
    assert local.call("SINTERCARD", 13, *SOME_KEYS, "none") == 0
    for limit, count in ((0, 3), (1, 1), (3, 3), (10, 3), (2**63 - 1, 3)):
        assert local.call("SINTERCARD", 12, *SOME_KEYS, "limit", limit) == count
    assert local.call("SINTERCARD", 1, SOME_KEYS[0], "LIMIT", 1, "LIMIT", 2) == 2


def test_errors_of_counting(local: Local) -> None:
    for number in (0, -1, "x", 2**64):
        assert local.error("SINTERCARD", number, "s", "t") == "ERR numkeys should be greater than 0"
    assert local.error("SINTERCARD", 3, "s", "t") == "ERR Number of keys can't be greater than number of args"
    for options in ("LIMIT", "FOO 1", "u", "LIMIT 1 FOO"):
        assert local.error("SINTERCARD", 2, "s", "t", *options.split()) == SYNTAX
    for limit in (-1, "x"):
        assert local.error("SINTERCARD", 2, "s", "t", "LIMIT", limit) == "ERR LIMIT can't be negative"


# -- large sets ---------------------------------------------------------------------------------


def test_a_large_set_goes_through_everything(local: Local) -> None:
    everything = [b"member:%d" % number for number in range(5000)]
    assert local.call("SADD", "s", *everything) == 5000
    assert local.call("COPY", "s", "t") == 1
    assert local.call("SREM", "s", *everything[:2500]) == 2500
    assert local.call("SADD", "t", "more") == 1
    assert members(local, "s") == set(everything[2500:])
    assert members(local, "t") == {*everything, b"more"}
    assert local.call("SINTERSTORE", "u", "s", "t") == 2500
    assert local.call("SDIFFSTORE", "v", "t", "s") == 2501
    assert local.call("SINTERCARD", 2, "u", "v") == 0
    replayed = local.replayed()
    for key in ("s", "t", "u", "v"):
        assert members(replayed, key) == members(local, key)
