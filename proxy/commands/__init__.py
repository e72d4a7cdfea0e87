"""The commands that proxies answer themselves. Importing this declares them all."""

from proxy.commands import (
    acl,
    client,
    command,
    commandlog,
    config,
    connection,
    info,
    latency,
    memory,
    monitor,
    pubsub,
    server,
    snapshots,
    tracking,
    transactions,
    wait,
)

__all__ = [
    "acl",
    "client",
    "command",
    "commandlog",
    "config",
    "connection",
    "info",
    "latency",
    "memory",
    "monitor",
    "pubsub",
    "server",
    "snapshots",
    "tracking",
    "transactions",
    "wait",
]
