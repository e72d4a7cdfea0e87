"""What a proxy has sent to a shard whose process is in the hands of a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shardkv import limits
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
