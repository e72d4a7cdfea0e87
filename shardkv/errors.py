"""Every error text a client can read, and the exception that carries one.

The texts are those of Redis 7.2, byte for byte, wherever Redis has the same error: client
libraries parse them. The first word is the error code that libraries map to exception classes.
"""

from __future__ import annotations

from collections.abc import Sequence


class CommandError(Exception):
    """Ends a command with an error reply.

    Takes the reply's text without the leading `-` and the trailing CRLF, as bytes or str.
    """

    def __init__(self, text: bytes | str) -> None:
        super().__init__(text)
        self.text: bytes = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CommandError) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


class ProtocolError(Exception):
    """The peer broke the request protocol; carries the text to send before its connection is closed."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


# -- of any command ---------------------------------------------------------------------------

SYNTAX = b"ERR syntax error"
WRONG_TYPE = b"WRONGTYPE Operation against a key holding the wrong kind of value"
NO_SUCH_KEY = b"ERR no such key"
NOT_AN_INTEGER = b"ERR value is not an integer or out of range"
NOT_A_FLOAT = b"ERR value is not a valid float"
OUT_OF_RANGE = b"ERR value is out of range"
INDEX_OUT_OF_RANGE = b"ERR index out of range"
INVALID_DB_INDEX = b"ERR invalid DB index"
DB_OUT_OF_RANGE = b"ERR DB index is out of range"
SAME_OBJECT = b"ERR source and destination objects are the same"
INTERNAL = b"ERR internal error, the server's log tells more"
PATTERN_TOO_LONG = b"ERR pattern is too long"

# -- strings ----------------------------------------------------------------------------------

STRING_TOO_LONG = b"ERR string exceeds maximum allowed size (proto-max-bulk-len)"
OFFSET_OUT_OF_RANGE = b"ERR offset is out of range"
OVERFLOW = b"ERR increment or decrement would overflow"
NAN_OR_INFINITY = b"ERR increment would produce NaN or Infinity"

# -- the request protocol ---------------------------------------------------------------------

TOO_BIG_COUNT = b"ERR Protocol error: too big mbulk count string"
TOO_BIG_BULK_LENGTH = b"ERR Protocol error: too big bulk count string"
TOO_BIG_INLINE = b"ERR Protocol error: too big inline request"
INVALID_COUNT = b"ERR Protocol error: invalid multibulk length"
INVALID_BULK_LENGTH = b"ERR Protocol error: invalid bulk length"
UNAUTHENTICATED_COUNT = b"ERR Protocol error: unauthenticated multibulk length"
UNAUTHENTICATED_BULK_LENGTH = b"ERR Protocol error: unauthenticated bulk length"
UNBALANCED_QUOTES = b"ERR Protocol error: unbalanced quotes in request"


def expected_bulk(got: bytes) -> bytes:
    """Takes the byte that stood where an argument's `$` should be."""
    return b"ERR Protocol error: expected '$', got '%b'" % got


# -- before a command runs --------------------------------------------------------------------

NO_AUTH = b"NOAUTH Authentication required."
LOADING = b"LOADING Redis is loading the dataset in memory"


def unknown_command(name: bytes, args: list[bytes]) -> bytes:
    """The text for a name that no command has; quotes the name and the first arguments, each shortened to
    128 bytes in sum, as Redis does."""
    quoted = b""
    for arg in args:
        if len(quoted) >= 128:
            break
        quoted += b"'%b' " % arg[: 128 - len(quoted)]
    text = b"ERR unknown command '%b', with args beginning with: %b" % (name[:128], quoted)
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


def unknown_subcommand(container: str, name: bytes) -> bytes:
    shown = name[:128].replace(b"\r", b" ").replace(b"\n", b" ")
    return b"ERR unknown subcommand '%b'. Try %b HELP." % (shown, container.upper().encode())


def wrong_arity(name: str) -> bytes:
    """Takes the declared name, `client|kill` for a subcommand, in lower case."""
    return b"ERR wrong number of arguments for '%b' command" % name.encode()


def invalid_expire(name: str) -> bytes:
    return b"ERR invalid expire time in '%b' command" % name.encode()


# -- COMMAND GETKEYS --------------------------------------------------------------------------

INVALID_COMMAND = b"ERR Invalid command specified"
NO_KEY_ARGUMENTS = b"ERR The command has no key arguments"
INVALID_ARGUMENT_COUNT = b"ERR Invalid number of arguments specified for command"
INVALID_ARGUMENTS = b"ERR Invalid arguments specified for command"

# -- configuration ----------------------------------------------------------------------------
# Reasons why a value is refused, for CONFIG SET and for the configuration file alike.

WRONG_NUMBER_OF_VALUES = "wrong number of arguments"
NOT_YES_OR_NO = "argument must be 'yes' or 'no'"
NOT_PARSED_AS_INTEGER = "argument couldn't be parsed into an integer"
NOT_PARSED_AS_OCTAL = "argument couldn't be parsed as an octal number"
NOT_A_MEMORY_VALUE = "argument must be a memory value"
TOO_MANY_ADDRESSES = "Too many bind addresses specified."
WRONG_NUMBER_IN_BUFFER_LIMIT = "Wrong number of arguments in buffer limit configuration."
WRONG_CLASS_IN_BUFFER_LIMIT = "Invalid client class specified in buffer limit configuration."
WRONG_VALUE_IN_BUFFER_LIMIT = "Error in hard, soft or soft_seconds setting in buffer limit configuration."
IMMUTABLE_SETTING = "can't set immutable config"
DUPLICATE_SETTING = "duplicate parameter"


def not_between(low: str, high: str) -> str:
    return f"argument must be between {low} and {high} inclusive"


def not_one_of(names: Sequence[str]) -> str:
    return f"argument(s) must be one of the following: {', '.join(names)}"


def unsupported_setting(accepted: Sequence[str]) -> str:
    """Takes the values that ask for nothing and are therefore accepted."""
    values = " or ".join(value or '""' for value in accepted)
    return f"not supported by shardkv, it accepts only {values}" if values else "not supported by shardkv"


def unknown_setting(name: bytes) -> bytes:
    shown = name[:128].replace(b"\r", b" ").replace(b"\n", b" ")
    return b"ERR Unknown option or number of arguments for CONFIG SET - '%b'" % shown


def config_set_failed(name: str, reason: str) -> bytes:
    return f"ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}".encode()


# -- shards -----------------------------------------------------------------------------------


def shard_down(shard: int) -> bytes:
    """For a command that was not run because its shard's process is being restarted."""
    return b"SHARDDOWN shard %d is not available, try again" % shard


def shard_died(shard: int) -> bytes:
    """For a command that was on its way when its shard's process died."""
    return b"SHARDDOWN shard %d stopped before it answered, the command may have been executed" % shard


def log_failed(reason: object) -> bytes:
    """For writes while the append-only file cannot be written."""
    return f"MISCONF Errors writing to the AOF file: {reason}".encode()
