"""The configuration file: reading, the command line, reading again, rewriting, documenting."""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardkv import config_file
from shardkv.config_file import ConfigError, changed_by_file, document, load, rewrite
from shardkv.foreign_directives import IGNORED
from shardkv.quoting import quote
from shardkv.setting_kinds import SavePoint
from shardkv.settings import Config
from tests.twin.servers import valkey

Write = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the configuration file."""

    def write(text: str) -> Path:
        path = tmp_path / "shardkv.conf"
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        return path

    return write


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Puts text into the standard input."""
    config_file._standard_input.cache_clear()
    yield lambda text: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    config_file._standard_input.cache_clear()


def no_warning(text: str) -> None:
    pytest.fail(f"unexpected warning: {text}")


def loaded(path: Path | None = None, *overrides: str) -> Config:
    return load(path, overrides, no_warning)


def defaults() -> Config:
    return Config(dir=os.getcwd())


# -- reading ----------------------------------------------------------------------------------


def test_nothing_given() -> None:
    assert loaded() == defaults()


def test_a_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    config = loaded(
        write(
            "# a comment\r\n"
            "\n"
            "   PORT   7000\t\r\n"
            'requirepass "two words \\x41"\n'
            "logfile ''\n"
            "bind * -::*\n"
            'bind "10.0.0.1 -::1"\n'
            "proto-max-bulk-len 1GB\n"
            "auto-aof-rewrite-min-size 12k\n"
            "appendfsync Always\n"
            "unixsocketperm 0770\n"
            "dir data\n"
            "client-output-buffer-limit normal 1mb 0 0\n"
            "client-output-buffer-limit pubsub 1 2 3\n"
            "zset-max-ziplist-entries 5\n"
            "# no newline at the end"
        )
    )
    expected = defaults()
    expected.port = 7000
    expected.requirepass = "two words A"
    expected.bind = ("10.0.0.1", "-::1")
    expected.proto_max_bulk_len = 2**30
    expected.auto_aof_rewrite_min_size = 12000
    expected.appendfsync = "always"
    expected.unixsocketperm = 0o770
    expected.dir = str(tmp_path / "data")
    expected.zset_max_listpack_entries = 5
    buffers = expected.client_output_buffer_limit
    expected.client_output_buffer_limit = buffers._replace(
        normal=buffers.normal._replace(hard_bytes=2**20), pubsub=type(buffers.pubsub)(1, 2, 3)
    )
    assert config == expected


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("port abc", "port: argument couldn't be parsed into an integer"),
        ("port 70000", "port: argument must be between 0 and 65535 inclusive"),
        ("port 1 2", "port: wrong number of arguments"),
        ("port 6379 # the usual", "port: wrong number of arguments"),
        ("port", "port: wrong number of arguments"),
        ('port "1', "unbalanced quotes"),
        ("requirepass a b", "requirepass: wrong number of arguments"),
        ("unixsocketperm 888", "unixsocketperm: argument couldn't be parsed as an octal number"),
        ("unixsocketperm 1777", "unixsocketperm: argument must be between 0 and 777 inclusive"),
        ("appenddirname a/b", "appenddirname: appenddirname can't be a path, just a dirname"),
        ("appenddirname ..", "appenddirname: appenddirname can't be a path, just a dirname"),
        ('appendfilename ""', "appendfilename: appendfilename can't be empty"),
        ("dir nowhere", "dir: No such file or directory"),
        ("databases 0", "databases: argument must be between 1 and 65536 inclusive"),
        ("bind" + " ::1" * 17, "bind: Too many bind addresses specified."),
        ("bind", "bind: wrong number of arguments"),
        (
            "client-output-buffer-limit normal 0 0",
            "client-output-buffer-limit: Wrong number of arguments in buffer limit configuration.",
        ),
        (
            "enable-debug-command maybe",
            "enable-debug-command: argument(s) must be one of the following: no, yes, local",
        ),
        ("no-such-thing 1", "no-such-thing: unknown directive"),
        ("daemonize yes", "daemonize: not supported by shardkv, it accepts only no"),
        ("cluster-enabled yes", "cluster-enabled: not supported by shardkv, it accepts only no"),
        ("replicaof host 6379", 'replicaof: not supported by shardkv, it accepts only "" or no one'),
        ("save 3600 1 300", "save: Invalid save parameters"),
        ("maxmemory 1gg", "maxmemory: argument must be a memory value"),
        ("maxmemory-clients 101%", "maxmemory-clients: percentage argument must be less or equal to 100"),
        ("maxmemory-clients 5x", "maxmemory-clients: argument must be a memory or percent value"),
        ("rename-command FLUSHALL x", "rename-command: not supported by shardkv"),
        ("include", "include: wrong number of arguments"),
        ("include nowhere.conf", "include: there is no file nowhere.conf"),
    ],
)
def test_refused_with_file_and_line(write: Write, line: str, error: str) -> None:
    path = write(f"# first\n\n{line}\nhz 20\n")
    with pytest.raises(ConfigError) as refused:
        loaded(path)
    assert str(refused.value) == f"{path}:3: {error}"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.conf: No such file"):
        loaded(tmp_path / "nowhere.conf")


