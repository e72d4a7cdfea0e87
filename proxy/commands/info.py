"""INFO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxy import report
from proxy.figures import Figures, gather, gather_sizes
from shardkv.command import LOADING, STALE, Place, command
from shardkv.resp.replies import Verbatim

if TYPE_CHECKING:
    from proxy.session import Session


@command(
    "INFO [section [section ...]]",
    group="server",
    since="1.0.0",
    flags=LOADING | STALE,
    categories=("dangerous",),
    tips=("nondeterministic_output", "request_policy:all_shards", "response_policy:special"),
    history=(("7.0.0", "Added support for taking multiple section arguments."),),
    place=Place.PROXY,
)
async def info(session: Session, args: list[Any]) -> Any:
    """Returns information and statistics about the server."""
    wanted = _wanted(args[1:])
    proxy = session.proxy
    figures = Figures()
    if wanted - report.WITHOUT_FIGURES:
        figures = await gather(
            proxy, usage=bool(wanted & report.WITH_USAGE), durations="latencystats" in wanted
        )
    if "keysizes" in wanted:
        await gather_sizes(proxy, figures)
    told = [
        report.text(name, tell(proxy, figures)) for name, tell in report.SECTIONS.items() if name in wanted
    ]
    return Verbatim(b"\r\n".join(told))


def _wanted(words: Sequence[bytes]) -> set[str]:
    """The sections that the words of a request mean, by their names."""
    every = set(report.SECTIONS)
    all_ = every - report.ON_REQUEST
    sets = {"default": all_ - report.NOT_BY_DEFAULT, "all": all_, "everything": all_}
    names = [word.lower().decode("ascii", "replace") for word in words] or ["default"]
    return set().union(*(sets.get(name, {name} & every) for name in names))
