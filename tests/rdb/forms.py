"""Writers for the forms of values that servers once wrote, for tests that read them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from struct import pack

import anycrc

from shardkv.numbers import canonical_integer
from shardkv.rdb.writer import length

_checksum = anycrc.Model("CRC64-REDIS").calc

INTEGERS = [
    sign * (2**bits + more)
    for bits in (0, 3, 4, 7, 12, 15, 23, 31, 62)
    for more in (-1, 0, 1)
    for sign in (1, -1)
]
"""Around every size that a form has for integers."""


def payload(body: bytes, version: int = 10) -> bytes:
    """What DUMP would give with that in it."""
    signed = body + version.to_bytes(2, "little")
    checksum: int = _checksum(signed)
    return signed + checksum.to_bytes(8, "little")


def plain(text: bytes) -> bytes:
    """A string as it is."""
    return length(len(text)) + text


def ziplist(elements: Sequence[bytes]) -> bytes:
    """A ziplist, with the smallest form of each element."""
    entries, before = [], b""
    for element in elements:
        before_size = bytes((len(before),)) if len(before) < 254 else b"\xfe" + pack("<I", len(before))
        before = before_size + _ziplist_entry(element)
        entries.append(before)
    tail = 10 + sum(map(len, entries[:-1]))
    body = b"".join(entries)
    return pack("<IIH", 11 + len(body), tail, min(len(entries), 0xFFFF)) + body + b"\xff"


def _ziplist_entry(element: bytes) -> bytes:
    number = canonical_integer(element)
    if number is None:
        size = len(element)
        if size < 1 << 6:
            return bytes((size,)) + element
        if size < 1 << 14:
            return pack(">H", size | 0x4000) + element
        return b"\x80" + pack(">I", size) + element
    if 0 <= number <= 12:
        return bytes((0xF1 + number,))
    for first, width in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
        if -(1 << 8 * width - 1) <= number < 1 << 8 * width - 1:
            return bytes((first,)) + number.to_bytes(width, "little", signed=True)
    raise AssertionError(number)


def zipmap(pairs: Sequence[bytes], unused: int = 0) -> bytes:
    """A zipmap of fields and values, by turns; behind each value some bytes that are not used."""
    parts = [bytes((min(len(pairs) // 2, 254),))]
    for place, word in enumerate(pairs):
        parts.append(bytes((len(word),)) if len(word) < 254 else b"\xfe" + pack("<I", len(word)))
        parts += (bytes((unused,)), word, bytes(unused)) if place % 2 else (word,)
    return b"".join((*parts, b"\xff"))


def intset(numbers: Sequence[int]) -> bytes:
    """An intset of numbers, which are in order."""
    most = max(map(abs, numbers))
    width, code = next((w, c) for w, c in ((2, "h"), (4, "i"), (8, "q")) if most < 1 << 8 * w - 1)
    return pack("<II", width, len(numbers)) + pack(f"<{len(numbers)}{code}", *numbers)


def quicklist(nodes: Sequence[Sequence[bytes]]) -> bytes:
    """Ziplists in a row."""
    return length(len(nodes)) + b"".join(plain(ziplist(node)) for node in nodes)


def text_scores(scores: dict[bytes, bytes]) -> bytes:
    """The oldest form of a sorted set, with scores as they are spelled."""
    special = {b"inf": b"\xfe", b"-inf": b"\xff"}
    written = (
        (plain(member), special.get(text) or bytes((len(text),)) + text) for member, text in scores.items()
    )
    return length(len(scores)) + b"".join(chain.from_iterable(written))
