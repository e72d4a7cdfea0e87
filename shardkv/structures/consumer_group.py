"""Consumer groups of a stream: who has been given which entries, and not acknowledged them yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple, Self

from shardkv.limits import STREAM_REQUEST_IDS
from shardkv.structures.id_map import IdMap
from shardkv.structures.stream_id import LEAST, StreamID

UNKNOWN = -1
"""What a group has read, where that cannot be told, and the time of what never happened."""


GroupState = tuple[StreamID, int, list[tuple[bytes, int, int]], list[tuple[StreamID, bytes, int, int]]]


class Pending(NamedTuple):
    """An entry that was given to a consumer and is not acknowledged. Entries delivered together share one."""

    consumer: bytes
    delivered_ms: int
    """When last, in ms since 1970."""
    deliveries: int


class Consumer:
    """A member of a group. Times are in ms since 1970."""

    __slots__ = ("active_ms", "pending", "seen_ms")

    def __init__(self, seen_ms: int) -> None:
        self.seen_ms = seen_ms
        """When it last asked for something."""
        self.active_ms = UNKNOWN
        """When it last got something."""
        self.pending: IdMap[None] = IdMap()

    def copy(self) -> Consumer:
        """A consumer of its own in the same state."""
        made = Consumer(self.seen_ms)
        made.active_ms = self.active_ms
        made.pending = self.pending.copy()
        return made


class ConsumerGroup:
    """A group: how far it has read, its consumers, and what is pending, in sum and for each consumer."""

    __slots__ = ("consumers", "entries_read", "last_id", "pending")

    def __init__(self, last_id: StreamID, entries_read: int = UNKNOWN) -> None:
        self.last_id = last_id
        """What was last delivered: the next entry to be read is the one after it."""
        self.entries_read = entries_read
        """How many entries there were up to that one since the stream began, or UNKNOWN."""
        self.consumers: dict[bytes, Consumer] = {}
        self.pending: IdMap[Pending] = IdMap()

    # -- consumers ------------------------------------------------------------------------------

    def create(self, name: bytes, now_ms: int) -> Consumer:
        """A new consumer of that name."""
        made = self.consumers[name] = Consumer(now_ms)
        return made

    def remove(self, name: bytes) -> int:
        """Takes a consumer out, if there is one of that name; returns how many entries it had pending."""
        consumer = self.consumers.pop(name, None)
        if consumer is None:
            return 0
        for stream_id in consumer.pending:
            self.pending.pop(stream_id)
        return consumer.pending.count

    # -- pending entries --------------------------------------------------------------------------

    def pending_of(self, name: bytes, start: StreamID) -> Iterator[tuple[StreamID, Pending]]:
        """What a consumer that is there has pending, from an ID on. Nothing may change meanwhile."""
        for stream_id, _ in self.consumers[name].pending.since(start):
            pending = self.pending.get(stream_id)
            assert pending is not None
            yield stream_id, pending

    def deliver(self, stream_ids: Sequence[StreamID], name: bytes, now_ms: int) -> None:
        """Gives entries, in order, to a consumer that is there for the first time."""
        pending, consumer = Pending(name, now_ms, 1), self.consumers[name]
        consumer.active_ms = now_ms
        if not self.pending.count or stream_ids[0] > self.pending.last:
            self.pending.extend(stream_ids, pending)
            consumer.pending.extend(stream_ids, None)
        else:
            for stream_id in stream_ids:
                self.assign(stream_id, pending)

    def assign(self, stream_id: StreamID, pending: Pending) -> None:
        """Says in whose hands an entry is, whoever had it before."""
        before = self.pending.get(stream_id)
        self.pending.set(stream_id, pending)
        if before is None or before.consumer != pending.consumer:
            self.consumers[pending.consumer].pending.set(stream_id, None)
            if before is not None:
                self.consumers[before.consumer].pending.pop(stream_id)

    def acknowledge(self, stream_id: StreamID) -> bool:
        """An entry is not pending any more; whether it was."""
        pending = self.pending.pop(stream_id)
        if pending is None:
            return False
        self.consumers[pending.consumer].pending.pop(stream_id)
        return True

    def has_done_with(self, stream_id: StreamID) -> bool:
        """Whether an entry was delivered and acknowledged."""
        return stream_id <= self.last_id and self.pending.get(stream_id) is None

    # -- the whole ------------------------------------------------------------------------------

    def commands(self, key: bytes, name: bytes) -> Iterator[list[bytes]]:
        """Requests that build the group anew, as one of that name of the stream under `key`. They need the
        pending entries to be there."""
        yield [
            *(b"XGROUP", b"CREATE", key, name, b"%d-%d" % self.last_id),
            *(b"ENTRIESREAD", b"%d" % self.entries_read),
        ]
        for consumer in sorted(self.consumers):
            yield [b"XGROUP", b"CREATECONSUMER", key, name, consumer]
        for pending, run in groupby(self.pending.since(LEAST), key=itemgetter(1)):
            stream_ids = (stream_id for stream_id, _ in run)
            while some := list(islice(stream_ids, STREAM_REQUEST_IDS)):
                yield claim_request(key, name, some, pending)

    def copy(self) -> Self:
        """A group of its own in the same state."""
        made = type(self)(self.last_id, self.entries_read)
        made.consumers = {name: consumer.copy() for name, consumer in self.consumers.items()}
        made.pending = self.pending.copy()
        return made

    def state(self) -> GroupState:
        """What `of` makes the same group of."""
        consumers = [(name, member.seen_ms, member.active_ms) for name, member in self.consumers.items()]
        pending = [(stream_id, *given) for stream_id, given in self.pending.since(LEAST)]
        return self.last_id, self.entries_read, consumers, pending

    @classmethod
    def of(cls, state: GroupState) -> Self:
        """The group in that state."""
        last_id, entries_read, consumers, pending = state
        made = cls(last_id, entries_read)
        for name, seen_ms, active_ms in consumers:
            made.create(name, seen_ms).active_ms = active_ms
        for stream_id, name, delivered_ms, deliveries in pending:
            made.assign(stream_id, Pending(name, delivered_ms, deliveries))
        return made

    def shed(self, count: int) -> int:
        """Frees about so many pending entries, of a group that nobody uses any more; returns how many."""
        while self.consumers:
            name, consumer = next(iter(self.consumers.items()))
            if consumer.pending.shed(count):
                break
            del self.consumers[name]
        return self.pending.shed(count)


def claim_request(key: bytes, group: bytes, stream_ids: Sequence[StreamID], pending: Pending) -> list[bytes]:
    """The XCLAIM that puts entries in a consumer's hands, whatever was before."""
    return [
        *(b"XCLAIM", key, group, pending.consumer, b"0"),
        *(b"%d-%d" % stream_id for stream_id in stream_ids),
        *(b"TIME", b"%d" % pending.delivered_ms, b"RETRYCOUNT", b"%d" % pending.deliveries),
        *(b"JUSTID", b"FORCE"),
    ]
