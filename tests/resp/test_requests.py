"""The reader of client requests: what it accepts, what it refuses, and what that costs."""

from __future__ import annotations

import socket
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from shardkv import errors, limits
from shardkv.errors import ProtocolError
from shardkv.resp import requests as module
from shardkv.resp.replies import encode_error
from shardkv.resp.requests import RequestReader, is_http
from tests.twin.servers import Server

Requests = list[list[bytes]]

PING = b"*1\r\n$4\r\nPING\r\n"
LINE = limits.MAX_INLINE_BYTES
INVALID_COUNT = b"ERR Protocol error: invalid multibulk length"
INVALID_LENGTH = b"ERR Protocol error: invalid bulk length"
UNBALANCED = b"ERR Protocol error: unbalanced quotes in request"
TOO_BIG_COUNT = b"ERR Protocol error: too big mbulk count string"
TOO_BIG_LENGTH = b"ERR Protocol error: too big bulk count string"
TOO_BIG_INLINE = b"ERR Protocol error: too big inline request"
UNAUTHENTICATED_COUNT = b"ERR Protocol error: unauthenticated multibulk length"
UNAUTHENTICATED_LENGTH = b"ERR Protocol error: unauthenticated bulk length"
SILENT = b""


def encode(*arguments: bytes) -> bytes:
    """A multibulk request."""
    return b"*%d\r\n%b" % (
        len(arguments),
        b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in arguments),
    )


def echo(argument: bytes) -> Requests:
    return [[b"ECHO", argument], [b"PING"]]


def expected_bulk(got: bytes) -> bytes:
    return b"ERR Protocol error: expected '$', got '%b'" % got


