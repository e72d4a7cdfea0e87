"""Scripts that mean no good: each of them ends, soon, and leaves the engine as it was."""

from __future__ import annotations

import random

import pytest

from shardkv import clock
from shardkv.errors import CommandError
from shardkv.lua import Engine
from tests.lua.hosts import KILLED, FakeHost, run

MEMORY_BYTES = 32 * 1024 * 1024

ENDLESS = [
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "local function f() pcall(f) return f() end f()",
    "while true do pcall(error) end",
    "while true do xpcall(function() while true do end end, function(e) while true do end end) end",
    "local co = coroutine.wrap(function() while true do end end) while true do pcall(co) end",
    "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    "while true do local co = coroutine.create(function() while true do end end) coroutine.resume(co) end",
    "local cos = {} for i = 1, 200 do cos[i] = coroutine.create(function() while true do end end) end "
    "while true do for _, co in ipairs(cos) do coroutine.resume(co) end end",
    "local function nest() pcall(coroutine.wrap(nest)) while true do end end nest()",
    "local t = setmetatable({}, {__index = function() while true do end end}) while true do pcall(rawget, t) "
    "pcall(function() return t.x end) end",
    "repeat until false",
    "local function f() return f() end f()",
    "for i = 1, math.huge do end",
    "while true do redis.call('x') end",
    "while true do pcall(redis.call) end",
    "while true do cjson.decode(cjson.encode({1, {2}})) end",
    "table.sort({3, 1, 2}, function(a, b) while true do end end)",
    "string.gsub('x', '.', function() while true do end end)",
    "load(function() while true do end end)",
    "while true do loadstring('return 1')() end",
]


@pytest.mark.parametrize("body", ENDLESS)
def test_endless_scripts_can_be_killed(engine: Engine, body: str) -> None:
    begun_s = clock.monotonic()
    reply = run(engine, body, host=FakeHost(ticks=3))
    assert isinstance(reply, CommandError)
    assert reply.text.startswith(KILLED)
    assert clock.monotonic() - begun_s < 20
    assert run(engine, "local n = 0 for i = 1, 500000 do n = n + 1 end return n") == 500_000


GREEDY = [
    "local t = {} while true do t[#t + 1] = string.rep('x', 100000) .. #t end",
    "local s = 'x' while true do s = s .. s end",
    "return string.rep('x', 1e9)",
    "return #string.rep(string.rep('x', 1e6), 1e6)",
    "local t = {} while true do t[#t + 1] = {} end",
    "local t = {} while true do pcall(function() t[#t + 1] = string.rep('x', 1e6) .. #t end) end",
    "local t = {} for i = 1, 1e9 do t[i] = i end",
    "local t = {} while true do t[#t + 1] = redis.call('big') .. #t end",
    "local t = {} while true do t[#t + 1] = redis.call('many') end",
    "local t = {} while true do t[#t + 1] = redis.pcall('many') end",
    "local s, t = string.rep('[1],', 1e6), {} while true do t[#t + 1] = cjson.decode('[' .. s .. '1]') end",
    "local s = cmsgpack.pack({{}, {}, {}}) s = string.rep(s, 1e6) cmsgpack.unpack(s)",
    "local t, r = {}, {} for i = 1, 9e4 do t[i] = {i} end while 1 do r[#r + 1] = cmsgpack.pack(t) .. #r end",
    "local t, r = {}, {} for i = 1, 9e4 do t[i] = {i} end while 1 do r[#r + 1] = cjson.encode(t) .. #r end",
    "return struct.pack('c400000000', string.rep('x', 10))",
    "local t = {} while true do t[#t + 1] = function() return t end end",
    "local t = {} while true do t[#t + 1] = coroutine.create(function() end) end",
    "return table.concat({string.rep('x', 2e7), string.rep('y', 2e7), string.rep('z', 2e7)})",
    "return string.format('%s%s', string.rep('x', 2e7), string.rep('y', 2e7))",
    "return (string.gsub(string.rep('x', 1e6), '.', string.rep('y', 1000)))",
    "collectgarbage('stop') for i = 1, 1e6 do local x = {} end while true do cmsgpack.pack({}) end",
]


