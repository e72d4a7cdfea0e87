"""The users that the server starts with: those of the file that the setting aclfile names, or of the
`user` lines of the configuration, and in any case the user default."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from proxy import acl_file
from shardkv import errors
from shardkv.acl.changes import set_password
from shardkv.acl.users import Users
from shardkv.config_file import ConfigError, Directive
from shardkv.errors import CommandError
from shardkv.settings import Config

logger = logging.getLogger("proxy.first_users")


def first_users(config: Config, lines: Sequence[Directive]) -> Users:
    """The users by the settings and the `user` lines. Raises ConfigError, which names file and line, if they
    are not what they should be."""
    users = Users(config)
    if config.requirepass:
        set_password(users, config.requirepass)
    if lines and config.aclfile:
        raise lines[0].error(errors.USERS_TWICE)
    if config.aclfile:
        if config.requirepass:
            logger.warning("requirepass is ignored: %s says who the user default is", config.aclfile)
        path = acl_file.path_of(config)
        try:
            users.replace(acl_file.read(path), str(path))
        except CommandError as error:
            raise ConfigError(_text(error)) from None
    seen: set[str] = set()
    for directive in lines:
        if not directive.words:
            raise directive.error(errors.WRONG_NUMBER_OF_VALUES)
        name, *rules = directive.words
        if name in seen:
            raise directive.error(f"the user {name} is declared twice")
        seen.add(name)
        words = [rule.encode("utf-8", "surrogateescape") for rule in rules]
        try:
            users.change(name.encode("utf-8", "surrogateescape"), [b"reset", *words])
        except CommandError as error:
            raise directive.error(_without_passwords(_text(error), words)) from None
    return users


def _without_passwords(text: str, rules: Sequence[bytes]) -> str:
    """An error that names a rule, unless that may be a mistyped password: then only what is wrong with it."""
    for rule in rules:
        named = _text(CommandError(errors.acl_setuser(rule, b"")))
        if text.startswith(named.rstrip()) and rule[:1] not in (b"+", b"-"):
            return f"Error in a rule: {text.removeprefix(named.rstrip()).strip()}"
    return text


def _text(error: CommandError) -> str:
    return error.text.removeprefix(b"ERR ").decode("utf-8", "backslashreplace").rstrip()
