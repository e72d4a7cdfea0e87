"""The log's threads: what waits for the disk does it here, not in the thread that serves commands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from shardkv import clock, limits


class Background:
    """One thread that fsyncs, and one that does the steps of a rewrite, each in its turn."""

    def __init__(self) -> None:
        self._steps = ThreadPoolExecutor(1, "aof-rewrite")
        self._due = threading.Event()
        self._stopping = threading.Event()
        self._syncer: threading.Thread | None = None

    def run(self, step: Callable[[], None]) -> None:
        """Does a step after those that were given before."""
        self._steps.submit(step)

    def sync_later(self, sync: Callable[[], None]) -> None:
        """Calls `sync` soon, but not sooner than `limits.FSYNC_INTERVAL_S` after the last time."""
        if self._syncer is None:
            self._syncer = threading.Thread(
                target=self._sync_when_due, args=(sync,), name="aof-fsync", daemon=True
            )
            self._syncer.start()
        self._due.set()

    def stop(self) -> None:
        """Ends both threads, after the steps that were given and the fsync that is under way."""
        self._stopping.set()
        self._due.set()
        self._steps.shutdown()
        if self._syncer is not None:
            self._syncer.join()

    def _sync_when_due(self, sync: Callable[[], None]) -> None:
        last_s = clock.monotonic()
        while True:
            self._due.wait()
            self._stopping.wait(max(0.0, last_s + limits.FSYNC_INTERVAL_S - clock.monotonic()))
            if self._stopping.is_set():
                return
            self._due.clear()
            last_s = clock.monotonic()
            sync()
