"""`shardkv repair DIR`: makes the data in a folder such that a server starts with it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import click
from rich.console import Console

import shardkv.commands  # noqa: F401 - declares what the log is made of
from proxy.offline import data_folder, shard_folders, unlogged, unused
from proxy.tools.check import check_shard, slot_map_problems
from shardkv.aof.batch import AofDamaged
from shardkv.aof.load import Apply
from shardkv.aof.repair import CannotRepair, Dropped, repair
from shardkv.command import lookup
from shardkv.settings import Config
from shardkv.shard import Shard

_KEYS_TOLD = 20


@click.command(name="repair")
@click.argument("folder", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--appendfilename", default=Config().appendfilename, help="What the files' names start with.")
@click.option(
    "--salvage",
    is_flag=True,
    help="Drop only what is damaged itself, not what came after it: more is kept, but keys that were changed"
    " by what is dropped may hold what they never did.",
)
def tool(folder: Path, appendfilename: str, salvage: bool) -> None:
    """Repairs the data in DIR, a server's `dir`.

    Torn ends are cut off. Where a file is damaged, everything from there on is dropped. What is dropped is
    told, and all files that are changed are copied before, to a folder beside the shards'. Exit code 0: a
    server starts with what is there now. 1: it would not.
    """
    folder = data_folder(folder)
    console = Console(soft_wrap=True, highlight=False)
    copies = folder / time.strftime("before-repair-%Y%m%d-%H%M%S")
    good = True
    with unused(folder), unlogged():
        for text in slot_map_problems(folder):
            console.print(f"cannot be repaired: {text}", markup=False)
            good = False
        for shard in shard_folders(folder):
            good &= repair_shard(shard, copies / shard.name, appendfilename, salvage, console)
    if copies.is_dir():
        console.print(f"the files as they were: {copies}", markup=False)
    console.print(
        "good: a server starts with this" if good else "DAMAGED: a server would not start with this"
    )
    sys.exit(0 if good else 1)


def repair_shard(folder: Path, copies: Path, filename: str, salvage: bool, console: Console) -> bool:
    """Repairs one shard, tells what that has cost, and returns whether it is whole then."""

    def begin() -> Apply:
        shard = Shard(int(folder.name.removeprefix("shard-")), Config())
        shard.begin_replay()
        return shard.replay

    def keep(path: Path) -> None:
        copies.mkdir(parents=True, exist_ok=True)
        if path.exists() and not (copies / path.name).exists():
            shutil.copy2(path, copies)
            with open(copies / path.name, "rb") as copy:
                os.fsync(copy.fileno())

    try:
        dropped = repair(folder, begin=begin, keep=keep, salvage=salvage, filename=filename)
    except (CannotRepair, AofDamaged) as error:
        console.print(f"cannot be repaired: {error}", markup=False)
        return False
    for one in dropped:
        console.print(in_words(one), markup=False)
    found = check_shard(folder, filename, console)
    console.print(f"{folder.name}: {'repaired' if dropped else 'was whole'}, {found.records} records")
    return found.good


def in_words(dropped: Dropped) -> str:
    """What was dropped: where, how many bytes, which records and keys of it could still be read."""
    keys = sorted({key for argv in dropped.records for key in keys_of(argv)})
    told = ", ".join(key.decode(errors="backslashreplace") for key in keys[:_KEYS_TOLD])
    more = f" and {len(keys) - _KEYS_TOLD} more" if len(keys) > _KEYS_TOLD else ""
    place = f"{dropped.path}: bytes {dropped.start} to {dropped.end}"
    amount = f"{dropped.end - dropped.start} bytes, {len(dropped.records)} readable records, {len(keys)} keys"
    return f"dropped: {place} ({amount}{': ' + told + more if keys else ''}): {dropped.why}"


def keys_of(argv: list[bytes]) -> list[bytes]:
    """The keys that a record names."""
    command = lookup(argv)
    if command is None or not command.fits(len(argv)):
        return []
    return [argv[position] for position in command.key_positions(argv)]
