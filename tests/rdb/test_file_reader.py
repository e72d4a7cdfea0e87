"""Whole files as they are read: those of old servers, made by hand, and damaged ones."""

from __future__ import annotations

import io
import re
from itertools import chain
from pathlib import Path
from struct import pack
from typing import Any

import anycrc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shardkv.rdb import kinds, opcodes
from shardkv.rdb.file_reader import Event, Fact, FileReader, Function, Key, Note, RdbDamaged, ValueRefused
from shardkv.rdb.file_writer import VERSIONS, FileWriter
from shardkv.rdb.payload import restore
from shardkv.rdb.writer import length, string
from shardkv.settings import Config
from shardkv.values import Value, recreate
from tests.rdb import forms
from tests.rdb.test_file_writer import VALUES, write
from tests.rdb.test_hostile import BODIES

CONFIG: Any = Config()
PATH = Path("dump.rdb")

_checksum = anycrc.Model("CRC64-REDIS").calc


def file(version: int, *parts: bytes, checksum: bool = True) -> bytes:
    """A file of that version with some parts between header and end."""
    magic = b"VALKEY%03d" if version == kinds.VALKEY else b"REDIS%04d"
    body = magic % version + b"".join(parts) + bytes((opcodes.END,))
    if version < kinds.WITH_CHECKSUM:
        return body
    number: int = _checksum(body) if checksum else 0
    return body + number.to_bytes(8, "little")


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + forms.plain(name) + value


def read(data: bytes) -> list[tuple[Event, Any]]:
    """All events, keys with their values as requests that build them. Asserts that what travels as a payload
    is the same, and that passing over a value leads to the same place."""
    found: list[tuple[Event, Any]] = []
    reader, payloads, skipped = (FileReader(data, PATH) for _ in range(3))
    for event, same, again in zip(reader, payloads, skipped, strict=True):
        assert event == same == again
        if isinstance(event, Key):
            value = requests(reader.value(CONFIG))
            assert requests(restore(payloads.payload(), CONFIG)) == value
            found.append((event, value))
        else:
            found.append((event, None))
    assert reader.at == reader.end == len(data)
    return found


def requests(value: Value) -> list[bytes]:
    return sorted(chain.from_iterable(recreate(b"key", value, None)))


def test_what_is_written_is_read() -> None:
    code = b"#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    for version in VERSIONS:
        found = read(write(version, VALUES, (code,)))
        assert [event for event, _ in found if isinstance(event, Function)] == [Function(code)]
        keys = [(event, value) for event, value in found if isinstance(event, Key)]
        assert [event.db for event, _ in keys] == [0] * len(VALUES) + [3] * len(VALUES)
        for number, (event, value) in enumerate(keys):
            place = number % len(VALUES)
            expected = list(VALUES)[place]
            assert event.key == expected
            assert event.expire_at_ms == (4_102_444_800_000 if place % 3 == 1 else None)
            if version > 9 or expected != b"stream":
                assert value == requests(VALUES[expected])


# -- old and rare forms -------------------------------------------------------------------------


def test_version_1() -> None:
    data = file(
        1,
        bytes((opcodes.SELECT, 5)),
        bytes((opcodes.EXPIRE_S,)) + pack("<i", 2_000_000_000),
        key(b"text", kinds.STRING, b"\x05hello"),
        key(b"number", kinds.STRING, b"\xc1\x39\x30"),
        key(b"compressed", kinds.STRING, string(b"a" * 100)),
        key(b"list", kinds.LIST, length(2) + b"\x01a\xc0\x05"),
        key(b"set", kinds.SET, length(2) + b"\x01a\xc1\x05\x05"),
        key(b"zset", kinds.ZSET, forms.text_scores({b"a": b"1.5", b"b": b"-inf", b"c": b"1e-7"})),
        key(b"hash", kinds.HASH, length(1) + b"\x01a\x01b"),
    )
    found = {event.key: (event, value) for event, value in read(data) if isinstance(event, Key)}
    assert len(found) == 7
    assert all(event.db == 5 for event, _ in found.values())
    assert found[b"text"][0].expire_at_ms == 2_000_000_000_000
    assert found[b"number"][0].expire_at_ms is None
    assert found[b"text"][1] == [b"SET", b"hello", b"key"]
    assert found[b"number"][1] == [b"12345", b"SET", b"key"]
    assert found[b"compressed"][1] == [b"SET", b"a" * 100, b"key"]
    assert found[b"list"][1] == [b"5", b"RPUSH", b"a", b"key"]
    assert found[b"zset"][1] == sorted([b"ZADD", b"key", b"a", b"b", b"c", b"1.5", b"-inf", b"1e-07"])
    assert not FileReader(data, PATH).checked


