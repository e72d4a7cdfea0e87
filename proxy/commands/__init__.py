"""The commands that proxies answer themselves. Importing this declares them all."""

from proxy.commands import (
    client,
    command,
    config,
    connection,
    info,
    server,
    transactions,
    wait,
)

__all__ = ["client", "command", "config", "connection", "info", "server", "transactions", "wait"]
