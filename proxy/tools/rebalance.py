"""`shardkv rebalance`: has a running server move slots until all shards bear about the same."""

from __future__ import annotations

import click
import hiredis
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from proxy.remote import DEFAULT_URL, Remote
from proxy.tools.reshard import watch_move


@click.command("rebalance")
@click.option("--to", "url", default=DEFAULT_URL, show_default=True, help="The server.")
@click.option("--dry-run", is_flag=True, help="Show what would be moved, and move nothing.")
@click.option("--no-wait", is_flag=True, help="Begin, and do not wait until it is done.")
def tool(url: str, dry_run: bool, no_wait: bool) -> None:
    """Moves slots between shards, while clients are served, so that each has about as much memory and as many
    requests.

    Requests are counted for a second, so it is to be called when the load is what it usually is. It is the
    same as the command REBALANCE. Whoever ends this tool does not end the change.
    """
    try:
        with Remote(url) as server:
            found = server.ask("REBALANCE", *(["DRYRUN"] if dry_run else []))
            shards = [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in found]
            _show(shards, after="it would have" if dry_run else "it will have")
            changes = any(shard[b"slots"] != shard[b"slots-after"] for shard in shards)
            if changes and not dry_run and not no_wait:
                watch_move(server, len(shards))
    except (OSError, ValueError, hiredis.ReplyError) as error:
        raise click.ClickException(str(error)) from None


def _show(shards: list[dict[bytes, int]], after: str) -> None:
    table = Table("shard", "slots", "memory", "requests/s", after, "memory", "requests/s")
    for column in table.columns[1:]:
        column.justify = "right"
    for number, shard in enumerate(shards):
        table.add_row(
            *(str(number), str(shard[b"slots"]), decimal(shard[b"bytes"]), str(shard[b"requests"])),
            *(str(shard[b"slots-after"]), decimal(shard[b"bytes-after"]), str(shard[b"requests-after"])),
        )
    Console().print(table)
