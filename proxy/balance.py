"""Which slots should lie where, so that every shard has about as much to hold and to do."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shardkv import limits
from shardkv.slots import SLOTS


class SlotCost(NamedTuple):
    """What a slot costs its shard: what its keys take, in bytes, and how many requests came for them in the
    time that they were counted."""

    bytes: int
    requests: int


_NOTHING = SlotCost(0, 0)

Costs = Mapping[int, SlotCost]
"""Those of the slots that cost anything, by their number."""


@dataclass
class Load:
    """What the slots of one shard cost together."""

    slots: int = 0
    bytes: int = 0
    requests: int = 0


def loads(table: Sequence[int], shards: int, costs: Costs) -> list[Load]:
    """What each shard bears."""
    found = [Load() for _ in range(shards)]
    for slot, shard in enumerate(table):
        cost = costs.get(slot, _NOTHING)
        found[shard].slots += 1
        found[shard].bytes += cost.bytes
        found[shard].requests += cost.requests
    return found


def balance(table: Sequence[int], shards: int, costs: Costs) -> list[int]:
    """A table of so many shards in which they bear about the same, with few changes.

    Memory and load count alike: a slot weighs its part of all bytes and its part of all requests. One slot
    after the other goes from the shard that bears most to the one that bears least, each time that which
    brings the two closest to each other, until no shard bears more than `limits.BALANCE_TOLERANCE` of the
    mean beyond another, or no slot would help. So no shard ever bears more than the heaviest did before.
    """
    wanted = list(table)
    weights = _weights(costs)
    borne = [0.0] * shards
    held: list[list[tuple[float, int]]] = [[] for _ in range(shards)]
    for slot, weight in weights.items():
        borne[table[slot]] += weight
        held[table[slot]].append((weight, slot))
    for slots in held:
        slots.sort()
    tolerance = limits.BALANCE_TOLERANCE * sum(borne) / shards
    for _ in range(SLOTS):
        heaviest = max(range(shards), key=borne.__getitem__)
        lightest = min(range(shards), key=borne.__getitem__)
        gap = borne[heaviest] - borne[lightest]
        place = _closest(held[heaviest], gap / 2)
        if gap <= tolerance or place is None or held[heaviest][place][0] >= gap:
            break
        weight, slot = held[heaviest].pop(place)
        insort(held[lightest], (weight, slot))
        borne[heaviest] -= weight
        borne[lightest] += weight
        wanted[slot] = lightest
    return wanted


def moves(before: Iterable[int], after: Iterable[int]) -> int:
    """How many slots change their shard."""
    return sum(one != other for one, other in zip(before, after, strict=True))


def _weights(costs: Costs) -> dict[int, float]:
    all_bytes = sum(cost.bytes for cost in costs.values()) or 1
    all_requests = sum(cost.requests for cost in costs.values()) or 1
    return {
        slot: cost.bytes / all_bytes + cost.requests / all_requests
        for slot, cost in costs.items()
        if cost.bytes or cost.requests
    }


def _closest(slots: list[tuple[float, int]], weight: float) -> int | None:
    """The place, in a sorted list, of the slot whose weight is closest to that; None if there is none."""
    if not slots:
        return None
    place = bisect_left(slots, (weight, 0))
    if place == len(slots) or (place and weight - slots[place - 1][0] < slots[place][0] - weight):
        place -= 1
    return place
