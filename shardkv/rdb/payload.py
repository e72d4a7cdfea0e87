"""A value by itself, as DUMP gives it and RESTORE takes it.

Its kind in one byte, the value, the version of the format in two bytes and a checksum (CRC-64 as of Jones)
of all that in eight.
"""

from __future__ import annotations

from typing import Any

import anycrc

from shardkv.rdb import decode, encode, kinds
from shardkv.rdb.reader import FormatError, Reader
from shardkv.values import Value

_VERSION_BYTES = 2
_CHECKSUM_BYTES = 8
_FOOTER_BYTES = _VERSION_BYTES + _CHECKSUM_BYTES

_checksum = anycrc.Model("CRC64-REDIS").calc


class PayloadError(ValueError):
    """The checksum is wrong, or the version is not known."""


def dump(value: Value) -> bytes:
    """A value as Redis from 7.0 on and Valkey read it; a hash with fields that expire as only Valkey does."""
    encoded = encode.value(value, kinds.REDIS_7_0)
    return sealed(b"".join((bytes((encoded.kind,)), *encoded.parts)), encoded.version)


def sealed(content: bytes, version: int) -> bytes:
    """What is in a version of the format, with that version and the checksum after it."""
    body = content + version.to_bytes(_VERSION_BYTES, "little")
    checksum: int = _checksum(body)
    return body + checksum.to_bytes(_CHECKSUM_BYTES, "little")


def is_plain(payload: bytes) -> bool:
    """Whether what could be restored from a payload is in such a form that Redis 7.0 restores the same."""
    version = int.from_bytes(payload[-_FOOTER_BYTES:-_CHECKSUM_BYTES], "little")
    return payload[0] in kinds.PLAIN and version <= kinds.REDIS_7_0


def checked(payload: bytes) -> tuple[int, int]:
    """The version of the format of a payload, and the length of what it holds. Raises PayloadError."""
    end = len(payload) - _FOOTER_BYTES
    if end < 0:
        raise PayloadError
    body, checksum = payload[:-_CHECKSUM_BYTES], payload[-_CHECKSUM_BYTES:]
    version = int.from_bytes(body[end:], "little")
    if not kinds.is_known(version) or _checksum(body) != int.from_bytes(checksum, "little"):
        raise PayloadError
    return version, end


def restore(payload: bytes, config: Any) -> Value:
    """The value that a payload holds; `config` are the settings that choose encodings.

    Raises PayloadError or FormatError.
    """
    version, end = checked(payload)
    if not end:
        raise FormatError("nothing")
    reader = Reader(payload, version, 1)
    value = decode.value(payload[0], reader, config)
    # What follows after a value does no harm, says Redis.
    if reader.at > end:
        raise FormatError("the bytes end too soon")
    return value
