"""How the data is kept on disk."""

from __future__ import annotations

from dataclasses import dataclass

from shardkv.setting_kinds import (
    MB,
    BareName,
    Choice,
    Folder,
    Integer,
    Memory,
    SavePoint,
    SavePoints,
    YesNo,
    setting,
)

PERSISTENCE = "Append-only file"
SNAPSHOTS = "Snapshots"


@dataclass(kw_only=True)
class Persistence:
    """The settings of the append-only files and of snapshots."""

    __slots__ = ()

    dir: str = setting(
        PERSISTENCE,
        "./",
        Folder(),
        """The folder of all data: each shard's append-only files and the map of the shards. One server at a
        time can use it. A relative path starts where the server was started.""",
        mutable=False,
    )
    appendonly: bool = setting(
        PERSISTENCE,
        True,
        YesNo(),
        """Writes every change to the append-only files, from which the data is loaded at the next start.
        Without them everything is lost when the server stops. This differs from Redis, where the default is
        no.""",
    )
    appenddirname: str = setting(
        PERSISTENCE,
        "appendonlydir",
        BareName("appenddirname", "dirname"),
        """The folder, in dir, of the append-only files; each shard has a folder in it.""",
        mutable=False,
    )
    appendfilename: str = setting(
        PERSISTENCE,
        "appendonly.aof",
        BareName("appendfilename", "filename"),
        """What the names of the append-only files start with.""",
        mutable=False,
    )
    appendfsync: str = setting(
        PERSISTENCE,
        "everysec",
        Choice("everysec", "always", "no"),
        """When changes are forced to the disk. always: before the reply, so that no acknowledged write is
        lost; requests that come together share one fsync. everysec: a power cut may cost about the last
        second, the death of a process nothing. no: when the system likes, often after 30 seconds.""",
    )
    no_appendfsync_on_rewrite: bool = setting(
        PERSISTENCE,
        False,
        YesNo(),
        """With yes nothing is forced to the disk while a rewrite runs, as if appendfsync were no: fewer slow
        replies on slow disks, but a power cut may cost all changes since the rewrite began.""",
    )
    auto_aof_rewrite_percentage: int = setting(
        PERSISTENCE,
        100,
        Integer(),
        """Rewrites a shard's append-only file by itself when it has grown by so many percent since its last
        rewrite. 0: never.""",
    )
    auto_aof_rewrite_min_size: int = setting(
        PERSISTENCE,
        64 * MB,
        Memory(),
        """A shard's append-only file is not rewritten by itself while it is smaller than this.""",
    )
    aof_load_truncated: bool = setting(
        PERSISTENCE,
        True,
        YesNo(),
        """What to do at the start with an append-only file whose end is missing, as after a power cut. yes:
        cuts the torn record off, logs its place and goes on. no: refuses to start.""",
    )
    aof_timestamp_enabled: bool = setting(
        PERSISTENCE,
        False,
        YesNo(),
        """Writes the time into the append-only files, once in each second with changes, so that a backup can
        be restored as it was at any second: shardkv restore --until.""",
    )
    save: tuple[SavePoint, ...] = setting(
        SNAPSHOTS,
        (),
        SavePoints(),
        """Takes a snapshot by itself, as BGSAVE does, when so many seconds have passed since the last one and
        so many changes were made: 3600 1 300 100 for at least one change within an hour, or 100 within five
        minutes. With save points the server also saves when it is shut down. This differs from Redis, where
        the default is 3600 1 300 100 60 10000: here the append-only file keeps the data.""",
    )
    dbfilename: str = setting(
        SNAPSHOTS,
        "dump.rdb",
        BareName("dbfilename", "filename"),
        """The snapshot, one file in dir with the keys of all shards, in the format of Redis. It is loaded at
        the start if appendonly is no.""",
        mutable=False,
    )
    rdb_version: str = setting(
        SNAPSHOTS,
        "9",
        Choice("9", "10", "11", "12", "80"),
        """The version of the format that snapshots are written in. 9 is read by Redis since 5.0 and by every
        Valkey, 10 by Redis since 7.0, 11 since 7.2, 12 since 7.4; 80 by Valkey since 9.0. Before 10 the
        counters of streams are not kept (entries-added, max-deleted-entry-id, entries-read), nor does this
        server have them after it has loaded such a snapshot. Only the last two can hold hashes with fields
        that expire: where there are such, 12 is taken instead of an older one.""",
    )
    rdbcompression: bool = setting(
        SNAPSHOTS,
        True,
        YesNo(),
        """Compresses strings in snapshots, and in the payloads of DUMP, with LZF. no saves processor
        time.""",
    )
    rdbchecksum: bool = setting(
        SNAPSHOTS,
        True,
        YesNo(),
        """Ends a snapshot with a checksum of all its bytes, by which damage is found when it is loaded.""",
        mutable=False,
    )
    stop_writes_on_bgsave_error: bool = setting(
        SNAPSHOTS,
        True,
        YesNo(),
        """If there are save points and the last snapshot could not be saved, refuses commands that change
        data, until one is saved.""",
    )
