"""Scripts and functions, beside a real server of Redis (its texts are ours, those of Valkey are not)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from proxy.commands import connection
from proxy.commands import server as server_commands
from shardkv.commands import scripting
from tests.local import Local
from tests.twin.compare import assert_consistent, parsed
from tests.twin.servers import Server, redis_8
from tests.wire import Connection

assert connection
assert scripting
assert server_commands

SCRIPTS = Path(__file__).with_name("scripts.txt").read_text().rstrip("\n").split("\n---\n")


@pytest.fixture(scope="module")
def real() -> Iterator[Server]:
    with redis_8() as server:
        yield server


@pytest.fixture(scope="module", params=[2, 3], ids=["RESP2", "RESP3"])
def pair(request: pytest.FixtureRequest, real: Server) -> Iterator[tuple[Connection, Local, int]]:
    """A connection to the real server, and a shard of ours, with the same past."""
    with Connection(real.port, request.param) as connection:
        connection.ask("FLUSHALL")
        connection.ask("FUNCTION", "FLUSH")
        yield connection, Local(), request.param


def text(reply: bytes) -> Any:
    value = parsed(reply)
    return str(value) if isinstance(value, hiredis.ReplyError) else value


def assert_alike(pair: tuple[Connection, Local, int], *words: str | bytes | int) -> None:
    connection, local, protocol = pair
    theirs = connection.ask(*words)
    ours = local.resp(*words, protocol=protocol)
    assert repr(text(ours)) == repr(text(theirs)), words


def test_scripts(pair: tuple[Connection, Local, int]) -> None:
    for body in SCRIPTS:
        assert_alike(pair, "EVAL", body, 2, "key", "{key}2", "first", "second")


REQUESTS: list[tuple[str | int, ...]] = [
    ("EVAL", "return 1", "x"),
    ("EVAL", "return 1", -1),
    ("EVAL", "return 1", 2, "a"),
    ("EVAL", "x x", "x"),
    ("EVAL_RO", "return redis.call('set', 'a', 'b')", 0),
    ("EVAL_RO", "return redis.call('get', 'a')", 0),
    ("EVAL_RO", "#!lua\nreturn 1", 0),
    ("EVAL_RO", "#!lua flags=no-writes\nreturn 1", 0),
    ("EVAL", "#!lua\nreturn 1", 0),
    ("EVAL", "#!lua flags=no-writes\nreturn redis.call('set', 'a', 'b')", 0),
    ("EVAL", "#!lua flags=foo\nreturn 1", 0),
    ("EVAL", "#!lua nosuch=1\nreturn 1", 0),
    ("EVAL", "#!python\nreturn 1", 0),
    ("EVAL", "#!\nreturn 1", 0),
    ("EVAL", "#!lua flags=no-writes,allow-oom flags=allow-stale\nreturn 1", 0),
    ("EVAL", "#!lua", 0),
    ("EVAL", "#!lua\n\n x x", 0),
    ("EVALSHA", "x", 0),
    ("EVALSHA", "x", "x"),
    ("EVALSHA", "f" * 40, 0),
    ("EVALSHA", "f" * 40, "x"),
    ("SCRIPT", "LOAD", "x x"),
    ("SCRIPT", "LOAD", "return {KEYS[1], 7}"),
    ("EVALSHA", "5fa2c7ba4bc6f5ae60ac0c7d93bf0ab5bb07b6b7", 1, "k"),
    ("SCRIPT", "EXISTS", "a", "E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"),
    ("SCRIPT", "FLUSH", "x"),
    ("SCRIPT", "FLUSH", "sync"),
    ("SCRIPT", "EXISTS", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"),
    ("SCRIPT", "KILL"),
    ("FUNCTION", "KILL"),
]


def test_requests(pair: tuple[Connection, Local, int]) -> None:
    for words in REQUESTS:
        assert_alike(pair, *words)


FUNCTION = '#!lua name=lib\nredis.register_function("f", function(keys, args) return {keys, args} end)'
CODES = [
    "x",
    "#!lua\n",
    "#!lua name=x",
    "#!lua name=x\n",
    "#!lua name=\nreturn 1",
    "#!lua name=x y\n",
    "#!lua name=x flags=no-writes\n",
    "#!lua name=x-y\nreturn 1",
    "#!foo name=x\nreturn 1",
    "#!lua name=x name=y\nreturn 1",
    FUNCTION,
    FUNCTION,
    FUNCTION.replace("lib", "other"),
    *(
        f"#!lua name=z\n{code}"
        for code in [
            *("return 1", "x x", "error('x')", "return foo", "foo = 1", "redis.x = 1", "return redis.call"),
            *("while true do end", "local t = {} t.x.y = 1", "redis.register_function()"),
            *("redis.register_function(1)", "redis.register_function('a', 'b', 'c')"),
            *("redis.register_function('h', 1)", "redis.register_function({}, function() end)"),
            *(
                "redis.register_function('g-h', function() end)",
                "redis.register_function('', function() end)",
            ),
            *("redis.register_function{}", "redis.register_function{function_name='h'}"),
            "redis.register_function{callback=function() end}",
            "redis.register_function{function_name='h', callback=1}",
            "redis.register_function{function_name={}, callback=function() end}",
            "redis.register_function{function_name='h', callback=function() end, foo=1}",
            "redis.register_function{function_name='h', callback=function() end, flags='x'}",
            "redis.register_function{function_name='h', callback=function() end, flags={'x'}}",
            "redis.register_function{function_name='h', callback=function() end, flags={1}}",
            "redis.register_function{function_name='h', callback=function() end, description={}}",
            "redis.register_function('h', function() end) redis.register_function('h', function() end)",
        ]
    ),
]
LIBRARY = """#!Lua NAME=all
local function set() return redis.call('set', 'a', 'b') end
redis.register_function('w1', set)
redis.register_function('w2', function() return foo end)
redis.register_function('w3', function() foo = 1 end)
redis.register_function('w4', function() error('x') end)
redis.register_function('w5', function() return redis.call('nosuch') end)
redis.register_function('w6', function() return redis.register_function('z', set) end)
redis.register_function('w7', function() return KEYS end)
redis.register_function{function_name='r1', callback=set, flags={'no-writes'}, description='reads'}
redis.register_function{function_name='r2', flags={'no-writes', 'allow-stale'},
    callback=function(keys, args) return {redis.call('get', 'a'), keys[1], args[1]} end}
