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

BLOCK_REQUESTS = 128
"""At most so many requests of one session are under way at once; the rest of its pipeline waits."""

WAITING_REQUESTS = 64
"""So many requests go to a shard that has not answered yet; fewer wait for its answer."""

FIRST_BLOCK_REQUESTS = 32
"""What a new session begins with. It doubles as long as the replies are small."""

BLOCK_REPLY_BYTES = 1024 * 1024
"""What the replies under way of one session should come to: with large replies fewer requests go out at
once."""

WAITING_BACKLOG_REQUESTS = 128
WAITING_BACKLOG_BYTES = 1024 * 1024
"""Requests that are taken in from a client that waits for data. With more behind, it is not read from, and it
shows only when its data has come whether it is still there."""

TLS_HANDSHAKE_S = 10
"""A client that has not finished its handshake after so long is let go."""

# -- all sessions -----------------------------------------------------------------------------

FILES_BESIDE_CLIENTS = 32 + 2 * MAX_WORKERS
"""File descriptors that a proxy may need for other things than clients."""

IDLE_SWEEP_S = 1.0
"""Between two searches for clients that have been idle for longer than the setting `timeout`."""

MAX_PAUSE_MS = 2**63 - 1
"""The end of a CLIENT PAUSE, in ms since 1970, must be a signed 64-bit number, as in Redis."""

# -- pipes ------------------------------------------------------------------------------------

PIPE_BYTES = 1024 * 1024
"""The kernel's buffer asked for each pipe; what an unprivileged process may have."""

PIPE_READ_BYTES = 256 * 1024
"""Read from a pipe in one system call at most."""

KEPT_CHUNK_BYTES = 16 * 1024
"""A chunk from a client up to this size is kept until what has come from other clients is read as well."""

PIPE_BACKLOG_BYTES = 8 * 1024 * 1024
"""Frames waiting for a full pipe. Above it the producer stops taking in what would add to them."""

SHORTENED_BATCH_BYTES = 256 * 1024
"""Of a batch this large a proxy keeps only what it may have to log, while the shard works on it."""

MAX_FRAME_BYTES = 2**31 - 1
"""A frame longer than this is a broken peer, not a message."""

# -- publish/subscribe ------------------------------------------------------------------------

MESSAGES_BACKLOG_BYTES = 64 * 1024 * 1024
"""With more waiting for a proxy that does not take it, what is published is not kept for it, and its
subscribers are disconnected."""

WAIT_FOR_SUBSCRIPTIONS_S = 1.0
"""How long a shard that has been restarted waits for all proxies to say what their clients have subscribed
to."""

# -- control channel --------------------------------------------------------------------------

MAX_CONTROL_BYTES = 64 * 1024 * 1024
"""A control message longer than this is a broken peer, not a message."""

# -- scans ------------------------------------------------------------------------------------

SCAN_SLOT_KEYS = 1024
"""A slot with at most so many keys is scanned at once, whatever COUNT says."""

SCAN_WINDOW_SLOTS = 4096
"""Slots that a scan over several shards looks through in one hop at most."""

SCAN_SNAPSHOTS = 256
SCAN_SNAPSHOT_MEMBERS = 16 * 1024 * 1024
"""Lists that a shard keeps for scans of large slots and collections, and their members in sum (8 bytes each,
and what was deleted since). The newest list is kept whatever its size."""

SCAN_SNAPSHOT_IDLE_S = 300
"""A list that no scan has asked for so long is given up."""

# -- transactions -----------------------------------------------------------------------------

GIVEN_UP_TRANSACTIONS = 10_000
"""Of those that a shard was asked about and knew nothing of, or has given up, it remembers so many, for a
message that is still on its way."""

MAX_QUEUED_COMMANDS = 1024 * 1024
"""Commands between MULTI and EXEC. Redis bounds only their memory."""

FORGET_AFTER_S = 0.1
"""How long a coordinator gathers transactions that are carried out everywhere before it says so."""

CONVOY_MEMBERS = 64
"""So many commands over several shards are carried out as one transaction at most."""

