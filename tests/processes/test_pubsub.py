"""Publish/subscribe with several clients: each of them is told, byte for byte, what a real server tells."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.processes.server import Shardkv, eventually, shardkv
from tests.twin.servers import Server
from tests.wire import Connection

CLIENTS = 4
PROTOCOLS = (2, 3, 2, 3)

Step = tuple[int, tuple[str, ...]]
"""A client and its request."""


@pytest.fixture(scope="module", params=[(1, 1), (3, 1), (1, 2), (3, 2)], ids=lambda pair: f"{pair}")
def crowd(request: pytest.FixtureRequest) -> Iterator[Shardkv]:
    """A server with so many workers and proxies."""
    workers, proxies = request.param
    with shardkv(workers=workers, proxies=proxies) as running:
        yield running


@pytest.fixture(scope="module", params=[(1, 1), (3, 2)], ids=lambda pair: f"{pair}")
def extremes(request: pytest.FixtureRequest) -> Iterator[Shardkv]:
    workers, proxies = request.param
    with shardkv(workers=workers, proxies=proxies) as running:
        yield running


def parsed(reply: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(reply.replace(b">", b"*", 1) if reply[:1] == b">" else reply)
    return reader.gets()


class Twins:
    """The same clients at both servers. What the real one tells them is what ours has to tell them."""

    def __init__(self, ours: Server, theirs: Server, stack: ExitStack) -> None:
        self.ours = [stack.enter_context(Connection(ours.port, protocol)) for protocol in PROTOCOLS]
        self.theirs = [stack.enter_context(Connection(theirs.port, protocol)) for protocol in PROTOCOLS]
        self._marks = itertools.count()

    def step(self, client: int, words: tuple[str, ...]) -> None:
        self.theirs[client].send(*words)
        expected = [self._until_mark(number) for number in range(CLIENTS)]
        self.ours[client].send(*words)
        for number in [client, *(other for other in range(CLIENTS) if other != client)]:
            found = [self.ours[number].receive() for _ in expected[number]]
            assert comparable(words, found) == comparable(words, expected[number]), (client, words, number)

    def _until_mark(self, client: int) -> list[bytes]:
        """All that the real server has sent a client."""
        mark = b"mark %d" % next(self._marks)
        self.theirs[client].send("PING", mark)
        found = []
        while mark not in (reply := self.theirs[client].receive()):
            found.append(reply)
        return found

    def end(self) -> None:
        """Nobody has been told more than that."""
        for client in self.ours:
            assert b"the end" in client.ask("PING", "the end")


def comparable(words: tuple[str, ...], replies: list[bytes]) -> Any:
    """Where a server follows the order of its tables, any order will do."""
    if words[0] in ("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE") and len(words) == 1:
        told = [parsed(reply) for reply in replies]
        return [reply[:1] for reply in replies], {name for _, name, _ in told}, [count for *_, count in told]
    if words[0] == "PUBLISH":
        return sorted(replies)
    if words[:2] in (("PUBSUB", "CHANNELS"), ("PUBSUB", "SHARDCHANNELS")):
        return [reply if reply.startswith(b"-") else sorted(parsed(reply)) for reply in replies]
    if words[0] == "HELLO":
        return len(replies)
    return replies


SCENES = {
    "a channel": """
        0 SUBSCRIBE a | 1 SUBSCRIBE a b a | 2 PUBLISH a x | 3 PUBLISH a y | 1 PUBLISH b self
        0 PUBLISH a no | 0 PING | 0 PING x | 0 GET k | 1 GET k | 1 PING | 0 UNSUBSCRIBE a | 2 PUBLISH a z
        1 UNSUBSCRIBE | 2 PUBLISH a nobody | 0 UNSUBSCRIBE | 0 GET k | 0 UNSUBSCRIBE x y
    """,
    "patterns": """
        0 PSUBSCRIBE a* *b [ab]* a* | 1 PSUBSCRIBE a* | 1 SUBSCRIBE ab | 2 PUBLISH ab x | 3 PUBLISH b y
        2 PUBSUB NUMPAT | 2 PUBSUB CHANNELS | 0 PUNSUBSCRIBE a* nosuch | 3 PUBLISH ab z | 1 PUNSUBSCRIBE
        2 PUBSUB NUMPAT | 0 PUNSUBSCRIBE | 0 PUNSUBSCRIBE | 3 PUBLISH ab z | 1 UNSUBSCRIBE ab
        2 PUBSUB NUMPAT
    """,
    "shard channels": """
        0 SSUBSCRIBE a b | 1 SSUBSCRIBE a | 1 SUBSCRIBE a | 2 SPUBLISH a x | 2 PUBLISH a y | 0 SUBSCRIBE c
        0 SPUBLISH a x | 2 PUBSUB SHARDCHANNELS | 2 PUBSUB SHARDNUMSUB a b c | 2 PUBSUB NUMSUB a b c
        0 SUNSUBSCRIBE a | 0 UNSUBSCRIBE | 0 SUNSUBSCRIBE | 0 SUNSUBSCRIBE | 1 RESET | 2 SPUBLISH a x
    """,
    "who has subscribed": """
        0 SUBSCRIBE a1 a2 b1 | 1 SUBSCRIBE a1 b2 | 1 PSUBSCRIBE x* y* | 0 PSUBSCRIBE x* | 2 PUBSUB CHANNELS
        3 PUBSUB CHANNELS a* | 2 PUBSUB CHANNELS nosuch | 3 PUBSUB NUMSUB | 3 PUBSUB NUMSUB a1 a1 b2 nosuch
        2 PUBSUB NUMPAT | 2 PUBSUB SHARDCHANNELS * | 2 PUBSUB SHARDNUMSUB | 3 PUBSUB CHANNELS a b | 3 PUBSUB
        3 PUBSUB nosuch | 3 PUBSUB NUMPAT x | 0 RESET | 2 PUBSUB CHANNELS | 1 RESET | 2 PUBSUB CHANNELS
        2 PUBSUB NUMPAT
    """,
    "RESET and the number of arguments": """
        0 SUBSCRIBE | 0 PSUBSCRIBE | 0 SSUBSCRIBE | 0 PUBLISH a | 0 SPUBLISH a | 0 SUBSCRIBE a | 0 RESET
        0 PING | 2 PUBLISH a x | 0 SUBSCRIBE a | 0 SUBSCRIBE | 0 NOSUCH | 0 GET | 0 RESET | 1 SUBSCRIBE a
        1 HELLO 2 | 1 PING | 1 GET k | 2 PUBLISH a x | 1 RESET | 1 PING
    """,
    "silence": """
        1 CLIENT REPLY SKIP | 1 SUBSCRIBE a | 1 PING | 1 CLIENT REPLY OFF | 1 SUBSCRIBE b | 2 PUBLISH b x
        1 UNSUBSCRIBE a | 1 CLIENT REPLY ON | 1 UNSUBSCRIBE
    """,
    "MULTI": """
        0 MULTI | 0 SUBSCRIBE a b | 0 GET k | 0 PING | 0 UNSUBSCRIBE | 0 SSUBSCRIBE a | 0 PUBSUB NUMSUB a
        0 EXEC | 0 PING | 1 SUBSCRIBE a b | 0 MULTI | 0 SET k v | 0 PUBLISH a x | 0 PUBLISH b x | 0 GET k
        0 EXEC | 0 MULTI | 0 PUBLISH a only | 0 EXEC | 0 MULTI | 0 SPUBLISH a only | 0 EXEC | 1 MULTI
        1 PUBLISH a self | 1 PUBLISH b self | 1 PUBLISH a again | 1 EXEC | 2 MULTI | 2 SUBSCRIBE c | 2 EXEC
        2 GET k | 3 PUBLISH c x | 2 UNSUBSCRIBE c | 0 MULTI | 0 PUBLISH a never | 0 DISCARD | 0 MULTI
        0 PUBLISH a | 0 EXEC | 0 MULTI | 0 RENAME k l | 0 PUBLISH a r | 0 PUBLISH b r | 0 RENAME nosuch l
        0 EXEC
    """,
}
WITHOUT_MARKS = ("silence", "MULTI")


def steps(scene: str) -> Iterator[Step]:
    for line in scene.strip().splitlines():
        for entry in line.split(" | "):
            client, *words = entry.split()
            yield int(client), tuple(words)


@pytest.mark.parametrize("name", SCENES.keys() - set(WITHOUT_MARKS))
def test_scene(crowd: Shardkv, twin_server: Server, name: str) -> None:
    with ExitStack() as stack:
        twins = Twins(crowd, twin_server, stack)
        for client, words in steps(SCENES[name]):
            twins.step(client, words)
        twins.end()
    eventually(lambda: crowd.info()["pubsub_clients"] == "0")


@pytest.mark.parametrize("name", WITHOUT_MARKS)
def test_transcript(crowd: Shardkv, twin_server: Server, name: str) -> None:
    """Where a PING between would be no neutral thing, it is what each client got in all that is compared."""

    def transcripts(server: Server) -> list[list[bytes]]:
        with ExitStack() as stack:
            clients = [stack.enter_context(Connection(server.port, protocol)) for protocol in PROTOCOLS]
            silent: set[int] = set()
            heard: list[list[bytes]] = [[] for _ in clients]
            for client, words in steps(SCENES[name]):
                clients[client].send(*words)
                if words[:2] == ("CLIENT", "REPLY"):
                    silent ^= {client} if words[2] != "SKIP" else set()
                    if words[2] == "ON":
                        heard[client].append(clients[client].receive())
                else:
                    heard[client].append(clients[client].receive())
            for number, connection in enumerate(clients):
                connection.send("PING", "the end")
                while b"the end" not in (reply := connection.receive()):
                    heard[number].append(reply)
            return heard

    ours, theirs = transcripts(crowd), transcripts(twin_server)
    for own, real in zip(ours, theirs, strict=True):
        # Where in the stream of replies a message comes is up to the server, as is the order of channels.
        assert [reply for reply in own if b"message" not in reply] == [
            reply for reply in real if b"message" not in reply
        ]
        assert by_channel(own) == by_channel(real)


def by_channel(replies: list[bytes]) -> list[bytes]:
    """The messages among replies, with those of a channel together."""
    return sorted(
        (reply for reply in replies if b"message" in reply), key=lambda reply: str(parsed(reply)[1])
    )


NAMES = st.sampled_from(["a", "b", "ab", "ba", "c{a}"])
PATTERNS = st.sampled_from(["*", "a*", "*b", "[ab]", "?"])
REQUESTS = st.one_of(
    st.tuples(st.just("SUBSCRIBE"), NAMES),
    st.tuples(st.just("SUBSCRIBE"), NAMES, NAMES, NAMES),
    st.tuples(st.just("PSUBSCRIBE"), PATTERNS, PATTERNS),
    st.tuples(st.just("SSUBSCRIBE"), NAMES),
    st.tuples(st.just("UNSUBSCRIBE"), NAMES, NAMES),
    st.tuples(st.just("UNSUBSCRIBE")),
    st.tuples(st.just("PUNSUBSCRIBE"), PATTERNS),
    st.tuples(st.just("PUNSUBSCRIBE")),
    st.tuples(st.just("SUNSUBSCRIBE"), NAMES),
    st.tuples(st.just("PUBLISH"), NAMES, st.sampled_from("xyz")),
    st.tuples(st.just("PUBLISH"), NAMES, st.sampled_from("xyz")),
    st.tuples(st.just("SPUBLISH"), NAMES, st.sampled_from("xyz")),
    st.tuples(st.just("PUBSUB"), st.just("NUMSUB"), NAMES, NAMES),
    st.tuples(st.just("PUBSUB"), st.just("CHANNELS"), PATTERNS),
    st.tuples(st.just("PUBSUB"), st.just("NUMPAT")),
    st.tuples(st.just("RESET")),
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.integers(0, CLIENTS - 1), REQUESTS), min_size=1, max_size=25))
def test_any_sequence(extremes: Shardkv, twin_server: Server, sequence: list[Step]) -> None:
    with ExitStack() as stack:
        twins = Twins(extremes, twin_server, stack)
        for client, words in sequence:
            twins.step(client, words)
        twins.end()
    # The next example begins with nobody subscribed, on either side.
    eventually(lambda: _is_quiet(extremes))
    eventually(lambda: _is_quiet(twin_server))


def _is_quiet(server: Server) -> bool:
    with Connection(server.port) as connection:
        return (
            connection.ask("PUBSUB", "CHANNELS") == connection.ask("PUBSUB", "SHARDCHANNELS") == b"*0\r\n"
            and connection.ask("PUBSUB", "NUMPAT") == b":0\r\n"
        )
