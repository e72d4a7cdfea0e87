"""Runs the server as usual, but its processes tell on SIGUSR1 what reference counting has not freed.

They run without the cyclic garbage collector, so that must be nothing: each circle is lost memory. What they
find stands in files `NAME.garbage` in the working directory, which are there when they are complete."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec, TypeVar

from proxy import server
from proxy.cli import main
from shardkv import worker

P = ParamSpec("P")
T = TypeVar("T")


def tell(name: str) -> None:
    """Writes down how many objects of which kinds only a collector would free, and frees them."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    kinds = Counter(f"{type(found).__module__}.{type(found).__qualname__}" for found in gc.garbage)
    frames = Counter(found.f_code.co_qualname for found in gc.garbage if isinstance(found, FrameType))
    gc.set_debug(0)
    gc.garbage.clear()
    gc.collect()
    with open(f"{name}.new", "w") as file:
        file.write("\n".join(f"{count} {kind}" for kind, count in (kinds + frames).most_common(20)))
    os.replace(f"{name}.new", f"{name}.garbage")


def telling(run: Callable[P, T], kind: str) -> Callable[P, T]:
    """The life of a process that also tells."""

    def live(*args: P.args, **kwargs: P.kwargs) -> T:
        signal.signal(signal.SIGUSR1, lambda *_: tell(f"{kind}-{args[0]}"))
        return run(*args, **kwargs)

    return live


if __name__ == "__main__":
    server.run = telling(server.run, "proxy")
    worker.run = telling(worker.run, "worker")
    sys.argv[0] = "shardkv"
    main()
