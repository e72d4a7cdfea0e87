"""Laying the data of a folder out anew, at a start with other patterns in the setting `colocate` than before.

The patterns say what of a key is hashed, so by others keys have other slots. Before any process is started,
each shard is loaded, and its keys are written into new logs, each into that of the shard which owns it now.
All of that happens in a folder inside of the data folder. When it is complete, and on disk, it is renamed:
that is the moment from which on it counts. Then its parts take the places of the old ones. Whoever dies
before that moment, nothing has happened; whoever dies after it, the next start goes on.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from proxy.transfer.connection import TransferError
from proxy.transfer.data_folder import load_shard
from proxy.transfer.into import Logs, write_logs
from proxy.transfer.sources import ShardSource
from shardkv import slots
from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Disk
from shardkv.rdb.file_reader import Function, Key
from shardkv.settings import Config
from shardkv.shard import Shard
from shardkv.slotmap import COLOCATED, FILE_NAME, Layout, SlotMapError, from_table, save_slot_map

logger = logging.getLogger(__name__)

_BEING_MADE = "colocating"


def lay_out(folder: Path, layout: Layout, config: Config) -> Layout:
    """Lays the data of a folder out by the patterns in the settings; nobody else uses the folder meanwhile.
    Returns the layout that it has then.

    Raises SlotMapError if what is there cannot be read, and OSError; then it is as it was.
    """
    logger.info("the data is laid out anew for `colocate %s`", " ".join(config.colocate) or '""')
    beside = folder / _BEING_MADE
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        keys = _copy(folder, beside, layout, config)
    except (AofDamaged, TransferError) as error:
        before = " ".join(layout.colocate) or '""'
        raise SlotMapError(f"{error} (before that, with `colocate {before}`)") from None
    finally:
        slots.colocate(config.colocate)
    save_slot_map(
        beside, from_table(layout.table, layout.shards, config.colocate, layout.target, uneven=layout.uneven)
    )
    os.rename(beside, folder / COLOCATED)
    Disk().sync_folder(folder)
    finish(folder)
    logger.info("%d keys are laid out anew", keys)
    return replace(layout, colocate=config.colocate)


def finish(folder: Path) -> None:
    """Puts data that is laid out anew, and complete, into the places of what was there. Raises OSError."""
    complete = folder / COLOCATED
    if not complete.exists():
        return
    for part in sorted(complete.glob("shard-*")):
        # What is still here has not yet gone to its place, whatever is there.
        place = folder / part.name
        if place.exists():
            shutil.rmtree(place)
        os.rename(part, place)
    disk = Disk()
    disk.sync_folder(folder)
    if (complete / FILE_NAME).exists():
        os.rename(complete / FILE_NAME, folder / FILE_NAME)
        disk.sync_folder(folder)
    complete.rmdir()


def _copy(folder: Path, beside: Path, layout: Layout, config: Config) -> int:
    """Writes all keys into new logs; returns how many they are."""
    source = ShardSource(_loaded(folder, layout, config), layout.shards, layout.table)
    keys = 0

    def copy(logs: Logs) -> None:
        nonlocal keys
        for event in source:
            if isinstance(event, Function):
                logs.function(event.code)
            elif isinstance(event, Key) and logs.owns(event.key):
                logs.put(event, source)
                keys += 1

    write_logs(beside, range(layout.shards), layout.table, config, copy)
    return keys


def _loaded(folder: Path, layout: Layout, config: Config) -> Iterator[Shard]:
    """Each shard, loaded by the patterns of before; when it is given out, those asked for hold again."""
    for index in range(layout.shards):
        slots.colocate(layout.colocate)
        shard = load_shard(folder / f"shard-{index}", config, index, lambda part: None)
        slots.colocate(config.colocate)
        logger.info("shard %d of %d is read", index + 1, layout.shards)
        yield shard
