"""Who a client may be: the one user `default`, whose password is the setting `requirepass`."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from shardkv import errors
from shardkv.errors import CommandError

if TYPE_CHECKING:
    from proxy.session import Session
    from shardkv.settings import Config

DEFAULT_USER = b"default"


def is_user(name: bytes) -> bool:
    return name == DEFAULT_USER


def authenticate(session: Session, user: bytes, password: bytes) -> None:
    """Makes the client that user. Raises CommandError if it may not be.

    As in Redis, a user without a password is whoever says so. The time a comparison takes tells nothing of
    the password.
    """
    if not is_user(user) or not _is_password(session.proxy.config, password):
        raise CommandError(errors.WRONG_PASSWORD)
    session.user = user
    session.authenticated = True
    session.settle()


def _is_password(config: Config, given: bytes) -> bool:
    expected = config.requirepass.encode("utf-8", "surrogateescape")
    return not expected or hmac.compare_digest(expected, given)
