"""Putting keys into a running server, by pipelines on some connections.

A string is SET and any other value RESTOREd as the source has it; only a large one is built bit by bit.
"""

from __future__ import annotations

from collections import deque
from itertools import cycle
from typing import Any

import hiredis

from proxy.transfer.connection import Address, Connection, TransferError
from proxy.transfer.copying import Choice, Summary
from proxy.transfer.sources import Source, restored
from shardkv import limits
from shardkv.aof.record import record
from shardkv.rdb import kinds
from shardkv.rdb.file_reader import Key
from shardkv.settings import Config
from shardkv.values import recreate

_BUSY_KEY = "BUSYKEY"
_OF_ONE_KEY = ("Bad data format", "payload version or checksum", "exceeds maximum allowed size")
"""What says that this one key cannot be had there."""

_SENT_BYTES = 64 * 1024
"""Sent at once."""


class Target:
    """The server: a sink. `finish` waits until everything was answered."""

    def __init__(
        self, address: Address, connections: int, summary: Summary, choice: Choice, *, replace: bool
    ) -> None:
        """replace   whether keys that are there are replaced; else they are kept, and counted.

        Raises TransferError.
        """
        self._pipelines = [_Pipeline(address, summary, choice) for _ in range(connections)]
        self._turns = cycle(self._pipelines)
        self._replace = replace
        self._config: Any = Config()

    def owns(self, key: bytes) -> bool:
        """Every key belongs here."""
        return True

    def put(self, key: Key, source: Source) -> None:
        """Puts a key. Raises ValueRefused, TransferError."""
        pipeline = next(self._turns)
        if key.kind == kinds.STRING:
            text = source.value(self._config)
            self._set(pipeline, key, b"%d" % text if isinstance(text, int) else bytes(text))  # type: ignore[arg-type]
            return
        payload = source.payload()
        if len(payload) <= limits.TRANSFER_PAYLOAD_BYTES:
            replace = [b"REPLACE"] if self._replace else []
            at_ms = b"%d" % (key.expire_at_ms or 0)
            pipeline.send(key, [b"RESTORE", key.key, at_ms, payload, b"ABSTTL", *replace])
        else:
            self._build(pipeline, key, payload)

    def _set(self, pipeline: _Pipeline, key: Key, text: bytes) -> None:
        request = [b"SET", key.key, text]
        if key.expire_at_ms is not None:
            request += (b"PXAT", b"%d" % key.expire_at_ms)
        if not self._replace:
            request.append(b"NX")
        pipeline.send(key, request)

    def _build(self, pipeline: _Pipeline, key: Key, payload: bytes) -> None:
        """Builds a large value by many requests, which others may come between."""
        value = restored(payload, self._config)
        if self._replace:
            pipeline.send(None, [b"UNLINK", key.key], key.db)
        elif pipeline.ask(key.db, b"EXISTS", key.key):
            pipeline.summary.existing += 1
            pipeline.summary.keys[key.db] -= 1
            return
        for request in recreate(key.key, value, key.expire_at_ms):
            pipeline.send(None, request, key.db)

    def function(self, code: bytes) -> None:
        """Puts a library. Raises TransferError."""
        replace = [b"REPLACE"] if self._replace else []
        self._pipelines[0].ask(0, b"FUNCTION", b"LOAD", *replace, code)

    def finish(self) -> None:
        """Waits for the last replies. Raises TransferError."""
        for pipeline in self._pipelines:
            pipeline.settle()

    def close(self) -> None:
        """Closes the connections."""
        for pipeline in self._pipelines:
            pipeline.connection.close()


class _Pipeline:
    """One connection, and the requests that are under way on it."""

    def __init__(self, address: Address, summary: Summary, choice: Choice) -> None:
        self.connection = Connection(address)
        self.summary = summary
        self._choice = choice
        self._db = 0
        self._waiting: list[bytes] = []
        """Requests that have not been sent yet."""
        self._size = 0
        self._under_way: deque[Key | None] = deque()
        """For each request that has not been answered, the key that it puts, if it does so by itself."""

    def send(self, key: Key | None, request: list[bytes], db: int = 0) -> None:
        """Sends a request, soon. Raises TransferError, perhaps for an earlier one."""
        self._select(key.db if key is not None else db)
        self._add(key, request)
        if self._size >= _SENT_BYTES or len(self._waiting) >= limits.TRANSFER_REQUESTS // 2:
            self._flush()
            # While these are carried out the next ones are made.
            self._receive(limits.TRANSFER_REQUESTS // 2)

    def ask(self, db: int, *words: bytes) -> Any:
        """The reply to one request, after all others. Raises TransferError."""
        self._select(db)
        self.settle()
        return self.connection.ask(*words)

    def settle(self) -> None:
        """Waits for the replies to all requests. Raises TransferError."""
        self._flush()
        self._receive(0)

    def _select(self, db: int) -> None:
        if db != self._db:
            self._add(None, [b"SELECT", b"%d" % db])
            self._db = db

    def _add(self, key: Key | None, request: list[bytes]) -> None:
        encoded = record(request)
        self._waiting.append(encoded)
        self._size += len(encoded)
        self._under_way.append(key)

    def _flush(self) -> None:
        self.connection.send(b"".join(self._waiting))
        self._waiting.clear()
        self._size = 0

    def _receive(self, left: int) -> None:
        """Takes replies until so many requests are left."""
        while len(self._under_way) > left:
            reply = self.connection.receive()
            key = self._under_way.popleft()
            if reply is None or isinstance(reply, hiredis.ReplyError):
                self._take_refusal(key, reply)

    def _take_refusal(self, key: Key | None, reply: hiredis.ReplyError | None) -> None:
        text = str(reply)
        if key is not None and (reply is None or text.startswith(_BUSY_KEY)):
            self.summary.existing += 1
        elif key is not None and self._choice.skip and any(words in text for words in _OF_ONE_KEY):
            self.summary.refuse(key.db, key.key, text)
        else:
            name = f"key {key.key!r:.200} of database {key.db}: " if key is not None else ""
            raise TransferError(f"{self.connection.address}: {name}{text}")
        self.summary.keys[key.db] -= 1
