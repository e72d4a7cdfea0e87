"""Numbers as Redis reads and writes them."""

from __future__ import annotations

import math
import re

from shardkv import errors, grisu
from shardkv.errors import CommandError

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1
UINT64_MAX = 2**64 - 1


def integer(text: bytes, error: bytes = errors.NOT_AN_INTEGER) -> int:
    """A signed 64-bit integer in its one canonical spelling (no plus sign, spaces or leading zeros).

    Raises CommandError(error) for anything else.
    """
    try:
        number = int(text)
    except ValueError:
        raise CommandError(error) from None
    if not INT64_MIN <= number <= INT64_MAX or b"%d" % number != text:
        raise CommandError(error)
    return number


def canonical_integer(text: bytes | bytearray) -> int | None:
    """The number that `text` is the canonical spelling of, or None. What Redis stores as an integer."""
    if not 0 < len(text) <= 20:
        return None
    try:
        number = int(text)
    except ValueError:
        return None
    return number if INT64_MIN <= number <= INT64_MAX and b"%d" % number == text else None


_FLOAT = re.compile(
    rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|0x(?:[0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p[+-]?\d+)?|inf(?:inity)?)",
    re.IGNORECASE,
)


_ZERO = re.compile(rb"[+-]?(?:0x)?[0.]+(?:[ep][+-]?\d+)?", re.IGNORECASE)

_SURELY_FINITE_DIGITS = 300


def double(text: bytes, error: bytes = errors.NOT_A_FLOAT) -> float:
    """A floating point number as strtod reads it, the whole text; infinities are allowed, NaN is not.

    Raises CommandError(error) for anything else, and for numbers too large or too small for a double.
    """
    if text.isdigit() and len(text) < _SURELY_FINITE_DIGITS:
        return float(text)
    number = strtod(text)
    if (
        number is None
        or (math.isinf(number) and b"n" not in text.lower())
        or (number == 0 and not _ZERO.fullmatch(text))
    ):
        raise CommandError(error)
    return number


def strtod(text: bytes) -> float | None:
    """A floating point number, the whole text, as C reads it: one too large is infinite, one too small 0.
    None for NaN and for what is no number."""
    if not _FLOAT.fullmatch(text):
        return None
    if b"x" not in text and b"X" not in text:
        return float(text)
    try:
        return float.fromhex(text.decode())
    except OverflowError:
        return -math.inf if text.startswith(b"-") else math.inf


def format_double(number: float) -> bytes:
    """A short text that reads back as the same double, spelled as Redis 7.2 does (its fpconv and d2string):
    integers without a point, exponents without padding."""
    if number.is_integer() and abs(number) <= _LAST_INTEGER:
        return b"-0" if number == 0 and math.copysign(1, number) < 0 else b"%d" % int(number)
    if math.isinf(number):
        return b"inf" if number > 0 else b"-inf"
    if math.isnan(number):
        return b"nan"
    found, exponent = grisu.digits(abs(number), _last_power(number))
    sign, digits = b"-" if number < 0 else b"", b"%d" % found
    # fpconv's emit_digits: `exponent` is K, the power of ten of the last digit.
    magnitude = abs(exponent + len(digits) - 1)
    if exponent >= 0 and magnitude < len(digits) + 7:
        return sign + digits + b"0" * exponent
    if exponent < 0 and (exponent > -7 or magnitude < 4):
        point = len(digits) + exponent
        if point <= 0:
            return sign + b"0." + b"0" * -point + digits
        return sign + digits[:point] + b"." + digits[point:]
    mantissa = digits if len(digits) == 1 else digits[:1] + b"." + digits[1:]
    power = exponent + len(digits) - 1
    return sign + mantissa + b"e%s%d" % (b"-" if power < 0 else b"+", magnitude)


_LAST_INTEGER = 2**62
"""Beyond this Redis does not write integers as such (double2ll)."""


def _last_power(number: float) -> int:
    """The power of ten of the last one of the fewest digits that tell a number from all others."""
    mantissa, _, power = repr(number).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction and fraction != "0":
        return int(power or 0) - len(fraction)
    return int(power or 0) + len(whole) - len(whole.rstrip("0"))
