"""The logs of requests that took long, or are large, or have a large reply: SLOWLOG and COMMANDLOG.

Each proxy keeps those of its own clients. What has been measured on a shard comes as a note with the replies
of its batch. An entry's number is unique over all proxies, and a later one has a higher one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from proxy.acl_log import LUA
from proxy.numbering import Numbers
from shardkv import clock
from shardkv.command import BY_ID, Command, Flag
from shardkv.latency import NEVER_NS, count
from shardkv.slots import SLOT_BITS
from shardkv.slow import DENIED, LARGE_REPLY, LARGE_REQUEST, SLOW, Entry, event_of, trimmed
from shardkv.wire import RAW, Batch, unpack_context

if TYPE_CHECKING:
    from proxy.backend import Block
    from proxy.server import Proxy
    from proxy.session import Session

NEVER_BYTES: Final = 1 << 62

KINDS: Final = {b"slow": SLOW, b"large-request": LARGE_REQUEST, b"large-reply": LARGE_REPLY}

_numbers = Numbers(len(KINDS))


class Logged(NamedTuple):
    """A request that was logged: its number, when it was done in s since 1970, its µs or bytes, its words,
    and its client's address and name."""

    number: int
    at_s: int
    amount: int
    words: list[bytes]
    address: bytes
    name: bytes


class Shortened(NamedTuple):
    """What is kept of a request to a shard until its reply comes: its code, and its words as they would be
    logged; none of a request that is not logged."""

    code: int
    words: list[bytes]


Asked = Sequence[list[Any] | Shortened]
"""Requests that a shard has been sent."""


