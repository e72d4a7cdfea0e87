"""The databases of a shard: keys, values, expiry times.

Everything that reads or changes a key goes through the doors of `Database`:

    read     for a command that looks             edit    for a command that changes the value in place
    put      stores a value                       remove  takes the key with its value
    changed  says that a value was changed in place, or a key removed

Keys are kept by slot, one dict each, because a slot is what moves between shards, what SCAN returns at a
time, and what a rewrite of the AOF walks through.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, KeysView
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, cast

from shardkv import errors, limits
from shardkv.errors import CommandError
from shardkv.expiry import Deadlines
from shardkv.slots import SLOTS, slot_of
from shardkv.structures.field_deadlines import NEVER_MS
from shardkv.structures.hash import Hash, PackedHash
from shardkv.values import LARGE_COLLECTION, Collection, Value, unpacked

if TYPE_CHECKING:
    from shardkv.scans import Snapshots

Slot = dict[bytes, Value]

C = TypeVar("C", bound=Collection)

_STRINGS = frozenset({bytes, int, bytearray})
_HASHES = frozenset({Hash, PackedHash})

_RANDOM_TRIES = 50
"""How often `random_key` tries its luck."""


class Observer(Protocol):
    """Hears of every changed key, with the event's name as keyspace notifications have it."""

    def __call__(self, db: Database, key: bytes, event: str) -> None: ...


class Owner(Protocol):
    """What a database needs of its shard."""

    now_ms: int
    now_s: int
    loaded_s: int
    dirty: int
    hits: int
    misses: int
    expired_keys: int
    observers: list[Observer]
    notifications: Any
    config: Any
    graveyard: deque[list[Slot] | Collection | Deadlines]
    snapshots: Snapshots

    def database(self, index: int) -> Database: ...
    def flush(self, indexes: list[int]) -> int: ...
    def swap(self, first: int, second: int) -> None: ...
    def observe(self, db: Database, key: bytes, event: str) -> None: ...
    def propagate(self, db: Database, *args: Any) -> None: ...
    def propagate_removal(self, db: Database, key: bytes, fields: list[bytes] = ...) -> None: ...
    def rebuild(self, db: Database, requests: list[list[Any]]) -> None: ...
    def wait(
        self, db: Database, number: Any, keys: list[bytes], kind: type[Collection], *, on_loss: bool = ...
    ) -> Any: ...


class Walk(Protocol):
    """A pass over the keyspace as it was when the pass began."""

    def before_change(self, db: Database, slot: int, key: bytes) -> None:
        """Gets to see a key that is about to change."""


class Walks:
    """Several passes that are under way at the same time."""

    __slots__ = ("all",)

    def __init__(self, walks: tuple[Walk, ...]) -> None:
        self.all = walks

    def before_change(self, db: Database, slot: int, key: bytes) -> None:
        """Shows each of them a key that is about to change."""
        for walk in self.all:
            walk.before_change(db, slot, key)


class Sizes(NamedTuple):
    """How many keys a database had at some time (in s), in all and in its largest slot."""

    at_s: int
    keys: int
    largest: int


