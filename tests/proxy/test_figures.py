"""What the proxies count, share and report."""

from __future__ import annotations

import os

import pytest

from proxy import processes
from proxy.census import Census
from proxy.counters import Counters, Rates
from proxy.lolwut import picture
from proxy.pause import Pause
from proxy.report import size_text
from shardkv import clock
from shardkv.command import COMMANDS
from shardkv.errors import CommandError
from tests.proxy import stage

assert stage


class Clock:
    """A clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(clock, "monotonic", lambda: self.now_s)


# -- census -----------------------------------------------------------------------------------


def test_a_census_counts_the_clients_of_all_proxies_and_gives_every_one_its_own_id() -> None:
    one, other = Census(0, 2), Census(1, 2)
    before = one.clients
    ids = [census.arrived() for census in (one, other, other, one, other)]
    assert len(set(ids)) == 5
    assert all(number > 0 for number in ids)
    assert one.clients == other.clients == before + 5
    one.left()
    assert other.clients == before + 4


def test_a_proxy_that_is_started_anew_has_no_clients_but_goes_on_with_the_ids() -> None:
    first = Census(0, 1)
    ids = {first.arrived() for _ in range(3)}
    second = Census(0, 1)
    assert second.clients == 0
    assert second.arrived() not in ids


def test_a_census_spans_processes() -> None:
    one, other = Census(0, 2), Census(1, 2)
    before = one.clients
    child = os.fork()
    if child == 0:
        other.arrived()
        os._exit(0)
    os.waitpid(child, 0)
    assert one.clients == before + 1


# -- counters ---------------------------------------------------------------------------------


def test_errors_are_counted_by_their_first_word() -> None:
    counters = Counters()
    get = COMMANDS["get"]
    counters.reject(get, CommandError(b"ERR wrong number"))
    counters.reject(None, CommandError(b"ERR unknown"))
    counters.fail(get, CommandError(b"WRONGTYPE x"))
    assert counters.errors == {"ERR": 2, "WRONGTYPE": 1}
    assert (counters.of(get).rejected, counters.of(get).failed, counters.rejected) == (1, 1, 2)


def test_rates_are_those_of_the_last_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Clock(monkeypatch)
    counters = Counters()
    rates = Rates(counters)
    assert rates.per_second() == (0.0, 0.0, 0.0)
    for _ in range(100):
        time.now_s += 0.1
        counters.requests += 10
        counters.bytes_in += 1000
        rates.sample(counters)
    assert rates.per_second() == pytest.approx((100.0, 10000.0, 0.0))
    for _ in range(20):
        time.now_s += 0.1
        rates.sample(counters)
    assert rates.per_second() == (0.0, 0.0, 0.0)


# -- pause ------------------------------------------------------------------------------------


def test_a_pause_never_becomes_shorter_or_milder(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Clock(monkeypatch)
    pause = Pause()
    assert not pause.active
    pause.extend(1010.0, writes_only=True)
    assert not pause.holds(COMMANDS["get"])
    assert pause.holds(COMMANDS["set"])
    pause.extend(1005.0, writes_only=False)
    assert pause.holds(COMMANDS["get"])
    pause.extend(1007.0, writes_only=True)
    assert pause.holds(COMMANDS["get"])
    assert pause.remaining_ms == 10_000
    time.now_s = 1010.0
    assert not pause.active
    pause.extend(1020.0, writes_only=True)
    assert not pause.holds(COMMANDS["get"])
    pause.end()
    assert not pause.holds(COMMANDS["set"])


# -- report -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.00K"),
        (1536, "1.50K"),
        (1 << 20, "1.00M"),
        (25276063744, "23.54G"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


def test_the_kernel_is_asked_about_processes() -> None:
    usage = processes.measure([os.getpid(), 2**22 + 1])
    assert list(usage) == [os.getpid()]
    own = usage[os.getpid()]
    assert 0 < own.used_bytes <= own.resident_bytes <= own.peak_bytes
    assert own.user_s > 0
    assert processes.total([own, own]).used_bytes == 2 * own.used_bytes


# -- LOLWUT -----------------------------------------------------------------------------------


def test_the_first_rows_of_the_picture_are_in_order() -> None:
    text = picture([b"VERSION", b"5", b"4", b"2", b"2"]).decode()
    assert text.endswith("Redis ver. 7.2.4 (shardkv 0.1.0)\n")
    assert [len(line) for line in text.splitlines()[:2]] == [4, 4]


def test_the_picture_has_bounds() -> None:
    lines = picture([b"100000", b"100000", b"100000"]).decode().splitlines()
    assert len(lines[0]) == 100
    with pytest.raises(CommandError, match="not an integer"):
        picture([b"VERSION", b"x"])
