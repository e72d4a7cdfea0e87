"""Keyspace notifications, beside real servers: what each command tells of which keys, in which order."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shardkv import clock
from shardkv.channels import PATTERN, Message
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.setting_kinds import EventClasses
from tests.local import Local
from tests.twin.servers import Server, redis_7
from tests.wire import Connection

PATTERNS = b"__key*"

STRINGS = """
SET s 1 | SET s 2 | SET s 3 EX 100 | SET s 3 KEEPTTL | SET s 4 PX 100000 GET | SET s 5 NX | SET s 5 XX
SET n 1 NX | SETNX s 1 | SETNX t 1 | SETEX s 10 v | PSETEX s 10000 v | GETSET s w | GETSET t2 w | GETDEL t2
GETDEL nosuch | GETEX s | GETEX s PERSIST | GETEX s EX 100 | GETEX s PXAT 99999999999999 | GETEX s PERSIST
GETEX s PERSIST | GETEX s EXAT 1 | APPEND s abc | APPEND s "" | APPEND fresh x | APPEND empty ""
SETRANGE s 1 xyz | SETRANGE s 1 "" | SETRANGE fresh2 3 x | SETRANGE fresh3 0 "" | INCR c | INCR c | DECR c
INCRBY c 5 | DECRBY c 2 | INCRBYFLOAT c 1.5 | INCRBY c x | INCRBYFLOAT f 2 | INCR s | MSET a 1 b 2 a 3
MSETNX a 1 q 1 | MSETNX q 1 r 2 | GET s | GET nosuch | MGET a nosuch b | STRLEN s | GETRANGE s 0 1
SETBIT bits 7 1 | SETBIT bits 7 1 | BITOP AND dest bits a | BITOP NOT dest nosuch
BITOP OR dest nosuch nosuch | BITFIELD bits SET u8 0 5 INCRBY u8 0 1 | BITFIELD bits GET u8 0
BITFIELD bf2 SET u8 0 1 | BITFIELD_RO bits GET u8 0 | BITFIELD bits OVERFLOW FAIL INCRBY u8 0 255
BITCOUNT bits | BITPOS bits 1 | PFADD hll a b | PFADD hll a | PFADD hll2 | PFADD hll2
PFMERGE hll3 hll hll2 | PFMERGE hll3 | PFCOUNT hll hll2 | LCS a b | GETEX nosuch EX 10
"""

GENERIC = """
SET s 1 | SET t 2 | SADD set a | DEL s nosuch t | DEL nosuch | SET s 1 | UNLINK s | UNLINK s | SET s 1
EXISTS s nosuch | EXPIRE s 100 | EXPIRE s 100 NX | EXPIRE s 50 GT | PEXPIRE s 100000
EXPIREAT s 99999999999 | PEXPIREAT s 9999999999999 | EXPIRE nosuch 10 | PERSIST s | PERSIST s
PERSIST nosuch | EXPIRE s -1 | SET s 1 | EXPIREAT s 1 | SET s 1 | RENAME s t | RENAME t t | RENAMENX t s
SET t 1 | RENAMENX s t | RENAMENX s s | RENAME s set | RENAME nosuch x | SET s 1 EX 100 | RENAME s t
MOVE t 3 | MOVE t 3 | SET t 1 | MOVE t 3 | COPY t u | COPY t u | COPY t u REPLACE | COPY t u DB 3
COPY nosuch u REPLACE | TOUCH t nosuch | TYPE t | TTL t | OBJECT ENCODING t | OBJECT ENCODING nosuch
RPUSH l 3 1 2 | SORT l | SORT l STORE sorted | SORT l STORE sorted | SORT nosuch STORE sorted
SORT nosuch STORE sorted | DUMP t
RESTORE r 0 "\\x00\\x01v\\t\\x00\\xd3\\x04\\xf6\\x8e\\xb8\\xfb\\x8b\\xb7" | RESTORE r 0 x
RESTORE r 0 "\\x00\\x01v\\t\\x00\\xd3\\x04\\xf6\\x8e\\xb8\\xfb\\x8b\\xb7" REPLACE | DUMP r | FLUSHDB
DBSIZE | RANDOMKEY | KEYS * | SET x 1 | FLUSHALL
"""

LISTS = """
LPUSH l a b | RPUSH l c | LPUSHX l d | RPUSHX l e | LPUSHX nosuch a | RPUSHX nosuch a | LINSERT l BEFORE a x
LINSERT l AFTER nosuch x | LINSERT nosuch AFTER a x | LSET l 0 z | LSET nosuch 0 z | LSET l 99 z
LREM l 0 a | LREM l 0 nosuch | LTRIM l 0 -2 | LTRIM l 0 -1 | LTRIM nosuch 0 1 | LPOP l | RPOP l 2
LPOP nosuch | LPOP l 0 | RPUSH l 1 2 3 4 5 6 | LMOVE l m LEFT RIGHT | LMOVE l l LEFT RIGHT
LMOVE nosuch m LEFT LEFT | RPOPLPUSH l m | RPOPLPUSH l l | BLPOP l 1 | BRPOP nosuch l 1
BLMOVE l m LEFT LEFT 1 | BRPOPLPUSH l m 1 | LRANGE l 0 -1 | LLEN l | RPUSH l 1 2 3
LMPOP 2 nosuch l LEFT COUNT 2 | BLMPOP 1 2 nosuch l RIGHT COUNT 99 | RPUSH l 1 | LPOP l | RPUSH l 1
RPOP l 5 | RPUSH l a | LREM l 0 a | RPUSH l a | LTRIM l 5 6 | RPUSH l a | LMOVE l other LEFT RIGHT
RPUSH l a | LMPOP 1 l LEFT | RPUSH l a | LMOVE l l LEFT RIGHT | LPOS l a | LINDEX l 0 | BLPOP l 1
"""

SETS = """
SADD s a b c | SADD s a | SREM s a nosuch | SREM s nosuch | SREM nosuch a | SPOP s | SPOP s 99 | SPOP nosuch
SADD s a | SPOP s | SADD s a | SREM s a | SADD s a b c | SADD t b c d | SMOVE s t a | SMOVE s t nosuch
SMOVE s s b | SMOVE s t b | SMOVE s t c | SADD s x y | SINTERSTORE d s t | SADD t x | SINTERSTORE d s t
SINTERSTORE d s t | SINTERSTORE d s nosuch | SUNIONSTORE d s t | SUNIONSTORE d nosuch | SUNIONSTORE d nosuch
SDIFFSTORE d s t | SDIFFSTORE d s s | SPOP s 0 | SMOVE nosuch t a | SINTER s t nosuch | SUNION s t
SDIFF s nosuch | SINTERCARD 2 s t | SMISMEMBER s a | SCARD nosuch | SMEMBERS nosuch | SRANDMEMBER s
SISMEMBER nosuch a | SADD z a b c d | SPOP z 4
"""

HASHES = """
HSET h a 1 b 2 | HSET h a 1 | HMSET h c 3 | HSETNX h a 1 | HSETNX h d 1 | HINCRBY h n 1
HINCRBYFLOAT h f 1.5 | HDEL h a nosuch | HDEL h nosuch | HDEL nosuch a | HDEL h b c d n f | HINCRBY h n 1
HINCRBYFLOAT g n 1 | HSETNX x a 1 | HGET h n | HGET h nosuch | HGET nosuch a | HGETALL h | HKEYS nosuch
HLEN h | HEXISTS h n | HMGET nosuch a | HRANDFIELD h | HSTRLEN h n | HSCAN nosuch 0
"""

SORTED_SETS = """
ZADD z 1 a 2 b 3 c | ZADD z 1 a | ZADD z 5 a | ZADD z XX 5 nosuch | ZADD z NX 9 a | ZADD z INCR 1 a
ZINCRBY z 2 b | ZADD z CH 5 a 6 c | ZADD z INCR 0 a | ZINCRBY z 0 a | ZINCRBY new 1 a | ZREM z a nosuch
ZREM z nosuch | ZREM nosuch a | ZADD z 1 a 2 b 3 c 4 d 5 e 6 f | ZREMRANGEBYSCORE z 1 1
ZREMRANGEBYSCORE z 99 99 | ZREMRANGEBYRANK z 0 0 | ZREMRANGEBYLEX z - (b | ZREMRANGEBYRANK z 99 100
ZPOPMIN z | ZPOPMAX z | ZPOPMIN nosuch | ZPOPMIN z 0 | ZPOPMAX z 99 | ZADD z 1 a 2 b | BZPOPMIN z 1
BZPOPMAX z 1 | ZADD z 1 a 2 b 3 c | ZMPOP 2 nosuch z MIN | BZMPOP 1 1 z MAX COUNT 99 | ZADD z 1 a | ZREM z a
ZADD z 1 a | ZREMRANGEBYSCORE z - + | ZREMRANGEBYSCORE z 0 9 | ZADD z 1 a 2 b | ZADD y 1 a 3 c
ZUNIONSTORE d 2 z y | ZINTERSTORE d 2 z y | ZINTERSTORE d 2 z nosuch | ZINTERSTORE d 2 z nosuch
ZDIFFSTORE d 2 z y | ZRANGESTORE d z 0 -1 | ZRANGESTORE d z 9 10 | ZRANGESTORE d z 9 10
ZUNIONSTORE d 1 nosuch | ZUNION 2 z nosuch | GEOADD geo 13.361389 38.115556 P 15.087269 37.502669 C
GEOADD geo 13.361389 38.115556 P | GEOSEARCHSTORE d geo FROMLONLAT 15 37 BYRADIUS 200 km
GEOSEARCHSTORE d geo FROMLONLAT 0 0 BYRADIUS 1 km | GEORADIUS geo 15 37 200 km STORE d
GEORADIUS geo 15 37 200 km STOREDIST d | GEORADIUS geo 0 0 1 m STORE d | ZRANGE z 0 -1 | ZSCORE nosuch a
ZCARD nosuch | ZRANK z a | GEOPOS geo P | ZRANDMEMBER nosuch | ZADD z GT 1 a 0 b
"""

STREAMS = """
XADD x 1-1 a 1 | XADD x 2-1 a 1 | XADD x 1-1 a 1 | XADD nosuch NOMKSTREAM * a 1 | XADD x MAXLEN 1 3-1 a 1
XADD x MINID 3 4-1 a 1 | XTRIM x MAXLEN 1 | XTRIM x MAXLEN 1 | XTRIM nosuch MAXLEN 1 | XDEL x 4-1 9-9
XDEL x 9-9 | XADD x 5-1 a 1 | XSETID x 9-9 | XGROUP CREATE x g 0 | XGROUP CREATE x g 0
XGROUP CREATE y g $ MKSTREAM | XGROUP SETID x g 0 | XGROUP CREATECONSUMER x g c
XGROUP CREATECONSUMER x g c | XREADGROUP GROUP g c STREAMS x > | XREADGROUP GROUP g c STREAMS x 0
XACK x g 5-1 | XACK x g 5-1 | XADD x 10-1 a 1 | XREADGROUP GROUP g c STREAMS x > | XCLAIM x g c3 0 10-1
XAUTOCLAIM x g c4 0 0 | XPENDING x g | XREADGROUP GROUP g c NOACK STREAMS x > | XGROUP DELCONSUMER x g c
XGROUP DELCONSUMER x g nosuch | XGROUP DESTROY x g | XGROUP DESTROY x g | XRANGE x - + | XREAD STREAMS x 0
XLEN nosuch | XINFO STREAM x | XADD x * a 1
"""

EXPIRY = """
SET s 1 PX 1 | . | GET s | SET s 1 PX 1 | . | SET s 2 | SET s 1 PX 1 | . | SET s 2 XX | SET s 1 PX 1 | .
APPEND s x | PEXPIRE s 1 | . | DEL s | SADD s a | PEXPIRE s 1 | . | SADD s b | PEXPIRE s 1 | . | RENAME s t
SET s 1 PX 1 | SET t 1 | . | COPY t s | SET s 1 PX 1 | . | RENAME t s | HSET t a 1 | PEXPIRE t 1 | .
HGETALL t | LPUSH t a | PEXPIRE t 1 | . | LMOVE s t LEFT LEFT | EXISTS t | SET s 1 PX 1 | . | MSET s 1 t 1
PEXPIRE s 1 | . | TTL s | SET s 1 PX 1 | . | INCR s
"""

SCRIPTS = """
EVAL "redis.call('set', KEYS[1], 1); redis.call('incr', KEYS[1]); return redis.call('del', KEYS[1])" 1 s
EVAL "redis.call('set', KEYS[1], 1); redis.call('get', KEYS[2])" 2 s nosuch
EVAL "redis.call('set', KEYS[1], 1); return redis.call('incr', KEYS[2])" 2 s t
"""

SINCE_7_0 = """
HSET h a 1 b 2 c 3 | HEXPIRE h 100 FIELDS 1 a | HEXPIRE h 100 NX FIELDS 1 a | HPEXPIRE h 100000 FIELDS 2 a b
HPERSIST h FIELDS 1 a | HPERSIST h FIELDS 1 a | HPERSIST h FIELDS 1 nosuch
HEXPIREAT h 9999999999 FIELDS 1 a | HGETEX h FIELDS 1 a | HGETEX h PERSIST FIELDS 1 a
HGETEX h EX 100 FIELDS 1 a | HGETEX h PERSIST FIELDS 1 a | HSETEX h EX 100 FIELDS 1 d 1
HSETEX h FIELDS 1 d 1 | HSETEX new FIELDS 1 d 1 | HSETEX h FXX FIELDS 1 nosuch 1 | HGETDEL h FIELDS 1 a
HGETDEL h FIELDS 1 nosuch | HTTL h FIELDS 1 b | DELIFEQ nosuch x | SET s 1 | DELIFEQ s 2 | DELIFEQ s 1
SET s 1 | SET s 2 IFEQ 1 | SET s 3 IFEQ 1 | HGETDEL h FIELDS 2 c d | MSETEX 2 a 1 b 2 EX 100
SET gone 1 EXAT 1 | APPEND gone abc | XGROUP CREATE x g 0 MKSTREAM | XREADGROUP GROUP g c STREAMS x >
XREADGROUP GROUP g c STREAMS x > | XADD x 1-1 a 1 | XREADGROUP GROUP g c2 STREAMS x >
"""


def steps(text: str) -> list[list[str]]:
    words = [shlex.split(step) for line in text.splitlines() for step in line.split(" | ")]
    return [[word.encode().decode("unicode_escape") for word in step] for step in words if step]


Event = tuple[bytes, bytes]
"""The channel and the message."""


class Ours:
    """Shards that publish, and somebody who has subscribed to it all."""

    def __init__(self, count: int, classes: str) -> None:
        self.local = Local(count)
        self.local.config.set([(b"notify-keyspace-events", classes.encode())])
        for shard in self.local.shards:
            shard.channels.listen(0, 0, [(PATTERN, PATTERNS, 1)])
            shard.notifications.follow(self.local.config.notify_keyspace_events)
        self.number = 0

    def step(self, words: list[str]) -> list[Event]:
        self.local.set_clock(clock.now_ms())
        self.local.resp(*[word.encode("latin-1") for word in words])
        found: list[Event] = []
        for shard in self.local.shards:
            outboxes, shard.channels.outboxes = shard.channels.outboxes, {}
            for entry in outboxes.get(0, []):
                assert isinstance(entry, tuple)
                found.append(_event(entry))
        return found


def _event(message: Message) -> Event:
    return message[1], message[2]


class Theirs:
    """A real server that publishes, and somebody who has subscribed to it all."""

    def __init__(self, server: Server, classes: str) -> None:
        self.asking = Connection(server.port)
        self.listening = Connection(server.port, 3)
        self.listening.ask("PSUBSCRIBE", PATTERNS)
        self.listening.ask("SUBSCRIBE", "mark")
        self.asking.ask("FLUSHALL")
        assert self.asking.ask("CONFIG", "SET", "notify-keyspace-events", classes) == b"+OK\r\n"

    def step(self, words: list[str]) -> list[Event]:
        self.asking.ask(*[word.encode("latin-1") for word in words])
        self.asking.ask("PUBLISH", "mark", "")
        found: list[Event] = []
        while True:
            lines = self.listening.receive().split(b"\r\n")
            if lines[2] == b"message":
                return found
            found.append((lines[6], lines[8]))

    def close(self) -> None:
        self.asking.ask("CONFIG", "SET", "notify-keyspace-events", "")
        self.asking.socket.close()
        self.listening.socket.close()


@contextmanager
def twins(server: Server, shards: int, classes: str) -> Iterator[tuple[Ours, Theirs]]:
    theirs = Theirs(server, classes)
    try:
        yield Ours(shards, classes), theirs
    finally:
        theirs.close()


@pytest.fixture(scope="module")
def old_twin() -> Iterator[Server]:
    with redis_7(enable_debug_command="local") as server:
        # Only what is looked for expires, at any time.
        assert server.ask("DEBUG", "SET-ACTIVE-EXPIRE", 0) == b"OK"
        yield server


def assert_same_events(server: Server, shards: int, classes: str, text: str, *, ordered: bool = True) -> None:
    with twins(server, shards, classes) as (ours, theirs):
        for words in steps(text):
            if words == ["."]:
                now_ms = clock.now_ms()
                while clock.now_ms() < now_ms + 3:
                    clock.sleep(0.001)
                continue
            expected, found = theirs.step(words), ours.step(words)
            if not ordered:
                expected, found = sorted(expected), sorted(found)
            assert found == expected, words


FAMILIES = {
    "strings": STRINGS,
    "generic": GENERIC,
    "lists": LISTS,
    "sets": SETS,
    "hashes": HASHES,
    "sorted sets": SORTED_SETS,
    "streams": STREAMS,
    "expiry": EXPIRY,
    "scripts": SCRIPTS,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_commands_tell_what_those_of_redis_tell(old_twin: Server, family: str) -> None:
    assert_same_events(old_twin, 1, "KEA", FAMILIES[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_over_several_shards_keys_tell_the_same_in_any_order(old_twin: Server, family: str) -> None:
    assert_same_events(old_twin, 3, "KEAn", FAMILIES[family], ordered=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_new_and_what_is_missed_is_told(old_twin: Server, family: str) -> None:
    # Here a key that is renamed tells that it is new after the old one has told that it is gone.
    assert_same_events(old_twin, 1, "KEnm", FAMILIES[family], ordered="RENAME" not in FAMILIES[family])


def test_newer_commands_tell_what_those_of_valkey_tell(twin_server: Server) -> None:
    assert_same_events(twin_server, 1, "KEAnm", SINCE_7_0)
    assert_same_events(twin_server, 3, "KEA", SINCE_7_0, ordered=False)


@pytest.mark.parametrize(
    "classes", ["K$", "E$", "Kg", "Ex", "Elsz", "KEht", "A", "g", "K", "KE", "Km", "En", "EA"]
)
def test_only_what_is_asked_for_is_told(old_twin: Server, classes: str) -> None:
    text = " | ".join(
        ["SET s 1", "GET nosuch", "LPUSH l 1", "SADD set 1", "DEL s", "HSET h a 1", "ZADD z 1 a"]
    )
    assert_same_events(old_twin, 1, classes, text + " | XADD x * a 1 | SET s 1 PX 1 | . | GET s")


CLASSES = [
    "",
    "KEA",
    "AKE",
    "KEg",
    "KEg$lshzxetdmn",
    "Kn",
    "KEAm",
    "nmKE",
    "K",
    "E$",
    "g",
    "KEAo",
    "Ac",
    "KEg$lshzxetd",
    "AKEn",
]


@pytest.mark.parametrize("classes", CLASSES)
def test_the_setting_reads_as_in_redis(old_twin: Server, classes: str) -> None:
    local = Local()
    with Connection(old_twin.port) as twin:
        reply = twin.ask("CONFIG", "SET", "notify-keyspace-events", classes)
        expected = twin.ask("CONFIG", "GET", "notify-keyspace-events").split(b"\r\n")[4].decode()
        twin.ask("CONFIG", "SET", "notify-keyspace-events", "")
    if reply == b"+OK\r\n":
        local.config.set([(b"notify-keyspace-events", classes.encode())])
        assert local.config.get(b"notify-keyspace-events") == {"notify-keyspace-events": expected}
    else:
        with pytest.raises(CommandError) as refused:
            local.config.set([(b"notify-keyspace-events", classes.encode())])
        assert b"-" + refused.value.text + b"\r\n" == reply


def test_nothing_is_watched_while_nothing_is_asked_for() -> None:
    ours = Ours(1, "KEA")
    [shard] = ours.local.shards
    assert ours.step(["SET", "s", "1"])
    assert shard.observers
    ours.local.config.set([(b"notify-keyspace-events", b"")])
    shard.notifications.follow(ours.local.config.notify_keyspace_events)
    assert not shard.observers
    assert {type(db) for db in shard.databases.values()} == {Database}
    assert not ours.step(["SET", "s", "1"])


def test_a_written_setting_reads_back() -> None:
    kind = EventClasses()
    for text in ("", "KEA", "AKEnm", "gn", "KEg$lshzxetd"):
        value = kind.parse([text], frozenset())
        [line] = kind.lines(value)
        assert kind.parse([line.strip('"')], frozenset()) == value
