"""Payloads with the right checksum whose content is made up: an error or a sound value, nothing else."""

from __future__ import annotations

import tracemalloc
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkv.rdb import decode, kinds, packed
from shardkv.rdb.payload import PayloadError, dump, restore
from shardkv.rdb.reader import FormatError, Reader
from shardkv.rdb.writer import length, string
from shardkv.settings import Config
from shardkv.structures.consumer_group import Consumer, ConsumerGroup, Pending
from shardkv.structures.hash import Hash
from shardkv.structures.stream import Stream
from shardkv.values import Value, recreate
from tests.rdb import forms

CONFIG: Any = Config()


def body(kind: int, content: bytes) -> bytes:
    return bytes((kind,)) + content


def _stream() -> Stream:
    made = Stream()
    for number in range(1, 9):
        made.add((number, number % 3), [b"field", b"%d" % number] + [b"more", b"x"] * (number % 2), CONFIG)
    made.delete((3, 0), CONFIG)
    group = made.groups[b"group"] = ConsumerGroup((5, 2), 5)
    for name, stream_ids in ((b"one", [(1, 1), (4, 1)]), (b"other", [(2, 2)])):
        group.consumers[name] = Consumer(1_700_000_000_000)
        for stream_id in stream_ids:
            group.assign(stream_id, Pending(name, 1_700_000_000_000, 2))
    return made


def _hash() -> Hash:
    made = Hash.of([b"a", b"1", b"b", b"2"], CONFIG)
    made.set_deadline(b"a", 1_900_000_000_000)
    return made


WORDS = [b"a", b"1", b"b", b"70000", b"c", b"x" * 100]
PAIRS = [b"a", b"1", b"b", b"2.5", b"c", b"-inf"]
WITH_DEADLINES = [b"a", b"1", b"1900000000000", b"b", b"2", b"0"]
EARLIEST = (1_900_000_000_000).to_bytes(8, "little")

BODIES = [
    (10, body(kinds.STRING, string(b"hello"))),
    (10, body(kinds.STRING, string(b"-70000"))),
    (10, body(kinds.STRING, string(b"abc" * 100))),
    (10, body(kinds.LIST, length(2) + b"\x01a\xc0\x05")),
    (10, body(kinds.SET, length(2) + b"\x01a\xc1\x05\x05")),
    (10, body(kinds.ZSET, forms.text_scores({b"a": b"1.5", b"b": b"-inf", b"c": b"1e-7"}))),
    (10, body(kinds.HASH, length(2) + b"\x01a\x01b\x01c\xc2\x05\x05\x05\x05")),
    (10, body(kinds.ZSET_2, length(2) + b"\x01a" + bytes(8) + b"\x01b" + b"?" * 8)),
    (10, body(kinds.HASH_ZIPMAP, string(forms.zipmap(PAIRS, 2)))),
    (10, body(kinds.LIST_ZIPLIST, forms.plain(forms.ziplist(WORDS)))),
    (10, body(kinds.SET_INTSET, forms.plain(forms.intset([-5, 3, 70000])))),
    (10, body(kinds.ZSET_ZIPLIST, forms.plain(forms.ziplist(PAIRS)))),
    (10, body(kinds.HASH_ZIPLIST, forms.plain(forms.ziplist(WORDS)))),
    (10, body(kinds.LIST_QUICKLIST, forms.quicklist([WORDS, [], PAIRS]))),
    (10, body(kinds.HASH_LISTPACK, forms.plain(packed.to_listpack(WORDS)))),
    (10, body(kinds.ZSET_LISTPACK, forms.plain(packed.to_listpack(PAIRS)))),
    (10, body(kinds.LIST_QUICKLIST_2, b"\x02\x01\x01a\x02" + forms.plain(packed.to_listpack(WORDS)))),
    (11, body(kinds.SET_LISTPACK, string(packed.to_listpack(WORDS)))),
    (80, dump(_hash())[:-10]),
    (12, body(kinds.HASH_DEADLINES_EARLY, length(2) + b"\x05\x01a\x01b" + b"\x00\x01c\x01d")),
    (12, body(kinds.HASH_LISTPACK_DEADLINES_EARLY, forms.plain(packed.to_listpack(WITH_DEADLINES)))),
    (12, body(kinds.HASH_DEADLINES, EARLIEST + length(2) + b"\x01\x01a\x01b" + b"\x00\x01c\x01d")),
    (
        12,
        body(kinds.HASH_LISTPACK_DEADLINES, EARLIEST + forms.plain(packed.to_listpack(WITH_DEADLINES))),
    ),
    (10, dump(_stream())[:-10]),
]


