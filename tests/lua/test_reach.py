"""Which scripts certainly reach no keys but their own."""

from __future__ import annotations

import pytest

import shardkv.commands
from shardkv.lua.reach import reaches_only_its_keys

assert shardkv.commands

CERTAIN = [
    "return redis.call('get',KEYS[1])",
    "local k=KEYS[1] return redis.call('incr',k)",
    "local a,b=KEYS[1],KEYS[2] redis.call('set',a,1) return redis.call('get',b)",
    "for i,k in ipairs(KEYS) do redis.call('del',k) end",
    "for i=1,#KEYS do redis.call('del',KEYS[i]) end",
    "return redis.call('del',unpack(KEYS))",
    "local call=redis.call return call('get',KEYS[1])",
    "return redis.call('mset',KEYS[1],ARGV[1],KEYS[2],'x')",
    "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) else return 0 end",
    "-- redis.call('get','x')\nreturn redis.call('time')",
    "return cjson.encode(ARGV)",
    "#!lua flags=no-writes\nreturn redis.call('get',KEYS[1])",
    "return redis.call('rpoplpush',KEYS[1],KEYS[2])",
    "redis.call('hset',KEYS[1],unpack(ARGV)) return {KEYS[1],ARGV[1]}",
    "return redis.pcall('SET',KEYS[1],ARGV[1],'PX',ARGV[2],'NX')",
    "local x = redis.call('get', KEYS[1]) or 0; return x + 1",
    "local t = redis.call('hgetall', KEYS[1]) for i = 1, #t do t[i] = t[i] .. 'x' end return t",
    "return server.call('get', KEYS[1])",
    "if ARGV[1] > 'x' then redis.log(redis.LOG_NOTICE, 'x') end return redis.call('expire', KEYS[1], 5)",
    "return redis.call('get', KEYS[#KEYS])",
]

DOUBTFUL = [
    "return redis.call('get','x')",
    "return redis.call('get',ARGV[1])",
    "return redis.call('get',KEYS[1]..'x')",
    "local k=KEYS[1] k='x' return redis.call('get',k)",
    "KEYS[1]='x' return redis.call('get',KEYS[1])",
    "KEYS[1],a='x',1 return redis.call('get',KEYS[1])",
    "local a a,KEYS[1]=1,'x' return redis.call('get',KEYS[1])",
    "return redis.call('keys','*')",
    "return redis.call(ARGV[1],KEYS[1])",
    "local r=redis return r.call('get','x')",
    "return redis['call']('get','x')",
    "return _G.redis.call('get','x')",
    "return loadstring(ARGV[1])()",
    "local f=redis.call return pcall(f,'get','x')",
    "return pcall(redis.call,'get','x')",
    "local k=KEYS[1] local function f(k) return redis.call('get',k) end return f('x')",
    "local k=KEYS[1] for k=1,2 do redis.call('get',k) end",
    "local k = KEYS[1] .. 'x' return redis.call('get',k)",
    "table.insert(KEYS,'x')",
    "local t=KEYS t[1]='x'",
    "return redis.call('eval','x',0)",
    "return redis.call('sort',KEYS[1],'by','w*')",
    "return redis.call('select',1)",
    "return redis.call('dbsize')",
    "return redis.call('rpoplpush',KEYS[1],'x')",
    "return redis.call('mset',KEYS[1],ARGV[1],'y','x')",
    "return redis.call('mset',unpack(ARGV))",
    "return redis.call('del',KEYS[1],unpack(ARGV))",
    "return redis.call('g\\101t','x')",
    "return redis.call 'get'",
    "redis.call('zunionstore',KEYS[1],2,'a','b')",
    "return redis.call('get',x.KEYS[1])",
    "local k=KEYS[1] local k='x' return redis.call('get',k)",
    "local k=KEYS[1] do local k,j return redis.call('get',k) end",
    "rawset(KEYS,1,'x') return redis.call('get',KEYS[1])",
    "return redis.call('copy',KEYS[1],KEYS[2],'DB',1)",
    "local k = KEYS[1] or 'x' return redis.call('get',k)",
    "return redis.call('get',(KEYS[1]))",
    "local call=redis.call call=print return call('get','x')",
    "return redis.call('get', KEYS[1] and 'x')",
    "local c = redis.call local d = c return d('get','x')",
    "local c = redis.call return {c}",
    "function f(KEYS) end",
    "return redis.call('mset',KEYS[1],f())",
    "return redis.call('move',KEYS[1],1)",
    "-- x\rreturn redis.call('get','x')",
    "return redis.call('get',KEYS[1]) .. redis.call('get','x')",
    "local s = [[\n]] return redis.call('get', s)",
    "return redis.call('set', KEYS[1], redis.call('get', 'x'))",
    "local k = KEYS[1] k, j = 'x', 1 return redis.call('get', k)",
    "local k = KEYS[1] function k() end return redis.call('get', k)",
    "return server.call('get', 'x')",
    "return redis.call('get', KEYS[1], ",
    "return redis.call(('get'), KEYS[1])",
    "local KEYS = {'x'} return redis.call('get', KEYS[1])",
    "redis = {call = print}",
]


@pytest.mark.parametrize("body", CERTAIN)
def test_certain(body: str) -> None:
    assert reaches_only_its_keys(body.encode())


@pytest.mark.parametrize("body", DOUBTFUL)
def test_doubtful(body: str) -> None:
    assert not reaches_only_its_keys(body.encode())
