"""The commands that shards run, one module a family. Importing this declares them all."""

from shardkv.commands import (
    generic,
    internal,
    strings,
)

__all__ = ["generic", "internal", "strings"]
