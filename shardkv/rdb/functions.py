"""Libraries of functions as FUNCTION DUMP gives them and FUNCTION RESTORE takes them.

For each library a byte that says so and its code; then, as after a value (see payload), the version of the
format and a checksum.
"""

from __future__ import annotations

from shardkv.rdb import kinds, opcodes
from shardkv.rdb.payload import checked, sealed
from shardkv.rdb.reader import FormatError, Reader
from shardkv.rdb.writer import string


def dump(codes: list[bytes]) -> bytes:
    """Libraries, as Redis from 7.0 on and Valkey read them."""
    return sealed(b"".join(bytes((opcodes.FUNCTION,)) + string(code) for code in codes), kinds.REDIS_7_0)


def restore(payload: bytes) -> list[bytes]:
    """The code of each library in a payload. Raises PayloadError or FormatError."""
    version, end = checked(payload)
    reader = Reader(payload, version)
    found = []
    try:
        while reader.at < end:
            if reader.byte() != opcodes.FUNCTION:
                raise FormatError("no library")
            found.append(reader.string())
    except (IndexError, ValueError) as error:
        raise FormatError("the bytes end too soon") from error
    if reader.at > end:
        raise FormatError("the bytes end too soon")
    return found