"""
CALLS: list[tuple[str | int, ...]] = [
    *(("FCALL", f"w{number}", 0) for number in range(1, 8)),
    *(("FCALL_RO", name, 0) for name in ("w1", "r1", "r2", "R2")),
    ("FCALL", "r2", 1, "k", "a"),
    ("FCALL", "nosuch", 0),
    ("FCALL", "f", "x"),
    ("FCALL", "f", -1),
    ("FCALL", "f", 2, "a"),
    ("FCALL", "f", 1, "a", "b"),
    ("EVAL", "return redis.call('fcall', 'f', 0)", 0),
    ("FUNCTION", "STATS"),
    ("FUNCTION", "LIST", "LIBRARYNAME", "L*b"),
    ("FUNCTION", "LIST", "libraryname", "lib", "withcode"),
    ("FUNCTION", "LIST", "LIBRARYNAME"),
    ("FUNCTION", "LIST", "x"),
    ("FUNCTION", "LIST", "WITHCODE", "WITHCODE"),
    ("FUNCTION", "LOAD", "a", "b"),
    ("FUNCTION", "LOAD", "REPLACE", "REPLACE", "b"),
    ("FUNCTION", "LOAD", "REPLACE", FUNCTION),
    ("FUNCTION", "DELETE", "LIB"),
    ("FUNCTION", "DELETE", "lib"),
    ("FUNCTION", "RESTORE", "x"),
    ("FUNCTION", "RESTORE", "x", "FOO"),
    ("FUNCTION", "FLUSH", "x"),
    ("FUNCTION", "FLUSH", "ASYNC"),
    ("FUNCTION", "LIST"),
]


def test_functions(pair: tuple[Connection, Local, int]) -> None:
    for code in CODES:
        assert_alike(pair, "FUNCTION", "LOAD", code)
    assert_alike(pair, "FUNCTION", "LOAD", LIBRARY)
    for words in CALLS:
        assert_alike(pair, *words)
    assert_consistent(pair[1])


def test_libraries_travel_both_ways(pair: tuple[Connection, Local, int]) -> None:
    connection, local, _ = pair
    for code in (LIBRARY, FUNCTION):
        local.call("FUNCTION", "LOAD", code)
    payload = local.call("FUNCTION", "DUMP")
    assert connection.ask("FUNCTION", "RESTORE", payload, "FLUSH") == b"+OK\r\n"
    theirs = parsed(connection.ask("FUNCTION", "DUMP"))
    assert local.call("FUNCTION", "RESTORE", theirs, "REPLACE") == b"OK"
    assert "already exists" in local.error("FUNCTION", "RESTORE", theirs)
    for words in (("FCALL", "f", 1, "a", "b"), ("FCALL", "r2", 0)):
        assert_alike(pair, *words)
    for word in ("FLUSH", "REPLACE"):
        assert_alike(pair, "FUNCTION", "RESTORE", theirs, word)
    assert_alike(pair, "FUNCTION", "FLUSH")


# -- libraries of scripts ---------------------------------------------------------------------

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

numbers = st.one_of(
    st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.sampled_from([0.1, 1e15, 1e16, -1e300])
)
atoms = st.one_of(numbers, st.booleans(), st.text(max_size=20), st.sampled_from([{}, "/", '"\\\x7f\x00']))
documents = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=4), inner, min_size=1, max_size=1)
    ),
    max_leaves=20,
)


def as_lua(value: Any) -> str:
    """A value as an expression of Lua."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "1/0" if value == float("inf") else "-1/0" if value == float("-inf") else f"({value!r})"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str | bytes):
        data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'
    if isinstance(value, list):
        return "{" + ",".join(map(as_lua, value)) + "}"
    return "{" + ",".join(f"[{as_lua(key)}]={as_lua(item)}" for key, item in value.items()) + "}"


