"""Requests between proxies and shards about clients that wait for data. No client can send these.

A client whose keys lie on one shard waits there: its request does, and WITHDRAW ends that. For one that waits
for keys of several shards, its proxy puts an ENLIST into the queue of each. A shard that has what is wished
for offers it, once, and keeps it for that client: the key is locked by its transaction, until the proxy takes
the offer (by a COMMIT, or more steps of the same transaction) or gives it back (by a RELEASE or WITHDRAW).
"""

from __future__ import annotations

from typing import Any

from shardkv import errors
from shardkv.command import COMMANDS, Flag, command
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.resp.replies import NULL_ARRAY
from shardkv.shard import LATER

TIMEOUT, ERROR, GONE = "timeout", "error", "gone"
"""Why a request is withdrawn: its time is over, or CLIENT UNBLOCK wants an error, or its client is gone."""

OUTCOMES = {TIMEOUT: NULL_ARRAY, ERROR: CommandError(errors.UNBLOCKED), GONE: None}
"""What it is answered with."""


def outcome(why: str) -> Any:
    """The same for any reason; one that is none of these is the text of an error, in Latin-1."""
    return OUTCOMES[why] if why in OUTCOMES else CommandError(why.encode("latin-1"))


@command("ENLIST transaction name wishes", group="transactions", since="0.1.0", flags=Flag(0), internal=True)
def enlist(db: Database, args: list[Any]) -> Any:
    """Waits until one of the wishes of a command can be granted; returns its key, locked for the
    transaction."""
    _, transaction, name, wishes = args
    shard: Any = db.shard
    waits = COMMANDS[name].waits
    wish = next((wish for wish in wishes if waits.granted(db, wish)), None)
    if wish is not None:
        place = (db.index, wish[0])
        if not shard.locks.is_locked([place], writes=True):
            if waits.exclusive:
                shard.locks.lock_first((transaction[0], transaction[1]), place)
            return wish[0]
        # Whoever has locked it may leave it as it is, and then no change will tell of it.
        shard.ready[place] = None
    keys = [wish[0] for wish in wishes]
    return shard.wait(db, transaction[1], keys, waits.kind, on_loss=waits.on_loss)


@command("WITHDRAW transaction why", group="transactions", since="0.1.0", flags=Flag(0), internal=True)
def withdraw(db: Database, args: list[Any]) -> bool:
    """Ends the waiting of a request, and gives up what was offered to it. Returns whether it has waited; if
    not, it has been answered before."""
    _, transaction, why = args
    shard: Any = db.shard
    identity = (transaction[0], transaction[1])
    found: bool = shard.withdraw(identity, outcome(why))
    shard.transactions.release(identity)
    return found


@command("DURABLE wait", group="transactions", since="0.1.0", flags=Flag(0), internal=True)
def durable(db: Database, args: list[Any]) -> Any:
    """Returns whether all that has been logged so far is on disk; waits until it is, if it is to wait."""
    shard: Any = db.shard
    if shard.is_durable():
        return True
    return LATER if args[1] and shard.wait_until_durable() else False
