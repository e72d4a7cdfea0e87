"""The declaration of a command, from which everything about it follows.

A command is declared once, beside its handler:

    @command("GETSET key value", group="string", since="1.0.0", flags=WRITE | DENYOOM | FAST,
             keys=(Key(1, access="RW ACCESS UPDATE"),), complexity="O(1)")
    def getset(db, args):
        \"\"\"Returns the previous string value of a key after setting it to a new value.\"\"\"

Arity, routing, ACL categories, the AOF record, HELP and every COMMAND reply are derived from this. A handler
takes the database and the request; `args[1]` is the first argument, as in the documentation and in the key
positions, and `args[0]` is the slot of the first key. It returns a plain Python value (`bytes`, `int`,
`list`, `dict`, `None`, `OK` …, see shardkv.resp.replies) or raises CommandError.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardkv import errors, syntax, wire
from shardkv.errors import CommandError
from shardkv.resp.replies import Status
from shardkv.slots import SLOT_BITS, slots_of
from shardkv.syntax import Argument

Handler = Callable[[Any, list[Any]], Any]


LockNames = tuple[list[tuple[int, bytes]], bool]
"""What a request needs unlocked: (database, key) each, and whether the whole shard."""


class Flag(enum.IntFlag):
    """What COMMAND INFO says of a command; the member's lower-case name is what clients read."""

    WRITE = enum.auto()
    READONLY = enum.auto()
    DENYOOM = enum.auto()
    ADMIN = enum.auto()
    PUBSUB = enum.auto()
    NOSCRIPT = enum.auto()
    BLOCKING = enum.auto()
    LOADING = enum.auto()
    STALE = enum.auto()
    SKIP_MONITOR = enum.auto()
    SKIP_SLOWLOG = enum.auto()
    ASKING = enum.auto()
    FAST = enum.auto()
    NO_AUTH = enum.auto()
    MAY_REPLICATE = enum.auto()
    NO_MANDATORY_KEYS = enum.auto()
    NO_ASYNC_LOADING = enum.auto()
    NO_MULTI = enum.auto()
    MOVABLEKEYS = enum.auto()
    ALLOW_BUSY = enum.auto()


NO_FLAGS = Flag(0)
WRITE = Flag.WRITE
READONLY = Flag.READONLY
DENYOOM = Flag.DENYOOM
ADMIN = Flag.ADMIN
PUBSUB = Flag.PUBSUB
NOSCRIPT = Flag.NOSCRIPT
BLOCKING = Flag.BLOCKING
LOADING = Flag.LOADING
STALE = Flag.STALE
SKIP_MONITOR = Flag.SKIP_MONITOR
SKIP_SLOWLOG = Flag.SKIP_SLOWLOG
ASKING = Flag.ASKING
FAST = Flag.FAST
NO_AUTH = Flag.NO_AUTH
MAY_REPLICATE = Flag.MAY_REPLICATE
NO_MANDATORY_KEYS = Flag.NO_MANDATORY_KEYS
NO_ASYNC_LOADING = Flag.NO_ASYNC_LOADING
NO_MULTI = Flag.NO_MULTI
MOVABLEKEYS = Flag.MOVABLEKEYS
ALLOW_BUSY = Flag.ALLOW_BUSY


