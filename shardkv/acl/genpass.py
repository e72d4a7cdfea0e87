"""ACL GENPASS: passwords that nobody can guess."""

from __future__ import annotations

import secrets

from shardkv import errors, limits
from shardkv.errors import CommandError


def genpass(bits: int = 256) -> bytes:
    """A password of at least so many random bits, in hexadecimal digits. Raises CommandError for less than
    one bit or more than limits.MAX_GENPASS_BITS."""
    if not 0 < bits <= limits.MAX_GENPASS_BITS:
        raise CommandError(errors.GENPASS_BITS)
    digits = (bits + 3) // 4
    return secrets.token_hex((digits + 1) // 2)[:digits].encode()
