"""Every error text a client can read, and the exception that carries one.

The texts are those of Redis 7.2, byte for byte, wherever Redis has the same error: client
libraries parse them. The first word is the error code that libraries map to exception classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar


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


E = TypeVar("E", bound=Exception)


def caught(error: E) -> E:
    """An error that has been caught, to be kept as a mere value: without its traceback. The frames in that
    hold whoever keeps the error, in a circle that nobody frees, since processes run without the cyclic
    garbage collector."""
    error.__traceback__ = None
    return error


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
NOT_AN_INT = b"ERR value is out of range, value must between -2147483648 and 2147483647"
NOT_0_OR_1 = b"ERR value is out of range, value must between 0 and 1"
INVALID_NUMKEYS = b"ERR invalid numkeys value or out of range"
INTERNAL = b"ERR internal error, the server's log tells more"
PATTERN_TOO_LONG = b"ERR pattern is too long"

OUT_OF_MEMORY = b"OOM command not allowed when used memory > 'maxmemory'."

# -- transactions -----------------------------------------------------------------------------

EXEC_ABORTED = b"EXECABORT Transaction discarded because of previous errors."
EXEC_WITHOUT_MULTI = b"ERR EXEC without MULTI"
DISCARD_WITHOUT_MULTI = b"ERR DISCARD without MULTI"
NESTED_MULTI = b"ERR MULTI calls can not be nested"
WATCH_INSIDE_MULTI = b"ERR WATCH inside MULTI is not allowed"
NOT_IN_MULTI = b"ERR Command not allowed inside a transaction"
TOO_MANY_QUEUED = b"ERR too many commands in one transaction"
GIVEN_UP = b"SHARDDOWN The transaction was given up, because a process that had a part in it has ended"
IN_DOUBT = (
    b"SHARDDOWN A process that had a part in the transaction has ended; it will be carried out as a whole or "
    b"not at all"
)

SHARDS_NOT_THERE = b"ERR Not all shards have said what their slots cost, try again later"
SLOTS_ARE_MOVING = b"ERR Slots are being moved already"
WORKERS_WITHOUT_LOG = (
    b"ERR There is data in the folder that is not loaded, so the number of workers has to stay: set "
    b"appendonly to yes before"
)

SLOT_MOVED = b"SLOTMOVED The slot belongs to another shard now"
"""Between processes; a proxy that gets it asks the other shard, and no client sees it."""


def exec_refused(text: bytes) -> bytes:
    """For an EXEC that cannot be carried out now; takes the error that its commands would get."""
    return b"EXECABORT Transaction discarded because of: " + text.removeprefix(b"ERR ")


# -- strings ----------------------------------------------------------------------------------

STRING_TOO_LONG = b"ERR string exceeds maximum allowed size (proto-max-bulk-len)"
OFFSET_OUT_OF_RANGE = b"ERR offset is out of range"
OVERFLOW = b"ERR increment or decrement would overflow"
DECREMENT_OVERFLOW = b"ERR decrement would overflow"
NAN_OR_INFINITY = b"ERR increment would produce NaN or Infinity"
LCS_OF_NO_STRINGS = b"ERR The specified keys must contain string values"
LCS_LEN_AND_IDX = b"ERR If you want both the length and indexes, please just use IDX."
LCS_TOO_LARGE = b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"

# -- bits of strings --------------------------------------------------------------------------

INVALID_BIT_OFFSET = b"ERR bit offset is not an integer or out of range"
INVALID_BIT = b"ERR bit is not an integer or out of range"
NEITHER_BIT = b"ERR The bit argument must be 1 or 0."
NOT_OF_SEVERAL = b"ERR BITOP NOT must be called with a single source key."
INVALID_FIELD_TYPE = (
    b"ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is."
)
INVALID_OVERFLOW = b"ERR Invalid OVERFLOW type specified"
ONLY_GET = b"ERR BITFIELD_RO only supports the GET subcommand"


def too_few_source_keys(operation: bytes) -> bytes:
    """Takes the operation of BITOP, in upper case."""
    return b"ERR BITOP %b must be called with at least two source keys." % operation


# -- HyperLogLogs -----------------------------------------------------------------------------

NO_HYPERLOGLOG = b"WRONGTYPE Key is not a valid HyperLogLog string value."
CORRUPTED_HYPERLOGLOG = b"INVALIDOBJ Corrupted HLL object detected"
NO_SPECIFIED_KEY = b"ERR The specified key does not exist"
NOT_SPARSE = b"ERR HLL encoding is not sparse"


def self_test_failed(what: bytes) -> bytes:
    return b"TESTFAILED %b" % what


def unknown_pfdebug_subcommand(name: bytes) -> bytes:
    return b"ERR Unknown PFDEBUG subcommand '%b'" % name[:128]


# -- keys of any type ---------------------------------------------------------------------------

NX_AND_OTHERS = b"ERR NX and XX, GT or LT options at the same time are not compatible"
GT_AND_LT = b"ERR GT and LT options at the same time are not compatible"
INVALID_CURSOR = b"ERR invalid cursor"
INVALID_FIRST_DB = b"ERR invalid first DB index"
INVALID_SECOND_DB = b"ERR invalid second DB index"
NO_FREQUENCY = (
    b"ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
    b"switching between policies at runtime LRU and LFU data will take some time to adjust."
)
NO_IDLE_TIME = (
    b"ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching "
    b"between policies at runtime LRU and LFU data will take some time to adjust."
)

BUSY_KEY = b"BUSYKEY Target key name already exists."
INVALID_TTL = b"ERR Invalid TTL value, must be >= 0"
INVALID_IDLETIME = b"ERR Invalid IDLETIME value, must be >= 0"
INVALID_FREQUENCY = b"ERR Invalid FREQ value, must be >= 0 and <= 255"
WRONG_PAYLOAD = b"ERR DUMP payload version or checksum are wrong"
BAD_DATA_FORMAT = b"ERR Bad data format"


NOT_SORTABLE = b"ERR One or more scores can't be converted into double"


def unsupported_option(option: bytes) -> bytes:
    return b"ERR Unsupported option %b" % option


def invalid_expire(name: str) -> bytes:
    """Takes the command's declared name."""
    return b"ERR invalid expire time in '%b' command" % name.encode()


