"""What handlers return, as the protocol has it."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv.errors import CommandError
from shardkv.resp.replies import (
    NULL_ARRAY,
    OK,
    Pairs,
    Push,
    Status,
    Unordered,
    Verbatim,
    raw,
    resp2,
    resp3,
    unpack_raw,
)

EXAMPLES: list[tuple[Any, bytes, bytes]] = [
    (b"text", b"$4\r\ntext\r\n", b"$4\r\ntext\r\n"),
    (b"", b"$0\r\n\r\n", b"$0\r\n\r\n"),
    (bytearray(b"text"), b"$4\r\ntext\r\n", b"$4\r\ntext\r\n"),
    (b"x" * 1024, b"$1024\r\n" + b"x" * 1024 + b"\r\n", b"$1024\r\n" + b"x" * 1024 + b"\r\n"),
    (0, b":0\r\n", b":0\r\n"),
    (-1, b":-1\r\n", b":-1\r\n"),
    (2**63 - 1, b":9223372036854775807\r\n", b":9223372036854775807\r\n"),
    (OK, b"+OK\r\n", b"+OK\r\n"),
    (Status(b"PONG"), b"+PONG\r\n", b"+PONG\r\n"),
    (None, b"$-1\r\n", b"_\r\n"),
    (NULL_ARRAY, b"*-1\r\n", b"_\r\n"),
    (True, b":1\r\n", b"#t\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
    (float("inf"), b"$3\r\ninf\r\n", b",inf\r\n"),
    ([b"a", 1, None], b"*3\r\n$1\r\na\r\n:1\r\n$-1\r\n", b"*3\r\n$1\r\na\r\n:1\r\n_\r\n"),
    ([], b"*0\r\n", b"*0\r\n"),
    ({b"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
    ({b"a"}, b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n"),
    (Unordered([b"a"]), b"*1\r\n$1\r\na\r\n", b"~1\r\n$1\r\na\r\n"),
    (Pairs([(b"a", 1.0)]), b"*2\r\n$1\r\na\r\n$1\r\n1\r\n", b"*1\r\n*2\r\n$1\r\na\r\n,1\r\n"),
    (Push([b"a"]), b"*1\r\n$1\r\na\r\n", b">1\r\n$1\r\na\r\n"),
    (Verbatim(b"text"), b"$4\r\ntext\r\n", b"=8\r\ntxt:text\r\n"),
    (CommandError("ERR a\r\nb"), b"-ERR a  b\r\n", b"-ERR a  b\r\n"),
]


@pytest.mark.parametrize(
    ("value", "in_resp2", "in_resp3"), EXAMPLES, ids=[repr(row[0])[:30] for row in EXAMPLES]
)
def test_examples(value: Any, in_resp2: bytes, in_resp3: bytes) -> None:
    assert resp2(value) == in_resp2
    assert resp3(value) == in_resp3


values = st.recursive(
    st.one_of(st.binary(max_size=20), st.integers(-(2**63), 2**63 - 1), st.none(), st.just(b"x" * 2000)),
    lambda inner: st.lists(inner, max_size=40),
    max_leaves=60,
)


@given(values)
def test_lists_of_any_size_and_kind_read_back(value: Any) -> None:
    for encoded in (resp2(value), resp3(value)):
        reader = hiredis.Reader()
        reader.feed(encoded)
        assert reader.gets() == value
    assert unpack_raw(raw(value)) == value


def test_between_processes_every_type_keeps_its_meaning() -> None:
    for value, in_resp2, in_resp3 in EXAMPLES:
        if not isinstance(value, Push | bytearray):
            travelled = unpack_raw(raw(value))
            assert (resp2(travelled), resp3(travelled)) == (in_resp2, in_resp3)
