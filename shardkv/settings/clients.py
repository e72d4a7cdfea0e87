"""What clients may do and how much they may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from shardkv.numbers import INT64_MAX
from shardkv.setting_kinds import (
    GB,
    MB,
    UNSIGNED_MAX,
    BufferLimit,
    BufferLimits,
    Choice,
    ClientBufferLimits,
    Integer,
    Memory,
    Text,
    setting,
)

CLIENTS = "Clients and their limits"


@dataclass(kw_only=True)
class Clients:
    """The settings of clients: their number, passwords and limits."""

    __slots__ = ()

    timeout: int = setting(
        CLIENTS,
        0,
        Integer(),
        """Closes the connection of a client that has sent nothing for so many seconds; clients that wait in a
        blocking command or are subscribed are left alone. 0: never.""",
    )
    maxclients: int = setting(
        CLIENTS,
        10000,
        Integer(1, UNSIGNED_MAX),
        """Clients connected at the same time, to all proxies together. Further ones get an error and are
        closed. Each needs a file descriptor; the server raises its limit as far as the system lets it.""",
    )
    requirepass: str = setting(
        CLIENTS,
        "",
        Text(),
        """The password that clients must send with AUTH or HELLO before anything else: the password of the
        user default. Choose a long one, for thousands can be tried in a second. Empty: none.""",
        secret=True,
    )
    aclfile: str = setting(
        CLIENTS,
        "",
        Text(),
        """A file with a line for each user, as ACL LIST shows them; ACL LOAD reads it again, ACL SAVE writes
        it. Without one, users may be declared in this file by lines of the same form, such as: user alice on
        >password ~cached:* +get. Both together are refused. What user lines say counts when the server
        starts.""",
        mutable=False,
    )
    acllog_max_len: int = setting(
        CLIENTS,
        128,
        Integer(0, INT64_MAX),
        """Entries that ACL LOG keeps of what users were denied. 0: none.""",
    )
    acl_pubsub_default: str = setting(
        CLIENTS,
        "resetchannels",
        Choice("allchannels", "resetchannels"),
        """Which channels a new user may publish to and subscribe to: all, or none.""",
    )
    proto_max_bulk_len: int = setting(
        CLIENTS,
        512 * MB,
        Memory(MB),
        """The longest argument of a request, and the longest string that APPEND, SETRANGE and their like may
        make. Longer ones get an error.""",
    )
    client_query_buffer_limit: int = setting(
        CLIENTS,
        GB,
        Memory(MB),
        """The longest unfinished request of one client. A client that exceeds it is closed.""",
    )
    client_output_buffer_limit: BufferLimits = setting(  # noqa: RUF009 - makes a field
        CLIENTS,
        BufferLimits(
            normal=BufferLimit(0, 0, 0),
            replica=BufferLimit(256 * MB, 64 * MB, 60),
            pubsub=BufferLimit(32 * MB, 8 * MB, 60),
        ),
        ClientBufferLimits(),
        """Closes a client that does not read its replies when more of them wait than the hard limit, or more
        than the soft limit for so many seconds without a break. 0 bytes: no such limit. The classes are
        normal, replica, and pubsub for clients with subscriptions; each may have a line of its own.""",
    )
