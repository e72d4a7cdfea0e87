"""The format of a batch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkv.aof import batch


def test_the_format_does_not_change_unnoticed() -> None:
    header, checksum = batch.seal(b"*1\r\n$4\r\nPING\r\n", batch.seed_of("appendonly.aof.1.incr.aof"))
    assert header == b"#shardkv df6193eff39e2229 000000000014\r\n"
    assert checksum == 0xDF6193EFF39E2229


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1), st.sampled_from([b"", b"txid=17", b"a=1 b=2"]))
def test_a_header_parses_back(body: bytes, previous: int, keys: bytes) -> None:
    header, checksum = batch.seal(body, previous, keys)
    parsed = batch.parse_header(b"xyz" + header + body, 3)
    assert parsed == batch.Header(checksum, len(body), keys, len(header))
    assert batch.checksum_matches(memoryview(header + body + b"more"), previous, parsed)
    assert not batch.checksum_matches(memoryview(header + body), previous ^ 1, parsed)


def test_redis_can_skip_every_header() -> None:
    longest = b"k=" + b"x" * 56
    header, _ = batch.seal(b"", 0, longest)
    assert header.startswith(b"#")
    assert header.endswith(b"\r\n")
    assert len(header) == batch.MAX_HEADER_BYTES == 99
    assert batch.fits_header(longest)
    assert not batch.fits_header(longest + b"x")


@pytest.mark.parametrize("keys", [b"a  b", b" a", b"a ", b"a\r\n", b"a\x00", b"\xff"])
def test_keys_that_are_no_words_do_not_fit(keys: bytes) -> None:
    assert not batch.fits_header(keys)


@pytest.mark.parametrize("keys", [b"", b"a", b"txid=17 shards=0,1"])
def test_the_beginning_of_a_header_is_known_as_such(keys: bytes) -> None:
    header, _ = batch.seal(b"body", 5, keys)
    for size in range(len(header)):
        assert batch.could_begin_header(header[:size])
        assert batch.parse_header(header[:size], 0) is None
    for size in range(1, len(header)):
        for at in range(size):
            changed = bytearray(header[:size])
            changed[at] = 1
            assert not batch.could_begin_header(bytes(changed))
