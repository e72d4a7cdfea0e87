"""Append-only files of Redis: one file, or a base and increments that a manifest names
(https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/).

They say what has happened, not what there is: so they are carried out on a shard in this process, where
nothing expires meanwhile, just as Redis does when it starts. That takes the memory that the data takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from mmap import mmap
from pathlib import Path

from proxy.transfer.sources import mapped
from shardkv import limits, quoting
from shardkv.aof.batch import AofDamaged
from shardkv.errors import CommandError
from shardkv.numbers import canonical_integer
from shardkv.rdb.file_reader import FileReader, Function, Key, Note, ValueRefused, version_of
from shardkv.settings import Config
from shardkv.shard import Shard

Data = bytes | mmap

_ANNOTATION = ord("#")

_REQUESTS_BETWEEN_REPORTS = 4096

_LINE_BYTES = 32
"""The longest line that says how many arguments, or how many bytes, come next."""


def manifest_in(folder: Path) -> Path | None:
    """The manifest of Redis' append-only file in a folder; None if there is none. Raises AofDamaged if there
    are several."""
    found = sorted(path for path in folder.glob("*.manifest") if not path.name.startswith("temp-"))
    if len(found) > 1:
        raise AofDamaged(found[1], 0, f"a second manifest beside {found[0].name}")
    return found[0] if found else None


def files_of(manifest: Path) -> list[Path]:
    """The files that a manifest names: the base, if there is one, then the increments in their order. Raises
    AofDamaged, OSError."""
    if manifest.stat().st_size > limits.MAX_MANIFEST_BYTES:
        raise AofDamaged(manifest, 0, "too long for a manifest")
    bases: list[Path] = []
    increments: list[tuple[int, Path]] = []
    at = 0
    for line in manifest.read_bytes().splitlines(keepends=True):
        if line.strip() and not line.startswith(b"#"):
            try:
                words = quoting.split(line.rstrip())
                named = dict(zip(words[::2], words[1::2], strict=True))
                name, seq, kind = named[b"file"].decode(), int(named[b"seq"]), named[b"type"]
            except (ValueError, KeyError):
                raise AofDamaged(manifest, at, "not a line of a manifest") from None
            if "/" in name:
                raise AofDamaged(manifest, at, "a file in another folder")
            if kind == b"b":
                bases.append(manifest.parent / name)
            elif kind == b"i":
                increments.append((seq, manifest.parent / name))
        at += len(line)
    if len(bases) > 1 or increments != sorted(increments):
        raise AofDamaged(manifest, 0, "not one base and increments in order")
    return bases + [path for _, path in increments]


class Replay:
    """Carries out append-only files on a shard that has all slots.

    shard    which holds the data then
    notes    what was passed over
    """

    def __init__(self, config: Config, report: Callable[[int], None]) -> None:
        """`report` is told now and then how many bytes were carried out."""
        self.shard = Shard(0, config)
        self.shard.begin_replay()
        self.notes: list[str] = []
        self._report = report
        self._done = 0

    def run(self, paths: list[Path]) -> None:
        """Carries out files, in their order. The last one may be torn, as a crash leaves it.

        Raises AofDamaged, RdbDamaged or TransferError where they are not what was written or cannot be
        carried out; OSError.
        """
        for number, path in enumerate(paths):
            data = mapped(path)
            at = self._preamble(path, data) if version_of(data) is not None else 0
            self._requests(path, data, at, is_last=number == len(paths) - 1)
            self._done += len(data)
            self._report(self._done)
        self.shard.end_replay()

    def _preamble(self, path: Path, data: Data) -> int:
        """Loads an RDB file, or the beginning of a file that is one; returns where that ends."""
        reader = FileReader(data, path, goes_on=True)
        for event in reader:
            if isinstance(event, Key):
                self._load(event, reader)
            elif isinstance(event, Function):
                self._carry_out(path, reader.at, [b"FUNCTION", b"LOAD", event.code])
            elif isinstance(event, Note):
                self.notes.append(event.text)
        assert reader.end is not None
        self.shard.replay([b"SELECT", b"0"])
        return reader.end

    def _load(self, key: Key, reader: FileReader) -> None:
        db = self.shard.database(key.db)
        try:
            value = reader.value(self.shard.config)
        except ValueRefused as refusal:
            raise AofDamaged(reader.path, key.at, f"key {key.key!r:.200}: {refusal}") from None
        db.put(key.key, value, "restore")
        if key.expire_at_ms is not None:
            db.set_deadline(key.key, key.expire_at_ms)

    def _requests(self, path: Path, data: Data, at: int, *, is_last: bool) -> None:
        end = at
        block: list[tuple[int, list[bytes]]] | None = None
        """What has come since MULTI."""
        for number, (begin, after, request) in enumerate(requests(path, data, at)):
            if not number % _REQUESTS_BETWEEN_REPORTS:
                self._report(self._done + begin)
            name = request[0].upper()
            if name == b"MULTI":
                block = []
            elif block is not None and name != b"EXEC":
                block.append((begin, request))
            else:
                for place, held in block or [(begin, request)]:
                    self._carry_out(path, place, held)
                block = None
            if block is None:
                end = after
        if end < len(data):
            if not is_last:
                raise AofDamaged(path, end, "the file ends within a request, and others follow")
            self.notes.append(f"{path}: torn at byte {end}: {len(data) - end} bytes are left out")

    def _carry_out(self, path: Path, at: int, request: list[bytes]) -> None:
        try:
            self.shard.replay(request)
        except CommandError as error:
            text = error.text.decode(errors="replace")
            raise AofDamaged(path, at, f"a request that cannot be carried out: {text}") from None


def requests(path: Path, data: Data, at: int) -> Iterator[tuple[int, int, list[bytes]]]:
    """The requests from an offset on, each with the offsets of its beginning and its end; annotation lines
    are passed over. Ends where the bytes end, perhaps within a request. Raises AofDamaged."""
    size = len(data)
    while at < size:
        begin = at
        if data[at] == _ANNOTATION:
            at = data.find(b"\n", at) + 1
            if not at:
                return
            continue
        count, at = _number(path, data, at, b"*")
        if count < 0:
            return
        if not 0 < count <= limits.MAX_ARGUMENTS:
            raise AofDamaged(path, begin, f"a request of {count} words")
        words = []
        for _ in range(count):
            length, at = _number(path, data, at, b"$")
            end = at + length
            if length < 0 or end + 2 > size:
                return
            words.append(data[at:end])
            if data[end : end + 2] != b"\r\n":
                raise AofDamaged(path, end, "a word does not end where it should")
            at = end + 2
        yield begin, at, words


def _number(path: Path, data: Data, at: int, mark: bytes) -> tuple[int, int]:
    """The number in a line, and where the next line begins; -1 if the bytes end before that. Raises
    AofDamaged."""
    end = data.find(b"\r\n", at, at + _LINE_BYTES)
    line = data[at : end if end >= 0 else at + _LINE_BYTES]
    if end < 0 and at + len(line) == len(data) and (not line or line[:1] == mark):
        return -1, at
    number = canonical_integer(line[1:])
    if end < 0 or line[:1] != mark or number is None or number < 0:
        raise AofDamaged(path, at, f"{line!r} where {mark.decode()} and a number were expected")
    return number, end + 2
