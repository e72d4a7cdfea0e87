"""The messages between proxies and workers: msgspec-encoded frames on pipes.

A frame is a 4-byte little-endian length and a MessagePack body.

- To a worker: a batch, `[[code, arg, …], …]`, one inner list a request. The code stands where the client
  wrote the command's name and packs what the worker needs to know of it (see `pack_code`).
- From a worker, for each batch in turn: `[replies, late]`. `replies` holds one entry a request, in order:
  the encoded reply, or nil for one that comes later (the request waits for a locked key or for data).
  `late` holds `[ticket, reply]` of such requests; the n-th nil on a pipe has ticket n, counted from 0.
  A frame that carries late replies alone has nil for `replies`. With the ticket `PUBLISHED` comes no reply,
  but what subscribers are to be told (see shardkv.channels), encoded; with `NOTED` a `Note`; with `CALLED`
  a command that a script has called, as clients that monitor are shown it; empty: some are lost.

Encoding and decoding do no I/O; `FrameReader` and `FrameWriter` move frames over a file descriptor and never
block.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from shardkv import limits
from shardkv.slots import SLOT_BITS

HEADER_BYTES: Final = 4

COMMAND_BITS: Final = 10
MAX_COMMANDS: Final = 1 << COMMAND_BITS

RAW: Final = 0
"""Instead of RESP 2 or 3: the reply is a MessagePack value, for the coordinator to work with."""

PUBLISHED: Final = -1
NOTED: Final = -2
CALLED: Final = -3

SLOT_MOVED: Final = b"-SLOTMOVED "
"""So begins the reply to a request that has waited for a key whose slot has gone to another shard; its words,
packed, follow. The proxy sends it again, and no client ever sees this."""

Batch = list[list[Any]]
Reply = bytes | None
Replies = tuple[list[Reply] | None, list[tuple[int, bytes]]]

Note = tuple[bool, int, Any]
"""Of a request that is logged (see shardkv.slow): whether it is known by the ticket of its late reply, that
ticket or else its place in the batch whose replies come with the note, and its entry."""

encode_note = msgspec.msgpack.Encoder().encode
decode_note = msgspec.msgpack.Decoder(Note).decode

pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(list[Any]).decode
decode_batch = msgspec.msgpack.Decoder(list[list[Any]]).decode
decode_replies = msgspec.msgpack.Decoder(Replies).decode


_DB_BITS: Final = (limits.MAX_DATABASES - 1).bit_length()


def pack_context(
    db: int, protocol: int, *, no_touch: bool = False, tracker: int = 0, remembers: bool = False
) -> int:
    """The part of a request's code that a session holds: the selected database, the reply format (2 or 3 for
    RESP, `RAW` for a MessagePack value), whether keys' times of access stay as they are, and the number of a
    client that tracks keys (see shardkv.tracking; 0 for any other), with whether it is remembered what it
    reads. 64 bits have room for it all."""
    client = (tracker << 1 | remembers) << _DB_BITS
    return (((client | db) << 1 | no_touch) << 2 | protocol) << COMMAND_BITS << SLOT_BITS


_REMEMBERS: Final = pack_context(0, 0, remembers=True)
_KEPT: Final = pack_context(0, 0, no_touch=True, tracker=limits.MAX_TRACKERS - 1, remembers=True)


def part_context(context: int, db: int, *, looks: bool) -> int:
    """The context of what a coordinator asks of shards for a session with that context: MessagePack values,
    of a database. `looks` says that the command as a whole only looks; what another one looks at on its way
    is not what the client has read."""
    kept = context & (_KEPT if looks else _KEPT & ~_REMEMBERS)
    return kept | pack_context(db, RAW)


def pack_code(context: int, command_id: int, slot: int) -> int:
    """What stands in a request's first place: context, command and the slot of its first key (else 0)."""
    return context | command_id << SLOT_BITS | slot


