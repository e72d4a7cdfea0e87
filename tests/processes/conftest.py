"""Servers that several tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes.server import Shardkv, shardkv
from tests.twin.servers import Server, valkey


@pytest.fixture(scope="session", params=[1, 2], ids=["1 proxy", "2 proxies"])
def server(request: pytest.FixtureRequest) -> Iterator[Shardkv]:
    """A server with one or two proxies, which tests must leave as they found it."""
    with shardkv(proxies=request.param, workers=2, enable_debug_command="local") as running:
        yield running


@pytest.fixture(scope="session")
def debuggable_twin() -> Iterator[Server]:
    """A real server that allows DEBUG."""
    with valkey(enable_debug_command="local") as server:
        yield server
