"""Which slots should lie where."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.balance import Costs, SlotCost, balance, loads, moves
from shardkv.slots import SLOTS, even_slot_table

COSTS = st.dictionaries(
    st.integers(0, SLOTS - 1),
    st.builds(SlotCost, st.integers(0, 10**6), st.integers(0, 10**4)),
    max_size=60,
)


def weights(table: list[int], shards: int, costs: Costs) -> list[float]:
    """What each shard bears, of 2 in all."""
    all_bytes = sum(cost.bytes for cost in costs.values()) or 1
    all_requests = sum(cost.requests for cost in costs.values()) or 1
    return [load.bytes / all_bytes + load.requests / all_requests for load in loads(table, shards, costs)]


@given(costs=COSTS, shards=st.integers(1, 8))
def test_nobody_bears_more_than_the_heaviest_did(costs: Costs, shards: int) -> None:
    table = even_slot_table(shards)
    wanted = balance(table, shards, costs)
    before, after = weights(table, shards, costs), weights(wanted, shards, costs)
    assert max(after) <= max(before) + 1e-9
    assert min(after) >= min(before) - 1e-9
    # Only what costs something has moved, and doing it again changes nothing.
    assert all(table[slot] == wanted[slot] for slot in range(SLOTS) if slot not in costs)
    assert balance(wanted, shards, costs) == wanted


def test_memory_and_requests_count_alike() -> None:
    table = even_slot_table(2)
    costs = {slot: SlotCost(100, 0) for slot in range(100)} | {8192: SlotCost(0, 500)}
    # One shard has all the memory, the other all the requests.
    assert balance(table, 2, costs) == table


def test_few_slots_move() -> None:
    table = even_slot_table(4)
    costs = {slot: SlotCost(1000, 10) for slot in range(SLOTS)}
    costs |= {slot: SlotCost(3000, 10) for slot in range(1000)}
    wanted = balance(table, 4, costs)
    before, after = weights(table, 4, costs), weights(wanted, 4, costs)
    assert max(before) - min(before) > 0.1
    assert max(after) - min(after) < 0.05 * 2 / 4
    assert 0 < moves(table, wanted) < 1000


def test_nothing_is_known() -> None:
    table = even_slot_table(3)
    assert balance(table, 3, {}) == table
