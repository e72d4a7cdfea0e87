"""Where a value ends, without making it: for the keys of other shards, for values that travel as they are,
and for those that nothing here can make."""

from __future__ import annotations

from collections.abc import Callable

from shardkv.rdb import kinds
from shardkv.rdb.reader import FormatError, Reader

_ID_BYTES = 16
_TIME_BYTES = 8
_DELIVERY_BYTES = _ID_BYTES + _TIME_BYTES


def value(kind: int, reader: Reader) -> None:
    """Passes over the value of that kind that comes next.

    Where the bytes end too soon there is an IndexError or a struct.error, or the place is beyond them. Raises
    FormatError for a kind that is not known.
    """
    skim = _SKIMMERS.get(kind)
    if kind == kinds.HASH_2 and reader.version == kinds.VALKEY:
        skim = _hash_with_absolute_deadlines
    if skim is None:
        raise FormatError(f"values of kind {kind} are not known")
    skim(reader)


def _strings(reader: Reader) -> None:
    reader.skip_strings(reader.length())


def _hash(reader: Reader) -> None:
    reader.skip_strings(2 * reader.length())


_FIRST_WITHOUT_TEXT = 253


def _zset(reader: Reader) -> None:
    for _ in range(reader.length()):
        reader.skip_string()
        size = reader.byte()
        if size < _FIRST_WITHOUT_TEXT:
            reader.skip(size)


def _zset_2(reader: Reader) -> None:
    for _ in range(reader.length()):
        reader.skip_string()
        reader.skip(8)


def _nodes(reader: Reader) -> None:
    for _ in range(reader.length()):
        reader.length()
        reader.skip_string()


def _hash_with_absolute_deadlines(reader: Reader) -> None:
    for _ in range(reader.length()):
        reader.skip_strings(2)
        reader.skip(_TIME_BYTES)


def _hash_with_relative_deadlines(reader: Reader) -> None:
    for _ in range(reader.length()):
        reader.length()
        reader.skip_strings(2)


def _after_time(skim: Callable[[Reader], None]) -> Callable[[Reader], None]:
    def skim_both(reader: Reader) -> None:
        reader.skip(_TIME_BYTES)
        skim(reader)

    return skim_both


def _stream(kind: int) -> Callable[[Reader], None]:
    def lengths(reader: Reader, count: int) -> None:
        for _ in range(count):
            reader.length()

    def skim(reader: Reader) -> None:
        reader.skip_strings(2 * reader.length())
        # The number of entries and the last ID; the first ID, the greatest deleted one, the entries added.
        lengths(reader, 3 if kind == kinds.STREAM else 8)
        for _ in range(reader.length()):
            reader.skip_string()
            lengths(reader, 2 if kind == kinds.STREAM else 3)
            for _ in range(reader.length()):
                reader.skip(_DELIVERY_BYTES)
                reader.length()
            for _ in range(reader.length()):
                reader.skip_string()
                reader.skip(2 * _TIME_BYTES if kind == kinds.STREAM_3 else _TIME_BYTES)
                reader.skip(_ID_BYTES * reader.length())

    return skim


# -- modules ----------------------------------------------------------------------------------

_MODULE_END, _SIGNED, _UNSIGNED, _FLOAT, _DOUBLE, _STRING = range(6)

_MODULE_NAME = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_MODULE_NAME_LENGTH = 9


def module_name(number: int) -> str:
    """The name of a module's type, of which its number consists: nine characters of 6 bits, and a version."""
    number >>= 10
    places = reversed(range(_MODULE_NAME_LENGTH))
    return bytes(_MODULE_NAME[number >> 6 * place & 0x3F] for place in places).decode()


def module_parts(reader: Reader) -> None:
    """Passes over what a module has written, up to its end."""
    while (part := reader.length()) != _MODULE_END:
        if part in (_SIGNED, _UNSIGNED):
            reader.length()
        elif part in (_FLOAT, _DOUBLE):
            reader.skip(4 if part == _FLOAT else 8)
        elif part == _STRING:
            reader.skip_string()
        else:
            raise FormatError("no part of what a module has written")


def _module(reader: Reader) -> None:
    reader.length()
    module_parts(reader)


_SKIMMERS: dict[int, Callable[[Reader], None]] = {
    kinds.STRING: Reader.skip_string,
    kinds.LIST: _strings,
    kinds.SET: _strings,
    kinds.ZSET: _zset,
    kinds.HASH: _hash,
    kinds.ZSET_2: _zset_2,
    kinds.MODULE_2: _module,
    kinds.HASH_ZIPMAP: Reader.skip_string,
    kinds.LIST_ZIPLIST: Reader.skip_string,
    kinds.SET_INTSET: Reader.skip_string,
    kinds.ZSET_ZIPLIST: Reader.skip_string,
    kinds.HASH_ZIPLIST: Reader.skip_string,
    kinds.LIST_QUICKLIST: _strings,
    kinds.STREAM: _stream(kinds.STREAM),
    kinds.HASH_LISTPACK: Reader.skip_string,
    kinds.ZSET_LISTPACK: Reader.skip_string,
    kinds.LIST_QUICKLIST_2: _nodes,
    kinds.STREAM_2: _stream(kinds.STREAM_2),
    kinds.SET_LISTPACK: Reader.skip_string,
    kinds.STREAM_3: _stream(kinds.STREAM_3),
    kinds.HASH_DEADLINES_EARLY: _hash_with_relative_deadlines,
    kinds.HASH_LISTPACK_DEADLINES_EARLY: Reader.skip_string,
    kinds.HASH_DEADLINES: _after_time(_hash_with_relative_deadlines),
    kinds.HASH_LISTPACK_DEADLINES: _after_time(Reader.skip_string),
}