PORTABLE_BYTES = 64 * 1024
"""A key goes to a script that runs on another shard if what builds it is no longer."""

# -- slots that move to another shard ---------------------------------------------------------

MOVE_WEIGHT = 500
"""So many keys are moved at once at most, fewer if they are large; one slot at least. Their requests wait
meanwhile, and so does what concerns all shards."""

MOVE_SLOTS = 128
"""So many slots are moved at once at most, unless they are empty: few clients meet them meanwhile, even where
there are few keys."""

MOVE_CHUNK_BYTES = 64 * 1024
"""So much of them is written, or read, in a slice."""

MOVE_UNLINK_KEYS = 500
"""Keys in one record that says that they are gone."""

MOVE_TRACKED_KEYS = 10_000
"""If no more keys are remembered for clients that track keys, those of slots that move are looked for; else
all clients are told that everything may have changed."""

MOVE_PATIENCE_S = 0.3
"""So long at most the proxies may take until nothing is under way that moving slots would disturb; else they
are tried again later."""

MOVE_RETRY_S = (0.05, 2.0)
"""The range of the time after which a move that could not be made is tried again; it doubles each time."""

MOVE_REST = 0.5
"""After each move nothing is moved for this part of the time that it took."""

BALANCE_TOLERANCE = 0.05
"""Shards are balanced if none bears more than another by more than this part of the mean."""

BALANCE_COUNTS_S = 1.0
"""So long requests are counted, to find out which slots are in demand."""

BALANCE_SAMPLE_KEYS = 8
"""Of so many keys of a slot the memory is measured, to estimate that of all of them."""

BALANCE_PATIENCE_S = 60.0
"""So long at most shards may take to find out what their slots cost."""

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
"""A new base is fsynced after each so many bytes, so that the last fsync is short and the disk is not
flooded."""

REWRITES_FAILED_AT_ONCE = 3
"""A rewrite that a shard has begun by itself and that fails is begun again at once so often (as in Redis)."""

REWRITE_DELAY_S = 60.0
"""Then after so long, and after twice as long each time it fails again,"""

LONGEST_REWRITE_DELAY_S = 3600.0
"""but never after longer than that."""

LOG_BEGUN_AGAIN_S = 1.0
"""A log that could not be begun, as `appendonly` was switched on, is tried again after so long."""

SIDE_LOG_BYTES = 16 * 1024 * 1024
"""The side log of transactions goes on in a new file when it is larger than this."""

SIDE_LOG_NOTES = 1000
"""So many notes that are not urgent wait for the next pledge; then they are written without one."""

TORN_HEADERS_TRIED = 1000
"""Places in a torn record that look like a batch's header and are checked for being one."""

# -- lists ------------------------------------------------------------------------------------

LIST_NODE_ELEMENTS = 128
"""Elements that a long list keeps together in one piece of memory: what unpacking one of them costs."""

LIST_NODE_BYTES = 16 * 1024
"""A node of more than this is not packed: large elements gain nothing by it."""

LIST_MEASURED_ELEMENTS = 1024
"""Of a list with at most so many elements it is known whether Redis would keep it in one listpack again."""

LIST_PACKED_ELEMENTS = 512
LIST_PACKED_BYTES = 16 * 1024
"""A list up to this is packed as a whole when it is at rest."""

LIST_REQUEST_BYTES = 64 * 1024
"""The requests that rebuild a list are kept near this."""

# -- sets -------------------------------------------------------------------------------------

SET_PACKED_MEMBERS = 512
SET_PACKED_BYTES = 16 * 1024
"""A set up to this is packed as a whole when it is at rest."""

SET_REQUEST_MEMBERS = 256
"""Members in one of the requests that rebuild a set."""

REPEATED_MEMBERS = 16 * 1024 * 1024
"""Members that one SRANDMEMBER returns at most, any of them perhaps several times. Redis has no bound."""

# -- hashes -----------------------------------------------------------------------------------

