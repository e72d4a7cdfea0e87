"""The settings and what CONFIG GET and SET do with them, compared with a real server."""

from __future__ import annotations

import pickle
from typing import Any

import hiredis
import pytest

from shardkv.config_file import load
from shardkv.errors import CommandError
from shardkv.foreign_directives import FIXED, FIXED_IN_FILES, IGNORED
from shardkv.setting_kinds import BufferLimit, Setting
from shardkv.settings import SETTINGS, Config, default_proxies, find
from tests.twin.servers import Server, valkey

OTHER_DEFAULTS = {"appendonly", "bind", "port", "dir"}
"""Settings with another default here than in Redis, or that the twin is started with."""

every_setting = pytest.mark.parametrize("declared", SETTINGS.values(), ids=list(SETTINGS))


def values(server: Server, *patterns: str) -> dict[str, str]:
    reply: dict[bytes, bytes] = server.ask("CONFIG", "GET", *patterns)
    return {name.decode(): value.decode() for name, value in reply.items()}


# -- declarations -----------------------------------------------------------------------------


def test_defaults_are_those_of_a_fresh_twin() -> None:
    with valkey() as server:
        theirs = values(server, "*")
    ours = Config().get(b"*")
    shared = ours.keys() & theirs.keys() - OTHER_DEFAULTS
    assert len(shared) > 50
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


def test_every_directive_of_the_twin_is_known(twin_server: Server) -> None:
    known = {*Config().get(b"*"), *IGNORED}
    assert values(twin_server, "*").keys() - known == set()


def test_a_directive_is_known_once() -> None:
    names = [*SETTINGS, *IGNORED, *FIXED, *FIXED_IN_FILES]
    names += [alias for declared in SETTINGS.values() for alias in declared.aliases]
    assert len(names) == len(set(names))


@every_setting
def test_every_value_is_read_back(declared: Setting[Any]) -> None:
    kind = declared.kind
    if declared.name != "dir":
        assert kind.parse([kind.format(declared.default)], declared.default) == declared.default
    assert not declared.doc.endswith(" ")
    assert declared.doc.endswith(".")


def test_a_secret_is_not_shown() -> None:
    config = Config(requirepass="abracadabra")
    assert "abracadabra" not in repr(config)
    assert SETTINGS["requirepass"].shown(config.requirepass) == "(hidden)"
    assert SETTINGS["port"].shown(config.port) == "6379"


def test_a_config_can_be_sent_to_another_process() -> None:
    config = Config(port=7000, bind=("::1",))
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_config_has_no_other_fields() -> None:
    with pytest.raises(AttributeError):
        Config().prot = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(("cores", "proxies"), [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (64, 16)])
def test_default_proxies(cores: int, proxies: int) -> None:
    assert default_proxies(cores) == proxies


# -- CONFIG GET -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "patterns",
    [
        ("hz",),
        ("HZ",),
        ("hz", "HZ"),
        ("hz*", "HZ"),
        ("nosuch", "databases"),
        ("hash-max-*",),
        ("Hash-Max-*-entrieS", "hash-max-listpack-value"),
        ("HASH-max-ziplist-entries",),
        ("[hH]z", "[\\H]z", "h\\z"),
        ("client-output-buffer-limit", "unixsocketperm", "appendfsync", "no-appendfsync-on-rewrite"),
        ("*aof-rewrite-*size", "proto-*"),
        ("save", "cluster-enabled", "replicaof", "maxmemory"),
        ("zset-max-???????-entries",),
    ],
)
def test_get_finds_the_names_that_the_twin_finds(twin_server: Server, patterns: tuple[str, ...]) -> None:
    ours = Config().get(*map(str.encode, patterns))
    assert ours.keys() == values(twin_server, *patterns).keys()


def test_values_are_shown_as_by_the_twin() -> None:
    changes = {
        "unixsocketperm": "0770",
        "bind": "127.0.0.1 -::1",
        "appendfsync": "ALWAYS",
        "no-appendfsync-on-rewrite": "Yes",
        "auto-aof-rewrite-min-size": "3MB",
        "client-output-buffer-limit": "replica 1kb 1m 5",
    }
    options = {name.replace("-", "_"): value for name, value in changes.items()}
    with valkey(**options) as server:
        theirs = values(server, *changes)
    overrides = [word for name, value in changes.items() for word in (f"--{name}", value)]
    assert load(None, overrides, pytest.fail).get(*map(str.encode, changes)) == theirs


def test_get_of_everything_is_sorted() -> None:
    names = list(Config().get(b"*"))
    assert names == sorted(names)
    assert "hash-max-ziplist-value" in names