# Each stream with the requests in it and the error it ends with, as redis-server 7.0.15 and 8.2.3 have them.
ORDINARY = [
    (PING, [[b"PING"]], None),
    (PING * 3, [[b"PING"]] * 3, None),
    (encode(b"ECHO", b"a\r\n*1\r\n$4\r\nPING\r\n"), [[b"ECHO", b"a\r\n*1\r\n$4\r\nPING\r\n"]], None),
    (encode(b"ECHO", bytes(range(256))), [[b"ECHO", bytes(range(256))]], None),
    (encode(b"ECHO", b"") + encode(b""), [[b"ECHO", b""], [b""]], None),
    (encode(b"ECHO", b"+(=~|>%*123456789") + PING, echo(b"+(=~|>%*123456789"), None),
    # Requests without arguments are no requests.
    (b"*0\r\n*-1\r\n" + PING + b"*-10\r\n*0\r\n", [[b"PING"]], None),
    (PING + b"*0\r\n" + PING, [[b"PING"], [b"PING"]], None),
    (b"*0\r\n", [], None),
    (b"*-9223372036854775808\r\n" + PING, [[b"PING"]], None),
    # Inline requests, between others.
    (b"PING\r\n", [[b"PING"]], None),
    (b"PING\nPING\r\n" + PING + b"ECHO a\n", [[b"PING"], [b"PING"], [b"PING"], [b"ECHO", b"a"]], None),
    (b"\r\n\n  \t \r\n" + PING, [[b"PING"]], None),
    (b"ECHO \v\f a\t\r\n" + PING, echo(b"a"), None),
    (b"ECHO a\vb\r\n" + PING, echo(b"a\vb"), None),
    (b"ECHO \xa0\x85\r\n" + PING, echo(b"\xa0\x85"), None),
    (b"ECHO a\rb\r\n" + PING, [[b"ECHO", b"a", b"b"], [b"PING"]], None),
    (b"PING\r\r\n" + PING, [[b"PING"], [b"PING"]], None),
    (b'ECHO "a b"\r\n' + PING, echo(b"a b"), None),
    (rb'ECHO "\x41\xfF\x00\xzz\n\r\t\b\a\q\\\""' + b"\r\n" + PING, echo(b'A\xff\0xzz\n\r\t\b\aq\\"'), None),
    (rb"ECHO 'it\'s \n'" + b"\r\n" + PING, echo(rb"it's \n"), None),
    (b"ECHO \"\"\r\nECHO ''\r\n", [[b"ECHO", b""], [b"ECHO", b""]], None),
    (b'ECHO a"b c"\r\n' + PING, echo(b"ab c"), None),
    (b'""\r\n' + PING, [[b""], [b"PING"]], None),
    (b" *1\r\n$4\r\n", [[b"*1"], [b"$4"]], None),
    (b"+OK\r\n:1\r\n", [[b"+OK"], [b":1"]], None),
    (b'PING\r\nECHO "a\r\n' + PING, [[b"PING"]], UNBALANCED),
    (b"ECHO 'a\r\n", [], UNBALANCED),
    (b'ECHO "a\\\r\n', [], UNBALANCED),
    # Counts and lengths are canonical decimal numbers.
    *(
        (PING + b"*" + bad + b"\r\n" + PING, [[b"PING"]], INVALID_COUNT)
        for bad in (b"", b"01", b"+1", b"-0", b" 1")
    ),
    *(
        (b"*" + bad + b"\r\n", [], INVALID_COUNT)
        for bad in (b"a", b"1a", b"1 ", b"1_0", b"99999999999999999999")
    ),
    (b"*-9223372036854775809\r\n", [], INVALID_COUNT),
    (b"*2147483648\r\n", [], INVALID_COUNT),
    *(
        (b"*1\r\n$" + bad + b"\r\n", [], INVALID_LENGTH)
        for bad in (b"", b"01", b"+1", b"-0", b" 1", b"a", b"1a")
    ),
    *(
        (b"*1\r\n$" + bad + b"\r\n", [], INVALID_LENGTH)
        for bad in (b"-1", b"536870913", b"99999999999999999999")
    ),
    # Arguments are bulk strings, whatever else hiredis would take.
    *(
        (PING + b"*2\r\n$4\r\nECHO\r\n" + bad + b"\r\n" + PING, [[b"PING"]], expected_bulk(bad[:1]))
        for bad in (
            b"+a",
            b":1",
            b"*1",
            b"(1",
            b"_",
            b"#t",
            b",1",
            b"=5\r\ntxt:a",
            b"~1",
            b">1",
            b"%1",
            b"|1",
            b"-E",
        )
    ),
    *(
        (b"*1\r\n" + bad + b"4\r\nPING\r\n", [], expected_bulk(bad))
        for bad in (b"\x01", b"\x7f", b"\x80", b"\xff", b"'", b'"', b" ", b"\n")
    ),
    (b"*1\r\n\r\nPING\r\n", [], expected_bulk(b"\r")),
    # Nor are requests anything but arrays.
    (b"+PING\r\n" + PING, [[b"+PING"], [b"PING"]], None),
    (PING + b"~1\r\n$4\r\nPING\r\n", [[b"PING"], [b"~1"], [b"$4"], [b"PING"]], None),
    (
        PING + b"|1\r\n$4\r\nPING\r\n$1\r\na\r\n",
        [[b"PING"], [b"|1"], [b"$4"], [b"PING"], [b"$1"], [b"a"]],
        None,
    ),
    (PING + b">1\r\n$4\r\nPING\r\n", [[b"PING"], [b">1"], [b"$4"], [b"PING"]], None),
    (PING + b"%1\r\n$1\r\na\r\n$1\r\nb\r\n", [[b"PING"], [b"%1"], [b"$1"], [b"a"], [b"$1"], [b"b"]], None),
    (PING + b"+\r\n", [[b"PING"], [b"+"]], None),
    (PING + b":0\r\n" + PING, [[b"PING"], [b":0"], [b"PING"]], None),
    (PING + b"$-1\r\n" + PING, [[b"PING"], [b"$-1"], [b"PING"]], None),
    # A request is complete with all its bytes only.
    (PING[:-1], [], None),
    (b"*1\r\n$4\r\nPING", [], None),
    (b"*2\r\n$4\r\nECHO\r\n", [], None),
    (PING + b"*1\r\n", [[b"PING"]], None),
    (b"*1\n$4\nPING\n", [], None),
    (b"*\n", [], None),
    (b"PING", [], None),
    # A browser's request ends the connection without a word, and nothing of it runs.
    (PING + b"POST / HTTP/1.1\r\n" + PING, [[b"PING"]], SILENT),
    (b"PoSt\r\n" + PING, [], SILENT),
    (b'  "post" a\r\n', [], SILENT),
    (b'"POST\\x00a"\r\n', [], SILENT),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nPING\r\n", [[b"GET", b"/", b"HTTP/1.1"]], SILENT),
    (b"hOsT:\r\n", [], SILENT),
    (b"HOST a\r\n" + PING, [[b"HOST", b"a"], [b"PING"]], None),
]

