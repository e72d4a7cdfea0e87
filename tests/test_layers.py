"""The order of the rooms: who may know whom. Read from the imports, so that a breach shows in the change
that makes it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent

LAYERS = [
    {"allocator", "errors", "clock", "files", "grisu", "limits", "quoting", "slots", "syntax", "shardkv"},
    {"numbers", "longdouble", "glob", "setting_kinds", "foreign_directives", "logs"},
    {"settings", "resp"},
    {"config_file", "wire", "control"},
    {"command"},
    {"acl"},
    {"lua"},
    {"values", "expiry", "locks", "aof", "slotmap", "waiters"},
    {"structures", "rdb"},
    {"keyspace", "plan", "blocking"},
    {"digest", "recency", "scans", "walk", "snapshot"},
    {
        "channels",
        "drafts",
        "latency",
        "notifications",
        "scripts",
        "slow",
        "stats",
        "tracking",
        "transactions",
        "victims",
        "watches",
    },
    {"propagation", "chores", "dump_file", "shard", "serving", "rest"},
    {"commands"},
    {"busy", "eviction", "journal", "figures", "moving", "proxy_link", "questions", "worker"},
]
"""Modules and packages of shardkv, from the bottom up: each may import from its own layer and those
before."""

OF_LAYER = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def imports(path: Path) -> set[str]:
    """The modules that a file imports when it is imported itself (not those for type checking alone)."""
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def room(path: Path) -> str:
    """The module or package of shardkv that a file belongs to."""
    parts = path.relative_to(ROOT / "shardkv").parts
    return parts[0] if len(parts) > 1 else path.stem.replace("__init__", "shardkv")


def test_shardkv_does_not_know_proxy() -> None:
    for path in (ROOT / "shardkv").rglob("*.py"):
        if path.name != "__main__.py":
            assert not {name for name in imports(path) if name.split(".")[0] == "proxy"}, path


def test_every_room_has_its_place() -> None:
    rooms = {room(path) for path in (ROOT / "shardkv").rglob("*.py")} - {"__main__"}
    assert rooms == set(OF_LAYER)


def test_knowledge_goes_one_way() -> None:
    for path in (ROOT / "shardkv").rglob("*.py"):
        if path.name == "__main__.py":
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "shardkv" and len(parts) > 1 and parts[1] in OF_LAYER:
                assert OF_LAYER[parts[1]] <= OF_LAYER[room(path)], f"{path} imports {name}"


def test_only_the_clock_reads_the_time() -> None:
    outside = {"shardkv/clock.py"}
    for path in (ROOT / "shardkv").rglob("*.py"):
        if str(path.relative_to(ROOT)) not in outside:
            assert not {"time", "datetime"} & imports(path), path
