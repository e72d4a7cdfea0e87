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
    "strings",
    "transfer",
]