@dataclass(frozen=True)
class Key:
    """Where a request holds keys: a key specification of Redis 7
    (https://redis.io/docs/latest/develop/reference/key-specs/).

    begin      the position of the first key; or the keyword that stands before it, searched from
               `search_from` (negative: backwards from the end); or None if only `find` can tell.
    last       the last key, relative to the first; -1 is the last argument, -2 the one before it.
    step       from one key to the next.
    limit      with last=-1: only the first 1/limit of the arguments are keys.
    numkeys    the keys are preceded by their number: (position of the number, position of the first key,
               step), the positions relative to `begin`.
    access     the flags of the specification, e.g. "RW ACCESS UPDATE".
    access_of  for VARIABLE_FLAGS: what a given request really does with the key.
    find       for begin=None: the positions in a given request.
    """

    begin: int | str | None
    last: int = 0
    step: int = 1
    limit: int = 0
    numkeys: tuple[int, int, int] | None = None
    search_from: int = 1
    access: str = "RO ACCESS"
    access_of: Callable[[Sequence[bytes]], str] | None = None
    find: Callable[[Sequence[bytes]], Sequence[int]] | None = None
    notes: str = ""

    def positions(self, args: Sequence[bytes]) -> Sequence[int] | None:
        """The positions of the keys in a request, which starts with the command's name; None if the number
        of keys that the request states is none it could hold."""
        if self.find is not None:
            return self.find(args)
        count = len(args)
        first = self._begin(args)
        if first is None or first >= count:
            return ()
        if self.numkeys is not None:
            return self._counted(first, args)
        if self.last >= 0:
            return range(first, min(first + self.last, count - 1) + 1, self.step)
        stop = count + self.last + 1
        if self.limit > 1:
            stop = first + (stop - first) // self.limit
        return range(first, stop, self.step)

    def _begin(self, args: Sequence[bytes]) -> int | None:
        if self.begin is None or isinstance(self.begin, int):
            return self.begin
        keyword = self.begin.encode()
        start = self.search_from
        places = range(start, len(args)) if start > 0 else range(len(args) + start, 0, -1)
        for place in places:
            word = args[place]
            # On the way to a shard, a number may stand in the place of a timeout.
            if isinstance(word, bytes) and word.upper() == keyword:
                return place + 1
        return None

    def _counted(self, first: int, args: Sequence[bytes]) -> range | None:
        assert self.numkeys is not None
        at, offset, step = self.numkeys
        try:
            number = int(args[first + at])
        except (ValueError, IndexError):
            return None
        start = first + offset
        stop = start + number * step
        return range(start, stop, step) if start < stop <= len(args) else None

    @property
    def is_channel(self) -> bool:
        """Whether what it finds are no keys but the channels of sharded publish/subscribe."""
        return "NOT_KEY" in self.access

    @property
    def writes(self) -> bool:
        return self.access[:2] in ("RW", "OW", "RM")


class Place(enum.Enum):
    """Which kind of process runs a command."""

    SHARD = "shard"
    PROXY = "proxy"


REDACTED = b"(redacted)"
"""Stands in place of a secret wherever requests are shown."""


def no_secrets(args: Sequence[Any]) -> Sequence[int]:
    """Of a request whose words anybody may see who may see requests."""
    return ()


def does_not_spread(args: Sequence[Any]) -> bool:
    """Of a request that touches no other keys than those that its words name."""
    return False


def names_all_keys(args: Sequence[Any]) -> str | None:
    """Of a request that looks at no other keys than those that its words name."""
    return None


