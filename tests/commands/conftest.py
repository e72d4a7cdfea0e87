"""Fixtures for tests of commands."""

from __future__ import annotations

import pytest

from tests.local import Local


@pytest.fixture(
    params=[(1, False), (3, False), (3, True)], ids=["1 shard", "3 shards", "3 shards of several proxies"]
)
def local(request: pytest.FixtureRequest) -> Local:
    """One shard, and several that lock what they read or not."""
    shards, lock_reads = request.param
    return Local(shards, lock_reads=lock_reads)
