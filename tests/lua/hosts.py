"""A host for scripts in tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from shardkv.errors import CommandError
from shardkv.lua import Engine

KILLED = b"ERR killed"


class FakeHost:
    """Answers commands with what a function makes of them; ends a script after some ticks."""

    def __init__(self, answer: Callable[[list[bytes]], Any] = lambda words: None, ticks: int = 10**9) -> None:
        self.answer = answer
        self.ticks = ticks
        self.called: list[list[bytes]] = []
        self.logged: list[tuple[int, bytes]] = []
        self.mode: int | None = None

    def call(self, words: list[bytes]) -> Any:
        self.called.append(words)
        return self.answer(words)

    def interrupt(self) -> bytes | None:
        self.ticks -= 1
        return KILLED if self.ticks < 0 else None

    def may_call(self, words: list[bytes]) -> bool:
        if words[0] == b"nosuch":
            raise CommandError("ERR no such command")
        return words[0] != b"forbidden"

    def set_replication(self, mode: int) -> None:
        self.mode = mode

    def log(self, level: int, message: bytes) -> None:
        self.logged.append((level, message))


def run(
    engine: Engine,
    body: str | bytes,
    keys: tuple[bytes, ...] = (),
    args: tuple[bytes, ...] = (),
    host: FakeHost | None = None,
) -> Any:
    """The value of a script's reply; the CommandError if it has failed."""
    text = body.encode() if isinstance(body, str) else body
    try:
        return engine.run(engine.compile(text), list(keys), list(args), host or FakeHost())
    except CommandError as error:
        return error
