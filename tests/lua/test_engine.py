"""The engine: what scripts see, what they give, and what they cannot do."""

from __future__ import annotations

from typing import Any

import pytest

from shardkv.errors import CommandError
from shardkv.lua import Engine, sha1hex
from shardkv.lua.shebang import ScriptFlag
from shardkv.resp.replies import (
    NULL_ARRAY,
    OK,
    BigNumber,
    FormattedText,
    MapPairs,
    Pairs,
    Status,
    Unordered,
    Verbatim,
)
from tests.lua.hosts import FakeHost, run


def failure(engine: Engine, body: str, host: FakeHost | None = None) -> str:
    reply = run(engine, body, host=host)
    assert isinstance(reply, CommandError), reply
    return reply.text.decode()


# -- keys, arguments, results -----------------------------------------------------------------


def test_keys_and_arguments(engine: Engine) -> None:
    assert run(engine, "return {KEYS, ARGV, #KEYS}", (b"k", b"\x00\xff"), (b"a",)) == [
        [b"k", b"\x00\xff"],
        [b"a"],
        2,
    ]
    assert run(engine, "return #KEYS + #ARGV") == 0


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("return 'x'", b"x"),
        ("return 3.99", 3),
        ("return -3.99", -3),
        ("return 1e300", -(2**63)),
        ("return 0/0", -(2**63)),
        ("return true", 1),
        ("return false", None),
        ("return nil", None),
        ("return", None),
        ("return print", None),
        ("redis.setresp(3) return {true, false}", [True, False]),
        ("return {1, 2, nil, 4}", [1, 2]),
        ("return {ok='a\\r\\nb'}", Status(b"a  b")),
        ("return {err='MY x'}", CommandError("MY x")),
        ("return {double=2.5}", 2.5),
        ("return {map={a=1}}", {b"a": 1}),
        ("return {set={a=true}}", Unordered([b"a"])),
        ("return {big_number='12'}", BigNumber(b"12")),
        ("return {verbatim_string={format='mkd', string='x'}}", FormattedText(b"mkd", b"x")),
        ("return 1, 2", 1),
        ("return setmetatable({}, {__index=function() return 1 end})", []),
    ],
)
def test_results(engine: Engine, body: str, value: Any) -> None:
    if "print" in body:
        assert "nonexistent global variable 'print'" in failure(engine, body)
    else:
        reply = run(engine, body)
        assert reply == value
        assert type(reply) is type(value)


def test_long_arrays_come_whole(engine: Engine) -> None:
    for count in (255, 256, 257, 70_000):
        body = f"local t = {{}} for i = 1, {count} do t[i] = i end return t"
        assert run(engine, body) == list(range(1, count + 1))
    assert len(run(engine, "local t = {} for i = 1, 5000 do t['k' .. i] = i end return {map=t}")) == 5000


@pytest.mark.parametrize(
    ("reply", "in_resp2", "in_resp3"),
    [
        (b"x", "string:x", "string:x"),
        (7, "number:7", "number:7"),
        (None, "boolean:false", "nil:nil"),
        (NULL_ARRAY, "boolean:false", "nil:nil"),
        (OK, "ok:OK", "ok:OK"),
        (True, "number:1", "boolean:true"),
        (2.5, "string:2.5", "double:2.5"),
        ([1, b"a"], "list:1,a", "list:1,a"),
        ({b"f": b"v"}, "list:f,v", "map:f=v"),
        ({b"m"}, "list:m", "set:m=true"),
        (Unordered([b"m"]), "list:m", "set:m=true"),
        (Pairs([(b"f", b"v")]), "list:f,v", "list:{f,v}"),
        (MapPairs([(b"f", b"v")]), "list:{f,v}", "map:f=v"),
        (Verbatim(b"text"), "string:text", "verbatim:txt:text"),
    ],
)
def test_replies(engine: Engine, reply: Any, in_resp2: str, in_resp3: str) -> None:
    described = """
        local function text(v)
            if type(v) == 'table' then return '{' .. table.concat(v, ',') .. '}' end
            return tostring(v)
        end
        local function pairs_of(t)
            for k, v in pairs(t) do return k .. '=' .. text(v) end
        end
        local v = redis.call('x')
        if type(v) ~= 'table' then return type(v) .. ':' .. tostring(v) end
        if v.ok then return 'ok:' .. v.ok end
        if v.double then return 'double:' .. v.double end
        if v.map then return 'map:' .. pairs_of(v.map) end
        if v.set then return 'set:' .. pairs_of(v.set) end
        if v.verbatim_string then
            return 'verbatim:' .. v.verbatim_string.format .. ':' .. v.verbatim_string.string
        end
        local parts = {}
        for i, part in ipairs(v) do parts[i] = text(part) end
        return 'list:' .. table.concat(parts, ',')
    """
    host = FakeHost(lambda words: reply)
    assert run(engine, described, host=host) == in_resp2.encode()
    assert run(engine, "redis.setresp(3) " + described, host=host) == in_resp3.encode()