@dataclass(eq=False)
class Command:
    """One command or subcommand, as declared, and what follows from it."""

    name: str
    """`get`, `client|kill`: lower case, as COMMAND INFO gives it."""
    syntax: str
    handler: Handler
    group: str
    since: str
    flags: Flag
    keys: tuple[Key, ...]
    summary: str
    complexity: str
    categories: tuple[str, ...]
    arity: int
    arguments: tuple[Argument, ...]
    place: Place
    plan: Any = None
    """How the work is spread over shards: a generator function of hops (see shardkv.plan); None if one
    request never concerns more than one shard."""
    locks: Callable[[int, Any], LockNames] | None = None
    """For a command that touches keys of another database than the selected one: the (database, key) it
    needs unlocked, and whether it needs the whole shard so, from the selected database and the request."""
    spreads: Callable[[Sequence[Any]], bool] = does_not_spread
    """Whether a request touches keys beyond those that its words name, on any shard. Its plan finds them and
    locks them (see `plan.Read`)."""
    looks_beyond: Callable[[Sequence[Any]], str | None] = names_all_keys
    """The option, if there is one, by which a request may look at keys that its words do not name; so only
    who may read every key may use it."""
    waits: Any = None
    """How a request waits for data (see shardkv.blocking); None if none ever does."""
    routed_by: int = 0
    """The position of a word that is no key but has a home like one: a channel."""
    channels: Key | None = None
    """Where a request holds the channels that it publishes or subscribes to, or patterns of them."""
    runs_script: bool = False
    """Whether it runs a script, which may touch any key."""
    may_write: bool = False
    """Whether it writes although it has no such flag: a script does what it likes."""
    secrets: Callable[[Sequence[Any]], Sequence[int]] = no_secrets
    """The positions of the words in a request that must not be shown to anybody: passwords."""
    internal: bool = False
    tips: tuple[str, ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    deprecated_since: str = ""
    replaced_by: str = ""
    container: Command | None = None
    is_container: bool = False
    subcommands: dict[str, Command] = field(default_factory=dict)
    id: int = 0

    def __post_init__(self) -> None:
        self.least = abs(self.arity)
        self.most = self.arity if self.arity > 0 else 1 << 30
        # A request of the simplest and most frequent shape: one key, or what has a home like one, in the
        # first place.
        self.one_key = self.place is Place.SHARD and (
            self.routed_by == 1
            or (
                len(self.keys) == 1
                and self.keys[0].begin == 1
                and self.keys[0].last == 0
                and self.keys[0].numkeys is None
                and not self.keys[0].is_channel
            )
        )
        self.keeps_to_one_key = self.one_key and self.spreads is does_not_spread
        """Whether no request touches, or looks at, another key than that."""
        self.writes = bool(self.flags & Flag.WRITE) or self.may_write
        # Asking flags takes longer than asking what follows from them.
        self.may_block = bool(self.flags & Flag.BLOCKING)
        self.only_reads = bool(self.flags & Flag.READONLY)
        self.needs_memory = bool(self.flags & Flag.DENYOOM)
        self.is_fast = bool(self.flags & Flag.FAST)
        self.can_be_queued = not self.flags & Flag.NO_MULTI
        self.looks = not self.flags & Flag.WRITE
        """Whether what it looks at is what its client has read, and not what it needs in order to write."""
        self.code = self.id << SLOT_BITS
        # A subcommand's own word is the request's second, and stays there.
        self.propagated_name = self.name.split("|")[0].upper().encode()

    def fits(self, count: int) -> bool:
        """Whether a request of so many words has the right number of arguments."""
        return self.least <= count <= self.most

    def redacted(self, args: Sequence[Any]) -> list[Any]:
        """A request as it may be shown, in logs and lists of requests: without its secrets."""
        words = list(args)
        for position in self.secrets(args):
            words[position] = REDACTED
        return words

    def key_positions(self, args: Sequence[bytes]) -> Sequence[int]:
        """The positions of all keys in a request.

        None at all if the request states a wrong number of keys: whoever runs it then has an error to tell.
        """
        if len(self.keys) == 1 and not self.keys[0].is_channel:
            return self.keys[0].positions(args) or ()
        found: list[int] = []
        for spec in self.keys:
            positions = spec.positions(args)
            if positions is None:
                return ()
            if not spec.is_channel:
                found += positions
        return found

    def route_positions(self, args: Sequence[bytes]) -> Sequence[int]:
        """The positions of what says which shards a request concerns."""
        return (self.routed_by,) if self.routed_by else self.key_positions(args)

    def route_slots(self, args: Sequence[bytes]) -> list[int]:
        """The slots of that, in the same order."""
        return slots_of(list(map(args.__getitem__, self.route_positions(args))))

    def key_access(self, args: Sequence[bytes]) -> list[tuple[int, str]]:
        """The position of each key in a request, and the access flags of its specification."""
        found: list[tuple[int, str]] = []
        for spec in self.keys:
            positions = spec.positions(args)
            if positions is None:
                return []
            if not spec.is_channel:
                access = spec.access_of(args) if spec.access_of else spec.access
                found += [(position, access) for position in positions]
        return found

    def channel_positions(self, args: Sequence[bytes]) -> Sequence[int]:
        """The positions of the channels, or patterns of channels, that a request publishes or subscribes
        to."""
        spec = self.channels
        return () if spec is None else spec.positions(args) or ()

    def acl_categories(self) -> list[str]:
        """The ACL categories without their `@`: those that were declared and those that follow from the
        flags, in the order of CATEGORIES."""
        flags = self.flags
        found = set(self.categories)
        if flags & Flag.WRITE:
            found.add("write")
        if flags & Flag.READONLY and "scripting" not in found:
            found.add("read")
        if flags & Flag.ADMIN:
            found |= {"admin", "dangerous"}
        if flags & Flag.PUBSUB:
            found.add("pubsub")
        if flags & Flag.BLOCKING:
            found.add("blocking")
        found.add("fast" if flags & Flag.FAST else "slow")
        return sorted(found, key=CATEGORIES.index)


COMMANDS: dict[str, Command] = {}
"""Every command by its lower-case name, `client|kill` for a subcommand. The one command table."""

BY_ID: list[Command] = []
"""The same, by id; filled by `number_commands`."""

CATEGORIES = (
    *("keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog"),
    *("geo", "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous"),
    *("connection", "transaction", "scripting"),
)
"""Every ACL category, in the order of Redis."""

_GROUP_CATEGORIES = {
    "string": ("string",),
    "generic": ("keyspace",),
    "hash": ("hash",),
    "list": ("list",),
    "set": ("set",),
    "sorted-set": ("sortedset",),
    "stream": ("stream",),
    "geo": ("geo",),
    "bitmap": ("bitmap",),
    "hyperloglog": ("hyperloglog",),
    "connection": ("connection",),
    "pubsub": (),
    "scripting": ("scripting",),
    "transactions": ("transaction",),
    "server": (),
    "cluster": (),
}


def lock_keys(db: int, command: Command, args: list[Any]) -> LockNames:
    """What a request needs unlocked: keys, or the whole shard if it has none."""
    if command.locks is not None:
        return command.locks(db, args)
    if command.one_key:
        return [(db, args[1])], False
    positions = command.key_positions(args)
    if not positions:
        return [], not command.flags & Flag.NO_MANDATORY_KEYS
    return [(db, args[position]) for position in positions], False


def named(name: bytes) -> Command | None:
    """The command of that name, `client|kill` for a subcommand, in any case of letters; None if no client can
    call such a command."""
    declared = COMMANDS.get(name.lower().decode("ascii", "replace"))
    return None if declared is None or declared.internal else declared


def lookup(args: Sequence[bytes]) -> Command | None:
    """The command or subcommand that a client's request calls; None if there is none."""
    declared = named(args[0])
    if declared is None or declared.container is not None:
        return None
    if declared.is_container and len(args) > 1:
        return named(args[0] + b"|" + args[1])
    return declared


def command(
    line: str,
    *,
    group: str,
    since: str,
    flags: Flag,
    keys: tuple[Key, ...] = (),
    complexity: str = "O(1)",
    categories: tuple[str, ...] | None = None,
    arity: int | None = None,
    place: Place = Place.SHARD,
    plan: Any = None,
    locks: Callable[[int, Any], LockNames] | None = None,
    spreads: Callable[[Sequence[Any]], bool] = does_not_spread,
    looks_beyond: Callable[[Sequence[Any]], str | None] = names_all_keys,
    waits: Any = None,
    routed_by: int = 0,
    channels: Key | None = None,
    runs_script: bool = False,
    may_write: bool = False,
    secrets: Callable[[Sequence[Any]], Sequence[int]] = no_secrets,
    internal: bool = False,
    tips: tuple[str, ...] = (),
    history: tuple[tuple[str, str], ...] = (),
    deprecated_since: str = "",
    replaced_by: str = "",
) -> Callable[[Handler], Handler]:
    """Declares the decorated function as the handler of a command.

    line        its syntax, name first: "CLIENT SETNAME connection-name"; a first word that was declared with
                `container` makes it a subcommand.
    group, since, complexity, tips, history, deprecated_since, replaced_by    for COMMAND DOCS and INFO.
    categories  the explicit ACL categories, if they are not just the group's; those that follow from the
                flags are added.
    arity       only where the syntax cannot tell it.
    internal    known between processes only: no client can call it.

    The docstring's first paragraph is the summary.
    """

    def declare(handler: Handler) -> Handler:
        words = line.split()
        container = COMMANDS.get(words[0].lower())
        if container is not None and container.is_container:
            name, name_words = f"{words[0]}|{words[1]}".lower(), 2
        else:
            container, name, name_words = None, words[0].lower(), 1
        assert name not in COMMANDS, f"{name} is declared twice"
        rest = " ".join(words[name_words:])
        arguments = syntax.parse(rest)
        declared = Command(
            name=name,
            syntax=line,
            handler=handler,
            group=group,
            since=since,
            flags=flags,
            keys=keys,
            summary=" ".join(inspect.cleandoc(handler.__doc__ or "").split("\n\n")[0].split()),
            complexity=complexity,
            categories=_GROUP_CATEGORIES[group] if categories is None else categories,
            arity=syntax.arity(name_words, arguments) if arity is None else arity,
            arguments=arguments,
            place=place,
            plan=plan,
            locks=locks,
            spreads=spreads,
            looks_beyond=looks_beyond,
            waits=waits,
            routed_by=routed_by,
            channels=channels,
            runs_script=runs_script,
            may_write=may_write,
            secrets=secrets,
            internal=internal,
            tips=tips,
            history=history,
            deprecated_since=deprecated_since,
            replaced_by=replaced_by,
            container=container,
        )
        COMMANDS[name] = declared
        if container is not None:
            container.subcommands[words[1].lower()] = declared
        return handler

    return declare


def container(
    line: str,
    *,
    group: str,
    since: str,
    help_since: str,
    help_flags: Flag = LOADING | STALE,
    flags: Flag = NO_FLAGS,
    categories: tuple[str, ...] | None = None,
    summary: str,
    complexity: str = "Depends on subcommand.",
    tips: tuple[str, ...] = (),
    handler: Handler | None = None,
    place: Place = Place.PROXY,
) -> None:
    """Declares a command that has subcommands, and its HELP.

    handler   what the name does without a subcommand; most do nothing and want one.
    """
    name = line.split()[0].lower()

    def wants_subcommand(session: Any, args: list[Any]) -> Any:
        raise CommandError(errors.wrong_arity(name))

    command(
        line,
        group=group,
        since=since,
        flags=flags,
        categories=categories if categories is not None else (),
        complexity=complexity,
        tips=tips,
        arity=-1 if handler else -2,
        place=place,
    )(handler or wants_subcommand)
    declared = COMMANDS[name]
    declared.is_container = True
    declared.summary = summary

    def give_help(session: Any, args: list[Any]) -> list[Status]:
        """Returns helpful text about the different subcommands."""
        return help_lines(declared)

    command(
        f"{name.upper()} HELP",
        group=group,
        since=help_since,
        flags=help_flags,
        categories=categories if categories is not None else _GROUP_CATEGORIES[group],
        place=place,
    )(give_help)


def help_lines(declared: Command) -> list[Status]:
    """What `<CONTAINER> HELP` answers, from the declarations of its subcommands."""
    name = declared.name.upper()
    lines = [f"{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    members = declared.subcommands
    for subcommand in [*sorted(members.keys() - {"help"}), "help"]:
        member = members[subcommand]
        lines.append(member.syntax.split(" ", 1)[1])
        lines.append(f"    {member.summary}")
    return [Status(line.encode()) for line in lines]


def number_commands() -> None:
    """Gives every declared command its id. All processes declare the same commands, so they agree on them."""
    BY_ID[:] = [COMMANDS[name] for name in sorted(COMMANDS)]
    assert len(BY_ID) <= wire.MAX_COMMANDS
    for number, declared in enumerate(BY_ID):
        declared.id = number
        declared.code = number << SLOT_BITS