def _try(payload: bytes) -> bool:
    """Whether there is a value in a payload; if so, it must be one that can be used."""
    try:
        value = restore(payload, CONFIG)
    except FormatError:
        return False
    again = restore(dump(value), CONFIG)
    assert _words(again) == _words(value)
    return True


def _words(value: Value) -> list[bytes]:
    """All that it takes to build a value, in no order."""
    words = sorted(chain.from_iterable(recreate(b"key", value, None)))
    assert words
    return words


@pytest.mark.parametrize(("version", "content"), BODIES)
def test_sound_payloads(version: int, content: bytes) -> None:
    assert _try(forms.payload(content, version))


@pytest.mark.parametrize(("version", "content"), BODIES)
def test_every_cut(version: int, content: bytes) -> None:
    for end in range(len(content)):
        assert not _try(forms.payload(content[:end], version)), end


@pytest.mark.parametrize(("version", "content"), BODIES)
def test_every_byte_changed(version: int, content: bytes) -> None:
    for place in range(len(content)):
        for byte in (0, 1, 0x7F, 0x80, 0x81, 0xC0, 0xF0, 0xF4, 0xFE, 0xFF, content[place] ^ 1):
            changed = content[:place] + bytes((byte,)) + content[place + 1 :]
            _try(forms.payload(changed, version))


mutations = st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=9))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(BODIES), st.lists(mutations, min_size=1, max_size=4))
def test_any_change(sound: tuple[int, bytes], changes: list[tuple[float, int, bytes]]) -> None:
    version, content = sound
    for where, removed, added in changes:
        place = int(where * len(content))
        content = content[:place] + added + content[place + removed :]
    _try(forms.payload(content, version))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([10, 12, 80]), st.integers(0, 30), st.binary(max_size=100))
def test_any_bytes(version: int, kind: int, content: bytes) -> None:
    _try(forms.payload(bytes((kind,)) + content, version))


HUGE = b"\x81" + (2**62).to_bytes(8, "big")
LARGE = b"\x80" + (2**31).to_bytes(4, "big")


@pytest.mark.parametrize(
    "content",
    [
        *(bytes((kind,)) + size for kind in range(26) for size in (HUGE, LARGE)),
        *(bytes((kind,)) + EARLIEST + size for kind in (24, 25) for size in (HUGE, LARGE)),
        b"\0\xc3" + length(5) + HUGE + b"\x01ab\xff\xff",
        b"\0\xc3" + LARGE + LARGE + b"\x01ab\xff\xff",
        b"\0\xc3" + length(500) + length(500 * 89) + bytes(500),
        body(kinds.SET_INTSET, forms.plain(b"\x08\0\0\0\xff\xff\xff\xff")),
        body(kinds.HASH_LISTPACK, forms.plain(b"\xff\xff\xff\xff\x02\0\xf0\xff\xff\xff\xff\xff")),
        body(kinds.HASH_ZIPLIST, forms.plain(b"\xff\xff\xff\xff\x02\0\0\0\x02\0\0\x80\xff\xff\xff\xff\xff")),
        body(kinds.STREAM_2, HUGE * 40),
        dump(_stream())[:-20] + HUGE * 2,
    ],
)
def test_claimed_sizes(content: bytes) -> None:
    tracemalloc.start()
    try:
        for version in (10, 12, 80):
            assert not _try(forms.payload(content, version))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_compressed_strings_may_not_come_to_more_than_there_is_room_for() -> None:
    blank = bytes(1 << 20)
    elements = length(8) + string(blank) * 8
    decode.value(kinds.LIST, Reader(elements, 10, room=8 << 20), CONFIG)
    with pytest.raises(FormatError, match="too much"):
        decode.value(kinds.LIST, Reader(elements, 10, room=(8 << 20) - 1), CONFIG)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x" * 9,
        b"x" * 10,
        b"x" * 50,
        forms.payload(b"\0\x01a", 13),
        forms.payload(b"\0\x01a", 79),
        forms.payload(b"\0\x01a", 81),
        forms.payload(b"\0\x01a")[:-8] + bytes(8),
    ],
)
def test_wrong_versions_and_checksums(payload: bytes) -> None:
    with pytest.raises(PayloadError):
        restore(payload, CONFIG)
