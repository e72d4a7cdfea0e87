"""Words and quotes, as redis.conf and inline requests write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv.quoting import quote, split


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"  \t ", []),
        (b"set key value\r\n", [b"set", b"key", b"value"]),
        (b" \v\fa\tb ", [b"a", b"b"]),
        (b"a\vb c", [b"a\vb", b"c"]),
        (b'"a b" c', [b"a b", b"c"]),
        (b'""', [b""]),
        (b"'' ''", [b"", b""]),
        (rb'"\n\r\t\a\b\\\"\q"', [b'\n\r\t\a\b\\"q']),
        (rb'"\x41\xfF\xzz\x4"', [b"A\xffxzzx4"]),
        (rb"'it\'s \n'", [rb"it's \n"]),
        (rb"\n", [rb"\n"]),
        (b'prefix"in quotes" b', [b"prefixin quotes", b"b"]),
        (b"a'b c'", [b"ab c"]),
        (b"a b\0 'c", [b"a", b"b"]),
        (b'"\xc3\xa9"', "é".encode().split()),
    ],
)
def test_split(line: bytes, words: list[bytes]) -> None:
    assert split(line) == words


@pytest.mark.parametrize(
    "line",
    [b'"', b'"a', b"'a", b'"a"b', b"'a'b", b"'a'\"b\"", b'"a\\"', rb"'a\'", rb"'a\\'", b'a"', b'"a\0"'],
)
def test_unbalanced_quotes(line: bytes) -> None:
    with pytest.raises(ValueError, match="unbalanced"):
        split(line)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", '""'),
        ("plain-1:2/3*", "plain-1:2/3*"),
        ("two words", '"two words"'),
        ("it's", '"it\'s"'),
        ('say "hi"\\\n', '"say \\"hi\\"\\\\\\n"'),
        ("é\x00", '"\\xc3\\xa9\\x00"'),
        (b"\xff".decode("utf-8", "surrogateescape"), '"\\xff"'),
    ],
)
def test_quote(text: str, written: str) -> None:
    assert quote(text) == written


@given(st.lists(st.binary()))
def test_what_is_quoted_is_read_back(words: list[bytes]) -> None:
    line = " ".join(quote(word.decode("utf-8", "surrogateescape")) for word in words)
    assert split(line.encode("ascii")) == words


@given(st.text(alphabet="ab \\\"'xn4\t\v\0").map(str.encode))
def test_words_hold_no_more_than_the_line(line: bytes) -> None:
    try:
        words = split(line)
    except ValueError:
        assert b'"' in line or b"'" in line
    else:
        assert sum(map(len, words)) <= len(line)
