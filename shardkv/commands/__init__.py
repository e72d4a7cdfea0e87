"""The commands that shards run, one module a family. Importing this declares them all."""

from shardkv.commands import (
    counters,
    databases,
    debug,
    expire,
    generic,
    internal,
    lcs,
    list_moves,
    lists,
    mset,
    scan,
    set_algebra,
    sets,
    strings,
    transfer,
)

__all__ = [
    "counters",
    "databases",
    "debug",
    "expire",
    "generic",
    "internal",
    "lcs",
    "list_moves",
    "lists",
    "mset",
    "scan",
    "set_algebra",
    "sets",
    "strings",
    "transfer",
]