# -- lists ------------------------------------------------------------------------------------

NOT_A_COUNT = b"ERR value is out of range, must be positive"
NOT_A_LONG = b"ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
ZERO_RANK = (
    b"ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to "
    b"start from the end of the list"
)
NEGATIVE_COUNT = b"ERR COUNT can't be negative"
NEGATIVE_MAXLEN = b"ERR MAXLEN can't be negative"

# -- sets -------------------------------------------------------------------------------------

TOO_MANY_KEYS = b"ERR Number of keys can't be greater than number of args"
NEGATIVE_LIMIT = b"ERR LIMIT can't be negative"
NO_VALUES_OUTSIDE_HSCAN = b"ERR NOVALUES option can only be used in HSCAN"
NO_SCORES_OUTSIDE_ZSCAN = b"ERR NOSCORES option can only be used in ZSCAN"

# -- sorted sets ------------------------------------------------------------------------------

NX_AND_XX = b"ERR XX and NX options at the same time are not compatible"
GT_LT_AND_NX = b"ERR GT, LT, and/or NX options at the same time are not compatible"
INCR_OF_SEVERAL = b"ERR INCR option supports a single increment-element pair"
SCORE_NOT_A_NUMBER = b"ERR resulting score is not a number (NaN)"
SCORE_BOUND_NOT_A_FLOAT = b"ERR min or max is not a float"
INVALID_LEX_BOUND = b"ERR min or max not valid string range item"
LIMIT_OF_RANKS = b"ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
SCORES_BY_LEX = b"ERR syntax error, WITHSCORES not supported in combination with BYLEX"
WEIGHT_NOT_A_FLOAT = b"ERR weight value is not a float"


def no_input_keys(name: str) -> bytes:
    """Takes the command's declared name."""
    return b"ERR at least 1 input key is needed for '%b' command" % name.encode()


# -- geo --------------------------------------------------------------------------------------

UNSUPPORTED_UNIT = b"ERR unsupported unit provided. please use M, KM, FT, MI"
NO_SUCH_PLACE = b"ERR could not decode requested zset member"
RADIUS_NOT_NUMERIC = b"ERR need numeric radius"
WIDTH_NOT_NUMERIC = b"ERR need numeric width"
HEIGHT_NOT_NUMERIC = b"ERR need numeric height"
NEGATIVE_RADIUS = b"ERR radius cannot be negative"
NEGATIVE_BOX = b"ERR height or width cannot be negative"
GEO_COUNT_NOT_POSITIVE = b"ERR COUNT must be > 0"
ANY_WITHOUT_COUNT = b"ERR the ANY argument requires COUNT argument"
VERTICES_NOT_A_NUMBER = b"ERR invalid number of vertices"
TOO_FEW_VERTICES = b"ERR GEOSEARCH BYPOLYGON must have at least 3 vertices"


def invalid_position(longitude: float, latitude: float) -> bytes:
    return b"ERR invalid longitude,latitude pair %f,%f" % (longitude, latitude)


def store_and_more(name: str) -> bytes:
    """For a search that is to be stored and shown. Takes the command's declared name."""
    what = b"GEOSEARCHSTORE" if name == "geosearchstore" else b"STORE option in GEORADIUS"
    return b"%b is not compatible with WITHDIST, WITHHASH and WITHCOORD options" % (b"ERR " + what)


def no_center(name: str) -> bytes:
    """Takes the command's declared name."""
    return b"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for " + name.upper().encode()


