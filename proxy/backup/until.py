"""How far to go in the files of each shard for an earlier moment.

A file marks the time once in each second with changes. What stands before the first later mark counts; and
with a transaction over several shards that counts on one of them, all of it on the others, with what stands
before it there. So the moment is the same on all shards but for transactions that were just being carried
out, and each of those is there as a whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from proxy.backup.store import Backup, Point
from proxy.transfer.connection import TransferError
from shardkv.aof.disk import Disk
from shardkv.aof.manifest import Manifest
from shardkv.aof.scan import scan
from shardkv.propagation import TRANSACTION

_MARGIN_S = 2
"""A rewrite begins on each shard at its own time, so its base may have a transaction that another shard was
just about to carry out."""

Place = tuple[int, int]
"""Where a batch ends: the number of the file, and the offset in bytes."""


@dataclass
class _Shard:
    """What is found in the increments of one shard.

    begun_s        when the first mark was made; None if there is none
    ends           where each batch ends, and its checksum, in order
    transactions   the place of each transaction over several shards
    cut            how far to go
    """

    manifest: Manifest
    begun_s: int | None = None
    ends: list[tuple[Place, int]] = field(default_factory=list)
    transactions: dict[bytes, Place] = field(default_factory=dict)
    cut: Place = (0, 0)

    def scan(self, folder: Path, until_s: int) -> None:
        """Goes through the files; the cut is before the first mark of a later time."""
        is_before = True
        for number, entry in enumerate(self.manifest.entries):
            assert entry.size is not None
            for found in scan(Disk(), folder / entry.name, entry.size):
                place = (number, found.end)
                if found.time_s is not None:
                    if self.begun_s is None:
                        self.begun_s = found.time_s
                    is_before = is_before and found.time_s <= until_s
                if found.keys.startswith(TRANSACTION):
                    self.transactions[found.keys] = place
                if is_before:
                    self.cut = place
                self.ends.append((place, found.checksum))

    @property
    def cut_manifest(self) -> Manifest:
        """The files as far as they count."""
        number, offset = self.cut
        place = bisect_left(self.ends, (self.cut, 0))
        last = self.manifest.entries[number].closed(offset, self.ends[place][1])
        # Every increment begins with a batch that marks nothing, so the cut is in one of them.
        return Manifest(self.manifest.filename, (*self.manifest.entries[:number], last))


def until(backup: Backup, until_s: int) -> tuple[Point, list[Manifest]]:
    """The point that has a moment, in s since 1970, and the files of each shard as far as they count for it.

    Raises TransferError if no point has it, AofDamaged, OSError.
    """
    backup.last()
    later = [point for point in backup.points if point.at_ms // 1000 >= until_s]
    if not later:
        raise TransferError("the backup was taken before that time; without --until its end is restored")
    reasons = []
    for point in later:
        shards = [_Shard(point.manifest(number)) for number in range(len(point.shards))]
        for number, shard in enumerate(shards):
            shard.scan(backup.shard_folder(number), until_s)
        reason = _why_not(shards, until_s)
        if reason is None:
            _complete_transactions(shards)
            return point, [shard.cut_manifest for shard in shards]
        reasons.append(reason)
    raise TransferError(reasons[0])


def _why_not(shards: Sequence[_Shard], until_s: int) -> str | None:
    for number, shard in enumerate(shards):
        has_data = _has_records(shard)
        if shard.begun_s is None:
            if has_data:
                return (
                    f"the files of shard {number} do not say what happened when: aof-timestamp-enabled was no"
                )
        elif has_data and shard.begun_s + _MARGIN_S > until_s:
            return (
                f"the append-only file of shard {number} was rewritten, or its times are marked, only since"
                f" {shard.begun_s} (s since 1970), so what was there before is not known"
            )
    return None


def _has_records(shard: _Shard) -> bool:
    """Whether there is anything in the base."""
    return sum(number == 0 for (number, _), _ in shard.ends) > 1


def _complete_transactions(shards: Sequence[_Shard]) -> None:
    """Goes on, on each shard, to the end of every transaction that counts on another one, and so on until
    there is none that counts in part."""
    changed = True
    while changed:
        changed = False
        counting = {
            name for shard in shards for name, place in shard.transactions.items() if place <= shard.cut
        }
        for shard in shards:
            needed = max(
                (shard.transactions[name] for name in counting & shard.transactions.keys()), default=None
            )
            if needed is not None and needed > shard.cut:
                shard.cut = needed
                changed = True
