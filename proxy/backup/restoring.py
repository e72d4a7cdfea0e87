"""Making a data folder of a point of a backup, for any number of shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

from proxy.backup.store import Backup, Point
from proxy.backup.until import until
from proxy.transfer.copying import Choice, Summary, copy
from proxy.transfer.into import NewFolder
from proxy.transfer.sources import ShardSource
from shardkv import clock
from shardkv.aof.load import load
from shardkv.aof.manifest import Manifest
from shardkv.settings import Config
from shardkv.shard import Shard


def restore(
    backup: Backup, config: Config, until_s: int | None, report: Callable[[float, float], None]
) -> tuple[Point, Summary]:
    """Puts what a backup has into the data folder that the settings name, in which there is no data; returns
    the point, and what there was.

    until_s   the moment to restore, in s since 1970; None for the last point
    report    is told how many shards are done, with fractions, and of how many

    Every byte is checked on the way. If it fails, nothing is there. Raises TransferError, AofDamaged,
    SlotMapError, OSError.
    """
    if until_s is None:
        point = backup.last()
        manifests = [point.manifest(shard) for shard in range(len(point.shards))]
    else:
        point, manifests = until(backup, until_s)
    config = replace(config, colocate=tuple(point.slots.colocate))
    summary = Summary()
    choice = Choice(clock.now_ms(), databases=config.databases)
    total = len(manifests)
    with closing(NewFolder(config)) as folder:
        shards = _loaded(backup, config, manifests, lambda done: report(done, total))
        source = ShardSource(shards, total, point.slots.table())
        folder.write(range(folder.shards), lambda logs: copy(source, logs, summary, choice))
        folder.finish()
    return point, summary


def _loaded(
    backup: Backup, config: Config, manifests: list[Manifest], report: Callable[[float], None]
) -> Iterator[Shard]:
    """The shards as the files have them, each made when its turn comes."""
    for number, manifest in enumerate(manifests):
        shard = Shard(number, config)
        shard.begin_replay()
        for done, size in load(
            backup.shard_folder(number), apply=shard.replay, filename=manifest.filename, manifest=manifest
        ):
            report(number + done / max(1, size))
        shard.end_replay()
        yield shard
