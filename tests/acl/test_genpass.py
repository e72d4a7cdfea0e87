"""Passwords that are made."""

from __future__ import annotations

import pytest

from shardkv import errors
from shardkv.acl.genpass import genpass
from shardkv.errors import CommandError


@pytest.mark.parametrize(("bits", "digits"), [(1, 1), (4, 1), (5, 2), (9, 3), (256, 64), (4096, 1024)])
def test_as_many_bits_as_asked_for(bits: int, digits: int) -> None:
    made = genpass(bits)
    assert len(made) == digits
    assert int(made, 16) >= 0


def test_no_two_are_the_same() -> None:
    assert len({genpass() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("bits", [0, -1, 4097])
def test_bounds(bits: int) -> None:
    with pytest.raises(CommandError) as refused:
        genpass(bits)
    assert refused.value.text == errors.GENPASS_BITS