# Where Valkey 9 has its own way.
OTHERWISE_IN_VALKEY = [
    (b"*1\r\n$4\r\nPINGxx" + PING, [[b"PING"], [b"PING"]], None),
    (b"*1\rX$4\rYPINGzz" + PING, [[b"PING"], [b"PING"]], None),
    (b"*2\r\n$4\r\nECHOxx+a\r\n" + PING, [], expected_bulk(b"+")),
    (rb"ECHO 'a\\'" + b"\r\n", [], UNBALANCED),
    (b'ECHO "a"b\r\n', [], UNBALANCED),
    (b"ECHO 'a'b\r\n", [], UNBALANCED),
    (b'ECHO "a"\v\r\n' + PING, echo(b"a"), None),
    (b'ECHO "a"\vb\r\n' + PING, [[b"ECHO", b"a", b"b"], [b"PING"]], None),
    # A NUL hides the end of its line.
    (b"PING\0\r\n" + PING, [], None),
    (b"*1\0\r\n$4\r\nPING\r\n", [], None),
    (b"*1\r\n$4\0\r\nPING\r\n", [], None),
    (b"*1\r\n\x004\r\nPING\r\n", [], None),
]

# Lines that grow too long: the last byte each stream may have, and one more.
LONG_LINES = [
    (b"A" * LINE, [], None),
    (b"A" * (LINE + 1), [], TOO_BIG_INLINE),
    (b"PING" + b" " * (LINE - 4) + b"\n", [[b"PING"]], None),
    (b"PING" + b" " * (LINE - 3) + b"\n", [], TOO_BIG_INLINE),
    (b"PING\0\r\n" + b"a" * (LINE - 7), [], None),
    (b"PING\0\r\n" + b"a" * (LINE - 6), [], TOO_BIG_INLINE),
    (b"*" + b"1" * (LINE - 1), [], None),
    (b"*" + b"1" * LINE, [], TOO_BIG_COUNT),
    (b"*" + b"1" * (LINE - 1) + b"\r", [], None),
    (b"*" + b"1" * (LINE - 1) + b"\r\n", [], INVALID_COUNT),
    (b"*" + b"1" * LINE + b"\r\n", [], TOO_BIG_COUNT),
    (b"*1\0\r\n" + b"a" * (LINE - 4), [], TOO_BIG_COUNT),
    (b"*1\r\n$" + b"1" * (LINE - 1), [], None),
    (b"*1\r\n$" + b"1" * LINE, [], TOO_BIG_LENGTH),
    (b"*1\r\nx" + b"1" * LINE, [], TOO_BIG_LENGTH),
]

STREAMS = ORDINARY + OTHERWISE_IN_VALKEY + LONG_LINES


def outcome(reader: RequestReader, pieces: list[bytes]) -> tuple[Requests, bytes | None]:
    """All requests in the pieces, and the text of the error at the end."""
    requests = [request for piece in pieces for request in reader.feed(piece)]
    return requests, reader.error.text if reader.error else None


def shown(stream: object) -> str | None:
    return repr(stream)[:60] if isinstance(stream, bytes) else ""


@pytest.mark.parametrize(("stream", "requests", "error"), STREAMS, ids=shown)
def test_streams(stream: bytes, requests: Requests, error: bytes | None) -> None:
    assert outcome(RequestReader(), [stream]) == (requests, error)


@pytest.mark.parametrize(("stream", "requests", "error"), ORDINARY + OTHERWISE_IN_VALKEY, ids=shown)
def test_streams_in_two_pieces(stream: bytes, requests: Requests, error: bytes | None) -> None:
    for cut in range(len(stream) + 1):
        assert outcome(RequestReader(), [stream[:cut], stream[cut:]]) == (requests, error)


@pytest.mark.parametrize(("stream", "requests", "error"), ORDINARY + OTHERWISE_IN_VALKEY, ids=shown)
def test_streams_byte_by_byte(stream: bytes, requests: Requests, error: bytes | None) -> None:
    pieces = [stream[at : at + 1] for at in range(len(stream))]
    assert outcome(RequestReader(), pieces) == (requests, error)


@pytest.mark.parametrize(("stream", "requests", "error"), LONG_LINES, ids=shown)
def test_long_lines_in_pieces(stream: bytes, requests: Requests, error: bytes | None) -> None:
    pieces = [stream[at : at + 999] for at in range(0, len(stream) - 2, 999)]
    rest = stream[len(pieces) * 999 :]
    assert outcome(RequestReader(), [*pieces, *(rest[at : at + 1] for at in range(len(rest)))]) == (
        requests,
        error,
    )


