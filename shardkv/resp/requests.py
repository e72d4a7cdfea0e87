"""Client requests: bytes in, requests out.

Two parsers share the work. `RequestReader` itself is the strict one: it knows what Redis 7.2 does with the
bytes of a client (networking.c: processInlineBuffer, processMultibulkBuffer), every bound and every error.
What nearly all traffic consists of, chunks of whole multibulk requests, it leaves to hiredis, which is some
ten times as fast but is made for replies: it takes any RESP type for a request or an argument, and has no
bounds. So `_PlainParser` feeds hiredis nothing that could hurt, gives up whenever what comes back is anything
but plain requests, and keeps nothing from one chunk to the next. What it does not take, the strict parser
reads from the same bytes.
"""

from __future__ import annotations

import re
import secrets
from functools import lru_cache
from typing import Any, Final

import hiredis

from shardkv import errors, limits, quoting
from shardkv.errors import ProtocolError, caught
from shardkv.numbers import canonical_integer

_STAR: Final = ord("*")
_CARRIAGE_RETURN: Final = ord("\r")
_LINE_FEED: Final = ord("\n")
_NUL: Final = 0

_SLICE_BYTES: Final = 8 * 1024
"""Longer chunks go to hiredis in slices: after each KiB that it has read it moves the whole rest."""

_LAST_REQUEST_BYTES: Final = 32 * 1024
"""How far from a chunk's end the start of its last, incomplete request is searched."""

_OTHER_TYPES: Final = b"+(=~|>%"
"""The types besides `$` that hiredis returns as bytes, and besides `*` as a list or dict of them."""

_NOT_ENOUGH: Final = object()

_SINGLE_BYTES: Final = 512
"""A chunk up to this size is tried as a single request before anything else."""

_ARGUMENT_HEADERS: Final = [b"$%d" % length for length in range(_SINGLE_BYTES)]
"""The header of an argument by its length."""

_large_count = re.compile(rb"\*\d{6}").search

# The strict parser does not look at each byte of an argument, so it is the faster one for long arguments:
# this finds one of at least 1000 bytes in a chunk's first request.
_large_argument = re.compile(rb"\*\d+\r\n(?:\$\d{1,3}\r\n[^\r]*\r\n)*+\$\d{4}").match


def is_http(name: bytes) -> bool:
    """Whether a request's first word shows that a browser was tricked into sending it, by Redis' rule."""
    return name.partition(b"\0")[0].lower() in (b"post", b"host:")


class _PlainParser:
    """Parses chunks that hold whole multibulk requests and nothing else.

    It has no state between two calls, so one serves all readers of a process (but not two threads at once).
    """

    def __init__(self) -> None:
        # Fed after a chunk, this number comes out as itself only if the chunk ended with a whole request.
        # No client can know it.
        self._end = secrets.randbits(60)
        self._encoded_end = b":%d\r\n" % self._end
        self._renew()

    def _renew(self) -> None:
        reader = hiredis.Reader(notEnoughData=_NOT_ENOUGH)
        self._feed, self._gets, self._has_data = reader.feed, reader.gets, reader.has_data

    def parse(self, chunk: bytes) -> list[list[bytes]] | None:
        """The requests that `chunk` consists of, or None if anything about it is unusual.

        The chunk begins with a star and has at least 3 bytes.
        """
        # _OTHER_TYPES, one by one: nothing is cheaper than the search for a single byte.
        other_types = (
            43 in chunk
            or 40 in chunk
            or 61 in chunk
            or 126 in chunk
            or 124 in chunk
            or 62 in chunk
            or 37 in chunk
        )
        # hiredis reserves memory for as many elements as are announced; 100,000 fit into no chunk that comes
        # from a socket. A single request of less than ten arguments, the most common chunk, needs no search.
        if other_types:
            if _large_argument(chunk) or _large_count(_arrays_as_stars(chunk)):
                return None
        elif (chunk[2] != _CARRIAGE_RETURN or chunk.find(b"*", 1) > 0) and _large_count(chunk):
            return None
        try:
            if len(chunk) <= _SLICE_BYTES:
                self._feed(chunk)
                requests = [self._gets()]
                if self._has_data():
                    self._read_to_end(requests)
                elif not other_types:
                    return requests if b"".join(requests[0]) else None
            else:
                requests = self._read_slices(chunk)
            # Joining raises TypeError for anything but bytes, and gives nothing for an empty request.
            contents = list(map(b"".join, requests))
        except Exception:  # Whatever it is that hiredis does not like, the strict parser decides about it.
            self._renew()
            return None
        if not all(contents) or (other_types and _other_types_outside(contents, chunk)):
            return None
        return requests

    def _read_slices(self, chunk: bytes) -> list[Any]:
        requests: list[Any] = []
        for start in range(0, len(chunk), _SLICE_BYTES):
            self._feed(chunk[start : start + _SLICE_BYTES])
            requests += iter(self._gets, _NOT_ENOUGH)
        self._read_to_end(requests)
        return requests

    def _read_to_end(self, requests: list[Any]) -> None:
        """Adds what hiredis has still to return. Raises an exception if the last request is incomplete."""
        self._feed(self._encoded_end)
        requests += iter(self._gets, _NOT_ENOUGH)
        if requests.pop() != self._end:
            raise ValueError


