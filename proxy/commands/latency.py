"""LATENCY: what took long in any process, and how long commands take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from proxy.advice import latency_report
from proxy.figures import gather
from proxy.supervision import topic
from shardkv import clock, control, errors
from shardkv.command import ADMIN, COMMANDS, LOADING, NOSCRIPT, STALE, Place, command, container
from shardkv.errors import CommandError
from shardkv.latency import Series, distribution, graph, merged_events
from shardkv.resp.replies import Verbatim

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session

_FLAGS = ADMIN | NOSCRIPT | LOADING | STALE
_TIPS = ("nondeterministic_output", "request_policy:all_nodes", "response_policy:special")

container(
    "LATENCY",
    group="server",
    since="2.8.13",
    help_since="2.8.13",
    summary="A container for latency diagnostics commands.",
)


async def _events(session: Session) -> dict[str, Series]:
    """The events of all processes as one."""
    answers = await session.proxy.supervision.ask_all(control.EVERYONE, "latency events")
    return merged_events(answer for answer in answers if answer)


@topic("latency events")
def _told(proxy: Proxy, body: Any) -> Any:
    return proxy.events.told()


@topic("latency reset")
def _reset(proxy: Proxy, events: list[str]) -> list[str]:
    return proxy.events.reset(events)


@command("LATENCY LATEST", group="server", since="2.8.13", flags=_FLAGS, tips=_TIPS, place=Place.PROXY)
async def latency_latest(session: Session, args: list[Any]) -> Any:
    """Returns the latest latency samples for all events."""
    return [
        [name.encode(), *series.samples[-1], series.longest_ms]
        for name, series in (await _events(session)).items()
    ]


@command("LATENCY HISTORY event", group="server", since="2.8.13", flags=_FLAGS, tips=_TIPS, place=Place.PROXY)
async def latency_history(session: Session, args: list[Any]) -> Any:
    """Returns timestamp-latency samples for an event."""
    series = (await _events(session)).get(_event(args[2]))
    return [] if series is None else [list(sample) for sample in series.samples]


def _event(word: bytes) -> str:
    return word.decode("utf-8", "replace")


@command("LATENCY GRAPH event", group="server", since="2.8.13", flags=_FLAGS, tips=_TIPS, place=Place.PROXY)
async def latency_graph(session: Session, args: list[Any]) -> Any:
    """Returns a latency graph for an event."""
    series = (await _events(session)).get(_event(args[2]))
    if series is None:
        raise CommandError(errors.no_samples(args[2]))
    return Verbatim(graph(_event(args[2]), series, clock.now_ms() // 1000).encode())


@command(
    "LATENCY RESET [event [event ...]]",
    group="server",
    since="2.8.13",
    flags=_FLAGS,
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    place=Place.PROXY,
)
async def latency_reset(session: Session, args: list[Any]) -> Any:
    """Resets the latency data for one or more events."""
    events = [_event(word) for word in args[2:]]
    answers = await session.proxy.supervision.ask_all(control.EVERYONE, "latency reset", events)
    return len({event for answer in answers if answer for event in answer})


@command("LATENCY DOCTOR", group="server", since="2.8.13", flags=_FLAGS, tips=_TIPS, place=Place.PROXY)
async def latency_doctor(session: Session, args: list[Any]) -> Any:
    """Returns a human-readable latency analysis report."""
    config = session.proxy.config
    return Verbatim(latency_report(config, await _events(session)).encode())


@command(
    "LATENCY HISTOGRAM [command [command ...]]",
    group="server",
    since="7.0.0",
    flags=_FLAGS,
    complexity="O(N) where N is the number of commands with latency information being retrieved.",
    tips=_TIPS,
    place=Place.PROXY,
)
async def latency_histogram(session: Session, args: list[Any]) -> Any:
    """Returns the cumulative distribution of latencies of a subset or all commands."""
    figures = await gather(session.proxy, usage=False, durations=True)
    told = {}
    for name, durations in figures.durations().items():
        if durations and (len(args) == 2 or name in _named(args[2:])):
            shown = distribution(durations)
            told[name.encode()] = {b"calls": shown[-1][1], b"histogram_usec": dict(shown)}
    return told


def _named(words: Sequence[bytes]) -> set[str]:
    """The commands that words name; a container stands for its subcommands."""
    names = {word.lower().decode("ascii", "replace") for word in words}
    for name in list(names):
        if name in COMMANDS:
            names |= {member.name for member in COMMANDS[name].subcommands.values()}
    return names
