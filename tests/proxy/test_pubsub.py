"""The fan-out of messages, and what a subscriber may do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proxy.session import Session
from shardkv import clock, errors
from shardkv.channels import CHANNEL, LOST, PATTERN, Entry, encode_told
from shardkv.resp.replies import encode_error
from shardkv.setting_kinds import BufferLimit, BufferLimits
from tests.proxy.stage import Stage, Transport, asks, stage
from tests.wire import pack


@pytest.fixture
def alone() -> Iterator[Stage]:
    with stage() as made:
        yield made


def tell(stage: Stage, *entries: Entry) -> None:
    """Lets the shard tell something."""
    [backend] = stage.proxy.backends
    backend.published([encode_told((0, list(entries)))])


def changes(stage: Stage) -> list[Any]:
    """What the shard has to be told: subscriptions, and the numbers of changes that it has to acknowledge."""
    first, *others = stage.proxy.pubsub.homes[0].greeting()
    assert first[1] == 0
    return [first[2], [number for _, number, _ in others]]


def subscriber(stage: Stage, request: str = "SUBSCRIBE a") -> tuple[Session, Transport]:
    session, transport = stage.client()
    asks(session, request)
    stage.turn()
    _, numbers = changes(stage)
    tell(stage, *numbers)
    stage.turn()
    transport.written = b""
    return session, transport


def message(text: str, channel: str = "a") -> tuple[int, bytes, bytes, list[bytes]]:
    return (CHANNEL, channel.encode(), text.encode(), [])


def test_a_subscription_is_confirmed_when_the_shard_knows_of_it(alone: Stage) -> None:
    session, transport = alone.client()
    asks(session, "SUBSCRIBE a b")
    alone.turn()
    assert transport.written == b""
    assert changes(alone) == [[(CHANNEL, b"a", 1), (CHANNEL, b"b", 1)], [1]]
    tell(alone, 1)
    alone.turn()
    assert transport.written == b"".join(
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\n%b\r\n:%d\r\n" % pair for pair in ((b"a", 1), (b"b", 2))
    )


def test_what_was_published_before_the_subscription_is_not_for_the_subscriber(alone: Stage) -> None:
    session, transport = alone.client()
    asks(session, "SUBSCRIBE a")
    alone.turn()
    tell(alone, message("before"), 1, message("after"))
    alone.turn()
    assert b"before" not in transport.written
    assert transport.written.endswith(b":1\r\n" + pack("message", "a", "after"))


def test_what_was_published_before_the_end_of_a_subscription_still_comes(alone: Stage) -> None:
    session, transport = subscriber(alone)
    alone.proxy.backends[0].up = True
    asks(session, "UNSUBSCRIBE")
    alone.turn()
    assert changes(alone) == [[], [2]]
    tell(alone, message("late"), 2, message("too late"))
    alone.turn()
    confirmation = b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n"
    assert transport.written == pack("message", "a", "late") + confirmation


def test_a_subscription_ends_at_once_while_the_shard_is_down(alone: Stage) -> None:
    session, transport = subscriber(alone)
    asks(session, "UNSUBSCRIBE")
    alone.turn()
    assert transport.written == b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n"
    assert changes(alone) == [[], []]


def test_a_client_that_leaves_while_it_subscribes_is_forgotten(alone: Stage) -> None:
    session, _ = alone.client()
    asks(session, "SUBSCRIBE a", "PSUBSCRIBE b*")
    alone.turn()
    session.connection_lost(None)
    assert changes(alone) == [[], [1]]
    tell(alone, 1)
    alone.turn()
    assert changes(alone) == [[], []]
    tell(alone, message("nobody"))


def test_each_protocol_has_its_own_form(alone: Stage) -> None:
    _, second = subscriber(alone)
    session, third = subscriber(alone)
    session.protocol = 3
    tell(alone, message("x"), message("y"), (CHANNEL, b"a", b"z", [b"*"]))
    told = [pack("message", "a", text) for text in "xyz"]
    assert second.written == b"".join(told)
    assert third.written == b"".join(b">" + reply[1:] for reply in told)


def test_patterns_come_after_the_channel_message_by_message(alone: Stage) -> None:
    session, transport = subscriber(alone)
    asks(session, "PSUBSCRIBE a*")
    alone.turn()
    tell(alone, 2)
    alone.turn()
    transport.written = b""
    tell(alone, *((CHANNEL, b"a", text, [b"a*"]) for text in (b"x", b"y")))
    assert transport.written == b"".join(
        pack("message", "a", text) + pack("pmessage", "a*", "a", text) for text in "xy"
    )
    assert (PATTERN, b"a*", 1) in changes(alone)[0]


def test_a_subscriber_that_does_not_read_is_dropped_at_its_own_limit(alone: Stage) -> None:
    unlimited = BufferLimit(0, 0, 0)
    alone.config.client_output_buffer_limit = BufferLimits(unlimited, unlimited, BufferLimit(100, 0, 0))
    slow, slow_transport = subscriber(alone)
    _, quick_transport = subscriber(alone)
    slow.pause_writing()
    slow_transport.waiting_bytes = 99
    tell(alone, message("x"))
    assert not slow_transport.aborted
    slow_transport.waiting_bytes = 100
    tell(alone, message("y"))
    assert slow_transport.aborted
    tell(alone, message("z"))
    assert quick_transport.written == b"".join(pack("message", "a", text) for text in "xyz")
    assert alone.proxy.counters.output_limit_disconnections == 1


def test_a_pattern_that_is_too_long_is_refused(alone: Stage) -> None:
    session, transport = alone.client()
    asks(session, f"PSUBSCRIBE ok {'?' * 3000}")
    alone.turn()
    assert transport.written == encode_error(errors.PATTERN_TOO_LONG)
    assert changes(alone) == [[], []]


def test_subscribers_hear_of_lost_messages_by_losing_their_connection(alone: Stage) -> None:
    _, listening = subscriber(alone)
    _, other = alone.client()
    tell(alone, LOST)
    assert listening.aborted
    assert not other.aborted


def test_what_is_held_back_is_bounded(alone: Stage) -> None:
    unlimited = BufferLimit(0, 0, 0)
    alone.config.client_output_buffer_limit = BufferLimits(unlimited, unlimited, BufferLimit(100, 0, 0))
    session, transport = subscriber(alone)
    asks(session, "SUBSCRIBE b")
    alone.turn()
    tell(alone, message("x" * 30))
    assert not transport.aborted
    tell(alone, message("x" * 30))
    assert transport.aborted


def test_idle_subscribers_stay(alone: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    session, transport = subscriber(alone)
    _, idle = alone.client()
    later_s = clock.monotonic() + 100
    alone.proxy.entrance.close_idle(later_s)
    assert idle.aborted
    assert not transport.aborted
    assert session.is_subscribed
