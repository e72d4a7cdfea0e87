"""Runs an application's jobs against a server: `python -m tests.applications celery PORT JOBS`.

Prints the counts in one line of JSON; everything else goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from importlib import import_module


def main(application: str, port: str, jobs: str) -> None:
    """Gives the application its jobs and waits for all of them."""
    with tempfile.TemporaryDirectory(prefix="ledger-") as ledger:
        os.environ |= {"APPLICATION_PORT": port, "APPLICATION_LEDGER": ledger}
        program = import_module(f"tests.applications.{application}_jobs")
        began = time.monotonic()
        report = program.run(int(jobs))
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps(report.counts() | {"seconds": seconds}))


main(*sys.argv[1:])
