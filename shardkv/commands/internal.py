"""Requests between a coordinator and the shards, for what spans several of them. No client can send these.

PREPARE locks keys and, once it has them, runs requests that look at them, and pledges others. COMMIT runs the
requests that change them, logs their effects as one, and unlocks. RELEASE only unlocks. A PREPARE that finds
a lock taken is answered `None` and holds nothing, unless its sender has the token: then it waits. FORGET
says which transactions are carried out everywhere. EXECUTE is a whole transaction of one shard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardkv import errors
from shardkv.command import BY_ID, COMMANDS, Flag, command, lock_keys
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.locks import LockKey, Transaction
from shardkv.plan import Call, Plan, Read, check
from shardkv.propagation import COMMITTED, PLEDGED
from shardkv.resp.replies import NULL_ARRAY, OK, Encoded
from shardkv.shard import LATER
from shardkv.slots import SLOT_BITS
from shardkv.wire import RAW, pack_code, pack_context, unpack_context

if TYPE_CHECKING:
    from shardkv.shard import Shard

_NO_FLAGS = Flag(0)


def owner_of(word: list[int]) -> Transaction:
    """The transaction, or the watcher, that a message names."""
    return word[0], word[1]


@command(
    "PREPARE transaction mode keys requests pledge watcher",
    group="transactions",
    since="0.1.0",
    flags=_NO_FLAGS,
    internal=True,
)
def prepare(db: Database, args: list[Any]) -> Any:
    """Locks `keys`, a list of [database, key], for a transaction, runs requests under the lock, and pledges
    others.

    mode       [exclusive, whole shard, wait, whether it holds locks here already, whether several commands
               make the transaction]
    pledge     None or [participants, requests]
    watcher    None or the client whose watched keys must be as they were

    Returns the list of the requests' encoded values; None if a lock is taken and the claim does not wait;
    False if a watched key was touched.
    """
    _, transaction, (exclusive, whole, wait, holds, several), keys, requests, pledge, watcher = args
    shard: Shard = db.shard  # type: ignore[assignment]
    owner = owner_of(transaction)
    if holds:
        shard.transactions.check_holds(owner)
    if watcher is not None and shard.watches.is_touched(owner_of(watcher)):
        if not holds:
            # A claim that has waited has its locks when it comes here again.
            shard.transactions.release(owner)
        return False
    args[0] = pack_code(pack_context(db.index, RAW), COMMANDS["prepare"].id, 0)
    lock_names = [(index, key) for index, key in keys]
    if several and shard.serving.waiters.wait_for_any(lock_names):
        # Whoever waits for data of a key gets to see it after each command.
        return None
    locked = shard.transactions.claim(
        owner,
        lock_names,
        whole=whole,
        exclusive=exclusive,
        wait=shard.link if wait else None,
        args=args,
    )
    if locked is None:
        return LATER
    if not locked:
        return None
    if watcher is not None and shard.watches.is_touched(owner_of(watcher)):
        # It was touched by what the claim has waited for.
        shard.transactions.release(owner)
        return False
    values = shard.run(requests, locked=True)
    if pledge is not None:
        participants, pledged = pledge
        shard.transactions.pledge(owner, participants, pledged)
        args[0] = PLEDGED
    return values


@command("COMMIT transaction requests", group="transactions", since="0.1.0", flags=_NO_FLAGS, internal=True)
def commit(db: Database, args: list[Any]) -> Any:
    """Runs the requests of a transaction, or without any those that were pledged, logs their effects together
    and gives up its locks.

    Returns the list of the requests' encoded values.
    """
    _, transaction, requests = args
    shard: Shard = db.shard  # type: ignore[assignment]
    replies = shard.transactions.commit(owner_of(transaction), requests)
    args[0] = COMMITTED
    return replies


@command("RELEASE transaction", group="transactions", since="0.1.0", flags=_NO_FLAGS, internal=True)
def release(db: Database, args: list[Any]) -> Any:
    """Gives up a transaction: its locks and what was pledged for it."""
    shard: Shard = db.shard  # type: ignore[assignment]
    shard.transactions.release(owner_of(args[1]))
    return True


@command("FORGET transactions", group="transactions", since="0.1.0", flags=_NO_FLAGS, internal=True)
def forget(db: Database, args: list[Any]) -> Any:
    """Forgets transactions that are carried out everywhere."""
    shard: Shard = db.shard  # type: ignore[assignment]
    shard.transactions.forget([owner_of(transaction) for transaction in args[1]])
    return True


# -- changes that can be undone ----------------------------------------------------------------------


@command(
    "STEP transaction mode keys requests",
    group="transactions",
    since="0.1.0",
    flags=_NO_FLAGS,
    internal=True,
)
def step(db: Database, args: list[Any]) -> Any:
    """Locks keys for a transaction that holds the token, waiting for them, and runs requests at once; what
    they change is a draft until it is committed.

    mode   [whole shard, whether it holds locks here already]

    Returns [whether the transaction has changed anything here, the list of the requests' encoded replies].
    """
    _, transaction, (whole, holds), keys, requests = args
    shard: Shard = db.shard  # type: ignore[assignment]
    owner = owner_of(transaction)
    if holds:
        shard.transactions.check_holds(owner)
    args[0] = pack_code(pack_context(db.index, RAW), COMMANDS["step"].id, 0)
    lock_names = [(index, key) for index, key in keys]
    transactions = shard.transactions
    if not transactions.claim(owner, lock_names, whole=whole, exclusive=True, wait=shard.link, args=args):
        return LATER
    replies = transactions.run_draft(owner, requests)
    return [not transactions.drafts[owner].is_empty, replies]


@command(
    "PLEDGE transaction participants", group="transactions", since="0.1.0", flags=_NO_FLAGS, internal=True
)
def pledge(db: Database, args: list[Any]) -> Any:
    """Promises to let the draft of a transaction count if it is committed."""
    shard: Shard = db.shard  # type: ignore[assignment]
    shard.transactions.pledge(owner_of(args[1]), args[2], [])
    args[0] = PLEDGED
    return []


# -- a transaction of one shard ----------------------------------------------------------------------


def _locks_of_requests(db: int, args: list[Any]) -> tuple[list[LockKey], bool]:
    """What EXECUTE needs unlocked."""
    found: list[LockKey] = []
    for request in args[2]:
        context = unpack_context(request[0] >> SLOT_BITS)
        keys, whole = lock_keys(context.db, BY_ID[context.command_id], request)
        if whole:
            return [], True
        found += keys
    return found, False


@command(
    "EXECUTE watcher requests",
    group="transactions",
    since="0.1.0",
    flags=_NO_FLAGS,
    locks=_locks_of_requests,
    internal=True,
)
def execute(db: Database, args: list[Any]) -> Any:
    """Runs the requests of a client's transaction as one, unless a key that it watches was touched.

    Returns their replies, encoded as one reply already, or NULL_ARRAY.
    """
    _, watcher, requests = args
    shard: Shard = db.shard  # type: ignore[assignment]
    if watcher is not None:
        touched = shard.watches.is_touched(owner_of(watcher))
        shard.watches.forget(owner_of(watcher))
        if touched:
            return NULL_ARRAY
    if shard.refusal is not None and any(_writes(request) for request in requests):
        raise CommandError(errors.exec_refused(shard.refusal))
    try:
        shard.check_memory(requests)
    except CommandError as error:
        raise CommandError(errors.exec_refused(error.text)) from None
    replies = shard.run_together(requests)
    if shard.ready:
        # Who has waited for what it has made comes before the client's next command.
        shard.serving.serve()
    if any(isinstance(request[0], bytes) for request in requests):
        args[0] = b"EXECUTE"
    return Encoded(b"*%d\r\n%b" % (len(replies), b"".join(replies)))  # type: ignore[arg-type]


def _writes(request: list[Any]) -> bool:
    return BY_ID[unpack_context(request[0] >> SLOT_BITS).command_id].writes


# -- slots that move -----------------------------------------------------------------------------------


@command("BARRIER", group="transactions", since="0.1.0", flags=_NO_FLAGS, internal=True)
def barrier(db: Database, args: list[Any]) -> Any:
    """Says that everything that was sent before has come."""
    return True


# -- watched keys ------------------------------------------------------------------------------------


@command(
    "KEEPWATCH watcher keys further",
    group="transactions",
    since="0.1.0",
    flags=_NO_FLAGS,
    locks=lambda db, args: ([(db, key) for key in args[2]], False),
    internal=True,
)
def keep_watch(db: Database, args: list[Any]) -> Any:
    """Begins to watch keys for a client; `further` says whether it watches others here already."""
    shard: Shard = db.shard  # type: ignore[assignment]
    shard.watches.watch(owner_of(args[1]), db, args[2], further=args[3])
    return OK


@command("ENDWATCH watcher", group="transactions", since="0.1.0", flags=_NO_FLAGS, internal=True)
def end_watch(db: Database, args: list[Any]) -> Any:
    """Ceases to watch anything for a client."""
    shard: Shard = db.shard  # type: ignore[assignment]
    shard.watches.forget(owner_of(args[1]))
    return True


@command("TELLCALLS whether", group="scripting", since="0.1.0", flags=Flag.LOADING, internal=True)
def tellcalls(db: Database, args: list[Any]) -> Any:
    """Whether a proxy is told, from now on, what the scripts of its clients call."""
    shard: Shard = db.shard  # type: ignore[assignment]
    assert shard.link is not None
    if args[1]:
        shard.tells_calls.add(shard.link.proxy)
    else:
        shard.tells_calls.discard(shard.link.proxy)
    return True


# -- all shards at one moment ------------------------------------------------------------------------


def whole_shard(db: int, args: list[Any]) -> tuple[list[LockKey], bool]:
    """Locks everything there is."""
    return [], True


def at_one_moment(call: Call) -> Plan:
    """Puts the same request to every shard while all of them are locked; their values, in the shards'
    order."""
    yield Read({})
    values = yield Read(call.everywhere())
    check(values)
    return [values[shard][0] for shard in sorted(values)]


@command(
    "BEGINSNAPSHOT number",
    group="transactions",
    since="0.1.0",
    flags=_NO_FLAGS,
    locks=whole_shard,
    plan=at_one_moment,
    internal=True,
)
def begin_snapshot(db: Database, args: list[Any]) -> Any:
    """Begins this shard's part of a snapshot, which shows this moment; whether it is known here."""
    shard: Shard = db.shard  # type: ignore[assignment]
    return shard.begin_snapshot(args[1])


@command(
    "LOGPOSITION",
    group="transactions",
    since="0.1.0",
    flags=_NO_FLAGS,
    locks=whole_shard,
    plan=at_one_moment,
    internal=True,
)
def log_position(db: Database, args: list[Any]) -> Any:
    """Says which files of this shard's log hold everything up to this moment; None if it cannot be said."""
    shard: Shard = db.shard  # type: ignore[assignment]
    return shard.log_position()