def no_shape(name: str) -> bytes:
    """Takes the command's declared name."""
    return b"ERR exactly one of BYRADIUS, BYBOX and BYPOLYGON can be specified for " + name.upper().encode()


# -- hashes -----------------------------------------------------------------------------------
# The later ones are those of Redis 8.2, which came with the deadlines of fields.

HASH_VALUE_NOT_AN_INTEGER = b"ERR hash value is not an integer"
HASH_VALUE_NOT_A_FLOAT = b"ERR hash value is not a float"
INFINITE_INCREMENT = b"ERR value is NaN or Infinity"
FIELDS_MISSING = b"ERR Mandatory argument FIELDS is missing or not at the right position"
NUMFIELDS_NOT_POSITIVE = b"ERR Number of fields must be a positive integer"
NUMFIELDS_NOT_ABOVE_ZERO = b"ERR Parameter `numFields` should be greater than 0"
NUMFIELDS_INVALID = b"ERR invalid number of fields"
NUMFIELDS_MISMATCH = b"ERR The `numfields` parameter must match the number of arguments"
NEGATIVE_EXPIRE = b"ERR invalid expire time, must be >= 0"
MISSING_EXPIRE = b"ERR missing expire time"
FXX_AND_FNX = b"ERR Only one of FXX or FNX arguments can be specified"
SEVERAL_EXPIRES = b"ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"


def unknown_argument(word: bytes) -> bytes:
    return b"ERR unknown argument: %b" % word[:128]


# -- streams ----------------------------------------------------------------------------------
# Those of IDS are of Redis 8.2.

INVALID_STREAM_ID = b"ERR Invalid stream ID specified as stream command argument"
INVALID_START_ID = b"ERR invalid start ID for the interval"
INVALID_END_ID = b"ERR invalid end ID for the interval"
STREAM_ID_NOT_ABOVE_ZERO = b"ERR The ID specified in XADD must be greater than 0-0"
STREAM_ID_TOO_SMALL = b"ERR The ID specified in XADD is equal or smaller than the target stream top item"
STREAM_IDS_EXHAUSTED = b"ERR The stream has exhausted the last possible ID, unable to add more items"
STREAM_ENTRY_TOO_LARGE = b"ERR Elements are too large to be stored"
TRIMMED_TWICE = b"ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
NEGATIVE_TRIM_MAXLEN = b"ERR The MAXLEN argument must be >= 0."
NEGATIVE_TRIM_LIMIT = b"ERR The LIMIT argument must be >= 0."
LIMIT_WITHOUT_TRIM = b"ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
LIMIT_OF_EXACT_TRIM = b"ERR syntax error, LIMIT cannot be used without the special ~ option"
NO_TRIM_STRATEGY = b"ERR syntax error, XTRIM must be called with a trimming strategy"
NEGATIVE_ENTRIES_ADDED = b"ERR entries_added must be positive"
ENTRIES_ADDED_TOO_SMALL = (
    b"ERR The entries_added specified in XSETID is smaller than the target stream length"
)
LAST_ID_BELOW_GIVEN_DELETED = (
    b"ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id"
)
LAST_ID_BELOW_DELETED = b"ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"
LAST_ID_BELOW_TOP = b"ERR The ID specified in XSETID is smaller than the target stream top item"
GROUP_EXISTS = b"BUSYGROUP Consumer Group name already exists"
NEGATIVE_ENTRIES_READ = b"ERR value for ENTRIESREAD must be positive or -1"
XGROUP_OF_NO_KEY = (
    b"ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the "
    b"MKSTREAM option to create an empty stream automatically."
)
MISSING_GROUP = b"ERR Missing GROUP option for XREADGROUP"
GREATER_ID_WITHOUT_GROUP = (
    b"ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."
)
CLAIMED_COUNT_NOT_POSITIVE = b"ERR COUNT must be > 0"
NUMIDS_NOT_POSITIVE = b"ERR Number of IDs must be a positive integer"
NUMIDS_MISMATCH = b"ERR The `numids` parameter must match the number of arguments"


def only_for_groups(option: str) -> bytes:
    """For an option of XREADGROUP given to XREAD."""
    return f"ERR The {option} option is only supported by XREADGROUP. You called XREAD instead.".encode()


def unbalanced_streams(name: str, sign: str) -> bytes:
    """Takes the command's declared name and the special ID it knows."""
    return (
        f"ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{sign}' must be specified."
    ).encode()


def meaningless_in_groups(stream_id: str) -> bytes:
    """For a special ID of XREAD given to XREADGROUP."""
    return (
        f"ERR The {stream_id} ID is meaningless in the context of XREADGROUP: you want to read the history "
        f"of "
        "this consumer by specifying a proper ID, or use the > ID to get new messages. The "
        f"{stream_id} ID would just return an empty result set."
    ).encode()


