"""MONITOR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy import relay
from proxy.supervision import topic
from shardkv.command import ADMIN, LOADING, NOSCRIPT, STALE, Place, command
from shardkv.resp.replies import OK

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session
    from proxy.supervisor import Supervisor


@command(
    "MONITOR",
    group="server",
    since="1.0.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    complexity="",
    place=Place.PROXY,
)
async def monitor(session: Session, args: list[Any]) -> Any:
    """Listens for all requests received by the server in real-time."""
    # Who does so already gets no reply, as in Redis.
    session.muted = session.muted or session.is_monitor
    await session.proxy.monitoring.join(session)
    return OK


@topic("monitor")
def _announced(proxy: Proxy, body: Any) -> None:
    index, begins = body
    proxy.monitoring.announced(index, begins=begins)


@relay.topic("monitor")
def _remember(supervisor: Supervisor, body: Any) -> None:
    index, begins = body
    if begins:
        supervisor.monitoring.add(index)
    else:
        supervisor.monitoring.discard(index)


@topic("monitor lines")
def _lines(proxy: Proxy, body: Any) -> None:
    """What another proxy has to tell those who monitor; nothing if it has lost something."""
    index, lines = body
    if index != proxy.index and lines:
        proxy.monitoring.show(lines)
    elif index != proxy.index:
        proxy.monitoring.lost()
