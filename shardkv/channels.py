"""Publish/subscribe, a shard's part: which proxies have subscribers for what.

A channel is at home on the shard of its name, so a message goes there; patterns are known on every shard,
and so are the channels of keyspace notifications, on which each shard publishes what its own keys do. A
proxy says how many of its clients have subscribed to a name here whenever that changes (LISTEN), and gets
each message that any of them waits for once, in its outbox. What it is told there comes in the order in which
it has happened: a subscription counts from its acknowledgement on, for the messages as well as for the
numbers of receivers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from shardkv import glob
from shardkv.glob import Matcher
from shardkv.locks import LockKey

CHANNEL: Final = 0
PATTERN: Final = 1
SHARD_CHANNEL: Final = 2
KINDS: Final = (CHANNEL, PATTERN, SHARD_CHANNEL)
"""What clients subscribe to. The channels of sharded publish/subscribe have names of their own."""

INVALIDATED: Final = 3
"""In place of such a kind: what clients that track keys have to know (see shardkv.tracking)."""

Message = tuple[int, bytes, bytes, list[bytes]]
"""What was published, for one proxy: kind and name of the channel, the message, and the patterns that its
clients have subscribed to and the channel matches. Or INVALIDATED, the numbers of trackers in 4 bytes each,
nothing, and the keys that have changed, none if all may have."""

LOST: Final = None

Entry = Message | int | None
"""What a proxy is told: a message, the number of a change that is made now, or LOST: that from here on
messages are missing."""

Told = tuple[int, list[Entry]]
"""What a proxy is told at once, with the time when that was, in ns by the monotonic clock."""

encode_told = msgspec.msgpack.Encoder().encode
decode_told = msgspec.msgpack.Decoder(Told).decode

Change = tuple[int, bytes, int]
"""Kind, name, and how many clients of a proxy have subscribed to it now."""

_NO_DATABASE = -1

_NOTIFICATIONS = (b"__keyspace@", b"__keyevent@")


def arises_anywhere(kind: int, name: bytes) -> bool:
    """Whether messages on what clients subscribe to come from all shards, which all have to know of it:
    patterns, and the channels of keyspace notifications, which tell of keys of any shard."""
    return kind == PATTERN or (kind == CHANNEL and name.startswith(_NOTIFICATIONS))


def channel_lock(db: int, args: list[bytes]) -> tuple[list[LockKey], bool]:
    """What PUBLISH needs unlocked: its channel, which is no key of any database, so that a transaction's
    messages are published as one with the rest of it."""
    return [(_NO_DATABASE, args[1])], False


class Channels:
    """What the clients of all proxies have subscribed to here."""

    def __init__(self) -> None:
        self._proxies: dict[int, tuple[dict[bytes, int], ...]] = {}
        """By proxy: for each kind, how many clients have subscribed to a name."""
        self._patterns: dict[bytes, Matcher] = {}
        self.outboxes: dict[int, list[Entry]] = {}
        """What proxies have to be told."""

    # -- subscriptions --------------------------------------------------------------------------

    def listen(self, proxy: int, number: int, changes: Iterable[Change]) -> None:
        """Takes in a change of what a proxy's clients have subscribed to, and acknowledges it by its number,
        unless that is 0."""
        counts = self._proxies.get(proxy)
        if counts is None:
            counts = self._proxies[proxy] = ({}, {}, {})
        for kind, name, count in changes:
            if count:
                counts[kind][name] = count
                if kind == PATTERN and name not in self._patterns:
                    self._patterns[name] = glob.compile(name)
            elif counts[kind].pop(name, 0) and kind == PATTERN:
                self._drop_pattern(name)
        if number:
            self.outboxes.setdefault(proxy, []).append(number)

    @property
    def proxies(self) -> int:
        """How many proxies have said what their clients have subscribed to."""
        return len(self._proxies)

    def forget_proxy(self, proxy: int) -> None:
        """A proxy is gone, and its clients with it."""
        self.outboxes.pop(proxy, None)
        counts = self._proxies.pop(proxy, None)
        if counts is not None:
            for pattern in counts[PATTERN]:
                self._drop_pattern(pattern)

    def _drop_pattern(self, pattern: bytes) -> None:
        if not any(pattern in counts[PATTERN] for counts in self._proxies.values()):
            del self._patterns[pattern]

    # -- messages -------------------------------------------------------------------------------

    def publish(self, kind: int, channel: bytes, message: bytes) -> int:
        """Has every subscriber of a channel told; returns how many they are."""
        receivers = 0
        for proxy, patterns, count in self._listeners(kind, channel):
            receivers += count
            self.outboxes.setdefault(proxy, []).append((kind, channel, message, patterns))
        return receivers

    def receivers(self, kind: int, channel: bytes) -> int:
        """How many subscribers would get a message."""
        return sum(count for _, _, count in self._listeners(kind, channel))

    def _listeners(self, kind: int, channel: bytes) -> Iterator[tuple[int, list[bytes], int]]:
        """The proxies whose clients want a channel's messages, with the patterns that it matches of those
        they want, and how often they want a message."""
        matched: list[bytes] = []
        if kind == CHANNEL and self._patterns:
            matched = [pattern for pattern, matches in self._patterns.items() if matches(channel)]
        for proxy, counts in self._proxies.items():
            count = counts[kind].get(channel, 0)
            patterns = []
            for pattern in matched:
                subscribers = counts[PATTERN].get(pattern)
                if subscribers:
                    count += subscribers
                    patterns.append(pattern)
            if count:
                yield proxy, patterns, count

    # -- figures --------------------------------------------------------------------------------

    def names(self, kind: int) -> set[bytes]:
        """What has any subscribers."""
        return {name for counts in self._proxies.values() for name in counts[kind]}

    def subscribers(self, kind: int, name: bytes) -> int:
        """How many clients have subscribed to a name, not counting those of patterns that it matches."""
        return sum(counts[kind].get(name, 0) for counts in self._proxies.values())
