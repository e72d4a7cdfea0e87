"""`shardkv backup`: copies what a running server holds at one moment, or what has come since."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxy.backup.store import Backup
from proxy.backup.taking import take
from proxy.offline import lock
from proxy.transfer.connection import parse_address
from proxy.transfer.opening import FAILURES
from proxy.transfer.screen import bar, console
from shardkv import clock


@click.command("backup")
@click.argument("destination", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--from", "source", default="redis://127.0.0.1:6379", show_default=True, help="The server, on this host."
)
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where its append-only files are seen from here, if not where the server says.",
)
def tool(destination: Path, source: str, folder: Path | None) -> None:
    """Copies what a running server holds at one moment over all shards.

    Into a new DESTINATION everything is copied; into one with a backup of the same server, only what has come
    since. It is complete when this ends with exit code 0, and was read again then; until there is a first
    complete backup, `restore` refuses it. The server needs appendonly yes.
    """
    begun_s = clock.monotonic()
    try:
        destination.mkdir(parents=True, exist_ok=True)
        lock(destination)
        backup = Backup(destination)
        with bar("copying") as progress:
            point, copied = take(backup, parse_address(source), progress.report, folder)
    except FAILURES as error:
        click.echo(f"shardkv: {error}", err=True)
        sys.exit(1)
    console.print(
        f"{destination}: point {len(backup.points)}, {len(point.shards)} shards, {copied.total:,} bytes, of"
        f" which {copied.size:,} were copied and read again in {clock.monotonic() - begun_s:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
