"""The library `bit`: operations on 32-bit integers, as LuaBitOp has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import and_, or_, xor
from typing import Any

from shardkv.lua.packing import given, number_of
from shardkv.lua.state import State

_MASK = 0xFFFFFFFF


def bit_library(state: State) -> dict[bytes, Any]:
    """The functions of `bit`."""

    def bits(args: tuple[Any, ...], position: int) -> int:
        number = number_of(state, given(args, position), position)
        if number.__class__ is int:
            return int(number) & _MASK
        if number != number or abs(number) >= 2**52:
            # As adding 2**52 + 2**51 and taking the low half of the double has it.
            return 0 if number != number or abs(number) == float("inf") else int(number) & _MASK
        return round(number) & _MASK

    def folded(operation: Callable[[int, int], int]) -> Callable[..., int]:
        def fold(*args: Any) -> int:
            first = bits(args, 1)
            rest = (bits(args, position) for position in range(2, len(args) + 1))
            return _signed(reduce(operation, rest, first))

        return fold

    def shifted(shift: Callable[[int, int], int]) -> Callable[..., int]:
        return lambda *args: _signed(shift(bits(args, 1), bits(args, 2) & 31))

    def to_hex(*args: Any) -> bytes:
        number = bits(args, 1)
        digits = 8 if len(args) < 2 else _signed(bits(args, 2))
        text = b"%08x" % number if digits >= 0 else b"%08X" % number
        count = min(8, abs(digits))
        return text[8 - count :]

    return {
        b"tobit": lambda *args: _signed(bits(args, 1)),
        b"bnot": lambda *args: _signed(~bits(args, 1)),
        b"band": folded(and_),
        b"bor": folded(or_),
        b"bxor": folded(xor),
        b"lshift": shifted(lambda number, count: number << count),
        b"rshift": shifted(lambda number, count: number >> count),
        b"arshift": shifted(lambda number, count: _signed(number) >> count),
        b"rol": shifted(lambda number, count: number << count | number >> (32 - count)),
        b"ror": shifted(lambda number, count: number >> count | number << (32 - count)),
        b"bswap": lambda *args: _signed(int.from_bytes(bits(args, 1).to_bytes(4, "little"), "big")),
        b"tohex": to_hex,
    }


def _signed(number: int) -> int:
    number &= _MASK
    return number - (1 << 32) if number >> 31 else number
