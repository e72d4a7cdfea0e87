"""Looking through a shard's folder without changing anything: by the same reading that a start does."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardkv.aof import side_log
from shardkv.aof.batch import AofDamaged
from shardkv.aof.disk import Disk
from shardkv.aof.load import Apply, load
from shardkv.aof.manifest import DEFAULT_FILENAME


@dataclass
class Findings:
    """What a shard's folder holds (records and batches of its log, size in bytes, notes of its side log), and
    what is wrong with it.

    torn: ends that are missing, in words, which a start would cut; damage: what it would refuse. After damage
    the file it is in, and those after it, have not been read.
    """

    folder: Path
    records: int = 0
    batches: int = 0
    size: int = 0
    notes: int = 0
    torn: list[str] = field(default_factory=list)
    damage: list[AofDamaged] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not self.torn and not self.damage


def check(
    folder: Path,
    *,
    apply: Apply,
    recall: Callable[[list[Any]], object] = lambda note: None,
    filename: str = DEFAULT_FILENAME,
    disk: Disk | None = None,
) -> Generator[tuple[int, int], None, Findings]:
    """Checks every byte of a shard's folder and gives all that it says to `apply` and `recall`, as `load`
    and the side log do. Yields how much is done, in bytes, and of how much; returns what was found.

    Raises OSError if a file cannot be read.
    """
    disk = disk or Disk()
    findings = Findings(folder)

    def count(note: list[Any]) -> None:
        findings.notes += 1
        recall(note)

    try:
        side = side_log.read(disk, folder, count)
        if side is not None and side.lost:
            findings.torn.append(f"{side.path}: torn at byte {side.end}, {side.lost} bytes would be cut")
    except AofDamaged as damage:
        findings.damage.append(damage)
    try:
        loaded = yield from load(folder, apply=apply, filename=filename, disk=disk)
    except AofDamaged as damage:
        findings.damage.append(damage)
        return findings
    findings.records, findings.batches, findings.size = loaded.records, loaded.batches, loaded.size
    findings.torn += loaded.warnings
    return findings
