"""A shard's part of a snapshot: what its keys were at the moment of the cut, in slices, into a pipe.

A snapshot of the whole server is one RDB file. Who writes it (proxy.saver) has a pipe from each shard. At the
cut, one moment at which no transaction over several shards is half done, every shard begins a pass over its
keyspace; from then on each goes at its own pace. Where the file is written slowly the pipe is full, and the
pass waits; nothing else does.

What goes through the pipe are frames:

    (DATA, records, whole)        whole: whether the last record ends here; if not, its rest comes next
    (END, keys)                   all was sent
    (AGAIN, version, reason)      it has to begin anew, in that version of the format
"""

from __future__ import annotations

import logging
import math
import os
import select
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from shardkv import clock, limits
from shardkv.rdb import kinds, opcodes
from shardkv.rdb.file_writer import NotRepresentable, pieces
from shardkv.rdb.writer import length, string
from shardkv.values import Value
from shardkv.walk import Walk
from shardkv.wire import FrameWriter

if TYPE_CHECKING:
    from shardkv.shard import Shard

logger = logging.getLogger("shardkv.snapshot")

DATA: Final = 0
END: Final = 1
AGAIN: Final = 2

NEVER_S: Final = math.inf


class Records:
    """The form of an RDB file of some version.

    refused   a key for whose value that version has no form, and why; empty while there is none. Nothing is
              written for it.
    """

    divides = False

    def __init__(self, version: int) -> None:
        self.version = version
        self.refused = ""

    def select(self, index: int) -> bytes:
        return bytes((opcodes.SELECT,)) + length(index)

    def pieces(self, key: bytes, value: Value, expire_at_ms: int | None) -> Iterator[bytes]:
        try:
            return pieces(key, value, expire_at_ms, self.version)
        except NotRepresentable as refusal:
            self.refused = f"key {key!r:.200}: {refusal}"
            return iter(())


class Feed:
    """One shard's part of one snapshot.

    number    the snapshot's
    changes   how many changes of the shard it contains that no snapshot had contained before; known after
              `begin`
    lost      whether it is over: all is sent, or who wrote the file is gone
    """

    def __init__(self, shard: Shard, number: int, fd: int, version: int) -> None:
        """Takes the pipe's end to write to, which is its own from now on."""
        os.set_blocking(fd, False)
        self.number = number
        self.changes = 0
        self.lost = False
        self._shard = shard
        self._form = Records(version)
        self._writer = FrameWriter(fd)
        self._walk: Walk | None = None

    @property
    def fd(self) -> int:
        return self._writer.fd

    @property
    def keys(self) -> int:
        """How many keys are passed."""
        return 0 if self._walk is None else self._walk.keys

    def begin(self) -> None:
        """The moment that the snapshot shows is now."""
        shard = self._shard
        self.changes = shard.changes_since_save
        if shard.index == 0:
            # Every shard has all libraries.
            codes = (request[-1] for request in shard.scripts.requests())
            self._send((DATA, b"".join(bytes((opcodes.FUNCTION,)) + string(code) for code in codes), True))
        self._walk = Walk(list(shard.databases.values()), self._write, form=self._form)

    @property
    def wants_slices(self) -> bool:
        """Whether `step` has work to do now."""
        return self._walk is not None and self._writer.backlog_bytes < limits.SNAPSHOT_BACKLOG_BYTES

    @property
    def waits_for_room(self) -> bool:
        """Whether it has to be told when the pipe takes more."""
        return bool(self._writer.backlog_bytes)

    def step(self, budget_s: float) -> None:
        """Goes on for about so many seconds."""
        walk = self._walk
        if walk is None or not self.wants_slices:
            return
        if walk.step(budget_s):
            self._walk = None
            self._send((END, walk.keys))
        if self._form.refused:
            self._again(kinds.LATEST_OF_REDIS, self._form.refused)

    def flush(self) -> None:
        """The pipe takes more, or is broken."""
        try:
            self._writer.flush()
        except OSError:
            self.close()

    def keyspace_is_replaced(self) -> None:
        """Databases are about to be emptied or swapped as a whole."""
        if self._walk is not None:
            self._again(self._form.version, "a database was emptied or swapped")

    def close(self) -> None:
        """Ends it, complete or not."""
        if not self.lost:
            self.lost = True
            self._stop()
            os.close(self.fd)

    # -- frames ---------------------------------------------------------------------------------

    def _write(self, records: bytes) -> None:
        walk = self._walk
        self._send((DATA, records, walk is None or not walk.midway))

    def _again(self, version: int, reason: str) -> None:
        self._stop()
        self._send((AGAIN, version, reason))

    def _send(self, frame: tuple[int | bytes | bool | str, ...]) -> None:
        if self.lost:
            return
        try:
            self._writer.send(frame)
        except OSError:
            # Who wrote the file is gone, and knows why.
            self.close()

    def _stop(self) -> None:
        if self._walk is not None:
            self._walk.stop()
            self._walk = None


