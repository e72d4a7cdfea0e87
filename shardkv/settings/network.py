"""Where clients connect, and how they are encrypted."""

from __future__ import annotations

from dataclasses import dataclass

from shardkv.setting_kinds import Addresses, Choice, Integer, Octal, Text, YesNo, setting

NETWORK = "Network"
TLS = "TLS"


@dataclass(kw_only=True)
class Network:
    """The settings of the listeners and of TLS."""

    __slots__ = ()

    bind: tuple[str, ...] = setting(
        NETWORK,
        ("127.0.0.1", "-::1"),
        Addresses(),
        """Listens on these addresses only. An address with a - before it may be missing on this host; * and
        ::* stand for every IPv4 and IPv6 address. The default serves programs on this host alone; before you
        add other addresses, set requirepass. Empty: no TCP listener.""",
        mutable=False,
    )
    port: int = setting(
        NETWORK,
        6379,
        Integer(0, 65535),
        """Accepts TCP connections on this port. With 0 there is no TCP listener, only the unix socket.""",
        mutable=False,
    )
    protected_mode: bool = setting(
        NETWORK,
        True,
        YesNo(),
        """While no password is set, connections from other hosts are answered with an error and closed, even
        if bind lets them in. Turn it off only where a firewall does this work.""",
    )
    tcp_backlog: int = setting(
        NETWORK,
        511,
        Integer(),
        """Connections that may wait to be accepted. The kernel cuts it to net.core.somaxconn; raise both if
        clients connect in bursts.""",
        mutable=False,
    )
    unixsocket: str = setting(
        NETWORK,
        "",
        Text(),
        """Also listens on a unix socket of this path. Empty: no unix socket.""",
        mutable=False,
    )
    unixsocketperm: int = setting(
        NETWORK,
        0,
        Octal(),
        """Permissions of the unix socket, such as 770: who may connect to it. 0 leaves what the process's
        umask gives.""",
        mutable=False,
    )
    tcp_keepalive: int = setting(
        NETWORK,
        300,
        Integer(),
        """Seconds of silence after which the kernel probes whether the client's host is still there, so that
        connections of vanished hosts are closed. 0: never.""",
    )
    tls_port: int = setting(
        TLS,
        0,
        Integer(0, 65535),
        """Accepts connections with TLS on this port, at the addresses of bind. Set port to 0 to accept no
        others. 0: no TLS.""",
        mutable=False,
    )
    tls_cert_file: str = setting(
        TLS,
        "",
        Text(),
        """The server's certificate in PEM, followed by those between it and its authority. CONFIG SET, and
        SIGHUP, read it and the key again even if the path is the same: connections made from then on get the
        new one, others go on.""",
        rereads=True,
    )
    tls_key_file: str = setting(
        TLS,
        "",
        Text(),
        """The key of that certificate, in PEM.""",
        rereads=True,
    )
    tls_key_file_pass: str = setting(
        TLS,
        "",
        Text(),
        """What the key is encrypted with, if it is.""",
        secret=True,
    )
    tls_ca_cert_file: str = setting(
        TLS,
        "",
        Text(),
        """Authorities, in PEM, that the certificates of clients must come from.""",
        rereads=True,
    )
    tls_ca_cert_dir: str = setting(
        TLS,
        "",
        Text(),
        """A folder of such authorities, prepared with `openssl rehash`.""",
        rereads=True,
    )
    tls_auth_clients: str = setting(
        TLS,
        "yes",
        Choice("no", "yes", "optional"),
        """Whether a client must show a certificate. yes: none connects without one. optional: one that is
        shown must be valid. no: none is asked for.""",
    )
    tls_protocols: str = setting(
        TLS,
        "",
        Text(),
        """The versions that are spoken, such as "TLSv1.2 TLSv1.3". Empty: both of these; older ones are not
        supported.""",
    )
    tls_ciphers: str = setting(
        TLS,
        "",
        Text(),
        """The ciphers for TLSv1.2 in OpenSSL's syntax (ciphers(1ssl)). Empty: OpenSSL's choice of safe
        ones.""",
    )
    tls_prefer_server_ciphers: bool = setting(
        TLS,
        False,
        YesNo(),
        """Whether the server's order of ciphers counts, not the client's.""",
    )
    tls_dh_params_file: str = setting(
        TLS,
        "",
        Text(),
        """Parameters for Diffie-Hellman key exchange, in PEM; only old clients need them.""",
        rereads=True,
    )
