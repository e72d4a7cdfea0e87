"""A shard's part in moving slots to another: it hands out the keys of slots that go, takes in those that
come, and removes what is not its own any more.

Nobody asks for keys of these slots meanwhile: the proxies hold such requests back (see proxy.moving), and the
supervisor says what is done when (see proxy.resharding). What takes longer than a moment is done in slices,
as a generator that yields whether it could go on at once, and returns the answer.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import hiredis

from shardkv import clock, limits
from shardkv.aof.record import record
from shardkv.commands.memory import usage
from shardkv.keyspace import Database
from shardkv.slotmap import holds_data
from shardkv.slots import SLOTS
from shardkv.values import Collection, Value, recreate

if TYPE_CHECKING:
    from shardkv.aof.log import AppendLog
    from shardkv.shard import Shard
    from shardkv.worker import Worker

Errand = Generator[bool, None, Any]
"""Work in slices; its return value is the answer to who has asked for it."""

_SELECT = b"SELECT"
_BYTES_OF_WEIGHT = 256
_ELEMENTS_OF_WEIGHT = 4


def weigh(shard: Shard, slots: list[int], most: int) -> int:
    """How many of these slots, from the first on and one at least, weigh no more than `most` together: a key
    weighs 1, and more if it is long. They are not many in any case, unless they are empty."""
    weight = 0
    for number, slot in enumerate(slots):
        if weight and number >= limits.MOVE_SLOTS:
            return number
        for db in shard.databases.values():
            for value in db.slots[slot].values():
                weight += _weight(value)
                if weight > most:
                    return max(1, number)
    return len(slots)


def _weight(value: Value) -> int:
    if isinstance(value, Collection):
        return 1 + len(value) // _ELEMENTS_OF_WEIGHT
    return 1 if isinstance(value, int) else 1 + len(value) // _BYTES_OF_WEIGHT


def costs(worker: Worker) -> Errand:
    """Finds out what the shard's slots cost: counts requests for `limits.BALANCE_COUNTS_S`, and estimates the
    memory of keys meanwhile.

    Returns [slot, bytes, requests] of each slot that costs anything.
    """
    shard = worker.shard
    until_s = clock.monotonic() + limits.BALANCE_COUNTS_S
    worker.demand = demand = [0] * SLOTS
    try:
        held = [0] * SLOTS
        for slot in range(SLOTS):
            for db in list(shard.databases.values()):
                held[slot] += _estimate(db, slot)
            yield True
        while clock.monotonic() < until_s:
            yield False
    finally:
        worker.demand = None
    found = zip(held, demand, strict=True)
    return [[slot, size, requests] for slot, (size, requests) in enumerate(found) if size or requests]


def _estimate(db: Database, slot: int) -> int:
    """About how many bytes a slot's keys take."""
    keys = db.slots[slot]
    if not keys:
        return 0
    sample = list(islice(keys, limits.BALANCE_SAMPLE_KEYS))
    sizes = [usage(db, key, limits.MEMORY_SAMPLES) or 0 for key in sample]
    return sum(sizes) * len(keys) // len(sizes)


def set_owner(worker: Worker, slots: list[int], owner: int) -> None:
    """Takes in who owns slots from now on."""
    table = worker.slot_table
    for slot in slots:
        table[slot] = owner
    worker.shard.slot_table = table if any(shard != worker.index for shard in table) else []


# -- handing out --------------------------------------------------------------------------------------


def send(worker: Worker, slots: list[int], path: str) -> Errand:
    """Writes the keys of slots into a file, as records that build them anew.

    Returns when each slot was last touched, [[database, [s, …]], …]; or None if that cannot be now, because
    a transaction is about their keys.
    """
    shard = worker.shard
    if shard.locks.concern(frozenset(slots)) or not _may_move(worker):
        return None
    with open(path, "wb") as file:
        chunk: list[bytes] = []
        size = 0
        for encoded in _records(shard, slots):
            chunk.append(encoded)
            size += len(encoded)
            if size >= limits.MOVE_CHUNK_BYTES:
                file.write(b"".join(chunk))
                chunk, size = [], 0
                yield True
        file.write(b"".join(chunk))
    databases = shard.databases.values()
    return [[db.index, [db.touched_s[slot] for slot in slots]] for db in databases if _holds_any(db, slots)]


def _may_move(worker: Worker) -> bool:
    """Whether what is on disk keeps up with what moves. Without a log it does not, and with one that has just
    been turned on it does not yet; that matters only where there is something on disk."""
    log = worker.journal.log
    if log is not None:
        return log.has_increment
    return not holds_data(worker.journal.folder.parent)


def _holds_any(db: Database, slots: list[int]) -> bool:
    return any(db.slots[slot] for slot in slots)


