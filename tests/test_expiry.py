"""The index of expiry times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shardkv.expiry import Deadlines

NOW = 1_700_000_000_000
BUCKET_MS = 128

keys = st.sampled_from([b"a", b"b", b"c", b"d"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), keys, st.integers(-1000, 400_000)),
        st.tuples(st.just("remove"), keys, st.just(0)),
        st.tuples(st.just("advance"), st.just(b""), st.integers(0, 200_000)),
    ),
    max_size=40,
)


@given(steps)
def test_every_key_is_found_once_its_time_has_passed_and_none_before(
    steps: list[tuple[str, bytes, int]],
) -> None:
    deadlines = Deadlines()
    model: dict[bytes, int] = {}
    now = NOW
    for what, key, number in steps:
        if what == "set":
            deadlines.set(key, now + number, now)
            model[key] = now + number
        elif what == "remove":
            assert deadlines.remove(key) == (model.pop(key, None) is not None)
        else:
            now += number
            for due in deadlines.due(now):
                assert model[due] <= now
                deadlines.remove(due)
                del model[due]
            assert all(at_ms > now - 2 * BUCKET_MS for at_ms in model.values())
        assert deadlines.at_ms == model


def test_a_caller_that_stops_half_way_loses_no_key() -> None:
    deadlines = Deadlines()
    for number in range(100):
        deadlines.set(b"%d" % number, NOW + number, NOW)
    found = set()
    for _ in range(100):
        key = next(deadlines.due(NOW + 10_000))
        found.add(key)
        deadlines.remove(key)
    assert len(found) == 100
    assert list(deadlines.due(NOW + 10_000)) == []


def test_moving_a_deadline_again_and_again_leaves_nothing_behind() -> None:
    deadlines = Deadlines()
    for number in range(1000):
        deadlines.set(b"key", NOW + number * 1000, NOW)
    assert list(deadlines.due(NOW + 500_000)) == []
    assert next(deadlines.due(NOW + 2_000_000)) == b"key"
