"""What the server tells of itself: its log, slow commands, latencies."""

from __future__ import annotations

from dataclasses import dataclass

from shardkv.numbers import INT64_MAX
from shardkv.setting_kinds import MB, Choice, Integer, Percentiles, Text, YesNo, setting

LOGGING = "Log and measurements"


@dataclass(kw_only=True)
class Measurements:
    """The settings of the log and of the measurements."""

    __slots__ = ()

    loglevel: str = setting(
        LOGGING,
        "notice",
        Choice("debug", "verbose", "notice", "warning", "nothing"),
        """How much is logged: messages of this importance and above, debug being the least; nothing turns the
        log off.""",
    )
    logfile: str = setting(
        LOGGING,
        "",
        Text(),
        """Appends the log to this file. Empty: to the standard output, from where systemd collects it.""",
        mutable=False,
    )
    slowlog_log_slower_than: int = setting(
        LOGGING,
        10000,
        Integer(-1, INT64_MAX),
        """Commands that run for at least so many microseconds are kept for SLOWLOG. 0: all, -1: none.""",
        aliases=("commandlog-execution-slower-than",),
    )
    slowlog_max_len: int = setting(
        LOGGING,
        128,
        Integer(0, INT64_MAX),
        """Entries that SLOWLOG keeps; the oldest make room. They take memory.""",
        aliases=("commandlog-slow-execution-max-len",),
    )
    commandlog_request_larger_than: int = setting(
        LOGGING,
        MB,
        Integer(-1, INT64_MAX),
        """Requests of at least so many bytes are kept for COMMANDLOG. 0: all, -1: none.""",
    )
    commandlog_large_request_max_len: int = setting(
        LOGGING,
        128,
        Integer(0, INT64_MAX),
        """Large requests that COMMANDLOG keeps.""",
    )
    commandlog_reply_larger_than: int = setting(
        LOGGING,
        MB,
        Integer(-1, INT64_MAX),
        """Requests whose reply has at least so many bytes are kept for COMMANDLOG. 0: all, -1: none.""",
    )
    commandlog_large_reply_max_len: int = setting(
        LOGGING,
        128,
        Integer(0, INT64_MAX),
        """Requests with large replies that COMMANDLOG keeps.""",
    )
    latency_monitor_threshold: int = setting(
        LOGGING,
        0,
        Integer(0, INT64_MAX),
        """Events that take at least so many milliseconds are kept for LATENCY. 0: none.""",
    )
    latency_tracking: bool = setting(
        LOGGING,
        True,
        YesNo(),
        """Counts for each command how long it takes, for LATENCY HISTOGRAM and INFO latencystats.""",
    )
    latency_tracking_info_percentiles: tuple[float, ...] = setting(
        LOGGING,
        (50.0, 99.0, 99.9),
        Percentiles(),
        """The percentiles of these times that INFO latencystats tells.""",
    )