@given(documents)
@few
def test_json_is_written_alike(pair: tuple[Connection, Local, int], document: Any) -> None:
    assert_alike(pair, "EVAL", f"local s = cjson.encode({as_lua(document)}) return s", 0)


json_texts = st.one_of(
    st.text(st.sampled_from('[]{}":,0123456789.-+eE\\ultrafn sxI'), max_size=25).map(str.encode),
    st.lists(
        st.sampled_from(
            [b"[", b"]", b"{", b"}", b'"a"', b":", b",", b"1", b"-0", b"null", b"true", b" ", b"nan"]
        ),
        max_size=12,
    ).map(b"".join),
    st.binary(max_size=12),
)


@given(json_texts)
@few
def test_json_is_read_alike(pair: tuple[Connection, Local, int], document: bytes) -> None:
    body = """
        local function show(v)
            if type(v) ~= 'table' then return type(v) .. ':' .. tostring(v) end
            local parts = {}
            for k, item in pairs(v) do parts[#parts + 1] = show(k) .. '=' .. show(item) end
            table.sort(parts)
            return '{' .. table.concat(parts, ',') .. '}'
        end
        local v = cjson.decode(ARGV[1])
        return show(v)
    """
    assert_alike(pair, "EVAL", body, 0, document)


packable = st.recursive(
    st.one_of(
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False),
        st.booleans(),
        st.binary(max_size=40),
        st.sampled_from(
            [127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, -32, -33, -128, -129, -32769, -(2**31) - 1]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=20), st.dictionaries(st.text(max_size=4), inner, min_size=1, max_size=1)
    ),
    max_leaves=25,
)


