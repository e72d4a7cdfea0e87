"""What holds for any sequence of calls: several shards answer as one does, and the log tells what is there.

The calls are those of the twin tests; here time passes as well.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.local import Local
from tests.twin import test_generic, test_strings
from tests.twin.compare import Strategy, Words, assert_consistent, call, in_any_order, of_one_type, sequences

FAMILIES = {"strings": test_strings.calls, "generic": test_generic.calls}

time_passes = call("TIME PASSES", st.sampled_from([1, 10, 5_000_000, 5_000_001]))
short_lives = call("PEXPIRE", st.sampled_from([b"a", b"b", b"c"]), st.sampled_from([1, 10]))

RELAXATIONS = {"KEYS": in_any_order, "SCAN": in_any_order, "RANDOMKEY": of_one_type}
"""Neither has an order of its keys, or chance decides."""


def carry_out(local: Local, words: Words) -> Any:
    if words[0] == "TIME PASSES":
        return local.advance(words[1])
    if words[0] == "SELECT":
        local.db = words[1]
        return None
    return local.call(*words)


@pytest.mark.parametrize("calls", FAMILIES.values(), ids=FAMILIES.keys())
def test_several_shards_answer_as_one(calls: list[Strategy]) -> None:
    @settings(max_examples=50, deadline=None)
    @given(sequences([*calls, time_passes, short_lives]))
    def check(given_calls: list[Words]) -> None:
        one = Local(1)
        others = [Local(3), Local(4, lock_reads=True)]
        for words in given_calls:
            expected = carry_out(one, words)
            for local in others:
                reply = carry_out(local, words)
                if reply != expected:
                    assert words[0] in RELAXATIONS, (words, reply, expected)
                    assert RELAXATIONS[words[0]](reply, expected), (words, reply, expected)
        for local in (one, *others):
            assert local.content() == one.content()
            assert_consistent(local)

    check()
