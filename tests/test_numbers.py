"""Numbers as texts."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv.errors import CommandError
from shardkv.numbers import double, format_double, strtod


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"0", 0.0),
        (b"12", 12.0),
        (b"-1.5e3", -1500.0),
        (b"+.5", 0.5),
        (b"5.", 5.0),
        (b"0x1.8p3", 12.0),
        (b"-0X10", -16.0),
        (b"inf", math.inf),
        (b"-Infinity", -math.inf),
        (b"0e999", 0.0),
        (b"0x0.0p-9999", 0.0),
        (b"1" * 308, float("1" * 308)),
    ],
)
def test_doubles(text: bytes, number: float) -> None:
    assert double(text) == number
    assert strtod(text) == number


@pytest.mark.parametrize("text", [b"", b"x", b"nan", b" 1", b"1 ", b"1_0", b"1e", b"--1", b"0x", b"1\x00"])
def test_what_is_no_double(text: bytes) -> None:
    assert strtod(text) is None
    with pytest.raises(CommandError):
        double(text)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        (b"1e400", math.inf),
        (b"-1e400", -math.inf),
        (b"1" * 400, math.inf),
        (b"0x1p9999", math.inf),
        (b"-0x1p9999", -math.inf),
        (b"1e-400", 0.0),
        (b"0x1p-9999", 0.0),
    ],
)
def test_what_is_out_of_range(text: bytes, nearest: float) -> None:
    assert strtod(text) == nearest
    with pytest.raises(CommandError):
        double(text)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        # What valkey-server 9.1 answers.
        (0.0, "0"),
        (-0.0, "-0"),
        (3.0, "3"),
        (-17.0, "-17"),
        (0.1, "0.1"),
        (0.0001, "0.0001"),
        (0.000001, "0.000001"),
        (3e-9, "3e-9"),
        (1e20, "1e+20"),
        (5e17, "500000000000000000"),
        (2.0**62, "4611686018427387904"),
        (5e18, "5e+18"),
        (271790.7290776535, "2.717907290776535e+5"),
        (1234.5678, "1234.5678"),
        (0.00012345678901234567, "1.2345678901234567e-4"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
        # Fewer digits would do here, but Grisu2 does not find them.
        (17534233.95584183, "1.7534233955841828e+7"),
    ],
)
def test_spelling(number: float, text: str) -> None:
    assert format_double(number) == text.encode()


any_double = st.binary(min_size=8, max_size=8).map(lambda data: struct.unpack("<d", data)[0])


@given(st.one_of(st.floats(), any_double))
def test_what_is_written_reads_back(number: float) -> None:
    text = format_double(number)
    again = float(text)
    assert again == number or math.isnan(number)
    if not number.is_integer():
        assert len(text.partition(b"e")[0]) <= len(b"-0.0001") + 17
