"""CONFIG: the settings of all processes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy import identity, relay, tls
from proxy.supervision import topic
from shardkv import config_file, control, errors, logs, settings
from shardkv.acl.changes import set_password
from shardkv.command import ADMIN, LOADING, NOSCRIPT, STALE, Place, command, container
from shardkv.config_file import ConfigError
from shardkv.errors import CommandError
from shardkv.quoting import quote
from shardkv.resp.replies import OK
from shardkv.settings import Config
from shardkv.slotmap import holds_data

if TYPE_CHECKING:
    from proxy.server import Proxy
    from proxy.session import Session
    from proxy.supervisor import Supervisor

container(
    "CONFIG",
    group="server",
    since="2.0.0",
    help_since="5.0.0",
    summary="A container for server configuration commands.",
)


@command(
    "CONFIG GET parameter [parameter ...]",
    group="server",
    since="2.0.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    complexity="O(N) when N is the number of configuration parameters provided",
    history=(("7.0.0", "Added the ability to pass multiple pattern parameters in one call"),),
    place=Place.PROXY,
)
def config_get(session: Session, args: list[Any]) -> Any:
    """Returns the effective values of configuration parameters."""
    found = session.proxy.config.get(*args[2:])
    return {name.encode(): text.encode("utf-8", "surrogateescape") for name, text in found.items()}


def _secret_values(args: Sequence[Any]) -> Sequence[int]:
    """The values of settings that are secrets."""
    names = ((at, settings.find(args[at].lower().decode("latin-1"))) for at in range(2, len(args) - 1, 2))
    return [at + 1 for at, declared in names if declared is not None and declared.secret]


@command(
    "CONFIG SET parameter value [parameter value ...]",
    group="server",
    since="2.0.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    complexity="O(N) when N is the number of configuration parameters provided",
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    history=(("7.0.0", "Added the ability to set multiple parameters in one call."),),
    place=Place.PROXY,
    secrets=_secret_values,
)
async def config_set(session: Session, args: list[Any]) -> Any:
    """Sets configuration parameters in-flight."""
    words = args[2:]
    if len(words) % 2:
        raise CommandError(errors.SYNTAX)
    pairs = list(zip(words[::2], words[1::2], strict=True))
    # What one process accepts all accept, because all have the same settings.
    session.proxy.config.check(pairs)
    tls.check(session.proxy.config, pairs)
    _check_workers(session.proxy.config, pairs)
    await session.proxy.supervision.ask(control.EVERYONE, "config set", pairs)
    return OK


def _check_workers(config: Config, pairs: list[tuple[bytes, bytes]]) -> None:
    """Raises CommandError if the number of workers is to change and cannot."""
    if any(name.lower() == b"workers" for name, _ in pairs):
        check_move(config)


def check_move(config: Config) -> None:
    """Raises CommandError if slots cannot be moved with these settings."""
    if not config.appendonly and holds_data(Path(config.dir) / config.appenddirname):
        raise CommandError(errors.WORKERS_WITHOUT_LOG)


@topic("config set")
def _set_in_proxy(proxy: Proxy, pairs: list[tuple[bytes, bytes]]) -> None:
    changed = proxy.config.set(pairs)
    _keep_asked(changed)
    proxy.settings_changed(changed)


@relay.topic("config set")
def _set_in_supervisor(supervisor: Supervisor, pairs: list[tuple[bytes, bytes]]) -> None:
    """Keeps the settings for the processes that are started anew."""
    changed = supervisor.config.set(pairs)
    _keep_asked(changed)
    if "loglevel" in changed:
        logs.set_level(supervisor.config)
    if "requirepass" in changed:
        set_password(supervisor.users, supervisor.config.requirepass)
    supervisor.shares.settings_changed()
    if "workers" in changed and supervisor.config.workers:
        supervisor.relocation.retarget(supervisor.config.workers)


def _keep_asked(changed: dict[str, Any]) -> None:
    """What is asked for is what the configuration file is to say."""
    if "workers" in changed and identity.asked is not None:
        identity.asked.workers = changed["workers"]


@command(
    "CONFIG REWRITE",
    group="server",
    since="2.8.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    place=Place.PROXY,
)
async def config_rewrite(session: Session, args: list[Any]) -> Any:
    """Persists the effective configuration to file."""
    if identity.config_file is None:
        raise CommandError(errors.NO_CONFIG_FILE)
    assert identity.asked is not None
    config = session.proxy.config
    config = replace(config, workers=identity.asked.workers, proxies=identity.asked.proxies)
    lines = [] if config.aclfile else [quoted(line) for line in session.proxy.users.lines()]
    try:
        await asyncio.to_thread(config_file.rewrite, identity.config_file, config, lines)
    except ConfigError as error:
        raise CommandError(errors.config_rewrite_failed(error)) from None
    except OSError as error:
        raise CommandError(errors.config_rewrite_failed(error.strerror)) from None
    return OK


def quoted(line: bytes) -> bytes:
    """A user's line as a configuration file has it, where some words stand in quotes."""
    words = line.decode("utf-8", "surrogateescape").split(" ")
    return " ".join(map(quote, words)).encode()


@command(
    "CONFIG RESETSTAT",
    group="server",
    since="2.0.0",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    tips=("request_policy:all_nodes", "response_policy:all_succeeded"),
    place=Place.PROXY,
)
async def config_resetstat(session: Session, args: list[Any]) -> Any:
    """Resets the server's statistics."""
    supervision = session.proxy.supervision
    asked = [supervision.ask(kind, "reset figures") for kind in (control.WORKERS, control.PROXIES)]
    await asyncio.gather(*asked)
    return OK


@topic("reset figures")
def _reset(proxy: Proxy, body: Any) -> None:
    proxy.reset_figures()