def _records(shard: Shard, slots: list[int]) -> Iterator[bytes]:
    for db in list(shard.databases.values()):
        if not _holds_any(db, slots):
            continue
        yield record([_SELECT, b"%d" % db.index])
        for slot in slots:
            keys = db.slots[slot]
            for key in list(keys):
                for args in recreate(key, keys[key], db.expires.get(key)):
                    yield record(args)


# -- taking in ----------------------------------------------------------------------------------------


def take(worker: Worker, slots: list[int], owner: int, path: str, touched: list[Any]) -> Errand:
    """Takes in what `send` of the shard that owns the slots has written. Returns True when that is on disk,
    whatever the fsync policy; None if it cannot be.

    Until the slot map says that the slots are this shard's, what it has taken in does not count; it is
    removed if the shard is loaded before.
    """
    shard = worker.shard
    if shard.refusal is not None or not _may_move(worker):
        return None
    drop(worker, slots, owner)
    reader = hiredis.Reader()
    db = shard.database(0)
    with open(path, "rb") as file:
        while chunk := file.read(limits.MOVE_CHUNK_BYTES):
            reader.feed(chunk)
            requests: list[list[bytes]] = []
            while (args := reader.gets()) is not False:
                if args[0] == _SELECT:
                    _build(shard, db, requests)
                    db, requests = shard.database(int(args[1])), []
                else:
                    requests.append(args)
            _build(shard, db, requests)
            yield True
    for index, times in touched:
        touched_s = shard.database(index).touched_s
        for slot, at_s in zip(slots, times, strict=True):
            touched_s[slot] = at_s
    if not (yield from _until_durable(worker)):
        return None
    set_owner(worker, slots, worker.index)
    return True


def _build(shard: Shard, db: Database, requests: list[list[bytes]]) -> None:
    if not requests:
        return
    shard.rebuild(db, requests)
    shard.dirty = 0
    if shard.records is not None:
        for args in requests:
            shard.append(db.index, args)


def _until_durable(worker: Worker) -> Generator[bool, None, bool]:
    """Waits until all that has been logged is on disk; returns whether it is."""
    log = worker.journal.log
    if log is None:
        return True
    while log.pending_bytes:
        if worker.shard.refusal is not None or worker.journal.log is not log:
            return False
        yield True
    until = log.written
    if log.synced < until:
        log.background.run(lambda: _sync(log))
    while log.synced < until:
        if log.fsync_error is not None or worker.journal.log is not log:
            return False
        yield False
    return True


def _sync(log: AppendLog) -> None:
    log.sync()
    log.wake()


# -- giving up ----------------------------------------------------------------------------------------


def drop(worker: Worker, slots: list[int], owner: int) -> bool:
    """Removes the keys of slots that another shard owns, and says so in the log. Who watches one of them, or
    waits for one, is told."""
    shard = worker.shard
    set_owner(worker, slots, owner)
    moved = frozenset(slots)
    shard.watches.moved(moved)
    shard.serving.moved(moved)
    shard.tracking.moved(moved)
    for db in list(shard.databases.values()):
        for slot in slots:
            if db.slots[slot]:
                _remove(shard, db, slot)
    return True


def drop_foreign(worker: Worker) -> int:
    """Removes the keys that the shard has loaded though it does not own them; returns how many they were."""
    removed = 0
    for slot in range(SLOTS):
        if worker.slot_table[slot] == worker.index:
            continue
        for db in worker.shard.databases.values():
            if db.slots[slot]:
                removed += len(db.slots[slot])
                _remove(worker.shard, db, slot)
    return removed


def _remove(shard: Shard, db: Database, slot: int) -> None:
    keys = list(db.slots[slot])
    for key in keys:
        db.remove(key, slot)
    if shard.records is not None:
        for start in range(0, len(keys), limits.MOVE_UNLINK_KEYS):
            shard.append(db.index, [b"UNLINK", *keys[start : start + limits.MOVE_UNLINK_KEYS]])


# -- shards that come and go --------------------------------------------------------------------------


def libraries(shard: Shard) -> list[list[bytes]]:
    """Requests that make a new shard know what every shard has to know: the libraries of functions."""
    return list(shard.scripts.requests())


def take_libraries(worker: Worker, requests: list[list[bytes]]) -> Errand:
    """Takes in what `libraries` of another shard says. Returns True when that is on disk, None if it cannot
    be."""
    shard = worker.shard
    requests = [[b"FUNCTION", b"FLUSH"], *requests]
    shard.rebuild(shard.database(0), requests)
    shard.dirty = 0
    if shard.records is not None:
        for args in requests:
            shard.append(0, args)
    yield True
    return True if (yield from _until_durable(worker)) else None


def may_leave(shard: Shard) -> bool:
    """Whether nobody needs the shard any more, which owns no slots: it has no part in any transaction."""
    transactions = shard.transactions
    return not transactions.open and not transactions.locks and not len(shard.serving.waiters)
