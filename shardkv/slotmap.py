"""The slot map file: which shard owns which slot, and what of a key makes its slot. It is the one truth about
that.

The file stands in the data folder, as JSON: {"version": 1, "shards": 2, "runs": [[0, 8191, 0], [8192, 16383,
1]], "colocate": ["rq:"]}, each run a first slot, a last slot and their shard. It is only ever replaced as a
whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shardkv.aof.batch import MAX_HEADER_BYTES
from shardkv.slots import SLOTS, even_slot_table

FILE_NAME = "slots.json"


class SlotMapError(Exception):
    """The slot map cannot be used; says why."""


class SlotMap(msgspec.Struct):
    """The file's content."""

    version: int
    shards: int
    runs: list[tuple[int, int, int]]
    colocate: list[str] = []

    def table(self) -> list[int]:
        """Entry `slot` is the shard that owns it."""
        table = [-1] * SLOTS
        for first, last, shard in self.runs:
            if not (0 <= first <= last < SLOTS and 0 <= shard < self.shards):
                raise SlotMapError(f"impossible run {first}-{last} of shard {shard}")
            table[first : last + 1] = [shard] * (last - first + 1)
        if -1 in table:
            raise SlotMapError(f"slot {table.index(-1)} belongs to no shard")
        return table


def from_table(table: list[int], shards: int, colocate: Sequence[str] = ()) -> SlotMap:
    """The slot map that says the same as a table."""
    runs: list[tuple[int, int, int]] = []
    for slot, shard in enumerate(table):
        if runs and runs[-1][2] == shard:
            runs[-1] = (runs[-1][0], slot, shard)
        else:
            runs.append((slot, slot, shard))
    return SlotMap(version=1, shards=shards, runs=runs, colocate=list(colocate))


def open_slot_map(folder: Path, workers: int, colocate: Sequence[str]) -> tuple[int, list[int]]:
    """The number of shards and the slot table of a data folder; a new folder gets an even one.

    workers    the number asked for; 0 takes what the folder has, or one per core for a new one
    colocate   the patterns asked for

    Raises SlotMapError if the folder's data is laid out in another way.
    """
    path = folder / FILE_NAME
    if not path.exists():
        shards = workers or os.cpu_count() or 1
        table = even_slot_table(shards)
        save_slot_map(folder, from_table(table, shards, colocate))
        return shards, table
    try:
        found = msgspec.json.decode(path.read_bytes(), type=SlotMap)
        table = found.table()
    except (msgspec.DecodeError, SlotMapError) as error:
        raise SlotMapError(f"{path}: {error}") from None
    if workers not in (0, found.shards):
        raise SlotMapError(
            f"the data in {folder} is laid out for {found.shards} workers; "
            f"start with `workers {found.shards}` or `workers 0`"
        )
    if found.colocate != list(colocate):
        if _holds_data(folder):
            raise SlotMapError(
                f"the data in {folder} is laid out with `colocate {_line(found.colocate)}`, not with "
                f"`colocate {_line(colocate)}`; start with the former"
            )
        save_slot_map(folder, from_table(table, found.shards, colocate))
    return found.shards, table


def _line(patterns: Sequence[str]) -> str:
    return " ".join(patterns) or '""'


def _holds_data(folder: Path) -> bool:
    """Whether any shard has ever logged anything here: its files are longer than when they were made."""
    return any(path.stat().st_size > MAX_HEADER_BYTES for path in folder.glob("shard-*/*.aof"))


def save_slot_map(folder: Path, slot_map: SlotMap) -> None:
    """Replaces the slot map file as a whole, and makes that last."""
    temporary = folder / (FILE_NAME + ".new")
    with open(temporary, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(slot_map)))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / FILE_NAME)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