@pytest.mark.parametrize("body", GREEDY)
def test_memory_is_bounded(body: str) -> None:
    engine = Engine(MEMORY_BYTES)
    many = [b"%d" % number for number in range(20_000)]
    host = FakeHost(lambda words: b"x" * 5_000_000 if words == [b"big"] else many, ticks=150)
    begun_s = clock.monotonic()
    reply = run(engine, body, host=host)
    assert isinstance(reply, CommandError), reply
    assert (
        b"memory" in reply.text
        or reply.text.startswith(KILLED)
        or b"too short" in reply.text
        or (b"too many results to unpack" in reply.text or b"Too many values" in reply.text)
    )
    assert clock.monotonic() - begun_s < 60
    for _ in range(3):
        assert run(engine, "return #string.rep('x', 1000000)") == 1_000_000
    engine.state.collect()
    assert engine.state.used_bytes < MEMORY_BYTES // 4


def test_every_place_to_run_out_of_memory() -> None:
    """Whatever is left when a function of Python is called, it does not bring the process down."""
    rng = random.Random(7)
    engine = Engine(4 * 1024 * 1024)
    calls = [
        "redis.call('x')",
        "cjson.decode('[1,2,{}]')",
        "cjson.encode({{}})",
        "cmsgpack.pack({1, {2}})",
        "cmsgpack.unpack(cmsgpack.pack({1, 2}))",
        "bit.band(1, 2)",
        "struct.pack('i', 1)",
        "redis.sha1hex('x')",
        "pcall(redis.call)",
    ]
    host = FakeHost(lambda words: [b"a", [b"b"]])
    for _ in range(150):
        size = rng.randrange(19_000_000, 21_100_000)
        call = rng.choice(calls)
        body = f"local s = string.rep('x', {size}) local r = {{}} for i = 1, 50 do r[i] = {call} end return 1"
        reply = run(engine, body, host=host)
        assert reply == 1 or isinstance(reply, CommandError)
    assert run(engine, "return 1") == 1


DEEP = [
    "local function f() return f() + 1 end return f()",
    "local t = {} t[1] = t return t",
    "local t = {} for i = 1, 100000 do t = {t} end return t",
    "local t = {} for i = 1, 100000 do t = {map = {a = t}} end return t",
    "local t = {} for i = 1, 100000 do t = {t} end return cjson.encode(t)",
    "local t = {} t.a = t return cjson.encode(t)",
    "return cjson.decode(string.rep('[', 100000))",
    "return cjson.decode(string.rep('{\"a\":', 100000))",
    "return cmsgpack.unpack(string.rep('\\145', 100000))",
    "return loadstring('return ' .. string.rep('(', 10000) .. string.rep(')', 10000))()",
    "return string.rep('x', 1000):find(string.rep('(', 1000))",
    "local f f = function() return pcall(f) end return f()",
    "local f f = function() return coroutine.wrap(f)() end return f()",
    "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x",
    "local t = setmetatable({}, {__tostring = function(t) return tostring(t) end}) return tostring(t)",
    "return unpack({}, 1, 1e7)",
    "return table.concat({}, '', 1, 1e7)",
    "return string.char(unpack({}, 1, 255))",
]


@pytest.mark.parametrize("body", DEEP)
def test_depth_is_bounded(engine: Engine, body: str) -> None:
    run(engine, body, host=FakeHost(ticks=2000))
    assert run(engine, "return 1") == 1


def test_deep_packing_is_cut(engine: Engine) -> None:
    body = "local t = {} for i = 1, 100000 do t = {t} end return #cmsgpack.pack(t)"
    assert run(engine, body) == 17
