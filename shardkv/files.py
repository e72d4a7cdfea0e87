"""Files that are written anew as a whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def replace(path: Path, content: bytes, mode: int) -> None:
    """Writes the file anew under another name, with these permissions, and gives it its own when it is safely
    on the disk. Raises OSError, and leaves what was there, if it cannot be written."""
    descriptor, written = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(written, path)
    except BaseException:
        os.unlink(written)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
