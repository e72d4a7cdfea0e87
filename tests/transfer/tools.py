"""The tools, run in this process."""

from __future__ import annotations

from importlib import import_module

import click
from click.testing import CliRunner

FAILED, INCOMPLETE = 1, 3


def tool(name: str, *words: object, exit_code: int | None = 0) -> str:
    """What a tool says; its exit code must be this one, if one is given."""
    command: click.Command = import_module(f"proxy.tools.{name}").tool
    found = CliRunner().invoke(command, list(map(str, words)), catch_exceptions=False)
    assert exit_code is None or found.exit_code == exit_code, found.output
    return found.output
