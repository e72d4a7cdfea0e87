"""The server between us and the kernel: its calls for files below its folder fail, are slow or are its last
ones, as a test says; or are written down, so that a power cut can be played (see tests.faults.power).

`with shimmed(tmp_path) as shim, shardkv(shim.folder) as server: shim.write_errno = errno.EIO`. Needs gcc.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from shardkv import clock

AOF, SIDE_LOG, MANIFEST, SLOT_MAP, FOLDER = 1, 2, 4, 8, 16
"""Kinds of files."""
EVERYTHING = 31

UNLIMITED = -1

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc to build the shim")

_FIELDS = (
    "kinds",
    "write_errno",
    "room",
    "sync_errno",
    "sync_delay_us",
    "calls",
    "dies_at",
    "failed",
    "torn_percent",
)
_NUMBER = struct.Struct("q")


class Shim:
    """What the calls of a server are subject to; may be changed while it runs.

    kinds: of files that are meant. write_errno: what writing fails with, 0 for nothing. room: bytes that
    can still be written before ENOSPC, files be created only if there are any. sync_errno: what fsync fails
    with. sync_delay_us: how long it takes longer. calls: changes of files since this was set to 0; at the
    call of the number `dies_at` the process dies, after `torn_percent` of it if it is a write. failed:
    calls that were made to fail. folder: the server's. trace, graves: where what it does is written down,
    and where files stay.
    """

    kinds: int
    write_errno: int
    room: int
    sync_errno: int
    sync_delay_us: int
    calls: int
    dies_at: int
    failed: int
    torn_percent: int

    def __init__(self, folder: Path, rules: mmap.mmap, trace: Path, graves: Path) -> None:
        self.__dict__.update(folder=folder, trace=trace, graves=graves, _rules=rules)
        self.folder: Path
        self.trace: Path
        self.graves: Path

    def __getattr__(self, name: str) -> Any:
        if name not in _FIELDS:
            raise AttributeError(name)
        return _NUMBER.unpack_from(self.__dict__["_rules"], 8 * _FIELDS.index(name))[0]

    def __setattr__(self, name: str, value: int) -> None:
        _NUMBER.pack_into(self.__dict__["_rules"], 8 * _FIELDS.index(name), value)

    def well(self) -> None:
        """From now on everything works."""
        self.write_errno = self.sync_errno = self.sync_delay_us = self.dies_at = 0
        self.room = UNLIMITED
        self.kinds = EVERYTHING


@cache
def _library() -> Path:
    source = Path(__file__).with_name("shim.c")
    library = Path(os.environ.get("TMPDIR", "/tmp"), f"shardkv-shim-{os.getpid()}.so")
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


@contextmanager
def shimmed(tmp_path: Path, *, traced: bool = False) -> Iterator[Shim]:
    """Servers that are started in the block work through a shim, if their folder is its folder."""
    folder, graves = tmp_path / "data", tmp_path / "graves"
    folder.mkdir()
    graves.mkdir()
    rules, trace = tmp_path / "rules", tmp_path / "trace"
    rules.write_bytes(bytes(mmap.PAGESIZE))
    trace.touch()
    with rules.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        shim = Shim(folder, shared, trace, graves)
        shim.well()
        variables = {"LD_PRELOAD": str(_library()), "SHIM_FOLDER": str(folder), "SHIM_RULES": str(rules)}
        if traced:
            variables |= {"SHIM_TRACE": str(trace), "SHIM_GRAVES": str(graves)}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            yield shim


class Acknowledged:
    """Adds to a shim's trace what a client was told is done."""

    def __init__(self, shim: Shim) -> None:
        self._fd = os.open(shim.trace, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def note(self, *words: str | int) -> None:
        """Writes down, with the time, that these are acknowledged."""
        line = " ".join(map(str, (int(clock.monotonic() * 1000), "acknowledged", *words)))
        os.write(self._fd, f"{line}\n".encode())
