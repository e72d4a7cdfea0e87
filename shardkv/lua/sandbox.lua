-- The world that scripts live in: what is left of Lua's libraries, behind tables that cannot be changed, and the
-- one coroutine that runs script after script. Runs once for each engine; `host` holds functions of Python, and what
-- is returned at the end is for Python alone (see engine.py).
--
-- Python functions are C functions here. What they raise arrives as userdata, which `thaw` makes an error of Lua's.
-- No script ever gets hold of an object of Python's.

local host, as_function = ...

local error, getmetatable, ipairs, loadstring, next, pcall = error, getmetatable, ipairs, loadstring, next, pcall
local rawget, rawset, resume, select, setfenv, setmetatable = rawget, rawset, coroutine.resume, select, setfenv, setmetatable
local tostring, type, unpack, xpcall, yield = tostring, type, unpack, xpcall, coroutine.yield
local byte, find, format, gsub, sub = string.byte, string.find, string.format, string.gsub, string.sub
local concat, insert, floor = table.concat, table.insert, math.floor
local create, running, status = coroutine.create, coroutine.running, coroutine.status
local collectgarbage, newproxy, tonumber = collectgarbage, newproxy, tonumber
local getinfo, metatable_of, sethook = debug.getinfo, debug.getmetatable, debug.sethook

local OURS = "=sandbox"

-- A table of Python's functions as one of C functions.
local function closures(library)
    for name, part in pairs(library) do
        if type(part) == "userdata" then
            library[name] = as_function(part)
        end
    end
    return library
end

closures(host)

-- errors --------------------------------------------------------------------------------------

-- What a function of Python has raised, as Lua's own functions would have.
local function thaw(err)
    if type(err) == "userdata" then
        local text, plain = host.describe(err)
        if plain then
            return text
        elseif text then
            return { err = text, ignore_error_stats_update = true }
        end
    end
    return err
end

-- The innermost frame that belongs to a script.
local function frame_of_script(level)
    local info = getinfo(level, "Sl")
    while info and (info.what == "C" or info.what == "tail" or info.source == OURS) do
        level = level + 1
        info = getinfo(level, "Sl")
    end
    return info
end

-- What luaL_error puts in front of a message: the place of the call, if a script has made it. And the name by which
-- the function was called. Python calls it by way of a chunk, so that is one step more.
local function where()
    local called = getinfo(3, "n")
    local caller = getinfo(4, "Sl")
    local place = ""
    if caller and caller.currentline > 0 and caller.source ~= OURS then
        place = format("%s:%d: ", caller.short_src, caller.currentline)
    end
    return place, called and called.name or "?"
end

-- Raises an error from within a function written here that a script has called, however deep.
local function fail(text)
    local level = 2
    local info = getinfo(level, "Sl")
    while info and info.source == OURS do
        level = level + 1
        info = getinfo(level, "Sl")
    end
    local place = ""
    if info and info.currentline > 0 then
        place = format("%s:%d: ", info.short_src, info.currentline)
    end
    error(place .. text, 0)
end

-- Whether the hook of the coroutine that scripts run in is set, as it is from one script to the next.
local armed = false

-- The end of every error that no script has caught.
local function locate(err)
    -- Nothing of the script runs after this, so that a hook which ends it has done its work.
    sethook()
    armed = false
    err = thaw(err)
    local info = frame_of_script(3)
    local found = {}
    if type(err) == "table" then
        found.err = rawget(err, "err")
        found.ignored = rawget(err, "ignore_error_stats_update")
    else
        found.err = "ERR " .. tostring(err)
    end
    if info then
        found.source, found.line = info.source, info.currentline
    end
    return found
end

-- interruptions -------------------------------------------------------------------------------

local TICK = host.instructions_per_tick
local dying = nil
local threads = setmetatable({}, { __mode = "k" })

-- Called now and then while a script runs. Once the script is to end, at every step of every coroutine, so that no pcall
-- goes on for long.
local hook

-- Ends the script.
local function die(text)
    if not dying then
        dying = text
        for thread in next, threads do
            if status(thread) ~= "dead" then
                sethook(thread, hook, "", 1)
            end
        end
        sethook(hook, "", 1)
    end
    error({ err = dying }, 0)
end

function hook()
    local text = dying or host.tick()
    if text then
        die(text)
    end
end

local function nothing() end

