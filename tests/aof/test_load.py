"""Loading: every damage is refused and named, every torn tail is cut where it is torn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardkv import limits
from shardkv.aof import AofDamaged, batch, load, record
from shardkv.aof.disk import Disk
from shardkv.aof.manifest import read_manifest, write_manifest
from tests.aof.disks import Deferred, Inline, MemoryDisk
from tests.aof.logs import FOLDER, open_log, put, refusal, replay

BASE = "appendonly.aof.1.base.aof"
FIRST = "appendonly.aof.1.incr.aof"
SECOND = "appendonly.aof.2.incr.aof"
MANIFEST = "appendonly.aof.manifest"


def _append(log_folder: Path, disk: Disk, *batches: list[list[bytes]]) -> None:
    log = open_log(log_folder, disk, background=Inline())
    for records in batches:
        log.records += map(record, records)
        assert log.commit()
    log.close()


def _set(number: int) -> list[bytes]:
    return [b"SET", b"key:%d" % number, b"value" * (number % 5)]


@pytest.fixture
def disk() -> MemoryDisk:
    """Four batches in a first increment."""
    disk = MemoryDisk()
    _append(
        FOLDER,
        disk,
        [_set(1), _set(2)],
        [_set(3)],
        [[b"MULTI"], _set(4), [b"EXEC"], _set(5)],
        [_set(6), _set(7)],
    )
    return disk


@pytest.fixture
def three_files() -> MemoryDisk:
    """A base with records and two increments, all with records, as a rewrite and a failed one leave them."""
    disk = MemoryDisk()
    log = open_log(FOLDER, disk, background=Inline())
    rewrite = log.begin_rewrite()
    assert rewrite.start()
    rewrite.write(record(_set(1)))
    rewrite.write(record(_set(2)))
    rewrite.finish()
    for number in (3, 4):
        put(log, *_set(number))
        assert log.commit()
    rewrite = log.begin_rewrite()
    assert rewrite.start()
    put(log, *_set(5))
    assert log.commit()
    rewrite.abandon()
    put(log, *_set(6))
    assert log.commit()
    log.close()
    return disk


def _changed(disk: MemoryDisk, name: str, data: bytes) -> MemoryDisk:
    changed = disk.after_kill()
    changed.files[FOLDER / name].data = data
    return changed


def _batches(data: bytes) -> list[bytes]:
    """The batches of a file, as they stand there."""
    found = []
    at = 0
    while at < len(data):
        header = batch.parse_header(data, at)
        assert header is not None
        end = at + header.size + header.length
        found.append(data[at:end])
        at = end
    return found


# -- what was written is what is read ---------------------------------------------------------------


def test_an_empty_folder_has_no_log(tmp_path: Path) -> None:
    assert replay(tmp_path / "missing").result.manifest is None
    assert replay(tmp_path).result.manifest is None


def test_records_come_back_in_order(tmp_path: Path) -> None:
    _append(tmp_path / "shard-0", Disk(), [_set(1), _set(2)], [_set(3)])
    _append(tmp_path / "shard-0", Disk(), [_set(4)])
    found = replay(tmp_path / "shard-0")
    assert found.records == [_set(number) for number in (1, 2, 3, 4)]
    assert found.result.records == 4
    assert found.result.warnings == []
    assert found.progress[-1] == (found.result.size, found.result.size)


def test_base_and_increments_are_read_in_order(three_files: MemoryDisk) -> None:
    assert replay(FOLDER, three_files).records == [_set(number) for number in range(1, 7)]


@pytest.mark.parametrize("size", [1, 5000, limits.PARSE_SLICE_BYTES, limits.LOAD_SLICE_BYTES, 3_000_000])
def test_batches_of_every_size_are_read_in_slices(size: int) -> None:
    disk = MemoryDisk()
    large = [[b"SET", b"large", bytes(size)], _set(1), [b"SET", b"larger", b"\r\n" * size]]
    small = [[b"SET", b"key:%d" % number, b"x" * 100] for number in range(10_000)]
    _append(FOLDER, disk, large, small, [_set(2)], large)
    found = replay(FOLDER, disk)
    assert found.records == [*large, *small, _set(2), *large]
    done = [progress[0] for progress in found.progress]
    assert done == sorted(done)
    assert len(done) >= found.result.size / limits.LOAD_SLICE_BYTES / 2


def test_batches_with_keys_are_noted_before_their_records() -> None:
    disk = MemoryDisk()
    log = open_log(FOLDER, disk, background=Inline())
    put(log, *_set(1))
    log.add_batch([record(_set(2)), record(_set(3))], b"txid=1-17 shards=0,3")
    put(log, *_set(4))
    log.add_batch([], b"forgotten=1-16")
    log.add_timestamp(1_700_000_000)
    put(log, *_set(5))
    written_before = disk.changes
    assert log.commit()
    assert disk.changes == written_before + 1
    log.close()
    seen: list[object] = []
    for _ in load(FOLDER, apply=seen.append, note=seen.append, disk=disk):
        pass
    assert seen == [_set(1), b"txid=1-17 shards=0,3", _set(2), _set(3), _set(4), b"forgotten=1-16", _set(5)]
    assert b"#TS:1700000000\r\n" in disk.files[FOLDER / FIRST].data
    with pytest.raises(ValueError, match="not the keys"):
        log.add_batch([], b"a\r\nb")


def test_a_record_that_cannot_be_replayed_is_named(disk: MemoryDisk) -> None:
    def apply(argv: list[bytes]) -> None:
        if argv[:2] == [b"SET", b"key:3"]:
            raise LookupError("no such command")

    with pytest.raises(AofDamaged, match=r"incr\.aof: at byte \d+: .*no such command: .*key:3") as caught:
        list(load(FOLDER, apply=apply, disk=disk))
    batches = _batches(disk.files[FOLDER / FIRST].data)
    assert caught.value.offset == len(batches[0]) + len(batches[1])
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_log_that_does_not_end_with_a_record_is_refused() -> None:
    disk = MemoryDisk()
    log = open_log(FOLDER, disk, background=Inline())
    log.records.append(b"*2\r\n$4\r\nPING\r\n")
    assert log.commit()
    error = refusal(FOLDER, disk)
    assert error is not None
    assert "has no end" in str(error)


# -- damage -----------------------------------------------------------------------------------------


def _flips(disk: MemoryDisk) -> Iterator[tuple[str, int, MemoryDisk]]:
    for path, content in disk.files.items():
        for bit in range(len(content.data) * 8):
            data = bytearray(content.data)
            data[bit // 8] ^= 1 << bit % 8
            yield path.name, bit // 8, _changed(disk, path.name, bytes(data))


def test_every_flipped_bit_is_refused_where_it_is(three_files: MemoryDisk) -> None:
    flips = 0
    for name, at, flipped in _flips(three_files):
        error = refusal(FOLDER, flipped)
        assert error is not None, f"byte {at} of {name}"
        assert error.path.name == name
        # The offset is that of the batch with the flipped bit, or a place in it.
        assert error.offset <= at or name == MANIFEST
        flips += 1
    assert flips > 6000


def test_every_flipped_bit_in_an_open_file_is_refused(disk: MemoryDisk) -> None:
    for name, at, flipped in _flips(disk):
        assert refusal(FOLDER, flipped) is not None, f"byte {at} of {name}"


@pytest.mark.parametrize("last", range(3))
def test_batches_out_of_their_place_are_refused(disk: MemoryDisk, last: int) -> None:
    batches = _batches(disk.files[FOLDER / FIRST].data)
    assert len(batches) == 5
    wrong = []
    for index in range(len(batches)):
        before, this, after = batches[:index], batches[index], batches[index + 1 :]
        wrong.append([*before, this, this, *after])
        if after:
            wrong.append([*before, *after])
            wrong.append([*before, after[0], this, *after[1:]])
    for order in wrong:
        assert refusal(FOLDER, _changed(disk, FIRST, b"".join(order))) is not None


def test_missing_bytes_are_refused(disk: MemoryDisk) -> None:
    """Wherever a range is missing that ends before the last batch, which is still whole."""
    data = disk.files[FOLDER / FIRST].data
    last = len(data) - len(_batches(data)[-1])
    for start in range(0, last, 3):
        for end in range(start + 1, last, 7):
            assert refusal(FOLDER, _changed(disk, FIRST, data[:start] + data[end:])) is not None


def test_a_record_that_swallows_what_follows_a_gap_is_refused() -> None:
    disk = MemoryDisk()
    _append(FOLDER, disk, [[b"SET", b"large", b"x" * 5000]], [_set(1)], [_set(2)])
    data = disk.files[FOLDER / FIRST].data
    gap = data.index(b"xxx")
    error = refusal(FOLDER, _changed(disk, FIRST, data[:gap] + data[gap + 4000 :]))
    assert error is not None
    assert "bytes are missing before the batch" in str(error)


def test_a_value_that_looks_like_a_batch_does_not_hide_a_torn_tail() -> None:
    disk = MemoryDisk()
    header, _ = batch.seal(record(_set(1)), 0)
    _append(FOLDER, disk, [_set(1)], [_set(2), [b"SET", b"odd", (header + record(_set(1))) * 3]])
    data = disk.files[FOLDER / FIRST].data
    found = replay(FOLDER, _changed(disk, FIRST, data[:-10]))
    assert found.records == [_set(1), _set(2)]


@pytest.mark.parametrize("name", [BASE, FIRST])
def test_a_closed_file_that_ends_early_is_refused(three_files: MemoryDisk, name: str) -> None:
    names = [path.name for path in three_files.files]
    name = next(n for n in names if ("base" in n) == (name == BASE) and n != MANIFEST)
    data = three_files.files[FOLDER / name].data
    for size in range(len(data)):
        error = refusal(FOLDER, _changed(three_files, name, data[:size]))
        assert error is not None
        assert (error.path.name, error.offset) == (name, size)


def test_a_missing_file_is_refused(three_files: MemoryDisk) -> None:
    for path in three_files.files:
        without = three_files.after_kill()
        del without.files[path]
        error = refusal(FOLDER, without)
        assert error is not None
        assert error.path == path
        assert "missing" in str(error)


def test_a_file_of_another_log_is_refused(disk: MemoryDisk) -> None:
    other = MemoryDisk()
    _append(FOLDER, other, [_set(1)])
    error = refusal(FOLDER, _changed(disk, FIRST, other.files[FOLDER / FIRST].data))
    assert error is not None
    assert "not the file that the manifest names" in str(error)


def test_a_newer_format_is_refused(disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = MemoryDisk()
    with monkeypatch.context() as patch:
        patch.setattr(batch, "FORMAT", b"format=2 ")
        _append(FOLDER, newer)
    error = refusal(FOLDER, newer)
    assert error is not None
    assert "format that this version does not know" in str(error)


def test_what_lies_after_the_end_of_a_closed_file_is_cut(three_files: MemoryDisk) -> None:
    expected = replay(FOLDER, three_files).records
    for path, content in list(three_files.files.items()):
        if path.name in (MANIFEST, max(p.name for p in three_files.files if "incr" in p.name)):
            continue
        longer = _changed(three_files, path.name, content.data + b"*1\r\n$4\r\nPING\r\n")
        found = replay(FOLDER, longer)
        assert found.records == expected
        assert path.name in found.result.warnings[0]
        open_log(FOLDER, longer, background=Inline()).close()
        assert longer.files[path].data == content.data
        assert replay(FOLDER, longer).result.warnings == []


# -- torn tails -------------------------------------------------------------------------------------


def _expected_after_truncation(data: bytes, size: int) -> list[list[bytes]]:
    """By hand: the records before `size`, without those of a transaction that is not whole."""
    kept: list[list[bytes]] = []
    transaction: list[list[bytes]] | None = None
    at = 0
    for number, words in enumerate(
        [_set(1), _set(2), _set(3), [b"MULTI"], _set(4), [b"EXEC"], _set(5), _set(6), _set(7)]
    ):
        at = data.index(record(words), at) + len(record(words))
        assert number >= 0
        if at > size:
            break
        if words == [b"MULTI"]:
            transaction = []
        if transaction is None:
            kept.append(words)
            continue
        transaction.append(words)
        if words == [b"EXEC"]:
            kept += transaction
            transaction = None
    return kept


@pytest.mark.parametrize("zeros", [0, 1, 70])
def test_a_tail_torn_at_any_byte_keeps_all_whole_records(disk: MemoryDisk, zeros: int) -> None:
    data = disk.files[FOLDER / FIRST].data
    batches = _batches(data)
    ends = {sum(map(len, batches[:count])) for count in range(len(batches) + 1)}
    for size in range(len(batches[0]), len(data)):
        torn = _changed(disk, FIRST, data[:size] + b"\0" * zeros)
        expected = _expected_after_truncation(data, size)
        found = replay(FOLDER, torn)
        assert found.records == expected
        whole = size in ends and not zeros
        assert len(found.result.warnings) == (0 if whole else 1)
        if not whole:
            offset = max(end for end in ends if end <= size)
            assert f"{FIRST}: torn at byte {offset}," in found.result.warnings[0]
            error = refusal(FOLDER, torn, accept_torn=False)
            assert error is not None
            assert error.offset == offset
            assert "aof-load-truncated" in str(error)
        # Once it is open it is whole again, and goes on.
        log = open_log(FOLDER, torn, background=Inline())
        put(log, *_set(8))
        assert log.commit()
        log.close()
        again = replay(FOLDER, torn, accept_torn=False)
        assert again.records == [*expected, _set(8)]
        assert again.result.warnings == []


def test_a_file_torn_in_its_first_batch_is_refused(disk: MemoryDisk) -> None:
    data = disk.files[FOLDER / FIRST].data
    for size in range(len(_batches(data)[0])):
        error = refusal(FOLDER, _changed(disk, FIRST, data[:size]))
        assert error is not None
        assert error.path.name == FIRST


def test_a_torn_batch_with_keys_is_dropped_whole() -> None:
    disk = MemoryDisk()
    log = open_log(FOLDER, disk, background=Inline())
    put(log, *_set(1))
    log.add_batch([record(_set(2)), record(_set(3))], b"txid=17")
    assert log.commit()
    data = disk.files[FOLDER / FIRST].data
    for size in range(data.index(b"txid"), len(data)):
        found = replay(FOLDER, _changed(disk, FIRST, data[:size]))
        assert found.records == [_set(1)]
        assert found.notes == []


def test_what_is_kept_of_a_torn_batch_stays_in_its_database() -> None:
    """It goes to the start of another file, where no database is selected."""
    disk = MemoryDisk()
    select = [b"SELECT", b"3"]
    _append(FOLDER, disk, [[b"SELECT", b"0"], _set(1)], [select, _set(2)], [_set(3)], [_set(4), _set(5)])
    data = disk.files[FOLDER / FIRST].data
    torn = _changed(disk, FIRST, data[:-1])
    expected = [[b"SELECT", b"0"], _set(1), select, _set(2), _set(3), select, _set(4)]
    assert replay(FOLDER, torn).records == expected
    open_log(FOLDER, torn, background=Inline()).close()
    assert replay(FOLDER, torn, accept_torn=False).records == expected
    assert torn.files[FOLDER / SECOND].data.endswith(record(select) + record(_set(4)))


def test_damage_is_not_taken_for_a_torn_tail_that_ends_in_zeros(disk: MemoryDisk) -> None:
    data = bytearray(disk.files[FOLDER / FIRST].data)
    data[len(data) - 5] ^= 4
    assert refusal(FOLDER, _changed(disk, FIRST, bytes(data) + bytes(100))) is not None
    zeroed = bytes(data[:200]) + bytes(20) + bytes(data[220:])
    assert refusal(FOLDER, _changed(disk, FIRST, zeroed)) is not None


# -- increments that do not follow each other ---------------------------------------------------------


@pytest.fixture
def unsettled() -> MemoryDisk:
    """Two increments that are both open: death came between the switch and the fsync of the first."""
    disk = MemoryDisk()
    work = Deferred()
    log = open_log(FOLDER, disk, background=work)
    put(log, *_set(1))
    assert log.commit()
    put(log, *_set(2))
    put(log, *_set(3))
    assert log.commit()
    rewrite = log.begin_rewrite()
    work.work()
    assert rewrite.start()
    put(log, *_set(4))
    assert log.commit()
    return disk.after_kill()


def test_open_increments_that_follow_each_other_are_read_and_closed(unsettled: MemoryDisk) -> None:
    expected = [_set(number) for number in (1, 2, 3, 4)]
    assert replay(FOLDER, unsettled, accept_torn=False).records == expected
    open_log(FOLDER, unsettled, background=Inline()).close()
    manifest = read_manifest(unsettled, FOLDER, "appendonly.aof")
    assert manifest is not None
    assert [entry.is_open for entry in manifest.entries] == [False, False, True]
    assert replay(FOLDER, unsettled, accept_torn=False).records == expected


def test_what_came_after_a_lost_end_is_dropped(unsettled: MemoryDisk) -> None:
    data = unsettled.files[FOLDER / FIRST].data
    batches = _batches(data)
    for size in range(len(batches[0]), len(data)):
        lost = _changed(unsettled, FIRST, data[:size])
        kept = [words for words in (_set(1), _set(2), _set(3)) if data[:size].find(record(words)) >= 0]
        found = replay(FOLDER, lost)
        assert found.records == kept
        assert any("dropped: " + SECOND in warning for warning in found.result.warnings)
        assert refusal(FOLDER, lost, accept_torn=False) is not None
        log = open_log(FOLDER, lost, background=Inline())
        put(log, *_set(8))
        assert log.commit()
        log.close()
        assert replay(FOLDER, lost, accept_torn=False).records == [*kept, _set(8)]


def test_a_closed_increment_must_be_followed(three_files: MemoryDisk) -> None:
    """Also where nothing else is wrong: the last increment belongs to another end."""
    other = three_files.after_kill()
    log = open_log(FOLDER, other, background=Inline())
    rewrite = log.begin_rewrite()
    assert rewrite.start()
    rewrite.abandon()
    put(log, *_set(9))
    assert log.commit()
    log.close()
    manifest = read_manifest(other, FOLDER, "appendonly.aof")
    assert manifest is not None
    skipping = manifest.without({manifest.entries[-2].name})
    write_manifest(other, FOLDER, skipping)
    error = refusal(FOLDER, other)
    assert error is not None
    assert "does not follow" in str(error)


# -- a real folder ------------------------------------------------------------------------------------


def test_a_torn_tail_on_the_real_disk(tmp_path: Path) -> None:
    _append(tmp_path, Disk(), [_set(1)], [_set(2), _set(3)])
    path = tmp_path / FIRST
    os.truncate(path, path.stat().st_size - 3)
    kept = tmp_path / "copy"
    shutil.copytree(tmp_path, kept)
    assert replay(tmp_path).records == [_set(1), _set(2)]
    open_log(tmp_path, background=Inline()).close()
    assert replay(tmp_path, accept_torn=False).records == [_set(1), _set(2)]
    assert replay(kept).records == [_set(1), _set(2)]


def test_a_lost_manifest_is_not_taken_for_an_empty_folder(tmp_path: Path) -> None:
    _append(tmp_path, Disk(), [_set(1)])
    (tmp_path / MANIFEST).unlink()
    error = refusal(tmp_path)
    assert error is not None
    assert "the manifest is missing" in str(error)
