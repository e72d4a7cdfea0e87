"""How large a listpack of Redis would be: what OBJECT ENCODING of a list depends on.

We keep no listpacks. The format is described in https://github.com/antirez/listpack/blob/master/listpack.md,
the bounds in redis.conf at list-max-listpack-size.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

EMPTY_BYTES = 7
"""The header and the end mark."""

MOST_OVERHEAD = 10
"""What an entry takes at most beside the element's bytes."""

_UNLIMITED = 2**63 - 1

_BYTE_LIMITS = (4096, 8192, 16384, 32768, 65536)
"""What -1 to -5 stand for."""

_COUNTED_BYTE_LIMIT = 8192
"""The bound in bytes when the setting counts elements."""


class Limit(NamedTuple):
    """What a listpack may have at most."""

    size: int
    """In bytes."""
    length: int
    half_size: int
    """A quicklist that has shrunk to this, in bytes, and to `half_length` becomes a listpack again."""
    half_length: int
    room: int
    """Of a listpack that takes at most half of `size`, in bytes; 0 if elements are counted."""


@cache
def limit(setting: int) -> Limit:
    """What the setting list-max-listpack-size says."""
    if setting < 0:
        size = _BYTE_LIMITS[min(-setting, len(_BYTE_LIMITS)) - 1]
        return Limit(size, _UNLIMITED, size // 2, _UNLIMITED, size // 2)
    length = max(setting, 1)
    return Limit(_COUNTED_BYTE_LIMIT, length, _UNLIMITED, length // 2, 0)


# Integers in their canonical spelling are stored as numbers, of 7, 13, 16, 24, 32 or 64 bits. Among those
# with the same number of digits two sizes occur at most, and as text they compare like numbers.


_MOST_DIGITS = 19
"""Of a number in 64 bits."""

_POSITIVE = {2: 2**7 - 1, 3: 2**12 - 1, 4: 2**15 - 1, 5: 2**23 - 1, 6: 2**31 - 1, 10: 2**63 - 1}
_NEGATIVE = {3: 2**12, 4: 2**15, 5: 2**23, 6: 2**31, 10: 2**63}
"""What an entry takes → the largest number it holds, without its sign."""


def _by_digits(largest: dict[int, int], sign: int) -> list[tuple[bytes, int, int]]:
    """For numbers of 1, 2, 3 … digits: the largest one of the smaller size, that size, and the larger one. A
    number too large for 64 bits is stored as text."""
    table = [(b"", 0, 0)]
    sizes = [*largest.items(), (0, 10**_MOST_DIGITS)]
    for count in range(1, _MOST_DIGITS + 1):
        possible = [(size, most) for size, most in sizes if most >= 10 ** (count - 1)]
        (smaller, most), (larger, _) = possible[0], possible[min(1, len(possible) - 1)]
        if most >= 10**count:
            table.append((b"9" * count, smaller, smaller))
        else:
            table.append((b"%d" % most, smaller, larger or sign + count + 2))
    return table


_POSITIVE_BY_DIGITS = _by_digits(_POSITIVE, 0)
_NEGATIVE_BY_DIGITS = _by_digits(_NEGATIVE, 1)


def entry_bytes(element: bytes) -> int:
    """What an element takes in a listpack."""
    length = len(element)
    if length >= 64:
        return _with_back_length(length + (2 if length < 4096 else 5))
    if length > _MOST_DIGITS + 1 or element[:1] > b"9":
        return length + 2
    if element.isdigit():
        digits, table = element, _POSITIVE_BY_DIGITS
    else:
        digits, table = element[1:], _NEGATIVE_BY_DIGITS
        if element[:1] != b"-" or not digits.isdigit():
            return length + 2
    if (length > _MOST_DIGITS and digits is element) or (digits[:1] == b"0" and element != b"0"):
        return length + 2
    largest, smaller, larger = table[len(digits)]
    return smaller if digits <= largest else larger


def _with_back_length(size: int) -> int:
    """The bytes of an entry with its own length behind it, in 7 bits a byte, for those who read backwards."""
    if size <= 127:
        return size + 1
    if size < 16383:
        return size + 2
    if size < 2097151:
        return size + 3
    return size + (4 if size < 268435455 else 5)
