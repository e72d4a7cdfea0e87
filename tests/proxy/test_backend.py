"""What a proxy has sent to a shard whose process is in the hands of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from shardkv import control, limits
from shardkv.slow import LARGE_REPLY
from shardkv.wire import Batch
from tests.proxy.stage import Stage, sends, stage
from tests.proxy.test_coordinator import Process
from tests.wire import pack

LARGE = b"x" * limits.SHORTENED_BATCH_BYTES


@pytest.fixture
def on_stage() -> Iterator[Stage]:
    with stage(commandlog_reply_larger_than=1000) as made:
        yield made


@pytest.fixture
def shard(on_stage: Stage) -> Iterator[Process]:
    made = Process(on_stage, 0)
    yield made
    made.dies()
    on_stage.turn()


def sent(on_stage: Stage, shard: Process) -> Batch:
    """The next requests that come to the shard, however many reads they take."""
    for _ in range(1000):
        on_stage.turn()
        if requests := shard.requests():
            return requests
    raise AssertionError("nothing has come")


def kept_bytes(on_stage: Stage) -> int:
    """What the proxy keeps of requests until their replies come."""
    [backend] = on_stage.proxy.backends
    batches = [requests for _, _, requests in backend._inflight]
    assert batches
    words = [word for requests in batches for request in requests for word in request[1:]]
    return sum(len(word) if isinstance(word, bytes) else sum(map(len, word)) for word in words)


@pytest.mark.parametrize("commands", [1, 3])
def test_large_values_are_not_kept_until_the_reply_comes(
    on_stage: Stage, shard: Process, commands: int
) -> None:
    session, transport = on_stage.client()
    sends(session, pack("SET", "k", LARGE, "GET") * commands)
    requests = sent(on_stage, shard)
    assert [len(request[2]) for request in requests] == [len(LARGE)] * commands
    assert kept_bytes(on_stage) < 500 * commands
    old = b"$2000\r\n" + b"o" * 2000 + b"\r\n"
    shard._writer.send(([old] * (commands - 1) + [b"$-1\r\n"], ()))
    on_stage.turn()
    assert transport.written == old * (commands - 1) + b"$-1\r\n"
    logged = on_stage.proxy.log.newest(LARGE_REPLY, -1)
    shown = b"%b... (%d more bytes)" % (
        LARGE[: limits.LOGGED_WORD_BYTES],
        len(LARGE) - limits.LOGGED_WORD_BYTES,
    )
    assert [(entry.words, entry.amount) for entry in logged] == [
        ([b"SET", b"k", shown, b"GET"], len(old))
    ] * (commands - 1)


def test_a_large_reply_to_a_small_request_is_logged_alike(on_stage: Stage, shard: Process) -> None:
    session, _ = on_stage.client()
    sends(session, pack("GET", "k"))
    assert len(sent(on_stage, shard)) == 1
    shard._writer.send(([b"$2000\r\n" + b"o" * 2000 + b"\r\n"], ()))
    on_stage.turn()
    [entry] = on_stage.proxy.log.newest(LARGE_REPLY, -1)
    assert entry.words == [b"GET", b"k"]


def test_nor_parts_of_a_transaction(on_stage: Stage, shard: Process) -> None:
    session, transport = on_stage.client()
    sends(session, pack("MULTI") + pack("SET", "k", LARGE) + pack("SET", "l", LARGE) + pack("EXEC"))
    assert len(sent(on_stage, shard)) == 1
    assert kept_bytes(on_stage) == 0
    shard._writer.send(([b"*2\r\n+OK\r\n$2000\r\n" + b"o" * 2000 + b"\r\n"], ()))
    on_stage.turn()
    assert transport.written.endswith(b"o\r\n")


def test_nobody_waits_for_what_a_broken_frame_has_said(on_stage: Stage, shard: Process) -> None:
    """Two requests are answered, and what comes with them cannot be: no ticket has that number."""
    [backend] = on_stage.proxy.backends
    broken = []
    backend.broken = lambda: broken.append(backend.shard)
    clients = [on_stage.client() for _ in range(2)]
    for session, _ in clients:
        sends(session, pack("GET", "k"))
    assert len(sent(on_stage, shard)) == 2
    session, late = on_stage.client()
    sends(session, pack("GET", "k") * 20)
    on_stage.turn()
    shard._writer.send(([b"$1\r\na\r\n", b"$1\r\nb\r\n"], [(999, b"$1\r\nc\r\n")]))
    on_stage.turn()
    for _, transport in clients:
        assert transport.written.startswith(b"-SHARDDOWN shard 0 stopped before it answered")
    assert late.written.count(b"-SHARDDOWN shard 0 ") == 20
    assert broken == [0]
    assert not backend.up


def test_fresh_pipes_are_asked_for_then(on_stage: Stage, shard: Process) -> None:
    asked = []
    on_stage.proxy.supervision.ask = lambda *question: asked.append(question)  # type: ignore[method-assign,assignment]
    shard._writer.send(([], [(999, b"")]))
    for _ in range(100):
        on_stage.loop.run_until_complete(asyncio.sleep(limits.RECONNECT_S / 10))
        if asked:
            break
    assert asked == [(control.SUPERVISOR, control.RECONNECT, [0, 0])]
