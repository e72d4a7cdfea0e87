"""Where data comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, Protocol

import hiredis

from proxy.transfer.connection import Address, Connection, TransferError
from shardkv import limits
from shardkv.aof.record import record
from shardkv.keyspace import Database
from shardkv.rdb import kinds
from shardkv.rdb import payload as payloads
from shardkv.rdb.file_reader import Event, Function, Key, ValueRefused
from shardkv.rdb.payload import PayloadError
from shardkv.rdb.reader import FormatError
from shardkv.shard import Shard
from shardkv.values import Value, is_string

_OTHER = -1
"""The kind of a value at hand that is not a string."""


class Source(Protocol):
    """Gives events (see shardkv.rdb.file_reader), keys among them; after each key its value can be asked for,
    once. A FileReader is one.

    at, total   how much is done, and how much there is, in any unit
    """

    @property
    def at(self) -> int: ...

    @property
    def total(self) -> int: ...

    def __iter__(self) -> Iterator[Event]: ...

    def value(self, config: Any) -> Value:
        """The value of the last key. Raises ValueRefused."""

    def payload(self) -> bytes:
        """The same as DUMP gives it. Raises ValueRefused."""


def mapped(path: Path) -> bytes | mmap:
    """A file's bytes, without reading them yet. Raises OSError."""
    with path.open("rb") as file:
        if not file.seek(0, 2):
            return b""
        return mmap(file.fileno(), 0, access=ACCESS_READ)


class ShardSource:
    """The data of shards in this process, one after the other, each made when its turn comes.

    owned    entry `slot` is the index of the shard whose keys of that slot count; None if all do
    """

    def __init__(self, shards: Iterable[Shard], total: int, owned: list[int] | None = None) -> None:
        """`total` is the number of shards."""
        self.at = 0
        self.total = total
        self._shards = shards
        self._owned = owned
        self._value: Value = b""

    def __iter__(self) -> Iterator[Event]:
        codes: set[bytes] = set()
        for shard in self._shards:
            # Every shard has all libraries.
            for request in shard.scripts.requests():
                if request[-1] not in codes:
                    codes.add(request[-1])
                    yield Function(request[-1])
            for index in sorted(shard.databases):
                yield from self._keys(shard, shard.databases[index])
            self.at += 1

    def _keys(self, shard: Shard, db: Database) -> Iterator[Event]:
        for slot, values in enumerate(db.slots):
            if self._owned is not None and self._owned[slot] != shard.index:
                continue
            for key, value in values.items():
                self._value = value
                kind = kinds.STRING if is_string(value) else _OTHER
                yield Key(db.index, key, db.expires.get(key), kind, 0)

    def value(self, config: Any) -> Value:
        return self._value

    def payload(self) -> bytes:
        return payloads.dump(self._value)


class ScanSource:
    """The keys of a running server one by one, by SCAN and DUMP: not as they were at one moment."""

    def __init__(self, address: Address) -> None:
        """Raises TransferError."""
        self.at = 0
        self._connection = Connection(address)
        knows = not isinstance(self._connection.try_to("PEXPIRETIME", "key"), hiredis.ReplyError)
        self._ask_deadline = b"PEXPIRETIME" if knows else b"PTTL"
        self._counts = self._keyspace()
        self.total = sum(self._counts.values())
        self._payload = b""

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _keyspace(self) -> dict[int, int]:
        """How many keys each database has."""
        info: bytes = self._connection.ask("INFO", "keyspace")
        found = {}
        for line in info.splitlines():
            if line.startswith(b"db"):
                name, _, rest = line.partition(b":")
                found[int(name[2:])] = int(rest.partition(b"=")[2].partition(b",")[0])
        return found

    def __iter__(self) -> Iterator[Event]:
        yield from self._functions()
        for db in self._counts:
            self._connection.ask("SELECT", db)
            cursor = b"0"
            seen: set[bytes] = set()
            while True:
                cursor, keys = self._connection.ask("SCAN", cursor, "COUNT", limits.TRANSFER_SCAN_KEYS)
                # A key may come twice, mostly soon after.
                yield from self._dumped(db, [key for key in dict.fromkeys(keys) if key not in seen])
                seen.update(keys)
                if len(seen) > limits.TRANSFER_SEEN_KEYS:
                    seen = set(keys)
                if cursor == b"0":
                    break

    def _functions(self) -> Iterator[Event]:
        libraries = self._connection.try_to("FUNCTION", "LIST", "WITHCODE")
        if isinstance(libraries, hiredis.ReplyError):
            return
        for library in libraries:
            fields = dict(zip(library[::2], library[1::2], strict=True))
            yield Function(fields[b"library_code"])

    def _dumped(self, db: int, keys: list[bytes]) -> Iterator[Event]:
        connection = self._connection
        for start in range(0, len(keys), limits.TRANSFER_DUMPS):
            some = keys[start : start + limits.TRANSFER_DUMPS]
            now_ms = self._now_ms()
            connection.send(
                b"".join(record([self._ask_deadline, key]) + record([b"DUMP", key]) for key in some)
            )
            for key, at_ms, payload in [(key, connection.receive(), connection.receive()) for key in some]:
                self.at += 1
                if isinstance(payload, hiredis.ReplyError):
                    raise TransferError(f"{connection.address}: DUMP: {payload}")
                if payload is not None:
                    self._payload = payload
                    yield Key(db, key, now_ms + at_ms if at_ms >= 0 else None, payload[0], 0)

    def _now_ms(self) -> int:
        """What to add to a deadline: nothing, or the time where the server only knows what is left."""
        if self._ask_deadline == b"PEXPIRETIME":
            return 0
        seconds, micros = map(int, self._connection.ask("TIME"))
        return seconds * 1000 + micros // 1000

    def value(self, config: Any) -> Value:
        return restored(self._payload, config)

    def payload(self) -> bytes:
        return self._payload


def restored(payload: bytes, config: Any) -> Value:
    """The value in a payload of DUMP. Raises ValueRefused."""
    try:
        return payloads.restore(payload, config)
    except PayloadError:
        raise ValueRefused("a value of a version of the format that is not known") from None
    except FormatError as error:
        raise ValueRefused(str(error)) from None
