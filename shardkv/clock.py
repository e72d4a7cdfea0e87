"""The only place that reads the time, so that tests can put another clock in its place."""

from __future__ import annotations

import time


def now_ms() -> int:
    """The wall clock, in ms since 1970. What expiry times are compared with."""
    return time.time_ns() // 1_000_000


def now_us() -> int:
    """The wall clock, in µs since 1970."""
    return time.time_ns() // 1_000


monotonic = time.monotonic
"""Seconds since an arbitrary start, never going back. For timeouts and intervals."""

sleep = time.sleep
"""Does nothing for so many seconds. For DEBUG SLEEP alone."""

perf_counter_ns = time.perf_counter_ns
"""The finest clock, in ns. For durations of commands."""
