"""`shardkv reshard N`: has a running server change the number of its shards, and shows how far it is."""

from __future__ import annotations

import click
import hiredis
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from proxy.remote import DEFAULT_URL, Remote
from shardkv import clock, limits

_LOOK_S = 0.2


@click.command("reshard")
@click.argument("workers", type=click.IntRange(1, limits.MAX_WORKERS))
@click.option("--to", "url", default=DEFAULT_URL, show_default=True, help="The server.")
@click.option("--no-wait", is_flag=True, help="Begin, and do not wait until it is done.")
def tool(workers: int, url: str, no_wait: bool) -> None:
    """Changes the number of WORKERS, each with a shard of the keys, while clients are served.

    It is the same as CONFIG SET workers. Whoever ends this tool does not end the change.
    """
    try:
        with Remote(url) as server:
            server.ask("CONFIG", "SET", "workers", workers)
            if not no_wait:
                watch_move(server, workers)
    except (OSError, ValueError, hiredis.ReplyError) as error:
        raise click.ClickException(str(error)) from None


def watch_move(server: Remote, workers: int) -> None:
    """Shows how far slots have moved, until there are so many shards, as they are wanted. Raises
    ClickException if somebody wants another number meanwhile."""
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("slots"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("moving", total=None)
        while True:
            found = server.info("shards")
            if int(found["reshard_target"]) != workers:
                raise click.ClickException(f"somebody else wants {found['reshard_target']} workers now")
            moved, left = int(found["reshard_slots_moved"]), int(found["reshard_slots_left"])
            progress.update(task, completed=moved, total=moved + left)
            if int(found["reshard_failures"]) > 1:
                progress.update(task, description="waiting for a chance")
            else:
                progress.update(task, description="moving")
            if found["reshard_state"] == "done":
                break
            clock.sleep(_LOOK_S)
    console.print(f"There are {found['reshard_shards']} shards.", highlight=False)
