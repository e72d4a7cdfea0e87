"""Log lines of all processes, in one stream and one form.

Every process writes to the same stream, each through a `MultiProcessingHandler` of its own: the handler's
queue and thread keep a slow or stopped reader of the log from ever holding up the process's loop, and a
process that is killed takes only its own queue with it. A line is one write, so lines of different processes
never mix.

    4711:worker-0 22 Nov 2026 10:12:01.123 * loaded 1000 keys in 0.01 s

Under systemd (`JOURNAL_STREAM` is set) the journal's own time stands for ours, and the level goes ahead as
`<6>`.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from multiprocessing_logging import MultiProcessingHandler

VERBOSE = 15

LEVELS = {
    "debug": logging.DEBUG,
    "verbose": VERBOSE,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "nothing": logging.CRITICAL + 1,
}

_SIGNS = {logging.DEBUG: ".", VERBOSE: "-", logging.INFO: "*"}
_PRIORITIES = {logging.DEBUG: 7, VERBOSE: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class _LineFormatter(logging.Formatter):
    """One line a record, whatever the message holds."""

    def __init__(self, process: str, *, journal: bool) -> None:
        super().__init__(datefmt="%d %b %Y %H:%M:%S")
        self._process = process
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            text = f"{text}: {record.exc_text}"
        text = text.replace("\r", "").replace("\n", " | ")
        who = f"{record.process}:{self._process}"
        if self._journal:
            return f"<{_PRIORITIES.get(record.levelno, 2)}>{who} {text}"
        sign = _SIGNS.get(record.levelno, "#")
        return f"{who} {self.formatTime(record, self.datefmt)}.{record.msecs:03.0f} {sign} {text}"


class _Stream(logging.StreamHandler[Any]):
    """Writes a line with one system call, so that the lines of several processes stay whole."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            os.write(self.stream.fileno(), (self.format(record) + "\n").encode("utf-8", "backslashreplace"))
        except OSError:
            # A log that cannot be written must not stop the server, and there is no place left to complain.
            pass


def configure(config: Any, process: str, *, queued: bool) -> None:
    """Sends this process's log where the settings say.

    process   which one it is, for every line: `supervisor`, `proxy-0`, `worker-3`.
    queued    lets a thread do the writing. A process that still wants to fork must not have one.
    """
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    stream = open(config.logfile, "a", encoding="utf-8") if config.logfile else sys.stderr  # noqa: SIM115
    handler: logging.Handler = _Stream(stream)
    journal = not config.logfile and "JOURNAL_STREAM" in os.environ
    handler.setFormatter(_LineFormatter(process, journal=journal))
    if queued:
        handler = MultiProcessingHandler(process, handler)
    root.addHandler(handler)
    set_level(config)


def set_level(config: Any) -> None:
    """Takes over the setting `loglevel`."""
    logging.getLogger().setLevel(LEVELS[config.loglevel])


def close() -> None:
    """Writes what is queued; the last thing a process does."""
    logging.shutdown()
