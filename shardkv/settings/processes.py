"""The processes of the server and their work."""

from __future__ import annotations

from dataclasses import dataclass

from shardkv import limits
from shardkv.numbers import INT64_MAX
from shardkv.setting_kinds import Choice, Integer, Text, setting

PROCESSES = "Processes"


@dataclass(kw_only=True)
class Processes:
    """The settings of the processes."""

    __slots__ = ()

    workers: int = setting(
        PROCESSES,
        0,
        Integer(0, limits.MAX_WORKERS),
        """Worker processes: each holds one shard of the keys and runs the commands for them. 0: one per core.
        Changed at a start or with CONFIG SET, keys move while clients are served, and none is lost; see
        docs/resharding.md. 0 leaves the number as it is where there is data.""",
    )
    proxies: int = setting(
        PROCESSES,
        0,
        Integer(0, limits.MAX_PROXIES),
        """Proxy processes: they talk to the clients and pass their commands to the workers. 0: one for every
        4 cores, and at least one.""",
        mutable=False,
    )
    pidfile: str = setting(
        PROCESSES,
        "",
        Text(),
        """Writes the supervisor's process id to this file. Empty: no such file; systemd needs none.""",
        mutable=False,
    )
    hz: int = setting(
        PROCESSES,
        10,
        Integer(clamp=(1, 500)),
        """Rounds of background work per second, such as removing expired keys and closing idle clients; taken
        as 1 to 500. A higher number makes these more punctual and costs processor time when idle.""",
    )
    busy_reply_threshold: int = setting(
        PROCESSES,
        5000,
        Integer(0, INT64_MAX),
        """Milliseconds after which a shard whose script still runs answers other commands with BUSY, and
        SCRIPT KILL can end the script; all other shards serve on. 0: never.""",
        aliases=("lua-time-limit",),
    )
    shutdown_timeout: int = setting(
        PROCESSES,
        10,
        Integer(),
        """Seconds that a shutdown waits for requests under way. What has not finished then is cut off, after
        the append-only files are safe.""",
    )
    enable_debug_command: str = setting(
        PROCESSES,
        "no",
        Choice("no", "yes", "local"),
        """Whether clients may use DEBUG: none, all, or those connected from this host. It is made for tests
        and can stall the server.""",
        mutable=False,
    )
