"""Streams, beside a real server."""

from __future__ import annotations

from itertools import chain
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.twin.compare import (
    Relaxations,
    Strategy,
    Words,
    assert_same,
    call,
    with_options,
)
from tests.twin.servers import Server

TOLERANCE_MS = 20_000
A_TIME_MS = 10**12
"""Larger numbers are times since 1970."""


def _same_but_for_times(ours: Any, theirs: Any) -> bool:
    """Whether replies are equal, but for times since 1970, which may be a little later."""
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same_but_for_times, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(
            _same_but_for_times(ours[key], theirs[key]) for key in ours
        )
    if isinstance(ours, int) and isinstance(theirs, int) and ours > A_TIME_MS < theirs:
        return abs(ours - theirs) < TOLERANCE_MS
    return bool(ours == theirs)


def _same_but_for_idle(ours: Any, theirs: Any) -> bool:
    """The same for times since something that happened meanwhile: in the replies of XPENDING and of XINFO
    CONSUMERS."""
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) == len(theirs) == 4 and isinstance(ours[2], int):
            ours, theirs = (
                [*ours[:2], _rounded(ours[2]), ours[3]],
                [*theirs[:2], _rounded(theirs[2]), theirs[3]],
            )
        return len(ours) == len(theirs) and all(map(_same_but_for_idle, ours, theirs))
    return bool(ours == theirs)


def _rounded(ms: int) -> int:
    """Times that are only some seconds apart as one."""
    return -1 if ms < 0 else round(ms / TOLERANCE_MS)


def _information(ours: Any, theirs: Any) -> bool:
    """For XINFO, where the times since something are given by name."""
    return _same_but_for_times(_without_idle(ours), _without_idle(theirs))


def _without_idle(reply: Any) -> Any:
    if isinstance(reply, dict):
        items = [
            (key, _rounded(value) if key in IDLE else _without_idle(value)) for key, value in reply.items()
        ]
        return dict(items)
    if isinstance(reply, list):
        # In RESP2 a map is a list of keys and values.
        return [
            _rounded(value) if index and reply[index - 1] in IDLE else _without_idle(value)
            for index, value in enumerate(reply)
        ]
    return reply


IDLE = (b"idle", b"inactive")

RELAXATIONS: Relaxations = {"XPENDING": _same_but_for_idle, "XINFO": _information}

KEYS = [b"a", b"b", b"c", b"{a}:1"]
GROUPS = [b"g", b"h"]
A_STRING = b"string"

