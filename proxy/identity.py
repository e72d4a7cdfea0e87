"""What this run of the server is known by.

Made when the supervisor's process begins. Every other process is forked from it, also one that is started
anew, so all of them share these values for as long as the server lives."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from shardkv import clock
from shardkv.settings import Config

RUN_ID: Final = secrets.token_hex(20)
"""INFO run_id: another one after each start of the server, the same while it runs."""

REPLICATION_ID: Final = secrets.token_hex(20)
"""INFO master_replid."""

STARTED_MS: Final = clock.now_ms()
STARTED_S: Final = clock.monotonic()

config_file: Path | None = None
"""The configuration file that the command line named, as an absolute path."""

asked: Config | None = None
"""The settings as they were asked for, with the number of processes still open where it was left open."""
