"""The append-only file of a shard: a library of records, which knows nothing of commands or keys.

In a shard's folder stand, exactly as Redis 7 lays out its multi-part AOF, a manifest, a base, and increments
after it; every file can be loaded by redis-server and is accepted by redis-check-aof. What Redis' own AOF
does not have are the checksums, in lines that Redis skips: see `shardkv.aof.batch` and
`shardkv.aof.manifest`.

`load` replays what is there, `AppendLog` goes on from it, `record` encodes a command.
"""

from shardkv.aof.batch import AofDamaged
from shardkv.aof.load import LoadResult, load
from shardkv.aof.log import AppendLog
from shardkv.aof.record import record
from shardkv.aof.rewrite import Rewrite, Stage

__all__ = ["AofDamaged", "AppendLog", "LoadResult", "Rewrite", "Stage", "load", "record"]
