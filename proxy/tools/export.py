"""`shardkv export`: writes a data set to one file that Redis loads."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxy.transfer.connection import TransferError
from proxy.transfer.copying import Choice, Summary, copy
from proxy.transfer.files import AofFile, RdbFile, replacing
from proxy.transfer.opening import FAILURES, INCOMPLETE, only_db, opened
from proxy.transfer.screen import Bar, bar, show
from shardkv import clock
from shardkv.command import number_commands
from shardkv.config_file import load
from shardkv.rdb import file_writer

_MOST_DATABASES = 1 << 31


@click.command("export")
@click.argument("destination", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--from",
    "source",
    default="redis://127.0.0.1:6379",
    show_default=True,
    help="The server to take a full sync of, or anything else that `import` takes.",
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False),
    help="The data folder of a server that does not run, instead.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="That server's configuration file.",
)
@click.option(
    "--rdb-version",
    default=file_writer.DEFAULT_VERSION,
    show_default=True,
    type=click.Choice([str(version) for version in file_writer.VERSIONS]),
    help="9 is read by Redis from 5.0 on, 10 by 7.0, 11 by 7.2, 12 by 8.2, 80 by Valkey 9.",
)
@click.option("--skip", is_flag=True, help="Leave out, and list, what the file cannot hold.")
@click.option("--scan", is_flag=True, help="Read a server's keys one by one, without a full sync.")
def tool(
    destination: Path,
    source: str,
    folder: str | None,
    config: Path | None,
    rdb_version: str,
    skip: bool,
    scan: bool,
) -> None:
    """Writes a data set to one file that Redis loads.

    DESTINATION ends with .rdb or .aof, which says what it is to be.
    """
    number_commands()
    begun_s = clock.monotonic()
    try:
        with bar("exporting") as progress:
            summary = _export(
                destination,
                folder or source,
                config,
                int(rdb_version),
                skip=skip,
                scan=scan,
                progress=progress,
            )
    except FAILURES as error:
        click.echo(f"shardkv: {error}", err=True)
        sys.exit(1)
    show(summary, f"wrote {destination}", clock.monotonic() - begun_s)
    sys.exit(0 if summary.is_complete else INCOMPLETE)


def _export(
    destination: Path,
    text: str,
    config_file: Path | None,
    version: int,
    *,
    skip: bool,
    scan: bool,
    progress: Bar,
) -> Summary:
    if destination.suffix not in (".rdb", ".aof"):
        raise TransferError(f"{destination}: the name ends neither with .rdb nor with .aof")
    config = load(config_file, [], lambda warning: click.echo(warning, err=True))
    choice = Choice(clock.now_ms(), only_db(text), _MOST_DATABASES, skip)
    summary = Summary()
    with opened(text, config, progress, scan=scan) as (source, notes), replacing(destination) as file:
        summary.notes += notes
        sink = RdbFile(file.write, version) if destination.suffix == ".rdb" else AofFile(file.write)
        progress.step("exporting", source.total)
        copy(source, sink, summary, choice, progress.report)
        sink.finish()
    return summary