def test_the_protocol_is_each_script_s_own(engine: Engine) -> None:
    run(engine, "redis.setresp(3)")
    assert run(engine, "return type(redis.call('x'))") == b"boolean"


def test_arguments_of_commands(engine: Engine) -> None:
    host = FakeHost()
    run(engine, "redis.call('a', 1, 2.5, 1e17, 1e19, 0.1 + 0.2, -0, 'x\\0y')", host=host)
    assert host.called == [
        [
            *(b"a", b"1", b"2.5", b"100000000000000000", b"1e+19", b"0.30000000000000004", b"0", b"x\0y"),
        ]
    ]
    for argument in ("{}", "true", "nil", "print", "cjson.null"):
        assert "arguments must be strings or integers" in failure(engine, f"redis.call('a', {argument})") or (
            argument == "print"
        )
    assert len(host.called) == 1


# -- errors -----------------------------------------------------------------------------------


def test_an_error_says_where(engine: Engine) -> None:
    body = "\n\nerror('x')"
    expected = f"ERR user_script:3: x script: {sha1hex(body.encode()).decode()}, on @user_script:3."
    assert failure(engine, body) == expected


def test_errors_of_commands(engine: Engine) -> None:
    host = FakeHost(lambda words: CommandError("MY error"))
    body = "return redis.call('x')"
    where = f" script: {sha1hex(body.encode()).decode()}, on @user_script:1."
    assert failure(engine, body, host) == "MY error" + where
    assert run(engine, "return redis.pcall('x')", host=host) == CommandError("MY error")
    assert run(engine, "local ok, e = pcall(redis.call, 'x') return {tostring(ok), e}", host=host) == [
        b"false",
        b"MY error",
    ]
    assert (
        run(
            engine,
            "local _, e = xpcall(function() redis.call('x') end, function(e) return e.err end) return e",
            host=host,
        )
        == b"MY error"
    )
    assert (
        run(
            engine,
            "local co = coroutine.create(function() redis.call('x') end) "
            "local _, e = coroutine.resume(co) return e.err",
            host=host,
        )
        == b"MY error"
    )


def test_an_engine_goes_on_after_an_error_of_its_host(engine: Engine) -> None:
    def broken(words: list[bytes]) -> Any:
        raise RuntimeError

    assert "internal error" in failure(engine, "redis.call('x')", FakeHost(broken))
    assert run(engine, "return 1") == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("x x", "ERR Error compiling script (new function): user_script:1: '=' expected near 'x'"),
        ("#!lua", "ERR Invalid script shebang"),
        ("#!lua flags=x\n", "ERR Unexpected flag in script shebang: x"),
        ("#!python\n", "ERR Unexpected engine in script shebang: #!python"),
        ("#!lua name=x\n", "ERR Unknown lua shebang option: name=x"),
        ("\x1bLua", "ERR Error compiling script (new function): user_script:1: unexpected symbol near"),
    ],
)
def test_what_cannot_be_compiled(engine: Engine, body: str, text: str) -> None:
    with pytest.raises(CommandError) as raised:
        engine.compile(body.encode())
    assert raised.value.text.decode().startswith(text)


def test_flags(engine: Engine) -> None:
    assert engine.compile(b"return 1").flags is None
    assert engine.compile(b"#!lua\nreturn 1").flags == ScriptFlag(0)
    flags = engine.compile(b"#!lua flags=no-writes,allow-oom\nreturn 1").flags
    assert flags == ScriptFlag.NO_WRITES | ScriptFlag.ALLOW_OOM


# -- the sandbox ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        *("x = 1", "_G.x = 1", "redis.x = 1", "string.rep = 1", "KEYS = 1", "cjson.null = 1"),
        *("rawset(_G, 'x', 1)", "rawset(redis, 'x', 1)", "setmetatable(_G, {})", "table.insert(redis, 1)"),
        *("getmetatable('').__index = 1", "getmetatable(_G).__index = 1", "string.x = function() end"),
        *("loadstring('x = 1')()", "coroutine.wrap(function() x = 1 end)()"),
    ],
)
def test_nothing_shared_can_be_changed(engine: Engine, change: str) -> None:
    assert "Attempt to modify a readonly table" in failure(engine, change)


@pytest.mark.parametrize(
    "name",
    [
        *("io", "package", "require", "module", "dofile", "loadfile", "debug", "newproxy", "python", "print"),
        *("getfenv", "setfenv", "nosuch"),
    ],
)
def test_what_is_not_there(engine: Engine, name: str) -> None:
    expected = f"Script attempted to access nonexistent global variable '{name}'"
    assert expected in failure(engine, f"return {name}")
    assert expected in failure(engine, f"return loadstring('return {name}')()")


def test_no_dangerous_members(engine: Engine) -> None:
    body = "return {tostring(string.dump), tostring(os.execute), tostring(os.exit), tostring(redis.debug)}"
    assert run(engine, body) == [b"nil"] * 4
    assert run(engine, "local n = 0 for _ in pairs(os) do n = n + 1 end return n") == 1


