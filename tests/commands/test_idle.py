"""Times of access, which OBJECT IDLETIME shows."""

from __future__ import annotations

from shardkv import wire
from shardkv.command import COMMANDS
from shardkv.slots import slot_of
from tests.local import Local


def test_looking_at_a_key_is_an_access() -> None:
    local = Local(1)
    local.call("SET", "key", "value")
    local.advance(10_000)
    assert local.call("OBJECT", "IDLETIME", "key") == 10
    local.call("GET", "key")
    assert local.call("OBJECT", "IDLETIME", "key") == 0


def test_unless_the_client_asked_to_leave_no_trace() -> None:
    local = Local(1)
    local.call("SET", "key", "value")
    local.advance(10_000)
    context = wire.pack_context(0, 2, no_touch=True)
    for name, idle_s in ("get", 10), ("touch", 0):
        code = wire.pack_code(context, COMMANDS[name].id, slot_of(b"key"))
        local.shards[0].run([[code, b"key"]])
        assert local.call("OBJECT", "IDLETIME", "key") == idle_s
