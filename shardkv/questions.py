"""What other processes ask a worker, over the control channel.

An answer that takes longer than a moment is a generator (see `shardkv.moving.Errand`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shardkv import allocator, control, figures, logs, moving
from shardkv.acl.changes import carry_out, set_password
from shardkv.commands.memory import memory_of
from shardkv.errors import CommandError
from shardkv.journal import Safe
from shardkv.rdb.writer import compress_strings

if TYPE_CHECKING:
    from shardkv.worker import Worker

Topic = Callable[["Worker", Any], Any]
"""Answers a question about the worker; takes the question's body, returns the answer's."""

QUESTIONS: dict[str, Topic] = {}
"""What the workers can be asked."""


def topic(name: str) -> Callable[[Topic], Topic]:
    """Declares the decorated function as the answer to a question of that name."""

    def declare(answer: Topic) -> Topic:
        QUESTIONS[name] = answer
        return answer

    return declare


@topic("config set")
def _config_set(worker: Worker, body: Any) -> Any:
    """Takes over settings that have been checked already: [[name, text], …]."""
    changed = worker.config.set([(name, text) for name, text in body])
    if "loglevel" in changed:
        logs.set_level(worker.config)
    if "requirepass" in changed:
        set_password(worker.shard.users, worker.config.requirepass)
    if "notify-keyspace-events" in changed and not worker.loading:
        worker.follow_events()
    if changed.keys() & _OF_MEMORY:
        worker.follow_limits(changed)
    compress_strings(worker.config.rdbcompression)
    worker.heed_saves()
    worker.journal.settings_changed(changed)
    worker.settings_changed()
    return None


@topic(control.USERS)
def _change_users(worker: Worker, body: Any) -> Any:
    """Takes over a change of the users, as all processes do, and refuses it if they do."""
    change, _ = body
    with suppress(CommandError):
        carry_out(worker.shard.users, change)


_OF_MEMORY = {"maxmemory", "maxmemory-policy"}


@topic(control.SHARE)
def _share(worker: Worker, body: Any) -> Any:
    """Takes how many bytes the shard may use; returns what it uses (see `Eviction.share`)."""
    return None if worker.eviction is None else worker.eviction.share(body)


@topic("figures")
def _figures(worker: Worker, body: Any) -> Any:
    return figures.figures(worker, durations=bool(body))


@topic("memory")
def _memory(worker: Worker, body: Any) -> Any:
    return memory_of(worker.shard)


@topic("malloc stats")
def _malloc_stats(worker: Worker, body: Any) -> Any:
    return allocator.statistics()


@topic("memory purge")
def _memory_purge(worker: Worker, body: Any) -> Any:
    return allocator.purge()


@topic("latency events")
def _latency_events(worker: Worker, body: Any) -> Any:
    return worker.shard.slow.events.told()


@topic("latency reset")
def _latency_reset(worker: Worker, body: Any) -> Any:
    return worker.shard.slow.events.reset(body)


@topic("reset figures")
def _reset_figures(worker: Worker, body: Any) -> Any:
    return figures.reset(worker)


@topic("active expire")
def _set_active_expire(worker: Worker, body: Any) -> Any:
    """Whether expired keys are removed before somebody looks for them."""
    worker.active_expire = body


@topic(control.FREEZE)
def _freeze(worker: Worker, body: Any) -> Any:
    """Leaves the outcome of transactions to the supervisor; returns how they stand here."""
    return [worker.shard.transactions.freeze((proxy, number)) for proxy, number in body]


@topic(control.SETTLE)
def _settle(worker: Worker, body: Any) -> Any:
    """Carries out, or gives up, transactions that were in doubt: [[transaction, commit], …]. Returns whether
    that is as durable as any change is."""
    for (proxy, number), commit in body:
        worker.shard.transactions.settle((proxy, number), commit=commit)
    return worker.journal.commit() is Safe.EVERYTHING


@topic(control.FORGET)
def _forget(worker: Worker, body: Any) -> Any:
    """Forgets transactions whose outcome is durable everywhere."""
    worker.shard.transactions.forget([(proxy, number) for proxy, number in body])


@topic(control.SLOT_COSTS)
def _slot_costs(worker: Worker, body: Any) -> Any:
    """What each slot costs, found out in slices."""
    return moving.costs(worker)


@topic(control.WEIGH_SLOTS)
def _weigh_slots(worker: Worker, body: Any) -> Any:
    """How many of some slots are moved at once: [slots, most weight]."""
    return moving.weigh(worker.shard, *body)


@topic(control.SEND_SLOTS)
def _send_slots(worker: Worker, body: Any) -> Any:
    """Hands out the keys of slots: [slots, path]."""
    return moving.send(worker, *body)


@topic(control.TAKE_SLOTS)
def _take_slots(worker: Worker, body: Any) -> Any:
    """Takes in the keys of slots: [slots, their owner, path, when they were touched]."""
    return moving.take(worker, *body)


@topic(control.DROP_SLOTS)
def _drop_slots(worker: Worker, body: Any) -> Any:
    """Removes the keys of slots: [slots, their owner]."""
    return moving.drop(worker, *body)


@topic(control.LIBRARIES)
def _libraries(worker: Worker, body: Any) -> Any:
    return moving.libraries(worker.shard)


@topic(control.TAKE_LIBRARIES)
def _take_libraries(worker: Worker, body: Any) -> Any:
    return moving.take_libraries(worker, body)


@topic(control.MAY_LEAVE)
def _may_leave(worker: Worker, body: Any) -> Any:
    return moving.may_leave(worker.shard)


@topic(control.SNAPSHOT)
def _snapshot(worker: Worker, body: Any) -> Any:
    """Gets ready for a snapshot: its number and the version of its format; the pipe comes with it."""
    number, version = body
    [fd] = worker.channel.take_fds(1)
    worker.snapshots.prepare(number, fd, version)
    return True


@topic(control.SAVED)
def _saved(worker: Worker, body: Any) -> None:
    """A snapshot that was to be kept is on disk, or has failed: its number, and which of the two."""
    number, ok = body
    worker.snapshots.saved(number, ok=ok)
    worker.saves_fail = not ok
    worker.heed_saves()


@topic("changes")
def _changes(worker: Worker, body: Any) -> int:
    """How many changes no snapshot contains."""
    return worker.shard.changes_since_save


@topic("rewrite")
def _rewrite(worker: Worker, body: Any) -> Any:
    """Begins to rewrite the append-only file; False if that is being done already."""
    return worker.journal.begin_rewrite()


@topic(control.BEGIN_ANEW)
def _begin_anew(worker: Worker, body: Any) -> Any:
    """Ends the worker when what it has been asked is answered."""
    worker.stopping = True