class Database:
    """One of the numbered databases, as far as it lies on this shard."""

    __slots__ = (
        *("_sizes", "deadlines", "expires", "field_deadlines", "has_collections", "index"),
        *("marks", "shard", "slots", "touched_s", "walk"),
    )

    def __init__(self, shard: Owner, index: int) -> None:
        self.shard = shard
        self.index = index
        self.walk: Walk | None = None
        """The pass that is under way, or all of them as one; None while there is none, which is all that a
        change has to ask then."""
        self._begin()

    def clear(self) -> list[list[Slot] | Deadlines]:
        """Empties the database at once; returns what was in it, for the caller to free in slices."""
        old: list[list[Slot] | Deadlines] = [self.slots, self.deadlines, self.field_deadlines]
        if self.marks:
            old.append(cast(list[Slot], self.marks))
        self._begin()
        return old

    def _begin(self) -> None:
        self.slots: list[Slot] = [{} for _ in range(SLOTS)]
        self.deadlines = Deadlines()
        self.expires = self.deadlines.at_ms
        self.field_deadlines = Deadlines()
        """When the first field of each hash expires that has such fields; not later at least."""
        self.has_collections = False
        """Whether anything but strings has ever been stored: while not, nothing need be looked at to be
        freed."""
        self.touched_s = [0] * SLOTS
        """When any key of a slot was last accessed, in s. Keys of one slot share it, which costs next to
        nothing where a time for each key would cost as much as the key."""
        self._sizes = Sizes(-1, 0, 0)
        self.begin_marks()

    def begin_marks(self) -> None:
        """From now on keeps, by slot, what this kind of database has to know of the use of each key (see
        shardkv.recency): nothing, in a plain one."""
        self.marks: list[dict[bytes, int]] = []

    def mark(self, key: bytes) -> int | None:
        """What is kept of the use of a key."""
        return self.marks[slot_of(key)].get(key) if self.marks else None

    def put_mark_back(self, key: bytes, mark: int) -> None:
        """Has a key seem used as it was when `mark` was taken, if it is there still."""
        marks = self.marks[slot_of(key)] if self.marks else {}
        if key in marks:
            marks[key] = mark

    def join(self, walk: Walk) -> None:
        """From now on a pass gets to see each key that is about to change, until it leaves."""
        self._walk_with((*self._walks(), walk))

    def leave(self, walk: Walk) -> None:
        """A pass need not be shown anything any more; nothing happens if it was not."""
        self._walk_with(tuple(other for other in self._walks() if other is not walk))

    def _walks(self) -> tuple[Walk, ...]:
        walk = self.walk
        return () if walk is None else walk.all if isinstance(walk, Walks) else (walk,)

    def _walk_with(self, walks: tuple[Walk, ...]) -> None:
        self.walk = None if not walks else walks[0] if len(walks) == 1 else Walks(walks)

    def exchange(self, other: Database) -> None:
        """Swaps contents with another database of the same shard."""
        for name in sorted(set(Database.__slots__) - {"index", "shard", "walk"}):
            mine = getattr(self, name)
            setattr(self, name, getattr(other, name))
            setattr(other, name, mine)

    # -- looking --------------------------------------------------------------------------------

    def read(self, key: bytes, slot: int = -1) -> Value | None:
        """The value of a key that is there and has not expired, for a command that does not change it.

        Counts a hit or a miss and the time of access. `slot` is the key's, where the caller knows it.
        """
        if slot < 0:
            slot = slot_of(key)
        value = self.slots[slot].get(key)
        shard = self.shard
        if value is None or (self.expires and self.expire_if_due(key)):
            shard.misses += 1
            return None
        shard.hits += 1
        self.touched_s[slot] = shard.now_s
        return value

    def read_string(self, key: bytes, slot: int = -1) -> bytes | bytearray | None:
        """As `read`, of a key that must hold a string. Raises CommandError(WRONG_TYPE)."""
        value = self.read(key, slot)
        if value.__class__ is bytes or value is None:
            return value
        return string(value)

    def read_as(self, kind: type[C], key: bytes, slot: int = -1) -> C | None:
        """As `read`, of a key that must hold that kind of collection. Raises CommandError(WRONG_TYPE)."""
        value = self.read(key, slot)
        if value is None or value.__class__ is kind:
            return value
        return self._unpack(kind, key, value)

    def glance(self, key: bytes, slot: int = -1) -> Value | None:
        """As `read`, but leaves the time of access as it is: for commands that do not use the value."""
        value = self.peek(key, slot)
        if value is None:
            self.shard.misses += 1
        else:
            self.shard.hits += 1
        return value

    def peek(self, key: bytes, slot: int = -1) -> Value | None:
        """As `read`, but leaves no trace."""
        value = self.slots[slot if slot >= 0 else slot_of(key)].get(key)
        if value is None or (self.expires and self.expire_if_due(key)):
            return None
        return value

    def idle_s(self, key: bytes) -> int:
        """Seconds since a key was last accessed, at least."""
        return self.slot_idle_s(slot_of(key))

    def slot_idle_s(self, slot: int) -> int:
        """Seconds since any key of a slot was last accessed, or the shard was loaded."""
        return max(0, self.shard.now_s - max(self.touched_s[slot], self.shard.loaded_s))

    # -- changing -------------------------------------------------------------------------------

    def edit(self, key: bytes, slot: int = -1) -> Value | None:
        """The value of a key, for a command that will change it in place or replace it."""
        if slot < 0:
            slot = slot_of(key)
        value = self.slots[slot].get(key)
        if value is None or (self.expires and self.expire_if_due(key)):
            return None
        if self.walk is not None:
            self.walk.before_change(self, slot, key)
        self.touched_s[slot] = self.shard.now_s
        return value

    def edit_string(self, key: bytes, slot: int = -1) -> bytes | bytearray | None:
        """As `edit`, of a key that must hold a string. Raises CommandError(WRONG_TYPE)."""
        value = self.edit(key, slot)
        if value.__class__ is bytes or value is None:
            return value
        return string(value)

    def edit_as(self, kind: type[C], key: bytes, slot: int = -1) -> C | None:
        """As `edit`, of a key that must hold that kind of collection. Raises CommandError(WRONG_TYPE)."""
        value = self.edit(key, slot)
        if value is None or value.__class__ is kind:
            return value
        return self._unpack(kind, key, value)

    def _unpack(self, kind: type[C], key: bytes, value: Value) -> C:
        """Puts a packed collection back into the form that commands work with."""
        if value.__class__ is not kind.packed_kind:
            raise CommandError(errors.WRONG_TYPE)
        collection = kind.unpack(value)
        self.slots[slot_of(key)][key] = collection
        return collection

    def put(
        self, key: bytes, value: Value, event: str, slot: int = -1, *, keep_deadline: bool = False
    ) -> None:
        """Stores a value under a key, in place of any other, and says so: `changed` is not needed after it.

        The key's deadline goes, unless it is to be kept.
        """
        if slot < 0:
            slot = slot_of(key)
        if self.walk is not None:
            self.walk.before_change(self, slot, key)
        kind = value.__class__
        if self.has_collections or (kind is not bytes and kind not in _STRINGS):
            self._retire(key, self.slots[slot].get(key))
            self.has_collections = True
            if kind in _HASHES:
                self.watch_fields(key, value)
        self.slots[slot][key] = value
        if self.expires and not keep_deadline:
            self.deadlines.remove(key)
        shard = self.shard
        self.touched_s[slot] = shard.now_s
        shard.dirty += 1
        if shard.observers:
            shard.observe(self, key, event)

    def replace(self, key: bytes, value: Value, slot: int = -1) -> None:
        """Puts another value in the place of a string that `edit` gave out. The deadline stays, and the
        caller says `changed`."""
        self.slots[slot if slot >= 0 else slot_of(key)][key] = value

    def remove(self, key: bytes, slot: int = -1) -> Value | None:
        """Takes a key out; returns the value it had, or None if there was none. The caller says `changed`."""
        if slot < 0:
            slot = slot_of(key)
        if self.walk is not None:
            self.walk.before_change(self, slot, key)
        if self.expires:
            self.deadlines.remove(key)
        value = self.slots[slot].pop(key, None)
        if self.has_collections:
            self._retire(key, value)
        return value

    def take(self, key: bytes, slot: int = -1) -> Value | None:
        """As `remove`, for a caller that puts the value under another key."""
        if slot < 0:
            slot = slot_of(key)
        if self.walk is not None:
            self.walk.before_change(self, slot, key)
        if self.expires:
            self.deadlines.remove(key)
        self.field_deadlines.remove(key)
        return self.slots[slot].pop(key, None)

    def _retire(self, key: bytes, value: Value | None) -> None:
        """Has a value that its key does not hold any more freed in slices, if it is large."""
        if self.field_deadlines.at_ms:
            self.field_deadlines.remove(key)
        # Most values are no collections, and asking an abstract class for its instances is slow.
        if value.__class__ in _STRINGS or value is None:
            return
        if isinstance(value, Collection) and len(value) > LARGE_COLLECTION:
            self.shard.graveyard.append(value)

    def changed(self, key: bytes, event: str) -> None:
        """A value was changed in place, its deadline moved, or a key removed: every change ends here or in
        `put`, once per key and event (the name that keyspace notifications use)."""
        shard = self.shard
        shard.dirty += 1
        if shard.observers:
            shard.observe(self, key, event)

    def tell(self, key: bytes, event: str) -> None:
        """Names another event of a change that `changed` or `put` has told of already, or that is none worth
        logging."""
        shard = self.shard
        if shard.observers:
            shard.observe(self, key, event)

    def created(self, key: bytes) -> None:
        """A key is about to be made anew, in a way that `put` cannot see."""

    def set_deadline(self, key: bytes, at_ms: int) -> None:
        """Gives a key that is there an expiry time, in ms since 1970."""
        if self.walk is not None:
            self.walk.before_change(self, slot_of(key), key)
        self.deadlines.set(key, at_ms, self.shard.now_ms)

    def persist(self, key: bytes) -> bool:
        """Takes a key's expiry time away; whether it had one."""
        if self.walk is not None:
            self.walk.before_change(self, slot_of(key), key)
        return self.deadlines.remove(key)

    # -- expiry ---------------------------------------------------------------------------------

    def expire_if_due(self, key: bytes) -> bool:
        """Removes a key if its time has come; whether it had."""
        at_ms = self.expires.get(key)
        if at_ms is None or at_ms > self.shard.now_ms:
            return False
        self.expire(key)
        return True

    def expire(self, key: bytes) -> None:
        """Removes a key whose time has come, and has the removal logged."""
        self.remove(key)
        shard = self.shard
        shard.expired_keys += 1
        shard.propagate_removal(self, key)
        if shard.observers:
            shard.observe(self, key, "expired")

    def watch_fields(self, key: bytes, value: Value) -> None:
        """Has a hash looked at when the first of its fields expires."""
        found = unpacked(value)
        if isinstance(found, Hash) and found.deadlines is not None:
            first_ms = found.deadlines.first_ms
            if first_ms < self.field_deadlines.at_ms.get(key, NEVER_MS):
                self.field_deadlines.set(key, first_ms, self.shard.now_ms)

    def expire_due_fields(self, key: bytes) -> None:
        """Removes some of the fields of a hash whose time has come, and has the others looked at in time."""
        self.field_deadlines.remove(key)
        value = self.peek(key)
        if value is None:
            return
        slot = slot_of(key)
        if self.walk is not None:
            self.walk.before_change(self, slot, key)
        found = value if value.__class__ is Hash else self._unpack(Hash, key, value)
        due = found.expired(self.shard.now_ms, limits.EXPIRED_FIELDS_AT_ONCE)
        if due:
            self.expire_fields(key, found, due)
        if found.count:
            self.watch_fields(key, found)

    def expire_fields(self, key: bytes, found: Hash, fields: list[bytes]) -> None:
        """Removes fields of a hash whose time has come, and has the removal logged. The key goes with the
        last field."""
        found.discard(fields)
        shard = self.shard
        shard.propagate_removal(self, key, fields)
        if shard.observers:
            shard.observe(self, key, "hexpired")
        if not found.count:
            self.remove(key)
            if shard.observers:
                shard.observe(self, key, "del")

    # -- the whole database ---------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of keys, with those that have expired but were not looked at since."""
        return sum(map(len, self.slots))

    def keys(self) -> Iterator[bytes]:
        """All keys that have not expired. The database must not change meanwhile."""
        expires, now_ms = self.expires, self.shard.now_ms
        for slot in self.slots:
            for key in slot:
                if not expires or expires.get(key, now_ms + 1) > now_ms:
                    yield key

    def occupied_slot(self, first: int, stop: int) -> int:
        """The first slot from `first` on that holds keys; `stop` if there is none before it."""
        slots = self.slots
        while first < stop and not slots[first]:
            first += 1
        return first

    def keys_of_slot(self, slot: int) -> KeysView[bytes]:
        """A slot's keys, with those that have expired. The database must not change while they are looked
        at."""
        return self.slots[slot].keys()

    def random_key(self) -> bytes | None:
        """A key at random, each as likely as any other, or None if there is none."""
        # A slot drawn at random is taken the more likely the more keys it has. That soon hits upon one,
        # unless there are few keys, or most of them in few slots; then it pays to count.
        largest = self.sizes().largest
        for _ in range(_RANDOM_TRIES):
            number = random.randrange(SLOTS)  # noqa: S311
            slot = self.slots[number]
            if random.random() * largest < len(slot):  # noqa: S311
                key = next(islice(slot, random.randrange(len(slot)), None))  # noqa: S311
                if self.peek(key, number) is not None:
                    return key
        for _ in range(_RANDOM_TRIES):
            ends = list(accumulate(map(len, self.slots)))
            if not ends[-1]:
                return None
            place = random.randrange(ends[-1])  # noqa: S311
            number = bisect_right(ends, place)
            key = next(islice(reversed(self.slots[number]), ends[number] - 1 - place, None))
            if self.peek(key, number) is not None:
                return key
        # Nearly all keys have expired, and are about to be removed.
        return next(self.keys(), None)

    def sizes(self) -> Sizes:
        """How many keys there are, as of less than a second ago."""
        if self._sizes.at_s != self.shard.now_s:
            sizes = list(map(len, self.slots))
            self._sizes = Sizes(self.shard.now_s, sum(sizes), max(sizes))
        return self._sizes


def string(value: Value | None) -> bytes | bytearray:
    """A string that is not stored as plain bytes. Raises CommandError(WRONG_TYPE) for what is no string."""
    if value.__class__ is int:
        return b"%d" % value
    if value.__class__ is bytearray:
        return value
    raise CommandError(errors.WRONG_TYPE)


def with_doors(*doors: type[Database]) -> type[Database]:
    """The kind of database that all of these make together, each a kind without attributes of its own whose
    methods go on to `super()`. The databases of a shard change from one kind to another while running."""
    known = _KINDS.get(doors)
    if known is None:
        known = _KINDS[doors] = type("Database", doors, {"__slots__": ()})
    return known


_KINDS: dict[tuple[type[Database], ...], type[Database]] = {(): Database}