def no_group(key: bytes, group: bytes) -> bytes:
    return b"NOGROUP No such key '%b' or consumer group '%b'" % (key, group)


def no_group_of_key(key: bytes, group: bytes) -> bytes:
    """For a key that is there."""
    return b"NOGROUP No such consumer group '%b' for key name '%b'" % (group, key)


def invalid_argument_of(option: str, name: str) -> bytes:
    """For a number, `min-idle-time` or `IDLE option`, that a command was given."""
    return f"ERR Invalid {option} argument for {name}".encode()


def unknown_claim_option(option: bytes) -> bytes:
    return b"ERR Unrecognized XCLAIM option '%b'" % option


def subcommand_syntax(container: str, name: bytes) -> bytes:
    """For a known subcommand whose options are wrong."""
    return b"ERR unknown subcommand or wrong number of arguments for '%b'. Try %b HELP." % (
        name[:128],
        container.encode(),
    )


# -- publish/subscribe ------------------------------------------------------------------------

SSUBSCRIBE_INSIDE_MULTI = b"ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"


def not_while_subscribed(name: str) -> bytes:
    """Takes the declared name, `client|kill` for a subcommand, in lower case."""
    return (
        b"ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed "
        b"in this context" % name.encode()
    )


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
PROTECTED_MODE = (
    b"DENIED Redis is running in protected mode because protected mode is enabled and no password is set"
    b" for the default user. In this mode connections are only accepted from the loopback interface. If "
    b"you want to connect from external computers to Redis you may adopt one of the following solutions:"
    b" 1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the "
    b"loopback interface by connecting to Redis from the same host the server is running, however MAKE "
    b"SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this "
    b"change permanent. 2) Alternatively you can just disable the protected mode by editing the Redis "
    b"configuration file, and setting the protected mode option to 'no', and then restarting the server."
    b" 3) If you started the server manually just for testing, restart it with the '--protected-mode no'"
    b" option. 4) Setup a an authentication password for the default user. NOTE: You only need to do one"
    b" of the above things in order for the server to start accepting connections from the outside."
)
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


# -- COMMAND GETKEYS --------------------------------------------------------------------------

INVALID_COMMAND = b"ERR Invalid command specified"
NO_KEY_ARGUMENTS = b"ERR The command has no key arguments"
INVALID_ARGUMENT_COUNT = b"ERR Invalid number of arguments specified for command"
INVALID_ARGUMENTS = b"ERR Invalid arguments specified for command"

# -- configuration ----------------------------------------------------------------------------
# Reasons why a value is refused, for CONFIG SET and for the configuration file alike.

WRONG_NUMBER_OF_VALUES = "wrong number of arguments"
NOT_YES_OR_NO = "argument must be 'yes' or 'no'"
WRONG_SAVE_POINTS = "Invalid save parameters"
NOT_PARSED_AS_INTEGER = "argument couldn't be parsed into an integer"
NOT_PARSED_AS_OCTAL = "argument couldn't be parsed as an octal number"
NOT_A_MEMORY_VALUE = "argument must be a memory value"
NO_PERCENTILES = "Invalid latency-tracking-info-percentiles parameters"
PERCENTILE_OUT_OF_RANGE = "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
NOT_A_MEMORY_OR_PERCENT_VALUE = "argument must be a memory or percent value"
OVER_100_PERCENT = "percentage argument must be less or equal to 100"
WRONG_KEY_PATTERN = (
    "a pattern is a beginning of keys, two characters at least before the first *, with text after every "
    "*, and without {"
)
TOO_MANY_ADDRESSES = "Too many bind addresses specified."
WRONG_NUMBER_IN_BUFFER_LIMIT = "Wrong number of arguments in buffer limit configuration."
WRONG_CLASS_IN_BUFFER_LIMIT = "Invalid client class specified in buffer limit configuration."
WRONG_VALUE_IN_BUFFER_LIMIT = "Error in hard, soft or soft_seconds setting in buffer limit configuration."
IMMUTABLE_SETTING = "can't set immutable config"
DUPLICATE_SETTING = "duplicate parameter"


def not_between(low: str, high: str) -> str:
    return f"argument must be between {low} and {high} inclusive"


TRACKING_MODE = (
    b"ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling "
    b"it with a different mode."
)
TRACKING_OPT = (
    b"ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling "
    b"it with a different mode."
)
TRACKING_PREFIX_WITHOUT_BCAST = b"ERR PREFIX option requires BCAST mode to be enabled"
TRACKING_BCAST_WITH_OPT = b"ERR OPTIN and OPTOUT are not compatible with BCAST"
TRACKING_BOTH_OPTS = b"ERR You can't specify both OPTIN mode and OPTOUT mode"
TRACKING_ONE_REDIRECT = b"ERR A client can only redirect to a single other client"
TRACKING_REDIRECT_UNKNOWN = b"ERR The client ID you want redirect to does not exist"
TOO_MANY_TRACKERS = b"ERR too many clients track keys"
CACHING_WITHOUT_OPT = (
    b"ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode "
    b"enabled"
)
CACHING_YES_WITHOUT_OPTIN = b"ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
CACHING_NO_WITHOUT_OPTOUT = b"ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."