def _arrays_as_stars(chunk: bytes) -> bytes:
    """`chunk` with a star for the sign of each type that announces elements."""
    return chunk.replace(b">", b"*").replace(b"~", b"*").replace(b"|", b"*")


def _other_types_outside(contents: list[bytes], chunk: bytes) -> bool:
    """Whether the sign of another type stands in `chunk` anywhere but in the `contents` of its requests."""
    content = b"".join(contents)
    outside = len(chunk) - len(content)
    return len(chunk.translate(None, _OTHER_TYPES)) - len(content.translate(None, _OTHER_TYPES)) != outside


_plain_parser = _PlainParser()


def _single_request(chunk: bytes) -> list[bytes] | None:
    """The request that the chunk is, if it has two or three arguments without line breaks in them; else None.

    Most clients send one request at a time, and such a one is taken apart at its line breaks in half the time
    that a parser needs. What is announced is compared with what is there, so nothing else can pass.
    """
    match chunk.split(b"\r\n"):
        case [b"*2", first_header, first, second_header, second, b""]:
            if (
                first_header == _ARGUMENT_HEADERS[len(first)]
                and second_header == _ARGUMENT_HEADERS[len(second)]
            ):
                return [first, second]
        case [b"*3", first_header, first, second_header, second, third_header, third, b""]:
            if (
                first_header == _ARGUMENT_HEADERS[len(first)]
                and second_header == _ARGUMENT_HEADERS[len(second)]
                and third_header == _ARGUMENT_HEADERS[len(third)]
            ):
                return [first, second, third]
    return None


class _UnauthenticatedError(ProtocolError):
    """A request too large for a client that has not authenticated."""