@pytest.mark.parametrize(("stream", "requests", "error"), ORDINARY, ids=shown)
def test_a_real_server_answers_the_same(
    twin_server: Server, stream: bytes, requests: Requests, error: bytes | None
) -> None:
    assert raw_answer(twin_server.port, stream) == answer(requests, error)


def raw_answer(port: int, stream: bytes) -> bytes:
    """All that a server sends until it closes the connection, which it does for us once it has read all."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(stream)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(1 << 16):
            received += data
        return received


def answer(requests: Requests, error: bytes | None) -> bytes:
    """What a server that knows PING, GET and ECHO sends for the requests and then for the error."""
    if error == SILENT:
        return b""  # Redis drops the replies that it has not sent yet.
    replies = [reply(*request) for request in requests]
    return b"".join(replies) + (encode_error(error) if error else b"")


def reply(name: bytes, *arguments: bytes) -> bytes:
    if name == b"PING":
        return b"+PONG\r\n"
    if name not in (b"ECHO", b"GET"):
        return encode_error(errors.unknown_command(name, list(arguments)))
    if len(arguments) != 1:
        return encode_error(errors.wrong_arity(name.decode().lower()))
    return b"$%d\r\n%b\r\n" % (len(arguments[0]), arguments[0])


def test_each_request_is_a_list_of_its_own() -> None:
    reader = RequestReader()
    first, second = reader.feed(PING * 2)
    first[0] = b"changed"
    assert second == [b"PING"]
    assert reader.feed(PING) == [[b"PING"]]
    assert all(type(request) is list for request in reader.feed(PING + b"PING\r\n"))


def test_a_broken_stream_stays_broken() -> None:
    reader = RequestReader()
    assert reader.feed(PING + b"*x\r\n" + PING) == [[b"PING"]]
    error = reader.error
    assert reader.feed(PING) == []
    assert reader.feed(b"") == []
    assert reader.error is error
    assert reader.error == error
    assert reader.buffered_bytes == 0


def test_a_broken_stream_is_nobody_else_s_concern() -> None:
    good, bad = RequestReader(), RequestReader()
    good.feed(PING[:5])
    for stream in (b"*1\r\n:1\r\n", b"*x\r\n", b"*2\r\n$4\r\nECHO\r\n", PING + b"*3\r\n"):
        bad.feed(stream)
        assert good.feed(PING[5:] + PING + PING[:5]) == [[b"PING"]] * 2


def test_no_data_changes_nothing() -> None:
    reader = RequestReader()
    for at in range(len(PING)):
        reader.feed(PING[at : at + 1]) if at < len(PING) - 1 else None
        assert reader.feed(b"") == []
    assert reader.feed(PING[-1:]) == [[b"PING"]]


def test_buffered_bytes() -> None:
    reader = RequestReader()
    stream = encode(b"SET", b"key", b"v" * 300)
    for at in range(0, len(stream) - 7, 7):
        reader.feed(stream[at : at + 7])
        assert reader.buffered_bytes == at + 7
    reader.feed(stream[at + 7 :] + b"PIN")
    assert reader.buffered_bytes == 3
    reader.feed(b"G\r\n")
    assert reader.buffered_bytes == 0


# -- bounds -----------------------------------------------------------------------------------


def test_the_count_of_arguments_is_bounded() -> None:
    most = limits.MAX_ARGUMENTS
    reader = RequestReader()
    assert outcome(reader, [b"*%d\r\n" % most, b"$0\r\n\r\n" * 10]) == ([], None)
    assert outcome(RequestReader(), [b"*%d\r\n" % (most + 1)]) == ([], INVALID_COUNT)


@pytest.mark.parametrize("count", [9, 10, 99_999, 100_000, 200_000])
def test_many_arguments(count: int) -> None:
    request = [b"a"] * count
    assert outcome(RequestReader(), [encode(*request) + PING]) == ([request, [b"PING"]], None)


def test_the_length_of_an_argument_is_bounded() -> None:
    for extra in (b"", b"*"):  # with and without a chance for the plain parser
        reader = RequestReader(max_bulk_bytes=20)
        argument = b"x" * 19 + extra
        assert outcome(reader, [encode(argument[:20]) + encode(argument + b"++")])[1] == INVALID_LENGTH
    reader = RequestReader(max_bulk_bytes=4)
    assert outcome(reader, [b"*1\r\n$5\r\n"]) == ([], INVALID_LENGTH)


def test_the_length_of_an_argument_may_change() -> None:
    reader = RequestReader(max_bulk_bytes=4)
    assert reader.feed(PING) == [[b"PING"]]
    reader.max_bulk_bytes = 10
    assert reader.feed(encode(b"x" * 10)) == [[b"x" * 10]]
    reader.max_bulk_bytes = 3
    assert reader.max_bulk_bytes == 3
    assert reader.feed(PING) == []
    assert reader.error is not None
    assert reader.error.text == INVALID_LENGTH


def test_an_incomplete_request_is_bounded() -> None:
    reader = RequestReader(query_buffer_bytes=100)
    whole = encode(b"ECHO", b"x" * 200)
    assert reader.feed(whole) == [[b"ECHO", b"x" * 200]]
    assert reader.feed(PING + whole[:100]) == [[b"PING"]]
    assert reader.error is None
    assert reader.feed(whole[100:101]) == []
    assert reader.error is not None
    assert reader.error.text == SILENT
    assert reader.buffered_bytes == 0


# -- before authentication --------------------------------------------------------------------


def restricted_reader() -> RequestReader:
    reader = RequestReader()
    reader.restricted = True
    return reader


@pytest.mark.parametrize(
    ("stream", "requests", "error"),
    [
        (encode(*[b"a"] * 10), [[b"a"] * 10], None),
        (b"*11\r\n", [], UNAUTHENTICATED_COUNT),
        (b"*2147483648\r\n", [], INVALID_COUNT),
        (b"*-5\r\n" + PING, [[b"PING"]], None),
        (encode(b"x" * 16384), [[b"x" * 16384]], None),
        (b"*1\r\n$16384\r\n", [], None),
        (b"*1\r\n$16385\r\n", [], UNAUTHENTICATED_LENGTH),
        (b"*2\r\n$4\r\nECHO\r\n$16385\r\n", [], UNAUTHENTICATED_LENGTH),
        (b"*1\r\n$536870913\r\n", [], INVALID_LENGTH),
        (b"PING" + b" a" * 20 + b"\r\n", [[b"PING"] + [b"a"] * 20], None),
        (b"PING " + b"a" * 20000 + b"\r\n", [[b"PING", b"a" * 20000]], None),
    ],
    ids=shown,
)
def test_restricted(stream: bytes, requests: Requests, error: bytes | None) -> None:
    assert outcome(restricted_reader(), [stream]) == (requests, error)
    assert outcome(restricted_reader(), [stream[:5], stream[5:]]) == (requests, error)


AUTH = encode(b"AUTH", b"secret")
LARGE = [encode(*[b"a"] * 11), encode(b"SET", b"k", b"x" * 16385)]


@pytest.mark.parametrize("large", LARGE)
@pytest.mark.parametrize("cut", [0, 1, len(AUTH) - 1])
def test_a_large_request_behind_the_one_that_authenticates(large: bytes, cut: int) -> None:
    reader = restricted_reader()
    reader.feed(AUTH[:cut])
    assert reader.feed(AUTH[cut:] + PING + large + PING) == [[b"AUTH", b"secret"], [b"PING"]]
    assert reader.deferred
    assert reader.error is None
    assert reader.buffered_bytes == len(large + PING)
    reader.restricted = False
    assert reader.feed(b"") == RequestReader().feed(large + PING)
    assert not reader.deferred
    assert reader.buffered_bytes == 0


@pytest.mark.parametrize("large", LARGE)
def test_a_large_request_when_authentication_failed(large: bytes) -> None:
    reader = restricted_reader()
    assert reader.feed(AUTH + large) == [[b"AUTH", b"secret"]]
    assert reader.feed(b"") == []
    assert not reader.deferred
    assert reader.error is not None
    assert reader.error.text in (UNAUTHENTICATED_COUNT, UNAUTHENTICATED_LENGTH)


def test_a_change_takes_effect_for_headers_not_read_yet() -> None:
    reader = restricted_reader()
    reader.feed(b"*2\r\n")
    reader.restricted = False
    assert reader.feed(b"$4\r\nECHO\r\n$16385\r\n") == []
    assert reader.error is None
    reader.restricted = True
    assert reader.restricted
    assert reader.feed(b"x" * 16387 + b"*11\r\n") == [[b"ECHO", b"x" * 16385]]
    assert reader.deferred
    assert outcome(reader, [b""]) == ([], UNAUTHENTICATED_COUNT)


# -- HTTP -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"POST", b"post", b"Host:", b"hOST:", b"post\0x"])
def test_http(name: bytes) -> None:
    assert is_http(name)


@pytest.mark.parametrize("name", [b"", b"GET", b"HOST", b"POSTS", b"PUT", b"xpost"])
def test_no_http(name: bytes) -> None:
    assert not is_http(name)


# -- costs ------------------------------------------------------------------------------------


@contextmanager
def memory_peak_below(most_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < most_bytes


@pytest.mark.parametrize(
    "stream",
    [
        b"*2147483648\r\n",
        b"*2147483647\r\n",
        b"*1048576\r\n",
        b"*2\r\n*999999999\r\n",
        PING + b"*1\r\n~999999999\r\n",
        PING + b"*1\r\n>999999999\r\n",
        PING + b"*1\r\n|999999999\r\n",
        b">999999999\r\n",
        b"*1\r\n" * 9 + b"*999999999\r\n",
        b"*3\r\n$1\r\na\r\n>99999999\r\n*1\r\n",
        b"*1\r\n$536870912\r\n",
        b"*1\r\n$99999999999999999999\r\n",
        b"*1000000\r\n$536870912\r\nabc",
    ],
    ids=shown,
)
def test_what_is_announced_costs_nothing(stream: bytes) -> None:
    for cut in range(len(stream)):
        with memory_peak_below(100_000):
            outcome(RequestReader(), [stream[:cut], stream[cut:], b"\n"])


def test_a_large_argument_is_held_twice_at_most() -> None:
    argument = b"x" * (16 << 20)
    stream = encode(b"SET", b"key", argument) + PING
    pieces = [stream[at : at + (1 << 16)] for at in range(0, len(stream), 1 << 16)]
    reader = RequestReader()
    del stream
    with memory_peak_below(int(2.3 * len(argument))):
        requests, error = outcome(reader, pieces)
    assert error is None
    assert requests == [[b"SET", b"key", argument], [b"PING"]]
    assert reader.buffered_bytes == 0


def test_small_pieces_of_a_large_argument_cost_no_more() -> None:
    stream = encode(b"ECHO", b"x" * 60_000)
    pieces = [stream[at : at + 2] for at in range(0, len(stream), 2)]
    reader = RequestReader()
    with memory_peak_below(200_000):
        for piece in pieces:
            requests = reader.feed(piece)
    assert requests == [[b"ECHO", b"x" * 60_000]]


ORDINARY_ARGUMENTS = [
    b"x" * 64,
    b"",
    b"a+b",
    b"{a: (1 = 2)}",
    b"~|>%*1\r\n*2\r\n",
    bytes(range(256)),
    b"*99999",
]


@pytest.mark.parametrize("argument", ORDINARY_ARGUMENTS)
@pytest.mark.parametrize("count", [1, 2, 16, 500])
def test_ordinary_chunks_are_left_to_hiredis(
    monkeypatch: pytest.MonkeyPatch, argument: bytes, count: int
) -> None:
    def read_arguments(*_: object) -> int:
        raise AssertionError("the strict parser read a request")

    reader = RequestReader()
    monkeypatch.setattr(module.RequestReader, "_read_request", read_arguments)
    for _ in range(2):
        assert reader.feed(encode(b"SET", b"key", argument) * count) == [[b"SET", b"key", argument]] * count


def test_of_chunks_that_end_anywhere_most_is_left_to_hiredis(monkeypatch: pytest.MonkeyPatch) -> None:
    strictly_read = 0
    read_request = RequestReader._read_request

    def counted(reader: RequestReader, data: bytes, start: int, requests: Requests) -> int:
        nonlocal strictly_read
        strictly_read += 1
        return read_request(reader, data, start, requests)

    monkeypatch.setattr(module.RequestReader, "_read_request", counted)
    stream = encode(b"SET", b"key", b"a+b=\r\nc") * 2000
    for size in (700, 8192, 60_000):
        strictly_read = 0
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert outcome(RequestReader(), pieces) == ([[b"SET", b"key", b"a+b=\r\nc"]] * 2000, None)
        assert strictly_read <= 2 * len(pieces)


def test_an_error_carries_its_text() -> None:
    reader = RequestReader()
    reader.feed(b"*x\r\n")
    assert isinstance(reader.error, ProtocolError)
    assert reader.error.text == INVALID_COUNT
