"""Fuzzing for a while; see tests/fuzz/__main__.py for more of it."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.processes.server import ROOT
from tests.wire import pack

TARGETS = ("requests", "frames")
SECONDS = 120


@pytest.mark.slow
@pytest.mark.timeout(SECONDS * 2)
@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="pip install '.[fuzz]' brings atheris"
)
@pytest.mark.parametrize("target", TARGETS)
def test_guided(target: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", target, f"-max_total_time={SECONDS}", "-rss_limit_mb=4096"]
    done = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/"], cwd=ROOT, capture_output=True, text=True
    )
    print(done.stderr[-1000:])
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("target", TARGETS)
def test_at_random(target: str) -> None:
    draw = random.Random(1)
    seeds = [
        pack("SET", "key", "value"),
        b"PING\r\n",
        b"*1\r\n$4\r\nPING\r\n" * 3,
        b"set 'a b' \"c\\x00\"\r\n",
    ]
    for _ in range(3000):
        data = bytearray(b"\x00\x05" + draw.choice(seeds))
        for _ in range(draw.randrange(4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        getattr(targets, target)(bytes(data))
