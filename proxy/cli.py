"""The command line: `shardkv [CONFIG] [--name value …]` serves, as redis-server does; `shardkv TOOL …` runs
one of the tools in proxy/tools."""

from __future__ import annotations

import logging
import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import click

import proxy.commands  # noqa: F401 - declares the commands that proxies answer,
import shardkv.commands  # noqa: F401 - and those that shards run
from proxy import colocation, identity, tls, tools
from proxy.first_users import first_users
from proxy.listeners import open_listeners
from proxy.offline import lock
from proxy.supervisor import Supervisor, data_folder
from shardkv import REDIS_VERSION, __version__, logs, slots
from shardkv.aof.disk import Disk
from shardkv.command import number_commands
from shardkv.config_file import ConfigError, changed_by_file, load, user_lines
from shardkv.errors import CommandError
from shardkv.settings import Config, default_proxies
from shardkv.slotmap import SlotMapError, open_slot_map

logger = logging.getLogger("proxy.cli")

__all__ = ["main"]


_TOOLS = tuple(module.name for module in pkgutil.iter_modules(tools.__path__))

_OWN_WORDS = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
"""The settings of the server are not options to click."""


class Program(click.Group):
    """Runs a tool if the first word names one; else the server, with all the words."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_TOOLS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _TOOLS:
            return None
        tool: click.Command = import_module(f"proxy.tools.{name}").tool
        return tool

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in _TOOLS:
            return super().resolve_command(ctx, args)
        return server.name, server, args


@click.group(
    cls=Program,
    invoke_without_command=True,
    context_settings=_OWN_WORDS,
    options_metavar="",
    subcommand_metavar="[CONFIG] [--name value]... | TOOL [ARGS]...",
)
@click.version_option(
    __version__, "-v", "--version", message=f"shardkv %(version)s (speaks Redis {REDIS_VERSION})"
)
@click.pass_context
def main(context: click.Context) -> None:
    """Runs the server, or a tool.

    CONFIG is a file in the syntax of redis.conf (- for standard input); conf/shardkv.conf documents every
    setting. Each setting can be given as an option as well, and then wins over the file: --port 6380
    --workers 4.
    """
    if context.invoked_subcommand is None:
        context.invoke(server)


@click.command(context_settings=_OWN_WORDS)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def server(arguments: tuple[str, ...] = ()) -> None:
    """Runs the server until it is stopped."""
    words = list(arguments)
    path = Path(words.pop(0)) if words and not words[0].startswith("--") else None
    try:
        sys.exit(serve(path, words))
    except (ConfigError, SlotMapError, OSError) as error:
        click.echo(f"shardkv: {error}", err=True)
        sys.exit(1)


def serve(path: Path | None, overrides: list[str]) -> int:
    """Reads the settings and runs the server until it is stopped; returns the exit code.

    Raises ConfigError, SlotMapError or OSError if it cannot start.
    """
    warnings: list[str] = []
    config = load(path, overrides, warnings.append)
    logs.configure(config, "supervisor", queued=False)
    for warning in warnings:
        logger.warning("%s", warning)
    number_commands()
    users = first_users(config, user_lines(path, overrides))
    folder = data_folder(config)
    Disk().make_folder(folder)
    lock_fd = lock(folder)
    asked = identity.asked = replace(config)
    identity.config_file = path.resolve() if path else None
    colocation.finish(folder)
    layout = open_slot_map(folder, config.workers, config.colocate, loads=config.appendonly)
    if layout.colocate != config.colocate:
        layout = colocation.lay_out(folder, layout, config)
    config.workers = layout.target
    slots.colocate(config.colocate)
    config.proxies = config.proxies or default_proxies(os.cpu_count() or 1)
    listeners = open_listeners(config)
    if listeners.tls:
        tls.server_context(config)  # tells now what would be wrong in each proxy
    listeners.listen(config.tcp_backlog)
    supervisor = Supervisor(config, listeners, layout, lock_fd, users)
    with pid_file(config.pidfile):
        return supervisor.run(lambda: reload(asked, path, overrides, supervisor))


def reload(asked: Config, path: Path | None, overrides: list[str], supervisor: Supervisor) -> None:
    """Reads the configuration file again and has every process take over what has changed.

    A file that cannot be read, or has a bad setting, changes nothing.
    """
    if path is None:
        logger.warning("the server was started without a configuration file: nothing to read again")
        return
    try:
        # How many processes there are was settled at the start, where the setting may have left it open.
        current = replace(supervisor.config, workers=asked.workers, proxies=asked.proxies)
        changes = changed_by_file(path, overrides, current, lambda text: logger.warning("%s", text))
        for name in changes.immutable:
            logger.warning("%s has changed in %s, which needs a restart", name, path)
        if changes.mutable:
            supervisor.relay.tell_everyone("config set", changes.mutable)
            logger.info("changed: %s", ", ".join(name.decode() for name, _ in changes.mutable))
    except (ConfigError, CommandError, OSError) as error:
        logger.error("the configuration stays as it was: %s", error)


@contextmanager
def pid_file(path: str) -> Iterator[None]:
    """Keeps the process's number in a file while the server runs, if a path is given."""
    if path:
        Path(path).write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        if path:
            Path(path).unlink(missing_ok=True)
