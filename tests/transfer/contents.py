"""What servers hold, asked by commands: to fill one, and to compare several."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import chain
from typing import Any

import hiredis

from tests.twin.servers import NOTHING_YET

LATER_MS = 4_102_444_800_000
"""The year 2100."""

LIBRARY = b"#!lua name=lib\nredis.register_function('f', function(keys, args) return args[1] end)\n"

Words = tuple[Any, ...]


class Client:
    """A connection that sends many requests at once."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._reader = hiredis.Reader(notEnoughData=NOTHING_YET)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def try_to(self, requests: list[Words]) -> list[Any]:
        """The replies, some of which may be a hiredis.ReplyError."""
        found: list[Any] = []
        for start in range(0, len(requests), 200):
            some = requests[start : start + 200]
            self._socket.sendall(b"".join(map(hiredis.pack_command, some)))
            for _ in some:
                while (reply := self._reader.gets()) is NOTHING_YET:
                    self._reader.feed(self._socket.recv(1 << 18))
                found.append(reply)
        return found

    def ask(self, requests: list[Words]) -> list[Any]:
        """The replies, none of which may be an error."""
        replies = self.try_to(requests)
        for request, reply in zip(requests, replies, strict=True):
            assert not isinstance(reply, hiredis.ReplyError), (request, reply)
        return replies


