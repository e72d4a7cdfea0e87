"""Users in a real server of several processes: all of them obey, at once and after a restart."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.relay import ANSWER_TIMEOUT_S
from shardkv.limits import DENIALS_TOLD
from shardkv.slots import even_slot_table, slot_of
from tests.processes.server import ROOT, Shardkv, eventually, on_proxy, shardkv
from tests.wire import TIMEOUT_S, Connection

PROXIES, WORKERS = 2, 3
TABLE = even_slot_table(WORKERS)

NO_KEY = b"-NOPERM No permissions to access a key\r\n"
NO_AUTH = b"-NOAUTH Authentication required.\r\n"
WRONG_PASSWORD = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"

GET_ANY = "return redis.pcall('get', ARGV[1])"
"""Runs on any shard, and looks at a key of any."""


def key_of(shard: int, start: str = "k") -> str:
    """A key of a shard."""
    return next(
        key for key in (f"{start}:{number}" for number in range(100)) if TABLE[slot_of(key.encode())] == shard
    )


@pytest.fixture(scope="module")
def server() -> Iterator[Shardkv]:
    with shardkv(proxies=PROXIES, workers=WORKERS) as running:
        yield running


@pytest.fixture
def admin(server: Shardkv) -> Iterator[Connection]:
    with server.wire() as connection:
        yield connection
        connection.ask("ACL", "DELUSER", "bob", "ann")
        connection.ask("ACL", "LOG", "RESET")
        connection.ask("FLUSHALL")


def setuser(admin: Connection, name: str, *rules: str) -> None:
    assert admin.ask("ACL", "SETUSER", name, *rules) == b"+OK\r\n"


def login(server: Shardkv, proxy: int = 0, name: str = "bob") -> Connection:
    connection = on_proxy(server, proxy, PROXIES)
    assert connection.ask("AUTH", name, "any") == b"+OK\r\n"
    return connection


# -- all processes obey -------------------------------------------------------------------------


def test_a_change_counts_everywhere_when_it_is_answered(server: Shardkv, admin: Connection) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all", "~k*")
    with login(server, 0) as one, login(server, 1) as other:
        for client in (one, other):
            assert client.ask("GET", "k") == b"$-1\r\n"
        for _ in range(20):
            setuser(admin, "bob", "resetkeys")
            for client in (one, other):
                assert client.ask("GET", "k") == NO_KEY
            setuser(admin, "bob", "~k*")
            for client in (one, other):
                assert client.ask("GET", "k") == b"$-1\r\n"


def test_a_change_is_not_answered_while_a_process_has_not_heard_of_it(
    server: Shardkv, admin: Connection
) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all", "~k*")
    found = re.search("pid=([0-9]+)", server.info("shards")["shard0"])
    assert found is not None
    stopped = int(found[1])
    os.kill(stopped, signal.SIGSTOP)
    try:
        admin.send("ACL", "SETUSER", "bob", "resetkeys")
        with login(server, 1) as client:
            # Until the proxy has heard of it the request goes to its shard, which has to answer.
            eventually(lambda: client.ask("GET", key_of(1)) == NO_KEY)
        admin.socket.settimeout(ANSWER_TIMEOUT_S + 0.5)
        with pytest.raises(TimeoutError):
            admin.receive()
    finally:
        os.kill(stopped, signal.SIGCONT)
    admin.socket.settimeout(TIMEOUT_S)
    assert admin.receive() == b"+OK\r\n"


def test_scripts_are_checked_on_every_shard(server: Shardkv, admin: Connection) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all", "~k*")
    keys = [key_of(shard) for shard in range(WORKERS)]
    secrets = [key_of(shard, "secret") for shard in range(WORKERS)]
    admin.ask("MSET", *[word for key in keys + secrets for word in (key, "value")])
    copy = "redis.call('set', KEYS[1], '1'); return redis.pcall('set', ARGV[1], '2')"
    with login(server, 1) as client:
        for number, _ in enumerate(range(WORKERS)):
            # The first time it is on its way over all shards, then with its keys on one.
            for declared in ((), (keys[number],)):
                for key in keys:
                    assert client.ask("EVAL", GET_ANY, len(declared), *declared, key) == b"$5\r\nvalue\r\n"
                for key in secrets:
                    assert client.ask("EVAL", GET_ANY, len(declared), *declared, key).startswith(
                        b"-ERR ACL failure in script: No permissions to access a key"
                    )
        for key, secret in zip(keys, secrets, strict=True):
            denied = client.ask("EVAL", copy, 1, key, secret)
            assert denied.startswith(b"-ERR ACL failure in script: No permissions to access a key")
            assert admin.ask("GET", key) == b"$1\r\n1\r\n"
            assert admin.ask("GET", secret) == b"$5\r\nvalue\r\n"


def test_scripts_in_transactions_are_checked(server: Shardkv, admin: Connection) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all", "~k*")
    one, other = key_of(0), key_of(1)
    with login(server) as client:
        # On one shard, and on two.
        for key in (one, other):
            client.ask("MULTI")
            client.ask("EVAL", "return redis.pcall('set', 'secret', KEYS[1])", 1, one)
            client.ask("SET", key, "1")
            reply = client.ask("EXEC")
            assert reply.startswith(b"*2\r\n-ERR ACL failure in script: No permissions to access a key")
            assert reply.endswith(b"\r\n+OK\r\n")
        assert admin.ask("EXISTS", "secret") == b":0\r\n"
        # Who becomes another user in a transaction has his rights from then on.
        setuser(admin, "ann", "on", "nopass", "+@all", "~*")
        with login(server, name="ann") as changing:
            changing.ask("MULTI")
            for request in (("SET", "secret", 1), ("AUTH", "bob", "x"), ("SET", "secret", 2)):
                changing.ask(*request)
            changing.ask("EVAL", "return redis.pcall('set', 'secret', 3)", 0)
            assert changing.ask("EXEC").startswith(b"*4\r\n+OK\r\n+OK\r\n-NOPERM ACLs rules changed")
            assert admin.ask("GET", "secret") == b"$1\r\n1\r\n"


def test_a_process_that_is_started_anew_knows_the_users(server: Shardkv) -> None:
    admin = server.wire()
    setuser(admin, "bob", "on", "nopass", "+@all", "~k*")
    setuser(admin, "ann", "on", "nopass", "+@all", "~*")
    admin.ask("ACL", "DELUSER", "ann")
    setuser(admin, "bob", "~l*")
    for pid in server.pids("worker"):
        os.kill(pid, signal.SIGKILL)
    with login(server) as client:
        eventually(lambda: client.ask("MGET", *map(key_of, range(WORKERS))).startswith(b"*"))
        for shard in range(WORKERS):
            assert client.ask("EVAL", GET_ANY, 1, key_of(shard), key_of(shard, "l")) == b"$-1\r\n"
            assert client.ask("EVAL", GET_ANY, 1, key_of(shard), "secret").startswith(b"-ERR ACL failure")
    pids = server.pids("proxy")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    admin.socket.close()
    eventually(lambda: len(set(server.pids("proxy")) - set(pids)) == PROXIES)
    for proxy in range(PROXIES):
        with login(server, proxy) as client:
            assert client.ask("GET", "l") == b"$-1\r\n"
            assert client.ask("GET", "secret") == NO_KEY
            assert client.ask("AUTH", "ann", "any") == WRONG_PASSWORD
    with server.wire() as again:
        again.ask("ACL", "DELUSER", "bob")


# -- clients of users that change ---------------------------------------------------------------


@pytest.mark.parametrize("proxy", range(PROXIES))
def test_clients_of_a_deleted_user_are_disconnected(server: Shardkv, admin: Connection, proxy: int) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all", "~*")
    with login(server, proxy) as client, login(server, proxy) as waiting, login(server, proxy) as deleter:
        waiting.send("BLPOP", "queue", 0)
        client.send("EVAL", "redis.call('set', 'k', '1'); return 1", 0)
        assert client.receive() == b":1\r\n"
        # Who has asked for it has an answer first.
        assert deleter.ask("ACL", "DELUSER", "bob") == b":1\r\n"
        assert [one.ends() for one in (client, waiting, deleter)] == [b""] * 3
        assert admin.ask("RPUSH", "queue", "x") == b":1\r\n"
        assert admin.ask("LLEN", "queue") == b":1\r\n"


@pytest.mark.parametrize("proxy", range(PROXIES))
def test_subscribers_follow_a_change_of_channels(server: Shardkv, admin: Connection, proxy: int) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all", "&news*", "&p*")
    with (
        login(server, proxy) as channel,
        login(server, proxy) as pattern,
        login(server, proxy) as sharded,
        login(server, proxy) as stays,
    ):
        channel.ask("SUBSCRIBE", "news:1")
        pattern.ask("PSUBSCRIBE", "p*")
        sharded.ask("SSUBSCRIBE", "news:2")
        stays.ask("SUBSCRIBE", "news:3")
        setuser(admin, "bob", "-get")
        setuser(admin, "bob", "resetchannels", "&news:3")
        assert [one.ends() for one in (channel, pattern, sharded)] == [b""] * 3
        assert admin.ask("PUBLISH", "news:3", "x") == b":1\r\n"
        assert stays.receive().endswith(b"news:3\r\n$1\r\nx\r\n")


@pytest.mark.parametrize("keys", [("k:1",), tuple(key_of(shard) for shard in range(WORKERS))])
@pytest.mark.parametrize("proxy", range(PROXIES))
def test_who_waits_is_not_served_what_he_may_not_have_any_more(
    server: Shardkv, admin: Connection, proxy: int, keys: tuple[str, ...]
) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all", "~k*")
    with login(server, proxy) as client:
        client.send("BLPOP", *keys, 0)
        eventually(lambda: "blocked_clients:1" in admin.text("INFO", "clients"))
        setuser(admin, "bob", "+@all")
        setuser(admin, "bob", "-blpop")
        assert client.receive() == b"-NOPERM User bob has no permissions to run the 'blpop' command\r\n"
        setuser(admin, "bob", "+blpop")
        client.send("BLPOP", *keys, 0)
        eventually(lambda: "blocked_clients:1" in admin.text("INFO", "clients"))
        setuser(admin, "bob", "resetkeys")
        for key in keys:
            assert admin.ask("RPUSH", key, "x") == b":1\r\n"
            assert admin.ask("LLEN", key) == b":1\r\n"
        assert client.receive() == NO_KEY


def test_a_client_that_wants_no_replies_is_limited_as_well(server: Shardkv, admin: Connection) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all", "~k*")
    with login(server) as client:
        client.send("CLIENT", "REPLY", "OFF")
        client.send("SET", "secret", 1)
        client.send("EVAL", "redis.call('set', 'secret', '1')", 0)
        client.send("CLIENT", "REPLY", "ON")
        assert client.receive() == b"+OK\r\n"
    assert admin.ask("EXISTS", "secret") == b":0\r\n"
    log = admin.ask("ACL", "LOG")
    assert log.count(b"secret") == 2


# -- who a client is --------------------------------------------------------------------------------


def test_the_list_of_clients_tells_users(server: Shardkv, admin: Connection) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all")
    with login(server, 0) as one, login(server, 1) as other:
        listed = admin.text("CLIENT", "LIST", "USER", "bob").splitlines()
        assert len(listed) == PROXIES
        assert all(" user=bob " in line for line in listed)
        assert one.ask("RESET") == b"+RESET\r\n"
        assert one.ask("ACL", "WHOAMI") == b"$7\r\ndefault\r\n"
        assert admin.ask("CLIENT", "KILL", "USER", "bob") == b":1\r\n"
        assert other.ends() == b""
        assert one.ask("PING") == b"+PONG\r\n"


def test_redis_cli_logs_in(server: Shardkv, admin: Connection) -> None:
    setuser(admin, "bob", "on", ">the password", "+acl|whoami")
    command = [
        "redis-cli",
        "-p",
        str(server.port),
        "--user",
        "bob",
        "--pass",
        "the password",
        "ACL",
        "WHOAMI",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.strip() == "bob"


def test_the_user_default_is_who_has_not_said_who_he_is() -> None:
    with (
        shardkv(proxies=2, workers=1, requirepass="old") as server,
        server.wire() as admin,
        server.wire() as nobody,
    ):
        assert nobody.ask("PING") == NO_AUTH
        assert admin.ask("AUTH", "old") == b"+OK\r\n"
        setuser(admin, "default", "resetpass", ">new")
        assert nobody.ask("AUTH", "old") == WRONG_PASSWORD
        setuser(admin, "default", "nopass", "-get")
        for proxy in range(2):
            with on_proxy(server, proxy, 2) as client:
                assert client.ask("GET", "k").startswith(b"-NOPERM User default ")
        assert nobody.ask("PING") == b"+PONG\r\n"
        assert admin.ask("CONFIG", "SET", "requirepass", "newest") == b"+OK\r\n"
        assert nobody.ask("PING") == NO_AUTH
        assert nobody.ask("AUTH", "newest") == b"+OK\r\n"


# -- the log --------------------------------------------------------------------------------------


def test_the_log_of_all_proxies_is_one(server: Shardkv, admin: Connection) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all", "-set", "~k*")
    before = server.info("stats")
    for proxy in range(PROXIES):
        with login(server, proxy) as client:
            client.ask("SET", "k", 1)
            client.ask("EVAL", "redis.pcall('get', 'x'); return redis.pcall('get', 'x')", 0)
            client.ask("PUBLISH", "channel", "x")
            client.ask("AUTH", "bob2", "wrong")
    entries = log_of(admin)
    assert [(one["reason"], one["context"], one["object"], one["username"]) for one in entries] == [
        ("auth", "toplevel", "AUTH", "bob2"),
        ("channel", "toplevel", "channel", "bob"),
        ("key", "lua", "x", "bob"),
        ("command", "toplevel", "set", "bob"),
    ]
    assert [one["count"] for one in entries] == [str(PROXIES), str(PROXIES), str(2 * PROXIES), str(PROXIES)]
    numbers = [int(one["entry-id"]) for one in entries]
    assert numbers == sorted(numbers, reverse=True)
    assert all(" user=bob " in one["client-info"] for one in entries)
    stats = server.info("stats")
    grown = {
        reason: int(stats[f"acl_access_denied_{reason}"]) - int(before[f"acl_access_denied_{reason}"])
        for reason in ("auth", "cmd", "key", "channel")
    }
    assert grown == {"auth": PROXIES, "cmd": PROXIES, "key": 2 * PROXIES, "channel": PROXIES}
    assert admin.ask("ACL", "LOG", "RESET") == b"+OK\r\n"
    with on_proxy(server, 0, PROXIES) as one, on_proxy(server, 1, PROXIES) as other:
        assert one.ask("ACL", "LOG") == other.ask("ACL", "LOG") == b"*0\r\n"


def test_what_a_script_was_denied_is_told_in_bounds(server: Shardkv, admin: Connection) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all", "~k*")
    script = """
        for number = 1, 100000 do redis.pcall('get', 'x') end
        for number = 1, 1000 do redis.pcall('get', number) end
        return 'done'
    """
    with login(server) as client:
        for keys in ((), (key_of(0),)):
            assert client.ask("EVAL", script, len(keys), *keys) == b"$4\r\ndone\r\n"
    told = log_of(admin, 100)
    assert len(told) == DENIALS_TOLD
    assert [one["count"] for one in told if one["object"] == "x"] == ["200000"]


def test_the_log_is_bounded(server: Shardkv, admin: Connection) -> None:
    setuser(admin, "bob", "on", "nopass", "+@all")
    admin.ask("CONFIG", "SET", "acllog-max-len", 5)
    with login(server) as client:
        for number in range(20):
            client.ask("GET", f"key:{number}")
        client.ask("GET", "x" * 100_000)
    entries = log_of(admin, 100)
    assert [one["object"] for one in entries[1:]] == [f"key:{number}" for number in range(19, 15, -1)]
    assert len(entries[0]["object"]) < 200
    assert admin.ask("CONFIG", "SET", "acllog-max-len", 128) == b"+OK\r\n"


def log_of(connection: Connection, count: int = 10) -> list[dict[str, str]]:
    """What ACL LOG tells."""
    words = connection.ask("ACL", "LOG", count).decode().split("\r\n")
    found: list[dict[str, str]] = []
    values = iter(words[1:])
    for word in values:
        if word == "*20":
            found.append({})
        elif word.startswith("$"):
            name = next(values)
            value = next(values)
            found[-1][name] = next(values) if value.startswith("$") else value[1:]
    return found


# -- what nobody may see ----------------------------------------------------------------------------


def test_passwords_show_nowhere() -> None:
    with shardkv(proxies=2, workers=2, loglevel="debug", slowlog_log_slower_than=0) as server:
        with server.wire() as admin, server.wire() as watcher:
            assert watcher.ask("MONITOR") == b"+OK\r\n"
            for rules in ((">unspeakable",), ("<unspeakable",), ("nosuchrule", ">unspeakable")):
                admin.ask("ACL", "SETUSER", "bob", "on", *rules)
            setuser(admin, "bob", ">unspeakable")
            admin.ask("AUTH", "bob", "unspeakable")
            admin.ask("AUTH", "bob", "unspeakable too")
            admin.ask("RESET")
            admin.ask("HELLO", 3, "AUTH", "bob", "unspeakable")
            admin.ask("RESET")
            admin.ask("PING", "last")
            seen = b""
            while b"last" not in seen:
                seen += watcher.receive()
            assert b"unspeakable" not in seen
            for request in (("SLOWLOG", "GET", -1), ("ACL", "LOG"), ("ACL", "LIST"), ("CLIENT", "LIST")):
                assert b"unspeakable" not in admin.ask(*request), request
        titles = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in server.pids("")]
        assert not any(b"unspeakable" in title for title in titles)
        server.stop()
        assert "unspeakable" not in server.log.read_text()


# -- files ------------------------------------------------------------------------------------------


def lines_of(connection: Connection) -> list[str]:
    """What ACL LIST tells."""
    return connection.ask("ACL", "LIST").decode().split("\r\n")[2::2]


def test_a_file_of_users(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    everything = "user default on nopass +@all ~* &*\n"
    path.write_text(f"user bob on nopass +@all ~k*\nuser gone on nopass +@all\n\n{everything}")
    with shardkv(proxies=PROXIES, workers=WORKERS, aclfile=str(path)) as server, server.wire() as admin:
        with login(server) as client, login(server, 1, "gone") as gone:
            assert client.ask("GET", "x") == NO_KEY
            # What is saved is what there is.
            setuser(admin, "ann", "on", ">secret", "+@all", "(~x +get)")
            assert admin.ask("ACL", "SAVE") == b"+OK\r\n"
            assert path.read_text().splitlines() == lines_of(admin)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert [found.name for found in tmp_path.iterdir()] == ["users.acl"]
            # What is loaded counts for everybody: who is there still has other rights, who is not is gone.
            path.write_text(f"user bob on nopass +@all ~x*\n{everything}")
            assert admin.ask("ACL", "LOAD") == b"+OK\r\n"
            assert client.ask("GET", "x") == b"$-1\r\n"
            assert client.ask("EVAL", GET_ANY, 0, "k").startswith(b"-ERR ACL failure in script")
            assert gone.ends() == b""
            assert admin.ask("ACL", "USERS") == b"*2\r\n$3\r\nbob\r\n$7\r\ndefault\r\n"
            # A bad file changes nothing.
            path.write_text("user bob on nopass +@all ~x*\nuser bob +nosuch\n")
            assert admin.ask("ACL", "LOAD").startswith(b"-ERR ")
            path.unlink()
            assert admin.ask("ACL", "LOAD").startswith(b"-ERR ")
            assert client.ask("GET", "x") == b"$-1\r\n"
        # A folder that cannot be written to: the users stay as they are, and so does the file.
        path.mkdir()
        assert admin.ask("ACL", "SAVE").startswith(b"-ERR There was an error trying to save the ACLs.")
        assert [found.name for found in tmp_path.iterdir()] == ["users.acl"]


def refused(*options: str) -> str:
    """What is said by a server that does not start."""
    command = [sys.executable, "-m", "shardkv", *options, "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    return done.stderr


def test_users_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.write_text("user bob on\nuser ann +nosuch\n")
    data = ("--dir", str(tmp_path))
    told = refused(*data, "--aclfile", str(path))
    assert f"{path}:2: Error in applying operation '+nosuch': Unknown command" in told
    assert str(tmp_path / "none") in refused(*data, "--aclfile", str(tmp_path / "none"))
    config = tmp_path / "shardkv.conf"
    config.write_text(f"dir {tmp_path}\nuser bob on +@all\nuser ann +nosuch\n")
    assert f"{config}:3: user: " in refused(str(config))
    config.write_text(f"dir {tmp_path}\nuser bob on mistyped-password\n")
    told = refused(str(config))
    assert f"{config}:2: user: Error in a rule: Syntax error" in told
    assert "mistyped" not in told
    config.write_text(f"dir {tmp_path}\nuser bob on +@all\nuser bob off\n")
    assert f"{config}:3: user: the user bob is declared twice" in refused(str(config))
    config.write_text(f"dir {tmp_path}\naclfile {path}\nuser bob on +@all\n")
    assert f"{config}:3: user: Configuring Redis with users defined in redis.conf and" in refused(str(config))


def test_users_in_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "shardkv.conf"
    config.write_text("# who\nuser bob on nopass +@all ~k*\nuser default on >secret +@all ~* &*\nhz 20\n")
    with shardkv(tmp_path, config=config, proxies=1) as server:
        with server.wire() as admin:
            assert admin.ask("PING") == NO_AUTH
            assert admin.ask("AUTH", "bob", "any") == b"+OK\r\n"
            assert admin.ask("GET", "x") == NO_KEY
            assert admin.ask("AUTH", "secret") == b"+OK\r\n"
            setuser(admin, "ann", "on", ">other", "+@all", '~"quoted', "(~x +get)")
            assert admin.ask("ACL", "DELUSER", "bob") == b":1\r\n"
            assert admin.ask("CONFIG", "REWRITE") == b"+OK\r\n"
            listed = lines_of(admin)
        text = config.read_text().splitlines()
        assert text[0] == "# who"
        assert len([line for line in text if line.startswith("user ")]) == len(listed) == 2
        assert "other" not in config.read_text()
    with shardkv(tmp_path, config=config, proxies=1) as server, server.wire() as admin:
        assert admin.ask("AUTH", "secret") == b"+OK\r\n"
        assert lines_of(admin) == listed
