"""Filling a data folder from an RDB file by several processes at once.

Each reads the whole file and makes the logs of some shards: to pass over a value takes far less time than to
make it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from proxy.transfer.connection import TransferError
from proxy.transfer.copying import Choice, Summary, copy
from proxy.transfer.into import NewFolder
from proxy.transfer.sources import mapped
from shardkv import slots
from shardkv.rdb.file_reader import FileReader, RdbDamaged

Report = Callable[[int], None]


def fill(folder: NewFolder, path: Path, choice: Choice, report: Report) -> Summary:
    """Puts what is chosen of an RDB file into a data folder. `report` is told how many bytes of the file are
    done. Raises TransferError."""
    processes = min(folder.shards, os.cpu_count() or 1)
    parts = [range(number, folder.shards, processes) for number in range(processes)]
    context = get_context("spawn")
    pipes: dict[Pipe, int] = {}
    running = []
    for number, shards in enumerate(parts):
        ours, theirs = context.Pipe(duplex=False)
        lock = DupFd(folder.lock_fd)
        process = context.Process(target=_fill, args=(folder, lock, list(shards), path, choice, theirs))
        process.start()
        theirs.close()
        running.append(process)
        pipes[ours] = number
    try:
        return _gather(pipes, report)
    finally:
        for process in running:
            process.terminate()
            process.join()


def _gather(pipes: dict[Pipe, int], report: Report) -> Summary:
    """What has come of all parts. Raises TransferError, as soon as one has failed."""
    summary = Summary()
    done = dict.fromkeys(pipes.values(), 0)
    while pipes:
        for pipe in wait(list(pipes)):
            assert isinstance(pipe, Pipe)
            try:
                message = pipe.recv()
            except EOFError:
                raise TransferError("a process of the import has died") from None
            if isinstance(message, int):
                done[pipes[pipe]] = message
                report(min(done.values()))
                continue
            del pipes[pipe]
            if isinstance(message, str):
                raise TransferError(message)
            summary.add(message)
    return summary


def _fill(
    folder: NewFolder, lock: Any, shards: Iterable[int], path: Path, choice: Choice, pipe: Pipe
) -> None:
    """One of the processes: sends how many bytes are done, then what has come of it, or why it failed."""
    # Held until this process ends, which may be some moments after its parent was killed.
    lock.detach()
    summary = Summary()
    slots.colocate(folder.config.colocate)
    try:
        source = FileReader(mapped(path), path)
        folder.write(list(shards), lambda logs: copy(source, logs, summary, choice, pipe.send))
    except (TransferError, RdbDamaged, OSError) as error:
        pipe.send(str(error))
    else:
        pipe.send(summary)
