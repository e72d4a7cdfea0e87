"""A data folder of this server that no server runs on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from proxy.transfer.connection import TransferError
from proxy.transfer.sources import ShardSource
from shardkv import slots
from shardkv.aof.load import load
from shardkv.aof.side_log import SideLog
from shardkv.journal import recall_commit
from shardkv.settings import Config
from shardkv.shard import Shard
from shardkv.slotmap import FILE_NAME, open_slot_map


def is_data_folder(folder: Path) -> bool:
    """Whether a folder is the data folder of a server of ours."""
    return (folder / FILE_NAME).exists()


def open_folder(folder: Path, config: Config, report: Callable[[float], None]) -> ShardSource:
    """All keys of a folder, each shard loaded when its turn comes and dropped after it. The caller holds the
    folder's lock. `report` is told how many shards are done, with fractions.

    Raises SlotMapError; iterating raises AofDamaged, OSError, TransferError.
    """
    layout = open_slot_map(folder, 0, config.colocate)
    slots.colocate(layout.colocate)
    return ShardSource(_loaded(folder, config, layout.shards, report), layout.shards, layout.table)


def _loaded(folder: Path, config: Config, shards: int, report: Callable[[float], None]) -> Iterator[Shard]:
    for index in range(shards):

        def report_part(part: float, index: int = index) -> None:
            report(index + part)

        yield load_shard(folder / f"shard-{index}", config, index, report_part)


def load_shard(folder: Path, config: Config, index: int, report: Callable[[float], None]) -> Shard:
    """A shard as its log has it. Raises AofDamaged, OSError; TransferError if a transaction over several
    shards is open, which only a server can settle."""
    shard = Shard(index, config)
    shard.begin_replay()
    transactions = shard.transactions
    side = SideLog(folder, transactions.to_keep)
    side.load(transactions.recall)
    for done, total in load(
        folder,
        apply=shard.replay,
        filename=config.appendfilename,
        note=partial(recall_commit, shard),
        accept_torn=config.aof_load_truncated,
    ):
        report(done / max(1, total))
    side.close()
    shard.end_replay()
    if transactions.pledges:
        raise TransferError(f"{folder}: transactions are not settled; start the server, and stop it again")
    return shard
