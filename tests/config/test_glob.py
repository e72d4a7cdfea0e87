"""Glob patterns, against a reference that follows the rules one byte at a time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv import errors, glob, limits
from shardkv.errors import CommandError

STAR = None
Element = bytes | None
"""The bytes of which one is to be matched, or STAR."""


def reference(elements: list[Element], string: bytes) -> bool:
    """The plain recursive matcher, exponential and obvious."""
    if not elements:
        return not string
    element, rest = elements[0], elements[1:]
    if element is STAR:
        return any(reference(rest, string[start:]) for start in range(len(string) + 1))
    return bool(string) and string[0] in element and reference(rest, string[1:])


EVERY_BYTE = bytes(range(256))
SPELLINGS: list[tuple[bytes, Element]] = [
    (b"*", STAR),
    (b"?", EVERY_BYTE),
    (b"a", b"a"),
    (b"\\b", b"b"),
    (b"\\*", b"*"),
    (b"\n", b"\n"),
    (b"]", b"]"),
    (b"[ab]", b"ab"),
    (b"[a-b]", b"ab"),
    (b"[^a]", EVERY_BYTE.replace(b"a", b"")),
    (b"[\\]a]", b"]a"),
    (b"[]", b""),
]
spelled = st.lists(st.sampled_from(SPELLINGS), max_size=8)
strings = st.lists(st.sampled_from(b"ab*]\n\xff"), max_size=8).map(bytes)


@given(spelled, strings.filter(bool))
def test_like_the_reference(spelled: list[tuple[bytes, Element]], string: bytes) -> None:
    pattern = b"".join(spelling for spelling, _ in spelled)
    assert glob.compile(pattern)(string) == reference([element for _, element in spelled], string)


@given(st.lists(st.sampled_from(b"ab*?\\\n\xff"), max_size=8).map(bytes), strings)
def test_case_is_ignored_if_asked(pattern: bytes, string: bytes) -> None:
    assert glob.compile(pattern.upper(), ignore_case=True)(string) == glob.compile(pattern)(string)


@given(st.binary(max_size=50))
def test_every_byte_stands_for_itself_after_a_backslash(string: bytes) -> None:
    escaped = b"".join(b"\\%c" % byte for byte in string)
    assert glob.compile(escaped)(string)
    assert glob.compile(b"*" + escaped + b"*")(b"x" + string + b"y")
    assert not glob.compile(escaped)(string + b"x")


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        (b"h[ae]llo", b"hello hallo", b"hillo hllo haello"),
        (b"h[^e]llo", b"hallo hbllo h^llo", b"hello hllo"),
        (b"h[a-b]llo", b"hallo hbllo", b"hcllo h-llo"),
        (b"[b-a]", b"a b", b"c -"),
        (b"[a-]", b"] a ^ _", b"- b"),
        (b"[a-", b"a -", b"b"),
        (b"[abc", b"a b c", b"[ d"),
        (b"x[", b"", b"x x[ xa"),
        (b"x[]", b"", b"x x[] x]"),
        (b"[^]", b"a ] ^", b"ab"),
        (b"[]a]", b"", b"a ]a"),
        (b"[\\]a]", b"] a", b"\\ ]a]"),
        (b"[a\\-c]", b"a - c", b"b \\"),
        (b"[a\\", b"a \\", b"b"),
        (b"a\\", b"a\\", b"a"),
        (b"a\\*", b"a*", b"a ab a\\*"),
        (b"[a-\xff]", b"a \xff ! A", b"b \xfe"),
        (b"user:*:name", b"user:1:name user::name", b"user:name user:1:nam user:1:name2"),
        (b"*ab*ab*", b"abab xabyabz", b"ab aba xaby"),
        (b"*abab", b"abab ababab xabab", b"ab bab ababa"),
        (b"a**b", b"ab a**b axb", b"a b"),
    ],
)
def test_corner_cases_as_observed_on_redis(pattern: bytes, matched: bytes, others: bytes) -> None:
    matches = glob.compile(pattern)
    assert [string for string in matched.split() if not matches(string)] == []
    assert [string for string in others.split() if matches(string)] == []


@pytest.mark.parametrize(
    ("pattern", "matches_empty"), [(b"", True), (b"*", True), (b"**", False), (b"***", False), (b"?", False)]
)
def test_the_empty_string(pattern: bytes, matches_empty: bool) -> None:
    assert glob.compile(pattern)(b"") is matches_empty


@pytest.mark.parametrize(
    ("pattern", "string", "matched"),
    [
        (b"HASH-max-*-entrieS", b"hash-max-listpack-entries", True),
        (b"[H]Z", b"hz", True),
        (b"[\\H]Z", b"hz", False),
        (b"[A-C]", b"b", True),
        (b"[Z-a]", b"a", False),
        (b"\\HZ", b"hz", True),
        (b"\xc9", b"\xe9", False),
        (b"***", b"", False),
    ],
)
def test_ignoring_case_as_observed_on_redis(pattern: bytes, string: bytes, matched: bool) -> None:
    assert glob.compile(pattern, ignore_case=True)(string) is matched


@pytest.mark.parametrize(
    ("pattern", "string"),
    [
        (b"*a" * 1000 + b"*b", b"a" * 20_000),
        (b"*?a" * 600 + b"b", b"a" * 20_000),
        (b"*" + b"?" * 1000 + b"b", b"a" * 20_000),
        (b"*[ab]" * 300 + b"*[bc]", b"a" * 20_000),
    ],
)
def test_hostile_patterns_take_no_exponential_time(pattern: bytes, string: bytes) -> None:
    matches = glob.compile(pattern)
    before = time.process_time()
    assert not matches(string)
    assert time.process_time() - before < 2


def test_long_patterns() -> None:
    long = b"x" * limits.MAX_PATTERN_BYTES
    assert glob.compile(long + b"y*")(long + b"yz")
    with pytest.raises(CommandError) as refused:
        glob.compile(long + b"?")
    assert refused.value.text == errors.PATTERN_TOO_LONG