def strings() -> Iterator[Words]:
    for number in (
        0,
        1,
        -1,
        127,
        128,
        -128,
        -129,
        32767,
        32768,
        -32769,
        2**31 - 1,
        2**31,
        -(2**31),
        2**63 - 1,
    ):
        yield "SET", f"int:{number}", number
    for length in (0, 1, 20, 21, 44, 45, 63, 64, 65, 16383, 16384, 100_000):
        yield "SET", f"blank:{length}", b" " * length
        yield "SET", f"text:{length}", bytes((7 * place + place // 256) % 256 for place in range(length))
    yield "SET", b"\x00\xffkey\r\n", "binary"
    yield "SET", b"k" * 70, "long key"
    yield "SET", "", "no key"


def collections() -> Iterator[Words]:
    for size in (1, 2, 127, 128, 129, 511, 512, 513, 1200):
        numbers, texts = list(range(-5, size - 5)), [f"member:{number}" for number in range(size)]
        yield "RPUSH", f"list:{size}", *numbers
        yield "RPUSH", f"list of texts:{size}", *(text * 3 for text in texts)
        yield "SADD", f"ints:{size}", *numbers
        yield "SADD", f"larger ints:{size}", *(number * 100_000 for number in numbers)
        yield "SADD", f"largest ints:{size}", *(number * 2**50 for number in numbers)
        yield "SADD", f"set:{size}", *texts
        yield "HSET", f"hash:{size}", *chain.from_iterable(zip(texts, numbers, strict=True))
        pairs = ((number / 7, text) for number, text in zip(numbers, texts, strict=True))
        yield "ZADD", f"zset:{size}", *chain.from_iterable(pairs)
    for length in (63, 64, 65, 4095, 4096, 9000, 70_000):
        large = bytes((place * place) % 251 for place in range(length))
        yield "RPUSH", f"large list:{length}", "a", large, "b"
        yield "SADD", f"large set:{length}", "a", large
        yield "HSET", f"large hash:{length}", "a", large, large, "b"
        yield "ZADD", f"large zset:{length}", "inf", large, "-inf", "b", "1e300", "c", "-0.1", "d"


def streams() -> Iterator[Words]:
    for size in (1, 99, 100, 101, 300):
        key = f"stream:{size}"
        for number in range(1, size + 1):
            fields = ("name", number, "text", "x" * (number % 50)) if number % 9 else ("other", number)
            yield "XADD", key, f"{number // 4 + 1}-{number}", *fields
        yield "XDEL", key, *(f"{number // 4 + 1}-{number}" for number in range(3, size, 7)), "9999-1"
        yield "XGROUP", "CREATE", key, "group", "0"
        yield "XGROUP", "CREATE", key, "idle", "$"
        yield "XGROUP", "CREATECONSUMER", key, "idle", "nobody"
        for consumer in ("one", "two"):
            yield "XGROUP", "CREATECONSUMER", key, "group", consumer
            yield "XREADGROUP", "GROUP", "group", consumer, "COUNT", 40, "STREAMS", key, ">"
        yield "XACK", key, "group", "1-1", "2-5"
    yield "XADD", "emptied", "5-5", "a", "b"
    yield "XDEL", "emptied", "5-5"


def fill(client: Client, *, field_deadlines: bool, functions: bool = True) -> None:
    """Fills an empty server: all types, sizes around the thresholds of encodings, several databases,
    deadlines of keys and of fields, streams with groups, functions."""
    for db in (0, 3, 15):
        client.ask([("SELECT", db)])
        client.ask([*strings(), *collections()] if db != 3 else [("SET", "only", "in 3")])
        if db == 0:
            client.ask(list(streams()))
            kept = ("text:45", "list:129", "ints:1", "set:129", "hash:513", "zset:2", "stream:100")
            client.ask([("PEXPIREAT", key, LATER_MS + number) for number, key in enumerate(kept)])
        if db == 0 and field_deadlines:
            for size in (1, 2, 128, 511, 512, 513):
                pairs = [("HSET", f"fields:{size}", *(f"f{n}" for n in range(2 * size)))]
                times = [
                    ("HPEXPIREAT", f"fields:{size}", LATER_MS + n * 999, "FIELDS", 1, f"f{2 * n}")
                    for n in range(0, size, 2)
                ]
                client.ask([*pairs, *times])
    if functions:
        client.ask([("FUNCTION", "LOAD", LIBRARY)])
    client.ask([("SELECT", 0)])


READS = {
    b"string": ("GET",),
    b"list": ("LRANGE", 0, -1),
    b"set": ("SMEMBERS",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"hash": ("HGETALL",),
    b"stream": ("XRANGE", "-", "+"),
}

Contents = dict[tuple[int, bytes], Any]


def contents(client: Client) -> Contents:
    """What a server holds: by database and key, the type, the value in an order of its own, the deadline, and
    what else there is."""
    while b"loading:1" in client.ask([("INFO", "persistence")])[0]:
        pass
    found: Contents = {}
    for db in range(16):
        client.ask([("SELECT", db)])
        [keys] = client.ask([("KEYS", "*")])
        kinds = client.ask([("TYPE", key) for key in keys])
        kinds = [kind.encode() if isinstance(kind, str) else kind for kind in kinds]
        reads = [(READS[k][0], key, *READS[k][1:]) for k, key in zip(kinds, keys, strict=True)]
        values = client.ask(reads)
        deadlines = client.ask([("PEXPIRETIME", key) for key in keys])
        for key, kind, value, deadline in zip(keys, kinds, values, deadlines, strict=True):
            found[db, key] = (kind, _in_order(kind, value), deadline, _more(client, key, kind, value))
    client.ask([("SELECT", 0)])
    return found


def _in_order(kind: bytes, value: Any) -> Any:
    if kind == b"set":
        return sorted(value)
    if kind == b"zset":
        # Redis 7.0 spells numbers in its own way.
        return list(zip(value[::2], map(float, value[1::2]), strict=True))
    return dict(zip(value[::2], value[1::2], strict=True)) if kind == b"hash" else value


def _more(client: Client, key: bytes, kind: bytes, value: Any) -> Any:
    if kind == b"hash":
        fields = sorted(value[::2])
        [times] = client.try_to([("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)])
        return [-1] * len(fields) if isinstance(times, hiredis.ReplyError) else times
    if kind == b"stream":
        [told] = client.ask([("XINFO", "STREAM", key, "FULL", "COUNT", 0)])
        return _without_layout(told)
    return None


def _without_layout(reply: Any) -> Any:
    """Without how a stream lies in memory, what old servers do not know, and what each reckons in its own
    way."""
    return _without(reply, b"radix-tree-keys", b"radix-tree-nodes", b"active-time", b"lag")


def _without(reply: Any, *names: bytes) -> Any:
    """A reply without the fields of some names, however deep they stand in lists."""
    if isinstance(reply, dict):
        return {key: _without(value, *names) for key, value in reply.items()}
    if not isinstance(reply, list | tuple):
        return reply
    found = [_without(part, *names) for part in reply]
    for name in names:
        if name in found:
            place = found.index(name)
            del found[place : place + 2]
    return found


def difference(one: Contents, other: Contents, *unknown: bytes) -> list[Any]:
    """Some of what is in one and not the same in the other, but for what XINFO says under some names."""
    one, other = (_without(found, *unknown) for found in (one, other))
    keys = [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
    return [(key, str(_first_of(one.get(key), other.get(key)))) for key in sorted(keys)[:3]]


def _first_of(one: Any, other: Any) -> Any:
    """The first places where two values differ."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [
            (place, _first_of(a, b)) for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b
        ][:3]
    return one, other