class CommandLog:
    """One proxy's logs."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.entries: tuple[deque[Logged], ...] = (deque(), deque(), deque())
        """By kind, the oldest first."""
        self.settings_changed()

    def settings_changed(self) -> None:
        """Follows the settings."""
        config = self.proxy.config
        self.lengths = (
            config.slowlog_max_len,
            config.commandlog_large_request_max_len,
            config.commandlog_large_reply_max_len,
        )
        slower_us = config.slowlog_log_slower_than
        self.slow_ns = NEVER_NS if slower_us < 0 else slower_us * 1000
        self.large_request_bytes = _least(config.commandlog_request_larger_than)
        self.large_reply_bytes = _least(config.commandlog_reply_larger_than)
        for entries, length in zip(self.entries, self.lengths, strict=True):
            while len(entries) > length:
                entries.popleft()

    def newest(self, kind: int, most: int) -> list[Logged]:
        """The last entries of a kind, at most so many; all, if -1."""
        entries = list(self.entries[kind])
        return entries if most < 0 else entries[max(0, len(entries) - most) :]

    # -- what a shard has measured ------------------------------------------------------------------

    def add(self, owner: Any, entry: Entry) -> None:
        """Logs a request by whom its reply goes to."""
        session = client_of(owner)
        if session is None:
            return
        kind, at_s, amount, words = entry
        if kind == DENIED:
            reason, what, user = words
            self.proxy.acl_log.add(session, reason.decode(), LUA, what, user, times=amount)
            return
        args = getattr(owner, "args", None)
        if args is not None:
            # The shard got a number in the place of its timeout.
            words = trimmed(args)
        self._keep(session, kind, at_s, amount, words)

    def look_at_requests(self, requests: Batch, blocks: list[Block]) -> None:
        """Finds the large ones among requests to a shard."""
        for request, block in zip(requests, blocks, strict=True):
            for command, args in _requests_in(request):
                self._look_at_size(client_of(block.owner), LARGE_REQUEST, command, args, request_bytes(args))

    def shortened(self, requests: Batch) -> list[Shortened]:
        """What `look_at_replies` needs of requests that are large: a pipeline of them would fill the memory
        until the last reply has come."""
        return [
            Shortened(
                request[0], [] if command is None else trimmed(command.redacted(_words(command, request)))
            )
            for request in requests
            for command in (_logged_command(request[0]),)
        ]

    def look_at_replies(self, requests: Asked, blocks: list[Block], replies: list[bytes | None]) -> None:
        """Finds the large ones among a shard's replies."""
        least = self.large_reply_bytes
        for request, block, reply in zip(requests, blocks, replies, strict=True):
            if reply is None or len(reply) < least:
                continue
            command, session = _logged_command(request[0]), client_of(block.owner)
            if command is None or session is None or command.flags & Flag.SKIP_SLOWLOG:
                continue
            if isinstance(request, Shortened):
                words = request.words
            else:
                words = trimmed(command.redacted(_words(command, request)))
            self._keep(session, LARGE_REPLY, clock.now_ms() // 1000, len(reply), words)

    # -- what the proxy itself carries out, or coordinates -------------------------------------------

    def done(
        self, session: Session, command: Command, args: Sequence[Any], took_ns: int, reply: bytes
    ) -> None:
        """A command is done that took so long here; those that wait are not slow by that."""
        proxy = self.proxy
        if proxy.config.latency_tracking:
            count(proxy.counters.of(command).durations, took_ns)
        if not command.may_block:
            if took_ns >= proxy.events.threshold_ns:
                proxy.events.add(event_of(command), took_ns)
            if took_ns >= self.slow_ns:
                self._look_at_time(session, command, args, took_ns)
        if len(reply) >= self.large_reply_bytes:
            self._look_at_size(session, LARGE_REPLY, command, args, len(reply))
        if sum(map(len, args)) + _OVERHEAD_BYTES * len(args) >= self.large_request_bytes:
            self._look_at_size(session, LARGE_REQUEST, command, args, request_bytes(args))

    def _look_at_time(self, session: Session, command: Command, args: Sequence[Any], took_ns: int) -> None:
        if not command.flags & Flag.SKIP_SLOWLOG:
            words = trimmed(command.redacted(args))
            self._keep(session, SLOW, clock.now_ms() // 1000, took_ns // 1000, words)

    def _look_at_size(
        self, session: Session | None, kind: int, command: Command, args: Sequence[Any], size: int
    ) -> None:
        least = self.large_request_bytes if kind == LARGE_REQUEST else self.large_reply_bytes
        if size >= least and session is not None and not command.flags & Flag.SKIP_SLOWLOG:
            words = trimmed(command.redacted(args))
            self._keep(session, kind, clock.now_ms() // 1000, size, words)

    def _keep(self, session: Session, kind: int, at_s: int, amount: int, words: list[bytes]) -> None:
        entries, length = self.entries[kind], self.lengths[kind]
        if length:
            if len(entries) >= length:
                entries.popleft()
            address = session.addresses[0].encode()
            entries.append(Logged(_numbers.next(kind), at_s, amount, words, address, session.name))


def _least(setting: int) -> int:
    return NEVER_BYTES if setting < 0 else setting


_OVERHEAD_BYTES: Final = 32
"""More than the protocol needs for a word."""


def request_bytes(words: Sequence[Any]) -> int:
    """The size of a request as clients send it."""
    sizes = [len(word) if isinstance(word, bytes) else len(b"%d" % word) for word in words]
    return 3 + len(str(len(sizes))) + sum(5 + len(str(size)) + size for size in sizes)


def client_of(owner: Any) -> Session | None:
    """Whose request it is, from whom its reply goes to; None if nobody's."""
    session: Session = getattr(owner, "session", owner)
    # Of what travels together it is not known whose part it is, and some is asked by nobody.
    return session if hasattr(session, "last_command") else None


def _logged_command(code: int) -> Command | None:
    """The command of a client's request to a shard; None for what is a part of something else."""
    context = unpack_context(code >> SLOT_BITS)
    command = BY_ID[context.command_id]
    return None if command.internal or context.protocol == RAW else command


def _words(command: Command, request: Sequence[Any]) -> list[Any]:
    """A request to a shard as a client would send it."""
    return [command.propagated_name, *request[1:]]


def _requests_in(request: Sequence[Any]) -> list[tuple[Command, list[Any]]]:
    """The clients' requests that a request to a shard consists of: itself, or those that an internal one
    holds; not the parts of a command over several shards."""
    context = unpack_context(request[0] >> SLOT_BITS)
    command = BY_ID[context.command_id]
    if not command.internal:
        return [] if context.protocol == RAW else [(command, _words(command, request))]
    held = [word for word in request[1:] if isinstance(word, list)]
    return [
        found
        for words in held
        for inner in words
        if isinstance(inner, list) and inner and isinstance(inner[0], int) and inner[0] >> SLOT_BITS
        for found in _requests_in(inner)
    ]