-- The hook can only be called while C's stack has room for it. So errors are caught only where there is some, and one
-- that tells of too little of it counts as a call of the hook, for there may have been none for a long time.
local function want_room()
    local _, _, _, _, fits = pcall(pcall, pcall, pcall, pcall, nothing)
    if fits ~= true then
        error("C stack overflow", 0)
    end
end

local function caught(err)
    if type(err) == "string" then
        if err == "not enough memory" then
            die(host.out_of_memory)
        elseif find(err, "C stack overflow", 1, true) then
            hook()
        end
    elseif type(err) == "userdata" and host.is_fatal(err) then
        die((host.describe(err)))
    end
    return thaw(err)
end

local function watched(body)
    return function(...)
        threads[running()] = true
        sethook(hook, "", dying and 1 or TICK)
        return body(...)
    end
end

-- tables that cannot be changed ---------------------------------------------------------------

local contents = setmetatable({}, { __mode = "k" })

local function refuse_change()
    error({ err = "ERR Attempt to modify a readonly table" }, 0)
end

-- A table for scripts to see, and the function that exchanges its content.
local function protect(content, shown_metatable)
    local metatable = {
        __index = content,
        __newindex = function()
            error("Attempt to modify a readonly table", 2)
        end,
        __metatable = shown_metatable or false,
    }
    local shell = setmetatable({}, metatable)
    contents[shell] = content
    return shell, function(other)
        metatable.__index, contents[shell] = other, other
    end
end

local function pairs_of_shell(content, shell)
    return function(_, key)
        return next(content, key)
    end, shell, nil
end

-- the libraries -------------------------------------------------------------------------------

-- The functions that are written here check their arguments themselves: Lua's own would name this file as the place
-- of the error.
local function bad_argument(position, name, expected, count, value)
    local found = ""
    if expected:sub(-8) == "expected" and count then
        found = ", got " .. (count < position and "no value" or type(value))
    end
    fail(format("bad argument #%d to '%s' (%s%s)", position, name, expected, found))
end

local function want_table(name, ...)
    if type((...)) ~= "table" then
        bad_argument(1, name, "table expected", select("#", ...), (...))
    end
end

local base = {}
for _, name in ipairs({
    "assert", "error", "gcinfo", "ipairs", "rawequal", "select", "tonumber", "tostring", "type", "unpack", "_VERSION",
}) do
    base[name] = _G[name]
end

local function results_of_pcall(ok, err, ...)
    if ok then
        return ok, err, ...
    end
    err = caught(err)
    if type(err) == "table" then
        local text = rawget(err, "err")
        if type(text) == "string" then
            return false, text
        end
    end
    return false, err
end

function base.pcall(...)
    if select("#", ...) == 0 then
        return false
    end
    want_room()
    return results_of_pcall(pcall(...))
end

-- The handler runs when the stack is unwound already: where an error has been raised by the hook, the hook is not called
-- again, so that a handler there could go on for ever.
local function results_of_xpcall(handler, ok, err, ...)
    if ok then
        return ok, err, ...
    end
    local handled, result = pcall(handler, caught(err))
    if not handled then
        caught(result)
        result = "error in error handling"
    end
    return false, result
end

function base.xpcall(...)
    local body, handler = ...
    if select("#", ...) < 2 then
        bad_argument(2, "xpcall", "value expected")
    end
    want_room()
    return results_of_xpcall(handler, pcall(body))
end

function base.next(...)
    want_table("next", ...)
    local object, key = ...
    return next(contents[object] or object, key)
end

local native_pairs = pairs
function base.pairs(...)
    want_table("pairs", ...)
    local content = contents[(...)]
    if content then
        return pairs_of_shell(content, (...))
    end
    return native_pairs(...)
end

function base.rawget(...)
    want_table("rawget", ...)
    if select("#", ...) < 2 then
        bad_argument(2, "rawget", "value expected")
    end
    local object, key = ...
    return rawget(contents[object] or object, key)
end

function base.rawset(...)
    want_table("rawset", ...)
    for position = 2, 3 do
        if select("#", ...) < position then
            bad_argument(position, "rawset", "value expected")
        end
    end
    local object, key, value = ...
    if contents[object] then
        refuse_change()
    elseif key == nil then
        error("table index is nil", 0)
    elseif key ~= key then
        error("table index is NaN", 0)
    end
    return rawset(object, key, value)
end

function base.setmetatable(...)
    want_table("setmetatable", ...)
    local object, metatable = ...
    if contents[object] then
        refuse_change()
    elseif select("#", ...) < 2 or (metatable ~= nil and type(metatable) ~= "table") then
        bad_argument(2, "setmetatable", "nil or table expected")
    end
    local present = metatable_of(object)
    if present and rawget(present, "__metatable") ~= nil then
        fail("cannot change a protected metatable")
    end
    return setmetatable(object, metatable)
