"""The same calls to shards of ours and to a real server, whose replies must be the same bytes.

A family's tests say which calls there are (strategies that make tuples of words) and where our replies may
differ (`Relaxations`, with the reason beside each). `SELECT` chooses the database on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import hiredis
from hypothesis import strategies as st

from shardkv import clock
from tests.local import Local
from tests.twin.servers import Server
from tests.wire import Connection

Words = tuple[Any, ...]
"""A call: bytes, and what stands for the bytes of its `str`."""

Strategy = st.SearchStrategy[Any]

Relaxations = Mapping[str, Callable[[Any, Any], bool]]
"""For the name of a command, in upper case: whether a reply of ours (the first) may stand for the server's.
Error replies are hiredis.ReplyError."""

SHARD_COUNTS = (1, 3)
PROTOCOLS = (2, 3)


# -- calls ------------------------------------------------------------------------------------


def call(*words: Strategy | str) -> Strategy:
    """A call of such words."""
    return st.tuples(*(st.just(word) if isinstance(word, str) else word for word in words))


def with_options(head: Strategy, options: Strategy, most: int = 3) -> Strategy:
    """A call, and after it some options, each a tuple of words."""
    return st.builds(lambda words, found: (*words, *chain(*found)), head, st.lists(options, max_size=most))


def repeated(name: str, *words: Strategy, most: int = 4) -> Strategy:
    """A call with the same kinds of words once or several times."""
    groups = st.lists(st.tuples(*words), min_size=1, max_size=most)
    return groups.map(lambda found: (name, *chain(*found)))


def sequences(calls: Sequence[Strategy], most: int = 30) -> st.SearchStrategy[list[Words]]:
    """Lists of calls."""
    return st.lists(st.one_of(*calls), min_size=1, max_size=most)


# -- what may differ --------------------------------------------------------------------------


def in_any_order(ours: Any, theirs: Any) -> bool:
    """For replies whose elements, at any depth, come in no particular order."""
    return bool(_sorted(ours) == _sorted(theirs))


def _sorted(reply: Any) -> Any:
    return sorted(map(_sorted, reply), key=repr) if isinstance(reply, list | set) else reply


def within(tolerance: int) -> Callable[[Any, Any], bool]:
    """For numbers that depend on when the calls were carried out; below 0 they are no times."""

    def near(ours: Any, theirs: Any) -> bool:
        if not (isinstance(ours, int) and isinstance(theirs, int)):
            return False
        return min(ours, theirs) >= 0 and abs(ours - theirs) <= tolerance

    return near


def of_one_type(ours: Any, theirs: Any) -> bool:
    """For replies that are drawn at random."""
    return type(ours) is type(theirs) and not isinstance(ours, hiredis.ReplyError)


# -- the comparison ---------------------------------------------------------------------------


def encoded(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


def parsed(reply: bytes) -> Any:
    """The reply as a value."""
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


def assert_same(server: Server, calls: Sequence[Words], relaxations: Relaxations) -> None:
    """Has a real server and shards of ours, one and several, carry out the same calls in both protocols, and
    compares all replies; in the end, what is logged with what is there.
    """
    for protocol in PROTOCOLS:
        with Connection(server.port, protocol) as twin:
            twin.ask("FLUSHALL")
            ours = [Local(count) for count in SHARD_COUNTS]
            for number, words in enumerate(calls):
                expected = twin.ask(*map(encoded, words))
                for local in ours:
                    reply = _carry_out(local, words, protocol)
                    if reply != expected and not _may_differ(relaxations, words, reply, expected):
                        raise AssertionError(_report(calls[: number + 1], reply, expected, local, protocol))
    for local in ours:
        assert_consistent(local)


def assert_consistent(local: Local) -> None:
    """No lock is left over, and the log tells what is there."""
    assert not any(shard.locks for shard in local.shards)
    content = local.content()
    assert local.replayed().content() == content


def _carry_out(local: Local, words: Words, protocol: int) -> bytes:
    local.set_clock(clock.now_ms())
    if words[0] == "SELECT":
        local.db = int(words[1])
        return b"+OK\r\n"
    return local.resp(*words, protocol=protocol)


def _may_differ(relaxations: Relaxations, words: Words, reply: bytes, expected: bytes) -> bool:
    allowed = relaxations.get(encoded(words[0]).decode("latin-1").upper())
    return allowed is not None and allowed(parsed(reply), parsed(expected))


def _report(calls: Sequence[Words], reply: bytes, expected: bytes, local: Local, protocol: int) -> str:
    return "\n".join(
        [
            f"with RESP{protocol} and {len(local.shards)} shards:",
            *(" ".join(repr(word) for word in words) for words in calls),
            f"ours:   {reply!r}",
            f"theirs: {expected!r}",
        ]
    )
