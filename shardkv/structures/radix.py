"""How large a radix tree of Redis would be: what XINFO STREAM tells.

We keep no such trees. They are described in the source of Redis, rax.h.
"""

from __future__ import annotations

from collections.abc import Iterable

from shardkv.structures.stream_id import StreamID

_KEY_BYTES = 16
"""An ID as a key: its two numbers, the more significant bytes first."""


def count_nodes(stream_ids: Iterable[StreamID]) -> int:
    """The nodes of the tree that has these IDs, which are given in order, as keys.

    Bytes that several keys begin with lie on a common way. There is a node wherever keys part, one for the
    bytes between two of those or up to the end, and one at the end of each key.
    """
    nodes = 0
    partings: list[int] = []
    """Where the way to the last key parts from others: the places of these bytes."""
    last: int | None = None
    for ms, seq in stream_ids:
        key = ms << 64 | seq
        if last is None:
            nodes += 2
        else:
            parting = _KEY_BYTES - 1 - ((key ^ last).bit_length() - 1) // 8
            following = _KEY_BYTES
            while partings and partings[-1] > parting:
                following = partings.pop()
            if not partings or partings[-1] < parting:
                begin = partings[-1] + 1 if partings else 0
                # The node of the bytes between is parted in two, which may be empty.
                nodes += (parting > begin) + (following > parting + 1)
                partings.append(parting)
            nodes += (parting + 1 < _KEY_BYTES) + 1
        last = key
    return nodes or 1