def overlapping_prefixes(prefix: bytes, other: bytes, *, existing: bool) -> bytes:
    what = b"an existing" if existing else b"another provided"
    return b"ERR Prefix '%b' overlaps with %b prefix '%b'. Prefixes for a single client must not overlap." % (
        prefix,
        what,
        other,
    )


def wrong_event_class(letters: str) -> str:
    return f"Invalid event class character. Use '{letters}'."


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


def tls_not_updated(name: str, reason: str) -> bytes:
    return config_set_failed(name, f"Unable to update TLS configuration. {reason}")


# -- connections ------------------------------------------------------------------------------

NO_PASSWORD_SET = (
    b"ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?"
)
WRONG_PASSWORD = b"WRONGPASS invalid username-password pair or user is disabled."
HELLO_WITHOUT_AUTH = (
    b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> "
    b"<pass> "
    b"option can be used to authenticate the client and select the RESP protocol version at the same time"
)
PROTOCOL_NOT_AN_INTEGER = b"ERR Protocol version is not an integer or out of range"
UNSUPPORTED_PROTOCOL = b"NOPROTO unsupported protocol version"
TOO_MANY_CLIENTS = b"ERR max number of clients reached"
NO_SUCH_CLIENT = b"ERR No such client"
INVALID_CLIENT_ID = b"ERR Invalid client ID"
UNBLOCKED = b"UNBLOCKED client unblocked via CLIENT UNBLOCK"
UNBLOCK_HOW = b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"
TIMEOUT_NOT_A_FLOAT = b"ERR timeout is not a float or out of range"
NO_LOG_TO_WAIT_FOR = b"ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."
PAUSE_NOT_AN_INTEGER = b"ERR timeout is not an integer or out of range"
PAUSE_NEGATIVE = b"ERR timeout is negative"
PAUSE_OUT_OF_RANGE = b"ERR timeout is out of range"
PAUSE_MODE = b"ERR CLIENT PAUSE mode must be WRITE or ALL"


def hello_option(option: bytes) -> bytes:
    return b"ERR Syntax error in HELLO option '%b'" % option[:128]


def unprintable(what: str) -> bytes:
    """For a name that is shown in CLIENT LIST; `what` as the client wrote it, or `Client names`."""
    return f"ERR {what} cannot contain spaces, newlines or special characters.".encode()


def unrecognized_option(option: bytes) -> bytes:
    return b"ERR Unrecognized option '%b'" % option[:128]


def unknown_client_type(name: bytes) -> bytes:
    return b"ERR Unknown client type '%b'" % name[:128]


def no_such_user(name: bytes) -> bytes:
    return b"ERR No such user '%b'" % name[:128]


def not_positive(name: str) -> bytes:
    """For a number given to CLIENT LIST or KILL."""
    return f"ERR {name} should be greater than 0".encode()


def filter_not_an_integer(name: str) -> bytes:
    return f"ERR {name} is not an integer or out of range".encode()


def filter_db_out_of_range(name: str, databases: int) -> bytes:
    return f"ERR {name} number should be between 0 and {databases - 1}".encode()


def unknown_in_filter(what: str, name: str, given: bytes) -> bytes:
    """Takes what is unknown, `flags` or `capa`, and the filter's name."""
    which = name if name.startswith("NOT-") else "provided"
    return f"ERR Unknown {what} found in the {which} filter: ".encode() + given[:128]


# -- users ------------------------------------------------------------------------------------

DEFAULT_USER_STAYS = b"ERR The 'default' user cannot be removed"
NO_ACL_FILE = (
    b"ERR This instance is not configured to use an ACL file. You may want to specify users via the ACL "
    b"SETUSER command and then issue a CONFIG REWRITE (assuming you have a configuration file set) in order "
    b"to store users in the configuration."
)
USERS_TWICE = (
    "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is invalid. "
    "This setup is very likely to lead to configuration errors and security holes, please define either an "
    "ACL file or declare users directly in your redis.conf, but not both."
)
ACL_NOT_SAVED = (
    b"ERR There was an error trying to save the ACLs. Please check the server logs for more information"
)


USER_NAME = b"ERR Usernames can't contain spaces or null characters"
GENPASS_BITS = (
    b"ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to "
    b"4096"
)
ACL_NOT_LOADED = b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed"