def test_what_is_not_supported_is_accepted_if_it_asks_for_nothing(write: Write) -> None:
    path = write(
        'daemonize no\nsave ""\nsave\nreplicaof no one\nmaxmemory 0\ntls-port 0\naclfile ""\n'
        "user default on nopass ~* &* +@all\nCluster-Enabled No\n"
    )
    assert loaded(path) == defaults()


def test_a_harmless_directive_of_redis_gives_one_warning(write: Write) -> None:
    path = write("activerehashing yes\nhz 20\nactiverehashing no\nsyslog-ident x\n")
    warnings: list[str] = []
    assert load(path, ["--io-threads", "4"], warnings.append).hz == 20
    assert warnings == [
        f"{path}:1: activerehashing has no meaning for shardkv and is ignored",
        f"{path}:4: syslog-ident has no meaning for shardkv and is ignored",
        "option --io-threads: io-threads has no meaning for shardkv and is ignored",
    ]


def test_a_file_with_all_that_a_fresh_twin_has(write: Write) -> None:
    warnings: list[str] = []
    with valkey() as server:
        reply: dict[bytes, bytes] = server.ask("CONFIG", "GET", "*")
        theirs = {name.decode(): value.decode() for name, value in reply.items()}
        path = write("".join(f"{name} {quote(value)}\n" for name, value in theirs.items()))
        config = load(path, [], warnings.append)
    assert (str(config.port), config.dir) == (theirs["port"], theirs["dir"])
    assert len(warnings) == len(theirs.keys() & IGNORED)


def test_bytes_that_are_no_text(write: Write) -> None:
    path = write(b"requirepass \xff\xfe".decode("utf-8", "surrogateescape"))
    assert loaded(path).requirepass.encode("utf-8", "surrogateescape") == b"\xff\xfe"


# -- includes ---------------------------------------------------------------------------------


def test_includes_stand_where_they_are(write: Write, tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "b.conf").write_text("hz 30\ntimeout 2\n")
    (folder / "a.conf").write_text("hz 20\nport 7000\n")
    (folder / "c.txt").write_text("nonsense\n")
    config = loaded(write(f"port 1\ninclude {folder}/*.conf\ntimeout 3\ninclude {folder}/*.none\n"))
    assert (config.hz, config.port, config.timeout) == (30, 7000, 3)
    config = loaded(write("include conf.d/a.conf\nport 2\n"))
    assert (config.hz, config.port) == (20, 2)
    assert loaded(None, "--include", "conf.d/a.conf").port == 7000


def test_an_error_in_an_included_file_names_that_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "other.conf").write_text("hz 20\nhz x\n")
    with pytest.raises(ConfigError, match=r"^other\.conf:2: hz: argument"):
        loaded(write("include other.conf\n"))


def test_files_that_include_each_other(write: Write) -> None:
    with pytest.raises(ConfigError, match="include: files that include each other"):
        loaded(write("include shardkv.conf\n"))


# -- the command line -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["--port", "7000", "--hz", "20"], Config(port=7000, hz=20)),
        (["--PORT", "7000"], Config(port=7000)),
        (["--port 7000", "--hz", "20"], Config(port=7000, hz=20)),
        (["--bind", "::1", "127.0.0.1", "--port", "1"], Config(bind=("::1", "127.0.0.1"), port=1)),
        (["--requirepass", "--secret", "--port", "1"], Config(requirepass="--secret", port=1)),
        (["--requirepass", 'a "b'], Config(requirepass='a "b')),
        (["--requirepass", ""], Config()),
        (["--save", "", "--port", "1"], Config(port=1)),
        (["--save", "--port", "1"], Config(port=1)),
        (["--port", "1", "--save"], Config(port=1)),
        (["--save", "60", "1"], Config(save=(SavePoint(60, 1),))),
        (["--save", "60 1 5 10"], Config(save=(SavePoint(60, 1), SavePoint(5, 10)))),
        (["--port", "1", "--port", "2"], Config(port=2)),
    ],
)
def test_options(overrides: list[str], expected: Config) -> None:
    expected.dir = os.getcwd()
    assert loaded(None, *overrides) == expected