@given(st.lists(packable, min_size=1, max_size=3))
@few
def test_messagepack_is_written_alike(pair: tuple[Connection, Local, int], values: list[Any]) -> None:
    assert_alike(pair, "EVAL", f"local s = cmsgpack.pack({','.join(map(as_lua, values))}) return s", 0)


@given(
    st.one_of(st.binary(max_size=12), st.lists(packable, max_size=2)), st.integers(0, 3), st.integers(0, 3)
)
@few
def test_messagepack_is_read_alike(
    pair: tuple[Connection, Local, int], source: Any, limit: int, offset: int
) -> None:
    made = "ARGV[1]" if isinstance(source, bytes) else f"cmsgpack.pack({','.join(map(as_lua, source)) or 1})"
    for call in ("unpack(s)", f"unpack_one(s, {offset})", f"unpack_limit(s, {limit}, {offset})"):
        body = f"""
            local s = {made}
            local function show(v)
                if type(v) ~= 'table' then return type(v) .. ':' .. tostring(v) end
                local parts = {{}}
                for k, item in pairs(v) do parts[#parts + 1] = show(k) .. '=' .. show(item) end
                table.sort(parts)
                return '{{' .. table.concat(parts, ',') .. '}}'
            end
            local t = {{cmsgpack.{call}}}
            for i = 1, #t do t[i] = show(t[i]) end
            return t
        """
        assert_alike(pair, "EVAL", body, 0, source if isinstance(source, bytes) else b"")


LETTERS = [*"><!bBhHlLiIfdsx ", "!2", "!4", "i1", "i3", "I5", "i8", "c0", "c3"]
formats = st.lists(st.sampled_from(LETTERS), max_size=8).map("".join)


@given(
    formats,
    st.lists(st.one_of(st.integers(-(2**31), 2**31), st.just(1.5), st.binary(max_size=6)), max_size=8),
)
@few
def test_structs_are_packed_alike(
    pair: tuple[Connection, Local, int], layout: str, values: list[Any]
) -> None:
    arguments = "".join(f", {as_lua(value)}" for value in values)
    assert_alike(pair, "EVAL", f"local s = struct.pack('{layout}'{arguments}) return s", 0)


@given(formats, st.binary(max_size=40), st.integers(1, 4))
@few
def test_structs_are_unpacked_alike(
    pair: tuple[Connection, Local, int], layout: str, data: bytes, start: int
) -> None:
    # A length that is no number of bytes at all becomes some number in C, whichever.
    assume("c0" not in layout or not {*"fd"} & {*layout})
    body = f"""
        local t = {{struct.unpack('{layout}', ARGV[1], {start})}}
        for i = 1, #t do t[i] = type(t[i]) .. ':' .. tostring(t[i]) end
        return t
    """
    assert_alike(pair, "EVAL", body, 0, data)
    assert_alike(pair, "EVAL", f"local n = struct.size('{layout}') return n", 0)


@given(
    st.sampled_from(
        [
            "tobit",
            "bnot",
            "band",
            "bor",
            "bxor",
            "lshift",
            "rshift",
            "arshift",
            "rol",
            "ror",
            "bswap",
            "tohex",
        ]
    ),
    st.lists(st.one_of(st.integers(-(2**33), 2**33), st.floats(-(2.0**51), 2.0**51)), max_size=3),
)
@few
def test_bits_alike(pair: tuple[Connection, Local, int], name: str, values: list[Any]) -> None:
    body = f"local v = bit.{name}({','.join(map(as_lua, values))}) return tostring(v)"
    assert_alike(pair, "EVAL", body, 0)
