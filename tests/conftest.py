"""Fixtures of all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.twin.servers import Server, valkey


@pytest.fixture(scope="session")
def twin_server() -> Iterator[Server]:
    """A real server that answers what ours should."""
    with valkey() as server:
        yield server


@pytest.fixture(scope="session")
def twin(twin_server: Server) -> Iterator[redis.Redis]:
    """A client of the real server, which gives replies as bytes."""
    client = twin_server.connect()
    yield client
    client.close()
