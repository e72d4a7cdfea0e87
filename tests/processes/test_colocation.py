"""The setting colocate is another one than before."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from proxy import colocation
from proxy.cli import main
from proxy.transfer.data_folder import open_folder
from shardkv import slots
from shardkv.rdb.file_reader import Key
from shardkv.settings import Config
from shardkv.slotmap import open_slot_map
from tests.processes.server import Shardkv, shardkv
from tests.processes.test_resharding import content, fill

PATTERNS = ("string:", "hash:*:")


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Path]:
    """A data folder with some of everything, laid out by the patterns of the default."""
    (tmp_path / "filled").mkdir()
    with shardkv(tmp_path / "filled", workers=3) as server, redis.Redis(port=server.port) as client:
        fill(client)
    yield tmp_path / "filled"
    slots.colocate(())


def keys_by_shard(server: Shardkv) -> list[int]:
    lines = [line for name, line in server.info("shards").items() if name.removeprefix("shard").isdigit()]
    return [int(line.partition("keys=")[2].partition(",")[0]) for line in lines]


def test_a_start_with_others_lays_the_data_out_anew(filled: Path) -> None:
    with shardkv(filled, workers=3) as server:
        before = content(server.port)
        spread = keys_by_shard(server)
    with shardkv(filled, workers=3, colocate=" ".join(PATTERNS)) as server:
        assert content(server.port) == before
        assert sum(keys_by_shard(server)) == sum(spread)
        # All 300 of them are together now.
        assert max(keys_by_shard(server)) > max(spread) + 100
        with redis.Redis(port=server.port) as client:
            assert client.fcall("twice", 0, 21) == 42
            client.set("string:1", "new")
    with shardkv(filled, workers=3, colocate=" ".join(PATTERNS)) as server:
        with redis.Redis(port=server.port) as client:
            assert client.getset("string:1", 1) == b"new"
        assert content(server.port) == before
    # Back again, and with another number of shards at the same time.
    with shardkv(filled, workers=2) as server:
        assert content(server.port) == before


def test_it_is_refused_where_the_data_is_not_loaded(filled: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="cannot be laid out with `colocate a:` while `appendonly no`"),
        shardkv(filled, workers=3, colocate="a:", appendonly="no"),
    ):
        pass


def everything(folder: Path, config: Config) -> dict[tuple[int, bytes], Any]:
    """What a data folder holds, by database and key."""
    found: dict[tuple[int, bytes], Any] = {}
    source = open_folder(folder, config, lambda part: None)
    for event in source:
        if isinstance(event, Key):
            assert (event.db, event.key) not in found
            found[event.db, event.key] = event.expire_at_ms, source.payload()
    return found


def lay_out_if_needed(folder: Path, config: Config) -> None:
    """What a start does before it starts anything."""
    colocation.finish(folder)
    layout = open_slot_map(folder, 3, config.colocate)
    if layout.colocate != config.colocate:
        colocation.lay_out(folder, layout, config)


class Death(BaseException):
    """The process dies here."""


def test_whoever_dies_the_data_is_there(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(colocate=PATTERNS)
    folder = next(path.parent for path in filled.rglob("slots.json"))
    before = everything(folder, config)
    assert len(before) > 700
    rename, rmtree, replace_ = os.rename, shutil.rmtree, os.replace
    for deaths in range(100):
        copy = tmp_path / f"copy-{deaths}"
        shutil.copytree(folder, copy)
        steps = 0

        def dies(step: Any, *, after: bool, at: int = deaths) -> Any:
            def act(*args: Any, **options: Any) -> None:
                nonlocal steps
                steps += 1
                if steps > at and not after:
                    raise Death
                step(*args, **options)
                if steps > at:
                    raise Death

            return act

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", dies(rename, after=bool(deaths % 2)))
            patch.setattr(os, "replace", dies(replace_, after=False))
            patch.setattr(shutil, "rmtree", dies(rmtree, after=bool(deaths % 2)))
            try:
                lay_out_if_needed(copy, config)
            except Death:
                died = True
            else:
                died = False
        if died and (copy / "colocated").exists():
            refused = CliRunner().invoke(main, ["check", str(copy)])
            assert "was being laid out anew; start the server" in refused.output
        lay_out_if_needed(copy, config)
        assert everything(copy, config) == before
        assert not list(copy.glob("coloc*"))
        assert slots.slot_of(b"string:1") == slots.slot_of(b"string:2")
        if not died:
            break
    else:
        raise AssertionError("it has never come to its end")
    assert deaths > 10