HASH_PACKED_FIELDS = 512
HASH_PACKED_BYTES = 16 * 1024
"""A hash up to this is packed as a whole when it is at rest."""

HASH_REQUEST_FIELDS = 256
"""Fields in one of the requests that rebuild a hash."""

LAST_FIELD_DEADLINE_MS = (2**48 - 2) // 4
"""The latest deadline of a field, in ms since 1970 (as Redis 8.2, HFE_MAX_ABS_TIME_MSEC)."""

EXPIRED_FIELDS_AT_ONCE = 128
"""Expired fields of one hash removed between two looks at the clock."""

# -- sorted sets ------------------------------------------------------------------------------

ZSET_UNRANKED_MEMBERS = 512
"""A sorted set with more is kept in order from then on, a smaller one put in order when that is needed."""

ZSET_PACKED_MEMBERS = 512
ZSET_PACKED_BYTES = 16 * 1024
"""A sorted set up to this is packed as a whole when it is at rest."""

ZSET_REQUEST_MEMBERS = 256
"""Members in one of the requests that rebuild a sorted set."""

# -- streams ----------------------------------------------------------------------------------

STREAM_OPEN_NODES = 3
"""Of a stream's nodes, beside its tail, that are kept unpacked: where it is read, where entries are deleted,
and what was written last."""

STREAM_UNSETTLED_ENTRIES = 100
"""Entries that are added to a stream's tail before it is looked at whether they make a node."""

STREAM_LARGE_ENTRY_BYTES = 1024
"""Nodes whose entries are larger than this on average are not packed: it would save little."""

STREAM_NODE_BYTES = 1 << 30
"""The largest node, whatever the setting says, and the largest entry (as Redis, STREAM_LISTPACK_MAX_SIZE)."""

STREAM_TRIMMED_NODES = 100
STREAM_TRIMMED_ENTRIES = 1_000_000
"""What a trim with ~ takes at most, as many entries as the nodes may have, unless LIMIT says something else
(as Redis)."""

STREAM_PACKED_ENTRIES = 512
STREAM_PACKED_BYTES = 16 * 1024
"""A stream with at most so many entries, and as many pending ones, is packed as a whole when it is at
rest."""

STREAM_REQUEST_IDS = 256
"""IDs in one of the requests that rebuild a stream."""

# -- Redis' binary format -----------------------------------------------------------------------

RDB_DECOMPRESSED_BYTES = 512 * 1024 * 1024
"""What the compressed strings of one value may come to: as much as a request could bring uncompressed."""

RDB_STREAM_NODE_ENTRIES = 100
RDB_STREAM_NODE_BYTES = 4096
"""Entries of a stream that are written together; a larger entry stands alone. As Redis' own nodes by
default."""

# -- snapshots --------------------------------------------------------------------------------------

MAX_SAVE_POINTS = 100

SNAPSHOT_BACKLOG_BYTES = 1024 * 1024
"""What a shard holds of its part of a snapshot, beside what is in the pipe, while who writes the file is
behind: then its pass waits."""

SNAPSHOT_SLICE_S = 0.001
"""For so long a shard works at its part of a snapshot at a time."""

SNAPSHOT_FSYNC_BYTES = 8 * 1024 * 1024
"""So much of a snapshot is written between two fsyncs, so that the last one has little to do."""

CUT_TIMEOUT_S = 60.0
"""How long a snapshot may wait for all shards to be free for a moment: a script that runs for long, or a
transaction in doubt, is in its way."""

SNAPSHOT_TRIES = 20
"""A snapshot begins anew when a database is emptied or swapped meanwhile, or another version of the format is
needed; after so many times it has failed."""

SNAPSHOT_TAKEN_S = 10.0
"""A proxy opens the file of a snapshot for its client, and removes it, within this time."""

BACKUP_TRIES = 10
"""So often a backup asks for the files of a moment anew, because one was replaced before it was opened."""

BACKUP_CHUNK_BYTES = 1024 * 1024
"""Copied at once."""

