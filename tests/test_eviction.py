"""Evicting keys within a shard's share of memory; what is refused when there is nothing to evict."""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict

import pytest

from shardkv import wire
from shardkv.command import COMMANDS
from shardkv.eviction import Eviction, _size
from shardkv.shard import Shard
from shardkv.slots import slot_of
from tests.local import Local

OOM = "OOM command not allowed when used memory > 'maxmemory'."


def limited(policy: str, *, shards: int = 1, **settings: int) -> Local:
    """Shards with a limit that is still far away, of which only what their keys take counts."""
    local = Local(shards)
    local.config.maxmemory = 1 << 40
    local.config.workers = 1 << 40
    local.config.maxmemory_policy = policy
    local.config.maxmemory_eviction_tenacity = 100
    for name, value in settings.items():
        setattr(local.config, name, value)
    for shard in local.shards:
        shard.follow_policy()
        shard.limit_memory(Eviction(shard, measure=lambda shard=shard: counted(shard)))  # type: ignore[misc]
    return local


def counted(shard: Shard) -> int:
    return sum(
        _size(db, key, slot[key]) for db in shard.databases.values() for slot in db.slots for key in slot
    )


def eviction_of(shard: Shard) -> Eviction:
    assert isinstance(shard.memory, Eviction)
    return shard.memory


def limit(local: Local, part: float) -> None:
    """Lets the shards use no more than a part of what they use now; a negative one leaves room for
    nothing."""
    for shard in local.shards:
        eviction_of(shard).measure()
        eviction_of(shard).share(int(counted(shard) * part) if part >= 0 else -1)


def keys_of(local: Local) -> int:
    return sum(len(db) for shard in local.shards for db in shard.databases.values())


def there(local: Local, prefix: str, count: int) -> int:
    """How many of so many keys are there; does not count as use."""
    return sum(
        local.database_of(b"%b%d" % (prefix.encode(), i)).peek(b"%b%d" % (prefix.encode(), i)) is not None
        for i in range(count)
    )


# -- which keys go --------------------------------------------------------------------------------


def test_the_least_recently_used_go() -> None:
    local = limited("allkeys-lru")
    for number in range(1000):
        local.call("SET", f"old{number}", "x" * 10)
    local.advance(10_000)
    for number in range(1000):
        local.call("SET", f"new{number}", "x" * 10)
    local.advance(10_000)
    for number in range(500):
        local.call("GET", f"old{number}")
    limit(local, 0.5)
    local.call("SET", "one", "more")
    # A tenth of those that are looked at go at a time, so that the order is not exact.
    assert there(local, "old", 500) >= 490
    assert there(local, "old", 1000) - there(local, "old", 500) <= 50
    assert 980 <= keys_of(local) <= 1020


def test_hits_come_near_those_of_the_exact_order() -> None:
    rng = random.Random(1)
    weights = list(itertools.accumulate(1 / (number + 1) for number in range(4000)))
    drawn = rng.choices(range(4000), cum_weights=weights, k=20_000)
    exact: OrderedDict[int, None] = OrderedDict()
    exact_hits = 0
    for number in drawn:
        exact_hits += number in exact
        exact[number] = None
        exact.move_to_end(number)
        if len(exact) > 500:
            exact.popitem(last=False)
    local = limited("allkeys-lru")
    shard = local.shards[0]
    eviction = eviction_of(shard)
    eviction._measure = lambda: len(shard.database(0)) * 160
    eviction.share(500 * 160)
    for number in drawn:
        local.advance(1)
        if local.call("GET", f"key{number:06}") is None:
            local.call("SET", f"key{number:06}", "x")
    assert 480 <= keys_of(local) <= 520
    assert shard.hits / len(drawn) == pytest.approx(exact_hits / len(drawn), abs=0.03)


def test_the_least_frequently_used_go() -> None:
    local = limited("allkeys-lfu", lfu_log_factor=0)
    for number in range(2000):
        local.call("SET", f"key{number}", "x" * 10)
    for _ in range(10):
        for number in range(1000):
            local.call("GET", f"key{number}")
    local.advance(10_000)
    for number in range(1000, 2000):
        local.call("GET", f"key{number}")
    limit(local, 0.5)
    local.call("SET", "one", "more")
    assert there(local, "key", 1000) >= 950


