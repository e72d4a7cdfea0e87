"""What tools need that work on a data folder while no server does."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from shardkv.settings import Config
from shardkv.slotmap import COLOCATED, FILE_NAME

LOCK_NAME = "shardkv.lock"
"""The file in a data folder that its server holds a lock on."""


def data_folder(folder: Path) -> Path:
    """Where the files of the shards are: in the folder itself, or in one in it of the name that
    `appenddirname` has by default. Raises ClickException if there is no data in either."""
    for candidate in (folder, folder / Config().appenddirname):
        if (candidate / COLOCATED).exists():
            raise click.ClickException(
                f"{candidate} was being laid out anew; start the server, which goes on"
            )
        if (candidate / FILE_NAME).exists() or any(candidate.glob("shard-*")):
            return candidate
    raise click.ClickException(f"there is no data in {folder}")


def lock(folder: Path) -> int:
    """Takes the data folder for this server alone; the lock goes with the last process that holds the
    returned file descriptor, so that no worker left over from a killed supervisor can share the folder with
    a new one."""
    fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise OSError(f"another server (pid {holder}) uses the data folder {folder}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


@contextmanager
def unused(folder: Path) -> Iterator[None]:
    """Sees to it that no server uses a data folder meanwhile. Raises ClickException if one does."""
    try:
        fd = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield  # no server ever has
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise click.ClickException(f"a server (pid {holder}) uses the data folder {folder}") from None
    try:
        yield
    finally:
        os.close(fd)


@contextmanager
def unlogged() -> Iterator[None]:
    """Keeps what reading finds from being logged: a tool says it in its own words."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def shard_folders(folder: Path) -> list[Path]:
    """The folders of the shards that have any, in order."""
    found = [path for path in folder.glob("shard-*") if path.name.removeprefix("shard-").isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("shard-")))
