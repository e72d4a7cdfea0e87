"""The digits of a double as Redis 7.2 and later write them.

Redis has them from Grisu2 (Loitsch, Printing Floating-Point Numbers Quickly and Accurately with Integers,
2010). That calculates with 64 bits, so that it cannot tell whether a number very close to half the way to the
next double still reads back as the right one, and goes on to a further digit instead. So one double in a
thousand gets more digits than the fewest that would do, which Python writes.
"""

from __future__ import annotations

import math
from functools import cache

_BITS = 64
_MANTISSA_BITS = 53
_LEAST_MANTISSA = 1 << _MANTISSA_BITS - 1
_LEAST_EXPONENT = -1074

_FIRST_POWER, _STEP, _POWERS = -348, 8, 87
"""The powers of ten that numbers are multiplied with: from 10 ** -348 on each eighth, 87 in all."""

_LOWEST, _HIGHEST = -60, -32
"""What the exponents of the products, as integers of 64 bits, lie between."""

_HALF = 1 << 31


def digits(number: float, last: int) -> tuple[int, int]:
    """The digits of a finite positive number as an integer, and the power of ten of the last one.

    last    the power of ten of the last one of the fewest digits that would do.
    """
    exponent = max(math.frexp(number)[1] - _MANTISSA_BITS, _LEAST_EXPONENT)
    mantissa = int(math.ldexp(number, -exponent))
    shift = _BITS - 1 - mantissa.bit_length()
    power, point, ten = _power_for(exponent - 1 - shift)
    # The number, and half the way to the next one and to the one before, which is nearer below a power of
    # two: the upper 64 bits of their products with the power, rounded. As that may be wrong by one, the room
    # between the two is made smaller.
    own = ((mantissa << shift + 1) * power >> 32) + _HALF >> 32
    upper = (((2 * mantissa + 1) << shift) * power >> 32) + _HALF >> 32
    below = 4 * mantissa - (1 if mantissa == _LEAST_MANTISSA else 2)
    lower = ((below << shift - 1) * power >> 32) + _HALF >> 32
    upper -= 1
    room = upper - lower - 1
    # All of them have `point` bits behind the point, and are `ten` powers of ten too large.
    place = last + ten
    while True:
        scale, unit = (10**-place, 1 << point) if place < 0 else (1, 10**place << point)
        found, rest = divmod(upper * scale, unit)
        if rest < room * scale or (rest == room and place >= 0):
            break
        place -= 1
    # Of the numbers with so many digits the one nearest to the double.
    target, room = (upper - own) * scale, room * scale
    while (
        rest < target
        and room - rest >= unit
        and (rest + unit < target or target - rest > rest + unit - target)
    ):
        found -= 1
        rest += unit
    return found, place - ten


@cache
def _power_for(exponent: int) -> tuple[int, int, int]:
    """The power that integers of 64 bits with this exponent are multiplied with: its mantissa, how many bits
    behind the point the products have, and which power of ten it is."""
    index = (int(-(exponent + _POWERS) * 0.30102999566398114) - _FIRST_POWER) // _STEP
    while True:
        mantissa, power_exponent = _power(_FIRST_POWER + _STEP * index)
        product = exponent + power_exponent + _BITS
        if product < _LOWEST:
            index += 1
        elif product > _HIGHEST:
            index -= 1
        else:
            return mantissa, -product, _FIRST_POWER + _STEP * index


@cache
def _power(power: int) -> tuple[int, int]:
    """The mantissa of 64 bits and the exponent of a power of ten."""
    numerator, denominator = (10**power, 1) if power >= 0 else (1, 10**-power)
    exponent = numerator.bit_length() - denominator.bit_length() - _BITS
    mantissa = _scaled(numerator, denominator, exponent)
    while mantissa.bit_length() != _BITS:
        exponent += mantissa.bit_length() - _BITS
        mantissa = _scaled(numerator, denominator, exponent)
    return mantissa, exponent


def _scaled(numerator: int, denominator: int, exponent: int) -> int:
    """The integer nearest to `numerator / denominator / 2 ** exponent`."""
    if exponent < 0:
        numerator <<= -exponent
    else:
        denominator <<= exponent
    return (2 * numerator + denominator) // (2 * denominator)