small_ids = st.builds(lambda ms, seq: f"{ms}-{seq}", st.integers(1, 6), st.integers(0, 3))
odd_ids = st.sampled_from(
    [
        *["0", "5", "5-*", "0-*", "6-*", "-", "+", "$", ">", "", "x", "1-", "-1", "1-1-1", "(1", "(2-2", "("],
        *["18446744073709551615-18446744073709551615", "18446744073709551615", "18446744073709551616-1"],
        *["18446744073709551615-*", "007-01", "+4-1", "4-+1", " 4-1", "4- 1", "4--1", "4--01", "3-1 "],
        *[b"4-1\x00x", b"4\x00-1", "0" * 130, "0" * 120 + "5"],
    ]
)
starts = st.one_of(small_ids, small_ids.map(lambda text: f"({text}"), st.just("-"))
ends = st.one_of(small_ids, small_ids.map(lambda text: f"({text}"), st.just("+"))
numbers = st.integers(0, 5)
odd_numbers = st.sampled_from([0, 1, 3, 1000, -1, 2**63 - 1, 2**63, "x", "", "01"])
# Between these lie all times since the last delivery that tests can tell apart.
idle_times = st.sampled_from([0, 0, 0, 50_000])
odd_idle_times = st.sampled_from([0, 10**9, -1, "x"])
consumers = st.sampled_from([b"alice", b"bob", b""])
pairs = st.lists(
    st.sampled_from([b"f", b"v", b"", b"1", b"\xff\r\n", b"long" * 30]), min_size=2, max_size=6
).map(lambda found: tuple(found[: len(found) // 2 * 2]))
odd_pairs = st.sampled_from([("f", "v"), ("f",), (), ("f", "v", "g")])

signs = st.sampled_from([(), (), ("=",), ("~",)])


def _trims(numbers: Strategy, ids: Strategy) -> Strategy:
    return st.one_of(
        st.builds(lambda sign, number: ("MAXLEN", *sign, number), signs, numbers),
        st.builds(lambda sign, text: ("minid", *sign, text), signs, ids),
    )


odd_trims = st.one_of(
    _trims(odd_numbers, odd_ids), call("LIMIT", odd_numbers), st.sampled_from([("MAXLEN",), ("MINID", "~")])
)
claim_options = st.one_of(
    call("IDLE", st.sampled_from([0, 100_000, -5])),
    call("TIME", st.sampled_from([0, 1000, 2**62, -5])),
    call("RETRYCOUNT", numbers),
    call("LASTID", small_ids),
    st.sampled_from([("FORCE",), ("force",), ("FORCE",), ("JUSTID",)]),
)
odd_claim_options = st.one_of(
    call(st.sampled_from(["IDLE", "TIME", "RETRYCOUNT"]), odd_numbers),
    call("LASTID", odd_ids),
    st.sampled_from([("FOO",), ("IDLE",)]),
)
reading_options = st.one_of(call("COUNT", numbers), st.sampled_from([("BLOCK", 1), ("NOACK",)]))
odd_reading_options = st.one_of(
    call("COUNT", odd_numbers),
    st.sampled_from([("block", -1), ("BLOCK", "x"), ("COUNT",), ("FOO",)]),
    st.builds(lambda group: ("GROUP", group, b"bob"), st.sampled_from(GROUPS)),
)
info_options = st.sampled_from([(), ("FULL",), ("FULL", "COUNT", 1), ("FULL", "COUNT", 0)])
odd_info_options = st.sampled_from([("FULL", "COUNT"), ("FULL", "COUNT", -1), ("FOO",), ("FULL", "FOO", 1)])


def _adding(key: bytes, options: list[Words], stream_id: Any, found: Words) -> Words:
    return ("XADD", key, *chain(*options), stream_id, *found)


def _reading(head: Words, options: list[Words], some: list[tuple[bytes, Any]]) -> Words:
    streams = ("STREAMS", *(key for key, _ in some), *(text for _, text in some))
    return (*head, *chain(*options), *streams)


def _streams(keys: Strategy, ids: Strategy) -> Strategy:
    return st.lists(st.tuples(keys, ids), min_size=1, max_size=2)


class Given:
    """What calls are made of: what is likely to mean something, or anything."""

    def __init__(self, *, odd: bool) -> None:
        self.keys = st.sampled_from([*KEYS, A_STRING, b"none"]) if odd else st.sampled_from(KEYS[:2])
        self.groups = st.sampled_from([*GROUPS, b"\xff\r\n"]) if odd else st.sampled_from(GROUPS)
        self.ids = odd_ids if odd else small_ids
        self.starts = st.one_of(odd_ids, starts) if odd else starts
        self.ends = st.one_of(odd_ids, ends) if odd else ends
        self.numbers = odd_numbers if odd else numbers
        self.idle_times = odd_idle_times if odd else idle_times
        self.pairs = odd_pairs if odd else pairs
        self.trims = odd_trims if odd else _trims(numbers, small_ids)
        self.claim_options = odd_claim_options if odd else claim_options
        self.reading_options = odd_reading_options if odd else reading_options
        self.info_options = odd_info_options if odd else info_options

    def some_ids(self, *head: Strategy | str) -> Strategy:
        """A call that ends in IDs."""
        several = st.lists(self.ids, min_size=1, max_size=4)
        return st.builds(lambda words, found: (*words, *found), call(*head), several)

    def calls(self) -> list[Strategy]:
        """Calls of every command."""
        keys, groups, ids, number = self.keys, self.groups, self.ids, self.numbers
        new_or_old = st.one_of(st.just(">"), st.just(">"), st.just("0"), ids)
        member = call("XREADGROUP", "GROUP", groups, consumers)
        read_options = st.lists(self.reading_options, max_size=1)
        pending = call("XPENDING", keys, groups)
        return [
            st.builds(_adding, keys, st.just([]), ids, self.pairs),
            st.builds(_adding, keys, st.just([]), st.sampled_from(["5-*", "6-*", "6-3"]), self.pairs),
            st.builds(_adding, keys, st.lists(self.trims, max_size=1), ids, self.pairs),
            st.builds(_adding, keys, st.just([("NOMKSTREAM",)]), ids, self.pairs),
            with_options(call("XTRIM", keys), st.one_of(self.trims, call("LIMIT", number)), most=2),
            self.some_ids("XDEL", keys),
            call("XLEN", keys),
            with_options(call("XRANGE", keys, self.starts, self.ends), call("COUNT", number), most=1),
            with_options(call("XREVRANGE", keys, self.ends, self.starts), call("COUNT", number), most=1),
            with_options(
                call("XSETID", keys, ids),
                st.one_of(call("ENTRIESADDED", number), call("MAXDELETEDID", ids), st.just(("FOO",))),
                most=2,
            ),
            st.builds(_reading, st.just(("XREAD",)), read_options, _streams(keys, self.ids)),
            st.builds(_reading, member, read_options, _streams(keys, new_or_old)),
            st.builds(_reading, member, read_options, _streams(keys, new_or_old)),
            st.builds(_reading, member, read_options, _streams(keys, st.just(">"))),
            with_options(
                call("XGROUP", st.just("CREATE"), keys, groups, ids),
                st.one_of(st.just(("MKSTREAM",)), call("ENTRIESREAD", number)),
                most=2,
            ),
            with_options(
                call("XGROUP", st.just("SETID"), keys, groups, ids), call("ENTRIESREAD", number), most=1
            ),
            call("XGROUP", st.just("DESTROY"), keys, groups),
            call("XGROUP", st.just("CREATECONSUMER"), keys, groups, consumers),
            call("XGROUP", st.just("DELCONSUMER"), keys, groups, consumers),
            self.some_ids("XACK", keys, groups),
            with_options(
                self.some_ids("XCLAIM", keys, groups, consumers, self.idle_times), self.claim_options
            ),
            with_options(
                call("XAUTOCLAIM", keys, groups, consumers, self.idle_times, self.starts),
                st.one_of(call("COUNT", number), st.just(("JUSTID",))),
                most=1,
            ),
            pending,
            st.tuples(pending, st.tuples(self.starts, self.ends, number)).map(chained),
            st.tuples(pending, st.tuples(self.starts, self.ends, number, consumers)).map(chained),
            st.tuples(pending, call("IDLE", self.idle_times, self.starts, self.ends, number)).map(chained),
            with_options(call("XINFO", "STREAM", keys), self.info_options, most=1),
            call("XINFO", "GROUPS", keys),
            call("XINFO", "CONSUMERS", keys, groups),
        ]


def chained(parts: tuple[Words, ...]) -> Words:
    """The words of several parts of a call."""
    return tuple(chain(*parts))


plain_calls = Given(odd=False).calls()
other_calls = [
    *Given(odd=True).calls(),
    # Its last ID lies in the future, so that it is not the time that chooses the next one.
    call("XADD", "future", st.just("99999999999999-1"), "f", "v"),
    call("XADD", "future", "MAXLEN", "3", "99999999999999-*", "f", "v"),
    st.tuples(call("XPENDING", "a", "g"), st.sampled_from([("-", "+"), ("IDLE", 1, "-", "+")])).map(chained),
    call("SET", st.just(A_STRING), "x"),
    call("TYPE", st.sampled_from(KEYS)),
    call("OBJECT", "ENCODING", st.sampled_from(KEYS)),
    call("DEL", st.sampled_from(KEYS)),
]
mixed_calls = st.one_of([*plain_calls, *plain_calls, *plain_calls, *other_calls])

BEFORE: list[Words] = [
    *(("XGROUP", "CREATE", key, group, 0, "MKSTREAM") for key in KEYS[:2] for group in GROUPS),
    *(("XADD", key, f"1-{number}", "f", "v") for key in KEYS[:2] for number in (1, 2, 3)),
    *(("XREADGROUP", "GROUP", group, b"bob", "COUNT", 2, "STREAMS", b"a", ">") for group in GROUPS),
    ("XADD", b"a", "2-1", "f", "v"),
]
CONTENTS: list[Words] = [("XINFO", "STREAM", key, "FULL", "COUNT", 0) for key in [*KEYS, b"future"]]


@settings(max_examples=60, deadline=None)
@given(st.lists(mixed_calls, min_size=25, max_size=50))
def test_random_calls(twin_server: Server, given_calls: list[Words]) -> None:
    assert_same(twin_server, BEFORE + given_calls + CONTENTS, RELAXATIONS)
