"""`shardkv restore`: makes a data folder of a backup."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click

from proxy.backup.restoring import restore
from proxy.backup.store import Backup
from proxy.transfer.opening import FAILURES
from proxy.transfer.screen import bar, console, show
from shardkv import clock
from shardkv.command import number_commands
from shardkv.config_file import load


class Moment(click.ParamType[int]):
    """A time as `2026-11-26 10:00:00`, of this host if it names no zone, or in s since 1970."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(value) if value.isdecimal() else int(datetime.fromisoformat(value).timestamp())
        except ValueError:
            self.fail(f"{value} is no time such as 2026-11-26 10:00:00")


@click.command("restore")
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--dir",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The data folder to make, in which there is no data.",
)
@click.option("--workers", default=0, help="How many shards it gets; one per core by default.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The configuration file of the server that will use it.",
)
@click.option("--until", type=Moment(), help="The end of the second that it is to show.")
def tool(source: Path, folder: Path, workers: int, config: Path | None, until: int | None) -> None:
    """Makes a data folder of a backup, to start a server with.

    With --until it shows an earlier moment than the backup's end, to the second; that needs
    aof-timestamp-enabled yes while the data was written. All is checked on the way; if anything is damaged,
    the place is named and no data folder is made.
    """
    number_commands()
    begun_s = clock.monotonic()
    try:
        settings = load(config, [], lambda warning: click.echo(warning, err=True))
        settings = replace(settings, dir=str(folder), workers=workers or settings.workers)
        with bar("restoring") as progress:
            point, summary = restore(Backup(source), settings, until, progress.report)
    except FAILURES as error:
        click.echo(f"shardkv: {error}", err=True)
        sys.exit(1)
    show(summary, f"restored into {folder}", clock.monotonic() - begun_s)
    if point.slots.colocate:
        console.print(f"start the server with: colocate {' '.join(point.slots.colocate)}", highlight=False)