def test_those_with_the_nearest_deadline_go_first() -> None:
    local = limited("volatile-ttl")
    numbers = list(range(1000))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        local.call("SET", f"key{number}", "x", "EX", 1000 + 100 * number)
        local.call("SET", f"stays{number}", "x")
    limit(local, 0.75)
    local.call("SET", "one", "more")
    left = [number for number in range(1000) if local.call("EXISTS", f"key{number}")]
    assert there(local, "stays", 1000) == 1000
    assert 480 <= len(left) <= 520
    assert min(left) >= 470


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_keys_without_a_deadline_stay(policy: str) -> None:
    local = limited(policy)
    for number in range(200):
        local.call("SET", f"stays{number}", "x")
    for number in range(1000):
        local.call("SET", f"goes{number}", "x", "EX", 1000)
    limit(local, 0.25)
    local.call("SET", "goes0", "x", "EX", 1000)
    assert there(local, "stays", 200) == 200
    assert 80 <= there(local, "goes", 1000) <= 120
    share_bytes = eviction_of(local.shards[0]).share_bytes
    number = 200
    while there(local, "goes", 1000) or eviction_of(local.shards[0]).used_bytes <= share_bytes:
        local.call("SET", f"stays{number}", "x")
        eviction_of(local.shards[0]).measure()
        number += 1
    assert local.error("SET", "another", "x") == OOM
    assert 280 <= there(local, "stays", 1000) <= 320


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_all_databases_are_evicted_from(policy: str) -> None:
    local = limited(policy)
    for db in (0, 3):
        local.db = db
        for number in range(1000):
            local.call("SET", f"key{number}", "x")
    limit(local, 0.5)
    local.call("SET", "one", "more")
    sizes = [len(local.shards[0].database(db)) for db in (0, 3)]
    assert 980 <= sum(sizes) <= 1020
    assert min(sizes) > 300


def test_a_slot_with_most_keys_is_evicted_from_bit_by_bit() -> None:
    local = limited("allkeys-lru")
    for number in range(5000):
        local.call("SET", f"{{tag}}{number}", "x")
    local.advance(1000)
    for number in range(4000, 5000):
        local.call("GET", f"{{tag}}{number}")
    limit(local, 0.4)
    local.call("SET", "one", "more")
    assert 1960 <= keys_of(local) <= 2040
    used = sum(local.call("EXISTS", f"{{tag}}{number}") for number in range(4000, 5000))
    assert used >= 850


def test_locked_keys_stay() -> None:
    local = limited("allkeys-random")
    for number in range(100):
        local.call("SET", f"key{number}", "x")
    shard = local.shards[0]
    locked = [(0, b"key%d" % number) for number in range(50)]
    shard.locks.lock((0, 1), locked, whole=False, exclusive=True)
    limit(local, 0)
    assert not eviction_of(shard).make_room()
    assert there(local, "key", 50) == there(local, "key", 100) == 50


def test_an_empty_shard_has_nothing_to_evict() -> None:
    local = limited("allkeys-lru")
    limit(local, -1)
    assert local.error("SET", "key", "x") == OOM


# -- what is told of it -----------------------------------------------------------------------------


def test_what_is_evicted_is_logged_and_told() -> None:
    local = limited("allkeys-lru")
    events: list[tuple[bytes, str]] = []
    local.shards[0].observers.append(lambda db, key, event: events.append((key, event)))
    for number in range(500):
        local.call("SET", f"key{number}", "x")
    limit(local, 1)
    for number in range(500, 1000):
        local.call("SET", f"key{number}", "x")
    evicted = [key for key, event in events if event == "evicted"]
    assert len(evicted) == local.shards[0].evicted_keys
    assert 480 <= len(evicted) <= 520
    assert local.replayed().content() == local.content()


def test_a_watched_key_that_is_evicted_is_touched() -> None:
    local = limited("allkeys-random")
    local.call("SET", "key", "x")
    shard = local.shards[0]
    shard.watches.watch((0, 1), shard.database(0), [b"key"])
    limit(local, 0)
    eviction_of(shard).make_room()
    assert shard.watches.is_touched((0, 1))


# -- what is refused --------------------------------------------------------------------------------


def test_what_needs_no_memory_goes_on() -> None:
    local = limited("noeviction")
    local.call("SET", "key", "x")
    local.call("RPUSH", "list", "x", "y")
    limit(local, 0.5)
    assert local.error("SET", "other", "x") == OOM
    assert local.error("RPUSH", "list", "z") == OOM
    assert local.call("GET", "key") == b"x"
    assert local.call("LPOP", "list") == b"x"
    assert local.call("EXPIRE", "key", 10) == 1
    assert local.call("DEL", "key") == 1
    assert local.logged()


@pytest.mark.parametrize(
    ("script", "fails"),
    [
        ("return redis.call('SET', KEYS[1], 1)", True),
        ("return redis.call('GET', KEYS[1])", False),
        ("redis.call('DEL', KEYS[1]) return redis.call('SET', KEYS[1], 1)", False),
        ("#!lua\nreturn 1", True),
        ("#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], 1)", False),
        ("#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])", False),
    ],
)
@pytest.mark.parametrize("shards", [1, 2])
def test_scripts(script: str, fails: bool, shards: int) -> None:
    local = limited("noeviction", shards=shards)
    limit(local, -1)
    reply = local.resp("EVAL", script, 1, "key")
    assert reply.startswith(b"-" + OOM.encode()) == fails, reply
    assert fails or not reply.startswith(b"-")


