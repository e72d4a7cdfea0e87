"""Job queues in their own releases run on this server as on a real one: each job as often as it has to.

`make applications` installs them, in an environment of their own.
"""

from __future__ import annotations

import json
import operator
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest

from tests.processes.server import ROOT, shardkv
from tests.twin.servers import Server, valkey

JOBS = 100
TIMEOUT_S = 90.0

ENVIRONMENT = ROOT / ".venv-applications" / "bin"
HERE = Path(__file__).parent

# What every application has to come to: jobs with a 3 at their end fail once, those with a 7 are put off,
# every twenty-fifth fails twice.
COUNTS = {"done": 96, "retried": 10, "delayed": 10, "failed": 4, "runs": 114}

APART = "4-shards-nothing-colocated"
SERVERS: dict[str, Callable[[], AbstractContextManager[Server]]] = {
    "1-shard": lambda: shardkv(workers=1),
    "4-shards": lambda: shardkv(workers=4),
    APART: lambda: shardkv(workers=4, colocate=""),
    "valkey": valkey,
}


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter that has the applications."""
    interpreter = ENVIRONMENT / "python"
    if not interpreter.exists():
        pytest.skip("the applications are not installed: make applications")
    return str(interpreter)


@pytest.fixture(scope="module")
def node() -> str:
    """The one for those of Node.js."""
    interpreter = shutil.which("node", path=f"{os.environ['PATH']}:{ENVIRONMENT}")
    if interpreter is None or not (HERE / "node_modules").exists():
        pytest.skip("node or its packages are not installed: make applications")
    return interpreter


@pytest.fixture(params=["1-shard", "4-shards", APART, pytest.param("valkey", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A fresh server of each kind. Where nothing is kept together, keys have to lie apart in fact."""
    with SERVERS[request.param]() as running:
        fresh = log_sizes(running)
        yield running
        if request.param == APART:
            assert sum(map(operator.ne, fresh, log_sizes(running))) > 1


def log_sizes(server: Server) -> list[int]:
    """How long the append-only file of each shard is."""
    with server.connect() as client:
        return [
            shard["aof_size"] for name, shard in client.info("shards").items() if name.startswith("shard")
        ]


@pytest.mark.parametrize(
    ("application", "more"),
    [
        ("celery", {"chords": 1}),
        ("rq", {"dependents": 1}),
        ("dramatiq", {"groups": 1}),
        ("arq", {"refused": 1}),
        ("saq", {}),
        ("huey", {"urgent": 20}),
    ],
)
def test_jobs_of_python(python: str, server: Server, application: str, more: dict[str, int]) -> None:
    assert counts(server, python, "-m", "tests.applications", application) == COUNTS | more


@pytest.mark.parametrize(
    ("application", "more"),
    [
        ("bullmq", {"flows": 5, "ranked": 20}),
        ("bee_queue", {"succeeded": 96, "lost": 4}),
    ],
)
def test_jobs_of_node(node: str, server: Server, application: str, more: dict[str, int]) -> None:
    assert counts(server, node, str(HERE / f"{application}_jobs.js")) == COUNTS | more


def counts(server: Server, *program: str) -> dict[str, int]:
    """Has a program give the server its jobs; returns what it counts. What it has started ends with it."""
    log = server.folder / "application.log"
    with log.open("w") as errors:
        running = subprocess.Popen(
            [*program, str(server.port), str(JOBS)],
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            printed, _ = running.communicate(timeout=TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    assert running.returncode == 0, log.read_text()
    found: dict[str, int] = json.loads(printed)
    del found["seconds"]
    return found
