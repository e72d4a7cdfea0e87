"""The slot map file: which shard owns which slot, and what of a key makes its slot. It is the one truth about
that.

The file stands in the data folder, as JSON: {"version": 2, "shards": 2, "runs": [[0, 8191, 0], [8192, 16383,
1]], "colocate": ["rq:"], "checksum": "…"}, each run a first slot, a last slot and their shard. The checksum
is the xxh3_64 of all the rest, without spaces. It is only ever replaced as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from xxhash import xxh3_64_hexdigest

from shardkv.aof.batch import MAX_HEADER_BYTES
from shardkv.slots import SLOTS, even_slot_table

FILE_NAME = "slots.json"

COLOCATED = "colocated"
"""A folder in the data folder that takes its place (see proxy.colocation), while there is one."""


class SlotMapError(Exception):
    """The slot map cannot be used; says why."""


class SlotMap(msgspec.Struct):
    """The file's content."""

    version: int
    shards: int
    runs: list[tuple[int, int, int]]
    colocate: list[str] = []
    target: int = 0
    """How many shards there are to be, if slots are being moved for that; 0 if as many as there are."""
    uneven: bool = False
    """Whether shards are to own unequally many slots, as they do, because those weigh differently."""
    checksum: str = ""

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


def from_table(
    table: list[int], shards: int, colocate: Sequence[str] = (), target: int = 0, *, uneven: bool = False
) -> SlotMap:
    """The slot map that says the same as a table."""
    runs: list[tuple[int, int, int]] = []
    for slot, shard in enumerate(table):
        if runs and runs[-1][2] == shard:
            runs[-1] = (runs[-1][0], slot, shard)
        else:
            runs.append((slot, slot, shard))
    target = 0 if target == shards else target
    return SlotMap(version=2, shards=shards, runs=runs, colocate=list(colocate), target=target, uneven=uneven)


@dataclass
class Layout:
    """How the data of a folder is laid out: `table` says of each slot which of so many shards owns it, and
    `colocate` by which patterns keys have their slots. There are to be `target` shards."""

    shards: int
    table: list[int]
    target: int
    colocate: tuple[str, ...] = ()
    uneven: bool = False
    """Whether the table is to stay as it is, though shards own unequally many slots."""


def balanced(table: list[int], shards: int) -> list[int]:
    """A table in which so many shards own equally many slots, with as few changes as that takes."""
    share, rest = divmod(SLOTS, shards)
    room = [share + (shard < rest) for shard in range(shards)]
    wanted, homeless = table[:], []
    for slot, shard in enumerate(table):
        if shard < shards and room[shard]:
            room[shard] -= 1
        else:
            homeless.append(slot)
    free = (shard for shard, count in enumerate(room) for _ in range(count))
    for slot, shard in zip(homeless, free, strict=True):
        wanted[slot] = shard
    return wanted


def open_slot_map(folder: Path, workers: int, colocate: Sequence[str], *, loads: bool = True) -> Layout:
    """The layout of a data folder; a new folder gets an even one.

    workers    the number of shards there are to be; 0 takes what the folder has, or one per core for a new
               one
    colocate   the patterns asked for. Those of the layout are others if there is data that is laid out by
               others
    loads      whether the data in the folder is loaded

    Raises SlotMapError if the folder's data is laid out in a way that cannot be changed to what is asked for.
    """
    path = folder / FILE_NAME
    if not path.exists():
        if holds_data(folder):
            raise SlotMapError(
                f"{path} is missing, but there is data in {folder}: it is not known any more which shard "
                "owns which keys; bring the file back from a copy"
            )
        shards = workers or os.cpu_count() or 1
        table = even_slot_table(shards)
        save_slot_map(folder, from_table(table, shards, colocate))
        return Layout(shards, table, shards, tuple(colocate))
    try:
        found = read_slot_map(path)
        table = found.table()
    except SlotMapError as error:
        raise SlotMapError(f"{path}: {error}") from None
    target = workers or found.target or found.shards
    if target != found.shards and not loads and holds_data(folder):
        raise SlotMapError(
            f"the data in {folder} is laid out for {found.shards} workers, and cannot be moved with "
            f"`appendonly no`; start with `workers {found.shards}`, or with `appendonly yes`"
        )
    if found.colocate != list(colocate):
        if not holds_data(folder):
            save_slot_map(
                folder, from_table(table, found.shards, colocate, found.target, uneven=found.uneven)
            )
            found.colocate = list(colocate)
        elif not loads:
            raise SlotMapError(
                f"the data in {folder} is laid out with `colocate {_line(found.colocate)}`, and cannot be "
                f"laid out with `colocate {_line(colocate)}` while `appendonly no`; start with the former, "
                "or with `appendonly yes`"
            )
    uneven = found.uneven and target == found.shards
    return Layout(found.shards, table, target, tuple(found.colocate), uneven)


def _line(patterns: Sequence[str]) -> str:
    return " ".join(patterns) or '""'


def holds_data(folder: Path) -> bool:
    """Whether any shard has ever logged anything here: its files are longer than when they were made."""
    return any(path.stat().st_size > MAX_HEADER_BYTES for path in folder.glob("shard-*/*.aof"))


class SlotMapUncertainError(Exception):
    """The slot map was replaced, but it is not known whether that will last."""


def save_slot_map(folder: Path, slot_map: SlotMap) -> None:
    """Replaces the slot map file as a whole, and makes that last.

    Raises OSError if the old one stays, SlotMapUncertainError if it is not known which one there will be.
    """
    temporary = folder / (FILE_NAME + ".new")
    with open(temporary, "wb") as file:
        file.write(encode(slot_map))
        file.flush()
        os.fsync(file.fileno())
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.replace(temporary, folder / FILE_NAME)
        try:
            os.fsync(fd)
        except OSError as error:
            raise SlotMapUncertainError(f"{folder}: fsync has failed: {error}") from None
    finally:
        os.close(fd)


def read_slot_map(path: Path) -> SlotMap:
    """What a slot map file says. Raises SlotMapError if it is not what was written; OSError."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=SlotMap)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SlotMapError(f"damaged: {error}") from None
    if found.version == 1:
        # Written before there was a checksum.
        return found
    if found.version != 2:
        raise SlotMapError(f"version {found.version} is not known")
    if found.checksum != _checksum(found):
        raise SlotMapError("damaged: the checksum does not match")
    return found


def encode(slot_map: SlotMap) -> bytes:
    """What the file of a slot map holds."""
    sealed = msgspec.structs.replace(slot_map, checksum=_checksum(slot_map))
    return msgspec.json.format(msgspec.json.encode(sealed))


def _checksum(slot_map: SlotMap) -> str:
    content = msgspec.to_builtins(msgspec.structs.replace(slot_map, checksum=""))
    if not slot_map.uneven:
        # Files that were written before there was this field have none.
        del content["uneven"]
    return xxh3_64_hexdigest(msgspec.json.encode(content))
