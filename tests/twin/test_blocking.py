"""Clients that wait for data, beside a real server: several clients, one step after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes.server import Shardkv, shardkv
from tests.twin.interleaved import Interleaved, Step, play
from tests.twin.servers import Server, valkey

LAYOUTS = [(1, 1), (3, 1), (3, 2)]
"""Workers and proxies."""


@pytest.fixture(scope="module", params=LAYOUTS, ids=["1 shard", "3 shards", "3 shards 2 proxies"])
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Shardkv, int]]:
    workers, proxies = request.param
    with shardkv(workers=workers, proxies=proxies) as server:
        yield server, workers


@pytest.fixture(scope="module")
def twin() -> Iterator[Server]:
    with valkey() as server:
        yield server


def steps(text: str) -> list[Step]:
    """The steps of a text: a line each, `client: words`."""
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, words = line.partition(": ")
        found.append((name, tuple(words.split())))
    return found


SCRIPTS = {
    "one after the other": """
        A: BLPOP a b c d 0
        B: BRPOP d a 0
        C: BLPOP a 0
        D: RPUSH a 1 2 3 4
        D: LRANGE a 0 -1
        A: BLPOP b a 0
        A: BLPOP b c 0
        D: LPUSH c x
        A: BRPOP b c d 0
        B: BRPOP d c 0
        D: LPUSH d 1
        D: LPUSH c 2
        D: EXISTS a b c d
    """,
    "timeouts": """
        A: BLPOP a b c 0.01
        A: BRPOP a 0.001
        A: BLMOVE a b LEFT RIGHT 0.01
        A: BRPOPLPUSH a b 0.01
        A: BLMPOP 0.01 3 a b c LEFT
        A: BZPOPMIN a b c 0.01
        A: BZPOPMAX a 0.01
        A: BZMPOP 0.01 3 a b c MIN
        A: XREAD BLOCK 10 STREAMS a b 0 0
        A: XREAD BLOCK 10 STREAMS a $
    """,
    "wrong timeouts": """
        A: BLPOP a x
        A: BLPOP a b -1
        A: BLPOP a -0.1
        A: BLPOP a 1e400
        A: BLPOP a 1e5000
        A: BLPOP a inf
        A: BLPOP a -inf
        A: BLPOP a nan
        A: BLPOP a 0x1p-8
        A: BLPOP a 9223372036854775807
        A: BLPOP a 9223372036854775
        A: BRPOP a b c 1e-5000
        A: BLMOVE a b FOO LEFT x
        A: BLMOVE a b LEFT LEFT x
        A: BRPOPLPUSH a b -1
        A: BLMPOP x 1 a LEFT
        A: BLMPOP -1 1 a LEFT
        A: BLMPOP 0 0 a LEFT
        A: BLMPOP 0 2 a LEFT
        A: BLMPOP 0 1 a FOO
        A: BLMPOP 0 1 a LEFT COUNT 0
        A: BLMPOP 0 3 a b c LEFT COUNT
        A: BZMPOP x 1 a MIN
        A: BZMPOP 0 1 a FOO
        A: BZMPOP 0 3 a b c FOO
        A: BZPOPMIN a b x
        A: XREAD BLOCK x STREAMS a $
        A: XREAD BLOCK -1 STREAMS a b $ $
        A: XREAD BLOCK 1.5 STREAMS a $
        A: XREAD BLOCK
        A: XREAD BLOCK 0 STREAMS a b $
        A: XREADGROUP GROUP g c BLOCK 0 STREAMS a b > >
        A: XREADGROUP GROUP g c BLOCK x STREAMS a >
        A: BLPOP
        A: BLPOP a
        A: BLMOVE a b LEFT RIGHT
    """,
    "wrong types": """
        D: SET s x
        D: RPUSH l 1 2 3
        A: BLPOP s 0
        A: BLPOP a s b 0
        A: BLPOP a l s 0
        A: BZPOPMIN a s 0
        A: BZPOPMIN a l 0
        A: BLMOVE s a LEFT LEFT 0
        A: BLMPOP 0 2 a s LEFT
        A: BZMPOP 0 2 a s MIN
        A: XREAD BLOCK 0 STREAMS a s $ $
        A: XREAD BLOCK 0 STREAMS a s 0 0
        D: RPUSH l 2
        A: BLMOVE l s LEFT LEFT 0
        A: BLMOVE a s LEFT LEFT 0
        D: RPUSH a 1
        D: LRANGE a 0 -1
    """,
    "another type coming into being": """
        A: BLPOP a b 0
        B: BZPOPMIN a 0
        C: XREAD BLOCK 0 STREAMS a 0
        D: SET a x
        D: DEL a
        D: ZADD a 1 m
        D: SADD a m
        D: XADD a 1-1 f v
        D: DEL a
        D: RPUSH a 1
        D: EXISTS a
    """,
    "moving": """
        A: BLMOVE a b LEFT RIGHT 0
        B: BRPOPLPUSH b c 0
        C: BLPOP c 0
        D: RPUSH a 1
        D: EXISTS a b c
        A: BLMOVE a a LEFT RIGHT 0
        D: RPUSH a 1 2
        D: LRANGE a 0 -1
        D: DEL a
        A: BLMOVE a b LEFT RIGHT 0
        B: BLMOVE b a LEFT RIGHT 0
        D: RPUSH b 1
        D: EXISTS a b
        A: BRPOPLPUSH d e 0
        B: BRPOPLPUSH d f 0
        C: BRPOP e f 0
        D: RPUSH d 1 2
    """,
    "many at once": """
        A: BLMPOP 0 3 a b c LEFT COUNT 3
        B: BLMPOP 0 2 b a RIGHT COUNT 10
        D: RPUSH b 1 2 3 4 5
        A: BZMPOP 0 3 a b c MIN COUNT 2
        B: BZMPOP 0 3 a b c MAX COUNT 2
        D: ZADD c 1 a 2.5 b 3 c 4 d
        A: BZPOPMIN a b c 0
        B: BZPOPMAX a b c 0
        C: BZPOPMAX c 0
        D: ZADD b 1 x 2 y
        D: ZADD c 7 z
        D: EXISTS a b c
    """,
    "every kind of command": """
        A: BLPOP a b c d e 0
        D: RPUSH src 1 2 3
        D: RENAME src b
        D: LRANGE b 0 -1
        D: DEL b
        D: RPUSH src 1 2 3
        A: BLPOP a b c d e 0
        D: COPY src c
        D: DEL c
        A: BLPOP a b c d e 0
        D: LMOVE src e LEFT LEFT
        A: BLPOP a b c d e 0
        D: RPOPLPUSH src d
        D: DEL src
        D: SADD set 3 1 2
        A: BRPOP a b c d e 0
        D: SORT set STORE a
        D: DEL a
        A: BLPOP a b c d e 0
        D: LPUSHX a 1
        D: LINSERT a BEFORE x y
        D: RPUSHX a 1
        D: RENAMENX set b
        D: DEL b
        D: SELECT 1
        D: RPUSH c 1
        D: MOVE c 0
        D: RPUSH a 1
        A: BLPOP a b c d e 0
        D: SWAPDB 0 1
        D: SELECT 0
        D: FLUSHALL
        A: BZPOPMIN a b c d e 0
        D: ZADD x 1 m
        D: ZUNIONSTORE c 1 x
        A: BZPOPMIN a b c d e 0
        D: ZINCRBY d 2 m
        A: BZPOPMIN a b c d e 0
        D: ZRANGESTORE e x 0 -1
        A: BZPOPMIN a b c d e 0
        D: GEOADD a 1 1 m
        A: BZPOPMIN a b c d e 0
        D: GEOSEARCHSTORE b x FROMLONLAT 1 1 BYRADIUS 99999 km
        D: KEYS *
    """,
    "transactions": """
        A: BLPOP b a c 0
        B: BLPOP a c 0
        C: BZPOPMIN z 0
        D: MULTI
        D: RPUSH a 1
        D: RPUSH b 2
        D: LPOP b
        D: RPUSH c 3
        D: ZADD z 1 m
        D: BLPOP a 0
        D: BLPOP x y 0
        D: BLMOVE x y LEFT LEFT 0
        D: BLMOVE a c LEFT LEFT 0
        D: BZPOPMIN x y 0
        D: XREAD BLOCK 0 STREAMS x y $ $
        D: WAIT 1 0
        D: WAIT 1 10
        D: EXEC
        D: LRANGE c 0 -1
        A: BLPOP a b c 0
        D: MULTI
        D: RPUSH a 1
        D: DEL a
        D: EXEC
        D: MULTI
        D: RPUSH a 1 2 3
        D: EXEC
        D: LRANGE a 0 -1
    """,
    "streams": """
        A: XREAD BLOCK 0 STREAMS a b c $ $ $
        B: XREAD BLOCK 0 STREAMS b c 0 5-0
        C: XREAD COUNT 1 BLOCK 0 STREAMS a 7
        D: XADD b 1-1 f v
        D: XADD c 5-0 f v
        D: XADD a 5-0 f v
        A: XREAD BLOCK 0 STREAMS a b c $ $ $
        B: XREAD BLOCK 0 STREAMS a b c + + $
        D: XADD a 8-0 f v
        A: XREAD COUNT 1 BLOCK 0 STREAMS a b 0 0
        A: XREAD BLOCK 0 STREAMS a 99
        D: DEL a
        D: XADD a 1-1 f v
        D: XADD a 100-1 f v
        A: XREAD BLOCK 0 STREAMS d e f 0 0 0
        D: XGROUP CREATE d g $ MKSTREAM
        D: XADD d 1-1 f v
        A: XREAD BLOCK 0 STREAMS d e f $ $ $
        D: XADD e 3-3 f v
        D: XADD f 3-3 f v
    """,
    "groups": """
        D: XGROUP CREATE a g $ MKSTREAM
        D: XGROUP CREATE b g $ MKSTREAM
        D: XGROUP CREATE c g $ MKSTREAM
        A: XREADGROUP GROUP g A BLOCK 0 STREAMS a b c > > >
        B: XREADGROUP GROUP g B BLOCK 0 STREAMS b a > >
        C: XREADGROUP GROUP g C NOACK BLOCK 0 STREAMS b >
        D: XADD b 1-1 f v
        D: XADD b 1-2 f v
        D: XADD b 1-3 f v
        D: XPENDING b g
        A: XREADGROUP GROUP g A COUNT 1 BLOCK 0 STREAMS a b c 0 0 0
        A: XREADGROUP GROUP g A BLOCK 0 STREAMS a b c > > >
        D: DEL a
        A: XREADGROUP GROUP g A BLOCK 0 STREAMS b c > >
        B: XREADGROUP GROUP g B BLOCK 0 STREAMS c >
        D: XGROUP DESTROY c g
        D: XGROUP CREATE c g $
        A: XREADGROUP GROUP g A BLOCK 0 STREAMS b c > >
        D: SET c x
        D: DEL c
        A: XREADGROUP GROUP g A BLOCK 0 STREAMS b >
        D: RENAME b c
        A: XREADGROUP GROUP g A BLOCK 0 STREAMS c >
        D: XGROUP SETID c g 0
        A: XREADGROUP GROUP g A BLOCK 0 STREAMS c >
        D: FLUSHALL
        D: XGROUP CREATE a g $ MKSTREAM
        A: XREADGROUP GROUP g A BLOCK 0 STREAMS a >
        D: EXPIRE a -1
        D: XGROUP CREATE a g $ MKSTREAM
        A: XREADGROUP GROUP g A BLOCK 0 STREAMS a >
        D: SELECT 1
        D: SWAPDB 0 1
        D: SWAPDB 0 1
    """,
    "unblocked": """
        A: BLPOP a b c 0
        D: CLIENT UNBLOCK {A}
        D: CLIENT UNBLOCK {A}
        A: BLPOP a b c 0
        D: CLIENT UNBLOCK {A} ERROR
        A: BLMOVE a b LEFT LEFT 0
        D: CLIENT UNBLOCK {A} timeout
        A: BLPOP a 0
        D: CLIENT UNBLOCK {A} error
        A: BLMOVE a {{a}}b LEFT LEFT 0
        D: CLIENT UNBLOCK {A}
        A: XREAD BLOCK 0 STREAMS a b $ $
        D: CLIENT UNBLOCK {A}
        A: BZPOPMIN a b 0
        D: CLIENT UNBLOCK {A} FOO
        D: CLIENT UNBLOCK x
        D: CLIENT UNBLOCK 0
        D: CLIENT UNBLOCK -1
        D: CLIENT UNBLOCK 99999999
        D: CLIENT UNBLOCK {D}
        D: CLIENT UNBLOCK
        D: ZADD b 1 a
        A: BZPOPMIN a b 0
        D: CLIENT UNBLOCK {A} FOO x
    """,
    "gone": """
        A: BLPOP a b c 0
        B: BLPOP c b 0
        C: BLPOP c 0
        A: close
        D: RPUSH b 1
        C: close
        D: RPUSH c 1
        D: LRANGE b 0 -1
        D: LRANGE c 0 -1
    """,
    "killed": """
        A: BLPOP a b c 0
        B: BLPOP b 0
        D: CLIENT KILL ID {A}
        D: RPUSH b 1
        D: EXISTS a b c
    """,
    "time": """
        A: WAIT 0 0
        A: WAIT 1 10
        A: WAIT -1 10
        A: WAIT x 1
        A: WAIT 1 x
        A: WAIT 1 -1
        A: WAITAOF 2 0 0
        A: WAITAOF -1 0 0
        A: WAITAOF x 0 0
        A: WAITAOF 0 -1 0
        A: WAITAOF 0 x 0
        A: WAITAOF 0 0 x
        A: WAITAOF 0 0 -1
    """,
}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(running: tuple[Shardkv, int], twin: Server, name: str, protocol: int) -> None:
    server, workers = running
    play(server, twin, steps(SCRIPTS[name]), workers=workers, protocol=protocol)


LISTS = ["a", "b", "c", "{a}2"]
SETS = ["za", "zb", "zc"]
STREAMS = ["sa", "sb", "sc"]

lists = st.sampled_from(LISTS)
ends = st.sampled_from(["LEFT", "RIGHT"])
numbers = st.integers(1, 3)
some_lists = st.lists(lists, min_size=1, max_size=4)
some_sets = st.lists(st.sampled_from(SETS), min_size=1, max_size=3)
some_streams = st.lists(st.sampled_from(STREAMS), min_size=1, max_size=3, unique=True)

waiting_calls = st.one_of(
    st.builds(lambda name, keys: (name, *keys, 0), st.sampled_from(["BLPOP", "BRPOP"]), some_lists),
    st.builds(
        lambda keys, end, count: ("BLMPOP", 0, len(keys), *keys, end, "COUNT", count),
        some_lists,
        ends,
        numbers,
    ),
    st.tuples(st.just("BLMOVE"), lists, lists, ends, ends, st.just(0)),
    st.tuples(st.just("BRPOPLPUSH"), lists, lists, st.just(0)),
    st.builds(lambda name, keys: (name, *keys, 0), st.sampled_from(["BZPOPMIN", "BZPOPMAX"]), some_sets),
    st.builds(lambda keys, count: ("BZMPOP", 0, len(keys), *keys, "MIN", "COUNT", count), some_sets, numbers),
    st.builds(lambda keys: ("XREAD", "BLOCK", 0, "STREAMS", *keys, *["$"] * len(keys)), some_streams),
    st.builds(
        lambda keys: ("XREADGROUP", "GROUP", "g", "m", "BLOCK", 0, "STREAMS", *keys, *[">"] * len(keys)),
        some_streams,
    ),
)
making_calls = st.one_of(
    st.builds(
        lambda name, key, count: (name, key, *range(count)),
        st.sampled_from(["LPUSH", "RPUSH"]),
        lists,
        numbers,
    ),
    st.tuples(st.sampled_from(["RENAME", "COPY", "RENAMENX"]), lists, lists),
    st.tuples(st.just("LMOVE"), lists, lists, ends, ends),
    st.tuples(st.sampled_from(["DEL", "LPOP"]), lists),
    st.builds(
        lambda key, count: ("ZADD", key, *(word for score in range(count) for word in (score, score))),
        st.sampled_from(SETS),
        numbers,
    ),
    st.builds(lambda key, keys: ("ZUNIONSTORE", key, len(keys), *keys), st.sampled_from(SETS), some_sets),
    st.tuples(st.just("XADD"), st.sampled_from(STREAMS), st.just("1-*"), st.just("f"), st.just("v")),
    st.tuples(st.just("DEL"), st.sampled_from(STREAMS)),
    st.tuples(
        st.just("XGROUP"),
        st.just("CREATE"),
        st.sampled_from(STREAMS),
        st.just("g"),
        st.just("$"),
        st.just("MKSTREAM"),
    ),
    st.tuples(
        st.just("CLIENT"),
        st.just("UNBLOCK"),
        st.sampled_from(["{A}", "{B}"]),
        st.sampled_from(["TIMEOUT", "ERROR"]),
    ),
)
random_steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from("ABCD"), waiting_calls),
        st.tuples(st.sampled_from("ABCDE"), making_calls),
        st.tuples(st.just("E"), making_calls),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_steps=random_steps, protocol=st.sampled_from([2, 3]))
def test_random_interleavings(
    running: tuple[Shardkv, int], twin: Server, given_steps: list[tuple[str, tuple[Any, ...]]], protocol: int
) -> None:
    server, workers = running
    interleaved = Interleaved(server, twin, workers=workers, names="ABCDE", protocol=protocol)
    try:
        for name, words in given_steps:
            if name not in interleaved.asked:
                interleaved.step(name, tuple(str(word).replace("{a}", "{{a}}") for word in words))
        for key in LISTS:
            if "E" not in interleaved.asked:
                interleaved.step("E", ("LRANGE", key.replace("{a}", "{{a}}"), "0", "-1"))
    finally:
        interleaved.close()
