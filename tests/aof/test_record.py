"""Records against hiredis' own encoding and parsing."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv.aof import record


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=12))
def test_a_record_parses_back(argv: list[bytes]) -> None:
    reader = hiredis.Reader()
    reader.feed(record(argv))
    assert reader.gets() == argv
    assert not reader.has_data()


@pytest.mark.parametrize("count", range(1, 12))
def test_numbers_and_bytearrays_are_taken_at_every_place(count: int) -> None:
    for place in range(count):
        plain = [b"word"] * count
        plain[place] = b"-12"
        expected = hiredis.pack_command(tuple(plain))  # type: ignore[arg-type]
        for argument in (b"-12", -12, bytearray(b"-12")):
            argv: list[bytes | bytearray | int] = [b"word"] * count
            argv[place] = argument
            assert record(argv) == expected


def test_kinds_of_arguments_can_be_mixed() -> None:
    assert record([b"SET", bytearray(b"k"), 7]) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n7\r\n"