# -- CONFIG SET -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pairs",
    [
        ("nosuch", "1"),
        ("NOSUCH", "1"),
        ("", "1"),
        ("rename-command", "a"),
        ("hz", "20", "nosuch", "1"),
        ("nosuch", "1", "databases", "1"),
        ("hz", "abc", "databases", "1"),
        ("hz", "10", "hz", "20"),
        ("hz", "10", "HZ", "20"),
        ("databases", "17"),
        ("DATABASES", "17"),
        ("logfile", "x"),
        ("pidfile", "x"),
        ("tcp-backlog", "1"),
        ("unixsocket", "x"),
        ("unixsocketperm", "777"),
        ("appenddirname", "x"),
        ("enable-debug-command", "yes"),
        ("HZ", "abc"),
        ("hz", ""),
        ("hz", "-1"),
        ("hz", "10x"),
        ("hz", " 10"),
        ("hz", "+10"),
        ("hz", "010"),
        ("timeout", "2147483648"),
        ("timeout", "99999999999999999999"),
        ("maxclients", "0"),
        ("slowlog-log-slower-than", "-2"),
        ("slowlog-max-len", "-1"),
        ("latency-monitor-threshold", "-1"),
        ("stream-node-max-entries", "1k"),
        ("list-max-listpack-size", "abc"),
        ("set-max-listpack-entries", "-1"),
        ("hash-max-ziplist-entries", "abc"),
        ("appendonly", "maybe"),
        ("aof-load-truncated", "1"),
        ("appendfsync", "fsync"),
        ("loglevel", "foo"),
        ("proto-max-bulk-len", "1kb"),
        ("proto-max-bulk-len", "1m"),
        ("proto-max-bulk-len", "1.5mb"),
        ("proto-max-bulk-len", "1tb"),
        ("proto-max-bulk-len", "-2000000"),
        ("proto-max-bulk-len", "9223372036854775808"),
        ("client-query-buffer-limit", "0"),
        ("auto-aof-rewrite-min-size", "-1"),
        ("client-output-buffer-limit", "normal 0 0"),
        ("client-output-buffer-limit", "foo 0 0 0"),
        ("client-output-buffer-limit", "master 0 0 0"),
        ("client-output-buffer-limit", "normal a 0 0"),
        ("client-output-buffer-limit", "normal 0 0 -1"),
        ("client-output-buffer-limit", "normal -1 0 0"),
        ("hz", "20", "timeout", "abc", "maxclients", "zzz"),
    ],
)
def test_refused_like_by_the_twin(twin_server: Server, pairs: tuple[str, ...]) -> None:
    theirs = twin_server.ask("CONFIG", "SET", *pairs)
    assert isinstance(theirs, hiredis.ReplyError)
    config = Config()
    words = list(map(str.encode, pairs))
    with pytest.raises(CommandError) as refused:
        config.set(list(zip(words[::2], words[1::2], strict=True)))
    assert refused.value.text.decode() == str(theirs)
    assert config == Config()


def test_several_are_set_at_once() -> None:
    config = Config()
    changed = config.set(
        [(b"HZ", b"20"), (b"appendfsync", b"ALWAYS"), (b"timeout", b"0"), (b"proto-max-bulk-len", b"1MB")]
    )
    assert changed == {"hz": 20, "appendfsync": "always", "proto-max-bulk-len": 2**20}
    assert config == Config(hz=20, appendfsync="always", proto_max_bulk_len=2**20)


def test_check_changes_nothing() -> None:
    config = Config()
    assert config.check([(b"hz", b"20")]) == {"hz": 20}
    assert config == Config()


def test_an_older_name_sets_the_setting() -> None:
    config = Config()
    assert config.set([(b"hash-max-ziplist-entries", b"7")]) == {"hash-max-listpack-entries": 7}
    assert config.get(b"hash-max-listpack-entries") == {"hash-max-listpack-entries": "7"}


def test_hz_is_kept_in_its_bounds() -> None:
    config = Config()
    assert config.set([(b"hz", b"0")]) == {"hz": 1}
    assert config.set([(b"hz", b"501")]) == {"hz": 500}


def test_buffer_limits_keep_the_classes_that_are_not_named() -> None:
    config = Config()
    config.set([(b"client-output-buffer-limit", b"Slave 6 0 0 normal 1mb 2k 60")])
    limits = config.client_output_buffer_limit
    assert limits.normal == BufferLimit(hard_bytes=2**20, soft_bytes=2000, soft_seconds=60)
    assert limits.replica == BufferLimit(6, 0, 0)
    assert limits.pubsub == Config().client_output_buffer_limit.pubsub
    assert config.set([(b"client-output-buffer-limit", b"")]) == {}


def test_what_is_not_supported_can_be_set_to_nothing() -> None:
    config = Config()
    assert config.set([(b"save", b""), (b"min-replicas-to-write", b"0")]) == {}
    with pytest.raises(CommandError) as refused:
        config.set([(b"min-replicas-to-write", b"1")])
    assert refused.value.text == (
        b"ERR CONFIG SET failed (possibly related to argument 'min-replicas-to-write') - "
        b"not supported by shardkv, it accepts only 0"
    )


def test_an_error_does_not_show_the_value() -> None:
    declared = find("requirepass")
    assert declared
    with pytest.raises(ValueError) as refused:
        declared.kind.parse(["abracadabra", "x"], "")
    assert "abracadabra" not in str(refused.value)


def test_a_name_that_is_no_text() -> None:
    with pytest.raises(CommandError) as refused:
        Config().set([(b"\xff\r\n-ERR", b"1")])
    assert b"\r" not in refused.value.text
    assert b"\n" not in refused.value.text


def test_a_password_of_any_bytes() -> None:
    config = Config()
    config.set([(b"requirepass", b"\xff\x00 x")])
    assert config.requirepass.encode("utf-8", "surrogateescape") == b"\xff\x00 x"