# The reasons why a rule is refused.
ACL_SYNTAX = b"Syntax error"
ACL_UNKNOWN_COMMAND = b"Unknown command or category name in ACL"
ACL_ARGUMENT_OF_SUBCOMMAND = b"Allowing first-arg of a subcommand is not supported"
ACL_KEYS_ARE_ALL = (
    b"Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any "
    b"effect. Try 'resetkeys' to start with an empty list of patterns"
)
ACL_CHANNELS_ARE_ALL = (
    b"Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any "
    b"effect. Try 'resetchannels' to start with an empty list of channels"
)
ACL_NO_SUCH_PASSWORD = b"The password you are trying to remove from the user does not exist"
ACL_HASH = (
    b"The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
)


def acl_setuser(rule: bytes, reason: bytes) -> bytes:
    return b"ERR Error in ACL SETUSER modifier '%b': %b" % (rule, reason)


# What is wrong with the lines of a file of users; each is a sentence, and all become one error.


def acl_file(mistakes: Sequence[bytes]) -> bytes:
    return b"ERR " + b"".join(mistakes)


def acl_line(source: str, number: int, reason: bytes, rule: bytes | None) -> bytes:
    """For a rule that is none; `rule` is None if it must not be told."""
    where = _line(source, number)
    if rule is None:
        return b"%b: %b. " % (where, reason)
    return b"%b: Error in applying operation '%b': %b. " % (where, rule[:128], reason)


def acl_line_begins(source: str, number: int) -> bytes:
    return _line(source, number) + b" should start with user keyword followed by the username. "


def acl_line_name(source: str, number: int, name: bytes) -> bytes:
    return b"%b: username '%b' contains invalid characters. " % (_line(source, number), name[:128])


def acl_line_parenthesis(source: str, number: int) -> bytes:
    return _line(source, number) + b": Unmatched parenthesis in selector definition. "


def duplicate_user(name: bytes, number: int) -> bytes:
    return b"WARNING: Duplicate user '%b' found on line %d. " % (name[:128], number)


def _line(source: str, number: int) -> bytes:
    return b"%b:%d" % (source.encode("utf-8", "surrogateescape"), number)


def unmatched_parenthesis(rule: bytes) -> bytes:
    return b"ERR Unmatched parenthesis in acl selector starting at '%b'." % rule[:128]


def denied(user: bytes, reason: str, what: bytes, *, verbose: bool = False) -> bytes:
    """Why a user may not do something: `what` is the command, key or channel. `verbose` says which key or
    channel it is. Without the code of an error."""
    if reason == "command":
        return b"User %b has no permissions to run the '%b' command" % (user, what)
    if verbose:
        return b"User %b has no permissions to access the '%b' %b" % (user, what, reason.encode())
    return b"No permissions to access a %b" % reason.encode()


def no_permission(why: bytes) -> bytes:
    return b"NOPERM " + why


def acl_in_script(why: bytes) -> bytes:
    return b"ERR ACL failure in script: " + why


_REASONS_AT_EXEC = {
    "command": b"no permission to execute the command or subcommand",
    "key": b"no permission to touch the specified keys",
    "channel": b"no permission to access one of the channels used as arguments",
}


def acl_at_exec(reason: str) -> bytes:
    """For a command that was queued when it was still allowed."""
    return (
        b"NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. "
        b"This command is no longer allowed for the following reason: " + _REASONS_AT_EXEC[reason]
    )


def acl_file_unreadable(path: str, reason: str | None) -> bytes:
    return f"ERR Error loading ACLs, opening file '{path}': {reason}".encode()


def sort_option_denied(option: str) -> bytes:
    """For an option that looks at keys which the request does not name."""
    return f"ERR {option} option of SORT denied due to insufficient ACL permissions.".encode()


def user_not_found(name: bytes) -> bytes:
    return b"ERR User '%b' not found" % name[:128]


def command_not_found(name: bytes) -> bytes:
    return b"ERR Command '%b' not found" % name[:128]


def unknown_category(name: bytes) -> bytes:
    return b"ERR Unknown category '%b'" % name[:128]


# -- the server -------------------------------------------------------------------------------

NO_CONFIG_FILE = b"ERR The server is running without a config file"
NOT_SHUTTING_DOWN = b"ERR No shutdown in progress."
SHUTDOWN_REFUSED = b"ERR Errors trying to SHUTDOWN. Check logs."
NO_APPEND_ONLY_FILE = b"ERR there is no append only file, because appendonly is no"
SAVE_IN_PROGRESS = b"ERR Background save already in progress"
NO_SAVE_IN_PROGRESS = b"ERR Background saving is currently not in progress or scheduled"
SAVE_FAILED = b"ERR the snapshot could not be saved, the log says why"
SAVES_FAIL = (
    b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. "
    b"Commands that may modify the data set are disabled, because this instance is configured to report "
    b"errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the "
    b"Redis logs for details about the RDB error."
)
NO_LOG_TO_BACK_UP = (
    b"ERR there is no append-only file that could be backed up: appendonly is no, it is just being begun, "
    b"or it cannot be written"
)
NO_REPLICAS = b"ERR this server sends one snapshot to who asks for it, but does not keep replicas up to date"
NO_FILTERED_SYNC = b"ERR this server sends whole snapshots only"
REWRITE_IN_PROGRESS = b"ERR Background append only file rewriting already in progress"
DEBUG_NOT_ALLOWED = (
    b'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it '
    b"from a "
    b"local connection, otherwise you need to set this option in the configuration file, and then restart "
    b"the server."
)
NO_AOF_TO_LOAD = b"ERR there is no append-only file to load, because appendonly is no"


