"""The commands that proxies answer themselves. Importing this declares them all."""

from proxy.commands import (
    client,
    command,
    config,
    connection,
    info,
    pubsub,
    server,
    transactions,
    wait,
)

__all__ = [
    "client",
    "command",
    "config",
    "connection",
    "info",
    "pubsub",
    "server",
    "transactions",
    "wait",
]
