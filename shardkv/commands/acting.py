"""Whose rights limit a script. No client can send this request.

What a script may call is up to the user of its client. Most users may do everything, and nothing is said of
them. A script of another one comes inside of an ACTFOR that names the user, so that the shard can look up, at
each call, what that user may do (see shardkv.commands.script_host).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardkv.command import BY_ID, Flag, command, lock_keys
from shardkv.keyspace import Database
from shardkv.locks import LockKey
from shardkv.resp.replies import Encoded
from shardkv.slots import SLOT_BITS
from shardkv.wire import unpack_context

if TYPE_CHECKING:
    from shardkv.shard import Shard


def _locks_of_script(db: int, args: list[Any]) -> tuple[list[LockKey], bool]:
    """What the script's own request needs unlocked."""
    [request] = args[2]
    return lock_keys(db, BY_ID[unpack_context(request[0] >> SLOT_BITS).command_id], request)


@command(
    "ACTFOR user requests",
    group="scripting",
    since="0.1.0",
    flags=Flag(0),
    locks=_locks_of_script,
    may_write=True,
    internal=True,
)
def act_for(db: Database, args: list[Any]) -> Any:
    """Runs the one request of a script with the rights of a user; returns its reply, encoded already."""
    _, user, requests = args
    shard: Shard = db.shard  # type: ignore[assignment]
    shard.acting = user
    try:
        [reply] = shard.run(requests)
    finally:
        shard.acting = None
    if isinstance(requests[0][0], bytes):
        # It was logged, which shows in the same way as of any other request.
        args[0] = b"ACTFOR"
    return Encoded(reply or b"")
