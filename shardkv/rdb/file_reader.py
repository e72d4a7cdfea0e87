"""Reading whole RDB files, of versions 1 to 12 and of Valkey's 80.

Before anything of a file comes out its checksum is compared, so that what comes out is what was written. The
bytes are best a memory map: nothing is held but the value that is being read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path
from typing import Any, Final, NamedTuple

import anycrc

from shardkv import limits
from shardkv.rdb import decode, kinds, opcodes, skim
from shardkv.rdb.payload import sealed
from shardkv.rdb.reader import FormatError, Reader
from shardkv.values import Value

_MAGIC: Final = re.compile(rb"REDIS(\d{4})|VALKEY(\d{3})")
MAGIC_BYTES: Final = 9
_CHECKSUM_BYTES: Final = 8
_SLICE_BYTES: Final = 1 << 20
_LAST_KIND: Final = 127
"""Opcodes are above it."""

_SHORT: Final = 0x40
"""The first byte of a short string is its length, less than this."""

_checksum = anycrc.Model("CRC64-REDIS").calc

_BROKEN = (IndexError, ValueError, OverflowError, struct.error)
"""What reading raises where the bytes are not what they should be."""


class RdbDamaged(Exception):  # noqa: N818 - it says what is, not what went wrong here
    """A file is not what was written, or not of a version that is known: where (path, offset in bytes), and
    what is wrong."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(f"{path}: at byte {offset}: {what}")
        self.path = path
        self.offset = offset
        self.what = what


class ValueRefused(Exception):  # noqa: N818
    """The value of a key cannot be had here; says why. The keys after it can."""


class Fact(NamedTuple):
    """A fact about the file, such as redis-ver."""

    name: bytes
    text: bytes


class Function(NamedTuple):
    """A library of functions."""

    code: bytes


class Note(NamedTuple):
    """Something that was passed over; says what."""

    text: str


class Key(NamedTuple):
    """A key, whose value comes next: ask the reader for `value` or `payload`, or go on without it.

    `expire_at_ms` is in ms since 1970, None for never; `at` is the offset of its record.
    """

    db: int
    key: bytes
    expire_at_ms: int | None
    kind: int
    at: int


Event = Fact | Function | Note | Key


def version_of(data: bytes | mmap) -> int | None:
    """The version that the beginning of a file claims; None if it is no RDB file."""
    found = _MAGIC.match(data[:MAGIC_BYTES])
    return int(found[1] or found[2]) if found else None


