"""How the commands that came with the deadlines of fields are given fields and times.

Redis 8.2 and Valkey 9.1 both have these commands, with different texts for the same errors. Here they are
those of Redis.
"""

from __future__ import annotations

from shardkv import errors, limits
from shardkv.commands.expire import Unit, deadline
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import INT64_MAX, integer


def read_fields(words: list[bytes], name: str, error: bytes = errors.NUMFIELDS_NOT_POSITIVE) -> list[bytes]:
    """Takes `FIELDS numfields field [field ...]`, which nothing may follow.

    `error` says that numfields is no positive number. Raises CommandError.
    """
    if len(words) < 2:
        raise CommandError(errors.wrong_arity(name))
    if words[0].upper() != b"FIELDS":
        raise CommandError(errors.FIELDS_MISSING)
    fields = words[2:]
    if read_numfields(words[1], INT64_MAX, error) != len(fields):
        raise CommandError(errors.NUMFIELDS_MISMATCH)
    return fields


def read_numfields(text: bytes, most: int, error: bytes) -> int:
    """A positive number. Raises CommandError(error) for anything else."""
    number = integer(text, error)
    if not 0 < number <= most:
        raise CommandError(error)
    return number


def field_deadline(db: Database, text: bytes, unit: Unit, name: str) -> int:
    """The time that a client gives for fields, in ms since 1970; it may lie in the past.

    `name` is the command's. Raises CommandError if `text` is no integer or the time is out of range.
    """
    if integer(text) < 0:
        raise CommandError(errors.NEGATIVE_EXPIRE)
    at_ms = deadline(db, text, unit, name)
    # While a log is replayed, the shard's clock stands still. Valkey's may hold any time.
    if at_ms > limits.LAST_FIELD_DEADLINE_MS and db.shard.now_ms:
        raise CommandError(errors.invalid_expire(name))
    return at_ms
