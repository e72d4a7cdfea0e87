"""TLS for clients: the context of the server's end, made of the settings whose names begin with `tls-`."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import replace

from shardkv import errors
from shardkv.errors import CommandError
from shardkv.settings import Config

_VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}
"""Older ones are broken (RFC 8996), and refused by name."""

_VERIFY = {"no": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "yes": ssl.CERT_REQUIRED}


class TlsError(OSError):
    """The settings make no context; says why."""


def server_context(config: Config) -> ssl.SSLContext:
    """What connections to the TLS port are made with. Reads the files that the settings name. Raises
    TlsError."""
    if not config.tls_cert_file or not config.tls_key_file:
        raise TlsError("tls-port needs tls-cert-file and tls-key-file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = _versions(config.tls_protocols)
    context.verify_mode = _VERIFY[config.tls_auth_clients]
    # Nobody may change keys in the middle of a connection, which costs a server much and a client little.
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if not config.tls_prefer_server_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    setting = ""
    try:
        setting = "tls-cert-file"
        # Without a password for it a key that needs one must not make OpenSSL ask at a terminal.
        context.load_cert_chain(config.tls_cert_file, config.tls_key_file, lambda: config.tls_key_file_pass)
        if config.tls_auth_clients != "no":
            setting = "tls-ca-cert-file"
            if not config.tls_ca_cert_file and not config.tls_ca_cert_dir:
                raise TlsError("tls-auth-clients needs tls-ca-cert-file or tls-ca-cert-dir")
            context.load_verify_locations(config.tls_ca_cert_file or None, config.tls_ca_cert_dir or None)
        if config.tls_dh_params_file:
            setting = "tls-dh-params-file"
            context.load_dh_params(config.tls_dh_params_file)
        if config.tls_ciphers:
            setting = "tls-ciphers"
            context.set_ciphers(config.tls_ciphers)
    except TlsError:
        raise
    except (OSError, ValueError) as error:
        raise TlsError(f"{setting}: {_reason(error)}") from None
    return context


def _versions(names: str) -> tuple[ssl.TLSVersion, ssl.TLSVersion]:
    """The lowest and the highest version that a list names. Without one, what OpenSSL takes for safe."""
    words = re.split(r"[\s,]+", names.lower().strip()) if names.strip() else list(_VERSIONS)
    unknown = [word for word in words if word not in _VERSIONS]
    if unknown:
        raise TlsError(f"tls-protocols: {unknown[0]!r} is not supported, only TLSv1.2 and TLSv1.3")
    wanted = sorted(_VERSIONS[word] for word in words)
    return wanted[0], wanted[-1]


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


def check(config: Config, pairs: Sequence[tuple[bytes, bytes]]) -> None:
    """Raises CommandError if CONFIG SET with these pairs of name and value, which are good each for itself,
    would leave settings that make no context."""
    names = [name.decode() for name, _ in pairs if name.lower().startswith(b"tls-")]
    if not names or not config.tls_port:
        return
    wanted = replace(config)
    wanted.set(pairs)
    try:
        server_context(wanted)
    except TlsError as error:
        raise CommandError(errors.tls_not_updated(names[0], str(error))) from None
