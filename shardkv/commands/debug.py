"""What DEBUG has shards do."""

from __future__ import annotations

from typing import Any

from shardkv import clock
from shardkv.command import NO_FLAGS, command
from shardkv.keyspace import Database


@command("SLEEP seconds", group="server", since="0.1.0", flags=NO_FLAGS, internal=True)
def sleep(db: Database, args: list[Any]) -> Any:
    """Does nothing for a time, as a command does that takes long."""
    clock.sleep(args[1])
    return True
