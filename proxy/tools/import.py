# ruff: noqa: N999
"""`shardkv import`: loads a data set into a running server, or into a new data folder."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click

from proxy.transfer import parts
from proxy.transfer.connection import Connection, parse_address
from proxy.transfer.copying import Choice, Summary, copy
from proxy.transfer.into import NewFolder
from proxy.transfer.opening import FAILURES, INCOMPLETE, only_db, opened
from proxy.transfer.screen import Bar, bar, show
from proxy.transfer.target import Target
from shardkv import clock, limits
from shardkv.command import number_commands
from shardkv.config_file import load
from shardkv.rdb.file_reader import FileReader
from shardkv.settings import Config


@click.command("import")
@click.argument("source")
@click.option(
    "--to", "to", default="redis://127.0.0.1:6379", show_default=True, help="The server to load into."
)
@click.option(
    "--into", type=click.Path(file_okay=False, path_type=Path), help="A new data folder to fill instead."
)
@click.option("--workers", default=0, help="How many shards the new folder gets; one per core by default.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The server's configuration file, for --into.",
)
@click.option("--replace", is_flag=True, help="Replace keys that are there; else they are kept.")
@click.option(
    "--skip", is_flag=True, help="Leave out, and list, what cannot be represented; else it ends the import."
)
@click.option("--scan", is_flag=True, help="Read a server's keys one by one, without a full sync.")
@click.option(
    "--connections", default=1, show_default=True, type=click.IntRange(1, 64), help="To the server."
)
def tool(
    source: str,
    to: str,
    into: Path | None,
    workers: int,
    config: Path | None,
    replace: bool,
    skip: bool,
    scan: bool,
    connections: int,
) -> None:
    """Loads a data set into a running server, or into a new data folder.

    SOURCE is an RDB file, an append-only file or folder of Redis, a data folder of shardkv that no server
    uses, or a server as redis://[[user]:password@]host[:port][/db].
    """
    number_commands()
    begun_s = clock.monotonic()
    try:
        with bar("importing") as progress:
            if into is not None:
                summary = _fill_folder(
                    source, into, workers, config, skip=skip, scan=scan or None, progress=progress
                )
            else:
                summary = _fill_server(
                    source,
                    to,
                    connections,
                    replace_keys=replace,
                    skip=skip,
                    scan=scan or None,
                    progress=progress,
                )
    except FAILURES as error:
        click.echo(f"shardkv: {error}", err=True)
        sys.exit(1)
    show(summary, "imported", clock.monotonic() - begun_s)
    sys.exit(0 if summary.is_complete else INCOMPLETE)


def _fill_server(
    text: str, to: str, connections: int, *, replace_keys: bool, skip: bool, scan: bool | None, progress: Bar
) -> Summary:
    address = parse_address(to)
    with Connection(address) as connection:
        found = connection.try_to("CONFIG", "GET", "databases")
    databases = int(found[1]) if isinstance(found, list) and found else 16
    summary = Summary()
    choice = Choice(clock.now_ms(), only_db(text), databases, skip)
    with opened(text, Config(), progress, scan=scan) as (source, notes):
        summary.notes += notes
        with closing(Target(address, connections, summary, choice, replace=replace_keys)) as target:
            progress.step("importing", source.total)
            copy(source, target, summary, choice, progress.report)
            target.finish()
    return summary


def _fill_folder(
    text: str,
    into: Path,
    workers: int,
    config_file: Path | None,
    *,
    skip: bool,
    scan: bool | None,
    progress: Bar,
) -> Summary:
    config = load(config_file, [], lambda warning: click.echo(warning, err=True))
    config = replace(config, dir=str(into), workers=workers or config.workers)
    choice = Choice(clock.now_ms(), only_db(text), config.databases, skip)
    summary = Summary()
    with (
        closing(NewFolder(config)) as folder,
        opened(text, config, progress, scan=scan) as (source, notes),
    ):
        summary.notes += notes
        progress.step("importing", source.total)
        if isinstance(source, FileReader) and source.total >= limits.TRANSFER_PARTED_BYTES:
            summary.add(parts.fill(folder, source.path, choice, progress.report))
        else:
            folder.write(
                range(folder.shards), lambda logs: copy(source, logs, summary, choice, progress.report)
            )
        folder.finish()
    return summary
