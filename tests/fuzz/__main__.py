"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz TARGET [-max_total_time=60 …]`.

TARGET is a function of tests/fuzz/targets.py, the options are libFuzzer's."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["shardkv.resp", "shardkv.wire", "shardkv.control", "shardkv.rdb"]):
    from tests.fuzz import targets


def main() -> None:
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, getattr(targets, name))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
