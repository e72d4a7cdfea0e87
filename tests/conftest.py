"""Fixtures of all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import redis
from hypothesis import settings

from tests.twin.servers import Server, valkey

# How long an example takes says something about the machine, not about what is tested. Where CI is set the
# examples are the same each time; everywhere else new ones are tried.
settings.register_profile("shardkv", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("shardkv")


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