class RequestReader:
    """Reads the requests of one client.

    `max_bulk_bytes` bounds one argument (the setting proto-max-bulk-len), `query_buffer_bytes` what is held
    of an incomplete request (client-query-buffer-limit). Both may change at any time.
    """

    def __init__(self, max_bulk_bytes: int = 512 * 1024**2, query_buffer_bytes: int = 1024**3) -> None:
        self.query_buffer_bytes = query_buffer_bytes
        self.error: ProtocolError | None = None
        """Set once the stream is broken; with an empty text the connection is to be closed silently."""
        self.deferred = False
        """Whether the next request is too large for a client that has not authenticated, while one of those
        just returned may change that. Once they were carried out, feed(b"") decides."""
        self._max_bulk_bytes = max_bulk_bytes
        self._restricted = False
        self._forget()
        self._settle()

    def _forget(self) -> None:
        """Forgets the open request: the count of its bytes, its arguments so far, how many are missing (0
        before its header is complete), the length of the next one (-1 before it is known), and what there is
        of an incomplete line or argument."""
        self._buffered_bytes = 0
        self._arguments: list[bytes] = []
        self._missing = 0
        self._bulk_bytes = -1
        self._held = bytearray()

    def _settle(self) -> None:
        """Decides up to what size the next chunk goes to the plain parser at once."""
        unusual = self._buffered_bytes or self._restricted or self.error
        self._plain_bytes = 0 if unusual else min(_SLICE_BYTES, self._max_bulk_bytes)

    @property
    def max_bulk_bytes(self) -> int:
        """The length of the longest argument; for the headers read from now on."""
        return self._max_bulk_bytes

    @max_bulk_bytes.setter
    def max_bulk_bytes(self, max_bulk_bytes: int) -> None:
        self._max_bulk_bytes = max_bulk_bytes
        self._settle()

    @property
    def restricted(self) -> bool:
        """Whether the client has yet to authenticate, so that `limits.UNAUTHENTICATED_ARGUMENTS` and
        `limits.UNAUTHENTICATED_BULK_BYTES` apply to the headers read from now on."""
        return self._restricted

    @restricted.setter
    def restricted(self, restricted: bool) -> None:
        self._restricted = restricted
        self._settle()

    @property
    def buffered_bytes(self) -> int:
        """How many bytes of an incomplete or deferred request are held."""
        return self._buffered_bytes

    def feed(self, data: bytes) -> list[list[bytes]]:
        """Takes what the client sent next and returns the requests that are complete with it, in order, each
        a new list that the caller may change. None is empty, though the name in it may be.

        Sets `error` if the bytes break the protocol; from then on it returns nothing.
        """
        size = len(data)
        if 2 < size <= self._plain_bytes and data[0] == _STAR and data[-1] == _LINE_FEED:
            if size <= _SINGLE_BYTES:
                request = _single_request(data)
                if request is not None:
                    return [request]
            requests = _plain_parser.parse(data)
            if requests is not None:
                return requests
        return self._feed_strictly(data)

    def _feed_strictly(self, data: bytes) -> list[list[bytes]]:
        if self.error:
            return []
        requests: list[list[bytes]] = []
        self.deferred = False
        try:
            if self._buffered_bytes:
                data, position = self._take_up(data)
                data = data[self._read_request(data, position, requests) :]
            self._read_requests(self._read_plain(data, requests), requests)
        except ProtocolError as error:
            self._break(error)
        if self._buffered_bytes > self.query_buffer_bytes:
            self._break(ProtocolError(b""))
        self._settle()
        return requests

    def _break(self, error: ProtocolError) -> None:
        self.error = caught(error)
        self._forget()

    def _read_plain(self, data: bytes, requests: list[list[bytes]]) -> bytes:
        """Has the plain parser read what it can, from a request's start on. Returns what is left to read,
        most often a request that the next chunk will complete."""
        if self._restricted or data[:1] != b"*" or len(data) > self._max_bulk_bytes or _large_argument(data):
            return data
        last_request = data.rfind(b"\r\n*", -_LAST_REQUEST_BYTES) + 2
        is_tried = len(data) <= self._plain_bytes
        for end in (last_request,) if is_tried else (len(data), last_request):
            if end > 2 and data[end - 1] == _LINE_FEED:
                plain = _plain_parser.parse(data[:end])
                if plain is not None:
                    requests += plain
                    return data[end:]
        return data

    # -- the strict parser ----------------------------------------------------------------------

    def _read_requests(self, data: bytes, requests: list[list[bytes]]) -> None:
        """Reads all of `data`, which begins with a request."""
        position = 0
        while position < len(data):
            start = position
            try:
                position = self._read_request(data, start, requests)
            except _UnauthenticatedError:
                if not requests:
                    raise
                self._forget()
                self._hold(data, start, start)
                self.deferred = True
                return

    def _take_up(self, data: bytes) -> tuple[bytes, int]:
        """Goes on with the open request; returns the data to read now, and from where on."""
        held = self._held
        if self._bulk_bytes < 0:
            self._buffered_bytes -= len(held)
            self._held = bytearray()
            return bytes(held) + data, 0
        # A large argument comes in many chunks: they are collected, and copied once when all are there.
        part = data[: self._bulk_bytes + 2 - len(held)]
        held += part
        self._buffered_bytes += len(part)
        if len(held) == self._bulk_bytes + 2:
            del held[-2:]
            self._arguments.append(bytes(held))
            self._held = bytearray()
            self._bulk_bytes = -1
            self._missing -= 1
        return data, len(part)

    def _hold(self, data: bytes, start: int, position: int) -> int:
        """Keeps what there is of a request, read from `start` on as far as `position`; returns the end."""
        self._held += data[position:]
        self._buffered_bytes += len(data) - start
        return len(data)

    def _read_request(self, data: bytes, start: int, requests: list[list[bytes]]) -> int:
        """Reads the open request, or the next one, from `start` on, and adds it to `requests` if it is
        complete and not empty. Returns where it ends in `data`. Raises ProtocolError."""
        position = start
        if not self._missing and not self._arguments:
            if data[start] != _STAR:
                return self._read_inline(data, start, requests)
            line = _line(data, start, b"\r", errors.TOO_BIG_COUNT)
            if line is None or start + len(line) + 2 > len(data):
                return self._hold(data, start, start)
            self._missing = self._argument_count(line)
            position += len(line) + 2
        position = self._read_arguments(data, position)
        if self._missing:
            return self._hold(data, start, position)
        if self._arguments:
            requests.append(self._arguments)
            self._arguments = []
        self._buffered_bytes = 0
        return position

    def _read_arguments(self, data: bytes, position: int) -> int:
        """Reads what there is of the missing arguments; returns where the first incomplete line or argument
        begins, or the request ends. Raises ProtocolError."""
        missing, length = self._missing, self._bulk_bytes
        while missing:
            if length < 0:
                line = _line(data, position, b"\r", errors.TOO_BIG_BULK_LENGTH)
                if line is None or position + len(line) + 2 > len(data):
                    break
                length = self._argument_bytes(line)
                position += len(line) + 2
            end = position + length
            # As in Redis, the two bytes after an argument may be any, and so may the one after a header's \r.
            if end + 2 > len(data):
                break
            self._arguments.append(data[position:end])
            position = end + 2
            length = -1
            missing -= 1
        self._missing, self._bulk_bytes = missing, length
        return position

    def _argument_count(self, line: bytes) -> int:
        """Takes a request's header line."""
        count = _argument_count(line)
        if self._restricted and count > limits.UNAUTHENTICATED_ARGUMENTS:
            raise _UnauthenticatedError(errors.UNAUTHENTICATED_COUNT)
        return count

    def _argument_bytes(self, line: bytes) -> int:
        """Takes an argument's header line."""
        length = _argument_bytes(line)
        if length > self._max_bulk_bytes:
            raise ProtocolError(errors.INVALID_BULK_LENGTH)
        if self._restricted and length > limits.UNAUTHENTICATED_BULK_BYTES:
            raise _UnauthenticatedError(errors.UNAUTHENTICATED_BULK_LENGTH)
        return length

    def _read_inline(self, data: bytes, start: int, requests: list[list[bytes]]) -> int:
        """Like `_read_request`, for a request that is a line of words."""
        line = _line(data, start, b"\n", errors.TOO_BIG_INLINE)
        if line is None:
            return self._hold(data, start, start)
        try:
            words = quoting.split(line.removesuffix(b"\r"))
        except ValueError:
            raise ProtocolError(errors.UNBALANCED_QUOTES) from None
        if words:
            if is_http(words[0]):
                raise ProtocolError(b"")
            requests.append(words)
        return start + len(line) + 1