def config_rewrite_failed(reason: object) -> bytes:
    return f"ERR Rewriting config file: {reason}".encode("utf-8", "surrogateescape")


def wrong_subcommand(container: bytes, name: bytes) -> bytes:
    """For a subcommand that is not known, or has another number of arguments."""
    shown = name[:128].replace(b"\r", b" ").replace(b"\n", b" ")
    return b"ERR unknown subcommand or wrong number of arguments for '%b'. Try %b HELP." % (shown, container)


# -- what operators see -------------------------------------------------------------------------

BELOW_MINUS_ONE = b"ERR count should be greater than or equal to -1"
NO_COMMANDLOG_TYPE = b"ERR type should be one of the following: slow, large-request, large-reply"
NOT_WHILE_MONITORING = b"ERR Replica can't interact with the keyspace"
NO_MONITOR_IN_MULTI = b"ERR MONITOR isn't allowed for DENY BLOCKING client"


def no_samples(event: bytes) -> bytes:
    """LATENCY GRAPH of an event that has not happened."""
    return b"ERR No samples available for event '%b'" % event[:128].replace(b"\r", b" ").replace(b"\n", b" ")


# -- scripts ----------------------------------------------------------------------------------

NO_ARGUMENT_FROM_SCRIPT = b"ERR Please specify at least one argument for this redis lib call"
WRONG_ARGUMENT_FROM_SCRIPT = b"ERR Lua redis lib command arguments must be strings or integers"
UNKNOWN_COMMAND_FROM_SCRIPT = b"ERR Unknown Redis command called from script"
WRONG_ARITY_FROM_SCRIPT = b"ERR Wrong number of args calling Redis command from script"
NOT_ALLOWED_FROM_SCRIPT = b"ERR This Redis command is not allowed from script"
WRITE_IN_READ_ONLY_SCRIPT = b"ERR Write commands are not allowed from read-only scripts."
INVALID_COMMAND_TO_CHECK = b"ERR Invalid command passed to redis.acl_check_cmd()"
WRONG_REPLY_ARGUMENTS = b"ERR wrong number or type of arguments"
SHA1HEX_ARGUMENTS = b"ERR wrong number of arguments"
SETRESP_ARGUMENTS = b"ERR redis.setresp() requires one argument."
SETRESP_VERSION = b"ERR RESP version must be 2 or 3."
SET_REPL_ARGUMENTS = b"ERR redis.set_repl() requires one argument."
SET_REPL_MODE = b"ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE."
LOG_ARGUMENTS = b"ERR redis.log() requires two arguments or more."
LOG_LEVEL_NO_NUMBER = b"ERR First argument must be a number (log level)."
INVALID_LOG_LEVEL = b"ERR Invalid log level."
UNKNOWN_SCRIPT_ERROR = b"ERR unknown error"
SCRIPT_OUT_OF_MEMORY = b"ERR not enough memory"
SCRIPT_REPLY_TOO_DEEP = b"ERR reached lua stack limit"
SCRIPT_KILLED = b"ERR Script killed by user with SCRIPT KILL."
FUNCTION_KILLED = b"ERR Script killed by user with FUNCTION KILL."
SCRIPT_WITH_WRITES_RO = b"ERR Can not execute a script with write flag using *_ro command."
NO_SCRIPT = b"NOSCRIPT No matching script. Please use EVAL."
NEGATIVE_NUMKEYS = b"ERR Number of keys can't be negative"
NO_SCRIPT_TO_SHOW = b"NOSCRIPT No matching script."
KEY_OF_ANOTHER_SHARD = b"CROSSSHARD The script called a command for keys that are not on its shard"
INVALID_SHEBANG = b"ERR Invalid script shebang"
FLUSH_OPTION = b"ERR SCRIPT FLUSH only support SYNC|ASYNC option"
NO_SCRIPT_RUNS = b"NOTBUSY No scripts in execution right now."
UNKILLABLE = (
    b"UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait "
    b"the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command."
)
BUSY_SCRIPT = b"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
BUSY_FUNCTION = b"BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."


def script_not_compiled(problem: bytes) -> bytes:
    return b"ERR Error compiling script (new function): %b" % problem


