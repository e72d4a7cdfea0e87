"""What a shard does when there is time: removing what has expired, freeing what nobody holds any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardkv import clock
from shardkv.keyspace import Slot
from shardkv.values import LARGE_COLLECTION, Collection

if TYPE_CHECKING:
    from shardkv.shard import Shard

_SHED_AT_A_TIME = 500
"""Elements of a dead collection freed between two looks at the clock."""


def expire_due(shard: Shard, budget_s: float) -> bool:
    """Removes keys, and fields of hashes, whose time has come, for about so many seconds; whether some
    may be left."""
    until = clock.monotonic() + budget_s
    for db in shard.databases.values():
        for deadlines, expire in (
            (db.deadlines, db.expire),
            (db.field_deadlines, db.expire_due_fields),
        ):
            for key in deadlines.due(shard.now_ms):
                if shard.locks.must_wait([(db.index, key)], whole=False, writes=True):
                    break
                expire(key)
                if clock.monotonic() >= until:
                    return True
    return False


def bury(shard: Shard, budget_s: float) -> None:
    """Frees what flushes have left, for about so many seconds."""
    until = clock.monotonic() + budget_s
    while shard.graveyard:
        dead = shard.graveyard[0]
        while dead:
            if isinstance(dead, list):
                _bury_slot(shard, dead)
            else:
                dead.shed(_SHED_AT_A_TIME)
            if clock.monotonic() >= until:
                return
        shard.graveyard.popleft()


def _bury_slot(shard: Shard, slots: list[Slot]) -> None:
    """Frees the last of some slots, or a part of it if it is large."""
    slot = slots[-1]
    if len(slot) <= _SHED_AT_A_TIME:
        slots.pop()
    else:
        slot = dict(slot.popitem() for _ in range(_SHED_AT_A_TIME))
    for value in slot.values():
        if isinstance(value, Collection) and len(value) > LARGE_COLLECTION:
            shard.graveyard.append(value)