end

function base.getmetatable(...)
    if select("#", ...) == 0 then
        bad_argument(1, "getmetatable", "value expected")
    end
    return getmetatable((...)) or nil
end

-- Whether the collector runs at all is not for scripts to decide.
function base.collectgarbage(what)
    if what == nil or what == "collect" or what == "count" or what == "step" then
        return collectgarbage(what)
    elseif what == "stop" or what == "restart" or what == "setpause" or what == "setstepmul" then
        return 0
    end
    fail(format("bad argument #1 to 'collectgarbage' (invalid option '%s')", tostring(what)))
end

local function compile(environment, text, name)
    if byte(text) == 27 then
        -- Compiled code can do anything. So it is read as what it is not.
        return loadstring(" " .. text, name)
    end
    local compiled, problem = loadstring(text, name)
    if compiled then
        setfenv(compiled, environment)
    end
    return compiled, problem
end

local function copy(library, ...)
    local copied = {}
    for key, value in native_pairs(library) do
        copied[key] = value
    end
    for _, name in ipairs({ ... }) do
        copied[name] = nil
    end
    return copied
end

local strings = copy(string, "dump")
local tables = copy(table)
function tables.insert(...)
    want_table("insert", ...)
    local list, position, value = ...
    local count = select("#", ...)
    if contents[list] then
        refuse_change()
    elseif count == 2 then
        return insert(list, position)
    elseif count ~= 3 then
        fail("wrong number of arguments to 'insert'")
    elseif not tonumber(position) then
        bad_argument(2, "insert", "number expected", count, position)
    end
    return insert(list, position, value)
end

local coroutines = copy(coroutine)
local runner

local function want_function(name, body)
    if type(body) ~= "function" then
        bad_argument(1, name, "Lua function expected")
    end
end

function coroutines.create(body)
    want_function("create", body)
    return create(watched(body))
end

local wrap = coroutine.wrap
function coroutines.wrap(body)
    want_function("wrap", body)
    return wrap(watched(body))
end

local function results_of_resume(ok, err, ...)
    if ok then
        return ok, err, ...
    end
    return false, caught(err)
end

function coroutines.resume(...)
    if type((...)) ~= "thread" then
        bad_argument(1, "resume", "coroutine expected")
    end
    want_room()
    return results_of_resume(resume(...))
end

function coroutines.running()
    local thread = running()
    if thread ~= runner then
        return thread
    end
end

local maths = copy(math)
maths.random, maths.randomseed = host.random, host.randomseed

-- JSON ----------------------------------------------------------------------------------------

local null_metatable = {
    __tostring = function()
        return "userdata: (nil)"
    end,
    __metatable = false,
}
local null = newproxy(true)
for key, value in native_pairs(null_metatable) do
    getmetatable(null)[key] = value
end

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\b"] = "\\b", ["\t"] = "\\t", ["\n"] = "\\n",
    ["\f"] = "\\f", ["\r"] = "\\r", ["\127"] = "\\u007f" }
for code = 0, 31 do
    local char = string.char(code)
    ESCAPES[char] = ESCAPES[char] or format("\\u%04x", code)
end

local function quoted(text)
    return '"' .. gsub(text, '[%c"\\/\127]', ESCAPES) .. '"'
end

local new_json

