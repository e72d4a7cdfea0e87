"""Publish/subscribe, a proxy's part: which of its clients have subscribed to what, and the fan-out to them.

What a shard has to say about subscriptions comes as one stream: messages, and the acknowledgements of what
this proxy has told it (see shardkv.channels). A client is among a channel's subscribers from one
acknowledgement to another, so it gets exactly the messages for which it was counted. Its reply waits for the
acknowledgement, and what comes for it before the reply is written is held back.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from shardkv import glob
from shardkv.channels import (
    CHANNEL,
    INVALIDATED,
    KINDS,
    PATTERN,
    SHARD_CHANNEL,
    Change,
    Entry,
    arises_anywhere,
    decode_told,
)
from shardkv.command import COMMANDS
from shardkv.errors import CommandError
from shardkv.resp.replies import Encoded, Push, resp2
from shardkv.slots import slot_of
from shardkv.wire import RAW, Batch, pack_context

if TYPE_CHECKING:
    from proxy.backend import Backend
    from proxy.server import Proxy
    from proxy.session import Session

_WORDS = {CHANNEL: b"subscribe", PATTERN: b"psubscribe", SHARD_CHANNEL: b"ssubscribe"}
_LEAVING_WORDS = {CHANNEL: b"unsubscribe", PATTERN: b"punsubscribe", SHARD_CHANNEL: b"sunsubscribe"}
_MESSAGE_HEADS = {CHANNEL: b"3\r\n" + resp2(b"message"), SHARD_CHANNEL: b"3\r\n" + resp2(b"smessage")}
_PATTERN_HEAD = b"4\r\n" + resp2(b"pmessage")


class Subscriber:
    """A client that has subscribed to something, or is about to."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.names: tuple[dict[bytes, None], ...] = ({}, {}, {})
        """By kind."""
        self.gone = False
        self._held: list[bytes] | None = None
        self._held_bytes = 0

    @property
    def is_listening(self) -> bool:
        """Whether it has subscribed to anything."""
        return any(self.names)

    def number(self, kind: int) -> int:
        """The number of subscriptions, as the replies that concern this kind of them tell it."""
        channels, patterns, shard_channels = self.names
        return len(shard_channels) if kind == SHARD_CHANNEL else len(channels) + len(patterns)

    # -- messages that wait for the reply before them ----------------------------------------------

    @property
    def is_holding(self) -> bool:
        return self._held is not None

    def begin_holding(self) -> None:
        """From now on messages are held back."""
        if self._held is None:
            self._held = []

    def hold(self, data: bytes) -> None:
        """Holds messages back, within the bounds for what waits for a subscriber."""
        assert self._held is not None
        if self.session.transport.is_closing():
            return
        self._held.append(data)
        self._held_bytes += len(data)
        hard_bytes = self.session.proxy.config.client_output_buffer_limit.pubsub.hard_bytes
        if 0 < hard_bytes <= self._held_bytes:
            self.session.drop_slow_reader(self._held_bytes)

    def release(self) -> None:
        """The reply is written: what was held back follows."""
        if self._held is not None:
            held, self._held, self._held_bytes = self._held, None, 0
            if held:
                self.session.push(b"".join(held))
        if not self.is_listening:
            self.session.subscriber = None
            self.session.settle()


Audience = dict[Subscriber, None]
"""The clients that have subscribed to one name, in the order in which they have."""


@dataclass(slots=True)
class _Change:
    """A change of subscriptions that a shard has not acknowledged."""

    subscriber: Subscriber
    kind: int
    names: Sequence[bytes]
    joins: bool
    future: asyncio.Future[None]