LOAD_SLICE_S = 0.01
"""A shard that loads a snapshot looks after so long whether somebody asks it something."""

MAX_WAITING_SNAPSHOTS = 50
"""Snapshots that are wanted at the same time."""

SYNC_SIGN_S = 1.0
"""How often a client that waits for a snapshot gets a sign of life."""

SYNC_CHUNK_BYTES = 256 * 1024
"""So much of a snapshot is sent at once."""

SYNC_STALL_S = 60.0
"""A client that takes nothing of its snapshot for so long is let go."""

SAVE_CHECK_S = 1.0
"""How often it is looked whether a save point is reached."""

SAVE_RETRY_S = 5.0
"""After a save has failed, save points are not looked at for so long, as in Redis."""

# -- moving data in and out -----------------------------------------------------------------------

TRANSFER_READ_BYTES = 1024 * 1024
"""Read at once from another server."""

TRANSFER_PATIENCE_S = 60.0
"""How long another server may be silent. Redis says something every ten seconds while it prepares a full
sync."""

TRANSFER_SCAN_KEYS = 1000
TRANSFER_DUMPS = 100
TRANSFER_SEEN_KEYS = 100_000
"""Keys asked of one SCAN; keys whose dumps are under way at once; keys that are known not to come again."""

TRANSFER_REQUESTS = 1000
TRANSFER_REQUEST_BYTES = 4 * 1024 * 1024
"""Requests, and their bytes, that are under way at once to the server that takes the data."""

TRANSFER_PAYLOAD_BYTES = 1024 * 1024
"""A larger value is not restored at once but built by many requests, so that no shard is held up."""

TRANSFER_BATCH_BYTES = 256 * 1024
"""Of records that are written to a data folder at once."""

TRANSFER_PARTED_BYTES = 4 * 1024 * 1024
"""It is worth several processes to import a file of this size."""

TRANSFER_NAMED_KEYS = 20
"""Keys that a summary names of those that were left out for one reason."""

MAX_MANIFEST_BYTES = 1024 * 1024
"""Of an append-only file of Redis."""

# -- scripts ----------------------------------------------------------------------------------

SCRIPT_MEMORY_BYTES = 256 * 1024 * 1024
"""What the scripts of one shard may use of Lua's memory, all that they have left behind included."""

SCRIPTS_COMPILED = 2000
"""Scripts that came with EVAL and are kept compiled by a shard; those of SCRIPT LOAD stay until SCRIPT
FLUSH."""

SCRIPTS_REMEMBERED = 500
"""Scripts that came with EVAL and are kept by a proxy, which loads them onto every shard (as Redis 7.4)."""

LIBRARY_LOAD_S = 0.5
"""How long the code of a library may run when it is loaded (as Redis)."""

SCRIPT_MEMORY_RESERVE_BYTES = 16 * 1024 * 1024
"""What one may use beyond that before it is noticed."""

SCRIPT_INSTRUCTIONS_PER_TICK = 100_000
"""Of Lua, between two looks at whether the script is to end; some ms (as Redis)."""

SCRIPT_TICK_S = 0.01
"""The same for scripts that spend their time in commands and libraries."""

SCRIPT_VALUES_AT_ONCE = 256
"""Values that Lua hands over in one piece; its stack has room for some thousands."""

SCRIPT_STRING_BYTES = 512 * 1024 * 1024
"""The longest string that `struct.pack` makes."""

SCRIPT_REPLY_DEPTH = 256
"""Tables in tables that a script returns. Redis has no bound but its stack."""

SCRIPT_PACKED_DEPTH = 16
"""Tables in tables that `cmsgpack.pack` writes; below it stands nil (as Redis, LUACMSGPACK_MAX_NESTING)."""

SCRIPT_UNPACKED_DEPTH = 200
"""The same for what `cmsgpack.unpack` reads."""

SCRIPT_UNPACKED_VALUES = 7000
"""Values that `cmsgpack.unpack` returns at once: Lua's stack has no room for more (LUAI_MAXCSTACK)."""

