"""TLS: certificates, those of clients, and new ones while the server runs."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

from shardkv import limits
from tests.processes.server import Shardkv, eventually, shardkv
from tests.twin.servers import free_port


class Authority:
    """A certificate authority, and what it has issued, as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, host: str = "localhost") -> dict[str, str]:
        """Writes a certificate and its key; returns their paths."""
        issued = self._ca.issue_cert(host)
        cert, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return {"cert": str(cert), "key": str(key)}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def tls_port() -> int:
    return free_port()


def config(authority: Authority, tls_port: int, auth_clients: str) -> Path:
    """A configuration file of a server with TLS."""
    issued = authority.issue("server")
    path = authority.folder / "shardkv.conf"
    path.write_text(
        f"tls-port {tls_port}\n"
        f"tls-cert-file {issued['cert']}\n"
        f"tls-key-file {issued['key']}\n"
        f"tls-ca-cert-file {authority.file}\n"
        f"tls-auth-clients {auth_clients}\n"
    )
    return path


@pytest.fixture
def server(authority: Authority, tls_port: int) -> Iterator[Shardkv]:
    """One that wants no certificates of clients."""
    with shardkv(config=config(authority, tls_port, "no")) as running:
        yield running


@pytest.fixture
def strict(authority: Authority, tls_port: int) -> Iterator[Shardkv]:
    """One that lets nobody in without a certificate."""
    with shardkv(config=config(authority, tls_port, "yes")) as running:
        yield running


def client(authority: Authority, port: int, issued: dict[str, str] | None = None) -> redis.Redis:
    issued = issued or {}
    return redis.Redis(
        "localhost",
        port,
        ssl=True,
        ssl_ca_certs=str(authority.file),
        ssl_certfile=issued.get("cert"),
        ssl_keyfile=issued.get("key"),
        socket_timeout=10,
        retry=Retry(NoBackoff(), 0),
    )


def handshake(authority: Authority, port: int, **bounds: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(authority.file))
    for name, version in bounds.items():
        setattr(context, name, version)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname="localhost")


def serial(authority: Authority, port: int) -> str:
    """The number of the certificate that the server shows."""
    with handshake(authority, port) as connection:
        shown = connection.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


def test_the_same_data_with_and_without(server: Shardkv, authority: Authority, tls_port: int) -> None:
    with client(authority, tls_port) as encrypted, server.wire() as plain:
        assert encrypted.set("k", b"x" * 1_000_000)
        assert encrypted.mset({f"k{number}": number for number in range(100)})
        assert plain.ask("STRLEN", "k") == b":1000000\r\n"
        pipeline = encrypted.pipeline(transaction=False)
        for number in range(100):
            pipeline.get(f"k{number}")
        assert pipeline.execute() == [b"%d" % number for number in range(100)]
        assert len(encrypted.get("k") or b"") == 1_000_000


def test_messages_come_through(server: Shardkv, authority: Authority, tls_port: int) -> None:
    with client(authority, tls_port) as encrypted, encrypted.pubsub() as subscriber, server.wire() as plain:
        subscriber.subscribe("news")
        assert subscriber.get_message(timeout=10)["type"] == "subscribe"
        assert plain.ask("PUBLISH", "news", "hello") == b":1\r\n"
        assert subscriber.get_message(timeout=10)["data"] == b"hello"


def test_a_client_that_speaks_plainly_is_let_go(server: Shardkv, tls_port: int) -> None:
    with socket.create_connection(("127.0.0.1", tls_port), 10) as connection:
        connection.sendall(b"PING\r\n")
        # An alert of TLS may come, but no reply.
        assert b"PONG" not in connection.recv(100)
        assert not connection.recv(100)
    with server.wire() as plain:
        assert plain.ask("PING") == b"+PONG\r\n"


def test_what_was_asked_before_the_end_is_answered(
    server: Shardkv, authority: Authority, tls_port: int
) -> None:
    with handshake(authority, tls_port) as connection:
        connection.sendall(b"SET k v\r\nGET k\r\nQUIT\r\n")
        received = b""
        while data := connection.recv(1000):
            received += data
        assert received == b"+OK\r\n$1\r\nv\r\n+OK\r\n"


# -- certificates of clients --------------------------------------------------------------------


def test_a_client_without_a_certificate_is_not_let_in(
    strict: Shardkv, authority: Authority, tls_port: int
) -> None:
    with client(authority, tls_port) as stranger, pytest.raises(redis.ConnectionError):
        stranger.ping()
    with client(authority, tls_port, authority.issue("client")) as known:
        assert known.ping()