def test_several_shards_take_all_or_nothing() -> None:
    local = limited("noeviction", shards=2)
    keys = [next(f"{name}{n}" for n in range(100) if slot_of(f"{name}{n}".encode()) < 8192) for name in "ab"]
    other = next(f"c{n}" for n in range(100) if slot_of(b"c%d" % n) >= 8192)
    eviction_of(local.shards[1]).share(-1)
    assert local.error("MSET", keys[0], "x", other, "x") == OOM
    assert local.content() == {}
    local.call("MSET", keys[0], "x", keys[1], "x")
    assert len(local.content()) == 2


def test_a_transaction_is_refused_as_a_whole_and_nothing_vanishes_in_its_midst() -> None:
    local = limited("allkeys-random")
    for number in range(100):
        local.call("SET", f"key{number}", "x")
    limit(local, 0.5)
    shard = local.shards[0]
    context = wire.pack_context(0, 2)
    requests = [
        [wire.pack_code(context, COMMANDS["set"].id, slot_of(b"mine%d" % number)), b"mine%d" % number, b"x"]
        for number in range(200)
    ] + [[wire.pack_code(context, COMMANDS["dbsize"].id, 0)]]
    before = shard.evicted_keys
    [reply] = shard.run([[wire.pack_code(context, COMMANDS["execute"].id, 0), None, requests]])
    assert reply is not None
    assert there(local, "mine", 200) == 200
    assert 48 <= shard.evicted_keys - before <= 54
    shard.config.maxmemory_policy = "noeviction"
    eviction_of(shard).settings_changed({"maxmemory-policy": "noeviction"})
    eviction_of(shard).share(-1)
    again = [[wire.pack_code(context, COMMANDS["set"].id, slot_of(b"new")), b"new", b"x"]]
    [reply] = shard.run([[wire.pack_code(context, COMMANDS["execute"].id, 0), None, again]])
    assert reply == b"-EXECABORT Transaction discarded because of: " + OOM.encode() + b"\r\n"


# -- what is kept of the use of keys -----------------------------------------------------------------


def test_frequencies_grow_ever_more_slowly_and_decay() -> None:
    local = Local(1, maxmemory_policy="allkeys-lfu")
    local.call("SET", "key", "x")
    assert local.call("OBJECT", "FREQ", "key") == 5
    local.call("GET", "key")
    assert local.call("OBJECT", "FREQ", "key") == 6
    for _ in range(1000):
        local.call("GET", "key")
    # About one more when it has been 10, 20, 30 … accesses at the number before.
    assert 12 <= local.call("OBJECT", "FREQ", "key") <= 27
    found = local.call("OBJECT", "FREQ", "key")
    local.advance(3 * 60_000)
    assert local.call("OBJECT", "FREQ", "key") == found - 3
    assert local.error("OBJECT", "IDLETIME", "key").startswith("ERR An LFU maxmemory policy is selected")
    local.call("RESTORE", "copy", 0, local.call("DUMP", "key"), "FREQ", 77)
    assert local.call("OBJECT", "FREQ", "copy") == 77


def test_the_time_of_use_is_each_key_s_own() -> None:
    local = Local(1, maxmemory_policy="volatile-lru")
    local.call("SET", "{t}a", "x")
    local.call("SET", "{t}b", "x")
    local.advance(5000)
    local.call("GET", "{t}b")
    assert local.call("OBJECT", "IDLETIME", "{t}a") == 5
    assert local.call("OBJECT", "IDLETIME", "{t}b") == 0
    context = wire.pack_context(0, 2, no_touch=True)
    local.shards[0].run([[wire.pack_code(context, COMMANDS["get"].id, slot_of(b"{t}a")), b"{t}a"]])
    assert local.call("OBJECT", "IDLETIME", "{t}a") == 5


def test_marks_go_with_their_keys() -> None:
    local = Local(1, maxmemory_policy="allkeys-lfu")
    shard = local.shards[0]
    for number in range(100):
        local.call("SET", f"key{number}", "x")
        local.call("RENAME", f"key{number}", f"other{number}")
    for number in range(50):
        local.call("DEL", f"other{number}")
    db = shard.database(0)
    assert sum(map(len, db.marks)) == 50
    local.call("FLUSHALL")
    assert sum(map(len, db.marks)) == 0


def test_the_policy_changes_while_running() -> None:
    local = Local(1)
    local.call("SET", "key", "x")
    db = local.database_of(b"key")
    assert not db.marks
    for policy, name in (("allkeys-lfu", "FREQ"), ("allkeys-lru", "IDLETIME"), ("noeviction", "IDLETIME")):
        local.config.maxmemory_policy = policy
        local.shards[0].follow_policy()
        assert isinstance(local.call("OBJECT", name, "key"), int)
        assert local.call("GET", "key") == b"x"
    assert not db.marks
