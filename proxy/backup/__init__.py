"""Backups of a running server, and putting one back.

    store      what a backup is on disk: files of the append-only files of all shards, and points that name
               how far each of them counts
    taking     adds a point to a backup, from a running server
    until      how far to go in each shard's files for an earlier moment, so that no transaction is halved
    restoring  makes a data folder of a point

A backup holds copies of the shards' append-only files. These only ever grow, and what is in them is checked
batch by batch; so a point needs no more than the size of each file at one moment over all shards, and the
next one no more than what was appended since.
"""
