"""What nobody may see of a request."""

from __future__ import annotations

import pytest

import proxy.commands
from shardkv.command import lookup

assert proxy.commands


@pytest.mark.parametrize(
    ("request_line", "shown"),
    [
        ("AUTH secret", "AUTH (redacted)"),
        ("auth name secret", "auth (redacted) (redacted)"),
        ("HELLO", "HELLO"),
        ("HELLO 3 SETNAME x", "HELLO 3 SETNAME x"),
        ("HELLO 3 SETNAME x auth name secret", "HELLO 3 SETNAME x auth (redacted) (redacted)"),
        ("HELLO 3 AUTH secret", "HELLO 3 AUTH (redacted)"),
        ("CONFIG SET timeout 1 RequirePass secret", "CONFIG SET timeout 1 RequirePass (redacted)"),
        ("CONFIG SET tls-key-file-pass secret hz", "CONFIG SET tls-key-file-pass (redacted) hz"),
        ("CONFIG SET hz", "CONFIG SET hz"),
        ("SET requirepass x", "SET requirepass x"),
    ],
)
def test_redacted(request_line: str, shown: str) -> None:
    words = [word.encode() for word in request_line.split()]
    declared = lookup(words)
    assert declared is not None
    assert b" ".join(declared.redacted(words)).decode() == shown
    assert b" ".join(words).decode() == request_line
