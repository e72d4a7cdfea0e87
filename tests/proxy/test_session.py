"""Sessions: order, silence, limits, the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shardkv import clock, errors, limits
from shardkv.resp.replies import encode_error
from shardkv.setting_kinds import BufferLimit, BufferLimits
from tests.proxy.stage import Stage, asks, sends, stage
from tests.wire import pack

DOWN = encode_error(errors.LOADING)


@pytest.fixture
def alone() -> Iterator[Stage]:
    with stage() as made:
        yield made


def test_replies_come_in_the_order_of_the_requests(alone: Stage) -> None:
    session, transport = alone.client()
    asks(session, "GET a", "PING", "ECHO x", "SET a b")
    assert transport.written == b""
    alone.turn()
    assert transport.written == DOWN + b"+PONG\r\n$1\r\nx\r\n" + DOWN


def test_a_long_pipeline_with_large_replies_goes_out_bit_by_bit(
    alone: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BLOCK_REPLY_BYTES", 1)
    session, transport = alone.client()
    asks(session, *[f"ECHO {number}" for number in range(5000)])
    assert transport.written.count(b"$") == 5000
    assert transport.written.endswith(b"$4\r\n4999\r\n")


def test_a_client_that_reads_nothing_is_not_read_from(alone: Stage) -> None:
    session, transport = alone.client()
    session.pause_writing()
    asks(session, "PING", "PING")
    assert transport.written == b""
    assert not transport.reading
    session.resume_writing()
    assert transport.written == b"+PONG\r\n+PONG\r\n"
    assert transport.reading


@pytest.mark.parametrize("count", [31, 32, 33, 96, 97, 224, 352])
def test_a_client_is_read_from_again_after_a_pipeline_of_any_length(alone: Stage, count: int) -> None:
    session, transport = alone.client()
    asks(session, *["GET a"] * count)
    for _ in range(20):
        alone.turn()
    assert transport.written == DOWN * count
    assert transport.reading


def test_quit_closes_after_its_reply(alone: Stage) -> None:
    session, transport = alone.client()
    asks(session, "GET a", "QUIT", "PING")
    assert not transport.closed
    alone.turn()
    assert transport.written == DOWN + b"+OK\r\n"
    assert transport.closed
    assert alone.proxy.counters.requests == 2


def test_what_follows_the_end_of_input_is_answered_first(alone: Stage) -> None:
    session, transport = alone.client()
    asks(session, "GET a")
    assert session.eof_received()
    assert not transport.closed
    alone.turn()
    assert transport.written == DOWN
    assert transport.closed


def test_a_broken_request_is_told_after_all_other_replies(alone: Stage) -> None:
    session, transport = alone.client()
    session.pause_writing()
    sends(session, pack("PING") + pack("PING") + b"*1\r\n:1\r\n")
    assert not transport.closed
    session.resume_writing()
    assert transport.written == b"+PONG\r\n+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n"
    assert transport.closed


def test_silence(alone: Stage) -> None:
    session, transport = alone.client()
    asks(session, "CLIENT REPLY OFF", "PING", "NOSUCH", "GET a", "GET", "CLIENT REPLY SKIP", "CLIENT REPLY x")
    alone.turn()
    assert transport.written == b""
    asks(session, "CLIENT REPLY ON", "PING")
    assert transport.written == b"+OK\r\n+PONG\r\n"


@pytest.mark.parametrize("skipped", ["PING", "NOSUCH", "GET a", "GET", "CLIENT REPLY SKIP", "COMMAND NOSUCH"])
def test_silence_for_one_request(alone: Stage, skipped: str) -> None:
    session, transport = alone.client()
    asks(session, "CLIENT REPLY SKIP", skipped)
    if skipped == "CLIENT REPLY SKIP":
        asks(session, "PING")
    asks(session, "ECHO x")
    alone.turn()
    assert transport.written == b"$1\r\nx\r\n"


def test_the_reply_to_reset_ends_the_silence(alone: Stage) -> None:
    session, transport = alone.client()
    asks(session, "CLIENT REPLY OFF", "RESET", "PING")
    assert transport.written == b"+RESET\r\n+PONG\r\n"


def with_limit(alone: Stage, hard: int, soft: int, seconds: int) -> None:
    limit = BufferLimit(hard, soft, seconds)
    alone.config.client_output_buffer_limit = BufferLimits(limit, BufferLimit(0, 0, 0), BufferLimit(0, 0, 0))


def test_the_hard_limit_counts_at_once(alone: Stage) -> None:
    with_limit(alone, hard=1000, soft=0, seconds=0)
    session, transport = alone.client()
    session.pause_writing()
    transport.waiting_bytes = 999
    session.check_output_limit()
    assert not transport.aborted
    transport.waiting_bytes = 1000
    session.push(b"x")
    session.check_output_limit()
    assert transport.aborted
    assert alone.proxy.counters.output_limit_disconnections == 1


def test_the_soft_limit_counts_when_it_is_exceeded_for_long(
    alone: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr(clock, "monotonic", lambda: now_s)
    with_limit(alone, hard=0, soft=500, seconds=10)
    session, transport = alone.client()
    session.pause_writing()
    assert session in alone.proxy.slow_readers
    transport.waiting_bytes = 600
    session.check_output_limit()
    now_s = 109.0
    session.check_output_limit()
    # It recovers for a moment, so its time begins anew.
    transport.waiting_bytes = 400
    session.check_output_limit()
    transport.waiting_bytes = 600
    session.check_output_limit()
    now_s = 119.0
    session.check_output_limit()
    assert not transport.aborted
    now_s = 119.1
    session.check_output_limit()
    assert transport.aborted


def test_a_pause_holds_a_session_where_it_is(alone: Stage) -> None:
    session, transport = alone.client()
    alone.proxy.hold(clock.monotonic() + 60, writes_only=True)
    asks(session, "ECHO x", "SET a b", "ECHO y")
    alone.turn()
    assert transport.written == b"$1\r\nx\r\n"
    assert session.held
    assert alone.proxy.counters.requests == 1
    alone.proxy.release()
    alone.turn()
    assert transport.written == b"$1\r\nx\r\n" + DOWN + b"$1\r\ny\r\n"
    assert not session.held


def test_a_pause_of_a_silenced_request_does_not_end_the_silence(alone: Stage) -> None:
    session, transport = alone.client()
    asks(session, "CLIENT REPLY SKIP")
    alone.proxy.hold(clock.monotonic() + 60, writes_only=False)
    asks(session, "PING", "ECHO x")
    alone.proxy.release()
    assert transport.written == b"$1\r\nx\r\n"


def test_a_client_in_excess_is_told_and_not_counted() -> None:
    with stage(maxclients=1) as made:
        made.client()
        _, refused = made.client()
        assert refused.written == b"-ERR max number of clients reached\r\n"
        assert refused.closed
        assert len(made.proxy.sessions) == 1
        assert made.proxy.counters.connections == 1
        assert made.proxy.counters.rejected_connections == 1


def test_draining_lets_everybody_finish(alone: Stage) -> None:
    busy, busy_transport = alone.client()
    idle, idle_transport = alone.client()
    asks(busy, "GET a")
    alone.proxy.entrance.drain()
    assert idle_transport.closed
    assert not busy_transport.closed
    alone.turn()
    assert busy_transport.written == DOWN
    assert busy_transport.closed
    for session in (busy, idle):
        session.connection_lost(None)
    alone.loop.run_forever()
    assert not alone.proxy.sessions


def test_what_came_before_the_connection_was_lost_is_carried_out() -> None:
    with stage() as play:
        session, _ = play.client()
        other, _ = play.client()
        session.data_received(pack("GET", "a"))
        other.data_received(pack("PING"))
        session.connection_lost(None)
        assert session.requests == 1
        assert other.requests == 1


def test_a_request_that_fails_to_be_taken_up_closes_its_client_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage() as play:
        session, transport = play.client()
        other, other_transport = play.client()
        monkeypatch.setattr(session.reader, "feed", None)
        session.data_received(pack("PING"))
        other.data_received(pack("PING"))
        play.proxy.take_arrivals()
        assert transport.aborted
        assert other_transport.written == b"+PONG\r\n"
        assert f"client id={session.id} closed" in caplog.text


def test_a_large_chunk_is_taken_up_at_once_behind_what_came_before() -> None:
    with stage() as play:
        session, transport = play.client()
        other, _ = play.client()
        session.data_received(pack("PING", "first"))
        other.data_received(pack("PING"))
        session.data_received(pack("PING", "x" * 20_000))
        assert transport.written == b"$5\r\nfirst\r\n$20000\r\n" + b"x" * 20_000 + b"\r\n"
        assert other.requests == 1
