"""Keys that go from one shard to another. No client can send these.

CONTENT tells on the one shard what a key holds, BUILD makes it on the other, TAKE removes it where it was.
"""

from __future__ import annotations

from typing import Any

from shardkv.command import READONLY, WRITE, Key, command
from shardkv.keyspace import Database
from shardkv.values import recreate

_NEW_EVEN_IF_THERE = ("rename_to", "copy_to")
"""The events of commands that remove first what the key holds, as keyspace notifications tell."""


@command("CONTENT key newkey", group="generic", since="0.1.0", flags=READONLY, keys=(Key(1),), internal=True)
def content(db: Database, args: list[Any]) -> list[list[bytes]] | None:
    """Returns the requests that build what a key holds, and its deadline, under another name; None if there
    is no such key."""
    key, new_key = args[1:]
    value = db.peek(key)
    return None if value is None else list(recreate(new_key, value, db.expires.get(key)))


@command("BUILD db key event replace requests", group="generic", since="0.1.0", flags=WRITE, internal=True)
def build(db: Database, args: list[Any]) -> int:
    """Makes a key of a database by the requests that CONTENT returned. Returns 0, and does nothing, if there
    is such a key and `replace` is false."""
    index, key, event, replace, requests = args[1:]
    target, shard = db.shard.database(index), db.shard
    there = target.peek(key) is not None
    if there and not replace:
        return 0
    if not there or event in _NEW_EVEN_IF_THERE:
        target.created(key)
    target.remove(key)
    shard.rebuild(target, requests)
    if there:
        shard.propagate(target, b"DEL", key)
    for request in requests:
        shard.propagate(target, *request)
    target.changed(key, event)
    return 1


@command("TAKE key event", group="generic", since="0.1.0", flags=WRITE, internal=True)
def take(db: Database, args: list[Any]) -> None:
    """Removes a key that another shard holds from now on."""
    key, event = args[1:]
    db.remove(key)
    db.changed(key, event)
    db.shard.propagate(db, b"DEL", key)
