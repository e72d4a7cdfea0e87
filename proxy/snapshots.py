"""A proxy's part in snapshots: it brings about their moment, knows who waits for one, and sends one to a
client."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.supervision import topic
from shardkv import control, limits
from shardkv.command import COMMANDS
from shardkv.errors import CommandError
from shardkv.plan import Call

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session

_REMEMBERED = 100
"""Snapshots whose outcome is kept for who asks late."""


@dataclass
class CutCall(Call):
    """What has to be done on all shards at one moment, though it changes nothing."""

    @property
    def needs_locks(self) -> bool:
        return True


async def at_one_moment(proxy: Proxy, name: str, *args: Any) -> Any:
    """Has all shards carry out an internal command while all of them are locked, and no slot is on its way
    from one to another. Returns a list of values, or the CommandError that it has failed with."""
    while proxy.move is not None:
        await proxy.move.over
    request = [name.upper().encode(), *args]
    call = CutCall(COMMANDS[name], request, 0, proxy.slot_table, len(proxy.backends))
    return await proxy.coordinator.value_of(call)


@topic(control.CUT)
async def _cut(proxy: Proxy, number: int) -> Any:
    """Brings about the moment of a snapshot; True, or what has come in between."""
    value = await at_one_moment(proxy, "beginsnapshot", number)
    return value.text.decode(errors="replace") if isinstance(value, CommandError) else all(value)


class Outcomes:
    """What has become of snapshots, for the clients that wait for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._known: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._awaited: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def of(self, number: int) -> dict[str, Any]:
        """Waits until a snapshot is over; what became of it (see proxy.saving), with its path."""
        if number in self._known:
            return self._known[number]
        future = self._awaited.setdefault(number, self._loop.create_future())
        return await asyncio.shield(future)

    def told(self, number: int, outcome: dict[str, Any]) -> None:
        """A snapshot is over."""
        self._known[number] = outcome
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        future = self._awaited.pop(number, None)
        if future is not None:
            future.set_result(outcome)


@topic(control.SAVED)
def _saved(proxy: Proxy, body: Any) -> None:
    proxy.outcomes.told(*body)


# -- one for a client -------------------------------------------------------------------------


async def send_snapshot(session: Session) -> bool:
    """Has a snapshot taken and sends it to a client as a full sync is sent: line breaks while it is made,
    then its length, and the file. False if it could not be made."""
    proxy = session.proxy
    [(_, _, number)] = await proxy.supervision.ask(control.SUPERVISOR, "send snapshot")
    if number is None:
        return False
    waiting = asyncio.ensure_future(proxy.outcomes.of(number))
    # If the client is gone meanwhile the file still has to be removed.
    while not (await asyncio.wait([waiting], timeout=limits.SYNC_SIGN_S))[0]:
        session.push(b"\n")
    outcome = await waiting
    if "ok" not in outcome:
        return False
    file = await asyncio.to_thread(_take, Path(outcome["path"]))
    try:
        session.push(b"$%d\r\n" % outcome["size"])
        while chunk := await asyncio.to_thread(os.read, file, limits.SYNC_CHUNK_BYTES):
            session.push(chunk)
            if not await session.room(limits.SYNC_STALL_S):
                break
    finally:
        os.close(file)
    return True


def _take(path: Path) -> int:
    """Opens a file and removes its name, so that it is gone when it is closed. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    path.unlink()
    return fd
