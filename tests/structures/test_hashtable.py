"""The dict in pieces, beside a plain dict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkv.structures.hashtable import PIECE_KEYS, HashTable


def put(table: HashTable[int], key: bytes, value: int) -> None:
    piece = table.piece_to_change(key)
    new = key not in piece
    piece[key] = value
    if new:
        table.added(key, piece)


def remove(table: HashTable[int], key: bytes) -> None:
    piece = table.piece_to_change(key)
    del piece[key]
    table.removed(key, piece)


def names(numbers: Iterable[int]) -> list[bytes]:
    return [b"key:%d" % number for number in numbers]


def table_of(keys: Iterable[bytes]) -> HashTable[int]:
    table: HashTable[int] = HashTable()
    for number, key in enumerate(keys):
        put(table, key, number)
    return table


def content(table: HashTable[int]) -> dict[bytes, int]:
    """What is in the table; asserts that every key is where it is looked for, once, and the pieces small."""
    found: dict[bytes, int] = {}
    pieces = table.distinct_pieces()
    for piece in pieces:
        assert len(piece) <= PIECE_KEYS
        for key, value in piece.items():
            assert table.pieces[hash(key) >> table.shift] is piece
            assert key not in found
            found[key] = value
    assert len(table) == len(found)
    assert list(table) == list(found)
    assert (table._shared or set()) <= set(map(id, pieces))
    return found


class Chosen(bytes):
    """A key whose hash an enemy has chosen."""

    def __hash__(self) -> int:
        return 7


# -- beside a dict ------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 2**32), st.lists(st.tuples(st.sampled_from("+-=c"), st.integers(1, 700)), max_size=12))
def test_any_history_gives_what_a_dict_holds(seed: int, steps: list[tuple[str, int]]) -> None:
    """Keys come, change and go in numbers that make the directory grow and shrink, also under copies."""
    random = Random(seed)
    table: HashTable[int] = HashTable()
    model: dict[bytes, int] = {}
    copies: list[tuple[HashTable[int], dict[bytes, int]]] = []
    for what, count in steps:
        if what == "c":
            copies.append((table.copy(), dict(model)))
            if count % 2:
                copies[-1], (table, model) = (table, model), copies[-1]
            continue
        keys = names(random.sample(range(1500), count)) if what != "-" else list(model)
        random.shuffle(keys)
        for key in keys[:count]:
            if what == "-":
                del model[key]
                remove(table, key)
            else:
                model[key] = count
                put(table, key, count)
    assert content(table) == model
    for copied, its_model in copies:
        assert content(copied) == its_model


def test_it_shrinks_to_a_single_piece() -> None:
    keys = names(range(20_000))
    table = table_of(keys)
    assert len(table.pieces) >= 256
    for key in keys[:-10]:
        remove(table, key)
    assert len(table.pieces) == 1
    assert set(table) == set(keys[-10:])


def test_the_directory_stays_in_proportion() -> None:
    table = table_of(names(range(50_000)))
    assert len(table.pieces) < 50_000 / 10


def test_keys_of_the_same_hash_do_not_blow_up_the_directory() -> None:
    keys = [Chosen(b"%d" % number) for number in range(300)]
    table = table_of(keys)
    assert len(table.pieces) < 300
    assert set(table) == set(keys)
    assert {table.draw() for _ in range(10_000)} == set(keys)
    for key in keys[1:]:
        remove(table, key)
    assert list(table) == keys[:1]


# -- copies -------------------------------------------------------------------------------------


def test_a_copy_shares_the_pieces_that_nobody_changes() -> None:
    table = table_of(names(range(10_000)))
    copied = table.copy()
    assert copied.pieces == table.pieces
    put(table, b"key:1", -1)
    put(copied, b"key:2", -2)
    assert (content(table)[b"key:1"], content(table)[b"key:2"]) == (-1, 2)
    assert (content(copied)[b"key:1"], content(copied)[b"key:2"]) == (1, -2)
    changed = sum(mine is not its for mine, its in zip(table.pieces, copied.pieces, strict=True))
    assert 0 < changed < len(table.pieces) / 10
    for key in list(copied):
        put(copied, key, 7)
    assert not copied._shared
    assert content(table)[b"key:3"] == 3


def test_a_copy_outlives_the_shedding_of_the_other() -> None:
    table = table_of(names(range(5_000)))
    copied = table.copy()
    while table:
        before = len(table)
        table.shed(500)
        assert len(table) <= max(0, before - 500)
        assert len(table) >= before - 500 - PIECE_KEYS
    assert set(copied) == set(names(range(5_000)))


# -- keys at random -----------------------------------------------------------------------------


def chi_square(counts: Counter[bytes], keys: list[bytes]) -> float:
    expected = sum(counts.values()) / len(keys)
    return sum((counts[key] - expected) ** 2 / expected for key in keys)


@pytest.mark.parametrize("count", [1, 2, 40, 200, 600])
def test_each_key_is_drawn_as_often_as_any_other(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardkv.structures.hashtable.random", Random(count).random)
    keys = names(range(count))
    table = table_of(keys)
    counts = Counter(table.draw() for _ in range(count * 100))
    assert set(counts) == set(keys)
    # Six standard deviations of a chi-square distribution.
    assert chi_square(counts, keys) < count + 6 * (2 * count) ** 0.5


def test_keys_are_drawn_alike_where_others_were_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardkv.structures.hashtable.random", Random(1).random)
    keys = sorted(names(range(4_000)), key=lambda key: hash(key) % 2**64)
    table = table_of(keys)
    # A quarter of the hashes is left without a key, and of the next one eighth of the keys stays.
    left = [*keys[1000:2000:8], *keys[2000:]]
    for key in set(keys) - set(left):
        remove(table, key)
    spans = {key: table.pieces.count(table.pieces[hash(key) >> table.shift]) for key in (left[0], left[-1])}
    assert spans[left[0]] > spans[left[-1]]
    counts = Counter(table.draw() for _ in range(len(left) * 50))
    assert set(counts) == set(left)
    assert chi_square(counts, left) < len(left) + 6 * (2 * len(left)) ** 0.5


# -- scans --------------------------------------------------------------------------------------


def scanned(table: HashTable[int], place: int, count: int) -> tuple[list[bytes], int]:
    pieces, place = table.scan(place, count)
    return [key for piece in pieces for key in piece], place


@pytest.mark.parametrize("count", [1, 10, 1000, 10**9])
@pytest.mark.parametrize("size", [0, 1, 85, 86, 5000])
def test_a_scan_returns_every_key_once(size: int, count: int) -> None:
    table = table_of(names(range(size)))
    found: list[bytes] = []
    place, calls = 0, 0
    while True:
        some, place = scanned(table, place, count)
        found += some
        calls += 1
        assert len(some) < count + PIECE_KEYS
        assert place < 2**48
        if not place:
            break
        assert len(some) >= count
    assert sorted(found) == sorted(table)
    assert calls <= size / count + 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 300))
def test_a_scan_returns_what_is_there_throughout(seed: int, count: int) -> None:
    random = Random(seed)
    staying, others = names(range(300)), names(range(300, 4000))
    table = table_of(staying)
    found = set()
    place = 0
    while True:
        some, place = scanned(table, place, count)
        found.update(some)
        if not place:
            break
        for key in random.choices(others, k=random.choice([10, 1000])):
            if key not in table:
                put(table, key, 0)
        if random.random() < 0.5:
            for key in [key for key in table if key not in set(staying)]:
                remove(table, key)
    assert found >= set(staying)


@pytest.mark.parametrize("place", [1, 2**47, 2**48 - 1, 2**48, 2**48 + 5, 2**64 - 1])
def test_a_scan_from_anywhere_comes_to_an_end(place: int) -> None:
    table = table_of(names(range(1000)))
    for _ in range(1000):
        _, place = scanned(table, place, 10)
        if not place:
            return
    pytest.fail("no end")
