"""A worker's end of the pipes to one proxy: batches in, replies out."""

from __future__ import annotations

import fcntl
import os

from shardkv import limits
from shardkv.slow import Entry
from shardkv.transactions import Late
from shardkv.wire import NOTED, Batch, FrameReader, FrameWriter, Reply, encode_note


class ProxyLink:
    """A worker's end of the pipes to one proxy."""

    def __init__(self, proxy: int, read_fd: int, write_fd: int) -> None:
        for fd in (read_fd, write_fd):
            os.set_blocking(fd, False)
        self.proxy = proxy
        self.reader = FrameReader(read_fd)
        self.writer = FrameWriter(write_fd)
        self.late: list[Late] = []
        self.notes: list[tuple[int, int, Entry]] = []
        """Entries of requests that are logged, each with the number of its batch in this turn, and its place
        there."""
        self.turn: list[tuple[Batch, list[Reply]]] = []
        """The batches run in this turn, with their replies, which leave when the log is written."""
        self.batches: list[Batch] = []
        """What has come and is still to be run."""
        self.waits_for_room = False
        self.held_back = False
        self.closed = False
        self.loses_messages = False
        """Whether it takes messages so slowly that it gets none for a while."""
        self._tickets = 0

    def next_ticket(self) -> int:
        ticket = self._tickets
        self._tickets += 1
        return ticket

    def send(self) -> None:
        """Sends what has been answered. Raises OSError if the proxy is gone."""
        turn, self.turn = self.turn, []
        late, last = self.late, None
        if self.notes:
            self._send_noted(turn)
            return
        if late:
            # One frame holds the last replies and all that comes late, which may belong to tickets of these;
            # and who is told that a message is published may rely on it that the message is on its way, even
            # if this process is dead a moment later.
            last = turn.pop()[1] if turn else None
        for _, replies in turn:
            self.writer.send((replies, ()))
        if late:
            self.late = []
            self.writer.send((last, [(one.ticket, one.reply) for one in late]))

    def _send_noted(self, turn: list[tuple[Batch, list[Reply]]]) -> None:
        """The same, with notes among them: each leaves with the replies of its batch."""
        notes, self.notes = self.notes, []
        late, self.late = self.late, []
        for number, (_, replies) in enumerate(turn):
            told = [
                (NOTED, encode_note((False, place, entry)))
                for batch, place, entry in notes
                if batch == number
            ]
            if number == len(turn) - 1:
                told += [(one.ticket, one.reply) for one in late]
            self.writer.send((replies, told))

    def close(self) -> None:
        self.closed = True
        os.close(self.reader.fd)
        os.close(self.writer.fd)


def enlarge_pipe(fd: int) -> None:
    """Asks for a larger kernel buffer; an unprivileged process may be refused, and lives with what it has."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, limits.PIPE_BYTES)
    except OSError:
        pass
