"""A power cut, played from what a server was seen to write and to make last (see tests.faults.shim).

At any moment of a trace there may be on disk: of each file what was fsynced, and any part of what was
appended since, or zeros in its place; of what was created, renamed and removed in a folder all that came
before the last fsync of the folder, and the first few of what came since.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

_FOLDER = "folder"


@dataclass
class _Moment:
    """What is known of the disk at a moment. Files are named by their inodes."""

    size: dict[str, int] = field(default_factory=dict)
    lasting_size: dict[str, int] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    lasting_names: dict[str, str] = field(default_factory=dict)
    pending: list[tuple[str, str | None]] = field(default_factory=list)
    """Changes of names that were not made to last: a name, and what it stands for, or None."""

    def name(self, path: str, file: str | None) -> None:
        if file is None:
            self.names.pop(path, None)
        else:
            self.names[path] = file
        self.pending.append((path, file))

    def take(self, words: list[str]) -> None:
        """Takes in one line of the trace."""
        match words:
            case ["made", path, file]:
                self.size[file] = self.lasting_size[file] = 0
                self.name(path, file)
            case ["folder", path]:
                self.name(path, _FOLDER)
            case ["size", file, size]:
                self.size[file] = int(size)
                self.lasting_size[file] = min(self.lasting_size.get(file, 0), int(size))
            case ["lasts", file, size]:
                self.lasting_size[file] = int(size)
            case ["renamed", old, new]:
                file = self.names[old]
                self.name(new, file)
                self.name(old, None)
            case ["removed", path]:
                self.name(path, None)
            case ["folder-lasts", folder]:
                lasting = [change for change in self.pending if str(Path(change[0]).parent) == folder]
                self.pending = [change for change in self.pending if str(Path(change[0]).parent) != folder]
                _apply(self.lasting_names, lasting)


def _apply(names: dict[str, str], changes: list[tuple[str, str | None]]) -> None:
    for path, file in changes:
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


class Trace:
    """What a server has done, and what its clients were told, in order."""

    def __init__(self, trace: Path, folder: Path, graves: Path) -> None:
        lines = [line.split(" ") for line in trace.read_text().splitlines()]
        self.events = [(int(at_ms), words) for at_ms, *words in lines]
        self._folder = folder
        self._graves = graves

    def acknowledged(self, count: int, *, older_than_ms: int = 0) -> list[list[str]]:
        """What clients had been told before the event of that number, so long ago."""
        latest_ms = self.events[count - 1][0] - older_than_ms
        return [
            words[1:]
            for at_ms, words in self.events[:count]
            if words[0] == "acknowledged" and at_ms <= latest_ms
        ]

    def cut_power(self, count: int, choose: random.Random, target: Path) -> None:
        """Makes a data folder as it may be found if power fails after so many events."""
        moment = _Moment()
        for _, words in self.events[:count]:
            moment.take(words)
        names = dict(moment.lasting_names)
        _apply(names, moment.pending[: choose.randint(0, len(moment.pending))])
        root = str(self._folder)
        target.mkdir()
        for path in sorted(names):
            place = target / Path(path).relative_to(root)
            if not place.parent.is_dir():
                continue  # the folder it stood in is not there
            if names[path] == _FOLDER:
                place.mkdir()
            else:
                place.write_bytes(self._content(moment, names[path], choose))

    def _content(self, moment: _Moment, file: str, choose: random.Random) -> bytes:
        size, lasting = moment.size[file], moment.lasting_size[file]
        found = (self._graves / file).read_bytes()[:size]
        kept = choose.choice([lasting, size, choose.randint(lasting, size)])
        return found[:kept] + bytes(choose.choice([0, 0, size - kept]))