class Snapshots:
    """What a worker does for snapshots: one at a time."""

    def __init__(self, shard: Shard, poll: select.epoll) -> None:
        self.feed: Feed | None = None
        self._shard = shard
        self._poll = poll
        self.next_slice_s = NEVER_S
        """When there is something to do for it again."""
        self._begun: Feed | None = None
        """The last one whose moment has come: the changes that it contains are known here."""
        shard.on_flush.append(self._keyspace_is_replaced)
        shard.begin_snapshot = self.begin

    def prepare(self, number: int, fd: int, version: int) -> None:
        """Gets ready for a snapshot; its moment comes later."""
        self.drop()
        self.feed = Feed(self._shard, number, fd, version)
        self._poll.register(fd, 0)

    def begin(self, number: int) -> bool:
        """The moment of a snapshot has come; False if it is not known here."""
        feed = self.feed
        if feed is None or feed.number != number or feed.lost:
            return False
        feed.begin()
        self._begun = feed
        self.next_slice_s = 0.0
        return True

    def saved(self, number: int, *, ok: bool) -> None:
        """A snapshot that was to be kept is on disk, or has failed."""
        feed = self._begun
        if ok and feed is not None and feed.number == number:
            self._shard.changes_since_save -= feed.changes
            feed.changes = 0

    @property
    def keys(self) -> int:
        """How many keys of the one under way are passed."""
        return 0 if self.feed is None else self.feed.keys

    def step(self, now_s: float) -> None:
        """Goes on for a slice if it is time. Then it rests for as long: who is always busy gets the processor
        late when a request comes."""
        if self.feed is None or now_s < self.next_slice_s:
            return
        self.feed.step(limits.SNAPSHOT_SLICE_S)
        self.next_slice_s = clock.monotonic() + limits.SNAPSHOT_SLICE_S
        self._settle()

    def attend(self, fd: int, event: int) -> bool:
        """The pipe takes more, or is broken; False if it is none of ours."""
        if self.feed is None or fd != self.feed.fd:
            return False
        if event & select.EPOLLERR:
            self.feed.close()
        else:
            self.feed.flush()
        self._settle()
        return True

    def drop(self) -> None:
        """Gives up the one that is prepared or under way, if any."""
        if self.feed is not None:
            if not self.feed.lost:
                self._poll.unregister(self.feed.fd)
            self.feed.close()
            self.feed = None
            self.next_slice_s = NEVER_S

    def _keyspace_is_replaced(self) -> None:
        if self.feed is not None:
            self.feed.keyspace_is_replaced()

    def _settle(self) -> None:
        """Looks at how the feed is."""
        feed = self.feed
        assert feed is not None
        if feed.lost:
            self.feed = None
        if feed.lost or not feed.wants_slices:
            self.next_slice_s = NEVER_S
        elif self.next_slice_s == NEVER_S:
            self.next_slice_s = 0.0
        if not feed.lost:
            self._poll.modify(feed.fd, select.EPOLLOUT if feed.waits_for_room else 0)
