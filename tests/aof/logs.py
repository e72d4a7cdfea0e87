"""What the tests of the log have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from shardkv.aof import AofDamaged, AppendLog, LoadResult, load, record
from shardkv.aof.background import Background
from shardkv.aof.disk import Disk
from shardkv.aof.log import Policy

FOLDER = Path("/data/shard-0")
"""A folder on a disk in memory."""


@dataclass
class Replay:
    """What a load has given: the records, the keys of batches, and the result."""

    records: list[list[bytes]] = field(default_factory=list)
    notes: list[bytes] = field(default_factory=list)
    progress: list[tuple[int, int]] = field(default_factory=list)
    result: LoadResult = field(default_factory=LoadResult)


def replay(folder: Path, disk: Disk | None = None, *, accept_torn: bool = True) -> Replay:
    """Loads a log to its end."""
    found = Replay()
    loading = load(
        folder, apply=found.records.append, note=found.notes.append, accept_torn=accept_torn, disk=disk
    )
    while True:
        try:
            found.progress.append(next(loading))
        except StopIteration as stop:
            found.result = stop.value
            return found


def open_log(
    folder: Path,
    disk: Disk | None = None,
    *,
    fsync: Policy = "no",
    background: Background | None = None,
    wake: Callable[[], None] = lambda: None,
) -> AppendLog:
    """Loads a log and opens it."""
    loaded = replay(folder, disk).result
    return AppendLog.open(folder, loaded, fsync=fsync, disk=disk, background=background, wake=wake)


def refusal(folder: Path, disk: Disk | None = None, *, accept_torn: bool = True) -> AofDamaged | None:
    """Why a log is not loaded; None if it is."""
    try:
        replay(folder, disk, accept_torn=accept_torn)
    except AofDamaged as error:
        return error
    return None


def put(log: AppendLog, *words: bytes | int) -> None:
    """Appends one record, uncommitted."""
    log.records.append(record(words))
