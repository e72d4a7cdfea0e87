"""What a proxy has to tell clients of other proxies that monitor, when those take it slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from shardkv import control, limits
from tests.proxy.stage import Stage, asks, stage


@pytest.fixture
def alone() -> Iterator[Stage]:
    with stage() as running:
        yield running


class Others:
    """The other proxies: they have taken what they were told when a test says so."""

    def __init__(self, alone: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told: list[bytes] = []
        self._futures: list[asyncio.Future[Any]] = []

        def ask(to: str, topic: str, body: Any) -> asyncio.Future[Any]:
            assert (to, topic, body[0]) == (control.PROXIES, "monitor lines", alone.proxy.index)
            self.told.append(body[1])
            self._futures.append(alone.loop.create_future())
            return self._futures[-1]

        monkeypatch.setattr(alone.proxy.supervision, "ask", ask)
        alone.proxy.monitoring.announced(7, begins=True)

    def take(self) -> None:
        """They have taken the last message."""
        self._futures[-1].set_result([])


def test_one_message_at_a_time(alone: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    others = Others(alone, monkeypatch)
    session, _ = alone.client()
    for word in ("a", "b", "c"):
        asks(session, f"ECHO {word}")
        alone.turn()
    assert [told.count(b"ECHO") for told in others.told] == [1]
    others.take()
    alone.turn()
    assert [told.count(b"ECHO") for told in others.told] == [1, 2]


def test_who_takes_too_little_is_told_that_something_is_lost(
    alone: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MONITOR_BACKLOG_BYTES", 10_000)
    others = Others(alone, monkeypatch)
    session, _ = alone.client()
    for number in range(200):
        asks(session, f"ECHO {number:0100}")
        alone.turn()
    others.take()
    alone.turn()
    assert len(others.told) == 2
    assert others.told[1] == b""
    others.take()
    alone.turn()
    # And goes on with what came since.
    assert len(others.told) == 3
    assert others.told[2].endswith(b'%0100d"\r\n' % 199)


def test_who_was_not_told_everything_is_closed(alone: Stage) -> None:
    session, transport = alone.client()
    alone.proxy.monitoring.clients.add(session)
    alone.proxy.monitoring.tell(b"")
    assert transport.aborted


def test_nothing_is_left_when_nobody_monitors(alone: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    others = Others(alone, monkeypatch)
    session, _ = alone.client()
    gates, fast = alone.proxy.gates, alone.proxy.fast
    asks(session, "ECHO a")
    assert session.told_request is not None
    assert not fast
    alone.proxy.monitoring.announced(7, begins=False)
    assert session.told_request is None
    assert len(alone.proxy.gates) == len(gates) - 1
    assert alone.proxy.fast
    asks(session, "ECHO b")
    alone.turn()
    assert others.told == []


def test_a_request_that_waits_for_its_shard_is_told_of_once(
    alone: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = Others(alone, monkeypatch)
    session, _ = alone.client()
    [backend] = alone.proxy.backends
    backend.congested = True
    asks(session, "GET a", "GET b")
    assert session.stalled
    for congested in (True, False):
        backend.congested = congested
        alone.proxy.look_around()
    assert not session.stalled
    alone.turn()
    others.take()
    alone.turn()
    told = b"".join(others.told)
    assert told.count(b'"GET" "a"') == told.count(b'"GET" "b"') == 1