class FileReader:
    """One file. Iterating gives the events, in order.

    path       what errors call it
    version    of the format
    checked    whether there was a checksum, which is right then
    at, total  how far the reading is, and how long the file is, in bytes
    end        where the file ends; None until it is known
    """

    def __init__(self, data: bytes | mmap, path: Path, *, goes_on: bool = False) -> None:
        """`goes_on` says that something else may follow (the rest of an append-only file).

        Checks the file, which takes a moment for each GB. Raises RdbDamaged.
        """
        self.path = path
        version = version_of(data)
        if version is None:
            raise RdbDamaged(path, 0, "not an RDB file")
        if not version or not kinds.is_known(version):
            raise RdbDamaged(path, 0, f"version {version} of the format is not known")
        self.version = version
        self.checked = False
        self.end: int | None = None
        self._data = data
        self._reader = Reader(data, version, MAGIC_BYTES)
        self._db = 0
        self._kind = 0
        self._value_at = -1
        """Where the value stands that has not been read yet; -1 if there is none."""
        self._check(goes_on)

    @property
    def at(self) -> int:
        return self._reader.at

    @property
    def total(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Event]:
        """Raises RdbDamaged, which a file with a checksum that is right cannot bring about unless it was
        written that way."""
        reader, data = self._reader, self._data
        expire_at_ms: int | None = None
        begin = at = reader.at
        try:
            while True:
                if self._value_at >= 0:
                    self._pass_over()
                at = reader.at
                opcode = data[at]
                reader.at = at + 1
                if opcode == opcodes.EXPIRE_MS:
                    expire_at_ms = reader.int64()
                    begin = at
                elif opcode <= _LAST_KIND:
                    first = data[at + 1]
                    if first < _SHORT:
                        # Where the bytes end too soon, a later byte is missing as well.
                        reader.at = end = at + 2 + first
                        key = data[at + 2 : end]
                    else:
                        key = reader.string()
                    if opcode == kinds.MODULE:
                        raise FormatError("a value of a module in a form that only the module can read")
                    self._kind = opcode
                    self._value_at = reader.at
                    reader.room = limits.RDB_DECOMPRESSED_BYTES
                    yield Key(self._db, key, expire_at_ms, opcode, at if expire_at_ms is None else begin)
                    expire_at_ms = None
                elif opcode == opcodes.EXPIRE_S:
                    expire_at_ms = int.from_bytes(reader.take(4), "little", signed=True) * 1000
                    begin = at
                elif opcode == opcodes.END:
                    self._finish()
                    return
                else:
                    event = self._other(opcode)
                    if event is not None:
                        yield event
        except _BROKEN as error:
            raise self._damaged(at, error) from error

    def _damaged(self, at: int, error: Exception) -> RdbDamaged:
        too_soon = isinstance(error, IndexError | struct.error)
        return RdbDamaged(
            self.path, min(at, self.total), "the file ends too soon" if too_soon else str(error)
        )

    # -- the value of the last key --------------------------------------------------------------

    def value(self, config: Any) -> Value:
        """The value of the key that came last; `config` are the settings that choose encodings. To be asked
        once. Raises ValueRefused."""
        reader = self._reader
        try:
            if self._kind == kinds.STRING:
                found: Value = reader.string()
            else:
                found = decode.value(self._kind, reader, config)
        except _BROKEN as error:
            what = self._module_type() or str(error)
            # Where it ends is still known.
            reader.at = self._value_at
            raise ValueRefused(what) from error
        self._value_at = -1
        return found

    def payload(self) -> bytes:
        """The same as DUMP would give it. Raises ValueRefused."""
        module = self._module_type()
        if module is not None:
            raise ValueRefused(module)
        start = self._value_at
        self._pass_over()
        return sealed(bytes((self._kind,)) + self._data[start : self._reader.at], self.version)

    def _module_type(self) -> str | None:
        if self._kind != kinds.MODULE_2:
            return None
        try:
            number = Reader(self._data, self.version, self._value_at).length()
        except _BROKEN:
            return "a value of a module, which it does not name"
        return f"a value of the module type {skim.module_name(number)}"

    def _pass_over(self) -> None:
        reader, data, at = self._reader, self._data, self._value_at
        try:
            if self._kind == kinds.STRING and data[at] < _SHORT:
                # Most values are short strings.
                reader.at = at + 1 + data[at]
            else:
                reader.at = at
                skim.value(self._kind, reader)
        except _BROKEN as error:
            raise self._damaged(at, error) from error
        if reader.at > len(data):
            raise RdbDamaged(self.path, at, "the file ends within a value")
        self._value_at = -1

    # -- what else there is -----------------------------------------------------------------------

    def _other(self, opcode: int) -> Event | None:
        """What such a byte says that begins neither a key nor its deadline in ms."""
        reader = self._reader
        if opcode == opcodes.SELECT:
            self._db = reader.length()
        elif opcode == opcodes.IDLE:
            reader.length()
        elif opcode == opcodes.FREQUENCY:
            reader.byte()
        elif opcode == opcodes.RESIZE:
            reader.length()
            reader.length()
        elif opcode == opcodes.SLOT_INFO:
            for _ in range(3):
                reader.length()
        elif opcode == opcodes.AUX:
            return Fact(reader.string(), reader.string())
        elif opcode == opcodes.FUNCTION:
            return Function(reader.string())
        elif opcode == opcodes.FUNCTION_PRE_GA:
            return self._early_function()
        elif opcode == opcodes.MODULE_AUX:
            name = skim.module_name(reader.length())
            skim.module_parts(reader)
            return Note(f"data of the module type {name} that belongs to no key")
        elif opcode == opcodes.SLOT_IMPORT and self.version == kinds.VALKEY:
            reader.skip_string()
            for _ in range(2 * reader.length()):
                reader.length()
            return Note("slots of a cluster that were being imported: their keys may be there in part")
        else:
            raise FormatError(f"byte {opcode} begins nothing that is known")
        return None

    def _early_function(self) -> Event:
        reader = self._reader
        name, engine = reader.string(), reader.string()
        if reader.length():
            reader.skip_string()
        code = reader.string()
        if engine.upper() != b"LUA":
            return Note(f"the library {name!r} for the engine {engine!r}")
        return Function(b"#!lua name=" + name + b"\n" + code)

    def _finish(self) -> None:
        """The file's end was read, all but the checksum."""
        reader = self._reader
        if self.version >= kinds.WITH_CHECKSUM:
            reader.take(_CHECKSUM_BYTES)
        self.end = reader.at

    # -- the checksum -----------------------------------------------------------------------------

    def _check(self, goes_on: bool) -> None:
        data = self._data
        body = len(data) - _CHECKSUM_BYTES
        if self.version >= kinds.WITH_CHECKSUM and body > MAGIC_BYTES and data[body - 1] == opcodes.END:
            stored = int.from_bytes(data[body:], "little")
            if stored and stored == self._checksum_until(body):
                self.checked = True
                return
        # It is damaged, or has no checksum, or goes on: it has to be read to find its end, or the damage.
        for _ in self:
            pass
        assert self.end is not None
        if self.end != len(data) and not goes_on:
            raise RdbDamaged(self.path, self.end, "the file goes on after its end")
        if self.version >= kinds.WITH_CHECKSUM:
            body = self.end - _CHECKSUM_BYTES
            stored = int.from_bytes(data[body : self.end], "little")
            if stored and stored != self._checksum_until(body):
                raise RdbDamaged(self.path, body, "the checksum does not match the file")
            self.checked = bool(stored)
        self._reader.at = MAGIC_BYTES
        self._db = 0

    def _checksum_until(self, end: int) -> int:
        found = 0
        for at in range(0, end, _SLICE_BYTES):
            found = _checksum(self._data[at : min(end, at + _SLICE_BYTES)], found)
        return found
