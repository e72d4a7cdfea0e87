"""What an operator sees of a transfer: how far it is, and what has come of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from proxy.transfer.copying import Summary

console = Console(stderr=True)


class Bar:
    """A progress bar."""

    def __init__(self, progress: Progress, text: str) -> None:
        self._progress = progress
        self._task = progress.add_task(text, total=None)

    def step(self, text: str, total: float | None = None) -> None:
        """Another step begins, which has so much to do in any unit, or it is not known how much."""
        self._progress.reset(self._task, description=text, total=total)

    def report(self, done: float, total: float | None = None) -> None:
        """So much of the step is done."""
        if total is not None:
            self._progress.update(self._task, completed=done, total=total)
        else:
            self._progress.update(self._task, completed=done)


@contextmanager
def bar(text: str) -> Iterator[Bar]:
    """Shows a progress bar until the block ends; where the output is no terminal, nothing."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, text)


def show(summary: Summary, what: str, seconds: float) -> None:
    """Prints what has come of a transfer."""
    keys = summary.keys.total()
    table = Table(box=box.SIMPLE, show_header=False)
    for db, count in sorted(summary.keys.items()):
        if not count:
            continue
        table.add_row(f"database {db}", f"{count:,} keys")
    for text, number in (
        ("libraries of functions", summary.functions),
        ("expired, left out", summary.expired),
        ("there already, kept as they were", summary.existing),
        ("refused", summary.refusals),
    ):
        if number:
            table.add_row(text, f"{number:,}")
    rate = f", {keys / seconds:,.0f} keys/s" if seconds and keys else ""
    console.print(f"{what}: {keys:,} keys in {seconds:.1f} s{rate}", highlight=False)
    if table.row_count:
        console.print(table)
    for note in summary.notes:
        console.print(f"passed over: {note}", highlight=False, markup=False, soft_wrap=True)
    for db, key, why in summary.refused:
        console.print(
            f"refused: key {key!r:.200} of database {db}: {why}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    if summary.refusals > len(summary.refused):
        console.print(f"… and {summary.refusals - len(summary.refused):,} more")
