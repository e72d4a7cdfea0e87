"""`shardkv check DIR`: whether the data in a folder is what was written."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

import shardkv.commands  # noqa: F401 - declares what the log is made of
from proxy.offline import data_folder, shard_folders, unlogged, unused
from shardkv import slots
from shardkv.aof.check import Findings, check
from shardkv.settings import Config
from shardkv.shard import Shard
from shardkv.slotmap import FILE_NAME, SlotMapError, read_slot_map


@click.command(name="check")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--appendfilename", default=Config().appendfilename, help="What the files' names start with.")
def tool(folder: Path, appendfilename: str) -> None:
    """Checks the data in DIR, a server's `dir`, and changes nothing.

    Every byte of every file is checked, and everything is replayed as at a start, one shard after the
    other. Exit code 0: all is good. 1: a start would refuse it, or cut the end of a file off.
    """
    folder = data_folder(folder)
    console = Console(soft_wrap=True, highlight=False)
    with unused(folder), unlogged():
        wrong = slot_map_problems(folder)
        findings = [check_shard(shard, appendfilename, console) for shard in shard_folders(folder)]
    for text in wrong:
        console.print(f"damaged: {text}", markup=False)
    for found in findings:
        say(found, console)
    if not wrong and all(found.good for found in findings):
        console.print("good: everything is what was written")
        return
    if wrong or any(found.damage for found in findings):
        console.print("DAMAGED: a server would not start with this; see `shardkv repair`")
    else:
        console.print("TORN: a server would cut what is torn, unless its setting aof-load-truncated is no")
    sys.exit(1)


def slot_map_problems(folder: Path) -> list[str]:
    """What is wrong with the slot map, and with the shards there are by it, in words. What it says of the
    slots of keys counts from then on."""
    path = folder / FILE_NAME
    try:
        slot_map = read_slot_map(path)
        slot_map.table()
    except FileNotFoundError:
        return [f"{path}: the slot map is missing"]
    except SlotMapError as error:
        return [f"{path}: {error}"]
    slots.colocate(slot_map.colocate)
    there = {path.name for path in shard_folders(folder)}
    names = (f"shard-{number}" for number in range(slot_map.shards))
    return [f"{folder / name}: the shard is missing" for name in names if there and name not in there]


def check_shard(folder: Path, filename: str, console: Console) -> Findings:
    """Checks one shard, showing how far it is."""
    shard = Shard(int(folder.name.removeprefix("shard-")), Config())
    shard.begin_replay()
    checking = check(folder, apply=shard.replay, recall=shard.transactions.recall, filename=filename)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(folder.name, total=None)
        while True:
            try:
                done, total = next(checking)
                progress.update(task, completed=done, total=total)
            except StopIteration as stop:
                found: Findings = stop.value
                return found


def say(found: Findings, console: Console) -> None:
    """Prints what was found of a shard."""
    for damage in found.damage:
        console.print(f"damaged: {damage}", markup=False)
    for text in found.torn:
        console.print(f"torn: {text}", markup=False)
    if not found.damage:
        amount = f"{found.records} records in {found.batches} batches, {found.size} bytes"
        notes = f", {found.notes} notes of transactions" if found.notes else ""
        console.print(f"{found.folder.name}: {amount}{notes}", markup=False)