def script_failed(name: bytes, problem: bytes) -> bytes:
    """For an error of the engine itself."""
    return b"ERR Error running script %b, %.100b" % (name, problem)


def at_place_in_script(text: bytes, name: bytes, source: bytes, line: int) -> bytes:
    return b"%b script: %b, on %b:%d." % (text, name, source, line)


def unexpected_engine(word: bytes) -> bytes:
    return b"ERR Unexpected engine in script shebang: %b" % word


def unknown_shebang_option(option: bytes) -> bytes:
    return b"ERR Unknown lua shebang option: %b" % option


def unexpected_shebang_flag(name: bytes) -> bytes:
    return b"ERR Unexpected flag in script shebang: %b" % name


# -- functions --------------------------------------------------------------------------------

FUNCTION_NOT_FOUND = b"ERR Function not found"
LIBRARY_NOT_FOUND = b"ERR Library not found"
INVALID_FUNCTION_KEYS = b"ERR Bad number of keys provided"
MISSING_LIBRARY_METADATA = b"ERR Missing library metadata"
INVALID_LIBRARY_METADATA = b"ERR Invalid library metadata"
LIBRARY_NOT_NAMED = b"ERR Library name was not given"
LIBRARY_NAMED_TWICE = b"ERR Invalid metadata value, name argument was given multiple times"
INVALID_LIBRARY_NAME = (
    b"ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one "
    b"character long"
)
NO_FUNCTIONS_REGISTERED = b"ERR No functions registered"
FUNCTION_REGISTERED_TWICE = b"ERR Function already exists in the library"
WRONG_REGISTER_ARGUMENTS = b"ERR wrong number of arguments to redis.register_function"
REGISTER_ARGUMENT_NO_TABLE = (
    b"ERR calling redis.register_function with a single argument is only applicable to Lua table "
    b"(representing named arguments)."
)
FIRST_REGISTER_ARGUMENT = b"ERR first argument to redis.register_function must be a string"
SECOND_REGISTER_ARGUMENT = b"ERR second argument to redis.register_function must be a function"
REGISTER_KEY_NO_STRING = b"ERR named argument key given to redis.register_function is not a string"
UNKNOWN_REGISTER_ARGUMENT = b"ERR unknown argument given to redis.register_function"
FUNCTION_NAME_NO_STRING = b"ERR function_name argument given to redis.register_function must be a string"
DESCRIPTION_NO_STRING = b"ERR description argument given to redis.register_function must be a string"
CALLBACK_NO_FUNCTION = b"ERR callback argument given to redis.register_function must be a function"
FLAGS_NO_TABLE = b"ERR flags argument to redis.register_function must be a table representing function flags"
UNKNOWN_FUNCTION_FLAG = b"ERR unknown flag given"
NO_FUNCTION_NAME = b"ERR redis.register_function must get a function name argument"
NO_CALLBACK = b"ERR redis.register_function must get a callback argument"
FUNCTION_LOAD_TIMEOUT = b"ERR FUNCTION LOAD timeout"
NOT_A_FUNCTION = b"ERR given type is not a function"
FUNCTION_FLUSH_OPTION = b"ERR FUNCTION FLUSH only supports SYNC|ASYNC option"
LIBRARY_PATTERN_MISSING = b"ERR library name argument was not given"
INVALID_RESTORE_POLICY = b"ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."


def engine_not_found(name: bytes) -> bytes:
    return b"ERR Engine '%b' not found" % name


def invalid_metadata(option: bytes) -> bytes:
    return b"ERR Invalid metadata value given: %b" % option


def library_not_compiled(problem: bytes) -> bytes:
    return b"ERR Error compiling function: %b" % problem


def library_not_registered(problem: bytes) -> bytes:
    return b"ERR Error registering functions: %b" % problem


def library_exists(name: bytes) -> bytes:
    return b"ERR Library '%b' already exists" % name


def function_exists(name: bytes) -> bytes:
    return b"ERR Function %b already exists" % name


def unknown_function_option(word: bytes) -> bytes:
    return b"ERR Unknown option given: %b" % word


def unknown_function_list_argument(word: bytes) -> bytes:
    return b"ERR Unknown argument %b" % word


# -- shards -----------------------------------------------------------------------------------


def shard_down(shard: int) -> bytes:
    """For a command that was not run because its shard's process is being restarted."""
    return b"SHARDDOWN shard %d is not available, try again" % shard


def shard_died(shard: int) -> bytes:
    """For a command that was on its way when its shard's process died."""
    return b"SHARDDOWN shard %d stopped before it answered, the command may have been executed" % shard


def unknown_replconf(option: bytes) -> bytes:
    return b"ERR Unrecognized REPLCONF option: %b" % option


def log_failed(reason: object) -> bytes:
    """For writes while the append-only file cannot be written."""
    return f"MISCONF Errors writing to the AOF file: {reason}".encode()