def test_lines_of_save_points_add_to_one_another(write: Write) -> None:
    assert loaded(write("save 3600 1 300 100\nsave 60 10000\nsave 300 100\n")).save == (
        SavePoint(3600, 1),
        SavePoint(300, 100),
        SavePoint(60, 10000),
    )
    path = write('save 3600 1\nsave ""\nsave 60 5\n')
    config = loaded(path)
    assert config.save == (SavePoint(60, 5),)
    config.set([(b"save", b"7 8 9 10")])
    rewrite(path, config)
    assert loaded(path).save == (SavePoint(7, 8), SavePoint(9, 10))
    config.set([(b"save", b"")])
    rewrite(path, config)
    assert loaded(path).save == ()


def test_options_override_the_file(write: Write) -> None:
    config = loaded(write("port 1\nhz 20\n"), "--port", "2")
    assert (config.port, config.hz) == (2, 20)


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["--port", "x"], "option --port: port: argument couldn't be parsed into an integer"),
        (["--port"], "option --port: port: wrong number of arguments"),
        (["--port", "1", "2"], "option --port: port: wrong number of arguments"),
        (["--prot", "1"], "option --prot: prot: unknown directive"),
        (["--port=1"], "option --port=1: port=1: unknown directive"),
        (["port", "1"], "port: an option starts with --"),
        (["--"], "--: an option needs a name"),
        (["--requirepass", "secret", "word"], "option --requirepass: requirepass: wrong number of arguments"),
        (["--save", "60", "0.5"], "option --save: save: Invalid save parameters"),
    ],
)
def test_refused_options(overrides: list[str], error: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(None, *overrides)
    assert str(refused.value) == error


@pytest.mark.parametrize("overrides", [["-", "--port", "2"], ["--port", "2", "-"]])
def test_the_standard_input(write: Write, say: Callable[[bytes], None], overrides: list[str]) -> None:
    path = write("hz 20\nport 1\ntimeout 1\n")
    say(b"port 3\ntimeout 5\n")
    first = loaded(path, *overrides)
    assert (first.hz, first.port, first.timeout) == (20, 2, 5)
    assert loaded(path, *overrides) == first


def test_an_error_in_the_standard_input(say: Callable[[bytes], None]) -> None:
    say(b"\nport x\n")
    with pytest.raises(ConfigError, match=r"^standard input:2: port: argument"):
        loaded(None, "-")


# -- reading again ----------------------------------------------------------------------------


def test_what_a_changed_file_changes(write: Write) -> None:
    path = write("port 1\nhz 20\nrequirepass a\n")
    current = loaded(path, "--timeout", "7")
    current.set([(b"maxclients", b"5")])
    write('port 2\nrequirepass "a b"\ntimeout 9\nbind ::1\nclient-output-buffer-limit normal 1 0 0\n')
    changes = changed_by_file(path, ["--timeout", "7"], current, no_warning)
    assert changes.immutable == ["bind", "port"]
    current.set(changes.mutable)
    assert (current.hz, current.requirepass, current.timeout, current.maxclients) == (10, "a b", 7, 10000)
    assert changed_by_file(path, ["--timeout", "7"], current, no_warning).mutable == []


def test_a_faulty_file_changes_nothing(write: Write) -> None:
    path = write("hz 20\n")
    current = loaded(path)
    write("hz 30\nhz x\n")
    with pytest.raises(ConfigError, match=":2: hz"):
        changed_by_file(path, [], current, no_warning)
    assert current.hz == 20


# -- rewriting --------------------------------------------------------------------------------


def test_a_rewrite_keeps_what_is_still_true(write: Write) -> None:
    text = "# mine\n\nport   7000\n  hz 20 \nactiverehashing yes\nsave ''\n#end"
    path = write(text)
    rewrite(path, load(path, [], lambda _: None))
    assert path.read_text() == text + "\n"


def test_a_rewrite_replaces_lines_and_appends_others(write: Write) -> None:
    path = write(
        "# mine\nHZ 10\ntimeout 1\nhz 20\n\nhash-max-ziplist-entries 3\n"
        "client-output-buffer-limit pubsub 1 2 3\n# limits\nclient-output-buffer-limit normal 0 0 0\n"
    )
    config = loaded(path)
    config.set(
        [
            (b"hz", b"33"),
            (b"requirepass", b'p "q" \xc3\xa9'),
            (b"proto-max-bulk-len", b"5mb"),
            (b"client-output-buffer-limit", b"replica 300mb 1 1"),
            (b"hash-max-listpack-entries", b"4"),
        ]
    )
    rewrite(path, config)
    assert path.read_text() == (
        "# mine\ntimeout 1\nhz 33\n\nhash-max-listpack-entries 4\n# limits\n"
        "client-output-buffer-limit normal 0 0 0\n"
        "client-output-buffer-limit replica 300mb 1 1\n"
        "client-output-buffer-limit pubsub 1 2 3\n"
        "\n# Generated by CONFIG REWRITE\n"
        'requirepass "p \\"q\\" \\xc3\\xa9"\n'
        "proto-max-bulk-len 5mb\n"
    )
    assert loaded(path) == config


def test_a_second_rewrite_goes_on_under_the_same_comment(write: Write) -> None:
    path = write("port 1\n")
    config = loaded(path)
    for change in ((b"hz", b"20"), (b"timeout", b"5"), (b"hz", b"30")):
        config.set([change])
        rewrite(path, config)
    assert path.read_text() == "port 1\n\n# Generated by CONFIG REWRITE\nhz 30\ntimeout 5\n"


def test_a_rewrite_overrides_what_an_included_file_says(write: Write, tmp_path: Path) -> None:
    (tmp_path / "other.conf").write_text("hz 20\n")
    path = write("hz 15\ninclude other.conf\n")
    config = loaded(path)
    config.set([(b"hz", b"30")])
    rewrite(path, config)
    assert loaded(path) == config
    assert (tmp_path / "other.conf").read_text() == "hz 20\n"


def test_a_rewrite_holds_the_options_of_the_command_line(write: Write) -> None:
    path = write("port 1\n")
    config = loaded(path, "--port", "2", "--bind", "10.0.0.1", "-::1")
    rewrite(path, config)
    assert loaded(path) == config
    assert "port 2\n" in path.read_text()
    assert "bind 10.0.0.1 -::1\n" in path.read_text()


LINES = [
    "",
    "# comment",
    "hz 20",
    "hz 30",
    "bind ::1 127.0.0.1",
    'requirepass " x"',
    "activerehashing yes",
    "hash-max-listpack-entries 1",
    "hash-max-ziplist-entries 2",
    "client-output-buffer-limit normal 1 2 3",
    "client-output-buffer-limit normal 1 2 3 pubsub 4kb 5 6",
]
CHANGES = [
    (b"hz", b"20"),
    (b"hz", b"10"),
    (b"requirepass", b""),
    (b"requirepass", b"\xff'#\n"),
    (b"hash-max-listpack-entries", b"512"),
    (b"client-output-buffer-limit", b"normal 1 2 4"),
    (b"client-output-buffer-limit", b"normal 0 0 0 pubsub 32mb 8mb 60"),
]


@given(
    lines=st.lists(st.sampled_from(LINES)),
    included=st.lists(st.sampled_from(LINES), max_size=3),
    place=st.integers(0, 5),
    changes=st.lists(st.sampled_from(CHANGES)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_rewritten_file_says_what_the_config_is(
    tmp_path: Path, lines: list[str], included: list[str], place: int, changes: list[tuple[bytes, bytes]]
) -> None:
    (tmp_path / "other.conf").write_text("\n".join(included))
    lines = [*lines[:place], "include other.conf", *lines[place:]]
    path = tmp_path / "shardkv.conf"
    path.write_text("\n".join(lines))
    config = load(path, [], lambda _: None)
    for change in changes:
        config.set([change])
    rewrite(path, config)
    assert load(path, [], lambda _: None) == config
    once = path.read_text()
    rewrite(path, config)
    assert path.read_text() == once


def test_a_rewrite_keeps_permissions_and_links(write: Write, tmp_path: Path) -> None:
    path = write("hz 20\n")
    path.chmod(0o640)
    link = tmp_path / "link.conf"
    link.symlink_to(path)
    config = loaded(link)
    config.hz = 21
    rewrite(link, config)
    assert link.is_symlink()
    assert path.read_text() == "hz 21\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.conf", "shardkv.conf"]


def test_a_rewrite_of_a_removed_file_writes_it_anew(tmp_path: Path) -> None:
    path = tmp_path / "gone.conf"
    config = loaded(None, "--hz", "20", "--requirepass", "x")
    rewrite(path, config)
    assert loaded(path) == config
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_rewrite_leaves_a_faulty_file_alone(write: Write, tmp_path: Path) -> None:
    path = write("hz x\n")
    with pytest.raises(ConfigError):
        rewrite(path, defaults())
    assert path.read_text() == "hz x\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["shardkv.conf"]


def test_a_rewrite_that_fails_leaves_no_trace(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = write("hz 20\n")
    monkeypatch.setattr(os, "fsync", fail)
    config = loaded(path)
    config.hz = 30
    with pytest.raises(OSError, match="No space"):
        rewrite(path, config)
    assert path.read_text() == "hz 20\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["shardkv.conf"]


# -- documenting ------------------------------------------------------------------------------

SHIPPED = Path(__file__).parents[2] / "conf" / "shardkv.conf"


def test_the_shipped_file_is_what_the_declarations_say() -> None:
    """To write it anew: python -c "from shardkv.config_file import document; print(document(), end='')"."""
    assert SHIPPED.read_text() == document()


def test_the_shipped_file_says_the_defaults() -> None:
    assert loaded(SHIPPED) == defaults()