def _line(data: bytes, start: int, ending: bytes, too_big: bytes) -> bytes | None:
    """The line at `start` without its ending, or None if that is not there.

    As in Redis, which searches as in a C string, it is not found behind a NUL. Raises ProtocolError(too_big)
    if the line exceeds `limits.MAX_INLINE_BYTES`.
    """
    end = data.find(ending, start, start + limits.MAX_INLINE_BYTES + 1)
    if end >= 0:
        line = data[start:end]
        if _NUL not in line:
            return line
    if len(data) - start > limits.MAX_INLINE_BYTES:
        raise ProtocolError(too_big)
    return None


# Only valid lines are remembered, which are short.
@lru_cache(maxsize=1024)
def _argument_count(line: bytes) -> int:
    """What a request's header line announces; nothing below 0. Raises ProtocolError."""
    count = canonical_integer(line[1:])
    if count is None or count > limits.MAX_ARGUMENTS:
        raise ProtocolError(errors.INVALID_COUNT)
    return max(count, 0)


@lru_cache(maxsize=4096)
def _argument_bytes(line: bytes) -> int:
    """What an argument's header line announces. An empty line stood before the \\r that ended it. Raises
    ProtocolError."""
    if line[:1] != b"$":
        raise ProtocolError(errors.expected_bulk(line[:1] or b"\r"))
    length = canonical_integer(line[1:])
    if length is None or length < 0:
        raise ProtocolError(errors.INVALID_BULK_LENGTH)
    return length