@pytest.mark.parametrize(("version", "body"), BODIES)
def test_every_form_of_a_value(version: int, body: bytes) -> None:
    data = file(version, body[:1] + forms.plain(b"name") + body[1:], key(b"last", kinds.STRING, b"\x01x"))
    [(event, value), (last, _)] = read(data)
    assert isinstance(event, Key)
    assert isinstance(last, Key)
    assert (event.key, event.kind, last.key) == (b"name", body[0], b"last")
    assert value == requests(restore(forms.payload(body, version), CONFIG))


def test_what_is_not_data() -> None:
    module = 0x_1234_5678_9ABC_DEF0
    parts = b"\x02\x05\x01\x40\x99\x03abcd\x04abcdefgh\x05\x03xyz\x00"
    data = file(
        80,
        bytes((opcodes.AUX,)) + b"\x09redis-ver\x057.2.4",
        bytes((opcodes.MODULE_AUX,)) + length(module) + parts,
        bytes((opcodes.FUNCTION_PRE_GA,)) + b"\x03lib\x03LUA\x01\x04text\x06return",
        bytes((opcodes.FUNCTION_PRE_GA,)) + b"\x03lib\x02JS\x00\x06return",
        bytes((opcodes.SLOT_IMPORT,)) + b"\x02ab\x02\x01\x02\x03\x04",
        bytes((opcodes.SELECT, 0, opcodes.RESIZE, 2, 1, opcodes.SLOT_INFO, 1, 2, 3)),
        bytes((opcodes.EXPIRE_MS,)) + pack("<q", 99) + bytes((opcodes.FREQUENCY, 7)),
        key(b"used", kinds.STRING, b"\x01x"),
        bytes((opcodes.IDLE, 0x41, 0x00)),
        key(b"unused", kinds.STRING, b"\x01x"),
    )
    found = [event for event, _ in read(data)]
    assert found[0] == Fact(b"redis-ver", b"7.2.4")
    assert isinstance(found[1], Note)
    assert re.fullmatch(r"data of the module type [\w-]{9} that belongs to no key", found[1].text)
    assert found[2] == Function(b"#!lua name=lib\nreturn")
    assert found[3] == Note("the library b'lib' for the engine b'JS'")
    assert isinstance(found[4], Note)
    assert [event[:3] for event in found[5:]] == [(0, b"used", 99), (0, b"unused", None)]


def module_number(name: str) -> int:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    number = 0
    for letter in name:
        number = number << 6 | letters.index(letter)
    return number << 10 | 3


def test_values_of_modules_are_named_and_passed_over() -> None:
    content = length(module_number("ReJSON-RL")) + b"\x05\x02{}\x00"
    data = file(11, key(b"json", kinds.MODULE_2, content), key(b"after", kinds.STRING, b"\x01x"))
    reader = FileReader(data, PATH)
    events = iter(reader)
    assert isinstance(next(events), Key)
    with pytest.raises(ValueRefused, match="module type ReJSON-RL"):
        reader.payload()
    with pytest.raises(ValueRefused, match="module type ReJSON-RL"):
        reader.value(CONFIG)
    after = next(events)
    assert isinstance(after, Key)
    assert after.key == b"after"
    assert reader.value(CONFIG) == b"x"
    with pytest.raises(RdbDamaged, match="only the module can read"):
        list(FileReader(file(8, key(b"old", kinds.MODULE, content)), PATH))


