"""Every bound that is not a setting: sizes in bytes, times in the unit their name ends with.

What an operator may change stands in shardkv.settings instead.
"""

from __future__ import annotations

# -- configuration ----------------------------------------------------------------------------

MAX_WORKERS = 1024
MAX_PROXIES = 256

MAX_INCLUDE_DEPTH = 16
"""Configuration files that include each other; deeper is taken for a circle."""

MAX_BIND_ADDRESSES = 16
"""As in Redis (CONFIG_BINDADDR_MAX)."""

# -- requests ---------------------------------------------------------------------------------

MAX_ARGUMENTS = 1024 * 1024
"""Arguments of one request. Redis 7.2 has INT_MAX; every client stays far below both."""

MAX_INLINE_BYTES = 64 * 1024
"""A line of an inline request, and a header line of any other (Redis: PROTO_INLINE_MAX_SIZE)."""

UNAUTHENTICATED_ARGUMENTS = 10
UNAUTHENTICATED_BULK_BYTES = 16 * 1024
"""What a client may send before it has authenticated (as Redis since 6.2.6)."""

MAX_PATTERN_BYTES = 2048
"""A glob pattern with wildcards. Compiling the worst of this length takes some 20 ms; Redis has no bound."""

# -- one session ------------------------------------------------------------------------------

BLOCK_REQUESTS = 512
"""At most so many requests of one session are under way at once; the rest of its pipeline waits."""

SESSION_REPLY_BYTES = 4 * 1024 * 1024
"""A session's replies under way are kept near this: with large replies fewer requests go out at once."""

# -- pipes ------------------------------------------------------------------------------------

PIPE_BYTES = 1024 * 1024
"""The kernel's buffer asked for each pipe; what an unprivileged process may have."""

PIPE_READ_BYTES = 256 * 1024
"""Read from a pipe in one system call at most."""

PIPE_BACKLOG_BYTES = 8 * 1024 * 1024
"""Frames waiting for a full pipe. Above it the producer stops taking in what would add to them."""

MAX_FRAME_BYTES = 2**31 - 1
"""A frame longer than this is a broken peer, not a message."""

# -- control channel --------------------------------------------------------------------------

MAX_CONTROL_BYTES = 64 * 1024 * 1024
"""A control message longer than this is a broken peer, not a message."""

# -- append-only file -------------------------------------------------------------------------

LOAD_SLICE_BYTES = 256 * 1024
"""Read and replayed before a loading shard looks at its pipes again; some 5 ms."""

PARSE_SLICE_BYTES = 16 * 1024
"""Given to the RESP parser at once: what it holds is moved down as it is consumed, so more is slower."""

FSYNC_INTERVAL_S = 1.0
"""Between two fsyncs under `everysec`."""

FSYNC_WAIT_S = 2.0
"""How long a write waits for an fsync under way, under `everysec` (as Redis)."""

WRITE_BUFFERS = 1024
"""Buffers that one system call takes (IOV_MAX)."""

REWRITE_BACKLOG_BYTES = 8 * 1024 * 1024
"""Of a new base waiting to be written. Above it a rewrite makes no more."""

REWRITE_FSYNC_BYTES = 8 * 1024 * 1024
"""A new base is fsynced after each so many bytes, so that the last fsync is short and the disk is not flooded."""

TORN_HEADERS_TRIED = 1000
"""Places in a torn record that look like a batch's header and are checked for being one."""