local function json_library()
    local max_depth, precision, keep_buffer = 1000, 14, true
    local convert, ratio, safe = false, 2, 10
    local invalid_numbers, decode_invalid, decode_max_depth = false, true, 1000
    local number_format = "%.14g"
    local json = { _NAME = "cjson", _VERSION = "2.1.0", null = null }

    local function refuse(value, reason)
        fail(format("Cannot serialise %s: %s", type(value), reason))
    end

    local function number(value)
        if value ~= value or value == 1 / 0 or value == -1 / 0 then
            if not invalid_numbers then
                refuse(value, "must not be NaN or Inf")
            elseif invalid_numbers == "null" then
                return "null"
            elseif value ~= value then
                return "nan"
            end
        end
        return (format(number_format, value))
    end

    -- The length of a table that is written as an array; -1 for one that is written as an object.
    local function array_length(value)
        local longest, items = 0, 0
        for key in next, value do
            if type(key) ~= "number" or key < 1 or floor(key) ~= key then
                return -1
            end
            if key > longest then
                longest = key
            end
            items = items + 1
        end
        if ratio > 0 and longest > items * ratio and longest > safe then
            if not convert then
                refuse(value, "excessively sparse array")
            end
            return -1
        end
        return longest
    end

    local append

    local function append_table(value, parts, depth)
        if depth > max_depth then
            fail(format("Cannot serialise, excessive nesting (%d)", depth))
        end
        value = contents[value] or value
        local length = array_length(value)
        if length > 0 then
            parts[#parts + 1] = "["
            for index = 1, length do
                if index > 1 then
                    parts[#parts + 1] = ","
                end
                append(rawget(value, index), parts, depth)
            end
            parts[#parts + 1] = "]"
            return
        end
        parts[#parts + 1] = "{"
        local first = true
        for key, item in next, value do
            local kind = type(key)
            local name
            if kind == "string" then
                name = quoted(key)
            elseif kind == "number" then
                name = '"' .. number(key) .. '"'
            else
                refuse(key, "table key must be a number or string")
            end
            parts[#parts + 1] = first and name .. ":" or "," .. name .. ":"
            first = false
            append(item, parts, depth)
        end
        parts[#parts + 1] = "}"
    end

    function append(value, parts, depth)
        local kind = type(value)
        if kind == "string" then
            parts[#parts + 1] = quoted(value)
        elseif kind == "number" then
            parts[#parts + 1] = number(value)
        elseif kind == "table" then
            append_table(value, parts, depth + 1)
        elseif kind == "boolean" then
            parts[#parts + 1] = value and "true" or "false"
        elseif value == nil or value == null then
            parts[#parts + 1] = "null"
        else
            refuse(value, "type not supported")
        end
    end

    function json.encode(...)
        if select("#", ...) ~= 1 then
            fail("bad argument #1 to 'encode' (expected 1 argument)")
        end
        local parts = {}
        append((...), parts, 0)
        return concat(parts)
    end

    json.decode = as_function(host.json_decoder(function()
        return decode_max_depth, decode_invalid
    end))

    local function integer(value, position, low, high, name, expectation)
        local given = tonumber(value)
        if type(value) ~= "number" and (type(value) ~= "string" or not given) then
            fail(format("bad argument #%d to '%s' (number expected, got %s)", position, name, type(value)))
        end
        given = given - given % 1
        if given < low or given > high then
            fail(format("bad argument #%d to '%s' (%s)", position, name, expectation or
                format("expected integer between %d and %d", low, high)))
        end
        return given
    end

    local function choice(value, position, name, words)
        if type(value) == "boolean" then
            return value
        end
        if type(value) == "number" then
            value = tostring(value)
        elseif type(value) ~= "string" then
            fail(format("bad argument #%d to '%s' (string expected, got %s)", position, name, type(value)))
        end
        if words[value] == nil then
            fail(format("bad argument #%d to '%s' (invalid option '%s')", position, name, value))
        end
        return words[value]
    end

    local ON_OFF = { on = true, off = false }
    local BIG = 2147483647

    local function at_most_one(name, count)
        if count > 1 then
            fail(format("bad argument #2 to '%s' (found too many arguments)", name))
        end
    end

    function json.encode_max_depth(...)
        at_most_one("encode_max_depth", select("#", ...))
        if (...) ~= nil then
            max_depth = integer((...), 1, 1, BIG, "encode_max_depth")
        end
        return max_depth
    end

    function json.decode_max_depth(...)
        at_most_one("decode_max_depth", select("#", ...))
        if (...) ~= nil then
            decode_max_depth = integer((...), 1, 1, BIG, "decode_max_depth")
        end
        return decode_max_depth
    end

    function json.encode_number_precision(...)
        at_most_one("encode_number_precision", select("#", ...))
        if (...) ~= nil then
            precision = integer((...), 1, 1, 14, "encode_number_precision")
            number_format = format("%%.%dg", precision)
        end
        return precision
    end

    function json.encode_keep_buffer(...)
        at_most_one("encode_keep_buffer", select("#", ...))
        if (...) ~= nil then
            keep_buffer = choice((...), 1, "encode_keep_buffer", ON_OFF)
        end
        return keep_buffer
    end

    function json.encode_invalid_numbers(...)
        at_most_one("encode_invalid_numbers", select("#", ...))
        if (...) ~= nil then
            invalid_numbers = choice((...), 1, "encode_invalid_numbers",
                { on = true, off = false, null = "null" })
        end
        return invalid_numbers
    end

    function json.decode_invalid_numbers(...)
        at_most_one("decode_invalid_numbers", select("#", ...))
        if (...) ~= nil then
            decode_invalid = choice((...), 1, "decode_invalid_numbers", ON_OFF)
        end
        return decode_invalid
    end

    function json.encode_sparse_array(...)
        local new_convert, new_ratio, new_safe = ...
        if select("#", ...) > 3 then
            fail("bad argument #4 to 'encode_sparse_array' (found too many arguments)")
        end
        if new_convert ~= nil then
            convert = choice(new_convert, 1, "encode_sparse_array", ON_OFF)
        end
        if new_ratio ~= nil then
            ratio = integer(new_ratio, 2, 0, BIG, "encode_sparse_array")
        end
        if new_safe ~= nil then
            safe = integer(new_safe, 3, 0, BIG, "encode_sparse_array")
        end
        return convert, ratio, safe
    end

    json.new = new_json
    return json
end

function new_json()
    return json_library()
end

-- environments --------------------------------------------------------------------------------

local function absent(_, name)
    error(format("Script attempted to access nonexistent global variable '%s'", tostring(name)), 2)
end

local strings_shell = protect(strings)
local shared = {
    string = strings_shell,
    table = protect(tables),
    math = protect(maths),
    coroutine = protect(coroutines),
    os = protect({ clock = os.clock }),
    bit = protect(closures(host.bit)),
    struct = protect(closures(host.struct)),
    cmsgpack = protect(closures(host.cmsgpack)),
    cjson = protect(json_library()),
}

-- The globals of some scripts, as these see them, and as they are.
local function environment(api)
    local globals = copy(base)
    for name, library in native_pairs(shared) do
        globals[name] = library
    end
    local shown = protect({ __index = absent })
    local shell, exchange = protect(globals, shown)
    setmetatable(globals, { __index = absent })
    globals._G = shell
    globals.redis = protect(api)
    globals.server = globals.redis
    globals.loadstring = function(...)
        local text, name = ...
        if type(text) == "number" then
            text = tostring(text)
        elseif type(text) ~= "string" then
            bad_argument(1, "loadstring", "string expected", select("#", ...), text)
        end
        return compile(shell, text, name or text)
    end
    globals.load = function(...)
        local reader, name = ...
        if type(reader) ~= "function" then
            bad_argument(1, "load", "function expected", select("#", ...), reader)
        end
        local pieces = {}
        local piece = reader()
        while type(piece) == "string" and piece ~= "" do
            pieces[#pieces + 1] = piece
            piece = reader()
        end
        return compile(shell, concat(pieces), name or "=(load)")
    end
    return shell, globals, exchange
end

local eval_shell, eval_globals = environment(closures(host.eval_api))
local function_shell, function_globals, exchange_function_globals = environment(closures(host.function_api))

-- While a library is loaded it sees nothing but this.
local loading_globals = setmetatable({}, { __index = absent })
loading_globals.redis = protect(setmetatable(closures(host.loading_api), { __index = absent }))
loading_globals.server = loading_globals.redis

-- running -------------------------------------------------------------------------------------

local function serve()
    local body = yield()
    while true do
        body = yield(xpcall(body, locate))
    end
end

-- What Python has to know of a script's result: the value itself or, of a table, what it stands for as a reply.
local results

local function run(body)
    dying = nil
    if not runner or status(runner) ~= "suspended" then
        runner = create(serve)
        armed = false
        threads[runner] = true
        resume(runner)
    end
    if not armed then
        sethook(runner, hook, "", TICK)
        armed = true
    end
    local alive, ok, value = resume(runner, body)
    if not alive then
        armed = false
        ok, value = false, thaw(ok)
    end
    if ok then
        return true, results(value)
    elseif type(value) ~= "table" then
        return false, nil, tostring(value)
    end
    return false, value.err or false, value.source, value.line, value.ignored
end

local world = {}

function world.compile_script(text, name)
    return compile(eval_shell, text, name)
end

-- The words of a request as KEYS and ARGV: so many of them, and the others. They come one by one, which is the fastest
-- way, or as two tables.
local function keys_and_arguments(count, ...)
    if count == 0 then
        return {}, { ... }
    elseif count == 1 then
        return { (...) }, { select(2, ...) }
    elseif count < 0 then
        return ...
    end
    local keys, arguments = {}, { select(count + 1, ...) }
    for position = 1, count do
        keys[position] = (select(position, ...))
    end
    return keys, arguments
end

function world.run_script(body, count, ...)
    eval_globals.KEYS, eval_globals.ARGV = keys_and_arguments(count, ...)
    return run(body)
end

function world.compile_library(text, name)
    return compile(function_shell, text, name)
end

function world.load_library(body)
    exchange_function_globals(loading_globals)
    local ok, err, source, line = run(body)
    exchange_function_globals(function_globals)
    return ok, err, source, line
end

function world.run_function(body, count, ...)
    local keys, arguments = keys_and_arguments(count, ...)
    return run(function()
        return body(keys, arguments)
    end)
end

world.where = where
world.null = null

-- tables, as Python wants them ----------------------------------------------------------------

local AT_ONCE = 256

-- Keys and values of a table in turn, some of them, beginning after a key.
function world.entries(object, after)
    local found, count = {}, 0
    object = contents[object] or object
    local key, value = next(object, after)
    while key ~= nil do
        found[count + 1], found[count + 2] = key, value
        count = count + 2
        if count >= AT_ONCE then
            break
        end
        key, value = next(object, key)
    end
    return unpack(found, 1, count)
end

-- How many values a table holds from 1 on, and the first of them.
function world.array(object)
    local count = 0
    while rawget(object, count + 1) ~= nil do
        count = count + 1
    end
    return count, unpack(object, 1, count < AT_ONCE and count or AT_ONCE)
end

function world.slice(object, first, last)
    return unpack(object, first, last)
end

local MARK = newproxy()

-- Whether the keys of a table are 1, 2, 3 … in any order, and how many there are. Of an empty table they are.
local function is_array(object)
    local longest, count = 0, 0
    for key in next, object do
        if type(key) ~= "number" or key <= 0 or key % 1 ~= 0 then
            return false, world.count(object)
        end
        if key > longest then
            longest = key
        end
        count = count + 1
    end
    return longest == count, count
end

function world.count(object)
    local count = 0
    for _ in next, object do
        count = count + 1
    end
    return count
end

-- Values, and what is in them, in a row. What is no string, number or boolean begins with a mark and its kind, a table
-- with its size after that. Tables deeper than `most` are left out.
function world.flatten(most, ...)
    local row, size = {}, 0

    local function add(value, depth)
        local kind = type(value)
        if kind == "string" or kind == "number" or kind == "boolean" then
            size = size + 1
            row[size] = value
            return
        end
        row[size + 1] = MARK
        if kind ~= "table" or depth == most then
            row[size + 2] = "nil"
            size = size + 2
            return
        end
        value = contents[value] or value
        local array, count = is_array(value)
        row[size + 2], row[size + 3] = array and "array" or "map", count
        size = size + 3
        if array then
            for index = 1, count do
                add(rawget(value, index), depth + 1)
            end
        else
            for key, item in next, value do
                add(key, depth + 1)
                add(item, depth + 1)
            end
        end
    end

    for position = 1, select("#", ...) do
        add((select(position, ...)), 0)
    end
    return row, size
end

-- Has Python forget the error that it has raised last, and what that holds.
function world.forget_error()
    pcall(host.raise)
end

-- What a table stands for as a reply: its kind, and what belongs to it. Of an array that is the table itself, and what
-- `world.array` says of it.
function world.reply(object)
    local part = rawget(object, "err")
    if type(part) == "string" then
        return "err", part
    end
    part = rawget(object, "ok")
    if type(part) == "string" then
        return "ok", part
    end
    part = rawget(object, "double")
    if type(part) == "number" then
        return "double", part
    end
    for _, kind in ipairs({ "map", "set" }) do
        part = rawget(object, kind)
        if type(part) == "table" then
            return kind, part
        end
    end
    part = rawget(object, "big_number")
    if type(part) == "string" then
        return "big_number", part
    end
    part = rawget(object, "verbatim_string")
    if type(part) == "table" then
        local style, text = rawget(part, "format"), rawget(part, "string")
        if type(style) == "string" and type(text) == "string" then
            return "verbatim_string", style, text
        end
    end
    return "array", object, world.array(object)
end

function results(value)
    if type(value) ~= "table" then
        return value
    end
    return nil, world.reply(value)
end

-- the end of what scripts must not reach ------------------------------------------------------

getmetatable("").__index = strings
getmetatable("").__metatable = protect({ __index = strings_shell })

for _, name in ipairs({ "debug", "io", "os", "package", "require", "module", "dofile", "loadfile", "newproxy",
    "getfenv", "setfenv", "python", "print" }) do
    _G[name] = nil
end

return world
