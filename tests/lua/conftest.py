"""Fixtures for tests of scripts."""

from __future__ import annotations

import pytest

from shardkv.lua import Engine


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An engine that many scripts run in, one after the other, as in a server."""
    return Engine()