def test_a_value_that_makes_no_sense_is_refused_and_the_next_one_is_read() -> None:
    data = file(10, key(b"double", kinds.SET, b"\x02\x01a\x01a"), key(b"after", kinds.STRING, b"\x01x"))
    reader = FileReader(data, PATH)
    events = iter(reader)
    next(events)
    with pytest.raises(ValueRefused, match="twice"):
        reader.value(CONFIG)
    after = next(events)
    assert isinstance(after, Key)
    assert after.key == b"after"


def test_no_checksum() -> None:
    reader = FileReader(file(9, key(b"a", kinds.STRING, b"\x01x"), checksum=False), PATH)
    assert not reader.checked
    assert [event[:2] for event in reader] == [(0, b"a")]


def test_what_follows_a_file() -> None:
    data = file(9, key(b"a", kinds.STRING, b"\x01x"))
    reader = FileReader(data + b"*1\r\n", PATH, goes_on=True)
    assert reader.checked
    assert len(list(reader)) == 1
    assert reader.end == len(data)
    with pytest.raises(RdbDamaged, match="goes on after its end"):
        FileReader(data + b"*1\r\n", PATH)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"REDIS",
        b"REDIS0000\xff",
        b"REDIS0013\xff" + bytes(8),
        b"VALKEY081\xff" + bytes(8),
        b"REDIS00a9\xff" + bytes(8),
        b"*1\r\n$4\r\nPING\r\n",
        b"REDIS0009",
        b"REDIS0009\xff",
        b"REDIS0009\xf0\xff" + bytes(8),
        b"REDIS0009\x1f\x01a\x01b\xff" + bytes(8),
        b"REDIS0009\xf3\x01a\x00\xff" + bytes(8),
    ],
)
def test_what_is_no_file(data: bytes) -> None:
    with pytest.raises(RdbDamaged) as found:
        list(FileReader(data, PATH))
    assert str(found.value).startswith("dump.rdb: at byte ")
    assert 0 <= found.value.offset <= len(data)


# -- damage -------------------------------------------------------------------------------------


def small_file() -> bytes:
    """Something of everything, in some hundred bytes."""
    parts = [
        body[:1] + forms.plain(b"key%d" % n) + body[1:] for n, (_, body) in enumerate(BODIES) if body[0] < 22
    ]
    written = io.BytesIO()
    writer = FileWriter(written.write, 10)
    writer.begin({"redis-ver": "7.2.4"})
    writer.function(b"#!lua name=lib\n")
    writer.select(2, len(parts))
    for part in parts:
        writer.records(part)
    writer.end()
    return written.getvalue()


SMALL = small_file()


def is_refused(data: bytes) -> bool:
    try:
        for _ in FileReader(data, PATH):
            raise AssertionError("something came out of a damaged file")
    except RdbDamaged as error:
        return 0 <= error.offset <= len(data)
    return False


def test_every_cut_is_noticed() -> None:
    assert len(read(SMALL)) > 15
    assert all(is_refused(SMALL[:end]) for end in range(len(SMALL)))


def test_every_flipped_bit_is_noticed() -> None:
    for place in range(len(SMALL)):
        for bit in range(8):
            changed = bytearray(SMALL)
            changed[place] ^= 1 << bit
            assert is_refused(bytes(changed)), (place, bit)


changes = st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=9))


@settings(max_examples=500, deadline=None)
@given(st.lists(changes, min_size=1, max_size=4), st.booleans(), st.sampled_from([3, 9, 12, 80]))
@example([(0.0, 6, b"\x073")], True, 9)
def test_changes_with_a_checksum_that_is_right(
    given_changes: list[tuple[float, int, bytes]], checksum: bool, version: int
) -> None:
    """Whoever means harm: an error or sound values, and nothing else."""
    content = SMALL[9:-9]
    for where, removed, added in given_changes:
        place = int(where * len(content))
        content = content[:place] + added + content[place + removed :]
    try:
        reader = FileReader(file(version, content, checksum=checksum), PATH)
        for event in reader:
            if isinstance(event, Key):
                try:
                    requests(reader.value(CONFIG))
                except ValueRefused:
                    pass
    except RdbDamaged:
        pass
