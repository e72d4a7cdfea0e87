"""Several strings at once: MGET, MSET and their like."""

from __future__ import annotations

from typing import Any, NamedTuple

from shardkv import errors
from shardkv.command import DENYOOM, FAST, MOVABLEKEYS, READONLY, WRITE, Key, command
from shardkv.commands.expire import UNITS
from shardkv.commands.strings import Options, read_options, store
from shardkv.errors import CommandError
from shardkv.keyspace import Database
from shardkv.numbers import integer
from shardkv.plan import Call, Plan, Read, Write, check, ok_of_keys, single_hop, values_of_keys
from shardkv.resp.replies import OK
from shardkv.slots import slot_of


@command(
    "MGET key [key ...]",
    group="string",
    since="1.0.0",
    flags=READONLY | FAST,
    keys=(Key(1, last=-1),),
    complexity="O(N) where N is the number of keys to retrieve.",
    tips=("request_policy:multi_shard",),
    plan=values_of_keys,
)
def mget(db: Database, args: list[Any]) -> Any:
    """Atomically returns the string values of one or more keys."""
    return [_string_or_none(db.read(key)) for key in args[1:]]


def _string_or_none(value: Any) -> bytes | bytearray | None:
    kind = value.__class__
    if kind is bytes or kind is bytearray:
        return value  # type: ignore[no-any-return]
    return b"%d" % value if kind is int else None


# -- MSET -------------------------------------------------------------------------------------


@single_hop
def _plan_mset(call: Call) -> Plan:
    _check_pairs(call.args, "mset")
    return (yield from ok_of_keys(call))


@command(
    "MSET key value [key value ...]",
    group="string",
    since="1.0.1",
    flags=WRITE | DENYOOM,
    keys=(Key(1, last=-1, step=2, access="OW UPDATE"),),
    complexity="O(N) where N is the number of keys to set.",
    tips=("request_policy:multi_shard", "response_policy:all_succeeded"),
    plan=_plan_mset,
)
def mset(db: Database, args: list[Any]) -> Any:
    """Atomically creates or modifies the string values of one or more keys."""
    _check_pairs(args, "mset")
    put = db.put
    for key, value in zip(args[1::2], args[2::2], strict=True):
        put(key, value, "set")
    return OK


def _check_pairs(args: list[Any], name: str) -> None:
    if len(args) % 2 == 0:
        raise CommandError(errors.wrong_arity(name))


# -- MSETNX -----------------------------------------------------------------------------------


def _plan_msetnx(call: Call) -> Plan:
    _check_pairs(call.args, "msetnx")
    parts = call.by_shard()
    found = yield Read({shard: [[b"EXISTS", *request[1::2]]] for shard, [request] in parts.items()})
    check(found)
    if any(count for [count] in found.values()):
        return 0
    check((yield Write({shard: [[b"MSET", *request[1:]]] for shard, [request] in parts.items()})))
    return 1


@command(
    "MSETNX key value [key value ...]",
    group="string",
    since="1.0.1",
    flags=WRITE | DENYOOM,
    keys=(Key(1, last=-1, step=2, access="OW INSERT"),),
    complexity="O(N) where N is the number of keys to set.",
    plan=_plan_msetnx,
)
def msetnx(db: Database, args: list[Any]) -> Any:
    """Atomically modifies the string values of one or more keys only when all keys don't exist."""
    _check_pairs(args, "msetnx")
    if any(db.peek(key) is not None for key in args[1::2]):
        return 0
    mset(db, args)
    return 1


# -- MSETEX -----------------------------------------------------------------------------------

_OPTIONS = frozenset({b"NX", b"XX", b"KEEPTTL", *UNITS})
_INT_MAX = 2**31 - 1


class _Request(NamedTuple):
    keys: list[bytes]
    values: list[bytes]
    options: Options


def _read_msetex(args: list[Any]) -> _Request:
    """The parts of a request. Raises CommandError if it has none."""
    count = integer(args[1], errors.INVALID_NUMKEYS)
    if not 1 <= count <= _INT_MAX:
        raise CommandError(errors.INVALID_NUMKEYS)
    end = 2 + 2 * count
    if end > len(args):
        raise CommandError(errors.SYNTAX)
    return _Request(args[2:end:2], args[3:end:2], read_options(args[end:], _OPTIONS))


def _allows(condition: bytes, existing: int, keys: int) -> bool:
    """Whether a condition allows to set so many keys, of which so many exist."""
    if condition == b"NX":
        return existing == 0
    return condition != b"XX" or existing == keys


def _plan_msetex(call: Call) -> Plan:
    keys, values, options = _read_msetex(call.args)
    pairs: dict[int, list[bytes]] = {}
    for key, value in zip(keys, values, strict=True):
        pairs.setdefault(call.shard_of(key), []).extend((key, value))
    found = yield Read(
        {
            shard: [[b"MSETEXLOOK", options.expiry, options.time, *words[::2]]]
            for shard, words in pairs.items()
        }
    )
    check(found)
    looks = [answer for [answer] in found.values()]
    if not _allows(options.condition, sum(existing for existing, _ in looks), len(keys)):
        return 0
    # All keys get the same deadline, whenever each shard sets its own.
    at_ms = looks[0][1]
    expiry = [b"PXAT", b"%d" % at_ms] if at_ms is not None else [options.expiry] if options.expiry else []
    parts = {
        shard: [[b"MSETEX", b"%d" % (len(words) // 2), *words, *expiry]] for shard, words in pairs.items()
    }
    check((yield Write(parts)))
    return 1


@command(
    "MSETEXLOOK option time key [key ...]",
    group="string",
    since="0.1.0",
    flags=READONLY,
    keys=(Key(3, last=-1),),
    internal=True,
)
def msetex_look(db: Database, args: list[Any]) -> list[Any]:
    """Returns how many of the keys exist, and the deadline in ms that an option and its time stand for."""
    options = Options(expiry=args[1], time=args[2])
    return [_existing(db, args[3:]), options.deadline(db, "msetex")]


def _existing(db: Database, keys: list[bytes]) -> int:
    return sum(db.peek(key) is not None for key in keys)


@command(
    "MSETEX numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | EXAT "
    "unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
    group="string",
    since="9.1.0",
    flags=WRITE | DENYOOM | MOVABLEKEYS,
    keys=(Key(1, numkeys=(0, 1, 2), access="OW UPDATE"),),
    complexity="O(N) where N is the number of keys to set.",
    tips=("request_policy:multi_shard", "response_policy:all_succeeded"),
    plan=_plan_msetex,
)
def msetex(db: Database, args: list[Any]) -> Any:
    """Atomically creates or modifies the string values of one or more keys, and optionally set their
    expiration."""
    keys, values, options = _read_msetex(args)
    at_ms = options.deadline(db, "msetex")
    if not _allows(options.condition, _existing(db, keys), len(keys)):
        return 0
    keep_deadline = options.expiry == b"KEEPTTL"
    for key, value in zip(keys, values, strict=True):
        store(db, key, value, slot_of(key), at_ms=at_ms, keep_deadline=keep_deadline)
    return 1
