"""Where SCAN, HSCAN, SSCAN and ZSCAN are in something large.

What is small is scanned at once. Of a large slot or collection a snapshot is taken when a scan enters it: the
list of its keys or members, which the scan then goes through page by page, however it changes meanwhile. What
was there all the time is in that list, so nothing is missed, and each page costs only its own length. The
place of a scan is one number, which its client holds as (a part of) the cursor.

The snapshots are bounded in number and size; the one least recently used goes first. A scan whose snapshot is
gone starts again with a new one, which may return elements twice, as scans may. So that even more scans than
there can be snapshots come to an end, the pages of a scan grow with each such start.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from shardkv import limits

_OFFSET_BITS, _STARTS_BITS, _NUMBER_BITS = 32, 3, 14
"""What a place consists of. With the 14 bits of a slot it fits into 63: a positive number in every
language."""

_GROWTH_BITS = 3
"""Pages get eight times as long with each start."""


@dataclass(slots=True)
class _Snapshot:
    of: Hashable
    members: list[bytes]
    used_s: int


class Snapshots:
    """The snapshots of one shard."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, _Snapshot] = OrderedDict()
        """By number, the least recently used one first."""
        self._members = 0
        # Numbers of before a restart must not be taken for those of other snapshots.
        self._next = random.randrange(1 << _NUMBER_BITS)  # noqa: S311

    def __len__(self) -> int:
        return len(self._kept)

    def page(
        self, of: Hashable, place: int, count: int, members: Callable[[], list[bytes]], now_s: int
    ) -> tuple[list[bytes], int]:
        """The next members, `count` or a multiple, and the place after them: 0 after the last.

        of        names what is scanned. A place of something else counts as one whose snapshot is gone.
        place     where the scan is: 0 at first, then what was returned.
        members   lists what is scanned. Members of the page may have been removed since it was called.
        now_s     the time in s; snapshots that are not used for a while are given up.
        """
        number, starts, offset = _unpack(place)
        snapshot = self._kept.get(number) if place else None
        if snapshot is None or snapshot.of != of:
            starts = min(starts + 1, (1 << _STARTS_BITS) - 1) if place else 0
            offset = 0
            snapshot = _Snapshot(of, members(), now_s)
            number = self._keep(snapshot)
        snapshot.used_s = now_s
        self._kept.move_to_end(number)
        end = offset + (count << _GROWTH_BITS * starts)
        page = snapshot.members[offset:end]
        if end >= len(snapshot.members):
            self._drop(number)
            return page, 0
        self.drop_idle(now_s)
        return page, _pack(number, starts, end)

    def drop_idle(self, now_s: int) -> None:
        """Gives up the snapshots that nobody has used for a while."""
        while self._kept:
            number, snapshot = next(iter(self._kept.items()))
            if now_s - snapshot.used_s < limits.SCAN_SNAPSHOT_IDLE_S:
                break
            self._drop(number)

    def clear(self) -> None:
        """Gives up all."""
        self._kept.clear()
        self._members = 0

    def _keep(self, snapshot: _Snapshot) -> int:
        number = self._next
        while number in self._kept:
            number = (number + 1) % (1 << _NUMBER_BITS)
        self._next = (number + 1) % (1 << _NUMBER_BITS)
        self._kept[number] = snapshot
        self._members += len(snapshot.members)
        while len(self._kept) > limits.SCAN_SNAPSHOTS or (
            self._members > limits.SCAN_SNAPSHOT_MEMBERS and len(self._kept) > 1
        ):
            self._drop(next(iter(self._kept)))
        return number

    def _drop(self, number: int) -> None:
        self._members -= len(self._kept.pop(number).members)


def _pack(number: int, starts: int, offset: int) -> int:
    return (number << _STARTS_BITS | starts) << _OFFSET_BITS | offset


def _unpack(place: int) -> tuple[int, int, int]:
    """Number of the snapshot, starts over, offset. Whatever number a client may give has some."""
    offset = place & ((1 << _OFFSET_BITS) - 1)
    place >>= _OFFSET_BITS
    return (
        place >> _STARTS_BITS & ((1 << _NUMBER_BITS) - 1),
        place & ((1 << _STARTS_BITS) - 1),
        offset,
    )
