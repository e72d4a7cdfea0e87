"""COMMAND: what the server says about its commands, all of it from their declarations."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import chain, repeat
from typing import Any

from shardkv import errors, glob
from shardkv.command import (
    COMMANDS,
    LOADING,
    NO_MANDATORY_KEYS,
    STALE,
    Command,
    Key,
    Place,
    command,
    container,
    lookup,
    named,
)
from shardkv.errors import CommandError
from shardkv.resp.replies import Status
from shardkv.syntax import Argument

# -- INFO -------------------------------------------------------------------------------------


def every_command(session: Any, args: list[bytes]) -> Any:
    """Answers COMMAND without a subcommand: what COMMAND INFO says of every command."""
    return [_information(declared) for declared in _commands()]


container(
    "COMMAND",
    group="server",
    since="2.8.13",
    help_since="5.0.0",
    flags=LOADING | STALE,
    categories=("connection",),
    summary="Returns detailed information about all commands.",
    complexity="O(N) where N is the total number of commands",
    tips=("nondeterministic_output_order",),
    handler=every_command,
)


@command(
    "COMMAND INFO [command-name [command-name ...]]",
    group="server",
    since="2.8.13",
    flags=LOADING | STALE,
    categories=("connection",),
    complexity="O(N) where N is the number of commands to look up",
    tips=("nondeterministic_output_order",),
    history=(("7.0.0", "Allowed to be called with no argument to get info on all commands."),),
    place=Place.PROXY,
)
def command_info(session: Any, args: list[bytes]) -> Any:
    """Returns information about one, multiple or all commands."""
    if len(args) == 2:
        return every_command(session, args)
    found = map(named, args[2:])
    return [None if declared is None else _information(declared) for declared in found]


def _information(declared: Command) -> list[Any]:
    """The ten fields of COMMAND INFO (https://redis.io/docs/latest/commands/command/)."""
    return [
        declared.name.encode(),
        declared.arity,
        {_status(flag.name or "") for flag in declared.flags},
        *_legacy_range(declared.keys),
        {Status(b"@" + category.encode()) for category in declared.acl_categories()},
        {tip.encode() for tip in declared.tips},
        [_specification(spec) for spec in declared.keys],
        [_information(member) for member in declared.subcommands.values()],
    ]


def _legacy_range(keys: Collection[Key]) -> tuple[int, int, int]:
    """First key, last key and step, as clients older than key specifications read them: the one range that
    holds all specifications which are plain ranges and adjoin each other; zeros if there is none."""
    ranges = [spec for spec in keys if isinstance(spec.begin, int) and spec.numkeys is None]
    if not ranges:
        return 0, 0, 0
    begins = [spec.begin for spec in ranges if isinstance(spec.begin, int)]
    first, last, step = begins[0], _last_position(ranges[0]), ranges[0].step
    for begin, spec in zip(begins[1:], ranges[1:], strict=True):
        if step == spec.step == 1 and last == begin - 1:
            last = _last_position(spec)
    return first, last, step


def _last_position(spec: Key) -> int:
    assert isinstance(spec.begin, int)
    return spec.last if spec.last < 0 else spec.begin + spec.last


def _specification(spec: Key) -> dict[bytes, Any]:
    reply: dict[bytes, Any] = {b"notes": spec.notes.encode()} if spec.notes else {}
    reply[b"flags"] = {_access(word) for word in spec.access.split()}
    reply[b"begin_search"] = _begin_search(spec)
    reply[b"find_keys"] = _find_keys(spec)
    return reply


def _begin_search(spec: Key) -> dict[bytes, Any]:
    match spec.begin:
        case None:
            return {b"type": b"unknown", b"spec": {}}
        case int(position):
            return {b"type": b"index", b"spec": {b"index": position}}
        case keyword:
            where = {b"keyword": keyword.encode(), b"startfrom": spec.search_from}
            return {b"type": b"keyword", b"spec": where}


def _find_keys(spec: Key) -> dict[bytes, Any]:
    if spec.begin is None:
        return {b"type": b"unknown", b"spec": {}}
    if spec.numkeys is not None:
        number_at, first_at, step = spec.numkeys
        return {
            b"type": b"keynum",
            b"spec": {b"keynumidx": number_at, b"firstkey": first_at, b"keystep": step},
        }
    return {b"type": b"range", b"spec": {b"lastkey": spec.last, b"keystep": spec.step, b"limit": spec.limit}}


def _access(word: str) -> Status:
    """`RO`, `RW`, `OW` and `RM` are told in capitals, all other access flags in small letters."""
    return Status(word.encode()) if len(word) == 2 else _status(word)


def _status(name: str) -> Status:
    return Status(name.lower().encode())


# -- DOCS -------------------------------------------------------------------------------------


@command(
    "COMMAND DOCS [command-name [command-name ...]]",
    group="server",
    since="7.0.0",
    flags=LOADING | STALE,
    categories=("connection",),
    complexity="O(N) where N is the number of commands to look up",
    tips=("nondeterministic_output_order",),
    place=Place.PROXY,
)
def command_docs(session: Any, args: list[bytes]) -> Any:
    """Returns documentary information about one, multiple or all commands."""
    found = map(named, args[2:]) if len(args) > 2 else _commands()
    return {declared.name.encode(): _documentation(declared) for declared in found if declared is not None}


def _documentation(declared: Command) -> dict[bytes, Any]:
    """The fields of COMMAND DOCS (https://redis.io/docs/latest/commands/command-docs/)."""
    reply: dict[bytes, Any] = {
        b"summary": declared.summary.encode(),
        b"since": declared.since.encode(),
        b"group": declared.group.encode(),
        b"complexity": declared.complexity.encode(),
    }
    if declared.deprecated_since:
        reply[b"doc_flags"] = {Status(b"deprecated")}
        reply[b"deprecated_since"] = declared.deprecated_since.encode()
        reply[b"replaced_by"] = declared.replaced_by.encode()
    if declared.history:
        reply[b"history"] = [[version.encode(), change.encode()] for version, change in declared.history]
    if declared.arguments:
        specifications = _specification_numbers(declared.keys)
        reply[b"arguments"] = [_argument(argument, specifications) for argument in declared.arguments]
    if declared.subcommands:
        members = declared.subcommands.values()
        reply[b"subcommands"] = {member.name.encode(): _documentation(member) for member in members}
    return reply


def _specification_numbers(keys: Collection[Key]) -> Iterator[int]:
    """Which key specification finds the first key argument, the second, and so on; those left over belong to
    the last, which finds several. A specification of keys that are not among the arguments is passed over."""
    found = [number for number, spec in enumerate(keys) if spec.begin is not None or spec.find is not None]
    return chain(found, repeat(found[-1])) if found else iter(())


def _argument(argument: Argument, specifications: Iterator[int]) -> dict[bytes, Any]:
    reply: dict[bytes, Any] = {b"name": argument.name.encode(), b"type": argument.type.encode()}
    if not argument.arguments:
        reply[b"display_text"] = argument.name.encode()
    if argument.type == "key" and (number := next(specifications, None)) is not None:
        reply[b"key_spec_index"] = number
    if argument.token is not None:
        reply[b"token"] = argument.token.encode()
    given = {
        Status(b"optional"): argument.optional,
        Status(b"multiple"): argument.multiple,
        Status(b"multiple_token"): argument.multiple_token,
    }
    if any(given.values()):
        reply[b"flags"] = {flag for flag, is_given in given.items() if is_given}
    if argument.arguments:
        reply[b"arguments"] = [_argument(member, specifications) for member in argument.arguments]
    return reply


# -- LIST, COUNT ------------------------------------------------------------------------------


@command(
    "COMMAND LIST [FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
    group="server",
    since="7.0.0",
    flags=LOADING | STALE,
    categories=("connection",),
    complexity="O(N) where N is the total number of commands",
    tips=("nondeterministic_output_order",),
    place=Place.PROXY,
)
def command_list(session: Any, args: list[bytes]) -> Any:
    """Returns a list of command names."""
    accepts = _filter(args[2:])
    members = (member for declared in _commands() for member in (declared, *declared.subcommands.values()))
    return [member.name.encode() for member in members if accepts(member)]


def _filter(words: list[bytes]) -> Callable[[Command], bool]:
    match [words[0].upper(), words[1].upper(), *words[2:]] if len(words) > 2 else words:
        case []:
            return lambda declared: True
        case [b"FILTERBY", b"MODULE", _]:
            return lambda declared: False  # all commands are the server's own
        case [b"FILTERBY", b"ACLCAT", category]:
            wanted = category.lower().decode("ascii", "replace")
            return lambda declared: wanted in declared.acl_categories()
        case [b"FILTERBY", b"PATTERN", pattern]:
            matches = glob.compile(pattern, ignore_case=True)
            return lambda declared: matches(declared.name.encode())
    raise CommandError(errors.SYNTAX)


@command(
    "COMMAND COUNT",
    group="server",
    since="2.8.13",
    flags=LOADING | STALE,
    categories=("connection",),
    place=Place.PROXY,
)
def command_count(session: Any, args: list[bytes]) -> Any:
    """Returns a count of commands."""
    return sum(1 for _ in _commands())


# -- GETKEYS ----------------------------------------------------------------------------------


@command(
    "COMMAND GETKEYS command [arg [arg ...]]",
    group="server",
    since="2.8.13",
    flags=LOADING | STALE,
    categories=("connection",),
    complexity="O(N) where N is the number of arguments to the command",
    place=Place.PROXY,
)
def command_getkeys(session: Any, args: list[bytes]) -> Any:
    """Extracts the key names from an arbitrary command."""
    request = args[2:]
    return [request[position] for position, _ in _keys(request)]


@command(
    "COMMAND GETKEYSANDFLAGS command [arg [arg ...]]",
    group="server",
    since="7.0.0",
    flags=LOADING | STALE,
    categories=("connection",),
    complexity="O(N) where N is the number of arguments to the command",
    place=Place.PROXY,
)
def command_getkeysandflags(session: Any, args: list[bytes]) -> Any:
    """Extracts the key names and access flags for an arbitrary command."""
    request = args[2:]
    return [[request[position], _access_flags(access)] for position, access in _keys(request)]


_OF_THE_SPECIFICATION = {"VARIABLE_FLAGS", "INCOMPLETE"}


def _access_flags(access: str) -> set[Status]:
    """What one request does with a key, without what the flags say about the specification itself."""
    return {_access(word) for word in access.split() if word not in _OF_THE_SPECIFICATION}


def _keys(request: list[bytes]) -> list[tuple[int, str]]:
    """Positions and access of a whole request's keys. Raises CommandError if it is none, or has no keys."""
    declared = lookup(request)
    if declared is None:
        raise CommandError(errors.INVALID_COMMAND)
    if all(spec.is_channel for spec in declared.keys):
        raise CommandError(errors.NO_KEY_ARGUMENTS)
    if not declared.fits(len(request)):
        raise CommandError(errors.INVALID_ARGUMENT_COUNT)
    found = declared.key_access(request)
    if not found and not declared.flags & NO_MANDATORY_KEYS:
        raise CommandError(errors.INVALID_ARGUMENTS)
    return found


# -- which commands ---------------------------------------------------------------------------


def _commands() -> Iterator[Command]:
    """Every command a client can call, without the subcommands."""
    for declared in COMMANDS.values():
        if declared.container is None and not declared.internal:
            yield declared