class Context(NamedTuple):
    """What a code says beside the slot."""

    db: int
    no_touch: bool
    protocol: int
    command_id: int
    tracker: int = 0
    remembers: bool = False


def unpack_context(code: int) -> Context:
    """What a code without its slot (`code >> SLOT_BITS`) stands for."""
    context = code >> COMMAND_BITS
    client = context >> 3 >> _DB_BITS
    return Context(
        context >> 3 & (limits.MAX_DATABASES - 1),
        bool(context & 4),
        context & 3,
        code & (MAX_COMMANDS - 1),
        client >> 1,
        bool(client & 1),
    )


class FrameWriter:
    """Sends frames through a non-blocking file descriptor.

    What the pipe does not take at once waits in `backlog_bytes` bytes of backlog until `flush` is called
    again. The caller bounds the backlog: it stops producing above `limits.PIPE_BACKLOG_BYTES`.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.backlog_bytes = 0
        self._backlog: deque[memoryview] = deque()
        self._encode_into = msgspec.msgpack.Encoder().encode_into
        self._buffer = bytearray(64 * 1024)

    def send(self, message: object) -> int:
        """Encodes and writes one frame; returns its size. Raises OSError if the peer is gone."""
        buffer = self._buffer
        self._encode_into(message, buffer, HEADER_BYTES)
        size = len(buffer) - HEADER_BYTES
        buffer[:HEADER_BYTES] = size.to_bytes(HEADER_BYTES, "little")
        if self._backlog:
            written = 0
        else:
            try:
                written = os.write(self.fd, buffer)
            except BlockingIOError:
                written = 0
        if written < len(buffer):
            # The backlog keeps this buffer, so the next frame gets a new one.
            rest = memoryview(buffer)[written:]
            self._backlog.append(rest)
            self.backlog_bytes += len(rest)
            self._buffer = bytearray(64 * 1024)
        return size

    def flush(self) -> bool:
        """Writes what the pipe takes of the backlog; True when nothing is left."""
        backlog = self._backlog
        while backlog:
            chunk = backlog[0]
            try:
                written = os.write(self.fd, chunk)
            except BlockingIOError:
                return False
            self.backlog_bytes -= written
            if written < len(chunk):
                backlog[0] = chunk[written:]
                return False
            backlog.popleft()
        return True


class FrameReader:
    """Takes frames from a non-blocking file descriptor, whole, in order."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.closed = False
        # Reading into the same buffer again and again spares the kernel giving us fresh pages each time.
        self._buffer = bytearray(limits.PIPE_READ_BYTES)
        self._filled = 0
        # A frame larger than the buffer is collected in one of its own.
        self._large: bytearray | None = None

    def receive(self) -> Iterator[memoryview]:
        """Yields the body of each frame that one read completes, valid until the next is asked for; sets
        `closed` at the end of the stream.

        Raises ValueError on a frame above `limits.MAX_FRAME_BYTES`, which no honest peer sends.
        """
        target = self._buffer if self._large is None else self._large
        view = memoryview(target)
        try:
            count = os.readv(self.fd, [view[self._filled :]])
        except BlockingIOError:
            return
        if not count:
            self.closed = True
            return
        self._filled += count
        if self._large is not None:
            if self._filled == len(self._large):
                self._large, self._filled = None, 0
                yield view
            return
        start, end = 0, self._filled
        while end - start >= HEADER_BYTES:
            body = start + HEADER_BYTES
            size = int.from_bytes(view[start:body], "little")
            if body + size > end:
                if size > limits.MAX_FRAME_BYTES:
                    raise ValueError(f"frame of {size} bytes")
                if size > len(target) - HEADER_BYTES:
                    self._large = bytearray(size)
                    self._filled = end - body
                    self._large[: self._filled] = view[body:end]
                    return
                break
            yield view[body : body + size]
            start = body + size
        self._filled = end - start
        if start and self._filled:
            view[: self._filled] = view[start:end]
