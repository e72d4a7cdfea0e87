"""CLIENT PAUSE: for a time no client's commands, or no client's writes, are carried out."""

from __future__ import annotations

from dataclasses import dataclass

from shardkv import clock
from shardkv.command import Command


@dataclass(slots=True)
class Pause:
    """The pause as one process knows it. The supervisor keeps it as well, for proxies that it starts anew.

    `until_s` is by the monotonic clock, which all processes of a host share.
    """

    until_s: float = 0.0
    writes_only: bool = True

    @property
    def active(self) -> bool:
        return self.until_s > clock.monotonic()

    @property
    def remaining_ms(self) -> int:
        return max(0, round((self.until_s - clock.monotonic()) * 1000))

    def extend(self, until_s: float, *, writes_only: bool) -> None:
        """Begins a pause. One that is under way never becomes shorter by it, nor does it let through more."""
        if self.active:
            self.until_s = max(self.until_s, until_s)
            self.writes_only = self.writes_only and writes_only
        else:
            self.until_s, self.writes_only = until_s, writes_only

    def end(self) -> None:
        self.until_s = 0.0

    def holds(self, command: Command, *, writes: bool = False) -> bool:
        """Whether a command has to wait; `writes` says that it may change something though it is not declared
        so."""
        if not self.until_s or not self.active:
            return False
        # A message counts as a write: it goes to replicas as well.
        return not self.writes_only or writes or command.writes or bool(command.routed_by)