class _Home:
    """The subscriptions whose messages come from one shard."""

    def __init__(self, proxy: Proxy, backend: Backend) -> None:
        self.proxy = proxy
        self.backend = backend
        self.audiences: tuple[dict[bytes, Audience], ...] = ({}, {}, {})
        """By kind and name: to whom the messages go that come now."""
        self.counts: tuple[dict[bytes, int], ...] = ({}, {}, {})
        """By kind and name: how many subscribers there are when all changes are acknowledged."""
        self._changes: dict[int, _Change] = {}
        self._numbers = itertools.count(1)
        backend.greetings.append(self.greeting)

    # -- what the shard is told ---------------------------------------------------------------------

    def change(
        self, subscriber: Subscriber, kind: int, names: Sequence[bytes], *, joins: bool
    ) -> asyncio.Future[None]:
        """Has a client join or leave the subscribers of some names; the future ends when it has."""
        future: asyncio.Future[None] = self.proxy.loop.create_future()
        number = next(self._numbers)
        self._changes[number] = _Change(subscriber, kind, names, joins, future)
        changes = self._count(kind, names, 1 if joins else -1)
        if self.backend.up:
            self._tell(number, changes)
        elif not joins:
            # Nothing more comes from a shard that is down, and it will not know of this client.
            self._acknowledged(number)
        return future

    def drop(self, subscriber: Subscriber, kind: int, names: Sequence[bytes]) -> None:
        """Lets go of a client that is gone; nobody waits for that."""
        for name in names:
            self._leave(subscriber, kind, name)
        changes = self._count(kind, names, -1)
        if self.backend.up:
            self._tell(0, changes)

    def _count(self, kind: int, names: Sequence[bytes], step: int) -> list[Change]:
        counts = self.counts[kind]
        changes = []
        for name in names:
            count = counts.get(name, 0) + step
            if count:
                counts[name] = count
            else:
                del counts[name]
            changes.append((kind, name, count))
        return changes

    def _tell(self, number: int, changes: list[Change]) -> None:
        self.proxy.tell(self.backend.shard, _listen(number, changes))

    def greeting(self) -> Batch:
        """What a shard's new process has to know before anything else: all subscriptions."""
        changes = [(kind, name, count) for kind in KINDS for name, count in self.counts[kind].items()]
        return [_listen(0, changes), *(_listen(number, []) for number in self._changes)]

    # -- channels that move ---------------------------------------------------------------------------

    def share(self, other: _Home, channels: Collection[tuple[int, bytes]]) -> None:
        """Subscribes to what another home has subscribed to, of some kinds and names."""
        for kind, name in channels:
            self.counts[kind][name] = other.counts[kind][name]
        if channels and self.backend.up:
            self._tell(0, [(kind, name, self.counts[kind][name]) for kind, name in channels])

    def share_audiences(self, other: _Home, channels: Collection[tuple[int, bytes]]) -> None:
        """Gives to whom the other home gives."""
        for kind, name in channels:
            self.audiences[kind][name] = dict(other.audiences[kind].get(name, {}))

    def give_up(self, channels: Collection[tuple[int, bytes]]) -> None:
        """Another shard is their home."""
        for kind, name in channels:
            self.counts[kind].pop(name, None)
            self.audiences[kind].pop(name, None)
        if channels and self.backend.up:
            self._tell(0, [(kind, name, 0) for kind, name in channels])

    # -- what the shard says ------------------------------------------------------------------------

    def receive(self, entries: list[Entry]) -> None:
        """Takes in a part of the shard's stream."""
        # Messages that follow each other on a channel are written to each subscriber as one.
        bodies: list[bytes] = []
        audience: Audience | None = None
        for entry in entries:
            if not isinstance(entry, tuple):
                if audience and bodies:
                    self._write(audience, bodies)
                bodies, audience = [], None
                if entry is None:
                    self._disconnect_all()
                    self.proxy.tracking.forget_all()
                else:
                    self._acknowledged(entry)
                continue
            kind, channel, message, patterns = entry
            if kind == INVALIDATED:
                self.proxy.tracking.invalidate(channel, patterns)
                continue
            next_audience = self.audiences[kind].get(channel)
            if audience is not next_audience:
                if audience and bodies:
                    self._write(audience, bodies)
                bodies, audience = [], next_audience
            if audience:
                bodies.append(_MESSAGE_HEADS[kind] + resp2(channel) + resp2(message))
            if patterns:
                if audience:
                    self._write(audience, bodies)
                    bodies = []
                self._write_to_patterns(patterns, channel, message)
        if audience and bodies:
            self._write(audience, bodies)

    def _write_to_patterns(self, patterns: list[bytes], channel: bytes, message: bytes) -> None:
        rest = resp2(channel) + resp2(message)
        for pattern in patterns:
            audience = self.audiences[PATTERN].get(pattern)
            if audience:
                self._write(audience, [_PATTERN_HEAD + resp2(pattern) + rest])

    def _write(self, audience: Audience, bodies: list[bytes]) -> None:
        """Writes messages, of which the first byte is missing, to every subscriber."""
        data2 = b"*" + b"*".join(bodies)
        data3 = b">" + b">".join(bodies)
        proxy = self.proxy
        slow_readers = proxy.slow_readers
        for subscriber in audience:
            session = subscriber.session
            data = data3 if session.protocol == 3 else data2
            if subscriber.is_holding:
                subscriber.hold(data)
                continue
            transport = session.transport
            if not transport.is_closing():
                session.bytes_out += len(data)
                transport.write(data)
                if session in slow_readers:
                    session.check_output_limit()
        proxy.counters.bytes_out += len(data2) * len(audience)

    def _acknowledged(self, number: int) -> None:
        change = self._changes.pop(number, None)
        if change is None:
            return
        subscriber = change.subscriber
        for name in change.names:
            if not change.joins:
                self._leave(subscriber, change.kind, name)
            elif not subscriber.gone:
                self.audiences[change.kind].setdefault(name, {})[subscriber] = None
        if not change.future.done():
            change.future.set_result(None)

    def _leave(self, subscriber: Subscriber, kind: int, name: bytes) -> None:
        audience = self.audiences[kind].get(name)
        if audience is not None and subscriber in audience:
            del audience[subscriber]
            if not audience:
                del self.audiences[kind][name]

    def _disconnect_all(self) -> None:
        """Messages are lost because this proxy did not take them in time: its subscribers have to know."""
        subscribers = {
            one for kind in KINDS for audience in self.audiences[kind].values() for one in audience
        }
        for subscriber in subscribers:
            self.proxy.counters.output_limit_disconnections += 1
            subscriber.session.abort()


