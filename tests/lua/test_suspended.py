"""Scripts that are suspended while a command of theirs is carried out elsewhere."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import greenlet
import pytest

from shardkv.errors import CommandError
from shardkv.lua import Engine
from tests.lua.hosts import FakeHost, run

BODY = """
    local found = {}
    for number = 1, 30 do
        found[number] = redis.call('x', number)
        if number % 10 == 0 then found[number] = select(2, pcall(redis.call, 'bad')) end
    end
    found[31] = coroutine.wrap(function() return redis.call('y') end)()
    return found
"""


@pytest.mark.parametrize("seed", range(5))
def test_scripts_of_several_engines_by_turns(seed: int) -> None:
    main = greenlet.getcurrent()
    rng = random.Random(seed)
    engines = [Engine() for _ in range(3)]

    def ask_main(words: list[bytes]) -> Any:
        return main.switch(words)

    def script(engine: Engine) -> Callable[[], Any]:
        return lambda: ("done", run(engine, BODY, host=FakeHost(ask_main)))

    running = {engine: greenlet.greenlet(script(engine)) for engine in engines}
    asked = {engine: one.switch() for engine, one in running.items()}
    results = []
    while asked:
        engine = rng.choice(list(asked))
        if asked[engine][0] == "done":
            results.append(asked.pop(engine)[1])
            continue
        if rng.random() < 0.3:
            engine.compile(b"return %d" % rng.randrange(1000))
        words = asked[engine]
        reply = CommandError("ERR bad") if words == [b"bad"] else b"".join(words)
        asked[engine] = running[engine].switch(reply)
    expected = [b"x%d" % number if number % 10 else b"ERR bad" for number in range(1, 31)]
    assert results == [[*expected, b"y"]] * 3
    assert all(run(engine, "return 1") == 1 for engine in engines)