# -- tracked keys -----------------------------------------------------------------------------

MAX_TRACKERS = 1 << 20
"""Numbers for clients that track keys, of all proxies: what there is room for in a request's code."""

MAX_DATABASES = 1 << 16
"""Likewise."""

PUSHES_HELD = 1000
"""The same for what is told while a command over several shards is under way."""

PUSHES_BEHIND_REPLY_BYTES = 64 * 1024
"""What tells of changed keys while a reply before it is awaited; more than that becomes one word that says
that all may have changed."""

# -- memory -----------------------------------------------------------------------------------

MEMORY_SAMPLES = 5
"""Elements that MEMORY USAGE looks at in one place (as Redis, OBJ_COMPUTE_SIZE_DEF_SAMPLES)."""

MEASURED_PARTS = 64
"""Parts of a collection, each with elements of its own, that it looks at in any case."""

EVICTION_KEYS_LOOKED_AT = 1000
"""Keys among which those are chosen that are evicted next."""

EVICTION_S = 0.0005
EVICTION_GROWTH = 1.15
"""How long a command waits for keys to be evicted at most, with the default of maxmemory-eviction-tenacity;
above that it grows by this factor for each step."""

MEMORY_MEASUREMENT_REST = 20
"""After the use of memory was measured, so many times as long as that took it is estimated."""

MEMORY_SHARES_S = 0.1
"""Between two looks at which shard may use how much memory."""

LEAST_CLIENTS_BYTES = 128 * 1024
"""maxmemory-clients is taken for this if it is less, so that clients can still ask for something (as
Redis)."""

MEASURED_CLIENTS = 500
"""Of a proxy's clients, so many are measured between two decisions whom to evict, and all that are slow to
read."""

MEASURED_TABLE_KEYS = 1000

# MEMORY STATS estimates what a database takes from so many of its keys on each shard.
MEASURED_KEYS = 200
"""A table with more keys than this takes about as much for each."""

# -- what operators see -------------------------------------------------------------------------

# A table of durations with more entries than this is folded (see shardkv.latency).
DURATIONS_KEPT = 512

# Of so many batches in a tenth of a second the times of all requests are counted. What is told is scaled to
# the number of requests there were.
TRACKED_BATCHES = 100

# Samples of each kind of event that LATENCY HISTORY tells, as in Redis.
LATENCY_SAMPLES = 160

# Of a request that is logged as slow or large: so many words, and so many bytes of each, as in Redis.
LOGGED_WORDS = 32
LOGGED_WORD_BYTES = 128

# Of ACL LOG: how long the same denial counts as one more of an entry, and with how many of the last entries
# it is compared; both as in Redis.
ACL_LOG_GROUPING_MS = 60_000
ACL_LOG_COMPARED = 10

# Of what a script is denied, so many different things are logged.
DENIALS_TOLD = 16

# The longest file of users.
MAX_ACL_FILE_BYTES = MAX_CONTROL_BYTES // 4

# After so many mistakes in a file of users, no more are looked for.
ACL_MISTAKES_TOLD = 64

# The longest password that ACL GENPASS makes, in bits, as in Redis.
MAX_GENPASS_BITS = 4096

# Below this threshold, in µs, each command is timed by itself; above it, short ones that follow each other in
# a batch are timed together, and looked at only when all of them took as long.
TIMED_SINGLY_BELOW_US = 1000

# INFO keysizes looks at so many keys of a shard at a time, and at so many slots.
SIZED_KEYS = 500
SIZED_SLOTS = 4096

# DEBUG POPULATE makes keys of so many bytes at a time.
POPULATED_BYTES = 1024**2

# Before a proxy asks for fresh pipes to a shard.
RECONNECT_S = 0.1

# Between two looks at whether shards that were started again have loaded their data.
LOADING_POLL_S = 0.01

# What waits on its way to clients that MONITOR, in one proxy for those of the others. Who gets less than
# everything is told so by the end of its connection.
MONITOR_BACKLOG_BYTES = MAX_CONTROL_BYTES // 2