def _listen(number: int, changes: list[Change]) -> list[Any]:
    return [pack_context(0, RAW) | COMMANDS["listen"].code, number, changes]


class PubSub:
    """The subscriptions of all clients of a proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.homes = [_Home(proxy, backend) for backend in proxy.backends]
        self._coming: dict[int, _Home] = {}
        self._heir: _Home | None = None
        self._shared: dict[tuple[int, bytes], None] = {}
        """While channels go from one home to another: to which, and their kinds and names."""
        self._sharer: _Home | None = None
        self._told: list[tuple[int, int, list[Entry]]] = []
        self._is_gathering = False
        for backend in proxy.backends:
            backend.published = partial(self._take, backend.shard)

    # -- shards that come and go, and channels that go with their slots -------------------------------

    def expect(self, backend: Backend) -> None:
        """A shard is being started that is not used yet."""
        self._coming[backend.shard] = _Home(self.proxy, backend)

    def add_home(self, backend: Backend) -> None:
        """It is used from now on: it has to know of all patterns."""
        home = self._coming.pop(backend.shard)
        backend.published = partial(self._take, backend.shard)
        other = self.homes[0]
        home.share(other, [(PATTERN, name) for name in other.counts[PATTERN]])
        home.share_audiences(other, [(PATTERN, name) for name in other.audiences[PATTERN]])
        self.homes.append(home)

    def remove_home(self) -> None:
        """The last shard is not used any more."""
        home = self.homes[-1]
        home.give_up([(kind, name) for kind in KINDS for name in home.counts[kind]])
        home.backend.published = _ignore
        self._coming[home.backend.shard] = self.homes.pop()

    def share(self, source: int, target: int, slots: Set[int]) -> None:
        """Subscribes to the channels of some slots at another shard as well, which may be their home soon."""
        self._sharer, self._heir = self.homes[source], self.homes[target]
        self._shared = {
            (kind, name): None
            for kind in (CHANNEL, SHARD_CHANNEL)
            for name in self._sharer.counts[kind]
            if slot_of(name) in slots
        }
        self._heir.share(self._sharer, self._shared)

    def share_audiences(self) -> None:
        """All changes are acknowledged: who gets the messages there is who gets them here."""
        if self._heir is not None and self._sharer is not None:
            self._heir.share_audiences(self._sharer, self._shared)

    def settle(self, *, moved: bool) -> None:
        """The channels have moved, or have not: they have one home again."""
        loser = self._sharer if moved else self._heir
        if loser is not None:
            loser.give_up(self._shared)
        self._sharer, self._heir, self._shared = None, None, {}

    # -- what the shards say ------------------------------------------------------------------------

    def _take(self, shard: int, told: list[bytes]) -> None:
        """Takes in what a shard has told, in the order in which all shards have.

        What somebody had published before, on a channel of another shard, is in that shard's pipe by now.
        """
        self._told += ((told_ns, shard, entries) for told_ns, entries in map(decode_told, told))
        if self._is_gathering:
            return
        self._is_gathering = True
        for home in self.homes:
            if home.backend.shard != shard and home.backend.up:
                home.backend.receive()
        self._is_gathering = False
        all_told, self._told = self._told, []
        for _, teller, entries in sorted(all_told, key=itemgetter(0)):
            self.homes[teller].receive(entries)

    # -- subscriptions ------------------------------------------------------------------------------

    async def subscribe(self, session: Session, kind: int, names: Sequence[bytes]) -> Encoded:
        """Subscribes a client to names; returns a reply for each, one after the other."""
        if kind == PATTERN:
            for name in names:
                glob.compile(name)
        subscriber = session.subscriber
        if subscriber is None:
            subscriber = session.subscriber = Subscriber(session)
        subscriber.gone = session.id not in self.proxy.sessions
        own = subscriber.names[kind]
        replies, joined = [], []
        for name in names:
            if name not in own and not subscriber.gone:
                own[name] = None
                joined.append(name)
            replies.append(session.encode(Push([_WORDS[kind], name, subscriber.number(kind)])))
        subscriber.begin_holding()
        await self._change(subscriber, kind, joined, joins=True)
        return _said(session, replies)

    async def unsubscribe(self, session: Session, kind: int, names: Sequence[bytes]) -> Encoded:
        """Takes subscriptions back, without names all of that kind; returns a reply for each, and one if
        there are none."""
        subscriber = session.subscriber or Subscriber(session)
        own = subscriber.names[kind]
        replies, left = [], []
        for name in list(names or own):
            if name in own:
                del own[name]
                left.append(name)
            replies.append(session.encode(Push([_LEAVING_WORDS[kind], name, subscriber.number(kind)])))
        if not replies:
            replies = [session.encode(Push([_LEAVING_WORDS[kind], None, subscriber.number(kind)]))]
        await self._change(subscriber, kind, left, joins=False)
        return _said(session, replies)

    async def unsubscribe_all(self, session: Session) -> None:
        """Takes back all subscriptions of a client."""
        for kind in KINDS:
            await self.unsubscribe(session, kind, ())

    def dismiss(self, subscriber: Subscriber) -> None:
        """A client is gone."""
        subscriber.gone = True
        for kind in KINDS:
            for home, names in self._at_origin(kind, list(subscriber.names[kind])):
                home.drop(subscriber, kind, names)
                if home is self._sharer and self._heir is not None:
                    shared = [name for name in names if (kind, name) in self._shared]
                    self._heir.drop(subscriber, kind, shared)
            subscriber.names[kind].clear()

    async def _change(self, subscriber: Subscriber, kind: int, names: list[bytes], *, joins: bool) -> None:
        while self.proxy.move is not None:
            await self.proxy.move.over
        futures = [
            home.change(subscriber, kind, its_names, joins=joins)
            for home, its_names in self._at_origin(kind, names)
        ]
        for future in futures:
            await future

    def _at_origin(self, kind: int, names: list[bytes]) -> list[tuple[_Home, list[bytes]]]:
        """The shards that have to know of subscriptions, because messages come from there, each with the
        names that concern it."""
        everywhere = [name for name in names if arises_anywhere(kind, name)]
        if not everywhere:
            return self._at_home(names)
        by_home = dict(self._at_home([name for name in names if not arises_anywhere(kind, name)]))
        return [(home, everywhere + by_home.get(home, [])) for home in self.homes]

    def _at_home(self, names: list[bytes]) -> list[tuple[_Home, list[bytes]]]:
        """The shards where channels are at home, each with the names of its own."""
        by_shard: dict[int, list[bytes]] = {}
        for name in names:
            by_shard.setdefault(self.proxy.slot_table[slot_of(name)], []).append(name)
        return [(self.homes[shard], its_names) for shard, its_names in by_shard.items()]

    # -- figures ------------------------------------------------------------------------------------

    async def names(self, kind: int, pattern: bytes) -> list[bytes]:
        """Which names that match a pattern anybody has subscribed to, on all proxies."""
        found = _checked(await self.proxy.ask_shards("listened", kind, pattern))
        return list(dict.fromkeys(itertools.chain(*found)))

    async def subscribers(self, kind: int, names: Sequence[bytes]) -> list[int]:
        """How many clients of all proxies have subscribed to each of some names."""
        places = self._at_home(list(dict.fromkeys(names)))
        code = pack_context(0, RAW) | COMMANDS["listeners"].code
        requests = {home.backend.shard: [code, kind, its_names] for home, its_names in places}
        counts: dict[bytes, int] = {}
        if requests:
            answers = _checked(await self.proxy.ask_each(requests))
            for (_, its_names), answer in zip(places, answers, strict=True):
                counts.update(zip(its_names, answer, strict=True))
        return [counts[name] for name in names]


def _ignore(told: list[bytes]) -> None:
    """Takes what a shard says that is not used."""


def _said(session: Session, replies: list[bytes]) -> Encoded:
    """Replies that are sent in any case (CLIENT REPLY does not concern pushes)."""
    session.muted = False
    session.settle()
    return Encoded(b"".join(replies))


def _checked(answers: list[Any]) -> list[Any]:
    """Raises the error that stands for a shard's answer, if any does."""
    for answer in answers:
        if isinstance(answer, CommandError):
            raise answer
    return answers
