"""Floating point numbers of 80 bits, as INCRBYFLOAT and HINCRBYFLOAT calculate with them.

Redis on x86-64 adds with C's `long double`, whose 64 bits of mantissa make 0.1 + 0.2 come out as 0.3. Python
has no such type, so here it is made of integers: exact sums, rounded to the nearest number that has 64 bits,
ties to even.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from shardkv import errors
from shardkv.errors import CommandError

_MANTISSA_BITS = 64
_LEAST_EXPONENT = -16445
"""Of the smallest denormal number."""
_END_EXPONENT = 16384
"""Numbers from 2 to this power on are too large."""

_DECIMAL = re.compile(rb"([+-]?)(?=\.?\d)(\d*)\.?(\d*)(?:[eE]([+-]?\d+))?")
_HEXADECIMAL = re.compile(
    rb"([+-]?)0[xX](?=\.?[0-9a-fA-F])([0-9a-fA-F]*)\.?([0-9a-fA-F]*)(?:[pP]([+-]?\d+))?"
)
_INFINITY = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)

_MAX_TEXT_BYTES = 5 * 1024
"""Of a number that Redis reads (MAX_LONG_DOUBLE_CHARS)."""
_MAX_POWER = 20_000
"""Powers, of 10 or of 2, beyond this make any text of that length too large or too small."""

_DECIMALS = 17
"""Digits after the point that Redis writes (`%.17Lf`)."""


_DIGITS_AT_A_TIME = 2500
_TOO_LONG = 10**_DIGITS_AT_A_TIME


class LongDouble(NamedTuple):
    """The number `mantissa * 2 ** exponent`, or infinity, which has no mantissa."""

    mantissa: int | None
    exponent: int = 0


INFINITY = LongDouble(None)


def parse(text: bytes, error: bytes = errors.NOT_A_FLOAT) -> LongDouble:
    """The number that `text` spells, as strtold reads it, the whole of it; INFINITY for either infinity.

    Raises CommandError(error) for anything else, NaN and numbers out of range among them.
    """
    if len(text) >= _MAX_TEXT_BYTES:
        raise CommandError(error)
    for spelling, base, power_base, bits in ((_DECIMAL, 10, 10, 1), (_HEXADECIMAL, 16, 2, 4)):
        match = spelling.fullmatch(text)
        if match:
            sign, whole, fraction, power = match.groups()
            digits = _integer(whole + fraction) if base == 10 else int(whole + fraction, base)
            exponent = _integer(power or b"0") - len(fraction) * bits
            number = _scaled(-digits if sign == b"-" else digits, power_base, exponent)
            if number is INFINITY or (digits and not number.mantissa):
                raise CommandError(error)
            return number
    if _INFINITY.fullmatch(text):
        return INFINITY
    raise CommandError(error)


def _scaled(digits: int, base: int, power: int) -> LongDouble:
    """The number nearest to `digits * base ** power`."""
    power = max(-_MAX_POWER, min(power, _MAX_POWER))
    if power >= 0:
        return _rounded(digits * base**power, 1)
    return _rounded(digits, base**-power)


def _rounded(numerator: int, denominator: int, exponent: int = 0) -> LongDouble:
    """The number nearest to `numerator / denominator * 2 ** exponent`."""
    magnitude = abs(numerator)
    # So many places to the left make a quotient of at least 64 bits, and one of 65 is divided again.
    shift = max(0, _MANTISSA_BITS + denominator.bit_length() - magnitude.bit_length())
    excess = max(
        ((magnitude << shift) // denominator).bit_length() - _MANTISSA_BITS,
        _LEAST_EXPONENT - (exponent - shift),
        0,
    )
    mantissa = _divided(magnitude << shift, denominator << excess)
    exponent += excess - shift
    if mantissa.bit_length() + exponent > _END_EXPONENT:
        return INFINITY
    return LongDouble(-mantissa if numerator < 0 else mantissa, exponent)


def _divided(numerator: int, denominator: int) -> int:
    """The quotient of two positive numbers, rounded to the nearest integer, ties to even."""
    quotient, remainder = divmod(numerator, denominator)
    if 2 * remainder > denominator or (2 * remainder == denominator and quotient & 1):
        quotient += 1
    return quotient


def add(one: LongDouble, other: LongDouble) -> LongDouble:
    """The sum. Raises CommandError if it would be no finite number."""
    if one.mantissa is not None and other.mantissa is not None:
        exponent = min(one.exponent, other.exponent)
        exact = (one.mantissa << one.exponent - exponent) + (other.mantissa << other.exponent - exponent)
        total = _rounded(exact, 1, exponent)
        if total is not INFINITY:
            return total
    raise CommandError(errors.NAN_OR_INFINITY)


def format_decimal(number: LongDouble) -> bytes:
    """A finite number with up to 17 digits after the point and no zeros at its end, never with an
    exponent."""
    mantissa, exponent = number
    assert mantissa is not None
    magnitude = abs(mantissa) * 10**_DECIMALS
    scaled = magnitude << exponent if exponent >= 0 else _divided(magnitude, 1 << -exponent)
    whole, fraction = divmod(scaled, 10**_DECIMALS)
    sign = b"-" if mantissa < 0 and scaled else b""
    decimals = (b"%017d" % fraction).rstrip(b"0")
    return b"%b%b%b%b" % (sign, _digits(whole), b"." if decimals else b"", decimals)


def _integer(text: bytes) -> int:
    """The integer of a decimal text, however long: Python reads a few thousand digits at once."""
    head, tail = text[:_DIGITS_AT_A_TIME], text[_DIGITS_AT_A_TIME:]
    if not tail:
        return int(head)
    rest = _integer(tail)
    shifted: int = int(head) * 10 ** len(tail)
    return shifted - rest if head.startswith(b"-") else shifted + rest


def _digits(number: int) -> bytes:
    """The decimal text of a natural number, however long."""
    if number < _TOO_LONG:
        return b"%d" % number
    high, low = divmod(number, _TOO_LONG)
    return _digits(high) + b"%0*d" % (_DIGITS_AT_A_TIME, low)
