"""The first line of a script or library: `#!lua name=… flags=…`."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from shardkv import errors
from shardkv.errors import CommandError


class ScriptFlag(enum.IntFlag):
    """What a script says of itself; the names are those that scripts write."""

    NO_WRITES = enum.auto()
    ALLOW_OOM = enum.auto()
    ALLOW_STALE = enum.auto()
    NO_CLUSTER = enum.auto()
    ALLOW_CROSS_SLOT_KEYS = enum.auto()

    @property
    def written(self) -> list[bytes]:
        """The names of the flags that are set."""
        return [name for name, flag in FLAGS.items() if flag in self]


FLAGS = {flag.name.lower().replace("_", "-").encode(): flag for flag in ScriptFlag if flag.name}
NO_SCRIPT_FLAGS = ScriptFlag(0)

_NAME = re.compile(rb"[A-Za-z0-9_]+")


class Prologue(NamedTuple):
    """What stands before a script's code. Without a shebang `flags` is None."""

    flags: ScriptFlag | None
    code: bytes


def read_script(body: bytes) -> Prologue:
    """Takes the shebang off the body of EVAL. Raises CommandError."""
    if not body.startswith(b"#!"):
        return Prologue(None, body)
    end = body.find(b"\n")
    if end < 0:
        raise CommandError(errors.INVALID_SHEBANG)
    words = body[:end].split()
    if words[0] != b"#!lua":
        raise CommandError(errors.unexpected_engine(words[0]))
    flags = NO_SCRIPT_FLAGS
    for option in words[1:]:
        if not option.startswith(b"flags="):
            raise CommandError(errors.unknown_shebang_option(option))
        for name in filter(None, option.removeprefix(b"flags=").split(b",")):
            if name not in FLAGS:
                raise CommandError(errors.unexpected_shebang_flag(name))
            flags |= FLAGS[name]
    return Prologue(flags, body[end:])


def read_library(code: bytes) -> tuple[bytes, bytes]:
    """The name of a library, and its code without the shebang. Raises CommandError."""
    if not code.startswith(b"#!"):
        raise CommandError(errors.MISSING_LIBRARY_METADATA)
    end = code.find(b"\n")
    if end < 0:
        raise CommandError(errors.INVALID_LIBRARY_METADATA)
    engine, *options = code[2:end].split() or [b""]
    name = None
    for option in options:
        if not option.lower().startswith(b"name="):
            raise CommandError(errors.invalid_metadata(option))
        if name is not None:
            raise CommandError(errors.LIBRARY_NAMED_TWICE)
        name = option[len(b"name=") :]
    if name is None:
        raise CommandError(errors.LIBRARY_NOT_NAMED)
    if not _NAME.fullmatch(name):
        raise CommandError(errors.INVALID_LIBRARY_NAME)
    if engine.lower() != b"lua":
        raise CommandError(errors.engine_not_found(engine))
    return name, code[end:]