def test_no_object_of_python_is_seen(engine: Engine) -> None:
    body = """
        local seen, bad = {}, {}
        local function look(value, name)
            if type(value) == 'userdata' and value ~= cjson.null then bad[#bad + 1] = name end
            if type(value) ~= 'table' or seen[value] then return end
            seen[value] = true
            for k, v in pairs(value) do look(v, name .. '.' .. tostring(k)) look(k, name) end
            look(getmetatable(value), name .. '()')
        end
        look(_G, '_G') look(getmetatable(''), 'string')
        local ok, e = pcall(coroutine.wrap(function() redis.call('x') end)) look(e, 'wrap')
        ok, e = pcall(pcall, redis.call) look(e, 'pcall')
        xpcall(redis.call, function(e) look(e, 'xpcall') end)
        ok, e = coroutine.resume(coroutine.create(redis.sha1hex)) look(e, 'resume')
        return bad
    """
    assert run(engine, body, host=FakeHost(lambda words: CommandError("ERR x"))) == []
    assert "attempt to index field 'call'" in failure(engine, "return redis.call.__globals__")


def test_libraries_can_be_gone_through(engine: Engine) -> None:
    body = "local t = {} for k in pairs(bit) do t[#t + 1] = k end table.sort(t) return table.concat(t, ' ')"
    expected = b"arshift band bnot bor bswap bxor lshift rol ror rshift tobit tohex"
    assert run(engine, body) == expected
    assert run(engine, body.replace("pairs(bit)", "next, bit")) == expected


def test_one_script_leaves_nothing_to_the_next(engine: Engine) -> None:
    run(engine, "KEYS.x = 1 ARGV[7] = 2", (b"a",), (b"b",))
    assert run(engine, "return {tostring(KEYS.x), tostring(ARGV[7])}") == [b"nil", b"nil"]


# -- the table redis --------------------------------------------------------------------------


def test_log(engine: Engine) -> None:
    host = FakeHost()
    run(engine, "redis.log(redis.LOG_WARNING, 'a', 1, 'b')", host=host)
    assert host.logged == [(3, b"a 1 b")]


def test_replication(engine: Engine) -> None:
    host = FakeHost()
    assert run(engine, "redis.set_repl(redis.REPL_NONE) return redis.replicate_commands()", host=host) == 1
    assert host.mode == 0


def test_permissions(engine: Engine) -> None:
    body = "return {redis.acl_check_cmd('get'), redis.acl_check_cmd('forbidden')}"
    assert run(engine, body) == [1, None]
    assert "no such command" in failure(engine, "redis.acl_check_cmd('nosuch')")


def test_server_is_redis(engine: Engine) -> None:
    assert run(engine, "return {tostring(server == redis), redis.REDIS_VERSION}") == [b"true", b"7.2.4"]


# -- libraries of functions -------------------------------------------------------------------

LIBRARY = """#!lua name=lib
local function double(x) return x * 2 end
redis.register_function('f', function(keys, args) return {keys[1], args[1], double(21)} end)
redis.register_function{
    function_name = 'g', description = 'says g', flags = {'no-writes', 'allow-stale'},
    callback = function() return redis.call('get', 'x') end,
}
"""


def test_functions(engine: Engine) -> None:
    library = engine.load_library(LIBRARY.encode(), FakeHost())
    assert library.name == b"lib"
    assert library.functions[b"g"].description == b"says g"
    assert library.functions[b"g"].flags.written == [b"no-writes", b"allow-stale"]
    function = library.functions[b"f"]
    assert engine.run_function(function, [b"k"], [b"a"], FakeHost()) == [b"k", b"a", 42]
    host = FakeHost(lambda words: b"value")
    assert engine.run_function(library.functions[b"g"], [], [], host) == b"value"
    assert host.called == [[b"get", b"x"]]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("redis.call('get', 'x')", "nonexistent global variable 'call'"),
        ("string.rep('x', 1)", "nonexistent global variable 'string'"),
        ("x = 1", "Attempt to modify a readonly table"),
        ("return 1", "No functions registered"),
        ("redis.register_function('f', 1)", "second argument to redis.register_function must be a function"),
        (
            "redis.register_function{function_name='f', callback=function() end, x=1}",
            "unknown argument given",
        ),
        ("while true do end", "FUNCTION LOAD timeout"),
    ],
)
def test_what_is_no_library(engine: Engine, code: str, text: str) -> None:
    host = FakeHost()
    if "timeout" in text:
        host.interrupt = lambda: b"ERR FUNCTION LOAD timeout"  # type: ignore[method-assign]
    with pytest.raises(CommandError, match=text):
        engine.load_library(f"#!lua name=x\n{code}".encode(), host)
    # Functions work on as before.
    library = engine.load_library(LIBRARY.encode(), FakeHost())
    assert engine.run_function(library.functions[b"f"], [], [], FakeHost()) == []


def test_several_engines() -> None:
    one, other = Engine(), Engine()
    inner = FakeHost(lambda words: b"from inside")

    def nested(words: list[bytes]) -> Any:
        return run(other, "return {redis.call('y'), 1}", host=inner)

    assert run(one, "return redis.call('x')", host=FakeHost(nested)) == [b"from inside", 1]
