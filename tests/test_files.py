"""Files that are written anew: all of it or nothing."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from shardkv import files


def test_a_file_has_its_new_content_and_permissions(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"another"):
        files.replace(path, content, 0o600)
        assert path.read_bytes() == content
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace", "fchmod"])
def test_what_cannot_be_written_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    files.replace(path, b"before", 0o600)
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        files.replace(path, b"after", 0o600)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
