"""However a stream of bytes is cut, and whichever parser reads it: the same requests, the same error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from shardkv.resp import requests as module
from shardkv.resp.requests import RequestReader

Outcome = tuple[list[list[bytes]], bytes | None]

# -- streams ----------------------------------------------------------------------------------

SIGNS = b"*$+-:(=~|>%_#,!\r\n\0 '\"\\x019"

arguments = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"", b"SET", b"GET", b"\r\n", b"*1\r\n$4\r\nPING\r\n", b"$1\r\n", b"+=(~|>%", b"*1000000"]
    ),
    st.integers(min_value=0, max_value=3000).map(lambda size: b"v" * size),
)
multibulks = st.lists(arguments, min_size=1, max_size=6)
inlines = st.sampled_from(
    [b"PING\r\n", b"\n", b"  \r\n", b"SET \"a b\" 'c'\n", b'ECHO "a\r\n', b"POST /\r\n", b"a\0b\r\n", b"\0\n"]
)
headers = st.sampled_from(
    [b"*0", b"*-1", b"*3", b"*11", b"*2147483648", b"$3", b"$-1", b"$20000", b"*1\rx"]
).map(lambda header: header + b"\r\n")


def encode(request: list[bytes]) -> bytes:
    return b"*%d\r\n%b" % (len(request), b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in request))


# What hiredis takes and Redis does not: other types for arguments, and other signs for the array of them.
lines = st.sampled_from(["+a", "+", "-ERR", ":0", "_", "#f", ",0", "(12", "(", "=5\r\ntxt:a", "$-1"]).map(
    lambda line: line.encode() + b"\r\n"
)
bulks = arguments.map(lambda argument: b"$%d\r\n%b\r\n" % (len(argument), argument))


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """A reply with up to four elements."""
    sign = draw(st.sampled_from(["*", "*", "*", "~", ">", "|", "%"]))
    elements = draw(st.lists(st.one_of(bulks, bulks, lines), max_size=4))
    if sign in "|%" and len(elements) % 2:
        elements.pop()
    count = len(elements) // 2 if sign in "|%" else len(elements)
    return f"{sign}{count}\r\n".encode() + b"".join(elements)


@st.composite
def damaged(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> bytes:
    """A stream with a few bytes replaced, put in, or left out."""
    stream = bytearray(draw(streams))
    for _ in range(draw(st.integers(min_value=0, max_value=3))):
        at = draw(st.integers(min_value=0, max_value=len(stream)))
        left_out = draw(st.integers(min_value=0, max_value=2))
        put_in = draw(st.lists(st.sampled_from(SIGNS), max_size=2))
        stream[at : at + left_out] = bytes(put_in)
    return bytes(stream)


pipelines = st.lists(multibulks, min_size=1, max_size=8).map(lambda requests: b"".join(map(encode, requests)))
long_pipelines = st.tuples(pipelines, st.integers(min_value=2, max_value=60)).map(
    lambda pair: pair[0] * pair[1]
)
mixtures = st.lists(st.one_of(multibulks.map(encode), inlines, headers, lines), max_size=8).map(b"".join)
reply_pipelines = st.lists(st.one_of(multibulks.map(encode), replies()), max_size=4).map(b"".join)
noise = st.lists(st.sampled_from(SIGNS), max_size=60).map(bytes)
streams = st.one_of(
    damaged(pipelines),
    damaged(long_pipelines),
    damaged(mixtures),
    reply_pipelines,
    damaged(reply_pipelines),
    noise,
    noise.map(lambda rest: b"*1\r\n" + rest),
)


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    """The pieces of a stream."""
    stream = draw(streams)
    cuts = sorted(draw(st.lists(st.integers(min_value=0, max_value=len(stream)), max_size=5)))
    return [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


# -- properties -------------------------------------------------------------------------------


@contextmanager
def strict_parser_alone() -> Iterator[None]:
    with patch.object(module._PlainParser, "parse", lambda parser, chunk: None):
        yield


def outcome(pieces: list[bytes], restricted: bool = False) -> Outcome:
    """All requests in the pieces, and the text of the error at the end."""
    reader = RequestReader()
    reader.restricted = restricted
    requests = []
    for piece in pieces:
        requests += reader.feed(piece)
        if reader.deferred:
            requests += reader.feed(b"")
    assert all(type(request) is list and request for request in requests)
    assert all(type(argument) is bytes for request in requests for argument in request)
    assert reader.buffered_bytes <= sum(map(len, pieces))
    return requests, reader.error.text if reader.error else None


@given(cut_streams())
@example([b"*1\r\n+PING\r\n"])
@example([b"*2\r\n$4\r\nPINGxx+PING\r\n"])
@example([b":0\r\n*1\r\n$9\r\n", b":1\r\n"])
@example([b"*1\r\n$4\r\nPING\r\n:1\r\n*2\r\n"])
@example([b"*1\r\n", b"+PING\r\n"])
@settings(max_examples=400, deadline=None)
def test_cuts_and_parsers_make_no_difference(pieces: list[bytes]) -> None:
    with strict_parser_alone():
        expected = outcome([b"".join(pieces)])
    assert outcome(pieces) == expected
    assert outcome([b"".join(pieces)]) == expected


@given(cut_streams())
@settings(max_examples=150, deadline=None)
def test_cuts_make_no_difference_before_authentication(pieces: list[bytes]) -> None:
    assert outcome(pieces, restricted=True) == outcome([b"".join(pieces)], restricted=True)


@given(cut_streams(), st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=150, deadline=None)
def test_restrictions_change_no_request(pieces: list[bytes], restrictions: list[bool]) -> None:
    """They come and go: what is returned are still the stream's requests, as far as they let it."""
    expected, _ = outcome([b"".join(pieces)])
    reader = RequestReader()
    requests = []
    for piece, reader.restricted in zip(pieces, restrictions, strict=False):
        requests += reader.feed(piece)
    assert requests == expected[: len(requests)]
    if not reader.error and not reader.deferred:
        assert requests == expected


@given(st.lists(multibulks, max_size=40), st.integers(min_value=1, max_value=5000))
@settings(max_examples=150, deadline=None)
def test_what_was_encoded_comes_back(requests: list[list[bytes]], piece_bytes: int) -> None:
    stream = b"".join(map(encode, requests))
    pieces = [stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes)]
    assert outcome(pieces) == (requests, None)
