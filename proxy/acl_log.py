"""The log of what clients were denied: ACL LOG.

Each proxy keeps that of its own clients. What a script was denied on a shard comes as a note with the replies
of its batch. An entry's number is unique over all proxies, and a later one has a higher one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from proxy import clients
from proxy.numbering import Numbers
from shardkv import clock, limits
from shardkv.slow import trimmed

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session

TOPLEVEL, MULTI, LUA = "toplevel", "multi", "lua"
"""Where something was denied: a request by itself, one of a transaction, or what a script called."""

AUTH = "auth"
"""The reason of an entry beside those of shardkv.acl.permissions: a wrong password, or no such user."""

_numbers = Numbers(1)


class Denied(NamedTuple):
    """What was denied to a client, as often as it happened within a while. Times are in ms since 1970."""

    number: int
    times: int
    reason: str
    context: str
    object: bytes
    user: bytes
    client: bytes
    """The last client's line in CLIENT LIST."""
    created_ms: int
    updated_ms: int

    def is_like(self, other: Denied) -> bool:
        """Whether both tell of the same, and about at the same time."""
        return (
            self.reason == other.reason
            and self.context == other.context
            and self.object == other.object
            and self.user == other.user
            and abs(self.updated_ms - other.updated_ms) <= limits.ACL_LOG_GROUPING_MS
        )

    def joined(self, later: Denied) -> Denied:
        """Both as one."""
        return self._replace(
            times=self.times + later.times,
            number=min(self.number, later.number),
            client=later.client,
            created_ms=min(self.created_ms, later.created_ms),
            updated_ms=later.updated_ms,
        )


class AclLog:
    """One proxy's log."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.entries: deque[Denied] = deque()
        """The one that was added to last first."""

    def settings_changed(self) -> None:
        """Follows the settings."""
        while len(self.entries) > self.proxy.config.acllog_max_len:
            self.entries.pop()

    def add(
        self, session: Session, reason: str, context: str, what: bytes, user: bytes, *, times: int = 1
    ) -> None:
        """Something was denied to a client, so many times; `what` is the command, key or channel."""
        self.proxy.counters.deny(reason, times)
        if not self.proxy.config.acllog_max_len:
            return
        now_ms = clock.now_ms()
        what, user = trimmed([what, user])
        line = clients.line(session)
        found = Denied(0, times, reason, context, what, user, line, now_ms, now_ms)
        entries = self.entries
        for place in range(min(len(entries), limits.ACL_LOG_COMPARED)):
            if entries[place].is_like(found):
                before = entries[place]
                del entries[place]
                entries.appendleft(before.joined(found._replace(number=before.number)))
                return
        entries.appendleft(found._replace(number=_numbers.next(0)))
        self.settings_changed()


def merged(logs: Iterable[Any]) -> list[Denied]:
    """The logs of several proxies as one, what was denied last first; they may have come as plain lists."""
    found: list[Denied] = []
    entries = (Denied(*entry) for log in logs for entry in log)
    for entry in sorted(entries, key=lambda entry: (entry.updated_ms, entry.number), reverse=True):
        for place, later in enumerate(found):
            if entry.is_like(later):
                found[place] = entry.joined(later)
                break
        else:
            found.append(entry)
    return found
