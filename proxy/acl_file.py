"""The file of the setting aclfile: a line for each user."""

from __future__ import annotations

import os
from pathlib import Path

from shardkv import errors, files, limits
from shardkv.errors import CommandError
from shardkv.settings import Config

_MODE = 0o600


def path_of(config: Config) -> Path:
    """Where it is; a relative path starts in the folder of the setting dir, as in Redis."""
    return Path(config.dir) / config.aclfile


def read(path: Path) -> list[bytes]:
    """Its lines. Raises CommandError if it cannot be read, or is too long to be told to all processes."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CommandError(errors.acl_file_unreadable(str(path), error.strerror)) from None
    if len(content) > limits.MAX_ACL_FILE_BYTES:
        raise CommandError(errors.acl_file_unreadable(str(path), "it is too long"))
    return content.split(b"\n")


def write(path: Path, lines: list[bytes]) -> None:
    """Has it say these lines; nobody but the server's own user may read it. Raises OSError, and leaves it as
    it was, if it cannot be written."""
    files.replace(Path(os.path.realpath(path)), b"".join(line + b"\n" for line in lines), _MODE)
