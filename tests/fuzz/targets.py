"""What is fuzzed: each takes bytes, and raises if something happens that must not."""

from __future__ import annotations

import os
from unittest.mock import patch

import msgspec

from shardkv import limits
from shardkv.resp.requests import RequestReader
from shardkv.wire import FrameReader, decode_batch, decode_replies

_MAX_BULK_BYTES = 1000
_QUERY_BUFFER_BYTES = 4000


def _read(chunks: list[bytes], *, restricted: bool) -> tuple[list[list[bytes]], bytes | None]:
    """The requests in what a client sends in these pieces, and the error that ends them."""
    reader = RequestReader(_MAX_BULK_BYTES, _QUERY_BUFFER_BYTES)
    reader.restricted = restricted
    requests: list[list[bytes]] = []
    for chunk in chunks:
        found = reader.feed(chunk)
        while reader.deferred:
            requests += found
            found = reader.feed(b"")
        requests += found
    assert reader.buffered_bytes <= _QUERY_BUFFER_BYTES + 64 * 1024
    return requests, None if reader.error is None else reader.error.text


def requests(data: bytes) -> None:
    """However what a client sends is cut, it means the same."""
    if len(data) < 3:
        return
    restricted, cut, data = bool(data[0] & 1), data[1], data[2:]
    whole = _read([data], restricted=restricted)
    assert all(isinstance(word, bytes) for request in whole[0] for word in request)
    assert _read([data[:cut], data[cut:]], restricted=restricted) == whole
    assert _read([data[at : at + 1] for at in range(len(data))], restricted=restricted) == whole


def frames(data: bytes) -> None:
    """What is no frame is refused, and what is one is what the other end may send."""
    # Half of the inputs are the bodies of frames, so that not all the effort goes into finding a length.
    if data[:1] > b"\x80":
        data = len(data[1:]).to_bytes(4, "little") + data[1:]
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        os.write(writing, data[: 32 * 1024])
        with patch.object(limits, "MAX_FRAME_BYTES", 1024 * 1024):
            found = list(map(bytes, FrameReader(reading).receive()))
    except ValueError as error:
        assert str(error).startswith("frame of ")  # noqa: PT017
        return
    finally:
        os.close(reading)
        os.close(writing)
    for frame in found:
        for decode in (decode_batch, decode_replies):
            try:
                decode(frame)
            except msgspec.DecodeError:
                pass
