"""How many clients there are, and which ids they have had: one count over all proxies.

The figures lie in memory that all proxies share, because they are forked from the process that imported this.
Each proxy writes only its own row, so no lock is needed; a proxy that is started anew goes on with the ids
where its predecessor stopped, so that no id is ever used twice."""

from __future__ import annotations

import mmap
from typing import Final

from shardkv import limits

_CLIENTS: Final = 0
_CONNECTIONS: Final = 1
_COLUMNS: Final = 2
_INTEGER_BYTES: Final = 8

_rows = memoryview(mmap.mmap(-1, limits.MAX_PROXIES * _COLUMNS * _INTEGER_BYTES)).cast("q")


class Census:
    """One proxy's view: it counts its own clients, and knows the sum of all."""

    def __init__(self, proxy: int, proxies: int) -> None:
        self._proxy = proxy
        self._proxies = proxies
        self._row = proxy * _COLUMNS
        _rows[self._row + _CLIENTS] = 0

    def arrived(self) -> int:
        """Counts a client of this proxy; returns the id it gets, which no client has had before."""
        _rows[self._row + _CLIENTS] += 1
        connection = _rows[self._row + _CONNECTIONS]
        _rows[self._row + _CONNECTIONS] = connection + 1
        return connection * self._proxies + self._proxy + 1

    def left(self) -> None:
        """A client of this proxy is gone."""
        _rows[self._row + _CLIENTS] -= 1

    @property
    def clients(self) -> int:
        """The clients of all proxies."""
        return sum(_rows[_CLIENTS : self._proxies * _COLUMNS : _COLUMNS])