def test_nor_is_one_with_the_certificate_of_another_authority(
    strict: Shardkv, authority: Authority, tls_port: int, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    forged = Authority(elsewhere).issue("client")
    with client(authority, tls_port, forged) as stranger, pytest.raises(redis.ConnectionError):
        stranger.ping()


def test_optional(strict: Shardkv, authority: Authority, tls_port: int, tmp_path: Path) -> None:
    with strict.wire() as plain:
        assert plain.ask("CONFIG", "SET", "tls-auth-clients", "optional") == b"+OK\r\n"

    def is_open() -> bool:
        with client(authority, tls_port) as anybody:
            try:
                return bool(anybody.ping())
            except redis.ConnectionError:
                return False

    eventually(is_open)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    forged = Authority(elsewhere).issue("client")
    with client(authority, tls_port, forged) as stranger, pytest.raises(redis.ConnectionError):
        stranger.ping()


# -- versions -----------------------------------------------------------------------------------


def test_versions_can_be_chosen(server: Shardkv, authority: Authority, tls_port: int) -> None:
    with handshake(authority, tls_port, maximum_version=ssl.TLSVersion.TLSv1_2) as connection:
        assert connection.version() == "TLSv1.2"
    with server.wire() as plain:
        assert plain.ask("CONFIG", "SET", "tls-protocols", "TLSv1.3") == b"+OK\r\n"

    def is_refused() -> bool:
        try:
            handshake(authority, tls_port, maximum_version=ssl.TLSVersion.TLSv1_2).close()
        except ssl.SSLError:
            return True
        return False

    eventually(is_refused)
    with handshake(authority, tls_port) as connection:
        assert connection.version() == "TLSv1.3"


def test_old_versions_are_not_spoken(server: Shardkv) -> None:
    with server.wire() as plain:
        assert plain.ask("CONFIG", "SET", "tls-protocols", "TLSv1.1") == (
            b"-ERR CONFIG SET failed (possibly related to argument 'tls-protocols') - Unable to update TLS "
            b"configuration. tls-protocols: 'tlsv1.1' is not supported, only TLSv1.2 and TLSv1.3\r\n"
        )


# -- new certificates ---------------------------------------------------------------------------


def test_a_new_certificate_of_the_same_name(server: Shardkv, authority: Authority, tls_port: int) -> None:
    before = serial(authority, tls_port)
    with handshake(authority, tls_port) as old, server.wire() as plain:
        issued = authority.issue("server")
        assert plain.ask("CONFIG", "SET", "tls-cert-file", issued["cert"]) == b"+OK\r\n"
        eventually(lambda: serial(authority, tls_port) != before)
        # Who is connected stays.
        old.sendall(b"PING\r\n")
        assert old.recv(100) == b"+PONG\r\n"


def test_by_signal(server: Shardkv, authority: Authority, tls_port: int) -> None:
    before = serial(authority, tls_port)
    authority.issue("server")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: serial(authority, tls_port) != before)


def test_a_file_that_is_no_certificate_changes_nothing(
    server: Shardkv, authority: Authority, tls_port: int, tmp_path: Path
) -> None:
    before = serial(authority, tls_port)
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with server.wire() as plain:
        refused = plain.ask("CONFIG", "SET", "tls-cert-file", str(broken))
        assert refused.startswith(
            b"-ERR CONFIG SET failed (possibly related to argument 'tls-cert-file') - Unable to update TLS"
        )
        assert b"server.pem" in plain.ask("CONFIG", "GET", "tls-cert-file")
    assert serial(authority, tls_port) == before


def test_without_a_certificate_it_does_not_start(tls_port: int) -> None:
    with (
        pytest.raises(RuntimeError, match="tls-port needs tls-cert-file and tls-key-file"),
        shardkv(tls_port=tls_port),
    ):
        pass


def test_handshakes_that_do_not_end_disturb_nobody(
    server: Shardkv, authority: Authority, tls_port: int
) -> None:
    with ExitStack() as silent:
        for _ in range(50):
            silent.enter_context(socket.create_connection(("127.0.0.1", tls_port), 10))
        with client(authority, tls_port) as patient:
            assert patient.ping()


@pytest.mark.slow
def test_a_handshake_that_never_ends_is_given_up(server: Shardkv, tls_port: int) -> None:
    with socket.create_connection(("127.0.0.1", tls_port), limits.TLS_HANDSHAKE_S * 3) as silent:
        assert not silent.recv(100)
